#include "control/figures.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/trend.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SUBJECTS (TM_FIGURES_LINKS > TM_WATCH_GATHERERS_MAX ? TM_FIGURES_LINKS : TM_WATCH_GATHERERS_MAX)
#define FIGURES 7 /* of a subject, at most */

/* A connection or a gatherer, with its series. */
struct subject {
    char name[96];
    struct tm_metric *metrics[FIGURES];
    uint64_t round; /* in which it was last there */
};

struct tm_figures {
    struct tm_metrics *metrics;
    struct tm_clock_watch clock;
    struct tm_metric *clock_steps, *clock_step;
    struct tm_metric *disk_free, *disk_left, *journal_bytes, *journal_bytes_max;
    struct tm_metric *durable_age, *message_age, *commit_age;
    struct tm_trend disk;
    struct subject subjects[SUBJECTS];
    size_t subject_count;
    uint64_t round;
};

/* What is told of each subject. A label of its own makes several series of one name. */
struct figure {
    enum tm_metric_kind kind;
    const char *name, *label, *help;
};

static const struct figure of_link[] = {
    {TM_METRIC_GAUGE, "ws_connection_up", "", "1 while the WebSocket connection is up."},
    {TM_METRIC_COUNTER, "ws_connection_messages_total", "", "Messages received on the connection."},
    {TM_METRIC_GAUGE, "ws_connection_last_message_timestamp_seconds", "",
     "When the connection's last message came, Unix time."},
};

static const struct figure of_gatherer[] = {
    {TM_METRIC_COUNTER, "dedup_gatherer_rows_total", "result=\"first\"",
     "Rows of a gatherer that were decided: it brought them first, or production had them already, or cannot take them."},
    {TM_METRIC_COUNTER, "dedup_gatherer_rows_total", "result=\"duplicate\"", ""},
    {TM_METRIC_COUNTER, "dedup_gatherer_rows_total", "result=\"quarantined\"", ""},
    {TM_METRIC_GAUGE, "dedup_gatherer_lag_seconds", "",
     "Age of the oldest row that was read from the gatherer and is not in production."},
    {TM_METRIC_GAUGE, "dedup_gatherer_last_row_timestamp_seconds", "",
     "When the newest row that came from the gatherer had arrived there, Unix time."},
    {TM_METRIC_COUNTER, "dedup_gatherer_sampled_records_total", "",
     "Records of a sample, one in 64, that the gatherer brought within a minute of the first to bring them."},
    {TM_METRIC_COUNTER, "dedup_gatherer_sampled_unique_records_total", "",
     "Of the sampled records that the gatherer brought, those that no other gatherer brought: its unique contribution."},
};

struct tm_figures *tm_figures_create(struct tm_metrics *m, bool is_gatherer, const char *id, const char *version)
{
    char labels[256];
    struct tm_figures *f = calloc(1, sizeof *f);
    TM_FATAL_UNLESS(f);
    f->metrics = m;
    (void)snprintf(labels, sizeof labels, "id=\"%.63s\",role=\"%s\",version=\"%.32s\"", id,
                   is_gatherer ? "gatherer" : "deduplicator", version);
    tm_metric_set(tm_metrics_gauge(m, "tidemill_info", "Always 1: who this is.", labels), 1);
    f->clock_steps = tm_metrics_counter(m, "tidemill_clock_steps_total",
                                        "How often the wall clock was set by half a second or more.", NULL);
    f->clock_step = tm_metrics_gauge(m, "tidemill_clock_step_seconds",
                                     "By how much the wall clock was last set; 0: it never was.", NULL);
    if (!is_gatherer) {
        f->commit_age = tm_metrics_gauge(m, "dedup_last_commit_age_seconds",
                                         "Since the last transaction in production, or the start.", NULL);
        return f;
    }
    f->disk_free =
        tm_metrics_gauge(m, "tidemill_disk_free_bytes", "Free on the file system of the data directory.", NULL);
    f->disk_left = tm_metrics_gauge(m, "tidemill_disk_left_seconds",
                                    "Until that file system is full, if it goes on as over the last hour.", NULL);
    f->journal_bytes = tm_metrics_gauge(m, "tidemill_journal_bytes", "Size of the journal.", NULL);
    f->journal_bytes_max = tm_metrics_gauge(m, "tidemill_journal_bytes_max", "The bound of the journal.", NULL);
    f->durable_age =
        tm_metrics_gauge(m, "tidemill_last_durable_age_seconds",
                         "Since a record was last made durable, or the start; /health is about this.", NULL);
    f->message_age = tm_metrics_gauge(m, "tidemill_last_message_age_seconds",
                                      "Since the exchange last sent a message, or the start.", NULL);
    return f;
}

void tm_figures_destroy(struct tm_figures *f)
{
    free(f);
}

void tm_figures_clock(struct tm_figures *f, int64_t mono_us, int64_t wall_us)
{
    int64_t step_us = tm_clock_watch_look(&f->clock, mono_us, wall_us);
    if (!step_us)
        return;
    tm_metric_add(f->clock_steps, 1);
    tm_metric_set(f->clock_step, (double)step_us / 1e6);
    TM_LOG_LIMITED(TM_LOG_WARN, "watch", "the wall clock was set: times of arrival jump, order and cursors do not",
                   TM_F_I64("step_ms", step_us / TM_US_PER_MS));
}

