/* A deduplicator that is reloaded while rows flow: every row as if it had not been, and what did not change untouched
 * (world.h has the truth). */
#include "world.h"

#include "engine/health.h"

#define ROWS 12000

/* ---- plans ---- */

static struct tm_plan *compile(const struct tm_plan_def *def)
{
    struct tm_plan *made = NULL;
    struct tm_error err;
    if (tm_plan_compile(def, &made, &err))
        fail_msg("%s", err.message);
    return made;
}

/* The plan of all tests, but its deltas are remembered for another time in other memory. */
static struct tm_plan *plan_with_window(int64_t window_us)
{
    struct tm_stream_def streams[LENGTH(kalshi_streams)];
    struct tm_plan_def def = kalshi_plan_def;
    memcpy(streams, kalshi_streams, sizeof streams);
    streams[STREAM_DELTAS].window_us = window_us;
    streams[STREAM_DELTAS].memory_bytes_max = 32 << 20;
    def.streams = streams;
    return compile(&def);
}

/* Without markets, the last of streams and of kinds. */
static struct tm_plan *plan_without_markets(void)
{
    struct tm_plan_def def = kalshi_plan_def;
    def.stream_count--;
    def.kind_count--;
    return compile(&def);
}

/* trades, the first stream, is gone: all others have another index. */
static struct tm_plan *plan_without_trades(void)
{
    struct tm_plan_def def = kalshi_plan_def;
    struct tm_kind_def kinds[LENGTH(kalshi_kinds)];
    size_t count = 0;
    for (size_t i = 0; i < LENGTH(kalshi_kinds); i++)
        if (!kalshi_kinds[i].stream || strcmp(kalshi_kinds[i].stream, "trades") != 0)
            kinds[count++] = kalshi_kinds[i];
    def.streams = kalshi_streams + 1;
    def.stream_count--;
    def.kinds = kinds;
    def.kind_count = count;
    return compile(&def);
}

static struct tm_plan *plan_with_note(void)
{
    struct tm_stream_def streams[LENGTH(kalshi_streams)];
    struct tm_column_def columns[LENGTH(delta_columns) + 1];
    struct tm_plan_def def = kalshi_plan_def;
    memcpy(streams, kalshi_streams, sizeof streams);
    memcpy(columns, delta_columns, sizeof delta_columns);
    columns[LENGTH(delta_columns)] = (struct tm_column_def){.name = "note", .type = TM_TYPE_TEXT};
    streams[STREAM_DELTAS].columns = columns;
    streams[STREAM_DELTAS].column_count++;
    def.streams = streams;
    return compile(&def);
}

/* ---- reloading ---- */

static void reload_with(struct world *w, const struct tm_deduplicator_options *options)
{
    struct tm_error err;
    if (tm_deduplicator_check_reload(w->d, options, &err) || tm_deduplicator_reload(w->d, options, &err))
        fail_msg("%s", err.message);
}

/* The reference of `made` is given up: the deduplicator has its own. */
static void reload_plan(struct world *w, struct tm_plan *made)
{
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    options.plan = made;
    reload_with(w, &options);
    tm_plan_put(made);
}

/* ---- who is connected ---- */

static int64_t poller_of(struct world *w, int g)
{
    return db_int(w->gatherers[g],
                  "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE datname = current_database()"
                  " AND application_name = 'tidemill poller'");
}

static int64_t merger_of(PGconn *production)
{
    return db_int(production,
                  "SELECT coalesce(max(pid), 0) FROM pg_stat_activity WHERE datname = current_database() AND"
                  " application_name = 'tidemill deduplicator'");
}

struct sessions {
    int64_t merger, pollers[GATHERERS];
};

static struct sessions sessions_of(struct world *w)
{
    struct sessions s = {.merger = merger_of(w->production)};
    for (int g = 0; g < GATHERERS; g++)
        s.pollers[g] = poller_of(w, g);
    return s;
}

