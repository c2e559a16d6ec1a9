/* The integer encodings: the examples of Encodings.md byte by byte, extremes, random values, cut and damaged bytes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "archive/parquet_format.h"
#include "archive/parquet_pack.h"

#include <stdlib.h>
#include <string.h>

static uint64_t state = 7;

static uint64_t roll(void)
{
    state = state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return state >> 11 ^ state << 21;
}

static void assert_bytes(const struct tm_buf *buf, const void *bytes, size_t len)
{
    assert_int_equal(buf->len, len);
    assert_memory_equal(buf->data, bytes, len);
}

/* The bytes alone in memory of their own, so that a sanitizer sees what is read behind the padding. */
static uint8_t *padded(const struct tm_buf *buf, size_t len)
{
    uint8_t *bytes = calloc(1, len + TM_PARQUET_PADDING);
    assert_non_null(bytes);
    memcpy(bytes, buf->data, len);
    return bytes;
}

/* ---- runs ---- */

static const char *get_runs(const struct tm_buf *buf, size_t len, unsigned width, uint32_t limit, uint32_t *values,
                            size_t count)
{
    uint8_t *bytes = padded(buf, len);
    const char *fault = tm_parquet_get_runs(bytes, bytes + len, width, limit, values, count);
    free(bytes);
    return fault;
}

/* "The numbers 1 through 7 using bit width 3", Encodings.md; the head is 1 group << 1 | 1. */
static void test_packed_example(void **unused)
{
    static const uint32_t values[8] = {0, 1, 2, 3, 4, 5, 6, 7};
    struct tm_buf buf = {0};
    uint32_t back[8];
    (void)unused;
    assert_int_equal(tm_parquet_put_runs(&buf, values, 8, 3), TM_OK);
    assert_bytes(&buf, "\x03\x88\xc6\xfa", 4);
    assert_null(get_runs(&buf, buf.len, 3, 8, back, 8));
    assert_memory_equal(back, values, sizeof values);
    assert_string_equal(get_runs(&buf, buf.len, 3, 7, back, 8), "an index or level that is too high");
    tm_buf_fini(&buf);
}

/* <rle-run>: the count << 1, then the value in whole bytes. */
static void test_run_example(void **unused)
{
    struct tm_buf buf = {0};
    uint32_t values[300], back[300];
    (void)unused;
    for (size_t i = 0; i < 300; i++)
        values[i] = 0x123;
    assert_int_equal(tm_parquet_put_runs(&buf, values, 300, 9), TM_OK);
    assert_bytes(&buf, "\xd8\x04\x23\x01", 4); /* 600 is d8 04 */
    assert_null(get_runs(&buf, buf.len, 9, 0x124, back, 300));
    assert_memory_equal(back, values, sizeof values);
    assert_non_null(get_runs(&buf, buf.len, 9, 0x123, back, 300));
    assert_non_null(get_runs(&buf, buf.len, 9, 0x124, back, 299));
    assert_non_null(get_runs(&buf, buf.len, 9, 0x124, back, 301));
    tm_buf_fini(&buf);
}

static void test_random_runs(void **unused)
{
    uint32_t values[700], back[700];
    (void)unused;
    for (int round = 0; round < 3000; round++) {
        unsigned width = 1 + (unsigned)(roll() % 32);
        uint64_t limit = UINT64_C(1) << width;
        size_t count = roll() % 700;
        struct tm_buf buf = {0};
        for (size_t i = 0; i < count; i++)
            values[i] = i && roll() % 10 < (unsigned)round % 11 ? values[i - 1] : (uint32_t)(roll() % limit);
        assert_int_equal(tm_parquet_put_runs(&buf, values, count, width), TM_OK);
        uint32_t most = 0;
        for (size_t i = 0; i < count; i++)
            most = values[i] > most ? values[i] : most;
        if (most < UINT32_MAX && count) {
            assert_null(get_runs(&buf, buf.len, width, most + 1, back, count));
            assert_memory_equal(back, values, count * sizeof *values);
            assert_non_null(get_runs(&buf, buf.len - 1, width, most + 1, back, count));
        }
        tm_buf_fini(&buf);
    }
}

static void test_bad_runs(void **unused)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"\0\1", 2},                     /* a run of none */
        {"\x01", 1},                     /* no groups */
        {"\xff\xff\xff\xff\xff\x0f", 6}, /* more than 2^31 - 1 */
        {"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", 11},
        {"\x10", 1},         /* no value */
        {"\x03\x88\xc6", 3}, /* a group that is cut */
        {"\x10\x01\x00", 3}, /* a byte too many */
        {"", 0},
    };
    uint32_t back[8];
    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tm_buf buf = {0};
        assert_int_equal(tm_buf_append(&buf, bad[i].bytes, bad[i].len), TM_OK);
        assert_int_equal(tm_buf_reserve(&buf, 1), TM_OK);
        assert_non_null(get_runs(&buf, buf.len, 3, 8, back, 8));
        tm_buf_fini(&buf);
    }
}

/* ---- deltas ---- */

static const char *get_deltas(const struct tm_buf *buf, size_t len, bool narrow, int64_t *values, size_t count)
{
    uint8_t *bytes = padded(buf, len);
    const char *fault = tm_parquet_get_deltas(bytes, bytes + len, narrow, values, count);
    free(bytes);
    return fault;
}

