#include "control/daemon.h"
#include "control/daemon_private.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/health.h"

#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HTTP_QUEUE 1000
#define EVENTS_PER_TURN 1000

/* ---- HTTP ---- */

static void serve_health(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer)
{
    (void)path;
    (void)query;
    struct tm_daemon *d = arg;
    answer->content_type = "application/json";
    answer->status = d->services.gatherer ? tm_health_gatherer(d->services.gatherer, answer->body)
                                          : tm_health_deduplicator(d->deduplicator, answer->body);
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
    int rc = tm_httpd_listen(d->httpd, address, err);
    if (!rc)
        rc = tm_httpd_route(d->httpd, address, path, handler, d, err);
    if (!rc)
        tm_log(TM_LOG_INFO, "daemon", "serving", TM_F_STR("path", path), TM_F_STR("address", address),
               TM_F_I64("port", tm_httpd_port(d->httpd, address)));
    return rc;
}

static int start_http(struct tm_daemon *d, struct tm_error *err)
{
    int rc = tm_http_create(d->services.loop, TM_DAEMON_HTTP_PARALLEL, HTTP_QUEUE, &d->services.http, err);
    if (!rc)
        rc = tm_httpd_create(d->services.loop, &d->httpd, err);
    if (!rc)
        rc = serve(d, d->config->health, "/health", serve_health, err);
    if (!rc)
        rc = serve(d, d->config->metrics, "/metrics", serve_metrics, err);
    return rc;
}

/* ---- engine ---- */

static void on_events(void *arg)
{
    struct tm_daemon *d = arg;
    struct tm_event *event = NULL;
    for (int i = 0; i < EVENTS_PER_TURN && (event = tm_gatherer_next_event(d->services.gatherer)); i++) {
        tm_script_event(d->script, event);
        free(event);
    }
    if (event)
        tm_async_send(&d->events); /* let the rest of the loop have its turn */
}

static void wake_events(void *arg)
{
    struct tm_daemon *d = arg;
    tm_async_send(&d->events);
}

static int start_gatherer(struct tm_daemon *d, struct tm_error *err)
{
    struct tm_gatherer_options options = d->config->gatherer;
    options.metrics = d->services.metrics;
    int rc = tm_gatherer_start(&options, &d->services.gatherer, err);
    if (rc)
        return rc;
    d->services.plan = tm_gatherer_plan(d->services.gatherer);
    tm_async_init(&d->events, d->services.loop, on_events, d);
    tm_gatherer_set_wake(d->services.gatherer, wake_events, d);
    return TM_OK;
}

static int start_engine(struct tm_daemon *d, struct tm_error *err)
{
    if (d->config->role == TM_CONFIG_GATHERER)
        return start_gatherer(d, err);
    struct tm_deduplicator_options options = d->config->deduplicator;
    options.metrics = d->services.metrics;
    d->services.plan = options.plan;
    return tm_deduplicator_start(&options, &d->deduplicator, err);
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
    };
    return tm_control_open(&options, &d->control, err);
}

/* ---- signals ---- */

static void on_stop(void *arg)
{
    struct tm_daemon *d = arg;
    tm_log(TM_LOG_INFO, "daemon", "stopping");
    tm_loop_stop(d->services.loop);
}

static void log_problems(const struct tm_problems *problems)
{
    size_t kept = problems->count < TM_PROBLEMS_MAX ? problems->count : TM_PROBLEMS_MAX;
    for (size_t i = 0; i < kept; i++)
        tm_log(TM_LOG_ERROR, "daemon", "problem in the script", TM_F_STR("at", problems->list[i].where),
               TM_F_STR("error", problems->list[i].message));
}

