/* Files of rows: what comes back is what was put, whatever it was; bounds, ranges, expectations and refusals. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "parquet_files.h"

#include "../record/kalshi_defs.h"

#include "base/clock.h"

#include <stdio.h>

#define NAMES_MAX 16

static uint64_t state = 99;

static uint64_t roll(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return state >> 11 ^ state << 21;
}

static void must(int rc, const struct tm_error *err)
{
    if (rc)
        fail_msg("%s: %s", tm_code_name(rc), err->message);
}

static void assert_same(const struct tm_buf *a, const struct tm_buf *b)
{
    assert_int_equal(a->len, b->len);
    if (a->len)
        assert_memory_equal(a->data, b->data, a->len);
}

static void assert_holds(const struct tm_error *err, const char *text)
{
    if (!strstr(err->message, text))
        fail_msg("expected \"%s\" in: %s", text, err->message);
}

/* ---- random files ---- */

struct schema {
    struct tm_parquet_column columns[NAMES_MAX];
    size_t count;
    unsigned spread[NAMES_MAX]; /* how different a column's values are: 0 all the same */
    unsigned nulls[NAMES_MAX];  /* of 10 */
};

static void random_schema(struct schema *s)
{
    static const char *const names[NAMES_MAX] = {"a", "b", "c", "d", "e", "f", "g", "h",
                                                 "i", "j", "k", "l", "m", "n", "o", "\xc3\xa4 \"quoted\""};
    s->count = 1 + roll() % NAMES_MAX;
    for (size_t i = 0; i < s->count; i++) {
        struct tm_parquet_column *c = &s->columns[i];
        *c = (struct tm_parquet_column){.name = names[i], .type = (enum tm_type)(roll() % 10), .nullable = roll() % 2};
        if (c->type == TM_TYPE_INT2 || c->type == TM_TYPE_INT4 || c->type == TM_TYPE_INT8)
            c->scale = (int)(roll() % 10);
        s->spread[i] = (unsigned)(roll() % 4);
        s->nulls[i] = c->nullable ? (unsigned)(roll() % 11) : 0;
    }
}

static int64_t random_number(unsigned spread)
{
    static const int64_t extremes[] = {INT64_MAX, INT64_MIN, 0, -1, 1, INT64_MAX - 1};
    if (spread == 3)
        return roll() % 8 ? (int64_t)roll() : extremes[roll() % 6];
    return spread == 0 ? 77 : (int64_t)(roll() % (spread == 1 ? 5 : 3000)) - 2;
}

