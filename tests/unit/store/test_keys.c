/*
 * Keys over time in real stores (FAILURES T32): the unique indexes of days, rows on both sides of a moment, tables that gain
 * a key, and scripts that contradict what is recorded.
 */
#include "database.h"

#include "record/keys.h"
#include "store/keys.h"

#include <pthread.h>

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        if (call)                                                                                                      \
            fail_msg("%s", f->err.message);                                                                            \
    } while (0)

/* ---- plans ---- */

#define DAY (INT64_C(86400) * S)
/* 2026-11-26T00:00:00Z, from `date -u -d 2026-11-26T00:00:00Z +%s`; T is noon of it */
#define MIDNIGHT_US (INT64_C(1795651200) * S)
#define NOON_US (MIDNIGHT_US + 12 * 3600 * S)

static const char *const fine_key[] = {"at", "name", "n", NULL}; /* fact_key is (at, name) */
static const char *const coarse_key[] = {"at", NULL};

static struct tm_plan *plan_of(const char *const *first, const struct tm_key_def *later, size_t count)
{
    struct tm_stream_def streams[sizeof stream_defs / sizeof *stream_defs];
    struct tm_plan_def def = plan_def;
    struct tm_plan *plan = NULL;
    struct tm_error err;
    memcpy(streams, stream_defs, sizeof streams);
    streams[DAILY].key = first;
    streams[DAILY].later_keys = later;
    streams[DAILY].later_key_count = count;
    def.streams = streams;
    if (tm_plan_compile(&def, &plan, &err))
        fail_msg("%s", err.message);
    return plan;
}

static struct tm_plan *plan_from(int64_t from_us, const char *const *key)
{
    const struct tm_key_def later = {.from_us = from_us, .key = key};
    return plan_of(fact_key, &later, 1);
}

static void refused(struct fixture *f, int rc, const char *words)
{
    if (rc != TM_ESTATE || !strstr(f->err.message, words))
        fail_msg("expected \"%s\", got %d \"%s\"", words, rc, rc ? f->err.message : "");
    assert_true(tm_pg_is_open(f->pg));
}

#define CATALOG                                                                                                         \
    "SELECT c.relname::text, c.relkind, c.oid::int8, c.relfilenode::int8, pg_get_indexdef(i.indexrelid) FROM pg_class " \
    "c LEFT JOIN pg_index i ON i.indexrelid = c.oid JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname IN "  \
    "('public', 'tidemill')"

static void keep_catalog(struct fixture *f)
{
    db_exec(f->db, "DROP SCHEMA IF EXISTS kept CASCADE; CREATE SCHEMA kept; CREATE TABLE kept.catalog AS " CATALOG
                   "; CREATE TABLE kept.keys AS SELECT * FROM tidemill.keys");
}

/* A refusal changes nothing. */
static void expect_unchanged(struct fixture *f)
{
    db_same(f->db, CATALOG, "SELECT * FROM kept.catalog");
    db_same(f->db, "SELECT * FROM tidemill.keys", "SELECT * FROM kept.keys");
}

#define UNIQUE                                                                                                            \
    "SELECT t.relname::text, substring(pg_get_indexdef(i.indexrelid) FROM 'btree (.*)') FROM pg_index i JOIN pg_class t " \
    "ON t.oid = i.indrelid WHERE i.indisunique AND t.relname LIKE 'daily%'"

/* ---- rows ---- */

static struct tm_copy_result store(struct fixture *f, const struct tm_plan *plan, const char *query)
{
    struct rows r;
    rows_of(&r, f->pg, query);
    struct tm_copy_batch batch = {.stream = tm_plan_stream_by_name(plan, "daily"),
                                  .side = TM_COPY_PRODUCTION,
                                  .columns = "at,name,n,received_at",
                                  .tuples = r.spans,
                                  .count = r.count};
    struct tm_copy_result result;
    must(f->pg, "BEGIN");
    MUST(tm_copy_rows(f->pg, &batch, &result, &f->err));
    must(f->pg, "COMMIT");
    assert_int_equal(result.stored + result.duplicate, r.count);
    assert_int_equal(result.rejected, 0);
    rows_free(&r);
    return result;
}

