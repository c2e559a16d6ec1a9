/*
 * The SQL of both stores. tests/process/test_record_copy.py runs it on a real PostgreSQL, and loads what this program
 * writes when TIDEMILL_DUMP names a directory: local.sql, production.sql and STREAM.copy files of decoded rows.
 */
#include "support.h"

#include "record/schema.h"

static const char *schema(struct fixture *f, int (*make)(const struct tm_plan *, struct tm_buf *), struct tm_buf *out)
{
    assert_int_equal(make(f->plan, out), TM_OK);
    const char *text = tm_buf_cstr(out);
    assert_non_null(text);
    return text;
}

static void assert_has(const char *text, const char *part)
{
    if (!strstr(text, part))
        fail_msg("expected\n%s\nin\n%s", part, text);
}

static void test_local(void **state)
{
    struct tm_buf buf = {0};
    const char *sql = schema(*state, tm_schema_local, &buf);
    assert_has(sql, "CREATE TABLE IF NOT EXISTS orderbook_deltas (\n"
                    "    ticker text COLLATE \"C\" NOT NULL,\n"
                    "    exchange_ts timestamptz NOT NULL,\n"
                    "    side text COLLATE \"C\" NOT NULL,\n"
                    "    price int4 NOT NULL,\n"
                    "    delta int8 NOT NULL,\n"
                    "    occurrence int2 NOT NULL,\n"
                    "    received_at timestamptz NOT NULL,\n"
                    "    sid int8,\n"
                    "    exchange_seq int8,\n"
                    "    seq int8 NOT NULL,\n"
                    "    epoch_no int4 NOT NULL DEFAULT 0,\n"
                    "    PRIMARY KEY (epoch_no,seq)\n"
                    ") PARTITION BY RANGE (epoch_no, seq);\n");
    assert_has(sql, "    PRIMARY KEY (ticker)\n);\n"); /* markets */
    assert_has(sql, "CREATE INDEX IF NOT EXISTS markets_seq ON markets (epoch_no, seq);\n");
    assert_has(
        sql,
        "CREATE OR REPLACE VIEW readable.orderbook_deltas AS SELECT ticker, exchange_ts, side, price * 0.000001 AS "
        "price, delta * 0.01 AS delta, occurrence, received_at FROM orderbook_deltas;\n");
    assert_has(sql, "CREATE OR REPLACE VIEW readable.gaps AS SELECT gatherer, gap_id, ");
    assert_null(strstr(sql, "UNIQUE"));
    tm_buf_fini(&buf);
}

static void test_production(void **state)
{
    struct tm_buf buf = {0};
    const char *sql = schema(*state, tm_schema_production, &buf);
    assert_has(sql, "    is_block_trade bool\n) PARTITION BY HASH (trade_id);\n");
    assert_has(sql,
               "CREATE TABLE IF NOT EXISTS trades_h7 PARTITION OF trades FOR VALUES WITH (MODULUS 8, REMAINDER 7);\n");
    assert_has(sql, "CREATE UNIQUE INDEX IF NOT EXISTS trades_key ON trades (trade_id);\n");
    assert_has(sql, "CREATE UNIQUE INDEX IF NOT EXISTS orderbook_deltas_key ON orderbook_deltas "
                    "(exchange_ts,ticker,side,price,delta,occurrence);\n");
    assert_has(sql, "CREATE UNIQUE INDEX IF NOT EXISTS tickers_key ON tickers "
                    "(exchange_ts,ticker,price,yes_bid,yes_ask,volume,open_interest) NULLS NOT DISTINCT;\n");
    assert_has(sql, "CREATE INDEX IF NOT EXISTS lifecycle_key ON lifecycle (ticker,received_at);\n");
    assert_has(sql, "CREATE UNIQUE INDEX IF NOT EXISTS gaps_key ON gaps (gatherer,epoch,seq);\n");
    assert_has(sql, "CREATE UNIQUE INDEX IF NOT EXISTS orderbook_snapshots_key ON orderbook_snapshots "
                    "(snapshot_ts,gatherer,epoch,seq);\n");
    assert_has(sql, "PERFORM create_hypertable('orderbook_deltas', 'exchange_ts'");
    assert_has(sql, "CREATE INDEX IF NOT EXISTS tickers_received_at ON tickers USING brin (received_at)");
    assert_null(strstr(sql, "exchange_seq"));
    assert_null(strstr(sql, "epoch_no"));
    tm_buf_fini(&buf);
}

static void assert_list(int (*make)(const struct tm_stream *, struct tm_buf *), const struct tm_stream *s,
                        const char *expected)
{
    struct tm_buf out = {0};
    assert_int_equal(tm_buf_append(&out, "x:", 2), TM_OK);
    assert_int_equal(make(s, &out), TM_OK);
    assert_string_equal(tm_buf_cstr(&out) + 2, expected);
    tm_buf_fini(&out);
}