/* "Example 1" and "Example 2" of Encodings.md, in blocks of 128 and 4 miniblocks. */
static void test_delta_examples(void **unused)
{
    static const int64_t rising[] = {1, 2, 3, 4, 5}, both[] = {7, 5, 3, 1, 2, 3, 4, 5};
    struct tm_buf buf = {0};
    int64_t back[8];
    (void)unused;
    assert_int_equal(tm_parquet_put_deltas(&buf, rising, 5, false), TM_OK);
    assert_bytes(&buf, "\x80\x01\4\5\2\2\0\0\0\0", 10);
    assert_null(get_deltas(&buf, buf.len, false, back, 5));
    assert_memory_equal(back, rising, sizeof rising);
    tm_buf_clear(&buf);
    assert_int_equal(tm_parquet_put_deltas(&buf, both, 8, false), TM_OK);
    assert_bytes(&buf, "\x80\x01\4\x08\x0e\3\2\0\0\0\xc0\x3f\0\0\0\0\0\0", 18);
    assert_null(get_deltas(&buf, buf.len, false, back, 8));
    assert_memory_equal(back, both, sizeof both);
    tm_buf_fini(&buf);
}

static void test_delta_extremes(void **unused)
{
    static const int64_t wide[] = {INT64_MAX, INT64_MIN, 0, -1, INT64_MIN, INT64_MAX, INT64_MAX, 1};
    static const int64_t narrow[] = {INT32_MAX, INT32_MIN, 0, -1, INT32_MIN, INT32_MAX, INT32_MAX, 1};
    struct tm_buf buf = {0};
    int64_t back[8];
    (void)unused;
    for (size_t count = 0; count <= 8; count++) {
        tm_buf_clear(&buf);
        assert_int_equal(tm_parquet_put_deltas(&buf, wide, count, false), TM_OK);
        assert_null(get_deltas(&buf, buf.len, false, back, count));
        assert_memory_equal(back, wide, count * 8);
        tm_buf_clear(&buf);
        assert_int_equal(tm_parquet_put_deltas(&buf, narrow, count, true), TM_OK);
        assert_null(get_deltas(&buf, buf.len, true, back, count));
        assert_memory_equal(back, narrow, count * 8);
    }
    tm_buf_fini(&buf);
}

static void random_values(int64_t *values, size_t count, bool narrow)
{
    unsigned bits = (unsigned)(roll() % 65);
    int64_t v = (int64_t)roll();
    for (size_t i = 0; i < count; i++) {
        v = (int64_t)((uint64_t)v + (bits ? roll() >> (64 - bits) : 0));
        values[i] = narrow ? (int32_t)v : v;
    }
}

static void test_random_deltas(void **unused)
{
    int64_t values[1000], back[1000];
    (void)unused;
    for (int round = 0; round < 3000; round++) {
        bool narrow = round % 2;
        size_t count = roll() % (round % 10 ? 300 : 1000);
        struct tm_buf buf = {0};
        random_values(values, count, narrow);
        assert_int_equal(tm_parquet_put_deltas(&buf, values, count, narrow), TM_OK);
        assert_true(buf.len <= 30 + (count / 128 + 1) * (14 + (narrow ? 512U : 1024U)));
        assert_null(get_deltas(&buf, buf.len, narrow, back, count));
        assert_memory_equal(back, values, count * sizeof *values);
        assert_non_null(get_deltas(&buf, buf.len, narrow, back, count + 1));
        size_t cut = roll() % buf.len;
        assert_non_null(get_deltas(&buf, cut, narrow, back, count));
        tm_buf_fini(&buf);
    }
}

static void test_bad_deltas(void **unused)
{
    static const struct {
        const char *bytes;
        size_t len;
    } bad[] = {
        {"\0\4\2\2\2\0\0\0\0", 9},             /* blocks of none */
        {"\x81\x01\4\2\2\2\0\0\0\0", 10},      /* of 129 */
        {"\x80\x01\0\2\2\2\0\0\0\0", 10},      /* no miniblocks */
        {"\x80\x01\x08\2\2\2\0\0\0\0", 10},    /* miniblocks of 16 */
        {"\x80\x01\3\2\2\2\0\0\0\0", 10},      /* that do not divide */
        {"\x80\x01\4\3\2\2\0\0\0\0", 10},      /* 3 values, expected 2 */
        {"\x80\x01\4\2\2\2\x41\0\0\0", 10},    /* 65 bits */
        {"\x80\x01\4\2\2\2\1\0\0\0\1\1\1", 13} /* a miniblock that is cut */
    };
    int64_t back[2];
    (void)unused;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct tm_buf buf = {0};
        assert_int_equal(tm_buf_append(&buf, bad[i].bytes, bad[i].len), TM_OK);
        assert_non_null(get_deltas(&buf, buf.len, false, back, 2));
        tm_buf_fini(&buf);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_packed_example), cmocka_unit_test(test_run_example),
        cmocka_unit_test(test_random_runs),    cmocka_unit_test(test_bad_runs),
        cmocka_unit_test(test_delta_examples), cmocka_unit_test(test_delta_extremes),
        cmocka_unit_test(test_random_deltas),  cmocka_unit_test(test_bad_deltas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
