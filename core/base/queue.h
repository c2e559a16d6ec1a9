/*
 * A bounded queue of pointers between threads: many producers, one consumer. Batches travel in it, never single
 * records, so a mutex is cheap enough. Bounded both in items and in bytes (the caller states each item's weight);
 * when it is full tm_queue_try_put refuses and the caller applies its stated policy, or tm_queue_put waits.
 *
 * The consumer is woken by a callback, called with no lock held after an item was added (an ev_async send, or an
 * eventfd), or it waits in tm_queue_take. After tm_queue_close, puts are refused and takes drain what is left.
 */
#ifndef TM_BASE_QUEUE_H
#define TM_BASE_QUEUE_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct tm_queue;

struct tm_queue *tm_queue_create(size_t items_max, size_t bytes_max);
void tm_queue_destroy(struct tm_queue *q); /* must be empty or hold nothing that needs freeing */

/* Another bound in bytes, at any time; what is inside beyond it stays. */
void tm_queue_set_bytes_max(struct tm_queue *q, size_t bytes_max);

/* Set before the first put; `wake` must be callable from any thread. */
void tm_queue_set_wake(struct tm_queue *q, void (*wake)(void *arg), void *arg);

/* TM_OK, TM_EFULL, or TM_ESTOPPED when closed; on failure the item stays the caller's. An item heavier than bytes_max
 * is let through when the queue is empty, so that one large thing cannot block for ever. */
int tm_queue_try_put(struct tm_queue *q, void *item, size_t weight) TM_MUST_CHECK;

/* Wait for room: TM_OK or TM_ESTOPPED. */
int tm_queue_put(struct tm_queue *q, void *item, size_t weight) TM_MUST_CHECK;

/* The oldest item, or NULL when there is none. */
void *tm_queue_try_take(struct tm_queue *q);

/* Wait up to timeout_us for an item; NULL on timeout, or when closed and drained. */
void *tm_queue_take(struct tm_queue *q, int64_t timeout_us);

void tm_queue_close(struct tm_queue *q);

size_t tm_queue_items(struct tm_queue *q);
size_t tm_queue_bytes(struct tm_queue *q);

#endif
