/*
 * What the deduplicator's tests stand on: two clusters (three gatherers' databases in one, production in the other) and
 * the rows of three gatherers that heard the same exchange, each with gaps of its own.
 *
 * Everything is made by SQL, and so is the truth that production is compared with: for a counted key the largest count
 * that any gatherer saw, for the others each key that anybody saw. Nothing of it passes through the code under test.
 *
 * A gatherer's rows wait in schema `stage` until world_release moves them into the stream's table with marks and a
 * notification, as its writer would.
 */
#ifndef TESTS_ENGINE_WORLD_H
#define TESTS_ENGINE_WORLD_H

#include "cluster.h"

#include "../record/kalshi_defs.h"

#include "engine/deduplicator.h"
#include "engine/metrics.h"
#include "store/migrate.h"

#define GATHERERS 3
#define WAIT_US (60 * TM_US_PER_S)
#define MARK_EVERY 1000

static struct cluster production_cluster, gatherer_cluster;
static struct tm_plan *plan;

struct world {
    PGconn *production, *gatherers[GATHERERS];
    char production_info[160], infos[GATHERERS][160], ids[GATHERERS][16];
    struct tm_deduplicator_gatherer options[GATHERERS];
    struct tm_metrics *metrics;
    struct tm_deduplicator *d;
    char base[32]; /* the exchange's first event, UTC */
};

/* ---- databases ---- */

static struct tm_pg *engine_open(const char *conninfo)
{
    struct tm_pg *pg;
    struct tm_error err;
    struct tm_pg_options options = {.conninfo = conninfo, .application_name = "test"};
    if (tm_pg_connect(&options, &pg, &err))
        fail_msg("%s", err.message);
    return pg;
}

static void make_database(const struct cluster *c, const char *name, const char *from, char *info, size_t size)
{
    PGconn *conn = db_open(c, "postgres");
    db_execf(conn, "CREATE DATABASE %s TEMPLATE %s", name, from);
    PQfinish(conn);
    cluster_conninfo(c, name, info, size);
}

/* What a gatherer's writer does at a commit, from the rows in `stage`. */
static const char release_sql[] =
    "CREATE FUNCTION release(s text, e int4, upto int8, step int8) RETURNS void LANGUAGE plpgsql AS $$\n"
    "DECLARE last int8 := coalesce((SELECT seq FROM tidemill.streams WHERE epoch_no = e AND stream = s), 0);\n"
    "BEGIN\n"
    "  IF s = 'markets' THEN\n"
    "    INSERT INTO markets SELECT DISTINCT ON (ticker) * FROM stage.markets WHERE seq > last AND seq <= upto\n"
    "      ORDER BY ticker, seq DESC ON CONFLICT (ticker) DO UPDATE SET status = excluded.status,\n"
    "      received_at = excluded.received_at, seq = excluded.seq, epoch_no = excluded.epoch_no;\n"
    "  ELSE\n"
    "    EXECUTE format('INSERT INTO %I SELECT * FROM stage.%I WHERE epoch_no = $1 AND seq > $2 AND seq <= $3',\n"
    "      s, s) USING e, last, upto;\n"
    "  END IF;\n"
    "  INSERT INTO tidemill.marks SELECT e, s, q, hashint8extended(q, e) FROM (SELECT generate_series(\n"
    "    (last / step + 1) * step, upto, step) UNION SELECT upto) m (q) WHERE q > last;\n"
    "  INSERT INTO tidemill.streams VALUES (e, s, upto, hashint8extended(upto, e)) ON CONFLICT (epoch_no, stream)\n"
    "    DO UPDATE SET seq = excluded.seq, hash = excluded.hash;\n"
    "  NOTIFY tidemill;\n"
    "END $$";

