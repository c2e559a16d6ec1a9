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
 * What it reads at once is bounded in rows and in bytes: a gatherer's share of the queue, between 8 and 16 MiB, or one commit
 * of the gatherer's. A transaction has half of the queue, at least 16 MiB, and one batch more.
 *
 * The merger takes what is there, drops what production is known to hold (the seen-set is filled only after
 * COMMIT) and what is twice in the batch, stores the rest (store/copy.h) and moves the cursors in the same
 * transaction. When a cursor is not where it was left (another deduplicator wrote: zombie or standby), or the
 * outcome of a COMMIT is unknown, the transaction is given up, the cursors are read again from production and
 * the pollers start over from there. The seen-set is forgotten with every connection: a production that was
 * restored or failed over may have lost what filled it (FAILURES T5). Nothing here ever exits because a
 * database is away.
 *
 * A reload changes what differs and keeps all else. A new plan, production's address or the settings of transactions take
 * effect in the merger between two transactions; seen-sets are matched by the stream's name and live on where the key means
 * what it meant. Gatherers come and go: a removed one's poller is stopped, its rows and cursors are left alone, it is gone
 * from statistics and health, and its series dedup_gatherer_health is not exported any more, so that nothing alarms. What is
 * unchanged keeps its connection.
 *
 * Several may run for one production: one holds the lease (store/lease.h) and merges, the others stand by with everything
 * connected. One that dies, hangs or is cut off is replaced within its lease and a bit; when it wakes up its transaction is
 * refused, it forgets what it remembered and stands by.
 *
 * With `shards` the work is shared (engine/share.h): each shard has all of the above for itself, pollers and merger, seen-sets,
 * cursors, and a lease; what this header's functions tell is of all of them together. The steward (engine/steward.h) says which
 * shards this process merges. A shard's pollers read every row and keep those of its own, so that each checks that the
 * history is whole; the bounds of memory are of the process, divided by the number of shards.
 *
 * Production records the keys of its streams (store/keys.h). A script that declares fewer or others than that is refused
 * at connect and again with each transaction, as another deduplicator may have brought new ones: nothing is merged, the
 * error says what to declare, and the session is tried again. So are rows of a gatherer that took them without knowing
 * the key which holds for them: its stream rests, as one with a hole does, until it is explained.
 *
 * Rows whose exchange time is absurd (outside accept_past/accept_future) and rows production refuses go to
 * tidemill.quarantine in the same transaction.
 */
#ifndef TM_ENGINE_DEDUPLICATOR_H
#define TM_ENGINE_DEDUPLICATOR_H

#include "archive/settings.h"
#include "engine/gap_log.h"
#include "engine/metrics.h"
#include "engine/tap.h"
#include "record/plan.h"
#include "store/pg.h"

struct tm_deduplicator;

#define TM_DEDUPLICATOR_QUEUE_BYTES ((size_t)64 << 20) /* default of queue_bytes_max */

struct tm_deduplicator_gatherer {
    const char *id, *conninfo;
};

/* Days of a stream older than this go; day-partitioned streams only. */
struct tm_deduplicator_retain {
    const char *stream;
    int64_t keep_us;
};

struct tm_deduplicator_options {
    const char *id;
    const char *production; /* conninfo */
    const struct tm_deduplicator_gatherer *gatherers;
    size_t gatherer_count;
    const struct tm_plan *plan; /* held */
    struct tm_metrics *metrics;
    int64_t poll_us;          /* without a notification, look after this long; 0: 250 ms */
    size_t poll_rows_max;     /* per stream and poll; 0: 20000 */
    size_t batch_rows_max;    /* per transaction; 0: 50000 */
    size_t queue_bytes_max;   /* polled but not merged, all gatherers; 0: 64 MiB */
    int64_t accept_past_us;   /* 0: 7 days */
    int64_t accept_future_us; /* 0: 7 days */
    bool migrate;             /* create production's schema if it is not there, at start and at a reload */
    int64_t key_margin_us;    /* a key may begin so long after what was merged (record/keys.h); 0: 5 s */
    int64_t lease_us;         /* a holder that is silent for so long is replaced; 0: 1.5 s */
    const struct tm_deduplicator_retain *retain; /* what is not named is kept for ever */
    size_t retain_count;
    /* Of what is older no rows go into the tables (store/late.h), so that it may be compressed (store/hypertable.h). */
    const struct tm_deduplicator_retain *compress;
    size_t compress_count;
    int64_t standby_wait_us;            /* COMMIT waits so long for production's synchronous standby; 0: 10 s */
    struct tm_archive_settings archive; /* `to` NULL: none (engine/exporter.h) */
    struct tm_taps *taps;               /* engine/tap.h, at the start alone; NULL: none */
    unsigned shards;                    /* of production; 0: one. Fixed while the process runs */
};

enum tm_peer_state { TM_PEER_CONNECTING, TM_PEER_CONNECTED, TM_PEER_DOWN, TM_PEER_STOPPED /* hole, fork */ };
const char *tm_peer_state_name(enum tm_peer_state state); /* "connecting", "connected", "disconnected", "stopped" */

