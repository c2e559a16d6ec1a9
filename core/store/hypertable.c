#include "store/hypertable.h"
#include "store/exports.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COMPRESS_MARGIN_US (INT64_C(3600) * 1000000)

/* The views are the extension's, so whether it is there comes first. */
int tm_hypertable_is(struct tm_pg *pg, const char *stream, bool *is, struct tm_error *err)
{
    const char *values[] = {stream};
    int64_t found = 0;
    *is = false;
    int rc =
        tm_pg_query_number(pg, "SELECT count(*) FROM pg_extension WHERE extname = 'timescaledb'", 0, NULL, &found, err);
    if (rc || !found)
        return rc;
    rc = tm_pg_query_number(pg,
                            "SELECT count(*) FROM timescaledb_information.hypertables h JOIN pg_class c ON c.oid = "
                            "to_regclass($1) JOIN pg_namespace n ON n.oid = c.relnamespace WHERE h.hypertable_name = "
                            "c.relname AND h.hypertable_schema = n.nspname",
                            1, values, &found, err);
    *is = found > 0;
    return rc;
}

/* ---- dropping ---- */

/* $1 the stream, $2 keep in microseconds. An hour after its end has become too old, as with partitions. */
#define NEXT_SQL                                                                                                       \
    "SELECT format('%I.%I', chunk_schema, chunk_name), to_char(range_start AT TIME ZONE 'UTC', 'YYYYMMDD'), "          \
    "range_start, range_end, c.reltuples::int8 FROM timescaledb_information.chunks k JOIN pg_class c ON c.oid = "      \
    "to_regclass(format('%I.%I', chunk_schema, chunk_name)) WHERE hypertable_name = $1 AND hypertable_schema = "       \
    "(SELECT nspname FROM pg_namespace n JOIN pg_class t ON t.relnamespace = n.oid WHERE t.oid = to_regclass($1)) "    \
    "AND range_end < now() - $2::int8 * interval '1 microsecond' - interval '1 hour' ORDER BY range_end LIMIT 1"

#define COUNT_MAX 1000000 /* rows that are counted; above it the server's estimate will do */

static int announce(struct tm_pg *pg, const char *stream, struct tm_expired *e, const char *from, const char *to,
                    struct tm_error *err)
{
    char sql[192], rows[24];
    const char *values[] = {stream, e->partition, from, to, rows};
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", e->partition);
    int rc = e->rows > COUNT_MAX ? TM_OK : tm_pg_query_number(pg, sql, 0, NULL, &e->rows, err);
    (void)snprintf(rows, sizeof rows, "%" PRId64, e->rows);
    return rc ? rc
              : tm_pg_run(pg,
                          "INSERT INTO tidemill.dropped (stream, partition, from_ts, to_ts, rows) VALUES ($1, "
                          "$2, $3, $4, $5::int8) ON CONFLICT (stream, partition) DO UPDATE SET rows = "
                          "excluded.rows, at = now()",
                          5, values, NULL, err);
}

static int drop(struct tm_pg *pg, const char *stream, const char *from, const char *to, struct tm_error *err)
{
    const char *values[] = {stream, from, to};
    /* of a chunk that lies between these, its own bounds: that is this one */
    int rc = tm_pg_run(pg,
                       "SELECT drop_chunks($1::regclass, older_than => $3::timestamptz, newer_than => "
                       "$2::timestamptz)",
                       3, values, NULL, err);
    return rc;
}

int tm_hypertable_expire(struct tm_pg *pg, const char *stream, int64_t keep_us, bool archived, struct tm_expired *out,
                         struct tm_error *err)
{
    char keep[24];
    const char *values[] = {stream, keep};
    PGresult *r;
    bool is;
    int rc = tm_hypertable_is(pg, stream, &is, err);
    if (rc || !is)
        return rc;
    (void)snprintf(keep, sizeof keep, "%" PRId64, keep_us);
    rc = tm_pg_query(pg, NEXT_SQL, 2, values, &r, err);
    if (rc)
        return rc;
    int found = PQntuples(r);
    if (found) {
        const char *from = PQgetvalue(r, 0, 2), *to = PQgetvalue(r, 0, 3);
        (void)snprintf(out->partition, sizeof out->partition, "%s", PQgetvalue(r, 0, 0));
        (void)snprintf(out->day, sizeof out->day, "%s", PQgetvalue(r, 0, 1));
        out->rows = strtoll(PQgetvalue(r, 0, 4), NULL, 10);
        rc = archived ? tm_exports_expect_day(pg, stream, out->partition, out->day, err) : TM_OK;
        rc = rc ? rc : announce(pg, stream, out, from, to, err);
        rc = rc ? rc : drop(pg, stream, from, to, err);
    }
    PQclear(r);
    return rc ? rc : found;
}

/* ---- compressing ---- */

int tm_hypertable_compress_sql(const struct tm_stream *s, struct tm_buf *out)
{
    int rc = tm_buf_printf(out, "ALTER TABLE %s SET (timescaledb.compress", s->name);
    if (!rc && s->ticker_column >= 0)
        rc = tm_buf_printf(out, ", timescaledb.compress_segmentby = '%s'", s->columns[s->ticker_column].name);
    return rc ? rc : tm_buf_printf(out, ", timescaledb.compress_orderby = '%s')", s->columns[s->partition_column].name);
}

static int set_compression(struct tm_pg *pg, const struct tm_stream *s, int64_t after_us, struct tm_error *err)
{
    char after[24];
    const char *values[] = {s->name, after};
    struct tm_buf sql = {0};
    (void)snprintf(after, sizeof after, "%" PRId64, after_us);
    int rc = tm_hypertable_compress_sql(s, &sql) || !tm_buf_cstr(&sql) ? tm_error_set(err, TM_ENOMEM, "out of memory")
                                                                       : tm_pg_exec(pg, (const char *)sql.data, err);
    tm_buf_fini(&sql);
    rc = rc ? rc
            : tm_pg_run(pg,
                        "SELECT remove_compression_policy($1::regclass, if_exists => true), "
                        "add_compression_policy($1::regclass, compress_after => $2::int8 * interval '1 microsecond')",
                        2, values, NULL, err);
    return rc;
}

/* What was set last stands in tidemill.meta. */
int tm_hypertable_compress(struct tm_pg *pg, const struct tm_stream *s, int64_t compress_us, struct tm_error *err)
{
    char key[80], wanted[24], found[24];
    const char *values[] = {key, wanted};
    bool is;
    (void)snprintf(key, sizeof key, "compress %s", s->name);
    (void)snprintf(wanted, sizeof wanted, "%" PRId64, compress_us);
    int rc =
        tm_pg_query_text(pg, "SELECT value FROM tidemill.meta WHERE key = $1", 1, values, found, sizeof found, err);
    if (rc || strcmp(found, wanted) == 0)
        return rc;
    rc = tm_hypertable_is(pg, s->name, &is, err);
    if (rc || !is)
        return rc;
    rc = set_compression(pg, s, compress_us + COMPRESS_MARGIN_US, err);
    rc = rc ? rc
            : tm_pg_run(pg,
                        "INSERT INTO tidemill.meta VALUES ($1, $2) ON CONFLICT (key) DO UPDATE SET value = "
                        "excluded.value",
                        2, values, NULL, err);
    return rc ? rc : 1;
}
