/* PostgreSQL connections: answers, errors and their classes, COPY both ways, deadlines, stops, a server that
 * dies. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "../engine/cluster.h"

#include "base/endian.h"
#include "store/pg.h"

#include <pthread.h>
#include <sys/socket.h>
#include <sys/un.h>

#define S TM_US_PER_S

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

static struct tm_pg *connect_with(struct tm_stop *stop, int64_t statement_us)
{
    char conninfo[160];
    struct tm_pg *pg = NULL;
    struct tm_error err;
    cluster_conninfo(&cluster, "postgres", conninfo, sizeof conninfo);
    struct tm_pg_options options = {
        .conninfo = conninfo, .application_name = "tidemill test", .stop = stop, .statement_us = statement_us};
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

static void expect_text(struct tm_pg *pg, const char *sql, const char *wanted)
{
    PGresult *result;
    struct tm_error err;
    assert_int_equal(tm_pg_query(pg, sql, 0, NULL, &result, &err), TM_OK);
    assert_string_equal(PQgetvalue(result, 0, 0), wanted);
    PQclear(result);
}

/* ---- connecting ---- */

static void expect_refusal(const char *conninfo, int code, const char *part)
{
    struct tm_pg *pg = NULL;
    struct tm_error err = {0};
    struct tm_pg_options options = {.conninfo = conninfo, .application_name = "tidemill test", .connect_us = 2 * S};
    int rc = tm_pg_connect(&options, &pg, &err);
    if (rc != code)
        fail_msg("%s: %d %s", conninfo, rc, err.message);
    assert_null(pg);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, part))
        fail_msg("expected \"%s\" in: %s", part, err.message);
    assert_null(strstr(err.message, "hunter2"));
    assert_null(strchr(err.message, '\n'));
}

static void test_refusals(void **state)
{
    char text[256];
    (void)state;
    expect_refusal("password=hunter2 nonsense hunter2", TM_EINVAL, "conninfo");
    expect_refusal("host=/nonexistent password=hunter2", TM_ERETRY, "/nonexistent");
    (void)snprintf(text, sizeof text, "host=%s user=postgres dbname=nowhere password=hunter2", cluster.dir);
    expect_refusal(text, TM_EINVAL, "nowhere");
    (void)snprintf(text, sizeof text, "host=%s user=nobody_here dbname=postgres password=hunter2", cluster.dir);
    expect_refusal(text, TM_EDENIED, "nobody_here");
}

static void test_several_hosts(void **state)
{
    char conninfo[256];
    struct tm_pg *pg = NULL;
    struct tm_error err;
    (void)state;
    (void)snprintf(conninfo, sizeof conninfo,
                   "host=/nonexistent,%s port=1,5432 user=postgres dbname=postgres target_session_attrs=read-write",
                   cluster.dir);
    struct tm_pg_options options = {.conninfo = conninfo, .application_name = "tidemill test"};
    assert_int_equal(tm_pg_connect(&options, &pg, &err), TM_OK);
    expect_text(pg, "SHOW application_name", "tidemill test");
    expect_text(pg, "SHOW timezone", "UTC");
    expect_text(pg, "SHOW client_encoding", "UTF8");
    tm_pg_close(pg);
}

/* A server that takes the connection and never says a word. */
static void test_silent_server(void **state)
{
    struct cluster silent = {.dir = "/tmp/tm_pg_XXXXXX"};
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    char conninfo[256];
    struct tm_pg *pg = NULL;
    struct tm_error err;
    (void)state;
    assert_non_null(mkdtemp(silent.dir));
    (void)snprintf(at.sun_path, sizeof at.sun_path, "%s/.s.PGSQL.5432", silent.dir);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_int_equal(listen(fd, 4), 0);
    cluster_conninfo(&silent, "postgres", conninfo, sizeof conninfo);
    struct tm_pg_options options = {.conninfo = conninfo, .application_name = "tidemill test", .connect_us = S / 5};
    int64_t began_us = tm_clock_mono_us();
    assert_int_equal(tm_pg_connect(&options, &pg, &err), TM_ETIMEOUT);
    assert_in_range(tm_clock_mono_us() - began_us, S / 5, 2 * S);
    /* as the first of two hosts it does not eat the time of the second */
    (void)snprintf(conninfo, sizeof conninfo, "host=%s,%s port=5432 user=postgres dbname=postgres", silent.dir,
                   cluster.dir);
    options.connect_us = 4 * S;
    assert_int_equal(tm_pg_connect(&options, &pg, &err), TM_OK);
    tm_pg_close(pg);
    close(fd);
    unlink(at.sun_path);
    rmdir(silent.dir);
}

