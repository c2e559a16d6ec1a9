/* A gatherer that is reloaded while rows flow: every row once, whatever changes (feed.h has the exchange). */
#include "feed.h"

static double counter_of(struct fixture *f, const char *name, const char *stream)
{
    char labels[64];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", stream);
    return tm_metric_get(tm_metrics_counter(f->metrics, name, "", labels));
}

/* ---- (a), (b): the same, another window ---- */

static void an_identical_plan_is_the_same_plan(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    const struct tm_plan *plan = tm_gatherer_plan(f->g);
    for (int i = 0; i < 20; i++) {
        due(100, 0);
        reload(f, &plain);
        assert_ptr_equal(tm_gatherer_plan(f->g), plan);
    }
    expect_facts(f);
    expect_same_sockets(f);
}

/* What was seen stays seen: the second connection sends all of it again only after the windows have changed. */
static void another_window_keeps_what_was_seen(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    due(2000, 0);
    expect_facts(f);
    for (int i = 0; i < 6; i++)
        reload(f, i % 2 ? &plain : &longer);
    struct tm_gatherer_link third = link_def(f, "c");
    assert_int_equal(tm_gatherer_link_add(f->g, &third, &f->err), 2);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (link_stats(f, 2).link.messages < 2000)
        assert_true(keep_waiting(until_us));
    due(100, 0);
    expect_facts(f);
    assert_true(counter_of(f, "tidemill_rows_received_total", "facts") ==
                counter_of(f, "tidemill_rows_journaled_total", "facts") +
                    counter_of(f, "tidemill_rows_duplicate_total", "facts"));
}

/* ---- (c): a stream with a new table ---- */

/* What came before io had the new plan is in unknown_frames, from both connections; nothing is nowhere. */
static void a_stream_is_added(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    due(500, 100);
    wait_messages(f, 600);
    wait_table(f, "unknown_frames", 200);
    assert_int_equal(db_int(f->db, "SELECT count(to_regclass('extras'))"), 0);
    reload(f, &both);
    for (int i = 0; i < 20; i++)
        due(100, 100);
    expect_facts(f);
    db_wait(f->db, "SELECT count(to_regclass('extras'))", 1, WAIT_US);
    db_wait(f->db,
            "SELECT count(DISTINCT n) FROM (SELECT n FROM extras UNION ALL"
            " SELECT (convert_from(raw, 'UTF8')::jsonb ->> 'n')::int8 FROM unknown_frames) x",
            atomic_load(&extras_due), WAIT_US);
    assert_int_equal(db_int(f->db, "SELECT count(*) - count(DISTINCT n) FROM extras"), 0);
    assert_true(db_int(f->db, "SELECT count(*) FROM extras") > 0);
    db_same(f->db, "SELECT seq FROM extras", "SELECT g FROM generate_series(1, (SELECT count(*) FROM extras)) g");
    expect_same_sockets(f);
}

/* ---- (d): columns ---- */

static void columns_are_added(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    due(1000, 0);
    wait_messages(f, 500);
    reload(f, &wide);
    due(2000, 0);
    expect_facts(f);
    db_same(f->db, "SELECT n, m, x FROM facts WHERE x IS NOT NULL",
            "SELECT n, -n, 'x' || n FROM facts WHERE seq >= (SELECT min(seq) FROM facts WHERE x IS NOT NULL)");
    due(1, 0);
    expect_facts(f);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM facts WHERE n = 3001 AND x = 'x3001' AND m = -3001"), 1);
    reload(f, &plain); /* and back: the table keeps its columns, the view has what is declared */
    due(100, 0);
    expect_facts(f);
    expect_same_sockets(f);
}

/* ---- (e): a stream is removed while its rows wait in the journal ---- */

