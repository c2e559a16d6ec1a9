/* Text to tree. Recursive descent; the depth and the number of nodes are bounded. */
#include "engine/alert_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 50
#define TEXT_BYTES_MAX 2000

struct parser {
    const char *text, *at;
    int depth;
    size_t nodes;
    struct tm_error *err;
    bool failed;
};

typedef struct tm_alert_node *parse_fn(struct parser *p);

static const char *const op_texts[] = {
    [TM_ALERT_NUMBER] = "",     [TM_ALERT_SELECTOR] = "", [TM_ALERT_RATE] = "rate",     [TM_ALERT_AGE] = "age",
    [TM_ALERT_SUM] = "sum",     [TM_ALERT_MIN] = "min",   [TM_ALERT_MAX] = "max",       [TM_ALERT_AVG] = "avg",
    [TM_ALERT_COUNT] = "count", [TM_ALERT_NEGATE] = "-",  [TM_ALERT_ADD] = "+",         [TM_ALERT_SUBTRACT] = "-",
    [TM_ALERT_MULTIPLY] = "*",  [TM_ALERT_DIVIDE] = "/",  [TM_ALERT_EQ] = "==",         [TM_ALERT_NE] = "!=",
    [TM_ALERT_LT] = "<",        [TM_ALERT_LE] = "<=",     [TM_ALERT_GT] = ">",          [TM_ALERT_GE] = ">=",
    [TM_ALERT_AND] = "and",     [TM_ALERT_OR] = "or",     [TM_ALERT_ABSENT] = "absent",
};

const char *tm_alert_op_text(enum tm_alert_op op)
{
    return op_texts[op];
}

static void free_node(struct tm_alert_node *n)
{
    if (!n)
        return;
    free_node(n->left);
    free_node(n->right);
    for (size_t i = 0; i < n->matcher_count; i++) {
        free(n->matchers[i].name);
        free(n->matchers[i].value);
    }
    free(n->name);
    free(n->histories);
    free(n);
}

void tm_alert_expr_destroy(struct tm_alert_expr *expr)
{
    if (!expr)
        return;
    free_node(expr->root);
    free(expr);
}

bool tm_alert_is_single(const struct tm_alert_node *n)
{
    if (n->op == TM_ALERT_NUMBER || tm_alert_is_aggregate(n->op))
        return true;
    if (n->op < TM_ALERT_NEGATE)
        return false;
    return tm_alert_is_single(n->left) && (!n->right || tm_alert_is_single(n->right));
}

bool tm_alert_has_metric(const struct tm_alert_node *n)
{
    return n && (n->op == TM_ALERT_SELECTOR || tm_alert_has_metric(n->left) || tm_alert_has_metric(n->right));
}

/* ---- errors and nodes ---- */

static void *fail_at(struct parser *p, const char *at, const char *what)
{
    if (!p->failed)
        (void)tm_error_set(p->err, TM_EPARSE, "column %d: %s", (int)(at - p->text) + 1, what);
    p->failed = true;
    return NULL;
}

static void skip_space(struct parser *p)
{
    p->at += strspn(p->at, " \t\n\r");
}

static void *fail_expected(struct parser *p, const char *what)
{
    char text[200];
    skip_space(p);
    int shown = (int)strcspn(p->at, " \t\n\r");
    if (*p->at)
        (void)snprintf(text, sizeof text, "expected %s, got \"%.*s\"", what, shown < 40 ? shown : 40, p->at);
    else
        (void)snprintf(text, sizeof text, "expected %s, got the end", what);
    return fail_at(p, p->at, text);
}

static struct tm_alert_node *new_node(struct parser *p, enum tm_alert_op op)
{
    if (++p->nodes > TM_ALERT_NODES_MAX)
        return fail_at(p, p->at, "the expression is too long");
    struct tm_alert_node *n = calloc(1, sizeof *n);
    TM_FATAL_UNLESS(n);
    n->op = op;
    return n;
}

