/* Rows that do not go into their table: of days that are sealed, of records that gatherers disagree about; and days that go. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "world.h"

#include "store/expiry.h"

#define DAY_US (24 * HOUR_US)

static const struct tm_deduplicator_retain three_days[] = {{.stream = "orderbook_deltas", .keep_us = 3 * DAY_US}};

static void start_retaining(struct world *w)
{
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    options.retain = three_days;
    options.retain_count = 1;
    world_start_with(w, &options);
}

static void read_again(struct world *w)
{
    tm_deduplicator_stop(w->d);
    db_exec(w->production, "DELETE FROM tidemill.cursors");
    start_retaining(w);
    wait_merged(w);
}

/* T13: five days old where three are kept. They are kept whole, once, however often they are read. */
static void rows_of_sealed_days_are_late(void **state)
{
    struct world *w = *state;
    stage_all_deltas(w, 900);
    db_exec(w->gatherers[0],
            "UPDATE stage.orderbook_deltas SET exchange_ts = exchange_ts - interval '5 days' WHERE seq <= 100");
    start_retaining(w);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_int_equal(
        db_int(w->production, "SELECT count(*) FROM orderbook_deltas WHERE exchange_ts < now() - interval '3 days'"),
        0);
    assert_int_equal(counter_of(w, "tidemill_late_rows_total", "orderbook_deltas"), 100);
    int64_t polled = counter_of(w, "tidemill_polled_rows_total", "orderbook_deltas");
    assert_int_equal(counter_of(w, "tidemill_written_rows_total", "orderbook_deltas") +
                         counter_of(w, "tidemill_duplicate_rows_total", "orderbook_deltas") + 100,
                     polled);
    read_again(w);
    db_same(w->production, "SELECT gatherer, stream, seq, length(tuple) > 60 FROM tidemill.late",
            "SELECT 'g1', 'orderbook_deltas', n::int8, true FROM generate_series(1, 100) n");
}

static void a_day_that_is_old_goes(void **state)
{
    struct world *w = *state;
    struct tm_error err;
    struct tm_expired gone;
    struct tm_pg *pg = engine_open(w->production_info);
    int64_t now_us = tm_clock_wall_us();
    if (tm_migrate_production_days(pg, plan, now_us - 5 * DAY_US, now_us - 3 * DAY_US, &err))
        fail_msg("%s", err.message);
    db_exec(w->production,
            "INSERT INTO orderbook_deltas SELECT 'KX', (now() AT TIME ZONE 'UTC')::date::timestamp AT TIME ZONE "
            "'UTC' - d * interval '1 day' + interval '12 h', 'yes', 1, 1, 0, now() FROM generate_series(0, 5) d");
    db_exec(w->production,
            "CREATE TABLE orderbook_deltas_p20200101 (LIKE orderbook_deltas)"); /* detached by hand: not ours */
    for (int i = 0; i < 2; i++) { /* the days that ended more than three days ago: five and four days back */
        int rc = tm_expiry_step(pg, "orderbook_deltas", 3 * DAY_US - HOUR_US * 24 + HOUR_US, false, &gone, &err);
        if (rc != 1)
            fail_msg("%d: %s", rc, rc < 0 ? err.message : "nothing to drop");
        assert_int_equal(gone.rows, 1);
    }
    assert_int_equal(tm_expiry_step(pg, "orderbook_deltas", 30 * DAY_US, false, &gone, &err), 0);
    db_same(w->production, "SELECT stream, rows, from_ts, to_ts FROM tidemill.dropped",
            "SELECT 'orderbook_deltas', 1::int8, d, d + interval '1 day' FROM (SELECT (now() AT TIME ZONE "
            "'UTC')::date::timestamp AT TIME ZONE 'UTC' - n * interval '1 day' FROM generate_series(4, 5) n) x (d)");
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM orderbook_deltas"), 4);
    assert_int_equal(db_int(w->production, "SELECT count(to_regclass('orderbook_deltas_p20200101'))"), 1);
    tm_pg_close(pg);
}

