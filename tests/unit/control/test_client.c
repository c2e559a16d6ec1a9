/* Asking the control socket. */
#include "control/client.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

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
        cmocka_unit_test(test_nobody_there),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