/* ---- subjects ---- */

static void make_series(struct tm_figures *f, struct subject *s, const char *label, const struct figure *figures,
                        size_t count)
{
    struct tm_buf labels = {0};
    for (size_t i = 0; i < count; i++) {
        tm_buf_clear(&labels);
        int rc = tm_buf_printf(&labels, "%s=\"", label);
        rc = rc ? rc : tm_metric_escape_label(&labels, s->name, strlen(s->name));
        rc = rc ? rc : tm_buf_printf(&labels, "\"%s%s", *figures[i].label ? "," : "", figures[i].label);
        const char *text = rc ? NULL : tm_buf_cstr(&labels);
        s->metrics[i] = tm_metrics_bounded(f->metrics, figures[i].kind, figures[i].name, figures[i].help,
                                           text ? text : "", NULL, 0, NULL);
    }
    tm_buf_fini(&labels);
}

/* NULL: there are too many. */
static struct subject *subject_of(struct tm_figures *f, const char *name, const char *label,
                                  const struct figure *figures, size_t count, size_t max)
{
    struct subject *s = NULL;
    for (size_t i = 0; i < f->subject_count && !s; i++)
        if (strcmp(f->subjects[i].name, name) == 0)
            s = &f->subjects[i];
    if (!s && f->subject_count == max)
        return NULL;
    if (!s) {
        s = &f->subjects[f->subject_count++];
        (void)snprintf(s->name, sizeof s->name, "%s", name);
        make_series(f, s, label, figures, count);
    }
    s->round = f->round;
    return s;
}

static void set(const struct subject *s, size_t figure, double value)
{
    if (s->metrics[figure])
        tm_metric_set(s->metrics[figure], value);
}

static void forget_gone(struct tm_figures *f)
{
    size_t kept = 0;
    for (size_t i = 0; i < f->subject_count; i++) {
        struct subject *s = &f->subjects[i];
        for (size_t k = 0; k < FIGURES && s->round != f->round; k++)
            if (s->metrics[k])
                tm_metric_hide(s->metrics[k]);
        if (s->round == f->round)
            f->subjects[kept++] = *s;
    }
    memset(&f->subjects[kept], 0, (f->subject_count - kept) * sizeof *f->subjects);
    f->subject_count = kept;
}

/* ---- roles ---- */

void tm_figures_gatherer(struct tm_figures *f, const struct tm_watch_snapshot *snapshot,
                         const struct tm_gatherer_stats *stats)
{
    f->round++;
    for (size_t i = 0; i < snapshot->link_count; i++) {
        const struct tm_watch_link *link = &snapshot->links[i];
        const struct subject *s =
            subject_of(f, link->name, "connection", of_link, sizeof of_link / sizeof *of_link, TM_FIGURES_LINKS);
        if (!s)
            continue;
        set(s, 0, link->up);
        set(s, 1, (double)link->messages);
        set(s, 2, (double)link->last_message_us / 1e6);
    }
    forget_gone(f);
    if (snapshot->disk_known) {
        tm_trend_add(&f->disk, snapshot->now_us, (double)snapshot->disk_free_bytes);
        tm_metric_set(f->disk_free, (double)snapshot->disk_free_bytes);
    }
    tm_metric_set(f->disk_left, tm_trend_seconds_left(&f->disk));
    tm_metric_set(f->journal_bytes, (double)snapshot->journal_bytes);
    tm_metric_set(f->journal_bytes_max, (double)snapshot->journal_bytes_max);
    tm_metric_set(f->durable_age, (double)stats->last_durable_age_us / 1e6);
    tm_metric_set(f->message_age, (double)stats->last_message_age_us / 1e6);
}

void tm_figures_deduplicator(struct tm_figures *f, const struct tm_watch_snapshot *snapshot,
                             const struct tm_deduplicator_stats *stats,
                             const struct tm_deduplicator_gatherer_stats *peers)
{
    f->round++;
    for (size_t i = 0; i < snapshot->peer_count; i++) {
        const struct tm_deduplicator_gatherer_stats *p = &peers[i];
        const struct subject *s = subject_of(f, p->id, "gatherer", of_gatherer,
                                             sizeof of_gatherer / sizeof *of_gatherer, TM_WATCH_GATHERERS_MAX);
        if (!s)
            continue;
        set(s, 0, (double)p->written);
        set(s, 1, (double)p->duplicate);
        set(s, 2, (double)p->quarantined);
        set(s, 3, (double)p->lag_us / 1e6);
        set(s, 4, (double)p->last_row_us / 1e6);
        set(s, 5, (double)p->sampled);
        set(s, 6, (double)p->sampled_alone);
    }
    forget_gone(f);
    int64_t since_us = stats->last_commit_us ? stats->last_commit_us : stats->started_us;
    tm_metric_set(f->commit_age, (double)(snapshot->now_us - since_us) / 1e6);
}
