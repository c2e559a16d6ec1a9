/* What a poller reads at once is bounded in bytes, too, and ends at marks all the same (engine/poller_private.h). */
#include "world.h"

#define MIB (1 << 20)
#define LOOK (16 * MIB)          /* of one look, with the default queue and three gatherers */
#define ALLOWED (LOOK + 2 * MIB) /* and the row that was too much, and what is not `yes_levels` */

/* Snapshots `from` to `to` of g1, with so many bytes each. */
static void stage_snapshots(struct world *w, int from, int to, int bytes)
{
    db_execf(w->gatherers[0],
             "INSERT INTO stage.orderbook_snapshots (ticker, snapshot_ts, source, yes_levels, received_at, gatherer,"
             " epoch, seq, epoch_no) SELECT 'KX' || n, now(), 'ws', jsonb_build_array(repeat('x', %d), n), now(), 'g1',"
             " (SELECT epoch FROM tidemill.epochs), n, 1 FROM generate_series(%d, %d) n",
             bytes, from, to);
}

static void stage_lifecycles(struct world *w, int count, int bytes)
{
    db_execf(w->gatherers[0],
             "INSERT INTO stage.lifecycle (received_at, kind, ticker, content, seq, epoch_no) SELECT now(),"
             " 'market_lifecycle_v2', 'KX' || n, jsonb_build_object('n', n, 'x', repeat('x', %d)), n, 1"
             " FROM generate_series(1, %d) n",
             bytes, count);
}

/* As one commit of the gatherer's for each `step` rows. */
static void release(struct world *w, const char *stream, int64_t upto, int step)
{
    db_execf(w->gatherers[0], "SELECT release('%s', 1, %lld, %d)", stream, (long long)upto, step);
}

/* One batch a transaction, so that production says what was in a batch. */
static void start(struct world *w)
{
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    options.batch_rows_max = 1;
    world_start_with(w, &options);
}

static int64_t largest_batch(struct world *w)
{
    return db_int(w->production, "SELECT max(sum) FROM (SELECT sum(length(yes_levels::text)) FROM orderbook_snapshots"
                                 " GROUP BY xmin) x");
}

/* Each row once, and a cursor that the gatherer's history proves. */
static void assert_snapshots(struct world *w, int count)
{
    char truth[256];
    (void)snprintf(truth, sizeof truth, "SELECT n::int8, 'KX' || n, n FROM generate_series(1, %d) n", count);
    db_same(w->production, "SELECT seq, ticker, (yes_levels ->> 1)::int4 FROM orderbook_snapshots", truth);
    db_same(w->production, "SELECT seq, hash FROM tidemill.cursors WHERE stream = 'orderbook_snapshots'",
            "SELECT max(seq), hashint8extended(max(seq), 1) FROM orderbook_snapshots");
    assert_accounts(w, "orderbook_snapshots", count, 0);
    world_wait_state(w, 0, TM_PEER_CONNECTED);
}

static void a_batch_of_large_rows_is_bounded(void **state)
{
    struct world *w = *state;
    stage_snapshots(w, 1, 3000, 100);
    stage_snapshots(w, 3001, 3080, MIB);
    stage_snapshots(w, 3081, 6000, 100);
    release(w, "orderbook_snapshots", 6000, 1);
    start(w);
    wait_merged(w);
    assert_snapshots(w, 6000);
    assert_in_range(largest_batch(w), 2 * MIB, ALLOWED);
    /* small rows are read in large batches again */
    assert_in_range(db_int(w->production, "SELECT max(count) FROM (SELECT count(*) FROM orderbook_snapshots GROUP BY"
                                          " xmin) x"),
                    1000, 6000);
}

/* Nothing proves a cursor between two marks: the rows of a commit are one batch, whatever they weigh. */
static void a_commit_of_large_rows_is_not_divided(void **state)
{
    struct world *w = *state;
    stage_snapshots(w, 1, 60, MIB);
    release(w, "orderbook_snapshots", 60, 20);
    start(w);
    wait_merged(w);
    assert_snapshots(w, 60);
    db_same(w->production, "SELECT count(*) FROM orderbook_snapshots GROUP BY xmin",
            "SELECT 20::int8 FROM generate_series(1, 3)");
}

/* Two streams of large rows and one of small ones, and several batches in a transaction. */
static void streams_with_large_rows_take_turns(void **state)
{
    struct world *w = *state;
    stage_snapshots(w, 1, 40, MIB);
    stage_lifecycles(w, 40, MIB);
    stage_all_deltas(w, 6000);
    release(w, "orderbook_snapshots", 40, 1);
    release(w, "lifecycle", 40, 1);
    release_all(w, "orderbook_deltas");
    world_start(w);
    wait_merged(w);
    assert_snapshots(w, 40);
    assert_deltas(w);
    db_same(w->production, "SELECT ticker, length(content ->> 'x') FROM lifecycle",
            "SELECT 'KX' || n, 1048576 FROM generate_series(1, 40) n");
    assert_in_range(db_int(w->production,
                           "SELECT max(sum) FROM (SELECT sum(length) FROM (SELECT xmin::text, length(content::text)"
                           " FROM lifecycle UNION ALL SELECT xmin::text, length(yes_levels::text) FROM"
                           " orderbook_snapshots) r GROUP BY xmin) x"),
                    MIB, 32 * MIB + ALLOWED); /* a transaction has one batch more than half of the queue at most */
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_batch_of_large_rows_is_bounded),
        TEST(a_commit_of_large_rows_is_not_divided),
        TEST(streams_with_large_rows_take_turns),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
