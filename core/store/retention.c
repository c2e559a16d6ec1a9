#include "store/retention.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Long enough to get in between two looks of a poller, short enough that nobody behind us notices. */
#define LOCK_TIMEOUT "SET LOCAL lock_timeout = '200ms'; "

#define ACK_SQL                                                                                                        \
    "INSERT INTO tidemill.acknowledged (production, epoch, stream, seq) "                                              \
    "SELECT $1, e, s, q FROM unnest($2::uuid[], $3::text[], $4::int8[]) AS u (e, s, q) "                               \
    "ON CONFLICT (production, epoch, stream) DO UPDATE SET seq = excluded.seq, at = now()"

/* Partitions with what they hold, up to where all productions have it, and when their last row was committed. $1: the
 * epoch being written, $2: rows of a partition. */
#define PARTS_SQL                                                                                                      \
    "WITH parts AS (SELECT c.oid::regclass::text AS name, p.relname AS stream, m[1]::int4 AS epoch_no, "               \
    "m[2]::int8 * $2::int8 + 1 AS first_seq, (m[2]::int8 + 1) * $2::int8 AS full_seq FROM pg_inherits i "              \
    "JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent, "                                   \
    "LATERAL regexp_match(c.relname, '_e([0-9]+)_([0-9]+)$') AS m "                                                    \
    "WHERE p.relkind = 'p' AND m IS NOT NULL AND pg_table_is_visible(p.oid)), "                                        \
    "held AS (SELECT x.*, e.epoch, least(x.full_seq, s.seq) AS last_seq, coalesce((SELECT min(coalesce(a.seq, 0)) "    \
    "FROM (SELECT DISTINCT production FROM tidemill.acknowledged) w LEFT JOIN tidemill.acknowledged a "                \
    "ON a.production = w.production AND a.epoch = e.epoch AND a.stream = x.stream), 0) AS acked "                      \
    "FROM parts x JOIN tidemill.epochs e USING (epoch_no) JOIN tidemill.streams s USING (epoch_no, stream) "           \
    "WHERE s.seq >= x.first_seq AND (s.seq >= x.full_seq OR x.epoch_no <> $1::int4)), "                                \
    "dated AS (SELECT h.*, (SELECT committed_at FROM tidemill.marks k WHERE k.epoch_no = h.epoch_no AND "              \
    "k.stream = h.stream AND k.seq >= h.last_seq ORDER BY k.seq LIMIT 1) AS done_at FROM held h) "                     \
    "SELECT name, stream, epoch_no, epoch, first_seq, last_seq, acked, acked < last_seq FROM dated "

/* $3: keep in seconds, $4: pressure, $5: streams that may expire, $6: only this partition */
#define NEXT_SQL                                                                                                       \
    PARTS_SQL                                                                                                          \
    "WHERE ((acked >= last_seq AND ($4::bool OR done_at < now() - make_interval(secs => $3::float8))) "                \
    "OR ($4::bool AND acked < last_seq AND stream = ANY ($5::text[]))) AND ($6::text IS NULL OR name = $6) "           \
    "ORDER BY acked < last_seq, CASE WHEN acked < last_seq THEN array_position($5::text[], stream::text) END, "        \
    "done_at NULLS LAST, epoch_no, first_seq LIMIT 1"

static int array_of(const char *const *names, struct tm_buf *out)
{
    int rc = tm_buf_append(out, "{", 1);
    for (size_t i = 0; !rc && names && names[i]; i++) /* names of streams: letters, digits and '_' */
        rc = tm_buf_printf(out, "%s%s", i ? "," : "", names[i]);
    rc = rc ? rc : tm_buf_append(out, "}", 1);
    return rc ? rc : tm_buf_cstr(out) ? TM_OK : TM_ENOMEM;
}

