/*
 * The store writer: what the journal holds is in the store exactly once, in order, with the checkpoint in the
 * same transaction, whatever happens to the server or the writer in between.
 */
#include "../store/group.h"

#include "engine/writer.h"

#include <sys/socket.h>

#define WAIT_US (60 * S)
#define SEGMENT_BYTES 65536

struct fixture {
    char name[32], conninfo[160], dir[64];
    PGconn *db;
    struct tm_metrics *metrics;
    struct tm_journal *journal;
    struct tm_writer *writer;
    struct tm_buf tuple;
    int64_t facts, things; /* rows appended */
    struct tm_error err;
};

/* ---- the journal and the writer ---- */

static void wake(void *arg, int64_t oldest_us)
{
    (void)oldest_us;
    tm_writer_wake(arg);
}

static void open_journal(struct fixture *f)
{
    struct tm_journal_options options = {.dir = f->dir, .segment_bytes = SEGMENT_BYTES, .bytes_max = 64u << 20};
    if (tm_journal_open(&options, &f->journal, &f->err))
        fail_msg("%s", f->err.message);
}

static void start_writer_with(struct fixture *f, size_t batch_rows_max)
{
    struct tm_writer_options options = {.conninfo = f->conninfo,
                                        .gatherer = "g1",
                                        .journal = f->journal,
                                        .plan = plan,
                                        .metrics = f->metrics,
                                        .batch_rows_max = batch_rows_max,
                                        .migrate = true};
    if (tm_writer_start(&options, &f->writer, &f->err))
        fail_msg("%s", f->err.message);
    tm_journal_set_wake(f->journal, wake, f->writer);
}

static void start_writer(struct fixture *f)
{
    start_writer_with(f, 0);
}

static void stop_writer(struct fixture *f)
{
    tm_journal_set_wake(f->journal, NULL, NULL);
    tm_writer_stop(f->writer);
    f->writer = NULL;
}