static void make_gatherer_template(void)
{
    char info[160];
    struct tm_error err;
    make_database(&gatherer_cluster, "gatherer", "template0", info, sizeof info);
    struct tm_pg *pg = engine_open(info);
    if (tm_migrate_local(pg, plan, &err))
        fail_msg("%s", err.message);
    tm_pg_close(pg);
    PGconn *conn = db_open(&gatherer_cluster, "gatherer");
    db_exec(conn, "CREATE SCHEMA stage");
    for (size_t i = 0; i < tm_plan_stream_count(plan); i++)
        db_execf(conn, "CREATE TABLE stage.%s (LIKE %s INCLUDING DEFAULTS)", tm_plan_stream(plan, i)->name,
                 tm_plan_stream(plan, i)->name);
    db_exec(conn, release_sql);
    PQfinish(conn);
}

static void make_production_template(void)
{
    char info[160];
    struct tm_error err;
    make_database(&production_cluster, "production", "template0", info, sizeof info);
    struct tm_pg *pg = engine_open(info);
    int64_t now_us = tm_clock_wall_us(), day_us = 24 * HOUR_US;
    if (tm_migrate_production(pg, plan, &err) ||
        tm_migrate_production_days(pg, plan, now_us - 2 * day_us, now_us + 7 * day_us, &err))
        fail_msg("%s", err.message);
    tm_pg_close(pg);
}

/* ---- the clusters and what all tests begin with, once a program ---- */

static int group_setup(void **state)
{
    struct tm_error err;
    (void)state;
    if (tm_plan_compile(&kalshi_plan_def, &plan, &err)) {
        (void)fprintf(stderr, "%s\n", err.message);
        return -1;
    }
    cluster_create(&production_cluster);
    cluster_create(&gatherer_cluster);
    make_production_template();
    make_gatherer_template();
    return 0;
}

static int group_teardown(void **state)
{
    (void)state;
    cluster_destroy(&production_cluster);
    cluster_destroy(&gatherer_cluster);
    tm_plan_put(plan);
    return 0;
}

/* ---- a test's own copy ---- */

static void world_epoch(struct world *w, int g, uint8_t number)
{
    struct tm_error err;
    int32_t epoch_no;
    uint8_t epoch[16] = {(uint8_t)(g + 1), [15] = number};
    struct tm_pg *pg = engine_open(w->infos[g]);
    if (tm_migrate_epoch(pg, plan, epoch, w->ids[g], &epoch_no, &err))
        fail_msg("%s", err.message);
    assert_int_equal(epoch_no, number);
    for (size_t i = 0; i < tm_plan_stream_count(plan); i++)
        if (tm_plan_stream(plan, i)->mode == TM_STREAM_APPEND)
            assert_int_equal(tm_migrate_local_partition(pg, tm_plan_stream(plan, i), epoch_no, 1, &err), 0);
    tm_pg_close(pg);
}

static void make_gatherer(struct world *w, int g, int number)
{
    char name[32];
    (void)snprintf(w->ids[g], sizeof w->ids[g], "g%d", g + 1);
    (void)snprintf(name, sizeof name, "g%d_%d", g + 1, number);
    make_database(&gatherer_cluster, name, "gatherer", w->infos[g], sizeof w->infos[g]);
    w->options[g] = (struct tm_deduplicator_gatherer){.id = w->ids[g], .conninfo = w->infos[g]};
    world_epoch(w, g, 1);
    w->gatherers[g] = db_open(&gatherer_cluster, name);
    db_exec(w->gatherers[g], "SET synchronous_commit = off");
}

/* The exchange's first event, so long before now. */
static void world_base(struct world *w, const char *ago)
{
    char sql[160];
    (void)snprintf(sql, sizeof sql, "SELECT date_trunc('hour', now() AT TIME ZONE 'UTC') - interval '%s'", ago);
    PGresult *r = PQexec(w->production, sql);
    assert_int_equal(PQntuples(r), 1);
    (void)snprintf(w->base, sizeof w->base, "%s+00", PQgetvalue(r, 0, 0));
    PQclear(r);
}

