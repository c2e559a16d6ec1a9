#include "script/callback.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kind_names[TM_CALLBACK_KINDS] = {"event", "timer", "routine", "task"};

const char *tm_callback_kind_name(enum tm_callback_kind kind)
{
    return kind_names[kind];
}

int tm_callback_kind_parse(const char *name, enum tm_callback_kind *out)
{
    for (int i = 0; i < TM_CALLBACK_KINDS; i++) {
        if (strcmp(kind_names[i], name) == 0) {
            *out = (enum tm_callback_kind)i;
            return TM_OK;
        }
    }
    return TM_EINVAL;
}

void tm_callbacks_start(struct tm_callbacks *c, struct tm_metrics *metrics)
{
    for (int i = 0; i < TM_CALLBACK_KINDS; i++) {
        char labels[32];
        (void)snprintf(labels, sizeof labels, "kind=\"%s\"", kind_names[i]);
        c->failed[i] = tm_metrics_counter(metrics, "tidemill_callback_failures_total",
                                          "Runs of the script's functions that ended with an error", labels);
    }
    c->disabled_gauge = tm_metrics_gauge(metrics, "tidemill_callbacks_disabled",
                                         "Handlers and timers that failed too often in a row and are not run", NULL);
    tm_metric_set(c->disabled_gauge, (double)c->disabled);
}

void tm_callbacks_fini(struct tm_callbacks *c)
{
    while (c->first) {
        struct tm_callback *next = c->first->next;
        free(c->first);
        c->first = next;
    }
    *c = (struct tm_callbacks){0};
}

static struct tm_callback **bucket_of(struct tm_callbacks *c, const char *name)
{
    uint32_t hash = 2166136261U; /* FNV-1a */
    for (; *name; name++)
        hash = (hash ^ (unsigned char)*name) * 16777619U;
    return &c->buckets[hash % TM_CALLBACK_BUCKETS];
}

static struct tm_callback *add(struct tm_callbacks *c, struct tm_callback **bucket, const char *name)
{
    struct tm_callback *callback = c->count < TM_CALLBACKS_MAX ? calloc(1, sizeof *callback) : NULL;
    if (!callback)
        return NULL;
    callback->kind = TM_CALLBACK_TASK;
    (void)snprintf(callback->name, sizeof callback->name, "%s", name);
    callback->next_in_bucket = *bucket;
    *bucket = callback;
    if (c->last)
        c->last->next = callback;
    else
        c->first = callback;
    c->last = callback;
    c->count++;
    return callback;
}

struct tm_callback *tm_callback_get(struct tm_callbacks *c, const char *name)
{
    char cut[TM_CALLBACK_NAME_MAX];
    (void)snprintf(cut, sizeof cut, "%s", name);
    struct tm_callback **bucket = bucket_of(c, cut), *at = *bucket;
    while (at && strcmp(at->name, cut) != 0)
        at = at->next_in_bucket;
    return at ? at : add(c, bucket, cut);
}

bool tm_callback_may_run(struct tm_callback *callback)
{
    if (!callback || !callback->disabled)
        return true;
    callback->skipped++;
    return false;
}

static void disable(struct tm_callbacks *c, struct tm_callback *callback)
{
    callback->disabled = true;
    c->disabled++;
    if (c->disabled_gauge)
        tm_metric_set(c->disabled_gauge, (double)c->disabled);
    tm_log(TM_LOG_ERROR, "script", "callback disabled until the next reload: it keeps failing",
           TM_F_STR("callback", callback->name), TM_F_U64("failures_in_a_row", callback->streak),
           TM_F_STR("last_error", callback->last_error));
}

void tm_callback_note(struct tm_callbacks *c, struct tm_callback *callback, const struct tm_error *err)
{
    struct tm_metric *failed = c->failed[callback ? callback->kind : TM_CALLBACK_TASK];
    if (err && failed)
        tm_metric_add(failed, 1);
    if (!callback)
        return;
    callback->runs++;
    if (!err) {
        callback->streak = 0;
        return;
    }
    callback->failures++;
    callback->streak++;
    (void)snprintf(callback->last_error, sizeof callback->last_error, "%.255s", err->message);
    if (callback->limit && callback->streak >= callback->limit && !callback->disabled)
        disable(c, callback);
}
