/* Frames whose arrays hold the records (the form of Coinbase and Polymarket), nested tags, frames that are arrays. */
#include "support.h"

static const struct tm_column_def level_columns[] = {
    {.name = "product", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "side", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "price", .type = TM_TYPE_INT8, .not_null = true, .scale = 8},
    {.name = "size", .type = TM_TYPE_INT8, .not_null = true, .scale = 8},
    {.name = "raw", .type = TM_TYPE_JSONB},
    {.name = "occurrence", .type = TM_TYPE_INT2},
};
static const char *const level_key[] = {"product", "at", "side", "price", "size", NULL};

#define SATOSHI(p)                                                                                                     \
    {                                                                                                                  \
        .path = (p), .unit = TM_UNIT_DECIMAL, .scale = 8                                                               \
    }

static const struct tm_source_def update_sources[] = {
    FROM("product", PLAIN("$.data.product_id")),
    FROM("at", RFC3339("event_time"), RFC3339("$.timestamp")),
    FROM("side", PLAIN("side")),
    FROM("price", SATOSHI("price_level")),
    FROM("size", SATOSHI("new_quantity")),
    {.column = "raw", .from = TM_FROM_RAW},
    {.column = "occurrence", .from = TM_FROM_OCCURRENCE},
};
static const struct tm_source_def pair_sources[] = {
    FROM("product", PLAIN("$.data.product_id")),
    FROM("at", MILLIS("$.time")),
    CONSTANT("side", "bid"),
    FROM("price", SATOSHI("[0]")),
    FROM("size", SATOSHI("[-1]")),
    {.column = "occurrence", .from = TM_FROM_OCCURRENCE},
};
static const struct tm_source_def group_sources[] = {
    FROM("product", PLAIN("$.asset")), FROM("at", MILLIS("when")),
    FROM("side", PLAIN("side")),       FROM("price", SATOSHI("price")),
    FROM("size", SATOSHI("size")),     {.column = "occurrence", .from = TM_FROM_OCCURRENCE},
};

static const struct tm_stream_def streams[] = {
    {.name = "levels",
     COLUMNS(level_columns),
     .key = level_key,
     .occurrence = true,
     .ticker_column = "product",
     .time_column = "at"},
};
static const struct tm_kind_def kinds[] = {
    {.tag = "l2_data", .stream = "levels", .each = "data.updates", SOURCES(update_sources)},
    {.tag = "pairs", .stream = "levels", .each = "data.bids", SOURCES(pair_sources)},
    {.tag = "group", .document = true, .stream = "levels", .each = "changes", SOURCES(group_sources)},
};
static const struct tm_plan_def plan_def = {
    .gatherer = "g1",
    .protocol = {.tag_path = "head.channel", .sequence_path = "head.n"},
    .streams = streams,
    .stream_count = LENGTH(streams),
    .kinds = kinds,
    .kind_count = LENGTH(kinds),
};

static int setup_each(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct tm_error err = {0};
    if (tm_plan_compile(&plan_def, &f->plan, &err))
        fail_msg("%s", err.message);
    assert_int_equal(tm_decoder_create(f->plan, &f->decoder), TM_OK);
    *state = f;
    return 0;
}

#define UPDATE(side, price, size)                                                                                      \
    "{\"side\":\"" side "\",\"event_time\":\"2026-11-05T14:00:00Z\",\"price_level\":\"" price                          \
    "\",\"new_quantity\":\"" size "\"}"
#define L2(updates)                                                                                                    \
    "{\"head\":{\"channel\":\"l2_data\",\"n\":4},\"timestamp\":\"2026-11-05T14:00:01Z\",\"data\":{"                    \
    "\"updates\":" updates ",\"product_id\":\"BTC-USD\"}}"

