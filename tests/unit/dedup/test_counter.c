#include "model.h"

#include "dedup/counter.h"

#include <stdlib.h>

static struct tm_counter *make(int64_t window_us, size_t memory)
{
    struct tm_counter *c = NULL;
    assert_int_equal(tm_counter_create(window_us, memory, &c), TM_OK);
    return c;
}

static void test_counts_from_zero(void **state)
{
    (void)state;
    struct tm_counter *c = make(1000, 0);
    for (uint32_t n = 0; n < 40; n++) {
        assert_int_equal(tm_counter_next(c, fp_of(1), 10), n);
        assert_int_equal(tm_counter_next(c, fp_of(2), 10), n);
    }
    assert_int_equal(tm_counter_keys(c), 2);
    tm_counter_destroy(c);
}

static void test_window_is_exact(void **state)
{
    (void)state;
    struct tm_counter *c = make(1000, 0);
    assert_int_equal(tm_counter_next(c, fp_of(1), 0), 0);
    assert_int_equal(tm_counter_next(c, fp_of(1), 999), 1);  /* 999 younger than 1000 */
    assert_int_equal(tm_counter_next(c, fp_of(1), 1998), 2); /* counted from the last sighting */
    assert_int_equal(tm_counter_next(c, fp_of(1), 2998), 0); /* 1000 is not younger */
    assert_int_equal(tm_counter_next(c, fp_of(1), 2998), 1);
    tm_counter_destroy(c);
}

static void test_cap(void **state)
{
    (void)state;
    struct tm_counter *c = make(1000, 0);
    for (uint32_t n = 0; n < 32767; n++)
        assert_int_equal(tm_counter_next(c, fp_of(1), 0), n);
    for (int i = 0; i < 10; i++)
        assert_int_equal(tm_counter_next(c, fp_of(1), 0), 32767);
    tm_counter_destroy(c);
}

struct sighting {
    int64_t at_us;
    uint32_t number;
};

static void test_against_model(void **state)
{
    (void)state;
    enum { KEYS = 30000, OPS = 1000000 };
    const int64_t window_us = 100000;
    struct sighting *model = malloc(KEYS * sizeof *model);
    assert_non_null(model);
    for (int i = 0; i < KEYS; i++)
        model[i].at_us = NEVER;
    struct dice d = {77};
    struct tm_counter *c = make(window_us, 0);
    int64_t now_us = 0;
    for (int i = 0; i < OPS; i++) {
        now_us += (int64_t)roll(&d, i > OPS / 2 ? 30 : 3);
        uint64_t key = roll(&d, 4) ? roll(&d, KEYS) : roll(&d, 50);
        struct sighting *m = &model[key];
        bool counts_on = m->at_us != NEVER && now_us - m->at_us < window_us;
        m->number = counts_on ? m->number + 1 : 0;
        m->at_us = now_us;
        uint32_t expected = m->number > 32767 ? 32767 : m->number;
        assert_int_equal(tm_counter_next(c, fp_of(key), now_us), expected);
    }
    assert_int_equal(tm_counter_evicted_early(c), 0);
    tm_counter_destroy(c);
    free(model);
}

static void test_memory_follows_the_window(void **state)
{
    (void)state;
    struct tm_counter *c = make(1000, 0);
    uint64_t least = tm_counter_memory(c);
    for (uint64_t i = 0; i < 300000; i++)
        tm_counter_next(c, fp_of(i), 0);
    assert_int_equal(tm_counter_keys(c), 300000);
    assert_true(tm_counter_memory(c) <= 300000 * 64 + least);
    for (uint64_t i = 0; i < 300000; i++)
        tm_counter_next(c, fp_of(1000000), 5000);
    assert_int_equal(tm_counter_keys(c), 1);
    assert_true(tm_counter_memory(c) <= 2 * least);
    tm_counter_destroy(c);
}

static void test_memory_bound(void **state)
{
    (void)state;
    struct tm_counter *c = make(1000000, 1 << 20);
    for (uint64_t i = 0; i < 200000; i++) {
        tm_counter_next(c, fp_of(i), (int64_t)i);
        assert_true(tm_counter_memory(c) <= 1 << 20);
    }
    assert_int_equal(tm_counter_evicted_early(c) + tm_counter_keys(c), 200000);
    assert_int_equal(tm_counter_next(c, fp_of(199999), 200000), 1); /* the youngest is remembered */
    assert_int_equal(tm_counter_next(c, fp_of(0), 200000), 0);      /* the oldest is not */
    tm_counter_destroy(c);
}

static void test_clock_steps_back(void **state)
{
    (void)state;
    struct tm_counter *c = make(1000, 0);
    assert_int_equal(tm_counter_next(c, fp_of(1), 10000), 0);
    assert_int_equal(tm_counter_next(c, fp_of(1), 3), 1);
    assert_int_equal(tm_counter_next(c, fp_of(1), 10999), 2); /* the step back did not age it */
    tm_counter_destroy(c);
}

static void test_options_are_checked(void **state)
{
    (void)state;
    struct tm_counter *c;
    assert_int_equal(tm_counter_create(0, 0, &c), TM_EINVAL);
    assert_int_equal(tm_counter_create(1, 1000, &c), TM_EINVAL);
    tm_counter_destroy(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_counts_from_zero),
        cmocka_unit_test(test_window_is_exact),
        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_against_model),
        cmocka_unit_test(test_memory_follows_the_window),
        cmocka_unit_test(test_memory_bound),
        cmocka_unit_test(test_clock_steps_back),
        cmocka_unit_test(test_options_are_checked),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
