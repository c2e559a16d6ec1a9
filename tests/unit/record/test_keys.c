/*
 * Keys that change at a moment of exchange time (FAILURES T32): which key a record is of, that its fingerprint does not
 * depend on who knows of later keys, the rule of what may be declared when, and the indexes of days.
 */
#include "support.h"

#include "record/keys.h"
#include "record/schema.h"

#define S_US INT64_C(1000000)
/* 2026-11-26T00:00:00Z, from `date -u -d 2026-11-26T00:00:00Z +%s`. */
#define T_US (INT64_C(1795651200) * S_US)

static const char *const coarse_key[] = {"ticker", "exchange_ts", "side", NULL};

/* The deltas with keys from moments on; NULL-terminated list of them. */
static struct tm_plan *plan_of(const struct tm_key_def *later, size_t count)
{
    struct tm_stream_def streams[2] = {kalshi_streams[STREAM_DELTAS], kalshi_streams[STREAM_MARKETS]};
    struct tm_plan_def def = {.gatherer = "g1",
                              .protocol = kalshi_plan_def.protocol,
                              .streams = streams,
                              .stream_count = 2,
                              .kinds = kalshi_kinds,
                              .kind_count = 1};
    struct tm_plan *plan;
    struct tm_error err = {0};
    streams[0].later_keys = later;
    streams[0].later_key_count = count;
    if (tm_plan_compile(&def, &plan, &err))
        fail_msg("%s", err.message);
    return plan;
}

/* ---- compiling ---- */

static void test_keys_of_a_stream(void **state)
{
    const struct tm_key_def later[] = {{.from_us = T_US, .key = coarse_key},
                                       {.from_us = T_US + S_US, .key = delta_key, .occurrence = true}};
    struct tm_plan *plan = plan_of(later, 2);
    const struct tm_stream *s = tm_plan_stream(plan, 0);
    static const uint16_t whole[] = {1, 0, 2, 3, 4, 5}, coarse[] = {1, 0, 2};
    (void)state;
    assert_int_equal(s->keys_count, 3);
    assert_true(s->keys[0].from_us == INT64_MIN && s->keys[1].from_us == T_US && s->keys[2].from_us == T_US + S_US);
    assert_true(s->keys[0].counted && !s->keys[1].counted && s->keys[2].counted);
    assert_ptr_equal(s->key, s->keys[0].columns);
    assert_int_equal(s->key_count, LENGTH(whole));
    assert_memory_equal(s->keys[0].columns, whole, sizeof whole);
    assert_int_equal(s->keys[1].column_count, LENGTH(coarse));
    assert_memory_equal(s->keys[1].columns, coarse, sizeof coarse);
    assert_memory_equal(s->keys[2].columns, whole, sizeof whole);
    assert_true(s->keys[0].version != s->keys[2].version); /* the same columns, another span */
    tm_plan_put(plan);
}

static void expect_fault(struct tm_stream_def stream, const struct tm_key_def *later, size_t count, const char *words)
{
    struct tm_plan_def def = {.streams = &stream, .stream_count = 1};
    struct tm_plan *plan = NULL;
    struct tm_error err = {0};
    stream.later_keys = later;
    stream.later_key_count = count;
    int rc = tm_plan_compile(&def, &plan, &err);
    if (rc != TM_EINVAL || !strstr(err.message, words))
        fail_msg("expected \"%s\", got %d \"%s\"", words, rc, rc ? err.message : "");
}

