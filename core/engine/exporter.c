#include "engine/exporter.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/dedup_private.h"
#include "engine/refill.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define EVERY_US (2 * TM_US_PER_S)
#define AFTER_FAILURE_US (15 * TM_US_PER_S)
#define CONNECT_US (5 * TM_US_PER_S)
#define SWEEP_EVERY_US (3600 * TM_US_PER_S)
#define SWEEP_AGE_US (24 * 3600 * TM_US_PER_S)

struct tm_exporter {
    struct tm_deduplicator *d;
    pthread_t thread;
    struct tm_stop stop;
    struct tm_pg *pg;
    struct tm_target *target;
    char *to, *credentials; /* of the target */
    int64_t swept_us;       /* monotonic */
    bool failed;            /* the last look */
    struct tm_metric *errors[TM_EXPORT_FAULTS], *duration;
};

static bool is_merging(struct tm_exporter *x)
{
    pthread_mutex_lock(&x->d->lock);
    bool merging = x->d->generation != 0 && x->d->stats.lease == TM_LEASE_HELD;
    pthread_mutex_unlock(&x->d->lock);
    return merging;
}

/* ---- where from and where to ---- */

static void disconnect(struct tm_exporter *x)
{
    tm_pg_close(x->pg);
    tm_target_close(x->target);
    free(x->to);
    free(x->credentials);
    x->pg = NULL;
    x->target = NULL;
    x->to = x->credentials = NULL;
}

static char *copy_of(const char *text)
{
    char *copy = strdup(text ? text : "");
    TM_FATAL_UNLESS(copy);
    return copy;
}

static bool is_same(const char *a, const char *b)
{
    return strcmp(a ? a : "", b ? b : "") == 0;
}

static int open_target(struct tm_exporter *x, const struct tm_archive_settings *s, struct tm_error *err)
{
    struct tm_target_options options = {.url = s->to, .credentials = s->credentials, .stop = &x->stop.stopped};
    x->to = copy_of(s->to);
    x->credentials = copy_of(s->credentials);
    return tm_target_open(&options, &x->target, err);
}

static int connect_to(struct tm_exporter *x, const struct tm_deduplicator_options *o, enum tm_export_fault *fault,
                      struct tm_error *err)
{
    if (tm_pg_is_open_by(x->pg, o->production) && x->target && is_same(x->to, o->archive.to) &&
        is_same(x->credentials, o->archive.credentials))
        return TM_OK;
    disconnect(x);
    struct tm_pg_options options = {.conninfo = o->production,
                                    .application_name = "tidemill archive",
                                    .stop = &x->stop,
                                    .connect_us = CONNECT_US,
                                    .statement_us = TM_EXPORT_STATEMENT_US,
                                    .writes = true};
    *fault = TM_EXPORT_PRODUCTION;
    int rc = tm_pg_connect(&options, &x->pg, err);
    if (rc)
        return rc;
    *fault = TM_EXPORT_ARCHIVE;
    return open_target(x, &o->archive, err);
}

/* ---- a step ---- */

static struct tm_metric *counter_of(struct tm_exporter *x, const char *name, const char *help, const char *stream)
{
    char labels[96];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", stream);
    return tm_metrics_counter(x->d->metrics, name, help, labels);
}

static void tell(struct tm_exporter *x, const struct tm_stream *stream, const struct tm_export_step *step)
{
    char from[TM_PERIOD_TEXT];
    tm_metric_add(counter_of(x, "export_rows_total", "Rows written to the archive.", stream->name), step->rows);
    tm_metric_add(counter_of(x, "export_bytes_total", "Bytes of objects written to the archive.", stream->name),
                  step->bytes);
    tm_metric_add(counter_of(x, "export_objects_total", "Objects written to the archive.", stream->name),
                  step->objects);
    tm_metric_add(x->errors[TM_EXPORT_DAMAGED], step->damaged);
    tm_metric_observe_us(x->duration, step->took_us);
    if (step->damaged)
        tm_log(TM_LOG_ERROR, "archive",
               "objects are missing or not what their manifests promise; their rows are written again",
               TM_F_STR("stream", stream->name), TM_F_STR("from", tm_period_text(step->period.from_us, from)),
               TM_F_U64("objects", step->damaged));
    if (step->rows)
        tm_log(TM_LOG_INFO, "archive", step->late ? "late rows are in the archive" : "a period is in the archive",
               TM_F_STR("stream", stream->name), TM_F_STR("from", tm_period_text(step->period.from_us, from)),
               TM_F_U64("rows", step->rows), TM_F_U64("bytes", step->bytes));
}

static void note_lag(struct tm_exporter *x, const struct tm_stream *stream, int64_t lag_us)
{
    char labels[96];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", stream->name);
    tm_metric_set(tm_metrics_gauge(x->d->metrics, "export_lag_seconds",
                                   "How long the next period of the archive is overdue; 0: none is due.", labels),
                  (double)lag_us / 1e6);
}

static void fail(struct tm_exporter *x, const char *what, enum tm_export_fault fault, const struct tm_error *err)
{
    tm_metric_add(x->errors[fault], 1);
    TM_LOG_LIMITED(fault == TM_EXPORT_ARCHIVE ? TM_LOG_ERROR : TM_LOG_WARN, "archive",
                   "an export failed and is tried again", TM_F_STR("what", what), TM_F_ERR(err));
    x->failed = true;
}

