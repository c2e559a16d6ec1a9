#include "model.h"

#include "dedup/seen.h"

#include <stdio.h>
#include <stdlib.h>

#define KIB ((size_t)1024)
#define MIB (KIB * 1024)

static struct tm_seen *make(int64_t window_us, size_t memory)
{
    struct tm_seen *s = NULL;
    struct tm_error err = {0};
    struct tm_seen_options o = {.window_us = window_us, .memory_bytes_max = memory};
    if (tm_seen_create(&o, &s, &err))
        fail_msg("%s", err.message);
    return s;
}

static void test_first_time_only(void **state)
{
    (void)state;
    struct tm_seen *s = make(1000, 0);
    assert_false(tm_seen_contains(s, fp_of(1)));
    assert_true(tm_seen_add(s, fp_of(1), 5));
    assert_true(tm_seen_contains(s, fp_of(1)));
    assert_false(tm_seen_add(s, fp_of(1), 6));
    assert_int_equal(tm_seen_stats(s).keys, 1);
    tm_seen_destroy(s);
}

static void test_near_misses_differ(void **state)
{
    (void)state;
    struct tm_seen *s = make(1000, 0);
    struct tm_fp base = {.lo = UINT64_C(0x1122334455667700), .hi = UINT64_C(0x8877665544332211)};
    assert_true(tm_seen_add(s, base, 0));
    /* each of the 120 bits that are kept tells two keys apart */
    for (int bit = 8; bit < 64; bit++) {
        struct tm_fp other = {.lo = base.lo ^ UINT64_C(1) << bit, .hi = base.hi};
        assert_false(tm_seen_contains(s, other));
    }
    for (int bit = 0; bit < 64; bit++) {
        struct tm_fp other = {.lo = base.lo, .hi = base.hi ^ UINT64_C(1) << bit};
        assert_false(tm_seen_contains(s, other));
    }
    tm_seen_destroy(s);
}

/* Random additions over a model; keys in the window are there, keys out of it are not, others never were. */
struct model {
    int64_t *last;
    uint64_t keys;
    int64_t window_us, now_us;
};

static void check_key(const struct model *m, struct tm_seen *s, uint64_t key)
{
    bool seen = tm_seen_contains(s, fp_of(key));
    if (m->last[key] == NEVER) {
        assert_false(seen);
        return;
    }
    int64_t age_us = m->now_us - m->last[key];
    if (age_us <= m->window_us)
        assert_true(seen);
    if (age_us > m->window_us + m->window_us / 14 + 1)
        assert_false(seen);
}

static void add_key(struct model *m, struct tm_seen *s, uint64_t key, int64_t at_us)
{
    if (at_us > m->now_us)
        m->now_us = at_us;
    int64_t age_us = m->last[key] == NEVER ? INT64_MAX : m->now_us - m->last[key];
    bool is_new = tm_seen_add(s, fp_of(key), at_us);
    if (age_us <= m->window_us)
        assert_false(is_new);
    if (age_us > m->window_us + m->window_us / 14 + 1)
        assert_true(is_new);
    m->last[key] = m->now_us;
}

static struct model make_model(uint64_t keys, int64_t window_us)
{
    struct model m = {.last = malloc(keys * sizeof *m.last), .keys = keys, .window_us = window_us};
    assert_non_null(m.last);
    for (uint64_t i = 0; i < keys; i++)
        m.last[i] = NEVER;
    return m;
}

/* The load changes: a ramp, a steady state, a silence longer than the window, a trickle, a burst. */
static int64_t step_us(struct dice *d, uint64_t i, uint64_t ops)
{
    uint64_t phase = i * 8 / ops;
    if (i == ops / 2)
        return 3000000;
    if (phase == 5)
        return (int64_t)roll(d, 2000);
    return (int64_t)roll(d, phase < 2 ? 2 : 10);
}

static void run_model(uint64_t seed, uint64_t keys, uint64_t ops)
{
    struct dice d = {seed << 32};
    struct model m = make_model(keys, 1000000);
    struct tm_seen *s = make(m.window_us, 64 * MIB);
    for (uint64_t i = 0; i < ops; i++) {
        int64_t at_us = m.now_us + step_us(&d, i, ops);
        if (roll(&d, 50) == 0)
            at_us -= (int64_t)roll(&d, 100000); /* the clock steps back */
        add_key(&m, s, roll(&d, keys), at_us);
        check_key(&m, s, roll(&d, keys));
        if (i % (ops / 16) == 0)
            for (uint64_t k = 0; k < keys; k++)
                check_key(&m, s, k);
    }
    for (uint64_t k = 0; k < keys; k++)
        check_key(&m, s, k);
    assert_int_equal(tm_seen_stats(s).evicted_early, 0);
    tm_seen_destroy(s);
    free(m.last);
}

