/*
 * Damaged files: every bit of a file flipped, every length it can be cut to, footers and pages that lie. Either the same
 * rows come back, where the bit said nothing about them, or an error; never other rows, a crash or a read outside of the
 * file (parquet_files.h checks that).
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "parquet_files.h"

#include <stdio.h>

static const struct tm_parquet_column columns[] = {
    {"at", TM_TYPE_TIMESTAMPTZ, 0, true}, {"price", TM_TYPE_INT4, 6, true},      {"size", TM_TYPE_INT8, 2, false},
    {"ticker", TM_TYPE_TEXT, 0, true},    {"occurrence", TM_TYPE_INT2, 0, true}, {"block", TM_TYPE_BOOL, 0, true},
    {"id", TM_TYPE_UUID, 0, false},       {"levels", TM_TYPE_JSONB, 0, true},    {"weight", TM_TYPE_FLOAT8, 0, true},
};
#define COLUMNS (sizeof columns / sizeof *columns)
#define ROWS 30

struct fixture {
    struct tm_buf file, tuples;
};

static void put_row(struct tm_buf *out, int row)
{
    char id[17], json[24];
    snprintf(id, sizeof id, "0123456789ab%04d", row);
    snprintf(json, sizeof json, "\1[[\"0.%02d\",1]]", row);
    put_count(out, COLUMNS);
    put_number(out, INT64_C(850000000000000) + row * row * 1000, 8);
    put_number(out, row % 3 * 10000, 4);
    put_number(out, row * 1234567, 8);
    put_text(out, row % 2 ? "KXONE" : "KXANOTHER");
    if (row % 4)
        put_number(out, row % 5, 2);
    else
        put_null(out);
    put_number(out, row % 2, 1);
    put_field(out, id, 16);
    put_text(out, json);
    if (row % 7)
        put_number(out, row * INT64_C(0x10000000000000), 8);
    else
        put_null(out);
}

static int set_up(void **state)
{
    static struct fixture f;
    struct tm_parquet_writer_options o = {.columns = columns, .column_count = COLUMNS, .group_rows = 20};
    static const struct tm_parquet_meta meta = {"tidemill.stream", "trades"};
    struct tm_error err;
    for (int row = 0; row < ROWS; row++)
        put_row(&f.tuples, row);
    *state = &f;
    return file_write(&f.file, o, &f.tuples, &meta, 1, &err);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    tm_buf_fini(&f->file);
    tm_buf_fini(&f->tuples);
    return 0;
}

static int read_back(struct tm_buf *file, struct tm_buf *tuples, struct tm_error *err)
{
    struct tm_parquet_reader *r;
    size_t rows;
    int rc = file_open(file, &r, err);
    if (rc)
        return rc;
    rc = tm_parquet_reader_expect(r, columns, COLUMNS, TM_PARQUET_EXACT, err);
    rc = rc ? rc : file_tuples(r, tuples, &rows, err);
    tm_parquet_reader_close(r);
    return rc;
}

static bool same_rows(const struct fixture *f, const struct tm_buf *tuples)
{
    return tuples->len == f->tuples.len && memcmp(tuples->data, f->tuples.data, tuples->len) == 0;
}

/* Where the footer begins. */
static size_t footer_at(const struct fixture *f)
{
    uint32_t len;
    memcpy(&len, f->file.data + f->file.len - 8, 4);
    return f->file.len - 8 - len;
}