/* A drop that was cut off between its steps is finished by the next call. */
static void a_day_that_went_halfway_goes(void **state)
{
    struct world *w = *state;
    struct tm_error err;
    struct tm_expired gone;
    struct tm_pg *pg = engine_open(w->production_info);
    int64_t then_us = tm_clock_wall_us() - 20 * DAY_US;
    assert_int_equal(tm_migrate_production_days(pg, plan, then_us, then_us, &err), TM_OK);
    db_exec(w->production,
            "DO $$ DECLARE name text := to_char(now() AT TIME ZONE 'UTC' - interval '20 days', "
            "'\"orderbook_deltas_p\"YYYYMMDD'); BEGIN "
            "INSERT INTO tidemill.dropped (stream, partition, from_ts, to_ts, rows) VALUES ('orderbook_deltas', name, "
            "now(), now(), 0); EXECUTE 'ALTER TABLE orderbook_deltas DETACH PARTITION ' || name; END $$");
    assert_int_equal(tm_expiry_step(pg, "orderbook_deltas", 10 * DAY_US, false, &gone, &err), 1);
    assert_int_equal(tm_expiry_step(pg, "orderbook_deltas", 10 * DAY_US, false, &gone, &err), 0);
    tm_pg_close(pg);
}

static void stage_trades(struct world *w, int g, const char *price, const char *side)
{
    db_execf(
        w->gatherers[g],
        "INSERT INTO stage.trades (trade_id, exchange_ts, received_at, ticker, price, count, taker_side, sid, exchange_seq, "
        "seq, epoch_no) SELECT md5(n::text)::uuid, '%s', now(), 'KX', CASE n WHEN 2 THEN %s ELSE 7 END, 1, %s, 1, n, n, 1 "
        "FROM generate_series(1, 3) n",
        w->base, price, side);
}

/* T26: g2 says another price of one trade; g3 does not know the side, which is no contradiction. */
static void gatherers_that_disagree(void **state)
{
    struct world *w = *state;
    stage_trades(w, 0, "5", "'yes'");
    stage_trades(w, 1, "6", "'yes'");
    stage_trades(w, 2, "5", "NULL");
    start_retaining(w);
    for (int g = 0; g < GATHERERS; g++) {
        world_release(w, g, "trades", 3);
        wait_merged(w);
    }
    static const char found[] =
        "SELECT stream, key ->> 'trade_id', (stored ->> 'price')::int, (came ->> 'price')::int, gatherer "
        "FROM tidemill.conflicts";
    static const char wanted[] = "VALUES ('trades', md5('2')::uuid::text, 5, 6, 'g2')";
    db_same(w->production, found, wanted);
    assert_int_equal(counter_of(w, "tidemill_conflicting_records_total", "trades"), 1);
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM trades"), 3);
    read_again(w); /* all of them are conflicts with what is there now, and it is said already */
    db_same(w->production, found, wanted);
    assert_int_equal(counter_of(w, "tidemill_conflicting_records_total", "trades"), 1);
}

/* What was first in one transaction with its contradiction, or met after a restart, is found too. */
static void disagreement_within_a_transaction(void **state)
{
    struct world *w = *state;
    stage_trades(w, 0, "5", "'yes'");
    stage_trades(w, 1, "6", "'yes'");
    for (int g = 0; g < 2; g++)
        world_release(w, g, "trades", 3);
    start_retaining(w);
    wait_merged(w);
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM tidemill.conflicts"), 1);
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM trades"), 3);
    db_exec(w->production, "TRUNCATE tidemill.conflicts");
    read_again(w);
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM tidemill.conflicts"), 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(rows_of_sealed_days_are_late),      TEST(a_day_that_is_old_goes),
        TEST(a_day_that_went_halfway_goes),      TEST(gatherers_that_disagree),
        TEST(disagreement_within_a_transaction),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
