/* Alerts as a rules file of Prometheus: YAML, all texts in single quotes. */
#include "control/alerts.h"

#include <inttypes.h>
#include <string.h>

struct rules {
    struct tm_buf *out;
    struct tm_error *err;
    int rc; /* the first failure */
};

static void put(struct rules *r, const char *text)
{
    if (!r->rc && (r->rc = tm_buf_append(r->out, text, strlen(text))))
        (void)tm_error_set(r->err, r->rc, "no memory for the rules");
}

static void put_bytes(struct rules *r, const char *text, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char c[2] = {(unsigned char)text[i] < 0x20 ? ' ' : text[i], '\0'};
        put(r, c[0] == '\'' ? "''" : c);
    }
}

static void put_text(struct rules *r, const char *key, const char *text)
{
    put(r, key);
    put(r, " '");
    put_bytes(r, text, strlen(text));
    put(r, "'\n");
}

static void put_duration(struct rules *r, int64_t us)
{
    if (!r->rc)
        r->rc = tm_buf_printf(r->out, us % 1000000 ? "%" PRId64 "ms" : "%" PRId64 "s",
                              us % 1000000 ? us / 1000 : us / 1000000);
}

/* ---- expressions ---- */

static int promql(const struct tm_alert_def *a, const char *field, const char *text, struct tm_buf *out,
                  struct tm_error *err)
{
    struct tm_alert_expr *expr;
    int rc = tm_alert_parse(text, &expr, err);
    if (!rc)
        rc = tm_alert_promql(expr, out, err);
    if (!rc)
        tm_alert_expr_destroy(expr);
    return rc ? tm_error_wrap(err, "%s: tm.alert %s: %s", a->where, a->name, field) : TM_OK;
}

/* Prometheus knows no condition that clears: an alert that fires goes on, by its own series ALERTS, until it is true. */
static int expression(const struct tm_alert_def *a, struct tm_buf *out, struct tm_error *err)
{
    if (!a->clear)
        return promql(a, "when", a->when, out, err);
    int rc = tm_buf_printf(out, "max by (instance, job) (");
    rc = rc ? rc : promql(a, "when", a->when, out, err);
    rc = rc ? rc
            : tm_buf_printf(out,
                            ") or on (instance, job) max by (instance, job) (ALERTS{alertname=\"%s\",alertstate="
                            "\"firing\"} unless on (instance, job) ",
                            a->name);
    rc = rc ? rc : promql(a, "clear", a->clear, out, err);
    return rc ? rc : tm_buf_append(out, ")", 1);
}

/* ---- summaries ---- */

static const char *metric_of(const struct tm_alert_def *a)
{
    static char name[256];
    struct tm_alert_expr *expr;
    struct tm_error err;
    struct tm_alert_result result;
    struct tm_metrics *empty = tm_metrics_create();
    name[0] = '\0';
    if (tm_alert_parse(a->when, &expr, &err) == TM_OK) {
        tm_alert_evaluate(expr, empty, 0, &result);
        (void)snprintf(name, sizeof name, "%s", result.metric ? result.metric : "");
        tm_alert_expr_destroy(expr);
    }
    tm_metrics_destroy(empty);
    return name;
}

static bool put_placeholder(struct rules *r, const struct tm_alert_def *a, const char *name, size_t len)
{
    const struct {
        const char *name, *text;
    } known[] = {{"id", "{{ $labels.instance }}"}, {"value", "{{ printf \"%.6g\" $value }}"},
                 {"labels", "{{ $labels }}"},      {"name", a->name},
                 {"metric", metric_of(a)},         {"severity", tm_alert_severity_name(a->severity)}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        if (strlen(known[i].name) == len && memcmp(known[i].name, name, len) == 0) {
            put_bytes(r, known[i].text, strlen(known[i].text));
            return true;
        }
    }
    if (len != 4 || memcmp(name, "hold", 4) != 0)
        return false;
    put_duration(r, a->hold_us);
    return true;
}

static void put_summary(struct rules *r, const struct tm_alert_def *a)
{
    put(r, "          summary: '");
    for (const char *at = a->summary ? a->summary : a->name; *at;) {
        size_t plain = strcspn(at, "{");
        put_bytes(r, at, plain);
        at += plain;
        size_t len = *at ? strcspn(at + 1, "}") : 0;
        bool known = *at && at[1 + len] && put_placeholder(r, a, at + 1, len);
        if (!known && *at)
            put(r, "{");
        at += known ? len + 2 : *at ? 1 : 0;
    }
    put(r, "'\n");
}

/* ---- rules ---- */

static void put_rule(struct rules *r, const struct tm_alert_def *a, const char *expr)
{
    put_text(r, "      - alert:", a->name);
    put_text(r, "        expr:", expr);
    if (a->hold_us) {
        put(r, "        for: ");
        put_duration(r, a->hold_us);
        put(r, "\n");
    }
    put_text(r, "        labels:\n          severity:", tm_alert_severity_name(a->severity));
    for (size_t i = 0; i < a->label_count; i++) {
        put(r, "          ");
        put(r, a->labels[i].name);
        put_text(r, ":", a->labels[i].value);
    }
    put(r, "        annotations:\n");
    put_summary(r, a);
    if (a->description)
        put_text(r, "          description:", a->description);
    if (a->runbook)
        put_text(r, "          runbook_url:", a->runbook);
}

static bool is_same(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool was_said(const struct tm_rules_source *sources, size_t before, const struct tm_alert_def *a)
{
    for (size_t i = 0; i < before; i++) {
        for (size_t k = 0; k < sources[i].config->alert_count; k++) {
            const struct tm_alert_def *b = &sources[i].config->alerts[k];
            if (is_same(a->name, b->name) && is_same(a->when, b->when) && is_same(a->clear, b->clear))
                return true;
        }
    }
    return false;
}

static void put_group(struct rules *r, const struct tm_rules_source *sources, size_t index)
{
    const struct tm_config *config = sources[index].config;
    char name[128];
    (void)snprintf(name, sizeof name, "tidemill %s %.63s",
                   config->role == TM_CONFIG_GATHERER ? "gatherer" : "deduplicator", config->id);
    put_text(r, "  - name:", name);
    put(r, "    interval: 15s\n    rules:\n");
    for (size_t i = 0; i < config->alert_count && !r->rc; i++) {
        struct tm_buf expr = {0};
        if (was_said(sources, index, &config->alerts[i]))
            continue;
        r->rc = expression(&config->alerts[i], &expr, r->err);
        if (!r->rc)
            put_rule(r, &config->alerts[i], tm_buf_cstr(&expr));
        tm_buf_fini(&expr);
    }
}

int tm_rules_print(const struct tm_rules_source *sources, size_t count, struct tm_buf *out, struct tm_error *err)
{
    struct rules r = {.out = out, .err = err};
    put(&r, "groups:\n");
    for (size_t i = 0; i < count; i++)
        if (sources[i].config->alert_count)
            put_group(&r, sources, i);
    return r.rc;
}
