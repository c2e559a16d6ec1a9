/*
 * The event loop: a thin cover over libev, the only place that knows it. A loop belongs to the thread that runs it;
 * everything here is called on that thread, except tm_async_send, which any thread (and a signal handler) may call.
 *
 * Watchers are embedded in their owners and initialised in place; the callback gets the argument that was given.
 * A stopped watcher may be started again. libwebsockets and libcurl are driven by the same loop through
 * tm_loop_native (a `struct ev_loop *`).
 */
#ifndef TM_LOOP_LOOP_H
#define TM_LOOP_LOOP_H

#include <ev.h>
#include <stdint.h>

struct tm_loop;

struct tm_loop *tm_loop_create(void);
void tm_loop_destroy(struct tm_loop *loop);
void tm_loop_run(struct tm_loop *loop);  /* until tm_loop_stop */
void tm_loop_stop(struct tm_loop *loop); /* the current turn is finished first */
struct ev_loop *tm_loop_native(struct tm_loop *loop);

/* While descriptors have something to say, turns begin at least so far apart (0: as they come), so that one finds what came
 * meanwhile: a turn costs as much for one message as for many. What comes after a pause is not kept waiting, nor is a timer. */
void tm_loop_collect(struct tm_loop *loop, int64_t us);

typedef void tm_loop_fn(void *arg);

struct tm_timer {
    struct ev_timer ev;
    struct ev_loop *loop;
    tm_loop_fn *fn;
    void *arg;
};

void tm_timer_init(struct tm_timer *t, struct tm_loop *loop, tm_loop_fn *fn, void *arg);
void tm_timer_start(struct tm_timer *t, int64_t after_us, int64_t repeat_us); /* repeat 0: once; restarts if running */
void tm_timer_stop(struct tm_timer *t);

struct tm_async {
    struct ev_async ev;
    struct ev_loop *loop;
    tm_loop_fn *fn;
    void *arg;
};

void tm_async_init(struct tm_async *a, struct tm_loop *loop, tm_loop_fn *fn, void *arg); /* started at once */
void tm_async_send(struct tm_async *a); /* any thread; several sends before the turn make one call */
void tm_async_fini(struct tm_async *a);

struct tm_signal {
    struct ev_signal ev;
    struct ev_loop *loop;
    tm_loop_fn *fn;
    void *arg;
};

/* Started at once, and unblocked on this thread: a program holds its signals back until it can answer them. */
void tm_signal_init(struct tm_signal *s, struct tm_loop *loop, int signum, tm_loop_fn *fn, void *arg);
void tm_signal_fini(struct tm_signal *s);

/* Called at the end of every turn, before the loop sleeps: the place to hand over what the turn collected. */
struct tm_prepare {
    struct ev_prepare ev;
    struct ev_loop *loop;
    tm_loop_fn *fn;
    void *arg;
};

void tm_prepare_init(struct tm_prepare *p, struct tm_loop *loop, tm_loop_fn *fn, void *arg); /* started */
/* Likewise, and called before all those: it may bring more for them to hand over. */
void tm_prepare_init_early(struct tm_prepare *p, struct tm_loop *loop, tm_loop_fn *fn, void *arg);
void tm_prepare_fini(struct tm_prepare *p);

/* A file descriptor; `events` is EV_READ, EV_WRITE or both. */
struct tm_io {
    struct ev_io ev;
    struct ev_loop *loop;
    void (*fn)(void *arg, int events);
    void *arg;
};

void tm_io_init(struct tm_io *w, struct tm_loop *loop, int fd, void (*fn)(void *arg, int events), void *arg);
void tm_io_set(struct tm_io *w, int events); /* 0 stops it */

#endif
