#include "base/clock.h"
#include "loop/loop.h"

#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

struct test {
    struct tm_loop *loop;
    struct tm_timer timer, other, limit;
    struct tm_async async;
    struct tm_signal signal;
    struct tm_prepare prepare;
    struct tm_io io;
    int pipe[2], fired, turns, events, stop_after;
    int64_t at_us;
};

static void stop_late(void *arg)
{
    tm_loop_stop(arg);
}

static void on_fire(void *arg)
{
    struct test *t = arg;
    t->at_us = tm_clock_mono_us();
    if (++t->fired == t->stop_after)
        tm_loop_stop(t->loop);
}

static void set_up(struct test *t)
{
    *t = (struct test){.loop = tm_loop_create(), .stop_after = 1};
    tm_timer_init(&t->limit, t->loop, stop_late, t->loop); /* no test hangs */
    tm_timer_start(&t->limit, 5 * TM_US_PER_S, 0);
}

static void test_timer_restarts(void **state)
{
    (void)state;
    struct test t;
    set_up(&t);
    tm_timer_init(&t.timer, t.loop, on_fire, &t);
    int64_t before = tm_clock_mono_us();
    tm_timer_start(&t.timer, 4 * TM_US_PER_S, 0);
    tm_timer_start(&t.timer, 30000, 0); /* counts from here, once */
    tm_loop_run(t.loop);
    assert_int_equal(t.fired, 1);
    assert_in_range(t.at_us - before, 29000, 1000000);
    tm_loop_destroy(t.loop);
}

static void test_timer_repeats_until_stopped(void **state)
{
    (void)state;
    struct test t;
    set_up(&t);
    t.stop_after = 5;
    tm_timer_init(&t.timer, t.loop, on_fire, &t);
    int64_t before = tm_clock_mono_us();
    tm_timer_start(&t.timer, 0, 10000);
    tm_loop_run(t.loop);
    assert_int_equal(t.fired, 5);
    assert_in_range(t.at_us - before, 39000, 1000000);
    tm_timer_stop(&t.timer);
    tm_timer_stop(&t.timer); /* again: harmless */
    tm_timer_start(&t.limit, 30000, 0);
    tm_loop_run(t.loop);
    assert_int_equal(t.fired, 5);
    tm_loop_destroy(t.loop);
}

static void sleep_long(void *arg)
{
    (void)arg;
    int64_t until = tm_clock_mono_us() + 100000;
    while (tm_clock_mono_us() < until)
        ;
    struct test *t = arg;
    t->at_us = tm_clock_mono_us();
    tm_timer_start(&t->timer, 50000, 0);
}

/* A timer that is set late in a long turn counts from then, not from the start of the turn. */
static void test_timer_in_long_turn(void **state)
{
    (void)state;
    struct test t;
    set_up(&t);
    tm_timer_init(&t.timer, t.loop, on_fire, &t);
    tm_timer_init(&t.other, t.loop, sleep_long, &t);
    tm_timer_start(&t.other, 0, 0);
    int64_t before = tm_clock_mono_us();
    tm_loop_run(t.loop);
    assert_in_range(t.at_us - before, 149000, 1000000);
    tm_loop_destroy(t.loop);
}

static void *send_many(void *arg)
{
    struct test *t = arg;
    for (int i = 0; i < 1000; i++)
        tm_async_send(&t->async);
    return NULL;
}

/* A thousand sends before a turn make one call, and none is lost. */
static void test_async_from_thread(void **state)
{
    (void)state;
    struct test t;
    pthread_t thread;
    set_up(&t);
    tm_async_init(&t.async, t.loop, on_fire, &t);
    assert_int_equal(pthread_create(&thread, NULL, send_many, &t), 0);
    pthread_join(thread, NULL);
    tm_loop_run(t.loop);
    assert_int_equal(t.fired, 1);
    tm_async_fini(&t.async);
    tm_loop_destroy(t.loop);
}

static void on_io(void *arg, int events)
{
    struct test *t = arg;
    t->events = events;
    tm_loop_stop(t->loop);
}

static void test_io(void **state)
{
    (void)state;
    struct test t;
    set_up(&t);
    assert_int_equal(pipe(t.pipe), 0);
    tm_io_init(&t.io, t.loop, t.pipe[0], on_io, &t);
    assert_int_equal(write(t.pipe[1], "x", 1), 1);
    tm_timer_start(&t.limit, 20000, 0);
    tm_loop_run(t.loop);
    assert_int_equal(t.events, 0); /* not asked for yet */
    tm_io_set(&t.io, EV_READ);
    tm_io_set(&t.io, EV_READ);
    tm_loop_run(t.loop);
    assert_int_equal(t.events, EV_READ);
    t.events = 0;
    tm_io_set(&t.io, 0);
    tm_timer_start(&t.limit, 20000, 0);
    tm_loop_run(t.loop);
    assert_int_equal(t.events, 0);
    close(t.pipe[0]);
    close(t.pipe[1]);
    tm_loop_destroy(t.loop);
}

