/*
 * What the store's tests share: a small plan with a stream of each sort, a database with its tables, and tuples that
 * the server itself encodes from SQL, so that nothing expected comes from the code under test.
 */
#ifndef TESTS_STORE_ROWS_H
#define TESTS_STORE_ROWS_H

#pragma GCC diagnostic ignored "-Wunused-function"
#include "../engine/cluster.h"

#include "record/plan.h"
#include "record/row.h"
#include "store/copy.h"
#include "store/migrate.h"
#include "store/quarantine.h"

#define COLUMNS(c) .columns = (c), .column_count = sizeof(c) / sizeof *(c)
#define S TM_US_PER_S

/* facts: unique, with a key column that may be NULL */
static const struct tm_column_def fact_columns[] = {
    {.name = "at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "name", .type = TM_TYPE_TEXT},
    {.name = "n", .type = TM_TYPE_INT4, .not_null = true},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};
static const char *const fact_key[] = {"at", "name", NULL};

/* notes: equal ones within a second of each other are one */
static const struct tm_column_def note_columns[] = {
    {.name = "who", .type = TM_TYPE_TEXT},
    {.name = "content", .type = TM_TYPE_JSONB, .not_null = true},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};
static const char *const note_key[] = {"who", "content", NULL};

/* things: replaced by key; knobs: the same, without a time of arrival */
static const struct tm_column_def thing_columns[] = {
    {.name = "id", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "v", .type = TM_TYPE_INT8},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};
static const struct tm_column_def knob_columns[] = {
    {.name = "id", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "v", .type = TM_TYPE_INT8},
};
static const char *const id_key[] = {"id", NULL};

enum { FACTS, NOTES, THINGS, KNOBS, DAILY };

static const struct tm_stream_def stream_defs[] = {
    [FACTS] = {.name = "facts", COLUMNS(fact_columns), .key = fact_key, .time_column = "at", .window_us = S},
    [NOTES] = {.name = "notes",
               COLUMNS(note_columns),
               .key = note_key,
               .within_us = S,
               .ticker_column = "who",
               .window_us = S},
    [THINGS] = {.name = "things", .mode = TM_STREAM_UPSERT, COLUMNS(thing_columns), .key = id_key},
    [KNOBS] = {.name = "knobs", .mode = TM_STREAM_UPSERT, COLUMNS(knob_columns), .key = id_key},
    [DAILY] = {.name = "daily",
               COLUMNS(fact_columns),
               .key = fact_key,
               .time_column = "at",
               .partition = TM_PARTITION_DAY,
               .partition_column = "at",
               .window_us = S},
};

static const struct tm_plan_def plan_def = {
    .gatherer = "g1",
    .protocol = {.tag_path = "type"},
    .streams = stream_defs,
    .stream_count = sizeof stream_defs / sizeof *stream_defs,
};

static struct tm_plan *compile_plan(void)
{
    struct tm_plan *plan = NULL;
    struct tm_error err;
    if (tm_plan_compile(&plan_def, &plan, &err))
        fail_msg("%s", err.message);
    return plan;
}

/* ---- databases ---- */

static void make_database(const struct cluster *c, const char *name)
{
    PGconn *conn = db_open(c, "postgres");
    db_execf(conn, "CREATE DATABASE %s TEMPLATE template0", name);
    PQfinish(conn);
}

static struct tm_pg *engine_open(const struct cluster *c, const char *name)
{
    char conninfo[160];
    struct tm_pg *pg = NULL;
    struct tm_error err;
    cluster_conninfo(c, name, conninfo, sizeof conninfo);
    struct tm_pg_options options = {.conninfo = conninfo, .application_name = "tidemill test"};
    if (tm_pg_connect(&options, &pg, &err))
        fail_msg("%s", err.message);
    return pg;
}

static void must(struct tm_pg *pg, const char *sql)
{
    struct tm_error err;
    if (tm_pg_exec(pg, sql, &err))
        fail_msg("%s", err.message);
}

/* ---- tuples ---- */

struct rows {
    struct tm_buf bytes;
    struct tm_span_bytes *spans;
    size_t count;
};

/* The rows of a query, in its order, as the server encodes them. */
static void rows_of(struct rows *r, struct tm_pg *pg, const char *query)
{
    char sql[4096];
    struct tm_error err;
    *r = (struct rows){0};
    int n = snprintf(sql, sizeof sql, "COPY (%s) TO STDOUT (FORMAT binary)", query);
    assert_in_range(n, 0, sizeof sql - 1);
    if (tm_pg_copy_out(pg, sql, &r->bytes, &err))
        fail_msg("%s", err.message);
    r->spans = calloc(r->bytes.len / 2 + 1, sizeof *r->spans);
    for (size_t at = 0; at < r->bytes.len; r->count++) {
        int64_t len = tm_tuple_length(r->bytes.data + at, r->bytes.len - at);
        assert_true(len > 0);
        r->spans[r->count] = (struct tm_span_bytes){r->bytes.data + at, (size_t)len};
        at += (size_t)len;
    }
}

static void rows_free(struct rows *r)
{
    tm_buf_fini(&r->bytes);
    free(r->spans);
}

#endif
