/* Intake without a journal: what replay and check run. The journal's side is tested with the gatherer. */
#include "engine/intake.h"

#include "base/endian.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define SECOND_US INT64_C(1000000)

static const char *const key[] = {"id", NULL};
static const struct tm_column_def columns[] = {{.name = "id", .type = TM_TYPE_INT4, .not_null = true},
                                               {.name = "n", .type = TM_TYPE_INT2, .not_null = true}};
static const struct tm_stream_def stream = {
    .name = "s", .columns = columns, .column_count = 2, .key = key, .occurrence = true};
static const struct tm_source_def sources[] = {{.column = "id", .paths = {{.path = "id"}}, .path_count = 1},
                                               {.column = "n", .from = TM_FROM_OCCURRENCE}};
static const struct tm_kind_def kind = {.tag = "k", .stream = "s", .sources = sources, .source_count = 2};

static struct {
    struct tm_plan *plan;
    struct tm_metrics *metrics;
    struct tm_intake *intake;
    struct tm_feed *feed;
    int answer;
    char taken[100000]; /* "id/occurrence " of each row */
    bool trace_gaps;    /* in between, as "gap " */
    int refused_id;     /* always refused; 0: none */
    int gaps;
} bench;

static void note(const char *text)
{
    size_t len = strlen(bench.taken);
    (void)snprintf(bench.taken + len, sizeof bench.taken - len, "%s", text);
}

static int take(void *arg, const struct tm_row *row)
{
    (void)arg;
    if (strcmp(row->stream->name, "gaps") == 0) {
        bench.gaps++;
        if (bench.trace_gaps)
            note("gap ");
        return TM_OK;
    }
    struct tm_field fields[TM_COLUMNS_MAX];
    assert_int_equal(tm_tuple_split(row->tuple, row->len, fields, row->stream->column_count), TM_OK);
    char text[40];
    int id = (int)tm_get_be32(fields[0].bytes);
    (void)snprintf(text, sizeof text, "%d/%d ", id, tm_get_be16(fields[1].bytes));
    if (bench.refused_id && id == bench.refused_id)
        return TM_EFULL;
    if (bench.answer == TM_OK)
        note(text);
    return bench.answer;
}

