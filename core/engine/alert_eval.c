/* Tree and registry to a verdict. A number is a list of values with labels; a single one without stands for itself. */
#include "engine/alert_private.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define HISTORIES_MAX 1000

struct item {
    char *labels;
    const struct tm_metric *metric;
    double value;
};

struct values {
    struct item *items;
    size_t count, cap;
};

struct evaluation {
    struct tm_metrics *metrics;
    int64_t now_us;
};

static void add(struct values *v, const char *labels, const struct tm_metric *metric, double value)
{
    if (v->count == v->cap) {
        v->cap = v->cap ? v->cap * 2 : 8;
        v->items = realloc(v->items, v->cap * sizeof *v->items);
        TM_FATAL_UNLESS(v->items);
    }
    char *copy = strdup(labels);
    TM_FATAL_UNLESS(copy);
    v->items[v->count++] = (struct item){copy, metric, value};
}

static void clear(struct values *v)
{
    for (size_t i = 0; i < v->count; i++)
        free(v->items[i].labels);
    free(v->items);
    *v = (struct values){0};
}

/* ---- selectors ---- */

/* Take the value of a label out of labels as the registry writes them; false when it is not there or too long. */
static bool label_value(const char *labels, const char *name, char *out, size_t size)
{
    size_t name_len = strlen(name);
    for (const char *at = labels; *at;) {
        bool here = strncmp(at, name, name_len) == 0 && at[name_len] == '=';
        size_t n = 0;
        at += strcspn(at, "\"");
        for (at += *at != '\0'; *at && *at != '"'; at++) {
            bool escaped = *at == '\\' && at[1];
            char c = escaped ? *++at : *at;
            if (n + 1 < size)
                out[n++] = escaped && c == 'n' ? '\n' : c;
        }
        out[n] = '\0';
        if (here)
            return n + 1 < size;
        at += *at == '"';
        at += *at == ',';
    }
    return false;
}

/* A label that is not there is the empty text, as in Prometheus. */
static bool matches(const struct tm_alert_node *n, const char *labels)
{
    char value[1024];
    for (size_t i = 0; i < n->matcher_count; i++) {
        const struct tm_alert_matcher *m = &n->matchers[i];
        bool same = label_value(labels, m->name, value, sizeof value) ? strcmp(value, m->value) == 0 : !*m->value;
        if (same == m->differs)
            return false;
    }
    return true;
}

struct selection {
    const struct tm_alert_node *node;
    struct values *out;
};

static void visit(void *arg, const struct tm_metric *metric, const char *labels, double value)
{
    struct selection *s = arg;
    if (matches(s->node, labels))
        add(s->out, labels, metric, value);
}

static void select_series(const struct evaluation *e, const struct tm_alert_node *n, struct values *out)
{
    struct selection s = {n, out};
    tm_metrics_each(e->metrics, n->name, visit, &s);
}

/* ---- what is remembered ---- */

static struct tm_alert_history *history_of(struct tm_alert_node *n, const struct item *item, int64_t now_us)
{
    for (size_t i = 0; i < n->history_count; i++)
        if (n->histories[i].metric == item->metric)
            return &n->histories[i];
    if (n->history_count == HISTORIES_MAX)
        return NULL;
    struct tm_alert_history *grown = realloc(n->histories, (n->history_count + 1) * sizeof *grown);
    TM_FATAL_UNLESS(grown);
    n->histories = grown;
    struct tm_alert_history *h = &grown[n->history_count++];
    *h = (struct tm_alert_history){.metric = item->metric, .last = item->value, .changed_us = now_us};
    return h;
}

static void update_age(const struct evaluation *e, struct tm_alert_node *n, struct item *item, bool *known)
{
    struct tm_alert_history *h = history_of(n, item, e->now_us);
    *known = h != NULL;
    if (!h)
        return;
    if (memcmp(&h->last, &item->value, sizeof h->last) != 0) {
        h->last = item->value;
        h->changed_us = e->now_us;
    }
    item->value = (double)(e->now_us - h->changed_us) / 1e6;
}

