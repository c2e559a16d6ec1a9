#include "base/clock.h"
#include "base/json.h"
#include "control/archive_private.h"
#include "control/offline.h"
#include "engine/exporter.h"
#include "record/convert.h"

#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define DRAW_EVERY_US (100 * TM_US_PER_MS)
#define BAR_WIDTH 30

/* ---- what was asked for ---- */

/* A day, a minute, or a whole moment; without an offset it is UTC. */
static bool read_moment(const char *text, int64_t *us)
{
    static const char *const endings[] = {"", "Z", ":00Z", ":00:00Z", "T00:00:00Z"};
    char whole[64];
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++) {
        int n = snprintf(whole, sizeof whole, "%s%s", text, endings[i]);
        if (n < (int)sizeof whole && tm_convert_rfc3339(whole, (size_t)n, us) == TM_CONVERT_OK)
            return true;
    }
    return false;
}

static int read_span(struct tm_archive_session *s)
{
    const struct tm_cli *cli = s->cli;
    const char *since = tm_cli_value(cli, "--since"), *until = tm_cli_value(cli, "--until");
    s->since_us = INT64_MIN;
    s->until_us = INT64_MAX;
    if (since && !read_moment(since, &s->since_us))
        return tm_cli_usage(cli->command, "--since: expected a moment like 2026-11-26 or 2026-11-26T05:00, got %s",
                            since);
    if (until && !read_moment(until, &s->until_us))
        return tm_cli_usage(cli->command, "--until: expected a moment like 2026-11-26 or 2026-11-26T05:00, got %s",
                            until);
    if (s->since_us >= s->until_us)
        return tm_cli_usage(cli->command, "--until: expected a moment after --since");
    return TM_EXIT_OK;
}

static int read_streams(struct tm_archive_session *s)
{
    const char *list = tm_cli_value(s->cli, "--streams");
    size_t count = 0;
    char *save = NULL;
    if (!list)
        return TM_EXIT_OK;
    if (strlen(list) >= sizeof s->names)
        return tm_cli_usage(s->cli->command, "--streams: expected names with commas between them");
    (void)snprintf(s->names, sizeof s->names, "%s", list);
    for (char *name = strtok_r(s->names, ",", &save); name; name = strtok_r(NULL, ",", &save)) {
        if (count == TM_ARCHIVE_STREAMS_MAX)
            return tm_cli_usage(s->cli->command, "--streams: expected at most %d names", TM_ARCHIVE_STREAMS_MAX);
        if (!tm_plan_stream_by_name(s->config->plan, name))
            return tm_cli_usage(s->cli->command, "--streams: the script declares no stream %s", name);
        s->streams[count++] = name;
    }
    return count ? TM_EXIT_OK : tm_cli_usage(s->cli->command, "--streams: expected names with commas between them");
}

const char *const *tm_archive_streams(const struct tm_archive_session *s)
{
    return s->streams[0] ? s->streams : NULL;
}

static int read_target(struct tm_archive_session *s)
{
    const char *from = tm_cli_value(s->cli, "--from");
    struct tm_error err;
    s->settings = s->config->role == TM_CONFIG_GATHERER ? s->config->gatherer.archive : s->config->deduplicator.archive;
    if (from)
        s->settings.to = from;
    if (!s->settings.to)
        return tm_cli_usage(s->cli->command, "the script sets no archive: expected archive = { to = ... } in it%s",
                            strcmp(s->cli->command->name, "restore") == 0 ? ", or --from URL" : "");
    struct tm_target_options options = {.url = s->settings.to, .credentials = s->settings.credentials};
    return tm_target_check(&options, &err) ? tm_cli_usage(s->cli->command, "%s", err.message) : TM_EXIT_OK;
}

int tm_archive_begin(struct tm_archive_session *s, const struct tm_cli *cli, const char *who, const char *path)
{
    *s = (struct tm_archive_session){.cli = cli, .who = who, .stop.fd = -1, .started_us = tm_clock_mono_us()};
    s->json = tm_cli_given(cli, "--json");
    s->terminal = isatty(STDERR_FILENO);
    s->script = tm_offline_load(path);
    if (!s->script)
        return TM_EXIT_CONFIG;
    s->config = tm_script_config(s->script);
    int rc = read_span(s);
    rc = rc ? rc : read_streams(s);
    rc = rc ? rc : read_target(s);
    if (!rc && tm_stop_init(&s->stop)) {
        fprintf(stderr, "%s: no descriptor is free\n", who);
        rc = TM_EXIT_FAILED;
    }
    if (rc) {
        tm_script_destroy(s->script);
        s->script = NULL;
    }
    return rc;
}

/* ---- connections ---- */