static void test_faults(void **state)
{
    static const char *const unknown[] = {"ticker", "exchange_ts", "colour", NULL};
    static const char *const timeless[] = {"ticker", "side", NULL};
    static const char *const arrival[] = {"exchange_ts", "received_at", NULL};
    const struct tm_key_def good = {.from_us = T_US, .key = coarse_key};
    struct tm_stream_def deltas = kalshi_streams[STREAM_DELTAS], other = deltas;
    struct tm_key_def k = good, many[4] = {good, good, good, good};
    (void)state;
#define KEY(change, words)                                                                                             \
    do {                                                                                                               \
        k = good;                                                                                                      \
        change;                                                                                                        \
        expect_fault(deltas, &k, 1, words);                                                                            \
    } while (0)
    KEY(k.from_us += 1, "stream \"orderbook_deltas\": key 2: from is not a whole second");
    KEY(k.from_us -= 1000, "from is not a whole second");
    KEY(k.from_us = -S_US, "from is not a whole second since 1970");
    KEY(k.key = NULL, "key 2: a key is missing");
    KEY(k.key = unknown, "key column \"colour\" is not a column");
    KEY(k.key = arrival, "key column \"received_at\" differs between gatherers");
    KEY(k.key = timeless, "partition_column \"exchange_ts\" must be in the key");
    expect_fault(deltas, many, 2, "key 3: from must be later than that of the key before it");
    expect_fault(deltas, many, 4, "a stream has at most 4");
    expect_fault(kalshi_streams[STREAM_TRADES], &good, 1, "partitioned by hash");
    expect_fault(kalshi_streams[STREAM_SNAPSHOTS], &good, 1, "an observer stream");
    expect_fault(kalshi_streams[STREAM_LIFECYCLE], &good, 1, "a within stream");
    expect_fault(kalshi_streams[STREAM_MARKETS], &good, 1, "an upsert stream");
    other.time_column = NULL;
    expect_fault(other, &good, 1, "names no time column");
    other = deltas;
    other.partition = TM_PARTITION_NONE;
    other.partition_column = NULL;
    expect_fault(other, &good, 1, "it is one table");
#undef KEY
}

/* ---- which key a record is of ---- */

static const struct tm_hash_key hash_key = {.secret = "a secret of a test, the rest of it is zero"};

struct delta {
    int64_t us;
    const char *side;
    int price;
};

static struct tm_fp fingerprint(const struct tm_plan *plan, struct delta d, const struct tm_key **key)
{
    const struct tm_stream *s = tm_plan_stream(plan, 0);
    struct tm_field fields[TM_COLUMNS_MAX];
    struct tm_buf buf = {0};
    struct tm_row_writer w;
    struct tm_row row;
    assert_int_equal(tm_row_begin(&w, s, &buf), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "T", 1), TM_OK);
    assert_int_equal(tm_row_put_time(&w, d.us), TM_OK);
    assert_int_equal(tm_row_put_text(&w, d.side, strlen(d.side)), TM_OK);
    assert_int_equal(tm_row_put_int(&w, d.price), TM_OK);
    assert_int_equal(tm_row_put_int(&w, 100), TM_OK);
    assert_int_equal(tm_row_put_int(&w, 0), TM_OK);
    assert_int_equal(tm_row_put_time(&w, RECEIVED_US), TM_OK);
    assert_int_equal(tm_row_end(&w, plan, &row), TM_OK);
    assert_int_equal(tm_tuple_split(row.tuple, row.len, fields, s->column_count), TM_OK);
    *key = tm_stream_key_of(s, fields);
    struct tm_fp fp = tm_stream_fingerprint(s, &hash_key, fields);
    tm_buf_fini(&buf);
    return fp;
}

