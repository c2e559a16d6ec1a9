/* Writing, walking and fingerprinting tuples. */
#include "support.h"

/* ---- writing ---- */

static const struct tm_column_def all_columns[] = {
    {.name = "b", .type = TM_TYPE_BOOL},    {.name = "i2", .type = TM_TYPE_INT2},
    {.name = "i4", .type = TM_TYPE_INT4},   {.name = "i8", .type = TM_TYPE_INT8},
    {.name = "f8", .type = TM_TYPE_FLOAT8}, {.name = "t", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "u", .type = TM_TYPE_UUID},    {.name = "ts", .type = TM_TYPE_TIMESTAMPTZ},
    {.name = "j", .type = TM_TYPE_JSONB},   {.name = "y", .type = TM_TYPE_BYTEA},
};
static const char *const all_key[] = {"t", NULL};
static const struct tm_stream_def all_stream = {
    .name = "everything", COLUMNS(all_columns), .key = all_key, .time_column = "ts", .ticker_column = "t"};

static struct tm_plan *all_types(void)
{
    struct tm_plan_def def = {.streams = &all_stream, .stream_count = 1};
    struct tm_plan *plan;
    struct tm_error err = {0};
    if (tm_plan_compile(&def, &plan, &err))
        fail_msg("%s", err.message);
    return plan;
}

static void test_all_types(void **state)
{
    static const uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};
    /* PostgreSQL's binary COPY format, by its manual; 2000-01-01 00:00:01 UTC is 1000000 */
    static const uint8_t expected[] = "\0\x0d"
                                      "\0\0\0\1\1"
                                      "\0\0\0\2\xff\xfe"
                                      "\0\0\0\4\x7f\xff\xff\xff"
                                      "\0\0\0\x08\x80\0\0\0\0\0\0\0"
                                      "\0\0\0\x08\xbf\xf8\0\0\0\0\0\0"
                                      "\0\0\0\5caf\xc3\xa9"
                                      "\0\0\0\x10\1\2\3\4\5\6\7\x08\x09\x0a\x0b\x0c\x0d\x0e\x0f\x10"
                                      "\0\0\0\x08\0\0\0\0\0\x0f\x42\x40"
                                      "\0\0\0\5\1[1] "
                                      "\0\0\0\3\0\xff\n"
                                      "\xff\xff\xff\xff"
                                      "\xff\xff\xff\xff"
                                      "\0\0\0\x08\0\0\0\0\0\0\0\0";
    struct tm_plan *plan = all_types();
    struct tm_buf buf = {0};
    struct tm_row_writer w;
    struct tm_row row;
    (void)state;
    assert_int_equal(tm_row_begin(&w, tm_plan_stream(plan, 0), &buf), TM_OK);
    assert_int_equal(tm_row_put_bool(&w, true), TM_OK);
    assert_int_equal(tm_row_put_int(&w, -2), TM_OK);
    assert_int_equal(tm_row_put_int(&w, INT32_MAX), TM_OK);
    assert_int_equal(tm_row_put_int(&w, INT64_MIN), TM_OK);
    assert_int_equal(tm_row_put_float(&w, -1.5), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "caf\xc3\xa9", 5), TM_OK);
    assert_int_equal(tm_row_put_uuid(&w, uuid), TM_OK);
    assert_int_equal(tm_row_put_time(&w, (PG_EPOCH_S + 1) * 1000000), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "[1] ", 4), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "\0\xff\n", 3), TM_OK);
    assert_int_equal(tm_row_end(&w, plan, &row), TM_OK);
    assert_int_equal(row.len, sizeof expected - 1);
    assert_memory_equal(row.tuple, expected, row.len);
    assert_int_equal(row.exchange_us, (PG_EPOCH_S + 1) * 1000000);
    assert_memory_equal(row.ticker, "caf\xc3\xa9", 5);
    tm_tuple_set_seq(row.tuple, row.len, 0x0102030405060708);
    assert_memory_equal(row.tuple + row.len - 8, "\1\2\3\4\5\6\7\x08", 8);
    tm_buf_fini(&buf);
    tm_plan_put(plan);
}