static void test_rows_of_an_array(void **state)
{
    struct fixture *f = *state;
    const struct tm_decoded *d =
        decode(f, L2("[" UPDATE("bid", "50000.01", "0.00000001") " , {\"side\":\"offer\",\"price_level\":\"7\","
                                                                 "\"new_quantity\":\"0\"}]"));
    assert_int_equal(d->verdict, TM_VERDICT_ROWS);
    assert_int_equal(d->row_count, 2);
    assert_int_equal(d->sequence, 4);
    assert_text(&d->rows[0], "product", "BTC-USD");
    assert_int_equal(int_of(&d->rows[0], "price"), INT64_C(5000001000000));
    assert_int_equal(int_of(&d->rows[0], "size"), 1);
    assert_int_equal(time_of(&d->rows[0], "at"), INT64_C(1793887200000000));
    assert_jsonb(&d->rows[0], "raw", UPDATE("bid", "50000.01", "0.00000001"));
    assert_text(&d->rows[1], "side", "offer");
    assert_int_equal(time_of(&d->rows[1], "at"), INT64_C(1793887201000000)); /* the frame's */
    assert_jsonb(&d->rows[1], "raw", "{\"side\":\"offer\",\"price_level\":\"7\",\"new_quantity\":\"0\"}");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(d->rows[i].ticker_len, 7);
        assert_memory_equal(d->rows[i].ticker, "BTC-USD", 7);
        assert_ptr_equal(d->rows[i].tuple + d->rows[i].occurrence_at, column_of(&d->rows[i], "occurrence").at);
    }
}

/* Enough rows for all buffers to grow under way: the pointers of the first rows must still be right. */
static void test_many_rows(void **state)
{
    struct fixture *f = *state;
    struct tm_buf text = {0};
    assert_int_equal(
        tm_buf_printf(
            &text,
            "{\"head\":{\"channel\":\"pairs\"},\"time\":1793887200640,\"data\":{\"product_id\":\"P\",\"bids\":["),
        TM_OK);
    for (int i = 0; i < 2000; i++)
        assert_int_equal(tm_buf_printf(&text, "%s[\"%d.5\",%d]", i ? "," : "", i, i), TM_OK);
    assert_int_equal(tm_buf_printf(&text, "]}}"), TM_OK);
    const struct tm_decoded *d = decode_bytes(f, (const char *)text.data, text.len);
    assert_int_equal(d->verdict, TM_VERDICT_ROWS);
    assert_int_equal(d->row_count, 2000);
    for (int i = 0; i < 2000; i++) {
        assert_int_equal(int_of(&d->rows[i], "price"), i * INT64_C(100000000) + 50000000);
        assert_int_equal(int_of(&d->rows[i], "size"), i * INT64_C(100000000));
        assert_memory_equal(d->rows[i].ticker, "P", 1);
        assert_int_equal(d->rows[i].exchange_us, INT64_C(1793887200640000));
    }
    tm_buf_fini(&text);
}

static void test_empty_and_missing_arrays(void **state)
{
    struct fixture *f = *state;
    const struct tm_decoded *d = decode(f, L2("[]"));
    assert_int_equal(d->verdict, TM_VERDICT_ROWS);
    assert_int_equal(d->row_count, 0);
    assert_reason(decode(f, L2("{}")), TM_VERDICT_UNKNOWN, "data.updates: expected an array, got {}");
    assert_reason(decode(f, "{\"head\":{\"channel\":\"l2_data\"}}"), TM_VERDICT_UNKNOWN,
                  "data.updates: expected an array, got nothing");
}

/* One wrong element: the frame is unknown and kept whole, and its good elements are stored all the same. */
static void test_a_wrong_element_costs_itself(void **state)
{
    struct fixture *f = *state;
    static const char *const wrong[] = {"7", "{\"side\":\"bid\"}", "[]", "{\"side\":\"a\",\"side\":\"b\"}",
                                        UPDATE("bid", "x", "1")};
    for (size_t i = 0; i < LENGTH(wrong); i++) {
        char text[1000];
        (void)snprintf(text, sizeof text, L2("[" UPDATE("bid", "1", "2") ",%s,%s," UPDATE("ask", "3", "4") "]"),
                       wrong[i], wrong[i]);
        const struct tm_decoded *d = decode(f, text);
        assert_reason(d, TM_VERDICT_UNKNOWN, "expected");
        assert_int_equal(d->row_count, 3);
        assert_text(&d->rows[0], "raw", text);
        assert_text(&d->rows[0], "detail", d->reason);
        assert_text(&d->rows[1], "side", "bid");
        assert_text(&d->rows[2], "side", "ask");
        assert_int_equal(int_of(&d->rows[2], "size"), 400000000);
        assert_memory_equal(d->rows[2].ticker, "BTC-USD", 7);
    }
}

