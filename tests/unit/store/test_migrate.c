/* Schemas: applied twice, by two at once, by a role without rights; epochs; partitions. */
#include "database.h"
#include "group.h"

#include "store/drift.h"

#include <pthread.h>

#define MUST(call)                                                                                                     \
    do {                                                                                                               \
        if (call)                                                                                                      \
            fail_msg("%s", f->err.message);                                                                            \
    } while (0)

/* Everything that was made: relations with their columns, indexes, views, partition bounds. */
#define CATALOG                                                                                                        \
    "SELECT n.nspname, c.relname, c.relkind, c.oid::int8, a.attname, format_type(a.atttypid, a.atttypmod), "           \
    "a.attnotnull, pg_get_expr(c.relpartbound, c.oid) FROM pg_class c JOIN pg_namespace n ON "                         \
    "n.oid = c.relnamespace LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 WHERE "                    \
    "n.nspname IN ('public', 'readable', 'tidemill')"

static void expect_unchanged(struct fixture *f)
{
    db_same(f->db, CATALOG, "SELECT * FROM kept.catalog");
}

static void keep_catalog(struct fixture *f)
{
    db_exec(f->db, "CREATE SCHEMA kept; CREATE TABLE kept.catalog AS " CATALOG);
}

/* ---- the schema ---- */

static void test_twice(void **state)
{
    struct fixture *f = *state;
    MUST(tm_migrate_local(f->pg, plan, &f->err));
    assert_int_equal(db_int(f->db,
                            "SELECT count(*) FROM pg_class WHERE relname IN ('facts', 'notes', 'things', "
                            "'knobs', 'daily', 'gaps', 'unknown_frames') AND relnamespace = 'public'::regnamespace"),
                     7);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM pg_class WHERE relname IN ('epochs', 'checkpoint', 'streams', "
                                   "'marks', 'quarantine', 'meta') AND relnamespace = 'tidemill'::regnamespace"),
                     6);
    keep_catalog(f);
    MUST(tm_migrate_local(f->pg, plan, &f->err));
    expect_unchanged(f);
    /* and by its text, as `tidemill schema` prints it */
    struct tm_buf sql = {0};
    assert_int_equal(tm_migrate_sql_local(plan, &sql), TM_OK);
    MUST(tm_pg_exec(f->pg, tm_buf_cstr(&sql), &f->err));
    expect_unchanged(f);
    tm_buf_fini(&sql);
}

/* A table that was dropped by hand comes back. */
static void test_missing_table(void **state)
{
    struct fixture *f = *state;
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    db_exec(f->db, "DROP TABLE things CASCADE");
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM things"), 0);
}

/* A schema that is as it should be needs no rights to change it, and waits for nobody. */
static void test_nothing_to_do(void **state)
{
    struct fixture *f = *state;
    MUST(tm_migrate_local(f->pg, plan, &f->err));
    db_exec(f->db, "CREATE ROLE reader; GRANT USAGE ON SCHEMA tidemill TO reader; GRANT SELECT ON "
                   "tidemill.meta TO reader");
    db_exec(f->db, "BEGIN; LOCK facts IN ACCESS SHARE MODE");
    must(f->pg, "SET ROLE reader; SET lock_timeout = '100ms'");
    MUST(tm_migrate_local(f->pg, plan, &f->err));
    db_exec(f->db, "COMMIT; DROP TABLE things CASCADE");
    assert_int_equal(tm_migrate_local(f->pg, plan, &f->err), TM_EDENIED);
    must(f->pg, "RESET ROLE"); /* the failed one left no transaction open */
}