static int setup(void **state)
{
    static int number;
    struct fixture *f = calloc(1, sizeof *f);
    (void)snprintf(f->name, sizeof f->name, "d%d", number++);
    make_database(&cluster, f->name);
    cluster_conninfo(&cluster, f->name, f->conninfo, sizeof f->conninfo);
    f->db = db_open(&cluster, f->name);
    (void)snprintf(f->dir, sizeof f->dir, "/tmp/tm_writer_XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    f->metrics = tm_metrics_create();
    open_journal(f);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    char command[96];
    if (f->writer)
        stop_writer(f);
    tm_journal_close(f->journal, NULL);
    tm_metrics_destroy(f->metrics);
    tm_buf_fini(&f->tuple);
    PQfinish(f->db);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", f->dir);
    assert_int_equal(system(command), 0);
    free(f);
    return 0;
}

/* The server went away under it. */
static void reopen_db(struct fixture *f)
{
    PQfinish(f->db);
    f->db = db_open(&cluster, f->name);
}

/* ---- records ---- */

static void append(struct fixture *f, const char *stream, const char *columns, int64_t expected_seq)
{
    int id = tm_journal_stream(f->journal, stream, columns, &f->err);
    assert_true(id >= 0);
    assert_int_equal(tm_journal_append(f->journal, id, f->tuple.data, f->tuple.len), expected_seq);
}

/* Row n of facts says n in every way it can; its seq is n too, as it is the n-th. */
static void make_fact(struct fixture *f, const char *name)
{
    const struct tm_stream *s = tm_plan_stream_by_name(plan, "facts");
    struct tm_row_writer w;
    struct tm_row row;
    int64_t n = ++f->facts;
    tm_buf_clear(&f->tuple);
    int rc = tm_row_begin(&w, s, &f->tuple);
    rc = rc ? rc : tm_row_put_time(&w, n * S);
    rc = rc ? rc : tm_row_put_text(&w, name, strlen(name));
    rc = rc ? rc : tm_row_put_int(&w, n);
    rc = rc ? rc : tm_row_put_time(&w, tm_clock_wall_us());
    rc = rc ? rc : tm_row_end(&w, plan, &row);
    assert_int_equal(rc, TM_OK);
}

static void append_made_fact(struct fixture *f)
{
    append(f, "facts", tm_plan_stream_by_name(plan, "facts")->copy_columns, f->facts);
}

static void append_fact(struct fixture *f, const char *name)
{
    make_fact(f, name);
    append_made_fact(f);
}

/* Row n of things replaces the value of thing n % 10 by n. */
static void append_thing(struct fixture *f)
{
    const struct tm_stream *s = tm_plan_stream_by_name(plan, "things");
    struct tm_row_writer w;
    struct tm_row row;
    int64_t n = ++f->things;
    char id[2] = {(char)('0' + n % 10), '\0'};
    tm_buf_clear(&f->tuple);
    int rc = tm_row_begin(&w, s, &f->tuple);
    rc = rc ? rc : tm_row_put_text(&w, id, 1);
    rc = rc ? rc : tm_row_put_int(&w, n);
    rc = rc ? rc : tm_row_put_time(&w, tm_clock_wall_us());
    rc = rc ? rc : tm_row_end(&w, plan, &row);
    assert_int_equal(rc, TM_OK);
    append(f, "things", s->copy_columns, n);
}

/* Two facts and a thing, `count` times, handed over in turns of a hundred. */
static void append_many(struct fixture *f, int count)
{
    for (int i = 0; i < count; i++) {
        append_fact(f, "x");
        append_fact(f, "y");
        append_thing(f);
        if (i % 100 == 99)
            tm_journal_flush(f->journal);
    }
    tm_journal_flush(f->journal);
}

static void make_durable(struct fixture *f)
{
    tm_journal_flush(f->journal);
    assert_int_equal(tm_journal_wait(f->journal, WAIT_US), TM_OK);
}

/* ---- what must be in the store ---- */

static void wait_stored(struct fixture *f)
{
    char sql[128];
    (void)snprintf(sql, sizeof sql, "SELECT coalesce(sum(seq), 0)::int8 FROM tidemill.streams");
    db_wait(f->db, "SELECT count(to_regclass('tidemill.streams'))", 1, WAIT_US);
    db_wait(f->db, sql, f->facts + f->things, WAIT_US);
}

/* Every fact once under its own number, every thing as it was last, and the marks and streams agree with
 * them. */
static void expect_all(struct fixture *f, int64_t first)
{
    char wanted[256];
    (void)snprintf(wanted, sizeof wanted, "SELECT g, g::int4, to_timestamp(g) FROM generate_series(%lld::int8, %lld) g",
                   (long long)first, (long long)f->facts);
    db_same(f->db, "SELECT seq, n, at FROM facts", wanted);
    (void)snprintf(wanted, sizeof wanted,
                   "SELECT (g %% 10)::text, g, g FROM generate_series(greatest(1, %lld - 9)::int8, %lld) g",
                   (long long)f->things, (long long)f->things);
    db_same(f->db, "SELECT id, v, seq FROM things", wanted);
    db_same(f->db, "SELECT stream, seq, hash FROM tidemill.streams",
            "SELECT DISTINCT ON (stream) stream, seq, hash FROM tidemill.marks ORDER BY stream, seq DESC");
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.checkpoint"), 1);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.epochs"), 1);
}

/* The running hash of facts' bytes, read from the journal itself from its beginning. */
static int64_t hash_of_facts(struct fixture *f)
{
    struct tm_journal_reader *reader = NULL;
    struct tm_journal_record record;
    uint64_t hash = 0;
    assert_int_equal(tm_journal_reader_open(f->journal, (struct tm_journal_position){0, 0}, &reader, &f->err), TM_OK);
    while (tm_journal_reader_next(reader, &record, &f->err) > 0)
        if (strcmp(record.stream, "facts") == 0)
            hash = tm_hash64(record.tuple, record.len, hash);
    tm_journal_reader_close(reader);
    return (int64_t)hash;
}

