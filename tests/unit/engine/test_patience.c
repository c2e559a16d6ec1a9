/* How long the merger waits after a failure, how many rows a transaction has, how often there is one: pure functions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "engine/pace.h"
#include "engine/patience.h"

#define S TM_US_PER_S
#define ALL 0.999999 /* of the jitter */

static int64_t pause_ms(struct tm_patience *p, enum tm_pg_class class, bool connected, int64_t at_s)
{
    return (tm_patience_pause_us(p, class, connected, at_s * S, ALL) + 500) / 1000;
}

static void a_session_that_is_told_not_now(void **state)
{
    struct tm_patience p = {0};
    static const int64_t wanted_ms[] = {100, 200, 400, 800, 1600, 3200, 4000, 4000};
    (void)state;
    for (size_t i = 0; i < sizeof wanted_ms / sizeof *wanted_ms; i++)
        assert_int_equal(pause_ms(&p, TM_PG_RETRY, true, 1), wanted_ms[i]);
    tm_patience_reset(&p);
    assert_int_equal(pause_ms(&p, TM_PG_RETRY, true, 1), 100);
}

/* A failover takes a minute or two; after ten minutes it is none. */
static void an_outage_that_may_be_a_failover(void **state)
{
    struct tm_patience p = {0};
    static const int64_t wanted_ms[] = {200, 400, 800, 1600, 2000, 2000};
    (void)state;
    for (size_t i = 0; i < sizeof wanted_ms / sizeof *wanted_ms; i++)
        assert_int_equal(pause_ms(&p, TM_PG_RECONNECT, false, 1), wanted_ms[i]);
    assert_int_equal(pause_ms(&p, TM_PG_RECONNECT, false, 600), 2000);
    assert_int_equal(pause_ms(&p, TM_PG_RECONNECT, false, 601), 30000);
}

static void what_a_person_or_others_have_to_mend(void **state)
{
    static const enum tm_pg_class classes[] = {TM_PG_STOP, TM_PG_RETRY}; /* the latter: no connection is free */
    static const int64_t wanted_ms[] = {1000, 2000, 4000, 8000, 16000, 30000, 30000};
    (void)state;
    for (size_t c = 0; c < 2; c++) {
        struct tm_patience p = {0};
        for (size_t i = 0; i < sizeof wanted_ms / sizeof *wanted_ms; i++)
            assert_int_equal(pause_ms(&p, classes[c], false, 1), wanted_ms[i]);
        assert_int_equal(pause_ms(&p, TM_PG_RECONNECT, false, 1), 200); /* another trouble begins anew */
    }
}

static void jitter_is_full(void **state)
{
    struct tm_patience p = {0};
    (void)state;
    assert_int_equal(tm_patience_pause_us(&p, TM_PG_STOP, false, S, 0.0), 0);
    assert_int_equal(tm_patience_pause_us(&p, TM_PG_STOP, false, S, 0.5), S);
}

static void rows_follow_the_time_they_take(void **state)
{
    struct tm_pace p = {0};
    (void)state;
    assert_int_equal(tm_pace_rows(&p, 50000), 50000);
    tm_pace_took(&p, 10000, 4 * S);
    assert_int_equal(tm_pace_rows(&p, 50000), 50000);
    tm_pace_took(&p, 10000, 50 * S);
    assert_int_equal(tm_pace_rows(&p, 50000), 1000);
    assert_int_equal(tm_pace_rows(&p, 300), 300);
    tm_pace_failed(&p, 1000);
    assert_int_equal(tm_pace_rows(&p, 50000), TM_PACE_ROWS_MIN);
    tm_pace_took(&p, 200, 2 * S);
    assert_int_equal(tm_pace_rows(&p, 50000), TM_PACE_ROWS_MIN);
    for (int i = 0; i < 3; i++)
        tm_pace_took(&p, 200, S / 10);
    assert_int_equal(tm_pace_rows(&p, 50000), 8 * TM_PACE_ROWS_MIN);
    for (int i = 0; i < 20; i++)
        tm_pace_took(&p, 200, S / 10);
    assert_int_equal(tm_pace_rows(&p, (size_t)1 << 30), (size_t)1 << 30);
}

static void commits_are_as_far_apart_as_they_take(void **state)
{
    (void)state;
    assert_int_equal(tm_pace_commits_us(0), 25 * TM_US_PER_MS);
    assert_int_equal(tm_pace_commits_us(5 * TM_US_PER_MS), 25 * TM_US_PER_MS);
    assert_int_equal(tm_pace_commits_us(20 * TM_US_PER_MS), 60 * TM_US_PER_MS);
    assert_int_equal(tm_pace_commits_us(50 * TM_US_PER_MS), 150 * TM_US_PER_MS);
    assert_int_equal(tm_pace_commits_us(60 * S), 150 * TM_US_PER_MS);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_session_that_is_told_not_now),       cmocka_unit_test(an_outage_that_may_be_a_failover),
        cmocka_unit_test(what_a_person_or_others_have_to_mend), cmocka_unit_test(jitter_is_full),
        cmocka_unit_test(rows_follow_the_time_they_take),       cmocka_unit_test(commits_are_as_far_apart_as_they_take),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
