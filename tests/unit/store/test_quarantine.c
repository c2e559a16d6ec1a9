/* What people do with rows in quarantine: another try, also of an earlier epoch's rows, and dropping; retention's choices. */
#include "group.h"
#include "store/retention.h"

#define FACT_COLUMNS "at,name,n,received_at,seq"
#define OLD "01000000-0000-0000-0000-000000000000"
#define NEW "02000000-0000-0000-0000-000000000000"

struct fixture {
    struct tm_pg *pg;
    PGconn *db;
    int32_t epoch_no;
    struct tm_error err;
};

/* A gatherer's store that has seen two journals, the second being written, with partitions of 1000 rows. */
static int setup(void **state)
{
    static int number;
    char name[32];
    int32_t old_no;
    int64_t rows;
    const uint8_t old[16] = {1}, new[16] = {2};
    struct fixture *f = calloc(1, sizeof *f);
    (void)snprintf(name, sizeof name, "local%d", number++);
    make_database(&cluster, name);
    f->pg = engine_open(&cluster, name);
    f->db = db_open(&cluster, name);
    assert_int_equal(tm_migrate_local(f->pg, plan, &f->err), TM_OK);
    assert_int_equal(tm_migrate_partition_rows(f->pg, 1000, &rows, &f->err), TM_OK);
    assert_int_equal(rows, 1000);
    assert_int_equal(tm_migrate_epoch(f->pg, plan, old, "g1", &old_no, &f->err), TM_OK);
    assert_int_equal(tm_migrate_epoch(f->pg, plan, new, "g1", &f->epoch_no, &f->err), TM_OK);
    assert_true(f->epoch_no == old_no + 1);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    tm_pg_close(f->pg);
    PQfinish(f->db);
    free(f);
    return 0;
}

/* A fact that was refused. */
static void put_aside(struct fixture *f, const char *epoch, int n, int seq)
{
    char query[256], number[16];
    struct rows r;
    (void)snprintf(query, sizeof query, "SELECT now(), 'a'::text, %d::int4, now(), %d::int8", n, seq);
    rows_of(&r, f->pg, query);
    (void)snprintf(number, sizeof number, "%d", seq);
    struct tm_quarantine q = {.stream = "facts",
                              .gatherer = "g1",
                              .epoch = epoch,
                              .seq = number,
                              .sqlstate = "23514",
                              .error = "refused",
                              .columns = FACT_COLUMNS,
                              .tuple = r.spans[0]};
    assert_int_equal(tm_quarantine_put(f->pg, &q, &f->err), TM_OK);
    tm_buf_fini(&r.bytes);
    free(r.spans);
}

static struct tm_quarantine_counts retry(struct fixture *f, const char *ids)
{
    struct tm_quarantine_retry how = {.plan = plan, .side = TM_COPY_LOCAL};
    struct tm_quarantine_pick pick = {.ids = ids};
    struct tm_quarantine_counts counts;
    if (tm_quarantine_retry(f->pg, &how, &pick, &counts, &f->err))
        fail_msg("%s", f->err.message);
    return counts;
}

static int64_t number(struct fixture *f, const char *sql)
{
    PGresult *result = PQexec(f->db, sql);
    assert_int_equal(PQresultStatus(result), PGRES_TUPLES_OK);
    int64_t value = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return value;
}

/* Each row under the number of its own journal, although the tables' default is another; one bad row stays alone. */
static void test_retry_of_two_epochs(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "ALTER TABLE facts ADD CONSTRAINT poison CHECK (n <> 13)");
    put_aside(f, OLD, 1, 7);
    put_aside(f, NEW, 2, 7);
    put_aside(f, NEW, 13, 8);
    put_aside(f, NEW, 3, 2500); /* of a partition that is not there */
    struct tm_quarantine_counts n = retry(f, NULL);
    assert_true(n.stored == 3 && n.refused == 1 && n.duplicate == 0);
    assert_int_equal(number(f, "SELECT count(*) FROM tidemill.quarantine WHERE seq = 8 AND error LIKE '%poison%'"), 1);
    assert_int_equal(number(f, "SELECT count(*) FROM facts f JOIN tidemill.epochs e USING (epoch_no) WHERE "
                               "(e.epoch, f.n, f.seq) IN (('" OLD "', 1, 7), ('" NEW "', 2, 7), ('" NEW "', 3, 2500))"),
                     3);
    assert_int_equal(number(f, "SELECT count(*) FROM facts"), 3);
}

