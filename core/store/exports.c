#include "store/exports.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Unix microseconds and timestamptz. */
#define TIME_OF(n) "(timestamptz 'epoch' + $" #n "::int8 * interval '1 microsecond')"
#define US_OF(expr) "(extract(epoch FROM " expr ") * 1000000)::int8"

/* Shorter than a lease, whose renewals wait behind us. */
#define BARRIER_SQL "BEGIN; SET LOCAL lock_timeout = '500ms'; LOCK TABLE tidemill.leases IN EXCLUSIVE MODE; COMMIT"

static int64_t us_at(const PGresult *r, int column)
{
    return PQgetisnull(r, 0, column) ? INT64_MIN : strtoll(PQgetvalue(r, 0, column), NULL, 10);
}

int tm_exports_note_late(struct tm_pg *pg, const char *stream, const int64_t *hours, size_t count, struct tm_error *err)
{
    struct tm_buf list = {0};
    int rc = tm_buf_append(&list, "{", 1);
    for (size_t i = 0; !rc && i < count; i++)
        rc = tm_buf_printf(&list, "%s%" PRId64, i ? "," : "", hours[i]);
    rc = rc ? rc : tm_buf_append(&list, "}", 1);
    const char *values[] = {stream, rc ? NULL : tm_buf_cstr(&list)};
    rc =
        values[1]
            ? tm_pg_run(pg,
                        "SELECT tidemill.note_late($1, ARRAY(SELECT timestamptz 'epoch' + h * interval '1 microsecond' "
                        "FROM unnest($2::int8[]) h ORDER BY 1))",
                        2, values, NULL, err)
            : tm_error_set(err, TM_ENOMEM, "out of memory for late hours");
    tm_buf_fini(&list);
    return rc;
}

/* ---- where it stands ---- */

/* Stream and column are plain words. */
static int begin_at_first(struct tm_pg *pg, const char *stream, const char *column, int64_t length_us,
                          struct tm_error *err)
{
    char sql[400];
    const char *values[] = {stream, length_us > INT64_C(3600000000) ? "day" : "hour"};
    (void)snprintf(sql, sizeof sql,
                   "INSERT INTO tidemill.export_cursors (stream, next_ts, horizon_ts) SELECT $1, first, first FROM "
                   "(SELECT date_trunc($2, min(%s), 'UTC') AS first FROM %s) x WHERE first IS NOT NULL "
                   "ON CONFLICT DO NOTHING",
                   column, stream);
    return tm_pg_run(pg, sql, 2, values, NULL, err);
}

static int read_cursor(struct tm_pg *pg, const char *stream, int64_t *next_us, struct tm_error *err)
{
    PGresult *r;
    const char *values[] = {stream};
    int rc = tm_pg_query(pg, "SELECT " US_OF("next_ts") " FROM tidemill.export_cursors WHERE stream = $1", 1, values,
                         &r, err);
    if (rc)
        return rc;
    *next_us = PQntuples(r) ? us_at(r, 0) : INT64_MIN;
    PQclear(r);
    return TM_OK;
}

int tm_exports_cursor(struct tm_pg *pg, const char *stream, const char *column, int64_t length_us, int64_t *next_us,
                      struct tm_error *err)
{
    int rc = read_cursor(pg, stream, next_us, err);
    if (rc || *next_us != INT64_MIN)
        return rc;
    rc = begin_at_first(pg, stream, column, length_us, err);
    return rc ? rc : read_cursor(pg, stream, next_us, err);
}

int tm_exports_heard(struct tm_pg *pg, const char *stream, int64_t *now_us, int64_t *heard_us, struct tm_error *err)
{
    PGresult *r;
    const char *values[] = {stream};
    /* an epoch that a gatherer has left behind moves no more; what it still has comes late */
    int rc = tm_pg_query(
        pg,
        "SELECT " US_OF("now()") ", count(*) = 0, bool_or(until IS NULL), " US_OF(
            "min(until)") " FROM (SELECT g.gatherer, "
                          "max(h.until) AS until FROM tidemill.gatherers g LEFT JOIN tidemill.heard($1) h USING (gatherer, epoch) "
                          "WHERE g.state = 'active' GROUP BY 1) x",
        1, values, &r, err);
    if (rc)
        return rc;
    *now_us = us_at(r, 0);
    *heard_us = PQgetvalue(r, 0, 1)[0] == 't' ? INT64_MAX : PQgetvalue(r, 0, 2)[0] == 't' ? INT64_MIN : us_at(r, 3);
    PQclear(r);
    return TM_OK;
}