/* Three days around noon of the 26th, each time with equal names, names that are NULL, and other numbers. */
#define ROWS                                                                                                                \
    "SELECT timestamptz '2026-11-25 12:00:00Z' + g % 48 * interval '1 h' - g % 2 * interval '1 us' AS at, CASE WHEN g % 3 " \
    "< 2 THEN 'x' || g % 3 END AS name, (g / 500 % 4)::int4 AS n, timestamptz '2026-12-01Z' AS received_at FROM "           \
    "generate_series(0, 1999) g"

/* ---- a key from a moment on ---- */

static void test_indexes_of_days(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *plan = plan_from(NOON_US, fine_key);
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    MUST(tm_migrate_production_days(f->pg, plan, MIDNIGHT_US - DAY, MIDNIGHT_US + DAY, &f->err));
    db_same(f->db, UNIQUE,
            "VALUES ('daily_p20261125', '(at, name) NULLS NOT DISTINCT'), ('daily_p20261126', '(at, name) NULLS NOT "
            "DISTINCT WHERE (at < ''2026-11-26 12:00:00+00''::timestamp with time zone)'), ('daily_p20261126', '(at, "
            "name, n) NULLS NOT DISTINCT WHERE (at >= ''2026-11-26 12:00:00+00''::timestamp with time zone)'), "
            "('daily_p20261127', '(at, name, n) NULLS NOT DISTINCT')");
    db_same(
        f->db, "SELECT stream, from_ts, columns, occurrence FROM tidemill.keys WHERE stream = 'daily'",
        "VALUES ('daily', '-infinity'::timestamptz, 'at,name', false), ('daily', '2026-11-26 12:00Z', 'at,name,n', false)");
    /* the text of `tidemill schema` on top of it changes nothing */
    struct tm_buf sql = {0};
    keep_catalog(f);
    assert_int_equal(tm_migrate_sql_production(plan, &sql), TM_OK);
    MUST(tm_pg_exec(f->pg, tm_buf_cstr(&sql), &f->err));
    MUST(tm_migrate_production_days(f->pg, plan, MIDNIGHT_US - DAY, MIDNIGHT_US + DAY, &f->err));
    expect_unchanged(f);
    tm_buf_fini(&sql);
    tm_plan_put(plan);
}

/* ON CONFLICT DO NOTHING and COPY's 23505 work with indexes that only the partitions have. */
static void test_rows_on_both_sides(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *plan = plan_from(NOON_US, fine_key);
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    MUST(tm_migrate_production_days(f->pg, plan, MIDNIGHT_US - DAY, MIDNIGHT_US + DAY, &f->err));
    db_exec(f->db, "CREATE SCHEMA truth; CREATE TABLE truth.ev AS " ROWS);
    /* repeats in the batch: COPY meets 23505 and goes by the stage */
    assert_true(store(f, plan, ROWS " WHERE g < 1000").conflicted);
    store(f, plan, ROWS " WHERE g >= 500");
    assert_int_equal(store(f, plan, ROWS).stored, 0);
    db_same(f->db, "SELECT at, name, CASE WHEN at >= '2026-11-26 12:00Z' THEN n END FROM daily",
            "SELECT DISTINCT at, name, CASE WHEN at >= '2026-11-26 12:00Z' THEN n END FROM truth.ev");
    /* the microsecond before noon is of the first key */
    assert_int_equal(
        db_int(f->db, "SELECT count(*) FROM daily WHERE at = '2026-11-26 11:59:59.999999Z' AND name IS NULL"), 0);
    store(f, plan,
          "SELECT at, NULL::text, n::int4, now() FROM (VALUES (timestamptz '2026-11-26 11:59:59.999999Z'), "
          "('2026-11-26 12:00Z'), ('2026-11-26 12:00:00.000001Z')) v (at), generate_series(100, 109) n");
    db_same(f->db, "SELECT at, count(*) FROM daily WHERE n >= 100 GROUP BY 1",
            "VALUES (timestamptz '2026-11-26 11:59:59.999999Z', 1::int8), ('2026-11-26 12:00Z', 10), "
            "('2026-11-26 12:00:00.000001Z', 10)");
    tm_plan_put(plan);
}