static int setup(void **state)
{
    static int number;
    char name[32];
    struct world *w = calloc(1, sizeof *w);
    assert_non_null(w);
    *state = w;
    cluster_start(&production_cluster);
    cluster_start(&gatherer_cluster);
    (void)snprintf(name, sizeof name, "production_%d", ++number);
    make_database(&production_cluster, name, "production", w->production_info, sizeof w->production_info);
    w->production = db_open(&production_cluster, name);
    for (int g = 0; g < GATHERERS; g++)
        make_gatherer(w, g, number);
    w->metrics = tm_metrics_create();
    world_base(w, "1 hour");
    return 0;
}

static int teardown(void **state)
{
    struct world *w = *state;
    if (w->d)
        tm_deduplicator_stop(w->d);
    PQfinish(w->production);
    for (int g = 0; g < GATHERERS; g++)
        PQfinish(w->gatherers[g]);
    tm_metrics_destroy(w->metrics);
    free(w);
    return 0;
}

/* ---- the deduplicator ---- */

static struct tm_deduplicator_options world_options(struct world *w, const char *id, struct tm_metrics *metrics)
{
    return (struct tm_deduplicator_options){.id = id,
                                            .production = w->production_info,
                                            .gatherers = w->options,
                                            .gatherer_count = GATHERERS,
                                            .plan = plan,
                                            .metrics = metrics,
                                            .poll_us = 50 * TM_US_PER_MS,
                                            .migrate = true};
}

static void world_start_with(struct world *w, const struct tm_deduplicator_options *options)
{
    struct tm_error err;
    if (tm_deduplicator_start(options, &w->d, &err))
        fail_msg("%s", err.message);
}

static void world_start(struct world *w)
{
    struct tm_deduplicator_options options = world_options(w, "d1", w->metrics);
    world_start_with(w, &options);
}

static struct tm_deduplicator_gatherer_stats world_peer(struct world *w, size_t g)
{
    struct tm_deduplicator_gatherer_stats s;
    assert_int_equal(tm_deduplicator_gatherer_stats(w->d, g, &s), TM_OK);
    return s;
}

static void world_wait_state(struct world *w, size_t g, enum tm_peer_state state)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (world_peer(w, g).state != state)
        if (!keep_waiting(until_us))
            fail_msg("gatherer %zu is %s, waited for %s: %s", g, tm_peer_state_name(world_peer(w, g).state),
                     tm_peer_state_name(state), world_peer(w, g).last_error);
}

/* ---- rows ---- */

/*
 * Events 0..n-1 in all databases: three in a row share ticker, time, side and price, and two of these three the delta,
 * so that two thirds of all keys are counted ones. Gatherer g (1..3) misses a block of 500 now and then and single
 * events in between; no block is missed by all.
 */
static void make_events(struct world *w, PGconn *conn, const char *schema, int count)
{
    db_execf(
        conn,
        "CREATE SCHEMA IF NOT EXISTS %s; DROP TABLE IF EXISTS %s.ev; CREATE TABLE %s.ev AS SELECT n,"
        " 'KX' || lpad(((n / 3 * 7919) %% 40)::text, 3, '0') AS ticker,"
        " timestamptz '%s' + (n / 9) * interval '1 millisecond' AS exchange_ts,"
        " CASE WHEN n / 9 %% 2 = 0 THEN 'yes' ELSE 'no' END AS side,"
        " ((n / 27 %% 4 + 1) * 10000)::int4 AS price, (CASE WHEN n %% 3 = 2 THEN -200 ELSE 100 END)::int8 AS delta,"
        " (n / 500) %% 7 <> 1 AND n %% 97 <> 1 AS seen1, (n / 500) %% 7 <> 2 AND n %% 97 <> 2 AS seen2,"
        " (n / 500) %% 7 <> 3 AND n %% 97 <> 3 AS seen3 FROM generate_series(0, %d) n",
        schema, schema, schema, w->base, count - 1);
}