/* What is there already is not locked against its readers, whatever else changed; what has to be is waited for once. */
static void test_readers_are_left_alone(void **state)
{
    struct fixture *f = *state;
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    db_exec(f->db, "UPDATE tidemill.meta SET value = 'another' WHERE key = 'schema'");
    db_exec(f->db,
            "BEGIN; LOCK facts, notes, things, daily, gaps, readable.facts, readable.daily IN ACCESS SHARE MODE");
    must(f->pg, "SET lock_timeout = '100ms'");
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.meta WHERE value = 'another'"), 0);
    db_exec(f->db, "COMMIT; UPDATE tidemill.meta SET value = 'another' WHERE key = 'schema'");
    db_exec(f->db, "ALTER TABLE facts DROP COLUMN n CASCADE");
    db_exec(f->db, "BEGIN; LOCK facts IN ACCESS SHARE MODE");
    assert_int_equal(tm_migrate_production(f->pg, plan, &f->err), TM_ERETRY);
    assert_int_equal(tm_pg_class_of(f->pg), TM_PG_RETRY); /* also after its ROLLBACK: nobody has to mend that */
    assert_string_equal(tm_pg_sqlstate(f->pg), "55P03");
    db_exec(f->db, "COMMIT");
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    assert_int_equal(db_int(f->db, "SELECT count(n) FROM readable.facts"), 0);
}

static void *migrate_main(void *arg)
{
    struct fixture *f = arg;
    struct tm_error err;
    struct tm_pg *pg = engine_open(&cluster, f->name);
    int rc = tm_migrate_production(pg, plan, &err);
    rc = rc ? rc : tm_migrate_production_days(pg, plan, 0, 0, &err);
    if (rc)
        (void)fprintf(stderr, "%s\n", err.message);
    tm_pg_close(pg);
    return (void *)(intptr_t)rc;
}

static void test_two_at_once(void **state)
{
    struct fixture *f = *state;
    pthread_t threads[4];
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, migrate_main, f), 0);
    for (size_t i = 0; i < 4; i++) {
        void *rc;
        pthread_join(threads[i], &rc);
        assert_null(rc);
    }
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM pg_class WHERE relname = 'daily_p19700101'"), 1);
}

/* ---- epochs ---- */

static void test_epochs(void **state)
{
    struct fixture *f = *state;
    const uint8_t first[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 0xff}, second[16] = {2};
    int32_t a, b, again;
    MUST(tm_migrate_local(f->pg, plan, &f->err));
    MUST(tm_migrate_epoch(f->pg, plan, first, "g1", &a, &f->err));
    MUST(tm_migrate_epoch(f->pg, plan, first, "g1", &again, &f->err));
    assert_int_equal(a, again);
    MUST(tm_migrate_epoch(f->pg, plan, second, "g1", &b, &f->err));
    assert_int_not_equal(a, b);
    db_same(f->db, "SELECT epoch::text, gatherer FROM tidemill.epochs",
            "VALUES ('01020304-0506-0708-090a-0b0c0d0e0fff', 'g1'), ('02000000-0000-0000-0000-000000000000', "
            "'g1')");
    /* rows go under the newest, and under the first again when it returns */
    MUST(tm_migrate_local_partition(f->pg, tm_plan_stream_by_name(plan, "facts"), a, 1, &f->err));
    MUST(tm_migrate_local_partition(f->pg, tm_plan_stream_by_name(plan, "facts"), b, 1, &f->err));
    db_exec(f->db, "INSERT INTO facts (at, n, received_at, seq) VALUES (now(), 2, now(), 1)");
    MUST(tm_migrate_epoch(f->pg, plan, first, "g1", &again, &f->err));
    db_exec(f->db, "INSERT INTO facts (at, n, received_at, seq) VALUES (now(), 1, now(), 1)");
    db_same(f->db, "SELECT e.epoch::text LIKE '01%', n FROM facts JOIN tidemill.epochs e USING (epoch_no)",
            "VALUES (true, 1), (false, 2)");
}

/* A stream that is declared later takes part in the epoch that is there. */
static void test_stream_added(void **state)
{
    struct fixture *f = *state;
    struct tm_plan_def smaller_def = plan_def;
    struct tm_plan *smaller = NULL;
    const uint8_t epoch[16] = {9}, other[16] = {8};
    int32_t no;
    smaller_def.stream_count--;
    MUST(tm_plan_compile(&smaller_def, &smaller, &f->err));
    MUST(tm_migrate_local(f->pg, smaller, &f->err));
    MUST(tm_migrate_epoch(f->pg, smaller, other, "g1", &no, &f->err));
    MUST(tm_migrate_epoch(f->pg, smaller, epoch, "g1", &no, &f->err));
    MUST(tm_migrate_local(f->pg, plan, &f->err));
    MUST(tm_migrate_epoch(f->pg, plan, epoch, "g1", &no, &f->err));
    MUST(tm_migrate_local_partition(f->pg, tm_plan_stream_by_name(plan, "daily"), no, 1, &f->err));
    db_exec(f->db, "INSERT INTO daily (at, n, received_at, seq) VALUES (now(), 2, now(), 1)");
    assert_int_equal(db_int(f->db, "SELECT epoch_no FROM daily"), no);
    tm_plan_put(smaller);
}