/* The running configuration stays; what is on disk is checked, so that the operator knows what a restart would do. */
static void on_hup(void *arg)
{
    struct tm_daemon *d = arg;
    struct tm_problems problems = {.arena = tm_arena_create()};
    struct tm_script_options options = {.path = d->path};
    struct tm_script *script;
    int rc = tm_script_load(&options, &problems, &script);
    log_problems(&problems);
    tm_log(TM_LOG_INFO, "daemon", "reload requested: the file was checked, the running configuration stays",
           TM_F_STR("file", d->path), TM_F_STR("result", rc ? "has problems" : "good"));
    tm_script_destroy(script);
    tm_arena_destroy(problems.arena);
}

/* They were blocked since the first instruction; the engine's threads keep them blocked, only this one takes them. */
static void start_signals(struct tm_daemon *d)
{
    tm_signal_init(&d->hup, d->services.loop, SIGHUP, on_hup, d);
    tm_signal_init(&d->term, d->services.loop, SIGTERM, on_stop, d);
    tm_signal_init(&d->intr, d->services.loop, SIGINT, on_stop, d);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGHUP);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* ---- the whole ---- */

static int start(struct tm_daemon *d, struct tm_error *err)
{
    d->services.loop = tm_loop_create();
    d->services.metrics = tm_metrics_create();
    tm_process_init(&d->process, d->services.metrics);
    int rc = start_http(d, err);
    if (!rc)
        rc = start_control(d, err);
    if (!rc)
        rc = start_engine(d, err);
    if (!rc)
        rc = tm_script_start(d->script, &d->services, err);
    if (!rc)
        start_signals(d);
    return rc;
}

/* What uses the engine goes before it; the script's keys are borrowed by the gatherer, so it goes late. */
static void stop(struct tm_daemon *d)
{
    tm_control_close(d->control);
    tm_httpd_destroy(d->httpd);
    tm_http_destroy(d->services.http);
    tm_services_fini(&d->services);
    if (d->services.gatherer)
        tm_gatherer_stop(d->services.gatherer);
    if (d->deduplicator)
        tm_deduplicator_stop(d->deduplicator);
    tm_async_fini(&d->events);
    tm_signal_fini(&d->hup);
    tm_signal_fini(&d->term);
    tm_signal_fini(&d->intr);
    tm_script_destroy(d->script);
    tm_loop_destroy(d->services.loop);
    tm_metrics_destroy(d->services.metrics);
}

/* Paths are made absolute once, so that nothing depends on a later change of directory. */
static const char *absolute(const char *path, char out[PATH_MAX])
{
    char cwd[PATH_MAX];
    if (!path || path[0] == '/' || !getcwd(cwd, sizeof cwd))
        return path;
    int n = snprintf(out, PATH_MAX, "%s/%s", cwd, path);
    return n > 0 && n < PATH_MAX ? out : path;
}

/* The data directory may lie several levels below what is there; the journal makes the last one. */
static void make_parents(const char *path)
{
    char parent[PATH_MAX];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        (void)snprintf(parent, sizeof parent, "%.*s", (int)(slash - path), path);
        (void)mkdir(parent, 0700); /* the journal says why when it could not be made */
    }
}

static int serve_script(struct tm_script *script, const char *path, const char *version, bool probe)
{
    static char data[PATH_MAX], file[PATH_MAX];
    struct tm_config *config = tm_script_config(script);
    struct tm_daemon d = {.path = absolute(path, file), .version = version, .script = script, .config = config};
    struct tm_error err;
    tm_log_init(config->log_level, config->log_format, config->id);
    tm_process_raise_files();
    config->gatherer.journal.dir = absolute(config->gatherer.journal.dir, data);
    if (config->gatherer.journal.dir)
        make_parents(config->gatherer.journal.dir);
    int rc = start(&d, &err);
    if (rc)
        tm_log(TM_LOG_ERROR, "daemon", "cannot start", TM_F_ERR(&err));
    else
        tm_log(TM_LOG_INFO, "daemon", "started", TM_F_STR("version", version), TM_F_STR("script", d.path));
    if (!rc && !probe)
        tm_loop_run(d.services.loop);
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