static int count_row(void *arg, struct tm_row *row)
{
    int *counts = arg;
    counts[strcmp(row->stream->name, "unknown_frames") == 0]++;
    return 0;
}

static void test_arrays_in_documents(void **state)
{
    struct fixture *f = *state;
    static const char text[] =
        "[{\"asset\":\"A\",\"changes\":[{\"when\":1,\"side\":\"b\",\"price\":\"1\",\"size\":\"2\"},{\"when\":2,\"side\":\"s\","
        "\"price\":\"1\",\"size\":\"2\"}]},{\"asset\":\"B\",\"changes\":[{\"when\":1,\"side\":\"b\",\"price\":\"1\",\"size\":\"2\"},"
        "{}]},{\"asset\":\"C\"}]";
    int counts[2] = {0};
    struct tm_error err;
    assert_int_equal(tm_decode_document(f->decoder, tm_plan_kind_by_tag(f->plan, "group"), "",
                                        (struct tm_span){text, strlen(text)}, 0, count_row, counts, &err),
                     TM_OK);
    assert_int_equal(counts[0], 3);
    assert_int_equal(counts[1], 2);
}

/* ---- a frame that is an array: the tag at a place, not under a name ---- */

static const struct tm_source_def array_sources[] = {
    FROM("product", PLAIN("[3]")),   FROM("at", SECONDS("[1][2]")),
    FROM("side", PLAIN("[1][3]")),   FROM("price", SATOSHI("[1][0]")),
    FROM("size", SATOSHI("[1][1]")), {.column = "occurrence", .from = TM_FROM_OCCURRENCE},
};

static void test_frames_that_are_arrays(void **state)
{
    (void)state;
    struct fixture *f = calloc(1, sizeof *f);
    struct tm_error err = {0};
    const struct tm_kind_def kind = {.tag = "trade", .stream = "levels", SOURCES(array_sources)};
    struct tm_plan_def def = plan_def;
    def.protocol = (struct tm_protocol_def){.tag_path = "[2]", .subscription_path = "[0]"};
    def.kinds = &kind;
    def.kind_count = 1;
    if (tm_plan_compile(&def, &f->plan, &err))
        fail_msg("%s", err.message);
    assert_int_equal(tm_decoder_create(f->plan, &f->decoder), TM_OK);
    const struct tm_row *row =
        only_row(decode(f, "[337,[\"5541.2\",\"0.158\",\"1534614057.321597\",\"s\"],\"trade\",\"XBT/USD\"]"), "levels");
    assert_int_equal(f->d.sid, 337);
    assert_text(row, "product", "XBT/USD");
    assert_int_equal(int_of(row, "price"), INT64_C(554120000000));
    assert_int_equal(time_of(row, "at"), INT64_C(1534614057321597));
    assert_reason(decode(f, "[337,\"hb\"]"), TM_VERDICT_UNKNOWN, "[2]: expected a known kind, got nothing");
    void *again = f;
    teardown(&again);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_rows_of_an_array, setup_each, teardown),
        cmocka_unit_test_setup_teardown(test_many_rows, setup_each, teardown),
        cmocka_unit_test_setup_teardown(test_empty_and_missing_arrays, setup_each, teardown),
        cmocka_unit_test_setup_teardown(test_a_wrong_element_costs_itself, setup_each, teardown),
        cmocka_unit_test_setup_teardown(test_arrays_in_documents, setup_each, teardown),
        cmocka_unit_test(test_frames_that_are_arrays),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