static void wait_connected(struct fixture *f, uint64_t errors_min)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    for (;;) {
        struct tm_writer_stats s = tm_writer_stats(f->writer);
        if (s.connected && s.errors >= errors_min)
            return;
        if (!keep_waiting(until_us))
            fail_msg("the writer did not connect: %s", s.last_error);
    }
}

/* ---- tests ---- */

static void test_exactly_once_in_order(void **state)
{
    struct fixture *f = *state;
    append_many(f, 300); /* some are there before the writer */
    start_writer(f);
    wait_stored(f);
    db_exec(f->db, "LISTEN tidemill");
    append_many(f, 700);
    wait_stored(f);
    expect_all(f, 1);
    assert_int_equal(db_int(f->db, "SELECT hash FROM tidemill.streams WHERE stream = 'facts'"), hash_of_facts(f));
    PQconsumeInput(f->db);
    PGnotify *n = PQnotifies(f->db);
    assert_non_null(n);
    PQfreemem(n);
    stop_writer(f);
    struct tm_metric *rows = tm_metrics_counter(f->metrics, "tidemill_store_rows_total", "", "stream=\"facts\"");
    assert_true(tm_metric_get(rows) == 2000.0);
}

static void test_stats(void **state)
{
    struct fixture *f = *state;
    start_writer(f);
    append_many(f, 100);
    wait_stored(f);
    make_durable(f);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    struct tm_writer_stats s = tm_writer_stats(f->writer);
    while ((s.rows < 300 || s.journal_lag_bytes) && keep_waiting(until_us))
        s = tm_writer_stats(f->writer);
    assert_true(s.connected);
    assert_int_equal(s.rows, 300);
    assert_int_equal(s.quarantined, 0);
    assert_int_equal(s.errors, 0);
    assert_int_equal(s.journal_lag_bytes, 0);
    assert_true(s.rebuilds == 1 && s.rebuilt_is_new); /* the store and the journal are both new */
    assert_in_range(s.last_commit_us, 1, tm_clock_mono_us());
    assert_in_range(s.last_row_received_us, tm_clock_wall_us() - WAIT_US, tm_clock_wall_us());
}

/* Rows, streams, marks and checkpoint become visible together, at every moment. */
static void test_one_transaction(void **state)
{
    struct fixture *f = *state;
    start_writer_with(f, 50);
    append_many(f, 100);
    wait_stored(f);
    for (int i = 0; i < 100; i++) {
        append_many(f, 10);
        assert_int_equal(db_int(f->db, "SELECT ((SELECT max(seq) FROM facts) = (SELECT seq FROM tidemill.streams WHERE "
                                       "stream = 'facts') AND (SELECT count(*) FROM facts) = (SELECT max(seq) FROM "
                                       "tidemill.marks WHERE stream = 'facts'))::int"),
                         1);
    }
    wait_stored(f);
    expect_all(f, 1);
}

static void test_restart_of_the_writer(void **state)
{
    struct fixture *f = *state;
    for (int i = 0; i < 4; i++) {
        start_writer(f);
        append_many(f, 50);
        make_durable(f);
        stop_writer(f); /* stores what is durable first */
        db_wait(f->db, "SELECT sum(seq)::int8 FROM tidemill.streams", f->facts + f->things, 0);
        append_many(f, 50);
        if (i % 2 == 0)
            continue;
        assert_int_equal(tm_journal_close(f->journal, &f->err), TM_OK);
        open_journal(f);
    }
    start_writer(f);
    wait_stored(f);
    expect_all(f, 1);
}

