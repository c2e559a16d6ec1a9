/* Names of periods, and manifests: what is written is read back, by us and by another JSON parser; what is not whole is
 * refused with its place. */
#include "archive/manifest.h"
#include "archive/settings.h"
#include "record/builtin.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HOUR TM_PERIOD_HOUR_US
#define DAY TM_PERIOD_DAY_US
#define MOMENT (INT64_C(1795671123) * 1000000) /* 2026-11-26T05:32:03Z, by date(1) */

static void test_names(void **state)
{
    (void)state;
    char key[TM_ARCHIVE_KEY], text[TM_PERIOD_TEXT];
    struct tm_period hour = tm_period_at(MOMENT, HOUR), day = tm_period_at(MOMENT, DAY);
    assert_string_equal(tm_period_text(MOMENT, text), "2026-11-26T05:32:03Z");
    assert_true(hour.from_us <= MOMENT && MOMENT < hour.to_us && hour.to_us - hour.from_us == HOUR);
    tm_period_key(TM_ARCHIVE_OBJECT, "trades", hour, 0, key);
    assert_string_equal(key, "raw/trades/year=2026/month=11/day=26/hour=05/trades-20261126T05-0000.parquet");
    tm_period_key(TM_ARCHIVE_MANIFEST, "orderbook_snapshots", day, 12, key);
    assert_string_equal(
        key, "manifest/raw/orderbook_snapshots/year=2026/month=11/day=26/orderbook_snapshots-20261126-0012.json");
    /* before 1970 the hour still begins before the moment */
    hour = tm_period_at(-1, HOUR);
    assert_true(hour.from_us == -HOUR && hour.to_us == 0);
}

static void test_names_are_read(void **state)
{
    (void)state;
    char key[TM_ARCHIVE_KEY];
    struct tm_period p, hour = tm_period_at(MOMENT, HOUR), day = tm_period_at(MOMENT, DAY);
    unsigned part;
    tm_period_key(TM_ARCHIVE_OBJECT, "trades", hour, 37, key);
    assert_true(tm_period_of_key(TM_ARCHIVE_OBJECT, "trades", key, &p, &part));
    assert_true(p.from_us == hour.from_us && p.to_us == hour.to_us && part == 37);
    tm_period_key(TM_ARCHIVE_MANIFEST, "trades", day, 0, key);
    assert_true(tm_period_of_key(TM_ARCHIVE_MANIFEST, "trades", key, &p, &part));
    assert_true(p.from_us == day.from_us && p.to_us == day.to_us && part == 0);
    static const char *const others[] = {
        "raw/trades/year=2026/month=11/day=26/hour=05/trades-20261126T06-0000.parquet", /* another hour than its folder's */
        "raw/trades/year=2026/month=11/day=26/hour=05/tickers-20261126T05-0000.parquet",
        "raw/trades/year=2026/month=11/day=26/hour=05/trades-20261126T05-0000.json",
        "raw/trades/year=2026/month=13/day=26/trades-20261326-0000.parquet",
        "raw/trades/README",
        "raw/tradesx/year=2026/month=11/day=26/trades-20261126-0000.parquet",
        ""};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        assert_false(tm_period_of_key(TM_ARCHIVE_OBJECT, "trades", others[i], &p, &part));
}

static struct tm_manifest example(void)
{
    struct tm_manifest m = {.from_us = tm_period_at(MOMENT, HOUR).from_us,
                            .to_us = tm_period_at(MOMENT, HOUR).to_us,
                            .part = 3,
                            .rows = UINT64_C(9007199254740993), /* no double holds it */
                            .what.size = 4711,
                            .has_seq = true,
                            .first_seq = 1,
                            .last_seq = INT64_MAX};
    (void)snprintf(m.stream, sizeof m.stream, "trades");
    (void)snprintf(m.schema, sizeof m.schema, "0123456789abcdef");
    tm_period_key(TM_ARCHIVE_OBJECT, "trades", tm_period_at(MOMENT, HOUR), 3, m.object);
    for (size_t i = 0; i < TM_SHA256_BYTES; i++)
        m.what.sha256[i] = (uint8_t)(i * 7 + 1);
    return m;
}

static void test_manifest_round(void **state)
{
    (void)state;
    struct tm_manifest m = example(), back;
    struct tm_manifest_more more = {
        .columns = "trade_id,price", .first = "{\"trade_id\":\"a\"}", .coverage = "{\"gaps\":[]}"};
    struct tm_buf text = {0};
    struct tm_error err;
    assert_int_equal(tm_manifest_put(&m, &more, MOMENT, &text), TM_OK);
    assert_int_equal(tm_manifest_read(&text, &back, &err), TM_OK);
    assert_memory_equal(&m, &back, sizeof m);
    json_error_t fault;
    json_t *other = json_loadb((const char *)text.data, text.len, 0, &fault);
    assert_non_null(other);
    assert_true(json_integer_value(json_object_get(other, "rows")) == INT64_C(9007199254740993));
    assert_string_equal(json_string_value(json_object_get(other, "from")), "2026-11-26T05:00:00Z");
    assert_int_equal(json_array_size(json_object_get(other, "columns")), 2);
    assert_string_equal(json_string_value(json_array_get(json_object_get(other, "columns"), 1)), "price");
    assert_string_equal(json_string_value(json_object_get(json_object_get(other, "first"), "trade_id")), "a");
    json_decref(other);
    tm_buf_fini(&text);
}

