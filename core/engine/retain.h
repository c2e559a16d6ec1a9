/*
 * Retention of a gatherer's store, a step at a time on the store writer's thread (store/retention.h says what may go).
 *
 *     room enough    acknowledged partitions older than `keep` are dropped
 *     under pressure the database is larger than `bytes_max`, or the server said that its disk is full: acknowledged ones
 *                    at once; when there are none, unacknowledged ones of the streams in `expire`. Before rows that no
 *                    production has are deleted they go into the archive, where one is set (engine/overflow.h); and a row of the gap ledger that says so (reason 'expired') is given to the
 *                    journal, and has come into the store; where the disk is full it cannot, and a few seconds in the
 *                    journal must do
 *
 * While an archive takes the rows of a partition, nothing else is deleted; it is tried TM_RETAIN_TRIES times, and where it
 * does not take them, they go without: the disk leaves no choice, and the ledger and the alert say so. Of rows that
 * it took tidemill.absent names the manifest.
 *
 * A step is a few statements; one that would have to wait for a lock gives up and is tried again. What fails here costs
 * nothing but room: only a lost connection is an error.
 */
#ifndef TM_ENGINE_RETAIN_H
#define TM_ENGINE_RETAIN_H

#include "engine/metrics.h"
#include "engine/overflow.h"
#include "record/plan.h"
#include "store/retention.h"

#define TM_RETAIN_KEEP_US (INT64_C(7) * 86400 * 1000000) /* default of keep_us */

#define TM_RETAIN_TRIES 3 /* of an archive, each with its own; one, while the one before it was in vain */

/* Hand finished rows of a stream to the journal; the bytes are taken on success. Any thread. */
typedef int tm_retain_submit(void *arg, const struct tm_stream *stream, struct tm_buf *bytes);

struct tm_retain {
    struct tm_metric *bytes, *bytes_max, *pressure, *released;
    struct tm_metric *acknowledged_age; /* NULL: nobody has acknowledged anything yet */
    struct tm_metrics *metrics;
    int64_t next_us; /* monotonic */
    bool full;       /* the server said so since the last drop */
    bool warned;     /* that the bound is near */
    bool asked;      /* the ledger's row of `part` is on its way */
    int64_t asked_us;
    char gap_id[37];
    struct tm_retention_part part;
    unsigned failures; /* of the archive, in a row */
    int64_t failed_us; /* monotonic, of the last one that is to be tried again; 0: none */
};

struct tm_retain_context {
    struct tm_pg *pg;
    const struct tm_plan *plan;
    const char *gatherer;
    int32_t epoch_no;
    int64_t partition_rows, keep_us;
    uint64_t bytes_max;           /* 0: none */
    const char *const *expire;    /* NULL-terminated; NULL: none */
    struct tm_overflow *overflow; /* NULL: no archive */
    const struct tm_archive_settings *archive;
    const char *conninfo;     /* of the store, for the archive's session */
    tm_retain_submit *submit; /* NULL: nothing expires, as there is no ledger */
    void *arg;
};

void tm_retain_init(struct tm_retain *r, struct tm_metrics *m);
int tm_retain_step(struct tm_retain *r, const struct tm_retain_context *c, struct tm_error *err) TM_MUST_CHECK;

#endif
