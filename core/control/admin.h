/*
 * The admin thread: /health and /metrics, and the watch over the policy thread.
 *
 *     tm_admin_create -> tm_admin_serve ... -> tm_admin_start -> (its own thread: loop, HTTP server, watch) -> tm_admin_destroy
 *
 * It is a thread of its own so that health answers while policy hangs. Handlers run on it: they may use what is safe from
 * any thread (statistics of the engine, metrics) and nothing of Lua or of the control room's other state. Addresses are
 * opened by tm_admin_serve, so that a port in use is known before anything else starts; connections wait until the start.
 *
 * A policy thread that does not turn for `stuck_us`: error in the log, tidemill_policy_stuck_seconds,
 * tidemill_engine_alerts_total{alert="PolicyStuck"}, and tm_admin_policy says TM_POLICY_STUCK until it turns again.
 */
#ifndef TM_CONTROL_ADMIN_H
#define TM_CONTROL_ADMIN_H

#include "control/heartbeat.h"
#include "engine/metrics.h"
#include "net/httpd.h"

struct tm_admin;

struct tm_admin_options {
    struct tm_metrics *metrics;
    const struct tm_heartbeat *policy;
    int64_t stuck_us;
};

int tm_admin_create(const struct tm_admin_options *options, struct tm_admin **out, struct tm_error *err) TM_MUST_CHECK;
/* Ends the thread; what was put on its loop can be taken off then. NULL is fine for both. */
void tm_admin_stop(struct tm_admin *admin);
void tm_admin_destroy(struct tm_admin *admin); /* stops it first */

/* Before the start. The port in use at an address that is served; 0 if none. */
int tm_admin_serve(struct tm_admin *admin, const char *address, const char *path, tm_httpd_handler *handler, void *arg,
                   struct tm_error *err) TM_MUST_CHECK;
int tm_admin_port(const struct tm_admin *admin, const char *address);

int tm_admin_start(struct tm_admin *admin, struct tm_error *err) TM_MUST_CHECK;

/* For what else is served and told there: before the start, and after the stop. */
struct tm_httpd *tm_admin_httpd(struct tm_admin *admin);
struct tm_loop *tm_admin_loop(struct tm_admin *admin);

/* What is known of the policy thread; any thread. */
enum tm_policy_state tm_admin_policy(const struct tm_admin *admin);

#endif
