/* Thrift's compact protocol: bytes worked out from its specification by hand, and what must be refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "archive/parquet_thrift.h"

#include <string.h>

/* i32 1 = -3, bool 2 = true, string 20 = "ab", list<i32> 21 = {1, 300}, struct 22 = {i64 1 = 2^40}, i8 23 = -1 */
static const uint8_t sample[] = {0x15, 0x05,                                           /* +1 i32, zigzag 5 */
                                 0x11,                                                 /* +1 true */
                                 0x08, 0x28, 0x02, 'a',  'b',                          /* id 20, as 40 */
                                 0x19, 0x25, 0x02, 0xd8, 0x04,                         /* +1 list, 2 of i32 */
                                 0x1c, 0x16, 0x80, 0x80, 0x80, 0x80, 0x80, 0x40, 0x00, /* +1 struct */
                                 0x13, 0xff,                                           /* +1 i8 */
                                 0x00};

static void test_write(void **unused)
{
    struct tm_buf buf = {0};
    struct tm_thrift_out t = {.buf = &buf};
    (void)unused;
    tm_thrift_put_struct(&t, 0);
    tm_thrift_put_i32(&t, 1, -3);
    tm_thrift_put_bool(&t, 2, true);
    tm_thrift_put_string(&t, 20, "ab");
    tm_thrift_put_list(&t, 21, TM_THRIFT_I32, 2);
    tm_thrift_put_i32(&t, 0, 1);
    tm_thrift_put_i32(&t, 0, 300);
    tm_thrift_put_struct(&t, 22);
    tm_thrift_put_i64(&t, 1, INT64_C(1) << 40);
    tm_thrift_put_end(&t);
    tm_thrift_put_i8(&t, 23, -1);
    tm_thrift_put_end(&t);
    assert_int_equal(t.rc, TM_OK);
    assert_int_equal(t.depth, 0);
    assert_int_equal(buf.len, sizeof sample);
    assert_memory_equal(buf.data, sample, sizeof sample);
    tm_buf_fini(&buf);
}

struct seen {
    int32_t i, list[2], byte;
    int64_t inner;
    bool flag;
    char text[8];
};

static void read_sample(struct tm_thrift_in *t, struct seen *s)
{
    struct tm_thrift_field of;
    size_t len;
    for (struct tm_thrift_field f = tm_thrift_enter(t, (struct tm_thrift_field){0}); tm_thrift_next(t, &f);) {
        if (f.id == 1)
            s->i = tm_thrift_i32(t, f);
        else if (f.id == 2)
            s->flag = tm_thrift_bool(t, f);
        else if (f.id == 20) {
            const uint8_t *bytes = tm_thrift_binary(t, f, &len);
            memcpy(s->text, bytes, len < 7 ? len : 7);
        } else if (f.id == 21) {
            size_t count = tm_thrift_list(t, f, &of);
            for (size_t i = 0; i < count; i++) {
                int32_t v = tm_thrift_i32(t, of);
                s->list[i % 2] = v;
            }
        } else if (f.id == 22) {
            for (struct tm_thrift_field in = tm_thrift_enter(t, f); tm_thrift_next(t, &in);)
                s->inner = tm_thrift_i64(t, in);
        } else
            s->byte = tm_thrift_i32(t, f);
    }
}

static void skip_all(struct tm_thrift_in *t)
{
    for (struct tm_thrift_field f = tm_thrift_enter(t, (struct tm_thrift_field){0}); tm_thrift_next(t, &f);)
        tm_thrift_skip(t, f);
}

static void test_read(void **unused)
{
    struct tm_thrift_in t;
    struct seen s = {0};
    (void)unused;
    tm_thrift_in_init(&t, sample, sizeof sample);
    read_sample(&t, &s);
    assert_null(t.fault);
    assert_ptr_equal(t.at, t.end);
    assert_int_equal(t.depth, 0);
    assert_int_equal(s.i, -3);
    assert_true(s.flag);
    assert_string_equal(s.text, "ab");
    assert_int_equal(s.list[0], 1);
    assert_int_equal(s.list[1], 300);
    assert_true(s.inner == INT64_C(1) << 40);
    assert_int_equal(s.byte, -1);
    tm_thrift_in_init(&t, sample, sizeof sample);
    skip_all(&t);
    assert_null(t.fault);
    assert_ptr_equal(t.at, t.end);
}

static void test_cut(void **unused)
{
    (void)unused;
    for (size_t len = 0; len < sizeof sample; len++) {
        struct tm_thrift_in t;
        struct seen s = {0};
        tm_thrift_in_init(&t, sample, len);
        read_sample(&t, &s);
        assert_non_null(t.fault);
        assert_true(t.fault_at <= len);
        tm_thrift_in_init(&t, sample, len);
        skip_all(&t);
        assert_non_null(t.fault);
    }
}

static const char *fault_of(const void *bytes, size_t len)
{
    struct tm_thrift_in t;
    tm_thrift_in_init(&t, bytes, len);
    skip_all(&t);
    return t.fault;
}

static void test_bad(void **unused)
{
    uint8_t deep[64];
    (void)unused;
    memset(deep, 0x1c, sizeof deep); /* structs in structs */
    assert_string_equal(fault_of(deep, sizeof deep), "nested too deep");
    memset(deep, 0x19, sizeof deep); /* lists of one list */
    assert_string_equal(fault_of(deep, sizeof deep), "nested too deep");
    assert_non_null(fault_of("\x16\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\0", 12)); /* 65 bits */
    assert_null(fault_of("\x16\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0", 12));
    assert_non_null(fault_of("\x18\xff\xff\xff\xff\x0f", 6));     /* a string of 4 GiB */
    assert_non_null(fault_of("\x19\xf5\xff\xff\xff\xff\x0f", 7)); /* a list of as many */
    assert_non_null(fault_of("\x1d\0", 2));                       /* not a type */
    assert_non_null(fault_of("\x1b\0\0", 3));                     /* a map */
    assert_non_null(fault_of("\x05\x01\x02\0", 4));               /* field -1 */
    assert_non_null(fault_of("\x05\0\x02\0", 4));                 /* field 0 */
    assert_non_null(fault_of("\x19\x20", 2));                     /* a list of nothing */
    assert_null(fault_of("\x19\x22\1\2\x29\x1c\0\0", 8));         /* lists of booleans and of structs */
}

/* Another type than the reader asks for is a fault, not a number. */
static void test_wrong_types(void **unused)
{
    static const char *const fields[] = {"\x15\x02", "\x11", "\x18\x01z", "\x19\x15\x02", "\x1c\0"};
    static const size_t lengths[] = {2, 1, 3, 3, 2};
    (void)unused;
    for (int want = 0; want < 5; want++) {
        for (int have = 0; have < 5; have++) {
            struct tm_thrift_in t;
            struct tm_thrift_field of, f;
            size_t len;
            tm_thrift_in_init(&t, fields[have], lengths[have]);
            f = tm_thrift_enter(&t, (struct tm_thrift_field){0});
            assert_true(tm_thrift_next(&t, &f));
            if (want == 0)
                (void)tm_thrift_i32(&t, f);
            else if (want == 1)
                (void)tm_thrift_bool(&t, f);
            else if (want == 2)
                (void)tm_thrift_binary(&t, f, &len);
            else if (want == 3)
                (void)tm_thrift_list(&t, f, &of);
            else
                (void)tm_thrift_enter(&t, f);
            assert_int_equal(t.fault != NULL, want != have);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_write), cmocka_unit_test(test_read),        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_bad),   cmocka_unit_test(test_wrong_types),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
