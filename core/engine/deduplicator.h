/*
 * The deduplicator: gatherers' stores -> production, each record once.
 *
 *     poller g1 --\                                   one transaction:
 *     poller g2 ---> bounded queue --> merger thread:   rows of each stream not seen yet  (COPY)
 *     poller g3 --/                                     cursors by compare-and-swap
 *                                                     COMMIT, then the seen-set learns
 *
 * A poller is a thread per gatherer. It reads where the gatherer's streams stand (their marks), then copies
 * each stream's rows `seq > position` up to a mark, in order; a hole in seq stops that stream with an alarm
 * (DESIGN 5). It fingerprints the rows and hands the batch over; the queue's byte bound is the back-pressure.
 *
 * The merger takes what is there, drops what production is known to hold (the seen-set is filled only after
 * COMMIT) and what is twice in the batch, stores the rest (store/copy.h) and moves the cursors in the same
 * transaction. When a cursor is not where it was left (another deduplicator wrote: zombie or standby), or the
 * outcome of a COMMIT is unknown, the transaction is given up, the cursors are read again from production and
 * the pollers start over from there. The seen-set is forgotten with every connection: a production that was
 * restored or failed over may have lost what filled it (FAILURES T5). Nothing here ever exits because a
 * database is away.
 *
 * Rows whose exchange time is absurd (outside accept_past/accept_future) and rows production refuses go to
 * tidemill.quarantine in the same transaction.
 */
#ifndef TM_ENGINE_DEDUPLICATOR_H
#define TM_ENGINE_DEDUPLICATOR_H

#include "engine/metrics.h"
#include "record/plan.h"

struct tm_deduplicator;

#define TM_DEDUPLICATOR_QUEUE_BYTES ((size_t)64 << 20) /* default of queue_bytes_max */

struct tm_deduplicator_gatherer {
    const char *id, *conninfo;
};

struct tm_deduplicator_options {
    const char *id;
    const char *production; /* conninfo */
    const struct tm_deduplicator_gatherer *gatherers;
    size_t gatherer_count;
    const struct tm_plan *plan;
    struct tm_metrics *metrics;
    int64_t poll_us;          /* without a notification, look after this long; 0: 250 ms */
    size_t poll_rows_max;     /* per stream and poll; 0: 20000 */
    size_t batch_rows_max;    /* per transaction; 0: 50000 */
    size_t queue_bytes_max;   /* polled but not merged, all gatherers; 0: 64 MiB */
    int64_t accept_past_us;   /* 0: 7 days */
    int64_t accept_future_us; /* 0: 7 days */
    bool migrate;             /* create production's schema at start if it is not there */
};

enum tm_peer_state { TM_PEER_CONNECTING, TM_PEER_CONNECTED, TM_PEER_DOWN, TM_PEER_STOPPED /* hole, fork */ };
const char *tm_peer_state_name(enum tm_peer_state state); /* "connecting", "connected", "disconnected", "stopped" */

struct tm_deduplicator_gatherer_stats {
    const char *id;
    enum tm_peer_state state;
    uint64_t polled, written, duplicate, quarantined; /* written: it brought them first */
    int64_t lag_us;      /* age of the oldest row polled-for but not committed; 0: none pending */
    int64_t last_row_us; /* Unix arrival time of the newest row merged from it; 0: none */
    char last_error[256];
};

struct tm_deduplicator_stats {
    bool production_connected;
    uint64_t transactions, conflicts, production_errors;
    int64_t last_commit_us; /* monotonic; 0: none */
    int64_t lag_us;         /* the worst over healthy gatherers */
    size_t gatherer_count;
    char last_error[256];
};

/* What start refuses of the options, without starting. */
int tm_deduplicator_check(const struct tm_deduplicator_options *options, struct tm_error *err) TM_MUST_CHECK;

int tm_deduplicator_start(const struct tm_deduplicator_options *options, struct tm_deduplicator **out,
                          struct tm_error *err) TM_MUST_CHECK;
/* Finish the transaction under way, then stop all threads; at most 5 s. */
void tm_deduplicator_stop(struct tm_deduplicator *d);
struct tm_deduplicator_stats tm_deduplicator_stats(struct tm_deduplicator *d);
int tm_deduplicator_gatherer_stats(struct tm_deduplicator *d, size_t index,
                                   struct tm_deduplicator_gatherer_stats *out) TM_MUST_CHECK;

#endif
