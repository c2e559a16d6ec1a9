/*
 * The quarantine: rows that a store can never take, kept whole with the reason (DESIGN 6). Table tidemill.quarantine,
 * store/migrate.h. Rows are put there inside the caller's transaction; what people do with them afterwards
 * (`tidemill quarantine`) brings its own.
 */
#ifndef TM_STORE_QUARANTINE_H
#define TM_STORE_QUARANTINE_H

#include "store/copy.h"

struct tm_quarantine {
    const char *stream, *gatherer, *epoch, *seq; /* as text */
    const char *sqlstate;                        /* "" when it was not the server who refused */
    const char *error, *columns;
    struct tm_span_bytes tuple;
};

/* Append bytes as PostgreSQL writes a bytea: \x00ff. */
int tm_quarantine_put_hex(struct tm_buf *out, struct tm_span_bytes bytes) TM_MUST_CHECK;

int tm_quarantine_put(struct tm_pg *pg, const struct tm_quarantine *q, struct tm_error *err) TM_MUST_CHECK;

/* ---- afterwards ---- */

/* Which rows: those of a stream (NULL: of any) among these ids ("{1,2}", an array as PostgreSQL writes it; NULL: all). */
struct tm_quarantine_pick {
    const char *stream, *ids;
};

/* A row, valid during the call. */
struct tm_quarantined {
    int64_t id, seq;
    const char *at, *stream, *gatherer, *epoch, *sqlstate, *error, *columns;
    const uint8_t *tuple;
    size_t len;
};
typedef int tm_quarantine_visit(void *arg, const struct tm_quarantined *row);

/* Visit the rows, oldest first. Anything but TM_OK from `visit` ends it and is returned. */
int tm_quarantine_list(struct tm_pg *pg, const struct tm_quarantine_pick *pick, tm_quarantine_visit *visit, void *arg,
                       struct tm_error *err) TM_MUST_CHECK;

struct tm_quarantine_counts {
    uint64_t stored, duplicate; /* they left the quarantine */
    uint64_t refused;           /* they are still there, with the error of today */
    uint64_t dropped;
};

struct tm_quarantine_retry {
    const struct tm_plan *plan;
    enum tm_copy_side side;
    int64_t accept_past_us, accept_future_us; /* production: of the exchange's time, around its arrival here */
};

/*
 * Try to store the rows again, the way rows are stored (store/copy.h): what the table has already is a duplicate. A row
 * leaves the quarantine in the transaction that stores it. In a gatherer's store a row that production has gone past
 * (tidemill.acknowledged) stays, as nobody would fetch it any more: its error says so. One process at a time: TM_ERETRY.
 */
int tm_quarantine_retry(struct tm_pg *pg, const struct tm_quarantine_retry *how, const struct tm_quarantine_pick *pick,
                        struct tm_quarantine_counts *counts, struct tm_error *err) TM_MUST_CHECK;

/* Delete the rows. Each leaves a line in tidemill.absent that says who did it and what it was; `visit` (may be NULL) sees
 * it before. Pollers read the line as the explanation of the hole. */
int tm_quarantine_drop(struct tm_pg *pg, const struct tm_quarantine_pick *pick, tm_quarantine_visit *visit, void *arg,
                       struct tm_quarantine_counts *counts, struct tm_error *err) TM_MUST_CHECK;

#endif
