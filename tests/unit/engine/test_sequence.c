/* The sequence check against a model that simply keeps the set of numbers it has seen. */
#include "engine/sequence.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <stdlib.h>

static struct tm_sequence s;

/* A frame that says no more than its number: the same number is the same frame. */
static struct tm_sequence_result check(int64_t sid, int64_t number)
{
    return tm_sequence_check(&s, sid, number, (uint64_t)number ^ (uint64_t)sid << 56);
}

/* Another frame with that number. */
static struct tm_sequence_result check_other(int64_t sid, int64_t number)
{
    return tm_sequence_check(&s, sid, number, ~(uint64_t)number);
}

static void in_order_is_next(void **state)
{
    (void)state;
    tm_sequence_init(&s, 1);
    for (int64_t n = 1; n <= 1000; n++)
        assert_int_equal(check(7, n).verdict, TM_SEQUENCE_NEXT);
}

static void first_number_is_the_start(void **state)
{
    (void)state;
    tm_sequence_init(&s, 1);
    struct tm_sequence_result r = check(1, 3);
    assert_int_equal(r.verdict, TM_SEQUENCE_GAP);
    assert_int_equal(r.first, 1);
    assert_int_equal(r.last, 2);
    tm_sequence_init(&s, 0); /* no known start: whatever comes first */
    assert_int_equal(check(1, 500).verdict, TM_SEQUENCE_NEXT);
    assert_int_equal(check(1, 501).verdict, TM_SEQUENCE_NEXT);
}

static void late_frames_fill_the_hole(void **state)
{
    (void)state;
    tm_sequence_init(&s, 1);
    (void)check(1, 1);
    struct tm_sequence_result gap = check(1, 5);
    assert_int_equal(gap.verdict, TM_SEQUENCE_GAP);
    assert_int_equal(gap.first, 2);
    assert_int_equal(gap.last, 4);
    struct tm_sequence_result r = check(1, 3); /* the middle: leaves 2 and 4 */
    assert_int_equal(r.verdict, TM_SEQUENCE_LATE);
    assert_int_equal(r.gap, gap.gap);
    assert_false(r.filled);
    assert_int_equal(check(1, 3).verdict, TM_SEQUENCE_REPEATED);
    assert_false(check(1, 2).filled);
    r = check(1, 4);
    assert_int_equal(r.verdict, TM_SEQUENCE_LATE);
    assert_true(r.filled);
    assert_int_equal(check(1, 6).verdict, TM_SEQUENCE_NEXT);
}

static void subscriptions_count_apart(void **state)
{
    (void)state;
    tm_sequence_init(&s, 1);
    assert_int_equal(check(1, 1).verdict, TM_SEQUENCE_NEXT);
    assert_int_equal(check(2, 1).verdict, TM_SEQUENCE_NEXT);
    assert_int_equal(check(1, 3).verdict, TM_SEQUENCE_GAP);
    assert_int_equal(check(2, 2).verdict, TM_SEQUENCE_NEXT);
    tm_sequence_forget(&s, 1); /* ended: a new subscription of that id starts over, its holes are gone */
    assert_int_equal(check(1, 1).verdict, TM_SEQUENCE_NEXT);
    assert_int_equal(check(2, 3).verdict, TM_SEQUENCE_NEXT);
}

static void reset_forgets_all(void **state)
{
    (void)state;
    tm_sequence_init(&s, 1);
    (void)check(1, 9);
    tm_sequence_reset(&s);
    assert_int_equal(check(1, 1).verdict, TM_SEQUENCE_NEXT);
}

static void more_subscriptions_than_it_tracks(void **state)
{
    (void)state;
    tm_sequence_init(&s, 1);
    for (int64_t sid = 0; sid < TM_SEQUENCE_SUBSCRIPTIONS_MAX + 10; sid++)
        assert_int_equal(check(sid, 1).verdict, TM_SEQUENCE_NEXT);
}

/* An exchange that fails over counts on from another number: not one of the frames may be taken for a repeat. */
static void a_counter_that_begins_again_drops_nothing(void **state)
{
    (void)state;
    tm_sequence_init(&s, 1);
    for (int64_t n = 1; n <= 50; n++)
        (void)check(1, n);
    (void)check(2, 1);
    struct tm_sequence_result r = check_other(1, 1);
    assert_int_equal(r.verdict, TM_SEQUENCE_BACK);
    assert_int_equal(r.first, 51);
    assert_int_equal(r.last, 1);
    for (int64_t n = 2; n <= 100; n++)
        assert_int_equal(check_other(1, n).verdict, TM_SEQUENCE_NEXT);
    assert_int_equal(check_other(1, 100).verdict, TM_SEQUENCE_REPEATED);
    assert_int_equal(check(2, 2).verdict, TM_SEQUENCE_NEXT); /* the others count on */
}

static void holes_before_the_new_beginning_are_gone(void **state)
{
    (void)state;
    tm_sequence_init(&s, 1);
    (void)check(1, 1);
    (void)check(1, 9); /* 2 to 8 are missing */
    assert_int_equal(check_other(1, 1).verdict, TM_SEQUENCE_BACK);
    assert_int_equal(check_other(1, 2).verdict, TM_SEQUENCE_NEXT);
}

/* What is older than the ring is not known to be a repeat, and so is taken. */
static void a_repeat_is_known_among_the_recent(void **state)
{
    (void)state;
    tm_sequence_init(&s, 1);
    for (int64_t n = 1; n <= TM_SEQUENCE_RECENT + 1; n++)
        (void)check(1, n);
    assert_int_equal(check(1, 2).verdict, TM_SEQUENCE_REPEATED);
    assert_int_equal(check(1, 1).verdict, TM_SEQUENCE_BACK);
}

static void numbers_that_nobody_counts_change_nothing(void **state)
{
    (void)state;
    static const int64_t absurd[] = {INT64_MIN, -1, TM_SEQUENCE_MAX + 1, INT64_MAX};
    for (int64_t start = 0; start <= 1; start++)
        for (size_t i = 0; i < sizeof absurd / sizeof *absurd; i++) {
            tm_sequence_init(&s, start);
            assert_int_equal(check(1, absurd[i]).verdict, TM_SEQUENCE_BACK);
            assert_int_equal(check(1, 1).verdict, TM_SEQUENCE_NEXT);
            assert_int_equal(check(1, absurd[i]).verdict, TM_SEQUENCE_BACK);
            assert_int_equal(check(1, 2).verdict, TM_SEQUENCE_NEXT);
        }
    tm_sequence_init(&s, 1);
    (void)check(1, 1);
    assert_int_equal(check(1, TM_SEQUENCE_MAX).verdict, TM_SEQUENCE_GAP);
    assert_int_equal(check(1, TM_SEQUENCE_MAX - 1).verdict, TM_SEQUENCE_LATE);
    assert_int_equal(check_other(1, 3).verdict, TM_SEQUENCE_LATE);
}

#define NUMBERS 400

/* Shuffled delivery within a bounded distance, with repeats and losses: every number must be taken exactly once, and
 * gaps whose numbers all came late must be reported filled. */
static void any_order_takes_each_number_once(void **state)
{
    (void)state;
    srand(20261124);
    for (int round = 0; round < 500; round++) {
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
            struct tm_sequence_result r = check(1, order[i]);
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
        cmocka_unit_test(a_counter_that_begins_again_drops_nothing),
        cmocka_unit_test(holes_before_the_new_beginning_are_gone),
        cmocka_unit_test(a_repeat_is_known_among_the_recent),
        cmocka_unit_test(numbers_that_nobody_counts_change_nothing),
        cmocka_unit_test(any_order_takes_each_number_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
