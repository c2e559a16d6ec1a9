#include "control/state.h"

#include "base/clock.h"
#include "control/state_private.h"
#include "engine/health.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct tm_state *tm_state_create(struct tm_daemon *d)
{
    struct tm_state *s = calloc(1, sizeof *s);
    TM_FATAL_UNLESS(s);
    s->d = d;
    s->id = strdup(d->config->id);
    s->path = strdup(d->path);
    TM_FATAL_UNLESS(s->id && s->path);
    s->history = tm_history_create();
    pthread_mutex_init(&s->lock, NULL);
    return s;
}

void tm_state_destroy(struct tm_state *s)
{
    if (!s)
        return;
    pthread_mutex_destroy(&s->lock);
    tm_history_destroy(s->history);
    tm_buf_fini(&s->policy);
    tm_buf_fini(&s->policy_next);
    free(s->id);
    free(s->path);
    free(s);
}

void tm_state_take_policy(struct tm_state *s)
{
    tm_buf_clear(&s->policy_next);
    if (tm_daemon_put_policy(s->d, &s->policy_next))
        return; /* no memory: what was told before still holds */
    pthread_mutex_lock(&s->lock);
    struct tm_buf before = s->policy;
    s->policy = s->policy_next;
    s->policy_next = before;
    s->policy_us = tm_clock_mono_us();
    pthread_mutex_unlock(&s->lock);
}

void tm_state_sample(struct tm_state *s)
{
    int64_t now_us = tm_clock_mono_us();
    pthread_mutex_lock(&s->lock);
    if (s->d->services.gatherer)
        tm_state_sample_gatherer(s, now_us);
    else
        tm_state_sample_deduplicator(s, now_us);
    tm_history_turn(s->history);
    pthread_mutex_unlock(&s->lock);
}

/* ---- pieces ---- */

void tm_state_add_light(struct tm_json *j, enum tm_state_light light, const char *why)
{
    static const char *const names[] = {"green", "amber", "red", "grey"};
    tm_json_add(j, ",\"light\":\"%s\",", names[light]);
    tm_json_add_string(j, "why", why);
}

void tm_state_add_rate(struct tm_json *j, const struct tm_state *s, const char *name, const char *counter)
{
    tm_json_add(j, ",\"%s\":%.1f", name, tm_history_rate(s->history, counter, TM_STATE_RATE_S));
}

static void add_episode(struct tm_json *j, const struct tm_gap_episode *e, bool first)
{
    tm_json_add(j, "%s{", first ? "" : ",");
    tm_json_add_string(j, "lane", e->lane);
    tm_json_add(j, ",");
    tm_json_add_string(j, "reason", e->reason);
    tm_json_add(j, ",\"from_ms\":%" PRId64 ",\"to_ms\":%" PRId64 ",\"gaps\":%zu,\"records\":%" PRId64 "}",
                e->from_us / TM_US_PER_MS, e->to_us / TM_US_PER_MS, e->gaps, e->records);
}

void tm_state_take_episodes(struct tm_state *s, size_t count)
{
    s->episode_count = tm_gap_episodes(s->gaps, count, s->episodes, TM_STATE_EPISODES_MAX);
}

void tm_state_add_gaps(struct tm_json *j, const struct tm_state *s)
{
    tm_json_add(j, ",\"gaps\":[");
    for (size_t i = 0; i < s->episode_count; i++)
        add_episode(j, &s->episodes[i], i == 0);
    tm_json_add(j, "]");
}

static void add_up(void *arg, const struct tm_metric *metric, const char *labels, double value)
{
    (void)metric;
    (void)labels;
    *(double *)arg += value;
}

double tm_state_metric(const struct tm_state *s, const char *name)
{
    double sum = 0;
    tm_metrics_each(s->d->services.metrics, name, add_up, &sum);
    return sum;
}

/* ---- the document ---- */

static void add_health(struct tm_json *j, struct tm_daemon *d)
{
    tm_json_add(j, ",\"health\":");
    if (j->rc)
        return;
    if (d->services.gatherer)
        (void)tm_health_gatherer(d->services.gatherer, tm_admin_policy(d->admin), j->out);
    else
        (void)tm_health_deduplicator(d->deduplicator, tm_admin_policy(d->admin), j->out);
    while (j->out->len && j->out->data[j->out->len - 1] == '\n')
        j->out->len--; /* of /health's answer; ours is one line */
}

static void add_process(struct tm_json *j, struct tm_daemon *d)
{
    tm_process_update(&d->process);
    tm_json_add(j, ",\"process\":{\"uptime_s\":%.0f,\"resident_bytes\":%.0f,\"open_fds\":%.0f,\"cpu_s\":%.1f}",
                tm_metric_get(d->process.uptime), tm_metric_get(d->process.resident), tm_metric_get(d->process.fds),
                tm_metric_get(d->process.cpu));
}

static void add_policy(struct tm_json *j, const struct tm_state *s)
{
    if (!j->rc)
        j->rc = tm_buf_append(j->out, s->policy.data, s->policy.len);
    tm_json_add(j, ",\"policy_age_ms\":%" PRId64,
                s->policy_us ? (tm_clock_mono_us() - s->policy_us) / TM_US_PER_MS : -1);
}

static void add_head(struct tm_json *j, const struct tm_state *s)
{
    tm_json_add(j, "{");
    tm_json_add_string(j, "role", s->d->services.gatherer ? "gatherer" : "deduplicator");
    tm_json_add(j, ",");
    tm_json_add_string(j, "id", s->id);
    tm_json_add(j, ",");
    tm_json_add_string(j, "version", s->d->version);
    tm_json_add(j, ",");
    tm_json_add_string(j, "script", s->path);
    tm_json_add(j, ",\"at_ms\":%" PRId64, tm_clock_wall_us() / TM_US_PER_MS);
}

static void add_all(struct tm_json *j, struct tm_state *s, bool with_history)
{
    add_head(j, s);
    add_health(j, s->d);
    if (s->d->services.gatherer)
        tm_state_put_gatherer(s, j);
    else
        tm_state_put_deduplicator(s, j);
    tm_json_add(j, ",\"seen\":{\"keys\":%.0f,\"bytes\":%.0f}", tm_state_metric(s, "tidemill_seen_keys"),
                tm_state_metric(s, "tidemill_seen_bytes"));
    add_policy(j, s);
    add_process(j, s->d);
    tm_json_add(j, ",\"figures\":");
    if (!j->rc)
        j->rc = tm_history_put_latest(s->history, j->out);
    if (with_history) {
        tm_json_add(j, ",\"history\":");
        if (!j->rc)
            j->rc = tm_history_put(s->history, j->out);
    }
    tm_json_add(j, "}");
}

int tm_state_put(struct tm_state *s, bool with_history, struct tm_buf *out)
{
    struct tm_json j = {.out = out};
    pthread_mutex_lock(&s->lock);
    add_all(&j, s, with_history);
    pthread_mutex_unlock(&s->lock);
    return j.rc;
}