static void test_every_bit(void **state)
{
    struct fixture *f = *state;
    struct tm_buf tuples = {0};
    struct tm_error err;
    size_t unharmed = 0, footer = footer_at(f);
    for (size_t bit = 0; bit < f->file.len * 8; bit++) {
        f->file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
        err.message[0] = 0;
        int rc = read_back(&f->file, &tuples, &err);
        if (rc == TM_OK && !same_rows(f, &tuples))
            fail_msg("bit %zu of byte %zu gives other rows", bit % 8, bit / 8);
        if (rc && (rc != TM_ECORRUPT && rc != TM_EINVAL && rc != TM_ENOMEM))
            fail_msg("byte %zu: %s: %s", bit / 8, tm_code_name(rc), err.message);
        if (rc && bit / 8 < footer && bit / 8 >= 4)
            assert_non_null(strstr(err.message, "row group "));
        unharmed += rc == TM_OK;
        f->file.data[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    /* what says nothing about rows is in the footer: statistics, names for people, sizes for planners */
    assert_true(unharmed < (f->file.len - footer) * 8);
    tm_buf_fini(&tuples);
}

/* A flipped bit in a page's bytes is told by its CRC, with the place. */
static void test_place(void **state)
{
    struct fixture *f = *state;
    struct tm_buf tuples = {0};
    struct tm_error err = {0};
    static const uint8_t zstd[4] = {0x28, 0xb5, 0x2f,
                                    0xfd}; /* the magic of a frame; the first one's header begins at 4 */
    uint8_t *frame = memmem(f->file.data, f->file.len, zstd, 4);
    assert_non_null(frame);
    frame[6] ^= 1;
    assert_int_equal(read_back(&f->file, &tuples, &err), TM_ECORRUPT);
    assert_string_equal(err.message, "row group 0, column \"at\", page 0 at byte 4: the CRC32 of the page is not that "
                                     "of its header");
    frame[6] ^= 1;
    assert_int_equal(read_back(&f->file, &tuples, &err), TM_OK);
    tm_buf_fini(&tuples);
}

static void test_every_length(void **state)
{
    struct fixture *f = *state;
    struct tm_buf tuples = {0};
    struct tm_error err;
    size_t whole = f->file.len;
    for (f->file.len = 0; f->file.len < whole; f->file.len++)
        assert_int_equal(read_back(&f->file, &tuples, &err), TM_ECORRUPT);
    assert_int_equal(read_back(&f->file, &tuples, &err), TM_OK);
    assert_true(same_rows(f, &tuples));
    tm_buf_fini(&tuples);
}

/* Two pieces of a file swapped, one left out, one twice: each is good in itself. */
static void test_moved_bytes(void **state)
{
    struct fixture *f = *state;
    struct tm_buf moved = {0}, tuples = {0};
    struct tm_error err;
    size_t footer = footer_at(f), step = 37;
    for (size_t at = 4; at + 2 * step < footer; at += step) {
        for (int how = 0; how < 3; how++) {
            const uint8_t *from = f->file.data;
            size_t first = how == 0 ? at + step : at, skip = how == 1 ? step : how == 0 ? 2 * step : 0;
            tm_buf_clear(&moved);
            assert_int_equal(tm_buf_append(&moved, from, at), TM_OK);
            if (how != 1)
                assert_int_equal(tm_buf_append(&moved, from + first, step), TM_OK);
            if (how == 0)
                assert_int_equal(tm_buf_append(&moved, from + at, step), TM_OK);
            assert_int_equal(tm_buf_append(&moved, from + at + skip, f->file.len - at - skip), TM_OK);
            int rc = read_back(&moved, &tuples, &err);
            assert_true(rc == TM_ECORRUPT || (rc == TM_OK && same_rows(f, &tuples)));
            assert_true(how == 0 || rc);
        }
    }
    tm_buf_fini(&moved);
    tm_buf_fini(&tuples);
}

/* After an error the reader gives no more rows. */
static void test_no_rows_after_an_error(void **state)
{
    struct fixture *f = *state;
    struct tm_parquet_reader *r;
    struct tm_buf tuples = {0};
    struct tm_error err;
    size_t rows, group;
    f->file.data[footer_at(f) - 1] ^= 1; /* the last page of the last column */
    assert_int_equal(file_open(&f->file, &r, &err), TM_OK);
    assert_int_equal(tm_parquet_reader_next(r, 1 << 20, &tuples, &rows, &group, &err), 1);
    assert_int_equal(rows, 20);
    size_t good = tuples.len;
    assert_int_equal(tm_parquet_reader_next(r, 1 << 20, &tuples, &rows, &group, &err), TM_ECORRUPT);
    assert_non_null(strstr(err.message, "row group 1, column \"weight\", page 0 at byte "));
    assert_int_equal(tuples.len, good);
    assert_int_equal(tm_parquet_reader_next(r, 1 << 20, &tuples, &rows, &group, &err), TM_ESTATE);
    f->file.data[footer_at(f) - 1] ^= 1;
    tm_parquet_reader_close(r);
    tm_buf_fini(&tuples);
}

static int broken_read(void *arg, uint64_t offset, void *bytes, size_t len, struct tm_error *err)
{
    if (offset < 200)
        return tm_error_set(err, TM_ERETRY, "the server went away");
    return file_read_at(arg, offset, bytes, len, err);
}

/* What the callback answers is passed on as it is. */
static void test_read_fails(void **state)
{
    struct fixture *f = *state;
    struct tm_parquet_reader_options o = {.read_at = broken_read, .arg = &f->file, .size = f->file.len};
    struct tm_parquet_reader *r;
    struct tm_error err;
    assert_int_equal(tm_parquet_reader_open(&o, &r, &err), TM_ERETRY);
    assert_string_equal(err.message, "the server went away");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_bit),
        cmocka_unit_test(test_place),
        cmocka_unit_test(test_every_length),
        cmocka_unit_test(test_moved_bytes),
        cmocka_unit_test(test_no_rows_after_an_error),
        cmocka_unit_test(test_read_fails),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
