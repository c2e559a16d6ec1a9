/* Who writes a shard: the lease by itself, and two deduplicators that share one production (store/lease.h). */
#include "world.h"

#include "store/lease.h"

#define LEASE_US (1 * TM_US_PER_S)

static void make_lease(struct tm_lease *l, const char *holder)
{
    *l = (struct tm_lease){.length_us = LEASE_US};
    (void)snprintf(l->holder, sizeof l->holder, "%s", holder);
}

static struct tm_lease_found take(struct tm_lease *l, struct tm_pg *pg)
{
    struct tm_error err;
    struct tm_lease_found found;
    if (tm_lease_take(l, pg, &found, &err))
        fail_msg("%s", err.message);
    return found;
}

static bool renew(const struct tm_lease *l, struct tm_pg *pg)
{
    struct tm_error err;
    bool held;
    assert_int_equal(tm_lease_renew(l, pg, &held, &err), TM_OK);
    return held;
}

/* TM_OK, or why a transaction under the lease is refused; it stays open when it is not. */
static int guard(const struct tm_lease *l, struct tm_pg *pg)
{
    struct tm_error err;
    struct tm_buf sql = {0};
    assert_int_equal(tm_buf_printf(&sql, "BEGIN; "), TM_OK);
    assert_int_equal(tm_lease_guard(l, &sql), TM_OK);
    int rc = tm_pg_exec(pg, tm_buf_cstr(&sql), &err);
    tm_buf_fini(&sql);
    if (rc)
        assert_string_equal(tm_pg_sqlstate(pg), TM_LEASE_LOST);
    return rc;
}

static void end(struct tm_pg *pg)
{
    struct tm_error err;
    assert_int_equal(tm_pg_exec(pg, "ROLLBACK", &err), TM_OK);
}

static void expire(struct world *w)
{
    db_exec(w->production, "UPDATE tidemill.leases SET expires_at = now() - interval '1 s'");
}

/* Two who may want the lease, each with a session of its own. */
struct rivals {
    struct tm_pg *a, *b;
    struct tm_lease first, second;
};

static struct rivals rivals_of(struct world *w)
{
    struct rivals r = {.a = engine_open(w->production_info), .b = engine_open(w->production_info)};
    make_lease(&r.first, "d1");
    make_lease(&r.second, "d2");
    return r;
}

static void rivals_end(struct rivals *r)
{
    tm_pg_close(r->a);
    tm_pg_close(r->b);
}

/* ---- the lease ---- */

static void one_of_two_has_it(void **state)
{
    struct world *w = *state;
    struct rivals r = rivals_of(w);
    struct tm_lease_found found = take(&r.first, r.a);
    assert_true(found.taken && !found.took_over && !found.resumed);
    assert_int_equal(found.generation, 1);
    found = take(&r.second, r.b);
    assert_false(found.taken);
    assert_string_equal(found.other, "d1");
    assert_int_equal(guard(&r.second, r.b), TM_ERETRY);
    end(r.b);
    assert_int_equal(guard(&r.first, r.a), TM_OK);
    end(r.a);
    assert_int_equal(db_int(w->production, "SELECT (expires_at - clock_timestamp() BETWEEN interval '0' AND interval"
                                           " '1 s')::int FROM tidemill.leases"),
                     1);
    rivals_end(&r);
}

/* Given back: the next look has it. Renewing and giving back what is not ours does nothing. */
static void it_is_given_back(void **state)
{
    struct world *w = *state;
    struct tm_error err;
    struct rivals r = rivals_of(w);
    assert_true(take(&r.first, r.a).taken);
    assert_int_equal(tm_lease_release(&r.first, r.a, &err), TM_OK);
    assert_false(renew(&r.first, r.a));
    struct tm_lease_found found = take(&r.second, r.b);
    assert_true(found.taken && !found.took_over);
    assert_int_equal(tm_lease_release(&r.first, r.a, &err), TM_OK);
    assert_true(renew(&r.second, r.b));
    rivals_end(&r);
}