static bool same(struct tm_fp a, struct tm_fp b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

/* Two records that differ in price: two by the first key, one by that from T on. The microsecond decides. */
static void test_the_microsecond_decides(void **state)
{
    const struct tm_key_def later[] = {{.from_us = T_US, .key = coarse_key},
                                       {.from_us = T_US + 60 * S_US, .key = delta_key, .occurrence = true}};
    struct tm_plan *plan = plan_of(later, 2);
    const struct tm_key *keys = tm_plan_stream(plan, 0)->keys, *a, *b;
    const struct {
        int64_t us;
        int key;
        bool one;
    } cases[] = {
        {0, 0, false},       {T_US - S_US, 0, false},         {T_US - 1, 0, false},         {T_US, 1, true},
        {T_US + 1, 1, true}, {T_US + 60 * S_US - 1, 1, true}, {T_US + 60 * S_US, 2, false}, {T_US * 2, 2, false},
    };
    (void)state;
    for (size_t i = 0; i < LENGTH(cases); i++) {
        struct tm_fp first = fingerprint(plan, (struct delta){cases[i].us, "yes", 10}, &a);
        struct tm_fp second = fingerprint(plan, (struct delta){cases[i].us, "yes", 20}, &b);
        assert_ptr_equal(a, &keys[cases[i].key]);
        assert_ptr_equal(b, a);
        assert_int_equal(same(first, second), cases[i].one);
        assert_false(same(first, fingerprint(plan, (struct delta){cases[i].us, "no", 10}, &b)));
        for (size_t k = 0; k < i; k++) /* the same content in another span is another record */
            assert_false(same(first, fingerprint(plan, (struct delta){cases[k].us, "yes", 10}, &b)));
    }
    tm_plan_put(plan);
}

/* The millisecond form of a time is on the side of its microsecond form. */
static void test_milliseconds_and_microseconds_are_of_one_key(void **state)
{
    const struct tm_key_def later[] = {{.from_us = T_US, .key = coarse_key}};
    struct tm_plan *plan = plan_of(later, 1);
    const struct tm_key *us, *ms;
    (void)state;
    for (int64_t at = T_US - 2000; at <= T_US + 2000; at++) {
        (void)fingerprint(plan, (struct delta){at, "yes", 1}, &us);
        (void)fingerprint(plan, (struct delta){at / 1000 * 1000, "yes", 1}, &ms);
        assert_ptr_equal(us, ms);
    }
    tm_plan_put(plan);
}

/* Who knows of a later key and who does not agree on all before it, so seen-sets outlive the change. */
static void test_fingerprints_do_not_depend_on_later_keys(void **state)
{
    const struct tm_key_def later[] = {{.from_us = T_US, .key = coarse_key},
                                       {.from_us = T_US + S_US, .key = delta_key, .occurrence = true}};
    struct tm_plan *plans[3] = {plan_of(later, 0), plan_of(later, 1), plan_of(later, 2)};
    const struct tm_key *key;
    (void)state;
    struct delta before = {T_US - 1, "yes", 10}, after = {T_US, "yes", 10}, last = {T_US + S_US, "yes", 10};
    struct tm_fp fps[3][3];
    for (int i = 0; i < 3; i++) {
        fps[i][0] = fingerprint(plans[i], before, &key);
        fps[i][1] = fingerprint(plans[i], after, &key);
        fps[i][2] = fingerprint(plans[i], last, &key);
    }
    assert_true(same(fps[0][0], fps[1][0]) && same(fps[0][0], fps[2][0]));
    assert_false(same(fps[0][1], fps[1][1]));
    assert_true(same(fps[1][1], fps[2][1]));
    assert_false(same(fps[0][2], fps[2][2]) || same(fps[1][2], fps[2][2])); /* equal columns, but declared anew */
    for (int i = 0; i < 3; i++)
        tm_plan_put(plans[i]);
}

/* ---- the rule ---- */

#define NOW_US (T_US + 5 * S_US) /* 2026-11-26T00:00:05Z */

static void expect_change(const struct tm_plan *from, const struct tm_plan *to, int64_t newest_us, int64_t now_us,
                          const char *words)
{
    int64_t newest[16] = {newest_us, newest_us};
    for (size_t i = 2; i < sizeof newest / sizeof *newest; i++)
        newest[i] = INT64_MIN; /* streams that every plan has */
    struct tm_error err = {0};
    int rc = tm_plan_key_change(from, to, newest, now_us, TM_KEY_MARGIN_US, &err);
    if (!words && rc)
        fail_msg("%s", err.message);
    if (words && (rc != TM_ESTATE || !strstr(err.message, words)))
        fail_msg("expected \"%s\", got %d \"%s\"", words, rc, rc ? err.message : "");
}

static void test_keys_are_added_ahead_of_what_was_taken(void **state)
{
    struct tm_plan *none = plan_of(NULL, 0);
    (void)state;
    for (int64_t s = -10; s < 30; s++) {
        const struct tm_key_def later[] = {{.from_us = NOW_US + s * S_US, .key = coarse_key}};
        struct tm_plan *one = plan_of(later, 1);
        /* now is 00:00:05, so 00:00:11 is the first second after the margin */
        expect_change(none, one, NOW_US - 60 * S_US, NOW_US, s > 5 ? NULL : "from = \"2026-11-26T00:00:11Z\" or later");
        /* the exchange's clock is 7.5 s ahead of ours: 00:00:12.5 + 5 */
        expect_change(none, one, NOW_US + 15 * S_US / 2, NOW_US,
                      s > 12 ? NULL : "from = \"2026-11-26T00:00:18Z\" or later");
        /* nothing was taken, so nothing contradicts */
        expect_change(none, one, INT64_MIN, NOW_US, NULL);
        expect_change(one, one, NOW_US + 60 * S_US, NOW_US, NULL);
        tm_plan_put(one);
    }
    tm_plan_put(none);
}

static void test_history_stays(void **state)
{
    const struct tm_key_def late = {.from_us = T_US + 3600 * S_US, .key = coarse_key};
    const struct tm_key_def past[] = {{.from_us = T_US, .key = coarse_key}, late};
    const struct tm_key_def other[] = {{.from_us = T_US, .key = delta_key, .occurrence = true}, late};
    struct tm_plan *none = plan_of(NULL, 0), *one = plan_of(past, 1), *two = plan_of(past, 2),
                   *changed = plan_of(other, 2);
    int64_t newest_us = NOW_US - S_US;
    (void)state;
    expect_change(
        one, none, newest_us, NOW_US,
        "stream orderbook_deltas: the key (exchange_ts,ticker,side) that holds from \"2026-11-26T00:00:00Z\" on is "
        "not declared any more");
    expect_change(two, changed, newest_us, NOW_US,
                  "stream orderbook_deltas: its key changes from (exchange_ts,ticker,side) to "
                  "(exchange_ts,ticker,side,price,delta,occurrence) for records from \"2026-11-26T00:00:00Z\" on");
    expect_change(two, one, newest_us, NOW_US, NULL); /* what has not begun may be taken back */
    expect_change(one, two, newest_us, NOW_US, NULL);
    expect_change(none, two, newest_us, NOW_US,
                  "or are about to be: (exchange_ts,ticker,side) from \"2026-11-26T00:00:00Z\"");
    /* within the margin a key counts as begun: its records may be on the way */
    expect_change(one, none, newest_us, T_US - 3 * S_US, "not declared any more");
    expect_change(one, none, T_US - 60 * S_US, T_US - 6 * S_US, NULL);
    tm_plan_put(none);
    tm_plan_put(one);
    tm_plan_put(two);
    tm_plan_put(changed);
}

static struct tm_plan *plan_with_key(const char *const *key, bool occurrence, const char *const *markets_key)
{
    struct tm_stream_def streams[2] = {kalshi_streams[STREAM_DELTAS], kalshi_streams[STREAM_MARKETS]};
    struct tm_plan_def def = {.streams = streams, .stream_count = 2};
    struct tm_column_def columns[LENGTH(market_columns)];
    struct tm_plan *plan;
    struct tm_error err = {0};
    memcpy(columns, market_columns, sizeof columns);
    columns[1].not_null = true;
    streams[0].key = key;
    streams[0].occurrence = occurrence;
    streams[1].key = markets_key;
    streams[1].columns = columns;
    if (tm_plan_compile(&def, &plan, &err))
        fail_msg("%s", err.message);
    return plan;
}

static void test_the_first_key_stays(void **state)
{
    static const char *const turned[] = {"delta", "price", "side", "exchange_ts", "ticker", NULL};
    static const char *const event[] = {"event_ticker", NULL};
    struct tm_plan *plan = plan_with_key(delta_key, true, market_key),
                   *coarse = plan_with_key(coarse_key, true, market_key),
                   *uncounted = plan_with_key(delta_key, false, market_key),
                   *order = plan_with_key(turned, true, market_key), *markets = plan_with_key(delta_key, true, event);
    (void)state;
    expect_change(
        plan, coarse, NOW_US, NOW_US,
        "stream orderbook_deltas: its key changes for records that were taken already, from "
        "(exchange_ts,ticker,side,price,delta,occurrence) to (exchange_ts,ticker,side,occurrence); declare the new "
        "key with from = \"2026-11-26T00:00:11Z\" or later");
    expect_change(plan, uncounted, NOW_US, NOW_US, "its key changes for records that were taken already");
    expect_change(plan, coarse, 0, NOW_US,
                  "its key changes for records that were taken already"); /* of no known time */
    expect_change(plan, coarse, INT64_MIN, NOW_US, NULL);
    expect_change(plan, order, NOW_US, NOW_US, NULL); /* the same columns in another order are the same key */
    expect_change(plan, markets, 0, NOW_US, "it cannot change at a moment either: it is an upsert stream");
    expect_change(plan, markets, INT64_MIN, NOW_US, NULL);
    tm_plan_put(plan);
    tm_plan_put(coarse);
    tm_plan_put(uncounted);
    tm_plan_put(order);
    tm_plan_put(markets);
}

/* ---- the indexes of days ---- */

#define DAY_US (24 * HOUR_US)
#define WHOLE "(exchange_ts,ticker,side,price,delta,occurrence)"
#define COARSE "(exchange_ts,ticker,side)"

static void expect_indexes(const struct tm_plan *plan, int64_t day_us, const char *const *endings)
{
    struct tm_arena *arena = tm_arena_create();
    struct tm_day_index indexes[TM_KEYS_MAX];
    int count = tm_schema_day_indexes(tm_plan_stream(plan, 0), "d_p1", day_us, day_us + DAY_US, arena, indexes);
    for (int i = 0; i < count; i++) {
        char sql[1024];
        assert_non_null(endings[i]);
        assert_memory_equal(indexes[i].name, "d_p1_key_", 9);
        (void)snprintf(sql, sizeof sql, "CREATE UNIQUE INDEX %s ON d_p1 %s", indexes[i].name, endings[i]);
        assert_string_equal(indexes[i].sql, sql);
        for (int k = 0; k < i; k++)
            assert_string_not_equal(indexes[i].name, indexes[k].name);
    }
    assert_null(endings[count]);
    tm_arena_destroy(arena);
}

static void test_indexes_of_days(void **state)
{
    const struct tm_key_def later[] = {{.from_us = T_US, .key = coarse_key},
                                       {.from_us = T_US + 36 * HOUR_US, .key = delta_key, .occurrence = true},
                                       {.from_us = T_US + 42 * HOUR_US, .key = coarse_key}};
    struct tm_plan *none = plan_of(NULL, 0), *plan = plan_of(later, 3);
    (void)state;
    expect_indexes(none, T_US, (const char *const[]){WHOLE, NULL});
    expect_indexes(plan, T_US - DAY_US, (const char *const[]){WHOLE, NULL});
    expect_indexes(plan, T_US, (const char *const[]){COARSE, NULL}); /* T is its midnight */
    expect_indexes(plan, T_US + DAY_US,
                   (const char *const[]){COARSE " WHERE exchange_ts < '2026-11-27T12:00:00Z'",
                                         WHOLE " WHERE exchange_ts >= '2026-11-27T12:00:00Z' AND exchange_ts < "
                                               "'2026-11-27T18:00:00Z'",
                                         COARSE " WHERE exchange_ts >= '2026-11-27T18:00:00Z'", NULL});
    expect_indexes(plan, T_US + 2 * DAY_US, (const char *const[]){COARSE, NULL});
    tm_plan_put(none);
    tm_plan_put(plan);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_keys_of_a_stream),
        cmocka_unit_test(test_faults),
        cmocka_unit_test(test_the_microsecond_decides),
        cmocka_unit_test(test_milliseconds_and_microseconds_are_of_one_key),
        cmocka_unit_test(test_fingerprints_do_not_depend_on_later_keys),
        cmocka_unit_test(test_keys_are_added_ahead_of_what_was_taken),
        cmocka_unit_test(test_history_stays),
        cmocka_unit_test(test_the_first_key_stays),
        cmocka_unit_test(test_indexes_of_days),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
