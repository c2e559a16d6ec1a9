/* Frames of kalshi.md 5 and REST objects of 7 become rows; every expected value is written by hand. */
#include "support.h"

#define TICKER "KXSIM-26NOV05-T1"
#define MARKET_ID "\"market_id\":\"3c5f0a52-7c1d-4a2e-9b43-0e6f1d2a7b90\""

#define DELTA                                                                                                          \
    "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":2,\"msg\":{\"market_ticker\":\"" TICKER "\"," MARKET_ID ","       \
    "\"price_dollars\":\"0.4700\",\"delta_fp\":\"-9.90\",\"side\":\"yes\","                                            \
    "\"ts\":\"2026-11-05T14:00:00.640173Z\",\"ts_ms\":1793887200640}}"
#define TRADE                                                                                                          \
    "{\"type\":\"trade\",\"sid\":2,\"seq\":172193,\"msg\":{\"trade_id\":\"d17a9849-e50c-44eb-455a-"                    \
    "eb6e1098773f\","                                                                                                  \
    "\"market_ticker\":\"" TICKER "\",\"yes_price_dollars\":\"0.4700\",\"no_price_dollars\":\"0.5300\","               \
    "\"count_fp\":\"9.90\",\"taker_side\":\"no\",\"taker_outcome_side\":\"no\",\"taker_book_side\":\"ask\","           \
    "\"is_block_trade\":false,\"ts\":1793887200,\"ts_ms\":1793887200640}}"

/* ---- one test per stream ---- */

static void test_delta(void **state)
{
    struct fixture *f = *state;
    const struct tm_decoded *d = decode(f, DELTA "\n");
    const struct tm_row *row = only_row(d, "orderbook_deltas");
    assert_string_equal(d->kind->tag, "orderbook_delta");
    assert_true(d->has_sid && d->has_sequence);
    assert_int_equal(d->sid, 1);
    assert_int_equal(d->sequence, 2);
    assert_text(row, "ticker", TICKER);
    assert_int_equal(time_of(row, "exchange_ts"), INT64_C(1793887200640173));
    assert_text(row, "side", "yes");
    assert_int_equal(int_of(row, "price"), 470000);
    assert_int_equal(column_of(row, "price").len, 4);
    assert_int_equal(int_of(row, "delta"), -990);
    assert_int_equal(int_of(row, "occurrence"), 0);
    assert_int_equal(column_of(row, "occurrence").len, 2);
    assert_int_equal(time_of(row, "received_at"), RECEIVED_US);
    assert_int_equal(int_of(row, "sid"), 1);
    assert_int_equal(int_of(row, "exchange_seq"), 2);
    assert_int_equal(int_of(row, "seq"), 0);
    assert_int_equal(row->exchange_us, INT64_C(1793887200640173));
    assert_int_equal(row->ticker_len, strlen(TICKER));
    assert_memory_equal(row->ticker, TICKER, strlen(TICKER));
    assert_ptr_equal(row->tuple + row->occurrence_at, column_of(row, "occurrence").at);
}

static void test_trade(void **state)
{
    static const uint8_t id[16] = {0xd1, 0x7a, 0x98, 0x49, 0xe5, 0x0c, 0x44, 0xeb,
                                   0x45, 0x5a, 0xeb, 0x6e, 0x10, 0x98, 0x77, 0x3f};
    struct fixture *f = *state;
    const struct tm_row *row = only_row(decode(f, TRADE), "trades");
    assert_int_equal(column_of(row, "trade_id").len, 16);
    assert_memory_equal(column_of(row, "trade_id").at, id, 16);
    assert_int_equal(time_of(row, "exchange_ts"), INT64_C(1793887200640000));
    assert_int_equal(int_of(row, "price"), 470000);
    assert_int_equal(int_of(row, "count"), 990);
    assert_text(row, "taker_side", "no");
    assert_int_equal(column_of(row, "is_block_trade").len, 1);
    assert_int_equal(column_of(row, "is_block_trade").at[0], 0);
    assert_int_equal(int_of(row, "exchange_seq"), 172193);
    assert_int_equal(row->occurrence_at, 0);
}

