#include "store/migrate.h"
#include "base/clock.h"
#include "record/schema.h"
#include "store/coverage.h"
#include "store/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define DAY_US (INT64_C(86400) * TM_US_PER_S)

/* "tidemill" in ASCII: one migration at a time in a database. */
#define LOCK_SQL "SELECT pg_advisory_xact_lock(8388353641434016876)"

static const char meta_common[] =
    "CREATE SCHEMA IF NOT EXISTS tidemill;\n"
    "CREATE TABLE IF NOT EXISTS tidemill.meta (key text PRIMARY KEY, value text NOT NULL);\n"
    "CREATE TABLE IF NOT EXISTS tidemill.quarantine (\n"
    "    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),\n"
    "    stream text NOT NULL, gatherer text NOT NULL, epoch uuid NOT NULL, seq int8 NOT NULL,\n"
    "    sqlstate text NOT NULL, error text NOT NULL, columns text NOT NULL, tuple bytea NOT NULL);\n"
    "CREATE INDEX IF NOT EXISTS quarantine_place ON tidemill.quarantine (epoch, stream, seq);\n"
    "CREATE TABLE IF NOT EXISTS tidemill.absent (\n"
    "    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),\n"
    "    who text NOT NULL DEFAULT session_user, gatherer text NOT NULL, epoch uuid NOT NULL,\n"
    "    stream text COLLATE \"C\" NOT NULL, first_seq int8 NOT NULL, last_seq int8 NOT NULL, rows int8 NOT NULL,\n"
    "    reason text NOT NULL, detail text, from_ts timestamptz, to_ts timestamptz);\n"
    "CREATE INDEX IF NOT EXISTS absent_place ON tidemill.absent (epoch, stream, last_seq);\n"
    /* how far a restore came that was interrupted (archive/restore.h) */
    "CREATE TABLE IF NOT EXISTS tidemill.restored (\n"
    "    archive text COLLATE \"C\" NOT NULL, object text COLLATE \"C\" NOT NULL, sha256 text NOT NULL, rows int8 NOT NULL,\n"
    "    at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (archive, object));\n"
    "CREATE TABLE IF NOT EXISTS tidemill.keys (\n"
    "    stream text COLLATE \"C\" NOT NULL, from_ts timestamptz NOT NULL, columns text NOT NULL,\n"
    "    occurrence bool NOT NULL, known_since timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (stream, from_ts));\n";

static const char meta_local[] =
    "CREATE TABLE IF NOT EXISTS tidemill.epochs (\n"
    "    epoch_no int4 GENERATED ALWAYS AS IDENTITY PRIMARY KEY, epoch uuid NOT NULL UNIQUE,\n"
    "    gatherer text NOT NULL, created_at timestamptz NOT NULL DEFAULT now());\n"
    "CREATE TABLE IF NOT EXISTS tidemill.checkpoint (\n"
    "    epoch_no int4 PRIMARY KEY REFERENCES tidemill.epochs, segment int8 NOT NULL, journal_offset int8 "
    "NOT NULL);\n"
    "CREATE TABLE IF NOT EXISTS tidemill.streams (\n"
    "    epoch_no int4 NOT NULL REFERENCES tidemill.epochs, stream text COLLATE \"C\" NOT NULL, seq int8 NOT "
    "NULL,\n"
    "    hash int8 NOT NULL, first_seq int8 NOT NULL DEFAULT 1, PRIMARY KEY (epoch_no, stream));\n"
    "CREATE TABLE IF NOT EXISTS tidemill.marks (\n"
    "    epoch_no int4 NOT NULL, stream text COLLATE \"C\" NOT NULL, seq int8 NOT NULL, hash int8 NOT NULL,\n"
    "    committed_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (epoch_no, stream, seq));\n"
    "CREATE TABLE IF NOT EXISTS tidemill.acknowledged (\n"
    "    production text COLLATE \"C\" NOT NULL, epoch uuid NOT NULL, stream text COLLATE \"C\" NOT NULL,\n"
    "    seq int8 NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (production, epoch, stream));\n";