static struct tm_alert_node *join(struct parser *p, enum tm_alert_op op, struct tm_alert_node *left,
                                  struct tm_alert_node *right)
{
    struct tm_alert_node *n = left && right ? new_node(p, op) : NULL;
    if (!n) {
        free_node(left);
        free_node(right);
        return NULL;
    }
    n->left = left;
    n->right = right;
    return n;
}

static struct tm_alert_node *wrap(struct parser *p, enum tm_alert_op op, struct tm_alert_node *left)
{
    struct tm_alert_node *n = left ? new_node(p, op) : NULL;
    if (n)
        n->left = left;
    else
        free_node(left);
    return n;
}

/* The node if it is of the wanted type; otherwise an error at `at`. */
static struct tm_alert_node *of_type(struct parser *p, struct tm_alert_node *n, bool condition, const char *at)
{
    if (!n || tm_alert_is_condition(n->op) == condition)
        return n;
    free_node(n);
    return fail_at(p, at,
                   condition ? "expected a condition like \"name > 5\", got a number"
                             : "expected a number, got a condition");
}

/* ---- tokens ---- */

static bool take(struct parser *p, const char *token)
{
    size_t len = strlen(token);
    skip_space(p);
    if (strncmp(p->at, token, len) != 0)
        return false;
    p->at += len;
    return true;
}

static bool is_word_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == ':';
}

static size_t word_length(const char *at)
{
    size_t len = 0;
    while (is_word_byte(at[len]))
        len++;
    return len;
}

static bool take_word(struct parser *p, const char *word)
{
    skip_space(p);
    size_t len = word_length(p->at);
    if (len != strlen(word) || strncmp(p->at, word, len) != 0)
        return false;
    p->at += len;
    return true;
}

static char *copy(const char *text, size_t len)
{
    char *s = strndup(text, len);
    TM_FATAL_UNLESS(s);
    return s;
}

/* A quoted text with \" and \\; NULL and the error when there is none. */
static char *take_quoted(struct parser *p, const char *what)
{
    skip_space(p);
    if (*p->at != '"')
        return fail_expected(p, what);
    const char *from = ++p->at;
    while (*p->at && *p->at != '"')
        p->at += *p->at == '\\' && p->at[1] ? 2 : 1;
    if (!*p->at)
        return fail_at(p, from - 1, "the text has no end: expected a closing quote");
    char *text = copy(from, (size_t)(p->at - from)), *out = text;
    for (const char *in = text; *in; in++)
        *out++ = *in == '\\' && in[1] ? *++in : *in;
    *out = '\0';
    p->at++;
    return text;
}

/* ---- primaries ---- */

static struct tm_alert_node *parse_condition(struct parser *p);

static bool parse_matcher(struct parser *p, struct tm_alert_node *n)
{
    skip_space(p);
    size_t len = word_length(p->at);
    if (len == 0)
        return fail_expected(p, "a label"), false;
    if (n->matcher_count == TM_ALERT_MATCHERS_MAX)
        return fail_at(p, p->at, "expected at most 8 labels"), false;
    struct tm_alert_matcher *m = &n->matchers[n->matcher_count++];
    m->name = copy(p->at, len);
    if (!tm_metric_is_label_name(m->name))
        return fail_expected(p, "the name of a label"), false;
    p->at += len;
    m->differs = take(p, "!=");
    if (!m->differs && !take(p, "="))
        return fail_expected(p, "= or !="), false;
    m->value = take_quoted(p, "a value in double quotes");
    return m->value != NULL;
}

static bool parse_matchers(struct parser *p, struct tm_alert_node *n)
{
    if (!take(p, "{") || take(p, "}"))
        return true;
    do {
        if (!parse_matcher(p, n))
            return false;
    } while (take(p, ","));
    return take(p, "}") || fail_expected(p, "} or ,");
}

static struct tm_alert_node *parse_selector(struct parser *p)
{
    skip_space(p);
    size_t len = word_length(p->at);
    if (len == 0 || (*p->at >= '0' && *p->at <= '9'))
        return fail_expected(p, "the name of a metric");
    struct tm_alert_node *n = new_node(p, TM_ALERT_SELECTOR);
    if (!n)
        return NULL;
    n->name = copy(p->at, len);
    if (!tm_metric_is_name(n->name)) {
        free_node(n);
        return fail_expected(p, "the name of a metric");
    }
    p->at += len;
    if (parse_matchers(p, n))
        return n;
    free_node(n);
    return NULL;
}

