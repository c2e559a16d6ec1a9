/*
 * Alerts: conditions over the process's own metrics, with a state each. Pure: the registry is read, time is a
 * parameter, nothing is sent; who is told is policy's business (on_change).
 *
 * The language of `when` and `clear` is close to PromQL, with the types kept apart so that a mistake is found when the
 * script is checked:
 *
 *     condition   number (== != < <= > >=) number | condition and condition | condition or condition | absent(selector)
 *     number      12.5 | selector | rate(selector, "5m") | age(selector) | sum min max avg count (number)
 *                 | number (+ - * /) number | -number | (number)
 *     selector    name | name{label="value", label!="value"}
 *
 * A number with several series is compared series by series and a comparison is true if it is for any of them. Two
 * numbers with series are matched by equal labels; what sum and its like give counts as a constant beside them. A
 * metric that is not there makes every comparison with it false, and absent(it) true. rate is the increase per second
 * over at most the window given (a counter that starts anew is understood), nothing before there are two readings; age
 * is the seconds since the value last changed, or since it was first seen.
 *
 *     INACTIVE --when--> PENDING --hold--> FIRING --clear--> RESOLVED --when--> PENDING ...
 *                           \--not when--> INACTIVE (or RESOLVED, as before)
 *
 * Without `clear` a firing alert resolves when `when` is no longer true.
 *
 * A silence keeps alerts from being told, not from firing: their states go on, and one that fires still when its silence
 * ends is told then. States, silences and what was told survive a reload (tm_alerts_replace) and, where the owner keeps
 * the text, a restart (tm_alerts_save, tm_alerts_load). One thread: that of the policy.
 */
#ifndef TM_ENGINE_ALERT_H
#define TM_ENGINE_ALERT_H

#include "engine/metrics.h"

#define TM_ALERTS_MAX 200
#define TM_ALERT_SUMMARY_MAX 512
#define TM_ALERT_SILENCES_MAX 64
#define TM_ALERT_SETTLE_US (INT64_C(30) * 1000000)

/* ---- expressions ---- */

struct tm_alert_expr;

/* The errors say at which column. */
int tm_alert_parse(const char *text, struct tm_alert_expr **out, struct tm_error *err) TM_MUST_CHECK;
void tm_alert_expr_destroy(struct tm_alert_expr *expr); /* NULL is fine */

/* The expression in a form that is the same for all spellings of it. */
int tm_alert_print(const struct tm_alert_expr *expr, struct tm_buf *out) TM_MUST_CHECK;

/* The same as PromQL over many processes, each judged by itself; TM_EINVAL where PromQL cannot say it (age, except
 * age(x) > number). */
int tm_alert_promql(const struct tm_alert_expr *expr, struct tm_buf *out, struct tm_error *err) TM_MUST_CHECK;

struct tm_alert_result {
    bool truth;
    double value;       /* of the side of the comparison that has a metric; NAN when there is none */
    const char *metric; /* its name */
    char labels[256];   /* of its series; "" if none */
};

/* Read the metrics. Expressions remember readings for rate and age: call it about once a second, time not going back. */
void tm_alert_evaluate(struct tm_alert_expr *expr, struct tm_metrics *metrics, int64_t now_us,
                       struct tm_alert_result *out);

/* ---- alerts ---- */

enum tm_alert_severity { TM_ALERT_INFO, TM_ALERT_WARNING, TM_ALERT_CRITICAL };
enum tm_alert_state { TM_ALERT_INACTIVE, TM_ALERT_PENDING, TM_ALERT_FIRING, TM_ALERT_RESOLVED };

const char *tm_alert_severity_name(enum tm_alert_severity severity);
const char *tm_alert_state_name(enum tm_alert_state state);

struct tm_alert_label {
    const char *name, *value;
};

