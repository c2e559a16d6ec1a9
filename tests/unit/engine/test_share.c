/* Whose each shard is: by a second implementation's properties, not by its own numbers (engine/share.h). */
#include "engine/share.h"
#include "base/hash.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static unsigned held_by(const int owner[], unsigned shards, int member)
{
    unsigned n = 0;
    for (unsigned i = 0; i < shards; i++)
        n += owner[i] == member;
    return n;
}

static unsigned moved(const struct tm_share_view *v, const int owner[])
{
    unsigned n = 0;
    for (unsigned i = 0; i < v->shards; i++)
        n += v->holder[i] >= 0 && owner[i] != v->holder[i];
    return n;
}

static struct tm_share_view fresh(unsigned shards, size_t members)
{
    struct tm_share_view v = {.shards = shards, .members = members};
    for (size_t m = 0; m < members; m++)
        v.ripe[m] = true;
    for (unsigned i = 0; i < shards; i++)
        v.holder[i] = -1;
    return v;
}

/* Everything has an owner, nobody has two more than another, and what did not have to move did not. */
static void check(const struct tm_share_view *v)
{
    int owner[TM_SHARDS_MAX];
    unsigned low = v->shards, high = 0, above = 0;
    tm_share(v, owner);
    for (unsigned i = 0; i < v->shards; i++)
        assert_in_range(owner[i], 0, v->members - 1);
    for (size_t m = 0; m < v->members; m++) {
        unsigned n = held_by(owner, v->shards, (int)m), had = held_by(v->holder, v->shards, (int)m);
        low = n < low ? n : low;
        high = n > high ? n : high;
        above += had > n ? had - n : 0;
    }
    assert_true(high - low <= 1);
    assert_int_equal(moved(v, owner), above); /* only what its holder has too many of */
}

static void test_everybody_has_a_fair_share_and_the_fewest_move(void **state)
{
    (void)state;
    srand(20261126);
    for (int round = 0; round < 20000; round++) {
        struct tm_share_view v = fresh(1 + (unsigned)rand() % TM_SHARDS_MAX, 1 + (size_t)rand() % 8);
        for (unsigned i = 0; i < v.shards; i++)
            v.holder[i] = rand() % ((int)v.members + 1) - 1;
        check(&v);
    }
}

/* What was decided stays decided: no thrashing. */
static void test_a_second_look_moves_nothing(void **state)
{
    (void)state;
    srand(7);
    for (int round = 0; round < 5000; round++) {
        struct tm_share_view v = fresh(1 + (unsigned)rand() % TM_SHARDS_MAX, 1 + (size_t)rand() % 8);
        int owner[TM_SHARDS_MAX], again[TM_SHARDS_MAX];
        tm_share(&v, owner);
        memcpy(v.holder, owner, sizeof v.holder);
        tm_share(&v, again);
        assert_memory_equal(owner, again, v.shards * sizeof *owner);
    }
}

static void test_a_dead_holder_costs_only_its_own(void **state)
{
    (void)state;
    struct tm_share_view v = fresh(6, 2);
    int owner[TM_SHARDS_MAX];
    const int left[] = {0, -1, 1, 0, -1, 1}; /* the third had 1 and 4 */
    memcpy(v.holder, left, sizeof left);
    tm_share(&v, owner);
    assert_int_equal(moved(&v, owner), 0);
    assert_int_equal(held_by(owner, 6, 0), 3);
    assert_int_equal(held_by(owner, 6, 1), 3);
}

static void test_a_newcomer_waits_until_it_is_ripe(void **state)
{
    (void)state;
    struct tm_share_view v = fresh(4, 2);
    int owner[TM_SHARDS_MAX];
    memset(v.holder, 0, sizeof v.holder); /* all of them the first one's */
    v.ripe[1] = false;
    tm_share(&v, owner);
    assert_int_equal(held_by(owner, 4, 0), 4);
    v.ripe[1] = true;
    tm_share(&v, owner);
    assert_int_equal(held_by(owner, 4, 1), 2);
    /* with nobody else there it need not wait */
    struct tm_share_view alone = fresh(4, 1);
    alone.ripe[0] = false;
    tm_share(&alone, owner);
    assert_int_equal(held_by(owner, 4, 0), 4);
}

static void test_more_processes_than_shards_leave_some_without(void **state)
{
    (void)state;
    struct tm_share_view v = fresh(2, 5);
    v.holder[0] = 4, v.holder[1] = 3;
    int owner[TM_SHARDS_MAX];
    tm_share(&v, owner);
    assert_int_equal(owner[0], 4);
    assert_int_equal(owner[1], 3);
}

/* The numbers are kept in production as cursors: they may never change. Computed by Debian's libxxhash 0.8.1 itself. */
static void test_the_shard_of_a_ticker_is_fixed_for_ever(void **state)
{
    (void)state;
    static const struct {
        const char *ticker;
        uint64_t hash;
    } known[] = {{"", UINT64_C(0x2d06800538d394c2)},
                 {"A", UINT64_C(0xd0d496e05c553485)},
                 {"INXD-26NOV26-B5825", UINT64_C(0x9fbd61810d1c1041)},
                 {"KXBTCD-26NOV2617-T90249.99", UINT64_C(0xf31b3fdf120a13d3)}};
    struct tm_stream spread = {.ticker_column = 0}, none = {.ticker_column = -1};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        struct tm_field f = {.bytes = (const uint8_t *)known[i].ticker, .len = (int32_t)strlen(known[i].ticker)};
        for (unsigned shards = 1; shards <= TM_SHARDS_MAX; shards++)
            assert_int_equal(tm_share_of(&spread, &f, shards), known[i].hash % shards);
        assert_int_equal(tm_share_of(&none, &f, 8), 0);
    }
    struct tm_field null = {.len = -1};
    assert_int_equal(tm_share_of(&spread, &null, 8), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_everybody_has_a_fair_share_and_the_fewest_move),
        cmocka_unit_test(test_a_second_look_moves_nothing),
        cmocka_unit_test(test_a_dead_holder_costs_only_its_own),
        cmocka_unit_test(test_a_newcomer_waits_until_it_is_ripe),
        cmocka_unit_test(test_more_processes_than_shards_leave_some_without),
        cmocka_unit_test(test_the_shard_of_a_ticker_is_fixed_for_ever),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