static bool parse_window(struct parser *p, struct tm_alert_node *n)
{
    static const struct {
        const char *unit;
        double us;
    } units[] = {{"ms", 1e3}, {"s", 1e6}, {"m", 60e6}, {"h", 3600e6}};
    if (!take(p, ","))
        return fail_expected(p, "a comma and a window like \"5m\"");
    skip_space(p);
    const char *at = p->at;
    char *text = take_quoted(p, "a window like \"5m\""), *unit;
    if (!text)
        return false;
    double v = strspn(text, "0123456789.") ? strtod(text, &unit) : 0;
    for (size_t i = 0; v > 0 && i < sizeof units / sizeof *units; i++)
        if (strcmp(unit, units[i].unit) == 0 && v * units[i].us <= (double)TM_ALERT_RATE_US_MAX)
            n->window_us = (int64_t)(v * units[i].us);
    free(text);
    return n->window_us >= 1000000 || fail_at(p, at, "expected a window from \"1s\" to \"1h\"");
}

/* What follows a function's name. */
static struct tm_alert_node *parse_call(struct parser *p, enum tm_alert_op op)
{
    if (!take(p, "("))
        return fail_expected(p, "(");
    skip_space(p);
    const char *at = p->at;
    struct tm_alert_node *argument =
        tm_alert_is_aggregate(op) ? of_type(p, parse_condition(p), false, at) : parse_selector(p);
    struct tm_alert_node *n = wrap(p, op, argument);
    if (!n)
        return NULL;
    if ((op != TM_ALERT_RATE || parse_window(p, n)) && (take(p, ")") || fail_expected(p, ")")))
        return n;
    free_node(n);
    return NULL;
}

/* A word followed by "(" is a function; the rest are names of metrics. */
static struct tm_alert_node *parse_word(struct parser *p)
{
    static const enum tm_alert_op functions[] = {TM_ALERT_RATE, TM_ALERT_AGE, TM_ALERT_SUM,   TM_ALERT_MIN,
                                                 TM_ALERT_MAX,  TM_ALERT_AVG, TM_ALERT_COUNT, TM_ALERT_ABSENT};
    const char *at = p->at;
    size_t len = word_length(at);
    if (at[len + strspn(at + len, " \t\n\r")] != '(')
        return parse_selector(p);
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        if (take_word(p, op_texts[functions[i]]))
            return parse_call(p, functions[i]);
    return fail_expected(p, "one of the functions rate, age, sum, min, max, avg, count, absent");
}

static struct tm_alert_node *parse_number(struct parser *p)
{
    char *end;
    size_t len = strspn(p->at, "0123456789.eE");
    if (len && strchr("eE", p->at[len - 1]) && strchr("+-", p->at[len]))
        len += 1 + strspn(p->at + len + 1, "0123456789");
    double v = strtod(p->at, &end);
    if (end != p->at + len || is_word_byte(*end) || !(v <= 1e300))
        return fail_expected(p, "a number");
    struct tm_alert_node *n = new_node(p, TM_ALERT_NUMBER);
    if (n)
        n->number = v;
    p->at = end;
    return n;
}

static struct tm_alert_node *parse_parenthesis(struct parser *p)
{
    struct tm_alert_node *n = parse_condition(p);
    if (!n || take(p, ")"))
        return n;
    free_node(n);
    return fail_expected(p, ") or an operator");
}

static struct tm_alert_node *parse_primary(struct parser *p)
{
    skip_space(p);
    if (take(p, "("))
        return parse_parenthesis(p);
    if ((*p->at >= '0' && *p->at <= '9') || *p->at == '.')
        return parse_number(p);
    if (is_word_byte(*p->at))
        return parse_word(p);
    return fail_expected(p, "a number, a metric, a function or (");
}