static void test_retry_behind_the_cursor(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "INSERT INTO tidemill.acknowledged VALUES ('p', '" NEW "', 'facts', 10)");
    put_aside(f, NEW, 1, 10);
    put_aside(f, NEW, 2, 11);
    struct tm_quarantine_counts n = retry(f, NULL);
    assert_true(n.stored == 1 && n.refused == 1);
    assert_int_equal(number(f, "SELECT seq FROM tidemill.quarantine WHERE error LIKE 'production has gone past%'"), 10);
    assert_int_equal(number(f, "SELECT seq FROM facts"), 11);
}

static void test_drop_of_some(void **state)
{
    struct fixture *f = *state;
    for (int seq = 1; seq <= 3; seq++)
        put_aside(f, NEW, seq, seq);
    struct tm_quarantine_pick pick = {.stream = "facts", .ids = "{1,3}"};
    struct tm_quarantine_counts counts;
    assert_int_equal(tm_quarantine_drop(f->pg, &pick, NULL, NULL, &counts, &f->err), TM_OK);
    assert_int_equal(counts.dropped, 2);
    assert_int_equal(number(f, "SELECT seq FROM tidemill.quarantine"), 2);
    assert_int_equal(number(f, "SELECT count(*) FROM tidemill.absent WHERE reason = 'dropped' AND rows = 1 AND "
                               "who = session_user AND first_seq = last_seq AND first_seq IN (1, 3)"),
                     2);
}

/* ---- retention ---- */

/* Three full partitions and one begun; the marks say when each was committed. */
static void fill(struct fixture *f)
{
    const struct tm_stream *facts = tm_plan_stream_by_name(plan, "facts");
    for (int64_t seq = 1; seq <= 3001; seq += 1000)
        assert_int_equal(tm_migrate_local_partition(f->pg, facts, f->epoch_no, seq, &f->err), TM_OK);
    must(f->pg,
         "INSERT INTO facts (at, n, received_at, seq) SELECT now(), s, now(), s FROM generate_series(1, 3500) s");
    must(f->pg, "INSERT INTO tidemill.streams SELECT max(epoch_no), 'facts', 3500, 0 FROM tidemill.epochs");
    must(f->pg, "INSERT INTO tidemill.marks SELECT epoch_no, 'facts', s, 0, now() - (4000 - s) * interval '1 s' FROM "
                "generate_series(500, 3500, 500) s, (SELECT max(epoch_no) AS epoch_no FROM tidemill.epochs) e");
}

static int next(struct fixture *f, int64_t keep_s, bool pressure, const char *const *expire,
                struct tm_retention_part *part)
{
    struct tm_retention_rule rule = {
        .epoch_no = f->epoch_no, .partition_rows = 1000, .keep_us = keep_s * S, .expire = expire, .pressure = pressure};
    int rc = tm_retention_next(f->pg, &rule, part, &f->err);
    if (rc < 0)
        fail_msg("%s", f->err.message);
    return rc;
}

