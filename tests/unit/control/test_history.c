/* Rates of counters and the last ten minutes of figures; time is a parameter, so hours pass at once. */
#include "control/history.h"

#include "base/clock.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include <jansson.h>

#define S TM_US_PER_S

static json_t *put(const struct tm_history *h)
{
    struct tm_buf out = {0};
    json_error_t err;
    assert_int_equal(tm_history_put(h, &out), TM_OK);
    json_t *j = json_loads(tm_buf_cstr(&out), 0, &err);
    assert_non_null(j);
    tm_buf_fini(&out);
    return j;
}

static void test_rates(void **state)
{
    (void)state;
    struct tm_history *h = tm_history_create();
    assert_true(tm_history_rate(h, "a", 3) == 0);
    tm_history_count(h, "a", 1000, 100 * S);
    assert_true(tm_history_rate(h, "a", 3) == 0);
    tm_history_turn(h);
    tm_history_count(h, "a", 1500, 102 * S); /* uneven seconds */
    assert_true(tm_history_rate(h, "a", 3) == 250);
    for (int i = 1; i <= 20; i++) {
        tm_history_turn(h);
        tm_history_count(h, "a", 1500 + 100 * i, (102 + i) * S);
    }
    assert_true(tm_history_rate(h, "a", 1) == 100 && tm_history_rate(h, "a", 10) == 100);
    tm_history_turn(h);
    tm_history_count(h, "a", 3600, 123 * S); /* + 100, then nothing */
    for (int i = 1; i <= 2; i++) {
        tm_history_turn(h);
        tm_history_count(h, "a", 3600, (123 + i) * S);
    }
    assert_true(fabs(tm_history_rate(h, "a", 3) - 100.0 / 3) < 1e-9 && tm_history_rate(h, "a", 2) == 0);
    tm_history_turn(h);
    tm_history_count(h, "a", 50, 126 * S); /* it began anew: no rate from across the break */
    assert_true(tm_history_rate(h, "a", 10) == 0);
    tm_history_turn(h);
    tm_history_count(h, "a", 70, 127 * S);
    assert_true(tm_history_rate(h, "a", 10) == 20);
    tm_history_destroy(h);
}

static void test_figures(void **state)
{
    (void)state;
    struct tm_history *h = tm_history_create();
    for (int i = 0; i < 3; i++) {
        tm_history_note(h, "rows", i);
        if (i == 1)
            tm_history_note(h, "lag \"s\"", 0.125);
        tm_history_turn(h);
    }
    json_t *j = put(h), *figures = json_object_get(j, "figures");
    json_t *rows = json_object_get(figures, "rows"), *lag = json_object_get(figures, "lag \"s\"");
    assert_int_equal(json_array_size(rows), 3);
    assert_true(json_number_value(json_array_get(rows, 2)) == 2);
    assert_int_equal(json_array_size(lag), 3);
    assert_true(json_is_null(json_array_get(lag, 0)) && json_is_null(json_array_get(lag, 2)));
    assert_true(json_number_value(json_array_get(lag, 1)) == 0.125);
    json_decref(j);
    struct tm_buf latest = {0};
    assert_int_equal(tm_history_put_latest(h, &latest), TM_OK);
    assert_string_equal(tm_buf_cstr(&latest), "{\"rows\":2}");
    tm_buf_fini(&latest);
    for (int i = 3; i < 2000; i++) {
        tm_history_note(h, "rows", i);
        tm_history_turn(h);
    }
    j = put(h);
    rows = json_object_get(json_object_get(j, "figures"), "rows");
    assert_int_equal(json_array_size(rows), TM_HISTORY_SECONDS - 1);
    assert_true(json_number_value(json_array_get(rows, 0)) == 2000 - (TM_HISTORY_SECONDS - 1));
    assert_true(json_number_value(json_array_get(rows, TM_HISTORY_SECONDS - 2)) == 1999);
    json_decref(j);
    tm_history_destroy(h);
}

static void note_all(struct tm_history *h, const char *of, size_t count)
{
    char name[80];
    for (size_t i = 0; i < count; i++) {
        snprintf(name, sizeof name, "%s%zu", of, i);
        tm_history_note(h, name, (double)i);
        tm_history_count(h, name, (double)i, S);
    }
    tm_history_turn(h);
}

static size_t kept(const struct tm_history *h, const char *name)
{
    json_t *j = put(h), *figures = json_object_get(j, "figures");
    size_t count = json_object_size(figures);
    bool has = json_object_get(figures, name);
    json_decref(j);
    return has ? count : 0;
}

static void test_bounds(void **state)
{
    (void)state;
    struct tm_history *h = tm_history_create();
    note_all(h, "first", TM_HISTORY_COUNTERS_MAX + 100);
    assert_int_equal(kept(h, "first0"), TM_HISTORY_SERIES_MAX);
    assert_int_equal(kept(h, "first64"), 0);
    for (int i = 0; i < TM_HISTORY_SECONDS + 1; i++)
        tm_history_turn(h);
    note_all(h, "second", 1); /* in the place of one that nobody used for ten minutes */
    assert_int_equal(kept(h, "second0"), TM_HISTORY_SERIES_MAX);
    tm_history_count(h, "second0", 5, 2 * S);
    assert_true(tm_history_rate(h, "second0", 3) == 5);
    tm_history_destroy(h);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_rates),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_bounds),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
