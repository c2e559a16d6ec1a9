/* What the intake numbers and drops on both sides of a moment at which a key changes, and what it says of how far it came. */
#include "../record/kalshi_defs.h"

#include "base/clock.h"
#include "engine/intake.h"
#include "record/keys.h"
#include "record/row.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* 2026-11-26T00:00:00Z, from `date -u -d 2026-11-26T00:00:00Z +%s`. */
#define T_US (INT64_C(1795651200) * TM_US_PER_S)

static const char *const coarse_key[] = {"ticker", "exchange_ts", "side", "price", NULL};

struct fixture {
    char dir[64];
    struct tm_plan *plan;
    struct tm_metrics *metrics;
    struct tm_journal *journal;
    struct tm_intake *intake;
    struct tm_feed *feed;
    struct tm_intake_time now;
    struct tm_error err;
    int64_t sequence;
};

static struct tm_plan *plan_of(bool counted_later)
{
    const struct tm_key_def later = {.from_us = T_US, .key = coarse_key, .occurrence = counted_later};
    struct tm_stream_def streams[LENGTH(kalshi_streams)];
    struct tm_plan_def def = kalshi_plan_def;
    struct tm_plan *plan;
    struct tm_error err;
    memcpy(streams, kalshi_streams, sizeof streams);
    streams[STREAM_DELTAS].later_keys = &later;
    streams[STREAM_DELTAS].later_key_count = 1;
    def.streams = streams;
    if (tm_plan_compile(&def, &plan, &err))
        fail_msg("%s", err.message);
    return plan;
}

static void open_intake(struct fixture *f)
{
    struct tm_journal_options journal = {.dir = f->dir};
    assert_int_equal(tm_journal_open(&journal, &f->journal, &f->err), TM_OK);
    struct tm_intake_options options = {.plan = f->plan, .journal = f->journal, .metrics = f->metrics};
    assert_int_equal(tm_intake_create(&options, &f->intake, &f->err), TM_OK);
    f->feed = tm_feed_create(f->intake, "test", f->now);
}

static void close_intake(struct fixture *f)
{
    tm_feed_destroy(f->intake, f->feed);
    tm_intake_destroy(f->intake);
    assert_int_equal(tm_journal_close(f->journal, &f->err), TM_OK);
}

static int setup_with(void **state, bool counted_later)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/tm_intake_XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->plan = plan_of(counted_later);
    f->metrics = tm_metrics_create();
    f->now = (struct tm_intake_time){.wall_us = T_US, .mono_us = 1};
    open_intake(f);
    *state = f;
    return 0;
}

static int setup(void **state)
{
    return setup_with(state, true);
}

static int setup_uncounted(void **state)
{
    return setup_with(state, false);
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[96];
    close_intake(f);
    tm_metrics_destroy(f->metrics);
    tm_plan_put(f->plan);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* ---- frames in, rows of the journal out ---- */

static void take(struct fixture *f, const char *ts, const char *delta)
{
    char frame[512] = {0};
    struct tm_intake_result result;
    int len = snprintf(frame, sizeof frame - 16,
                       "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":%lld,\"msg\":{\"market_ticker\":\"A\","
                       "\"price_dollars\":\"0.4700\",\"delta_fp\":\"%s\",\"side\":\"yes\",\"ts\":\"%s\"}}",
                       (long long)++f->sequence, delta, ts);
    assert_int_equal(tm_intake_message(f->intake, f->feed, frame, (size_t)len, f->now, &result), TM_OK);
    tm_intake_settle(f->intake);
    assert_int_equal(result.decoded.verdict, TM_VERDICT_ROWS);
}

/* "delta/occurrence" of each delta in the journal, in order. */
static void expect_journal(struct fixture *f, const char *expected)
{
    const struct tm_stream *s = tm_plan_stream(f->plan, STREAM_DELTAS);
    struct tm_journal_reader *reader;
    struct tm_journal_record record;
    struct tm_field fields[TM_COLUMNS_MAX];
    char text[512] = "";
    size_t len = 0;
    tm_journal_flush(f->journal);
    assert_int_equal(tm_journal_wait(f->journal, 30 * TM_US_PER_S), TM_OK);
    assert_int_equal(tm_journal_reader_open(f->journal, (struct tm_journal_position){0, 0}, &reader, &f->err), TM_OK);
    while (tm_journal_reader_next(reader, &record, &f->err) == 1) {
        if (strcmp(record.stream, "orderbook_deltas") != 0)
            continue;
        assert_int_equal(tm_tuple_split(record.tuple, record.len, fields, s->column_count), TM_OK);
        len += (size_t)snprintf(text + len, sizeof text - len, "%s%d/%d", len ? " " : "",
                                (int)tm_get_be64(fields[4].bytes), tm_get_be16(fields[5].bytes));
    }
    tm_journal_reader_close(reader);
    assert_string_equal(text, expected);
}

#define BEFORE "2026-11-25T23:59:59.999999Z"
#define MOMENT "2026-11-26T00:00:00Z"
#define AFTER "2026-11-26T00:00:00.000001Z"

/* By the first key equal deltas are counted; by the other the delta does not matter. */
static void test_counted_by_the_key_of_the_time(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        take(f, BEFORE, "1.00");
        take(f, BEFORE, "2.00");
        take(f, MOMENT, "1.00");
        take(f, MOMENT, "2.00");
        take(f, AFTER, "3.00");
    }
    expect_journal(f, "100/0 200/0 100/0 200/1 300/0 100/1 200/1 100/2 200/3 300/1");
}

/* A key without occurrence: one record of each key, numbered 0. */
static void test_uncounted_from_then_on(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 2; i++) {
        take(f, BEFORE, "1.00");
        take(f, MOMENT, "1.00");
        take(f, MOMENT, "2.00");
        take(f, AFTER, "2.00");
    }
    expect_journal(f, "100/0 100/0 200/0 100/1");
    assert_int_equal(tm_intake_stats(f->intake).duplicates, 4);
}

static int64_t newest_us(const struct fixture *f, size_t stream)
{
    return tm_newest_get(tm_intake_newest(f->intake), tm_plan_stream(f->plan, stream)->name);
}

static void test_newest(void **state)
{
    struct fixture *f = *state;
    assert_true(newest_us(f, STREAM_DELTAS) == INT64_MIN);
    take(f, BEFORE, "1.00");
    assert_true(newest_us(f, STREAM_DELTAS) == T_US - 1);
    take(f, AFTER, "1.00");
    take(f, MOMENT, "1.00");
    assert_true(newest_us(f, STREAM_DELTAS) == T_US + 1);
    take(f, "2026-12-03T00:00:00Z", "1.00"); /* a week ahead and more is nobody's future */
    take(f, "2262-01-01T00:00:00Z", "1.00");
    assert_true(newest_us(f, STREAM_DELTAS) == T_US + 1);
    assert_true(newest_us(f, STREAM_TRADES) == INT64_MIN);
    /* the next process knows that something was taken, but not of when */
    tm_journal_flush(f->journal);
    close_intake(f);
    open_intake(f);
    assert_true(newest_us(f, STREAM_DELTAS) == 0);
    assert_true(newest_us(f, STREAM_TRADES) == INT64_MIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_counted_by_the_key_of_the_time, setup, teardown),
        cmocka_unit_test_setup_teardown(test_uncounted_from_then_on, setup_uncounted, teardown),
        cmocka_unit_test_setup_teardown(test_newest, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
