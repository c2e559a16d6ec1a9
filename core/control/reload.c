/* Reload of the running process: by signal and by command. The work is script/policy.h's. */
#include "control/daemon_private.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "script/changes.h"
#include "script/session.h"

#include <inttypes.h>
#include <stdio.h>

#define HUP_SPACING_US (200 * TM_US_PER_MS)

/* What belongs to the socket and is the script's. */
static void take_over(struct tm_daemon *d, uint64_t generation)
{
    struct tm_error err;
    size_t lapsed = tm_changes_count(d->services.changes, generation - 1);
    tm_sessions_script_changed(d->services.sessions);
    if (lapsed)
        tm_log(TM_LOG_WARN, "daemon", "changes by hand hold no longer: the script was reloaded",
               TM_F_U64("changes", lapsed));
    if (d->control && tm_control_configure(d->control, &d->config->control, &err) < 0)
        tm_log(TM_LOG_ERROR, "daemon", "the control socket keeps its settings", TM_F_ERR(&err));
}

static int reload(struct tm_daemon *d, struct tm_policy_report *report)
{
    char status[400];
    tm_notify_reloading(&d->notify);
    int rc = tm_policy_reload(d->policy, report);
    d->script = tm_policy_script(d->policy);
    d->config = tm_policy_config(d->policy);
    if (!rc)
        take_over(d, report->generation);
    if (rc)
        (void)snprintf(status, sizeof status, "generation %" PRIu64 " goes on, not reloaded: %.300s",
                       report->generation, report->err.message);
    else
        (void)snprintf(status, sizeof status, "generation %" PRIu64 " of %.300s", report->generation, d->path);
    tm_notify_ready(&d->notify, status);
    return rc;
}

/* ---- by signal ---- */

void tm_daemon_reload_by_signal(void *arg)
{
    struct tm_daemon *d = arg;
    struct tm_policy_report report;
    if (d->stopping)
        return;
    int rc = reload(d, &report); /* logged there */
    (void)rc;
    tm_policy_report_fini(&report);
    d->hup_done_us = tm_clock_mono_us();
}

void tm_daemon_hup(void *arg)
{
    struct tm_daemon *d = arg;
    int64_t wait_us = d->hup_done_us ? d->hup_done_us + HUP_SPACING_US - tm_clock_mono_us() : 0;
    if (wait_us > 0)
        tm_timer_start(&d->hup_later, wait_us, 0);
    else
        tm_daemon_reload_by_signal(d);
}

/* ---- by command ---- */

static int put_problem(struct tm_buf *out, const struct tm_problem *problem, bool first)
{
    int rc = tm_buf_printf(out, "%s{\"at\":", first ? "" : ",");
    if (!rc)
        rc = tm_json_put_string(out, problem->where);
    if (!rc)
        rc = tm_buf_printf(out, ",\"message\":");
    if (!rc)
        rc = tm_json_put_string(out, problem->message);
    return rc ? rc : tm_buf_printf(out, "}");
}

static int keep_problems(struct tm_buf *out, const struct tm_problems *problems)
{
    size_t kept = problems->count < TM_PROBLEMS_MAX ? problems->count : TM_PROBLEMS_MAX;
    tm_buf_clear(out);
    if (!kept)
        return TM_OK;
    int rc = tm_buf_printf(out, ",\"problems\":[");
    for (size_t i = 0; !rc && i < kept; i++)
        rc = put_problem(out, &problems->list[i], i == 0);
    return rc ? rc : tm_buf_printf(out, "]");
}

static int put_result(struct tm_buf *out, const struct tm_policy_report *report)
{
    int rc = tm_buf_printf(out, "{\"generation\":%" PRIu64 ",\"duration_ms\":%" PRId64 ",\"changed\":[",
                           report->generation, report->duration_us / TM_US_PER_MS);
    for (size_t i = 0; !rc && i < report->change_count; i++) {
        rc = i ? tm_buf_append(out, ",", 1) : TM_OK;
        if (!rc)
            rc = tm_json_put_string(out, report->changes[i]);
    }
    return rc ? rc : tm_buf_printf(out, "]}");
}

int tm_daemon_reload_command(void *context, const char *args, struct tm_buf *out, struct tm_error *err)
{
    struct tm_daemon *d = context;
    struct tm_policy_report report;
    tm_buf_clear(&d->problems);
    if (*args)
        return tm_error_set(err, TM_EINVAL, "reload: expected no arguments");
    if (d->stopping)
        return tm_error_set(err, TM_ESTATE, "it is stopping");
    int rc = reload(d, &report);
    if (rc)
        *err = report.err;
    int put = rc ? keep_problems(&d->problems, &report.problems) : put_result(out, &report);
    if (put)
        (void)tm_error_set(err, put, "out of memory");
    tm_policy_report_fini(&report);
    return rc ? rc : put;
}

int tm_daemon_explain_reload(void *context, struct tm_buf *out)
{
    const struct tm_daemon *d = context;
    return tm_buf_append(out, d->problems.data, d->problems.len);
}
