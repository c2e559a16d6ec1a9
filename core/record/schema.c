#include "record/schema.h"
#include "base/hash.h"
#include "record/compiled.h"
#include "record/keys.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define HASH_PARTITIONS 8

/* Text that grows until memory is out; the code is looked at once, at the end. */
struct text {
    struct tm_buf *out;
    int rc;
};

static void add(struct text *t, const char *fmt, ...) TM_PRINTF(2, 3);
static void add(struct text *t, const char *fmt, ...)
{
    char line[512]; /* names are bounded by 63 bytes, and at most five stand in one line */
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(line, sizeof line, fmt, args);
    va_end(args);
    TM_FATAL_UNLESS(n >= 0 && (size_t)n < sizeof line);
    if (!t->rc)
        t->rc = tm_buf_append(t->out, line, (size_t)n);
}

static void add_text(struct text *t, const struct tm_buf *text)
{
    if (!t->rc)
        t->rc = tm_buf_append(t->out, text->data, text->len);
}

static const char *type_name(enum tm_type type)
{
    switch (type) {
    case TM_TYPE_BOOL:
        return "bool";
    case TM_TYPE_INT2:
        return "int2";
    case TM_TYPE_INT4:
        return "int4";
    case TM_TYPE_INT8:
        return "int8";
    case TM_TYPE_FLOAT8:
        return "float8";
    case TM_TYPE_TEXT:
        return "text COLLATE \"C\"";
    case TM_TYPE_UUID:
        return "uuid";
    case TM_TYPE_TIMESTAMPTZ:
        return "timestamptz";
    case TM_TYPE_JSONB:
        return "jsonb";
    case TM_TYPE_BYTEA:
        return "bytea";
    }
    return "text";
}

/* ---- columns ---- */

/* Which columns a store has: all of them, or what production keeps. */
static bool is_kept(const struct tm_column *c, bool production)
{
    return !production || !c->local_only;
}

static void add_columns(struct text *t, const struct tm_stream *s, bool production)
{
    const char *comma = "";
    for (uint16_t i = 0; i < s->column_count; i++) {
        const struct tm_column *c = &s->columns[i];
        if (!is_kept(c, production))
            continue;
        add(t, "%s    %s %s%s", comma, c->name, type_name(c->type), c->not_null ? " NOT NULL" : "");
        comma = ",\n";
    }
}

/*
 * A column that the definition gained since. Not NOT NULL: the rows that are there have no value for it. ALTER TABLE takes a
 * lock that waits for every reader, and everybody else for it, even where there is nothing to add: so it is asked for only
 * where there is.
 */
static void add_new_columns(struct text *t, const struct tm_stream *s, bool production)
{
    const char *comma = "";
    int count = 0;
    add(t,
        "DO $tidemill$\nBEGIN\nIF (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass('%s') AND attname IN (",
        s->name);
    for (uint16_t i = 0; i < s->column_count; i++)
        if (is_kept(&s->columns[i], production))
            add(t, "%s'%s'", count++ ? "," : "", s->columns[i].name);
    add(t, ")) < %d THEN\nALTER TABLE %s", count, s->name);
    for (uint16_t i = 0; i < s->column_count; i++) {
        const struct tm_column *c = &s->columns[i];
        if (!is_kept(c, production))
            continue;
        add(t, "%s\n    ADD COLUMN IF NOT EXISTS %s %s", comma, c->name, type_name(c->type));
        comma = ",";
    }
    add(t, ";\nEND IF;\nEND\n$tidemill$;\n");
}

static void add_names(struct text *t, const struct tm_stream *s, const uint16_t *columns, uint16_t count)
{
    for (uint16_t i = 0; i < count; i++)
        add(t, "%s%s", i ? "," : "", s->columns[columns ? columns[i] : i].name);
}

static bool key_has_null(const struct tm_stream *s, const struct tm_key *key)
{
    for (uint16_t i = 0; i < key->column_count; i++)
        if (!s->columns[key->columns[i]].not_null && key->columns[i] != s->occurrence_column)
            return true;
    return false;
}

/* "(a,b) NULLS NOT DISTINCT" */
static void add_unique(struct text *t, const struct tm_stream *s, const struct tm_key *key)
{
    add(t, "(");
    add_names(t, s, key->columns, key->column_count);
    add(t, ")%s", key_has_null(s, key) ? " NULLS NOT DISTINCT" : "");
}

