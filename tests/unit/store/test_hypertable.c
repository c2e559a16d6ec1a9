/*
 * Days in a production with TimescaleDB (store/hypertable.h). The extension is not at hand: what is tested is what it would be
 * asked to do, against stand-ins for the views and functions of its documentation that note the calls. What the extension
 * itself makes of them is not.
 */
#include "database.h"
#include "group.h"

#include "store/hypertable.h"
#include "store/migrate.h"

#define DAY_US (INT64_C(86400) * 1000000)

/* Chunks are tables of rows in `kept`; dropping by bounds as documented: a chunk that lies between them. */
#define STAND_INS                                                                                                      \
    "SET allow_system_table_mods = on; INSERT INTO pg_extension SELECT 60000, 'timescaledb', 10, 2200, true, '2.14', " \
    "NULL, NULL; CREATE SCHEMA timescaledb_information; CREATE SCHEMA chunks;"                                         \
    "CREATE TABLE asked (n serial, what text);"                                                                        \
    "CREATE TABLE timescaledb_information.hypertables (hypertable_schema name, hypertable_name name);"                 \
    "CREATE TABLE timescaledb_information.chunks (hypertable_schema name, hypertable_name name, chunk_schema name, "   \
    "chunk_name name, range_start timestamptz, range_end timestamptz);"                                                \
    "CREATE FUNCTION create_hypertable(regclass, name, chunk_time_interval interval, create_default_indexes bool) "    \
    "RETURNS void LANGUAGE sql AS 'INSERT INTO timescaledb_information.hypertables VALUES (''public'', $1::text)';"    \
    "CREATE FUNCTION drop_chunks(relation regclass, older_than timestamptz, newer_than timestamptz) RETURNS SETOF "    \
    "text LANGUAGE plpgsql AS $$ DECLARE c record; BEGIN INSERT INTO asked (what) VALUES ('drop');"                    \
    " FOR c IN DELETE FROM timescaledb_information.chunks WHERE hypertable_name = relation::text AND range_end <= "    \
    "older_than AND range_start >= newer_than RETURNING * LOOP"                                                        \
    " EXECUTE format('DROP TABLE %I.%I', c.chunk_schema, c.chunk_name); RETURN NEXT c.chunk_name; END LOOP; END $$;"

static void add_chunk(struct fixture *f, int age, int rows)
{
    char sql[600];
    (void)snprintf(
        sql, sizeof sql,
        "CREATE TABLE chunks._hyper_1_%d_chunk AS SELECT i FROM generate_series(1, %d) i; INSERT INTO "
        "timescaledb_information.chunks SELECT 'public', 'daily', 'chunks', '_hyper_1_%d_chunk', d, d + interval '1 day' "
        "FROM (SELECT date_trunc('day', now(), 'UTC') - interval '%d days') d (d)",
        age, rows, age, age);
    db_exec(f->db, sql);
}

static void make_production(struct fixture *f)
{
    if (tm_migrate_production(f->pg, plan, &f->err))
        fail_msg("%s", f->err.message);
}

static void test_chunks_go_one_by_one_and_are_announced(void **state)
{
    struct fixture *f = *state;
    struct tm_expired gone;
    db_exec(f->db, STAND_INS);
    make_production(f);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM timescaledb_information.hypertables WHERE hypertable_name = "
                                   "'daily'"),
                     1);
    add_chunk(f, 40, 7);
    add_chunk(f, 33, 5);
    add_chunk(f, 2, 3);
    assert_int_equal(tm_expiry_step(f->pg, "daily", 30 * DAY_US, false, &gone, &f->err), 1);
    assert_string_equal(gone.partition, "chunks._hyper_1_40_chunk");
    assert_int_equal(gone.rows, 7);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM timescaledb_information.chunks"), 2);
    assert_int_equal(tm_expiry_step(f->pg, "daily", 30 * DAY_US, false, &gone, &f->err), 1);
    assert_int_equal(tm_expiry_step(f->pg, "daily", 30 * DAY_US, false, &gone, &f->err), 0);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM timescaledb_information.chunks"), 1);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM asked"), 2);
    /* what coverage() takes for gone is exactly what is: the bounds of the two chunks */
    assert_int_equal(db_int(f->db,
                            "SELECT count(*) FROM tidemill.dropped d, (VALUES (40, 7), (33, 5)) v (age, n) WHERE "
                            "d.from_ts = date_trunc('day', now(), 'UTC') - v.age * interval '1 day' AND d.to_ts = "
                            "d.from_ts + interval '1 day' AND d.rows = v.n AND d.stream = 'daily'"),
                     2);
}

static void test_nothing_is_asked_without_the_extension(void **state)
{
    struct fixture *f = *state;
    struct tm_expired gone;
    bool is = true;
    make_production(f);
    assert_int_equal(tm_hypertable_is(f->pg, "daily", &is, &f->err), TM_OK);
    assert_false(is);
    assert_int_equal(tm_expiry_step(f->pg, "daily", DAY_US, false, &gone, &f->err), 0);
    assert_int_equal(tm_hypertable_compress(f->pg, tm_plan_stream_by_name(plan, "daily"), DAY_US, &f->err), 0);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.meta WHERE key LIKE 'compress%'"), 0);
}

static void test_compression_is_by_market_in_the_order_of_time(void **state)
{
    (void)state;
    struct tm_buf sql = {0};
    const struct tm_stream *daily = tm_plan_stream_by_name(plan, "daily");
    assert_int_equal(tm_hypertable_compress_sql(daily, &sql), TM_OK);
    assert_string_equal(tm_buf_cstr(&sql),
                        "ALTER TABLE daily SET (timescaledb.compress, timescaledb.compress_orderby = 'at')");
    tm_buf_clear(&sql);
    struct tm_stream spread = *daily;
    spread.name = "deltas";
    spread.ticker_column = 1; /* a text: `name` */
    assert_int_equal(tm_hypertable_compress_sql(&spread, &sql), TM_OK);
    assert_string_equal(tm_buf_cstr(&sql),
                        "ALTER TABLE deltas SET (timescaledb.compress, timescaledb.compress_segmentby = "
                        "'name', timescaledb.compress_orderby = 'at')");
    tm_buf_fini(&sql);
}

/* A server whose extension takes no compression (here: the parameters are unknown) is told about, and asked again later. */
static void test_a_refused_compression_is_not_recorded(void **state)
{
    struct fixture *f = *state;
    db_exec(f->db, STAND_INS);
    make_production(f);
    assert_true(tm_hypertable_compress(f->pg, tm_plan_stream_by_name(plan, "daily"), DAY_US, &f->err) < 0);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.meta WHERE key LIKE 'compress%'"), 0);
    assert_true(tm_pg_is_open(f->pg));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_chunks_go_one_by_one_and_are_announced, setup, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_is_asked_without_the_extension, setup, teardown),
        cmocka_unit_test(test_compression_is_by_market_in_the_order_of_time),
        cmocka_unit_test_setup_teardown(test_a_refused_compression_is_not_recorded, setup, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