static void expect_plan(struct fixture *f, const char *sql, const char *words)
{
    bool found = false;
    PGresult *r = PQexec(f->db, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s", PQerrorMessage(f->db));
    for (int i = 0; i < PQntuples(r); i++)
        found |= strstr(PQgetvalue(r, i, 0), words) != NULL;
    if (!found)
        fail_msg("no \"%s\" in the plan of: %s", words, sql);
    PQclear(r);
}

static void test_plans_of_the_server(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *plan = plan_from(NOON_US, fine_key);
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    MUST(tm_migrate_production_days(f->pg, plan, MIDNIGHT_US - DAY, MIDNIGHT_US + DAY, &f->err));
    store(f, plan, ROWS);
    db_exec(f->db, "SET enable_seqscan = off; SET enable_bitmapscan = off");
    expect_plan(f, "EXPLAIN INSERT INTO daily SELECT * FROM daily ON CONFLICT DO NOTHING",
                "Conflict Resolution: NOTHING");
    expect_plan(f, "EXPLAIN SELECT * FROM daily WHERE at = '2026-11-25 13:00Z' AND name = 'x'", "daily_p20261125_key_");
    expect_plan(f, "EXPLAIN SELECT * FROM daily WHERE at = '2026-11-26 11:00Z' AND name = 'x'", "daily_p20261126_key_");
    expect_plan(f, "EXPLAIN SELECT * FROM daily WHERE at = '2026-11-26 13:00Z' AND name = 'x'", "daily_p20261126_key_");
    /* what is asked before a key is added is answered by an index, also in a day that has two */
    expect_plan(
        f, "EXPLAIN SELECT max(at) FROM daily WHERE at >= '2026-11-26T12:00:00Z' AND at < 'infinity' AND isfinite(at)",
        "daily_p20261126_key_");
    tm_plan_put(plan);
}

/* ---- tables that gain a key ---- */

/* How many rows of the 24th were looked at by whomever; sessions count when they are asked to. */
static int64_t rows_read(struct fixture *f)
{
    must(f->pg, "SELECT pg_stat_force_next_flush()");
    return db_int(f->db, "SELECT pg_stat_get_tuples_returned('daily_p20261124'::regclass)");
}

static void test_an_existing_table_gains_a_key(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *before = plan_of(fact_key, NULL, 0), *after = plan_from(NOON_US, fine_key);
    MUST(tm_migrate_production(f->pg, before, &f->err));
    MUST(tm_migrate_production_days(f->pg, before, MIDNIGHT_US - 2 * DAY, MIDNIGHT_US + 2 * DAY, &f->err));
    store(f, before,
          ROWS " WHERE timestamptz '2026-11-25 12:00:00Z' + g % 48 * interval '1 h' < '2026-11-26 12:00:00Z'");
    int64_t rows = db_int(f->db, "SELECT count(*) FROM daily");
    must(f->pg, "INSERT INTO daily SELECT '2026-11-24Z', 'x', g, now() FROM generate_series(1, 1000) g ON CONFLICT DO "
                "NOTHING; INSERT INTO daily SELECT timestamptz '2026-11-24Z' + g * interval '1 s', 'x', g, now() FROM "
                "generate_series(1, 999) g");
    int64_t read_before = rows_read(f);
    keep_catalog(f);
    MUST(tm_migrate_production(f->pg, after, &f->err));
    /* no index of an earlier day was made anew, no table was rewritten, and none was read through */
    db_same(
        f->db,
        "SELECT c.oid::int8, c.relfilenode::int8 FROM pg_class c WHERE c.relname ~ '^daily_p2026112[45]|daily_p[0-9]+$'",
        "SELECT oid, relfilenode FROM kept.catalog c WHERE c.relname ~ '^daily_p2026112[45]|daily_p[0-9]+$'");
    db_same(f->db, UNIQUE " AND t.relname < 'daily_p20261126'",
            "SELECT unnest(ARRAY['daily_p20261124', 'daily_p20261125']), '(at, name) NULLS NOT DISTINCT'");
    assert_in_range(rows_read(f) - read_before, 0, 99); /* of 1000 */
    db_same(f->db, UNIQUE " AND t.relname > 'daily_p20261126'",
            "SELECT unnest(ARRAY['daily_p20261127', 'daily_p20261128']), '(at, name, n) NULLS NOT DISTINCT'");
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM (" UNIQUE " AND t.relname = 'daily_p20261126') x"), 2);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM daily"), rows + 1000);
    db_exec(f->db, "CREATE SCHEMA truth; CREATE TABLE truth.ev AS " ROWS);
    store(f, after, ROWS);
    db_same(f->db,
            "SELECT at, name, CASE WHEN at >= '2026-11-26 12:00Z' THEN n END FROM daily WHERE at >= '2026-11-25'",
            "SELECT DISTINCT at, name, CASE WHEN at >= '2026-11-26 12:00Z' THEN n END FROM truth.ev");
    /* the second time nothing is done */
    keep_catalog(f);
    MUST(tm_migrate_production(f->pg, after, &f->err));
    expect_unchanged(f);
    tm_plan_put(before);
    tm_plan_put(after);
}