struct tm_deduplicator_gatherer_stats {
    char id[64];
    enum tm_peer_state state;
    uint64_t polled, written, duplicate, quarantined; /* written: it brought them first */
    uint64_t shared;                                  /* of `polled`, rows of streams that gatherers have in common */
    uint64_t shared_first;                            /* of them, those that it brought first */
    uint64_t sampled, sampled_alone; /* records of a sample that it brought, and that no other did (contribution.h) */
    uint64_t behind;                 /* rows that it has stored and production has not, as far as the last looks know */
    int64_t lag_us;                  /* age of the oldest row polled-for but not committed; 0: none pending */
    int64_t last_row_us;             /* Unix arrival time of the newest row merged from it; 0: none */
    char last_error[256];
};

enum tm_lease_state { TM_LEASE_NONE /* production is away */, TM_LEASE_STANDBY, TM_LEASE_HELD };
const char *tm_lease_state_name(enum tm_lease_state state); /* "none", "standby", "held" */

struct tm_deduplicator_stats {
    enum tm_lease_state lease;
    char lease_holder[64]; /* who is at work while we stand by; else "" */
    uint64_t takeovers;    /* leases taken from a holder that had not given it back */
    bool production_connected;
    uint64_t transactions, conflicts, production_errors;
    int64_t last_commit_us; /* monotonic; 0: none */
    int64_t started_us;     /* monotonic */
    int64_t lag_us;         /* the worst over healthy gatherers */
    uint64_t rows_behind;   /* stored by gatherers and not in production */
    uint64_t rows_per_s;    /* offered rows, while a backlog is worked off; else 0 */
    int64_t left_us;        /* until then, at this speed; 0: no backlog */
    size_t gatherer_count;
    enum tm_pg_class trouble; /* why nothing can be written now; TM_PG_OK: it can */
    int64_t stalled_us;       /* for how long that has been so; 0: it can */
    bool unreplicated;        /* production's synchronous standby does not answer */
    unsigned shards, shards_held;
    char identity[64]; /* of production: "system identifier/timeline" as of the last connect; "": not known */
    char last_error[256];
};

/* What start refuses of the options, without starting. */
int tm_deduplicator_check(const struct tm_deduplicator_options *options, struct tm_error *err) TM_MUST_CHECK;

int tm_deduplicator_start(const struct tm_deduplicator_options *options, struct tm_deduplicator **out,
                          struct tm_error *err) TM_MUST_CHECK;
/* Finish the transaction under way, then stop all threads; at most 5 s. */
void tm_deduplicator_stop(struct tm_deduplicator *d);
/* All functions here are called from one thread, the policy thread, but for what says otherwise. */

/* Would tm_deduplicator_reload take these options? Changes nothing. TM_EINVAL names what is wrong, or cannot change while
 * the process runs (id, a column's type); TM_ENOMEM. */
int tm_deduplicator_check_reload(struct tm_deduplicator *d, const struct tm_deduplicator_options *options,
                                 struct tm_error *err) TM_MUST_CHECK;

/* The same checks, then all of it takes effect; returns at once. A plan that says the same as the one before keeps the one
 * before. `metrics` stays what it was. Nothing has changed when it fails. */
int tm_deduplicator_reload(struct tm_deduplicator *d, const struct tm_deduplicator_options *options,
                           struct tm_error *err) TM_MUST_CHECK;

/* Until the next reload; who keeps it, or a stream of it, longer takes it. */
const struct tm_plan *tm_deduplicator_plan(const struct tm_deduplicator *d);

/* Any thread: health is answered on the admin thread. */
struct tm_deduplicator_stats tm_deduplicator_stats(struct tm_deduplicator *d);
/* The newest exchange time merged of a stream, by its index in the plan: INT64_MIN: none and no cursor; 0: some, of no
 * known time (record/keys.h). Any thread. */
int64_t tm_deduplicator_newest_us(const struct tm_deduplicator *d, size_t stream);
/* By their order in the options of the last reload; TM_ENOENT beyond the last. Any thread. */
int tm_deduplicator_gatherer_stats(struct tm_deduplicator *d, size_t index,
                                   struct tm_deduplicator_gatherer_stats *out) TM_MUST_CHECK;
struct tm_deduplicator_shard_stats {
    enum tm_lease_state lease;
    char holder[64]; /* who merges it, this process included; "": nobody, as far as the last look knows */
    uint64_t rows_behind;
    int64_t lag_us;
};
/* TM_ENOENT beyond the last, and for the first where there is only one. Any thread. */
int tm_deduplicator_shard_stats(struct tm_deduplicator *d, size_t index,
                                struct tm_deduplicator_shard_stats *out) TM_MUST_CHECK;
struct tm_deduplicator_stream_stats {
    char name[64];
    bool shared; /* gatherers have its records in common; else each one's are its own */
    uint64_t polled, written, duplicate, quarantined;
};
/* By their order in the plan; TM_ENOENT beyond the last. Any thread. */
int tm_deduplicator_stream_stats(struct tm_deduplicator *d, size_t index,
                                 struct tm_deduplicator_stream_stats *out) TM_MUST_CHECK;
/* The newest gaps of all gatherers in production's ledger, of the last hour, read every few seconds while this process
 * merges; a lane is a gatherer. Any thread. */
size_t tm_deduplicator_gaps(struct tm_deduplicator *d, struct tm_gap_note *out, size_t max);
/* Let go of the pollers of removed gatherers that have ended. Now and then; never waits. */
void tm_deduplicator_tidy(struct tm_deduplicator *d);

#endif