/* ---- statements ---- */

static void test_statements(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    const char *values[] = {"7", NULL};
    PGresult *result;
    struct tm_error err;
    (void)state;
    must(pg, "CREATE TEMP TABLE t (a int); INSERT INTO t VALUES (1), (2); DELETE FROM t WHERE a = 1");
    expect_text(pg, "SELECT count(*) FROM t", "1");
    assert_int_equal(tm_pg_query(pg, "SELECT $1::int + 1, $2::text IS NULL", 2, values, &result, &err), TM_OK);
    assert_string_equal(PQgetvalue(result, 0, 0), "8");
    assert_string_equal(PQgetvalue(result, 0, 1), "t");
    PQclear(result);
    assert_int_equal(tm_pg_class_of(pg), TM_PG_OK);
    int64_t affected = 0;
    const char *two[] = {"2"};
    must(pg, "INSERT INTO t VALUES (2), (3)");
    assert_int_equal(tm_pg_run(pg, "UPDATE t SET a = a + 1 WHERE a = $1", 1, two, &affected, &err), TM_OK);
    assert_int_equal(affected, 2);
    assert_int_equal(tm_pg_run(pg, "SELECT a FROM t WHERE a > $1", 1, two, NULL, &err), TM_OK);
    assert_int_equal(tm_pg_run(pg, "UPDATE t SET a = $1::int / 0", 1, two, &affected, &err), TM_EPOISON);
    assert_int_equal(affected, 2);
    tm_pg_close(pg);
}

static void test_sessions_that_follow_a_conninfo(void **state)
{
    char conninfo[160], other[180];
    struct tm_pg *pg;
    struct tm_error err;
    (void)state;
    cluster_conninfo(&cluster, "postgres", conninfo, sizeof conninfo);
    (void)snprintf(other, sizeof other, "%s ", conninfo);
    struct tm_pg_options options = {.conninfo = conninfo, .application_name = "tidemill test"};
    assert_false(tm_pg_is_open_by(NULL, conninfo));
    assert_int_equal(tm_pg_connect(&options, &pg, &err), TM_OK);
    (void)memset(conninfo, 'x', 3); /* it has a copy */
    assert_false(tm_pg_is_open_by(pg, conninfo));
    assert_false(tm_pg_is_open_by(pg, other));
    other[strlen(other) - 1] = '\0';
    assert_true(tm_pg_is_open_by(pg, other));
    assert_int_not_equal(tm_pg_exec(pg, "SELECT pg_terminate_backend(pg_backend_pid())", &err), TM_OK);
    assert_false(tm_pg_is_open_by(pg, other));
    tm_pg_close(pg);
}

