/* What `tidemill status` and `top` print of a state: cut at the width, safe for a terminal, the urgent first. */
#include "control/view.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char fleet[] =
    "{\"role\":\"deduplicator\",\"id\":\"dedup\",\"at_ms\":1795662695523,\"version\":\"1\",\"script\":\"/x/d.lua\","
    "\"health\":{\"status\":\"healthy\",\"policy\":\"running\",\"reason\":\"\"},\"gatherers\":["
    "{\"id\":\"g1\",\"state\":\"connected\",\"light\":\"green\",\"why\":\"\",\"rows_per_s\":12345.6,\"first_share\":0.54,"
    "\"behind\":90,\"lag_ms\":65,\"age_ms\":60},"
    "{\"id\":\"g2\",\"state\":\"connected\",\"light\":\"red\",\"why\":\"silent \\u001b[2J\\u00c3\\u00a9\\u00c2\\u009b!\","
    "\"rows_per_s\":0,\"first_share\":0,\"behind\":0,\"lag_ms\":0,\"age_ms\":131000}],"
    "\"production\":{\"connected\":true,\"light\":\"green\",\"why\":\"\",\"rows_per_s\":3076.0,\"lag_ms\":82},"
    "\"merger\":{\"light\":\"green\",\"why\":\"\",\"latency_ms\":81},\"lease\":{\"state\":\"held\"},\"copies\":1.98,"
    "\"catch_up\":{\"rows_behind\":1234567,\"left_s\":75},\"alerts\":["
    "{\"name\":\"Quiet\",\"state\":\"inactive\",\"severity\":\"critical\",\"since_ms\":0,\"summary\":\"\"},"
    "{\"name\":\"Loud\",\"state\":\"firing\",\"severity\":\"critical\",\"since_ms\":1795662605523,\"summary\":\"it burns\"}],"
    "\"recovery\":{\"running\":[],\"waiting\":[],\"recent\":[{\"routine\":\"r\",\"subject\":\"s\",\"state\":\"failed\","
    "\"started\":1795662600000000,\"ended\":1795662601500000,\"error\":\"no luck\",\"steps\":[]}]},"
    "\"gaps\":[{\"lane\":\"g1\",\"reason\":\"stopped\",\"from_ms\":1795662600000,\"to_ms\":1795662660000,\"gaps\":3}],"
    "\"policy\":{\"generation\":4,\"last_result\":\"failure\",\"last_error\":\"d.lua:3: bad\",\"last_reload\":\"\"},"
    "\"callbacks\":[{\"name\":\"tm.every at d.lua:9\",\"disabled\":true,\"failures_in_a_row\":10,\"last_error\":\"boom\\u000astack\"}],"
    "\"streams\":[{\"name\":\"trades\",\"per_s\":106.0,\"copies\":2.00,\"polled\":10817,\"written\":4092,\"duplicate\":6725}]}"
    "                "; /* the scanner looks ahead */

static struct tm_sheet sheet_of(size_t width, bool colour, bool utf8)
{
    struct tm_sheet s = {.width = width, .colour = colour, .utf8 = utf8};
    tm_view_put(&s, (struct tm_span){fleet, sizeof fleet - 1 - 16}, NULL);
    assert_non_null(tm_buf_cstr(&s.text));
    return s;
}

static void expect_in_order(const char *text, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *at = strstr(text, words[i]);
        if (!at)
            fail_msg("\"%s\" is not there, or too early, in\n%s", words[i], text);
        text = at + strlen(words[i]);
    }
}