static const char meta_production[] =
    "CREATE TABLE IF NOT EXISTS tidemill.cursors (\n"
    "    gatherer text COLLATE \"C\" NOT NULL, epoch uuid NOT NULL, stream text COLLATE \"C\" NOT NULL,\n"
    "    shard int4 NOT NULL DEFAULT 0, seq int8 NOT NULL, hash int8 NOT NULL,\n"
    "    updated_at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (gatherer, epoch, stream, shard));\n"
    /* a gatherer's epochs: in the script, gone from it, or given up (control/retire.h) */
    "CREATE TABLE IF NOT EXISTS tidemill.gatherers (\n"
    "    gatherer text COLLATE \"C\" NOT NULL, epoch uuid NOT NULL,\n"
    "    state text NOT NULL DEFAULT 'active' CHECK (state IN ('active', 'draining', 'retired')),\n"
    "    first_seen timestamptz NOT NULL DEFAULT now(), changed_at timestamptz NOT NULL DEFAULT now(), detail text,\n"
    "    PRIMARY KEY (gatherer, epoch));\n"
    /* rows of days that were sealed, days that were dropped, and records that gatherers disagree about */
    "CREATE TABLE IF NOT EXISTS tidemill.late (\n"
    "    gatherer text COLLATE \"C\" NOT NULL, epoch uuid NOT NULL, stream text COLLATE \"C\" NOT NULL, seq int8 NOT NULL,\n"
    "    at timestamptz NOT NULL DEFAULT now(), columns text NOT NULL, tuple bytea NOT NULL,\n"
    "    PRIMARY KEY (gatherer, epoch, stream, seq));\n"
    "CREATE TABLE IF NOT EXISTS tidemill.dropped (\n"
    "    stream text COLLATE \"C\" NOT NULL, partition text COLLATE \"C\" NOT NULL, from_ts timestamptz NOT NULL,\n"
    "    to_ts timestamptz NOT NULL, rows int8 NOT NULL, at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (stream, partition));\n"
    "CREATE TABLE IF NOT EXISTS tidemill.conflicts (\n"
    "    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, at timestamptz NOT NULL DEFAULT now(),\n"
    "    stream text COLLATE \"C\" NOT NULL, key jsonb NOT NULL, stored jsonb NOT NULL, came jsonb NOT NULL, gatherer text);\n"
    "CREATE UNIQUE INDEX IF NOT EXISTS conflicts_once ON tidemill.conflicts (stream, md5(key::text), md5((came - "
    "'received_at')::text));\n"
    /* what of each stream is in the archive, and what has to be looked at again (store/exports.h) */
    "CREATE TABLE IF NOT EXISTS tidemill.export_cursors (\n"
    "    stream text COLLATE \"C\" PRIMARY KEY, next_ts timestamptz NOT NULL, horizon_ts timestamptz NOT NULL,\n"
    "    updated_at timestamptz NOT NULL DEFAULT now());\n"
    "CREATE TABLE IF NOT EXISTS tidemill.exports (\n"
    "    stream text COLLATE \"C\" NOT NULL, from_ts timestamptz NOT NULL, to_ts timestamptz NOT NULL, parts int4 NOT NULL,\n"
    "    rows int8 NOT NULL, archived_rows int8 NOT NULL, bytes int8 NOT NULL, archive text NOT NULL,\n"
    "    at timestamptz NOT NULL DEFAULT now(), PRIMARY KEY (stream, from_ts));\n"
    "CREATE TABLE IF NOT EXISTS tidemill.export_late (\n"
    "    stream text COLLATE \"C\" NOT NULL, from_ts timestamptz NOT NULL, at timestamptz NOT NULL DEFAULT clock_timestamp(),\n"
    "    PRIMARY KEY (stream, from_ts));\n"
    "CREATE OR REPLACE FUNCTION tidemill.note_late(of_stream text, hours timestamptz[]) RETURNS void LANGUAGE sql AS $tidemill$\n"
    "    INSERT INTO tidemill.export_late (stream, from_ts) SELECT of_stream, h FROM unnest(hours) h\n"
    "    WHERE h < (SELECT horizon_ts FROM tidemill.export_cursors WHERE stream = of_stream)\n"
    "    ON CONFLICT (stream, from_ts) DO UPDATE SET at = clock_timestamp()\n"
    "$tidemill$;\n"
    /* what policy asks to be brought back from the archive (engine/refill.h) */
    "CREATE TABLE IF NOT EXISTS tidemill.restores (\n"
    "    manifest text COLLATE \"C\" PRIMARY KEY, state text NOT NULL DEFAULT 'wanted' CHECK (state IN ('wanted', 'looked',\n"
    "    'approved', 'done', 'failed')), asked_at timestamptz NOT NULL DEFAULT now(), changed_at timestamptz NOT NULL DEFAULT\n"
    "    now(), rows int8, bytes int8, stored int8, duplicate int8, detail text);\n"
    /* who writes a shard, and the fence of its transactions (store/lease.h) */
    "CREATE TABLE IF NOT EXISTS tidemill.leases (\n"
    "    shard int4 PRIMARY KEY, holder text NOT NULL DEFAULT '', token text NOT NULL DEFAULT '',\n"
    "    generation int8 NOT NULL DEFAULT 0, released bool NOT NULL DEFAULT true,\n"
    "    taken_at timestamptz NOT NULL DEFAULT now(), expires_at timestamptz NOT NULL DEFAULT now(),\n"
    "    pid int4 NOT NULL DEFAULT 0, backend_start timestamptz NOT NULL DEFAULT now());\n"
    /* who is alive to hold one, where there are several (store/shards.h) */
    "CREATE TABLE IF NOT EXISTS tidemill.members (\n"
    "    member text COLLATE \"C\" PRIMARY KEY, name text NOT NULL, started_at timestamptz NOT NULL DEFAULT now(),\n"
    "    expires_at timestamptz NOT NULL, pid int4 NOT NULL, backend_start timestamptz NOT NULL);\n"
    "CREATE OR REPLACE FUNCTION tidemill.guard_lease(wanted int4, ours text) RETURNS void LANGUAGE plpgsql AS $tidemill$\n"
    "BEGIN\n"
    "    PERFORM FROM tidemill.leases WHERE shard = wanted AND token = ours AND NOT released FOR KEY SHARE;\n"
    "    IF NOT FOUND THEN\n"
    "        RAISE EXCEPTION 'the lease of shard % is another deduplicator''s', wanted USING ERRCODE = 'TML01';\n"
    "    END IF;\n"
    "END\n"
    "$tidemill$;\n"
    /* a session that a pooler keeps open may have another server behind it (engine/production.h) */
    "CREATE OR REPLACE FUNCTION tidemill.expect_server(started text) RETURNS void LANGUAGE plpgsql AS $tidemill$\n"
    "BEGIN\n"
    "    IF started::timestamptz <> pg_postmaster_start_time() THEN\n"
    "        RAISE EXCEPTION 'production is another server than the session began with' USING ERRCODE = 'TML02';\n"
    "    END IF;\n"
    "END\n"
    "$tidemill$;\n"
    "CREATE OR REPLACE FUNCTION tidemill.end_backend(wanted int4, started timestamptz) RETURNS int4\n"
    "LANGUAGE plpgsql AS $tidemill$\n"
    "BEGIN\n"
    "    RETURN (SELECT count(*) FROM (SELECT pg_terminate_backend(a.pid) FROM pg_stat_get_activity(wanted) a\n"
    "        WHERE a.backend_start = started AND a.pid <> pg_backend_pid() OFFSET 0) ended);\n"
    "EXCEPTION WHEN insufficient_privilege THEN\n"
    "    RETURN 0;\n"
    "END\n"
    "$tidemill$;\n"
    /* shared with all who merge, and waited for by whoever changes the list (store/keys.h) */
    "CREATE OR REPLACE FUNCTION tidemill.expect_keys(expected text) RETURNS void LANGUAGE plpgsql AS $tidemill$\n"
    "BEGIN\n"
    "    LOCK TABLE tidemill.keys IN ACCESS SHARE MODE;\n"
    "    IF expected IS DISTINCT FROM (SELECT md5(string_agg(concat_ws(' ', stream, from_ts, columns, occurrence), ';'\n"
    "        ORDER BY stream, from_ts)) FROM tidemill.keys) THEN\n"
    "        RAISE EXCEPTION 'another process has changed the keys of production' USING ERRCODE = '55000';\n"
    "    END IF;\n"
    "END\n"
    "$tidemill$;\n";

