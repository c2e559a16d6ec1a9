/* PostgreSQL without waiting, against a real server: answers, bounds, cancelling, servers that die or are silent. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../engine/cluster.h"

#include "store/async.h"
#include "store/pg.h"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>

#define S TM_US_PER_S
#define PATIENCE_US (60 * S)

static struct cluster cluster;
static PGconn *db; /* the test's own */

static int group_setup(void **state)
{
    (void)state;
    cluster_create(&cluster);
    db = db_open(&cluster, "postgres");
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    PQfinish(db);
    cluster_destroy(&cluster);
    return 0;
}

static struct tm_pg_async *create(const char *conninfo, size_t rows_max, size_t bytes_max)
{
    struct tm_pg_async *a;
    struct tm_error err;
    struct tm_pg_async_options options = {
        .conninfo = conninfo, .application_name = "tidemill policy", .rows_max = rows_max, .bytes_max = bytes_max};
    if (tm_pg_async_create(&options, &a, &err))
        fail_msg("%s", err.message);
    return a;
}

/* As a loop would, until something is done: 1, or negative. 0: the time is up. */
static int drive(struct tm_pg_async *a, int64_t us, struct tm_error *err)
{
    for (int64_t until_us = tm_clock_mono_us() + us;;) {
        int64_t left_us = until_us - tm_clock_mono_us(), events = tm_pg_async_events(a);
        struct pollfd fd = {.fd = tm_pg_async_fd(a),
                            .events =
                                (short)((events & TM_PG_READ ? POLLIN : 0) | (events & TM_PG_WRITE ? POLLOUT : 0))};
        if (left_us <= 0)
            return 0;
        if (poll(&fd, 1, (int)(left_us / 1000) + 1) == 0)
            continue;
        int rc = tm_pg_async_step(a, err);
        if (rc)
            return rc;
    }
}

static struct tm_pg_async *open_with(size_t rows_max, size_t bytes_max)
{
    char conninfo[160];
    struct tm_error err;
    cluster_conninfo(&cluster, "postgres", conninfo, sizeof conninfo);
    struct tm_pg_async *a = create(conninfo, rows_max, bytes_max);
    assert_int_equal(tm_pg_async_hosts(a), 1);
    assert_null(tm_pg_async_name(a, 0));
    if (tm_pg_async_connect(a, 0, NULL, &err) || drive(a, PATIENCE_US, &err) != 1)
        fail_msg("%s", err.message);
    assert_int_equal(tm_pg_async_state(a), TM_PG_READY);
    return a;
}

static int run(struct tm_pg_async *a, const char *sql, int count, const char *const *values, struct tm_error *err)
{
    int rc = tm_pg_async_send(a, sql, count, values, false, err);
    return rc ? rc : drive(a, PATIENCE_US, err);
}

static void must(struct tm_pg_async *a, const char *sql)
{
    struct tm_error err = {0};
    if (run(a, sql, 0, NULL, &err) != 1 || tm_pg_async_answer(a)->code)
        fail_msg("%s: %s %s", sql, err.message, tm_pg_async_answer(a)->error.message);
}

/* All cells, with "|" between and NULL as "-". */
static void expect_cells(const struct tm_pg_async *a, const char *wanted)
{
    const struct tm_pg_answer *answer = tm_pg_async_answer(a);
    char text[1000] = "";
    size_t at = 0, len;
    for (size_t i = 0; i < answer->row_count * answer->column_count; i++) {
        const char *cell = tm_pg_answer_next(answer, &at, &len);
        strcat(text, i ? "|" : "");
        strcat(text, cell ? cell : "-");
        assert_true(cell == NULL || strlen(cell) == len);
    }
    assert_int_equal(at, answer->cells.len);
    assert_string_equal(text, wanted);
}