static void test_wrong_puts_are_refused(void **state)
{
    struct tm_plan *plan = all_types();
    struct tm_buf buf = {0};
    struct tm_row_writer w;
    struct tm_row row;
    (void)state;
    assert_int_equal(tm_buf_append(&buf, "before", 6), TM_OK);
    assert_int_equal(tm_row_begin(&w, tm_plan_stream(plan, 0), &buf), TM_OK);
    assert_int_equal(tm_row_put_int(&w, 1), TM_EINVAL);
    assert_int_equal(tm_row_put_null(&w), TM_OK);
    assert_int_equal(tm_row_put_int(&w, 32768), TM_EINVAL);
    assert_int_equal(tm_row_put_int(&w, -32768), TM_OK);
    assert_int_equal(tm_row_put_int(&w, INT64_C(2147483648)), TM_EINVAL);
    assert_int_equal(tm_row_put_null(&w), TM_OK);
    assert_int_equal(tm_row_put_time(&w, 0), TM_EINVAL);
    assert_int_equal(tm_row_put_null(&w), TM_OK);
    assert_int_equal(tm_row_put_bool(&w, true), TM_EINVAL);
    assert_int_equal(tm_row_put_null(&w), TM_OK);
    assert_int_equal(tm_row_put_null(&w), TM_EINVAL); /* not_null */
    assert_int_equal(tm_row_put_text(&w, "\xff", 1), TM_EINVAL);
    assert_int_equal(tm_row_put_text(&w, "a\0b", 3), TM_EINVAL);
    assert_int_equal(tm_row_end(&w, plan, &row), TM_EINVAL); /* and so it cannot be left out */
    assert_int_equal(buf.len, 6);
    assert_int_equal(tm_row_begin(&w, tm_plan_stream(plan, 0), &buf), TM_OK);
    for (int i = 0; i < 5; i++)
        assert_int_equal(tm_row_put_null(&w), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "", 0), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "no uuid", 7), TM_EINVAL);
    for (int i = 0; i < 2; i++)
        assert_int_equal(tm_row_put_null(&w), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "{\"a\":", 5), TM_EINVAL);
    assert_int_equal(tm_row_put_text(&w, "\"\\u0000\"", 8), TM_EINVAL);
    assert_int_equal(tm_row_end(&w, plan, &row), TM_OK); /* what is left out is NULL */
    assert_true(is_null(&row, "y"));
    assert_int_equal(row.exchange_us, INT64_MIN);
    assert_int_equal(row.ticker_len, 0);
    tm_buf_fini(&buf);
    tm_plan_put(plan);
}

static void test_observer_rows_name_the_gatherer(void **state)
{
    struct fixture *f = *state;
    struct tm_buf buf = {0};
    struct tm_row_writer w;
    struct tm_row row;
    assert_int_equal(tm_row_begin(&w, tm_plan_stream_by_name(f->plan, "unknown_frames"), &buf), TM_OK);
    assert_int_equal(tm_row_put_time(&w, RECEIVED_US), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "unknown", 7), TM_OK);
    assert_int_equal(tm_row_put_null(&w), TM_OK);
    assert_int_equal(tm_row_put_text(&w, "{}", 2), TM_OK);
    assert_int_equal(tm_row_end(&w, f->plan, &row), TM_OK);
    assert_text(&row, "gatherer", "g1");
    assert_memory_equal(column_of(&row, "epoch").at, kalshi_plan_def.epoch, 16);
    assert_true(is_null(&row, "sid"));
    assert_int_equal(int_of(&row, "seq"), 0);
    tm_buf_fini(&buf);
}

/* ---- walking ---- */

#define DELTA(ticker, ts, sid, seq)                                                                                    \
    "{\"type\":\"orderbook_delta\",\"sid\":" sid ",\"seq\":" seq ",\"msg\":{\"market_ticker\":\"" ticker               \
    "\",\"price_dollars\":\"0.4700\",\"delta_fp\":\"-9.90\",\"side\":\"yes\",\"ts\":\"2026-11-05T14:00:" ts "Z\"}}"

static void test_split_wants_the_whole_tuple(void **state)
{
    struct fixture *f = *state;
    struct tm_field fields[TM_COLUMNS_MAX];
    const struct tm_row *row = only_row(decode(f, DELTA("A", "00.640173", "1", "2")), "orderbook_deltas");
    uint8_t copy[512];
    memcpy(copy, row->tuple, row->len);
    assert_int_equal(tm_tuple_split(copy, row->len, fields, 10), TM_OK);
    assert_int_equal(fields[0].len, 1);
    assert_int_equal(fields[9].len, 8);
    assert_ptr_equal(fields[9].bytes + 8, copy + row->len);
    assert_int_equal(tm_tuple_split(copy, row->len, fields, 9), TM_ECORRUPT);
    assert_int_equal(tm_tuple_split(copy, row->len, fields, 11), TM_ECORRUPT);
    assert_int_equal(tm_tuple_split(copy, row->len + 1, fields, 10), TM_ECORRUPT);
    assert_int_equal(tm_tuple_length(copy, sizeof copy), row->len);
    for (uint32_t len = 0; len < row->len; len++) {
        uint8_t *exact = malloc(len ? len : 1);
        memcpy(exact, copy, len);
        assert_int_equal(tm_tuple_split(exact, len, fields, 10), TM_ECORRUPT);
        assert_int_equal(tm_tuple_length(exact, len), 0);
        free(exact);
    }
    copy[2] = 0xff; /* a length of -16777215 */
    assert_int_equal(tm_tuple_split(copy, row->len, fields, 10), TM_ECORRUPT);
    assert_true(tm_tuple_length(copy, row->len) < 0);
    copy[2] = 0x7f;
    assert_true(tm_tuple_length(copy, row->len) < 0);
    assert_true(tm_tuple_length((const uint8_t *)"\xff\xff", 2) < 0); /* the trailer of a COPY is no tuple */
}