/* ---- what both stores have ---- */

static void add_arrival_index(struct text *t, const struct tm_stream *s)
{
    if (s->received_column >= 0)
        add(t, "CREATE INDEX IF NOT EXISTS %s_received_at ON %s USING brin (received_at) WITH (autosummarize = on);\n",
            s->name, s->name);
}

/* A product with 0.000001 is exact and has six decimals; a quotient would have sixteen. */
static void add_view_query(struct text *t, const struct tm_stream *s)
{
    const char *comma = s->observer ? "gatherer, " : "";
    add(t, "readable.%s AS SELECT ", s->name);
    uint16_t own = (uint16_t)(s->production_count - (s->observer ? 2 : 0));
    for (uint16_t i = 0; i < own; i++) {
        const struct tm_column *c = &s->columns[i];
        if (c->scale)
            add(t, "%s%s * 0.%0*d AS %s", comma, c->name, c->scale, 1, c->name);
        else
            add(t, "%s%s", comma, c->name);
        comma = ", ";
    }
    add(t, " FROM %s;\n", s->name);
}

/*
 * A view is replaced in place, which keeps what was granted on it; but one that lost a column, or got one in its middle,
 * cannot be: it is made anew. One that is as it should be, by its comment, is left alone: its readers hold the lock.
 */
static void add_view(struct text *t, const struct tm_stream *s)
{
    struct tm_buf query = {0};
    struct text own = {.out = &query};
    add_view_query(&own, s);
    t->rc = t->rc ? t->rc : own.rc;
    uint64_t hash = tm_hash64(query.data, query.len, 0);
    add(t,
        "DO $tidemill$\nBEGIN\nIF obj_description(to_regclass('readable.%s'), 'pg_class') IS NOT DISTINCT FROM 'tidemill "
        "%016" PRIx64 "' THEN\n    RETURN;\nEND IF;\nBEGIN\nCREATE OR REPLACE VIEW ",
        s->name, hash);
    add_text(t, &query);
    add(t, "EXCEPTION WHEN invalid_table_definition THEN\nDROP VIEW readable.%s;\nCREATE VIEW ", s->name);
    add_text(t, &query);
    add(t, "END;\nCOMMENT ON VIEW readable.%s IS 'tidemill %016" PRIx64 "';\nEND\n$tidemill$;\n\n", s->name, hash);
    tm_buf_fini(&query);
}

static int finish(struct text *t, size_t start)
{
    if (t->rc)
        t->out->len = start;
    return t->rc;
}

/* ---- a gatherer's store ---- */

static void add_local(struct text *t, const struct tm_stream *s)
{
    bool upsert = s->mode == TM_STREAM_UPSERT;
    add(t, "CREATE TABLE IF NOT EXISTS %s (\n", s->name);
    add_columns(t, s, false);
    add(t, ",\n    epoch_no int4 NOT NULL DEFAULT 0,\n    PRIMARY KEY (");
    if (upsert)
        add_names(t, s, s->key, s->key_count);
    else
        add(t, "epoch_no,seq");
    add(t, ")\n)%s;\n", upsert ? "" : " PARTITION BY RANGE (epoch_no, seq)");
    add_new_columns(t, s, false);
    if (upsert)
        add(t, "CREATE INDEX IF NOT EXISTS %s_seq ON %s (epoch_no, seq);\n", s->name, s->name);
    else
        add_arrival_index(t, s);
    add_view(t, s);
}

int tm_schema_local(const struct tm_plan *plan, struct tm_buf *out)
{
    struct text t = {.out = out};
    size_t start = out->len;
    add(&t, "CREATE SCHEMA IF NOT EXISTS readable;\n\n");
    for (size_t i = 0; i < tm_plan_stream_count(plan); i++)
        add_local(&t, tm_plan_stream(plan, i));
    return finish(&t, start);
}

/* ---- production ---- */

static void add_table(struct text *t, const struct tm_stream *s, const char *ending)
{
    add(t, "CREATE TABLE IF NOT EXISTS %s (\n", s->name);
    add_columns(t, s, true);
    add(t, "\n)%s;\n", ending);
}