static struct tm_alert_node *parse_unary(struct parser *p)
{
    skip_space(p);
    if (*p->at != '-')
        return parse_primary(p);
    const char *at = ++p->at;
    if (++p->depth > DEPTH_MAX)
        return fail_at(p, at, "the expression is nested too deeply");
    struct tm_alert_node *n = wrap(p, TM_ALERT_NEGATE, of_type(p, parse_unary(p), false, at));
    p->depth--;
    return n;
}

/* ---- operators, from the tightest ---- */

static struct tm_alert_node *parse_left(struct parser *p, parse_fn *operand, const enum tm_alert_op *ops,
                                        bool condition)
{
    skip_space(p);
    const char *left_at = p->at;
    struct tm_alert_node *n = operand(p);
    while (n) {
        bool found = false;
        for (size_t i = 0; i < 2 && !found; i++) {
            found = condition ? take_word(p, op_texts[ops[i]]) : take(p, op_texts[ops[i]]);
            if (!found)
                continue;
            skip_space(p);
            const char *at = p->at;
            n = of_type(p, n, condition, left_at);
            n = join(p, ops[i], n, n ? of_type(p, operand(p), condition, at) : NULL);
        }
        if (!found)
            break;
    }
    return n;
}

static struct tm_alert_node *parse_product(struct parser *p)
{
    static const enum tm_alert_op ops[] = {TM_ALERT_MULTIPLY, TM_ALERT_DIVIDE};
    return parse_left(p, parse_unary, ops, false);
}

static struct tm_alert_node *parse_sum(struct parser *p)
{
    static const enum tm_alert_op ops[] = {TM_ALERT_ADD, TM_ALERT_SUBTRACT};
    return parse_left(p, parse_product, ops, false);
}

static struct tm_alert_node *parse_comparison(struct parser *p)
{
    static const enum tm_alert_op ops[] = {TM_ALERT_EQ, TM_ALERT_NE, TM_ALERT_LE,
                                           TM_ALERT_GE, TM_ALERT_LT, TM_ALERT_GT};
    skip_space(p);
    const char *left_at = p->at;
    struct tm_alert_node *n = parse_sum(p);
    for (size_t i = 0; n && i < sizeof ops / sizeof *ops; i++) {
        if (!take(p, op_texts[ops[i]]))
            continue;
        skip_space(p);
        const char *at = p->at;
        n = of_type(p, n, false, left_at);
        n = join(p, ops[i], n, n ? of_type(p, parse_sum(p), false, at) : NULL);
        if (n && !tm_alert_has_metric(n)) {
            free_node(n);
            return fail_at(p, left_at, "the comparison names no metric: it would always be the same");
        }
        return n;
    }
    return n;
}

static struct tm_alert_node *parse_and(struct parser *p)
{
    static const enum tm_alert_op ops[] = {TM_ALERT_AND, TM_ALERT_AND};
    return parse_left(p, parse_comparison, ops, true);
}

static struct tm_alert_node *parse_condition(struct parser *p)
{
    static const enum tm_alert_op ops[] = {TM_ALERT_OR, TM_ALERT_OR};
    if (++p->depth > DEPTH_MAX)
        return fail_at(p, p->at, "the expression is nested too deeply");
    struct tm_alert_node *n = parse_left(p, parse_and, ops, true);
    p->depth--;
    return n;
}

int tm_alert_parse(const char *text, struct tm_alert_expr **out, struct tm_error *err)
{
    struct tm_error local;
    struct parser p = {.text = text, .at = text, .err = err ? err : &local};
    *out = NULL;
    if (strlen(text) > TEXT_BYTES_MAX)
        return tm_error_set(err, TM_EPARSE, "column %d: the expression is too long", TEXT_BYTES_MAX);
    struct tm_alert_node *root = parse_condition(&p);
    skip_space(&p);
    if (root && *p.at) {
        free_node(root);
        root = fail_expected(&p, "an operator or the end");
    }
    root = of_type(&p, root, true, text);
    if (!root)
        return p.err->code;
    *out = calloc(1, sizeof **out);
    TM_FATAL_UNLESS(*out);
    (*out)->root = root;
    return TM_OK;
}