static void read_part(const PGresult *q, struct tm_retention_part *out)
{
    *out = (struct tm_retention_part){.epoch_no = (int32_t)strtol(PQgetvalue(q, 0, 2), NULL, 10),
                                      .first = strtoll(PQgetvalue(q, 0, 4), NULL, 10),
                                      .last = strtoll(PQgetvalue(q, 0, 5), NULL, 10),
                                      .acknowledged = strtoll(PQgetvalue(q, 0, 6), NULL, 10),
                                      .expires = PQgetvalue(q, 0, 7)[0] == 't'};
    (void)snprintf(out->table, sizeof out->table, "%s", PQgetvalue(q, 0, 0));
    (void)snprintf(out->stream, sizeof out->stream, "%s", PQgetvalue(q, 0, 1));
    (void)snprintf(out->epoch, sizeof out->epoch, "%s", PQgetvalue(q, 0, 3));
}

/* Of the rows that would be lost: how many, and from when to when they came. */
static int measure(struct tm_pg *pg, struct tm_retention_part *p, struct tm_error *err)
{
    struct tm_buf sql = {0};
    PGresult *result;
    /* not every stream has a time of arrival; its commits were soon after */
    int rc = tm_buf_printf(
        &sql,
        "SELECT count(*), (extract(epoch FROM coalesce(min(at), (SELECT min(committed_at) FROM tidemill.marks WHERE "
        "epoch_no = %d AND stream = '%s' AND seq > %" PRId64 "))) * 1000000)::int8, (extract(epoch FROM "
        "coalesce(max(at), (SELECT min(committed_at) FROM tidemill.marks WHERE epoch_no = %d AND stream = '%s' AND "
        "seq >= %" PRId64 "))) * 1000000)::int8 FROM (SELECT (to_jsonb(x) ->> 'received_at')::timestamptz AS at "
        "FROM %s x WHERE seq > %" PRId64 ") rows",
        p->epoch_no, p->stream, p->acknowledged, p->epoch_no, p->stream, p->last, p->table, p->acknowledged);
    rc = rc || !tm_buf_cstr(&sql) ? tm_error_set(err, TM_ENOMEM, "out of memory")
                                  : tm_pg_query(pg, (const char *)sql.data, 0, NULL, &result, err);
    tm_buf_fini(&sql);
    if (rc)
        return rc;
    p->rows = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
    p->from_us = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
    p->to_us = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
    PQclear(result);
    return TM_OK;
}

int tm_retention_next(struct tm_pg *pg, const struct tm_retention_rule *rule, struct tm_retention_part *out,
                      struct tm_error *err)
{
    char epoch_no[16], rows[24], keep[32];
    struct tm_buf expire = {0};
    PGresult *result;
    (void)snprintf(epoch_no, sizeof epoch_no, "%d", rule->epoch_no);
    (void)snprintf(rows, sizeof rows, "%" PRId64, rule->partition_rows);
    (void)snprintf(keep, sizeof keep, "%.6f", (double)rule->keep_us / 1e6);
    int rc = array_of(rule->expire, &expire);
    const char *values[] = {epoch_no, rows, keep, rule->pressure ? "t" : "f", (const char *)expire.data, rule->table};
    rc = rc ? tm_error_set(err, rc, "out of memory") : tm_pg_query(pg, NEXT_SQL, 6, values, &result, err);
    tm_buf_fini(&expire);
    if (rc)
        return rc;
    bool found = PQntuples(result) > 0;
    if (found)
        read_part(result, out);
    PQclear(result);
    if (found && out->expires)
        rc = measure(pg, out, err);
    return rc ? rc : found;
}

/* ---- dropping ---- */

static int note_absent(struct tm_pg *pg, const struct tm_retention_part *p, const char *gatherer, struct tm_error *err)
{
    char first[24], last[24], rows[24], before[24];
    int64_t from = p->expires && p->acknowledged >= p->first ? p->acknowledged + 1 : p->first;
    char detail[sizeof p->archived + 16];
    const char *values[] = {gatherer,
                            p->epoch,
                            p->stream,
                            first,
                            last,
                            rows,
                            p->expires ? "expired" : "released",
                            before,
                            p->expires && *p->archived ? detail : NULL};
    (void)snprintf(detail, sizeof detail, "archived: %s", p->archived);
    (void)snprintf(first, sizeof first, "%" PRId64, from);
    (void)snprintf(last, sizeof last, "%" PRId64, p->last);
    (void)snprintf(rows, sizeof rows, "%" PRIu64, p->expires ? p->rows : (uint64_t)(p->last - p->first + 1));
    (void)snprintf(before, sizeof before, "%" PRId64, from - 1);
    int rc = tm_pg_run(pg,
                       "WITH grown AS (UPDATE tidemill.absent SET last_seq = $5, rows = rows + $6::int8, at = now() "
                       "WHERE epoch = $2::uuid AND stream = $3 AND last_seq = $8::int8 AND reason = $7 AND "
                       "reason = 'released' RETURNING id) "
                       "INSERT INTO tidemill.absent (gatherer, epoch, stream, first_seq, last_seq, rows, reason, "
                       "detail) SELECT $1, $2::uuid, $3, $4::int8, $5::int8, $6::int8, $7, $9 WHERE NOT EXISTS "
                       "(SELECT FROM grown)",
                       9, values, NULL, err);
    return rc;
}