static void test_server_killed(void **state)
{
    struct fixture *f = *state;
    start_writer_with(f, 100);
    append_many(f, 50);
    wait_stored(f);
    for (uint64_t i = 0; i < 3; i++) {
        append_many(f, 400);
        cluster_end(&cluster, SIGKILL);
        append_many(f, 400);
        cluster_start(&cluster);
        reopen_db(f);
        wait_connected(f, i + 1);
    }
    wait_stored(f);
    expect_all(f, 1);
    assert_int_not_equal(tm_writer_stats(f->writer).last_error[0], '\0');
}

static void test_poison(void **state)
{
    struct fixture *f = *state;
    start_writer(f);
    append_fact(f, "good");
    make_fact(f, "bad");
    ((uint8_t *)memmem(f->tuple.data, f->tuple.len, "bad", 3))[1] = 0xff; /* no UTF-8 any more */
    append_made_fact(f);
    append_fact(f, "good");
    tm_journal_flush(f->journal);
    wait_stored(f);
    db_same(f->db, "SELECT seq FROM facts", "VALUES (1::int8), (3)");
    db_same(f->db,
            "SELECT stream, gatherer, seq, sqlstate, columns, right(encode(tuple, 'hex'), 16) FROM "
            "tidemill.quarantine",
            "VALUES ('facts', 'g1', 2::int8, '22021', 'at,name,n,received_at,sid,exchange_seq,seq', "
            "'0000000000000002')");
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.quarantine JOIN tidemill.epochs USING (epoch)"), 1);
    stop_writer(f);
    struct tm_metric *refused = tm_metrics_counter(f->metrics, "tidemill_store_quarantined_total", "", NULL);
    struct tm_metric *rows = tm_metrics_counter(f->metrics, "tidemill_store_rows_total", "", "stream=\"facts\"");
    assert_true(tm_metric_get(refused) == 1.0);
    assert_true(tm_metric_get(rows) == 2.0);
}

/* The script no longer declares a stream of which the journal has rows. */
static void test_stream_of_an_earlier_script(void **state)
{
    struct fixture *f = *state;
    const uint8_t bytes[] = {0, 1, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 0};
    append_fact(f, "good");
    tm_buf_clear(&f->tuple);
    assert_int_equal(tm_buf_append(&f->tuple, bytes, sizeof bytes), TM_OK);
    append(f, "forgotten", "seq", 1);
    append_fact(f, "good");
    tm_journal_flush(f->journal);
    start_writer(f);
    db_wait(f->db, "SELECT count(to_regclass('tidemill.streams'))", 1, WAIT_US);
    db_wait(f->db, "SELECT count(*) FROM tidemill.streams", 2, WAIT_US);
    db_same(f->db, "SELECT stream, seq, columns, encode(tuple, 'hex') FROM tidemill.quarantine",
            "VALUES ('forgotten', 1::int8, 'seq', '0001000000080000000000000001')");
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM facts"), 2);
}

/* Turn a byte over in the middle of the part of the newest segment that is behind `after`. */
static void damage_journal(struct fixture *f, struct tm_journal_position after)
{
    char path[128];
    struct tm_journal_position end = tm_journal_durable(f->journal);
    off_t at = (off_t)(after.offset + (end.offset - after.offset) / 2);
    uint8_t byte;
    assert_int_equal(end.segment, after.segment);
    (void)snprintf(path, sizeof path, "%s/%016llx.seg", f->dir, (unsigned long long)end.segment);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= 0x10;
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
}

/* Rows in turns of ten, each a frame of its own. */
static void append_frames(struct fixture *f, int frames)
{
    for (int i = 0; i < frames; i++) {
        for (int k = 0; k < 10; k++)
            append_fact(f, "framed");
        make_durable(f);
    }
}

/* The journal lost a frame that was durable: the rows behind it are stored, and the store says which are not there and
 * between which times they came. */