/* ---- the SQL ---- */

/* What is recorded already stays: whether it may change is judged before (store/keys.h). */
static int keys_sql(const struct tm_plan *plan, struct tm_buf *out)
{
    struct tm_arena *arena = tm_arena_create();
    struct tm_key_list keys = tm_plan_keys(plan, arena);
    char from[TM_MOMENT_TEXT];
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < keys.count; i++) {
        const struct tm_key_record *k = &keys.items[i];
        rc = tm_buf_printf(out,
                           "INSERT INTO tidemill.keys (stream, from_ts, columns, occurrence) VALUES ('%s', '%s', '%s', "
                           "%s) ON CONFLICT DO NOTHING;\n",
                           k->stream, k->from_us == INT64_MIN ? "-infinity" : tm_moment_text(k->from_us, from),
                           k->columns, k->occurrence ? "true" : "false");
    }
    tm_arena_destroy(arena);
    return rc;
}

static int sql_of(const char *own, int (*streams)(const struct tm_plan *, struct tm_buf *), const struct tm_plan *plan,
                  struct tm_buf *out)
{
    int rc = tm_buf_append(out, meta_common, sizeof meta_common - 1);
    rc = rc ? rc : tm_buf_append(out, own, strlen(own));
    rc = rc ? rc : keys_sql(plan, out);
    return rc ? rc : streams(plan, out);
}

