/* What the policy thread knows of the process: its part of the state (control/state.h), and the commands that tell. */

#include "control/alerts.h"
#include "control/daemon_private.h"

#include "base/json.h"
#include "control/look.h"
#include "engine/health.h"
#include "script/grant.h"
#include "script/routines.h"

#include <inttypes.h>
#include <math.h>
#include <time.h>

static void add_time(struct tm_json *j, const char *name, int64_t wall_us)
{
    char text[32] = "";
    time_t s = (time_t)(wall_us / 1000000);
    struct tm utc;
    if (wall_us && gmtime_r(&s, &utc))
        (void)strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%SZ", &utc);
    tm_json_add_string(j, name, text);
}

static void add_policy(struct tm_json *j, struct tm_daemon *d)
{
    struct tm_policy_status s = tm_policy_status(d->policy);
    tm_json_add(j,
                ",\"policy\":{\"generation\":%" PRIu64 ",\"reloads\":%" PRIu64 ",\"reloads_failed\":%" PRIu64
                ",\"draining\":%zu,",
                s.generation, s.succeeded, s.failed, s.draining);
    add_time(j, "last_reload", s.last_us);
    tm_json_add(j, ",\"last_result\":\"%s\",\"last_duration_ms\":%" PRId64 ",",
                !s.last_us  ? "none"
                : s.last_ok ? "success"
                            : "failure",
                s.last_duration_us / 1000);
    tm_json_add_string(j, "last_error", s.last_error);
    tm_json_add(j, "}");
}

/* What a script may use, and how its functions fare: the disabled ones first. */
#define CALLBACKS_SHOWN 200

static void add_callback(struct tm_json *j, const struct tm_callback *c, bool first)
{
    tm_json_add(j, "%s{", first ? "" : ",");
    tm_json_add_string(j, "name", c->name);
    tm_json_add(
        j,
        ",\"kind\":\"%s\",\"runs\":%" PRIu64 ",\"failures\":%" PRIu64 ",\"failures_in_a_row\":%u,\"disabled\":%s,"
        "\"skipped\":%" PRIu64 ",",
        tm_callback_kind_name(c->kind), c->runs, c->failures, c->streak, c->disabled ? "true" : "false", c->skipped);
    tm_json_add_string(j, "last_error", c->last_error);
    tm_json_add(j, "}");
}

static void add_callbacks(struct tm_json *j, const struct tm_callbacks *callbacks)
{
    size_t shown = 0;
    tm_json_add(j, ",\"callbacks\":[");
    for (int pass = 0; pass < 2; pass++)
        for (const struct tm_callback *c = callbacks->first; c && shown < CALLBACKS_SHOWN; c = c->next)
            if (c->disabled == (pass == 0))
                add_callback(j, c, shown++ == 0);
    tm_json_add(j, "]");
}

static void add_limits(struct tm_json *j, const struct tm_config *config)
{
    const struct tm_config_limits *l = &config->limits;
    tm_json_add(j,
                ",\"limits\":{\"load_ms\":%" PRId64 ",\"step_ms\":%" PRId64 ",\"routine_ms\":%" PRId64
                ",\"event_ms\":%" PRId64 ",\"memory_bytes\":%zu,\"callback_failures\":%d,\"policy_stuck_ms\":%" PRId64
                ",\"granted\":\"%s\"}",
                l->load_us / 1000, l->step_us / 1000, l->routine_us / 1000, l->event_us / 1000, l->memory_bytes,
                config->callback_failures, config->policy_stuck_us / 1000, tm_grant_names(tm_grants()));
}

static void add_alert(struct tm_json *j, const struct tm_alert_view *a, bool first)
{
    tm_json_add(j, "%s{", first ? "" : ",");
    tm_json_add_string(j, "name", a->name);
    tm_json_add(j, ",");
    tm_json_add_string(j, "state", tm_alert_state_name(a->state));
    tm_json_add(j, ",");
    tm_json_add_string(j, "severity", tm_alert_severity_name(a->severity));
    if (isfinite(a->value))
        tm_json_add(j, ",\"value\":%.15g,", a->value);
    else
        tm_json_add(j, ",\"value\":null,");
    tm_json_add(j, "\"since_ms\":%" PRId64 ",", a->since_us / 1000);
    tm_json_add_string(j, "summary", a->summary);
    tm_json_add(j, "}");
}

static void add_alerts(struct tm_json *j, const struct tm_alerts *alerts)
{
    tm_json_add(j, ",\"alerts\":[");
    for (size_t i = 0; alerts && i < tm_alerts_count(alerts); i++) {
        struct tm_alert_view a;
        tm_alerts_get(alerts, i, &a);
        add_alert(j, &a, i == 0);
    }
    tm_json_add(j, "]");
}

static void add_recovery(struct tm_json *j, struct tm_daemon *d)
{
    if (!d->services.routines)
        return;
    tm_json_add(j, ",\"recovery\":");
    if (!j->rc)
        j->rc = tm_routines_status(d->services.routines, j->out);
}

int tm_daemon_put_policy(struct tm_daemon *d, struct tm_buf *out)
{
    struct tm_json j = {.out = out};
    add_policy(&j, d);
    add_recovery(&j, d);
    tm_json_add(&j, ",\"script_bytes\":%zu", tm_script_memory(d->script));
    add_limits(&j, d->config);
    add_callbacks(&j, tm_script_callbacks(d->script));
    add_alerts(&j, d->services.alerts);
    return j.rc;
}

static int status(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    (void)args;
    struct tm_daemon *d = context;
    tm_state_take_policy(d->state); /* so that what was done a moment ago is in it */
    int rc = tm_state_put(d->state, false, out);
    return rc ? tm_error_set(err, rc, "out of memory") : TM_OK;
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
    {"alerts", TM_COMMAND_READ, "the script's alerts and silences", tm_alerts_command, NULL},
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
    {"silence", TM_COMMAND_OPERATE, "NAME SECONDS [why]: tell nobody of an alert; 0 ends it", tm_alerts_silence_command,
     NULL},
    {"sessions", TM_COMMAND_READ, "who is connected to this socket", tm_look_sessions, NULL},
    {"status", TM_COMMAND_READ, "counters and health of everything", status, NULL},
    {"streams", TM_COMMAND_READ, "streams of the plan: columns, keys, windows", tm_look_streams, NULL},
    {"version", TM_COMMAND_READ, "the version of the program", version, NULL},
    {0},
};
