#include "engine/metrics.h"
#include "base/utf8.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SERIES_MAX 1000
#define NAME_MAX_BYTES 200

static const double bounds_s[] = {0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};
#define BOUNDS (sizeof bounds_s / sizeof *bounds_s)

struct tm_metric {
    struct tm_metric *next; /* in its family, in the order of making */
    enum tm_metric_kind kind;
    char *labels; /* "" for none */
    bool hidden;  /* under the lock */
    struct tm_metrics *owner;
    _Atomic uint64_t value; /* counter: the number; gauge: the bits of a double; histogram: observations */
    _Atomic int64_t sum_us;
    _Atomic uint64_t *buckets; /* histogram: BOUNDS of them, not cumulative */
};

struct family {
    struct family *next;
    char *name, *help;
    enum tm_metric_kind kind;
    struct tm_metric *first, *last;
};

struct tm_metrics {
    pthread_mutex_t lock; /* making and rendering; never writing */
    struct family *families;
    size_t series;
    struct tm_metric *dropped;
    struct tm_metric overflow; /* shared by all series beyond the bound; not rendered */
    _Atomic uint64_t overflow_buckets[BOUNDS];
};

static char *copy(const char *s)
{
    char *c = strdup(s);
    TM_FATAL_UNLESS(c);
    return c;
}

struct tm_metrics *tm_metrics_create(void)
{
    struct tm_metrics *m = calloc(1, sizeof *m);
    TM_FATAL_UNLESS(m);
    pthread_mutex_init(&m->lock, NULL);
    m->overflow.buckets = m->overflow_buckets;
    m->dropped = tm_metrics_counter(m, "tidemill_metrics_dropped_series_total",
                                    "Series that were refused because there are too many.", NULL);
    return m;
}

static void family_free(struct family *f)
{
    for (struct tm_metric *s = f->first, *next; s; s = next) {
        next = s->next;
        free(s->labels);
        free(s->buckets);
        free(s);
    }
    free(f->name);
    free(f->help);
    free(f);
}

void tm_metrics_destroy(struct tm_metrics *m)
{
    if (!m)
        return;
    for (struct family *f = m->families, *next; f; f = next) {
        next = f->next;
        family_free(f);
    }
    pthread_mutex_destroy(&m->lock);
    free(m);
}

/* Families are kept sorted by name, so that the page reads the same every time. */
static struct family *find_family(struct tm_metrics *m, const char *name, const char *help, enum tm_metric_kind kind)
{
    struct family **at = &m->families;
    while (*at && strcmp((*at)->name, name) < 0)
        at = &(*at)->next;
    if (*at && strcmp((*at)->name, name) == 0) {
        TM_FATAL_UNLESS((*at)->kind == kind);
        return *at;
    }
    struct family *f = calloc(1, sizeof *f);
    TM_FATAL_UNLESS(f);
    f->name = copy(name);
    f->help = copy(help);
    f->kind = kind;
    f->next = *at;
    *at = f;
    return f;
}

static struct tm_metric *add_series(struct tm_metrics *m, struct family *f, const char *labels)
{
    struct tm_metric *s = calloc(1, sizeof *s);
    TM_FATAL_UNLESS(s);
    s->kind = f->kind;
    s->owner = m;
    s->labels = copy(labels);
    if (f->kind == TM_METRIC_HISTOGRAM) {
        s->buckets = calloc(BOUNDS, sizeof *s->buckets);
        TM_FATAL_UNLESS(s->buckets);
    }
    if (f->last)
        f->last->next = s;
    else
        f->first = s;
    f->last = s;
    m->series++;
    return s;
}

static struct tm_metric *find_series(const struct family *f, const char *labels)
{
    struct tm_metric *s = f->first;
    while (s && strcmp(s->labels, labels) != 0)
        s = s->next;
    return s;
}

static struct tm_metric *series(struct tm_metrics *m, enum tm_metric_kind kind, const char *name, const char *help,
                                const char *labels)
{
    labels = labels ? labels : "";
    pthread_mutex_lock(&m->lock);
    struct family *f = find_family(m, name, help, kind);
    struct tm_metric *s = find_series(f, labels);
    if (!s && m->series < SERIES_MAX)
        s = add_series(m, f, labels);
    if (s)
        s->hidden = false;
    pthread_mutex_unlock(&m->lock);
    if (s)
        return s;
    tm_metric_add(m->dropped, 1);
    return &m->overflow;
}

struct tm_metric *tm_metrics_counter(struct tm_metrics *m, const char *name, const char *help, const char *labels)
{
    return series(m, TM_METRIC_COUNTER, name, help, labels);
}

struct tm_metric *tm_metrics_gauge(struct tm_metrics *m, const char *name, const char *help, const char *labels)
{
    return series(m, TM_METRIC_GAUGE, name, help, labels);
}

struct tm_metric *tm_metrics_histogram(struct tm_metrics *m, const char *name, const char *help, const char *labels)
{
    return series(m, TM_METRIC_HISTOGRAM, name, help, labels);
}

