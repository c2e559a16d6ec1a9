#include "loop/loop.h"
#include "base/error.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>

struct tm_loop {
    struct ev_loop *ev;
};

struct tm_loop *tm_loop_create(void)
{
    struct tm_loop *loop = calloc(1, sizeof *loop);
    TM_FATAL_UNLESS(loop);
    loop->ev = ev_loop_new(EVFLAG_NOENV);
    TM_FATAL_UNLESS(loop->ev);
    return loop;
}

void tm_loop_destroy(struct tm_loop *loop)
{
    if (!loop)
        return;
    ev_loop_destroy(loop->ev);
    free(loop);
}

void tm_loop_run(struct tm_loop *loop)
{
    ev_run(loop->ev, 0);
}

void tm_loop_stop(struct tm_loop *loop)
{
    ev_break(loop->ev, EVBREAK_ALL);
}

struct ev_loop *tm_loop_native(struct tm_loop *loop)
{
    return loop->ev;
}

void tm_loop_collect(struct tm_loop *loop, int64_t us)
{
    ev_set_io_collect_interval(loop->ev, (double)us / 1e6);
}

static void on_timer(struct ev_loop *ev, struct ev_timer *w, int revents)
{
    (void)ev;
    (void)revents;
    struct tm_timer *t = w->data;
    t->fn(t->arg);
}

void tm_timer_init(struct tm_timer *t, struct tm_loop *loop, tm_loop_fn *fn, void *arg)
{
    t->loop = loop->ev;
    t->fn = fn;
    t->arg = arg;
    ev_timer_init(&t->ev, on_timer, 0., 0.);
    t->ev.data = t;
}

void tm_timer_start(struct tm_timer *t, int64_t after_us, int64_t repeat_us)
{
    ev_timer_stop(t->loop, &t->ev);
    ev_now_update(t->loop); /* libev counts from the start of the turn, which may be long ago */
    ev_timer_set(&t->ev, (double)after_us / 1e6, (double)repeat_us / 1e6);
    ev_timer_start(t->loop, &t->ev);
}

void tm_timer_stop(struct tm_timer *t)
{
    if (t->loop)
        ev_timer_stop(t->loop, &t->ev);
}

static void on_async(struct ev_loop *ev, struct ev_async *w, int revents)
{
    (void)ev;
    (void)revents;
    struct tm_async *a = w->data;
    a->fn(a->arg);
}

void tm_async_init(struct tm_async *a, struct tm_loop *loop, tm_loop_fn *fn, void *arg)
{
    a->loop = loop->ev;
    a->fn = fn;
    a->arg = arg;
    ev_async_init(&a->ev, on_async);
    a->ev.data = a;
    ev_async_start(a->loop, &a->ev);
}

void tm_async_send(struct tm_async *a)
{
    ev_async_send(a->loop, &a->ev);
}

void tm_async_fini(struct tm_async *a)
{
    if (a->loop)
        ev_async_stop(a->loop, &a->ev);
}

static void on_signal(struct ev_loop *ev, struct ev_signal *w, int revents)
{
    (void)ev;
    (void)revents;
    struct tm_signal *s = w->data;
    s->fn(s->arg);
}

void tm_signal_init(struct tm_signal *s, struct tm_loop *loop, int signum, tm_loop_fn *fn, void *arg)
{
    s->loop = loop->ev;
    s->fn = fn;
    s->arg = arg;
    ev_signal_init(&s->ev, on_signal, signum);
    s->ev.data = s;
    ev_signal_start(s->loop, &s->ev);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, signum);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

void tm_signal_fini(struct tm_signal *s)
{
    if (s->loop)
        ev_signal_stop(s->loop, &s->ev);
}

static void on_prepare(struct ev_loop *ev, struct ev_prepare *w, int revents)
{
    (void)ev;
    (void)revents;
    struct tm_prepare *p = w->data;
    p->fn(p->arg);
}

static void start_prepare(struct tm_prepare *p, struct tm_loop *loop, int priority, tm_loop_fn *fn, void *arg)
{
    p->loop = loop->ev;
    p->fn = fn;
    p->arg = arg;
    ev_prepare_init(&p->ev, on_prepare);
    ev_set_priority(&p->ev, priority);
    p->ev.data = p;
    ev_prepare_start(p->loop, &p->ev);
}

void tm_prepare_init(struct tm_prepare *p, struct tm_loop *loop, tm_loop_fn *fn, void *arg)
{
    start_prepare(p, loop, 0, fn, arg);
}

void tm_prepare_init_early(struct tm_prepare *p, struct tm_loop *loop, tm_loop_fn *fn, void *arg)
{
    start_prepare(p, loop, 1, fn, arg);
}

void tm_prepare_fini(struct tm_prepare *p)
{
    if (p->loop)
        ev_prepare_stop(p->loop, &p->ev);
}

static void on_io(struct ev_loop *ev, struct ev_io *w, int revents)
{
    (void)ev;
    struct tm_io *io = w->data;
    io->fn(io->arg, revents & (EV_READ | EV_WRITE));
}

void tm_io_init(struct tm_io *w, struct tm_loop *loop, int fd, void (*fn)(void *arg, int events), void *arg)
{
    w->loop = loop->ev;
    w->fn = fn;
    w->arg = arg;
    ev_io_init(&w->ev, on_io, fd, 0);
    w->ev.data = w;
}

void tm_io_set(struct tm_io *w, int events)
{
    if (ev_is_active(&w->ev) && (w->ev.events & (EV_READ | EV_WRITE)) == events)
        return;
    ev_io_stop(w->loop, &w->ev);
    if (!events)
        return;
    ev_io_set(&w->ev, w->ev.fd, events);
    ev_io_start(w->loop, &w->ev);
}
