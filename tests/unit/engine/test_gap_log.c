/* Gaps kept for who looks, and told as episodes. Pure, but for the log's lock. */
#include "engine/gap_log.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define S INT64_C(1000000)

static struct tm_gap_note note(uint8_t id, const char *lane, const char *reason, const char *connection, int64_t from,
                               int64_t to)
{
    struct tm_gap_note n = {.id = {id}, .from_us = from * S, .to_us = to * S};
    snprintf(n.lane, sizeof n.lane, "%s", lane);
    snprintf(n.reason, sizeof n.reason, "%s", reason);
    snprintf(n.connection, sizeof n.connection, "%s", connection);
    return n;
}

static void expect(const struct tm_gap_episode *e, const char *lane, const char *reason, int64_t from, int64_t to,
                   size_t gaps)
{
    assert_string_equal(e->lane, lane);
    assert_string_equal(e->reason, reason);
    assert_int_equal(e->from_us, from * S);
    assert_int_equal(e->to_us, to * S);
    assert_int_equal(e->gaps, gaps);
}

static void test_what_closes_replaces_what_opened(void **state)
{
    (void)state;
    static struct tm_gap_note out[TM_GAP_LOG_MAX];
    struct tm_gap_log *log = tm_gap_log_create();
    struct tm_gap gap;
    tm_gap_open(&gap, "disconnected", "orderbook_delta/17", 100 * S);
    tm_gap_log_gap(log, &gap, 0, NULL);
    assert_int_equal(tm_gap_log_read(log, out, TM_GAP_LOG_MAX), 1);
    assert_string_equal(out[0].lane, "orderbook_delta");
    assert_int_equal(out[0].to_us, 0);
    tm_gap_log_gap(log, &gap, 130 * S, "subscribed");
    assert_int_equal(tm_gap_log_read(log, out, TM_GAP_LOG_MAX), 1);
    assert_int_equal(out[0].to_us, 130 * S);
    assert_false(out[0].filled);
    gap.first = 5;
    gap.last = 7;
    tm_gap_log_gap(log, &gap, 131 * S, TM_GAP_LATE_FRAMES);
    assert_int_equal(tm_gap_log_read(log, out, TM_GAP_LOG_MAX), 1);
    assert_true(out[0].filled);
    assert_int_equal(out[0].records, 3);
    tm_gap_log_gap(NULL, &gap, 0, NULL);
    tm_gap_log_destroy(log);
}

static void test_the_oldest_go(void **state)
{
    (void)state;
    static struct tm_gap_note out[TM_GAP_LOG_MAX];
    struct tm_gap_log *log = tm_gap_log_create();
    for (int i = 0; i < TM_GAP_LOG_MAX + 300; i++) {
        struct tm_gap_note n = note(0, "a", "sequence", "a/1", i, i);
        memcpy(n.id, &i, sizeof i);
        tm_gap_log_note(log, &n);
    }
    assert_int_equal(tm_gap_log_read(log, out, TM_GAP_LOG_MAX), TM_GAP_LOG_MAX);
    assert_int_equal(out[0].from_us, 300 * S);
    assert_int_equal(out[TM_GAP_LOG_MAX - 1].from_us, (TM_GAP_LOG_MAX + 299) * S);
    assert_int_equal(tm_gap_log_read(log, out, 2), 2); /* the newest */
    assert_int_equal(out[1].from_us, (TM_GAP_LOG_MAX + 299) * S);
    struct tm_gap_note two[] = {note(1, "b", "x", "", 1, 2), note(2, "b", "y", "", 3, 4)};
    tm_gap_log_replace(log, two, 2);
    assert_int_equal(tm_gap_log_read(log, out, TM_GAP_LOG_MAX), 2);
    assert_string_equal(out[0].reason, "x");
    tm_gap_log_destroy(log);
}

static void test_episodes(void **state)
{
    (void)state;
    struct tm_gap_note notes[] = {
        note(1, "g1", "disconnected", "d/1", 100, 110), note(2, "g1", "disconnected", "d/2", 101, 120),
        note(3, "g1", "disconnected", "d/3", 121, 125), /* a second later: the same one */
        note(4, "g1", "disconnected", "d/1", 127, 128), /* more than that: another one */
        note(5, "g2", "disconnected", "d/1", 100, 110), note(6, "g1", "sequence", "d/1", 105, 105),
        note(7, "g1", "sequence", "d/2", 300, 300),     note(8, "g1", "disconnected", "d/9", 400, 0),
        note(9, "g1", "disconnected", "d/8", 410, 415), /* within one that is not over */
    };
    struct tm_gap_episode e[10];
    notes[6].filled = true;
    notes[5].records = 17;
    assert_int_equal(tm_gap_episodes(notes, 9, e, 10), 5);
    expect(&e[0], "g1", "disconnected", 400, 0, 2);
    expect(&e[1], "g1", "disconnected", 127, 128, 1);
    expect(&e[2], "g1", "sequence", 105, 105, 1);
    assert_int_equal(e[2].records, 17);
    bool g1_first = strcmp(e[3].lane, "g1") == 0; /* both begin at 100 */
    expect(&e[g1_first ? 3 : 4], "g1", "disconnected", 100, 125, 3);
    expect(&e[g1_first ? 4 : 3], "g2", "disconnected", 100, 110, 1);
    assert_int_equal(tm_gap_episodes(notes, 9, e, 2), 2);
    expect(&e[0], "g1", "disconnected", 400, 0, 2);
    assert_int_equal(tm_gap_episodes(notes, 0, e, 10), 0);
}

/* A process that was killed while a connection was down never says that it came back; its next life does. */
static void test_an_abandoned_gap_ends_with_the_next(void **state)
{
    (void)state;
    struct tm_gap_note notes[] = {note(1, "g1", "disconnected", "d/1", 100, 0),
                                  note(2, "g1", "stopped", "d/1", 150, 160),
                                  note(3, "g1", "disconnected", "d/2", 100, 0)};
    struct tm_gap_episode e[4];
    assert_int_equal(tm_gap_episodes(notes, 3, e, 4), 2);
    expect(&e[0], "g1", "disconnected", 100, 0, 2); /* d/2 is still down */
    struct tm_gap_note one[] = {note(1, "g1", "disconnected", "d/1", 100, 0),
                                note(2, "g1", "stopped", "d/1", 150, 160)};
    assert_int_equal(tm_gap_episodes(one, 2, e, 4), 2);
    expect(&e[0], "g1", "stopped", 150, 160, 1);
    expect(&e[1], "g1", "disconnected", 100, 150, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_closes_replaces_what_opened),
        cmocka_unit_test(test_the_oldest_go),
        cmocka_unit_test(test_episodes),
        cmocka_unit_test(test_an_abandoned_gap_ends_with_the_next),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
