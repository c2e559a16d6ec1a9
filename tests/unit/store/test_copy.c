/* Storing rows: the fast path, conflicts, rows that can never be stored, merging by time, replacing by key. */
#include "group.h"

struct fixture {
    struct tm_pg *pg;
    PGconn *db;
    struct tm_copy_result result;
    struct tm_error err;
    size_t rejects;
    char sqlstates[16][6];
};

static int setup(void **state, const char *name,
                 int (*migrate)(struct tm_pg *, const struct tm_plan *, struct tm_error *))
{
    struct fixture *f = calloc(1, sizeof *f);
    make_database(&cluster, name);
    f->pg = engine_open(&cluster, name);
    f->db = db_open(&cluster, name);
    if (migrate(f->pg, plan, &f->err))
        fail_msg("%s", f->err.message);
    *state = f;
    return 0;
}

static int setup_production(void **state)
{
    static int number;
    char name[32];
    (void)snprintf(name, sizeof name, "production%d", number++);
    return setup(state, name, tm_migrate_production);
}

static int setup_local(void **state)
{
    static int number;
    char name[32];
    int32_t epoch_no;
    const uint8_t epoch[16] = {7};
    (void)snprintf(name, sizeof name, "local%d", number++);
    int rc = setup(state, name, tm_migrate_local);
    struct fixture *f = *state;
    assert_int_equal(tm_migrate_epoch(f->pg, plan, epoch, "g1", &epoch_no, &f->err), TM_OK);
    assert_int_equal(tm_migrate_local_partition(f->pg, tm_plan_stream_by_name(plan, "facts"), epoch_no, 1, &f->err),
                     TM_OK);
    return rc;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    tm_pg_close(f->pg);
    PQfinish(f->db);
    free(f);
    return 0;
}

/* Puts the row aside in the same transaction, as the callers do. */
static int on_reject(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple, const char *sqlstate,
                     const char *message)
{
    struct fixture *f = arg;
    struct tm_error err;
    struct tm_quarantine q = {.stream = stream->name,
                              .gatherer = "g1",
                              .epoch = "00000000-0000-0000-0000-000000000001",
                              .seq = "1",
                              .sqlstate = sqlstate,
                              .error = message,
                              .columns = "",
                              .tuple = *tuple};
    assert_true(f->rejects < 16);
    (void)snprintf(f->sqlstates[f->rejects++], 6, "%s", sqlstate);
    return tm_quarantine_put(f->pg, &q, &err);
}

static int copy(struct fixture *f, const char *stream, const char *columns, const struct rows *r)
{
    bool local = strstr(columns, "seq") != NULL;
    struct tm_copy_batch batch = {.stream = tm_plan_stream_by_name(plan, stream),
                                  .side = local ? TM_COPY_LOCAL : TM_COPY_PRODUCTION,
                                  .columns = columns,
                                  .tuples = r->spans,
                                  .count = r->count,
                                  .on_reject = on_reject,
                                  .arg = f};
    return tm_copy_rows(f->pg, &batch, &f->result, &f->err);
}

static void must_copy(struct fixture *f, const char *stream, const char *columns, const struct rows *r)
{
    if (copy(f, stream, columns, r))
        fail_msg("%s", f->err.message);
    assert_int_equal(f->result.stored + f->result.duplicate + f->result.rejected, r->count);
}

/* The rows of a query into a stream, in a transaction of their own. */
static void store(struct fixture *f, const char *stream, const char *columns, const char *query)
{
    struct rows r;
    rows_of(&r, f->pg, query);
    must(f->pg, "BEGIN");
    must_copy(f, stream, columns, &r);
    must(f->pg, "COMMIT");
    rows_free(&r);
}

static void expect_result(const struct fixture *f, uint64_t stored, uint64_t duplicate, uint64_t rejected)
{
    assert_int_equal(f->result.stored, stored);
    assert_int_equal(f->result.duplicate, duplicate);
    assert_int_equal(f->result.rejected, rejected);
}

#define FACT_COLUMNS "at,name,n,received_at"
#define LOCAL_FACT_COLUMNS FACT_COLUMNS ",seq"
#define FACT_ROWS "timestamptz '2026-01-01 UTC' + g * interval '1 s', 'x' || g % 10, g::int4, now()"

/* ---- unique ---- */

static void test_straight(void **state)
{
    struct fixture *f = *state;
    store(f, "facts", FACT_COLUMNS, "SELECT " FACT_ROWS " FROM generate_series(1, 1000) g");
    expect_result(f, 1000, 0, 0);
    assert_false(f->result.conflicted);
    db_same(
        f->db, "SELECT at, name, n FROM facts",
        "SELECT timestamptz '2026-01-01 UTC' + g * interval '1 s', 'x' || g % 10, g FROM generate_series(1, 1000) g");
    store(f, "facts", FACT_COLUMNS, "SELECT " FACT_ROWS " FROM generate_series(1, 0) g");
    expect_result(f, 0, 0, 0);
}