int tm_migrate_sql_local(const struct tm_plan *plan, struct tm_buf *out)
{
    return sql_of(meta_local, tm_schema_local, plan, out);
}

int tm_migrate_sql_production(const struct tm_plan *plan, struct tm_buf *out)
{
    int rc = sql_of(meta_production, tm_schema_production, plan, out);
    return rc ? rc : tm_coverage_sql(out);
}

/* ---- running it ---- */

/* BEGIN under the lock; `end` ends the transaction, whichever way it went. */
static int begin(struct tm_pg *pg, struct tm_error *err)
{
    return tm_pg_exec(pg, "BEGIN; SET LOCAL client_min_messages = warning; " LOCK_SQL, err);
}

static int end(struct tm_pg *pg, int rc, struct tm_error *err)
{
    if (!rc)
        return tm_pg_exec(pg, "COMMIT", err);
    tm_pg_rollback(pg);
    return rc;
}

/* The tables of the plan that the search path does not find, e.g. since somebody dropped one by hand. */
static int count_missing(struct tm_pg *pg, const struct tm_plan *plan, char *out, size_t size, struct tm_error *err)
{
    struct tm_buf names = {0};
    int rc = tm_buf_printf(&names, "{tidemill.meta");
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++)
        rc = tm_buf_printf(&names, ",%s", tm_plan_stream(plan, i)->name);
    rc = rc ? rc : tm_buf_printf(&names, "}");
    const char *values[] = {rc ? NULL : tm_buf_cstr(&names)};
    rc = values[0] ? tm_pg_query_text(pg, "SELECT count(*) FROM unnest($1::text[]) AS n WHERE to_regclass(n) IS NULL",
                                      1, values, out, size, err)
                   : tm_error_set(err, TM_ENOMEM, "out of memory for the schema");
    tm_buf_fini(&names);
    return rc;
}