/* Without ts_ms and without what was added in 2026: seconds, the old name of the side, no block flag, no seq. */
static void test_trade_of_old(void **state)
{
    struct fixture *f = *state;
    const struct tm_decoded *d = decode(
        f, "{\"type\":\"trade\",\"sid\":2,\"msg\":{\"trade_id\":\"D17A9849-E50C-44EB-455A-EB6E1098773F\","
           "\"market_ticker\":\"A\",\"yes_price_dollars\":\"0.960\",\"count_fp\":\"1.00\",\"taker_side\":\"yes\","
           "\"ts\":1793887200}}");
    const struct tm_row *row = only_row(d, "trades");
    assert_false(d->has_sequence);
    assert_int_equal(time_of(row, "exchange_ts"), INT64_C(1793887200000000));
    assert_int_equal(int_of(row, "price"), 960000);
    assert_text(row, "taker_side", "yes");
    assert_true(is_null(row, "is_block_trade"));
    assert_true(is_null(row, "exchange_seq"));
    assert_int_equal(int_of(row, "sid"), 2);
}

static void test_snapshot(void **state)
{
    struct fixture *f = *state;
    const struct tm_row *row =
        only_row(decode(f, "{\"type\":\"orderbook_snapshot\",\"sid\":1,\"seq\":1,\"msg\":{\"market_ticker\":\"" TICKER
                           "\"," MARKET_ID ",\"yes_dollars_fp\":[[\"0.0100\",\"275.00\"],[\"0.4700\",\"31.54\"]],"
                           "\"no_dollars_fp\": [ [\"0.4900\",\"1239.73\"] ]}}"),
                 "orderbook_snapshots");
    assert_text(row, "source", "ws");
    assert_jsonb(row, "yes_levels", "[[\"0.0100\",\"275.00\"],[\"0.4700\",\"31.54\"]]");
    assert_jsonb(row, "no_levels", "[ [\"0.4900\",\"1239.73\"] ]");
    assert_int_equal(int_of(row, "best_bid"), 470000);
    assert_int_equal(int_of(row, "best_ask"), 510000); /* a no bid of 0.49 is a yes ask of 0.51 */
    assert_int_equal(time_of(row, "snapshot_ts"), RECEIVED_US);
    assert_text(row, "gatherer", "g1");
    assert_int_equal(column_of(row, "epoch").len, 16);
    assert_memory_equal(column_of(row, "epoch").at, kalshi_plan_def.epoch, 16);
    assert_int_equal(int_of(row, "seq"), 0);
    assert_int_equal(row->exchange_us, INT64_MIN);
}

static void test_snapshot_of_an_empty_book(void **state)
{
    struct fixture *f = *state;
    const struct tm_row *row =
        only_row(decode(f, "{\"type\":\"orderbook_snapshot\",\"sid\":1,\"seq\":9,\"msg\":{\"market_ticker\":\"" TICKER
                           "\"," MARKET_ID ",\"no_dollars_fp\":[]}}"),
                 "orderbook_snapshots");
    assert_true(is_null(row, "yes_levels"));
    assert_jsonb(row, "no_levels", "[]");
    assert_true(is_null(row, "best_bid"));
    assert_true(is_null(row, "best_ask"));
}

static void test_ticker(void **state)
{
    struct fixture *f = *state;
    const struct tm_decoded *d = decode(
        f,
        "{\"type\":\"ticker\",\"sid\":3,\"msg\":{" MARKET_ID ",\"market_ticker\":\"" TICKER "\",\"price_dollars\":\"\","
        "\"yes_bid_dollars\":\"0.4700\",\"yes_ask_dollars\":0.51,\"volume_fp\":\"33896.12\",\"open_interest_fp\":"
        "\"20422.00\",\"dollar_volume\":-16948,\"dollar_open_interest\":10211,\"yes_bid_size_fp\":\"31.54\","
        "\"ts\":1793887200,\"ts_ms\":1793887200640,\"time\":\"2026-11-05T14:00:00.64017Z\"}}");
    const struct tm_row *row = only_row(d, "tickers");
    assert_true(is_null(row, "price")); /* "" before the first trade */
    assert_int_equal(int_of(row, "yes_bid"), 470000);
    assert_int_equal(int_of(row, "yes_ask"), 510000);
    assert_int_equal(int_of(row, "volume"), 3389612);
    assert_int_equal(int_of(row, "open_interest"), 2042200);
    assert_int_equal(int_of(row, "dollar_volume"), -16948);
    assert_int_equal(time_of(row, "exchange_ts"), INT64_C(1793887200640170));
    assert_true(is_null(row, "exchange_seq"));
    assert_int_equal(d->sid, 3);
    assert_false(d->has_sequence);
}

