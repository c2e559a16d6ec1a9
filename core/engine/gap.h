/*
 * Rows of the gap ledger (DESIGN 6, columns in record/builtin.h): written when a reason to have missed
 * something begins, and again under the same id when it ends. Builds the tuple only; the caller appends it to
 * the journal. One thread.
 */
#ifndef TM_ENGINE_GAP_H
#define TM_ENGINE_GAP_H

#include "record/row.h"

struct tm_gap {
    uint8_t id[16];
    bool open;
    const char *reason;     /* "disconnected", "sequence", "start", "journal full", ... */
    const char *connection; /* the link's name */
    int64_t from_us;        /* Unix */
    int64_t sid;            /* -1: the whole connection */
    int64_t first, last;    /* missing sequence numbers; 0, 0: unknown */
    char detail[160];
};

/* Give the gap a new id and open it. */
void tm_gap_open(struct tm_gap *gap, const char *reason, const char *connection, int64_t from_us);

/* Append the ledger row to `buf`: still open if to_us is 0, else ended at to_us by `closed_by`. */
int tm_gap_row(const struct tm_gap *gap, const struct tm_plan *plan, int64_t to_us, const char *closed_by,
               int64_t now_us, struct tm_buf *buf, struct tm_row *row) TM_MUST_CHECK;

#endif