/* ---- names and labels of others ---- */

bool tm_metric_is_label_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_");
    return len > 0 && len <= NAME_MAX_BYTES && !name[len] && !(name[0] >= '0' && name[0] <= '9') &&
           strncmp(name, "__", 2) != 0;
}

bool tm_metric_is_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_:");
    return len > 0 && len <= NAME_MAX_BYTES && !name[len] && !(name[0] >= '0' && name[0] <= '9');
}

/* The end of a quoted value, past its quote; NULL when it has none. */
static const char *skip_label_value(const char *at)
{
    if (*at++ != '"')
        return NULL;
    for (; *at && *at != '"'; at++) {
        if ((unsigned char)*at < 0x20 || (*at == '\\' && !strchr("\\\"n", *++at)) || !*at)
            return NULL;
    }
    return *at ? at + 1 : NULL;
}

bool tm_metric_is_labels(const char *labels)
{
    for (const char *at = labels;;) {
        char name[NAME_MAX_BYTES + 1];
        size_t len = strcspn(at, "=");
        if (at[len] != '=' || len >= sizeof name)
            return false;
        memcpy(name, at, len);
        name[len] = '\0';
        at = tm_metric_is_label_name(name) ? skip_label_value(at + len + 1) : NULL;
        if (!at || (*at && *at != ','))
            return false;
        if (!*at++)
            return true;
    }
}

int tm_metric_escape_label(struct tm_buf *out, const char *value, size_t len)
{
    int rc = TM_OK;
    for (size_t i = 0, n; i < len && !rc; i += n) {
        n = tm_utf8_length(value + i, len - i);
        if (n == 0 || ((unsigned char)value[i] < 0x20 && value[i] != '\n') || value[i] == 0x7f)
            return TM_EINVAL;
        if (value[i] == '\n')
            rc = tm_buf_append(out, "\\n", 2);
        else if (value[i] == '"' || value[i] == '\\')
            rc = tm_buf_printf(out, "\\%c", value[i]);
        else
            rc = tm_buf_append(out, value + i, n);
    }
    return rc;
}

static struct family *family_named(const struct tm_metrics *m, const char *name, size_t len)
{
    for (struct family *f = m->families; f; f = f->next)
        if (strlen(f->name) == len && memcmp(f->name, name, len) == 0)
            return f;
    return NULL;
}

static size_t count_series(const struct family *f, const char *except)
{
    size_t count = 0;
    for (const struct tm_metric *s = f->first; s; s = s->next)
        count += strcmp(s->labels, except) != 0;
    return count;
}

struct tm_metric *tm_metrics_bounded(struct tm_metrics *m, enum tm_metric_kind kind, const char *name, const char *help,
                                     const char *labels, const char *other, size_t max, bool *is_other)
{
    labels = labels ? labels : "";
    pthread_mutex_lock(&m->lock);
    const struct family *f = family_named(m, name, strlen(name));
    bool fits = !f || f->kind == kind;
    bool full = fits && f && max && !find_series(f, labels) && count_series(f, other) >= max;
    pthread_mutex_unlock(&m->lock);
    if (full)
        tm_metric_add(m->dropped, 1);
    if (is_other)
        *is_other = full;
    return fits ? series(m, kind, name, help, full ? other : labels) : NULL;
}

/* ---- reading ---- */

static double sum_of(const struct tm_metric *s)
{
    return (double)atomic_load_explicit(&s->sum_us, memory_order_relaxed) / 1e6;
}

/* The family that the name means: its own, or the histogram that has it as its count or sum. */
static const struct family *family_read(const struct tm_metrics *m, const char *name, bool *sum)
{
    size_t len = strlen(name);
    const struct family *f = family_named(m, name, len);
    *sum = false;
    if (f)
        return f->kind == TM_METRIC_HISTOGRAM ? NULL : f;
    if (len > 6 && strcmp(name + len - 6, "_count") == 0) {
        f = family_named(m, name, len - 6);
    } else if (len > 4 && strcmp(name + len - 4, "_sum") == 0) {
        *sum = true;
        f = family_named(m, name, len - 4);
    }
    return f && f->kind == TM_METRIC_HISTOGRAM ? f : NULL;
}

void tm_metrics_each(struct tm_metrics *m, const char *name, tm_metrics_visit *fn, void *arg)
{
    bool sum;
    pthread_mutex_lock(&m->lock);
    const struct family *f = family_read(m, name, &sum);
    for (const struct tm_metric *s = f ? f->first : NULL; s; s = s->next)
        fn(arg, s, s->labels, sum ? sum_of(s) : tm_metric_get(s));
    pthread_mutex_unlock(&m->lock);
}

/* ---- writing ---- */

void tm_metric_add(struct tm_metric *metric, uint64_t n)
{
    atomic_fetch_add_explicit(&metric->value, n, memory_order_relaxed);
}