static void test_lifecycle(void **state)
{
    struct fixture *f = *state;
    double strike = 95000.5;
    uint64_t bits;
    const struct tm_decoded *d = decode(
        f,
        "{\"type\":\"market_lifecycle_v2\",\"sid\":4,\"seq\":3,\"msg\":{\"event_type\":\"created\",\"market_ticker\":\"" TICKER
        "\",\"open_ts\":1794050000,\"close_ts\":1794090000,\"additional_metadata\":{\"name\":\"n\",\"event_ticker\":"
        "\"KXSIM-26NOV05\",\"floor_strike\":95000.5}}}");
    const struct tm_row *row = only_row(d, "lifecycle");
    assert_true(d->kind->forward);
    assert_text(row, "kind", "market_lifecycle_v2");
    assert_text(row, "event_type", "created");
    assert_text(row, "event_ticker", "KXSIM-26NOV05");
    assert_int_equal(time_of(row, "open_ts"), INT64_C(1794050000000000));
    assert_int_equal(time_of(row, "close_ts"), INT64_C(1794090000000000));
    assert_true(is_null(row, "settled_ts"));
    memcpy(&bits, &strike, sizeof bits);
    assert_int_equal(int_of(row, "floor_strike"), bits);
    assert_jsonb(
        row, "content",
        "{\"event_type\":\"created\",\"market_ticker\":\"" TICKER
        "\",\"open_ts\":1794050000,\"close_ts\":1794090000,\"additional_metadata\":{\"name\":\"n\",\"event_ticker\":"
        "\"KXSIM-26NOV05\",\"floor_strike\":95000.5}}");
    row =
        only_row(decode(f, "{\"type\":\"market_lifecycle_v2\",\"sid\":4,\"seq\":7,\"msg\":{\"market_ticker\":\"" TICKER
                           "\",\"determination_ts\":1794080100,\"result\":\"no\",\"settlement_value\":\"0.0000\","
                           "\"event_type\":\"determined\"}}"),
                 "lifecycle");
    assert_int_equal(int_of(row, "settlement_value"), 0);
    assert_text(row, "result", "no");
    row = only_row(decode(f, "{\"type\":\"event_fee_update\",\"sid\":4,\"seq\":12,\"msg\":{\"event_ticker\":\"E\","
                             "\"fee_type_override\":null}}"),
                   "lifecycle");
    assert_text(row, "kind", "event_fee_update");
    assert_text(row, "event_ticker", "E");
    assert_true(is_null(row, "ticker"));
    assert_null(row->ticker);
}

/* ---- control ---- */

static void test_control(void **state)
{
    struct fixture *f = *state;
    const struct tm_decoded *d =
        decode(f, "{\"type\":\"subscribed\",\"id\":1,\"msg\":{\"channel\":\"trade\",\"sid\":2}}");
    assert_int_equal(d->verdict, TM_VERDICT_CONTROL);
    assert_int_equal(d->kind->role, TM_ROLE_SUBSCRIBED);
    assert_true(d->has_sid);
    assert_int_equal(d->sid, 2);
    assert_int_equal(d->row_count, 0);
    assert_int_equal(d->channel.len, 5);
    assert_memory_equal(d->channel.at, "trade", 5);
    d = decode(f, "{\"id\":5,\"sid\":1,\"seq\":77,\"type\":\"unsubscribed\"}");
    assert_int_equal(d->verdict, TM_VERDICT_CONTROL);
    assert_int_equal(d->sequence, 77);
    d = decode(f, "{\"id\":9,\"type\":\"ok\",\"msg\":[{\"channel\":\"orderbook_delta\",\"sid\":1}]}");
    assert_int_equal(d->verdict, TM_VERDICT_CONTROL);
    assert_false(d->has_sid || d->has_sequence);
    d = decode(
        f,
        "{\"type\":\"error\",\"sid\":1,\"seq\":9120,\"msg\":{\"code\":25,\"msg\":\"Subscription buffer overflow\"}}");
    assert_int_equal(d->verdict, TM_VERDICT_CONTROL);
    assert_int_equal(d->code, 25);
    assert_int_equal(d->sequence, 9120);
    assert_memory_equal(d->text.at, "Subscription buffer overflow", d->text.len);
    d = decode(f, "{\"type\":\"error\",\"msg\":{\"code\":8}}");
    assert_int_equal(d->verdict, TM_VERDICT_CONTROL);
    assert_int_equal(d->code, 8);
    assert_null(d->text.at);
    assert_string_equal(d->reason, "");
    d = decode(f, "{\"type\":\"error\",\"msg\":{\"msg\":\"no code\"}}");
    assert_reason(d, TM_VERDICT_UNKNOWN, "msg.code: expected an integer, got nothing");
    d = decode(f, "{\"type\":\"subscribed\",\"sid\":4,\"msg\":{\"channel\":\"trade\"}}");
    assert_reason(d, TM_VERDICT_UNKNOWN, "msg.sid: expected an integer, got nothing");
}