static void test_occurrence(void **state)
{
    struct fixture *f = *state;
    (void)only_row(decode(f, DELTA("A", "00.640173", "1", "2")), "orderbook_deltas");
    tm_row_set_occurrence(&f->d.rows[0], 31);
    assert_int_equal(int_of(&f->d.rows[0], "occurrence"), 31);
    assert_int_equal(int_of(&f->d.rows[0], "delta"), -990);
    assert_int_equal(time_of(&f->d.rows[0], "received_at"), RECEIVED_US);
}

/* ---- fingerprints ---- */

static const struct tm_hash_key hash_key = {.secret = "a secret of a test, the rest of it is zero"};

static struct tm_fp fingerprint(const struct tm_row *row)
{
    struct tm_field fields[TM_COLUMNS_MAX];
    assert_int_equal(tm_tuple_split(row->tuple, row->len, fields, row->stream->column_count), TM_OK);
    return tm_stream_fingerprint(row->stream, &hash_key, fields);
}

static bool same(struct tm_fp a, struct tm_fp b)
{
    return a.lo == b.lo && a.hi == b.hi;
}

static struct tm_fp fingerprint_of(struct fixture *f, const char *frame)
{
    struct tm_decoded *d = decode(f, frame);
    assert_int_equal(d->verdict, TM_VERDICT_ROWS);
    return fingerprint(&d->rows[0]);
}

static void test_fingerprint_is_of_the_key_alone(void **state)
{
    struct fixture *f = *state;
    struct tm_fp fp = fingerprint_of(f, DELTA("A", "00.640173", "1", "2"));
    assert_true(same(fp, fingerprint_of(f, DELTA("A", "00.640173", "7", "9999"))));
    const char *frame = DELTA("A", "00.640173", "1", "2") "                ";
    assert_int_equal(tm_decode_frame(f->decoder, frame, strlen(frame) - 16, RECEIVED_US + 5000000, &f->d), TM_OK);
    assert_true(same(fp, fingerprint(&f->d.rows[0])));
    tm_row_set_occurrence(&f->d.rows[0], 3);
    tm_tuple_set_seq(f->d.rows[0].tuple, f->d.rows[0].len, 123456);
    assert_true(same(fp, fingerprint(&f->d.rows[0])));
}

static void test_fingerprint_changes_with_every_key_column(void **state)
{
    struct fixture *f = *state;
    static const char *const replaced[][2] = {
        {"\"A\"", "\"B\""},           {"\"A\"", "\"AA\""},       {"\"A\"", "\"\""},     {"640173", "640174"},
        {"\"0.4700\"", "\"0.4800\""}, {"\"-9.90\"", "\"9.90\""}, {"\"yes\"", "\"no\""},
    };
    struct tm_fp seen[1 + LENGTH(replaced)] = {fingerprint_of(f, DELTA("A", "00.640173", "1", "2"))};
    for (size_t i = 0; i < LENGTH(replaced); i++) {
        char text[500];
        const char *frame = DELTA("A", "00.640173", "1", "2"), *at = strstr(frame, replaced[i][0]);
        (void)snprintf(text, sizeof text, "%.*s%s%s", (int)(at - frame), frame, replaced[i][1],
                       at + strlen(replaced[i][0]));
        seen[i + 1] = fingerprint_of(f, text);
        for (size_t k = 0; k <= i; k++)
            assert_false(same(seen[k], seen[i + 1]));
    }
}

/* What the deduplicator polls: the production columns and then seq, copied out of a store, somewhere else in memory. */
static void test_fingerprint_of_the_production_form(void **state)
{
    struct fixture *f = *state;
    struct tm_fp fp = fingerprint_of(f, DELTA("A", "00.640173", "1", "2"));
    const struct tm_row *row = &f->d.rows[0];
    struct tm_field local[TM_COLUMNS_MAX], polled[TM_COLUMNS_MAX];
    assert_int_equal(tm_tuple_split(row->tuple, row->len, local, 10), TM_OK);
    uint8_t tuple[512] = {0, 8};
    size_t len = 2;
    for (int i = 0; i < 8; i++) {
        const struct tm_field *field = &local[i < 7 ? i : 9];
        memcpy(tuple + len, field->bytes - 4, 4 + (size_t)field->len);
        len += 4 + (size_t)field->len;
    }
    assert_int_equal(tm_tuple_split(tuple, len, polled, 8), TM_OK);
    assert_true(same(fp, tm_stream_fingerprint(row->stream, &hash_key, polled)));
}

