#include "control/quarantine_tool.h"
#include "base/json.h"
#include "control/offline.h"
#include "record/row_json.h"
#include "store/quarantine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ACCEPT_US (INT64_C(7) * 86400 * 1000000) /* as the deduplicator's defaults */

const struct tm_cli_option tm_quarantine_tool_options[] = {
    {"--all", NULL, "retry, drop: all rows; list shows all where no ID is given"},
    {"--stream", "NAME", "rows of this stream only"},
    {"--json", NULL, "list, drop: one line of JSON for each row; retry: one in all"},
    {0},
};

struct job {
    const struct tm_cli *cli;
    const struct tm_config *config;
    struct tm_pg *pg;
    struct tm_quarantine_pick pick;
    struct tm_buf ids, out;
    bool json;
    uint64_t shown;
};

static bool is_local(const struct job *j)
{
    return j->config->role == TM_CONFIG_GATHERER;
}

/* ---- one row ---- */

static int put_row(const struct job *j, const struct tm_quarantined *q, struct tm_buf *out)
{
    size_t before = out->len;
    const struct tm_stream *stream = tm_plan_stream_by_name(j->config->plan, q->stream);
    int rc = tm_row_json_listed(stream, q->columns, q->tuple, q->len, out);
    if (rc != TM_ECORRUPT)
        return rc;
    out->len = before;
    return tm_buf_printf(out, "null"); /* not a tuple of these columns */
}

static int put_member(struct tm_buf *out, const char *name, const char *text)
{
    int rc = tm_buf_printf(out, ",\"%s\":", name);
    return rc ? rc : tm_json_put_string(out, text);
}

static int row_json(const struct job *j, const struct tm_quarantined *q, struct tm_buf *out)
{
    int rc = tm_buf_printf(out, "{\"id\":%" PRId64 ",\"seq\":%" PRId64, q->id, q->seq);
    rc = rc ? rc : put_member(out, "at", q->at);
    rc = rc ? rc : put_member(out, "stream", q->stream);
    rc = rc ? rc : put_member(out, "gatherer", q->gatherer);
    rc = rc ? rc : put_member(out, "epoch", q->epoch);
    rc = rc ? rc : put_member(out, "sqlstate", q->sqlstate);
    rc = rc ? rc : tm_buf_printf(out, ",\"error\":");
    rc = rc ? rc : tm_json_put_text(out, q->error, strlen(q->error));
    rc = rc ? rc : tm_buf_printf(out, ",\"row\":");
    rc = rc ? rc : put_row(j, q, out);
    return rc ? rc : tm_buf_printf(out, "}\n");
}

static int row_text(const struct job *j, const struct tm_quarantined *q, struct tm_buf *out)
{
    int rc = tm_buf_printf(out, "%" PRId64 "  %s  %s  %s %" PRId64 "\n    %s%s", q->id, q->at, q->gatherer, q->stream,
                           q->seq, q->sqlstate, *q->sqlstate ? " " : "");
    /* a line of an error is a line here: what a row holds may be anything */
    rc = rc ? rc : tm_json_put_text(out, q->error, strlen(q->error));
    rc = rc ? rc : tm_buf_printf(out, "\n    ");
    rc = rc ? rc : put_row(j, q, out);
    return rc ? rc : tm_buf_append(out, "\n", 1);
}

static int show(void *arg, const struct tm_quarantined *q)
{
    struct job *j = arg;
    int rc = j->json ? row_json(j, q, &j->out) : row_text(j, q, &j->out);
    j->shown++;
    return tm_offline_print(&j->out, rc);
}

/* ---- the verbs ---- */

static int list(struct job *j, struct tm_error *err)
{
    int rc = tm_quarantine_list(j->pg, &j->pick, show, j, err);
    if (!rc && !j->json)
        printf("%" PRIu64 " rows\n", j->shown);
    return rc ? rc : TM_EXIT_OK;
}