/* ---- order of keys, white space, escapes ---- */

static void test_order_is_not_relied_on(void **state)
{
    struct fixture *f = *state;
    static const char *const orders[] = {
        "{\"msg\":{\"ts\":\"2026-11-05T14:00:00.640173Z\",\"side\":\"no\",\"delta_fp\":\"1.00\",\"price_dollars\":\"0.0100\","
        "\"market_ticker\":\"B\"},\"seq\":5,\"sid\":1,\"type\":\"orderbook_delta\"}",
        " { \"seq\" : 5 , \"msg\" : { \"price_dollars\" : \"0.0100\" , \"market_ticker\" : \"B\" , \"side\" "
        ": \"no\" ,"
        "\n\t\"delta_fp\" : \"1.00\" , \"ts\" : \"2026-11-05T14:00:00.640173Z\" } ,\r\n "
        "\"type\":\"orderbook_delta\", \"sid\" : 1 } ",
        "{\"type\":\"orderbook_delta\",\"extra\":{\"type\":\"trade\"},\"sid\":1,\"seq\":5,\"msg\":{\"new\":[{\"side\":\"x\"}],"
        "\"market_ticker\":\"B\",\"price_dollars\":0.01,\"delta_fp\":1,\"side\":\"no\",\"ts\":\"2026-11-05T14:00:00.640173Z\"}}",
        "{\"t\\u0079pe\":\"orderbook\\u005fdelta\",\"sid\":1,\"seq\":5,\"msg\":{\"market_ticker\":\"\\u0042\","
        "\"pric\\u0065_dollars\":\"0\\u002e01\",\"delta_fp\":\"1.00\",\"side\":\"\\u006eo\",\"ts\":\"2026-11-05T14:00:00.640173\\u005a\"}}",
    };
    for (int round = 0; round < 3; round++) /* the second time the order is remembered */
        for (size_t i = 0; i < LENGTH(orders); i++) {
            const struct tm_row *row = only_row(decode(f, orders[i]), "orderbook_deltas");
            assert_text(row, "ticker", "B");
            assert_text(row, "side", "no");
            assert_int_equal(int_of(row, "price"), 10000);
            assert_int_equal(int_of(row, "delta"), 100);
            assert_int_equal(time_of(row, "exchange_ts"), INT64_C(1793887200640173));
            assert_int_equal(int_of(row, "exchange_seq"), 5);
            assert_text(only_row(decode(f, TRADE), "trades"), "ticker", TICKER);
        }
}

/* A name that only begins like the one expected, or goes on longer, is another name. */
static void test_names_are_compared_whole(void **state)
{
    struct fixture *f = *state;
    only_row(decode(f, DELTA), "orderbook_deltas");
    const struct tm_row *row = only_row(
        decode(
            f,
            "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":2,\"msg\":{\"market_ticke\":\"x\",\"market_ticker\":\"y\","
            "\"market_ticker_\":\"z\",\"price_dollars\":\"0.4700\",\"delta_fp\":\"-9.90\",\"side\":\"yes\","
            "\"t\":1,\"ts\":\"2026-11-05T14:00:00Z\",\"a_name_that_is_longer_than_all_the_others_by_far\":2}}"),
        "orderbook_deltas");
    assert_text(row, "ticker", "y");
}