/* Whether a table is a hypertable or a native parent is decided once, when it is made. */
static void add_day_table(struct text *t, const struct tm_stream *s)
{
    char ending[128];
    const char *column = s->columns[s->partition_column].name;
    (void)snprintf(ending, sizeof ending, " PARTITION BY RANGE (%s)", column);
    add(t, "DO $tidemill$\nBEGIN\nIF to_regclass('%s') IS NOT NULL THEN\n    RETURN;\nEND IF;\n", s->name);
    add(t, "IF EXISTS (SELECT FROM pg_extension WHERE extname = 'timescaledb') THEN\n");
    add_table(t, s, "");
    add(t,
        "PERFORM create_hypertable('%s', '%s', chunk_time_interval => interval '1 day', "
        "create_default_indexes => false);\n",
        s->name, column);
    add(t, "ELSE\n");
    add_table(t, s, ending);
    add(t, "END IF;\nEND\n$tidemill$;\n");
}

static void add_hash_table(struct text *t, const struct tm_stream *s)
{
    char ending[128];
    (void)snprintf(ending, sizeof ending, " PARTITION BY HASH (%s)", s->columns[s->key[0]].name);
    add_table(t, s, ending);
    for (int i = 0; i < HASH_PARTITIONS; i++)
        add(t, "CREATE TABLE IF NOT EXISTS %s_h%d PARTITION OF %s FOR VALUES WITH (MODULUS %d, REMAINDER %d);\n",
            s->name, i, s->name, HASH_PARTITIONS, i);
}

static void add_unique_index(struct text *t, const struct tm_stream *s)
{
    add(t, "CREATE UNIQUE INDEX IF NOT EXISTS %s_key ON %s ", s->name, s->name);
    add_unique(t, s, s->keys);
    add(t, ";\n");
}

/* Each day gets the indexes of its own keys (tm_schema_day_indexes), which a table without partitions cannot have. */
static void add_day_keys(struct text *t, const struct tm_stream *s)
{
    char from[TM_MOMENT_TEXT];
    for (uint16_t i = 0; i < s->keys_count; i++) {
        add(t, "-- each day of %s is unique by ", s->name);
        add_unique(t, s, &s->keys[i]);
        add(t, i ? " from %s on\n" : "\n", i ? tm_moment_text(s->keys[i].from_us, from) : "");
    }
    add(t, "DO $tidemill$\nBEGIN\nIF (SELECT relkind FROM pg_class WHERE oid = to_regclass('%s')) <> 'p' THEN\n",
        s->name);
    add(t,
        "    RAISE EXCEPTION 'stream %s: its key cannot change at a moment: its table is a hypertable or has no "
        "partitions, and the unique index of its first key covers all times' USING ERRCODE = '0A000';\n",
        s->name);
    add(t, "END IF;\nEND\n$tidemill$;\n");
}

/*
 * `within` keys are made of content, which may be long and is not unique: their index is over the market (or the key's
 * first column) and the time of arrival, by which the store finds the few rows to compare with.
 */
static void add_key_index(struct text *t, const struct tm_stream *s)
{
    if (s->within_us) {
        add(t, "CREATE INDEX IF NOT EXISTS %s_key ON %s (%s,received_at);\n", s->name, s->name,
            s->columns[tm_stream_within_lead(s)].name);
        return;
    }
    if (s->keys_count > 1)
        add_day_keys(t, s);
    else
        add_unique_index(t, s);
}

/* Where no partition leads to a time the archive's reader would read all of the table for each hour. */
static void add_time_index(struct text *t, const struct tm_stream *s)
{
    if (s->partition == TM_PARTITION_HASH && s->time_column >= 0 && s->time_column != s->received_column)
        add(t, "CREATE INDEX IF NOT EXISTS %s_time ON %s USING brin (%s) WITH (autosummarize = on);\n", s->name,
            s->name, s->columns[s->time_column].name);
}

static void add_production(struct text *t, const struct tm_stream *s)
{
    switch (s->partition) {
    case TM_PARTITION_NONE:
        add_table(t, s, "");
        break;
    case TM_PARTITION_DAY:
        add_day_table(t, s);
        break;
    case TM_PARTITION_HASH:
        add_hash_table(t, s);
        break;
    }
    add_new_columns(t, s, true);
    add_key_index(t, s);
    add_arrival_index(t, s);
    add_time_index(t, s);
    add_view(t, s);
}