/* A process that did not know of the key has made a day in the meantime; whoever knows puts it right. */
static void test_a_day_made_without_the_key(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *before = plan_of(fact_key, NULL, 0), *after = plan_from(MIDNIGHT_US, fine_key);
    MUST(tm_migrate_production(f->pg, after, &f->err));
    MUST(tm_migrate_production_days(f->pg, before, MIDNIGHT_US - DAY, MIDNIGHT_US, &f->err));
    db_same(f->db, UNIQUE,
            "SELECT unnest(ARRAY['daily_p20261125', 'daily_p20261126']), '(at, name) NULLS NOT DISTINCT'");
    MUST(tm_migrate_production_days(f->pg, after, MIDNIGHT_US - DAY, MIDNIGHT_US, &f->err));
    db_same(f->db, UNIQUE,
            "VALUES ('daily_p20261125', '(at, name) NULLS NOT DISTINCT'), ('daily_p20261126', '(at, name, n) NULLS NOT "
            "DISTINCT')");
    tm_plan_put(before);
    tm_plan_put(after);
}

/* ---- contradictions ---- */

static void test_contradictions_are_refused(void **state)
{
    struct fixture *f = *state;
    const struct tm_key_def two[] = {{.from_us = NOON_US, .key = fine_key},
                                     {.from_us = NOON_US + DAY, .key = fact_key}};
    const struct tm_key_def earlier[] = {{.from_us = NOON_US - DAY, .key = coarse_key}, two[0]};
    struct tm_plan *one = plan_from(NOON_US, fine_key), *none = plan_of(fact_key, NULL, 0),
                   *other = plan_from(NOON_US, coarse_key), *more = plan_of(fact_key, two, 2),
                   *inserted = plan_of(fact_key, earlier, 2), *base = plan_of(fine_key, two, 1);
    MUST(tm_migrate_production(f->pg, one, &f->err));
    MUST(tm_migrate_production_days(f->pg, one, MIDNIGHT_US - DAY, MIDNIGHT_US + DAY, &f->err));
    store(f, one, ROWS);
    keep_catalog(f);
    refused(f, tm_migrate_production(f->pg, none, &f->err),
            "stream daily: the key (at,name,n) that holds from \"2026-11-26T12:00:00Z\" on is not declared any more");
    refused(f, tm_migrate_production(f->pg, other, &f->err),
            "stream daily: its key changes from (at,name,n) to (at) for records from \"2026-11-26T12:00:00Z\" on");
    refused(f, tm_migrate_production(f->pg, inserted, &f->err),
            "(at) from \"2026-11-25T12:00:00Z\"; declare the new key with from = ");
    refused(
        f, tm_migrate_production(f->pg, base, &f->err),
        "stream daily: its key changes for records that were taken already, from (at,name) to (at,name,n); declare the new key "
        "with from = \"");
    expect_unchanged(f);
    /* the newest row is of the 27th, 11:00 */
    MUST(tm_migrate_production(f->pg, more, &f->err));
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.keys WHERE stream = 'daily'"), 3);
    keep_catalog(f);
    /* the script that lacks a key which has not begun may be an old one: production keeps it */
    refused(f, tm_migrate_production(f->pg, one, &f->err), "delete it from tidemill.keys");
    expect_unchanged(f);
    db_exec(f->db, "DELETE FROM tidemill.keys WHERE stream = 'daily' AND from_ts = '2026-11-27 12:00Z'");
    MUST(tm_migrate_production(f->pg, one, &f->err));
    db_same(f->db, UNIQUE " AND t.relname = 'daily_p20261127'",
            "VALUES ('daily_p20261127', '(at, name, n) NULLS NOT DISTINCT')");
    tm_plan_put(one);
    tm_plan_put(none);
    tm_plan_put(other);
    tm_plan_put(more);
    tm_plan_put(inserted);
    tm_plan_put(base);
}