static int setup(void **state)
{
    (void)state;
    memset(&bench, 0, sizeof bench);
    struct tm_plan_def def = {.gatherer = "g",
                              .protocol = {.tag_path = "type", .sequence_path = "seq"},
                              .streams = &stream,
                              .stream_count = 1,
                              .kinds = &kind,
                              .kind_count = 1};
    struct tm_error err;
    bench.metrics = tm_metrics_create();
    if (tm_plan_compile(&def, &bench.plan, &err) < 0)
        return -1;
    struct tm_intake_options options = {.plan = bench.plan, .take = take, .metrics = bench.metrics};
    if (tm_intake_create(&options, &bench.intake, &err) < 0)
        return -1;
    bench.feed = tm_feed_create(bench.intake, "f", (struct tm_intake_time){.wall_us = 1, .mono_us = 1});
    return 0;
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

static void send(const char *text, int64_t us)
{
    char padded[200] = {0};
    struct tm_intake_result result;
    (void)snprintf(padded, sizeof padded - 16, "%s", text);
    struct tm_intake_time now = {.wall_us = us, .mono_us = us};
    assert_int_equal(tm_intake_message(bench.intake, bench.feed, padded, strlen(text), now, &result), TM_OK);
}

static void feed(const char *text, int64_t us)
{
    send(text, us);
    tm_intake_settle(bench.intake);
}

/* A stream that declares no window has one all the same: without, no gatherer would start. */
static void test_rows_go_to_take(void **state)
{
    (void)state;
    feed("{\"type\":\"k\",\"id\":7}", 1 * SECOND_US);
    feed("{\"type\":\"k\",\"id\":8}", 2 * SECOND_US);
    feed("{\"type\":\"k\",\"id\":7}", 3 * SECOND_US);
    feed("{\"type\":\"k\",\"id\":7}", 60 * SECOND_US); /* not a repeat any more: a redelivery of the first */
    assert_string_equal(bench.taken, "7/0 8/0 7/1 ");
    struct tm_intake_stats s = tm_intake_stats(bench.intake);
    assert_int_equal(s.rows, 4);
    assert_int_equal(s.duplicates, 1);
    assert_int_equal(s.discarded, 0);
}

static void test_a_refused_row_is_not_seen(void **state)
{
    (void)state;
    bench.answer = TM_EFULL;
    feed("{\"type\":\"k\",\"id\":1}", 1 * SECOND_US);
    struct tm_intake_stats s = tm_intake_stats(bench.intake);
    assert_int_equal(s.discarded, 1);
    assert_true(s.discarding);
    bench.answer = TM_OK;
    tm_feed_reset(bench.intake, bench.feed); /* counting starts over with the connection */
    feed("{\"type\":\"k\",\"id\":1}", 2 * SECOND_US);
    assert_string_equal(bench.taken, "1/0 ");
    assert_false(tm_intake_stats(bench.intake).discarding);
}

static void test_gap_rows_too(void **state)
{
    (void)state;
    int start = bench.gaps; /* the feed began in a gap */
    assert_int_equal(start, 1);
    feed("{\"type\":\"k\",\"id\":1,\"seq\":1}", 1 * SECOND_US); /* its end */
    feed("{\"type\":\"k\",\"id\":2,\"seq\":5}", 2 * SECOND_US);
    assert_int_equal(bench.gaps, 3);
}

static void test_seen_sets_name_their_stream(void **state)
{
    (void)state;
    struct tm_stream s = *tm_plan_stream_by_name(bench.plan, "s");
    struct tm_seen *seen = NULL;
    struct tm_error err;
    s.memory_bytes_max = 10;
    assert_true(tm_stream_has_seen(&s));
    assert_int_equal(tm_stream_seen_create(&s, &seen, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "stream \"s\": seen-set: memory"));
    assert_false(tm_stream_has_seen(tm_plan_stream_by_name(bench.plan, "gaps")));
}

static void test_rows_wait_to_be_settled(void **state)
{
    (void)state;
    send("{\"type\":\"k\",\"id\":7}", 1 * SECOND_US);
    send("{\"type\":\"k\",\"id\":7}", 2 * SECOND_US);
    send("{\"type\":\"k\",\"id\":7}", 60 * SECOND_US); /* a redelivery of the first, which is not in the seen-set yet */
    assert_string_equal(bench.taken, "");
    tm_feed_interrupted(bench.intake, bench.feed, "disconnected", NULL, (struct tm_intake_time){61 * SECOND_US, 1});
    assert_string_equal(bench.taken, "7/0 7/1 "); /* the ledger's row comes after them */
    assert_int_equal(tm_intake_stats(bench.intake).duplicates, 1);
}

static unsigned roll(uint64_t *state, unsigned below)
{
    *state = *state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (unsigned)((*state >> 33) % below);
}

/* What an intake takes of a feed with repeats, holes, lost connections and rows that are refused. */
static void play(uint64_t seed, unsigned settled_one_in, char *taken, size_t size)
{
    void *unused = NULL;
    uint64_t events = seed, pauses = seed + 1;
    int64_t us = SECOND_US, seq = 0;
    assert_int_equal(setup(&unused), 0);
    bench.trace_gaps = true;
    bench.refused_id = 5;
    for (int i = 0; i < 2000; i++) {
        char text[100];
        us += roll(&events, 3) * SECOND_US / 2;
        struct tm_intake_time now = {us, us};
        seq += roll(&events, 50) ? 1 : 3;
        (void)snprintf(text, sizeof text, "{\"type\":\"k\",\"id\":%u,\"seq\":%d}", roll(&events, 40), (int)seq);
        send(text, us);
        if (!roll(&events, 100))
            tm_feed_interrupted(bench.intake, bench.feed, "disconnected", NULL, now);
        if (!roll(&events, 100)) {
            tm_feed_reset(bench.intake, bench.feed);
            seq = 0;
        }
        if (!roll(&pauses, settled_one_in))
            tm_intake_settle(bench.intake);
    }
    tm_intake_settle(bench.intake);
    (void)snprintf(taken, size, "%s", bench.taken);
    assert_int_equal(teardown(&unused), 0);
}

/* When they are settled makes no difference to what is taken, nor to its order. */
static void test_settling_changes_nothing(void **state)
{
    (void)state;
    static char each[sizeof bench.taken], some[sizeof bench.taken], few[sizeof bench.taken];
    for (uint64_t seed = 1; seed <= 20; seed++) {
        play(seed, 1, each, sizeof each);
        play(seed, 5, some, sizeof some);
        play(seed, 1000000, few, sizeof few);
        assert_true(strlen(each) > 1000 && strlen(each) < sizeof each - 100);
        assert_string_equal(each, some);
        assert_string_equal(each, few);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_rows_go_to_take),
        TEST(test_a_refused_row_is_not_seen),
        TEST(test_gap_rows_too),
        TEST(test_seen_sets_name_their_stream),
        TEST(test_rows_wait_to_be_settled),
        cmocka_unit_test(test_settling_changes_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
