/* What a running process tells about itself on the control socket. */

#include "control/daemon_private.h"

#include "base/json.h"
#include "control/look.h"
#include "engine/health.h"
#include "script/grant.h"
#include "script/routines.h"

#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

/* Appends until the first failure, which is kept. */
struct json {
    struct tm_buf *out;
    int rc;
};

static void TM_PRINTF(2, 3) add(struct json *j, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (!j->rc)
        j->rc = tm_buf_append(j->out, text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1);
}

static void add_string(struct json *j, const char *name, const char *value)
{
    add(j, "\"%s\":", name);
    if (!j->rc)
        j->rc = tm_json_put_string(j->out, value ? value : "");
}

static void add_gatherer(struct json *j, struct tm_gatherer *g)
{
    struct tm_gatherer_stats s = tm_gatherer_stats(g);
    add(j,
        ",\"feed\":{\"links\":%zu,\"links_up\":%zu,\"frames\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"duplicates\":%" PRIu64
        ",\"unknown\":%" PRIu64 ",\"malformed\":%" PRIu64 ",\"discarded\":%" PRIu64 ",\"gaps\":%" PRIu64
        ",\"last_message_age_ms\":%" PRId64 "}",
        s.links, s.links_up, s.frames, s.rows, s.duplicates, s.unknown, s.malformed, s.discarded, s.gaps,
        s.last_message_age_us / 1000);
    add(j,
        ",\"journal\":{\"appended\":%" PRIu64 ",\"durable\":%" PRIu64 ",\"disk_bytes\":%" PRIu64
        ",\"disk_bytes_max\":%" PRIu64 ",\"last_durable_age_ms\":%" PRId64 ",\"stalled\":%s}",
        s.journal.appended, s.journal.durable, s.journal.disk_bytes, s.journal.disk_bytes_max,
        s.last_durable_age_us / 1000, s.journal.stalled ? "true" : "false");
    add(j,
        ",\"store\":{\"connected\":%s,\"rows\":%" PRIu64 ",\"batches\":%" PRIu64 ",\"errors\":%" PRIu64
        ",\"quarantined\":%" PRIu64 ",\"journal_lag_bytes\":%" PRIu64 ",",
        s.store.connected ? "true" : "false", s.store.rows, s.store.batches, s.store.errors, s.store.quarantined,
        s.store.journal_lag_bytes);
    add_string(j, "last_error", s.store.last_error);
    add(j, "}");
}

static void add_peer(struct json *j, const struct tm_deduplicator_gatherer_stats *g, bool first)
{
    add(j, "%s{", first ? "" : ",");
    add_string(j, "id", g->id);
    add(j, ",");
    add_string(j, "state", tm_peer_state_name(g->state));
    add(j,
        ",\"polled\":%" PRIu64 ",\"written\":%" PRIu64 ",\"duplicate\":%" PRIu64 ",\"quarantined\":%" PRIu64
        ",\"lag_ms\":%" PRId64 ",",
        g->polled, g->written, g->duplicate, g->quarantined, g->lag_us / 1000);
    add_string(j, "last_error", g->last_error);
    add(j, "}");
}

static void add_deduplicator(struct json *j, struct tm_deduplicator *d)
{
    struct tm_deduplicator_stats s = tm_deduplicator_stats(d);
    add(j,
        ",\"production\":{\"connected\":%s,\"transactions\":%" PRIu64 ",\"conflicts\":%" PRIu64 ",\"errors\":%" PRIu64
        ",\"lag_ms\":%" PRId64 ",",
        s.production_connected ? "true" : "false", s.transactions, s.conflicts, s.production_errors, s.lag_us / 1000);
    add_string(j, "last_error", s.last_error);
    add(j, "},\"catch_up\":{\"rows_behind\":%" PRIu64 ",\"rows_per_s\":%" PRIu64 ",\"left_s\":%" PRId64, s.rows_behind,
        s.rows_per_s, s.left_us / 1000000);
    add(j, "},\"lease\":{\"state\":\"%s\",\"takeovers\":%" PRIu64 ",", tm_lease_state_name(s.lease), s.takeovers);
    add_string(j, "holder", s.lease_holder);
    add(j, "},\"gatherers\":[");
    for (size_t i = 0; i < s.gatherer_count; i++) {
        struct tm_deduplicator_gatherer_stats g;
        if (tm_deduplicator_gatherer_stats(d, i, &g) == TM_OK)
            add_peer(j, &g, i == 0);
    }
    add(j, "]");
}