/* Each field once with something else: refused, never read as something it is not. */
static void test_manifest_refused(void **state)
{
    (void)state;
    static const char *const changes[][2] = {
        {"\"version\":1", "\"version\":2"},
        {"\"rows\":9007199254740993", "\"rows\":-1"},
        {"\"rows\":9007199254740993", "\"rows\":\"7\""},
        {"\"bytes\":4711", "\"bytes\":4.5"},
        {"\"object\":\"raw/", "\"object\":\"/etc/"},
        {"\"object\":\"raw/", "\"object\":\"raw/../"},
        {"\"sha256\":\"01", "\"sha256\":\"0x"},
        {"\"from\":\"2026-", "\"from\":\"26-"},
        {"\"stream\":\"trades\"", "\"stream\":5"},
        {"\"part\":3,", ""},
    };
    struct tm_manifest m = example(), back;
    struct tm_manifest_more more = {0};
    struct tm_error err;
    for (size_t i = 0; i < sizeof changes / sizeof *changes; i++) {
        struct tm_buf text = {0}, other = {0};
        assert_int_equal(tm_manifest_put(&m, &more, MOMENT, &text), TM_OK);
        const char *whole = tm_buf_cstr(&text), *at = strstr(whole, changes[i][0]);
        assert_non_null(at);
        assert_int_equal(
            tm_buf_printf(&other, "%.*s%s%s", (int)(at - whole), whole, changes[i][1], at + strlen(changes[i][0])),
            TM_OK);
        assert_int_equal(tm_manifest_read(&other, &back, &err), TM_ECORRUPT);
        assert_non_null(strstr(err.message, "manifest"));
        tm_buf_fini(&text);
        tm_buf_fini(&other);
    }
    struct tm_buf cut = {0};
    assert_int_equal(tm_manifest_put(&m, &more, MOMENT, &cut), TM_OK);
    while (cut.len > 2) { /* torn anywhere */
        cut.len -= 2;
        assert_int_equal(tm_manifest_read(&cut, &back, &err), TM_ECORRUPT);
    }
    tm_buf_fini(&cut);
}

/* ---- which streams, and by which column ---- */

static struct tm_plan *make_plan(void)
{
    static const struct tm_column_def columns[] = {
        {.name = "id", .type = TM_TYPE_INT8, .not_null = true},
        {.name = "at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
        {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true}};
    static const char *const key[] = {"id", "at", NULL}, *const id[] = {"id", NULL};
    static const struct tm_stream_def streams[] = {
        {.name = "facts",
         .columns = columns,
         .column_count = 3,
         .key = key,
         .partition = TM_PARTITION_DAY,
         .partition_column = "at",
         .time_column = "at",
         .window_us = 1000000},
        {.name = "hashed",
         .columns = columns,
         .column_count = 3,
         .key = id,
         .partition = TM_PARTITION_HASH,
         .time_column = "at",
         .window_us = 1000000},
        {.name = "seen",
         .columns = columns,
         .column_count = 3,
         .observer = true,
         .time_column = "at",
         .window_us = 1000000},
        {.name = "state", .columns = columns, .column_count = 3, .key = id, .mode = TM_STREAM_UPSERT},
    };
    struct tm_plan_def def = {.gatherer = "", .streams = streams, .stream_count = 4};
    struct tm_plan *plan = NULL;
    struct tm_error err;
    if (tm_plan_compile(&def, &plan, &err))
        fail_msg("%s", err.message);
    return plan;
}

static void test_schedule(void **state)
{
    (void)state;
    struct tm_plan *plan = make_plan();
    struct tm_archive_schedule own[] = {{"hashed", TM_PERIOD_DAY_US}, {"facts", 0}};
    struct tm_archive_settings s = {.to = "file:///a"}, none = {0};
    const struct tm_stream *facts = tm_plan_stream_by_name(plan, "facts"),
                           *hashed = tm_plan_stream_by_name(plan, "hashed"),
                           *seen = tm_plan_stream_by_name(plan, "seen"),
                           *upsert = tm_plan_stream_by_name(plan, "state");
    struct tm_error err;
    assert_string_equal(facts->columns[tm_archive_column(facts)].name, "at");
    assert_string_equal(hashed->columns[tm_archive_column(hashed)].name, "at");
    assert_string_equal(seen->columns[tm_archive_column(seen)].name, "received_at");
    assert_int_equal(tm_archive_column(upsert), -1);
    assert_true(tm_archive_length_us(&s, facts) == HOUR && tm_archive_length_us(&s, hashed) == HOUR);
    assert_true(tm_archive_length_us(&s, seen) == DAY && tm_archive_length_us(&s, upsert) == 0);
    assert_true(tm_archive_length_us(&s, tm_plan_stream_by_name(plan, TM_STREAM_HEARTBEATS)) == 0);
    assert_true(tm_archive_length_us(&none, facts) == 0);
    s.schedule = own;
    s.schedule_count = 2;
    assert_true(tm_archive_length_us(&s, hashed) == DAY && tm_archive_length_us(&s, facts) == 0);
    assert_int_equal(tm_archive_settings_check(&s, plan, &err), TM_OK);
    own[1] = (struct tm_archive_schedule){"state", HOUR};
    assert_int_equal(tm_archive_settings_check(&s, plan, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "state"));
    own[1] = (struct tm_archive_schedule){"nobody", HOUR};
    assert_int_equal(tm_archive_settings_check(&s, plan, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "nobody"));
    tm_plan_put(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_names), cmocka_unit_test(test_names_are_read),
                                       cmocka_unit_test(test_manifest_round), cmocka_unit_test(test_manifest_refused),
                                       cmocka_unit_test(test_schedule)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