static void test_classes(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    struct tm_error err;
    static const struct {
        const char *sql, *sqlstate;
        enum tm_pg_class class;
        int code;
    } rows[] = {
        {"INSERT INTO u VALUES (1), (1)", "23505", TM_PG_UNIQUE, TM_EPOISON},
        {"INSERT INTO u VALUES (NULL)", "23502", TM_PG_DATA, TM_EPOISON},
        {"SELECT 'x'::int", "22P02", TM_PG_DATA, TM_EPOISON},
        {"SELECT '\"\\u0000\"'::jsonb", "22P05", TM_PG_DATA, TM_EPOISON},
        {"SELECT (repeat('[', 1000000))::jsonb", "54001", TM_PG_DATA, TM_EPOISON},
        {"SELECT * FROM nowhere", "42P01", TM_PG_STOP, TM_EINVAL},
        {"SET ROLE weak; SELECT * FROM u", "42501", TM_PG_STOP, TM_EDENIED},
        {"RESET ROLE; BEGIN READ ONLY; INSERT INTO u VALUES (9)", "25006", TM_PG_RECONNECT, TM_ERETRY},
        {"ROLLBACK; SET statement_timeout = 20; SELECT pg_sleep(60)", "57014", TM_PG_RETRY, TM_ERETRY},
        {"RESET statement_timeout; DO $$BEGIN RAISE SQLSTATE '40001'; END$$", "40001", TM_PG_RETRY, TM_ERETRY},
        {"DO $$BEGIN RAISE SQLSTATE '40P01'; END$$", "40P01", TM_PG_RETRY, TM_ERETRY},
        {"DO $$BEGIN RAISE SQLSTATE '53100'; END$$", "53100", TM_PG_RETRY, TM_ERETRY},
        {"DO $$BEGIN RAISE SQLSTATE '53300'; END$$", "53300", TM_PG_RETRY, TM_ERETRY},
        {"DO $$BEGIN RAISE SQLSTATE '57P03'; END$$", "57P03", TM_PG_RECONNECT, TM_ERETRY},
        {"DO $$BEGIN RAISE SQLSTATE 'XX001'; END$$", "XX001", TM_PG_STOP, TM_ECORRUPT},
    };
    (void)state;
    db_exec(db, "CREATE TABLE u (a int PRIMARY KEY); CREATE ROLE weak");
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int rc = tm_pg_exec(pg, rows[i].sql, &err);
        if (rc != rows[i].code || tm_pg_class_of(pg) != rows[i].class)
            fail_msg("%s: code %d, class %d: %s", rows[i].sql, rc, tm_pg_class_of(pg), err.message);
        assert_string_equal(tm_pg_sqlstate(pg), rows[i].sqlstate);
        assert_non_null(strstr(err.message, rows[i].sqlstate));
        assert_true(tm_pg_is_open(pg));
    }
    must(pg, "SELECT 1");
    tm_pg_close(pg);
}

/* MEASURED.md: with its synchronous standby gone COMMIT would hang for ever; it is asked to wait no longer, and is there. */
static void test_commit_without_a_standby(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 10 * S);
    struct tm_error err;
    bool alone = true;
    (void)state;
    must(pg, "CREATE TABLE committed (a int); BEGIN; INSERT INTO committed VALUES (1)");
    assert_int_equal(tm_pg_commit(pg, S / 5, &alone, &err), TM_OK);
    assert_false(alone);
    db_exec(db, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'");
    db_exec(db, "SELECT pg_reload_conf()");
    int64_t until_us = tm_clock_mono_us() + 5 * S;
    while (!alone) { /* the setting reaches the session with its next statement */
        must(pg, "BEGIN; INSERT INTO committed VALUES (2)");
        int64_t began_us = tm_clock_mono_us();
        if (tm_pg_commit(pg, S / 5, &alone, &err))
            fail_msg("%s", err.message);
        assert_true(tm_clock_mono_us() - began_us < 3 * S);
        assert_true(keep_waiting(until_us));
    }
    must(pg, "SET synchronous_commit = local");
    expect_text(pg, "SELECT max(a) FROM committed", "2");
    db_exec(db, "SET synchronous_commit = local");
    db_exec(db, "ALTER SYSTEM RESET synchronous_standby_names");
    db_exec(db, "SELECT pg_reload_conf()");
    tm_pg_close(pg);
}