static void expect_sessions(struct world *w, const struct sessions *before)
{
    struct sessions now = sessions_of(w);
    assert_true(before->merger > 0);
    assert_int_equal(now.merger, before->merger);
    for (int g = 0; g < GATHERERS; g++)
        assert_int_equal(now.pollers[g], before->pollers[g]);
}

/* Each gatherer's rows up to this share of them, in small commits. */
static void release_share(struct world *w, int percent)
{
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", staged(w, g, "orderbook_deltas") * percent / 100);
}

/* ---- the same, another window ---- */

/* Of the second and third gatherer's rows most are known: were that forgotten, their COPY would meet rows that are there. */
static void what_was_seen_is_kept(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    world_start(w);
    world_release(w, 0, "orderbook_deltas", staged(w, 0, "orderbook_deltas"));
    wait_merged(w);
    struct sessions before = sessions_of(w);
    struct tm_plan *again = compile(&kalshi_plan_def);
    const struct tm_plan *first = tm_deduplicator_plan(w->d);
    reload_plan(w, again);
    assert_ptr_equal(tm_deduplicator_plan(w->d), first);
    reload_plan(w, plan_with_window(48 * HOUR_US));
    assert_ptr_not_equal(tm_deduplicator_plan(w->d), first);
    reload_plan(w, plan_without_trades());
    reload_plan(w, plan_with_window(12 * HOUR_US));
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    int64_t offered = 0;
    for (int g = 0; g < GATHERERS; g++)
        offered += staged(w, g, "orderbook_deltas");
    assert_accounts(w, "orderbook_deltas", offered, 0);
    expect_sessions(w, &before);
    assert_true(tm_metric_get(tm_metrics_counter(w->metrics, "tidemill_copy_conflicts_total", "", NULL)) == 0);
    assert_int_equal(tm_deduplicator_stats(w->d).conflicts, 0);
}

/* ---- streams and columns ---- */

static void a_stream_is_added(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    db_exec(w->production,
            "DROP VIEW readable.markets; DROP TABLE markets; DELETE FROM tidemill.meta WHERE key = 'schema'");
    for (int g = 0; g < GATHERERS; g++)
        db_execf(w->gatherers[g],
                 "INSERT INTO stage.markets (ticker, status, received_at, seq, epoch_no) SELECT 'KX' || n, 'g%d',"
                 " timestamptz '%s' + %d * interval '1 s', n, 1 FROM generate_series(1, 100) n",
                 g, w->base, g);
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    struct tm_plan *smaller = plan_without_markets();
    options.plan = smaller;
    world_start_with(w, &options);
    tm_plan_put(smaller);
    release_all(w, "markets");
    release_share(w, 50);
    db_wait(w->production, "SELECT least(count(*), 1) FROM orderbook_deltas", 1, WAIT_US);
    assert_int_equal(db_int(w->production, "SELECT count(to_regclass('markets'))"), 0);
    struct sessions before = sessions_of(w);
    reload_plan(w, compile(&kalshi_plan_def));
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    db_same(w->production, "SELECT ticker, status FROM markets",
            "SELECT 'KX' || n, 'g2' FROM generate_series(1, 100) n");
    expect_sessions(w, &before);
}

static void a_column_is_added(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    for (int g = 0; g < GATHERERS; g++)
        db_exec(w->gatherers[g], "ALTER TABLE stage.orderbook_deltas ADD note text;"
                                 "ALTER TABLE orderbook_deltas ADD note text;"
                                 "UPDATE stage.orderbook_deltas SET note = 'n' || seq");
    world_start(w);
    release_share(w, 50);
    db_wait(w->production, "SELECT least(count(*), 1) FROM orderbook_deltas", 1, WAIT_US);
    reload_plan(w, plan_with_note());
    db_wait(w->production,
            "SELECT count(*) FROM information_schema.columns WHERE table_name = 'orderbook_deltas' AND"
            " table_schema = 'public' AND column_name = 'note'",
            1, WAIT_US);
    int64_t rows = db_int(w->production, "SELECT count(*) FROM orderbook_deltas WHERE note IS NULL");
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    assert_true(db_int(w->production, "SELECT count(*) FROM orderbook_deltas WHERE note IS NULL") <= rows);
    assert_true(db_int(w->production, "SELECT count(*) FROM orderbook_deltas WHERE note LIKE 'n%'") > 0);
    reload_plan(w, compile(&kalshi_plan_def)); /* and back */
    wait_merged(w);
    assert_true(tm_deduplicator_stats(w->d).production_connected);
}