static void test_against_model(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 4; seed++) {
        run_model(seed, 500, 20000);
        run_model(seed, 20000, 100000);
        if (seed == 1)
            run_model(seed, 200000, 400000);
    }
}

static void test_count_of_keys(void **state)
{
    (void)state;
    struct tm_seen *s = make(1000000, 64 * MIB);
    for (uint64_t i = 0; i < 200000; i++) {
        assert_true(tm_seen_add(s, fp_of(i), 0));
        assert_int_equal(tm_seen_stats(s).keys, i + 1);
    }
    tm_seen_advance(s, 1062500); /* a window and 1/16 */
    assert_int_equal(tm_seen_stats(s).keys, 200000);
    tm_seen_advance(s, 1062501);
    assert_int_equal(tm_seen_stats(s).keys, 0);
    assert_int_equal(tm_seen_stats(s).expired, 200000);
    tm_seen_destroy(s);
}

static void test_bytes_per_key(void **state)
{
    (void)state;
    struct tm_seen *s = make(1000000, 64 * MIB);
    for (uint64_t i = 1; i <= 1000000; i++) {
        tm_seen_add(s, fp_of(i), 0);
        uint64_t bytes = tm_seen_stats(s).memory_bytes;
        assert_true(bytes <= 32 * i + 110 * KIB);
    }
    tm_seen_destroy(s);
}

static void test_memory_shrinks(void **state)
{
    (void)state;
    struct tm_seen *s = make(1000000, 64 * MIB);
    for (uint64_t i = 0; i < 1000000; i++)
        tm_seen_add(s, fp_of(i), 0);
    assert_true(tm_seen_stats(s).memory_bytes > 16000000);
    /* a trickle of other keys after all of these are out of the window */
    for (uint64_t i = 0; i < 1000000; i++)
        tm_seen_add(s, fp_of(2000000 + i % 100), 3000000);
    struct tm_seen_stats stats = tm_seen_stats(s);
    assert_int_equal(stats.keys, 100);
    assert_int_equal(stats.expired, 1000000);
    assert_int_equal(stats.evicted_early, 0);
    assert_true(stats.memory_bytes < 200 * KIB);
    tm_seen_destroy(s);
}

/* At the bound: never a byte more, the oldest go, what is said to be forgotten adds up. */
static void test_memory_bound(void **state)
{
    (void)state;
    const uint64_t keys = 150000;
    for (size_t bound = 128 * KIB; bound <= 2 * MIB; bound *= 2) {
        struct tm_seen *s = make(INT64_C(1) << 40, bound);
        for (uint64_t i = 0; i < keys; i++) {
            assert_true(tm_seen_add(s, fp_of(i), (int64_t)i));
            assert_true(tm_seen_stats(s).memory_bytes <= bound);
        }
        uint64_t kept = 0;
        for (uint64_t i = 0; i < keys; i++) {
            bool seen = tm_seen_contains(s, fp_of(i));
            assert_true(seen || kept == 0); /* the kept are the last */
            kept += seen;
        }
        assert_int_equal(tm_seen_stats(s).keys, kept);
        assert_int_equal(tm_seen_stats(s).evicted_early, keys - kept);
        uint64_t slots = (bound - 110 * KIB) / 16;
        assert_true(kept >= slots * 6 / 10);
        tm_seen_destroy(s);
    }
}

/* All in the same microsecond: time cannot tell the oldest, the order of arrival does. */
static void test_memory_bound_in_one_instant(void **state)
{
    (void)state;
    struct tm_seen *s = make(1000000, 512 * KIB);
    for (uint64_t i = 0; i < 200000; i++)
        assert_true(tm_seen_add(s, fp_of(i), 7));
    uint64_t kept = 0;
    for (uint64_t i = 0; i < 200000; i++) {
        bool seen = tm_seen_contains(s, fp_of(i));
        assert_true(seen || kept == 0);
        kept += seen;
    }
    assert_true(kept > 10000);
    assert_true(tm_seen_stats(s).memory_bytes <= 512 * KIB);
    tm_seen_destroy(s);
}

