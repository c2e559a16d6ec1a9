#include "control/coverage.h"
#include "control/offline.h"
#include "script/script.h"
#include "store/pg.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ANSWER_US (INT64_C(120) * 1000000)

const struct tm_cli_option tm_coverage_options[] = {
    {"--stream", "NAME", "of this stream only; default: each that gatherers claim to have whole"},
    {"--json", NULL, "the pieces as one JSON array"},
    {0},
};

/* Pieces in order; times as people read them, and the reasons as one line. */
#define PIECES                                                                                                         \
    "SELECT coalesce(stream, '(no stream)'), whole, to_char(from_ts AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'), " \
    "to_char(to_ts AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS.MS'), "                                                  \
    "to_char(extract(epoch FROM to_ts - from_ts), 'FM999999999990.000'), "                                             \
    "coalesce((SELECT string_agg(key || ': ' || value, '; ' ORDER BY key) FROM jsonb_each_text(reasons)), ''), "       \
    "ambiguous FROM coverage($1, $2::timestamptz, $3::timestamptz, $4) ORDER BY stream, from_ts"
#define JSON                                                                                                           \
    "SELECT coalesce(json_agg(c), '[]'), coalesce(bool_and(whole), false) "                                            \
    "FROM coverage($1, $2::timestamptz, $3::timestamptz, $4) c"

static bool is_true(const PGresult *r, int row, int column)
{
    return PQgetvalue(r, row, column)[0] == 't';
}

static void print_piece(const PGresult *r, int row)
{
    printf("    %s  to  %s  %12s s  %s\n", PQgetvalue(r, row, 2), PQgetvalue(r, row, 3), PQgetvalue(r, row, 4),
           PQgetvalue(r, row, 5));
    if (strcmp(PQgetvalue(r, row, 6), "0") != 0)
        printf("        %s keys of equal records may have fewer of them than were sent\n", PQgetvalue(r, row, 6));
}

/* The pieces of one stream, from `row` on; returns the first row of the next stream. */
static int print_stream(const PGresult *r, int row, bool *whole)
{
    const char *stream = PQgetvalue(r, row, 0);
    int end = row, missing = 0;
    for (; end < PQntuples(r) && strcmp(PQgetvalue(r, end, 0), stream) == 0; end++)
        missing += !is_true(r, end, 1);
    if (missing)
        printf("%-24s NOT WHOLE in %d %s (UTC)\n", stream, missing, missing == 1 ? "piece" : "pieces");
    else
        printf("%-24s whole\n", stream);
    for (int i = row; i < end; i++)
        if (!is_true(r, i, 1))
            print_piece(r, i);
    *whole &= !missing;
    return end;
}

static bool print_answer(const PGresult *r, bool json)
{
    bool whole = true;
    if (json) {
        puts(PQgetvalue(r, 0, 0));
        return is_true(r, 0, 1);
    }
    for (int row = 0; row < PQntuples(r);)
        row = print_stream(r, row, &whole);
    return whole && PQntuples(r) > 0;
}

static int ask(const char *conninfo, const char *const values[4], bool json, bool *whole, struct tm_error *err)
{
    struct tm_stop stop;
    struct tm_pg *pg = NULL;
    PGresult *result;
    int rc = tm_stop_init(&stop);
    if (rc)
        return tm_error_set(err, rc, "no descriptor is free");
    struct tm_pg_options options = {
        .conninfo = conninfo, .application_name = "tidemill coverage", .stop = &stop, .statement_us = ANSWER_US};
    rc = tm_pg_connect(&options, &pg, err);
    rc = rc ? rc : tm_pg_query(pg, json ? JSON : PIECES, 4, values, &result, err);
    if (!rc) {
        *whole = print_answer(result, json);
        PQclear(result);
    }
    tm_pg_close(pg);
    tm_stop_fini(&stop);
    return rc;
}

int tm_coverage_command(const struct tm_cli *cli)
{
    struct tm_script *script = tm_offline_load(cli->files[0]);
    if (!script)
        return TM_EXIT_CONFIG;
    const struct tm_config *config = tm_script_config(script);
    if (config->role != TM_CONFIG_DEDUPLICATOR) {
        fprintf(stderr, "tidemill coverage: %s declares a gatherer; expected the script of a deduplicator\n",
                cli->files[0]);
        tm_script_destroy(script);
        return TM_EXIT_CONFIG;
    }
    const char *const values[] = {cli->files[1], cli->files[2], cli->files[3], tm_cli_value(cli, "--stream")};
    struct tm_error err;
    bool whole = false;
    int rc = ask(config->deduplicator.production, values, tm_cli_given(cli, "--json"), &whole, &err);
    if (rc)
        fprintf(stderr, "tidemill coverage: %s\n", err.message);
    tm_script_destroy(script);
    return rc || !whole ? TM_EXIT_FAILED : TM_EXIT_OK;
}
