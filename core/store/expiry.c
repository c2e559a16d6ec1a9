#include "store/expiry.h"
#include "store/exports.h"
#include "store/hypertable.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COUNT_MAX 1000000 /* rows that are counted; above it the server's estimate will do */

/* A day that somebody detached by hand is his: without a line of ours it is no business of ours. */
#define NEXT_SQL                                                                                                       \
    "SELECT c.relname, right(c.relname, 8), coalesce(i.inhdetachpending::text, 'detached'), c.reltuples::int8 "        \
    "FROM pg_class c JOIN pg_class p ON p.oid = to_regclass($1) AND p.relkind = 'p' AND p.relnamespace = "             \
    "c.relnamespace LEFT JOIN pg_inherits i ON i.inhrelid = c.oid AND i.inhparent = p.oid "                            \
    "WHERE c.relkind = 'r' AND c.relname ~ ('^' || $1 || '_p[0-9]{8}$') AND (to_date(right(c.relname, 8), "            \
    "'YYYYMMDD') + 1)::timestamp AT TIME ZONE 'UTC' < now() - $2::int8 * interval '1 microsecond' - interval '1 hour'" \
    " AND (i.inhrelid IS NOT NULL OR EXISTS (SELECT FROM tidemill.dropped d WHERE d.partition = c.relname)) "          \
    "ORDER BY 2 LIMIT 1"

static int count_rows(struct tm_pg *pg, struct tm_expired *e, struct tm_error *err)
{
    char sql[192];
    if (e->rows > COUNT_MAX)
        return TM_OK;
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", e->partition);
    return tm_pg_query_number(pg, sql, 0, NULL, &e->rows, err);
}

/* The line comes first, so that a crash between the two leaves what is there told as gone, and never the reverse. */
static int announce(struct tm_pg *pg, const char *stream, struct tm_expired *e, struct tm_error *err)
{
    char rows[24];
    const char *values[] = {stream, e->partition, e->day, rows};
    int rc = count_rows(pg, e, err);
    (void)snprintf(rows, sizeof rows, "%" PRId64, e->rows);
    return rc ? rc
              : tm_pg_run(pg,
                          "INSERT INTO tidemill.dropped (stream, partition, from_ts, to_ts, rows) SELECT $1, $2, "
                          "d::timestamp AT TIME ZONE 'UTC', (d + 1)::timestamp AT TIME ZONE 'UTC', $4::int8 FROM "
                          "to_date($3, 'YYYYMMDD') d ON CONFLICT (stream, partition) DO UPDATE SET rows = "
                          "dropped.rows + excluded.rows, at = now()",
                          4, values, NULL, err);
}

static int detach(struct tm_pg *pg, const char *stream, const struct tm_expired *e, bool pending, struct tm_error *err)
{
    char sql[256];
    (void)snprintf(sql, sizeof sql, "ALTER TABLE %s DETACH PARTITION %s %s", stream, e->partition,
                   pending ? "FINALIZE" : "CONCURRENTLY");
    return tm_pg_exec(pg, sql, err);
}

static int next(struct tm_pg *pg, const char *stream, int64_t keep_us, struct tm_expired *out, char state[16],
                struct tm_error *err)
{
    char keep[24];
    const char *values[] = {stream, keep};
    PGresult *r;
    (void)snprintf(keep, sizeof keep, "%" PRId64, keep_us);
    int rc = tm_pg_query(pg, NEXT_SQL, 2, values, &r, err);
    if (rc)
        return rc;
    int found = PQntuples(r);
    if (found) {
        (void)snprintf(out->partition, sizeof out->partition, "%s", PQgetvalue(r, 0, 0));
        (void)snprintf(out->day, sizeof out->day, "%s", PQgetvalue(r, 0, 1));
        (void)snprintf(state, 16, "%s", PQgetvalue(r, 0, 2));
        out->rows = strtoll(PQgetvalue(r, 0, 3), NULL, 10);
    }
    PQclear(r);
    return found;
}

int tm_expiry_step(struct tm_pg *pg, const char *stream, int64_t keep_us, bool archived, struct tm_expired *out,
                   struct tm_error *err)
{
    char state[16], sql[192];
    int rc = next(pg, stream, keep_us, out, state, err);
    if (rc <= 0)
        return rc ? rc : tm_hypertable_expire(pg, stream, keep_us, archived, out, err);
    /* before it is announced: what was announced is told as gone already */
    rc = archived && strcmp(state, "false") == 0 ? tm_exports_expect_day(pg, stream, out->partition, out->day, err)
                                                 : TM_OK;
    if (!rc && strcmp(state, "false") == 0)
        rc = announce(pg, stream, out, err);
    if (!rc && strcmp(state, "detached") != 0)
        rc = detach(pg, stream, out, strcmp(state, "true") == 0, err);
    (void)snprintf(sql, sizeof sql, "DROP TABLE %s", out->partition);
    rc = rc ? rc : tm_pg_exec(pg, sql, err);
    return rc ? rc : 1;
}