int tm_exports_close(struct tm_pg *pg, const char *stream, int64_t until_us, struct tm_error *err)
{
    struct tm_pg_number until;
    const char *values[] = {stream, tm_pg_number(&until, until_us)};
    int rc = tm_pg_run(
        pg, "UPDATE tidemill.export_cursors SET horizon_ts = greatest(horizon_ts, " TIME_OF(2) ") WHERE stream = $1", 2,
        values, NULL, err);
    if (rc)
        return rc;
    rc = tm_pg_exec(pg, BARRIER_SQL, err);
    if (rc)
        tm_pg_rollback(pg);
    return rc;
}

/* ---- late rows ---- */

int tm_exports_late(struct tm_pg *pg, const char *stream, int64_t settle_us, struct tm_export_late *out,
                    struct tm_error *err)
{
    struct tm_pg_number settle;
    PGresult *r;
    const char *values[] = {stream, tm_pg_number(&settle, settle_us)};
    int rc = tm_pg_query(
        pg,
        "SELECT " US_OF("l.from_ts") ", " US_OF("e.from_ts") ", " US_OF(
            "e.to_ts") ", (SELECT max(at) FROM "
                       "tidemill.export_late n WHERE n.stream = l.stream AND n.from_ts >= coalesce(e.from_ts, l.from_ts) "
                       "AND n.from_ts < coalesce(e.to_ts, l.from_ts + interval '1 hour')) FROM tidemill.export_late l "
                       "LEFT JOIN tidemill.exports e ON e.stream = l.stream AND e.from_ts <= l.from_ts AND "
                       "l.from_ts < e.to_ts JOIN tidemill.export_cursors c ON c.stream = l.stream WHERE l.stream = $1 "
                       "AND l.at <= now() - $2::int8 * interval '1 microsecond' AND l.from_ts < c.next_ts "
                       "ORDER BY l.from_ts LIMIT 1",
        2, values, &r, err);
    if (rc)
        return rc;
    int found = PQntuples(r);
    if (found) {
        *out = (struct tm_export_late){.hour_us = us_at(r, 0), .from_us = us_at(r, 1), .to_us = us_at(r, 2)};
        (void)snprintf(out->at, sizeof out->at, "%s", PQgetvalue(r, 0, 3));
    }
    PQclear(r);
    return found;
}

/* ---- what is done ---- */

static int note_period(struct tm_pg *pg, const struct tm_export_done *d, struct tm_error *err)
{
    struct tm_pg_number from, to, parts, rows, archived, bytes;
    const char *values[] = {d->stream,
                            tm_pg_number(&from, d->from_us),
                            tm_pg_number(&to, d->to_us),
                            tm_pg_number(&parts, (int64_t)d->parts),
                            tm_pg_number(&rows, (int64_t)d->rows),
                            tm_pg_number(&archived, (int64_t)d->archived_rows),
                            tm_pg_number(&bytes, (int64_t)d->bytes),
                            d->archive};
    return tm_pg_run(
        pg,
        "INSERT INTO tidemill.exports (stream, from_ts, to_ts, parts, rows, archived_rows, bytes, archive) VALUES "
        "($1, " TIME_OF(2) ", " TIME_OF(
            3) ", $4, $5, $6, $7, $8) ON CONFLICT (stream, from_ts) DO UPDATE SET "
               "to_ts = excluded.to_ts, parts = excluded.parts, rows = excluded.rows, archived_rows = "
               "excluded.archived_rows, bytes = excluded.bytes, archive = excluded.archive, at = now()",
        8, values, NULL, err);
}

