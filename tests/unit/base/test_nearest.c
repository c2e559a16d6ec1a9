/* Distances of names, by hand. */
#include "base/nearest.h"
#include "unit.h"

static void test_distance(void **state)
{
    (void)state;
    assert_int_equal(tm_name_distance("", ""), 0);
    assert_int_equal(tm_name_distance("", "abc"), 3);
    assert_int_equal(tm_name_distance("kitten", "sitting"), 3);
    assert_int_equal(tm_name_distance("sslmod", "sslmode"), 1);
    assert_int_equal(tm_name_distance("hots", "host"), 1);
    assert_int_equal(tm_name_distance("a name of more than thirty-two bytes", "a"), TM_NAME_BYTES_MAX);
}

static void test_near(void **state)
{
    (void)state;
    assert_true(tm_name_is_near("usr", "user"));
    assert_true(tm_name_is_near("connect_timeot", "connect_timeout"));
    assert_false(tm_name_is_near("foo", "port"));
    assert_false(tm_name_is_near("", "a"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_distance), cmocka_unit_test(test_near)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
