#include "control/restore.h"
#include "control/offline.h"
#include "control/restore_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define ROWS_PER_S 50000 /* a catch-up on two cores: tests/bench/bench_merge.py */

const struct tm_cli_option tm_restore_plan_options[] = {
    {"--rate", "ROWS", "rows a second, to say how long it takes; default 50000"},
    {0},
};

const struct tm_cli_option tm_rewind_options[] = {
    {"--to", "TIME", "as PostgreSQL reads it; what was received since then is polled again"},
    {"--stream", "NAME", "of this stream only"},
    {"--dry-run", NULL, "say what would be moved, and move nothing"},
    {"--rate", "ROWS", "rows a second, to say how long it takes; default 50000"},
    {0},
};

/* ---- telling ---- */

static void print_line(const struct tm_holdings *h, const struct tm_holding *one)
{
    printf("%-12s %-22s %12" PRId64 " %12" PRId64 " %12" PRId64 "  %-20s", one->gatherer, one->stream,
           tm_holding_from(h, one) + 1, one->there, tm_holding_rows(h, one), *one->first ? one->first : "-");
    if (one->gone)
        printf(" %" PRId64 " rows are gone", one->gone);
    putchar('\n');
}

/* What each gatherer misses of a stream, as one array of multiranges; one that was not asked misses everything. */
static int put_gaps(const struct tm_holdings *h, struct tm_buf *sql)
{
    const char *comma = "";
    int rc = tm_buf_printf(sql, "SELECT stream, to_char(lower(s) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS'), "
                                "to_char(upper(s) AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM (SELECT stream, "
                                "unnest(range_intersect_agg(g)) AS s FROM (SELECT stream, gatherer, "
                                "range_agg(gaps::tstzmultirange) AS g FROM (VALUES ");
    for (size_t i = 0; !rc && i < h->count; i++) {
        rc = tm_buf_printf(sql, "%s('%s','%s','%s')", comma, h->items[i].stream, h->items[i].gatherer,
                           h->items[i].gaps.len ? (const char *)h->items[i].gaps.data : "{}");
        comma = ",";
    }
    return rc ? rc : tm_buf_printf(sql, ") v (stream, gatherer, gaps) GROUP BY 1, 2) x GROUP BY 1) y ORDER BY 1, 2");
}

static int print_gone(const struct tm_holdings *h, bool *gone, struct tm_error *err)
{
    struct tm_buf sql = {0};
    PGresult *r;
    if (!h->count)
        return TM_OK;
    int rc = put_gaps(h, &sql) || !tm_buf_cstr(&sql) ? tm_error_set(err, TM_ENOMEM, "out of memory") : TM_OK;
    rc = rc ? rc : tm_pg_query(h->production, (const char *)sql.data, 0, NULL, &r, err);
    tm_buf_fini(&sql);
    if (rc)
        return rc;
    *gone = PQntuples(r) > 0;
    if (*gone)
        puts("no gatherer holds any more (arrival, UTC):");
    for (int i = 0; i < PQntuples(r); i++)
        printf("    %-22s %s to %s\n", PQgetvalue(r, i, 0), PQgetvalue(r, i, 1), PQgetvalue(r, i, 2));
    PQclear(r);
    return TM_OK;
}

int tm_holdings_print(struct tm_holdings *h, long long rows_per_s, bool *gone, struct tm_error *err)
{
    int64_t rows = 0;
    printf("%-12s %-22s %12s %12s %12s  %-20s\n", "gatherer", "stream", "from seq", "to seq", "rows", "from (UTC)");
    for (size_t i = 0; i < h->count; i++) {
        const struct tm_holding *one = &h->items[i];
        if (one->there <= tm_holding_from(h, one))
            continue;
        rows += tm_holding_rows(h, one);
        print_line(h, one);
    }
    printf("%" PRId64 " rows are polled again: about %" PRId64 " s at %lld rows/s\n", rows,
           (int64_t)((rows + rows_per_s - 1) / rows_per_s), rows_per_s);
    return print_gone(h, gone, err);
}

/* ---- moving ---- */

static int move_one(struct tm_holdings *h, const struct tm_holding *one, struct tm_error *err)
{
    char target[24], hash[24];
    const char *values[] = {one->gatherer, one->epoch, one->stream, target, hash};
    (void)snprintf(target, sizeof target, "%" PRId64, one->target);
    (void)snprintf(hash, sizeof hash, "%" PRId64, one->hash);
    if (!one->target)
        return tm_pg_run(h->production,
                         "DELETE FROM tidemill.cursors WHERE gatherer = $1 AND epoch = $2::uuid AND stream = $3", 3,
                         values, NULL, err);
    return tm_pg_run(h->production,
                     "UPDATE tidemill.cursors SET seq = $4::int8, hash = $5::int8, updated_at = now() WHERE "
                     "gatherer = $1 AND epoch = $2::uuid AND stream = $3 AND seq > $4::int8",
                     5, values, NULL, err);
}