static int is_current(struct tm_pg *pg, const struct tm_plan *plan, const char *hash, bool *current,
                      struct tm_error *err)
{
    char found[32];
    int rc = count_missing(pg, plan, found, sizeof found, err);
    *current = false;
    if (rc || strcmp(found, "0") != 0)
        return rc;
    rc =
        tm_pg_query_text(pg, "SELECT value FROM tidemill.meta WHERE key = 'schema'", 0, NULL, found, sizeof found, err);
    *current = strcmp(found, hash) == 0;
    return rc;
}

static int apply(struct tm_pg *pg, const struct tm_plan *plan, enum tm_copy_side side, const char *sql,
                 const char *hash, struct tm_error *err)
{
    const char *values[] = {hash};
    int rc = begin(pg, err);
    rc = rc ? rc : tm_keys_judge(pg, plan, side, err);
    rc = rc ? rc : tm_pg_exec(pg, sql, err);
    if (!rc && side == TM_COPY_PRODUCTION)
        rc = tm_keys_index_days(pg, plan, err);
    rc = rc ? rc
            : tm_pg_run(pg,
                        "INSERT INTO tidemill.meta VALUES ('schema', $1) "
                        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                        1, values, NULL, err);
    return end(pg, rc, err);
}

/* A schema that is there already is left alone: no lock is taken, and a role without rights to change it can
 * start. */
static int migrate(struct tm_pg *pg, const struct tm_plan *plan, enum tm_copy_side side, struct tm_buf *sql, int rc,
                   struct tm_error *err)
{
    const char *text = rc ? NULL : tm_buf_cstr(sql);
    char hash[32];
    bool current;
    if (!text) {
        tm_buf_fini(sql);
        return tm_error_set(err, TM_ENOMEM, "out of memory for the schema");
    }
    (void)snprintf(hash, sizeof hash, "%016" PRIx64, tm_hash64(sql->data, sql->len, 0));
    rc = is_current(pg, plan, hash, &current, err);
    if (!rc && !current)
        rc = apply(pg, plan, side, text, hash, err);
    tm_buf_fini(sql);
    return rc;
}

int tm_migrate_local(struct tm_pg *pg, const struct tm_plan *plan, struct tm_error *err)
{
    struct tm_buf sql = {0};
    return migrate(pg, plan, TM_COPY_LOCAL, &sql, tm_migrate_sql_local(plan, &sql), err);
}

int tm_migrate_production(struct tm_pg *pg, const struct tm_plan *plan, struct tm_error *err)
{
    struct tm_buf sql = {0};
    return migrate(pg, plan, TM_COPY_PRODUCTION, &sql, tm_migrate_sql_production(plan, &sql), err);
}

/* ---- epochs ---- */

void tm_uuid_format(const uint8_t uuid[16], char out[37])
{
    static const char hex[] = "0123456789abcdef";
    char *at = out;
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *at++ = '-';
        *at++ = hex[uuid[i] >> 4];
        *at++ = hex[uuid[i] & 15];
    }
    *at = '\0';
}

static int register_epoch(struct tm_pg *pg, const char *epoch, const char *gatherer, int32_t *epoch_no,
                          struct tm_error *err)
{
    const char *values[] = {epoch, gatherer};
    char number[16];
    int rc = tm_pg_query_text(pg, "SELECT epoch_no FROM tidemill.epochs WHERE epoch = $1", 1, values, number,
                              sizeof number, err);
    if (!rc && !*number)
        rc = tm_pg_query_text(pg, "INSERT INTO tidemill.epochs (epoch, gatherer) VALUES ($1, $2) RETURNING epoch_no", 2,
                              values, number, sizeof number, err);
    *epoch_no = (int32_t)strtol(number, NULL, 10);
    return rc;
}

/* What the tables' defaults were set for: this epoch, and the schema it was done under (a stream added later
 * needs it too). */
