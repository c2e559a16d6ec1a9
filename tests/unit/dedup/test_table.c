/* The table itself, with hashes that no hash function would give. */
#include "model.h"

#include "dedup/table.h"

#include <stdlib.h>

#define MIB ((size_t)1 << 20)

static void check_order(const struct tm_table *t)
{
    uint64_t last = 0, count = 0;
    uint64_t cap = t->cap_low > t->cap_high ? t->cap_low : t->cap_high;
    for (uint64_t i = 0; i < cap + 1024; i++) {
        const uint64_t *slot = t->words + i * t->width;
        if (!slot[1])
            continue;
        count++;
        assert_true(slot[0] >= last);
        last = slot[0];
        for (const uint64_t *p = tm_table_home(t, slot[0]); p < slot; p += t->width)
            assert_true(p[1] != 0);
        assert_true(tm_table_home(t, slot[0]) <= slot);
    }
    assert_int_equal(count, t->ages.live + t->ages.unswept);
}

/* Growing, sweeping, shrinking, with the order checked all the way through every pass. */
static void test_order_holds_during_passes(void **state)
{
    (void)state;
    for (unsigned width = 2; width <= 4; width += 2) {
        struct tm_table t;
        bool is_new;
        assert_int_equal(tm_table_init(&t, width, 1000, 4 * MIB), TM_OK);
        struct dice d = {width};
        unsigned passes[3] = {0};
        for (uint64_t i = 0; i < 60000; i++) {
            int64_t now_us = (int64_t)(i < 20000 ? i / 100 : i / 10);
            tm_table_put(&t, fp_of(roll(&d, 30000) + (i > 40000 ? 100000 + i : 0)), now_us, &is_new);
            passes[t.pass]++;
            if (i % 397 == 0)
                check_order(&t);
        }
        assert_true(passes[TM_PASS_GROW] > 100 && passes[TM_PASS_SHRINK] > 100);
        tm_table_fini(&t);
    }
}

static void test_ends_of_the_hash(void **state)
{
    (void)state;
    struct tm_table t;
    bool is_new;
    assert_int_equal(tm_table_init(&t, 2, 1000, 4 * MIB), TM_OK);
    for (uint64_t i = 0; i < 40000; i++) {
        struct tm_fp fp = {.lo = mix(i), .hi = i % 100 == 0 ? 0 : i % 100 == 1 ? UINT64_MAX : mix(i + 1)};
        assert_non_null(tm_table_put(&t, fp, 0, &is_new));
        assert_true(is_new);
    }
    check_order(&t);
    for (uint64_t i = 0; i < 40000; i++) {
        struct tm_fp fp = {.lo = mix(i), .hi = i % 100 == 0 ? 0 : i % 100 == 1 ? UINT64_MAX : mix(i + 1)};
        assert_true(tm_table_contains(&t, fp));
    }
    tm_table_fini(&t);
}

/* Thousands of keys with one hash: longer than a step's memory, longer than the end of the array. Slow, but whatever
 * cannot be kept is counted, and nothing else is harmed. */
static void run_one_hash(uint64_t hi)
{
    struct tm_table t;
    bool is_new;
    uint64_t kept = 0;
    assert_int_equal(tm_table_init(&t, 2, 1000, 4 * MIB), TM_OK);
    for (uint64_t i = 0; i < 12000; i++)
        tm_table_put(&t, (struct tm_fp){.lo = mix(i), .hi = i % 2 ? hi : mix(i)}, 0, &is_new);
    check_order(&t);
    for (uint64_t i = 0; i < 12000; i++)
        kept += tm_table_contains(&t, (struct tm_fp){.lo = mix(i), .hi = i % 2 ? hi : mix(i)});
    assert_int_equal(t.ages.live, kept);
    assert_int_equal(t.ages.evicted, 12000 - kept);
    assert_true(kept >= 6000);
    tm_table_fini(&t);
}

static void test_one_hash(void **state)
{
    (void)state;
    run_one_hash(0);
    run_one_hash(UINT64_MAX / 2);
    run_one_hash(UINT64_MAX);
}

static void test_payload_travels_with_its_key(void **state)
{
    (void)state;
    struct tm_table t;
    bool is_new;
    assert_int_equal(tm_table_init(&t, 4, 1000, 8 * MIB), TM_OK);
    for (uint64_t i = 0; i < 50000; i++) {
        uint64_t *slot = tm_table_put(&t, fp_of(i), 0, &is_new);
        slot[2] = i;
        slot[3] = ~i;
    }
    for (uint64_t i = 0; i < 50000; i++) {
        const uint64_t *slot = tm_table_put(&t, fp_of(i), 0, &is_new);
        assert_false(is_new);
        assert_int_equal(slot[2], i);
        assert_int_equal(slot[3], ~i);
    }
    tm_table_fini(&t);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_order_holds_during_passes),
        cmocka_unit_test(test_ends_of_the_hash),
        cmocka_unit_test(test_one_hash),
        cmocka_unit_test(test_payload_travels_with_its_key),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