static void test_words(void **state)
{
    (void)state;
    struct tm_sheet s = sheet_of(110, false, true);
    static const char *const words[] = {"! dedup deduplicator  degraded",
                                        "g2: silent ?[2Jé?",
                                        "03:11:35 UTC\n",
                                        "written 3076/s",
                                        "copies 1.98 of 2",
                                        "behind 1.23M rows",
                                        "left 75s",
                                        "✓ g1",
                                        "12.3k",
                                        "54%",
                                        "connected\n",
                                        "✗ g2",
                                        "2min",
                                        "✓ production",
                                        "1 firing of 2\n",
                                        "✗ Loud  critical firing 90s  it burns\n",
                                        "✗ r s  failed 1.5s  no luck\n",
                                        "g1 ",
                                        "stopped ",
                                        "03:10:00  60s  3 gaps\n",
                                        "generation 4",
                                        "rejected: d.lua:3: bad\n",
                                        "✗ tm.every at d.lua:9 is disabled\n    boom\n",
                                        "trades ",
                                        "106 ",
                                        "2.00 ",
                                        "10.8k "};
    expect_in_order((const char *)s.text.data, words, sizeof words / sizeof *words);
    assert_null(strstr((const char *)s.text.data, "Quiet"));
    assert_null(memchr(s.text.data, 0x1b, s.text.len));
    tm_sheet_fini(&s);
}

static void test_width_and_plain_symbols(void **state)
{
    (void)state;
    for (size_t width = 10; width <= 120; width += 11) {
        struct tm_sheet s = sheet_of(width, false, false);
        size_t lines = 0;
        for (char *line = strtok((char *)s.text.data, "\n"); line; line = strtok(NULL, "\n"), lines++) {
            assert_true(strlen(line) <= width);
            for (const char *c = line; *c; c++)
                assert_true(*c >= ' ' && *c < 0x7f);
        }
        assert_true(lines > 10);
        tm_sheet_fini(&s);
    }
}

static void test_colour_costs_no_columns(void **state)
{
    (void)state;
    struct tm_sheet plain = sheet_of(60, false, true), coloured = sheet_of(60, true, true);
    struct tm_buf stripped = {0};
    for (const char *c = (const char *)coloured.text.data; *c; c++) {
        if (*c == 0x1b)
            c += strcspn(c, "m");
        else
            assert_int_equal(tm_buf_append(&stripped, c, 1), 0);
    }
    assert_true(coloured.text.len > stripped.len);
    assert_string_equal(tm_buf_cstr(&stripped), (const char *)plain.text.data);
    assert_non_null(strstr((const char *)coloured.text.data, "\x1b[1;31m"));
    tm_buf_fini(&stripped);
    tm_sheet_fini(&plain);
    tm_sheet_fini(&coloured);
}

static void test_figures(void **state)
{
    (void)state;
    char f[16];
    static const struct {
        double n;
        const char *amount, *bytes, *span;
    } cases[] = {
        {0, "0", "0B", "0ms"},           {8.7, "8.7", "9B", "9ms"},          {999, "999", "999B", "999ms"},
        {9999, "9999", "9.8KiB", "10s"}, {123456, "123k", "121KiB", "2min"}, {8589934592.0, "8.59G", "8.0GiB", "99d"},
        {-1, "-1", "-1B", "-"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        assert_string_equal(tm_view_amount(cases[i].n, f), cases[i].amount);
        assert_string_equal(tm_view_bytes(cases[i].n, f), cases[i].bytes);
        assert_string_equal(tm_view_span_ms(cases[i].n, f), cases[i].span);
    }
}

static void test_history(void **state)
{
    (void)state;
    struct tm_view_history h = {0};
    for (int i = 0; i < TM_VIEW_SECONDS + 5; i++)
        tm_view_note(&h, (struct tm_span){fleet, sizeof fleet - 1 - 16});
    assert_int_equal(h.count, TM_VIEW_SECONDS);
    h.rows[TM_VIEW_SECONDS - 1] = 0;
    struct tm_sheet s = {.width = 30, .utf8 = true};
    tm_view_put(&s, (struct tm_span){fleet, sizeof fleet - 1 - 16}, &h);
    assert_non_null(strstr(tm_buf_cstr(&s.text), "rows/s    █████████████████▁\n"));
    tm_sheet_fini(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),
        cmocka_unit_test(test_width_and_plain_symbols),
        cmocka_unit_test(test_colour_costs_no_columns),
        cmocka_unit_test(test_figures),
        cmocka_unit_test(test_history),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