/* Only a server that takes writes will do for whoever writes; a conninfo that says otherwise knows better. */
static void test_only_a_server_that_takes_writes(void **state)
{
    char plain[160], any[200];
    struct tm_pg *pg = NULL;
    struct tm_error err;
    enum tm_pg_class refusal = TM_PG_OK;
    (void)state;
    cluster_conninfo(&cluster, "postgres", plain, sizeof plain);
    (void)snprintf(any, sizeof any, "%s target_session_attrs=any", plain);
    db_exec(db, "ALTER SYSTEM SET default_transaction_read_only = on");
    db_exec(db, "SELECT pg_reload_conf()");
    struct tm_pg_options options = {
        .conninfo = plain, .application_name = "tidemill test", .writes = true, .refusal = &refusal};
    int64_t until_us = tm_clock_mono_us() + 5 * S;
    while (tm_pg_connect(&options, &pg, &err) == TM_OK) {
        tm_pg_close(pg);
        assert_true(keep_waiting(until_us));
    }
    assert_int_equal(err.code, TM_ERETRY);
    assert_int_equal(refusal, TM_PG_RECONNECT);
    options.conninfo = any;
    if (tm_pg_connect(&options, &pg, &err))
        fail_msg("%s", err.message);
    tm_pg_close(pg);
    db_exec(db, "SET default_transaction_read_only = off");
    db_exec(db, "ALTER SYSTEM RESET default_transaction_read_only");
    db_exec(db, "SELECT pg_reload_conf()");
    options.conninfo = plain;
    for (until_us = tm_clock_mono_us() + 5 * S; tm_pg_connect(&options, &pg, &err);)
        assert_true(keep_waiting(until_us)); /* the tests after this one want it as it was */
    tm_pg_close(pg);
    db_exec(db, "RESET default_transaction_read_only; RESET synchronous_commit");
}

/* libpq would report a COPY that nobody feeds for ever. */
static void test_copy_outside_its_calls(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    struct tm_error err;
    (void)state;
    assert_int_equal(tm_pg_exec(pg, "COPY (SELECT 1) TO STDOUT", &err), TM_EINVAL);
    assert_false(tm_pg_is_open(pg));
    assert_int_equal(tm_pg_exec(pg, "SELECT 1", &err), TM_ERETRY);
    tm_pg_close(pg);
}

/* ---- COPY ---- */

struct rows {
    struct tm_buf bytes;
    struct tm_span_bytes *spans;
    size_t count;
};

/* Tuples (id int8, body bytea), where the body is `id % 7` times 20,000 bytes for every 500th row, else 10.
 */
static size_t body_bytes(int64_t id)
{
    return id % 500 == 0 ? (size_t)(id / 500 % 7) * 20000 : 10;
}

static void put_row(struct tm_buf *out, int64_t id)
{
    uint8_t head[18];
    size_t len = body_bytes(id);
    tm_put_be16(head, 2);
    tm_put_be32(head + 2, 8);
    tm_put_be64(head + 6, (uint64_t)id);
    tm_put_be32(head + 14, (uint32_t)len);
    assert_int_equal(tm_buf_append(out, head, sizeof head), TM_OK);
    assert_int_equal(tm_buf_reserve(out, len), TM_OK);
    memset(out->data + out->len, (int)(id & 0xff), len);
    out->len += len;
}

static void make_rows(struct rows *r, int64_t first, size_t count)
{
    *r = (struct rows){.count = count, .spans = calloc(count, sizeof *r->spans)};
    for (size_t i = 0; i < count; i++) {
        size_t from = r->bytes.len;
        put_row(&r->bytes, first + (int64_t)i);
        r->spans[i] = (struct tm_span_bytes){(const uint8_t *)(uintptr_t)from, r->bytes.len - from};
    }
    for (size_t i = 0; i < count; i++)
        r->spans[i].bytes = r->bytes.data + (uintptr_t)r->spans[i].bytes;
}

static void free_rows(struct rows *r)
{
    tm_buf_fini(&r->bytes);
    free(r->spans);
}

static void test_copy_round_trip(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    struct tm_buf back = {0};
    struct tm_error err;
    struct rows r;
    (void)state;
    make_rows(&r, 1, 20000);
    must(pg, "CREATE TABLE c (id int8 PRIMARY KEY, body bytea)");
    assert_int_equal(
        tm_pg_copy_in(pg, "BEGIN; COPY c (id, body) FROM STDIN (FORMAT binary); COMMIT", r.spans, r.count, &err),
        TM_OK);
    /* told by the server itself: nothing of the encoding above is shared with it */
    assert_int_equal(db_int(db, "SELECT count(*) FROM c WHERE octet_length(body) = CASE WHEN id % 500 = 0 THEN "
                                "id / 500 % 7 * 20000 ELSE 10 END AND (octet_length(body) = 0 OR "
                                "get_byte(body, octet_length(body) - 1) = id & 255)"),
                     20000);
    assert_int_equal(tm_buf_append(&back, "head", 4), TM_OK);
    assert_int_equal(tm_pg_copy_out(pg, "COPY (SELECT * FROM c ORDER BY id) TO STDOUT (FORMAT binary)", &back, &err),
                     TM_OK);
    assert_int_equal(back.len, r.bytes.len + 4);
    assert_memory_equal(back.data + 4, r.bytes.data, r.bytes.len);
    tm_buf_clear(&back);
    assert_int_equal(tm_pg_copy_out(pg, "COPY (SELECT * FROM c WHERE false) TO STDOUT (FORMAT binary)", &back, &err),
                     TM_OK);
    assert_int_equal(back.len, 0);
    assert_int_equal(tm_pg_copy_in(pg, "COPY c FROM STDIN (FORMAT binary)", NULL, 0, &err), TM_OK);
    tm_buf_fini(&back);
    free_rows(&r);
    tm_pg_close(pg);
}

