/* The tree of an alert's expression: what its parser, its evaluation and its printing share. */
#ifndef TM_ENGINE_ALERT_PRIVATE_H
#define TM_ENGINE_ALERT_PRIVATE_H

#include "engine/alert.h"

#define TM_ALERT_NODES_MAX 200
#define TM_ALERT_MATCHERS_MAX 8
#define TM_ALERT_RATE_US_MAX (INT64_C(3600) * 1000000)

enum tm_alert_op {
    TM_ALERT_NUMBER,
    TM_ALERT_SELECTOR,
    TM_ALERT_RATE, /* left: a selector */
    TM_ALERT_AGE,  /* left: a selector */
    TM_ALERT_SUM,  /* left: a number */
    TM_ALERT_MIN,
    TM_ALERT_MAX,
    TM_ALERT_AVG,
    TM_ALERT_COUNT,
    TM_ALERT_NEGATE,
    TM_ALERT_ADD,
    TM_ALERT_SUBTRACT,
    TM_ALERT_MULTIPLY,
    TM_ALERT_DIVIDE,
    TM_ALERT_EQ, /* from here on conditions */
    TM_ALERT_NE,
    TM_ALERT_LT,
    TM_ALERT_LE,
    TM_ALERT_GT,
    TM_ALERT_GE,
    TM_ALERT_AND,
    TM_ALERT_OR,
    TM_ALERT_ABSENT, /* left: a selector */
};

struct tm_alert_matcher {
    char *name, *value;
    bool differs; /* != */
};

/* What rate and age remember of a series. Readings are thinned so that SAMPLES cover the window. */
#define TM_ALERT_SAMPLES 64

struct tm_alert_history {
    const struct tm_metric *metric;
    double last, total;              /* reading; sum of its increases */
    int64_t changed_us;              /* age */
    int64_t at_us[TM_ALERT_SAMPLES]; /* rate: a ring */
    double totals[TM_ALERT_SAMPLES];
    size_t first, count;
};

struct tm_alert_node {
    enum tm_alert_op op;
    struct tm_alert_node *left, *right;
    double number;
    char *name; /* selector */
    struct tm_alert_matcher matchers[TM_ALERT_MATCHERS_MAX];
    size_t matcher_count;
    int64_t window_us; /* rate */
    struct tm_alert_history *histories;
    size_t history_count;
};

struct tm_alert_expr {
    struct tm_alert_node *root;
};

static inline bool tm_alert_is_condition(enum tm_alert_op op)
{
    return op >= TM_ALERT_EQ;
}

static inline bool tm_alert_is_aggregate(enum tm_alert_op op)
{
    return op >= TM_ALERT_SUM && op <= TM_ALERT_COUNT;
}

/* Whether it is one value without labels for certain: a number, an aggregate, or what is made of them. */
bool tm_alert_is_single(const struct tm_alert_node *node);

/* Whether it names a metric. */
bool tm_alert_has_metric(const struct tm_alert_node *node);

const char *tm_alert_op_text(enum tm_alert_op op); /* "==", "sum" */

#endif
