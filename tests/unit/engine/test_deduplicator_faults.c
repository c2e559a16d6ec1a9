/* What must survive: each fault, and then every row as if it had not been (world.h has the truth). */
#include "world.h"

#define ROWS 30000

static void world_stop(struct world *w)
{
    tm_deduplicator_stop(w->d);
    w->d = NULL;
}

static void reopen_production(struct world *w)
{
    PQfinish(w->production);
    w->production = PQconnectdb(w->production_info);
    assert_int_equal(PQstatus(w->production), CONNECTION_OK);
}

static void wait_some_rows(struct world *w)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (db_int(w->production, "SELECT count(*) FROM (SELECT FROM orderbook_deltas LIMIT 1) x") == 0)
        assert_true(keep_waiting(until_us));
}

/* Small transactions, so that a fault meets many of them. */
static void start_small(struct world *w)
{
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    options.poll_rows_max = MARK_EVERY;
    options.batch_rows_max = MARK_EVERY;
    world_start_with(w, &options);
}

/* The history is compared where a session begins: a store is not restored under an open one. */
static void end_sessions(PGconn *conn)
{
    db_exec(conn, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                  " AND datname = current_database() AND backend_type = 'client backend'");
}

static void wait_conflicts(struct world *w, uint64_t least)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (tm_deduplicator_stats(w->d).conflicts < least)
        assert_true(keep_waiting(until_us));
}

/* ---- production ---- */

/* Who production says that it is, by another way than the deduplicator's: the control file's checkpoint. */
static void assert_identity(struct world *w)
{
    char expected[64];
    (void)snprintf(expected, sizeof expected, "%lld/%08llX",
                   (long long)db_int(w->production, "SELECT system_identifier FROM pg_control_system()"),
                   (unsigned long long)db_int(w->production, "SELECT timeline_id FROM pg_control_checkpoint()"));
    assert_string_equal(tm_deduplicator_stats(w->d).identity, expected);
}

static void production_is_killed(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    start_small(w);
    release_all(w, "orderbook_deltas");
    for (int round = 0; round < 3; round++) {
        wait_some_rows(w);
        cluster_end(&production_cluster, SIGKILL);
        cluster_start(&production_cluster);
        reopen_production(w);
    }
    wait_merged(w);
    assert_deltas(w);
    assert_identity(w);
    assert_true(tm_deduplicator_stats(w->d).production_connected);
    assert_true(tm_deduplicator_stats(w->d).production_errors >= 1);
}

static void it_starts_before_production(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 3000);
    release_all(w, "orderbook_deltas");
    cluster_end(&production_cluster, SIGKILL);
    world_start(w);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (tm_deduplicator_stats(w->d).production_errors == 0)
        assert_true(keep_waiting(until_us));
    assert_false(tm_deduplicator_stats(w->d).production_connected);
    cluster_start(&production_cluster);
    reopen_production(w);
    wait_merged(w);
    assert_deltas(w);
}

/* FAILURES T5: data and cursors went back together; what the process remembers must not stand in for rows. */
static void production_goes_back_in_time(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    world_start(w);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", MARK_EVERY);
    wait_merged(w);
    db_exec(w->production, "CREATE TABLE kept AS SELECT * FROM orderbook_deltas;"
                           "CREATE TABLE kept_cursors AS SELECT * FROM tidemill.cursors");
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    db_exec(w->production, "BEGIN; LOCK tidemill.cursors; TRUNCATE orderbook_deltas, tidemill.cursors;"
                           "INSERT INTO orderbook_deltas SELECT * FROM kept;"
                           "INSERT INTO tidemill.cursors SELECT * FROM kept_cursors;"
                           "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
                           " AND datname = current_database() AND backend_type = 'client backend'; COMMIT");
    wait_merged(w);
    assert_deltas(w);
}

/* Behind a pooler a server may become another one under a session that stays: the next transaction finds out. */
static void another_server_behind_the_session(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    world_start(w);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", MARK_EVERY);
    wait_merged(w);
    int64_t before = (int64_t)tm_deduplicator_stats(w->d).production_errors;
    db_exec(w->production, "ALTER FUNCTION tidemill.expect_server RENAME TO really_expect_server;"
                           "CREATE FUNCTION tidemill.expect_server(started text) RETURNS void LANGUAGE sql AS "
                           "$$ SELECT tidemill.really_expect_server((started::timestamptz - interval '1 s')::text) $$");
    release_all(w, "orderbook_deltas");
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while ((int64_t)tm_deduplicator_stats(w->d).production_errors == before)
        assert_true(keep_waiting(until_us));
    assert_int_equal(tm_deduplicator_stats(w->d).trouble, TM_PG_RECONNECT);
    db_exec(w->production, "DROP FUNCTION tidemill.expect_server;"
                           "ALTER FUNCTION tidemill.really_expect_server RENAME TO expect_server");
    wait_merged(w);
    assert_deltas(w);
}

