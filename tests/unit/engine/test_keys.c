/*
 * A key that changes at a moment while gatherers and deduplicator learn of it at different times (FAILURES T9, T32). By the
 * first key three deltas in a row are two records of one key and one of another; by the key from the moment on, which leaves
 * the delta out, they are three of one. So whoever numbers or merges by the wrong one loses or doubles rows.
 */
#pragma GCC diagnostic ignored "-Wunused-function"
#include "world.h"

#define EVENTS 18000 /* 9 a millisecond: two seconds, the moment in the middle */

static const char *const coarse_key[] = {"ticker", "exchange_ts", "side", "price", NULL};

struct scene {
    struct world *w;
    struct tm_plan *next; /* with the key from the moment on */
    char moment[80];
};

static void scene_init(struct scene *s, struct world *w)
{
    struct tm_stream_def streams[LENGTH(kalshi_streams)];
    struct tm_plan_def def = kalshi_plan_def;
    struct tm_key_def later = {.key = coarse_key, .occurrence = true};
    struct tm_error err;
    char sql[256];
    *s = (struct scene){.w = w};
    (void)snprintf(s->moment, sizeof s->moment, "timestamptz '%s' + interval '1 s'", w->base);
    (void)snprintf(sql, sizeof sql, "SELECT (extract(epoch FROM %s) * 1000000)::int8", s->moment);
    later.from_us = db_int(w->production, sql);
    memcpy(streams, kalshi_streams, sizeof streams);
    streams[STREAM_DELTAS].later_keys = &later;
    streams[STREAM_DELTAS].later_key_count = 1;
    def.streams = streams;
    if (tm_plan_compile(&def, &s->next, &err))
        fail_msg("%s", err.message);
}

static void scene_fini(struct scene *s)
{
    if (s->w->d)
        tm_deduplicator_stop(s->w->d);
    s->w->d = NULL;
    tm_plan_put(s->next);
}

/* As each gatherer numbers them: by the first key before the moment, by the other from then on. */
static void stage_by_both_keys(struct scene *s)
{
    make_events(s->w, s->w->production, "truth", EVENTS);
    for (int g = 0; g < GATHERERS; g++) {
        make_events(s->w, s->w->gatherers[g], "stage", EVENTS);
        db_execf(
            s->w->gatherers[g],
            "INSERT INTO stage.orderbook_deltas (ticker, exchange_ts, side, price, delta, occurrence, received_at,"
            " sid, exchange_seq, seq, epoch_no) SELECT ticker, exchange_ts, side, price, delta,"
            " row_number() OVER (PARTITION BY ticker, exchange_ts, side, price,"
            " CASE WHEN exchange_ts < %s THEN delta END ORDER BY n) - 1,"
            " exchange_ts + %d * interval '1 ms', 7, n, row_number() OVER (ORDER BY n), 1 FROM stage.ev WHERE seen%d",
            s->moment, g + 1, g + 1);
    }
}

/* How many rows of a gatherer are older than the moment. */
static int64_t older(struct scene *s, int g)
{
    char sql[256];
    (void)snprintf(sql, sizeof sql, "SELECT max(seq) FROM stage.orderbook_deltas WHERE exchange_ts < %s", s->moment);
    return db_int(s->w->gatherers[g], sql);
}

/* ---- learning of the key, as a reload does it ---- */

static void gatherer_learns(struct scene *s, int g)
{
    struct tm_error err;
    struct tm_pg *pg = engine_open(s->w->infos[g]);
    if (tm_migrate_local(pg, s->next, &err))
        fail_msg("%s", err.message);
    tm_pg_close(pg);
}

static void start_with(struct scene *s, const struct tm_plan *of)
{
    struct tm_deduplicator_options options = world_options(s->w, "d1", s->w->metrics);
    options.plan = of;
    options.poll_rows_max = options.batch_rows_max =
        MARK_EVERY; /* many transactions, so that parts come in any order */
    world_start_with(s->w, &options);
}

static void deduplicator_learns(struct scene *s)
{
    tm_deduplicator_stop(s->w->d);
    start_with(s, s->next);
}

/* ---- what must hold ---- */

