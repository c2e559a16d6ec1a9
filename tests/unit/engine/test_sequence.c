/* The sequence check against a model that simply keeps the set of numbers it has seen. */
#include "engine/sequence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

static void in_order_is_next(void **state)
{
    (void)state;
    struct tm_sequence s;
    tm_sequence_init(&s, 1);
    for (int64_t n = 1; n <= 1000; n++)
        assert_int_equal(tm_sequence_check(&s, 7, n).verdict, TM_SEQUENCE_NEXT);
}

static void first_number_is_the_start(void **state)
{
    (void)state;
    struct tm_sequence s;
    tm_sequence_init(&s, 1);
    struct tm_sequence_result r = tm_sequence_check(&s, 1, 3);
    assert_int_equal(r.verdict, TM_SEQUENCE_GAP);
    assert_int_equal(r.first, 1);
    assert_int_equal(r.last, 2);
    tm_sequence_init(&s, 0); /* no known start: whatever comes first */
    assert_int_equal(tm_sequence_check(&s, 1, 500).verdict, TM_SEQUENCE_NEXT);
    assert_int_equal(tm_sequence_check(&s, 1, 501).verdict, TM_SEQUENCE_NEXT);
}

static void late_frames_fill_the_hole(void **state)
{
    (void)state;
    struct tm_sequence s;
    tm_sequence_init(&s, 1);
    (void)tm_sequence_check(&s, 1, 1);
    struct tm_sequence_result gap = tm_sequence_check(&s, 1, 5);
    assert_int_equal(gap.verdict, TM_SEQUENCE_GAP);
    assert_int_equal(gap.first, 2);
    assert_int_equal(gap.last, 4);
    struct tm_sequence_result r = tm_sequence_check(&s, 1, 3); /* the middle: leaves 2 and 4 */
    assert_int_equal(r.verdict, TM_SEQUENCE_LATE);
    assert_int_equal(r.gap, gap.gap);
    assert_false(r.filled);
    assert_int_equal(tm_sequence_check(&s, 1, 3).verdict, TM_SEQUENCE_REPEATED);
    assert_false(tm_sequence_check(&s, 1, 2).filled);
    r = tm_sequence_check(&s, 1, 4);
    assert_int_equal(r.verdict, TM_SEQUENCE_LATE);
    assert_true(r.filled);
    assert_int_equal(tm_sequence_check(&s, 1, 6).verdict, TM_SEQUENCE_NEXT);
}

static void subscriptions_count_apart(void **state)
{
    (void)state;
    struct tm_sequence s;
    tm_sequence_init(&s, 1);
    assert_int_equal(tm_sequence_check(&s, 1, 1).verdict, TM_SEQUENCE_NEXT);
    assert_int_equal(tm_sequence_check(&s, 2, 1).verdict, TM_SEQUENCE_NEXT);
    assert_int_equal(tm_sequence_check(&s, 1, 3).verdict, TM_SEQUENCE_GAP);
    assert_int_equal(tm_sequence_check(&s, 2, 2).verdict, TM_SEQUENCE_NEXT);
    tm_sequence_forget(&s, 1); /* ended: a new subscription of that id starts over, its holes are gone */
    assert_int_equal(tm_sequence_check(&s, 1, 1).verdict, TM_SEQUENCE_NEXT);
    assert_int_equal(tm_sequence_check(&s, 2, 3).verdict, TM_SEQUENCE_NEXT);
}

static void reset_forgets_all(void **state)
{
    (void)state;
    struct tm_sequence s;
    tm_sequence_init(&s, 1);
    (void)tm_sequence_check(&s, 1, 9);
    tm_sequence_reset(&s);
    assert_int_equal(tm_sequence_check(&s, 1, 1).verdict, TM_SEQUENCE_NEXT);
}

static void more_subscriptions_than_it_tracks(void **state)
{
    (void)state;
    struct tm_sequence s;
    tm_sequence_init(&s, 1);
    for (int64_t sid = 0; sid < TM_SEQUENCE_SUBSCRIPTIONS_MAX + 10; sid++)
        assert_int_equal(tm_sequence_check(&s, sid, 1).verdict, TM_SEQUENCE_NEXT);
}

#define NUMBERS 400

/* Shuffled delivery within a bounded distance, with repeats and losses: every number must be taken exactly once, and
 * gaps whose numbers all came late must be reported filled. */
static void any_order_takes_each_number_once(void **state)
{
    (void)state;
    srand(20261124);
    for (int round = 0; round < 500; round++) {
        struct tm_sequence s;
        tm_sequence_init(&s, 1);
        bool taken[NUMBERS + 1] = {false};
        int64_t order[NUMBERS * 2];
        size_t count = 0;
        for (int64_t n = 1; n <= NUMBERS; n++) {
            if (rand() % 20 == 0)
                continue; /* lost */
            order[count++] = n;
            if (rand() % 20 == 0)
                order[count++] = n; /* repeated */
        }
        for (size_t i = 0; i + 4 < count; i++) {
            size_t j = i + (size_t)(rand() % 4);
            int64_t swap = order[i];
            order[i] = order[j];
            order[j] = swap;
        }
        int64_t newest = 0;
        for (size_t i = 0; i < count; i++) {
            struct tm_sequence_result r = tm_sequence_check(&s, 1, order[i]);
            bool take = r.verdict != TM_SEQUENCE_REPEATED;
            assert_int_equal(take, !taken[order[i]]);
            assert_int_equal(r.verdict == TM_SEQUENCE_GAP, order[i] > newest + 1);
            taken[order[i]] = true;
            newest = order[i] > newest ? order[i] : newest;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(in_order_is_next),
        cmocka_unit_test(first_number_is_the_start),
        cmocka_unit_test(late_frames_fill_the_hole),
        cmocka_unit_test(subscriptions_count_apart),
        cmocka_unit_test(reset_forgets_all),
        cmocka_unit_test(more_subscriptions_than_it_tracks),
        cmocka_unit_test(any_order_takes_each_number_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