/* Disk full, as the server says it: the same session stores the same rows again, and forgets nothing. */
static void what_may_work_later_is_tried_in_the_session(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    world_start(w);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", MARK_EVERY);
    wait_merged(w);
    int64_t sessions =
        db_int(w->production, "SELECT extract(epoch FROM max(backend_start)) * 1000000 FROM pg_stat_activity "
                              "WHERE application_name = 'tidemill deduplicator'");
    db_exec(w->production,
            "CREATE FUNCTION no_room() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE SQLSTATE '53100'; END $$;"
            "CREATE TRIGGER no_room BEFORE INSERT ON orderbook_deltas FOR EACH STATEMENT EXECUTE FUNCTION no_room()");
    release_all(w, "orderbook_deltas");
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (tm_deduplicator_stats(w->d).production_errors < 3)
        assert_true(keep_waiting(until_us));
    assert_int_equal(tm_deduplicator_stats(w->d).trouble, TM_PG_RETRY);
    db_exec(w->production, "DROP TRIGGER no_room ON orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    assert_int_equal(db_int(w->production,
                            "SELECT extract(epoch FROM max(backend_start)) * 1000000 FROM pg_stat_activity "
                            "WHERE application_name = 'tidemill deduplicator'"),
                     sessions);
    assert_int_equal(tm_deduplicator_stats(w->d).trouble, TM_PG_OK);
    assert_accounts(w, "orderbook_deltas", released_rows(w), 0);
}

/* Production hangs in mid-statement: stop does not wait for it. */
static void stop_is_bounded(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    start_small(w);
    release_all(w, "orderbook_deltas");
    wait_some_rows(w);
    db_exec(w->production, "BEGIN; LOCK TABLE tidemill.cursors IN ACCESS EXCLUSIVE MODE");
    db_wait(w->production,
            "SELECT least(count(*), 1) FROM pg_locks WHERE NOT granted AND relation = "
            "'tidemill.cursors'::regclass",
            1, WAIT_US);
    int64_t started_us = tm_clock_mono_us();
    world_stop(w);
    assert_true(tm_clock_mono_us() - started_us < 5500 * TM_US_PER_MS);
    db_exec(w->production, "ROLLBACK");
    world_start(w);
    wait_merged(w);
    assert_deltas(w);
}

static void restarts_lose_and_double_nothing(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    release_all(w, "orderbook_deltas");
    for (int i = 0; i < 5; i++) {
        int64_t before = db_int(w->production, "SELECT coalesce(sum(seq), 0) FROM tidemill.cursors");
        start_small(w);
        int64_t until_us = tm_clock_mono_us() + WAIT_US;
        while (db_int(w->production, "SELECT coalesce(sum(seq), 0) FROM tidemill.cursors") == before)
            assert_true(keep_waiting(until_us));
        world_stop(w);
    }
    world_start(w);
    wait_merged(w);
    assert_deltas(w);
}

/* ---- two deduplicators ---- */

static void the_second_waits_for_the_first(void **state)
{
    struct world *w = *state;
    struct tm_error err;
    struct tm_deduplicator *second;
    struct tm_metrics *metrics = tm_metrics_create();
    struct tm_deduplicator_options options = world_options(w, "d2", metrics);
    stage_all_deltas(w, ROWS);
    start_small(w);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", 5 * MARK_EVERY);
    wait_some_rows(w);
    assert_int_equal(tm_deduplicator_start(&options, &second, &err), TM_OK);
    wait_merged(w);
    assert_int_equal(tm_deduplicator_stats(second).transactions, 0);
    assert_int_equal(tm_deduplicator_stats(w->d).conflicts, 0);
    world_stop(w);
    w->d = second;
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    assert_true(tm_deduplicator_stats(second).transactions > 0);
    world_stop(w);
    tm_metrics_destroy(metrics);
}

