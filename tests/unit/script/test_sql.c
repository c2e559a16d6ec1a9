/* tm.sql on a loop, against a real server: values, waiting, transactions, deadlines, ends. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../engine/cluster.h"

#include "bench.h"

#include <arpa/inet.h>
#include <sys/socket.h>
#include <sys/un.h>

#define PATIENCE_US INT64_C(60000000)

static struct cluster cluster;
static PGconn *db;

static int group_setup(void **state)
{
    (void)state;
    cluster_create(&cluster);
    db = db_open(&cluster, "postgres");
    db_exec(db, "CREATE TABLE notes (id int PRIMARY KEY, text text)");
    char conninfo[160];
    cluster_conninfo(&cluster, "postgres", conninfo, sizeof conninfo);
    return setenv("TEST_DB", conninfo, 1);
}

static int group_teardown(void **state)
{
    (void)state;
    PQfinish(db);
    cluster_destroy(&cluster);
    return 0;
}

#define DB "role() local db = tm.sql { conninfo = tm.env 'TEST_DB', timeout = '30s' }\n"

static void test_values(void **state)
{
    (void)state;
    bench_run(
        DB
        "tm.on('start', function()\n"
        "  local rows, err = db:query([[SELECT true AS b, false AS f, 5::int2 AS i2, -7::int4 AS i4,\n"
        "    9007199254740991::int8 AS safe, 9007199254740992::int8 AS unsafe, (-9223372036854775808)::int8 AS least,\n"
        "    1.5::float8 AS d, 12.50::numeric AS n, 0.123456789012345678::numeric AS long, 9007199254740993::numeric AS "
        "big,\n"
        "    '2026-11-05 00:00:00.5+00'::timestamptz AS t, '1969-12-31 23:59:59.999999+00'::timestamptz AS before,\n"
        "    'infinity'::timestamptz AS never, '2026-11-05'::date AS day, '{\"a\": 1}'::jsonb AS j, NULL::int AS null,\n"
        "    'NaN'::numeric AS nan, 'text' AS s, '\\xff00'::bytea AS y, -0.000001::numeric AS tiny]])\n"
        "  assert(rows, err and err.message)\n"
        "  local r = rows[1]\n"
        "  assert(#rows == 1 and r.b == true and r.f == false and r.i2 == 5 and r.i4 == -7)\n"
        "  assert(r.safe == 9007199254740991 and r.unsafe == '9007199254740992' and r.least == '-9223372036854775808')\n"
        "  assert(r.d == 1.5 and r.n == 12.5 and r.long == '0.123456789012345678' and r.big == '9007199254740993')\n"
        "  assert(r.t == 1793836800500000 and r.before == -1 and r.never == 'infinity')\n" /* date -u -d @1793836800 */
        "  assert(r.day == '2026-11-05' and r.j == '{\"a\": 1}' and r.null == nil and r.nan == 'NaN')\n"
        "  assert(r.s == 'text' and r.y == '\\\\xff00' and r.tiny == -0.000001)\n"
        "  rows = db:query('SELECT $1::text AS a, $2::int8 AS b, $3::bool AS c, $4::text AS d, $5::text AS e, $6::float8 AS "
        "f',\n"
        "    \"it's\", '9223372036854775807', true, nil, tm.null, 0.1)\n"
        "  r = rows[1]\n"
        "  assert(r.a == \"it's\" and r.b == '9223372036854775807' and r.c == true and r.d == nil and r.e == nil and r.f == "
        "0.1)\n"
        "  assert(#db:query 'SELECT 1 WHERE false' == 0)\n"
        "  count 'done'\n"
        "end)\n");
    bench_until("done", 1);
    bench_no_errors();
}

