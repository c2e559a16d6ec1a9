/* Taps: rows that are journaled are shown, bounded, and whoever offers them never waits. */
#include "../base/unit.h"

#include "engine/intake.h"
#include "engine/tap.h"

#include <pthread.h>
#include <stdio.h>

static const struct tm_column_def columns[] = {
    {.name = "id", .type = TM_TYPE_INT8, .not_null = true},
    {.name = "ticker", .type = TM_TYPE_TEXT},
};
#define FROM(name)                                                                                                     \
    {                                                                                                                  \
        .column = (name), .from = TM_FROM_PATHS, .paths = {{.path = (name)}}, .path_count = 1                          \
    }
static const struct tm_source_def sources[] = {FROM("id"), FROM("ticker")};
static const char *const key[] = {"id", NULL};
static const struct tm_stream_def stream = {
    .name = "things", .columns = columns, .column_count = 2, .key = key, .ticker_column = "ticker"};
static const struct tm_kind_def kind = {.tag = "k", .stream = "things", .sources = sources, .source_count = 2};

static struct tm_plan *plan;
static struct tm_metrics *metrics;
static struct tm_taps *taps;
static struct tm_intake *intake;
static struct tm_feed *feed;
static _Atomic int woken;
static int answer; /* of whoever takes the rows */

static int take(void *arg, const struct tm_row *row)
{
    (void)arg;
    (void)row;
    return answer;
}

static void wake(void *arg)
{
    (void)arg;
    woken++;
}

static int setup(void **state)
{
    (void)state;
    struct tm_plan_def def = {.gatherer = "g",
                              .protocol = {.tag_path = "type"},
                              .streams = &stream,
                              .stream_count = 1,
                              .kinds = &kind,
                              .kind_count = 1};
    struct tm_error err;
    metrics = tm_metrics_create();
    taps = tm_taps_create();
    woken = 0;
    answer = TM_OK;
    if (tm_plan_compile(&def, &plan, &err) < 0)
        return -1;
    struct tm_intake_options options = {.plan = plan, .take = take, .metrics = metrics, .taps = taps};
    if (tm_intake_create(&options, &intake, &err) < 0)
        return -1;
    feed = tm_feed_create(intake, "f", (struct tm_intake_time){.wall_us = 1, .mono_us = 1});
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tm_feed_destroy(intake, feed);
    tm_intake_destroy(intake);
    tm_taps_destroy(taps);
    tm_plan_put(plan);
    tm_metrics_destroy(metrics);
    return 0;
}

static void send_row(int id, const char *ticker)
{
    char padded[200] = {0};
    struct tm_intake_result result;
    struct tm_intake_time now = {.wall_us = 1000, .mono_us = 1000};
    int len = snprintf(padded, sizeof padded - 16, "{\"type\":\"k\",\"id\":%d,\"ticker\":\"%s\"}", id, ticker);
    assert_int_equal(tm_intake_message(intake, feed, padded, (size_t)len, now, &result), TM_OK);
    tm_intake_settle(intake);
}

static struct tm_tap *open_tap(const char *name, const char *ticker)
{
    struct tm_tap *tap;
    struct tm_error err;
    struct tm_tap_options options = {.stream = name, .ticker = ticker, .wake = wake};
    assert_int_equal(tm_tap_open(taps, &options, &tap, &err), TM_OK);
    return tap;
}

/* Without a journal seq is 0. */
static void expect(struct tm_tap *tap, const char *json)
{
    struct tm_buf out = {0};
    int rc = tm_tap_take(taps, tap, &out);
    assert_int_equal(rc, json ? 1 : 0);
    if (json)
        assert_string_equal(tm_buf_cstr(&out), json);
    tm_buf_fini(&out);
}

static void test_rows_are_shown(void **state)
{
    (void)state;
    send_row(1, "A"); /* nobody looks */
    struct tm_tap *tap = open_tap("things", NULL), *other = open_tap("gaps", NULL);
    send_row(2, "B");
    send_row(2, "B"); /* a duplicate */
    answer = TM_EFULL;
    send_row(3, "C"); /* refused: not taken, so not shown */
    answer = TM_OK;
    send_row(4, "D\\u00e9\\n");
    expect(tap, "{\"id\":2,\"ticker\":\"B\",\"seq\":0}");
    expect(tap, "{\"id\":4,\"ticker\":\"D\xc3\xa9\\u000a\",\"seq\":0}");
    expect(tap, NULL);
    assert_true(woken >= 2);
    assert_int_equal(tm_tap_left_out(taps, tap), 0);
    tm_tap_close(taps, tap);
    tm_tap_close(taps, other);
    assert_false(tm_taps_wanted(taps));
    send_row(5, "E");
}

