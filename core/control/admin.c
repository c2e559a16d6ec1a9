#include "control/admin.h"

#include "base/clock.h"
#include "base/log.h"

#include <pthread.h>
#include <stdlib.h>

#define LOOK_US (100 * TM_US_PER_MS)

struct tm_admin {
    struct tm_admin_options options;
    struct tm_loop *loop;
    struct tm_httpd *httpd;
    struct tm_async stop;
    struct tm_timer timer;
    struct tm_heartbeat_watch watch;
    int64_t worst_us; /* of the hang under way */
    _Atomic int policy;
    struct tm_metric *stuck_seconds, *alerts;
    pthread_t thread;
    bool has_thread;
};

/* ---- the watch ---- */

static void report(struct tm_admin *a, enum tm_policy_state before, enum tm_policy_state now)
{
    if (now == TM_POLICY_STUCK && before != TM_POLICY_STUCK) {
        tm_metric_add(a->alerts, 1);
        tm_log(TM_LOG_ERROR, "watch",
               "the policy thread hangs: handlers, timers and the control socket wait; the feed goes on",
               TM_F_I64("stuck_ms", a->watch.missing_us / TM_US_PER_MS));
    } else if (before == TM_POLICY_STUCK && now != TM_POLICY_STUCK) {
        tm_log(TM_LOG_WARN, "watch", "the policy thread turns again", TM_F_I64("stuck_ms", a->worst_us / TM_US_PER_MS));
    }
}

static void look(void *arg)
{
    struct tm_admin *a = arg;
    uint64_t beats = atomic_load_explicit(&a->options.policy->beats, memory_order_relaxed);
    enum tm_policy_state before = tm_admin_policy(a);
    enum tm_policy_state now = tm_heartbeat_look(&a->watch, beats, tm_clock_mono_us(), a->options.stuck_us);
    report(a, before, now);
    a->worst_us = now == TM_POLICY_STUCK ? a->watch.missing_us : 0;
    tm_metric_set(a->stuck_seconds, (double)a->worst_us / 1e6);
    atomic_store_explicit(&a->policy, (int)now, memory_order_relaxed);
}

enum tm_policy_state tm_admin_policy(const struct tm_admin *admin)
{
    return (enum tm_policy_state)atomic_load_explicit(&admin->policy, memory_order_relaxed);
}

/* ---- the thread ---- */

static void on_stop(void *arg)
{
    struct tm_admin *a = arg;
    tm_loop_stop(a->loop);
}

static void *run(void *arg)
{
    struct tm_admin *a = arg;
    pthread_setname_np(pthread_self(), "admin");
    tm_timer_start(&a->timer, LOOK_US, LOOK_US);
    tm_loop_run(a->loop);
    tm_timer_stop(&a->timer);
    return NULL;
}

int tm_admin_start(struct tm_admin *admin, struct tm_error *err)
{
    int rc = pthread_create(&admin->thread, NULL, run, admin);
    if (rc)
        return tm_error_errno(err, TM_EIO, rc, "cannot start the admin thread");
    admin->has_thread = true;
    return TM_OK;
}

int tm_admin_create(const struct tm_admin_options *options, struct tm_admin **out, struct tm_error *err)
{
    struct tm_admin *a = calloc(1, sizeof *a);
    if (!a)
        return tm_error_set(err, TM_ENOMEM, "no memory for the admin thread");
    a->options = *options;
    a->policy = TM_POLICY_STARTING;
    a->loop = tm_loop_create();
    a->stuck_seconds = tm_metrics_gauge(options->metrics, "tidemill_policy_stuck_seconds",
                                        "How long the policy thread has not turned; 0 while it does", NULL);
    a->alerts = tm_metrics_counter(options->metrics, "tidemill_engine_alerts_total",
                                   "Alerts that the engine raises without policy", "alert=\"PolicyStuck\"");
    tm_async_init(&a->stop, a->loop, on_stop, a);
    tm_timer_init(&a->timer, a->loop, look, a);
    int rc = tm_httpd_create(a->loop, &a->httpd, err);
    if (rc) {
        tm_admin_destroy(a);
        return rc;
    }
    *out = a;
    return TM_OK;
}

int tm_admin_serve(struct tm_admin *admin, const char *address, const char *path, tm_httpd_handler *handler, void *arg,
                   struct tm_error *err)
{
    int rc = tm_httpd_listen(admin->httpd, address, err);
    return rc ? rc : tm_httpd_route(admin->httpd, address, path, handler, arg, err);
}

int tm_admin_port(const struct tm_admin *admin, const char *address)
{
    return tm_httpd_port(admin->httpd, address);
}

struct tm_httpd *tm_admin_httpd(struct tm_admin *admin)
{
    return admin->httpd;
}

struct tm_loop *tm_admin_loop(struct tm_admin *admin)
{
    return admin->loop;
}

void tm_admin_stop(struct tm_admin *admin)
{
    if (!admin || !admin->has_thread)
        return;
    tm_async_send(&admin->stop);
    pthread_join(admin->thread, NULL);
    admin->has_thread = false;
}

void tm_admin_destroy(struct tm_admin *admin)
{
    if (!admin)
        return;
    tm_admin_stop(admin);
    tm_httpd_destroy(admin->httpd);
    tm_async_fini(&admin->stop);
    tm_loop_destroy(admin->loop);
    free(admin);
}