static void test_many_keys(void **state)
{
    struct fixture *f = *state;
    char text[8192];
    int n = snprintf(text, sizeof text, "{\"type\":\"orderbook_delta\",\"msg\":{");
    for (int i = 0; i < 200; i++)
        n += snprintf(text + n, sizeof text - (size_t)n, "\"key_%d\":%d,", i, i);
    (void)snprintf(text + n, sizeof text - (size_t)n, "%s", strstr(DELTA, "\"market_ticker\""));
    for (int round = 0; round < 3; round++)
        assert_text(only_row(decode(f, text), "orderbook_deltas"), "ticker", TICKER);
}

static void test_escaped_text(void **state)
{
    struct fixture *f = *state;
    static const char frame[] = "{\"type\":\"event_lifecycle\",\"sid\":4,\"seq\":1,\"msg\":{\"event_ticker\":\"%s\"}}";
    char text[400];
    (void)snprintf(text, sizeof text, frame, "a\\u00e9\\ud83d\\ude00\\n\xc3\xa9");
    const struct tm_row *row = only_row(decode(f, text), "lifecycle");
    assert_text(row, "event_ticker", "a\xc3\xa9\xf0\x9f\x98\x80\n\xc3\xa9");
    assert_jsonb(row, "content", "{\"event_ticker\":\"a\\u00e9\\ud83d\\ude00\\n\xc3\xa9\"}");
    static const char *const impossible[] = {"\\u0000", "\\ud800", "\\udc00x", "x\\ud800\\ud800"};
    for (size_t i = 0; i < LENGTH(impossible); i++) {
        (void)snprintf(text, sizeof text, frame, impossible[i]);
        assert_reason(decode(f, text), TM_VERDICT_UNKNOWN, "PostgreSQL can hold");
    }
    /* in a value that nobody stores they cost nothing */
    only_row(
        decode(
            f,
            "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":2,\"note\":\"\\u0000\\ud800\",\"msg\":{\"market_ticker\":"
            "\"y\",\"price_dollars\":\"0.4700\",\"delta_fp\":\"-9.90\",\"side\":\"yes\",\"ts_ms\":1}}"),
        "orderbook_deltas");
}

/* ---- what is not understood is kept ---- */

static void assert_kept(const struct tm_decoded *d, const char *frame, const char *reason)
{
    const struct tm_row *row = &d->rows[0];
    assert_text(row, "reason", reason);
    assert_text(row, "detail", d->reason);
    assert_text(row, "raw", frame);
    assert_int_equal(time_of(row, "received_at"), RECEIVED_US);
    assert_text(row, "gatherer", "g1");
}

static void test_unknown(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *frame, *reason;
    } cases[] = {
        {"{\"type\":\"new_thing\",\"sid\":3,\"seq\":8,\"msg\":{}}",
         "type: expected a known kind, got \"new_thing\" at byte 8"},
        {"{\"sid\":3,\"seq\":8}", "type: expected a known kind, got nothing"},
        {"{\"type\":7,\"sid\":3,\"seq\":8}", "type: expected a known kind, got 7 at byte 8"},
        {"{\"type\":\"rest_trade\",\"sid\":3,\"seq\":8}", "type: expected a known kind"},
        {"{\"type\":\"trade\",\"sid\":3,\"seq\":8}", "trade: msg.trade_id: expected a value, got nothing"},
        {"{\"type\":\"trade\",\"sid\":3,\"seq\":8,\"msg\":[]}", "trade: msg.trade_id: expected a value, got nothing"},
        {"{\"type\":\"trade\",\"sid\":3,\"seq\":8,\"msg\":{\"trade_id\":\"x\"}}",
         "trade: msg.trade_id: expected a uuid, got \"x\" at byte 50"},
        {"{\"type\":\"trade\",\"type\":\"trade\",\"sid\":3,\"seq\":8}", "type: expected the name once"},
        {"{\"type\":\"ok\",\"sid\":3,\"seq\":8,\"seq\":8}", "seq: expected the name once"},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        const struct tm_decoded *d = decode(f, cases[i].frame);
        assert_reason(d, TM_VERDICT_UNKNOWN, cases[i].reason);
        assert_kept(d, cases[i].frame, "unknown");
        assert_true(d->has_sid && d->has_sequence); /* they consume numbers all the same */
        assert_int_equal(d->sid, 3);
        assert_int_equal(d->sequence, 8);
        assert_int_equal(int_of(&d->rows[0], "sid"), 3);
        assert_int_equal(int_of(&d->rows[0], "exchange_seq"), 8);
    }
    assert_reason(decode(f, "[1,2]"), TM_VERDICT_UNKNOWN, "expected a known kind");
    assert_reason(decode(f, "\"text\""), TM_VERDICT_UNKNOWN, "expected a known kind");
    assert_reason(decode(f, "{\"type\":\"ok\",\"sid\":\"x\"}"), TM_VERDICT_UNKNOWN,
                  "sid: expected an integer, got \"x\"");
    assert_reason(decode(f, "{\"type\":\"ok\",\"seq\":1.5}"), TM_VERDICT_UNKNOWN, "seq: expected an integer, got 1.5");
}