static void a_removed_stream_is_stored_to_its_end(void **state)
{
    struct fixture *f = *state;
    start(f, &both);
    due(100, 100);
    expect_facts(f);
    wait_table(f, "extras", 100);
    cluster_end(&cluster, SIGKILL);
    due(500, 500);
    wait_messages(f, 1200);
    reload(f, &plain);
    reload(f, &longer);
    due(500, 0);
    wait_messages(f, 1700);
    cluster_start(&cluster);
    PQfinish(f->db);
    f->db = db_open(&cluster, f->database);
    expect_facts(f);
    wait_table(f, "extras", 600);
    db_same(f->db, "SELECT n FROM extras", "SELECT g::int8 FROM generate_series(1, 600) g");
    expect_same_sockets(f);
}

/* ---- rows that policy had under way ---- */

static void make_rows(const struct tm_plan *plan, const struct tm_stream *s, int64_t from, int64_t to,
                      struct tm_buf *bytes)
{
    for (int64_t n = from; n <= to; n++) {
        struct tm_row_writer w;
        struct tm_row row;
        int rc = tm_row_begin(&w, s, bytes);
        rc = rc ? rc : tm_row_put_int(&w, n);
        rc = rc ? rc : tm_row_put_time(&w, tm_clock_wall_us());
        rc = rc ? rc : tm_row_end(&w, plan, &row);
        assert_int_equal(rc, TM_OK);
    }
}

/* Rows of the old plan's tuples come after the plan has gone: as they were meant, and what was seen is seen. */
static void rows_of_the_plan_before_are_taken(void **state)
{
    struct fixture *f = *state;
    struct tm_buf facts = {0}, extras = {0};
    start(f, &both);
    due(300, 0);
    expect_facts(f);
    struct tm_plan *old = tm_plan_take(tm_gatherer_plan(f->g));
    make_rows(old, tm_plan_stream_by_name(old, "facts"), 201, 400, &facts);
    make_rows(old, tm_plan_stream_by_name(old, "extras"), 1, 50, &extras);
    reload(f, &wide);
    assert_int_equal(tm_gatherer_submit(f->g, tm_plan_stream_by_name(old, "facts"), &facts), TM_OK);
    assert_int_equal(tm_gatherer_submit(f->g, tm_plan_stream_by_name(old, "extras"), &extras), TM_OK);
    tm_plan_put(old);
    wait_table(f, "extras", 50);
    wait_table(f, "facts", 400);
    due(200, 0); /* the same numbers once more, decoded by the new plan */
    expect_facts(f);
    assert_int_equal(db_int(f->db, "SELECT count(x) FROM facts WHERE n BETWEEN 301 AND 400"), 0);
    assert_int_equal(db_int(f->db, "SELECT count(x) FROM facts WHERE n > 400"), 100);
}

/* A frame that was forwarded says its kind though the plan has gone. */
static void events_outlive_their_plan(void **state)
{
    struct fixture *f = *state;
    start(f, &both);
    due(0, 3);
    wait_messages(f, 3);
    for (int i = 0; i < 3; i++)
        reload(f, i % 2 ? &longer : &plain);
    due(10, 0);
    expect_facts(f);
    (void)tm_gatherer_stats(f->g);
    int frames = 0;
    for (struct tm_event *e; (e = tm_gatherer_next_event(f->g)); free(e))
        if (e->type == TM_EVENT_FRAME) {
            assert_string_equal(e->kind, "extra");
            frames++;
        }
    assert_int_equal(frames, 6);
}

/* ---- the store's address ---- */

static void the_store_moves(void **state)
{
    struct fixture *f = *state;
    char name[40], info[160];
    start(f, &plain);
    due(500, 0);
    expect_facts(f);
    (void)snprintf(name, sizeof name, "%s_other", f->database);
    make_database(name);
    cluster_conninfo(&cluster, name, info, sizeof info);
    f->options.store = info;
    reload(f, &plain);
    PQfinish(f->db);
    f->db = db_open(&cluster, name);
    due(500, 0);
    expect_facts(f); /* what the journal still holds is all of it */
    expect_same_sockets(f);
    assert_int_equal(tm_gatherer_stats(f->g).store.errors, 0);
}

/* ---- (g) ---- */

