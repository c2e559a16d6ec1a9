/* Rows that do not go into their table: of days that are sealed, of records that gatherers disagree about; and days that go. */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "world.h"

#include "store/expiry.h"
#include "store/exports.h"

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

/* With an archive a day goes when the cursor is past it, nothing of it is noted as late, and its rows are those of the last
 * look; a row more has its hours looked at again. */
static void a_day_waits_for_the_archive(void **state)
{
    struct world *w = *state;
    struct tm_error err;
    struct tm_expired gone;
    struct tm_pg *pg = engine_open(w->production_info);
    int64_t then_us = tm_clock_wall_us() - 20 * DAY_US;
    assert_int_equal(tm_migrate_production_days(pg, plan, then_us, then_us, &err), TM_OK);
    db_exec(w->production, "CREATE TEMP VIEW old (day) AS SELECT date_trunc('day', now() - interval '20 days', 'UTC')");
    db_exec(w->production,
            "INSERT INTO orderbook_deltas SELECT 'KX', day + n * interval '1 h', 'yes', n, 1, 0, now() FROM old, "
            "generate_series(1, 3) n");
    assert_int_equal(tm_expiry_step(pg, "orderbook_deltas", 10 * DAY_US, true, &gone, &err), TM_ESTATE);
    db_exec(w->production,
            "INSERT INTO tidemill.export_cursors SELECT 'orderbook_deltas', day + interval '23 h', day + "
            "interval '23 h' FROM old");
    db_exec(w->production,
            "INSERT INTO tidemill.exports SELECT 'orderbook_deltas', day + n * interval '1 h', day + (n + 1) * "
            "interval '1 h', 1, (n < 4)::int, 1, 10, 'file:///a' FROM old, generate_series(1, 23) n");
    assert_int_equal(tm_expiry_step(pg, "orderbook_deltas", 10 * DAY_US, true, &gone, &err), TM_ESTATE);
    db_exec(w->production, "UPDATE tidemill.export_cursors SET next_ts = next_ts + interval '1 h'");
    db_exec(w->production,
            "INSERT INTO orderbook_deltas SELECT 'KX', day + interval '90 min', 'no', 1, 1, 0, now() FROM old");
    assert_int_equal(tm_expiry_step(pg, "orderbook_deltas", 10 * DAY_US, true, &gone, &err), TM_ESTATE);
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM tidemill.export_late"), 24);
    db_exec(w->production, "UPDATE tidemill.exports SET rows = 2 FROM old WHERE from_ts = day + interval '1 h'");
    assert_int_equal(tm_expiry_step(pg, "orderbook_deltas", 10 * DAY_US, true, &gone, &err), TM_ESTATE);
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM tidemill.dropped"), 0);
    db_exec(w->production, "DELETE FROM tidemill.export_late");
    assert_int_equal(tm_expiry_step(pg, "orderbook_deltas", 10 * DAY_US, true, &gone, &err), 1);
    assert_int_equal(gone.rows, 4);
    tm_pg_close(pg);
}

/* Whoever had begun to store before the horizon holds the barrier up; whoever stores after it notes its hour. */
static void late_rows_are_noted_whoever_stores(void **state)
{
    struct world *w = *state;
    struct tm_error err;
    struct tm_export_late late;
    struct tm_pg *pg = engine_open(w->production_info), *other = engine_open(w->production_info);
    int64_t hour_us = tm_clock_wall_us() / HOUR_US * HOUR_US - 5 * HOUR_US, next_us, later_us = hour_us + HOUR_US;
    db_exec(w->production,
            "INSERT INTO orderbook_deltas SELECT 'KX', date_trunc('hour', now()) - interval '5 h' + interval "
            "'1 min', 'yes', 1, 1, 0, now()");
    assert_int_equal(tm_exports_cursor(pg, "orderbook_deltas", "exchange_ts", HOUR_US, &next_us, &err), TM_OK);
    assert_true(next_us == hour_us);
    assert_int_equal(tm_pg_exec(other, TM_EXPORTS_BEGIN, &err), TM_OK);
    assert_int_equal(tm_exports_note_late(other, "orderbook_deltas", &hour_us, 1, &err), TM_OK); /* not late yet */
    assert_int_equal(tm_exports_close(pg, "orderbook_deltas", hour_us + HOUR_US, &err), TM_ERETRY);
    assert_int_equal(tm_pg_exec(other, "COMMIT", &err), TM_OK);
    assert_int_equal(tm_exports_close(pg, "orderbook_deltas", hour_us + HOUR_US, &err), TM_OK);
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM tidemill.export_late"), 0);
    assert_int_equal(tm_pg_exec(other, TM_EXPORTS_BEGIN, &err), TM_OK);
    assert_int_equal(tm_exports_note_late(other, "orderbook_deltas", &hour_us, 1, &err), TM_OK);
    assert_int_equal(tm_exports_note_late(other, "orderbook_deltas", &later_us, 1, &err),
                     TM_OK); /* beyond the horizon */
    assert_int_equal(tm_pg_exec(other, "COMMIT", &err), TM_OK);
    struct tm_export_done done = {.stream = "orderbook_deltas",
                                  .archive = "file:///a",
                                  .from_us = hour_us,
                                  .to_us = later_us,
                                  .next_us = next_us,
                                  .parts = 1,
                                  .rows = 1,
                                  .archived_rows = 1};
    assert_int_equal(tm_exports_commit(pg, &done, &err), TM_OK);
    assert_int_equal(tm_exports_commit(pg, &done, &err), TM_ECONFLICT); /* a second exporter */
    assert_int_equal(tm_exports_late(pg, "orderbook_deltas", 0, &late, &err), 1);
    assert_true(late.hour_us == hour_us && late.from_us == hour_us && late.to_us == later_us);
    done.next_us = INT64_MIN;
    done.late_until = late.at;
    db_execf(w->production, "SELECT tidemill.note_late('orderbook_deltas', ARRAY[to_timestamp(%lld)])",
             (long long)(hour_us / 1000000)); /* once more, meanwhile */
    assert_int_equal(tm_exports_commit(pg, &done, &err), TM_OK);
    assert_int_equal(tm_exports_late(pg, "orderbook_deltas", 0, &late, &err), 1);
    done.late_until = late.at;
    assert_int_equal(tm_exports_commit(pg, &done, &err), TM_OK);
    assert_int_equal(tm_exports_late(pg, "orderbook_deltas", 0, &late, &err), 0);
    tm_pg_close(pg);
    tm_pg_close(other);
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
        TEST(rows_of_sealed_days_are_late),       TEST(a_day_that_is_old_goes),
        TEST(a_day_that_went_halfway_goes),       TEST(a_day_waits_for_the_archive),
        TEST(late_rows_are_noted_whoever_stores), TEST(gatherers_that_disagree),
        TEST(disagreement_within_a_transaction),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