/* A key that nobody used yet goes as it came: the table has its one index for all days again. */
static void test_a_key_is_taken_back(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *before = plan_of(fact_key, NULL, 0), *after = plan_from(NOON_US, fine_key);
    MUST(tm_migrate_production(f->pg, before, &f->err));
    MUST(tm_migrate_production_days(f->pg, before, MIDNIGHT_US - DAY, MIDNIGHT_US + DAY, &f->err));
    store(f, before,
          ROWS " WHERE timestamptz '2026-11-25 12:00:00Z' + g % 48 * interval '1 h' < '2026-11-26 12:00:00Z'");
    MUST(tm_migrate_production(f->pg, after, &f->err));
    refused(f, tm_migrate_production(f->pg, before, &f->err), "delete it from tidemill.keys");
    db_exec(f->db, "DELETE FROM tidemill.keys WHERE stream = 'daily' AND isfinite(from_ts)");
    MUST(tm_migrate_production(f->pg, before, &f->err));
    db_same(
        f->db, UNIQUE,
        "SELECT unnest(ARRAY['daily', 'daily_p20261125', 'daily_p20261126', 'daily_p20261127']), '(at, name) NULLS NOT "
        "DISTINCT'");
    /* a partition made by hand is as unique as any */
    db_exec(f->db,
            "CREATE TABLE daily_p20261130 PARTITION OF daily FOR VALUES FROM ('2026-11-30Z') TO ('2026-12-01Z')");
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM (" UNIQUE ") x"), 5);
    tm_plan_put(before);
    tm_plan_put(after);
}

/* As long as there is no row, a key is just an idea. */
static void test_an_empty_table_takes_any_key(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *plan = plan_of(fact_key, NULL, 0), *other = plan_of(fine_key, NULL, 0);
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    MUST(tm_migrate_production_days(f->pg, plan, MIDNIGHT_US, MIDNIGHT_US, &f->err));
    MUST(tm_migrate_production(f->pg, other, &f->err));
    db_same(f->db, UNIQUE, "SELECT unnest(ARRAY['daily', 'daily_p20261126']), '(at, name, n) NULLS NOT DISTINCT'");
    db_same(f->db, "SELECT from_ts, columns FROM tidemill.keys WHERE stream = 'daily'",
            "VALUES ('-infinity'::timestamptz, 'at,name,n')");
    tm_plan_put(plan);
    tm_plan_put(other);
}

