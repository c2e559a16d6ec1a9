/*
 * Taps: a person looks at the records of a stream as they are taken (gatherer: journaled; deduplicator: committed).
 *
 *     policy thread                                 io thread, merger
 *     open -> take ... take -> close                offer, for each row while anybody looks
 *          <-- bounded list of copies, wake() --
 *
 * Whoever offers never waits: while the reader has the lock, or has TM_TAP_ROWS_MAX rows or TM_TAP_BYTES_MAX bytes waiting,
 * rows are left out and counted. With no tap open an offer is one relaxed load, which the caller does (tm_taps_wanted).
 */
#ifndef TM_ENGINE_TAP_H
#define TM_ENGINE_TAP_H

#include "base/buf.h"
#include "record/row.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#define TM_TAPS_MAX 16
#define TM_TAP_ROWS_MAX 1000
#define TM_TAP_BYTES_MAX ((size_t)256 << 10)

struct tm_tap;

struct tm_taps {
    _Atomic uint32_t open;   /* how many: read it with tm_taps_wanted */
    _Atomic uint64_t missed; /* offers that met a reader */
    pthread_mutex_t lock;
    struct tm_tap *first;
};

struct tm_taps *tm_taps_create(void);
void tm_taps_destroy(struct tm_taps *taps); /* none is open; NULL is fine */

static inline bool tm_taps_wanted(struct tm_taps *taps)
{
    return taps && atomic_load_explicit(&taps->open, memory_order_relaxed) > 0;
}

struct tm_tap_options {
    const char *stream;
    const char *ticker; /* the market, or its beginning and a "*"; NULL: all */
    void (*wake)(void *arg);
    void *arg; /* wake is called on the offering thread, under the lock: it must not come back here */
};

/* TM_EFULL: TM_TAPS_MAX are open. Policy thread, as are the next two. */
int tm_tap_open(struct tm_taps *taps, const struct tm_tap_options *options, struct tm_tap **out,
                struct tm_error *err) TM_MUST_CHECK;
void tm_tap_close(struct tm_taps *taps, struct tm_tap *tap);

/* Append the oldest row as JSON (record/row_json.h): 1; 0: none waits; negative: it could not be written. */
int tm_tap_take(struct tm_taps *taps, struct tm_tap *tap, struct tm_buf *out) TM_MUST_CHECK;
/* Rows of the stream that were left out, at most: an offer that met a reader may have been another stream's. */
uint64_t tm_tap_left_out(const struct tm_taps *taps, const struct tm_tap *tap);

/* Any thread. `columns`: the column list that the tuple was written under; NULL: the stream's own. Both are copied. */
void tm_taps_offer(struct tm_taps *taps, const struct tm_stream *stream, const char *columns, const uint8_t *tuple,
                   size_t len);

#endif
