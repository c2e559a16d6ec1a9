/* REST documents of kalshi.md 7 become rows, object by object. */
#include "support.h"

struct collected {
    int rows, unknown, stop_after;
    char tickers[256];
    struct tm_row last;
    uint8_t last_tuple[4096];
};

static int collect(void *arg, struct tm_row *row)
{
    struct collected *c = arg;
    bool unknown = strcmp(row->stream->name, "unknown_frames") == 0;
    c->rows += !unknown;
    c->unknown += unknown;
    if (!unknown && row->ticker && strlen(c->tickers) + row->ticker_len + 2 < sizeof c->tickers) {
        strncat(c->tickers, row->ticker, row->ticker_len);
        strcat(c->tickers, " ");
    }
    if (row->len <= sizeof c->last_tuple) {
        memcpy(c->last_tuple, row->tuple, row->len);
        c->last = *row;
        c->last.tuple = c->last_tuple;
    }
    return c->stop_after && c->rows + c->unknown == c->stop_after ? 77 : 0;
}

static int take_document(struct fixture *f, const char *tag, const char *path, const char *text, struct collected *c)
{
    struct tm_error err = {0};
    char *copy = malloc(strlen(text)); /* of exactly its size: documents need no padding */
    memcpy(copy, text, strlen(text));
    int rc = tm_decode_document(f->decoder, tm_plan_kind_by_tag(f->plan, tag), path,
                                (struct tm_span){.at = copy, .len = strlen(text)}, RECEIVED_US, collect, c, &err);
    if (rc < 0)
        assert_true(err.message[0]);
    free(copy);
    return rc;
}

static void test_document_of_trades(void **state)
{
    struct fixture *f = *state;
    struct collected c = {0};
    int rc = take_document(
        f, "rest_trade", "trades",
        "{\"trades\":[{\"trade_id\":\"d17a9849-e50c-44eb-455a-eb6e1098773f\",\"ticker\":\"A\",\"count_fp\":"
        "\"9.90\","
        "\"yes_price_dollars\":\"0.4700\",\"taker_side\":\"no\",\"is_block_trade\":true,"
        "\"created_time\":\"2026-11-05T14:00:00.640173Z\"} , {\"trade_id\":\"oops\"},\n"
        "{\"ticker\":\"C\",\"trade_id\":\"d17a9849-e50c-44eb-455a-eb6e10987740\",\"count_fp\":\"1.00\","
        "\"yes_price_dollars\":\"0.01\",\"created_time\":\"2026-11-05T14:00:01Z\"}],\"cursor\":\"\"}",
        &c);
    assert_int_equal(rc, TM_OK);
    assert_int_equal(c.rows, 2);
    assert_int_equal(c.unknown, 1); /* a wrong object costs only itself */
    assert_string_equal(c.tickers, "A C ");
    assert_int_equal(time_of(&c.last, "exchange_ts"), INT64_C(1793887201000000));
    assert_int_equal(int_of(&c.last, "price"), 10000);
    assert_true(is_null(&c.last, "sid"));
}

static void test_document_faults(void **state)
{
    struct fixture *f = *state;
    struct collected c = {0};
    assert_int_equal(take_document(f, "rest_trade", "trades", "{\"trades\":[]}", &c), TM_OK);
    assert_int_equal(take_document(f, "rest_trade", "trades", "{\"trades\":[{}]", &c), TM_EPARSE);
    assert_int_equal(take_document(f, "rest_trade", "trades", "<html>", &c), TM_EPARSE);
    assert_int_equal(take_document(f, "rest_trade", "trades", "{\"error\":\"too many requests\"}", &c), TM_EPARSE);
    assert_int_equal(take_document(f, "rest_trade", "trades", "{\"trades\":null}", &c), TM_EPARSE);
    assert_int_equal(take_document(f, "trade", "trades", "{\"trades\":[]}", &c), TM_EINVAL);
    assert_int_equal(c.rows + c.unknown, 0);
    assert_int_equal(take_document(f, "rest_trade", "", "[1,\"x\",[],{\"ticker\":1,\"ticker\":2}]", &c), TM_OK);
    assert_int_equal(c.unknown, 4);
    c = (struct collected){.stop_after = 2};
    assert_int_equal(take_document(f, "rest_trade", "", "[1,2,3]", &c), 77);
    assert_int_equal(c.unknown, 2);
}

static void test_document_of_one_object(void **state)
{
    struct fixture *f = *state;
    struct collected c = {0};
    assert_int_equal(
        take_document(f, "rest_market", "market",
                      "{\"market\": {\"ticker\":\"A\",\"close_time\":\"2026-11-05T14:00:00Z\",\"status\":\"active\"} }",
                      &c),
        TM_OK);
    assert_int_equal(c.rows, 1);
    assert_jsonb(&c.last, "content",
                 "{\"ticker\":\"A\",\"close_time\":\"2026-11-05T14:00:00Z\",\"status\":\"active\"}");
    assert_true(is_null(&c.last, "event_ticker"));
}

static void test_document_of_orderbooks(void **state)
{
    struct fixture *f = *state;
    struct collected c = {0};
    assert_int_equal(
        take_document(f, "rest_orderbook", "orderbooks",
                      "{\"orderbooks\":[{\"ticker\":\"A\",\"orderbook_fp\":{\"yes_dollars\":[[\"0.4700\",\"31.54\"]],"
                      "\"no_dollars\":[]}}]}",
                      &c),
        TM_OK);
    assert_int_equal(c.rows, 1);
    assert_text(&c.last, "source", "rest");
    assert_int_equal(int_of(&c.last, "best_bid"), 470000);
    assert_true(is_null(&c.last, "best_ask"));
}

static void test_large_document(void **state)
{
    struct fixture *f = *state;
    struct collected c = {0};
    struct tm_buf text = {0};
    char padding[900];
    memset(padding, 'p', sizeof padding - 1);
    padding[sizeof padding - 1] = '\0';
    assert_int_equal(tm_buf_printf(&text, "{\"markets\":["), TM_OK);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(
            tm_buf_printf(&text, "%s{\"ticker\":\"T%d\",\"rules_primary\":\"%s\"}", i ? "," : "", i, padding), TM_OK);
    assert_int_equal(tm_buf_printf(&text, "]}"), TM_OK);
    assert_int_equal(take_document(f, "rest_market", "markets", tm_buf_cstr(&text), &c), TM_OK);
    assert_int_equal(c.rows, 1000);
    assert_text(&c.last, "ticker", "T999");
    tm_buf_fini(&text);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(test_document_of_trades),     TEST(test_document_faults), TEST(test_document_of_one_object),
        TEST(test_document_of_orderbooks), TEST(test_large_document),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
