/* What is merged, row by row, against truth that SQL worked out (world.h). */
#include "world.h"

static void counted_keys_merge_to_the_largest_count(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 30000);
    world_start(w);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    int64_t offered = 0;
    for (int g = 0; g < GATHERERS; g++)
        offered += staged(w, g, "orderbook_deltas");
    assert_accounts(w, "orderbook_deltas", offered, 0);
    assert_true(offered > 2 * db_int(w->production, "SELECT count(*) FROM orderbook_deltas"));
    for (size_t g = 0; g < GATHERERS; g++) {
        struct tm_deduplicator_gatherer_stats s = world_peer(w, g);
        assert_int_equal(s.polled, staged(w, (int)g, "orderbook_deltas"));
        assert_int_equal(s.polled, s.written + s.duplicate + s.quarantined);
        assert_int_equal(s.lag_us, 0);
    }
}

/* Rows that come in small commits, as in life, one gatherer after the other. */
static void small_commits_merge_the_same(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 6000);
    world_start(w);
    for (int64_t upto = 40; upto < 4000; upto += 40)
        for (int g = 0; g < GATHERERS; g++)
            world_release(w, g, "orderbook_deltas", upto + g * 7);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
}

/* WebSocket times are milliseconds and REST times microseconds: the trade's id alone decides. */
static void trades_are_known_by_their_id(void **state)
{
    struct world *w = *state;
    make_events(w, w->production, "truth", 9000);
    for (int g = 0; g < GATHERERS; g++) {
        make_events(w, w->gatherers[g], "stage", 9000);
        db_execf(w->gatherers[g],
                 "INSERT INTO stage.trades (trade_id, exchange_ts, received_at, ticker, price, count, taker_side,"
                 " is_block_trade, seq, epoch_no) SELECT md5(n::text)::uuid, exchange_ts + %d * interval '1 us',"
                 " exchange_ts, ticker, price, n, NULL, n %% 2 = 0, row_number() OVER (ORDER BY n), 1 FROM "
                 "stage.ev"
                 " WHERE seen%d",
                 g * 300, g + 1);
    }
    world_start(w);
    release_all(w, "trades");
    wait_merged(w);
    db_same(w->production, "SELECT trade_id, ticker, price, count, taker_side, is_block_trade FROM trades",
            "SELECT md5(n::text)::uuid, ticker, price, n::int8, NULL::text, n % 2 = 0 FROM truth.ev"
            " WHERE seen1 OR seen2 OR seen3");
}

/* A NULL in a key is a value like another: two gatherers' rows with it are one record. */
static void null_is_a_key_value(void **state)
{
    struct world *w = *state;
    static const char row[] = "ticker, exchange_ts, CASE WHEN n % 5 > 0 THEN price END AS price, NULL::int4 AS yes_bid,"
                              " price AS yes_ask, CASE WHEN n % 7 > 0 THEN n::int8 END AS volume";
    make_events(w, w->production, "truth", 6000);
    for (int g = 0; g < GATHERERS; g++) {
        char sql[1024];
        make_events(w, w->gatherers[g], "stage", 6000);
        (void)snprintf(sql, sizeof sql,
                       "INSERT INTO stage.tickers (ticker, exchange_ts, price, yes_bid, yes_ask, volume, received_at,"
                       " seq, epoch_no) SELECT DISTINCT ON (s.*) s.*, now(), 0, 1 FROM (SELECT %s FROM stage.ev WHERE"
                       " seen%d) s",
                       row, g + 1);
        db_exec(w->gatherers[g], sql);
        db_exec(w->gatherers[g], "UPDATE stage.tickers t SET seq = r.n FROM (SELECT ctid, row_number() OVER () AS n"
                                 " FROM stage.tickers) r WHERE t.ctid = r.ctid");
    }
    world_start(w);
    release_all(w, "tickers");
    wait_merged(w);
    char truth[512];
    (void)snprintf(truth, sizeof truth, "SELECT DISTINCT %s FROM truth.ev WHERE seen1 OR seen2 OR seen3", row);
    db_same(w->production, "SELECT ticker, exchange_ts, price, yes_bid, yes_ask, volume FROM tickers", truth);
}