/* The rows as gatherer g (from 0) numbered them; seq starts at 1 under `epoch_no`. */
static void stage_deltas(struct world *w, int g, int count, int epoch_no)
{
    make_events(w, w->gatherers[g], "stage", count);
    db_execf(w->gatherers[g],
             "INSERT INTO stage.orderbook_deltas (ticker, exchange_ts, side, price, delta, occurrence, received_at,"
             " sid, exchange_seq, seq, epoch_no) SELECT ticker, exchange_ts, side, price, delta,"
             " row_number() OVER (PARTITION BY ticker, exchange_ts, side, price, delta ORDER BY n) - 1,"
             " exchange_ts + %d * interval '1 millisecond', 7, n, row_number() OVER (ORDER BY n), %d"
             " FROM stage.ev WHERE seen%d",
             g + 1, epoch_no, g + 1);
}

static void stage_all_deltas(struct world *w, int count)
{
    make_events(w, w->production, "truth", count);
    for (int g = 0; g < GATHERERS; g++)
        stage_deltas(w, g, count, 1);
}

static int64_t staged(struct world *w, int g, const char *stream)
{
    char sql[128];
    (void)snprintf(sql, sizeof sql, "SELECT coalesce(max(seq), 0) FROM stage.%s", stream);
    return db_int(w->gatherers[g], sql);
}

/* Let the deduplicator see the rows up to `upto`. */
static void world_release(struct world *w, int g, const char *stream, int64_t upto)
{
    db_execf(w->gatherers[g], "SELECT release('%s', 1, %lld, %d)", stream, (long long)upto, MARK_EVERY);
}

static void release_all(struct world *w, const char *stream)
{
    for (int g = 0; g < GATHERERS; g++)
        if (staged(w, g, stream))
            world_release(w, g, stream, staged(w, g, stream));
}

/* ---- what must hold ---- */

static int64_t released_rows(struct world *w)
{
    int64_t sum = 0;
    for (int g = 0; g < GATHERERS; g++)
        sum += db_int(w->gatherers[g], "SELECT coalesce(sum(seq), 0) FROM tidemill.streams");
    return sum;
}

/* All that was released has been taken: cursors only move with their rows. */
static void wait_merged(struct world *w)
{
    db_wait(w->production, "SELECT coalesce(sum(seq), 0) FROM tidemill.cursors", released_rows(w), WAIT_US);
}

/* A counted key is there as often as the gatherer that saw it most often saw it. */
static void assert_deltas(struct world *w)
{
    db_same(w->production, "SELECT ticker, exchange_ts, side, price, delta, occurrence FROM orderbook_deltas",
            "SELECT ticker, exchange_ts, side, price, delta, (o - 1)::int2 FROM (SELECT ticker, exchange_ts, side,"
            " price, delta, greatest(count(*) FILTER (WHERE seen1), count(*) FILTER (WHERE seen2),"
            " count(*) FILTER (WHERE seen3)) AS most FROM truth.ev GROUP BY 1, 2, 3, 4, 5) k,"
            " generate_series(1, most) o");
    assert_int_equal(db_int(w->production,
                            "SELECT count(*) FROM orderbook_deltas WHERE received_at - exchange_ts NOT IN"
                            " ('1 ms', '2 ms', '3 ms')"),
                     0);
}

static int64_t counter_of(struct world *w, const char *name, const char *stream)
{
    char labels[96];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", stream);
    return (int64_t)tm_metric_get(tm_metrics_counter(w->metrics, name, "", labels));
}

/* polled = written + duplicate + quarantined, and each is what SQL counts. */
static void assert_accounts(struct world *w, const char *stream, int64_t polled, int64_t quarantined)
{
    char sql[128];
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s", stream);
    int64_t rows = db_int(w->production, sql);
    assert_int_equal(counter_of(w, "tidemill_polled_rows_total", stream), polled);
    assert_int_equal(counter_of(w, "tidemill_written_rows_total", stream), rows);
    assert_int_equal(counter_of(w, "tidemill_quarantined_rows_total", stream), quarantined);
    assert_int_equal(counter_of(w, "tidemill_duplicate_rows_total", stream), polled - rows - quarantined);
}

#endif
