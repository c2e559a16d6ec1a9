/* Alerts: expressions with values worked out by hand, the state machine second by second, generations. */
#include "../base/unit.h"

#include "engine/alert.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define S INT64_C(1000000)

static struct tm_metrics *metrics;

static int setup(void **state)
{
    (void)state;
    metrics = tm_metrics_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tm_metrics_destroy(metrics);
    return 0;
}

static void gauge(const char *name, const char *labels, double v)
{
    tm_metric_set(tm_metrics_gauge(metrics, name, "", labels), v);
}

static struct tm_alert_expr *parse(const char *text)
{
    struct tm_alert_expr *expr;
    struct tm_error err;
    if (tm_alert_parse(text, &expr, &err))
        fail_msg("%s\n%s", text, err.message);
    return expr;
}

static struct tm_alert_result evaluate(const char *text)
{
    struct tm_alert_result result;
    struct tm_alert_expr *expr = parse(text);
    tm_alert_evaluate(expr, metrics, S, &result);
    result.metric = NULL; /* belongs to the expression */
    tm_alert_expr_destroy(expr);
    return result;
}

/* ---- values ---- */

static void test_expressions(void **state)
{
    (void)state;
    gauge("a", NULL, 6);
    gauge("b", NULL, 4);
    gauge("zero", NULL, 0);
    gauge("bad", NULL, NAN);
    gauge("h", "g=\"g1\"", 1);
    gauge("h", "g=\"g2\"", 0);
    gauge("h", "g=\"g3\",zone=\"a\"", 5);
    gauge("lag", "g=\"g1\"", 10);
    gauge("lag", "g=\"g2\"", 30);
    gauge("odd", "t=\"a\\\"b\\\\c\"", 3);
    tm_metric_observe_us(tm_metrics_histogram(metrics, "took", "", NULL), 2500000);
    tm_metric_observe_us(tm_metrics_histogram(metrics, "took", "", NULL), 500000);
    static const struct {
        const char *text;
        bool truth;
        double value;
        const char *labels;
    } cases[] = {
        {"a == 6", true, 6, ""},
        {"a != 6", false, 6, ""},
        {"a < 6", false, 6, ""},
        {"a <= 6", true, 6, ""},
        {"a > 5.5", true, 6, ""},
        {"a >= 7", false, 6, ""},
        {"7 > a", true, 6, ""},
        {"a + b * 2 == 14", true, 14, ""},
        {"(a + b) * 2 == 20", true, 20, ""},
        {"a - b - 1 == 1", true, 1, ""},
        {"a / b / 2 == 0.75", true, 0.75, ""},
        {"-a + 10 == b", true, 4, ""},
        {"a - -b == 10", true, 10, ""},
        {"a/zero > 1e12", true, INFINITY, ""},
        {"a > 1e-3 and b < .5e1", true, 6, ""},
        {"a == 0 or b == 4", true, 4, ""},
        {"a == 6 or b == 0", true, 6, ""},
        {"a == 0 or b == 0 and a == 6", false, 6, ""},
        {"(a == 6 or b == 0) and b == 4", true, 6, ""},
        {"bad == bad", false, NAN, ""},
        {"bad != 1", true, NAN, ""},
        {"none == 0", false, NAN, ""},
        {"none != 0", false, NAN, ""},
        {"none + a > 0", false, NAN, ""},
        {"absent(none)", true, NAN, ""},
        {"absent(a)", false, 6, ""},
        {"absent(h{g=\"g9\"})", true, NAN, ""},
        {"absent(none) and a == 6", true, NAN, ""},
        {"h == 0", true, 0, "g=\"g2\""},
        {"h > 4", true, 5, "g=\"g3\",zone=\"a\""},
        {"h > 9", false, 1, "g=\"g1\""},
        {"h{g=\"g1\"} == 1", true, 1, "g=\"g1\""},
        {"h{g!=\"g1\"} == 1", false, 0, "g=\"g2\""},
        {"h{zone=\"\"} == 5", false, 1, "g=\"g1\""},
        {"h{zone!=\"\"} == 5", true, 5, "g=\"g3\",zone=\"a\""},
        {"h{g=\"g3\", zone=\"a\"} == 5", true, 5, "g=\"g3\",zone=\"a\""},
        {"odd{t=\"a\\\"b\\\\c\"} == 3", true, 3, "t=\"a\\\"b\\\\c\""},
        {"sum(h) == 6", true, 6, ""},
        {"min(h) == 0", true, 0, ""},
        {"max(h) == 5", true, 5, ""},
        {"avg(h) == 2", true, 2, ""},
        {"count(h) == 3", true, 3, ""},
        {"count(h{g!=\"g3\"}) < 3", true, 2, ""},
        {"count(none) == 0", false, NAN, ""},
        {"sum(h * 2) + 1 == 13", true, 13, ""},
        {"lag * h == 10", true, 10, "g=\"g1\""}, /* g3 has no lag */
        {"lag / sum(lag) == 0.75", true, 0.75, "g=\"g2\""},
        {"100 - lag > 80", true, 90, "g=\"g1\""},
        {"max(lag) - min(lag) == 20", true, 20, ""},
        {"lag > avg(lag)", true, 30, "g=\"g2\""},
        {"took_count == 2", true, 2, ""},
        {"took_sum / took_count == 1.5", true, 1.5, ""},
        {"took > 0", false, NAN, ""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tm_alert_result r = evaluate(cases[i].text);
        bool same = isnan(cases[i].value) ? isnan(r.value) : r.value == cases[i].value;
        if (r.truth != cases[i].truth || !same || strcmp(r.labels, cases[i].labels) != 0)
            fail_msg("%s: %d %g {%s}", cases[i].text, r.truth, r.value, r.labels);
    }
}

/* 3 a second, thinned or not; a restart at 50 s; another series appears late. */
static void test_rate(void **state)
{
    (void)state;
    struct tm_metric *c = tm_metrics_counter(metrics, "n_total", "", NULL);
    struct tm_alert_expr *slow = parse("rate(n_total, \"10s\") > 0"), *fast = parse("rate(n_total, \"1h\") > 0");
    struct tm_alert_result r;
    tm_alert_evaluate(slow, metrics, 0, &r);
    assert_true(isnan(r.value) && !r.truth);
    for (int t = 1; t <= 200; t++) {
        tm_metric_add(c, 3);
        tm_alert_evaluate(slow, metrics, t * S, &r);
        assert_true(r.truth && r.value == 3);
        tm_alert_evaluate(fast, metrics, t * S, &r);
        assert_true(t == 1 ? isnan(r.value) : r.value == 3);
    }
    for (int t = 201; t <= 205; t++)
        tm_alert_evaluate(slow, metrics, t * S, &r);
    assert_true(fabs(r.value - 1.5) < 1e-9); /* 15 in the last 10 s */
    for (int t = 206; t <= 211; t++)
        tm_alert_evaluate(slow, metrics, t * S, &r);
    assert_true(r.value == 0 && !r.truth);
    tm_metric_set(c, 20); /* it was 600 */
    tm_alert_evaluate(slow, metrics, 212 * S, &r);
    assert_true(r.value == 2);
    tm_alert_expr_destroy(slow);
    tm_alert_expr_destroy(fast);
}

static void test_age(void **state)
{
    (void)state;
    struct tm_alert_expr *expr = parse("age(x) > 2");
    static const double values[] = {1, 1, 1, 1, 2, 2, 2, 2, 2}, ages[] = {0, 1, 2, 3, 0, 1, 2, 3, 4};
    struct tm_alert_result r;
    tm_alert_evaluate(expr, metrics, 99 * S, &r);
    assert_true(isnan(r.value) && !r.truth);
    for (int t = 0; t < 9; t++) {
        gauge("x", NULL, values[t]);
        tm_alert_evaluate(expr, metrics, (100 + t) * S, &r);
        assert_true(r.value == ages[t] && r.truth == (ages[t] > 2));
    }
    tm_alert_expr_destroy(expr);
}

/* ---- mistakes ---- */

static void test_mistakes(void **state)
{
    (void)state;
    static const struct {
        const char *text, *message;
    } cases[] = {
        {"", "column 1: expected a number, a metric, a function or (, got the end"},
        {"a", "column 1: expected a condition"},
        {"a = 5", "column 3: expected an operator or the end, got \"=\""},
        {"a ==", "column 5: expected a number, a metric, a function or (, got the end"},
        {"a == b c", "column 8: expected an operator or the end, got \"c\""},
        {"a < b < c", "column 7: expected an operator or the end, got \"<\""},
        {"a > 5m", "column 5: expected a number, got \"5m\""},
        {"a > 1..2", "column 5: expected a number"},
        {"a and b > 1", "column 1: expected a condition"},
        {"a > 1 and b", "column 11: expected a condition"},
        {"(a > 1) + 1 > 2", "column 1: expected a number, got a condition"},
        {"sum(a > 1) > 2", "column 5: expected a number, got a condition"},
        {"1 == 1", "column 1: the comparison names no metric"},
        {"a > 1 or 2 > 1", "column 10: the comparison names no metric"},
        {"a{x=1} > 1", "column 5: expected a value in double quotes"},
        {"a{x=\"1\" > 1", "column 9: expected } or ,"},
        {"a{x=\"1} > 1", "column 5: the text has no end"},
        {"a{9=\"1\"} > 1", "column 3: expected the name of a label"},
        {"a{x~\"1\"} > 1", "column 4: expected = or !="},
        {"rate(a) > 1", "column 7: expected a comma and a window"},
        {"rate(a, 5m) > 1", "column 9: expected a window like"},
        {"rate(a, \"5x\") > 1", "column 9: expected a window from"},
        {"rate(a, \"2h\") > 1", "column 9: expected a window from"},
        {"rate(sum(a), \"5m\") > 1", "column 9: expected a comma"},
        {"median(a) > 1", "column 1: expected one of the functions rate"},
        {"(a > 1", "column 7: expected ) or an operator"},
        {"a > $b", "column 5: expected a number, a metric"},
        {"not a > 1", "column 5: expected an operator"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tm_alert_expr *expr;
        struct tm_error err = {0};
        if (tm_alert_parse(cases[i].text, &expr, &err) != TM_EPARSE || !strstr(err.message, cases[i].message))
            fail_msg("%s: %s", cases[i].text, err.message);
        assert_null(expr);
    }
}

static void test_bounds(void **state)
{
    (void)state;
    char text[8000] = "";
    struct tm_alert_expr *expr;
    struct tm_error err;
    memset(text, '(', 1500);
    assert_int_equal(tm_alert_parse(text, &expr, &err), TM_EPARSE);
    assert_non_null(strstr(err.message, "nested"));
    memset(text, '-', 1500);
    assert_int_equal(tm_alert_parse(text, &expr, &err), TM_EPARSE);
    memset(text, 'a', 7000);
    assert_int_equal(tm_alert_parse(text, &expr, &err), TM_EPARSE);
    (void)snprintf(text, sizeof text, "a > 1");
    for (int i = 0; i < 100; i++)
        strcat(text, " or a > 1");
    assert_int_equal(tm_alert_parse(text, &expr, &err), TM_EPARSE);
    assert_non_null(strstr(err.message, "too long"));
}

/* Any cut of a good text, and any byte in it changed, is refused or taken, and leaks and crashes nothing (ASan). */
static void test_broken_texts(void **state)
{
    (void)state;
    static const char good[] =
        "sum(rate(a{x=\"1\", y!=\"\\\"\"}, \"5m\")) / -2.5e3 >= b and (age(c) > 4 or absent(d{}))";
    static const char bytes[] = "(){}\",=!<>-+*/ae1. \\";
    char text[sizeof good];
    for (size_t i = 0; i < sizeof good; i++) {
        for (size_t j = 0; j < sizeof bytes; j++) {
            struct tm_alert_expr *expr;
            memcpy(text, good, sizeof good);
            text[i] = bytes[j]; /* the last one is NUL: cut */
            text[sizeof good - 1] = '\0';
            if (tm_alert_parse(text, &expr, NULL) == TM_OK)
                tm_alert_expr_destroy(expr);
        }
    }
}

/* ---- printing ---- */

static void test_printing(void **state)
{
    (void)state;
    static const struct {
        const char *text, *canonical, *promql;
    } cases[] = {
        {"a==0", "(a == 0)", "(a == 0)"},
        {"a{ x = \"1\" }>5 and b<1", "((a{x=\"1\"} > 5) and (b < 1))",
         "((a{x=\"1\"} > 5) and on (instance, job) (b < 1))"},
        {"a > 1 or b > 1 and c > 1", "((a > 1) or ((b > 1) and (c > 1)))",
         "((a > 1) or on (instance, job) ((b > 1) and on (instance, job) (c > 1)))"},
        {"rate(a,\"5m\") > 2", "(rate(a,\"300s\") > 2)", "(rate(a[300s]) > 2)"},
        {"a - b - c > 0", "(((a - b) - c) > 0)", "(((a - b) - c) > 0)"},
        {"a / sum(b) > .5", "((a / sum(b)) > 0.5)",
         "((a / on (instance, job) group_left () sum by (instance, job) (b)) > 0.5)"},
        {"sum(a) / sum(b) > .5", "((sum(a) / sum(b)) > 0.5)",
         "((sum by (instance, job) (a) / sum by (instance, job) (b)) > 0.5)"},
        {"1 - max(a) < b", "((1 - max(a)) < b)",
         "((1 - max by (instance, job) (a)) < on (instance, job) group_right () b)"},
        {"-a < 0", "((-a) < 0)", "((-a) < 0)"},
        {"absent(a{x!=\"\"})", "absent(a{x!=\"\"})", "(tidemill_uptime_seconds unless on (instance, job) a{x!=\"\"})"},
        {"age(a) > 30", "(age(a) > 30)", "(changes(a[30s]) == 0)"},
        {"age(a) > 1.5", "(age(a) > 1.5)", "(changes(a[1500ms]) == 0)"},
        {"age(a) < 30", "(age(a) < 30)", NULL},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tm_alert_expr *expr = parse(cases[i].text), *again;
        struct tm_buf out = {0}, second = {0};
        struct tm_error err = {0};
        assert_int_equal(tm_alert_print(expr, &out), TM_OK);
        assert_string_equal(tm_buf_cstr(&out), cases[i].canonical);
        assert_int_equal(tm_alert_parse(tm_buf_cstr(&out), &again, &err), TM_OK); /* what it prints, it reads */
        assert_int_equal(tm_alert_print(again, &second), TM_OK);
        assert_string_equal(tm_buf_cstr(&second), cases[i].canonical);
        tm_buf_clear(&out);
        int rc = tm_alert_promql(expr, &out, &err);
        assert_int_equal(rc, cases[i].promql ? TM_OK : TM_EINVAL);
        if (cases[i].promql)
            assert_string_equal(tm_buf_cstr(&out), cases[i].promql);
        tm_alert_expr_destroy(expr);
        tm_alert_expr_destroy(again);
        tm_buf_fini(&out);
        tm_buf_fini(&second);
    }
}

/* ---- states ---- */

struct told {
    char text[4096]; /* "NAME:STATE " for each */
    char summary[TM_ALERT_SUMMARY_MAX];
};

static void on_change(void *arg, const struct tm_alert_view *a)
{
    struct told *t = arg;
    size_t len = strlen(t->text);
    (void)snprintf(t->text + len, sizeof t->text - len, "%s:%s%s%s ", a->name, tm_alert_state_name(a->state),
                   a->repeated ? "!" : "", a->silenced ? "(silenced)" : "");
    (void)snprintf(t->summary, sizeof t->summary, "%s", a->summary);
}

static double shown(const char *name, const char *severity)
{
    char labels[100];
    (void)snprintf(labels, sizeof labels, "alert=\"%s\",severity=\"%s\"", name, severity);
    return tm_metric_get(tm_metrics_gauge(metrics, "tidemill_alert_state", "", labels));
}

static void replace(struct tm_alerts *alerts, const struct tm_alert_def *defs, size_t count, struct told *told)
{
    struct tm_error err;
    if (tm_alerts_replace(alerts, defs, count, 5000 * S, on_change, told, &err))
        fail_msg("%s", err.message);
}

/* One letter for each second: i, p, f, r. */
static void expect_states(struct tm_alerts *alerts, int *second, const double *values, size_t count,
                          const char *expected, struct told *told)
{
    for (size_t i = 0; i < count; i++) {
        struct tm_alert_view v;
        gauge("x", NULL, values[i]);
        tm_alerts_evaluate(alerts, *second * S, (1000 + *second) * S, on_change, told);
        ++*second;
        tm_alerts_get(alerts, 0, &v);
        if (tm_alert_state_name(v.state)[0] != expected[i])
            fail_msg("second %d: %s", *second - 1, tm_alert_state_name(v.state));
    }
}

#define STATES(values, expected) expect_states(alerts, &second, values, sizeof values / sizeof *values, expected, &told)

static void test_hold_and_clear(void **state)
{
    (void)state;
    struct told told = {0};
    int second = 0;
    struct tm_alerts *alerts = tm_alerts_create(metrics, "g1");
    struct tm_alert_def def = {.name = "Deaf",
                               .when = "x == 0",
                               .clear = "x > 5",
                               .severity = TM_ALERT_CRITICAL,
                               .hold_us = 3 * S,
                               .summary = "{id}: {metric} is {value} ({severity} {name} {hold} {nothing}) {"};
    replace(alerts, &def, 1, &told);
    /* two seconds are not three; then it holds; 3 and 5 are not enough to clear it */
    static const double values[] = {1, 0, 0, 1, 0, 0, 0, 0, 3, 5, 6, 0, 1, 0, 0, 0, 0};
    STATES(values, "ippipppfffrpipppf");
    assert_string_equal(told.text, "Deaf:firing Deaf:resolved Deaf:firing ");
    assert_string_equal(told.summary, "g1: x is 0 (critical Deaf 3s {nothing}) {");
    assert_true(shown("Deaf", "critical") == 2);
    struct tm_alert_view v;
    tm_alerts_get(alerts, 0, &v);
    assert_true(v.since_us == 1016 * S && v.value == 0);
    tm_alerts_destroy(alerts);
}

static void test_without_hold(void **state)
{
    (void)state;
    struct told told = {0};
    int second = 0;
    struct tm_alerts *alerts = tm_alerts_create(metrics, "g1");
    struct tm_alert_def def = {.name = "A", .when = "x > 1", .every_us = 3 * S};
    replace(alerts, &def, 1, &told);
    static const double values[] = {1, 2, 2, 2, 2, 2, 2, 2, 1, 2};
    STATES(values, "ifffffffrf");
    assert_string_equal(told.text, "A:firing A:firing! A:firing! A:resolved A:firing ");
    assert_string_equal(told.summary, "");
    tm_alerts_destroy(alerts);
}

/* What an alert means decides whether it goes on, not how it is written. */
static void test_generations(void **state)
{
    (void)state;
    struct told told = {0};
    int second = 0;
    struct tm_alerts *alerts = tm_alerts_create(metrics, "g1");
    struct tm_alert_def def = {
        .name = "A", .when = "x>1", .severity = TM_ALERT_WARNING, .hold_us = S, .summary = "one"};
    replace(alerts, &def, 1, &told);
    static const double high[] = {2, 2, 2};
    STATES(high, "pff");
    /* the same in other words, with another severity and text */
    def.when = "( x > 1.0 )";
    def.severity = TM_ALERT_CRITICAL;
    def.summary = "two {value}";
    replace(alerts, &def, 1, &told);
    assert_string_equal(told.text, "A:firing ");
    assert_true(shown("A", "warning") == 0 && shown("A", "critical") == 2);
    static const double once[] = {3};
    STATES(once, "f");
    struct tm_alert_view v;
    tm_alerts_get(alerts, 0, &v);
    assert_string_equal(v.summary, "two 3");
    assert_true(v.since_us == 1001 * S);
    /* a mistake changes nothing */
    struct tm_alert_def broken[] = {def, {.name = "B", .when = "y >"}};
    struct tm_error err;
    assert_int_equal(tm_alerts_replace(alerts, broken, 2, S, on_change, &told, &err), TM_EPARSE);
    assert_non_null(strstr(err.message, "alert B: when: column 4"));
    assert_int_equal(tm_alerts_count(alerts), 1);
    /* another meaning: the old one resolves, the new one starts anew */
    def.hold_us = 2 * S;
    replace(alerts, &def, 1, &told);
    assert_string_equal(told.text, "A:firing A:resolved ");
    assert_true(shown("A", "critical") == 0);
    STATES(high, "ppf");
    /* gone */
    replace(alerts, NULL, 0, &told);
    assert_string_equal(told.text, "A:firing A:resolved A:firing A:resolved ");
    assert_true(shown("A", "critical") == 0);
    assert_int_equal(tm_alerts_count(alerts), 0);
    tm_alerts_evaluate(alerts, second * S, 0, on_change, &told);
    tm_alerts_destroy(alerts);
}

/* Readings of rate survive a generation: no second without a value. */
static void test_readings_survive(void **state)
{
    (void)state;
    struct told told = {0};
    struct tm_alerts *alerts = tm_alerts_create(metrics, "g1");
    struct tm_metric *c = tm_metrics_counter(metrics, "n_total", "", NULL);
    struct tm_alert_def def = {.name = "A", .when = "rate(n_total, \"1m\") < 5"};
    replace(alerts, &def, 1, &told);
    for (int t = 0; t < 40; t++) {
        if (t % 10 == 9)
            replace(alerts, &def, 1, &told);
        tm_metric_add(c, 7);
        tm_alerts_evaluate(alerts, t * S, t * S, on_change, &told);
        struct tm_alert_view v;
        tm_alerts_get(alerts, 0, &v);
        assert_true(t == 0 ? isnan(v.value) : v.value == 7);
    }
    assert_string_equal(told.text, "");
    tm_alerts_destroy(alerts);
}

/* ---- silences, and another life ---- */

static int silence(struct tm_alerts *alerts, const char *pattern, int until, int now)
{
    struct tm_error err;
    return tm_alerts_silence(alerts, pattern, until * S, "work on it", now * S, &err);
}

static void test_silence(void **state)
{
    (void)state;
    struct told told = {0};
    int second = 0;
    struct tm_alerts *alerts = tm_alerts_create(metrics, "g1");
    struct tm_alert_def def = {.name = "LagHigh", .when = "x > 1", .every_us = 3 * S};
    replace(alerts, &def, 1, &told);
    assert_int_equal(silence(alerts, "Lag*", 1003, 1000), TM_OK);
    static const double short_one[] = {2, 1};
    STATES(short_one, "fr"); /* wall time 1000 and 1001 */
    assert_string_equal(told.text, "LagHigh:firing(silenced) LagHigh:resolved(silenced) ");
    /* fires on past the end of the silence, and is told then, once; then it repeats as ever */
    told.text[0] = '\0';
    static const double long_one[] = {2, 2, 2, 2, 2, 1};
    STATES(long_one, "fffffr");
    assert_string_equal(told.text, "LagHigh:firing(silenced) LagHigh:firing LagHigh:firing! LagHigh:resolved ");
    /* what was heard to fire is heard to resolve, silence or not */
    static const double again[] = {2}, over[] = {1};
    STATES(again, "f");
    assert_int_equal(silence(alerts, "L*i*h", 2000, 1009), TM_OK);
    told.text[0] = '\0';
    STATES(over, "r");
    assert_string_equal(told.text, "LagHigh:resolved ");
    STATES(again, "f");
    assert_int_equal(silence(alerts, "L*i*h", 0, 1010), TM_OK);
    STATES(again, "f");
    assert_string_equal(told.text, "LagHigh:resolved LagHigh:firing(silenced) LagHigh:firing ");
    tm_alerts_destroy(alerts);
}

static void test_silence_bounds(void **state)
{
    (void)state;
    struct told told = {0};
    struct tm_alerts *alerts = tm_alerts_create(metrics, "g1");
    struct tm_alert_def def = {.name = "A", .when = "x > 1"};
    replace(alerts, &def, 1, &told);
    static const char *const bad[] = {"", "a b", "a\nb", "x{",
                                      "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        assert_int_equal(silence(alerts, bad[i], 20, 10), TM_EINVAL);
    assert_int_equal(silence(alerts, "Nothing", 10, 10), TM_ENOENT);
    assert_int_equal(silence(alerts, "B*", 20, 10), TM_ENOENT); /* no alert is named so */
    static const char stars[] = "********************************";
    for (int i = 0; i < TM_ALERT_SILENCES_MAX; i++) { /* all of them are patterns of A */
        char name[40];
        (void)snprintf(name, sizeof name, i < 32 ? "A%.*s" : "%.*sA", i < 32 ? i : i - 31, stars);
        assert_int_equal(silence(alerts, name, 20 + i, 10), TM_OK);
    }
    assert_int_equal(silence(alerts, "A***", 30, 10), TM_OK); /* it replaces one */
    assert_int_equal(silence(alerts, "*A*", 20, 10), TM_EFULL);
    assert_int_equal(silence(alerts, "*A*", 30, 20), TM_OK); /* the first is over by now */
    assert_int_equal(tm_alerts_silence_count(alerts), TM_ALERT_SILENCES_MAX);
    tm_alerts_destroy(alerts);
}

/* A new process with the text that an old one has left. */
static struct tm_alerts *reborn(struct tm_alerts *old, const struct tm_alert_def *defs, size_t count, int now_s,
                                int wall_s, size_t expected)
{
    struct tm_buf text = {0};
    struct told told = {0};
    assert_int_equal(tm_alerts_save(old, now_s * S, wall_s * S, &text), TM_OK);
    tm_alerts_destroy(old);
    struct tm_alerts *alerts = tm_alerts_create(metrics, "g1");
    replace(alerts, defs, count, &told);
    /* it runs since 2 s, and the old one ended 10 s ago */
    assert_int_equal(tm_alerts_load(alerts, tm_buf_cstr(&text), 2 * S, (wall_s + 10) * S), expected);
    assert_string_equal(told.text, "");
    tm_buf_fini(&text);
    return alerts;
}

static void expect_view(struct tm_alerts *alerts, size_t i, enum tm_alert_state state, int64_t since_s,
                        const char *summary)
{
    struct tm_alert_view v;
    tm_alerts_get(alerts, i, &v);
    assert_int_equal(v.state, state);
    assert_int_equal(v.since_us, since_s * S);
    assert_string_equal(v.summary, summary);
}

static void test_restart(void **state)
{
    (void)state;
    struct told told = {0};
    struct tm_alert_def defs[] = {
        {.name = "Fires", .when = "x > 1", .every_us = 60 * S, .summary = "x\nis {value}"},
        {.name = "Waits", .when = "x > 1", .hold_us = 20 * S},
        {.name = "Changed", .when = "x > 1"},
        {.name = "Silenced", .when = "x > 1"},
        {.name = "Calm", .when = "x > 100"},
    };
    struct tm_alerts *alerts = tm_alerts_create(metrics, "g1");
    replace(alerts, defs, 5, &told);
    assert_int_equal(silence(alerts, "Silenced", 4000, 1000), TM_OK);
    gauge("x", NULL, 7);
    tm_alerts_evaluate(alerts, 500 * S, 1000 * S, on_change, &told);
    assert_true(tm_alerts_take_changed(alerts));
    tm_alerts_evaluate(alerts, 501 * S, 1001 * S, on_change, &told);
    assert_false(tm_alerts_take_changed(alerts)); /* nothing new to keep */

    defs[2].when = "x > 2";
    alerts = reborn(alerts, defs, 5, 501, 1001, 4); /* Fires, Waits, Silenced and the silence */
    expect_view(alerts, 0, TM_ALERT_FIRING, 1000, "x is 7");
    expect_view(alerts, 1, TM_ALERT_PENDING, 1000, "");
    expect_view(alerts, 2, TM_ALERT_INACTIVE, 0, "");
    expect_view(alerts, 3, TM_ALERT_FIRING, 1000, "");
    expect_view(alerts, 4, TM_ALERT_INACTIVE, 0, "");
    assert_true(shown("Fires", "info") == 2 && shown("Waits", "info") == 1);

    /* metrics begin at nothing: what fires is not resolved by that, nor told anew before its time */
    memset(&told, 0, sizeof told);
    gauge("x", NULL, 0);
    for (int t = 2; t < 32; t++)
        tm_alerts_evaluate(alerts, t * S, (1009 + t) * S, on_change, &told);
    assert_string_equal(told.text, "");
    expect_view(alerts, 0, TM_ALERT_FIRING, 1000, "x is 7");
    tm_alerts_evaluate(alerts, 32 * S, 1041 * S, on_change, &told);
    assert_string_equal(told.text, "Fires:resolved Silenced:resolved(silenced) ");
    tm_alerts_destroy(alerts);
}

/* The condition goes on in the new life: holding and repeating count from the old one, the silence still holds. */
static void test_restart_goes_on(void **state)
{
    (void)state;
    struct told told = {0};
    struct tm_alert_def defs[] = {{.name = "Fires", .when = "x > 1", .every_us = 60 * S},
                                  {.name = "Waits", .when = "x > 1", .hold_us = 20 * S},
                                  {.name = "Silenced", .when = "x > 1"}};
    struct tm_alerts *alerts = tm_alerts_create(metrics, "g1");
    replace(alerts, defs, 3, &told);
    assert_int_equal(silence(alerts, "Sil*", 1065, 1000), TM_OK);
    gauge("x", NULL, 7);
    tm_alerts_evaluate(alerts, 500 * S, 1000 * S, on_change, &told);
    alerts = reborn(alerts, defs, 3, 500, 1000, 4); /* 2 s of the new clock are 1010 s of the wall */
    memset(&told, 0, sizeof told);
    tm_alerts_evaluate(alerts, 11 * S, 1019 * S, on_change, &told);
    assert_string_equal(told.text, "");
    tm_alerts_evaluate(alerts, 12 * S, 1020 * S, on_change, &told);
    assert_string_equal(told.text, "Waits:firing ");
    tm_alerts_evaluate(alerts, 52 * S, 1060 * S, on_change, &told);
    assert_string_equal(told.text, "Waits:firing Fires:firing! ");
    tm_alerts_evaluate(alerts, 57 * S, 1065 * S, on_change, &told);
    assert_string_equal(told.text, "Waits:firing Fires:firing! Silenced:firing ");
    tm_alerts_destroy(alerts);
}

static void test_broken_memory(void **state)
{
    (void)state;
    struct told told = {0};
    struct tm_alert_def def = {.name = "A", .when = "x > 1", .summary = "s"};
    struct tm_alerts *alerts = tm_alerts_create(metrics, "g1");
    replace(alerts, &def, 1, &told);
    gauge("x", NULL, 7);
    tm_alerts_evaluate(alerts, S, S, on_change, &told);
    assert_int_equal(silence(alerts, "A*", 4000, 1), TM_OK);
    struct tm_buf text = {0};
    assert_int_equal(tm_alerts_save(alerts, S, S, &text), TM_OK);
    const char *whole = tm_buf_cstr(&text);
    for (size_t len = 0; len <= text.len; len++) { /* cut, and with each byte another one */
        char *copy = strdup(whole);
        assert_non_null(copy);
        copy[len] = '\0';
        (void)tm_alerts_load(alerts, copy, S, S);
        memcpy(copy, whole, text.len + 1);
        copy[len < text.len ? len : 0] ^= 0x15;
        (void)tm_alerts_load(alerts, copy, S, S);
        free(copy);
    }
    assert_int_equal(tm_alerts_load(alerts, "tidemill-alerts 2\nsilence 9000000000 C w\n", S, S), 0);
    tm_buf_fini(&text);
    tm_alerts_destroy(alerts);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {TEST(test_expressions),
                                       TEST(test_rate),
                                       TEST(test_age),
                                       TEST(test_mistakes),
                                       TEST(test_bounds),
                                       TEST(test_broken_texts),
                                       TEST(test_printing),
                                       TEST(test_hold_and_clear),
                                       TEST(test_without_hold),
                                       TEST(test_generations),
                                       TEST(test_readings_survive),
                                       TEST(test_silence),
                                       TEST(test_silence_bounds),
                                       TEST(test_restart),
                                       TEST(test_restart_goes_on),
                                       TEST(test_broken_memory)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