static void test_of_one_market(void **state)
{
    (void)state;
    struct tm_tap *exact = open_tap("things", "KX-1"), *prefix = open_tap("things", "KX*"),
                  *all = open_tap("things", "*");
    send_row(1, "KX-1");
    send_row(2, "KX-10");
    send_row(3, "K");
    send_row(4, "");
    expect(exact, "{\"id\":1,\"ticker\":\"KX-1\",\"seq\":0}");
    expect(exact, NULL);
    expect(prefix, "{\"id\":1,\"ticker\":\"KX-1\",\"seq\":0}");
    expect(prefix, "{\"id\":2,\"ticker\":\"KX-10\",\"seq\":0}");
    expect(prefix, NULL);
    for (int i = 0; i < 4; i++) {
        struct tm_buf out = {0};
        assert_int_equal(tm_tap_take(taps, all, &out), 1);
        tm_buf_fini(&out);
    }
    expect(all, NULL);
    tm_tap_close(taps, exact);
    tm_tap_close(taps, prefix);
    tm_tap_close(taps, all);
}

static void test_what_is_not_read_is_left_out(void **state)
{
    (void)state;
    struct tm_tap *tap = open_tap("things", NULL);
    for (int i = 0; i < TM_TAP_ROWS_MAX + 25; i++)
        send_row(i, "A");
    assert_int_equal(tm_tap_left_out(taps, tap), 25);
    expect(tap, "{\"id\":0,\"ticker\":\"A\",\"seq\":0}");
    send_row(9999, "A");
    assert_int_equal(tm_tap_left_out(taps, tap), 25);
    tm_tap_close(taps, tap); /* with rows in it */
}

static void test_taps_are_bounded(void **state)
{
    (void)state;
    struct tm_tap *open[TM_TAPS_MAX], *more;
    struct tm_tap_options options = {.stream = "things", .wake = wake};
    struct tm_error err;
    for (int i = 0; i < TM_TAPS_MAX; i++)
        open[i] = open_tap("things", NULL);
    assert_int_equal(tm_tap_open(taps, &options, &more, &err), TM_EFULL);
    for (int i = 0; i < TM_TAPS_MAX; i++)
        tm_tap_close(taps, open[i]);
}

/* The plan that a row was taken by may be gone when somebody reads it. */
static void test_rows_outlive_their_plan(void **state)
{
    (void)state;
    struct tm_tap *tap = open_tap("things", NULL);
    send_row(1, "A");
    tm_feed_destroy(intake, feed);
    tm_intake_destroy(intake);
    tm_plan_put(plan);
    expect(tap, "{\"id\":1,\"ticker\":\"A\",\"seq\":0}");
    tm_tap_close(taps, tap);
    tm_taps_destroy(taps);
    tm_metrics_destroy(metrics);
    assert_int_equal(setup(state), 0);
}

static void *offer_many(void *arg)
{
    (void)arg;
    for (int i = 0; i < 20000; i++)
        send_row(i, "A");
    return NULL;
}

static void test_from_another_thread(void **state)
{
    (void)state;
    pthread_t thread;
    uint64_t shown = 0, opened = 0;
    assert_int_equal(pthread_create(&thread, NULL, offer_many, NULL), 0);
    for (int round = 0; round < 200; round++) {
        struct tm_tap *tap = open_tap("things", NULL);
        struct tm_buf out = {0};
        opened++;
        for (int i = 0; i < 50; i++)
            shown += tm_tap_take(taps, tap, &out) == 1;
        tm_buf_fini(&out);
        tm_tap_close(taps, tap);
    }
    pthread_join(thread, NULL);
    assert_int_equal(opened, 200);
    assert_true(shown <= 20000);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rows_are_shown),   TEST(test_of_one_market),           TEST(test_what_is_not_read_is_left_out),
        TEST(test_taps_are_bounded), TEST(test_rows_outlive_their_plan), TEST(test_from_another_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