static void test_answers(void **state)
{
    (void)state;
    struct tm_pg_async *a = open_with(100, 10000);
    struct tm_error err;
    const char *const values[] = {"it's", NULL, "7"};
    assert_int_equal(
        run(a, "SELECT $1::text AS a, $2::text, $3::int8 + n AS c FROM generate_series(1, 2) n", 3, values, &err), 1);
    const struct tm_pg_answer *answer = tm_pg_async_answer(a);
    assert_int_equal(answer->code, TM_OK);
    assert_int_equal(answer->row_count, 2);
    assert_int_equal(answer->column_count, 3);
    assert_string_equal(answer->columns[0].name, "a");
    assert_string_equal(answer->columns[2].name, "c");
    assert_int_equal(answer->columns[0].type, 25); /* SELECT 'text'::regtype::oid */
    assert_int_equal(answer->columns[2].type, 20);
    expect_cells(a, "it's|-|8|it's|-|9");
    must(a, "SELECT 1 WHERE false");
    assert_int_equal(tm_pg_async_answer(a)->row_count, 0);
    assert_int_equal(tm_pg_async_answer(a)->column_count, 1);
    must(a, "CREATE TEMP TABLE t (x int)");
    assert_int_equal(tm_pg_async_answer(a)->affected, -1);
    must(a, "INSERT INTO t SELECT generate_series(1, 7)");
    assert_int_equal(tm_pg_async_answer(a)->affected, 7);
    assert_string_equal(tm_pg_async_answer(a)->tag, "INSERT");
    must(a, "DELETE FROM t WHERE x > 5 RETURNING x");
    assert_int_equal(tm_pg_async_answer(a)->affected, 2);
    expect_cells(a, "6|7");
    must(a, "SELECT current_setting('application_name'), current_setting('timezone'), current_setting('datestyle')");
    expect_cells(a, "tidemill policy|UTC|ISO, MDY");
    tm_pg_async_destroy(a);
}

static void test_errors_leave_it_usable(void **state)
{
    (void)state;
    struct tm_pg_async *a = open_with(100, 10000);
    struct tm_error err = {0};
    assert_int_equal(run(a, "SELECT 1 / 0", 0, NULL, &err), 1);
    assert_int_equal(tm_pg_async_answer(a)->code, TM_EPOISON);
    assert_string_equal(tm_pg_async_answer(a)->sqlstate, "22012");
    assert_string_equal(tm_pg_async_answer(a)->error.message, "division by zero");
    assert_int_equal(run(a, "SELECT 1; SELECT 2", 0, NULL, &err), 1); /* one statement is one */
    assert_string_equal(tm_pg_async_answer(a)->sqlstate, "42601");
    must(a, "BEGIN");
    assert_true(tm_pg_async_in_transaction(a));
    assert_int_equal(run(a, "SELECT nothing", 0, NULL, &err), 1);
    assert_string_equal(tm_pg_async_answer(a)->sqlstate, "42703");
    must(a, "COMMIT");
    assert_string_equal(tm_pg_async_answer(a)->tag, "ROLLBACK");
    assert_false(tm_pg_async_in_transaction(a));
    must(a, "SELECT 5");
    expect_cells(a, "5");
    tm_pg_async_destroy(a);
}

/* What the server quotes of a secret parameter stays out of the error. */
static void test_hidden(void **state)
{
    (void)state;
    struct tm_pg_async *a = open_with(100, 10000);
    struct tm_error err;
    const char *const values[] = {"hunter2canary"};
    assert_int_equal(run(a, "SELECT $1::int", 1, values, &err), 1);
    assert_non_null(strstr(tm_pg_async_answer(a)->error.message, "hunter2canary"));
    assert_int_equal(tm_pg_async_send(a, "SELECT $1::int", 1, values, true, &err), TM_OK);
    assert_int_equal(drive(a, PATIENCE_US, &err), 1);
    assert_string_equal(tm_pg_async_answer(a)->sqlstate, "22P02");
    assert_null(strstr(tm_pg_async_answer(a)->error.message, "hunter2"));
    tm_pg_async_destroy(a);
}