static void push_sample(struct tm_alert_history *h, int64_t now_us, int64_t window_us)
{
    /* a little less than the window over the room, so that a reading each second at 60 s is not thinned by jitter */
    int64_t spacing_us = window_us / (TM_ALERT_SAMPLES - 2);
    size_t last = (h->first + h->count + TM_ALERT_SAMPLES - 1) % TM_ALERT_SAMPLES;
    if (h->count && now_us - h->at_us[last] < spacing_us)
        return;
    if (h->count == TM_ALERT_SAMPLES) {
        h->first = (h->first + 1) % TM_ALERT_SAMPLES;
        h->count--;
    }
    size_t at = (h->first + h->count++) % TM_ALERT_SAMPLES;
    h->at_us[at] = now_us;
    h->totals[at] = h->total;
}

/* A reading below the last one is a counter that started anew at 0. */
static void update_rate(const struct evaluation *e, struct tm_alert_node *n, struct item *item, bool *known)
{
    struct tm_alert_history *h = history_of(n, item, e->now_us);
    *known = false;
    if (!h)
        return;
    h->total += item->value >= h->last ? item->value - h->last : item->value;
    h->last = item->value;
    while (h->count && h->at_us[h->first] < e->now_us - n->window_us) {
        h->first = (h->first + 1) % TM_ALERT_SAMPLES;
        h->count--;
    }
    int64_t elapsed_us = h->count ? e->now_us - h->at_us[h->first] : 0;
    double increase = h->count ? h->total - h->totals[h->first] : 0;
    push_sample(h, e->now_us, n->window_us);
    *known = elapsed_us > 0;
    if (*known)
        item->value = increase / ((double)elapsed_us / 1e6);
}

typedef void update_fn(const struct evaluation *e, struct tm_alert_node *n, struct item *item, bool *known);

static void with_history(const struct evaluation *e, struct tm_alert_node *n, update_fn *update, struct values *out)
{
    size_t kept = 0;
    select_series(e, n->left, out);
    for (size_t i = 0; i < out->count; i++) {
        bool known;
        update(e, n, &out->items[i], &known);
        if (known)
            out->items[kept++] = out->items[i];
        else
            free(out->items[i].labels);
    }
    out->count = kept;
}

/* ---- numbers ---- */

static void number(const struct evaluation *e, struct tm_alert_node *n, struct values *out);

static void aggregate(const struct evaluation *e, struct tm_alert_node *n, struct values *out)
{
    struct values in = {0};
    number(e, n->left, &in);
    double sum = 0, min = INFINITY, max = -INFINITY;
    for (size_t i = 0; i < in.count; i++) {
        sum += in.items[i].value;
        min = in.items[i].value < min ? in.items[i].value : min;
        max = in.items[i].value > max ? in.items[i].value : max;
    }
    double count = (double)in.count;
    double v = n->op == TM_ALERT_SUM   ? sum
               : n->op == TM_ALERT_MIN ? min
               : n->op == TM_ALERT_MAX ? max
               : n->op == TM_ALERT_AVG ? sum / count
                                       : count;
    if (in.count)
        add(out, "", NULL, v);
    clear(&in);
}

static double calculate(enum tm_alert_op op, double a, double b)
{
    switch (op) {
    case TM_ALERT_ADD:
        return a + b;
    case TM_ALERT_SUBTRACT:
        return a - b;
    case TM_ALERT_MULTIPLY:
        return a * b;
    case TM_ALERT_DIVIDE:
        return a / b;
    case TM_ALERT_EQ:
        return a == b;
    case TM_ALERT_NE:
        return a != b;
    case TM_ALERT_LT:
        return a < b;
    case TM_ALERT_LE:
        return a <= b;
    case TM_ALERT_GT:
        return a > b;
    default:
        return a >= b;
    }
}

static const struct item *find_labels(const struct values *v, const char *labels)
{
    for (size_t i = 0; i < v->count; i++)
        if (strcmp(v->items[i].labels, labels) == 0)
            return &v->items[i];
    return NULL;
}

typedef void pair_fn(void *arg, const struct item *left, const struct item *right, const char *labels);

/* The pairs that a binary operator works on: see alert.h. */
static void each_pair(const struct tm_alert_node *n, const struct values *left, const struct values *right, pair_fn *fn,
                      void *arg)
{
    bool one_left = tm_alert_is_single(n->left), one_right = tm_alert_is_single(n->right);
    if (!left->count || !right->count)
        return;
    if (one_left) {
        for (size_t i = 0; i < right->count; i++)
            fn(arg, &left->items[0], &right->items[i], right->items[i].labels);
        return;
    }
    for (size_t i = 0; i < left->count; i++) {
        const struct item *other = one_right ? &right->items[0] : find_labels(right, left->items[i].labels);
        if (other)
            fn(arg, &left->items[i], other, left->items[i].labels);
    }
}

