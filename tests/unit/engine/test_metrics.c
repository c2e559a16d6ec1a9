/* The page against text written by hand from the Prometheus text format, not from the code. */
#include "engine/metrics.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DROPPED                                                                                                        \
    "# HELP tidemill_metrics_dropped_series_total Series that were refused because there are too many.\n"              \
    "# TYPE tidemill_metrics_dropped_series_total counter\n"

static int setup(void **state)
{
    *state = tm_metrics_create();
    return 0;
}

static int teardown(void **state)
{
    tm_metrics_destroy(*state);
    return 0;
}

static char *render(struct tm_metrics *m)
{
    struct tm_buf out = {0};
    assert_int_equal(tm_metrics_render(m, &out), TM_OK);
    assert_non_null(tm_buf_cstr(&out));
    return (char *)out.data;
}

static void assert_page(struct tm_metrics *m, const char *expected)
{
    char *page = render(m);
    assert_string_equal(page, expected);
    free(page);
}

static void assert_on_page(struct tm_metrics *m, const char *line)
{
    char *page = render(m);
    if (!strstr(page, line))
        fail_msg("expected the line \"%s\" in:\n%s", line, page);
    free(page);
}

/* What it was about is gone: no line, and no family without lines; made again, it is the same series. */
static void hidden_series_are_not_on_the_page(void **state)
{
    struct tm_metrics *m = *state;
    struct tm_metric *x = tm_metrics_gauge(m, "a", "An a.", "k=\"x\""),
                     *y = tm_metrics_gauge(m, "a", "An a.", "k=\"y\"");
    tm_metric_set(x, 1);
    tm_metric_set(y, 2);
    tm_metric_hide(x);
    assert_page(m,
                "# HELP a An a.\n# TYPE a gauge\na{k=\"y\"} 2\n" DROPPED "tidemill_metrics_dropped_series_total 0\n");
    tm_metric_hide(y);
    tm_metric_set(y, 3);
    assert_page(m, DROPPED "tidemill_metrics_dropped_series_total 0\n");
    assert_ptr_equal(tm_metrics_gauge(m, "a", "An a.", "k=\"x\""), x);
    assert_page(m,
                "# HELP a An a.\n# TYPE a gauge\na{k=\"x\"} 1\n" DROPPED "tidemill_metrics_dropped_series_total 0\n");
}

static void families_are_sorted_and_grouped(void **state)
{
    struct tm_metrics *m = *state;
    tm_metric_add(tm_metrics_counter(m, "b_total", "Bees.", "kind=\"x\""), 3);
    tm_metric_set(tm_metrics_gauge(m, "a", "An a.", NULL), 0.5);
    tm_metric_add(tm_metrics_counter(m, "b_total", "ignored", "kind=\"w\""), 18446744073709551615u);
    assert_page(m, "# HELP a An a.\n# TYPE a gauge\na 0.5\n"
                   "# HELP b_total Bees.\n# TYPE b_total counter\n"
                   "b_total{kind=\"x\"} 3\nb_total{kind=\"w\"} 18446744073709551615\n" DROPPED
                   "tidemill_metrics_dropped_series_total 0\n");
}

static void the_same_labels_are_the_same_series(void **state)
{
    struct tm_metrics *m = *state;
    struct tm_metric *a = tm_metrics_counter(m, "n_total", "N.", "g=\"1\"");
    assert_ptr_equal(a, tm_metrics_counter(m, "n_total", "N.", "g=\"1\""));
    assert_ptr_not_equal(a, tm_metrics_counter(m, "n_total", "N.", "g=\"2\""));
}

static void help_is_escaped(void **state)
{
    struct tm_metrics *m = *state;
    (void)tm_metrics_gauge(m, "g", "back\\slash and\nnew line", NULL);
    assert_on_page(m, "# HELP g back\\\\slash and\\nnew line\n# TYPE g gauge\n");
}

static void buckets_are_cumulative(void **state)
{
    struct tm_metrics *m = *state;
    struct tm_metric *h = tm_metrics_histogram(m, "wait_seconds", "Waits.", "stream=\"s\"");
    static const int64_t observed_us[] = {-5, 1000, 1001, 40000, 600 * INT64_C(1000000)};
    for (size_t i = 0; i < sizeof observed_us / sizeof *observed_us; i++)
        tm_metric_observe_us(h, observed_us[i]);
    assert_on_page(m, "wait_seconds_bucket{stream=\"s\",le=\"0.001\"} 2\n"
                      "wait_seconds_bucket{stream=\"s\",le=\"0.0025\"} 3\n");
    assert_on_page(m, "wait_seconds_bucket{stream=\"s\",le=\"0.025\"} 3\n"
                      "wait_seconds_bucket{stream=\"s\",le=\"0.05\"} 4\n");
    assert_on_page(m, "wait_seconds_bucket{stream=\"s\",le=\"300\"} 4\n"
                      "wait_seconds_bucket{stream=\"s\",le=\"+Inf\"} 5\n"
                      "wait_seconds_sum{stream=\"s\"} 600.042001\nwait_seconds_count{stream=\"s\"} 5\n");
}