/* Renewed, it outlasts its length; not renewed, it goes to whoever asks, by the database's clock. */
static void it_runs_out(void **state)
{
    struct world *w = *state;
    struct rivals r = rivals_of(w);
    assert_true(take(&r.first, r.a).taken);
    int64_t until_us = tm_clock_mono_us() + 2 * LEASE_US;
    while (keep_waiting(until_us)) {
        assert_true(renew(&r.first, r.a));
        assert_false(take(&r.second, r.b).taken);
    }
    until_us = tm_clock_mono_us() + 10 * LEASE_US;
    struct tm_lease_found found;
    int64_t begun_us = tm_clock_mono_us();
    while (!(found = take(&r.second, r.b)).taken)
        assert_true(keep_waiting(until_us));
    assert_true(found.took_over);
    assert_string_equal(found.other, "d1");
    assert_int_equal(found.generation, 2);
    assert_true(tm_clock_mono_us() - begun_us >= LEASE_US - 100 * TM_US_PER_MS);
    rivals_end(&r);
}

/* The keeper's renewal does not wait for a transaction of the merger's, whatever it has locked. */
static void renewing_waits_for_no_transaction(void **state)
{
    struct world *w = *state;
    struct tm_pg *a = engine_open(w->production_info), *keeper = engine_open(w->production_info);
    struct tm_lease lease;
    struct tm_error err;
    make_lease(&lease, "d1");
    assert_true(take(&lease, a).taken);
    assert_int_equal(guard(&lease, a), TM_OK);
    assert_int_equal(tm_pg_exec(keeper, "SET lock_timeout = 500", &err), TM_OK);
    assert_true(renew(&lease, keeper));
    assert_true(renew(&lease, keeper));
    end(a);
    tm_pg_close(a);
    tm_pg_close(keeper);
}

/* A holder stopped in mid-transaction has locks of cursors: its session is ended, so nobody waits for them. */
static void a_holder_that_hangs_in_a_transaction_is_ended(void **state)
{
    struct world *w = *state;
    struct tm_error err;
    struct rivals r = rivals_of(w);
    db_exec(w->production, "INSERT INTO tidemill.cursors (gatherer, epoch, stream, seq, hash) VALUES"
                           " ('g1', '01000000-0000-0000-0000-000000000001', 'trades', 1, 1)");
    assert_true(take(&r.first, r.a).taken);
    assert_int_equal(guard(&r.first, r.a), TM_OK);
    assert_int_equal(tm_pg_exec(r.a, "UPDATE tidemill.cursors SET seq = 2", &err), TM_OK);
    expire(w);
    int64_t until_us = tm_clock_mono_us() + 2 * TM_US_PER_S;
    while (!take(&r.second, r.b).taken)
        assert_true(keep_waiting(until_us));
    assert_int_equal(tm_pg_exec(r.b, "SET lock_timeout = 500; UPDATE tidemill.cursors SET seq = 3 WHERE seq = 1", &err),
                     TM_OK);
    assert_int_equal(db_int(w->production, "SELECT seq FROM tidemill.cursors"), 3);
    assert_int_not_equal(tm_pg_exec(r.a, "COMMIT", &err), TM_OK);
    rivals_end(&r);
}

/* The same process on a new session: it goes on with what it has, and its old session is ended. */
static void it_outlives_a_session(void **state)
{
    struct world *w = *state;
    struct tm_pg *a = engine_open(w->production_info), *again = engine_open(w->production_info);
    struct tm_lease lease;
    struct tm_error err;
    make_lease(&lease, "d1");
    assert_true(take(&lease, a).taken);
    struct tm_lease_found found = take(&lease, again);
    assert_true(found.taken && found.resumed && !found.took_over);
    assert_int_equal(found.generation, 1);
    assert_int_not_equal(tm_pg_exec(a, "SELECT 1", &err), TM_OK);
    assert_int_equal(guard(&lease, again), TM_OK);
    tm_pg_close(a);
    tm_pg_close(again);
}

/* Killed and started again under its name: it need not wait for itself. Another one has to. */
static void a_process_that_was_killed_has_it_at_once(void **state)
{
    struct world *w = *state;
    struct tm_pg *a = engine_open(w->production_info), *b = engine_open(w->production_info);
    struct tm_lease first, again, other;
    make_lease(&first, "d1");
    make_lease(&again, "d1");
    make_lease(&other, "d2");
    first.length_us = 600 * TM_US_PER_S;
    assert_true(take(&first, a).taken);
    assert_false(take(&again, b).taken);
    tm_pg_close(a);
    db_wait(w->production,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND datname ="
            " current_database()",
            1, WAIT_US);
    assert_false(take(&other, b).taken);
    struct tm_lease_found found = take(&again, b);
    assert_true(found.taken && !found.took_over && !found.resumed);
    tm_pg_close(b);
}

