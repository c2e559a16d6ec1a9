/*
 * The poller's own: its state, and what a look reads of a stream (poller_read.c). One thread, the gatherer's poller.
 *
 * A look is bounded in rows (a stream) and in bytes (all of it, poll_bytes_max of the settings), and each of its batches ends
 * at a mark, for only there the hash of the history is known that proves the cursor. How large rows are is known from what was
 * read before, so a look plans for half of its bytes; it begins with the stream that had to wait for the last one's:
 *
 *     first stream         as many rows as the half has room for, up to a mark; or up to the next mark, alone
 *     each further one     as ever, where that fits; else it waits for the next look
 *
 * A look that meets more than all of its bytes all the same stops (TM_EFULL), and with it the session, which is begun again
 * at once. What it has read says how many rows fit and how large those behind them are. Where that was wrong they count double,
 * and double again: so this ends, at the latest where a batch is the rows of one commit of the gatherer's. Those are read
 * whatever they weigh, and its writer bounds them (engine/writer.h).
 */
#ifndef TM_ENGINE_POLLER_PRIVATE_H
#define TM_ENGINE_POLLER_PRIVATE_H

#include "engine/acknowledge.h"
#include "engine/dedup_private.h"

#define TM_POLLER_READY_MAX (TM_STREAMS_MAX * 4) /* batches of one look: streams of a few epochs */

/* A stream that was refused is not said again with every look, and one that breaks the session rests for a
 * while. */
struct tm_complaint {
    char epoch[TM_EPOCH_TEXT];
    char stream[TM_NAME_BYTES];
    int64_t rest_until_us; /* monotonic */
};

struct tm_stream_of_epoch {
    char epoch[TM_EPOCH_TEXT];
    char stream[TM_NAME_BYTES];
};

/* What the gatherer says about a stream: a row of tidemill.streams joined with its epoch. */
struct tm_standing {
    const char *epoch, *epoch_no, *stream;
    int64_t seq, hash, committed_us; /* the last: by the clock of the gatherer's database; 0: not known */
};

/* What a look reads of a stream. */
struct tm_reading {
    struct tm_standing s;
    struct tm_batch *b; /* NULL: taken */
    int place;          /* of the stream in the answer */
    bool alone;         /* it cannot be less, so no bound ends it */
};

/* The rows of a stream from there on that have room in a look, as one that met too many has seen. */
struct tm_fit {
    const struct tm_stream *stream; /* to compare; NULL: nothing is known */
    int64_t from;
    size_t rows;
};

struct tm_poller {
    struct tm_peer *peer;
    struct tm_deduplicator *d;
    struct tm_pg *pg;
    struct tm_dedup_orders orders; /* its cursors move on with what was handed over */
    struct tm_reading readings[TM_POLLER_READY_MAX];
    size_t reading_count;
    struct tm_batch *ready[TM_POLLER_READY_MAX];
    size_t ready_count;
    bool refused;                     /* a stream was refused in this look */
    bool more;                        /* a stream has more than was taken in this look */
    size_t row_bytes[TM_STREAMS_MAX]; /* by index of the stream: how large its rows were lately; 0: not known */
    struct tm_fit fit;                /* for the next look */
    bool cut;                         /* the last look met too many */
    size_t planned;                   /* bytes that this look's readings are expected to have */
    int first, waiting; /* place in the answer where this look begins, and the next; -1: no stream waits */
    struct tm_complaint complaints[TM_STREAMS_MAX];
    size_t complaint_count;
    struct tm_stream_of_epoch verified[TM_POLLER_READY_MAX]; /* in this session */
    size_t verified_count;
    struct tm_acknowledging acknowledging;
};

#define TM_COMMITTED_US "(extract(epoch FROM committed_at) * 1000000)::int8"

/* A new batch of the stream: from where (`at`) to where. TM_ESTATE: its history is not the one that was read before. */
int tm_poller_begin(struct tm_poller *p, const struct tm_standing *s, const struct tm_cursor *at, struct tm_batch *b,
                    struct tm_error *err) TM_MUST_CHECK;
/* Whether a begun batch is read in this look; then it counts. */
bool tm_poller_plan(struct tm_poller *p, struct tm_reading *r);
/* The bytes of begun batches. After an error nobody knows how many of them. TM_EFULL: more than a look may have. */
int tm_poller_copy(struct tm_poller *p, const struct tm_reading *readings, size_t count,
                   struct tm_error *err) TM_MUST_CHECK;
/* Find the rows in them. TM_ESTATE: rows are missing, and nothing explains it; or they are by keys that are not ours. */
int tm_poller_finish(struct tm_poller *p, const struct tm_standing *s, struct tm_batch *b,
                     struct tm_error *err) TM_MUST_CHECK;
#endif