static int move_cursor(struct tm_pg *pg, const struct tm_export_done *d, struct tm_error *err)
{
    struct tm_pg_number to, next;
    int64_t moved = 0;
    const char *values[] = {d->stream, tm_pg_number(&to, d->to_us), tm_pg_number(&next, d->next_us)};
    int rc = tm_pg_run(
        pg,
        "UPDATE tidemill.export_cursors SET next_ts = " TIME_OF(2) ", updated_at = now() WHERE stream = $1 AND "
                                                                   "next_ts = " TIME_OF(3),
        3, values, &moved, err);
    if (!rc && moved != 1)
        return tm_error_set(err, TM_ECONFLICT, "%s: another process has moved the export's cursor", d->stream);
    return rc;
}

static int forget_late(struct tm_pg *pg, const struct tm_export_done *d, struct tm_error *err)
{
    struct tm_pg_number from, to;
    const char *values[] = {d->stream, tm_pg_number(&from, d->from_us), tm_pg_number(&to, d->to_us), d->late_until};
    return tm_pg_run(pg,
                     "DELETE FROM tidemill.export_late WHERE stream = $1 AND from_ts >= " TIME_OF(
                         2) " AND from_ts < " TIME_OF(3) " AND at <= $4::timestamptz",
                     4, values, NULL, err);
}

int tm_exports_commit(struct tm_pg *pg, const struct tm_export_done *d, struct tm_error *err)
{
    int rc = tm_pg_exec(pg, "BEGIN", err);
    rc = rc ? rc : note_period(pg, d, err);
    if (!rc && d->next_us != INT64_MIN)
        rc = move_cursor(pg, d, err);
    if (!rc && d->late_until)
        rc = forget_late(pg, d, err);
    rc = rc ? rc : tm_pg_exec(pg, "COMMIT", err);
    if (rc)
        tm_pg_rollback(pg);
    return rc;
}

/* ---- before a day is dropped ---- */

static int note_day(struct tm_pg *pg, const char *const *values, struct tm_error *err)
{
    return tm_pg_run(
        pg,
        "INSERT INTO tidemill.export_late (stream, from_ts) SELECT $1, h FROM generate_series("
        "to_date($2, 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC', to_date($2, 'YYYYMMDD')::timestamp AT TIME ZONE "
        "'UTC' + interval '23 hours', interval '1 hour') h ON CONFLICT DO NOTHING",
        2, values, NULL, err);
}

/* Notes that are there, or rows beyond those of the last look: then the hours are looked at again. */
int tm_exports_expect_day(struct tm_pg *pg, const char *stream, const char *partition, const char *day,
                          struct tm_error *err)
{
    char sql[900], verdict[16];
    const char *values[] = {stream, day};
    (void)snprintf(
        sql, sizeof sql,
        "SELECT CASE WHEN c.next_ts IS NULL OR c.next_ts < d.until THEN 'waits' WHEN EXISTS (SELECT FROM "
        "tidemill.export_late l WHERE l.stream = $1 AND l.from_ts >= d.since AND l.from_ts < d.until) THEN 'late' WHEN "
        "(SELECT count(*) FROM %s) = (SELECT coalesce(sum(rows), 0) FROM tidemill.exports e WHERE e.stream = $1 AND "
        "e.from_ts >= d.since AND e.from_ts < d.until) THEN 'all' ELSE 'differs' END FROM (SELECT "
        "to_date($2, 'YYYYMMDD')::timestamp AT TIME ZONE 'UTC' AS since, (to_date($2, 'YYYYMMDD') + 1)::timestamp AT "
        "TIME ZONE 'UTC' AS until) d LEFT JOIN tidemill.export_cursors c ON c.stream = $1",
        partition);
    int rc = tm_pg_query_text(pg, sql, 2, values, verdict, sizeof verdict, err);
    if (!rc && strcmp(verdict, "differs") == 0)
        rc = note_day(pg, values, err);
    if (rc || strcmp(verdict, "all") == 0)
        return rc;
    return tm_error_set(err, TM_ESTATE, "%s: not all of the day is in the archive yet", partition);
}