/* `facts` is one table: another first key is refused as soon as there is a row, and no moment can help. */
static void test_a_key_that_cannot_change(void **state)
{
    struct fixture *f = *state;
    struct tm_stream_def stream = stream_defs[FACTS];
    struct tm_plan_def def = {.streams = &stream, .stream_count = 1};
    struct tm_plan *plan, *other;
    MUST(tm_plan_compile(&def, &plan, &f->err));
    stream.key = fine_key;
    MUST(tm_plan_compile(&def, &other, &f->err));
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    MUST(tm_migrate_production(f->pg, other, &f->err)); /* empty: its index is made anew */
    db_exec(f->db, "INSERT INTO facts VALUES ('2026-01-01Z', 'x', 1, now()), ('2026-01-01Z', 'x', 2, now())");
    refused(
        f, tm_migrate_production(f->pg, plan, &f->err),
        "stream facts: its key changes from (at,name,n) to (at,name) for records that were taken already, and it cannot "
        "change at a moment either: it is one table");
    tm_plan_put(plan);
    tm_plan_put(other);
}

/* A table from before keys were recorded: its unique index tells its key. */
static void test_a_table_from_before(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *plan = plan_of(fact_key, NULL, 0), *other = plan_of(fine_key, NULL, 0),
                   *later = plan_from(NOON_US, fine_key);
    db_exec(f->db,
            "CREATE TABLE daily (at timestamptz NOT NULL, name text COLLATE \"C\", n int4 NOT NULL, received_at "
            "timestamptz NOT NULL) PARTITION BY RANGE (at); CREATE UNIQUE INDEX daily_key ON daily (at, name) NULLS "
            "NOT DISTINCT; CREATE TABLE daily_p20261126 PARTITION OF daily FOR VALUES FROM ('2026-11-26Z') TO "
            "('2026-11-27Z'); INSERT INTO daily VALUES ('2026-11-26 01:00Z', 'x', 1, now())");
    refused(f, tm_migrate_production(f->pg, other, &f->err),
            "from (at,name) to (at,name,n); declare the new key with from = ");
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM pg_class WHERE relname = 'keys'"), 0);
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    MUST(tm_migrate_production_days(f->pg, plan, MIDNIGHT_US + DAY, MIDNIGHT_US + DAY, &f->err));
    /* the parent's index goes on to serve all days */
    db_same(f->db, UNIQUE,
            "SELECT unnest(ARRAY['daily', 'daily_p20261126', 'daily_p20261127']), '(at, name) NULLS NOT DISTINCT'");
    MUST(tm_migrate_production(f->pg, later, &f->err));
    db_same(f->db, "SELECT t, count(*), count(*) FILTER (WHERE d LIKE '%WHERE%') FROM (" UNIQUE ") x (t, d) GROUP BY 1",
            "VALUES ('daily_p20261126', 2::int8, 2::int8), ('daily_p20261127', 1::int8, 0::int8)");
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM daily"), 1);
    tm_plan_put(plan);
    tm_plan_put(other);
    tm_plan_put(later);
}

/* What TimescaleDB makes a hypertable of, and tables made by hand: one unique index covers all times. */
static void test_a_table_without_days(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *later = plan_from(NOON_US, fine_key);
    db_exec(
        f->db,
        "CREATE TABLE daily (at timestamptz NOT NULL, name text, n int4 NOT NULL, received_at timestamptz NOT NULL)");
    int rc = tm_migrate_production(f->pg, later, &f->err);
    if (!rc || !strstr(f->err.message, "stream daily: its key cannot change at a moment: its table is a hypertable"))
        fail_msg("%d %s", rc, f->err.message);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM pg_class WHERE relname = 'keys'"), 0);
    tm_plan_put(later);
}

/* ---- a gatherer's store ---- */