/* What was acknowledged of a partition that expires is absent too. */
static int note_all(struct tm_pg *pg, const struct tm_retention_part *p, const char *gatherer, struct tm_error *err)
{
    struct tm_retention_part released = *p;
    int rc = TM_OK;
    if (p->expires && p->acknowledged >= p->first) {
        released.expires = false;
        released.last = p->acknowledged;
        rc = note_absent(pg, &released, gatherer, err);
    }
    return rc ? rc : note_absent(pg, p, gatherer, err);
}

static int drop(struct tm_pg *pg, const struct tm_retention_part *p, struct tm_error *err)
{
    struct tm_buf sql = {0};
    /* the mark at the end stays: a cursor may stand there */
    int rc = tm_buf_printf(&sql,
                           "DROP TABLE %s; DELETE FROM tidemill.marks WHERE epoch_no = %d AND stream = '%s' AND "
                           "seq < %" PRId64 "; COMMIT",
                           p->table, p->epoch_no, p->stream, p->last);
    rc = rc || !tm_buf_cstr(&sql) ? tm_error_set(err, TM_ENOMEM, "out of memory")
                                  : tm_pg_exec(pg, (const char *)sql.data, err);
    tm_buf_fini(&sql);
    return rc;
}

int tm_retention_drop(struct tm_pg *pg, const struct tm_retention_part *part, const char *gatherer,
                      struct tm_error *err)
{
    int rc = tm_pg_exec(pg, "BEGIN; " LOCK_TIMEOUT, err);
    rc = rc ? rc : note_all(pg, part, gatherer, err);
    rc = rc ? rc : drop(pg, part, err);
    if (rc)
        tm_pg_rollback(pg);
    return rc;
}

int tm_retention_size(struct tm_pg *pg, uint64_t *bytes, struct tm_error *err)
{
    int64_t size = 0;
    int rc = tm_pg_query_number(pg, "SELECT pg_database_size(current_database())", 0, NULL, &size, err);
    if (!rc)
        *bytes = (uint64_t)size;
    return rc;
}

int tm_retention_acknowledged_age(struct tm_pg *pg, int64_t *age_us, struct tm_error *err)
{
    return tm_pg_query_number(pg,
                              "SELECT coalesce((extract(epoch FROM clock_timestamp() - max(at)) * 1000000)::int8, -1) "
                              "FROM tidemill.acknowledged",
                              0, NULL, age_us, err);
}

/* ---- acknowledging ---- */

int tm_retention_production(const char *identity, const char *conninfo, char out[128])
{
    PQconninfoOption *options = PQconninfoParse(conninfo, NULL);
    const char *name = "", *user = "";
    if (!options)
        return TM_EINVAL;
    for (const PQconninfoOption *o = options; o->keyword; o++) {
        if (strcmp(o->keyword, "dbname") == 0 && o->val)
            name = o->val;
        if (strcmp(o->keyword, "user") == 0 && o->val)
            user = o->val;
    }
    (void)snprintf(out, 128, "%.*s/%.64s", (int)strcspn(identity, "/"), identity, *name ? name : user);
    PQconninfoFree(options);
    return TM_OK;
}

int tm_retention_acknowledge(struct tm_pg *pg, const char *production, const char *epochs, const char *streams,
                             const char *seqs, struct tm_error *err)
{
    const char *values[] = {production, epochs, streams, seqs};
    int rc = tm_pg_run(pg, ACK_SQL, 4, values, NULL, err);
    return rc;
}