static void test_damaged_journal(void **state)
{
    struct fixture *f = *state;
    append_frames(f, 3);
    struct tm_journal_position undamaged = tm_journal_durable(f->journal);
    append_frames(f, 3);
    damage_journal(f, undamaged);
    start_writer(f);
    wait_stored(f);
    db_same(f->db, "SELECT gatherer, stream, first_seq, last_seq, rows, reason FROM tidemill.absent",
            "VALUES ('g1', 'facts', 41::int8, 50::int8, 10::int8, 'missing')");
    db_same(f->db, "SELECT seq, n FROM facts",
            "SELECT g, g::int4 FROM generate_series(1::int8, 60) g WHERE g NOT BETWEEN "
            "41 AND 50");
    db_same(f->db, "SELECT from_ts, to_ts FROM tidemill.absent",
            "SELECT (SELECT received_at FROM facts WHERE seq = 40), (SELECT received_at FROM facts WHERE seq = 51)");
}

static void test_two_writers(void **state)
{
    struct fixture *f = *state;
    struct fixture other = *f;
    (void)snprintf(other.dir, sizeof other.dir, "/tmp/tm_writer_XXXXXX");
    assert_non_null(mkdtemp(other.dir));
    other.tuple = (struct tm_buf){0};
    start_writer(f);
    append_many(f, 10);
    wait_stored(f);
    open_journal(&other);
    start_writer(&other);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (!tm_writer_stats(other.writer).errors)
        assert_true(keep_waiting(until_us));
    assert_non_null(strstr(tm_writer_stats(other.writer).last_error, "another gatherer writes to this store"));
    assert_false(tm_writer_stats(other.writer).connected);
    append_many(f, 10);
    wait_stored(f);
    expect_all(f, 1);
    stop_writer(f);
    while (!tm_writer_stats(other.writer).connected)
        assert_true(keep_waiting(until_us));
    stop_writer(&other);
    tm_journal_close(other.journal, NULL);
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf '%s'", other.dir);
    assert_int_equal(system(command), 0);
}

/* ---- the journal's space ---- */

static void wait_released(struct fixture *f)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (tm_journal_oldest(f->journal).segment < tm_journal_durable(f->journal).segment)
        if (!keep_waiting(until_us))
            fail_msg("the journal was not released");
}

static void test_release(void **state)
{
    struct fixture *f = *state;
    start_writer(f);
    append_many(f, 2000);
    wait_stored(f);
    assert_true(tm_journal_durable(f->journal).segment > 2);
    wait_released(f);
    append_many(f, 10);
    wait_stored(f);
    expect_all(f, 1);
}

static pid_t freeze_flushing(struct fixture *f)
{
    db_exec(f->db, "ALTER SYSTEM SET bgwriter_lru_maxpages = 0"); /* it flushes the log before a page */
    db_exec(f->db, "SELECT pg_reload_conf()");
    pid_t walwriter = (pid_t)db_int(f->db, "SELECT pid FROM pg_stat_activity WHERE backend_type = 'walwriter'");
    assert_int_equal(kill(walwriter, SIGSTOP), 0);
    return walwriter;
}

/*
 * Commits are asynchronous: with the server's log writer frozen they are visible and in no file. Then nothing
 * may be released, however often the writer looks, and a crash costs no row.
 */
static void test_release_only_what_is_flushed(void **state)
{
    struct fixture *f = *state;
    start_writer(f);
    append_many(f, 10);
    wait_stored(f);
    pid_t walwriter = freeze_flushing(f);
    append_many(f, 800);
    wait_stored(f);
    assert_true(tm_journal_durable(f->journal).segment > 2);
    for (int64_t until_us = tm_clock_mono_us() + 3 * S; keep_waiting(until_us);)
        assert_int_equal(tm_journal_oldest(f->journal).segment, 1);
    kill(walwriter, SIGKILL);
    cluster_end(&cluster, SIGKILL);
    cluster_start(&cluster);
    reopen_db(f);
    wait_stored(f);
    expect_all(f, 1);
    wait_released(f);
}

/* The store was lost and made anew, and the journal has no longer all of it: the rest goes in under its true
 * numbers. */
