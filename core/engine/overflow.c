#include "engine/overflow.h"
#include "base/clock.h"
#include "base/log.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CONNECT_US (5 * TM_US_PER_S)
#define STATEMENT_US (3600 * TM_US_PER_S)

struct tm_overflow {
    struct tm_metrics *metrics;
    struct tm_metric *errors;
    char gatherer[64];
    pthread_t thread;
    struct tm_stop stop;
    pthread_mutex_t lock;
    pthread_cond_t offered;
    bool closing;
    enum tm_overflow_state state;
    /* the offer; constant while busy */
    char *conninfo;
    struct tm_arena *arena;
    struct tm_archive_settings settings;
    const struct tm_plan *plan; /* held */
    struct tm_unsynced job;
    struct tm_unsynced_done done;
};

static void clear_offer(struct tm_overflow *o)
{
    free(o->conninfo);
    if (o->arena)
        tm_arena_destroy(o->arena);
    tm_plan_put(o->plan);
    o->conninfo = NULL;
    o->arena = NULL;
    o->plan = NULL;
}

static struct tm_metric *counter_of(struct tm_overflow *o, const char *name, const char *help)
{
    char labels[96];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", o->job.stream->name);
    return tm_metrics_counter(o->metrics, name, help, labels);
}

static int archive(struct tm_overflow *o, struct tm_error *err)
{
    struct tm_pg *pg = NULL;
    struct tm_target *target = NULL;
    struct tm_pg_options options = {.conninfo = o->conninfo,
                                    .application_name = "tidemill archive",
                                    .stop = &o->stop,
                                    .connect_us = CONNECT_US,
                                    .statement_us = STATEMENT_US};
    struct tm_target_options where = {
        .url = o->settings.to, .credentials = o->settings.credentials, .stop = &o->stop.stopped};
    int rc = tm_target_open(&where, &target, err);
    rc = rc ? rc : tm_pg_connect(&options, &pg, err);
    rc = rc ? rc : tm_unsynced_archive(pg, target, &o->job, &o->done, err);
    tm_pg_close(pg);
    tm_target_close(target);
    return rc;
}

static void tell(struct tm_overflow *o, int rc, const struct tm_error *err)
{
    if (rc == TM_ESTOPPED)
        return;
    if (rc) {
        tm_metric_add(o->errors, 1);
        tm_log(TM_LOG_ERROR, "archive", "rows that have to leave the store could not be archived",
               TM_F_STR("partition", o->job.part.table), TM_F_ERR(err));
        return;
    }
    tm_metric_add(counter_of(o, "export_rows_total", "Rows written to the archive."), o->done.rows);
    tm_metric_add(counter_of(o, "export_bytes_total", "Bytes of objects written to the archive."), o->done.bytes);
    tm_log(TM_LOG_WARN, "archive", "rows that have to leave the store are in the archive",
           TM_F_STR("partition", o->job.part.table), TM_F_U64("rows", o->done.rows),
           TM_F_STR("manifest", o->done.manifest));
}

static void *overflow_main(void *arg)
{
    struct tm_overflow *o = arg;
    pthread_setname_np(pthread_self(), "archive");
    pthread_mutex_lock(&o->lock);
    for (;;) {
        while (!o->closing && o->state != TM_OVERFLOW_BUSY)
            pthread_cond_wait(&o->offered, &o->lock);
        if (o->closing)
            break;
        pthread_mutex_unlock(&o->lock);
        struct tm_error err;
        int rc = archive(o, &err);
        tell(o, rc, &err);
        pthread_mutex_lock(&o->lock);
        o->state = rc ? TM_OVERFLOW_FAILED : TM_OVERFLOW_DONE;
    }
    pthread_mutex_unlock(&o->lock);
    return NULL;
}

int tm_overflow_start(struct tm_metrics *metrics, const char *gatherer, struct tm_overflow **out, struct tm_error *err)
{
    struct tm_overflow *o = calloc(1, sizeof *o);
    TM_FATAL_UNLESS(o);
    o->metrics = metrics;
    o->errors =
        tm_metrics_counter(metrics, "export_errors_total",
                           "Exports that failed, by where; objects that are not what they were.", "type=\"archive\"");
    (void)snprintf(o->gatherer, sizeof o->gatherer, "%s", gatherer);
    TM_FATAL_UNLESS(tm_stop_init(&o->stop) == TM_OK);
    pthread_mutex_init(&o->lock, NULL);
    pthread_cond_init(&o->offered, NULL);
    if (pthread_create(&o->thread, NULL, overflow_main, o)) {
        tm_stop_fini(&o->stop);
        free(o);
        return tm_error_set(err, TM_ENOMEM, "cannot start the archive's thread");
    }
    *out = o;
    return TM_OK;
}

void tm_overflow_stop(struct tm_overflow *o)
{
    if (!o)
        return;
    tm_stop_request(&o->stop);
    pthread_mutex_lock(&o->lock);
    o->closing = true;
    pthread_cond_signal(&o->offered);
    pthread_mutex_unlock(&o->lock);
    pthread_join(o->thread, NULL);
    clear_offer(o);
    tm_stop_fini(&o->stop);
    pthread_cond_destroy(&o->offered);
    pthread_mutex_destroy(&o->lock);
    free(o);
}

void tm_overflow_offer(struct tm_overflow *o, const char *conninfo, const struct tm_archive_settings *settings,
                       const struct tm_stream *stream, const struct tm_retention_part *part)
{
    pthread_mutex_lock(&o->lock);
    TM_FATAL_UNLESS(o->state != TM_OVERFLOW_BUSY);
    clear_offer(o);
    o->conninfo = strdup(conninfo);
    TM_FATAL_UNLESS(o->conninfo);
    o->arena = tm_arena_create();
    o->settings = tm_archive_settings_copy(settings, o->arena);
    o->plan = tm_plan_take(stream->plan);
    o->job = (struct tm_unsynced){.stream = stream, .gatherer = o->gatherer, .part = *part};
    o->state = TM_OVERFLOW_BUSY;
    pthread_cond_signal(&o->offered);
    pthread_mutex_unlock(&o->lock);
}

enum tm_overflow_state tm_overflow_look(struct tm_overflow *o, const struct tm_retention_part *part,
                                        struct tm_unsynced_done *out)
{
    pthread_mutex_lock(&o->lock);
    enum tm_overflow_state state = o->state;
    bool same =
        state == TM_OVERFLOW_BUSY ||
        (state != TM_OVERFLOW_IDLE && strcmp(o->job.part.table, part->table) == 0 && o->job.part.last == part->last);
    if (same && state == TM_OVERFLOW_DONE)
        *out = o->done;
    pthread_mutex_unlock(&o->lock);
    return same ? state : TM_OVERFLOW_IDLE;
}