/* T7: a zombie whose lock was lost meets cursors that moved; compare-and-swap refuses it. */
static void a_moved_cursor_is_noticed(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    start_small(w);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", 5 * MARK_EVERY);
    wait_merged(w);
    /* back for one, forward for another: as if somebody else had done that part */
    db_exec(w->production, "UPDATE tidemill.cursors SET seq = 2000, hash = hashint8extended(2000, 1)"
                           " WHERE gatherer = 'g1'");
    release_all(w, "orderbook_deltas");
    wait_conflicts(w, 1);
    wait_merged(w);
    assert_deltas(w);
}

/* ---- gatherers ---- */

static void gatherers_are_killed(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, ROWS);
    start_small(w);
    release_all(w, "orderbook_deltas");
    db_exec(w->gatherers[0], "SET synchronous_commit = on; CREATE TABLE flushed ()");
    wait_some_rows(w);
    cluster_end(&gatherer_cluster, SIGKILL);
    for (size_t g = 0; g < GATHERERS; g++)
        world_wait_state(w, g, TM_PEER_DOWN);
    cluster_start(&gatherer_cluster);
    for (int g = 0; g < GATHERERS; g++) {
        PQfinish(w->gatherers[g]);
        w->gatherers[g] = PQconnectdb(w->infos[g]);
        world_wait_state(w, (size_t)g, TM_PEER_CONNECTED);
    }
    wait_merged(w);
    assert_deltas(w);
}

static void one_gatherer_away_stops_nobody(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 6000);
    w->options[2].conninfo = "host=/nonexistent dbname=none";
    world_start(w);
    world_wait_state(w, 2, TM_PEER_DOWN);
    world_release(w, 0, "orderbook_deltas", staged(w, 0, "orderbook_deltas"));
    world_release(w, 1, "orderbook_deltas", staged(w, 1, "orderbook_deltas"));
    wait_merged(w);
    db_exec(w->production, "UPDATE truth.ev SET seen3 = false");
    assert_deltas(w);
    assert_accounts(w, "orderbook_deltas", staged(w, 0, "orderbook_deltas") + staged(w, 1, "orderbook_deltas"), 0);
    assert_true(world_peer(w, 2).last_error[0] != '\0');
    tm_deduplicator_stop(w->d);
    w->options[2].conninfo = w->infos[2];
    w->d = NULL;
}

/* A store that commits asynchronously loses its last commits when it is killed, and its writer brings the
 * same rows again in other groups: no mark stands where the cursor does, and nothing is lost or double. */
static void a_store_that_lost_its_last_commits_goes_on(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 6000);
    world_start(w);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", 2345);
    wait_merged(w);
    db_exec(w->gatherers[0],
            "DELETE FROM orderbook_deltas WHERE seq > 2000; DELETE FROM tidemill.marks WHERE seq > 2000;"
            "UPDATE tidemill.streams SET seq = 2000, hash = hashint8extended(2000, 1)");
    end_sessions(w->gatherers[0]);
    world_release(w, 0, "orderbook_deltas", 2300);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
}

/* A missing row stops its stream, at the mark before it; the others go on, and so does it when the row is
 * back. */
static void a_hole_stops_the_stream(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 6000);
    db_exec(w->gatherers[0], "CREATE TABLE lost AS SELECT * FROM stage.orderbook_deltas WHERE seq = 2500;"
                             "DELETE FROM stage.orderbook_deltas WHERE seq = 2500");
    world_start(w);
    release_all(w, "orderbook_deltas");
    world_wait_state(w, 0, TM_PEER_STOPPED);
    db_wait(w->production, "SELECT max(seq) FROM tidemill.cursors WHERE gatherer = 'g1'", 2 * MARK_EVERY, WAIT_US);
    db_wait(w->production, "SELECT count(*) FROM tidemill.cursors WHERE seq > 4000 AND gatherer <> 'g1'", 2, WAIT_US);
    assert_true(tm_metric_get(tm_metrics_counter(w->metrics, "tidemill_poll_holes_total", "", NULL)) == 1.0);
    assert_non_null(strstr(world_peer(w, 0).last_error, "2500"));
    db_exec(w->gatherers[0], "INSERT INTO orderbook_deltas SELECT * FROM lost");
    wait_merged(w);
    assert_deltas(w);
    world_wait_state(w, 0, TM_PEER_CONNECTED);
}