static void test_copy_refused(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    struct tm_buf back = {0};
    struct tm_error err;
    struct rows r;
    (void)state;
    make_rows(&r, 1, 20000);
    must(pg, "CREATE TEMP TABLE d (id int8 CHECK (id <> 2), body bytea)");
    /* the second row is refused while 1.4 MB are still to be sent */
    assert_int_equal(tm_pg_copy_in(pg, "COPY d FROM STDIN (FORMAT binary)", r.spans, r.count, &err), TM_EPOISON);
    assert_string_equal(tm_pg_sqlstate(pg), "23514");
    assert_int_equal(tm_pg_copy_in(pg, "COPY nowhere FROM STDIN (FORMAT binary)", r.spans, r.count, &err), TM_EINVAL);
    assert_string_equal(tm_pg_sqlstate(pg), "42P01");
    /* fails in the middle of the stream: what had come is taken back */
    assert_int_equal(tm_pg_copy_out(pg,
                                    "COPY (SELECT 1000 / (500 - g) FROM generate_series(1, 1000) g) TO STDOUT "
                                    "(FORMAT binary)",
                                    &back, &err),
                     TM_EPOISON);
    assert_string_equal(tm_pg_sqlstate(pg), "22012");
    assert_int_equal(back.len, 0);
    assert_true(tm_pg_is_open(pg));
    expect_text(pg, "SELECT count(*) FROM d", "0");
    tm_buf_fini(&back);
    free_rows(&r);
    tm_pg_close(pg);
}

/* Several COPY in one message, with other statements around and between them. */
static void test_copy_parts(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    struct tm_error err;
    struct rows a, b;
    (void)state;
    make_rows(&a, 1, 3000);
    make_rows(&b, 499, 2);
    struct tm_pg_part parts[] = {{a.spans, a.count}, {b.spans, b.count}, {NULL, 0}};
    must(pg, "CREATE TABLE pa (id int8 PRIMARY KEY, body bytea); CREATE TABLE pb (LIKE pa INCLUDING ALL)");
    const char *sql = "BEGIN; COPY pa FROM STDIN (FORMAT binary); SELECT 1; DELETE FROM pb; "
                      "COPY pb FROM STDIN (FORMAT binary); COPY pa FROM STDIN (FORMAT binary); COMMIT";
    assert_int_equal(tm_pg_copy_in_parts(pg, sql, parts, 3, &err), TM_OK);
    assert_int_equal(db_int(db, "SELECT sum(id) FROM pa"), 3000 * 3001 / 2);
    assert_int_equal(db_int(db, "SELECT sum(octet_length(body)) FROM pb"), 10 + 20000);
    /* the same again: the first part is refused when the second has not begun */
    assert_int_equal(tm_pg_copy_in_parts(pg, sql, parts, 3, &err), TM_EPOISON);
    assert_string_equal(tm_pg_sqlstate(pg), "23505");
    must(pg, "ROLLBACK; DELETE FROM pa");
    struct tm_pg_part twice[] = {{a.spans, a.count}, {b.spans, b.count}, {b.spans, b.count}};
    assert_int_equal(tm_pg_copy_in_parts(pg, sql, twice, 3, &err), TM_EPOISON); /* and the last, after two */
    assert_string_equal(tm_pg_sqlstate(pg), "23505");
    must(pg, "ROLLBACK");
    assert_int_equal(db_int(db, "SELECT count(*) FROM pa"), 0);
    assert_int_equal(db_int(db, "SELECT count(*) FROM pb"), 2);
    assert_int_equal(tm_pg_copy_in_parts(pg, "COPY pa FROM STDIN (FORMAT binary); SELECT 1 / 0", parts, 1, &err),
                     TM_EPOISON); /* behind all of them */
    assert_true(tm_pg_is_open(pg));
    assert_int_equal(db_int(db, "SELECT count(*) FROM pa"), 0);
    free_rows(&a);
    free_rows(&b);
    tm_pg_close(pg);
}

