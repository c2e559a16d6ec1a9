/* The bytes of a segment, against values that come from elsewhere. */
#include "records.h"

#include "journal/crc32c.h"
#include "journal/segment.h"

#include <stdio.h>
#include <stdlib.h>

/* Published check values: RFC 3720 appendix B.4 and the CRC catalogue. */
static void test_crc32c_check_values(void **state)
{
    (void)state;
    uint8_t bytes[32];
    assert_int_equal(tm_crc32c(0, "123456789", 9), 0xE3069283);
    memset(bytes, 0, sizeof bytes);
    assert_int_equal(tm_crc32c(0, bytes, 32), 0x8A9136AA);
    memset(bytes, 0xff, sizeof bytes);
    assert_int_equal(tm_crc32c(0, bytes, 32), 0x62A8AB43);
    for (uint8_t i = 0; i < 32; i++)
        bytes[i] = i;
    assert_int_equal(tm_crc32c(0, bytes, 32), 0x46DD794E);
    assert_int_equal(tm_crc32c_portable(0, "123456789", 9), 0xE3069283);
    assert_int_equal(tm_crc32c(0, "", 0), 0);
}

static void test_crc32c_forms_agree(void **state)
{
    (void)state;
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++)
        bytes[i] = (uint8_t)(i * i + 7);
    for (size_t from = 0; from < 9; from++)
        for (size_t len = 0; from + len <= sizeof bytes; len++) {
            uint32_t whole = tm_crc32c_portable(0, bytes + from, len);
            assert_int_equal(tm_crc32c(0, bytes + from, len), whole);
            uint32_t half = tm_crc32c(0, bytes + from, len / 2);
            assert_int_equal(tm_crc32c(half, bytes + from + len / 2, len - len / 2), whole);
        }
}

static void test_names(void **state)
{
    (void)state;
    static const struct {
        uint64_t number;
        const char *name;
    } good[] = {{0, "0000000000000000.seg"},
                {1, "0000000000000001.seg"},
                {UINT64_C(0xab12), "000000000000ab12.seg"},
                {UINT64_MAX, "ffffffffffffffff.seg"}};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        char name[TM_SEGMENT_NAME_BYTES];
        uint64_t number = 7;
        tm_segment_name(good[i].number, name);
        assert_string_equal(name, good[i].name);
        assert_true(tm_segment_name_parse(good[i].name, &number));
        assert_true(number == good[i].number);
    }
    uint64_t number;
    static const char *const bad[] = {"",
                                      "epoch",
                                      "0000000000000001.tmp",
                                      "000000000000000g.seg",
                                      "000000000000000A.seg",
                                      "0000000000000001.seg.tmp",
                                      "00000000000000001.seg",
                                      "0000000000000001seg"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_false(tm_segment_name_parse(bad[i], &number));
}

static struct tm_segment_header make_header(struct tm_buf *out)
{
    struct tm_segment_header h = {.number = 0x0102, .salt = 0x1122334455667788, .streams = 2};
    for (uint8_t i = 0; i < 16; i++)
        h.epoch[i] = i;
    struct tm_segment_stream trades = {
        .id = 0, .next_seq = 42, .name = "trades", .name_len = 6, .columns = "a,b", .columns_len = 3};
    struct tm_segment_stream empty = {
        .id = 1, .next_seq = 1, .name = "x", .name_len = 1, .columns = "", .columns_len = 0};
    assert_int_equal(tm_segment_header_begin(out, &h), TM_OK);
    assert_int_equal(tm_segment_header_stream(out, &trades), TM_OK);
    assert_int_equal(tm_segment_header_stream(out, &empty), TM_OK);
    assert_int_equal(tm_segment_header_end(out, &h), TM_OK);
    return h;
}

/* Written by hand from the drawing in segment.h. */
static void test_header_bytes(void **state)
{
    (void)state;
    static const uint8_t expected[] = {'T',  'M',  'J', 'R', 'N', 'L', '\r', '\n', 0,    0,    0,    1,    0,    0,
                                       0,    98, /* magic, version, bytes */
                                       0,    1,    2,   3,   4,   5,   6,    7,    8,    9,    10,   11,   12,   13,
                                       14,   15, /* epoch */
                                       0,    0,    0,   0,   0,   0,   1,    2,    0x11, 0x22, 0x33, 0x44, 0x55, 0x66,
                                       0x77, 0x88,         /* segment, salt */
                                       0,    0,    0,   2, /* streams */
                                       0,    0,    0,   6,   0,   0,   0,    3,    0,    0,    0,    0,    0,    0,
                                       0,    42,   't', 'r', 'a', 'd', 'e',  's',  'a',  ',',  'b',  0,    1,    0,
                                       1,    0,    0,   0,   0,   0,   0,    0,    0,    0,    0,    0,    1,    'x'};
    struct tm_buf out = {0};
    make_header(&out);
    assert_int_equal(out.len, 2 * (sizeof expected + 4));
    assert_memory_equal(out.data, expected, sizeof expected);
    assert_int_equal(tm_get_be32(out.data + sizeof expected), tm_crc32c_portable(0, expected, sizeof expected));
    assert_memory_equal(out.data, out.data + out.len / 2, out.len / 2);
    tm_buf_fini(&out);
}