/* ---- partitions ---- */

#define BOUNDS(t)                                                                                                      \
    "SELECT pg_get_expr(relpartbound, oid) FROM pg_class WHERE oid IN (SELECT inhrelid FROM pg_inherits "              \
    "WHERE inhparent = '" t "'::regclass)"

static void test_local_partitions(void **state)
{
    struct fixture *f = *state;
    const struct tm_stream *facts = tm_plan_stream_by_name(plan, "facts");
    MUST(tm_migrate_local(f->pg, plan, &f->err));
    /* readers and writers at work neither wait nor are waited for */
    db_exec(f->db, "BEGIN; LOCK facts IN ROW EXCLUSIVE MODE");
    must(f->pg, "SET lock_timeout = '100ms'");
    MUST(tm_migrate_local_partition(f->pg, facts, 3, 1, &f->err));
    db_same(f->db, BOUNDS("facts"),
            "VALUES ('FOR VALUES FROM (3, ''1'') TO (3, ''4000001'')'), "
            "('FOR VALUES FROM (3, ''4000001'') TO (3, ''8000001'')')");
    MUST(tm_migrate_local_partition(f->pg, facts, 3, 4000000, &f->err));
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM (" BOUNDS("facts") ") x"), 2);
    MUST(tm_migrate_local_partition(f->pg, facts, 3, 4000001, &f->err));
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM (" BOUNDS("facts") ") x"), 3);
    db_exec(f->db, "COMMIT");
    assert_int_equal(tm_migrate_local_partition_end(1, TM_PARTITION_ROWS), 4000000);
    assert_int_equal(tm_migrate_local_partition_end(4000000, TM_PARTITION_ROWS), 4000000);
    assert_int_equal(tm_migrate_local_partition_end(4000001, TM_PARTITION_ROWS), 8000000);
    db_exec(f->db, "INSERT INTO facts (at, n, received_at, seq, epoch_no) SELECT now(), 1, now(), s, 3 FROM "
                   "unnest('{1,4000000,4000001,12000000}'::int8[]) s");
    /* each partition has the parent's primary key */
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM pg_index WHERE indisprimary AND indrelid IN (SELECT inhrelid "
                                   "FROM pg_inherits WHERE inhparent = 'facts'::regclass)"),
                     3);
    /* an upsert stream is one table */
    MUST(tm_migrate_local_partition(f->pg, tm_plan_stream_by_name(plan, "things"), 3, 1, &f->err));
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM pg_class WHERE relname LIKE 'things_e%'"), 0);
}

#define DAY (INT64_C(86400) * TM_US_PER_S)

static void test_production_days(void **state)
{
    struct fixture *f = *state;
    /* 2024-02-28 23:59:59.999999 UTC, by `date -u -d ... +%s` */
    int64_t evening_us = INT64_C(1709164799999999);
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    MUST(tm_migrate_production_days(f->pg, plan, evening_us, evening_us + DAY + 1, &f->err));
    db_same(f->db, BOUNDS("daily"),
            "VALUES ('FOR VALUES FROM (''2024-02-28 00:00:00+00'') TO (''2024-02-29 00:00:00+00'')'), "
            "('FOR VALUES FROM (''2024-02-29 00:00:00+00'') TO (''2024-03-01 00:00:00+00'')'), "
            "('FOR VALUES FROM (''2024-03-01 00:00:00+00'') TO (''2024-03-02 00:00:00+00'')')");
    keep_catalog(f);
    MUST(tm_migrate_production_days(f->pg, plan, evening_us, evening_us + DAY + 1, &f->err));
    expect_unchanged(f);
    /* before 1970 a day still begins at midnight */
    MUST(tm_migrate_production_days(f->pg, plan, -1, -1, &f->err));
    db_exec(f->db, "INSERT INTO daily VALUES ('1969-12-31 23:59:59.999999+00', NULL, 1, now())");
    /* the unique key holds in a day, NULLs included */
    PGresult *r = PQexec(f->db, "INSERT INTO daily VALUES ('1969-12-31 23:59:59.999999+00', NULL, 2, now())");
    assert_string_equal(PQresultErrorField(r, PG_DIAG_SQLSTATE), "23505");
    PQclear(r);
}