int tm_schema_production(const struct tm_plan *plan, struct tm_buf *out)
{
    struct text t = {.out = out};
    size_t start = out->len;
    add(&t, "CREATE SCHEMA IF NOT EXISTS readable;\n\n");
    for (size_t i = 0; i < tm_plan_stream_count(plan); i++)
        add_production(&t, tm_plan_stream(plan, i));
    return finish(&t, start);
}

/* ---- the indexes of a day ---- */

/* The part of the day in which the key holds; false: none. A bound that is the day's own needs no mention. */
static bool span_in_day(const struct tm_stream *s, uint16_t key, int64_t *from_us, int64_t *to_us)
{
    int64_t begin_us = s->keys[key].from_us;
    int64_t end_us = key + 1 < s->keys_count ? s->keys[key + 1].from_us : INT64_MAX;
    if (begin_us >= *to_us || end_us <= *from_us)
        return false;
    *from_us = begin_us > *from_us ? begin_us : INT64_MIN;
    *to_us = end_us < *to_us ? end_us : INT64_MAX;
    return true;
}

static void add_span(struct text *t, const char *column, int64_t from_us, int64_t to_us)
{
    char moment[TM_MOMENT_TEXT];
    const char *joint = " WHERE";
    if (from_us != INT64_MIN) {
        add(t, "%s %s >= '%s'", joint, column, tm_moment_text(from_us, moment));
        joint = " AND";
    }
    if (to_us != INT64_MAX)
        add(t, "%s %s < '%s'", joint, column, tm_moment_text(to_us, moment));
}

static int day_index(const struct tm_stream *s, const char *partition, const struct tm_key *key, int64_t from_us,
                     int64_t to_us, struct tm_arena *arena, struct tm_day_index *out)
{
    struct tm_buf what = {0}, sql = {0};
    struct text t = {.out = &what};
    add_unique(&t, s, key);
    add_span(&t, s->columns[s->time_column].name, from_us, to_us);
    const char *text = t.rc ? NULL : tm_buf_cstr(&what);
    int rc = text ? TM_OK : TM_ENOMEM;
    if (!rc) {
        (void)snprintf(out->name, sizeof out->name, "%s" TM_DAY_INDEX_MARK "%08x", partition,
                       (unsigned)tm_hash64(text, strlen(text), 0));
        rc = tm_buf_printf(&sql, "CREATE UNIQUE INDEX %s ON %s %s", out->name, partition, text);
    }
    out->sql = rc ? NULL : tm_arena_strdup(arena, tm_buf_cstr(&sql));
    tm_buf_fini(&what);
    tm_buf_fini(&sql);
    return rc || !out->sql ? TM_ENOMEM : TM_OK;
}

int tm_schema_day_indexes(const struct tm_stream *stream, const char *partition, int64_t from_us, int64_t to_us,
                          struct tm_arena *arena, struct tm_day_index out[TM_KEYS_MAX])
{
    int count = 0;
    for (uint16_t i = 0; i < stream->keys_count; i++) {
        int64_t begin_us = from_us, end_us = to_us;
        if (!span_in_day(stream, i, &begin_us, &end_us))
            continue;
        int rc = day_index(stream, partition, &stream->keys[i], begin_us, end_us, arena, &out[count]);
        if (rc)
            return rc;
        count++;
    }
    return count;
}

/* ---- lists ---- */

int tm_schema_poll_columns(const struct tm_stream *stream, struct tm_buf *out)
{
    struct text t = {.out = out};
    size_t start = out->len;
    add_names(&t, stream, NULL, stream->production_count);
    add(&t, ",seq");
    return finish(&t, start);
}

int tm_schema_production_columns(const struct tm_stream *stream, struct tm_buf *out)
{
    struct text t = {.out = out};
    size_t start = out->len;
    add_names(&t, stream, NULL, stream->production_count);
    if (stream->observer)
        add(&t, ",seq");
    return finish(&t, start);
}

int tm_schema_key_columns(const struct tm_stream *stream, struct tm_buf *out)
{
    struct text t = {.out = out};
    size_t start = out->len;
    add_names(&t, stream, stream->key, stream->key_count);
    return finish(&t, start);
}
