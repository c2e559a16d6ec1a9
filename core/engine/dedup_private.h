/*
 * Inside the deduplicator: what pollers and merger share. Pollers produce batches; the merger consumes them
 * and publishes cursors. They meet in the queue, in the published cursors and settings and in the statistics, nowhere
 * else.
 *
 * Reload. All options are *settings*, which never change once made, are counted, and hold the plan and the peers. A reload
 * makes the next ones; the merger takes them between two transactions (it *adopts* them), and the pollers work by what the
 * merger has adopted, never ahead of it:
 *
 *     policy: settings 2 -->  merger: plan, days, seen-sets, production; cursors of generation g+1  --> pollers start over
 *
 * A new plan comes with a new generation of cursors, published in one step with its settings: so a batch of the current
 * generation is always one of the merger's plan, and others are dropped before anybody looks into them.
 * A peer is one way to one gatherer: another conninfo makes another peer, which inherits the statistics; the poller of a
 * peer that no settings have is stopped. A new peer's poller waits until the merger has adopted the settings that brought
 * it, for until then the batches of the peer before it may still move the cursors.
 */
#ifndef TM_ENGINE_DEDUP_PRIVATE_H
#define TM_ENGINE_DEDUP_PRIVATE_H

#include "base/hash.h"
#include "base/queue.h"
#include "engine/deduplicator.h"
#include "engine/keeper.h"
#include "engine/newest.h"
#include "store/absent.h"
#include "engine/pace.h"
#include "engine/share.h"
#include "store/pg.h"

#include <pthread.h>
#include <time.h>

#define TM_EPOCH_TEXT 37
#define TM_NAME_BYTES 64

/* ---- cursors ---- */

/* Up to where production has a stream of a gatherer's epoch. */
struct tm_cursor {
    char gatherer[TM_NAME_BYTES];
    char epoch[TM_EPOCH_TEXT];
    char stream[TM_NAME_BYTES];
    int64_t seq;
    int64_t hash; /* running hash of the stream's history at seq, as the gatherer's marks have it */
    bool retired; /* not a cursor: the whole epoch was given up (control/retire.h); `stream` is "" */
};

struct tm_cursors {
    struct tm_cursor *items;
    size_t count, cap;
};

void tm_cursors_fini(struct tm_cursors *c);
/* The cursor of a stream; made at 0 where there is none. Valid until the next call. */
struct tm_cursor *tm_cursors_get(struct tm_cursors *c, const char *gatherer, const char *epoch, const char *stream);
/* Whether a person has given up this epoch. */
bool tm_cursors_is_retired(const struct tm_cursors *c, const char *gatherer, const char *epoch);
int tm_cursors_copy(struct tm_cursors *to, const struct tm_cursors *from) TM_MUST_CHECK;

/* Read all of a shard's cursors of the gatherers in the options, and say in tidemill.gatherers which of them there are. */
int tm_cursors_load(struct tm_cursors *c, struct tm_pg *pg, const struct tm_deduplicator_options *options,
                    unsigned shard, struct tm_error *err) TM_MUST_CHECK;
/* Up to where all shards have them. */
int tm_cursors_load_least(struct tm_cursors *c, struct tm_pg *pg, const struct tm_deduplicator_options *options,
                          struct tm_error *err) TM_MUST_CHECK;

/* The move of a cursor; those of struct tm_cursors change only after COMMIT. */
struct tm_cursor_move {
    const char *gatherer, *epoch, *stream;
    int64_t from, to, hash;
    unsigned shards; /* the stream is spread over so many; the first move makes the cursors of all of them */
};

struct tm_batch;

/* The moves of a transaction that stores these batches, and how many there are (`moves` has room for `count`): consecutive
 * batches of a stream are one move. They borrow the names from the batches. */
size_t tm_cursors_plan(struct tm_cursor_move *moves, struct tm_batch *const *batches, size_t count);
/* By compare-and-swap inside the caller's transaction: TM_ECONFLICT unless every one stood at `from`. */
int tm_cursors_move(struct tm_pg *pg, unsigned shard, const struct tm_cursor_move *moves, size_t count,
                    struct tm_error *err) TM_MUST_CHECK;

/* ---- batches ---- */

struct tm_batch_row {
    size_t offset, len;
    int64_t time_us;     /* of the partition column, else of the time column; INT64_MIN: none */
    int64_t received_us; /* INT64_MIN: none */
    struct tm_fp fp;     /* streams that have a seen-set */
    uint64_t payload;    /* hash of what gatherers may disagree about; 0 in other streams */
};