static void test_wrong_values(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *from, *to, *reason;
    } cases[] = {
        {"\"0.4700\"", "\"0.47x\"", "msg.price_dollars: expected a number, got \"0.47x\""},
        {"\"0.4700\"", "true", "msg.price_dollars: expected a number, got true"},
        {"\"0.4700\"", "{}", "msg.price_dollars: expected a number, got {}"},
        {"\"0.4700\"", "\"0.4700001\"", "msg.price_dollars: expected no more digits than the scale holds"},
        {"\"0.4700\"", "\"2147.483648\"", "msg.price_dollars: expected 0 to 1, got \"2147.483648\""},
        {"\"0.4700\"", "\"-0.4700\"", "msg.price_dollars: expected 0 to 1, got \"-0.4700\""},
        {"\"0.4700\"", "\"-\\u0030.4700\"", "msg.price_dollars: expected 0 to 1, got \"-\\u0030.4700\""},
        {"\"0.4700\"", "-0.000001", "msg.price_dollars: expected 0 to 1, got -0.000001"},
        {"\"0.4700\"", "\"1.000001\"", "msg.price_dollars: expected 0 to 1, got \"1.000001\""},
        {"\"0.4700\"", "\"470000\"", "msg.price_dollars: expected 0 to 1, got \"470000\""},
        {"\"0.4700\"", "null", "msg.price_dollars: expected a value, got nothing"},
        {"\"0.4700\"", "\"\"", "msg.price_dollars: expected a value, got nothing"},
        {"\"-9.90\"", "\"99999999999999999999\"", "msg.delta_fp: expected a value that fits the column"},
        {"\"yes\"", "\"maybe\"", "msg.side: expected one of the column's allowed values, got \"maybe\""},
        {"\"yes\"", "\"ye\"", "msg.side: expected one of"},
        {"\"yes\"", "\"yess\"", "msg.side: expected one of"},
        {"\"yes\"", "1", "msg.side: expected a string, got 1"},
        {"T14:00", "T25:00", "msg.ts: expected a value that fits the column"},
        {"2026-11-05T", "yesterday: ", "msg.ts: expected an RFC 3339 time"},
        {"640173Z", "6401731Z", "msg.ts: expected no more digits than the scale holds"},
        {"\"market_ticker\":\"" TICKER "\"", "\"market_ticker\":\"a\",\"market_ticker\":\"b\"",
         "market_ticker: expected the name once, got \"b\""},
    };
    for (size_t i = 0; i < LENGTH(cases); i++) {
        char text[1000];
        const char *at = strstr(DELTA, cases[i].from);
        (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - DELTA), DELTA, cases[i].to,
                       at + strlen(cases[i].from));
        const struct tm_decoded *d = decode(f, text);
        assert_reason(d, TM_VERDICT_UNKNOWN, cases[i].reason);
        assert_kept(d, text, "unknown");
        assert_int_equal(d->sequence, 2);
    }
}