/* ---- gatherers ---- */

static bool is_exported(struct world *w, const char *gatherer)
{
    char wanted[80];
    struct tm_buf page = {0};
    (void)snprintf(wanted, sizeof wanted, "dedup_gatherer_health{gatherer=\"%s\"}", gatherer);
    assert_int_equal(tm_metrics_render(w->metrics, &page), TM_OK);
    bool found = strstr(tm_buf_cstr(&page), wanted);
    tm_buf_fini(&page);
    return found;
}

static bool is_healthy_without(struct world *w, const char *gatherer)
{
    struct tm_buf page = {0};
    int status = tm_health_deduplicator(w->d, TM_POLICY_RUNNING, &page);
    const char *text = tm_buf_cstr(&page);
    bool found = gatherer && strstr(text, gatherer), healthy = strstr(text, "\"healthy\"");
    tm_buf_fini(&page);
    return status == 200 && healthy && !found;
}

static void wait_healthy(struct world *w)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (!is_healthy_without(w, NULL))
        assert_true(keep_waiting(until_us));
}

static void wait_gone(struct world *w, int g)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (poller_of(w, g))
        assert_true(keep_waiting(until_us));
}

static void gatherers_come_and_go(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    options.gatherer_count = 1;
    world_start_with(w, &options);
    release_share(w, 40);
    db_wait(w->production, "SELECT coalesce(sum(seq), 0) FROM tidemill.cursors",
            db_int(w->gatherers[0], "SELECT seq FROM tidemill.streams"), WAIT_US);
    int64_t merger = merger_of(w->production), poller = poller_of(w, 0);
    struct tm_deduplicator_gatherer_stats none;
    assert_int_equal(tm_deduplicator_gatherer_stats(w->d, 1, &none), TM_ENOENT);

    options.gatherer_count = GATHERERS; /* two are added */
    reload_with(w, &options);
    wait_merged(w);
    assert_int_equal(tm_deduplicator_stats(w->d).gatherer_count, GATHERERS);
    assert_string_equal(world_peer(w, 2).id, "g3");
    wait_healthy(w);
    assert_true(is_exported(w, "g2"));

    struct tm_deduplicator_gatherer fewer[2] = {w->options[0], w->options[2]}; /* g2 is removed */
    options.gatherers = fewer;
    options.gatherer_count = 2;
    int64_t third = poller_of(w, 2);
    int64_t cursor = db_int(w->production, "SELECT seq FROM tidemill.cursors WHERE gatherer = 'g2'");
    reload_with(w, &options);
    assert_string_equal(world_peer(w, 1).id, "g3");
    assert_int_equal(tm_deduplicator_gatherer_stats(w->d, 2, &none), TM_ENOENT);
    wait_gone(w, 1);
    assert_true(is_healthy_without(w, "g2"));
    assert_false(is_exported(w, "g2"));
    release_share(w, 70);
    db_wait(w->production, "SELECT sum(seq) FROM tidemill.cursors WHERE gatherer <> 'g2'",
            db_int(w->gatherers[0], "SELECT seq FROM tidemill.streams") +
                db_int(w->gatherers[2], "SELECT seq FROM tidemill.streams"),
            WAIT_US);
    assert_int_equal(db_int(w->production, "SELECT seq FROM tidemill.cursors WHERE gatherer = 'g2'"), cursor);
    db_same(w->production, "SELECT gatherer, state FROM tidemill.gatherers",
            "VALUES ('g1', 'active'), ('g2', 'draining'), ('g3', 'active')");

    options = world_options(w, "d1", w->metrics); /* and comes back */
    reload_with(w, &options);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    wait_healthy(w);
    assert_true(is_exported(w, "g2"));
    db_same(w->production, "SELECT gatherer, state FROM tidemill.gatherers",
            "VALUES ('g1', 'active'), ('g2', 'active'), ('g3', 'active')");
    assert_int_equal(merger_of(w->production), merger);
    assert_int_equal(poller_of(w, 0), poller);
    assert_int_equal(poller_of(w, 2), third);
}