static void put_random_text(struct tm_buf *out, const char *begin, size_t begin_len, unsigned spread)
{
    static const char *const letters[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x90\x8b", "0"};
    char text[400];
    size_t len = begin_len, count = spread == 0 ? 3 : roll() % (spread == 3 ? 90 : 5);
    memcpy(text, begin, begin_len);
    for (size_t i = 0; i < count; i++) {
        const char *letter = letters[spread == 0 ? i : roll() % 5];
        memcpy(text + len, letter, strlen(letter));
        len += strlen(letter);
    }
    put_field(out, text, len);
}

static void put_random(struct tm_buf *out, enum tm_type type, unsigned spread)
{
    int64_t v = random_number(spread);
    uint8_t bytes[16] = {0};
    memcpy(bytes + 4, &v, 8);
    switch (type) {
    case TM_TYPE_BOOL:
        put_number(out, v & 1, 1);
        break;
    case TM_TYPE_INT2:
        put_number(out, v, 2);
        break;
    case TM_TYPE_INT4:
        put_number(out, v, 4);
        break;
    case TM_TYPE_INT8:
    case TM_TYPE_FLOAT8:
        put_number(out, v, 8);
        break;
    case TM_TYPE_TIMESTAMPTZ: /* what PostgreSQL can have, and infinite ones */
        put_number(out, v == INT64_MAX || v == INT64_MIN ? v : v % INT64_C(200000000000000000), 8);
        break;
    case TM_TYPE_TEXT:
        put_random_text(out, "", 0, spread);
        break;
    case TM_TYPE_UUID:
        put_field(out, bytes, 16);
        break;
    case TM_TYPE_JSONB:
        put_random_text(out, "\1[]", 3, spread);
        break;
    case TM_TYPE_BYTEA:
        put_field(out, bytes, (size_t)(roll() % 16));
        break;
    }
}

static void put_rows(const struct schema *s, size_t rows, struct tm_buf *out)
{
    for (size_t row = 0; row < rows; row++) {
        put_count(out, s->count);
        for (size_t i = 0; i < s->count; i++) {
            if (roll() % 10 < s->nulls[i])
                put_null(out);
            else
                put_random(out, s->columns[i].type, s->spread[i]);
        }
    }
}

static void check_columns(struct tm_parquet_reader *r, const struct schema *s)
{
    size_t count;
    const struct tm_parquet_column *columns = tm_parquet_reader_columns(r, &count);
    assert_int_equal(count, s->count);
    for (size_t i = 0; i < count; i++) {
        assert_string_equal(columns[i].name, s->columns[i].name);
        assert_int_equal(columns[i].type, s->columns[i].type);
        assert_int_equal(columns[i].scale, s->columns[i].scale);
        assert_int_equal(columns[i].nullable, s->columns[i].nullable);
    }
}

static void round_trip(const struct schema *s, size_t rows, uint32_t group_rows, size_t group_bytes)
{
    struct tm_parquet_writer_options o = {
        .columns = s->columns, .column_count = s->count, .group_rows = group_rows, .group_bytes = group_bytes};
    struct tm_buf tuples = {0}, file = {0}, back = {0};
    struct tm_parquet_reader *r;
    struct tm_error err;
    size_t got;
    put_rows(s, rows, &tuples);
    must(file_write(&file, o, &tuples, NULL, 0, &err), &err);
    must(file_open(&file, &r, &err), &err);
    assert_int_equal(tm_parquet_reader_rows(r), rows);
    if (group_rows && !group_bytes)
        assert_int_equal(tm_parquet_reader_groups(r), (rows + group_rows - 1) / group_rows);
    check_columns(r, s);
    must(file_tuples(r, &back, &got, &err), &err);
    assert_int_equal(got, rows);
    assert_same(&tuples, &back);
    tm_parquet_reader_close(r);
    tm_buf_fini(&tuples);
    tm_buf_fini(&file);
    tm_buf_fini(&back);
}

static void test_random_files(void **unused)
{
    struct schema s;
    (void)unused;
    for (int i = 0; i < 400; i++) {
        random_schema(&s);
        round_trip(&s, roll() % 400, i % 3 ? (uint32_t)(1 + roll() % 200) : 0, i % 5 ? 0 : 1 + roll() % 5000);
    }
    random_schema(&s);
    round_trip(&s, 0, 0, 0);
    round_trip(&s, 1, 0, 0);
}

/* Several pages in a column, which end at different rows in each; values as long as a field may be. */
static void test_long_values(void **unused)
{
    static const struct tm_parquet_column columns[] = {
        {"t", TM_TYPE_TEXT, 0, true}, {"i", TM_TYPE_INT8, 0, true}, {"y", TM_TYPE_BYTEA, 0, false}};
    struct tm_parquet_writer_options o = {.columns = columns, .column_count = 3};
    struct tm_buf tuples = {0}, file = {0}, back = {0};
    struct tm_parquet_reader *r;
    struct tm_error err;
    size_t rows, longest = TM_FIELD_BYTES_MAX;
    char *text = malloc(longest);
    (void)unused;
    assert_non_null(text);
    for (size_t i = 0; i < longest; i++)
        text[i] = (char)('a' + roll() % 26);
    for (int row = 0; row < 3000; row++) {
        put_count(&tuples, 3);
        if (row % 3)
            put_field(&tuples, text + row, row == 1000 ? longest - 1000 : (size_t)(roll() % 3000));
        else
            put_null(&tuples);
        put_number(&tuples, row % 7 ? row : -row, 8);
        put_field(&tuples, text, row == 2000 ? longest : (size_t)(row % 5));
    }
    must(file_write(&file, o, &tuples, NULL, 0, &err), &err);
    must(file_open(&file, &r, &err), &err);
    must(file_tuples(r, &back, &rows, &err), &err);
    assert_int_equal(rows, 3000);
    assert_same(&tuples, &back);
    tm_parquet_reader_close(r);
    free(text);
    tm_buf_fini(&tuples);
    tm_buf_fini(&file);
    tm_buf_fini(&back);
}

/* ---- what is told of a file ---- */

static const struct tm_parquet_column trades[] = {
    {"at", TM_TYPE_TIMESTAMPTZ, 0, true}, {"price", TM_TYPE_INT4, 6, true}, {"ticker", TM_TYPE_TEXT, 0, true}};
#define SECOND INT64_C(1000000)
#define BEGIN (INT64_C(1794060000) * SECOND)

/* Ten rows a group, a second apart; each fifth row has no price, and the tenth group no time in one row. */
static void make_trades(struct tm_buf *file, struct tm_buf *tuples)
{
    static const struct tm_parquet_meta meta[] = {{"tidemill.stream", "trades"}, {"tidemill.empty", ""}};
    struct tm_parquet_writer_options o = {.columns = trades, .column_count = 3, .group_rows = 10, .created_by = "me"};
    struct tm_error err;
    tm_buf_clear(tuples);
    for (int row = 0; row < 100; row++) {
        put_count(tuples, 3);
        if (row == 95)
            put_null(tuples);
        else
            put_number(tuples, tm_pg_time_us(BEGIN + row * SECOND), 8);
        if (row % 5)
            put_number(tuples, row - 40, 4);
        else
            put_null(tuples);
        put_text(tuples, row % 2 ? "KXA" : "KXB");
    }
    must(file_write(file, o, tuples, meta, 2, &err), &err);
}

static void test_footer(void **unused)
{
    struct tm_buf file = {0}, tuples = {0};
    struct tm_parquet_reader *r;
    struct tm_error err;
    (void)unused;
    make_trades(&file, &tuples);
    must(file_open(&file, &r, &err), &err);
    assert_int_equal(tm_parquet_reader_rows(r), 100);
    assert_int_equal(tm_parquet_reader_groups(r), 10);
    assert_string_equal(tm_parquet_reader_created_by(r), "me");
    assert_string_equal(tm_parquet_reader_meta(r, "tidemill.stream"), "trades");
    assert_string_equal(tm_parquet_reader_meta(r, "tidemill.empty"), "");
    assert_null(tm_parquet_reader_meta(r, "trades"));
    struct tm_parquet_span at = tm_parquet_reader_span(r, 0), price = tm_parquet_reader_span(r, 1);
    assert_true(at.any && at.min == BEGIN && at.max == BEGIN + 99 * SECOND && at.nulls == 1);
    assert_true(price.any && price.min == -39 && price.max == 59 && price.nulls == 20);
    assert_false(tm_parquet_reader_span(r, 2).any);
    tm_parquet_reader_close(r);
    tm_buf_fini(&file);
    tm_buf_fini(&tuples);
}

/* The writer knows the span before the file is finished, with what is in the open row group. */
static void test_writer_span(void **unused)
{
    struct tm_buf file = {0}, tuples = {0};
    struct tm_parquet_writer_options o = {
        .columns = trades, .column_count = 3, .group_rows = 60, .sink = file_sink, .arg = &file};
    struct tm_parquet_writer *w;
    struct tm_parquet_summary summary;
    struct tm_error err;
    (void)unused;
    make_trades(&file, &tuples);
    tm_buf_clear(&file);
    must(tm_parquet_writer_create(&o, &w, &err), &err);
    assert_false(tm_parquet_writer_span(w, 0).any);
    must(tm_parquet_writer_put(w, tuples.data, tuples.len, &err), &err);
    struct tm_parquet_span at = tm_parquet_writer_span(w, 0);
    assert_true(at.any && at.min == BEGIN && at.max == BEGIN + 99 * SECOND && at.nulls == 1);
    assert_int_equal(tm_parquet_writer_rows(w), 100);
    must(tm_parquet_writer_finish(w, NULL, 0, &summary, &err), &err);
    assert_true(summary.rows == 100 && summary.groups == 2 && summary.bytes == file.len);
    assert_int_equal(tm_parquet_writer_put(w, tuples.data, tuples.len, &err), TM_ESTATE);
    tm_parquet_writer_destroy(w);
    tm_buf_fini(&file);
    tm_buf_fini(&tuples);
}

/* ---- ranges ---- */

static size_t count_range(struct tm_parquet_reader *r, int64_t from, int64_t until, size_t *skipped)
{
    struct tm_buf tuples = {0};
    struct tm_error err;
    size_t rows;
    must(tm_parquet_reader_range(r, "at", from, until, &err), &err);
    must(file_tuples(r, &tuples, &rows, &err), &err);
    *skipped = tm_parquet_reader_skipped(r);
    tm_buf_fini(&tuples);
    return rows;
}

static void test_range(void **unused)
{
    struct tm_buf file = {0}, tuples = {0};
    struct tm_parquet_reader *r;
    struct tm_error err;
    size_t skipped;
    (void)unused;
    make_trades(&file, &tuples);
    must(file_open(&file, &r, &err), &err);
    /* the row without a time belongs to every range, so its group is never skipped */
    assert_int_equal(count_range(r, BEGIN + 20 * SECOND, BEGIN + 30 * SECOND, &skipped), 11);
    assert_int_equal(skipped, 8);
    assert_int_equal(count_range(r, BEGIN + 25 * SECOND, BEGIN + 25 * SECOND + 1, &skipped), 2);
    assert_int_equal(skipped, 8);
    assert_int_equal(count_range(r, BEGIN + 29 * SECOND + 1, BEGIN + 31 * SECOND, &skipped), 2);
    assert_int_equal(skipped, 8);
    assert_int_equal(count_range(r, INT64_MIN, BEGIN, &skipped), 1);
    assert_int_equal(skipped, 9);
    assert_int_equal(count_range(r, INT64_MIN, BEGIN + 1, &skipped), 2);
    assert_int_equal(count_range(r, BEGIN + 99 * SECOND, INT64_MAX, &skipped), 2);
    assert_int_equal(skipped, 9);
    assert_int_equal(count_range(r, INT64_MIN, INT64_MAX, &skipped), 100);
    assert_int_equal(skipped, 0);
    assert_int_equal(tm_parquet_reader_range(r, "ticker", 0, 1, &err), TM_EINVAL);
    assert_int_equal(tm_parquet_reader_range(r, "nothing", 0, 1, &err), TM_EINVAL);
    tm_parquet_reader_close(r);
    tm_buf_fini(&file);
    tm_buf_fini(&tuples);
}

/* ---- expectations ---- */

static void expect_error(struct tm_parquet_reader *r, const struct tm_parquet_column *columns, size_t count,
                         unsigned leniency, const char *text)
{
    struct tm_error err = {0};
    assert_int_equal(tm_parquet_reader_expect(r, columns, count, leniency, &err), TM_EINVAL);
    assert_holds(&err, text);
}

static void test_expect(void **unused)
{
    struct tm_parquet_column c[4] = {trades[2], trades[0], trades[1], {"side", TM_TYPE_TEXT, 0, true}};
    struct tm_buf file = {0}, tuples = {0}, back = {0}, first = {0};
    struct tm_parquet_reader *r;
    struct tm_error err;
    size_t rows;
    (void)unused;
    make_trades(&file, &tuples);
    must(file_open(&file, &r, &err), &err);
    expect_error(r, c, 2, 0, "the file has a column \"price\" that is not expected");
    expect_error(r, c, 4, 0, "the file has no column \"side\" (expected text)");
    c[3].nullable = false;
    expect_error(r, c, 4, TM_PARQUET_MISSING_NULL, "the file has no column \"side\"");
    c[3].nullable = true;
    c[2].scale = 5;
    expect_error(r, c, 3, 0, "column \"price\": expected int4 with scale 5, the file has int4 with scale 6");
    c[2] = (struct tm_parquet_column){"price", TM_TYPE_INT8, 6, true};
    expect_error(r, c, 3, 0, "column \"price\": expected int8 with scale 6, the file has int4 with scale 6");

    /* another order, one that is missing, one that is not wanted, and a range over the one that is not wanted */
    c[2] = c[3];
    must(tm_parquet_reader_expect(r, c, 1, TM_PARQUET_IGNORE_OTHERS, &err), &err);
    must(tm_parquet_reader_range(r, "at", BEGIN + 3 * SECOND, BEGIN + 4 * SECOND, &err), &err);
    must(file_tuples(r, &back, &rows, &err), &err);
    for (int i = 0; i < 2; i++) { /* of the rows 3 and 95 */
        put_count(&first, 1);
        put_text(&first, "KXA");
    }
    assert_same(&back, &first);
    must(tm_parquet_reader_expect(r, c, 3, TM_PARQUET_IGNORE_OTHERS | TM_PARQUET_MISSING_NULL, &err), &err);
    must(file_tuples(r, &back, &rows, &err), &err);
    tm_buf_clear(&first);
    put_count(&first, 3);
    put_text(&first, "KXA");
    put_number(&first, tm_pg_time_us(BEGIN + 3 * SECOND), 8);
    put_null(&first);
    assert_int_equal(rows, 2);
    assert_true(back.len > first.len);
    assert_memory_equal(back.data, first.data, first.len);
    tm_parquet_reader_close(r);
    tm_buf_fini(&file);
    tm_buf_fini(&tuples);
    tm_buf_fini(&back);
    tm_buf_fini(&first);
}

/* ---- of a stream ---- */

static void test_stream_columns(void **unused)
{
    struct tm_parquet_column c[TM_COLUMNS_MAX];
    struct tm_plan *plan;
    struct tm_error err;
    (void)unused;
    must(tm_plan_compile(&kalshi_plan_def, &plan, &err), &err);
    const struct tm_stream *deltas = tm_plan_stream_by_name(plan, "orderbook_deltas");
    assert_int_equal(tm_parquet_columns(deltas, TM_COPY_PRODUCTION, c), 7);
    assert_string_equal(c[3].name, "price");
    assert_true(c[3].type == TM_TYPE_INT4 && c[3].scale == 6 && c[3].nullable);
    assert_int_equal(tm_parquet_columns(deltas, TM_COPY_LOCAL, c), 10);
    assert_string_equal(c[9].name, "seq");
    const struct tm_stream *gaps = tm_plan_stream_by_name(plan, "gaps"); /* of an observer: seq is part of its key */
    size_t count = tm_parquet_columns(gaps, TM_COPY_PRODUCTION, c);
    assert_int_equal(count, gaps->production_count + 1);
    assert_string_equal(c[count - 2].name, "epoch");
    assert_string_equal(c[count - 1].name, "seq");
    assert_int_equal(c[count - 1].type, TM_TYPE_INT8);
    tm_plan_put(plan);
}

/* ---- refusals ---- */

static void refuse_columns(const struct tm_parquet_column *columns, size_t count, const char *text)
{
    struct tm_parquet_writer_options o = {.columns = columns, .column_count = count};
    struct tm_parquet_writer *w;
    struct tm_error err = {0};
    assert_int_equal(tm_parquet_writer_create(&o, &w, &err), TM_EINVAL);
    assert_holds(&err, text);
}

static void test_bad_columns(void **unused)
{
    (void)unused;
    refuse_columns(NULL, 0, "expected 1 to 64 columns, got 0");
    refuse_columns((struct tm_parquet_column[]){{"", TM_TYPE_TEXT, 0, true}}, 1, "expected a name");
    refuse_columns((struct tm_parquet_column[]){{"a", TM_TYPE_TEXT, 2, true}}, 1, "column \"a\": expected a scale");
    refuse_columns((struct tm_parquet_column[]){{"a", TM_TYPE_INT8, 10, true}}, 1, "expected a scale of 0 to 9");
    refuse_columns((struct tm_parquet_column[]){{"a", TM_TYPE_TEXT, 0, true}, {"a", TM_TYPE_INT8, 0, true}}, 2,
                   "two columns are named \"a\"");
}

/* One field of one row behind a good one. */
static void refuse_field(struct tm_parquet_column c, const void *bytes, int32_t len, int code, const char *text)
{
    struct tm_parquet_writer_options o = {.columns = &c, .column_count = 1};
    struct tm_buf tuples = {0}, file = {0};
    struct tm_error err = {0};
    struct schema s = {.columns = {c}, .count = 1};
    put_rows(&s, 1, &tuples);
    put_count(&tuples, 1);
    if (len < 0)
        put_null(&tuples);
    else
        put_field(&tuples, bytes, (size_t)len);
    assert_int_equal(file_write(&file, o, &tuples, NULL, 0, &err), code);
    assert_holds(&err, "row 2, column \"c\": ");
    assert_holds(&err, text);
    tm_buf_fini(&tuples);
    tm_buf_fini(&file);
}

static void test_bad_values(void **unused)
{
    static const enum tm_type fixed[] = {TM_TYPE_BOOL,   TM_TYPE_INT2, TM_TYPE_INT4,       TM_TYPE_INT8,
                                         TM_TYPE_FLOAT8, TM_TYPE_UUID, TM_TYPE_TIMESTAMPTZ};
    struct tm_parquet_column text = {"c", TM_TYPE_TEXT, 0, false}, time = {"c", TM_TYPE_TIMESTAMPTZ, 0, true};
    struct tm_parquet_column json = {"c", TM_TYPE_JSONB, 0, true}, flag = {"c", TM_TYPE_BOOL, 0, true};
    uint8_t us[8];
    (void)unused;
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++) {
        struct tm_parquet_column c = {"c", fixed[i], 0, true};
        refuse_field(c, "123", 3, TM_ECORRUPT, "not of the column's type");
        refuse_field(c, "", 0, TM_ECORRUPT, "not of the column's type");
    }
    refuse_field(flag, "\2", 1, TM_ECORRUPT, "not of the column's type");
    refuse_field(json, "\2{}", 3, TM_ECORRUPT, "not of the column's type");
    refuse_field(json, "\1", 1, TM_ECORRUPT, "not of the column's type");
    refuse_field(text, NULL, -1, TM_EPOISON, "NULL in a column that has none");
    refuse_field(text, "caf\xc3", 4, TM_EPOISON, "not UTF-8");
    refuse_field(text, "0123456789\xed\xa0\x80", 13, TM_EPOISON, "not UTF-8");
    refuse_field(text,
                 "0123\0"
                 "456789",
                 11, TM_EPOISON, "not UTF-8");
    tm_put_be64(us, (uint64_t)tm_pg_time_us(INT64_MAX));
    refuse_field(time, us, 8, TM_EPOISON, "after the year 294246");
}