/* Both ends of a range are in it, and what has no range may be negative. */
static void test_ranges(void **state)
{
    struct fixture *f = *state;
    static const char *const prices[] = {"\"0.0000\"", "\"1.0000\"", "0", "1", "-0", "\"1\"", "\"0.000001\"", "1e0"};
    static const int64_t expected[] = {0, 1000000, 0, 1000000, 0, 1000000, 1, 1000000};
    char text[1000];
    for (size_t i = 0; i < LENGTH(prices); i++) {
        (void)snprintf(text, sizeof text,
                       "{\"type\":\"orderbook_delta\",\"msg\":{\"market_ticker\":\"T\",\"price_dollars\":%s,"
                       "\"delta_fp\":\"-9.90\",\"side\":\"yes\",\"ts_ms\":1}}",
                       prices[i]);
        const struct tm_row *row = only_row(decode(f, text), "orderbook_deltas");
        assert_true(int_of(row, "price") == expected[i]);
        assert_int_equal(int_of(row, "delta"), -990);
    }
    assert_reason(
        decode(f, "{\"type\":\"ticker\",\"msg\":{\"market_ticker\":\"T\",\"ts_ms\":1,\"volume_fp\":\"-0.01\"}}"),
        TM_VERDICT_UNKNOWN, "msg.volume_fp: expected at least 0, got \"-0.01\" at byte");
    assert_reason(decode(f, "{\"type\":\"orderbook_snapshot\",\"msg\":{\"market_ticker\":\"T\","
                            "\"no_dollars_fp\":[[\"1.2000\",\"5.00\"]]}}"),
                  TM_VERDICT_UNKNOWN, "expected 0 to 1 when taken from 1, got \"1.2000\"");
}

static void test_key_text_is_bounded(void **state)
{
    struct fixture *f = *state;
    char text[2000], ticker[600];
    for (int len = 511; len <= 513; len++) {
        memset(ticker, 'T', sizeof ticker);
        ticker[len] = '\0';
        (void)snprintf(text, sizeof text,
                       "{\"type\":\"orderbook_delta\",\"msg\":{\"market_ticker\":\"%s\",\"price_dollars\":\"0.4700\","
                       "\"delta_fp\":\"-9.90\",\"side\":\"yes\",\"ts_ms\":1}}",
                       ticker);
        const struct tm_decoded *d = decode(f, text);
        if (len <= TM_KEY_TEXT_BYTES_MAX)
            only_row(d, "orderbook_deltas");
        else
            assert_reason(d, TM_VERDICT_UNKNOWN, "a text short enough for a key");
    }
}

static void test_malformed(void **state)
{
    struct fixture *f = *state;
    const struct tm_decoded *d = decode(f, "{\"type\":\"trade\",\"sid\":3,\"seq\":8,\"msg\":{\"a\":}}");
    assert_reason(d, TM_VERDICT_MALFORMED, "not JSON: expected a value at byte 43 of 45");
    assert_kept(d, "{\"type\":\"trade\",\"sid\":3,\"seq\":8,\"msg\":{\"a\":}}", "malformed");
    assert_null(d->kind);
    assert_true(d->has_sequence);
    assert_int_equal(d->sequence, 8);
    d = decode(f, "{\"type\":\"trade\",\"sid\":3,\"seq\":8"); /* the 8 may be half a number */
    assert_int_equal(d->verdict, TM_VERDICT_MALFORMED);
    only_row(decode(f, DELTA), "orderbook_deltas");
    d = decode(f, "{\"type\":\"ok\",\"sid\":[1,"); /* not the sid of the frame before */
    assert_int_equal(d->verdict, TM_VERDICT_MALFORMED);
    assert_false(d->has_sid || d->has_sequence);
    d = decode(f, "\xff\xfe");
    assert_reason(d, TM_VERDICT_MALFORMED, "not JSON: expected a value at byte 0 of 2");
    assert_int_equal(column_of(&d->rows[0], "raw").len, 2);
}

