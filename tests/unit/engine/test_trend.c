#include "engine/trend.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>

#define MINUTE (INT64_C(60) * 1000000)

static void assert_near(double value, double expected)
{
    if (!(fabs(value - expected) < 0.001))
        fail_msg("%.6f instead of %.6f", value, expected);
}

static void test_seconds_left(void **state)
{
    (void)state;
    struct tm_trend t = {0};
    assert_true(isinf(tm_trend_seconds_left(&t)));
    /* 100 GB, and 1 GB goes each hour: known after ten minutes, and 99 hours later on it is full */
    for (int i = 0; i < 10; i++)
        tm_trend_add(&t, i * MINUTE, 100 - i / 60.0);
    assert_true(isinf(tm_trend_seconds_left(&t)));
    for (int i = 10; i <= 60; i++)
        tm_trend_add(&t, i * MINUTE, 100 - i / 60.0);
    assert_near(tm_trend_seconds_left(&t) / 3600, 99);
    /* ten a hour from now on: an hour later nothing of the first is looked at any more */
    for (int i = 61; i <= 125; i++)
        tm_trend_add(&t, i * MINUTE, 99 - (i - 60) / 6.0);
    assert_near(tm_trend_seconds_left(&t) / 3600, (99 - 65 / 6.0) / 10);
    /* something was deleted */
    tm_trend_add(&t, 126 * MINUTE, 120);
    assert_true(isinf(tm_trend_seconds_left(&t)));
}

/* Readings each second are no more than one each minute. */
static void test_often(void **state)
{
    (void)state;
    struct tm_trend t = {0};
    for (int i = 0; i < 3600; i++)
        tm_trend_add(&t, i * (MINUTE / 60), 7200 - i);
    assert_near(tm_trend_seconds_left(&t) / 3600, (7200 - 59 * 60) / 3600.0);
}

static void test_clock(void **state)
{
    (void)state;
    struct tm_clock_watch w = {0};
    const int64_t s = 1000000;
    assert_int_equal(tm_clock_watch_look(&w, 5 * s, 1000 * s), 0);
    assert_int_equal(tm_clock_watch_look(&w, 6 * s, 1001 * s + 400000), 0); /* slewed */
    assert_int_equal(tm_clock_watch_look(&w, 7 * s, 1000 * s), -2400000);   /* set back */
    assert_int_equal(tm_clock_watch_look(&w, 8 * s, 1001 * s), 0);          /* and that was all */
    assert_int_equal(tm_clock_watch_look(&w, 9 * s, 4602 * s), 3600 * s);   /* an hour on */
    assert_int_equal(tm_clock_watch_look(&w, 9 * s, 4602 * s - 500000), -500000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_seconds_left), cmocka_unit_test(test_often),
                                       cmocka_unit_test(test_clock)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
