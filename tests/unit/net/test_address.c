/* Addresses of listeners, before anything listens: their form, and which two exclude each other. */
#include "net/httpd.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

static void test_clashes(void **state)
{
    (void)state;
    static const struct {
        const char *a, *b;
        bool clash;
    } cases[] = {
        {"127.0.0.1:80", "127.0.0.1:80", false}, /* the same text is one listener */
        {"127.0.0.1:80", "127.0.0.1:080", true}, {"127.0.0.1:80", "0.0.0.0:80", true},
        {"127.0.0.1:80", "127.0.0.2:80", false}, {"127.0.0.1:80", "127.0.0.1:81", false},
        {"127.0.0.1:0", "0.0.0.0:0", false}, /* each gets its own */
        {"[::1]:80", "[::]:80", true},           {"[::]:80", "0.0.0.0:80", false},
        {"[::1]:80", "[0::1]:80", true},         {"nonsense", "0.0.0.0:80", false},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        if (tm_httpd_addresses_clash(cases[i].a, cases[i].b) != cases[i].clash ||
            tm_httpd_addresses_clash(cases[i].b, cases[i].a) != cases[i].clash)
            fail_msg("%s and %s: expected %s", cases[i].a, cases[i].b, cases[i].clash ? "a clash" : "none");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_clashes)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