/* Rows of one stream of one gatherer's epoch, in seq order: from < seq <= to. */
struct tm_batch {
    struct tm_peer *peer; /* not held: a batch lives in its poller, in its queue, or in a merger that holds the peer */
    char epoch[TM_EPOCH_TEXT];
    const struct tm_stream *stream; /* its plan is held */
    int64_t from, from_hash, to, hash;
    uint64_t generation; /* of the cursors it started from */
    struct tm_buf bytes; /* poll-form tuples end to end */
    struct tm_batch_row *rows;
    size_t count, cap;
    int64_t received_min_us, received_max_us; /* Unix; 0: unknown */
    bool may_disagree;                        /* its rows have a payload to compare */
    int64_t committed_us;                     /* of its newest row, by the gatherer's database; 0: unknown */
    int64_t newest_us;                        /* of the rows' time_us; INT64_MIN: none has one */
    uint64_t written, duplicate, quarantined;
    int64_t missing;    /* the seq that tm_batch_index did not find; 0: none */
    int64_t *explained; /* sorted seqs that are known to be missing, and why: quarantined */
    size_t explained_count, explained_at;
    struct tm_absent absent; /* the gatherer says that it has them no more */
    unsigned shard, shards;
};

struct tm_batch *tm_batch_create(const struct tm_stream *stream);
void tm_batch_destroy(struct tm_batch *b);
size_t tm_batch_weight(const struct tm_batch *b);

/* Whether two gatherers' rows of the stream are told apart by a fingerprint: not for observations,
 * replacements and keys without time, which the store decides. */
bool tm_stream_is_fingerprinted(const struct tm_stream *stream);

/* How many shards the rows of a stream are spread over, and which one these are of: what others own is checked and left
 * out. Before tm_batch_index. */
void tm_batch_of_shard(struct tm_batch *b, unsigned shard, unsigned shards);
/* Let go of the bytes of rows that were left out, and of room that is not used. After tm_batch_index. */
void tm_batch_trim(struct tm_batch *b);

/* Find and check the rows in `bytes`, which may have any order and then have that of their seq. TM_ESTATE: seq is not contiguous (the message says where); TM_ECORRUPT.
 */
int tm_batch_index(struct tm_batch *b, const struct tm_hash_key *key, struct tm_error *err) TM_MUST_CHECK;

/* A row as production takes it: seq is cut off and the field count patched in place. */
struct tm_span_bytes tm_batch_production_row(struct tm_batch *b, size_t row);

/* ---- the whole ---- */

/* One way to one gatherer, and its poller. Held by settings, and by the deduplicator until its thread was joined. */
struct tm_peer {
    _Atomic uint32_t references;
    struct tm_deduplicator *d;
    char id[TM_NAME_BYTES];
    char *conninfo;
    uint64_t since; /* number of the settings that brought it */
    struct tm_stop stop;
    struct tm_queue *queue; /* of batches; the merger takes from all peers in turn */
    struct tm_metric *health;

    struct tm_peer *next; /* policy: in the list of those with a thread */
    pthread_t thread;
    atomic_bool ended; /* the thread is at its end, joining it does not wait */

    /* under d->lock */
    struct tm_deduplicator_gatherer_stats stats;
    size_t outstanding;   /* batches handed over and not merged */
    uint64_t queued_rows; /* of them */
    uint64_t unread_rows; /* in the gatherer's store as of the last look, and not handed over */
    int64_t oldest_us;    /* Unix arrival of the oldest row among them; 0: none */
    bool leaving;         /* no settings of the future have it: its state is nobody's concern */
    struct tm_peer *heir; /* the peer that took over its gatherer, and its statistics; held; NULL: none */
};

void tm_peer_put(struct tm_peer *peer);

struct tm_stream_metrics {
    struct tm_metric *polled, *written, *duplicate, *quarantined, *late, *conflicts;
    int64_t keep_us;     /* production keeps it so long; 0: for ever */
    int64_t compress_us; /* and compresses what is older than that; 0: never */
    int64_t seal_us;     /* the lesser of them: what is older is late */
};

/* Made by the policy thread, then constant. */
struct tm_dedup_settings {
    _Atomic uint32_t references;
    uint64_t number; /* 1, 2, ... */
    struct tm_arena *arena;
    struct tm_deduplicator_options options; /* defaults filled in; strings are in the arena, the plan is held */
    struct tm_peer **peers;                 /* in the order of options.gatherers; held */
    struct tm_stream_metrics *streams;      /* by index of the stream */
    size_t poll_bytes_max;                  /* of a poller's look (engine/poller_private.h) */
    size_t batch_bytes_max;                 /* of a transaction, but for the last batch in it */
};