static void test_what_may_go(void **state)
{
    struct fixture *f = *state;
    static const char *const facts[] = {"facts", NULL}, *const others[] = {"daily", NULL};
    struct tm_retention_part part;
    fill(f);
    assert_int_equal(next(f, 0, false, facts, &part), 0); /* no production ever acknowledged anything */
    assert_int_equal(next(f, 0, true, others, &part), 0);
    must(f->pg, "INSERT INTO tidemill.acknowledged VALUES ('p', '" NEW "', 'facts', 2500)");
    assert_int_equal(next(f, 3100, false, facts, &part), 0); /* 1000 was committed 3000 s ago */
    assert_int_equal(next(f, 2900, false, facts, &part), 1);
    assert_true(part.first == 1 && part.last == 1000 && !part.expires);
    must(f->pg,
         "INSERT INTO tidemill.acknowledged VALUES ('q', '" OLD "', 'facts', 1)"); /* another, which has none of it */
    assert_int_equal(next(f, 0, false, facts, &part), 0);
    must(f->pg, "INSERT INTO tidemill.acknowledged VALUES ('q', '" NEW "', 'facts', 1200)");
    assert_int_equal(next(f, 0, false, facts, &part), 1);
    assert_int_equal(tm_retention_drop(f->pg, &part, "g1", &f->err), TM_OK);
    assert_int_equal(number(f, "SELECT min(seq) FROM facts"), 1001);
    assert_int_equal(next(f, 0, false, facts, &part), 0);
    assert_int_equal(next(f, 0, true, others, &part), 0); /* not on the list */
    assert_int_equal(next(f, 0, true, facts, &part), 1);  /* 1001 to 1200 everybody has; 800 would be lost */
    assert_true(part.first == 1001 && part.last == 2000 && part.expires && part.rows == 800);
    assert_int_equal(tm_retention_drop(f->pg, &part, "g1", &f->err), TM_OK);
    assert_int_equal(number(f, "SELECT count(*) FROM tidemill.absent WHERE (first_seq, last_seq, rows, reason) IN "
                               "((1, 1200, 1200, 'released'), (1201, 2000, 800, 'expired'))"),
                     2);
    assert_int_equal(number(f, "SELECT count(*) FROM tidemill.absent"), 2);
    assert_int_equal(next(f, 0, true, facts, &part), 1);
    assert_int_equal(tm_retention_drop(f->pg, &part, "g1", &f->err), TM_OK);
    assert_int_equal(next(f, 0, true, facts, &part), 0); /* the one that is being filled stays */
    assert_int_equal(number(f, "SELECT count(*) FROM facts"), 500);
}

/* Somebody reads the table: the drop gives up soon, and leaves everything as it was. */
static void test_drop_waits_for_nobody(void **state)
{
    struct fixture *f = *state;
    static const char *const facts[] = {"facts", NULL};
    struct tm_retention_part part;
    fill(f);
    assert_int_equal(next(f, 0, true, facts, &part), 1);
    PQclear(PQexec(f->db, "BEGIN; LOCK TABLE facts IN ACCESS SHARE MODE"));
    assert_int_equal(tm_retention_drop(f->pg, &part, "g1", &f->err), TM_ERETRY);
    PQclear(PQexec(f->db, "COMMIT"));
    assert_int_equal(number(f, "SELECT count(*) FROM tidemill.absent"), 0);
    assert_int_equal(tm_retention_drop(f->pg, &part, "g1", &f->err), TM_OK);
    assert_int_equal(number(f, "SELECT count(*) FROM facts"), 2500);
}

static void test_a_store_keeps_its_partitions(void **state)
{
    struct fixture *f = *state;
    int64_t rows;
    assert_int_equal(tm_migrate_partition_rows(f->pg, 5000, &rows, &f->err), TM_OK);
    assert_int_equal(rows, 1000);
    must(f->pg, "DELETE FROM tidemill.meta WHERE key = 'partition_rows'"); /* as an earlier version left it */
    assert_int_equal(tm_migrate_local_partition_of(f->pg, tm_plan_stream_by_name(plan, "facts"), f->epoch_no, 1,
                                                   TM_PARTITION_ROWS, &f->err),
                     TM_OK);
    assert_int_equal(tm_migrate_partition_rows(f->pg, 5000, &rows, &f->err), TM_OK);
    assert_int_equal(rows, TM_PARTITION_ROWS);
}

static void test_names_of_productions(void **state)
{
    char name[128];
    (void)state;
    assert_int_equal(tm_retention_production("7123/4", "host=a,b dbname=kalshi user=u", name), TM_OK);
    assert_string_equal(name, "7123/kalshi");
    assert_int_equal(tm_retention_production("7123/5", "postgresql://u@a/kalshi", name), TM_OK);
    assert_string_equal(name, "7123/kalshi"); /* after a failover */
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_retry_of_two_epochs),  TEST(test_retry_behind_the_cursor), TEST(test_drop_of_some),
        TEST(test_what_may_go),          TEST(test_drop_waits_for_nobody),   TEST(test_a_store_keeps_its_partitions),
        TEST(test_names_of_productions),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
