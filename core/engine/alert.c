#include "engine/alert_private.h"
#include "engine/alert_set.h"

#include "base/arena.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const char *tm_alert_severity_name(enum tm_alert_severity severity)
{
    static const char *const names[] = {"info", "warning", "critical"};
    return names[severity];
}

const char *tm_alert_state_name(enum tm_alert_state state)
{
    static const char *const names[] = {"inactive", "pending", "firing", "resolved"};
    return names[state];
}

struct tm_alerts *tm_alerts_create(struct tm_metrics *metrics, const char *id)
{
    struct tm_alerts *a = calloc(1, sizeof *a);
    TM_FATAL_UNLESS(a);
    a->metrics = metrics;
    a->id = strdup(id ? id : "");
    TM_FATAL_UNLESS(a->id);
    a->arena = tm_arena_create();
    return a;
}

static void free_alert(struct tm_alert *a)
{
    tm_alert_expr_destroy(a->when);
    tm_alert_expr_destroy(a->clear);
    free(a->meaning);
}

static void free_list(struct tm_alert *list, size_t count)
{
    for (size_t i = 0; i < count; i++)
        free_alert(&list[i]);
    free(list);
}

void tm_alerts_destroy(struct tm_alerts *alerts)
{
    if (!alerts)
        return;
    free_list(alerts->list, alerts->count);
    tm_arena_destroy(alerts->arena);
    free(alerts->id);
    free(alerts);
}

/* ---- summaries ---- */

struct text {
    char *out;
    size_t len, size;
};

static void put(struct text *t, const char *s, size_t len)
{
    size_t room = t->size - 1 - t->len;
    len = len < room ? len : room;
    memcpy(t->out + t->len, s, len);
    t->len += len;
    t->out[t->len] = '\0';
}

static const char *placeholder(const struct tm_alerts *set, const struct tm_alert *a, const char *name, size_t len,
                               char buffer[32])
{
    const struct {
        const char *name, *value;
    } known[] = {{"id", set->id},
                 {"name", a->def.name},
                 {"severity", tm_alert_severity_name(a->def.severity)},
                 {"metric", a->last.metric ? a->last.metric : ""},
                 {"labels", a->last.labels}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0)
            return known[i].value;
    if (len == 5 && memcmp(name, "value", 5) == 0)
        (void)snprintf(buffer, 32, "%.6g", a->last.value);
    else if (len == 4 && memcmp(name, "hold", 4) == 0)
        (void)snprintf(buffer, 32, "%gs", (double)a->def.hold_us / 1e6);
    else
        return NULL;
    return buffer;
}

static void write_summary(const struct tm_alerts *set, struct tm_alert *a)
{
    struct text t = {.out = a->summary, .size = sizeof a->summary};
    a->summary[0] = '\0';
    for (const char *at = a->def.summary ? a->def.summary : ""; *at;) {
        char buffer[32];
        size_t plain = strcspn(at, "{");
        put(&t, at, plain);
        at += plain;
        size_t len = *at ? strcspn(at + 1, "}") : 0;
        const char *value = *at && at[1 + len] ? placeholder(set, a, at + 1, len, buffer) : NULL;
        if (value)
            put(&t, value, strlen(value));
        else if (*at)
            put(&t, at, 1);
        at += value ? len + 2 : *at ? 1 : 0;
    }
}

static void view(const struct tm_alert *a, struct tm_alert_view *out)
{
    *out = (struct tm_alert_view){
        .name = a->def.name,
        .description = a->def.description,
        .runbook = a->def.runbook,
        .severity = a->def.severity,
        .state = a->state,
        .value = a->last.value,
        .since_us = a->since_us,
        .summary = a->summary,
        .labels = a->def.labels,
        .label_count = a->def.label_count,
        .when = a->when,
    };
}

static void tell(const struct tm_alert *a, bool repeated, tm_alert_change *on_change, void *arg)
{
    struct tm_alert_view v;
    view(a, &v);
    v.repeated = repeated;
    v.silenced = !a->heard;
    if (on_change)
        on_change(arg, &v);
}

/* ---- the state machine ---- */

void tm_alert_show(const struct tm_alert *a)
{
    static const double shown[] = {0, 1, 2, 0};
    tm_metric_set(a->metric, shown[a->state]);
}