#define DEFAULTS_VALUE "(SELECT $1 || ' ' || value FROM tidemill.meta WHERE key = 'schema')"

/* Rows do not carry their epoch's number: it is the default of the column, changed when another journal takes
 * over. */
static int set_defaults(struct tm_pg *pg, const struct tm_plan *plan, const char *number, struct tm_error *err)
{
    const char *values[] = {number};
    struct tm_buf sql = {0};
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++)
        rc = tm_buf_printf(&sql, "ALTER TABLE ONLY %s ALTER COLUMN epoch_no SET DEFAULT %s;",
                           tm_plan_stream(plan, i)->name, number);
    const char *text = rc ? NULL : tm_buf_cstr(&sql);
    rc = text ? tm_pg_exec(pg, text, err) : tm_error_set(err, TM_ENOMEM, "out of memory for the epoch");
    tm_buf_fini(&sql);
    rc = rc ? rc
            : tm_pg_run(pg,
                        "INSERT INTO tidemill.meta VALUES ('epoch_no', " DEFAULTS_VALUE ") "
                        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
                        1, values, NULL, err);
    return rc;
}

static int defaults_are_set(struct tm_pg *pg, const char *number, bool *set, struct tm_error *err)
{
    const char *values[] = {number};
    char found[8];
    int rc = tm_pg_query_text(pg, "SELECT value = " DEFAULTS_VALUE " FROM tidemill.meta WHERE key = 'epoch_no'", 1,
                              values, found, sizeof found, err);
    *set = strcmp(found, "t") == 0;
    return rc;
}

int tm_migrate_epoch(struct tm_pg *pg, const struct tm_plan *plan, const uint8_t epoch[16], const char *gatherer,
                     int32_t *epoch_no, struct tm_error *err)
{
    char text[37], number[16];
    bool set = false;
    tm_uuid_format(epoch, text);
    int rc = begin(pg, err);
    rc = rc ? rc : register_epoch(pg, text, gatherer, epoch_no, err);
    (void)snprintf(number, sizeof number, "%d", *epoch_no);
    rc = rc ? rc : defaults_are_set(pg, number, &set, err);
    if (!rc && !set)
        rc = set_defaults(pg, plan, number, err);
    return end(pg, rc, err);
}

/* ---- partitions ---- */

struct partition {
    const char *table; /* the parent */
    char name[128], from[64], to[64];
    char check[512]; /* a statement that says the bounds again, while there is nothing to read; "": none */
    const struct tm_stream *unique; /* the stream whose keys the partition has indexes of its own for; NULL: none */
    int64_t day_us;
};

/*
 * Looked up in the catalog's tables: to_regclass may answer from a cache that does not know yet what was made
 * while we waited for the lock. A table of this name that was detached by hand is not one; making it again
 * then fails and says so, where rows that find no partition would be refused one by one.
 */
static int is_attached(struct tm_pg *pg, const struct partition *p, bool *there, struct tm_error *err)
{
    const char *values[] = {p->table, p->name};
    char found[8];
    int rc = tm_pg_query_text(pg,
                              "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
                              "WHERE i.inhparent = to_regclass($1) AND c.relname = $2",
                              2, values, found, sizeof found, err);
    *there = strcmp(found, "1") == 0;
    return rc;
}

/* Made beside the parent and then attached: that needs no lock that readers or the writer would wait for. */
static int make_partition(struct tm_pg *pg, const struct partition *p, struct tm_error *err)
{
    char create[256], attach[512];
    bool there = false;
    (void)snprintf(create, sizeof create, "CREATE TABLE %s (LIKE %s INCLUDING ALL)", p->name, p->table);
    (void)snprintf(attach, sizeof attach, "ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM (%s) TO (%s)", p->table,
                   p->name, p->from, p->to);
    int rc = begin(pg, err);
    rc = rc ? rc : is_attached(pg, p, &there, err);
    if (!rc && !there)
        rc = tm_pg_exec(pg, create, err);
    if (!rc && !there && *p->check)
        rc = tm_pg_exec(pg, p->check, err);
    if (!rc && p->unique)
        rc = tm_keys_index_day(pg, p->unique, p->name, p->day_us, err);
    if (!rc && !there)
        rc = tm_pg_exec(pg, attach, err);
    return end(pg, rc, err);
}

