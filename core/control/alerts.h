/*
 * Alerts from outside: `tidemill alerts` asks a running process what fires and silences it, or prints the alerts of
 * scripts as a rules file of Prometheus, where each process is judged by itself as it does it itself.
 */
#ifndef TM_CONTROL_ALERTS_H
#define TM_CONTROL_ALERTS_H

#include "control/cli.h"
#include "script/config.h"

extern const struct tm_cli_option tm_alerts_options[];
int tm_alerts_cli(const struct tm_cli *cli);

/* ---- of the control socket (control/command.h); the context is the daemon ---- */

/* "alerts": {"alerts":[...],"silences":[...]} */
int tm_alerts_command(void *context, const char *args, struct tm_buf *out, struct tm_error *err);
/* "silence NAME SECONDS [why]": 0 seconds end it */
int tm_alerts_silence_command(void *context, const char *args, struct tm_buf *out, struct tm_error *err);

/* ---- rules ---- */

/* One of several scripts' alerts as a group of rules. What one before has said already is left out. */
struct tm_rules_source {
    const char *path;
    const struct tm_config *config;
};
int tm_rules_print(const struct tm_rules_source *sources, size_t count, struct tm_buf *out,
                   struct tm_error *err) TM_MUST_CHECK;

#endif
