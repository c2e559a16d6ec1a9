#include "base/queue.h"
#include "base/clock.h"

#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct entry {
    void *item;
    size_t weight;
};

struct tm_queue {
    pthread_mutex_t lock;
    pthread_cond_t not_empty, not_full;
    struct entry *ring;
    size_t cap, head, count;
    size_t bytes, bytes_max;
    bool closed;
    void (*wake)(void *arg);
    void *wake_arg;
};

struct tm_queue *tm_queue_create(size_t items_max, size_t bytes_max)
{
    struct tm_queue *q = calloc(1, sizeof *q);
    TM_FATAL_UNLESS(q);
    q->ring = calloc(items_max, sizeof *q->ring);
    TM_FATAL_UNLESS(q->ring);
    q->cap = items_max;
    q->bytes_max = bytes_max;
    pthread_mutex_init(&q->lock, NULL);
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(&q->not_empty, &attr);
    pthread_cond_init(&q->not_full, &attr);
    pthread_condattr_destroy(&attr);
    return q;
}

void tm_queue_destroy(struct tm_queue *q)
{
    if (!q)
        return;
    pthread_cond_destroy(&q->not_empty);
    pthread_cond_destroy(&q->not_full);
    pthread_mutex_destroy(&q->lock);
    free(q->ring);
    free(q);
}

void tm_queue_set_bytes_max(struct tm_queue *q, size_t bytes_max)
{
    pthread_mutex_lock(&q->lock);
    q->bytes_max = bytes_max;
    pthread_cond_broadcast(&q->not_full);
    pthread_mutex_unlock(&q->lock);
}

void tm_queue_set_wake(struct tm_queue *q, void (*wake)(void *arg), void *arg)
{
    q->wake = wake;
    q->wake_arg = arg;
}

static bool has_room(const struct tm_queue *q, size_t weight)
{
    /* one item heavier than bytes_max may be inside */
    return q->count < q->cap && (q->count == 0 || (q->bytes <= q->bytes_max && weight <= q->bytes_max - q->bytes));
}

static void push(struct tm_queue *q, void *item, size_t weight)
{
    q->ring[(q->head + q->count) % q->cap] = (struct entry){item, weight};
    q->count++;
    q->bytes += weight;
    pthread_cond_signal(&q->not_empty);
}

static int put(struct tm_queue *q, void *item, size_t weight, bool wait)
{
    pthread_mutex_lock(&q->lock);
    while (wait && !q->closed && !has_room(q, weight))
        pthread_cond_wait(&q->not_full, &q->lock);
    int rc = q->closed ? TM_ESTOPPED : has_room(q, weight) ? TM_OK : TM_EFULL;
    if (!rc)
        push(q, item, weight);
    pthread_mutex_unlock(&q->lock);
    if (!rc && q->wake)
        q->wake(q->wake_arg);
    return rc;
}

int tm_queue_try_put(struct tm_queue *q, void *item, size_t weight)
{
    return put(q, item, weight, false);
}

int tm_queue_put(struct tm_queue *q, void *item, size_t weight)
{
    return put(q, item, weight, true);
}

static void *pop(struct tm_queue *q)
{
    if (!q->count)
        return NULL;
    struct entry e = q->ring[q->head];
    q->head = (q->head + 1) % q->cap;
    q->count--;
    q->bytes -= e.weight;
    pthread_cond_broadcast(&q->not_full);
    return e.item;
}

void *tm_queue_try_take(struct tm_queue *q)
{
    pthread_mutex_lock(&q->lock);
    void *item = pop(q);
    pthread_mutex_unlock(&q->lock);
    return item;
}

void *tm_queue_take(struct tm_queue *q, int64_t timeout_us)
{
    int64_t deadline_us = tm_clock_mono_us() + timeout_us;
    struct timespec until = {.tv_sec = deadline_us / TM_US_PER_S, .tv_nsec = (deadline_us % TM_US_PER_S) * 1000};
    pthread_mutex_lock(&q->lock);
    int rc = 0;
    while (!q->count && !q->closed && rc == 0)
        rc = pthread_cond_timedwait(&q->not_empty, &q->lock, &until);
    void *item = pop(q);
    pthread_mutex_unlock(&q->lock);
    return item;
}

void tm_queue_close(struct tm_queue *q)
{
    pthread_mutex_lock(&q->lock);
    q->closed = true;
    pthread_cond_broadcast(&q->not_empty);
    pthread_cond_broadcast(&q->not_full);
    pthread_mutex_unlock(&q->lock);
}

size_t tm_queue_items(struct tm_queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->count;
    pthread_mutex_unlock(&q->lock);
    return n;
}

size_t tm_queue_bytes(struct tm_queue *q)
{
    pthread_mutex_lock(&q->lock);
    size_t n = q->bytes;
    pthread_mutex_unlock(&q->lock);
    return n;
}