static int is_partitioned(struct tm_pg *pg, const char *table, bool *partitioned, struct tm_error *err)
{
    const char *values[] = {table};
    char found[8];
    int rc = tm_pg_query_text(pg, "SELECT relkind = 'p' FROM pg_class WHERE oid = to_regclass($1)", 1, values, found,
                              sizeof found, err);
    *partitioned = strcmp(found, "t") == 0;
    return rc;
}

/* The bounds of a store's partitions never change, or they would overlap: what is recorded stays, and one that had
 * partitions before it was recorded had them by the default. */
int tm_migrate_partition_rows(struct tm_pg *pg, int64_t wanted, int64_t *rows, struct tm_error *err)
{
    char text[24];
    const char *values[] = {text};
    PGresult *result;
    *rows = TM_PARTITION_ROWS;
    int rc = tm_pg_query_text(pg, "SELECT value FROM tidemill.meta WHERE key = 'partition_rows'", 0, NULL, text,
                              sizeof text, err);
    if (rc || *text) {
        *rows = rc ? *rows : strtoll(text, NULL, 10);
        return rc;
    }
    (void)snprintf(text, sizeof text, "%" PRId64, wanted ? wanted : TM_PARTITION_ROWS);
    rc = tm_pg_query(pg,
                     "INSERT INTO tidemill.meta SELECT 'partition_rows', CASE WHEN EXISTS (SELECT FROM pg_class WHERE "
                     "relispartition AND relkind = 'r') THEN '4000000' ELSE $1 END ON CONFLICT (key) DO NOTHING",
                     1, values, &result, err);
    if (rc)
        return rc;
    PQclear(result);
    rc = tm_pg_query_text(pg, "SELECT value FROM tidemill.meta WHERE key = 'partition_rows'", 0, NULL, text,
                          sizeof text, err);
    *rows = rc ? *rows : strtoll(text, NULL, 10);
    return rc;
}

int tm_migrate_local_partition(struct tm_pg *pg, const struct tm_stream *stream, int32_t epoch_no, int64_t seq,
                               struct tm_error *err)
{
    int64_t rows;
    int rc = tm_migrate_partition_rows(pg, 0, &rows, err);
    return rc ? rc : tm_migrate_local_partition_of(pg, stream, epoch_no, seq, rows, err);
}

int tm_migrate_local_partition_of(struct tm_pg *pg, const struct tm_stream *stream, int32_t epoch_no, int64_t seq,
                                  int64_t rows, struct tm_error *err)
{
    bool partitioned = false;
    int rc = is_partitioned(pg, stream->name, &partitioned, err);
    int64_t number = (seq - 1) / rows;
    for (int64_t n = number; !rc && partitioned && n <= number + 1; n++) {
        struct partition p = {.table = stream->name};
        bool there = false;
        (void)snprintf(p.name, sizeof p.name, "%s_e%d_%" PRId64, stream->name, epoch_no, n);
        (void)snprintf(p.from, sizeof p.from, "%d, %" PRId64, epoch_no, n * rows + 1);
        (void)snprintf(p.to, sizeof p.to, "%d, %" PRId64, epoch_no, (n + 1) * rows + 1);
        rc = is_attached(pg, &p, &there, err);
        if (!rc && !there)
            rc = make_partition(pg, &p, err);
    }
    return rc;
}

int64_t tm_migrate_local_partition_end(int64_t seq, int64_t rows)
{
    return ((seq - 1) / rows + 1) * rows;
}