static int retry(struct job *j, struct tm_error *err)
{
    const struct tm_deduplicator_options *d = &j->config->deduplicator;
    struct tm_quarantine_counts n;
    struct tm_quarantine_retry how = {.plan = j->config->plan,
                                      .side = is_local(j) ? TM_COPY_LOCAL : TM_COPY_PRODUCTION,
                                      .accept_past_us = d->accept_past_us ? d->accept_past_us : ACCEPT_US,
                                      .accept_future_us = d->accept_future_us ? d->accept_future_us : ACCEPT_US};
    int rc = tm_quarantine_retry(j->pg, &how, &j->pick, &n, err);
    printf(j->json ? "{\"stored\":%" PRIu64 ",\"duplicate\":%" PRIu64 ",\"refused\":%" PRIu64 "}\n"
                   : "%" PRIu64 " stored, %" PRIu64 " were there already, %" PRIu64 " refused again\n",
           n.stored, n.duplicate, n.refused);
    return rc ? rc : n.refused ? TM_EXIT_FAILED : TM_EXIT_OK;
}

static int drop(struct job *j, struct tm_error *err)
{
    struct tm_quarantine_counts n;
    int rc = tm_quarantine_drop(j->pg, &j->pick, show, j, &n, err);
    if (!j->json)
        printf("%" PRIu64 " rows dropped; tidemill.absent says so\n", n.dropped);
    return rc ? rc : TM_EXIT_OK;
}

/* ---- the command ---- */

static int read_ids(struct job *j)
{
    const struct tm_cli *cli = j->cli;
    bool all = tm_cli_given(cli, "--all");
    int rc = TM_OK;
    j->pick.stream = tm_cli_value(cli, "--stream");
    if (all && cli->file_count > 2)
        return tm_cli_usage(cli->command, "expected ids or --all, not both");
    if (!all && cli->file_count == 2 && strcmp(cli->files[0], "list") != 0)
        return tm_cli_usage(cli->command, "%s: expected ids or --all", cli->files[0]);
    for (size_t i = 2; !rc && i < cli->file_count; i++) {
        long long id;
        if (!tm_cli_number(cli->files[i], 1, INT64_MAX, &id))
            return tm_cli_usage(cli->command, "expected the id of a row, got %s", cli->files[i]);
        rc = tm_buf_printf(&j->ids, "%s%lld", i > 2 ? "," : "{", id);
    }
    if (!rc && cli->file_count > 2)
        rc = tm_buf_append(&j->ids, "}", 1);
    j->pick.ids = j->ids.len ? tm_buf_cstr(&j->ids) : NULL;
    return rc ? TM_EXIT_FAILED : TM_EXIT_OK;
}

static int connect_and_run(struct job *j, int (*verb)(struct job *j, struct tm_error *err), struct tm_error *err)
{
    struct tm_stop stop;
    struct tm_pg_options options = {
        .conninfo = is_local(j) ? j->config->gatherer.store : j->config->deduplicator.production,
        .application_name = "tidemill quarantine",
        .stop = &stop,
    };
    int rc = tm_stop_init(&stop);
    if (rc)
        return tm_error_set(err, rc, "%s", tm_code_name(rc));
    rc = tm_pg_connect(&options, &j->pg, err);
    if (!rc) {
        rc = verb(j, err);
        tm_pg_close(j->pg);
    }
    tm_stop_fini(&stop);
    return rc;
}

static int with_script(struct job *j, int (*verb)(struct job *j, struct tm_error *err))
{
    struct tm_error err = {0};
    struct tm_script *script = tm_offline_load(j->cli->files[1]);
    if (!script)
        return TM_EXIT_CONFIG;
    j->config = tm_script_config(script);
    int rc = connect_and_run(j, verb, &err);
    if (rc < 0)
        fprintf(stderr, "tidemill quarantine %s: %s\n", j->cli->files[0],
                err.message[0] ? err.message : tm_code_name(rc));
    tm_script_destroy(script);
    return rc < 0 ? TM_EXIT_FAILED : rc;
}

int tm_quarantine_tool_command(const struct tm_cli *cli)
{
    static const struct {
        const char *name;
        int (*run)(struct job *j, struct tm_error *err);
    } verbs[] = {{"list", list}, {"retry", retry}, {"drop", drop}};
    struct job j = {.cli = cli, .json = tm_cli_given(cli, "--json")};
    size_t i = 0;
    while (i < sizeof verbs / sizeof *verbs && strcmp(cli->files[0], verbs[i].name) != 0)
        i++;
    if (i == sizeof verbs / sizeof *verbs)
        return tm_cli_usage(cli->command, "expected list, retry or drop, got %s", cli->files[0]);
    int rc = read_ids(&j);
    rc = rc ? rc : with_script(&j, verbs[i].run);
    tm_buf_fini(&j.ids);
    tm_buf_fini(&j.out);
    return rc;
}