/* An observation is a record of its own, whoever else saw the same. */
static void observations_are_all_kept(void **state)
{
    struct world *w = *state;
    for (int g = 0; g < GATHERERS; g++)
        db_execf(w->gatherers[g],
                 "INSERT INTO stage.orderbook_snapshots (ticker, snapshot_ts, source, yes_levels, "
                 "received_at, gatherer,"
                 " epoch, seq, epoch_no) SELECT 'KX1', now(), 'ws', '[[\"0.4\", \"3\"]]', now(), 'g%d',"
                 " (SELECT epoch FROM tidemill.epochs), n, 1 FROM generate_series(1, 50) n",
                 g + 1);
    world_start(w);
    release_all(w, "orderbook_snapshots");
    wait_merged(w);
    db_same(w->production, "SELECT gatherer, seq FROM orderbook_snapshots WHERE yes_levels = '[[\"0.4\", \"3\"]]'",
            "SELECT 'g' || g, n::int8 FROM generate_series(1, 3) g, generate_series(1, 50) n");
    assert_accounts(w, "orderbook_snapshots", 150, 0);
}

static void stage_lifecycle(struct world *w, int g, int64_t seq, const char *after)
{
    db_execf(w->gatherers[g],
             "INSERT INTO stage.lifecycle (received_at, kind, ticker, content, seq, epoch_no) SELECT "
             "timestamptz '%s' +"
             " interval '%s' + %d * interval '200 ms', 'market_lifecycle_v2', NULLIF('KX' || n, 'KX0'),"
             " jsonb_build_object('n', n), %lld + n, 1 FROM generate_series(0, 9) n",
             w->base, after, g, (long long)seq);
}

/* Without a time of the exchange: the same message within a minute is one record, an hour later it is
 * another. */
static void equal_messages_are_one_record_within_a_time(void **state)
{
    struct world *w = *state;
    for (int g = 0; g < GATHERERS; g++) {
        stage_lifecycle(w, g, 1, "0 s");
        stage_lifecycle(w, g, 11, "30 min");
    }
    world_start(w);
    world_release(w, 0, "lifecycle", 15); /* so that the rest meets what is stored, and what is in its own batch */
    wait_merged(w);
    release_all(w, "lifecycle");
    wait_merged(w);
    db_same(w->production, "SELECT ticker, content, count(*) FROM lifecycle GROUP BY 1, 2",
            "SELECT NULLIF('KX' || n, 'KX0'), jsonb_build_object('n', n), 2::int8 FROM generate_series(0, 9) n");
    assert_accounts(w, "lifecycle", 60, 0);
}

/* Replaced rows leave holes in seq, and the newest version wins whoever brings it. */
static void reference_rows_are_replaced_by_newer_ones(void **state)
{
    struct world *w = *state;
    static const char *const statuses[] = {"active", "closed", "settled"};
    static const int age_s[] = {20, 5, 10};
    for (int g = 0; g < GATHERERS; g++)
        db_execf(w->gatherers[g],
                 "INSERT INTO stage.markets (ticker, status, received_at, seq, epoch_no) SELECT 'KX' || n %% "
                 "10, '%s',"
                 " timestamptz '%s' - %d * interval '1 s' + n * interval '1 ms', n, 1 FROM "
                 "generate_series(1, 100) n",
                 statuses[g], w->base, age_s[g]);
    world_start(w);
    release_all(w, "markets");
    wait_merged(w);
    db_same(w->production, "SELECT ticker, status FROM markets",
            "SELECT 'KX' || n, 'closed' FROM generate_series(0, 9) n");
}

/* FAILURES T4: a rebuilt gatherer counts from 1 again, under another epoch. */
static void a_rebuilt_gatherer_is_read_from_its_beginning(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 6000);
    world_start(w);
    world_release(w, 0, "orderbook_deltas", staged(w, 0, "orderbook_deltas"));
    wait_merged(w);
    world_epoch(w, 1, 2);
    db_exec(w->gatherers[1], "UPDATE stage.orderbook_deltas SET epoch_no = 2");
    db_execf(w->gatherers[1], "SELECT release('orderbook_deltas', 2, %lld, 100)",
             (long long)staged(w, 1, "orderbook_deltas"));
    world_release(w, 2, "orderbook_deltas", staged(w, 2, "orderbook_deltas"));
    wait_merged(w);
    assert_deltas(w);
    assert_int_equal(db_int(w->production, "SELECT count(DISTINCT epoch) FROM tidemill.cursors"), 3);
}