static void test_lists(void **state)
{
    struct fixture *f = *state;
    const struct tm_stream *s = tm_plan_stream_by_name(f->plan, "orderbook_deltas");
    assert_list(tm_schema_poll_columns, s, "ticker,exchange_ts,side,price,delta,occurrence,received_at,seq");
    assert_list(tm_schema_production_columns, s, "ticker,exchange_ts,side,price,delta,occurrence,received_at");
    assert_list(tm_schema_key_columns, s, "exchange_ts,ticker,side,price,delta,occurrence");
    s = tm_plan_stream_by_name(f->plan, "unknown_frames");
    assert_list(tm_schema_poll_columns, s, "received_at,reason,detail,raw,gatherer,epoch,seq");
    assert_list(tm_schema_production_columns, s, "received_at,reason,detail,raw,gatherer,epoch,seq");
    assert_list(tm_schema_key_columns, s, "gatherer,epoch,seq");
}

/* ---- files for a real PostgreSQL ---- */

static const char *const dumped[] = {
    "{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":2,\"msg\":{\"market_ticker\":\"KXSIM-26NOV05-T1\",\"price_dollars\":\"0.4700\","
    "\"delta_fp\":\"-9.90\",\"side\":\"yes\",\"ts\":\"2026-11-05T14:00:00.640173Z\"}}",
    "{\"type\":\"trade\",\"sid\":2,\"seq\":172193,\"msg\":{\"trade_id\":\"d17a9849-e50c-44eb-455a-eb6e1098773f\","
    "\"market_ticker\":\"caf\\u00e9 \\ud83d\\ude00\",\"yes_price_dollars\":\"0.4700\",\"count_fp\":\"9.90\","
    "\"taker_side\":\"no\",\"is_block_trade\":true,\"ts_ms\":1793887200640}}",
    "{\"type\":\"orderbook_snapshot\",\"sid\":1,\"seq\":1,\"msg\":{\"market_ticker\":\"T1\",\"yes_dollars_fp\":[[\"0.0100\","
    "\"275.00\"],[\"0.4700\",\"31.54\"]],\"no_dollars_fp\":[[\"0.4900\",\"1239.73\"]]}}",
    "{\"type\":\"ticker\",\"sid\":3,\"msg\":{\"market_ticker\":\"T1\",\"price_dollars\":\"\",\"yes_bid_dollars\":\"0.4700\","
    "\"volume_fp\":\"33896.12\",\"dollar_volume\":-16948,\"ts\":1793887200}}",
    "{\"type\":\"market_lifecycle_v2\",\"sid\":4,\"seq\":3,\"msg\":{\"event_type\":\"created\",\"market_ticker\":\"T1\",\"open_ts\":"
    "1794050000,\"additional_metadata\":{\"floor_strike\":95000.5,\"name\":\"\\ud83d\\ude00\"}}}",
    "{\"type\":\"new\",\"sid\":5,\"seq\":6,\"msg\":\"\\u0000\"}",
    "{\"type\":\"trade\",",
};

static FILE *open_dump(const char *name, const char *mode)
{
    char path[4096];
    (void)snprintf(path, sizeof path, "%s/%s", getenv("TIDEMILL_DUMP"), name);
    FILE *file = fopen(path, mode);
    assert_non_null(file);
    return file;
}

static void dump_schema(struct fixture *f, const char *name, int (*make)(const struct tm_plan *, struct tm_buf *))
{
    struct tm_buf buf = {0};
    FILE *file = open_dump(name, "w");
    assert_true(fputs(schema(f, make, &buf), file) >= 0);
    assert_int_equal(fclose(file), 0);
    tm_buf_fini(&buf);
}

static void dump_row(const struct tm_row *row)
{
    static const char header[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0";
    char name[80];
    (void)snprintf(name, sizeof name, "%s.copy", row->stream->name);
    FILE *file = open_dump(name, "a");
    if (ftell(file) == 0)
        assert_int_equal(fwrite(header, 1, 19, file), 19);
    assert_int_equal(fwrite(row->tuple, 1, row->len, file), row->len);
    assert_int_equal(fclose(file), 0);
}

static void test_dump(void **state)
{
    struct fixture *f = *state;
    if (!getenv("TIDEMILL_DUMP"))
        skip();
    dump_schema(f, "local.sql", tm_schema_local);
    dump_schema(f, "production.sql", tm_schema_production);
    for (size_t i = 0; i < LENGTH(dumped); i++) {
        struct tm_decoded *d = decode(f, dumped[i]);
        assert_int_equal(d->row_count, 1);
        tm_tuple_set_seq(d->rows[0].tuple, d->rows[0].len, (int64_t)i + 1);
        dump_row(&d->rows[0]);
    }
    FILE *columns = open_dump("columns.txt", "w");
    for (size_t i = 0; i < tm_plan_stream_count(f->plan); i++)
        fprintf(columns, "%s %s\n", tm_plan_stream(f->plan, i)->name, tm_plan_stream(f->plan, i)->copy_columns);
    assert_int_equal(fclose(columns), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {TEST(test_local), TEST(test_production), TEST(test_lists), TEST(test_dump)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