/* Whoever writes loses its lease, and with it all that it remembers, in the same moment. */
static int move(struct tm_holdings *h, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < h->count; i++)
        if (h->items[i].target < h->items[i].ahead)
            rc = move_one(h, &h->items[i], err);
    return rc ? rc
              : tm_pg_exec(h->production,
                           "UPDATE tidemill.leases SET token = md5(random()::text), released = true; COMMIT", err);
}

/* Cursors are locked first: what is looked at does not move any more. */
static int rewind_cursors(struct tm_holdings *h, long long rate, bool dry, bool *gone, struct tm_error *err)
{
    int rc =
        tm_pg_exec(h->production,
                   dry ? "BEGIN READ ONLY"
                       : "BEGIN; SET LOCAL lock_timeout = '10s'; LOCK tidemill.cursors IN SHARE ROW EXCLUSIVE MODE",
                   err);
    rc = rc ? rc : tm_holdings_look(h, err);
    rc = rc ? rc : tm_holdings_print(h, rate, gone, err);
    if (!rc && h->away && !dry)
        return tm_error_set(err, TM_ESTATE, "refused while a gatherer cannot be asked: its cursors would stay behind");
    return rc || dry ? rc : move(h, err);
}

/* ---- commands ---- */

static bool rate_of(const struct tm_cli *cli, long long *rate)
{
    const char *text = tm_cli_value(cli, "--rate");
    *rate = ROWS_PER_S;
    return !text || tm_cli_number(text, 1, INT64_C(1000000000), rate);
}

static struct tm_script *load(const struct tm_cli *cli, const char *who)
{
    struct tm_script *script = tm_offline_load(cli->files[0]);
    if (!script || tm_script_config(script)->role == TM_CONFIG_DEDUPLICATOR)
        return script;
    fprintf(stderr, "%s: %s declares a gatherer; expected the deduplicator's script\n", who, cli->files[0]);
    tm_script_destroy(script);
    return NULL;
}

static int finish(struct tm_holdings *h, struct tm_script *script, int rc, bool gone, const struct tm_error *err)
{
    if (rc)
        fprintf(stderr, "%s: %s\n", h->who, err->message[0] ? err->message : tm_code_name(rc));
    size_t away = h->away;
    tm_holdings_close(h);
    tm_script_destroy(script);
    return rc || gone || away ? TM_EXIT_FAILED : TM_EXIT_OK;
}

int tm_restore_plan_command(const struct tm_cli *cli)
{
    long long rate;
    bool gone = false;
    struct tm_error err = {0};
    struct tm_holdings h = {.who = "tidemill restore-plan", .stop.fd = -1};
    if (!rate_of(cli, &rate))
        return tm_cli_usage(cli->command, "--rate: expected rows a second");
    struct tm_script *script = load(cli, h.who);
    if (!script)
        return TM_EXIT_CONFIG;
    h.config = tm_script_config(script);
    int rc = tm_holdings_open(&h, &err);
    rc = rc ? rc : tm_holdings_look(&h, &err);
    rc = rc ? rc : tm_holdings_print(&h, rate, &gone, &err);
    return finish(&h, script, rc, gone, &err);
}

/* PostgreSQL says what it takes for a moment, and what it made of it. */
static int read_moment(struct tm_holdings *h, const char *text, char out[64], struct tm_error *err)
{
    const char *values[] = {text};
    int rc = tm_pg_query_text(h->production, "SELECT $1::timestamptz", 1, values, out, 64, err);
    if (!rc)
        h->to = out;
    return rc ? tm_error_wrap(err, "--to") : TM_OK;
}

int tm_rewind_command(const struct tm_cli *cli)
{
    long long rate;
    char moment[64];
    bool gone = false, dry = tm_cli_given(cli, "--dry-run");
    struct tm_error err = {0};
    struct tm_holdings h = {.who = "tidemill rewind", .to = tm_cli_value(cli, "--to"), .stop.fd = -1};
    if (!rate_of(cli, &rate) || !h.to)
        return tm_cli_usage(cli->command, "expected --to TIME, and --rate with rows a second");
    struct tm_script *script = load(cli, h.who);
    if (!script)
        return TM_EXIT_CONFIG;
    h.config = tm_script_config(script);
    h.stream = tm_cli_value(cli, "--stream");
    int rc = h.stream && !tm_plan_stream_by_name(h.config->plan, h.stream)
                 ? tm_error_set(&err, TM_EINVAL, "--stream: the script declares no stream %.63s", h.stream)
                 : TM_OK;
    rc = rc ? rc : tm_holdings_open(&h, &err);
    rc = rc ? rc : read_moment(&h, h.to, moment, &err);
    rc = rc ? rc : rewind_cursors(&h, rate, dry, &gone, &err);
    if (!rc)
        puts(dry ? "nothing was moved (--dry-run)" : "the cursors were moved back; the deduplicator polls from there");
    return finish(&h, script, rc, gone, &err);
}
