#include "control/archive.h"
#include "archive/restore.h"
#include "base/clock.h"
#include "base/json.h"
#include "control/archive_private.h"
#include "control/offline.h"
#include "engine/exporter.h"
#include "store/exports.h"
#include "store/migrate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

const struct tm_cli_option tm_archive_options[] = {
    {"--since", "TIME", "verify: from there on; 2026-11-26, 2026-11-26T05:00 or as RFC 3339, UTC"},
    {"--until", "TIME", "verify: up to there"},
    {"--streams", "A,B", "these streams only"},
    {"--deep", NULL, "verify: read every object and compare its bytes with its manifest"},
    {"--json", NULL, "one line of JSON"},
    {0},
};

const struct tm_cli_option tm_restore_options_of_cli[] = {
    {"--from", "URL", "the archive; default: the script's"},
    {"--since", "TIME", "from there on; 2026-11-26, 2026-11-26T05:00 or as RFC 3339, UTC"},
    {"--until", "TIME", "up to there; hours and days that touch the span are whole"},
    {"--streams", "A,B", "these streams only"},
    {"--manifest", "KEY", "what this manifest stands for only, instead of a span"},
    {"--dry-run", NULL, "say what is there and what is missing, and write nothing"},
    {"--json", NULL, "one line of JSON"},
    {0},
};

/* ---- status ---- */

#define STATUS_SQL                                                                                                        \
    "SELECT to_char(c.next_ts AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI'), (SELECT count(*) FROM tidemill.exports e WHERE " \
    "e.stream = $1), (SELECT coalesce(sum(rows), 0) FROM tidemill.exports e WHERE e.stream = $1), (SELECT "               \
    "coalesce(sum(bytes), 0) FROM tidemill.exports e WHERE e.stream = $1), (SELECT count(*) FROM tidemill.export_late l " \
    "WHERE l.stream = $1), greatest(0, extract(epoch FROM now() - c.next_ts) - ($2::int8 + $3::int8) / 1e6)::int8 FROM "  \
    "tidemill.export_cursors c WHERE c.stream = $1"

static int print_stream(struct tm_archive_session *s, const struct tm_stream *stream, struct tm_buf *out,
                        struct tm_error *err)
{
    char length[24], lag[24];
    int64_t length_us = tm_archive_length_us(&s->settings, stream);
    const char *values[] = {stream->name, length, lag};
    PGresult *r;
    (void)snprintf(length, sizeof length, "%" PRId64, length_us);
    (void)snprintf(lag, sizeof lag, "%" PRId64, s->settings.lag_us);
    int rc = tm_pg_query(s->pg, STATUS_SQL, 3, values, &r, err);
    if (rc)
        return rc;
    bool known = PQntuples(r) > 0;
    const char *every = length_us == TM_PERIOD_DAY_US ? "day" : "hour";
#define TEXT(column, none) (known ? PQgetvalue(r, 0, column) : (none))
    if (s->json)
        rc = tm_buf_printf(
            out,
            "%s{\"stream\":\"%s\",\"every\":\"%s\",\"until\":\"%s\",\"periods\":%s,\"rows\":%s,\"bytes\":%s,"
            "\"late_hours\":%s,\"lag_seconds\":%s}",
            out->len > 1 ? "," : "", stream->name, every, TEXT(0, ""), TEXT(1, "0"), TEXT(2, "0"), TEXT(3, "0"),
            TEXT(4, "0"), TEXT(5, "0"));
    else
        rc = tm_buf_printf(out, "%-22s %-5s %-17s %9s %14s %16s %6s %10s\n", stream->name, every, TEXT(0, "-"),
                           TEXT(1, "0"), TEXT(2, "0"), TEXT(3, "0"), TEXT(4, "0"), TEXT(5, "0"));
#undef TEXT
    PQclear(r);
    return rc ? tm_error_set(err, rc, "out of memory") : TM_OK;
}

static bool is_asked_for(const struct tm_archive_session *s, const struct tm_stream *stream)
{
    const char *const *names = tm_archive_streams(s);
    for (; names && *names; names++)
        if (strcmp(*names, stream->name) == 0)
            return true;
    return !tm_archive_streams(s);
}

static int status(struct tm_archive_session *s, struct tm_error *err)
{
    struct tm_buf out = {0};
    int rc = tm_archive_connect(s, false, err);
    if (!rc && (s->json ? tm_buf_printf(&out, "[")
                        : tm_buf_printf(&out, "%-22s %-5s %-17s %9s %14s %16s %6s %10s\n", "stream", "every",
                                        "archived until", "periods", "rows", "bytes", "late", "overdue s")))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory");
    for (size_t i = 0; !rc && i < tm_plan_stream_count(s->config->plan); i++) {
        const struct tm_stream *stream = tm_plan_stream(s->config->plan, i);
        if (tm_archive_length_us(&s->settings, stream) && is_asked_for(s, stream))
            rc = print_stream(s, stream, &out, err);
    }
    if (!rc && s->json && tm_buf_printf(&out, "]\n"))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory");
    rc = tm_offline_print(&out, rc);
    tm_buf_fini(&out);
    return rc;
}

