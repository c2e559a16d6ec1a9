/* Answers as people see them. */
#include "control/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static void assert_pretty(const char *json, const char *expected)
{
    struct tm_buf out = {0};
    assert_int_equal(tm_client_pretty(json, strlen(json), &out), TM_OK);
    assert_string_equal(tm_buf_cstr(&out), expected);
    tm_buf_fini(&out);
}

static void test_pretty(void **state)
{
    (void)state;
    assert_pretty("{\"role\":\"gatherer\",\"feed\":{\"rows\":12,\"up\":true},\"none\":null}",
                  "role                  gatherer\n"
                  "feed\n"
                  "  rows                  12\n"
                  "  up                    true\n"
                  "none                  null\n");
    assert_pretty("{\"gatherers\":[{\"id\":\"g1\",\"lag\":{\"ms\":3}},{\"id\":\"g2\"}],\"n\":1}",
                  "gatherers\n"
                  "  id=g1 lag=ms=3  \n"
                  "  id=g2 \n"
                  "n                     1\n");
    assert_pretty("\"pong\"", "pong\n");
    assert_pretty("\"a \\\"b\\\"\"", "a \\\"b\\\"\n");
    assert_pretty("{}", "");
    assert_pretty("[]", "");
    assert_pretty(" { \"a\" : [ 1 , 2 ] } ", "a\n  1\n  2\n");
}

/* Whatever comes, it ends: cut at every byte. */
static void test_cut_short(void **state)
{
    (void)state;
    static const char json[] = "{\"a\":[{\"b\":\"c\\\"\"},[1,{\"d\":null}]],\"e\":{\"f\":-1.5e3}}";
    for (size_t len = 0; len < sizeof json; len++) {
        struct tm_buf out = {0};
        assert_int_equal(tm_client_pretty(json, len, &out), TM_OK);
        tm_buf_fini(&out);
    }
}

static void test_nobody_there(void **state)
{
    (void)state;
    struct tm_buf out = {0};
    struct tm_error err;
    assert_int_equal(tm_client_ask("/nonexistent/socket", "status", 1000, &out, &err), TM_EIO);
    assert_non_null(strstr(err.message, "is it running?"));
    tm_buf_fini(&out);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pretty),
        cmocka_unit_test(test_cut_short),
        cmocka_unit_test(test_nobody_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
