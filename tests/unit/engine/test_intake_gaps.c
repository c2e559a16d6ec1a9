/* What the ledger is told: when a market is whole, what ends that, proofs of life, and what a restart finds in the journal. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/clock.h"
#include "base/endian.h"
#include "engine/heard.h"
#include "engine/intake.h"
#include "record/builtin.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND_US 1000000
#define PATH(name, json)                                                                                               \
    {                                                                                                                  \
        .column = (name), .from = TM_FROM_PATHS, .paths = {{.path = (json)}}, .path_count = 1                          \
    }

static const struct tm_column_def columns[] = {{.name = "ticker", .type = TM_TYPE_TEXT, .not_null = true},
                                               {.name = "n", .type = TM_TYPE_INT4}};
static const char *const key[] = {"ticker", "n", NULL};
static const struct tm_stream_def streams[] = {
    {.name = "deltas", .columns = columns, .column_count = 2, .key = key, .ticker_column = "ticker"},
    {.name = "books", .columns = columns, .column_count = 2, .observer = true, .ticker_column = "ticker"},
    {.name = "trades", .columns = columns, .column_count = 2, .key = key, .ticker_column = "ticker"},
};
static const struct tm_source_def sources[] = {PATH("ticker", "m"), PATH("n", "n")};
static const struct tm_kind_def kinds[] = {
    {.tag = "delta", .stream = "deltas", .sources = sources, .source_count = 2},
    {.tag = "book", .stream = "books", .opens = "deltas", .sources = sources, .source_count = 2},
    {.tag = "trade", .stream = "trades", .sources = sources, .source_count = 2},
    {.tag = "subscribed", .role = TM_ROLE_SUBSCRIBED, .channel_path = "channel"},
    {.tag = "unsubscribed", .role = TM_ROLE_UNSUBSCRIBED},
};
static const struct tm_plan_def def = {
    .gatherer = "g",
    .protocol = {.tag_path = "type", .subscription_path = "sid", .sequence_path = "seq"},
    .streams = streams,
    .stream_count = 3,
    .kinds = kinds,
    .kind_count = 5};

static struct {
    struct tm_plan *plan;
    struct tm_metrics *metrics;
    struct tm_intake *intake;
    struct tm_feed *feed;
    int answer;
    char told[1024]; /* "reason stream/ticker from-to; " of each ledger row, in seconds; * for NULL */
} bench;

static int64_t seconds(const struct tm_field *f)
{
    return f->len == 8 ? tm_unix_time_us((int64_t)tm_get_be64(f->bytes)) / SECOND_US : -1;
}

static void text(const struct tm_field *f, char out[40])
{
    (void)snprintf(out, 40, "%.*s", f->len < 0 ? 1 : (int)f->len, f->len < 0 ? "*" : (const char *)f->bytes);
}

static int take(void *arg, const struct tm_row *row)
{
    struct tm_field f[TM_COLUMNS_MAX];
    char stream[40], ticker[40], reason[40];
    (void)arg;
    if (bench.answer || strcmp(row->stream->name, TM_STREAM_GAPS) != 0)
        return bench.answer;
    assert_int_equal(tm_tuple_split(row->tuple, row->len, f, row->stream->column_count), TM_OK);
    text(&f[1], stream);
    text(&f[2], ticker);
    text(&f[5], reason);
    size_t len = strlen(bench.told);
    (void)snprintf(bench.told + len, sizeof bench.told - len, "%s %s/%s %lld-%lld; ", reason, stream, ticker,
                   (long long)seconds(&f[3]), (long long)seconds(&f[4]));
    return TM_OK;
}

static struct tm_intake_time at(int64_t s)
{
    return (struct tm_intake_time){.wall_us = s * SECOND_US, .mono_us = s * SECOND_US};
}

static int setup(void **state)
{
    struct tm_error err;
    (void)state;
    memset(&bench, 0, sizeof bench);
    bench.metrics = tm_metrics_create();
    if (tm_plan_compile(&def, &bench.plan, &err))
        fail_msg("%s", err.message);
    struct tm_intake_options options = {.plan = bench.plan, .take = take, .metrics = bench.metrics};
    return tm_intake_create(&options, &bench.intake, &err);
}