static void test_bad_tuples(void **unused)
{
    struct tm_buf file = {0}, tuples = {0};
    struct tm_parquet_writer_options o = {.columns = trades, .column_count = 3};
    struct tm_error err;
    (void)unused;
    make_trades(&file, &tuples);
    size_t one = 2 + 12 + 4 + 7; /* the first row, whose price is NULL */
    for (size_t len = 1; len < one; len++) {
        struct tm_buf cut = {.data = tuples.data, .len = len};
        assert_int_equal(file_write(&file, o, &cut, NULL, 0, &err), TM_ECORRUPT);
        assert_holds(&err, "row 1");
    }
    o.column_count = 2;
    assert_int_equal(file_write(&file, o, &tuples, NULL, 0, &err), TM_ECORRUPT);
    assert_holds(&err, "row 1: expected a COPY tuple of 2 columns, got 3");
    tm_buf_fini(&file);
    tm_buf_fini(&tuples);
}

static int full_sink(void *arg, const void *bytes, size_t len, struct tm_error *err)
{
    size_t *left = arg;
    (void)bytes;
    if (len > *left)
        return tm_error_set(err, TM_EFULL, "the disk is full");
    *left -= len;
    return TM_OK;
}

static void test_sink_fails(void **unused)
{
    struct tm_buf file = {0}, tuples = {0};
    struct tm_parquet_writer_options o = {.columns = trades, .column_count = 3, .sink = full_sink};
    struct tm_parquet_writer *w;
    struct tm_parquet_summary summary;
    struct tm_error err;
    size_t left = 100;
    (void)unused;
    make_trades(&file, &tuples);
    o.arg = &left;
    must(tm_parquet_writer_create(&o, &w, &err), &err);
    must(tm_parquet_writer_put(w, tuples.data, tuples.len, &err), &err);
    assert_int_equal(tm_parquet_writer_finish(w, NULL, 0, &summary, &err), TM_EFULL);
    assert_string_equal(err.message, "the disk is full");
    tm_parquet_writer_destroy(w);
    tm_buf_fini(&file);
    tm_buf_fini(&tuples);
}