/* The session went with the holder: half of the lease is enough to come back. */
static void a_holder_whose_session_is_gone_is_replaced_sooner(void **state)
{
    struct world *w = *state;
    struct rivals r = rivals_of(w);
    r.first.length_us = r.second.length_us = 60 * TM_US_PER_S;
    assert_true(take(&r.first, r.a).taken);
    db_exec(w->production, "UPDATE tidemill.leases SET expires_at = now() + interval '29 s'");
    assert_false(take(&r.second, r.b).taken); /* its session is there */
    tm_pg_close(r.a);
    r.a = NULL;
    db_wait(w->production,
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'test' AND datname ="
            " current_database()",
            1, WAIT_US);
    db_exec(w->production, "UPDATE tidemill.leases SET expires_at = now() + interval '40 s'");
    assert_false(take(&r.second, r.b).taken);
    db_exec(w->production, "UPDATE tidemill.leases SET expires_at = now() + interval '29 s'");
    struct tm_lease_found found = take(&r.second, r.b);
    assert_true(found.taken && found.took_over);
    assert_int_equal(found.overdue_us, 0);
    rivals_end(&r);
}

/* A role that may not end another's session still gets the lease when no transaction is open. */
static void it_is_taken_without_rights_to_end_sessions(void **state)
{
    struct world *w = *state;
    struct tm_error err;
    struct rivals r = rivals_of(w);
    db_exec(w->production,
            "DO $$ BEGIN CREATE ROLE plain; EXCEPTION WHEN duplicate_object THEN END $$;"
            "GRANT ALL ON SCHEMA tidemill TO plain; GRANT ALL ON ALL TABLES IN SCHEMA tidemill TO plain");
    assert_true(take(&r.first, r.a).taken);
    assert_int_equal(tm_pg_exec(r.b, "SET ROLE plain", &err), TM_OK);
    expire(w);
    assert_true(take(&r.second, r.b).taken);
    assert_int_equal(tm_pg_exec(r.a, "SELECT 1", &err), TM_OK);
    assert_int_equal(guard(&r.first, r.a), TM_ERETRY);
    rivals_end(&r);
}

/* ---- two deduplicators ---- */

struct pair {
    struct tm_deduplicator *second;
    struct tm_metrics *metrics;
};

static void start_pair(struct world *w, struct pair *p)
{
    struct tm_error err;
    p->metrics = tm_metrics_create();
    struct tm_deduplicator_options first = world_options(w, "d1", w->metrics),
                                   second = world_options(w, "d2", p->metrics);
    first.lease_us = second.lease_us = LEASE_US;
    first.poll_rows_max = first.batch_rows_max = second.poll_rows_max = second.batch_rows_max = MARK_EVERY;
    world_start_with(w, &first);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (tm_deduplicator_stats(w->d).lease != TM_LEASE_HELD)
        assert_true(keep_waiting(until_us));
    assert_int_equal(tm_deduplicator_start(&second, &p->second, &err), TM_OK);
    while (tm_deduplicator_stats(p->second).lease != TM_LEASE_STANDBY)
        assert_true(keep_waiting(until_us));
}

static void stop_pair(struct pair *p)
{
    tm_deduplicator_stop(p->second);
    tm_metrics_destroy(p->metrics);
}

static void wait_lease(struct tm_deduplicator *d, enum tm_lease_state wanted, int64_t us)
{
    int64_t until_us = tm_clock_mono_us() + us;
    while (tm_deduplicator_stats(d).lease != wanted)
        if (!keep_waiting(until_us))
            fail_msg("the lease is %s, waited for %s", tm_lease_state_name(tm_deduplicator_stats(d).lease),
                     tm_lease_state_name(wanted));
}

static int gauge(struct tm_metrics *m, const char *name)
{
    return (int)tm_metric_get(tm_metrics_gauge(m, name, "", NULL));
}