/* A stream that cannot be exported does not keep the others waiting. 1: there may be more to do. */
static int export_stream(struct tm_exporter *x, const struct tm_export_sink *sink, const struct tm_stream *stream)
{
    struct tm_export_step step;
    struct tm_error err;
    if (!tm_archive_length_us(sink->settings, stream))
        return 0;
    int rc = tm_export_step(sink, stream, &step, &err);
    if (rc >= 0 || step.lag_us)
        note_lag(x, stream, step.lag_us);
    if (rc > 0)
        tell(x, stream, &step);
    if (rc < 0 && rc != TM_ESTOPPED)
        fail(x, stream->name, step.fault, &err);
    return rc > 0;
}

static void sweep(struct tm_exporter *x)
{
    struct tm_error err;
    size_t removed = 0;
    int64_t now_us = tm_clock_mono_us();
    if (x->swept_us && now_us - x->swept_us < SWEEP_EVERY_US)
        return;
    x->swept_us = now_us;
    if (tm_target_sweep(x->target, SWEEP_AGE_US, &removed, &err))
        TM_LOG_LIMITED(TM_LOG_WARN, "archive", "remains of unfinished uploads were not removed", TM_F_ERR(&err));
    else if (removed)
        tm_log(TM_LOG_INFO, "archive", "remains of unfinished uploads were removed", TM_F_U64("count", removed));
}

static bool bring_back(struct tm_exporter *x, const struct tm_export_sink *sink, const struct tm_plan *plan)
{
    struct tm_error err;
    bool able = !x->failed && tm_pg_is_open(sink->pg) && is_merging(x);
    int rc = able ? tm_refill_step(sink, plan, &err) : 0;
    if (rc < 0 && rc != TM_ESTOPPED)
        fail(x, "restore", tm_pg_is_open(sink->pg) ? TM_EXPORT_ARCHIVE : TM_EXPORT_PRODUCTION, &err);
    return rc > 0;
}

/* All streams once; true: at once again. */
static bool look(struct tm_exporter *x, const struct tm_dedup_settings *settings)
{
    const struct tm_deduplicator_options *o = &settings->options;
    enum tm_export_fault fault;
    struct tm_error err;
    char identity[64];
    bool more = false;
    int rc = connect_to(x, o, &fault, &err);
    if (rc) {
        if (rc != TM_ESTOPPED)
            fail(x, o->archive.to, fault, &err);
        disconnect(x);
        return false;
    }
    pthread_mutex_lock(&x->d->lock);
    (void)snprintf(identity, sizeof identity, "%s", x->d->stats.identity);
    pthread_mutex_unlock(&x->d->lock);
    struct tm_export_sink sink = {.pg = x->pg, .target = x->target, .settings = &o->archive, .production = identity};
    for (size_t i = 0; i < tm_plan_stream_count(o->plan) && tm_pg_is_open(x->pg) && is_merging(x); i++)
        more |= export_stream(x, &sink, tm_plan_stream(o->plan, i)) > 0;
    more |= bring_back(x, &sink, o->plan);
    sweep(x);
    return more && !x->failed;
}

static void *exporter_main(void *arg)
{
    struct tm_exporter *x = arg;
    int64_t pause_us = EVERY_US;
    pthread_setname_np(pthread_self(), "archive");
    while (tm_stop_wait(&x->stop, pause_us) == TM_OK) {
        struct tm_dedup_settings *settings = tm_dedup_settings_newest(x->d);
        x->failed = false;
        bool wanted = settings->options.archive.to && is_merging(x);
        bool more = wanted && look(x, settings);
        tm_dedup_settings_put(settings);
        if (!wanted)
            disconnect(x);
        pause_us = more ? 0 : x->failed ? AFTER_FAILURE_US : EVERY_US;
    }
    disconnect(x);
    return NULL;
}

/* ---- start and stop ---- */

int tm_exporter_start(struct tm_deduplicator *d, struct tm_exporter **out, struct tm_error *err)
{
    static const char *const faults[] = {"type=\"production\"", "type=\"archive\"", "type=\"damaged\""};
    struct tm_exporter *x = calloc(1, sizeof *x);
    TM_FATAL_UNLESS(x);
    x->d = d;
    TM_FATAL_UNLESS(tm_stop_init(&x->stop) == TM_OK);
    for (size_t i = 0; i < TM_EXPORT_FAULTS; i++)
        x->errors[i] =
            tm_metrics_counter(d->metrics, "export_errors_total",
                               "Exports that failed, by where; objects that are not what they were.", faults[i]);
    x->duration = tm_metrics_histogram(d->metrics, "export_duration_seconds", "Of one period into the archive.", NULL);
    if (pthread_create(&x->thread, NULL, exporter_main, x)) {
        tm_stop_fini(&x->stop);
        free(x);
        return tm_error_set(err, TM_ENOMEM, "cannot start the archive's thread");
    }
    *out = x;
    return TM_OK;
}

void tm_exporter_stop(struct tm_exporter *x)
{
    if (!x)
        return;
    tm_stop_request(&x->stop);
    pthread_join(x->thread, NULL);
    tm_stop_fini(&x->stop);
    free(x);
}