/* What the gatherer's own store refused is in its quarantine, so its absence is no riddle. */
static void a_quarantined_row_explains_its_hole(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 6000);
    db_exec(w->gatherers[0], "DELETE FROM stage.orderbook_deltas WHERE seq IN (1, 2500, 2501, 4000)");
    db_exec(w->gatherers[0], "INSERT INTO tidemill.quarantine (stream, gatherer, epoch, seq, sqlstate, "
                             "error, columns, tuple) SELECT"
                             " 'orderbook_deltas', 'g1', epoch, s, '22003', 'out of range', 'ticker', "
                             "'\\x00' FROM tidemill.epochs,"
                             " unnest(ARRAY[1, 2500, 2501, 4000]) s");
    world_start(w);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_int_equal(world_peer(w, 0).state, TM_PEER_CONNECTED);
    assert_int_equal(world_peer(w, 0).polled, staged(w, 0, "orderbook_deltas") - 4);
}

/* T4b: the same epoch with another history at the place where we stand. */
static void a_fork_is_refused(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 6000);
    world_start(w);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", 2 * MARK_EVERY);
    wait_merged(w);
    db_exec(w->gatherers[0], "UPDATE tidemill.marks SET hash = hash + 1");
    end_sessions(w->gatherers[0]);
    release_all(w, "orderbook_deltas");
    world_wait_state(w, 0, TM_PEER_STOPPED);
    db_wait(w->production, "SELECT count(*) FROM tidemill.cursors WHERE seq > 2000 AND gatherer <> 'g1'", 2, WAIT_US);
    assert_int_equal(db_int(w->production, "SELECT seq FROM tidemill.cursors WHERE gatherer = 'g1'"), 2000);
}

/*
 * T16: a person has given up this gatherer while it was being merged. Its cursor stays, an alarm says why; a new journal
 * makes a new epoch, and that one is taken.
 */
static void a_retired_epoch_is_refused(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 6000);
    world_start(w);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", 2 * MARK_EVERY);
    wait_merged(w);
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM tidemill.gatherers WHERE state = 'active'"),
                     GATHERERS);
    db_exec(w->production, "UPDATE tidemill.gatherers SET state = 'retired' WHERE gatherer = 'g1'");
    release_all(w, "orderbook_deltas");
    world_wait_state(w, 0, TM_PEER_STOPPED);
    db_wait(w->production, "SELECT count(*) FROM tidemill.cursors WHERE seq > 4000 AND gatherer <> 'g1'", 2, WAIT_US);
    assert_int_equal(db_int(w->production, "SELECT seq FROM tidemill.cursors WHERE gatherer = 'g1'"), 2 * MARK_EVERY);
    assert_non_null(strstr(world_peer(w, 0).last_error, "retired"));
    world_epoch(w, 0, 2);
    db_exec(w->gatherers[0], "UPDATE stage.orderbook_deltas SET epoch_no = 2");
    db_execf(w->gatherers[0], "SELECT release('orderbook_deltas', 2, %lld, 100)",
             (long long)staged(w, 0, "orderbook_deltas"));
    db_wait(w->production, "SELECT max(seq) FROM tidemill.cursors WHERE gatherer = 'g1'",
            staged(w, 0, "orderbook_deltas"), WAIT_US);
    assert_deltas(w);
}

/* A table that is not as the plan says: its stream is refused, the other streams of that gatherer go on. */
static void a_missing_column_stops_one_stream(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 3000);
    db_exec(w->gatherers[0], "ALTER TABLE tickers RENAME volume TO size;"
                             "INSERT INTO stage.tickers (ticker, exchange_ts, received_at, seq, epoch_no)"
                             " VALUES ('KX1', now(), now(), 1, 1)");
    world_start(w);
    world_release(w, 0, "tickers", 1);
    world_wait_state(w, 0, TM_PEER_STOPPED);
    release_all(w, "orderbook_deltas");
    db_wait(w->production, "SELECT sum(seq) FROM tidemill.cursors", released_rows(w) - 1, WAIT_US);
    assert_deltas(w);
    assert_non_null(strstr(world_peer(w, 0).last_error, "volume"));
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(production_is_killed),
        TEST(it_starts_before_production),
        TEST(production_goes_back_in_time),
        TEST(another_server_behind_the_session),
        TEST(what_may_work_later_is_tried_in_the_session),
        TEST(stop_is_bounded),
        TEST(restarts_lose_and_double_nothing),
        TEST(the_second_waits_for_the_first),
        TEST(a_moved_cursor_is_noticed),
        TEST(gatherers_are_killed),
        TEST(a_store_that_lost_its_last_commits_goes_on),
        TEST(one_gatherer_away_stops_nobody),
        TEST(a_hole_stops_the_stream),
        TEST(a_quarantined_row_explains_its_hole),
        TEST(a_fork_is_refused),
        TEST(a_retired_epoch_is_refused),
        TEST(a_missing_column_stops_one_stream),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