void tm_metric_set(struct tm_metric *metric, double v)
{
    uint64_t bits = v > 0 ? (uint64_t)v : 0;
    if (metric->kind == TM_METRIC_GAUGE)
        memcpy(&bits, &v, sizeof bits);
    atomic_store_explicit(&metric->value, bits, memory_order_relaxed);
}

void tm_metric_observe_us(struct tm_metric *metric, int64_t us)
{
    us = us > 0 ? us : 0;
    size_t i = 0;
    while (i < BOUNDS && (double)us / 1e6 > bounds_s[i])
        i++;
    if (i < BOUNDS)
        atomic_fetch_add_explicit(&metric->buckets[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->sum_us, us, memory_order_relaxed);
    atomic_fetch_add_explicit(&metric->value, 1, memory_order_relaxed);
}

static uint64_t read_count(const struct tm_metric *s)
{
    return atomic_load_explicit(&s->value, memory_order_relaxed);
}

void tm_metric_hide(struct tm_metric *metric)
{
    if (!metric->owner) /* the overflow series is not rendered anyway */
        return;
    pthread_mutex_lock(&metric->owner->lock);
    metric->hidden = true;
    pthread_mutex_unlock(&metric->owner->lock);
}

double tm_metric_get(const struct tm_metric *metric)
{
    uint64_t bits = read_count(metric);
    double v = (double)bits;
    if (metric->kind == TM_METRIC_GAUGE)
        memcpy(&v, &bits, sizeof v);
    return v;
}

static int render_number(struct tm_buf *out, double v)
{
    if (isnan(v))
        return tm_buf_printf(out, " NaN\n");
    if (isinf(v))
        return tm_buf_printf(out, v > 0 ? " +Inf\n" : " -Inf\n");
    return tm_buf_printf(out, " %.15g\n", v);
}

static int render_name(struct tm_buf *out, const char *name, const char *suffix, const char *labels)
{
    if (*labels)
        return tm_buf_printf(out, "%s%s{%s}", name, suffix, labels);
    return tm_buf_printf(out, "%s%s", name, suffix);
}

static int render_histogram(struct tm_buf *out, const struct family *f, const struct tm_metric *s)
{
    uint64_t total = read_count(s), cumulative = 0;
    const char *comma = *s->labels ? "," : "";
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < BOUNDS; i++) {
        cumulative += atomic_load_explicit(&s->buckets[i], memory_order_relaxed);
        rc = tm_buf_printf(out, "%s_bucket{%s%sle=\"%g\"} %llu\n", f->name, s->labels, comma, bounds_s[i],
                           (unsigned long long)cumulative);
    }
    /* written without locks: an observation may be in its bucket and not yet in the total */
    total = total < cumulative ? cumulative : total;
    rc = rc ? rc
            : tm_buf_printf(out, "%s_bucket{%s%sle=\"+Inf\"} %llu\n", f->name, s->labels, comma,
                            (unsigned long long)total);
    rc = rc ? rc : render_name(out, f->name, "_sum", s->labels);
    rc = rc ? rc : render_number(out, sum_of(s));
    rc = rc ? rc : render_name(out, f->name, "_count", s->labels);
    return rc ? rc : tm_buf_printf(out, " %llu\n", (unsigned long long)total);
}

static int render_series(struct tm_buf *out, const struct family *f, const struct tm_metric *s)
{
    if (f->kind == TM_METRIC_HISTOGRAM)
        return render_histogram(out, f, s);
    int rc = render_name(out, f->name, "", s->labels);
    if (rc)
        return rc;
    if (f->kind == TM_METRIC_COUNTER)
        return tm_buf_printf(out, " %llu\n", (unsigned long long)read_count(s));
    return render_number(out, tm_metric_get(s));
}

/* The text format knows two escapes in a HELP line. */
static int render_help(struct tm_buf *out, const struct family *f)
{
    int rc = tm_buf_printf(out, "# HELP %s ", f->name);
    for (const char *at = f->help; !rc && *at; at++) {
        if (*at == '\\' || *at == '\n')
            rc = tm_buf_append(out, *at == '\n' ? "\\n" : "\\\\", 2);
        else
            rc = tm_buf_append(out, at, 1);
    }
    return rc;
}

static bool is_shown(const struct family *f)
{
    const struct tm_metric *s = f->first;
    while (s && s->hidden)
        s = s->next;
    return s;
}

int tm_metrics_render(struct tm_metrics *m, struct tm_buf *out)
{
    static const char *const types[] = {"counter", "gauge", "histogram"};
    int rc = TM_OK;
    pthread_mutex_lock(&m->lock);
    for (struct family *f = m->families; !rc && f; f = f->next) {
        if (!is_shown(f))
            continue;
        rc = render_help(out, f);
        rc = rc ? rc : tm_buf_printf(out, "\n# TYPE %s %s\n", f->name, types[f->kind]);
        for (struct tm_metric *s = f->first; !rc && s; s = s->next)
            rc = s->hidden ? TM_OK : render_series(out, f, s);
    }
    pthread_mutex_unlock(&m->lock);
    return rc;
}