static struct tm utc_of(int64_t us)
{
    time_t s = (time_t)(us / TM_US_PER_S);
    struct tm utc;
    gmtime_r(&s, &utc);
    return utc;
}

static int64_t day_of(int64_t us)
{
    return (us >= 0 ? us : us - DAY_US + 1) / DAY_US * DAY_US;
}

/* A day that is there already was perhaps made by a process that did not know of a key yet. */
static int make_day(struct tm_pg *pg, const struct tm_stream *stream, bool own_indexes, int64_t day_us,
                    struct tm_error *err)
{
    struct partition p = {.table = stream->name, .unique = own_indexes ? stream : NULL, .day_us = day_us};
    struct tm from = utc_of(day_us), to = utc_of(day_us + DAY_US);
    char day[16];
    bool there = false;
    (void)strftime(day, sizeof day, "%Y%m%d", &from);
    (void)snprintf(p.name, sizeof p.name, "%s_p%s", stream->name, day);
    (void)strftime(p.from, sizeof p.from, "'%Y-%m-%d 00:00:00+00'", &from);
    (void)strftime(p.to, sizeof p.to, "'%Y-%m-%d 00:00:00+00'", &to);
    if (!tm_stream_fixed_key(stream)) /* see tm_keys_index_days */
        (void)snprintf(p.check, sizeof p.check, "ALTER TABLE %s ADD CONSTRAINT day CHECK (%s >= %s AND %s < %s)",
                       p.name, stream->columns[stream->time_column].name, p.from,
                       stream->columns[stream->time_column].name, p.to);
    int rc = is_attached(pg, &p, &there, err);
    return rc || (there && !own_indexes) ? rc : make_partition(pg, &p, err);
}

/* One question for all days: at a start and a take-over they are all there. */
static int have_days(struct tm_pg *pg, const struct tm_stream *stream, int64_t from_us, int64_t to_us, bool *there,
                     struct tm_error *err)
{
    char first[96], last[96], found[24];
    const char *values[] = {stream->name, first, last};
    struct tm from = utc_of(from_us), to = utc_of(to_us);
    int n = snprintf(first, sizeof first, "%s_p", stream->name);
    (void)snprintf(last, sizeof last, "%s", first);
    (void)strftime(first + n, sizeof first - (size_t)n, "%Y%m%d", &from);
    (void)strftime(last + n, sizeof last - (size_t)n, "%Y%m%d", &to);
    int rc = tm_pg_query_text(
        pg,
        "SELECT count(*) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid "
        "WHERE i.inhparent = to_regclass($1) AND c.relname BETWEEN $2 AND $3 AND length(c.relname) = length($2)",
        3, values, found, sizeof found, err);
    *there = strtoll(found, NULL, 10) == (day_of(to_us) - day_of(from_us)) / DAY_US + 1;
    return rc;
}

static int make_days(struct tm_pg *pg, const struct tm_stream *stream, int64_t from_us, int64_t to_us,
                     struct tm_error *err)
{
    bool partitioned = false, parents = false;
    int rc = is_partitioned(pg, stream->name, &partitioned, err);
    if (rc || !partitioned)
        return rc;
    if (!tm_stream_fixed_key(stream))
        rc = tm_keys_parent_is_unique(pg, stream, &parents, err);
    bool own_indexes = !tm_stream_fixed_key(stream) && !parents, there = false;
    if (!rc && !own_indexes)
        rc = have_days(pg, stream, from_us, to_us, &there, err);
    if (rc || there)
        return rc;
    for (int64_t day = day_of(from_us); !rc && day <= to_us; day += DAY_US)
        rc = make_day(pg, stream, own_indexes, day, err);
    return rc;
}

int tm_migrate_production_days(struct tm_pg *pg, const struct tm_plan *plan, int64_t from_us, int64_t to_us,
                               struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++)
        if (tm_plan_stream(plan, i)->partition == TM_PARTITION_DAY)
            rc = make_days(pg, tm_plan_stream(plan, i), from_us, to_us, err);
    return rc;
}