/* A key whose columns are not neighbours, with a NULL among them. */
static void test_fingerprint_of_scattered_columns(void **state)
{
    static const char *const key[] = {"t", "i2", "j", NULL};
    struct tm_stream_def def = all_stream;
    struct tm_plan_def plan_def = {.streams = &def, .stream_count = 1};
    struct tm_plan *plan;
    struct tm_error err = {0};
    struct tm_fp seen[4];
    static const struct {
        int i2;
        const char *t, *j;
    } rows[4] = {{-1, "x", NULL}, {-1, "x", "1"}, {7, "x", NULL}, {-1, "y", NULL}};
    (void)state;
    struct tm_column_def columns[LENGTH(all_columns) + 1];
    memcpy(columns, all_columns, sizeof all_columns);
    columns[LENGTH(all_columns)] = (struct tm_column_def){.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ};
    def.columns = columns;
    def.column_count = LENGTH(columns);
    def.key = key;
    def.within_us = 1;
    if (tm_plan_compile(&plan_def, &plan, &err))
        fail_msg("%s", err.message);
    for (int i = 0; i < 8; i++) { /* every row twice, the second time with other content outside the key */
        struct tm_buf buf = {0};
        struct tm_row_writer w;
        struct tm_row row;
        int which = i % 4;
        assert_int_equal(tm_row_begin(&w, tm_plan_stream(plan, 0), &buf), TM_OK);
        assert_int_equal(tm_row_put_bool(&w, i > 3), TM_OK);
        assert_int_equal(rows[which].i2 < 0 ? tm_row_put_null(&w) : tm_row_put_int(&w, rows[which].i2), TM_OK);
        assert_int_equal(tm_row_put_int(&w, i), TM_OK);
        assert_int_equal(tm_row_put_int(&w, i), TM_OK);
        assert_int_equal(tm_row_put_float(&w, i), TM_OK);
        assert_int_equal(tm_row_put_text(&w, rows[which].t, 1), TM_OK);
        assert_int_equal(tm_row_put_null(&w), TM_OK);
        assert_int_equal(tm_row_put_time(&w, i), TM_OK);
        assert_int_equal(rows[which].j ? tm_row_put_text(&w, rows[which].j, 1) : tm_row_put_null(&w), TM_OK);
        assert_int_equal(tm_row_end(&w, plan, &row), TM_OK);
        struct tm_fp fp = fingerprint(&row);
        for (int k = 0; i < 4 && k < i; k++)
            assert_false(same(fp, seen[k]));
        if (i > 3)
            assert_true(same(fp, seen[which]));
        else
            seen[i] = fp;
        tm_buf_fini(&buf);
    }
    tm_plan_put(plan);
}

/* Two streams with equal keys are two sets of records; an observer's row is no other's copy, not even its own. */
static void test_fingerprints_do_not_meet_across_streams(void **state)
{
    struct fixture *f = *state;
    struct tm_stream_def other = kalshi_streams[STREAM_DELTAS];
    struct tm_plan_def def = {.streams = &other, .stream_count = 1};
    struct tm_plan *plan;
    struct tm_error err = {0};
    struct tm_field fields[TM_COLUMNS_MAX];
    other.name = "deltas_of_another";
    if (tm_plan_compile(&def, &plan, &err))
        fail_msg("%s", err.message);
    struct tm_fp fp = fingerprint_of(f, DELTA("A", "00.640173", "1", "2"));
    assert_int_equal(tm_tuple_split(f->d.rows[0].tuple, f->d.rows[0].len, fields, 10), TM_OK);
    assert_false(same(fp, tm_stream_fingerprint(tm_plan_stream(plan, 0), &hash_key, fields)));
    tm_plan_put(plan);
    struct tm_decoded *d =
        decode(f, "{\"type\":\"orderbook_snapshot\",\"sid\":1,\"seq\":1,\"msg\":{\"market_ticker\":\"A\"}}");
    assert_false(same(fingerprint(&d->rows[0]), fingerprint(&d->rows[0])));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_all_types),
        cmocka_unit_test(test_wrong_puts_are_refused),
        TEST(test_observer_rows_name_the_gatherer),
        TEST(test_split_wants_the_whole_tuple),
        TEST(test_occurrence),
        TEST(test_fingerprint_is_of_the_key_alone),
        TEST(test_fingerprint_changes_with_every_key_column),
        TEST(test_fingerprint_of_the_production_form),
        cmocka_unit_test(test_fingerprint_of_scattered_columns),
        TEST(test_fingerprints_do_not_meet_across_streams),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