static void test_copy_out_parts(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    struct tm_buf out[3] = {{0}}, *outs[] = {&out[0], &out[1], &out[2]};
    struct tm_error err;
    struct rows r;
    (void)state;
    make_rows(&r, 1, 1000);
    must(pg, "CREATE TEMP TABLE o (id int8, body bytea)");
    assert_int_equal(tm_pg_copy_in(pg, "COPY o FROM STDIN (FORMAT binary)", r.spans, r.count, &err), TM_OK);
    assert_int_equal(
        tm_pg_copy_out_parts(pg,
                             "COPY (SELECT * FROM o WHERE id <= 400 ORDER BY id) TO STDOUT (FORMAT binary);"
                             "COPY (SELECT * FROM o WHERE false) TO STDOUT (FORMAT binary);"
                             "COPY (SELECT * FROM o WHERE id > 400 ORDER BY id) TO STDOUT (FORMAT binary);",
                             outs, 3, SIZE_MAX, &err),
        TM_OK);
    assert_int_equal(out[1].len, 0);
    assert_int_equal(out[0].len + out[2].len, r.bytes.len);
    assert_memory_equal(out[0].data, r.bytes.data, out[0].len);
    assert_memory_equal(out[2].data, r.bytes.data + out[0].len, out[2].len);
    assert_int_equal(tm_pg_copy_out_parts(pg,
                                          "COPY (SELECT * FROM o) TO STDOUT (FORMAT binary);"
                                          "COPY (SELECT * FROM gone) TO STDOUT (FORMAT binary);",
                                          outs, 2, SIZE_MAX, &err),
                     TM_EINVAL);
    assert_string_equal(tm_pg_sqlstate(pg), "42P01");
    expect_text(pg, "SELECT 'the session goes on'", "the session goes on");
    tm_buf_clear(&out[0]);
    assert_int_equal(
        tm_pg_copy_out_parts(pg, "COPY (SELECT * FROM o) TO STDOUT (FORMAT binary)", outs, 1, r.bytes.len, &err),
        TM_OK);
    tm_buf_clear(&out[0]);
    assert_int_equal(
        tm_pg_copy_out_parts(pg, "COPY (SELECT * FROM o) TO STDOUT (FORMAT binary)", outs, 1, r.bytes.len / 2, &err),
        TM_EFULL);
    assert_in_range(out[0].len, r.bytes.len / 2 + 1, r.bytes.len / 2 + r.bytes.len / 100);
    assert_false(tm_pg_is_open(pg));
    for (int i = 0; i < 3; i++)
        tm_buf_fini(&out[i]);
    free_rows(&r);
    tm_pg_close(pg);
}

/* ---- prepared ---- */

static int64_t prepared_sum(struct tm_pg *pg, const char *sql, const char *a, const char *b)
{
    const char *values[] = {a, b};
    PGresult *result;
    struct tm_error err;
    if (tm_pg_query_prepared(pg, sql, 2, values, &result, &err))
        fail_msg("%s", err.message);
    int64_t sum = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    return sum;
}