static void test_errors_and_misuse(void **state)
{
    (void)state;
    bench_run(DB "local small = tm.sql { conninfo = tm.env 'TEST_DB', max_rows = 3, max_bytes = '1KiB' }\n"
                 "tm.on('start', function()\n"
                 "  local rows, err = db:query 'SELECT 1 / 0'\n"
                 "  assert(rows == nil and err.sqlstate == '22012' and err.message == 'division by zero')\n"
                 "  rows, err = small:query 'SELECT generate_series(1, 4)'\n"
                 "  assert(rows == nil and err.message:find('more than 3 rows', 1, true))\n"
                 "  rows, err = small:query 'SELECT repeat($1, 2000)'\n"
                 "  assert(rows == nil)\n"
                 "  rows, err = small:query(\"SELECT repeat('x', 2000)\")\n"
                 "  assert(rows == nil and err.message:find('more than 1024 bytes', 1, true))\n"
                 "  assert(#small:query 'SELECT generate_series(1, 3) AS n' == 3)\n"
                 "  local function refused(text, ...)\n"
                 "    local ok, why = pcall(db.query, db, ...)\n"
                 "    assert(not ok and tostring(why):find(text, 1, true), tostring(why))\n"
                 "  end\n"
                 "  refused('expected text, a number', 'SELECT $1', {})\n"
                 "  refused('not exact', 'SELECT $1', 2 ^ 60)\n"
                 "  refused('NUL', 'SELECT $1', 'a\\0b')\n"
                 "  refused('a statement', 'SELECT\\0', 1)\n"
                 "  refused('string expected', {})\n"
                 "  refused('at most 100', 'SELECT 1', unpack({}, 1, 101))\n"
                 "  count 'done'\n"
                 "end)\n");
    bench_until("done", 1);
    bench_no_errors();
}

/* Ten handlers, two connections: all are served, no more than two at once, and the loop goes on meanwhile. */
static void test_connections_are_shared(void **state)
{
    (void)state;
    bench_run(DB "for _ = 1, 10 do tm.on('start', function()\n"
                 "  local rows = assert(db:query \"SELECT pg_sleep(0.05), (SELECT count(*) FROM pg_stat_activity WHERE "
                 "application_name = 'tidemill policy') AS n\")\n"
                 "  assert(rows[1].n <= 2)\n"
                 "  count 'done'\n"
                 "end) end\n"
                 "tm.every('2ms', function() count 'tick' end)\n");
    bench_until("done", 10);
    assert_true(bench_metric("tick") > 5);
    bench_no_errors();
}

static void test_transactions(void **state)
{
    (void)state;
    db_exec(db, "TRUNCATE notes");
    bench_run(DB
              "local function add(tx, id) return tx:exec('INSERT INTO notes VALUES ($1, $2)', id, 'x') end\n"
              "tm.on('start', function()\n"
              "  assert(db:transaction(function(tx) assert(add(tx, 1) == 1) assert(add(tx, 2) == 1) end) == true)\n"
              "  assert(db:transaction(function(tx) add(tx, 3) return 'a' end) == 'a')\n"
              "  local ok, why = pcall(db.transaction, db, function(tx) add(tx, 4) error('boom', 0) end)\n"
              "  assert(not ok and why == 'boom')\n"
              "  local r, err = db:transaction(function(tx) add(tx, 5) return add(tx, 1) end)\n" /* 1 is there */
              "  assert(r == nil and err.sqlstate == '23505')\n"
              "  r, err = db:transaction(function(tx) add(tx, 6) tx:query 'SELECT nothing' end)\n" /* not looked at */
              "  assert(r == nil and err.sqlstate == '25P02' and err.message:find('rolled back', 1, true))\n"
              "  local kept\n"
              "  db:transaction(function(tx) kept = tx end)\n"
              "  r, err = kept:query 'SELECT 1'\n"
              "  assert(r == nil and err.message == 'the transaction is over')\n"
              "  db:transaction(function(tx)\n"
              "    tm.spawn(function()\n"
              "      local fine, busy = pcall(tx.query, tx, 'SELECT 1')\n"
              "      assert(not fine and busy:find('runs already', 1, true), tostring(busy))\n"
              "      count 'busy'\n"
              "    end)\n"
              "    assert(tx:query 'SELECT pg_sleep(0.1)')\n"
              "  end)\n"
              "  count 'done'\n"
              "end)\n");
    bench_until("done", 1);
    bench_until("busy", 1);
    bench_no_errors();
    assert_int_equal(db_int(db, "SELECT count(*) FROM notes"), 3);
    assert_int_equal(db_int(db, "SELECT sum(id) FROM notes"), 6);
}

/* A handler that is stopped for its CPU time cannot roll back by itself. */
static void test_dead_tasks_are_rolled_back(void **state)
{
    (void)state;
    db_exec(db, "TRUNCATE notes");
    bench_run("role() local db = tm.sql { conninfo = tm.env 'TEST_DB', connections = 1 }\n"
              "tm.on('start', function()\n"
              "  db:transaction(function(tx)\n"
              "    assert(tx:exec \"INSERT INTO notes VALUES (1, 'x')\" == 1)\n"
              "    while true do end\n"
              "  end)\n"
              "end)\n"
              "tm.on('start', function()\n"
              "  tm.sleep '10ms'\n"
              "  local rows, err = db:query 'SELECT count(*) AS n FROM notes'\n" /* the one connection becomes free */
              "  assert(rows, err and err.message)\n"
              "  assert(rows[1].n == 0)\n"
              "  count 'done'\n"
              "end)\n");
    bench_until("done", 1);
    assert_true(bench_metric("tidemill_script_errors_total") == 1);
    db_wait(db, "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%'", 0, PATIENCE_US);
}

