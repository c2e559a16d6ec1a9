/* Tree to text: the one spelling of an expression, and PromQL. Prometheus sees the series of many processes where an alert
 * sees its own alone; so what is summed up or joined is kept apart by PROCESS, the labels of who was scraped. */
#include "engine/alert_private.h"

#include <inttypes.h>
#include <string.h>

#define PROCESS "(instance, job)"

struct printer {
    struct tm_buf *out;
    struct tm_error *err;
    bool promql;
    int rc; /* the first failure */
};

static void put(struct printer *p, const char *text)
{
    if (!p->rc)
        p->rc = tm_buf_append(p->out, text, strlen(text));
}

static void put_number(struct printer *p, double v)
{
    if (!p->rc)
        p->rc = tm_buf_printf(p->out, "%.15g", v);
}

static void put_duration(struct printer *p, int64_t us)
{
    if (!p->rc)
        p->rc = tm_buf_printf(p->out, us % 1000000 ? "%" PRId64 "ms" : "%" PRId64 "s",
                              us % 1000000 ? us / 1000 : us / 1000000);
}

static void put_selector(struct printer *p, const struct tm_alert_node *n)
{
    put(p, n->name);
    for (size_t i = 0; i < n->matcher_count; i++) {
        const struct tm_alert_matcher *m = &n->matchers[i];
        put(p, i ? "," : "{");
        put(p, m->name);
        put(p, m->differs ? "!=\"" : "=\"");
        if (!p->rc)
            p->rc = tm_metric_escape_label(p->out, m->value, strlen(m->value));
        put(p, "\"");
    }
    put(p, n->matcher_count ? "}" : "");
}

static void put_node(struct printer *p, const struct tm_alert_node *n);

static void put_rate(struct printer *p, const struct tm_alert_node *n)
{
    put(p, "rate(");
    put_selector(p, n->left);
    put(p, p->promql ? "[" : ",\"");
    put_duration(p, n->window_us);
    put(p, p->promql ? "])" : "\")");
}

static bool is_age_over(const struct tm_alert_node *n)
{
    return (n->op == TM_ALERT_GT || n->op == TM_ALERT_GE) && n->left->op == TM_ALERT_AGE &&
           n->right->op == TM_ALERT_NUMBER && n->right->number >= 1;
}

/* age(x) > 30 is that nothing changed within 30 s. */
static void put_age_over(struct printer *p, const struct tm_alert_node *n)
{
    put(p, "(changes(");
    put_selector(p, n->left->left);
    put(p, "[");
    put_duration(p, (int64_t)(n->right->number * 1e3) * 1000);
    put(p, "]) == 0)");
}

/* A value of the whole process, that is no constant, beside one that may have series. */
static bool is_one_for_many(const struct tm_alert_node *one, const struct tm_alert_node *many)
{
    return tm_alert_is_single(one) && tm_alert_has_metric(one) && !tm_alert_is_single(many);
}

/* How PromQL finds what belongs together, where equal labels are not it. */
static const char *matching(const struct tm_alert_node *n)
{
    if (n->op == TM_ALERT_AND || n->op == TM_ALERT_OR)
        return " on " PROCESS; /* true is true, whatever the other labels */
    if (is_one_for_many(n->right, n->left))
        return " on " PROCESS " group_left ()";
    return is_one_for_many(n->left, n->right) ? " on " PROCESS " group_right ()" : "";
}

static void put_binary(struct printer *p, const struct tm_alert_node *n)
{
    put(p, "(");
    put_node(p, n->left);
    put(p, " ");
    put(p, tm_alert_op_text(n->op));
    put(p, p->promql ? matching(n) : "");
    put(p, " ");
    put_node(p, n->right);
    put(p, ")");
}

static void put_call(struct printer *p, const struct tm_alert_node *n)
{
    put(p, tm_alert_op_text(n->op));
    put(p, p->promql && tm_alert_is_aggregate(n->op) ? " by " PROCESS " (" : "(");
    put_node(p, n->left);
    put(p, ")");
}

/* PromQL's absent() is about all processes together: here it is those that run and have no such series. */
static void put_absent(struct printer *p, const struct tm_alert_node *n)
{
    put(p, "(tidemill_uptime_seconds unless on " PROCESS " ");
    put_selector(p, n->left);
    put(p, ")");
}

static void put_age(struct printer *p, const struct tm_alert_node *n)
{
    if (p->promql && !p->rc)
        p->rc = tm_error_set(p->err, TM_EINVAL, "age(%s): PromQL can say only age(name) > a number of seconds",
                             n->left->name);
    put_call(p, n);
}

static void put_node(struct printer *p, const struct tm_alert_node *n)
{
    if (n->op == TM_ALERT_NUMBER)
        put_number(p, n->number);
    else if (n->op == TM_ALERT_SELECTOR)
        put_selector(p, n);
    else if (n->op == TM_ALERT_RATE)
        put_rate(p, n);
    else if (n->op == TM_ALERT_AGE)
        put_age(p, n);
    else if (n->op == TM_ALERT_ABSENT && p->promql)
        put_absent(p, n);
    else if (tm_alert_is_aggregate(n->op) || n->op == TM_ALERT_ABSENT)
        put_call(p, n);
    else if (n->op == TM_ALERT_NEGATE) {
        put(p, "(-");
        put_node(p, n->left);
        put(p, ")");
    } else if (p->promql && is_age_over(n))
        put_age_over(p, n);
    else
        put_binary(p, n);
}

int tm_alert_print(const struct tm_alert_expr *expr, struct tm_buf *out)
{
    struct printer p = {.out = out};
    put_node(&p, expr->root);
    return p.rc;
}

int tm_alert_promql(const struct tm_alert_expr *expr, struct tm_buf *out, struct tm_error *err)
{
    struct printer p = {.out = out, .err = err, .promql = true};
    put_node(&p, expr->root);
    if (p.rc == TM_ENOMEM)
        (void)tm_error_set(err, TM_ENOMEM, "no memory to print an expression");
    return p.rc;
}