/* Each key as often as the gatherer that saw it most often saw it, by the key of its time; and nothing that never was. */
static void assert_by_both_keys(struct scene *s)
{
    char got[512], wanted[1024];
    (void)snprintf(
        got, sizeof got,
        "SELECT ticker, exchange_ts, side, price, CASE WHEN exchange_ts < %s THEN delta END, occurrence FROM "
        "orderbook_deltas",
        s->moment);
    (void)snprintf(
        wanted, sizeof wanted,
        "SELECT ticker, exchange_ts, side, price, d, (o - 1)::int2 FROM (SELECT ticker, exchange_ts, side, price,"
        " CASE WHEN exchange_ts < %s THEN delta END AS d, greatest(count(*) FILTER (WHERE seen1), count(*) FILTER"
        " (WHERE seen2), count(*) FILTER (WHERE seen3)) AS most FROM truth.ev GROUP BY 1, 2, 3, 4, 5) k,"
        " generate_series(1, most) o",
        s->moment);
    db_same(s->w->production, got, wanted);
    assert_int_equal(db_int(s->w->production,
                            "SELECT count(*) FROM (SELECT ticker, exchange_ts, side, price, delta FROM orderbook_deltas"
                            " EXCEPT SELECT ticker, exchange_ts, side, price, delta FROM truth.ev) x"),
                     0);
}

/* ---- the four orders ---- */

enum step { PAIR /* g1 and g2 learn */, THIRD /* g3 learns */, DEDUP /* the deduplicator learns */ };

/*
 * After each step whoever knows offers all that it has, and the others only what is older than the moment: they have met
 * nothing younger. What the deduplicator does not know the key of has to wait for it.
 */
static void offer(struct scene *s, const bool *knows)
{
    for (int g = 0; g < GATHERERS; g++)
        world_release(s->w, g, "orderbook_deltas", knows[g] ? staged(s->w, g, "orderbook_deltas") : older(s, g));
}

static void run_order(struct world *w, const enum step *steps)
{
    struct scene s;
    bool knows[GATHERERS] = {false}, dedup_knows = false;
    scene_init(&s, w);
    stage_by_both_keys(&s);
    start_with(&s, plan);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", older(&s, g) / 2);
    wait_merged(w);
    for (int i = 0; i < 3; i++) {
        if (steps[i] == PAIR)
            gatherer_learns(&s, 0), gatherer_learns(&s, 1);
        if (steps[i] == THIRD)
            gatherer_learns(&s, 2);
        if (steps[i] == DEDUP)
            deduplicator_learns(&s);
        knows[0] = knows[1] = knows[0] || steps[i] == PAIR;
        knows[2] = knows[2] || steps[i] == THIRD;
        dedup_knows = dedup_knows || steps[i] == DEDUP;
        offer(&s, knows);
        for (size_t g = 0; g < GATHERERS; g++)
            if (!dedup_knows && knows[g])
                world_wait_state(w, g, TM_PEER_STOPPED);
        if (dedup_knows)
            wait_merged(w);
    }
    assert_by_both_keys(&s);
    assert_int_equal(db_int(w->production, "SELECT count(*) FROM tidemill.quarantine"), 0);
    scene_fini(&s);
}

static void the_deduplicator_learns_first(void **state)
{
    run_order(*state, (const enum step[]){DEDUP, PAIR, THIRD});
}

static void two_gatherers_then_the_deduplicator(void **state)
{
    run_order(*state, (const enum step[]){PAIR, DEDUP, THIRD});
}

static void the_deduplicator_learns_last(void **state)
{
    run_order(*state, (const enum step[]){PAIR, THIRD, DEDUP});
}

static void the_third_then_the_deduplicator(void **state)
{
    run_order(*state, (const enum step[]){THIRD, DEDUP, PAIR});
}

/* ---- who does not play by the rule ---- */

static void wait_error(struct world *w, size_t g, const char *words)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (!strstr(world_peer(w, g).last_error, words))
        if (!keep_waiting(until_us))
            fail_msg("gatherer %zu: waited for \"%s\", got \"%s\"", g, words, world_peer(w, g).last_error);
}