static void expect_too_large(size_t rows_max, size_t bytes_max, const char *sql, const char *message)
{
    struct tm_pg_async *a = open_with(rows_max, bytes_max);
    struct tm_error err = {0};
    assert_int_equal(run(a, sql, 0, NULL, &err), TM_EFULL);
    if (!strstr(err.message, message))
        fail_msg("%s", err.message);
    assert_int_equal(tm_pg_async_state(a), TM_PG_CLOSED);
    assert_int_equal(tm_pg_async_fd(a), -1);
    assert_true(tm_pg_async_answer(a)->cells.cap < 2 * bytes_max + 4096);
    tm_pg_async_destroy(a);
    /* and it is cancelled there: nobody works on it any more */
    db_wait(db, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'tidemill policy'", 0, PATIENCE_US);
}

static void test_bounds(void **state)
{
    (void)state;
    struct tm_pg_async *a = open_with(3, 10000);
    must(a, "SELECT generate_series(1, 3)");
    assert_int_equal(tm_pg_async_answer(a)->row_count, 3);
    tm_pg_async_destroy(a);
    expect_too_large(3, 10000, "SELECT generate_series(1, 4)", "more than 3 rows");
    expect_too_large(1000000, 100000, "SELECT repeat('x', 1000), generate_series(1, 1000000000)",
                     "more than 100000 bytes");
    expect_too_large(10, 100000, "SELECT repeat('x', 200000000)", "more than 100000 bytes");
}

static void test_copy_is_refused(void **state)
{
    (void)state;
    struct tm_pg_async *a = open_with(10, 10000);
    struct tm_error err = {0};
    assert_int_equal(run(a, "COPY (SELECT 1) TO STDOUT", 0, NULL, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "COPY"));
    assert_int_equal(tm_pg_async_state(a), TM_PG_CLOSED);
    tm_pg_async_destroy(a);
}

static void test_abort_cancels(void **state)
{
    (void)state;
    static const char sleeping[] =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = "
        "'active'";
    struct tm_pg_async *a = open_with(10, 10000);
    struct tm_error err;
    assert_int_equal(tm_pg_async_send(a, "SELECT pg_sleep(3600)", 0, NULL, false, &err), TM_OK);
    db_wait(db, sleeping, 1, PATIENCE_US);
    assert_int_equal(drive(a, S / 20, &err), 0);
    tm_pg_async_abort(a);
    assert_int_equal(tm_pg_async_state(a), TM_PG_CLOSED);
    db_wait(db, sleeping, 0, PATIENCE_US);
    assert_int_equal(tm_pg_async_connect(a, 0, NULL, &err), TM_OK); /* it can be used again */
    assert_int_equal(drive(a, PATIENCE_US, &err), 1);
    must(a, "SELECT 1");
    tm_pg_async_destroy(a);
}

/* More than the socket takes at once: it is sent while the server answers. */
static void test_large_parameters(void **state)
{
    (void)state;
    struct tm_pg_async *a = open_with(10, 10000);
    struct tm_error err;
    size_t len = (size_t)16 << 20;
    char *text = malloc(len + 1);
    assert_non_null(text);
    memset(text, 'x', len);
    text[len] = '\0';
    const char *const values[] = {text};
    assert_int_equal(run(a, "SELECT length($1)", 1, values, &err), 1);
    expect_cells(a, "16777216");
    free(text);
    tm_pg_async_destroy(a);
}

/* ---- servers ---- */

static void test_killed_backend(void **state)
{
    (void)state;
    struct tm_pg_async *a = open_with(10, 10000), *idle = open_with(10, 10000);
    struct tm_error err = {0};
    assert_int_equal(tm_pg_async_send(a, "SELECT pg_sleep(3600)", 0, NULL, false, &err), TM_OK);
    db_wait(db, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'", 1,
            PATIENCE_US);
    db_exec(db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'tidemill policy'");
    assert_int_equal(drive(a, PATIENCE_US, &err), TM_ERETRY);
    assert_non_null(strstr(err.message, "terminating connection"));
    assert_int_equal(tm_pg_async_state(a), TM_PG_CLOSED);
    assert_int_equal(drive(idle, PATIENCE_US, &err), TM_ERETRY); /* noticed without a statement */
    tm_pg_async_destroy(a);
    tm_pg_async_destroy(idle);
}

static void test_killed_server(void **state)
{
    (void)state;
    struct tm_pg_async *a = open_with(1000000, (size_t)100 << 20);
    struct tm_error err = {0};
    assert_int_equal(
        tm_pg_async_send(a, "SELECT n, pg_sleep(0.001) FROM generate_series(1, 1000000) n", 0, NULL, false, &err),
        TM_OK);
    assert_int_equal(drive(a, S / 10, &err), 0);
    PQfinish(db);
    cluster_end(&cluster, SIGKILL);
    assert_int_equal(drive(a, PATIENCE_US, &err), TM_ERETRY);
    assert_int_equal(tm_pg_async_state(a), TM_PG_CLOSED);
    /* and while it is away */
    int rc = tm_pg_async_connect(a, 0, NULL, &err);
    assert_int_equal(rc ? rc : drive(a, PATIENCE_US, &err), TM_ERETRY);
    cluster_start(&cluster);
    db = db_open(&cluster, "postgres");
    assert_int_equal(tm_pg_async_connect(a, 0, NULL, &err), TM_OK);
    assert_int_equal(drive(a, PATIENCE_US, &err), 1);
    tm_pg_async_destroy(a);
}

/* One that takes the connection and never says a word: nothing blocks, and the owner's deadline ends it. */
static void test_silent_server(void **state)
{
    (void)state;
    struct cluster silent = {.dir = "/tmp/tm_pg_XXXXXX"};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char conninfo[160];
    struct tm_error err;
    assert_non_null(mkdtemp(silent.dir));
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s/.s.PGSQL.5432", silent.dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 4), 0);
    cluster_conninfo(&silent, "postgres", conninfo, sizeof conninfo);
    struct tm_pg_async *a = create(conninfo, 10, 1000);
    assert_int_equal(tm_pg_async_connect(a, 0, NULL, &err), TM_OK);
    assert_int_equal(drive(a, S / 5, &err), 0);
    assert_int_equal(tm_pg_async_state(a), TM_PG_CONNECTING);
    tm_pg_async_abort(a);
    assert_int_equal(tm_pg_async_fd(a), -1);
    tm_pg_async_destroy(a);
    close(fd);
    unlink(at.sun_path);
    rmdir(silent.dir);
}

static void test_refusals(void **state)
{
    (void)state;
    char conninfo[256];
    struct tm_pg_async *a;
    struct tm_error err = {0};
    struct tm_pg_async_options options = {.conninfo = "host=a password='hunter2", .application_name = "x"};
    assert_int_equal(tm_pg_async_create(&options, &a, &err), TM_EINVAL);
    assert_null(strstr(err.message, "hunter2"));
    (void)snprintf(conninfo, sizeof conninfo, "host=%s user=postgres dbname=nowhere password=hunter2", cluster.dir);
    a = create(conninfo, 1, 1);
    assert_int_equal(tm_pg_async_connect(a, 0, NULL, &err), TM_OK);
    assert_int_equal(drive(a, PATIENCE_US, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "nowhere"));
    assert_null(strstr(err.message, "hunter2"));
    assert_int_equal(tm_pg_async_send(a, "SELECT 1", 0, NULL, false, &err), TM_ESTATE);
    assert_int_equal(tm_pg_async_step(a, &err), TM_ESTATE);
    tm_pg_async_destroy(a);
}

/* ---- names ---- */

static void expect_name(const char *conninfo, size_t host, const char *name)
{
    struct tm_pg_async *a = create(conninfo, 1, 1);
    const char *got = tm_pg_async_name(a, host);
    if (!got != !name || (got && strcmp(got, name) != 0))
        fail_msg("%s: %s", conninfo, got ? got : "none");
    tm_pg_async_destroy(a);
}

static void test_names(void **state)
{
    (void)state;
    expect_name("host=db.example dbname=x", 0, "db.example");
    expect_name("host=a.example,b.example", 1, "b.example");
    expect_name("host=192.0.2.1", 0, NULL);
    expect_name("host=2001:db8::1", 0, NULL);
    expect_name("host=/run/postgresql", 0, NULL);
    expect_name("host=db.example hostaddr=192.0.2.1", 0, NULL);
    expect_name("postgresql://u:p@db.example:5433/x", 0, "db.example");
    expect_name("dbname=x", 0, NULL);
    setenv("PGHOST", "env.example", 1);
    expect_name("dbname=x", 0, "env.example");
    unsetenv("PGHOST");
}

/* The addresses that were resolved are the ones connected to: each in turn, the name itself is never looked up. */
static void test_addresses(void **state)
{
    (void)state;
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    char conninfo[100];
    struct tm_error err;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, len), 0);
    assert_int_equal(listen(fd, 4), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    (void)snprintf(conninfo, sizeof conninfo, "host=no.such.name.invalid port=%d sslmode=disable", ntohs(at.sin_port));
    struct tm_pg_async *a = create(conninfo, 1, 1);
    const char *const addresses[] = {"127.0.0.2", "127.0.0.1", NULL}; /* nobody listens on the first */
    assert_int_equal(tm_pg_async_connect(a, 0, addresses, &err), TM_OK);
    struct pollfd p = {.fd = fd, .events = POLLIN};
    for (int64_t until_us = tm_clock_mono_us() + PATIENCE_US; poll(&p, 1, 0) == 0;) {
        assert_true(tm_clock_mono_us() < until_us);
        assert_true(drive(a, S / 100, &err) >= 0);
    }
    tm_pg_async_destroy(a);
    close(fd);
}

static void expect_mask(const char *conninfo, const char *wanted)
{
    struct tm_buf out = {0};
    assert_int_equal(tm_pg_mask(conninfo, &out), TM_OK);
    assert_string_equal(tm_buf_cstr(&out), wanted);
    tm_buf_fini(&out);
}

static void test_mask(void **state)
{
    (void)state;
    expect_mask("dbname=x host=a password=hunter2", "password=*** dbname=x host=a");
    expect_mask("postgresql://u:hunter2@a:5433/x", "user=u password=*** dbname=x host=a port=5433");
    expect_mask("host=a sslpassword=hunter2 options='-c x=hunter2'", "host=a options=*** sslpassword=***");
    expect_mask("host=a password='hunter2", "***");
    struct tm_error err = {0};
    assert_int_equal(tm_pg_check_conninfo("host=a", &err), TM_OK);
}

/* A keyword that is wrong is named; a value never is, nor what could be the rest of one. */
static void test_faults_of_conninfos(void **state)
{
    (void)state;
    static const struct {
        const char *conninfo, *fault;
    } cases[] = {
        {"foo=hunter2", "unknown keyword \"foo\""},
        {"host=a sslmod=hunter2", "unknown keyword \"sslmod\", did you mean \"sslmode\"?"},
        {"dbname='a b\\' c' host = h usr=hunter2", "unknown keyword \"usr\", did you mean \"user\"?"},
        {"passwrd=hunter2 host=a", "unknown keyword \"passwrd\", did you mean \"password\"?"},
        {"password='a b' hots=hunter2", "unknown keyword \"hots\", did you mean \"host\"?"},
        {"password=hunter2 hunter=2", "a keyword is unknown; values with spaces need quotes"},
        {"password=a hots=hunter2", "a keyword is unknown, did you mean \"host\"?"},
        {"h\xc3\xa4st=hunter2", "a keyword is unknown; values"},
        {"dbname", "a keyword has no \"=\": expected \"keyword=value"},
        {"host=a password=x hunter2", "a keyword has no \"=\""},
        {"host=a password='hunter2", "a value in quotes does not end"},
        {"postgresql://u:hunter2@a/b?sslmod=hunter2", "unknown keyword \"sslmod\", did you mean \"sslmode\"?"},
        {"postgres://a/b?user=x&connect_timeot=hunter2", "did you mean \"connect_timeout\"?"},
        {"postgres://a/b?password=x&hunter=2", "a keyword is unknown"},
        {"postgres://u:p/w?hunter=2@a/b", "expected \"keyword=value ...\""},
        {"postgres://[hunter2/b", "expected \"keyword=value ...\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct tm_error err = {0};
        assert_int_equal(tm_pg_check_conninfo(cases[i].conninfo, &err), TM_EINVAL);
        if (!strstr(err.message, cases[i].fault) || strstr(err.message, "hunter"))
            fail_msg("%s: %s", cases[i].conninfo, err.message);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answers),
        cmocka_unit_test(test_errors_leave_it_usable),
        cmocka_unit_test(test_hidden),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_copy_is_refused),
        cmocka_unit_test(test_abort_cancels),
        cmocka_unit_test(test_large_parameters),
        cmocka_unit_test(test_killed_backend),
        cmocka_unit_test(test_killed_server),
        cmocka_unit_test(test_silent_server),
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_names),
        cmocka_unit_test(test_addresses),
        cmocka_unit_test(test_mask),
        cmocka_unit_test(test_faults_of_conninfos),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