/* Memory is bounded: a file that needs more than is allowed is refused, whatever its size. */
static void test_memory_max(void **unused)
{
    struct schema s = {.columns = {{"t", TM_TYPE_TEXT, 0, true}}, .count = 1, .spread = {3}};
    struct tm_parquet_writer_options w = {.columns = s.columns, .column_count = 1};
    struct tm_buf file = {0}, tuples = {0};
    struct tm_parquet_reader_options o = {.read_at = file_read_at, .arg = &file};
    struct tm_parquet_reader *r;
    struct tm_error err;
    size_t rows, refused = 0;
    (void)unused;
    put_rows(&s, 20000, &tuples);
    must(file_write(&file, w, &tuples, NULL, 0, &err), &err);
    o.size = file.len;
    for (o.memory_max = 64 << 10; o.memory_max <= 64 << 20; o.memory_max *= 2) {
        int rc = tm_parquet_reader_open(&o, &r, &err);
        if (!rc) {
            rc = file_tuples(r, &tuples, &rows, &err);
            tm_parquet_reader_close(r);
        }
        assert_true(rc == TM_OK || rc == TM_ENOMEM);
        refused += rc != TM_OK;
    }
    assert_in_range(refused, 3, 9);
    assert_int_equal(rows, 20000);
    tm_buf_fini(&file);
    tm_buf_fini(&tuples);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_files), cmocka_unit_test(test_long_values),    cmocka_unit_test(test_footer),
        cmocka_unit_test(test_writer_span),  cmocka_unit_test(test_range),          cmocka_unit_test(test_expect),
        cmocka_unit_test(test_bad_columns),  cmocka_unit_test(test_stream_columns), cmocka_unit_test(test_bad_values),
        cmocka_unit_test(test_bad_tuples),   cmocka_unit_test(test_sink_fails),     cmocka_unit_test(test_memory_max),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