static void test_configure_window(void **state)
{
    (void)state;
    struct tm_seen *s = make(1000000, MIB);
    for (int64_t i = 0; i < 1000; i++)
        tm_seen_add(s, fp_of((uint64_t)i), i * 1000);
    /* longer: nothing is forgotten */
    tm_seen_configure(s, &(struct tm_seen_options){.window_us = 10000000, .memory_bytes_max = MIB}, 9000000);
    for (uint64_t i = 0; i < 1000; i++)
        assert_true(tm_seen_contains(s, fp_of(i)));
    /* shorter: what is not older than it and its 1/16 stays, the rest goes */
    tm_seen_configure(s, &(struct tm_seen_options){.window_us = 8000000, .memory_bytes_max = MIB}, 9000000);
    for (uint64_t i = 500; i < 1000; i++)
        assert_true(tm_seen_contains(s, fp_of(i)));
    for (uint64_t i = 0; i < 490; i++)
        assert_false(tm_seen_contains(s, fp_of(i)));
    tm_seen_destroy(s);
}

static void test_configure_memory(void **state)
{
    (void)state;
    struct tm_seen *s = make(1000000, 2 * MIB);
    for (uint64_t i = 0; i < 60000; i++)
        tm_seen_add(s, fp_of(i), 0);
    tm_seen_configure(s, &(struct tm_seen_options){.window_us = 1000000, .memory_bytes_max = 32 * MIB}, 1);
    for (uint64_t i = 60000; i < 600000; i++)
        tm_seen_add(s, fp_of(i), 1);
    for (uint64_t i = 0; i < 600000; i++)
        assert_true(tm_seen_contains(s, fp_of(i)));
    assert_int_equal(tm_seen_stats(s).evicted_early, 0);
    tm_seen_configure(s, &(struct tm_seen_options){.window_us = 1000000, .memory_bytes_max = 512 * KIB}, 2);
    for (uint64_t i = 600000; i < 700000; i++)
        tm_seen_add(s, fp_of(i), 2);
    assert_true(tm_seen_stats(s).memory_bytes <= 512 * KIB);
    assert_true(tm_seen_contains(s, fp_of(699999)));
    assert_false(tm_seen_contains(s, fp_of(0)));
    assert_int_equal(tm_seen_stats(s).evicted_early + tm_seen_stats(s).keys, 700000);
    tm_seen_destroy(s);
}

static void test_clear(void **state)
{
    (void)state;
    struct tm_seen *s = make(1000000, 32 * MIB);
    for (uint64_t i = 0; i < 300000; i++)
        tm_seen_add(s, fp_of(i), (int64_t)i);
    tm_seen_clear(s);
    assert_int_equal(tm_seen_stats(s).keys, 0);
    for (uint64_t i = 0; i < 300000; i++)
        assert_false(tm_seen_contains(s, fp_of(i)));
    for (uint64_t i = 0; i < 300000; i++)
        assert_true(tm_seen_add(s, fp_of(i), 300000));
    tm_seen_destroy(s);
}

static void test_clock_steps_back(void **state)
{
    (void)state;
    struct tm_seen *s = make(1000, 0);
    tm_seen_add(s, fp_of(1), 5000);
    tm_seen_add(s, fp_of(2), 1000); /* held: counts as 5000 */
    tm_seen_advance(s, 6000);
    assert_true(tm_seen_contains(s, fp_of(1)));
    assert_true(tm_seen_contains(s, fp_of(2)));
    tm_seen_advance(s, 6001 + 1000 / 14);
    assert_false(tm_seen_contains(s, fp_of(1)));
    assert_false(tm_seen_contains(s, fp_of(2)));
    tm_seen_add(s, fp_of(3), INT64_MIN);
    tm_seen_add(s, fp_of(4), INT64_MAX);
    assert_false(tm_seen_contains(s, fp_of(3)));
    assert_true(tm_seen_contains(s, fp_of(4)));
    tm_seen_destroy(s);
}

static void test_options_are_checked(void **state)
{
    (void)state;
    struct tm_seen *s;
    struct tm_error err;
    assert_int_equal(tm_seen_create(&(struct tm_seen_options){.window_us = 0}, &s, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "window"));
    struct tm_seen_options small = {.window_us = 1, .memory_bytes_max = 1000};
    assert_int_equal(tm_seen_create(&small, &s, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "1000 bytes"));
    tm_seen_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_first_time_only),
        cmocka_unit_test(test_near_misses_differ),
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_count_of_keys),
        cmocka_unit_test(test_bytes_per_key),
        cmocka_unit_test(test_memory_shrinks),
        cmocka_unit_test(test_memory_bound),
        cmocka_unit_test(test_memory_bound_in_one_instant),
        cmocka_unit_test(test_configure_window),
        cmocka_unit_test(test_configure_memory),
        cmocka_unit_test(test_clear),
        cmocka_unit_test(test_clock_steps_back),
        cmocka_unit_test(test_options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