static void test_conflicts(void **state)
{
    struct fixture *f = *state;
    store(f, "facts", FACT_COLUMNS, "SELECT " FACT_ROWS " FROM generate_series(1, 40) g");
    store(f, "facts", FACT_COLUMNS, "SELECT " FACT_ROWS " FROM generate_series(11, 110) g");
    expect_result(f, 70, 30, 0);
    assert_true(f->result.conflicted);
    /* twice in one batch, and with a part of the key that is NULL */
    store(f, "facts", FACT_COLUMNS,
          "SELECT timestamptz '2027-01-01 UTC', NULL::text, g::int4, now() FROM generate_series(1, 3) g");
    expect_result(f, 1, 2, 0);
    store(f, "facts", FACT_COLUMNS, "SELECT timestamptz '2027-01-01 UTC', NULL::text, 4, now()");
    expect_result(f, 0, 1, 0);
    db_same(f->db, "SELECT at, name, n FROM facts",
            "SELECT timestamptz '2026-01-01 UTC' + g * interval '1 s', 'x' || g % 10, g FROM generate_series(1, 110) g "
            "UNION ALL SELECT '2027-01-01 UTC', NULL, 1");
}

static void test_conflicts_expected(void **state)
{
    struct fixture *f = *state;
    struct rows r;
    rows_of(&r, f->pg, "SELECT " FACT_ROWS " FROM generate_series(1, 100) g");
    struct tm_copy_batch batch = {.stream = tm_plan_stream_by_name(plan, "facts"),
                                  .side = TM_COPY_PRODUCTION,
                                  .columns = FACT_COLUMNS,
                                  .tuples = r.spans,
                                  .count = r.count,
                                  .expect_conflicts = true,
                                  .on_reject = on_reject,
                                  .arg = f};
    /* twice in one transaction: what the stage held the first time is not stored again */
    must(f->pg, "BEGIN");
    assert_int_equal(tm_copy_rows(f->pg, &batch, &f->result, &f->err), TM_OK);
    expect_result(f, 100, 0, 0);
    assert_int_equal(tm_copy_rows(f->pg, &batch, &f->result, &f->err), TM_OK);
    expect_result(f, 0, 100, 0);
    must(f->pg, "ROLLBACK");
    must(f->pg, "BEGIN");
    assert_int_equal(tm_copy_rows(f->pg, &batch, &f->result, &f->err), TM_OK);
    must(f->pg, "COMMIT");
    expect_result(f, 100, 0, 0);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM facts"), 100);
    rows_free(&r);
}

/* ---- rows that can never be stored ---- */

/* 'bad' becomes three bytes that are no UTF-8. */
static void spoil(const struct rows *r, size_t at)
{
    uint8_t *name = memmem(r->bytes.data, r->bytes.len, "bad", 3);
    assert_non_null(name);
    assert_in_range(name - r->spans[at].bytes, 0, r->spans[at].len);
    name[1] = 0xff;
}

static void test_poison(void **state)
{
    struct fixture *f = *state;
    struct rows r;
    db_exec(f->db, "ALTER TABLE facts ADD CHECK (n NOT IN (1, 700))");
    rows_of(&r, f->pg,
            "SELECT timestamptz '2026-01-01 UTC' + g * interval '1 s', CASE g WHEN 333 THEN 'bad' ELSE 'good' END, "
            "g::int4, now() FROM generate_series(1, 1000) g");
    spoil(&r, 332);
    must(f->pg, "BEGIN");
    must_copy(f, "facts", FACT_COLUMNS, &r);
    must(f->pg, "COMMIT");
    expect_result(f, 997, 0, 3);
    assert_int_equal(f->rejects, 3);
    assert_string_equal(f->sqlstates[0], "23514");
    assert_string_equal(f->sqlstates[1], "22021");
    assert_string_equal(f->sqlstates[2], "23514");
    db_same(f->db, "SELECT n FROM facts", "SELECT g FROM generate_series(1, 1000) g WHERE g NOT IN (1, 333, 700)");
    /* whole: the four bytes of n stand where the tuple has them, and the error says why */
    db_same(f->db,
            "SELECT sqlstate, ('x' || encode(substr(tuple, octet_length(tuple) - 15, 4), 'hex'))::bit(32)::int4, "
            "error LIKE '%check constraint%' OR error LIKE '%invalid byte sequence%' FROM tidemill.quarantine",
            "VALUES ('23514', 1, true), ('22021', 333, true), ('23514', 700, true)");
    rows_free(&r);
}