static void a_standby_is_connected_and_healthy(void **state)
{
    struct world *w = *state;
    struct pair p;
    start_pair(w, &p);
    struct tm_deduplicator_stats s = tm_deduplicator_stats(p.second);
    assert_true(s.production_connected);
    assert_string_equal(s.lease_holder, "d1");
    assert_int_equal(s.lag_us, 0);
    assert_int_equal(gauge(p.metrics, "dedup_standby"), 1);
    assert_int_equal(gauge(p.metrics, "dedup_lease_held"), 0);
    assert_int_equal(gauge(w->metrics, "dedup_lease_held"), 1);
    tm_deduplicator_stop(w->d); /* gives it back */
    w->d = NULL;
    wait_lease(p.second, TM_LEASE_HELD, LEASE_US * 3 / 4);
    assert_int_equal(tm_deduplicator_stats(p.second).takeovers, 0);
    world_start(w);
    wait_lease(w->d, TM_LEASE_STANDBY, WAIT_US);
    world_wait_state(w, 0, TM_PEER_CONNECTED);
    stop_pair(&p);
}

/*
 * The lease goes to another one while the first is at work and its session is whole, as with a role that may end no
 * sessions: the guard of its next transaction refuses it, and it stands by.
 */
static bool somebody_holds(struct world *w, struct pair *p)
{
    return tm_deduplicator_stats(w->d).lease == TM_LEASE_HELD ||
           tm_deduplicator_stats(p->second).lease == TM_LEASE_HELD;
}

/* A third one takes the lease away and is never heard of again: the holder stands by, and then one of the two has it. */
static void a_zombie_is_refused_and_stands_by(void **state)
{
    struct world *w = *state;
    struct pair p;
    stage_all_deltas(w, 12000);
    start_pair(w, &p);
    for (int g = 0; g < GATHERERS; g++)
        world_release(w, g, "orderbook_deltas", 3 * MARK_EVERY);
    wait_merged(w);
    db_exec(w->production, "UPDATE tidemill.leases SET holder = 'd3', token = 'robbed', pid = 0, "
                           "expires_at = clock_timestamp() + interval '3 s'");
    wait_lease(w->d, TM_LEASE_STANDBY, WAIT_US);
    for (int64_t until_us = tm_clock_mono_us() + WAIT_US; !somebody_holds(w, &p);)
        assert_true(keep_waiting(until_us));
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    struct tm_deduplicator_stats first = tm_deduplicator_stats(w->d), second = tm_deduplicator_stats(p.second);
    assert_int_equal(first.takeovers + second.takeovers, 1);
    assert_int_equal(first.conflicts + second.conflicts, 0);
    assert_int_equal(tm_metric_get(tm_metrics_counter(w->metrics, "dedup_lease_lost_total", "", NULL)), 1);
    stop_pair(&p);
}

/* A transaction that lasts longer than the lease keeps it: the keeper renews on a session of its own. */
static void a_slow_transaction_keeps_the_lease(void **state)
{
    struct world *w = *state;
    struct pair p;
    stage_all_deltas(w, 3000);
    db_exec(w->production, "CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(3);"
                           " RETURN NULL; END $$; CREATE TRIGGER slow AFTER INSERT ON orderbook_deltas"
                           " EXECUTE FUNCTION slow()");
    start_pair(w, &p);
    release_all(w, "orderbook_deltas");
    wait_merged(w);
    assert_deltas(w);
    int64_t offered = 0;
    for (int g = 0; g < GATHERERS; g++)
        offered += staged(w, g, "orderbook_deltas");
    assert_accounts(w, "orderbook_deltas", offered, 0);
    assert_int_equal(tm_deduplicator_stats(p.second).takeovers, 0);
    assert_int_equal(tm_deduplicator_stats(p.second).transactions, 0);
    stop_pair(&p);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(one_of_two_has_it),
        TEST(it_is_given_back),
        TEST(it_runs_out),
        TEST(renewing_waits_for_no_transaction),
        TEST(a_holder_that_hangs_in_a_transaction_is_ended),
        TEST(it_outlives_a_session),
        TEST(a_process_that_was_killed_has_it_at_once),
        TEST(a_holder_whose_session_is_gone_is_replaced_sooner),
        TEST(it_is_taken_without_rights_to_end_sessions),
        TEST(a_standby_is_connected_and_healthy),
        TEST(a_zombie_is_refused_and_stands_by),
        TEST(a_slow_transaction_keeps_the_lease),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