static void test_signal(void **state)
{
    (void)state;
    struct test t;
    set_up(&t);
    tm_signal_init(&t.signal, t.loop, SIGUSR1, on_fire, &t);
    raise(SIGUSR1);
    tm_loop_run(t.loop);
    assert_int_equal(t.fired, 1);
    tm_signal_fini(&t.signal);
    tm_loop_destroy(t.loop);
}

static void on_turn(void *arg)
{
    struct test *t = arg;
    t->turns++;
}

/* Once a turn, also in the one in which the loop is stopped from a timer: before it sleeps. */
static void test_prepare(void **state)
{
    (void)state;
    struct test t;
    set_up(&t);
    t.stop_after = 4;
    tm_prepare_init(&t.prepare, t.loop, on_turn, &t);
    tm_timer_init(&t.timer, t.loop, on_fire, &t);
    tm_timer_start(&t.timer, 0, 5000);
    tm_loop_run(t.loop);
    assert_in_range(t.turns, 4, 8);
    tm_prepare_fini(&t.prepare);
    tm_timer_stop(&t.timer);
    tm_loop_destroy(t.loop);
}

static char order[4];

static void note_plain(void *arg)
{
    (void)arg;
    if (strlen(order) < sizeof order - 1)
        strcat(order, "p");
}

static void note_early(void *arg)
{
    (void)arg;
    if (strlen(order) < sizeof order - 1)
        strcat(order, "e");
}

/* Whatever the order in which they were started, or its reverse. */
static void test_early_prepare_comes_first(void **state)
{
    (void)state;
    struct test t;
    struct tm_prepare before, early, after;
    set_up(&t);
    tm_prepare_init(&before, t.loop, note_plain, NULL);
    tm_prepare_init_early(&early, t.loop, note_early, NULL);
    tm_prepare_init(&after, t.loop, note_plain, NULL);
    tm_timer_init(&t.timer, t.loop, on_fire, &t);
    tm_timer_start(&t.timer, 0, 0);
    tm_loop_run(t.loop);
    assert_string_equal(order, "epp");
    tm_prepare_fini(&before);
    tm_prepare_fini(&early);
    tm_prepare_fini(&after);
    tm_loop_destroy(t.loop);
}

static void on_always_readable(void *arg, int events)
{
    struct test *t = arg;
    assert_int_equal(events, EV_READ);
    if (++t->turns == t->stop_after)
        tm_loop_stop(t->loop);
}

/* Something is there to be read all the time; turns begin 20 ms apart all the same, and a timer between them is in time. */
static void test_collects(void **state)
{
    (void)state;
    struct test t;
    set_up(&t);
    assert_int_equal(pipe(t.pipe), 0);
    assert_int_equal(write(t.pipe[1], "x", 1), 1);
    tm_io_init(&t.io, t.loop, t.pipe[0], on_always_readable, &t);
    tm_io_set(&t.io, EV_READ);
    tm_loop_collect(t.loop, 20000);
    t.stop_after = 11;
    int64_t before = tm_clock_mono_us();
    tm_loop_run(t.loop);
    assert_int_equal(t.turns, 11);
    assert_in_range(tm_clock_mono_us() - before, 195000, 4 * TM_US_PER_S);
    tm_loop_collect(t.loop, 4 * TM_US_PER_S);
    t.stop_after = 1;
    tm_timer_init(&t.timer, t.loop, on_fire, &t);
    tm_timer_start(&t.timer, 30000, 0);
    before = tm_clock_mono_us();
    tm_loop_run(t.loop);
    assert_in_range(t.at_us - before, 29000, 1000000);
    tm_loop_collect(t.loop, 0);
    t.turns = 0;
    t.stop_after = 1000;
    tm_timer_start(&t.limit, 2 * TM_US_PER_S, 0);
    tm_loop_run(t.loop);
    assert_int_equal(t.turns, 1000); /* and as they come */
    tm_io_set(&t.io, 0);
    close(t.pipe[0]);
    close(t.pipe[1]);
    tm_loop_destroy(t.loop);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_timer_restarts),
        cmocka_unit_test(test_timer_repeats_until_stopped),
        cmocka_unit_test(test_timer_in_long_turn),
        cmocka_unit_test(test_async_from_thread),
        cmocka_unit_test(test_io),
        cmocka_unit_test(test_signal),
        cmocka_unit_test(test_prepare),
        cmocka_unit_test(test_early_prepare_comes_first),
        cmocka_unit_test(test_collects),
    };
    return cmocka_run_group_tests_name("loop/loop", tests, NULL, NULL);
}