static int teardown(void **state)
{
    (void)state;
    tm_feed_destroy(bench.intake, bench.feed);
    tm_intake_destroy(bench.intake);
    tm_plan_put(bench.plan);
    tm_metrics_destroy(bench.metrics);
    return 0;
}

static void feed(int64_t s, const char *frame)
{
    char padded[200] = {0};
    struct tm_intake_result result;
    (void)snprintf(padded, sizeof padded - 16, "%s", frame);
    assert_int_equal(tm_intake_message(bench.intake, bench.feed, padded, strlen(padded), at(s), &result), TM_OK);
    tm_intake_settle(bench.intake);
}

static void expect(const char *told)
{
    assert_string_equal(bench.told, told);
    bench.told[0] = '\0';
}

/* Each market from its own book on, not from the connection's first data. */
static void test_a_market_is_whole_from_its_book_on(void **state)
{
    (void)state;
    bench.feed = tm_feed_create(bench.intake, "d/1", at(10));
    expect("start */* 10--1; ");
    feed(11, "{\"type\":\"subscribed\",\"channel\":\"delta\",\"sid\":1}");
    expect(""); /* says nothing about any market */
    feed(12, "{\"type\":\"book\",\"m\":\"A\",\"n\":1}");
    expect("start */* 10-12; whole deltas/A 12-12; ");
    feed(13, "{\"type\":\"delta\",\"m\":\"B\",\"n\":1}");
    expect("");
    feed(14, "{\"type\":\"book\",\"m\":\"B\",\"n\":1}");
    expect("whole deltas/B 14-14; ");
    tm_feed_interrupted(bench.intake, bench.feed, "disconnected", NULL, at(20));
    expect("disconnected */* 14--1; "); /* nothing was heard after the last message */
    feed(25, "{\"type\":\"book\",\"m\":\"B\",\"n\":1}");
    expect("disconnected */* 14-25; whole deltas/B 25-25; ");
}

static void test_a_channel_is_whole_when_it_is_subscribed(void **state)
{
    (void)state;
    bench.feed = tm_feed_create(bench.intake, "t/1", at(10));
    feed(11, "{\"type\":\"subscribed\",\"channel\":\"unheard of\",\"sid\":1}");
    expect("start */* 10--1; ");
    feed(12, "{\"type\":\"subscribed\",\"channel\":\"trade\",\"sid\":1}");
    expect("start */* 10-12; whole trades/* 12-12; ");
    /* lost again before any data came: that must be told, though no data ended the gap before */
    tm_feed_interrupted(bench.intake, bench.feed, "quiet", NULL, at(30));
    expect("quiet */* 12--1; ");
    feed(32, "{\"type\":\"subscribed\",\"channel\":\"trade\",\"sid\":1}");
    expect("quiet */* 12-32; whole trades/* 32-32; ");
    feed(40, "{\"type\":\"unsubscribed\",\"sid\":1}");
    expect("unsubscribed */* 40--1; ");
}

static void test_chosen_markets_claim_nothing_unseen(void **state)
{
    (void)state;
    bench.feed = tm_feed_create(bench.intake, "t/1", at(10));
    tm_feed_set_listed(bench.intake, bench.feed, true, at(10));
    feed(12, "{\"type\":\"subscribed\",\"channel\":\"trade\",\"sid\":1}");
    expect("start */* 10--1; ");
    tm_feed_set_listed(bench.intake, bench.feed, false, at(13));
    feed(14, "{\"type\":\"subscribed\",\"channel\":\"trade\",\"sid\":2}");
    expect("start */* 10-14; whole trades/* 14-14; ");
    tm_feed_set_listed(bench.intake, bench.feed, true, at(15)); /* all markets until now, from now on some */
    expect("unsubscribed */* 15--1; ");
    tm_feed_drop_market(bench.intake, bench.feed, "ABC", 2, at(16));
    expect("unsubscribed */AB 16--1; ");
}