static void add_process(struct json *j, struct tm_daemon *d)
{
    tm_process_update(&d->process);
    add(j,
        ",\"process\":{\"uptime_s\":%.0f,\"resident_bytes\":%.0f,\"open_fds\":%.0f,\"cpu_s\":%.1f,"
        "\"script_bytes\":%zu}",
        tm_metric_get(d->process.uptime), tm_metric_get(d->process.resident), tm_metric_get(d->process.fds),
        tm_metric_get(d->process.cpu), tm_script_memory(d->script));
}

static void add_time(struct json *j, const char *name, int64_t wall_us)
{
    char text[32] = "";
    time_t s = (time_t)(wall_us / 1000000);
    struct tm utc;
    if (wall_us && gmtime_r(&s, &utc))
        (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    add_string(j, name, text);
}

static void add_policy(struct json *j, struct tm_daemon *d)
{
    struct tm_policy_status s = tm_policy_status(d->policy);
    add(j,
        ",\"policy\":{\"generation\":%" PRIu64 ",\"reloads\":%" PRIu64 ",\"reloads_failed\":%" PRIu64
        ",\"draining\":%zu,",
        s.generation, s.succeeded, s.failed, s.draining);
    add_time(j, "last_reload", s.last_us);
    add(j, ",\"last_result\":\"%s\",\"last_duration_ms\":%" PRId64 ",",
        !s.last_us  ? "none"
        : s.last_ok ? "success"
                    : "failure",
        s.last_duration_us / 1000);
    add_string(j, "last_error", s.last_error);
    add(j, "}");
}

/* What a script may use, and how its functions fare: the disabled ones first. */
#define CALLBACKS_SHOWN 200

static void add_callback(struct json *j, const struct tm_callback *c, bool first)
{
    add(j, "%s{", first ? "" : ",");
    add_string(j, "name", c->name);
    add(j,
        ",\"kind\":\"%s\",\"runs\":%" PRIu64 ",\"failures\":%" PRIu64 ",\"failures_in_a_row\":%u,\"disabled\":%s,"
        "\"skipped\":%" PRIu64 ",",
        tm_callback_kind_name(c->kind), c->runs, c->failures, c->streak, c->disabled ? "true" : "false", c->skipped);
    add_string(j, "last_error", c->last_error);
    add(j, "}");
}

static void add_callbacks(struct json *j, const struct tm_callbacks *callbacks)
{
    size_t shown = 0;
    add(j, ",\"callbacks\":[");
    for (int pass = 0; pass < 2; pass++)
        for (const struct tm_callback *c = callbacks->first; c && shown < CALLBACKS_SHOWN; c = c->next)
            if (c->disabled == (pass == 0))
                add_callback(j, c, shown++ == 0);
    add(j, "]");
}

static void add_limits(struct json *j, const struct tm_config *config)
{
    const struct tm_config_limits *l = &config->limits;
    add(j,
        ",\"limits\":{\"load_ms\":%" PRId64 ",\"step_ms\":%" PRId64 ",\"routine_ms\":%" PRId64 ",\"event_ms\":%" PRId64
        ",\"memory_bytes\":%zu,\"callback_failures\":%d,\"policy_stuck_ms\":%" PRId64 ",\"granted\":\"%s\"}",
        l->load_us / 1000, l->step_us / 1000, l->routine_us / 1000, l->event_us / 1000, l->memory_bytes,
        config->callback_failures, config->policy_stuck_us / 1000, tm_grant_names(tm_grants()));
}

static void add_health(struct json *j, struct tm_daemon *d)
{
    add(j, ",\"health\":");
    if (j->rc)
        return;
    if (d->services.gatherer)
        (void)tm_health_gatherer(d->services.gatherer, tm_admin_policy(d->admin), j->out);
    else
        (void)tm_health_deduplicator(d->deduplicator, tm_admin_policy(d->admin), j->out);
    while (j->out->len && j->out->data[j->out->len - 1] == '\n')
        j->out->len--; /* of /health's answer; ours is one line */
}

static void add_alert(struct json *j, const struct tm_alert_view *a, bool first)
{
    add(j, "%s{", first ? "" : ",");
    add_string(j, "name", a->name);
    add(j, ",");
    add_string(j, "state", tm_alert_state_name(a->state));
    add(j, ",");
    add_string(j, "severity", tm_alert_severity_name(a->severity));
    if (isfinite(a->value))
        add(j, ",\"value\":%.15g,", a->value);
    else
        add(j, ",\"value\":null,");
    add(j, "\"since_ms\":%" PRId64 ",", a->since_us / 1000);
    add_string(j, "summary", a->summary);
    add(j, "}");
}

static void add_alerts(struct json *j, const struct tm_alerts *alerts)
{
    add(j, ",\"alerts\":[");
    for (size_t i = 0; alerts && i < tm_alerts_count(alerts); i++) {
        struct tm_alert_view a;
        tm_alerts_get(alerts, i, &a);
        add_alert(j, &a, i == 0);
    }
    add(j, "]");
}

static void add_recovery(struct json *j, struct tm_daemon *d)
{
    if (!d->services.routines)
        return;
    add(j, ",\"recovery\":");
    if (!j->rc)
        j->rc = tm_routines_status(d->services.routines, j->out);
}

static int status(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)args;
    struct tm_daemon *d = context;
    struct json j = {.out = out};
    add(&j, "{");
    add_string(&j, "role", d->services.gatherer ? "gatherer" : "deduplicator");
    add(&j, ",");
    add_string(&j, "id", d->config->id);
    add(&j, ",");
    add_string(&j, "version", d->version);
    add(&j, ",");
    add_string(&j, "script", d->path);
    add_health(&j, d);
    if (d->services.gatherer)
        add_gatherer(&j, d->services.gatherer);
    else
        add_deduplicator(&j, d->deduplicator);
    add_policy(&j, d);
    add_recovery(&j, d);
    add_process(&j, d);
    add_limits(&j, d->config);
    add_callbacks(&j, tm_script_callbacks(d->script));
    add_alerts(&j, d->services.alerts);
    add(&j, "}");
    return j.rc ? tm_error_set(err, j.rc, "out of memory") : TM_OK;
}