int tm_archive_connect(struct tm_archive_session *s, bool writes, struct tm_error *err)
{
    bool gatherer = s->config->role == TM_CONFIG_GATHERER;
    struct tm_pg_options options = {.conninfo =
                                        gatherer ? s->config->gatherer.store : s->config->deduplicator.production,
                                    .application_name = s->who,
                                    .stop = &s->stop,
                                    .statement_us = TM_EXPORT_STATEMENT_US,
                                    .writes = writes && !gatherer};
    return tm_pg_connect(&options, &s->pg, err);
}

int tm_archive_open_target(struct tm_archive_session *s, bool read_only, struct tm_error *err)
{
    struct tm_target_options options = {.url = s->settings.to,
                                        .credentials = s->settings.credentials,
                                        .read_only = read_only,
                                        .stop = &s->stop.stopped};
    return tm_target_open(&options, &s->target, err);
}

static struct tm_stop *stopping;

static void on_signal(int signal_number)
{
    (void)signal_number;
    tm_stop_request(stopping);
}

void tm_archive_heed_signals(struct tm_archive_session *s)
{
    struct sigaction act = {.sa_handler = on_signal, .sa_flags = (int)SA_RESETHAND};
    stopping = &s->stop;
    (void)sigaction(SIGINT, &act, NULL);
    (void)sigaction(SIGTERM, &act, NULL);
}

static void end_line(struct tm_archive_session *s)
{
    if (s->drawn)
        fputs("\r\033[K", stderr);
    s->drawn = false;
}

int tm_archive_end(struct tm_archive_session *s, int rc, const struct tm_error *err)
{
    end_line(s);
    if (rc < 0)
        fprintf(stderr, "%s: %s\n", s->who,
                rc == TM_ESTOPPED ? "stopped; the same command goes on from here" : err->message);
    tm_pg_close(s->pg);
    tm_target_close(s->target);
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    tm_stop_fini(&s->stop);
    tm_script_destroy(s->script);
    tm_buf_fini(&s->gaps);
    return rc < 0 ? TM_EXIT_FAILED : rc;
}

/* ---- how far it is ---- */

void tm_archive_tell(void *arg, const struct tm_restore_counts *c)
{
    struct tm_archive_session *s = arg;
    char bar[BAR_WIDTH + 1];
    int64_t now_us = tm_clock_mono_us();
    if (!s->terminal || s->json || (c->objects_done < c->objects && now_us - s->drawn_us < DRAW_EVERY_US))
        return;
    s->drawn_us = now_us;
    s->drawn = true;
    uint64_t full = c->objects ? c->objects_done * BAR_WIDTH / c->objects : BAR_WIDTH;
    for (size_t i = 0; i < BAR_WIDTH; i++)
        bar[i] = i < full ? '#' : '.';
    bar[BAR_WIDTH] = '\0';
    double seconds = (double)(now_us - s->started_us) / 1e6;
    fprintf(stderr, "\r[%s] %" PRIu64 "/%" PRIu64 " objects, %" PRIu64 " rows, %.0f rows/s%s\033[K", bar,
            c->objects_done, c->objects, c->rows_done, seconds > 0 ? (double)c->rows_done / seconds : 0,
            c->gaps ? ", with gaps" : "");
    fflush(stderr);
}

static void gap_text(const struct tm_restore_gap *gap, const char *from, const char *to)
{
    printf("gap: %s %s to %s", gap->stream, *from ? from : "?", *to ? to : "?");
    if (gap->rows)
        printf(", %" PRIu64 " rows", gap->rows);
    if (*gap->object)
        printf(", %s", gap->object);
    printf(": %s\n", gap->why);
}

static void gap_json(struct tm_archive_session *s, const struct tm_restore_gap *gap, const char *from, const char *to)
{
    struct tm_json j = {.out = &s->gaps};
    tm_json_add(&j, "%s{", s->gaps.len ? "," : "");
    tm_json_add_string(&j, "stream", gap->stream);
    tm_json_add(&j, ",");
    tm_json_add_string(&j, "from", from);
    tm_json_add(&j, ",");
    tm_json_add_string(&j, "to", to);
    tm_json_add(&j, ",");
    tm_json_add_string(&j, "object", gap->object);
    tm_json_add(&j, ",");
    tm_json_add_string(&j, "why", gap->why);
    tm_json_add(&j, ",\"rows\":%" PRIu64 "}", gap->rows);
}

void tm_archive_gap(void *arg, const struct tm_restore_gap *gap)
{
    struct tm_archive_session *s = arg;
    char from[TM_PERIOD_TEXT] = "", to[TM_PERIOD_TEXT] = "";
    if (gap->to_us) {
        (void)tm_period_text(gap->from_us, from);
        (void)tm_period_text(gap->to_us, to);
    }
    end_line(s);
    if (s->json)
        gap_json(s, gap, from, to);
    else
        gap_text(gap, from, to);
}