struct tm_alert_def {
    const char *where; /* file:line */
    const char *name, *when;
    const char *clear;                 /* NULL: not `when` */
    const char *summary;               /* {id} {name} {severity} {value} {metric} {labels} {hold}; may be NULL */
    const char *description, *runbook; /* may be NULL */
    enum tm_alert_severity severity;
    int64_t hold_us, every_us; /* every 0: a firing alert is told once */
    const struct tm_alert_label *labels;
    size_t label_count;
};

/* An alert as it stands. */
struct tm_alert_view {
    const char *name, *description, *runbook; /* the latter two may be NULL */
    enum tm_alert_severity severity;
    enum tm_alert_state state;
    bool repeated;    /* in on_change: fires still */
    bool silenced;    /* nobody is to be told; of a resolved one: nobody was told that it fired */
    double value;     /* NAN: none */
    int64_t since_us; /* wall time of the last change of state; 0: never */
    const char *summary;
    const struct tm_alert_label *labels;
    size_t label_count;
    const struct tm_alert_expr *when;
};

struct tm_alerts;

/* `id` is what {id} stands for. Makes the series tidemill_alert_state{alert,severity}: 0, 1 pending, 2 firing. */
struct tm_alerts *tm_alerts_create(struct tm_metrics *metrics, const char *id);
void tm_alerts_destroy(struct tm_alerts *alerts);

typedef void tm_alert_change(void *arg, const struct tm_alert_view *alert);

/*
 * Take a new generation's definitions (copied). An alert of the same name with the same when, clear and hold keeps its
 * state and its readings; others start anew. One that fires and is gone or differs resolves, which is told. On failure
 * nothing has changed.
 */
int tm_alerts_replace(struct tm_alerts *alerts, const struct tm_alert_def *defs, size_t count, int64_t wall_us,
                      tm_alert_change *on_change, void *arg, struct tm_error *err) TM_MUST_CHECK;

/* Once a second; `now_us` is monotonic. on_change is told of FIRING (also repeated) and RESOLVED. */
void tm_alerts_evaluate(struct tm_alerts *alerts, int64_t now_us, int64_t wall_us, tm_alert_change *on_change,
                        void *arg);

/* ---- silences ---- */

struct tm_alert_silence {
    char pattern[64]; /* name of an alert; * stands for any text */
    char why[128];
    int64_t until_us; /* wall time */
};

/* Silence what matches until then; the same pattern again replaces it, a time that has passed ends it. TM_EINVAL: no
 * pattern; TM_EFULL: too many silences; TM_ENOENT: no alert is named so, or there is no silence to end. */
int tm_alerts_silence(struct tm_alerts *alerts, const char *pattern, int64_t until_us, const char *why, int64_t wall_us,
                      struct tm_error *err) TM_MUST_CHECK;

bool tm_alerts_is_silenced(const struct tm_alerts *alerts, const char *name, int64_t wall_us);

/* Those that hold, and some that are over. */
size_t tm_alerts_silence_count(const struct tm_alerts *alerts);
const struct tm_alert_silence *tm_alerts_silence_get(const struct tm_alerts *alerts, size_t i);

/* ---- memory ---- */

/* Whether there is something new to save; asking takes the answer back. */
bool tm_alerts_take_changed(struct tm_alerts *alerts);

/* States and silences as lines of text. */
int tm_alerts_save(const struct tm_alerts *alerts, int64_t now_us, int64_t wall_us, struct tm_buf *out) TM_MUST_CHECK;

/*
 * Give the alerts that are defined what a life before has saved of those with the same meaning. As metrics begin at
 * nothing, one that fired is not resolved within TM_ALERT_SETTLE_US. A line that is not understood is left out. Returns
 * how many lines were taken.
 */
size_t tm_alerts_load(struct tm_alerts *alerts, const char *text, int64_t now_us, int64_t wall_us);

size_t tm_alerts_count(const struct tm_alerts *alerts);
void tm_alerts_get(const struct tm_alerts *alerts, size_t i,
                   struct tm_alert_view *out); /* in the order of definition */

#endif