/* Where the frame before stood, so that what was noted of it would still be readable. */
static void test_malformed_notes_nothing_of_the_frame_before(void **state)
{
    struct fixture *f = *state;
    static const char *const malformed[] = {"{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":;2,\"msg\":{}}",
                                            "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":[2,\"msg\":{}}",
                                            "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":02,\"msg\":{}}"};
    for (size_t i = 0; i < LENGTH(malformed); i++) {
        char block[1024] = DELTA;
        assert_int_equal(tm_decode_frame(f->decoder, block, strlen(block), 1, &f->d), TM_OK);
        assert_int_equal(f->d.sequence, 2);
        (void)strcpy(block, malformed[i]);
        assert_int_equal(tm_decode_frame(f->decoder, block, strlen(block), 1, &f->d), TM_OK);
        assert_int_equal(f->d.verdict, TM_VERDICT_MALFORMED);
        assert_true(f->d.has_sid);
        assert_false(f->d.has_sequence);
    }
}

/* A name that was seen before its value was white space, another kind of value, or absent. */
static void test_members_are_recognised_in_any_dress(void **state)
{
    struct fixture *f = *state;
    static const char *const frames[] = {
        "{\"type\":\"ok\",\"sid\":1,\"seq\":2}",
        "{\"type\":\"ok\",\"sid\": 1,\"seq\" :2}",
        "{ \"type\" : \"ok\" , \"sid\" : 1 , \"seq\" : 2 }",
        "{\"type\":\"ok\",\"sid\":\"1\",\"seq\":\"2\"}",
        "{\"type\":\"ok\",\"x\":null,\"sid\":1,\"seq\":2}",
        "{\"seq\":2,\"sid\":1,\"type\":\"ok\"}",
        "{\"type\":\"ok\",\"s\\u0069d\":1,\"seq\":2}",
        "{\"type\":\"ok\",\"y\": {},\"sid\":1.0,\"seq\":2e0}",
    };
    for (size_t i = 0; i < LENGTH(frames) * LENGTH(frames); i++) { /* each after each */
        const struct tm_decoded *d = decode(f, frames[i / LENGTH(frames)]);
        assert_int_equal(d->verdict, TM_VERDICT_CONTROL);
        d = decode(f, frames[i % LENGTH(frames)]);
        assert_int_equal(d->verdict, TM_VERDICT_CONTROL);
        assert_true(d->has_sid && d->sid == 1 && d->has_sequence && d->sequence == 2);
    }
    static const char *const faults[] = {"{\"type\":\"ok\",\"sid\":1{\"seq\":2}",
                                         "{\"type\":\"ok\",\"sid\":1,,\"seq\":2}",
                                         "{\"type\":\"ok\",\"sid\":1,}",
                                         "{,\"type\":\"ok\"}",
                                         "{\"type\":\"ok\"\"sid\":1}",
                                         "{\"type\":\"ok\",\"sid\"1}",
                                         "{\"type\":\"ok\",\"sid\":}",
                                         "{\"type\":\"ok\",\"sid\":"};
    for (size_t i = 0; i < LENGTH(frames) * LENGTH(faults); i++) {
        (void)decode(f, frames[i / LENGTH(faults)]);
        assert_int_equal(decode(f, faults[i % LENGTH(faults)])->verdict, TM_VERDICT_MALFORMED);
    }
}

static void test_too_long(void **state)
{
    struct fixture *f = *state;
    size_t len = TM_FIELD_BYTES_MAX + 1;
    char *text = malloc(len + 16);
    memset(text, ' ', len + 16);
    memcpy(text, DELTA, strlen(DELTA));
    assert_int_equal(tm_decode_frame(f->decoder, text, len - 1, RECEIVED_US, &f->d), TM_OK);
    only_row(&f->d, "orderbook_deltas");
    assert_int_equal(tm_decode_frame(f->decoder, text, len, RECEIVED_US, &f->d), TM_OK);
    assert_reason(&f->d, TM_VERDICT_MALFORMED, "expected at most 4194304 bytes, got 4194305");
    assert_int_equal(column_of(&f->d.rows[0], "raw").len, TM_FIELD_BYTES_MAX);
    free(text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_delta),
        TEST(test_trade),
        TEST(test_trade_of_old),
        TEST(test_snapshot),
        TEST(test_snapshot_of_an_empty_book),
        TEST(test_ticker),
        TEST(test_lifecycle),
        TEST(test_control),
        TEST(test_order_is_not_relied_on),
        TEST(test_names_are_compared_whole),
        TEST(test_many_keys),
        TEST(test_escaped_text),
        TEST(test_unknown),
        TEST(test_wrong_values),
        TEST(test_ranges),
        TEST(test_key_text_is_bounded),
        TEST(test_malformed),
        TEST(test_malformed_notes_nothing_of_the_frame_before),
        TEST(test_members_are_recognised_in_any_dress),
        TEST(test_too_long),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