/* ---- run ---- */

static int export_all(struct tm_archive_session *s, struct tm_export_step *sum, struct tm_error *err)
{
    char identity[128] = "";
    int rc = tm_pg_query_text(s->pg, "SELECT current_database()", 0, NULL, identity, sizeof identity, err);
    struct tm_export_sink sink = {.pg = s->pg, .target = s->target, .settings = &s->settings, .production = identity};
    for (size_t i = 0; !rc && i < tm_plan_stream_count(s->config->plan);) {
        const struct tm_stream *stream = tm_plan_stream(s->config->plan, i);
        struct tm_export_step step;
        char from[TM_PERIOD_TEXT];
        rc = is_asked_for(s, stream) ? tm_export_step(&sink, stream, &step, err) : 0;
        if (rc <= 0) {
            i += rc == 0;
            continue;
        }
        rc = TM_OK;
        sum->rows += step.rows;
        sum->bytes += step.bytes;
        sum->objects += step.objects;
        sum->damaged += step.damaged;
        if (!s->json)
            printf("%s %s: %" PRIu64 " rows, %" PRIu64 " bytes%s%s\n", stream->name,
                   tm_period_text(step.period.from_us, from), step.rows, step.bytes, step.late ? ", late" : "",
                   step.damaged ? ", beside objects that are missing or damaged" : "");
    }
    return rc;
}

/* A script of a gatherer has nothing that is exported by periods. */
static int run(struct tm_archive_session *s, struct tm_error *err)
{
    struct tm_export_step sum = {0};
    int64_t started_us = tm_clock_mono_us();
    int rc = tm_archive_connect(s, true, err);
    if (!rc && s->config->deduplicator.migrate)
        rc = tm_migrate_production(s->pg, s->config->plan, err);
    rc = rc ? rc : tm_archive_open_target(s, false, err);
    rc = rc ? rc : export_all(s, &sum, err);
    double seconds = (double)(tm_clock_mono_us() - started_us) / 1e6;
    printf(s->json ? "{\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"objects\":%u,\"damaged\":%u,\"seconds\":%.3f}\n"
                   : "%" PRIu64 " rows, %" PRIu64 " bytes in %u objects; %u damaged ones were there; %.1f s\n",
           sum.rows, sum.bytes, sum.objects, sum.damaged, seconds);
    return rc ? rc : sum.damaged ? TM_EXIT_FAILED : TM_EXIT_OK;
}

/* ---- verify ---- */

static int verify(struct tm_archive_session *s, struct tm_error *err)
{
    struct tm_restore_counts c;
    struct tm_verify_options options = {.plan = s->config->plan,
                                        .since_us = s->since_us,
                                        .until_us = s->until_us,
                                        .streams = tm_archive_streams(s),
                                        .deep = tm_cli_given(s->cli, "--deep"),
                                        .tell = tm_archive_tell,
                                        .gap = tm_archive_gap,
                                        .arg = s};
    int rc = tm_archive_open_target(s, true, err);
    options.target = s->target;
    rc = rc ? rc : tm_archive_verify(&options, &c, err);
    if (rc)
        return rc;
    const char *gaps = s->gaps.len ? tm_buf_cstr(&s->gaps) : "";
    if (s->json)
        printf("{\"manifests\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"deep\":%s,\"gaps\":[%s]}\n",
               c.objects, c.rows, c.bytes, options.deep ? "true" : "false", gaps ? gaps : "");
    else
        printf("%" PRIu64 " manifests, %" PRIu64 " rows, %" PRIu64 " bytes, %u gaps%s\n", c.objects, c.rows, c.bytes,
               c.gaps, options.deep ? "" : " (--deep reads the objects, too)");
    return c.gaps ? TM_EXIT_FAILED : TM_EXIT_OK;
}

int tm_archive_command(const struct tm_cli *cli)
{
    static const struct {
        const char *name, *who;
        int (*run)(struct tm_archive_session *s, struct tm_error *err);
    } verbs[] = {{"status", "tidemill archive status", status},
                 {"run", "tidemill archive run", run},
                 {"verify", "tidemill archive verify", verify}};
    struct tm_archive_session s;
    struct tm_error err = {0};
    size_t i = 0;
    while (i < sizeof verbs / sizeof *verbs && strcmp(cli->files[0], verbs[i].name) != 0)
        i++;
    if (i == sizeof verbs / sizeof *verbs)
        return tm_cli_usage(cli->command, "expected status, run or verify, got %s", cli->files[0]);
    int rc = tm_archive_begin(&s, cli, verbs[i].who, cli->files[1]);
    if (rc)
        return rc;
    if (s.config->role == TM_CONFIG_GATHERER && verbs[i].run != verify) {
        (void)tm_error_set(&err, TM_EINVAL, "%s declares a gatherer; expected the deduplicator's script",
                           cli->files[1]);
        return tm_archive_end(&s, TM_EINVAL, &err);
    }
    tm_archive_heed_signals(&s);
    return tm_archive_end(&s, verbs[i].run(&s, &err), &err);
}