static void test_prepared(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    struct tm_error err;
    PGresult *result;
    char sql[64];
    (void)state;
    assert_int_equal(tm_pg_query_prepared(pg, "SELECT x FROM later", 0, NULL, &result, &err), TM_EINVAL);
    must(pg, "CREATE TEMP TABLE later AS SELECT 7 AS x");
    assert_int_equal(tm_pg_query_prepared(pg, "SELECT x FROM later", 0, NULL, &result, &err), TM_OK);
    assert_string_equal(PQgetvalue(result, 0, 0), "7");
    PQclear(result);
    for (int i = 0; i < 10; i++)
        assert_int_equal(prepared_sum(pg, "SELECT $1::int8 + $2::int8", "40", i % 2 ? "2" : "1"), 41 + i % 2);
    expect_text(pg, "SELECT count(*) FROM pg_prepared_statements", "2");
    for (int i = 0; i < 200; i++) { /* more than are kept: they work all the same */
        (void)snprintf(sql, sizeof sql, "SELECT $1::int8 + $2::int8 + %d", i % 100);
        assert_int_equal(prepared_sum(pg, sql, "1", "2"), 3 + i % 100);
    }
    expect_text(pg, "SELECT count(*) FROM pg_prepared_statements", "64");
    tm_pg_close(pg);
}

/* A pooler that puts another server process behind the session: it knows nothing, or something else by our name. */
static void test_prepared_elsewhere(void **state)
{
    static const char *const changes[] = {"DEALLOCATE ALL", "DEALLOCATE tm_0; PREPARE tm_1 AS SELECT 'a stranger'"};
    static const char *const sqls[] = {"SELECT $1::int8 + $2::int8", "SELECT $1::int8 * $2::int8"};
    struct tm_error err;
    PGresult *result;
    (void)state;
    for (int change = 0; change < 2; change++)
        for (int transaction = 0; transaction < 2; transaction++) {
            struct tm_pg *pg = connect_with(NULL, 0);
            const char *values[] = {"2", "3"};
            assert_int_equal(prepared_sum(pg, sqls[0], "2", "3"), 5);
            must(pg, changes[change]);
            if (transaction) {
                must(pg, "BEGIN");
                assert_int_equal(tm_pg_query_prepared(pg, sqls[change], 2, values, &result, &err), TM_ERETRY);
                assert_int_equal(err.code, TM_ERETRY);
                assert_int_equal(tm_pg_class_of(pg), TM_PG_RETRY);
                must(pg, "ROLLBACK");
            }
            assert_int_equal(prepared_sum(pg, sqls[change], "2", "3"), change ? 6 : 5);
            assert_int_equal(prepared_sum(pg, sqls[0], "2", "4"), 6);
            tm_pg_close(pg);
        }
}

/* ---- waiting and its ends ---- */

static void test_deadline(void **state)
{
    struct tm_pg *pg = connect_with(NULL, S / 5);
    struct tm_error err;
    (void)state;
    int64_t began_us = tm_clock_mono_us();
    assert_int_equal(tm_pg_exec(pg, "SELECT pg_sleep(120)", &err), TM_ETIMEOUT);
    assert_in_range(tm_clock_mono_us() - began_us, S / 5, 5 * S);
    assert_false(tm_pg_is_open(pg));
    assert_int_equal(tm_pg_class_of(pg), TM_PG_RECONNECT);
    assert_int_equal(tm_pg_exec(pg, "SELECT 1", &err), TM_ERETRY);
    /* the server was told to give up, too */
    db_wait(db, "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep(120)%'", 0, 10 * S);
    tm_pg_close(pg);
}

static void *stop_when_asleep(void *arg)
{
    PGconn *own = db_open(&cluster, "postgres");
    db_wait(own, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 1, 10 * S);
    PQfinish(own);
    tm_stop_request(arg);
    return NULL;
}

static void test_stop(void **state)
{
    struct tm_stop stop;
    struct tm_error err;
    pthread_t thread;
    (void)state;
    assert_int_equal(tm_stop_init(&stop), TM_OK);
    assert_int_equal(tm_stop_wait(&stop, 1000), TM_OK);
    struct tm_pg *pg = connect_with(&stop, 0);
    assert_int_equal(pthread_create(&thread, NULL, stop_when_asleep, &stop), 0);
    assert_int_equal(tm_pg_exec(pg, "SELECT pg_sleep(120)", &err), TM_ESTOPPED);
    pthread_join(thread, NULL);
    assert_false(tm_pg_is_open(pg));
    int64_t began_us = tm_clock_mono_us();
    assert_int_equal(tm_stop_wait(&stop, 60 * S), TM_ESTOPPED);
    assert_true(tm_clock_mono_us() - began_us < S);
    tm_pg_close(pg);
    tm_stop_fini(&stop);
}

