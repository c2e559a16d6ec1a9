#include "unit.h"

#include "base/error.h"

#include <errno.h>

static void test_set_and_wrap(void **state)
{
    (void)state;
    struct tm_error err;
    assert_int_equal(tm_error_set(&err, TM_EPARSE, "expected %d, came %s", 3, "x"), TM_EPARSE);
    assert_int_equal(err.code, TM_EPARSE);
    assert_string_equal(err.message, "expected 3, came x");
    assert_int_equal(tm_error_wrap(&err, "stream %s", "trades"), TM_EPARSE);
    assert_string_equal(err.message, "stream trades: expected 3, came x");
}

static void test_errno(void **state)
{
    (void)state;
    struct tm_error err;
    assert_int_equal(tm_error_errno(&err, TM_EIO, ENOENT, "cannot open %s", "f"), TM_EIO);
    assert_string_equal(err.message, "cannot open f: No such file or directory");
}

static void test_no_error_wanted(void **state)
{
    (void)state;
    assert_int_equal(tm_error_set(NULL, TM_EFULL, "x"), TM_EFULL);
    assert_int_equal(tm_error_errno(NULL, TM_EIO, ENOENT, "x"), TM_EIO);
    assert_true(tm_error_wrap(NULL, "x") < 0);
}

/* A message of any length is cut, never overflows, and is always a string. */
static void test_long_messages_are_cut(void **state)
{
    (void)state;
    struct {
        struct tm_error err;
        char guard[16];
    } box;
    memset(&box, 'g', sizeof box);
    char text[3000];
    memset(text, 'a', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    tm_error_set(&box.err, TM_EIO, "%s", text);
    assert_int_equal(strlen(box.err.message), sizeof box.err.message - 1);
    tm_error_wrap(&box.err, "what");
    assert_memory_equal(box.err.message, "what: aaaa", 10);
    assert_int_equal(strlen(box.err.message), sizeof box.err.message - 1);
    tm_error_wrap(&box.err, "%s", text);
    assert_int_equal(strlen(box.err.message), sizeof box.err.message - 1);
    tm_error_errno(&box.err, TM_EIO, ENOENT, "%s", text);
    assert_int_equal(strlen(box.err.message), sizeof box.err.message - 1);
    for (size_t i = 0; i < sizeof box.guard; i++)
        assert_int_equal(box.guard[i], 'g');
}

static void test_code_names(void **state)
{
    (void)state;
    assert_string_equal(tm_code_name(TM_OK), "ok");
    assert_string_equal(tm_code_name(TM_EFULL), "full");
    assert_string_equal(tm_code_name(TM_ECORRUPT), "corrupt");
    assert_string_equal(tm_code_name(TM_EPOISON), "poison");
    assert_string_equal(tm_code_name(TM_EPOISON - 1), "unknown");
    assert_string_equal(tm_code_name(1), "unknown");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_set_and_wrap),    cmocka_unit_test(test_errno),
        cmocka_unit_test(test_no_error_wanted), cmocka_unit_test(test_long_messages_are_cut),
        cmocka_unit_test(test_code_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
