#include "unit.h"

#include "base/buf.h"

static void test_append_and_grow(void **state)
{
    (void)state;
    struct tm_buf b = {0};
    for (int i = 0; i < 10000; i++) {
        uint8_t byte = (uint8_t)(i * 7);
        assert_int_equal(tm_buf_append(&b, &byte, 1), TM_OK);
    }
    assert_int_equal(b.len, 10000);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(b.data[i], (uint8_t)(i * 7));
    assert_int_equal(tm_buf_append(&b, NULL, 0), TM_OK);
    assert_int_equal(b.len, 10000);
    size_t cap = b.cap;
    tm_buf_clear(&b);
    assert_true(b.len == 0 && b.cap == cap);
    tm_buf_fini(&b);
    assert_true(b.data == NULL && b.len == 0 && b.cap == 0);
}

static void test_reserve(void **state)
{
    (void)state;
    struct tm_buf b = {0};
    assert_int_equal(tm_buf_reserve(&b, 5000), TM_OK);
    assert_true(b.cap >= 5000 && b.len == 0);
    const uint8_t *data = b.data;
    assert_int_equal(tm_buf_reserve(&b, 5000), TM_OK);
    assert_ptr_equal(b.data, data);
    assert_int_equal(tm_buf_append(&b, "abc", 3), TM_OK);
    assert_int_equal(tm_buf_reserve(&b, SIZE_MAX - 1), TM_ENOMEM);
    assert_true(b.len == 3 && memcmp(b.data, "abc", 3) == 0); /* what was there is kept */
    tm_buf_fini(&b);
}

static void test_printf_and_cstr(void **state)
{
    (void)state;
    struct tm_buf b = {0};
    assert_int_equal(tm_buf_printf(&b, "%s=%d", "lag", 30), TM_OK);
    assert_int_equal(tm_buf_printf(&b, ";%0300d", 0), TM_OK);
    assert_int_equal(b.len, 6 + 1 + 300);
    const char *text = tm_buf_cstr(&b);
    assert_int_equal(strlen(text), b.len);
    assert_memory_equal(text, "lag=30;000", 10);
    tm_buf_fini(&b);
    assert_string_equal(tm_buf_cstr(&b), "");
    tm_buf_fini(&b);
}

static void test_consume(void **state)
{
    (void)state;
    struct tm_buf b = {0};
    assert_int_equal(tm_buf_append(&b, "abcdef", 6), TM_OK);
    tm_buf_consume(&b, 0);
    tm_buf_consume(&b, 2);
    assert_true(b.len == 4 && memcmp(b.data, "cdef", 4) == 0);
    tm_buf_consume(&b, 4);
    assert_int_equal(b.len, 0);
    tm_buf_fini(&b);
    tm_buf_consume(&b, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_append_and_grow),
        cmocka_unit_test(test_reserve),
        cmocka_unit_test(test_printf_and_cstr),
        cmocka_unit_test(test_consume),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