static void test_a_gatherers_store(void **state)
{
    struct fixture *f = *state;
    const uint8_t epoch[16] = {1};
    int32_t epoch_no;
    int64_t ahead_us = (tm_clock_wall_us() / S + 3600) * S, behind_us = (tm_clock_wall_us() / S - 3600) * S;
    struct tm_plan *none = plan_of(fact_key, NULL, 0), *ahead = plan_from(ahead_us, fine_key),
                   *behind = plan_from(behind_us, fine_key), *base = plan_of(fine_key, NULL, 0);
    MUST(tm_migrate_local(f->pg, base, &f->err));
    MUST(tm_migrate_local(f->pg, none, &f->err)); /* nothing is there yet */
    MUST(tm_migrate_epoch(f->pg, none, epoch, "g1", &epoch_no, &f->err));
    MUST(tm_migrate_local_partition(f->pg, tm_plan_stream_by_name(none, "daily"), epoch_no, 1, &f->err));
    db_exec(f->db,
            "INSERT INTO daily (at, name, n, received_at, seq) SELECT now() - g * interval '1 min', 'x', g, now(), g "
            "FROM generate_series(10, 120) g");
    keep_catalog(f);
    refused(f, tm_migrate_local(f->pg, base, &f->err),
            "from (at,name) to (at,name,n); declare the new key with from = ");
    refused(f, tm_migrate_local(f->pg, behind, &f->err), "declare the new key with from = ");
    expect_unchanged(f);
    MUST(tm_migrate_local(f->pg, ahead, &f->err));
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.keys WHERE stream = 'daily'"), 2);
    MUST(tm_migrate_local(f->pg, none, &f->err)); /* taken back before it began */
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.keys WHERE stream = 'daily'"), 1);
    /* the newest row is older than the moment: the gatherer was away when it came */
    db_exec(f->db, "DELETE FROM daily WHERE at > now() - interval '61 min'");
    MUST(tm_migrate_local(f->pg, behind, &f->err));
    refused(f, tm_migrate_local(f->pg, none, &f->err), "is not declared any more");
    tm_plan_put(none);
    tm_plan_put(ahead);
    tm_plan_put(behind);
    tm_plan_put(base);
}

/* Before rows of a gatherer are taken: did it know their key? */
static void test_what_a_gatherer_knew(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *none = plan_of(fact_key, NULL, 0), *one = plan_from(NOON_US, fine_key),
                   *other = plan_from(NOON_US, coarse_key);
    const struct tm_stream *s = tm_plan_stream_by_name(one, "daily");
    MUST(tm_migrate_local(f->pg, none, &f->err));
    MUST(tm_keys_are_known(f->pg, tm_plan_stream_by_name(none, "daily"), INT64_MAX, &f->err));
    MUST(tm_keys_are_known(f->pg, s, INT64_MIN, &f->err)); /* rows without a time */
    MUST(tm_keys_are_known(f->pg, s, NOON_US - 1, &f->err));
    refused(f, tm_keys_are_known(f->pg, s, NOON_US, &f->err),
            "took records from 2026-11-26T12:00:00Z on without knowing the key");
    MUST(tm_migrate_local(f->pg, one, &f->err));
    MUST(tm_keys_are_known(f->pg, s, NOON_US, &f->err));
    refused(f, tm_keys_are_known(f->pg, tm_plan_stream_by_name(other, "daily"), NOON_US, &f->err),
            "by a key (at,name,n) that this script does not declare");
    MUST(tm_keys_are_known(f->pg, tm_plan_stream_by_name(none, "daily"), NOON_US - 1, &f->err));
    refused(f, tm_keys_are_known(f->pg, tm_plan_stream_by_name(none, "daily"), NOON_US, &f->err), "does not declare");
    db_exec(f->db, "DROP TABLE tidemill.keys"); /* the store of an older version */
    MUST(tm_keys_are_known(f->pg, tm_plan_stream_by_name(none, "daily"), NOON_US, &f->err));
    refused(f, tm_keys_are_known(f->pg, s, NOON_US, &f->err), "without knowing the key");
    tm_plan_put(none);
    tm_plan_put(one);
    tm_plan_put(other);
}

/* ---- two deduplicators ---- */

struct migration {
    struct fixture *f;
    const struct tm_plan *plan;
    int rc;
};

static void *migrate_main(void *arg)
{
    struct migration *m = arg;
    struct tm_error err;
    struct tm_pg *pg = engine_open(&cluster, m->f->name);
    m->rc = tm_migrate_production(pg, m->plan, &err);
    if (m->rc)
        (void)fprintf(stderr, "%s\n", err.message);
    tm_pg_close(pg);
    return NULL;
}