/* Only the one poller connects anew; what it counted goes on, and nothing is polled twice into a conflict. */
static void a_gatherer_moves(void **state)
{
    struct world *w = *state;
    char moved[200];
    stage_all_deltas(w, ROWS);
    world_start(w);
    release_share(w, 50);
    wait_merged(w);
    struct sessions before = sessions_of(w);
    uint64_t polled = world_peer(w, 1).polled;
    assert_int_equal(polled, db_int(w->gatherers[1], "SELECT seq FROM tidemill.streams"));
    (void)snprintf(moved, sizeof moved, "%s connect_timeout=7", w->infos[1]);
    w->options[1].conninfo = moved;
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    release_all(w, "orderbook_deltas"); /* so that its batches are under way */
    reload_with(w, &options);
    wait_merged(w);
    assert_deltas(w);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (poller_of(w, 1) == before.pollers[1])
        assert_true(keep_waiting(until_us));
    world_wait_state(w, 1, TM_PEER_CONNECTED);
    before.pollers[1] = poller_of(w, 1);
    expect_sessions(w, &before);
    assert_int_equal(world_peer(w, 1).polled, staged(w, 1, "orderbook_deltas"));
    assert_int_equal(tm_deduplicator_stats(w->d).conflicts, 0);
    wait_healthy(w);
}

/* ---- production ---- */

static void production_moves(void **state)
{
    struct world *w = *state;
    static int number;
    char name[40], info[160];
    stage_all_deltas(w, ROWS);
    world_start(w);
    release_share(w, 50);
    wait_merged(w);
    struct sessions before = sessions_of(w);
    (void)snprintf(name, sizeof name, "moved_%d", ++number);
    make_database(&production_cluster, name, "production", info, sizeof info);
    PQfinish(w->production);
    w->production = db_open(&production_cluster, name);
    make_events(w, w->production, "truth", ROWS);
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    options.production = info;
    reload_with(w, &options);
    release_all(w, "orderbook_deltas");
    wait_merged(w); /* all of it: nothing of what the other production has counts here */
    assert_deltas(w);
    before.merger = merger_of(w->production);
    expect_sessions(w, &before);
    assert_int_equal(tm_deduplicator_stats(w->d).production_errors, 0);
}

/* It was given a production that is not there; the right one does not have to wait for the pause to end. */
static void production_is_corrected(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 3000);
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    options.production = "host=/tmp/nowhere dbname=none";
    world_start_with(w, &options);
    release_all(w, "orderbook_deltas");
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (tm_deduplicator_stats(w->d).production_errors < 1)
        assert_true(keep_waiting(until_us));
    options = world_options(w, "d1", w->metrics);
    reload_with(w, &options);
    wait_merged(w);
    assert_deltas(w);
}

/* One that stands by is told too, and works by it once it is its turn. */
static void a_standby_is_reloaded(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    world_start(w);
    release_share(w, 50);
    wait_merged(w);
    struct tm_deduplicator *first = w->d;
    struct tm_metrics *metrics = tm_metrics_create();
    struct tm_deduplicator_options options = world_options(w, "d2", metrics);
    world_start_with(w, &options);
    db_wait(w->production,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND"
            " application_name = 'tidemill deduplicator'",
            2, WAIT_US);
    struct tm_plan *other = plan_without_trades();
    options.plan = other;
    options.gatherer_count = 2;
    reload_with(w, &options);
    tm_plan_put(other);
    options.gatherer_count = GATHERERS;
    reload_with(w, &options);
    tm_deduplicator_stop(first);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    tm_deduplicator_stop(w->d);
    w->d = NULL;
    tm_metrics_destroy(metrics);
}

/* ---- many ---- */