static void test_notify(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    struct tm_error err;
    (void)state;
    must(pg, "LISTEN tidemill");
    assert_int_equal(tm_pg_wait_notify(pg, 20000, &err), 0);
    db_exec(db, "NOTIFY tidemill");
    assert_int_equal(tm_pg_wait_notify(pg, 10 * S, &err), 1);
    assert_int_equal(tm_pg_wait_notify(pg, 20000, &err), 0);
    /* one that comes with the answer to another statement is not lost */
    db_exec(db, "NOTIFY tidemill");
    must(pg, "SELECT 1");
    assert_int_equal(tm_pg_wait_notify(pg, 10 * S, &err), 1);
    db_exec(db, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT 1'");
    assert_int_equal(tm_pg_wait_notify(pg, 10 * S, &err), TM_ERETRY);
    assert_int_equal(tm_pg_class_of(pg), TM_PG_RECONNECT);
    assert_false(tm_pg_is_open(pg));
    tm_pg_close(pg);
}

static void test_terminated(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    struct tm_error err;
    (void)state;
    int rc = tm_pg_exec(pg, "SELECT pg_terminate_backend(pg_backend_pid())", &err);
    assert_int_equal(rc, TM_ERETRY);
    assert_int_equal(tm_pg_class_of(pg), TM_PG_RECONNECT);
    assert_false(tm_pg_is_open(pg));
    tm_pg_close(pg);
}

/* ---- the server dies in the middle of a COPY; last, as it takes the cluster with it ---- */

static void *kill_in_copy(void *arg)
{
    (void)arg;
    PGconn *own = db_open(&cluster, "postgres");
    db_wait(own, "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'", 1, 10 * S);
    PQfinish(own);
    cluster_end(&cluster, SIGKILL);
    return NULL;
}

static void test_server_killed(void **state)
{
    struct tm_pg *pg = connect_with(NULL, 0);
    struct tm_error err;
    struct rows r;
    pthread_t thread;
    (void)state;
    make_rows(&r, 1, 20000);
    must(pg, "CREATE TABLE slow (id int8, body bytea);"
             "CREATE FUNCTION doze() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN PERFORM pg_sleep(120); RETURN "
             "NEW; "
             "END$$; CREATE TRIGGER doze BEFORE INSERT ON slow FOR EACH ROW WHEN (NEW.id = 300) EXECUTE FUNCTION "
             "doze()");
    assert_int_equal(pthread_create(&thread, NULL, kill_in_copy, NULL), 0);
    int rc = tm_pg_copy_in(pg, "COPY slow FROM STDIN (FORMAT binary)", r.spans, r.count, &err);
    assert_int_equal(rc, TM_ERETRY);
    assert_int_equal(tm_pg_class_of(pg), TM_PG_RECONNECT);
    assert_false(tm_pg_is_open(pg));
    pthread_join(thread, NULL);
    tm_pg_close(pg);
    free_rows(&r);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_refusals),
        cmocka_unit_test(test_several_hosts),
        cmocka_unit_test(test_silent_server),
        cmocka_unit_test(test_statements),
        cmocka_unit_test(test_sessions_that_follow_a_conninfo),
        cmocka_unit_test(test_commit_without_a_standby),
        cmocka_unit_test(test_only_a_server_that_takes_writes),
        cmocka_unit_test(test_classes),
        cmocka_unit_test(test_copy_outside_its_calls),
        cmocka_unit_test(test_copy_parts),
        cmocka_unit_test(test_copy_out_parts),
        cmocka_unit_test(test_prepared),
        cmocka_unit_test(test_prepared_elsewhere),
        cmocka_unit_test(test_copy_round_trip),
        cmocka_unit_test(test_copy_refused),
        cmocka_unit_test(test_deadline),
        cmocka_unit_test(test_stop),
        cmocka_unit_test(test_notify),
        cmocka_unit_test(test_terminated),
        cmocka_unit_test(test_server_killed),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