struct tm_dedup_settings *tm_dedup_settings_take(struct tm_dedup_settings *s);
void tm_dedup_settings_put(struct tm_dedup_settings *s); /* NULL is fine */
/* The newest; a reference. */
struct tm_dedup_settings *tm_dedup_settings_newest(struct tm_deduplicator *d);

struct tm_deduplicator {
    unsigned shard, shard_count;
    struct tm_deduplicator *head;    /* of shard 0, which is what others know; itself where it is that */
    struct tm_deduplicator **shards; /* head: of all of them; the first is itself */
    struct tm_steward *steward;      /* head; NULL: one shard */
    struct tm_metrics *own;       /* where there are several: its gauges, which are told together (engine/together.h) */
    struct tm_metric **told;      /* head: as what */
    pthread_mutex_t telling;      /* head: of gatherers, which come and go */
    struct timespec stop_by;      /* CLOCK_REALTIME; when it was asked to stop: for the transaction under way */
    atomic_bool wanted;           /* the shard is for this process */
    char member[TM_LEASE_MEMBER]; /* this process among those that share; "": one shard */
    char *id;
    struct tm_metrics *metrics;
    struct tm_taps *taps;
    struct tm_hash_key hash_key;
    int ready_fd;                     /* eventfd: a queue, or a reload, has something for the merger */
    struct tm_stop quit, merger_stop; /* for the merger's pauses; for its statements */
    atomic_bool closing;
    struct tm_merger *merger;
    struct tm_clerk *clerk;
    struct tm_exporter *exporter;
    struct tm_gap_log *gap_log;
    struct tm_peer *peers;   /* policy: those with a thread */
    struct tm_newest newest; /* the merger notes, policy reads */
    struct tm_keeper *keeper;
    struct tm_pace pace;
    atomic_bool unreplicated; /* production's standby does not answer (engine/production.h) */
    struct tm_metric *failures[TM_PG_STOP + 1], *stopped,
        *replicated; /* failures: by class; NULL where there are none */
    struct tm_metric *lease_held, *standby, *takeovers, *leases_lost, *takeover_seconds, *lease_since;
    struct tm_metric *lag, *behind, *holes, *absent_lost, *absent_released, *connected, *errors, *commit_seconds,
        *latency, *store_latency, *conflicts, *seen_keys, *seen_bytes;

    pthread_mutex_t lock;
    struct tm_dedup_settings *settings; /* the newest; changed by the policy thread alone */
    struct tm_dedup_settings *adopted;  /* what the merger works by; NULL: not ready yet */
    uint64_t generation;                /* of `cursors`; 0: production is not ready, pollers wait */
    struct tm_cursors cursors;
    struct tm_cursors least; /* shard 0 of several: up to where all shards have them, as of `least_generation` */
    uint64_t least_generation;
    int64_t least_us; /* monotonic; when that was read: the merger's */
    struct tm_deduplicator_stats stats;
    int64_t down_since_us;    /* Unix; production is away since; 0: it is there */
    int64_t stalled_since_us; /* monotonic; nothing can be written since; 0: it can */
};

/* What a poller works by. */
struct tm_dedup_orders {
    uint64_t generation; /* of the cursors; 0: none yet */
    struct tm_cursors cursors;
    struct tm_dedup_settings *settings; /* held; NULL: none yet */
};

/* Take what the merger has published and adopted since; true if the cursors are new, so that polling starts over. */
bool tm_dedup_take_orders(struct tm_peer *peer, struct tm_dedup_orders *orders);

/* What the shard itself says (engine/together.h: what all of a process's do). */
struct tm_deduplicator_stats tm_dedup_own_stats(struct tm_deduplicator *d);
int tm_dedup_own_gatherer_stats(struct tm_deduplicator *d, size_t index,
                                struct tm_deduplicator_gatherer_stats *out) TM_MUST_CHECK;

/* The lag as a metric; called by every thread as it turns, so that it rises whichever of them hangs. */
void tm_dedup_publish_lag(struct tm_deduplicator *d);

/* Rows that gatherers have stored and production has not, as far as the last looks know. */
uint64_t tm_dedup_rows_behind(struct tm_deduplicator *d);

/* Records of a stream were merged, or had been before, of times up to `us`; 0 and less: of no known time. */
void tm_dedup_note_newest(struct tm_deduplicator *d, const char *stream, int64_t us);

/* A poller's thread. `arg` is its tm_peer. */
void *tm_poller_main(void *arg);

/* Note what became of a batch. */
void tm_dedup_batch_done(struct tm_deduplicator *d, const struct tm_batch *b);

int tm_merger_start(struct tm_deduplicator *d, struct tm_error *err) TM_MUST_CHECK;
void tm_merger_join(struct tm_deduplicator *d);

#endif