static void two_hundred_reloads(void **state)
{
    static const struct tm_plan_def *const plans[] = {&plain, &wide, &longer, &both, &plain, &both};
    struct fixture *f = *state;
    start(f, &plain);
    for (int i = 0; i < 200; i++) {
        due(20, 0);
        reload(f, plans[i % 6]);
        if (i % 10 == 0)
            wait_messages(f, (uint64_t)i * 20);
        if (i == 100) {
            cluster_end(&cluster, SIGKILL);
            cluster_start(&cluster);
            PQfinish(f->db);
            f->db = db_open(&cluster, f->database);
        }
    }
    expect_facts(f);
    expect_same_sockets(f);
}

/* ---- what cannot change ---- */

static void expect_refused(struct fixture *f, const struct tm_gatherer_options *options, const char *words)
{
    const struct tm_plan *plan = tm_gatherer_plan(f->g);
    assert_int_equal(tm_gatherer_check_reload(f->g, options, &f->err), TM_EINVAL);
    if (!strstr(f->err.message, words))
        fail_msg("expected \"%s\" in: %s", words, f->err.message);
    assert_int_equal(tm_gatherer_reload(f->g, options, &f->err), TM_EINVAL);
    assert_ptr_equal(tm_gatherer_plan(f->g), plan);
}

static void what_cannot_change_is_refused(void **state)
{
    static const struct tm_column_def narrow_columns[] = {
        {.name = "n", .type = TM_TYPE_INT4, .not_null = true},
        {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    };
    static const struct tm_stream_def narrow_streams[] = {FACTS(COLUMNS(narrow_columns))};
    static const struct tm_stream_def upsert_streams[] = {
        {.name = "facts", .mode = TM_STREAM_UPSERT, .key = n_key, COLUMNS(fact_columns)}};
    static const struct tm_stream_def tiny_streams[] = {
        {.name = "facts", .key = n_key, .window_us = S, .memory_bytes_max = 1000, COLUMNS(fact_columns)}};
    struct fixture *f = *state;
    start(f, &plain);
    struct tm_gatherer_options o = f->options;
    o.id = "g2";
    expect_refused(f, &o, "id cannot change while the process runs (it is \"g1\", wanted is \"g2\"): restart");
    o = f->options;
    o.journal.dir = "/tmp";
    expect_refused(f, &o, "the data directory cannot change while the process runs");
    o = f->options;
    o.journal.segment_bytes = 2 << 20;
    expect_refused(f, &o, "segments cannot change while the process runs (it is 1048576 bytes, wanted are 2097152)");
    o = f->options;
    o.journal.bytes_max = 1 << 30;
    expect_refused(f, &o, "restart");
    o = f->options;
    o.plan = (struct tm_plan_def)PLAN(narrow_streams, plain_kinds);
    expect_refused(f, &o, "column \"n\" cannot change its type");
    o.plan = (struct tm_plan_def)PLAN(upsert_streams, plain_kinds);
    expect_refused(f, &o, "stream \"facts\" cannot become an upsert stream");
    o.plan = (struct tm_plan_def)PLAN(tiny_streams, plain_kinds);
    expect_refused(f, &o, "stream \"facts\": seen-set: memory is bounded to 1000 bytes");
    char relative[96];
    (void)snprintf(relative, sizeof relative, "/tmp/../%s", f->dir); /* the same by another name, and said sizes */
    o = f->options;
    o.journal.dir = relative;
    o.journal.bytes_max = TM_JOURNAL_BYTES;
    assert_int_equal(tm_gatherer_check_reload(f->g, &o, &f->err), TM_OK);
    due(100, 0);
    expect_facts(f);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(an_identical_plan_is_the_same_plan),
        TEST(another_window_keeps_what_was_seen),
        TEST(a_stream_is_added),
        TEST(columns_are_added),
        TEST(a_removed_stream_is_stored_to_its_end),
        TEST(rows_of_the_plan_before_are_taken),
        TEST(events_outlive_their_plan),
        TEST(the_store_moves),
        TEST(two_hundred_reloads),
        TEST(what_cannot_change_is_refused),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
