#include "control/console.h"
#include "control/daemon.h"
#include "control/daemon_private.h"

#include "base/clock.h"
#include "base/directory.h"
#include "base/log.h"
#include "engine/health.h"
#include "script/changes.h"
#include "script/grant.h"
#include "script/session.h"
#include "script/test.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define HTTP_QUEUE 1000

/* ---- HTTP, on the admin thread ---- */

static void serve_health(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer)
{
    (void)path;
    (void)query;
    struct tm_daemon *d = arg;
    answer->content_type = "application/json";
    answer->status = d->services.gatherer
                         ? tm_health_gatherer(d->services.gatherer, tm_admin_policy(d->admin), answer->body)
                         : tm_health_deduplicator(d->deduplicator, tm_admin_policy(d->admin), answer->body);
}

static void serve_metrics(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer)
{
    (void)path;
    (void)query;
    struct tm_daemon *d = arg;
    tm_process_update(&d->process);
    answer->content_type = "text/plain; version=0.0.4; charset=utf-8";
    if (tm_metrics_render(d->services.metrics, answer->body) < 0)
        answer->status = 500;
}

static int serve(struct tm_daemon *d, const char *address, const char *path, tm_httpd_handler *handler,
                 struct tm_error *err)
{
    int rc = tm_admin_serve(d->admin, address, path, handler, d, err);
    if (!rc)
        tm_log(TM_LOG_INFO, "daemon", "serving", TM_F_STR("path", path), TM_F_STR("address", address),
               TM_F_I64("port", tm_admin_port(d->admin, address)));
    return rc;
}

static int start_console(struct tm_daemon *d, struct tm_error *err)
{
    struct tm_console_options options = {.loop = tm_admin_loop(d->admin),
                                         .httpd = tm_admin_httpd(d->admin),
                                         .address = d->config->health,
                                         .names = d->config->console_names,
                                         .state = d->state,
                                         .metrics = d->services.metrics};
    return tm_console_open(&options, &d->console, err);
}

static int start_http(struct tm_daemon *d, struct tm_error *err)
{
    struct tm_admin_options options = {
        .metrics = d->services.metrics,
        .policy = &d->heartbeat,
        .stuck_us = d->config->policy_stuck_us,
    };
    int rc = tm_http_create(d->services.loop, TM_DAEMON_HTTP_PARALLEL, HTTP_QUEUE, &d->services.http, err);
    if (!rc)
        rc = tm_admin_create(&options, &d->admin, err);
    if (!rc)
        rc = serve(d, d->config->health, "/health", serve_health, err);
    if (!rc)
        rc = serve(d, d->config->metrics, "/metrics", serve_metrics, err);
    if (!rc)
        rc = start_console(d, err);
    return rc;
}

/* ---- engine ---- */

static int start_gatherer(struct tm_daemon *d, struct tm_error *err)
{
    struct tm_gatherer_options options = d->config->gatherer;
    options.metrics = d->services.metrics;
    options.taps = d->services.taps;
    return tm_gatherer_start(&options, &d->services.gatherer, err);
}

static int start_engine(struct tm_daemon *d, struct tm_error *err)
{
    if (d->config->role == TM_CONFIG_GATHERER)
        return start_gatherer(d, err);
    struct tm_deduplicator_options options = d->config->deduplicator;
    options.metrics = d->services.metrics;
    options.taps = d->services.taps;
    int rc = tm_deduplicator_start(&options, &d->deduplicator, err);
    d->services.deduplicator = d->deduplicator;
    return rc;
}

/* Who calls is who changes things, from here on. */
static struct tm_script *running_script(void *context)
{
    struct tm_daemon *d = context;
    tm_daemon_note_who(d);
    return d->script;
}

void tm_daemon_note_who(struct tm_daemon *d)
{
    struct tm_control_peer peer = tm_control_peer(d->control);
    char who[64];
    (void)snprintf(who, sizeof who, "uid %u, session %u", (unsigned)peer.uid, peer.session);
    tm_changes_set_who(d->services.changes, who);
}

static int start_control(struct tm_daemon *d, struct tm_error *err)
{
    if (!d->config->socket)
        return TM_OK;
    struct tm_control_options options = {
        .loop = d->services.loop,
        .path = d->config->socket,
        .commands = tm_daemon_commands,
        .context = d,
        .settings = d->config->control,
        .sessions = d->services.sessions,
        .script = running_script,
    };
    return tm_control_open(&options, &d->control, err);
}

/* ---- signals ---- */

static void on_stop(void *arg)
{
    struct tm_daemon *d = arg;
    tm_log(TM_LOG_INFO, "daemon", "stopping");
    d->stopping = true;
    tm_notify_stopping(&d->notify);
    tm_loop_stop(d->services.loop);
}

/* They were blocked since the first instruction; the engine's threads keep them blocked, only this one takes them. */
static void start_signals(struct tm_daemon *d)
{
    tm_timer_init(&d->hup_later, d->services.loop, tm_daemon_reload_by_signal, d);
    tm_signal_init(&d->hup, d->services.loop, SIGHUP, tm_daemon_hup, d);
    tm_signal_init(&d->term, d->services.loop, SIGTERM, on_stop, d);
    tm_signal_init(&d->intr, d->services.loop, SIGINT, on_stop, d);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* A reload that is asked for while it stops is ignored: without its handler SIGHUP would end the process at once. */
static void stop_signals(struct tm_daemon *d)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    tm_timer_stop(&d->hup_later);
    tm_signal_fini(&d->hup);
    signal(SIGHUP, SIG_IGN);
    tm_signal_fini(&d->term);
    tm_signal_fini(&d->intr);
}