/* T15: a time far from now would make a partition for itself; its neighbours are stored. */
static void absurd_times_are_quarantined(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 3000);
    db_exec(w->gatherers[0], "UPDATE stage.orderbook_deltas SET exchange_ts = '2262-01-01' WHERE seq = 100");
    db_exec(w->gatherers[0], "UPDATE stage.orderbook_deltas SET exchange_ts = '1970-01-02' WHERE seq = 101");
    world_start(w);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_int_equal(db_int(w->production,
                            "SELECT count(*) FROM orderbook_deltas WHERE abs(extract(epoch FROM exchange_ts -"
                            " now())) > 86400"),
                     0);
    db_same(w->production, "SELECT stream, gatherer, seq, length(tuple) > 60 FROM tidemill.quarantine",
            "VALUES ('orderbook_deltas', 'g1', 100::int8, true), ('orderbook_deltas', 'g1', 101::int8, true)");
    assert_int_equal(counter_of(w, "tidemill_quarantined_rows_total", "orderbook_deltas"), 2);
}

/* Rows of days ago, when the deduplicator or a gatherer was away: partitions are made for them. */
static void old_rows_find_a_partition(void **state)
{
    struct world *w = *state;
    PGresult *r = PQexec(w->production, "SELECT date_trunc('hour', now() AT TIME ZONE 'UTC') - interval '6 days'");
    (void)snprintf(w->base, sizeof w->base, "%s+00", PQgetvalue(r, 0, 0));
    PQclear(r);
    stage_all_deltas(w, 900);
    world_start(w);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
}

/* What waited for long in a gatherer is not absurd because production was away: it was received when it
 * happened. */
static void a_long_backlog_is_not_absurd(void **state)
{
    struct world *w = *state;
    PGresult *r = PQexec(w->production, "SELECT date_trunc('hour', now() AT TIME ZONE 'UTC') - interval '20 days'");
    (void)snprintf(w->base, sizeof w->base, "%s+00", PQgetvalue(r, 0, 0));
    PQclear(r);
    stage_all_deltas(w, 900);
    world_start(w);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
}

/* Production takes three rows of g1 for faulty; the others have the same records, good ones. */
static void spoil_rows(struct world *w)
{
    db_exec(w->gatherers[0], "UPDATE stage.orderbook_deltas SET received_at = '2001-01-01' WHERE seq IN (5, 500, 900)");
    db_exec(w->production, "ALTER TABLE orderbook_deltas ADD CHECK (received_at > '2002-01-01')");
}

/* T27: production refuses a row; its neighbours are stored, and what was refused does not count as seen. */
static void a_refused_row_costs_only_itself(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 3000);
    spoil_rows(w);
    world_start(w);
    world_release(w, 0, "orderbook_deltas", staged(w, 0, "orderbook_deltas"));
    wait_merged(w);
    assert_accounts(w, "orderbook_deltas", staged(w, 0, "orderbook_deltas"), 3);
    db_same(w->production, "SELECT stream, gatherer, seq, sqlstate, length(tuple) > 60 FROM tidemill.quarantine",
            "SELECT 'orderbook_deltas', 'g1', s::int8, '23514', true FROM unnest(ARRAY[5, 500, 900]) s");
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
}

/* The same when all copies come at once: what was left out as its repeat takes the place of the refused row.
 */
static void a_good_copy_takes_the_place_of_a_refused_one(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 3000);
    spoil_rows(w);
    release_all(w, "orderbook_deltas");
    world_start(w);
    wait_merged(w);
    assert_deltas(w);
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM tidemill.quarantine WHERE gatherer <> 'g1' OR"
                                           " sqlstate <> '23514'"),
                     0);
}

static void streams_the_plan_does_not_know_are_left_alone(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 900);
    db_exec(w->gatherers[0], "INSERT INTO tidemill.streams VALUES (1, 'novelties', 5, 0)");
    world_start(w);
    release_all(w, "orderbook_deltas");
    db_wait(w->production, "SELECT sum(seq) FROM tidemill.cursors", released_rows(w) - 5, WAIT_US);
    assert_deltas(w);
    world_wait_state(w, 0, TM_PEER_CONNECTED);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(counted_keys_merge_to_the_largest_count),
        TEST(small_commits_merge_the_same),
        TEST(trades_are_known_by_their_id),
        TEST(null_is_a_key_value),
        TEST(observations_are_all_kept),
        TEST(equal_messages_are_one_record_within_a_time),
        TEST(reference_rows_are_replaced_by_newer_ones),
        TEST(a_rebuilt_gatherer_is_read_from_its_beginning),
        TEST(absurd_times_are_quarantined),
        TEST(old_rows_find_a_partition),
        TEST(a_long_backlog_is_not_absurd),
        TEST(a_refused_row_costs_only_itself),
        TEST(a_good_copy_takes_the_place_of_a_refused_one),
        TEST(streams_the_plan_does_not_know_are_left_alone),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