/* While the journal refuses, a connection is lost; when it has room again the ledger must know of both. */
static void test_what_was_refused_is_said_again(void **state)
{
    (void)state;
    bench.feed = tm_feed_create(bench.intake, "d/1", at(10));
    feed(12, "{\"type\":\"book\",\"m\":\"A\",\"n\":1}");
    bench.told[0] = '\0';
    bench.answer = TM_EFULL;
    feed(20, "{\"type\":\"delta\",\"m\":\"A\",\"n\":1}");
    tm_feed_interrupted(bench.intake, bench.feed, "disconnected", NULL, at(21));
    expect("");
    bench.answer = TM_OK;
    tm_intake_heartbeat(bench.intake, at(30)); /* no data comes to try it with */
    expect("journal full */* 20-30; disconnected */* 20--1; ");
    assert_false(tm_intake_stats(bench.intake).discarding);
}

static void test_a_restart_tells_what_it_did_not_hear(void **state)
{
    (void)state;
    tm_intake_resume(bench.intake, 50 * SECOND_US, at(90));
    expect("stopped */* 50-90; ");
    bench.feed = tm_feed_create(bench.intake, "d/1", at(91));
    expect("stopped */* 50--1; ");
    feed(95, "{\"type\":\"book\",\"m\":\"A\",\"n\":1}");
    expect("stopped */* 50-95; whole deltas/A 95-95; ");
    tm_feed_interrupted(bench.intake, bench.feed, "quiet", NULL, at(99)); /* a feed's second gap is its own */
    expect("quiet */* 95--1; ");
}

/* A counter that begins again: no row is dropped for its number, and nothing is whole until data has come once more. */
static void test_numbers_that_go_back_end_the_claims(void **state)
{
    (void)state;
    bench.feed = tm_feed_create(bench.intake, "d/1", at(10));
    bench.told[0] = '\0';
    feed(12, "{\"type\":\"book\",\"sid\":1,\"seq\":1,\"m\":\"A\",\"n\":1}");
    feed(13, "{\"type\":\"delta\",\"sid\":1,\"seq\":2,\"m\":\"A\",\"n\":2}");
    expect("start */* 10-12; whole deltas/A 12-12; ");
    feed(14, "{\"type\":\"delta\",\"sid\":1,\"seq\":2,\"m\":\"A\",\"n\":2}"); /* the same frame twice */
    expect("");
    assert_int_equal(tm_intake_stats(bench.intake).repeated_frames, 1);
    uint64_t rows = tm_feed_rows(bench.feed);
    feed(15, "{\"type\":\"delta\",\"sid\":1,\"seq\":1,\"m\":\"A\",\"n\":3}");
    expect("sequence went back */* 13--1; sequence went back */* 13-15; ");
    feed(16, "{\"type\":\"delta\",\"sid\":1,\"seq\":2,\"m\":\"A\",\"n\":4}");
    feed(17, "{\"type\":\"book\",\"sid\":1,\"seq\":3,\"m\":\"A\",\"n\":1}");
    expect("whole deltas/A 17-17; ");
    assert_int_equal(tm_feed_rows(bench.feed) - rows, 3);
    assert_int_equal(tm_intake_stats(bench.intake).repeated_frames, 1);
}

/* ---- the journal ---- */

static struct tm_journal *open_journal(const char *dir)
{
    struct tm_journal *j = NULL;
    struct tm_error err;
    struct tm_journal_options options = {.dir = dir};
    if (tm_journal_open(&options, &j, &err))
        fail_msg("%s", err.message);
    return j;
}

/* A life of a gatherer: a row, and `beats` heartbeats, a second apart from `from` on. */
static void live(const char *dir, int64_t from, int beats)
{
    struct tm_error err;
    struct tm_intake *in = NULL;
    struct tm_journal *j = open_journal(dir);
    struct tm_intake_options options = {.plan = bench.plan, .journal = j, .metrics = bench.metrics};
    assert_int_equal(tm_intake_create(&options, &in, &err), TM_OK);
    struct tm_feed *one = tm_feed_create(in, "d/1", at(from));
    for (int i = 0; i < beats; i++)
        tm_intake_heartbeat(in, at(from + i));
    tm_journal_flush(j);
    tm_feed_destroy(in, one);
    tm_intake_destroy(in);
    assert_int_equal(tm_journal_close(j, &err), TM_OK);
}