static void move(struct tm_alert *a, enum tm_alert_state to, int64_t wall_us)
{
    static const unsigned allowed[] = {
        [TM_ALERT_INACTIVE] = 1u << TM_ALERT_PENDING | 1u << TM_ALERT_FIRING,
        [TM_ALERT_PENDING] = 1u << TM_ALERT_INACTIVE | 1u << TM_ALERT_FIRING,
        [TM_ALERT_FIRING] = 1u << TM_ALERT_RESOLVED,
        [TM_ALERT_RESOLVED] = 1u << TM_ALERT_PENDING | 1u << TM_ALERT_FIRING,
    };
    TM_FATAL_UNLESS(allowed[a->state] >> to & 1);
    a->state = to;
    a->since_us = wall_us;
    tm_alert_show(a);
}

static void fire(struct tm_alerts *set, struct tm_alert *a, int64_t now_us, int64_t wall_us, tm_alert_change *on_change,
                 void *arg)
{
    move(a, TM_ALERT_FIRING, wall_us);
    a->told_us = now_us;
    a->heard = !tm_alerts_is_silenced(set, a->def.name, wall_us);
    write_summary(set, a);
    tell(a, false, on_change, arg);
}

/* It fires on: tell it again when that is due, or for the first time when its silence is over. */
static void repeat(struct tm_alerts *set, struct tm_alert *a, int64_t now_us, int64_t wall_us,
                   tm_alert_change *on_change, void *arg)
{
    bool first = !a->heard;
    if (a->last.truth || now_us >= a->settle_us) /* else there are no readings yet that say more than the old ones */
        write_summary(set, a);
    if (!first && (!a->def.every_us || now_us - a->told_us < a->def.every_us))
        return;
    if (tm_alerts_is_silenced(set, a->def.name, wall_us))
        return;
    a->told_us = now_us;
    a->heard = true;
    tell(a, !first, on_change, arg);
}

static void step(struct tm_alerts *set, struct tm_alert *a, int64_t now_us, int64_t wall_us, tm_alert_change *on_change,
                 void *arg)
{
    struct tm_alert_result clear = {0};
    tm_alert_evaluate(a->when, set->metrics, now_us, &a->last);
    if (a->clear)
        tm_alert_evaluate(a->clear, set->metrics, now_us, &clear);
    bool truth = a->last.truth;
    if (a->state == TM_ALERT_FIRING) {
        if ((a->clear ? !clear.truth : truth) || now_us < a->settle_us) {
            repeat(set, a, now_us, wall_us, on_change, arg);
            return;
        }
        move(a, TM_ALERT_RESOLVED, wall_us);
        write_summary(set, a);
        tell(a, false, on_change, arg);
        return;
    }
    if (!truth) {
        if (a->state == TM_ALERT_PENDING)
            move(a, TM_ALERT_INACTIVE, wall_us);
        return;
    }
    if (a->state != TM_ALERT_PENDING && a->def.hold_us > 0) {
        move(a, TM_ALERT_PENDING, wall_us);
        a->pending_us = now_us;
        write_summary(set, a);
    } else if (a->def.hold_us == 0 || now_us - a->pending_us >= a->def.hold_us) {
        fire(set, a, now_us, wall_us, on_change, arg);
    }
}

void tm_alerts_evaluate(struct tm_alerts *alerts, int64_t now_us, int64_t wall_us, tm_alert_change *on_change,
                        void *arg)
{
    for (size_t i = 0; i < alerts->count; i++) {
        struct tm_alert *a = &alerts->list[i];
        enum tm_alert_state state = a->state;
        int64_t told_us = a->told_us;
        step(alerts, a, now_us, wall_us, on_change, arg);
        alerts->changed = alerts->changed || a->state != state || a->told_us != told_us;
    }
}

size_t tm_alerts_count(const struct tm_alerts *alerts)
{
    return alerts->count;
}

void tm_alerts_get(const struct tm_alerts *alerts, size_t i, struct tm_alert_view *out)
{
    view(&alerts->list[i], out);
}

/* ---- generations ---- */

static void copy_def(struct tm_alert_def *to, const struct tm_alert_def *from, struct tm_arena *arena)
{
    *to = *from;
    to->where = tm_arena_strdup(arena, from->where);
    to->name = tm_arena_strdup(arena, from->name);
    to->when = tm_arena_strdup(arena, from->when);
    to->clear = tm_arena_strdup(arena, from->clear);
    to->summary = tm_arena_strdup(arena, from->summary);
    to->description = tm_arena_strdup(arena, from->description);
    to->runbook = tm_arena_strdup(arena, from->runbook);
    struct tm_alert_label *labels =
        from->label_count ? tm_arena_alloc(arena, from->label_count * sizeof *labels) : NULL;
    for (size_t i = 0; i < from->label_count; i++)
        labels[i] = (struct tm_alert_label){tm_arena_strdup(arena, from->labels[i].name),
                                            tm_arena_strdup(arena, from->labels[i].value)};
    to->labels = labels;
}

