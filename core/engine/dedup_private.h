/*
 * Inside the deduplicator: what pollers and merger share. Pollers produce batches; the merger consumes them
 * and publishes cursors. They meet in the queue, in the published cursors and in the statistics, nowhere
 * else.
 */
#ifndef TM_ENGINE_DEDUP_PRIVATE_H
#define TM_ENGINE_DEDUP_PRIVATE_H

#include "base/hash.h"
#include "base/queue.h"
#include "engine/deduplicator.h"
#include "store/pg.h"

#include <pthread.h>

#define TM_EPOCH_TEXT 37
#define TM_NAME_BYTES 64

/* ---- cursors ---- */

/* Up to where production has a stream of a gatherer's epoch. */
struct tm_cursor {
    size_t gatherer; /* index in the options */
    char epoch[TM_EPOCH_TEXT];
    char stream[TM_NAME_BYTES];
    int64_t seq;
    int64_t hash; /* running hash of the stream's history at seq, as the gatherer's marks have it */
};

struct tm_cursors {
    struct tm_cursor *items;
    size_t count, cap;
};

void tm_cursors_fini(struct tm_cursors *c);
/* The cursor of a stream; made at 0 where there is none. Valid until the next call. */
struct tm_cursor *tm_cursors_get(struct tm_cursors *c, size_t gatherer, const char *epoch, const char *stream);
int tm_cursors_copy(struct tm_cursors *to, const struct tm_cursors *from) TM_MUST_CHECK;

/* Read all cursors of the gatherers in the options. */
int tm_cursors_load(struct tm_cursors *c, struct tm_pg *pg, const struct tm_deduplicator_options *options,
                    struct tm_error *err) TM_MUST_CHECK;

/* A cursor's move, by compare-and-swap inside the caller's transaction: TM_ECONFLICT unless every one stood
 * at `from`. */
struct tm_cursor_move {
    size_t gatherer;
    const char *epoch, *stream;
    int64_t from, to, hash;
};
int tm_cursors_move(struct tm_pg *pg, const struct tm_deduplicator_options *options, const struct tm_cursor_move *moves,
                    size_t count, struct tm_error *err) TM_MUST_CHECK;

/* ---- batches ---- */

struct tm_batch_row {
    uint32_t offset, len;
    int64_t time_us;     /* of the partition column, else of the time column; INT64_MIN: none */
    int64_t received_us; /* INT64_MIN: none */
    struct tm_fp fp;     /* streams that have a seen-set */
};

/* Rows of one stream of one gatherer's epoch, in seq order: from < seq <= to. */
struct tm_batch {
    size_t gatherer;
    char epoch[TM_EPOCH_TEXT];
    const struct tm_stream *stream;
    int64_t from, from_hash, to, hash;
    uint64_t generation; /* of the cursors it started from */
    struct tm_buf bytes; /* poll-form tuples end to end */
    struct tm_batch_row *rows;
    size_t count, cap;
    int64_t received_min_us, received_max_us; /* Unix; 0: unknown */
    int64_t newest_us;                        /* of the rows' time_us; INT64_MIN: none has one */
    uint64_t written, duplicate, quarantined;
    int64_t missing;    /* the seq that tm_batch_index did not find; 0: none */
    int64_t *explained; /* sorted seqs that are known to be missing, and why: quarantined */
    size_t explained_count, explained_at;
};

struct tm_batch *tm_batch_create(const struct tm_stream *stream);
void tm_batch_destroy(struct tm_batch *b);
size_t tm_batch_weight(const struct tm_batch *b);

/* Whether two gatherers' rows of the stream are told apart by a fingerprint: not for observations,
 * replacements and keys without time, which the store decides. */
bool tm_stream_is_fingerprinted(const struct tm_stream *stream);

/* Find and check the rows in `bytes`. TM_ESTATE: seq is not contiguous (the message says where); TM_ECORRUPT.
 */
int tm_batch_index(struct tm_batch *b, const struct tm_hash_key *key, struct tm_error *err) TM_MUST_CHECK;

/* A row as production takes it: seq is cut off and the field count patched in place. */
struct tm_span_bytes tm_batch_production_row(struct tm_batch *b, size_t row);

/* ---- the whole ---- */

struct tm_peer {
    struct tm_deduplicator *d;
    size_t index;
    pthread_t thread;
    bool started;
    struct tm_deduplicator_gatherer_stats stats; /* under d->lock */
    struct tm_queue *queue;                      /* of batches; the merger takes from all peers in turn */
    size_t outstanding;                          /* batches handed over and not merged; under d->lock */
    int64_t oldest_us;                           /* Unix arrival of the oldest row among them; 0: none; under d->lock */
    struct tm_metric *health;
};

struct tm_stream_metrics {
    struct tm_metric *polled, *written, *duplicate, *quarantined;
    _Atomic int64_t newest_us; /* tm_deduplicator_newest_us; written by the merger's thread */
};

struct tm_deduplicator {
    struct tm_deduplicator_options options; /* strings are copies in arena */
    struct tm_arena *arena;
    struct tm_hash_key hash_key;
    int ready_fd; /* eventfd: a queue has something for the merger */
    struct tm_stop pollers_stop, merger_stop;
    atomic_bool closing;
    struct tm_peer *peers;
    struct tm_merger *merger;
    struct tm_stream_metrics *streams;
    struct tm_metric *lag, *holes, *connected, *errors, *commit_seconds, *latency, *conflicts, *seen_keys, *seen_bytes;

    pthread_mutex_t lock;
    uint64_t generation; /* of `cursors`; 0: production is not ready, pollers wait */
    struct tm_cursors cursors;
    struct tm_deduplicator_stats stats;
    int64_t down_since_us; /* Unix; production is away since; 0: it is there */
};

/* Take the cursors if they are of another generation than *generation, and it; true if so. */
bool tm_dedup_take_cursors(struct tm_deduplicator *d, uint64_t *generation, struct tm_cursors *out);

/* The lag as a metric; called by every thread as it turns, so that it rises whichever of them hangs. */
void tm_dedup_publish_lag(struct tm_deduplicator *d);

/* Records of a stream were merged, or had been before, of times up to `us`; 0 and less: of no known time. */
void tm_dedup_note_newest(struct tm_deduplicator *d, const char *stream, int64_t us);

/* A poller's thread. `arg` is its tm_peer. */
void *tm_poller_main(void *arg);

/* Note what became of a batch. */
void tm_dedup_batch_done(struct tm_deduplicator *d, const struct tm_batch *b);

int tm_merger_start(struct tm_deduplicator *d, struct tm_error *err) TM_MUST_CHECK;
void tm_merger_join(struct tm_deduplicator *d);

#endif