static int64_t heard_s(const char *dir)
{
    struct tm_error err;
    struct tm_journal *j = open_journal(dir);
    int64_t us = tm_heard_until_us(j, bench.plan);
    assert_int_equal(tm_journal_close(j, &err), TM_OK);
    return us == TM_HEARD_UNKNOWN ? -1 : us / SECOND_US;
}

static void test_the_journal_tells_what_was_heard(void **state)
{
    char dir[] = "/tmp/tidemill-heard-XXXXXX", command[64];
    (void)state;
    assert_non_null(mkdtemp(dir));
    assert_int_equal(heard_s(dir), 0); /* new: nothing was missed */
    live(dir, 500, 1);
    assert_int_equal(heard_s(dir), -1); /* somebody lived, and nobody can tell until when */
    live(dir, 1000, 4);
    assert_int_equal(heard_s(dir),
                     1002); /* the beat before the last one: all that came until then has been looked at */
    live(dir, 2000, 1);     /* too short a life to say anything */
    assert_int_equal(heard_s(dir), 1002);
    live(dir, 3000, 3);
    assert_int_equal(heard_s(dir), 3001);
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

/* Between rows that still fit and rows that do not, a full journal is one gap and not one for each of them. */
static void test_a_full_journal_is_full_once(void **state)
{
    char dir[] = "/tmp/tidemill-full-XXXXXX", command[64], frame[700], ticker[500];
    struct tm_error err;
    struct tm_intake *in = NULL;
    struct tm_intake_result result;
    (void)state;
    assert_non_null(mkdtemp(dir));
    memset(ticker, 'T', sizeof ticker);
    struct tm_journal_options o = {.dir = dir, .group_us = 3600 * INT64_C(1000000), .buffer_bytes_max = 1 << 16};
    struct tm_journal *j = NULL;
    assert_int_equal(tm_journal_open(&o, &j, &err), TM_OK);
    struct tm_intake_options options = {.plan = bench.plan, .journal = j, .metrics = bench.metrics};
    assert_int_equal(tm_intake_create(&options, &in, &err), TM_OK);
    struct tm_feed *one = tm_feed_create(in, "d/1", at(10));
    for (int n = 0; n < 5000; n++) {
        bool fills = tm_journal_stats(j).buffered_bytes + 500 < o.buffer_bytes_max; /* a large row would not fit then */
        (void)snprintf(frame, sizeof frame - 16, "{\"type\":\"trade\",\"m\":\"%.*s\",\"n\":%d}",
                       fills || n % 2 ? 1 : 500, ticker, n);
        assert_int_equal(tm_intake_message(in, one, frame, strlen(frame), at(11), &result), TM_OK);
        tm_intake_settle(in);
    }
    struct tm_intake_stats stats = tm_intake_stats(in);
    assert_true(stats.discarding && stats.discarded > 100);
    assert_int_equal(stats.gaps, 2); /* of the start, and this one */
    tm_journal_flush(j);
    assert_int_equal(tm_journal_wait(j, 20 * SECOND_US), TM_OK);
    tm_intake_heartbeat(in, at(12));
    assert_false(tm_intake_stats(in).discarding);
    tm_feed_destroy(in, one);
    tm_intake_destroy(in);
    assert_int_equal(tm_journal_close(j, &err), TM_OK);
    (void)snprintf(command, sizeof command, "rm -r %s", dir);
    assert_int_equal(system(command), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_a_market_is_whole_from_its_book_on),   TEST(test_a_channel_is_whole_when_it_is_subscribed),
        TEST(test_chosen_markets_claim_nothing_unseen),  TEST(test_what_was_refused_is_said_again),
        TEST(test_a_restart_tells_what_it_did_not_hear), TEST(test_numbers_that_go_back_end_the_claims),
        TEST(test_the_journal_tells_what_was_heard),     TEST(test_a_full_journal_is_full_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