static void gauges_take_any_double(void **state)
{
    struct tm_metrics *m = *state;
    struct tm_metric *g = tm_metrics_gauge(m, "g", "G.", NULL);
    tm_metric_set(g, -1.5);
    assert_on_page(m, "\ng -1.5\n");
    tm_metric_set(g, INFINITY);
    assert_on_page(m, "\ng +Inf\n");
    tm_metric_set(g, NAN);
    assert_on_page(m, "\ng NaN\n");
}

static void a_counter_kept_elsewhere_is_set(void **state)
{
    struct tm_metric *c = tm_metrics_counter(*state, "c_total", "C.", NULL);
    tm_metric_set(c, 12);
    tm_metric_add(c, 1);
    assert_true(tm_metric_get(c) == 13.0);
    tm_metric_set(c, -1);
    assert_true(tm_metric_get(c) == 0.0);
}

/* FAILURES c5: names from data must not fill the page. */
static void series_are_bounded(void **state)
{
    struct tm_metrics *m = *state;
    for (int i = 0; i < 5000; i++) {
        char labels[32];
        (void)snprintf(labels, sizeof labels, "n=\"%d\"", i);
        tm_metric_add(tm_metrics_counter(m, "many_total", "Many.", labels), 1);
    }
    char *page = render(m);
    size_t lines = 0;
    for (const char *at = page; (at = strstr(at, "\nmany_total{")); at++)
        lines++;
    free(page);
    assert_int_equal(lines, 999); /* 1,000 with the counter of what was refused */
    assert_on_page(m, "tidemill_metrics_dropped_series_total 4001\n");
}

/* Expected: RFC 3629, and the escapes of the text format. One bad value would cost the whole page. */
static void label_values_are_escaped_utf8(void **state)
{
    static const struct {
        const char *value, *expected; /* NULL: refused */
    } cases[] = {
        {"a\"b\\c\nd", "a\\\"b\\\\c\\nd"},
        {"\xe2\x82\xac \xf0\x9f\x8c\x99", "\xe2\x82\xac \xf0\x9f\x8c\x99"},
        {"", ""},
        {"\x1b", NULL},
        {"\x7f", NULL},
        {"\xff", NULL},
        {"\xe2\x82", NULL},         /* cut in the middle */
        {"\xe0\x80\xaf", NULL},     /* overlong */
        {"\xed\xa0\x80", NULL},     /* a surrogate */
        {"\xf4\x90\x80\x80", NULL}, /* beyond U+10FFFF */
    };
    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tm_buf out = {0};
        int rc = tm_metric_escape_label(&out, cases[i].value, strlen(cases[i].value));
        assert_int_equal(rc, cases[i].expected ? TM_OK : TM_EINVAL);
        if (cases[i].expected)
            assert_string_equal(tm_buf_cstr(&out), cases[i].expected);
        tm_buf_fini(&out);
    }
}

static void *count_up(void *arg)
{
    struct tm_metrics *m = arg;
    for (int i = 0; i < 20000; i++) {
        tm_metric_add(tm_metrics_counter(m, "shared_total", "Shared.", NULL), 1);
        tm_metric_observe_us(tm_metrics_histogram(m, "shared_seconds", "Shared.", NULL), 2000);
    }
    return NULL;
}

static void many_threads_lose_no_count(void **state)
{
    struct tm_metrics *m = *state;
    pthread_t threads[4];
    for (int i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, count_up, m), 0);
    for (int i = 0; i < 50; i++)
        free(render(m));
    for (int i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_on_page(m, "shared_total 80000\n");
    assert_on_page(m, "shared_seconds_bucket{le=\"+Inf\"} 80000\nshared_seconds_sum 160\n"
                      "shared_seconds_count 80000\n");
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(families_are_sorted_and_grouped),
        TEST(hidden_series_are_not_on_the_page),
        TEST(the_same_labels_are_the_same_series),
        TEST(help_is_escaped),
        TEST(buckets_are_cumulative),
        TEST(gauges_take_any_double),
        TEST(a_counter_kept_elsewhere_is_set),
        TEST(series_are_bounded),
        TEST(label_values_are_escaped_utf8),
        TEST(many_threads_lose_no_count),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
