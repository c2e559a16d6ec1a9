/* What daemon.c and status.c share. */
#ifndef TM_CONTROL_DAEMON_PRIVATE_H
#define TM_CONTROL_DAEMON_PRIVATE_H

#include "control/process.h"
#include "control/server.h"
#include "control/watcher.h"
#include "net/httpd.h"
#include "script/script.h"

struct tm_daemon {
    const char *path, *version;
    struct tm_script *script;
    struct tm_config *config;
    struct tm_services services; /* loop, metrics, http, gatherer */
    struct tm_deduplicator *deduplicator;
    struct tm_httpd *httpd;
    struct tm_control *control;
    struct tm_process_metrics process;
    struct tm_async events;
    struct tm_watcher *watcher;
    struct tm_signal hup, term, intr;
};

/* Commands of the control socket; the context is the daemon. */
extern const struct tm_command tm_daemon_commands[];

#endif