static void test_poison_among_conflicts(void **state)
{
    struct fixture *f = *state;
    db_exec(f->db, "ALTER TABLE facts ADD CHECK (n <> 55)");
    store(f, "facts", FACT_COLUMNS, "SELECT " FACT_ROWS " FROM generate_series(1, 50) g");
    store(f, "facts", FACT_COLUMNS, "SELECT " FACT_ROWS " FROM generate_series(31, 80) g");
    expect_result(f, 29, 20, 1);
    db_same(f->db, "SELECT n FROM facts", "SELECT g FROM generate_series(1, 80) g WHERE g <> 55");
}

static int refuse(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple, const char *sqlstate,
                  const char *message)
{
    (void)arg;
    (void)stream;
    (void)tuple;
    (void)sqlstate;
    (void)message;
    return TM_ERETRY;
}

static void test_errors_of_other_kinds(void **state)
{
    struct fixture *f = *state;
    struct rows r;
    rows_of(&r, f->pg, "SELECT " FACT_ROWS " FROM generate_series(1, 5) g");
    must(f->pg, "BEGIN");
    assert_int_equal(copy(f, "facts", "at,name,n,nowhere", &r), TM_EINVAL);
    assert_string_equal(tm_pg_sqlstate(f->pg), "42703");
    must(f->pg, "ROLLBACK");
    assert_int_equal(f->rejects, 0);

    db_exec(f->db, "ALTER TABLE facts ADD CHECK (n <> 3)");
    struct tm_copy_batch batch = {.stream = tm_plan_stream_by_name(plan, "facts"),
                                  .side = TM_COPY_PRODUCTION,
                                  .columns = FACT_COLUMNS,
                                  .tuples = r.spans,
                                  .count = r.count,
                                  .on_reject = refuse};
    must(f->pg, "BEGIN");
    assert_int_equal(tm_copy_rows(f->pg, &batch, &f->result, &f->err), TM_ERETRY);
    assert_non_null(strstr(f->err.message, "check constraint"));
    must(f->pg, "ROLLBACK");
    rows_free(&r);
}

/* ---- within ---- */

#define NOTE_COLUMNS "who,content,received_at"
#define AT(s) "timestamptz '2026-01-01 UTC' + interval '" s " s'"
/* Rows of notes from (who, content, seconds). */
#define NOTES(rows)                                                                                                    \
    "SELECT who, content::jsonb, timestamptz '2026-01-01 UTC' + s * interval '1 s' FROM (VALUES " rows                 \
    ") n (who, content, s)"

static void test_within(void **state)
{
    struct fixture *f = *state;
    /* 0.8 repeats 0, which is stored; 1.6 is 1.6 behind 0, though close to 0.8, which is not stored */
    store(
        f, "notes", NOTE_COLUMNS,
        NOTES("('a', '{\"v\":1}', 1.6), ('a', '{\"v\":1}', 0), ('a', '{\"v\":1}', 0.8), ('a', '{\"v\":1}', 2.4),"
              "('a', '{\"v\":2}', 0.8), ('b', '{\"v\":1}', 0.8), (NULL, '{\"v\":1}', 0.1), (NULL, '{\"v\":1}', 0.2)"));
    expect_result(f, 5, 3, 0);
    /* against the table on either side; exactly the time apart is apart */
    store(f, "notes", NOTE_COLUMNS,
          NOTES("('a', '{\"v\":1}', -0.9), ('a', '{\"v\":1}', -1.0), ('a', '{\"v\":1}', 2.6),"
                "('a', '{ \"v\" : 1 }', 2.5), (NULL, '{\"v\":1}', 0.9), (NULL, '{\"v\":1}', 1.1)"));
    expect_result(f, 3, 3, 0);
    db_same(f->db,
            "SELECT who, content ->> 'v', extract(epoch FROM received_at - timestamptz '2026-01-01 UTC') FROM notes",
            "VALUES ('a', '1', -1.0), ('a', '1', 0), ('a', '1', 1.6), ('a', '1', 2.6), ('a', '2', 0.8), "
            "('b', '1', 0.8), (NULL, '1', 0.1), (NULL, '1', 1.1)");
}

/* The rule, row by row: in the order of arrival, what is close to a stored row is left out. */
static const char within_oracle[] =
    "CREATE TABLE heard (batch int, who text, content jsonb, received_at timestamptz);"
    "CREATE TABLE truth (who text, content jsonb, received_at timestamptz);"
    "CREATE PROCEDURE tell(wanted int) LANGUAGE plpgsql AS $$DECLARE r record; BEGIN "
    "FOR r IN SELECT * FROM heard WHERE batch = wanted ORDER BY received_at LOOP "
    "IF NOT EXISTS (SELECT FROM truth t WHERE t.who IS NOT DISTINCT FROM r.who AND t.content = r.content AND "
    "abs(extract(epoch FROM t.received_at - r.received_at)) < 1) THEN "
    "INSERT INTO truth VALUES (r.who, r.content, r.received_at); END IF; END LOOP; END$$;"
    "SELECT setseed(0.25);"
    "INSERT INTO heard SELECT g % 4, CASE WHEN g % 5 > 0 THEN 'w' || g % 5 END, jsonb_build_object('v', g % 3), "
    "timestamptz '2026-01-01 UTC' + (random() * 60000000)::int * interval '1 us' FROM generate_series(1, 4000) g";