/* A table that is no native parent (TimescaleDB makes hypertables of plain ones) gets no partitions. */
static void test_days_of_a_plain_table(void **state)
{
    struct fixture *f = *state;
    db_exec(f->db, "CREATE TABLE daily (at timestamptz NOT NULL, name text, n int4 NOT NULL, received_at "
                   "timestamptz NOT NULL)");
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    MUST(tm_migrate_production_days(f->pg, plan, 0, DAY, &f->err));
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM pg_class WHERE relname LIKE 'daily_p%'"), 0);
}

/* What somebody changes under us is told by its name; what takes our rows all the same is no difference. */
static void test_drift(void **state)
{
    struct fixture *f = *state;
    static const struct {
        const char *change, *wanted; /* NULL: no difference */
        const char *back;
    } cases[] = {
        {"ALTER TABLE daily ADD COLUMN remark text", NULL, ""},
        {"ALTER TABLE daily ADD COLUMN desk int NOT NULL DEFAULT 1", NULL, ""},
        {"ALTER TABLE daily ALTER COLUMN desk DROP DEFAULT", "daily.desk: it is NOT NULL without a default",
         "ALTER TABLE daily DROP COLUMN desk"},
        {"CREATE DOMAIN small AS int4", NULL, ""},
        {"DROP VIEW readable.daily; ALTER TABLE daily ALTER COLUMN name TYPE varchar(20)", NULL, ""},
        {"ALTER TABLE daily ALTER COLUMN n TYPE int8", "daily.n: expected int4, found bigint",
         "ALTER TABLE daily ALTER COLUMN n TYPE small"},
        {"ALTER TABLE daily DROP COLUMN name CASCADE", "daily.name: expected text, found no such column",
         "ALTER TABLE daily ADD COLUMN name text"},
        {"DROP TABLE daily", NULL, ""}, /* migrating makes it */
    };
    char lost[100];
    MUST(tm_migrate_production(f->pg, plan, &f->err));
    MUST(tm_drift_check(f->pg, plan, &f->err));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        db_exec(f->db, cases[i].change);
        int rc = tm_drift_check(f->pg, plan, &f->err);
        if (rc != (cases[i].wanted ? TM_EINVAL : TM_OK))
            fail_msg("%s: %d %s", cases[i].change, rc, rc ? f->err.message : "");
        if (cases[i].wanted && !strstr(f->err.message, cases[i].wanted))
            fail_msg("%s: %s", cases[i].change, f->err.message);
        if (*cases[i].back)
            db_exec(f->db, cases[i].back);
        MUST(tm_drift_check(f->pg, plan, &f->err));
    }
    MUST(tm_drift_lost_tables(f->pg, plan, lost, sizeof lost, &f->err));
    assert_string_equal(lost, ""); /* nothing was ever merged into it */
    db_exec(
        f->db,
        "INSERT INTO tidemill.cursors (gatherer, epoch, stream, seq, hash) VALUES ('g1', gen_random_uuid(), 'daily', "
        "1, 1)");
    MUST(tm_drift_lost_tables(f->pg, plan, lost, sizeof lost, &f->err));
    assert_string_equal(lost, "daily");
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_twice),           TEST(test_missing_table),
        TEST(test_nothing_to_do),   TEST(test_readers_are_left_alone),
        TEST(test_two_at_once),     TEST(test_epochs),
        TEST(test_stream_added),    TEST(test_local_partitions),
        TEST(test_production_days), TEST(test_days_of_a_plain_table),
        TEST(test_drift),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