/* ---- restore ---- */

static int64_t keep_us_of(void *arg, const struct tm_stream *stream)
{
    const struct tm_archive_session *s = arg;
    const struct tm_deduplicator_options *d = &s->config->deduplicator;
    for (size_t i = 0; i < d->retain_count; i++)
        if (strcmp(d->retain[i].stream, stream->name) == 0)
            return d->retain[i].keep_us;
    return 0;
}

static int make_tables(struct tm_archive_session *s, struct tm_error *err)
{
    const struct tm_config *c = s->config;
    if (c->role == TM_CONFIG_GATHERER)
        return c->gatherer.migrate ? tm_migrate_local(s->pg, c->plan, err) : TM_OK;
    return c->deduplicator.migrate ? tm_migrate_production(s->pg, c->plan, err) : TM_OK;
}

static void print_restored(const struct tm_archive_session *s, const struct tm_restore_counts *c, bool dry)
{
    const char *gaps = s->gaps.len ? (const char *)s->gaps.data : "";
    double seconds = (double)(tm_clock_mono_us() - s->started_us) / 1e6;
    if (s->json) {
        printf("{\"manifests\":%" PRIu64 ",\"rows\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"stored\":%" PRIu64
               ",\"duplicate\":%" PRIu64 ",\"refused\":%" PRIu64 ",\"sealed\":%" PRIu64 ",\"resumed\":%" PRIu64
               ",\"dry_run\":%s,\"seconds\":%.3f,\"gaps\":[%s]}\n",
               c->objects, c->rows, c->bytes, c->stored, c->duplicate, c->refused, c->sealed, c->resumed,
               dry ? "true" : "false", seconds, gaps);
        return;
    }
    if (dry)
        printf("%" PRIu64 " rows in %" PRIu64 " manifests, %" PRIu64 " bytes, would be read; nothing was written\n",
               c->rows, c->objects, c->bytes);
    else
        printf("%" PRIu64 " rows: %" PRIu64 " stored, %" PRIu64 " were there already, %" PRIu64
               " refused (see tidemill.quarantine); %.1f s\n",
               c->rows - c->sealed - c->resumed, c->stored, c->duplicate, c->refused, seconds);
    if (c->resumed)
        printf("%" PRIu64 " rows had been done by a restore that was interrupted\n", c->resumed);
    if (c->sealed)
        printf("%" PRIu64 " rows are of days that production keeps no longer (retain); they were left out\n",
               c->sealed);
    printf("%u gaps\n", c->gaps);
}

static int restore(struct tm_archive_session *s, struct tm_error *err)
{
    struct tm_restore_counts c;
    bool gatherer = s->config->role == TM_CONFIG_GATHERER;
    struct tm_restore_options options = {.plan = s->config->plan,
                                         .side = gatherer ? TM_COPY_LOCAL : TM_COPY_PRODUCTION,
                                         .since_us = s->since_us,
                                         .until_us = s->until_us,
                                         .streams = tm_archive_streams(s),
                                         .manifest = tm_cli_value(s->cli, "--manifest"),
                                         .dry_run = tm_cli_given(s->cli, "--dry-run"),
                                         .keep_us = gatherer ? NULL : keep_us_of,
                                         .tell = tm_archive_tell,
                                         .gap = tm_archive_gap,
                                         .arg = s};
    int rc = tm_archive_open_target(s, true, err);
    rc = rc ? rc : tm_archive_connect(s, !options.dry_run, err);
    if (!rc && !options.dry_run)
        rc = make_tables(s, err);
    options.pg = s->pg;
    options.target = s->target;
    rc = rc ? rc : tm_restore(&options, &c, err);
    if (rc)
        return rc;
    if (s->gaps.len && !tm_buf_cstr(&s->gaps))
        return tm_error_set(err, TM_ENOMEM, "out of memory");
    print_restored(s, &c, options.dry_run);
    return c.gaps || c.refused ? TM_EXIT_FAILED : TM_EXIT_OK;
}

int tm_restore_command(const struct tm_cli *cli)
{
    struct tm_archive_session s;
    struct tm_error err = {0};
    if (tm_cli_given(cli, "--manifest") && (tm_cli_given(cli, "--since") || tm_cli_given(cli, "--until")))
        return tm_cli_usage(cli->command, "expected --manifest or a span of time, not both");
    if (!tm_cli_given(cli, "--manifest") && !(tm_cli_given(cli, "--since") && tm_cli_given(cli, "--until")))
        return tm_cli_usage(cli->command, "expected --since TIME and --until TIME, or --manifest KEY");
    int rc = tm_archive_begin(&s, cli, "tidemill restore", cli->files[0]);
    if (rc)
        return rc;
    tm_archive_heed_signals(&s);
    return tm_archive_end(&s, restore(&s, &err), &err);
}
