/* What daemon.c, reload.c and status.c share. */
#ifndef TM_CONTROL_DAEMON_PRIVATE_H
#define TM_CONTROL_DAEMON_PRIVATE_H

#include "control/admin.h"
#include "control/heartbeat.h"
#include "control/notify.h"
#include "control/process.h"
#include "control/server.h"
#include "control/state.h"
#include "control/watcher.h"
#include "script/policy.h"

struct tm_daemon {
    const char *path, *version;
    struct tm_policy *policy;
    struct tm_script *script; /* of the running generation, as is its configuration */
    struct tm_config *config;
    struct tm_services services; /* loop, metrics, http, gatherer or deduplicator */
    struct tm_deduplicator *deduplicator;
    struct tm_admin *admin;
    struct tm_heartbeat heartbeat;
    struct tm_control *control;
    struct tm_process_metrics process;
    struct tm_state *state;
    struct tm_console *console;
    struct tm_timer state_turn; /* the policy part of the state is published */
    struct tm_notify notify;
    struct tm_watcher *watcher;
    struct tm_signal hup, term, intr;
    struct tm_timer hup_later;
    int64_t hup_done_us; /* monotonic: when the last reload by SIGHUP was over */
    bool stopping;
    struct tm_buf problems; /* JSON, of the reload command that failed last */
};

/* Commands of the control socket; the context is the daemon. */
extern const struct tm_command tm_daemon_commands[];

/* status.c: the members of the state that only the policy thread may read, each with a comma before it. */
int tm_daemon_put_policy(struct tm_daemon *d, struct tm_buf *out) TM_MUST_CHECK;
/* The peer of the command that runs is who changes things from now on (script/changes.h). */
void tm_daemon_note_who(struct tm_daemon *d);

/* ---- reload.c ---- */

/* From the signal: at once, or when the last one is a moment ago; those in between are one. */
void tm_daemon_hup(void *arg);
void tm_daemon_reload_by_signal(void *arg);

/* The command "reload" (control/command.h). */
int tm_daemon_reload_command(void *context, const char *args, struct tm_buf *out, struct tm_error *err);
int tm_daemon_explain_reload(void *context, struct tm_buf *out);

#endif