/* Something else changes each time, while rows are released bit by bit. */
static void two_hundred_reloads(void **state)
{
    struct world *w = *state;
    char moved[200];
    struct tm_plan *plans[] = {compile(&kalshi_plan_def), plan_with_window(6 * HOUR_US), plan_without_trades(),
                               plan_without_markets()};
    struct tm_deduplicator_gatherer fewer[2] = {w->options[0], w->options[1]}, changed[GATHERERS];
    (void)snprintf(moved, sizeof moved, "%s connect_timeout=9", w->infos[1]);
    memcpy(changed, w->options, sizeof changed);
    changed[1].conninfo = moved;
    stage_all_deltas(w, ROWS);
    world_start(w);
    for (int i = 0; i < 200; i++) {
        struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
        options.plan = plans[(size_t)i % LENGTH(plans)];
        options.poll_rows_max = i % 3 ? 500 : 5000;
        options.batch_rows_max = i % 5 ? 700 : 0;
        options.queue_bytes_max = i % 7 ? 0 : 1 << 20;
        options.gatherers = i % 11 == 5 ? fewer : i % 11 > 7 ? changed : w->options;
        options.gatherer_count = i % 11 == 5 ? 2 : GATHERERS;
        if (i % 2 == 0)
            release_share(w, (i + 2) / 2);
        reload_with(w, &options);
        if (i % 50 == 30)
            db_exec(w->production,
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                    " AND datname = current_database() AND backend_type = 'client backend'");
        if (i % 10 == 0)
            assert_int_equal(tm_deduplicator_stats(w->d).gatherer_count, options.gatherer_count);
    }
    for (size_t i = 0; i < LENGTH(plans); i++)
        tm_plan_put(plans[i]);
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    reload_with(w, &options);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    wait_healthy(w);
}

/* ---- what cannot be ---- */

static void expect_refused(struct world *w, const struct tm_deduplicator_options *options, const char *words)
{
    struct tm_error err;
    assert_int_equal(tm_deduplicator_check_reload(w->d, options, &err), TM_EINVAL);
    if (!strstr(err.message, words))
        fail_msg("expected \"%s\" in: %s", words, err.message);
    assert_int_equal(tm_deduplicator_reload(w->d, options, &err), TM_EINVAL);
}

static void what_cannot_change_is_refused(void **state)
{
    struct world *w = *state;
    world_start(w);
    const struct tm_plan *first = tm_deduplicator_plan(w->d);
    struct tm_deduplicator_options options = world_options(w, "d9", w->metrics);
    expect_refused(w, &options, "id cannot change while the process runs (it is \"d1\", wanted is \"d9\"): restart");
    options = world_options(w, "d1", w->metrics);
    options.gatherer_count = 0;
    expect_refused(w, &options, "at least one gatherer");
    struct tm_deduplicator_gatherer twice[2] = {w->options[0], w->options[0]};
    options.gatherers = twice;
    options.gatherer_count = 2;
    expect_refused(w, &options, "is there twice");
    struct tm_stream_def streams[LENGTH(kalshi_streams)];
    struct tm_plan_def def = kalshi_plan_def;
    memcpy(streams, kalshi_streams, sizeof streams);
    streams[STREAM_DELTAS].memory_bytes_max = 100;
    def.streams = streams;
    struct tm_plan *tiny = compile(&def);
    options = world_options(w, "d1", w->metrics);
    options.plan = tiny;
    expect_refused(w, &options, "orderbook_deltas: seen-set: memory is bounded to 100 bytes");
    tm_plan_put(tiny);
    assert_ptr_equal(tm_deduplicator_plan(w->d), first);
    assert_int_equal(tm_deduplicator_stats(w->d).gatherer_count, GATHERERS);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(what_was_seen_is_kept),         TEST(a_stream_is_added),     TEST(a_column_is_added),
        TEST(gatherers_come_and_go),         TEST(a_gatherer_moves),      TEST(production_moves),
        TEST(production_is_corrected),       TEST(a_standby_is_reloaded), TEST(two_hundred_reloads),
        TEST(what_cannot_change_is_refused),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