static char *meaning_of(const struct tm_alert *a)
{
    struct tm_buf text = {0};
    int rc = tm_alert_print(a->when, &text);
    if (!rc)
        rc = tm_buf_printf(&text, " hold %lld clear ", (long long)a->def.hold_us);
    if (!rc && a->clear)
        rc = tm_alert_print(a->clear, &text);
    TM_FATAL_UNLESS(!rc && tm_buf_cstr(&text));
    return (char *)text.data;
}

static int make_alert(const struct tm_alert_def *def, struct tm_arena *arena, struct tm_alert *out,
                      struct tm_error *err)
{
    copy_def(&out->def, def, arena);
    out->last.value = NAN;
    int rc = tm_alert_parse(def->when, &out->when, err);
    if (rc)
        return tm_error_wrap(err, "alert %s: when", def->name);
    rc = def->clear ? tm_alert_parse(def->clear, &out->clear, err) : TM_OK;
    if (rc)
        return tm_error_wrap(err, "alert %s: clear", def->name);
    out->meaning = meaning_of(out);
    return TM_OK;
}

static struct tm_alert *find(struct tm_alert *list, size_t count, const char *name)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(list[i].def.name, name) == 0)
            return &list[i];
    return NULL;
}

static struct tm_metric *state_metric(struct tm_metrics *m, const struct tm_alert *a)
{
    char labels[160];
    (void)snprintf(labels, sizeof labels, "alert=\"%.64s\",severity=\"%s\"", a->def.name,
                   tm_alert_severity_name(a->def.severity));
    return tm_metrics_gauge(m, "tidemill_alert_state", "Alerts of the script: 0 inactive, 1 pending, 2 firing", labels);
}

/* What an alert was, its successor with the same meaning goes on to be; the readings change hands with the tree. */
static void inherit(struct tm_alert *new, struct tm_alert *old)
{
    struct tm_alert_expr *when = new->when, *clear = new->clear;
    new->when = old->when;
    new->clear = old->clear;
    old->when = when;
    old->clear = clear;
    new->state = old->state;
    new->last = old->last;
    new->pending_us = old->pending_us;
    new->told_us = old->told_us;
    new->heard = old->heard;
    new->settle_us = old->settle_us;
    new->since_us = old->since_us;
    memcpy(new->summary, old->summary, sizeof new->summary);
}

static void retire(struct tm_alert *old, int64_t wall_us, tm_alert_change *on_change, void *arg)
{
    tm_metric_set(old->metric, 0);
    if (old->state != TM_ALERT_FIRING)
        return;
    move(old, TM_ALERT_RESOLVED, wall_us);
    tell(old, false, on_change, arg);
}

static void swap_lists(struct tm_alerts *set, struct tm_alert *list, size_t count, int64_t wall_us,
                       tm_alert_change *on_change, void *arg)
{
    for (size_t i = 0; i < set->count; i++) {
        struct tm_alert *old = &set->list[i], *new = find(list, count, old->def.name);
        if (new &&strcmp(new->meaning, old->meaning) == 0)
            inherit(new, old);
        else
            retire(old, wall_us, on_change, arg);
        tm_metric_set(old->metric, 0); /* the severity may have changed */
    }
    for (size_t i = 0; i < count; i++) {
        list[i].metric = state_metric(set->metrics, &list[i]);
        tm_alert_show(&list[i]);
    }
}

int tm_alerts_replace(struct tm_alerts *alerts, const struct tm_alert_def *defs, size_t count, int64_t wall_us,
                      tm_alert_change *on_change, void *arg, struct tm_error *err)
{
    if (count > TM_ALERTS_MAX)
        return tm_error_set(err, TM_EINVAL, "expected at most %d alerts, got %zu", TM_ALERTS_MAX, count);
    struct tm_arena *arena = tm_arena_create();
    struct tm_alert *list = calloc(count ? count : 1, sizeof *list);
    TM_FATAL_UNLESS(list);
    int rc = TM_OK;
    for (size_t i = 0; i < count && !rc; i++)
        rc = make_alert(&defs[i], arena, &list[i], err);
    if (rc) {
        free_list(list, count);
        tm_arena_destroy(arena);
        return rc;
    }
    swap_lists(alerts, list, count, wall_us, on_change, arg);
    free_list(alerts->list, alerts->count);
    tm_arena_destroy(alerts->arena);
    alerts->list = list;
    alerts->count = count;
    alerts->arena = arena;
    alerts->changed = true;
    return TM_OK;
}