/* A gatherer that took records by the old key after the moment is not merged: its numbers would double rows. */
static void a_gatherer_that_did_not_learn_waits(void **state)
{
    struct scene s;
    scene_init(&s, *state);
    stage_by_both_keys(&s);
    gatherer_learns(&s, 0);
    gatherer_learns(&s, 1);
    start_with(&s, s.next);
    /* g3 numbers everything by the first key */
    db_exec(s.w->gatherers[2], "UPDATE stage.orderbook_deltas d SET occurrence = o FROM (SELECT seq, row_number() OVER"
                               " (PARTITION BY ticker, exchange_ts, side, price, delta ORDER BY seq) - 1 AS o FROM"
                               " stage.orderbook_deltas) x WHERE d.seq = x.seq");
    release_all(s.w, "orderbook_deltas");
    wait_error(s.w, 2, "without knowing the key");
    world_wait_state(s.w, 2, TM_PEER_STOPPED);
    int64_t expected = staged(s.w, 0, "orderbook_deltas") + staged(s.w, 1, "orderbook_deltas");
    db_wait(s.w->production, "SELECT sum(seq) FROM tidemill.cursors WHERE gatherer <> 'g3'", expected, WAIT_US);
    char sql[256];
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM orderbook_deltas WHERE exchange_ts >= %s AND occurrence > 2",
                   s.moment);
    assert_int_equal(db_int(s.w->production, sql), 0);
    (void)snprintf(
        sql, sizeof sql,
        "SELECT count(*) FROM orderbook_deltas WHERE exchange_ts >= %s AND received_at - exchange_ts = '3 ms'",
        s.moment);
    assert_int_equal(db_int(s.w->production, sql), 0);
    scene_fini(&s);
}

static void wait_production_error(struct world *w, const char *words)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (!strstr(tm_deduplicator_stats(w->d).last_error, words))
        if (!keep_waiting(until_us))
            fail_msg("waited for \"%s\", got \"%s\"", words, tm_deduplicator_stats(w->d).last_error);
}

/* A deduplicator whose script lacks a key that production has stops, says so, and goes on when it is declared. */
static void a_deduplicator_with_an_old_script_stops(void **state)
{
    struct scene s;
    struct world *w = *state;
    scene_init(&s, w);
    stage_by_both_keys(&s);
    start_with(&s, plan);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", older(&s, g));
    wait_merged(w);
    /* another process brings the key to production while this one works */
    struct tm_error err;
    struct tm_pg *pg = engine_open(w->production_info);
    if (tm_migrate_production(pg, s.next, &err))
        fail_msg("%s", err.message);
    tm_pg_close(pg);
    for (int g = 0; g < GATHERERS; g++) {
        gatherer_learns(&s, g);
        db_exec(w->gatherers[g],
                "DELETE FROM tidemill.keys WHERE isfinite(from_ts)"); /* and hides it from the poller */
    }
    release_all(w, "orderbook_deltas");
    wait_production_error(w, "the key (exchange_ts,ticker,side,price,occurrence) that holds from");
    char sql[256];
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM orderbook_deltas WHERE exchange_ts >= %s", s.moment);
    assert_int_equal(db_int(w->production, sql), 0);
    assert_false(tm_deduplicator_stats(w->d).production_connected);
    for (int g = 0; g < GATHERERS; g++)
        db_execf(w->gatherers[g],
                 "INSERT INTO tidemill.keys VALUES ('orderbook_deltas', %s, "
                 "'exchange_ts,ticker,side,price,occurrence', true)",
                 s.moment);
    deduplicator_learns(&s);
    wait_merged(w);
    assert_by_both_keys(&s);
    scene_fini(&s);
}

/* What a reload is told: nothing, then that something is there, then how far it went. */
static void the_newest_time_is_known(void **state)
{
    struct scene s;
    struct world *w = *state;
    char sql[256];
    scene_init(&s, w);
    stage_by_both_keys(&s);
    start_with(&s, plan);
    assert_true(tm_deduplicator_newest_us(w->d, STREAM_DELTAS) == INT64_MIN);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", older(&s, g));
    wait_merged(w);
    (void)snprintf(sql, sizeof sql,
                   "SELECT (extract(epoch FROM max(exchange_ts)) * 1000000)::int8 FROM orderbook_deltas");
    int64_t newest_us = db_int(w->production, sql), until_us = tm_clock_mono_us() + WAIT_US;
    while (tm_deduplicator_newest_us(w->d, STREAM_DELTAS) != newest_us)
        assert_true(keep_waiting(until_us));
    assert_true(tm_deduplicator_newest_us(w->d, STREAM_TRADES) == INT64_MIN);
    tm_deduplicator_stop(w->d);
    start_with(&s, plan);
    until_us = tm_clock_mono_us() + WAIT_US;
    while (tm_deduplicator_newest_us(w->d, STREAM_DELTAS) != 0) /* a cursor tells that something was taken */
        assert_true(keep_waiting(until_us));
    scene_fini(&s);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_deduplicator_learns_first),
        TEST(two_gatherers_then_the_deduplicator),
        TEST(the_deduplicator_learns_last),
        TEST(the_third_then_the_deduplicator),
        TEST(a_gatherer_that_did_not_learn_waits),
        TEST(a_deduplicator_with_an_old_script_stops),
        TEST(the_newest_time_is_known),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