/* Any one bit wrong, or any one byte missing from the second copy: the other one serves, and the fault is told. */
static void test_header_survives_in_either_copy(void **state)
{
    (void)state;
    struct tm_buf out = {0};
    struct tm_segment_header made = make_header(&out), h;
    assert_int_equal(tm_segment_header_parse(out.data, out.len, 0x0102, &h), TM_OK);
    assert_int_equal(h.damaged_bytes, 0);
    assert_int_equal(h.key, made.key);
    for (size_t bit = 0; bit < out.len * 8; bit++) {
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_int_equal(tm_segment_header_parse(out.data, out.len, 0x0102, &h), TM_OK);
        assert_int_equal(h.damaged_bytes, made.bytes);
        assert_true(h.salt == made.salt && h.bytes == made.bytes && h.streams == 2 && h.key == made.key);
        out.data[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
    assert_int_equal(tm_segment_header_parse(out.data, out.len, 0x0103, &h), TM_ECORRUPT);
    for (size_t len = 0; len < made.bytes; len++)
        assert_int_equal(tm_segment_header_parse(out.data, len, 0x0102, &h), TM_ECORRUPT);
    tm_buf_fini(&out);
}

static void test_streams_of_a_header(void **state)
{
    (void)state;
    struct tm_buf out = {0};
    struct tm_segment_header h = make_header(&out);
    struct tm_segment_stream s;
    size_t at = 0;
    assert_int_equal(tm_segment_header_parse(out.data, out.len, 0x0102, &h), TM_OK);
    assert_true(tm_segment_stream_next(&h, &at, &s));
    assert_true(s.id == 0 && s.next_seq == 42 && s.name_len == 6 && memcmp(s.name, "trades", 6) == 0);
    assert_true(s.columns_len == 3 && memcmp(s.columns, "a,b", 3) == 0);
    assert_true(tm_segment_stream_next(&h, &at, &s));
    assert_true(s.id == 1 && s.next_seq == 1 && s.name_len == 1 && s.columns_len == 0);
    assert_false(tm_segment_stream_next(&h, &at, &s));
    tm_buf_fini(&out);
}

/* A frame is good in its place and nowhere else. */
static void test_frame_is_bound_to_its_place(void **state)
{
    (void)state;
    uint8_t bytes[TM_FRAME_HEAD_BYTES + 16] = {0};
    struct tm_frame f = {.offset = 1000, .length = 14, .count = 1, .synced = 900}, got;
    memcpy(bytes + TM_FRAME_HEAD_BYTES, "\0\0\0\0\0\10sequence", 14);
    tm_frame_seal(bytes, &f, 0xabcd);
    assert_true(tm_frame_head_parse(bytes, 1000, 0xabcd, &got));
    assert_true(got.length == 14 && got.count == 1 && got.synced == 900 && got.offset == 1000);
    got.payload = bytes + TM_FRAME_HEAD_BYTES;
    assert_true(tm_frame_payload_ok(&got));
    assert_false(tm_frame_head_parse(bytes, 1001, 0xabcd, &got));
    assert_false(tm_frame_head_parse(bytes, 1000, 0xabce, &got));
    for (int bit = 0; bit < TM_FRAME_HEAD_BYTES * 8; bit++) {
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
        assert_false(tm_frame_head_parse(bytes, 1000, 0xabcd, &got));
        bytes[bit / 8] ^= (uint8_t)(1u << bit % 8);
    }
}

static void test_items(void **state)
{
    (void)state;
    static const uint8_t payload[] = {0, 3, 0, 0, 0, 9, 'a', 0, 0, 0, 0, 0, 0, 0, 5,
                                      0, 4, 0, 0, 0, 8, 0,   0, 0, 0, 0, 0, 1, 0};
    struct tm_item item;
    uint32_t at = 0;
    assert_true(tm_item_next(payload, sizeof payload, &at, &item));
    assert_true(item.stream == 3 && item.len == 9 && item.tuple[0] == 'a' && item.seq == 5);
    assert_true(tm_item_next(payload, sizeof payload, &at, &item));
    assert_true(item.stream == 4 && item.len == 8 && item.seq == 256);
    assert_false(tm_item_next(payload, sizeof payload, &at, &item));
    for (uint32_t cut = 0; cut < 15; cut++) {
        at = 0;
        assert_false(tm_item_next(payload, cut, &at, &item));
        assert_int_equal(at, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_crc32c_check_values),
        cmocka_unit_test(test_crc32c_forms_agree),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_header_bytes),
        cmocka_unit_test(test_header_survives_in_either_copy),
        cmocka_unit_test(test_streams_of_a_header),
        cmocka_unit_test(test_frame_is_bound_to_its_place),
        cmocka_unit_test(test_items),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