static void test_deadlines(void **state)
{
    (void)state;
    bench_run(
        "role() local db = tm.sql { conninfo = tm.env 'TEST_DB', timeout = '500ms', connections = 1 }\n"
        "tm.on('start', function()\n"
        "  assert(db:query 'SELECT 1')\n"
        "  local rows, err = db:query 'SELECT pg_sleep(3600)'\n"
        "  assert(rows == nil and err.message:find('no answer within 0.5 s', 1, true), err.message)\n"
        "  for _ = 1, 2 do tm.spawn(function()\n" /* one runs, the other waits for the connection: both in their time */
        "    local r, e = db:transaction(function(tx) return tx:query 'SELECT pg_sleep(3600)' end)\n"
        "    assert(r == nil and (e.message:find('no answer', 1, true) or e.message:find('was free', 1, true)), "
        "e.message)\n"
        "    count(e.message:find('no answer', 1, true) and 'done' or 'second')\n"
        "  end) end\n"
        "end)\n");
    bench_until("done", 1);
    bench_until("second", 1);
    bench_no_errors();
    db_wait(db, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'", 0,
            PATIENCE_US);
}

static void test_lost_servers(void **state)
{
    (void)state;
    bench_run(
        "role() local db = tm.sql { conninfo = tm.env 'TEST_DB', timeout = '20s', connections = 2 }\n"
        "tm.on('start', function()\n"
        "  assert(db:query 'SELECT 1')\n"
        "  local r, err = db:transaction(function(tx)\n"
        "    tm.spawn(function()\n" /* over the other connection, until the statement runs */
        "      local seen\n"
        "      repeat seen = db:query \"SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sl%' AND state = "
        "'active'\" until seen and seen[1]\n"
        "      count 'asleep'\n"
        "    end)\n"
        "    return tx:query 'SELECT pg_sleep(3600)'\n"
        "  end)\n"
        "  assert(r == nil and err.sqlstate == '57P01', err.sqlstate)\n"
        "  local rows\n"
        "  repeat rows = db:query 'SELECT 1 AS one' until rows\n"
        "  count 'again'\n"
        "  r, err = db:transaction(function(tx)\n"
        "    local pid = tx:query 'SELECT pg_backend_pid() AS pid'[1].pid\n"
        "    assert(db:query('SELECT pg_terminate_backend($1)', pid))\n"
        "    tm.sleep '100ms'\n"
        "  end)\n"
        "  assert(r == nil and (err.sqlstate == '08006' or err.sqlstate == '08007'), err.message)\n"
        "  count 'done'\n"
        "end)\n");
    bench_until("asleep", 1);
    db_exec(db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidemill policy'");
    bench_until("done", 1);
    bench_no_errors();
}

/* A server that says nothing, one that is not there, and a name that does not exist: the loop goes on all the time. */
static void test_nobody_answers(void **state)
{
    (void)state;
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s/.s.PGSQL.5432", bench.dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 4), 0);
    setenv("TEST_SILENT", bench.dir, 1);
    bench_run(
        "role() local silent = tm.sql { conninfo = 'user=x host=' .. tm.env 'TEST_SILENT', timeout = '300ms' }\n"
        "local gone = tm.sql { conninfo = 'host=/nonexistent,127.0.0.1 port=1 user=x password=hunter2' }\n"
        "local named = tm.sql { conninfo = 'host=no.such.name.invalid user=x password=hunter2', timeout = '20s' }\n"
        "local function fails(db, text)\n"
        "  local rows, err = db:query 'SELECT 1'\n"
        "  assert(rows == nil and err.message:find(text, 1, true), err and err.message)\n"
        "  assert(not err.message:find 'hunter2')\n"
        "  count 'done'\n"
        "end\n"
        "tm.on('start', function() fails(silent, 'within 0.3 s') end)\n"
        "tm.on('start', function() fails(gone, 'cannot connect') end)\n"
        "tm.on('start', function() fails(named, 'cannot connect: the name \"no.such.name.invalid\"') end)\n"
        "tm.every('5ms', function() count 'tick' end)\n");
    bench_until("done", 3);
    assert_true(bench_metric("tick") > 5);
    bench_no_errors();
    close(fd);
}

/* The script ends while it asks, waits and holds a transaction. */
static void test_the_end(void **state)
{
    (void)state;
    bench_run("role() local db = tm.sql { conninfo = tm.env 'TEST_DB', connections = 2 }\n"
              "local named = tm.sql { conninfo = 'host=another.name.invalid user=x' }\n"
              "for _ = 1, 4 do tm.on('start', function() db:query 'SELECT pg_sleep(3600)' count 'never' end) end\n"
              "tm.on('start', function() named:query 'SELECT 1' end)\n"
              "tm.on('start', function()\n"
              "  local other = db:transaction(function() tm.sleep '1h' end)\n"
              "  count 'never'\n"
              "  return other\n"
              "end)\n"
              "tm.every('10ms', function() count 'tick' end)\n");
    bench_until("tick", 20);
    tm_script_destroy(bench.script);
    bench.script = NULL;
    assert_true(bench_metric("never") == 0);
    db_wait(db, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidemill policy'", 0, PATIENCE_US);
}

/* A conninfo made of a secret works, and shows nowhere: not in an error, not in the log, not in a metric. */
static void test_secret_conninfo(void **state)
{
    (void)state;
    setenv("TEST_SECRET", bench_file("password", "canary-3141\n", 0600), 1);
    setenv("TEST_HOST", cluster.dir, 1);
    bench_run(
        "local password = tm.secret { file = tm.env 'TEST_SECRET' }\n"
        "role(tm.conninfo { host = 'nowhere.invalid', password = password })\n"
        "local db = tm.sql { conninfo = tm.conninfo { host = tm.env 'TEST_HOST', user = 'postgres', dbname = 'postgres', "
        "password = password } }\n"
        "local wrong = tm.sql { conninfo = tm.conninfo { host = tm.env 'TEST_HOST', user = 'nobody', password = password "
        "} }\n"
        "tm.on('start', function()\n"
        "  assert(db:query 'SELECT 1')\n"
        "  assert(db:query('SELECT $1::text AS p', password)[1].p == 'canary' .. '-3141')\n"
        "  local rows, err = db:query('SELECT $1::int', password)\n"
        "  assert(rows == nil and err.sqlstate == '22P02' and not err.message:find('canary', 1, true))\n"
        "  tm.log.info('one', { message = err.message, p = password })\n"
        "  rows, err = wrong:query 'SELECT 1'\n"
        "  assert(rows == nil and not err.message:find('canary', 1, true))\n"
        "  tm.log.info('two', { message = err.message })\n"
        "  count 'done'\n"
        "end)\n");
    assert_string_equal(tm_script_config(bench.script)->deduplicator.production,
                        "host='nowhere.invalid' password='canary-3141'");
    bench_until("done", 1);
    bench_no_errors();
    assert_true(bench_logged("event=two"));
    assert_false(bench_logged("canary"));
    struct tm_buf page = {0};
    assert_int_equal(tm_metrics_render(bench.services.metrics, &page), TM_OK);
    assert_null(strstr(tm_buf_cstr(&page), "canary"));
    tm_buf_fini(&page);
}

static void test_mistakes(void **state)
{
    (void)state;
    assert_int_equal(
        bench_load("role() tm.sql { conninfo = \"host=a password='hunter2\" } tm.sql { conninfo = 'a=hunter2' }"),
        TM_EINVAL);
    bench_expect_problem("tm.sql: conninfo: a value in quotes does not end");
    bench_expect_problem("tm.sql: conninfo: unknown keyword \"a\"");
    for (size_t i = 0; i < bench.problems.count; i++)
        assert_null(strstr(bench.problems.list[i].message, "hunter2"));
    assert_int_equal(bench.problems.count, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_values),
        BENCH_TEST(test_errors_and_misuse),
        BENCH_TEST(test_connections_are_shared),
        BENCH_TEST(test_transactions),
        BENCH_TEST(test_dead_tasks_are_rolled_back),
        BENCH_TEST(test_deadlines),
        BENCH_TEST(test_lost_servers),
        BENCH_TEST(test_nobody_answers),
        BENCH_TEST(test_the_end),
        BENCH_TEST(test_secret_conninfo),
        BENCH_TEST(test_mistakes),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