/* ---- the whole ---- */

/* The script is the policy's from here on. */
static int start_policy(struct tm_daemon *d, struct tm_error *err)
{
    struct tm_policy_options options = {.path = d->path, .services = &d->services, .run_tests = tm_script_test};
    int rc = tm_policy_create(&options, d->script, &d->policy, err);
    if (!rc && d->config->gatherer.journal.dir)
        tm_directory_make_above(d->config->gatherer.journal.dir, 0700); /* the journal makes the last part */
    return rc;
}

static void on_state_turn(void *arg)
{
    struct tm_daemon *d = arg;
    tm_state_take_policy(d->state);
}

static int start(struct tm_daemon *d, struct tm_error *err)
{
    d->services.loop = tm_loop_create();
    d->services.metrics = tm_metrics_create();
    d->services.taps = tm_taps_create();
    d->services.sessions = tm_sessions_create(d->services.loop, d->services.taps);
    d->services.changes = tm_changes_create();
    tm_process_init(&d->process, d->services.metrics);
    tm_notify_init(&d->notify, d->services.loop);
    d->state = tm_state_create(d);
    int64_t born_us = tm_watcher_last_life(d->config->gatherer.journal.dir);
    int rc = start_policy(d, err);
    if (!rc)
        rc = start_http(d, err);
    if (!rc)
        rc = start_control(d, err);
    if (!rc)
        rc = start_engine(d, err);
    if (!rc)
        rc = tm_admin_start(d->admin, err); /* what its handlers read is there from here on */
    if (!rc)
        rc = tm_policy_start(d->policy, err);
    if (!rc) {
        d->watcher = tm_watcher_start(d, born_us);
        tm_timer_init(&d->state_turn, d->services.loop, on_state_turn, d);
        tm_timer_start(&d->state_turn, TM_US_PER_S / 1000, TM_US_PER_S);
        start_signals(d);
    }
    return rc;
}

/* What uses the engine goes before it; the gatherer tells the policy of its events, so that goes after it. */
static void stop(struct tm_daemon *d)
{
    stop_signals(d);
    tm_watcher_stop(d->watcher);
    if (d->state_turn.loop)
        tm_timer_stop(&d->state_turn);
    tm_control_close(d->control);
    tm_admin_stop(d->admin);
    tm_console_close(d->console);
    tm_admin_destroy(d->admin);
    tm_http_destroy(d->services.http);
    if (d->services.gatherer)
        tm_gatherer_stop(d->services.gatherer);
    if (d->deduplicator)
        tm_deduplicator_stop(d->deduplicator);
    tm_policy_destroy(d->policy);
    tm_services_fini(&d->services);
    tm_notify_fini(&d->notify);
    tm_buf_fini(&d->problems);
    tm_state_destroy(d->state);
    tm_sessions_destroy(d->services.sessions);
    tm_taps_destroy(d->services.taps);
    tm_changes_destroy(d->services.changes);
    tm_loop_destroy(d->services.loop);
    tm_metrics_destroy(d->services.metrics);
}

/* Paths are made absolute once, so that nothing depends on a later change of directory. */
const char *tm_daemon_path(const char *path)
{
    static char out[2 * PATH_MAX];
    char cwd[PATH_MAX];
    if (path[0] == '/' || !getcwd(cwd, sizeof cwd))
        return path;
    (void)snprintf(out, sizeof out, "%s/%s", cwd, path);
    return out;
}

static void run_policy(struct tm_daemon *d)
{
    tm_heartbeat_start(&d->heartbeat, d->services.loop);
    tm_loop_run(d->services.loop);
    tm_heartbeat_stop(&d->heartbeat);
}

static int serve_script(struct tm_script *script, const char *path, const char *version, bool probe)
{
    struct tm_daemon d = {.path = tm_daemon_path(path), .version = version, .script = script};
    struct tm_error err;
    d.config = tm_script_config(script);
    tm_log_init(d.config->log_level, d.config->log_format, d.config->id);
    if (tm_log_start(&err))
        tm_log(TM_LOG_ERROR, "daemon", "the log has no thread of its own: whoever logs may have to wait for stderr",
               TM_F_ERR(&err));
    tm_process_raise_files();
    int rc = start(&d, &err);
    if (rc) {
        tm_log(TM_LOG_ERROR, "daemon", "cannot start", TM_F_ERR(&err));
    } else {
        tm_log(TM_LOG_INFO, "daemon", "started", TM_F_STR("version", version), TM_F_STR("script", d.path),
               TM_F_STR("granted", tm_grant_names(tm_grants())));
        tm_notify_ready(&d.notify, d.path);
        if (!probe)
            run_policy(&d);
    }
    stop(&d);
    tm_log(TM_LOG_INFO, "daemon", "stopped");
    return rc ? 1 : 0;
}

int tm_daemon_run(struct tm_script *script, const char *path, const char *version)
{
    return serve_script(script, path, version, false);
}

int tm_daemon_probe(struct tm_script *script, const char *path, const char *version)
{
    return serve_script(script, path, version, true);
}