static void test_store_lost(void **state)
{
    struct fixture *f = *state;
    start_writer(f);
    append_many(f, 2000);
    wait_stored(f);
    wait_released(f);
    stop_writer(f);
    PQfinish(f->db);
    PGconn *admin = db_open(&cluster, "postgres");
    db_execf(admin, "DROP DATABASE %s WITH (FORCE)", f->name);
    PQfinish(admin);
    make_database(&cluster, f->name);
    f->db = db_open(&cluster, f->name);
    append_many(f, 20);
    start_writer(f);
    wait_stored(f);
    int64_t first = db_int(f->db, "SELECT min(seq) FROM facts");
    assert_in_range(first, 2, f->facts - 39);
    expect_all(f, first);
    struct tm_writer_stats s = tm_writer_stats(f->writer);
    assert_true(s.rebuilds == 1 && !s.rebuilt_is_new);
    stop_writer(f);
    start_writer(f); /* and now it is a store like any other */
    append_many(f, 20);
    wait_stored(f);
    assert_int_equal(tm_writer_stats(f->writer).rebuilds, 0);
}

/* FAILURES E5: a table whose rows are replaced is dropped under a writer that runs. Its rows can come only from whoever
 * sent them, so the writer has to say that they are lost, once. */
static void test_reference_table_lost(void **state)
{
    struct fixture *f = *state;
    start_writer(f);
    append_many(f, 50);
    wait_stored(f);
    assert_true(tm_writer_stats(f->writer).rebuilt_is_new);
    db_execf(f->db, "DROP TABLE things CASCADE");
    append_many(f, 1);
    wait_stored(f);
    struct tm_writer_stats s = tm_writer_stats(f->writer);
    assert_int_equal(s.rebuilds, 2);
    assert_false(s.rebuilt_is_new);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM things"), 1);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM facts"), f->facts);
    stop_writer(f);
    start_writer(f);
    append_many(f, 1);
    wait_stored(f);
    assert_int_equal(tm_writer_stats(f->writer).rebuilds, 0);
}

/* ---- stopping ---- */

static void test_stop_without_a_server(void **state)
{
    struct fixture *f = *state;
    start_writer(f);
    append_many(f, 10);
    wait_stored(f);
    cluster_end(&cluster, SIGKILL);
    append_many(f, 10);
    make_durable(f);
    int64_t began_us = tm_clock_mono_us();
    stop_writer(f);
    assert_true(tm_clock_mono_us() - began_us < 7 * S);
    cluster_start(&cluster);
    reopen_db(f);
    start_writer(f);
    wait_stored(f);
    expect_all(f, 1);
}

static void test_stop_with_a_frozen_server(void **state)
{
    struct fixture *f = *state;
    start_writer(f);
    append_many(f, 10);
    wait_stored(f);
    pid_t backend = (pid_t)db_int(f->db, "SELECT pid FROM pg_stat_activity WHERE application_name = "
                                         "'tidemill g1 store' AND datname = current_database()");
    assert_int_equal(kill(backend, SIGSTOP), 0);
    append_many(f, 10);
    make_durable(f);
    int64_t began_us = tm_clock_mono_us();
    stop_writer(f);
    assert_in_range(tm_clock_mono_us() - began_us, 4 * S, 7 * S);
    assert_int_equal(kill(backend, SIGCONT), 0);
    start_writer(f);
    wait_stored(f);
    expect_all(f, 1);
}

#define TEST(t) cmocka_unit_test_setup_teardown(t, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_exactly_once_in_order),
        TEST(test_stats),
        TEST(test_one_transaction),
        TEST(test_restart_of_the_writer),
        TEST(test_server_killed),
        TEST(test_poison),
        TEST(test_stream_of_an_earlier_script),
        TEST(test_damaged_journal),
        TEST(test_two_writers),
        TEST(test_release),
        TEST(test_release_only_what_is_flushed),
        TEST(test_store_lost),
        TEST(test_reference_table_lost),
        TEST(test_stop_without_a_server),
        TEST(test_stop_with_a_frozen_server),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