static void test_within_at_random(void **state)
{
    struct fixture *f = *state;
    db_exec(f->db, within_oracle);
    for (int i = 0; i < 4; i++) {
        char query[128];
        (void)snprintf(query, sizeof query, "SELECT who, content, received_at FROM heard WHERE batch = %d", i);
        store(f, "notes", NOTE_COLUMNS, query);
        db_execf(f->db, "CALL tell(%d)", i);
    }
    assert_in_range(db_int(f->db, "SELECT count(*) FROM truth"), 300, 2000);
    db_same(f->db, "SELECT who, content, received_at FROM notes", "SELECT who, content, received_at FROM truth");
}

/* ---- upsert ---- */

static void test_upsert_in_production(void **state)
{
    struct fixture *f = *state;
    store(f, "things", "id,v,received_at",
          "VALUES ('a', 1::int8, " AT("1") "), ('a', 3, " AT("3") "), ('a', 2, " AT("2") "), ('b', 1, " AT("5") ")");
    expect_result(f, 2, 2, 0);
    /* what comes late does not undo what is newer */
    store(f, "things", "id,v,received_at",
          "VALUES ('a', 9::int8, " AT("2.5") "), ('b', 2, " AT("6") "), ('c', NULL, " AT("0") ")");
    expect_result(f, 2, 1, 0);
    db_same(f->db, "SELECT id, v FROM things", "VALUES ('a', 3::int8), ('b', 2), ('c', NULL)");
    /* without a time of arrival the last one counts */
    store(f, "knobs", "id,v", "VALUES ('a', 1::int8), ('a', 2)");
    store(f, "knobs", "id,v", "VALUES ('a', 7::int8)");
    db_same(f->db, "SELECT id, v FROM knobs", "VALUES ('a', 7::int8)");
}

static void test_upsert_in_a_gatherer(void **state)
{
    struct fixture *f = *state;
    /* the clock was set back between 1 and 2: the order of the rows decides, not their time */
    store(f, "things", "id,v,received_at,seq",
          "VALUES ('a', 1::int8, " AT("9") ", 1::int8), ('a', 2, " AT("1") ", 2), ('b', 1, " AT("1") ", 3)");
    expect_result(f, 2, 1, 0);
    store(f, "things", "id,v,received_at,seq", "VALUES ('b', 5::int8, " AT("0") ", 4::int8)");
    db_same(f->db, "SELECT id, v, seq, epoch_no FROM things", "VALUES ('a', 2::int8, 2::int8, 1), ('b', 5, 4, 1)");
}

/* ---- a gatherer's own numbers ---- */

static void test_fork(void **state)
{
    struct fixture *f = *state;
    struct rows r;
    store(f, "facts", LOCAL_FACT_COLUMNS, "SELECT " FACT_ROWS ", g::int8 FROM generate_series(1, 10) g");
    expect_result(f, 10, 0, 0);
    /* equal facts under numbers of their own are two rows here */
    store(f, "facts", LOCAL_FACT_COLUMNS, "SELECT " FACT_ROWS ", g::int8 + 10 FROM generate_series(1, 10) g");
    expect_result(f, 10, 0, 0);
    rows_of(&r, f->pg, "SELECT " FACT_ROWS ", g::int8 + 20 FROM generate_series(0, 10) g");
    must(f->pg, "BEGIN");
    assert_int_equal(copy(f, "facts", LOCAL_FACT_COLUMNS, &r), TM_ECORRUPT);
    must(f->pg, "ROLLBACK");
    assert_int_equal(f->rejects, 0);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM facts WHERE epoch_no = 1"), 20);
    rows_free(&r);
}

#define PRODUCTION(t) cmocka_unit_test_setup_teardown(t, setup_production, teardown)
#define LOCAL(t) cmocka_unit_test_setup_teardown(t, setup_local, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PRODUCTION(test_straight),
        PRODUCTION(test_conflicts),
        PRODUCTION(test_conflicts_expected),
        PRODUCTION(test_poison),
        PRODUCTION(test_poison_among_conflicts),
        PRODUCTION(test_errors_of_other_kinds),
        PRODUCTION(test_within),
        PRODUCTION(test_within_at_random),
        PRODUCTION(test_upsert_in_production),
        LOCAL(test_upsert_in_a_gatherer),
        LOCAL(test_fork),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