static int version(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)args;
    (void)err;
    const struct tm_daemon *d = context;
    return tm_json_put_string(out, d->version);
}

static int ping(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)context;
    (void)args;
    (void)err;
    return tm_json_put_string(out, "pong");
}

const struct tm_command tm_daemon_commands[] = {
    {"changes", TM_COMMAND_READ, "what was changed by hand", tm_look_changes, NULL},
    {"entries", TM_COMMAND_READ, "STREAM [PATTERN [N]]: what a registry holds", tm_look_entries, NULL},
    {"kill", TM_COMMAND_OPERATE, "SESSION [close]: end the command of a session, or the session", tm_look_kill, NULL},
    {"links", TM_COMMAND_READ, "connections and their subscriptions", tm_look_links, NULL},
    {"log-level", TM_COMMAND_OPERATE, "LEVEL: debug, info, warn or error, until the next reload", tm_look_log_level,
     NULL},
    {"manual", TM_COMMAND_READ, "NAME: what the reference has of a function or class of the library", tm_look_manual,
     NULL},
    {"metrics", TM_COMMAND_READ, "[TEXT]: series whose name contains the text", tm_look_metrics, NULL},
    {"ping", TM_COMMAND_READ, "answers \"pong\"", ping, NULL},
    {"registries", TM_COMMAND_READ, "what is kept in memory of upsert streams", tm_look_registries, NULL},
    {"reload", TM_COMMAND_OPERATE, "read the script anew and apply what changed", tm_daemon_reload_command,
     tm_daemon_explain_reload},
    {"sessions", TM_COMMAND_READ, "who is connected to this socket", tm_look_sessions, NULL},
    {"status", TM_COMMAND_READ, "counters and health of everything", status, NULL},
    {"streams", TM_COMMAND_READ, "streams of the plan: columns, keys, windows", tm_look_streams, NULL},
    {"version", TM_COMMAND_READ, "the version of the program", version, NULL},
    {0},
};
