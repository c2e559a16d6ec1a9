/* The command line: what a command is given, and what is refused. */
#include "control/cli.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

static struct tm_cli got;

static int take(const struct tm_cli *cli)
{
    got = *cli;
    return 42;
}

static const struct tm_cli_option options[] = {
    {"--json", NULL, "as JSON"},
    {"--rate", "N", "a rate"},
    {0},
};

static const struct tm_cli_command commands[] = {
    {"one", "FILE", "takes one", options, 1, 1, take},
    {"many", "FILE...", "takes many", NULL, 0, 3, take},
    {0},
};

static int run(char **words)
{
    int count = 0;
    while (words[count])
        count++;
    got = (struct tm_cli){0};
    return tm_cli_main(commands, "about", count, words);
}

#define RUN(...) run((char *[]){(char[]){"tidemill"}, __VA_ARGS__, NULL})

static void test_options_stand_anywhere(void **state)
{
    (void)state;
    assert_int_equal(RUN("one", "--json", "file", "--rate", "7"), 42);
    assert_int_equal(got.file_count, 1);
    assert_string_equal(got.files[0], "file");
    assert_true(tm_cli_given(&got, "--json"));
    assert_string_equal(tm_cli_value(&got, "--rate"), "7");
    assert_int_equal(RUN("one", "--rate=a=b", "file"), 42);
    assert_string_equal(tm_cli_value(&got, "--rate"), "a=b");
    assert_false(tm_cli_given(&got, "--json"));
    assert_null(tm_cli_value(&got, "--other"));
    assert_int_equal(RUN("one", "--", "--json"), 42);
    assert_string_equal(got.files[0], "--json");
    assert_int_equal(RUN("one", "-"), 42); /* a file */
    assert_int_equal(RUN("many"), 42);
    assert_int_equal(RUN("many", "a", "b", "c"), 42);
    assert_string_equal(got.files[2], "c");
}

static void test_what_is_refused(void **state)
{
    (void)state;
    assert_int_equal(RUN("one"), TM_EXIT_USAGE);
    assert_int_equal(RUN("one", "a", "b"), TM_EXIT_USAGE);
    assert_int_equal(RUN("one", "--rate", "7"), TM_EXIT_USAGE);
    assert_int_equal(RUN("one", "file", "--rate"), TM_EXIT_USAGE);
    assert_int_equal(RUN("one", "--json=1", "file"), TM_EXIT_USAGE);
    assert_int_equal(RUN("one", "--jsn", "file"), TM_EXIT_USAGE);
    assert_int_equal(RUN("many", "--json"), TM_EXIT_USAGE);
    assert_int_equal(RUN("many", "a", "b", "c", "d"), TM_EXIT_USAGE);
    assert_int_equal(RUN("two"), TM_EXIT_USAGE);
    assert_int_equal(RUN(""), TM_EXIT_USAGE);
    char *nothing[] = {(char[]){"tidemill"}, NULL};
    assert_int_equal(run(nothing), TM_EXIT_USAGE);
    assert_null(got.command);
}

static void test_help(void **state)
{
    (void)state;
    assert_int_equal(RUN("help"), TM_EXIT_OK);
    assert_int_equal(RUN("--help"), TM_EXIT_OK);
    assert_int_equal(RUN("help", "one"), TM_EXIT_OK);
    assert_int_equal(RUN("one", "--help"), TM_EXIT_OK);
    assert_int_equal(RUN("help", "two"), TM_EXIT_USAGE);
    assert_null(got.command);
}

static void test_numbers(void **state)
{
    (void)state;
    long long n;
    assert_true(tm_cli_number("12", 0, 12, &n));
    assert_int_equal(n, 12);
    assert_false(tm_cli_number("13", 0, 12, &n));
    assert_false(tm_cli_number("-1", 0, 12, &n));
    assert_false(tm_cli_number("", 0, 12, &n));
    assert_false(tm_cli_number("1x", 0, 12, &n));
    assert_false(tm_cli_number("99999999999999999999", 0, INT64_MAX, &n));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_options_stand_anywhere),
        cmocka_unit_test(test_what_is_refused),
        cmocka_unit_test(test_help),
        cmocka_unit_test(test_numbers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