struct arithmetic {
    enum tm_alert_op op;
    struct values *out;
};

static void add_pair(void *arg, const struct item *left, const struct item *right, const char *labels)
{
    struct arithmetic *a = arg;
    add(a->out, labels, NULL, calculate(a->op, left->value, right->value));
}

static void binary(const struct evaluation *e, struct tm_alert_node *n, struct values *out)
{
    struct values left = {0}, right = {0};
    struct arithmetic a = {n->op, out};
    number(e, n->left, &left);
    number(e, n->right, &right);
    each_pair(n, &left, &right, add_pair, &a);
    clear(&left);
    clear(&right);
}

static void number(const struct evaluation *e, struct tm_alert_node *n, struct values *out)
{
    if (n->op == TM_ALERT_NUMBER) {
        add(out, "", NULL, n->number);
    } else if (n->op == TM_ALERT_SELECTOR) {
        select_series(e, n, out);
    } else if (n->op == TM_ALERT_RATE) {
        with_history(e, n, update_rate, out);
    } else if (n->op == TM_ALERT_AGE) {
        with_history(e, n, update_age, out);
    } else if (tm_alert_is_aggregate(n->op)) {
        aggregate(e, n, out);
    } else if (n->op == TM_ALERT_NEGATE) {
        number(e, n->left, out);
        for (size_t i = 0; i < out->count; i++)
            out->items[i].value = -out->items[i].value;
    } else {
        binary(e, n, out);
    }
}

/* ---- conditions ---- */

static const char *metric_of(const struct tm_alert_node *n)
{
    if (!n)
        return NULL;
    if (n->op == TM_ALERT_SELECTOR)
        return n->name;
    const char *left = metric_of(n->left);
    return left ? left : metric_of(n->right);
}

struct comparison {
    enum tm_alert_op op;
    bool show_right, seen;
    struct tm_alert_result *out;
};

/* The first pair that is true is shown, or else the first. */
static void compare_pair(void *arg, const struct item *left, const struct item *right, const char *labels)
{
    struct comparison *c = arg;
    bool truth = calculate(c->op, left->value, right->value) != 0;
    if (c->seen && (c->out->truth || !truth))
        return;
    c->seen = true;
    c->out->truth = truth;
    c->out->value = c->show_right ? right->value : left->value;
    (void)snprintf(c->out->labels, sizeof c->out->labels, "%s", labels);
}

static void condition(const struct evaluation *e, struct tm_alert_node *n, struct tm_alert_result *out);

static void comparison(const struct evaluation *e, struct tm_alert_node *n, struct tm_alert_result *out)
{
    struct values left = {0}, right = {0};
    struct comparison c = {.op = n->op, .show_right = !tm_alert_has_metric(n->left), .out = out};
    out->metric = metric_of(n);
    number(e, n->left, &left);
    number(e, n->right, &right);
    each_pair(n, &left, &right, compare_pair, &c);
    clear(&left);
    clear(&right);
}

/* Both sides are always evaluated: they may have readings to remember. */
static void connective(const struct evaluation *e, struct tm_alert_node *n, struct tm_alert_result *out)
{
    struct tm_alert_result right;
    condition(e, n->left, out);
    condition(e, n->right, &right);
    if (n->op == TM_ALERT_AND)
        out->truth = out->truth && right.truth;
    else if (!out->truth && right.truth)
        *out = right;
}

static void condition(const struct evaluation *e, struct tm_alert_node *n, struct tm_alert_result *out)
{
    *out = (struct tm_alert_result){.value = NAN};
    if (n->op == TM_ALERT_AND || n->op == TM_ALERT_OR) {
        connective(e, n, out);
    } else if (n->op == TM_ALERT_ABSENT) {
        struct values found = {0};
        select_series(e, n->left, &found);
        out->truth = found.count == 0;
        out->value = found.count ? found.items[0].value : NAN;
        out->metric = n->left->name;
        clear(&found);
    } else {
        comparison(e, n, out);
    }
}

void tm_alert_evaluate(struct tm_alert_expr *expr, struct tm_metrics *metrics, int64_t now_us,
                       struct tm_alert_result *out)
{
    struct evaluation e = {metrics, now_us};
    condition(&e, expr->root, out);
}