/* One merges, another brings a key: it waits for the transaction under way, sees its rows, and fails the next one. */
static void test_keys_change_between_transactions(void **state)
{
    struct fixture *f = *state;
    struct tm_plan *none = plan_of(fact_key, NULL, 0), *one = plan_from(NOON_US, fine_key);
    char digest[TM_KEYS_DIGEST], begin[128];
    pthread_t thread;
    struct migration m = {.f = f, .plan = one};
    MUST(tm_migrate_production(f->pg, none, &f->err));
    MUST(tm_migrate_production_days(f->pg, none, MIDNIGHT_US - DAY, MIDNIGHT_US, &f->err));
    MUST(tm_keys_expect(f->pg, none, digest, &f->err));
    refused(f, tm_keys_expect(f->pg, one, begin, &f->err),
            "has keys that production has not recorded: run tidemill migrate");
    (void)snprintf(begin, sizeof begin, "BEGIN; SELECT tidemill.expect_keys('%s')", digest);
    MUST(tm_pg_exec(f->pg, begin, &f->err));
    assert_int_equal(pthread_create(&thread, NULL, migrate_main, &m), 0);
    db_wait(f->db, "SELECT count(*) FROM pg_locks WHERE relation = 'tidemill.keys'::regclass AND NOT granted", 1,
            30 * S);
    must(f->pg, "INSERT INTO daily VALUES ('2026-11-26 11:00Z', 'x', 1, now()); COMMIT");
    pthread_join(thread, NULL);
    assert_int_equal(m.rc, TM_OK);
    assert_true(tm_pg_exec(f->pg, begin, &f->err) != TM_OK);
    assert_non_null(strstr(f->err.message, "another process has changed the keys of production"));
    must(f->pg, "ROLLBACK");
    refused(f, tm_keys_expect(f->pg, none, digest, &f->err),
            "the key (at,name,n) that holds from \"2026-11-26T12:00:00Z\" on");
    MUST(tm_keys_expect(f->pg, one, digest, &f->err));
    /* had the transaction brought a row beyond the moment, the key would have come too late */
    (void)snprintf(begin, sizeof begin, "BEGIN; SELECT tidemill.expect_keys('%s')", digest);
    const struct tm_key_def two[] = {{.from_us = NOON_US, .key = fine_key},
                                     {.from_us = NOON_US + 3600 * S, .key = fact_key}};
    struct tm_plan *more = plan_of(fact_key, two, 2);
    m = (struct migration){.f = f, .plan = more};
    MUST(tm_pg_exec(f->pg, begin, &f->err));
    assert_int_equal(pthread_create(&thread, NULL, migrate_main, &m), 0);
    db_wait(f->db, "SELECT count(*) FROM pg_locks WHERE relation = 'tidemill.keys'::regclass AND NOT granted", 1,
            30 * S);
    must(f->pg, "INSERT INTO daily VALUES ('2026-11-26 13:00Z', 'x', 1, now()); COMMIT");
    pthread_join(thread, NULL);
    assert_int_equal(m.rc, TM_ESTATE);
    tm_plan_put(none);
    tm_plan_put(one);
    tm_plan_put(more);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_indexes_of_days),
        TEST(test_rows_on_both_sides),
        TEST(test_plans_of_the_server),
        TEST(test_an_existing_table_gains_a_key),
        TEST(test_a_day_made_without_the_key),
        TEST(test_contradictions_are_refused),
        TEST(test_a_key_is_taken_back),
        TEST(test_an_empty_table_takes_any_key),
        TEST(test_a_key_that_cannot_change),
        TEST(test_a_table_from_before),
        TEST(test_a_table_without_days),
        TEST(test_a_gatherers_store),
        TEST(test_what_a_gatherer_knew),
        TEST(test_keys_change_between_transactions),
    };
    return cmocka_run_group_tests(tests, server_setup, server_teardown);
}
