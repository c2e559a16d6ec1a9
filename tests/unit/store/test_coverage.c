/*
 * coverage() over ledgers written by hand; what is expected was computed by hand too. Seconds count from a moment a hundred
 * seconds ago. A piece is "+from-to" when whole, "-from-to" when not. What is on the wire takes 0.25 s off each end of
 * wholeness (tidemill.wire), so a claim that ends at 40 is good until 39.75.
 */
#include "database.h"
#include "group.h"

#include "store/coverage.h"

static const struct tm_column_def delta_columns[] = {
    {.name = "ticker", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "n", .type = TM_TYPE_INT4, .not_null = true},
    {.name = "occurrence", .type = TM_TYPE_INT2, .not_null = true},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};
static const char *const delta_key[] = {"ticker", "at", "n", NULL};
static const struct tm_stream_def streams[] = {{.name = "deltas",
                                                COLUMNS(delta_columns),
                                                .key = delta_key,
                                                .occurrence = true,
                                                .ticker_column = "ticker",
                                                .time_column = "at",
                                                .window_us = S},
                                               {.name = "trades",
                                                COLUMNS(delta_columns),
                                                .key = delta_key,
                                                .ticker_column = "ticker",
                                                .time_column = "at",
                                                .window_us = S}};
static const struct tm_plan_def def = {
    .gatherer = "", .protocol = {.tag_path = "type"}, .streams = streams, .stream_count = 2};

/*
 * g(who, epoch, seq, ...) is a row of the ledger, whole(...), hole(...) and so on are shorter ones; proof(...) a heartbeat;
 * has(...) moves a cursor. An epoch is one letter, made a uuid.
 */
static const char helpers[] =
    "CREATE TABLE base AS SELECT date_trunc('second', now()) - interval '100 s' AS at;"
    "CREATE FUNCTION t(s float8) RETURNS timestamptz LANGUAGE sql AS $$ SELECT at + s * interval '1 s' FROM base $$;"
    "CREATE FUNCTION s(at timestamptz) RETURNS text LANGUAGE sql AS $$ SELECT trim_scale(round(extract(epoch FROM $1 - "
    "base.at), 3))::text FROM base $$;"
    "CREATE FUNCTION u(x text) RETURNS uuid LANGUAGE sql AS $$ SELECT md5(x)::uuid $$;"
    "CREATE FUNCTION g(who text, e text, q int, why text, conn text, stream text, ticker text, f float8, e2 float8, "
    "n int DEFAULT NULL, closed text DEFAULT NULL, id text DEFAULT NULL, detail text DEFAULT NULL) RETURNS void LANGUAGE "
    "sql AS $$ INSERT INTO gaps (gap_id, stream, ticker, from_ts, to_ts, reason, connection, first_seq, last_seq, "
    "closed_by, detail, received_at, gatherer, epoch, seq) VALUES (coalesce(u(id), gen_random_uuid()), stream, ticker, "
    "t(f), t(e2), why, conn, n, n, closed, detail, now(), who, u(e), q) $$;"
    "CREATE FUNCTION whole(who text, e text, q int, conn text, ticker text, at float8) RETURNS void LANGUAGE sql AS "
    "$$ SELECT g(who, e, q, 'whole', conn, 'deltas', ticker, at, at) $$;"
    "CREATE FUNCTION proof(who text, e text, q int, until float8, ledger int, own int) RETURNS void LANGUAGE sql AS "
    "$$ INSERT INTO heartbeats (heard_until, seqs, received_at, gatherer, epoch, seq) VALUES (t(until), "
    "json_build_object('gaps', ledger, 'deltas', own, 'trades', own)::jsonb, now(), who, u(e), q) $$;"
    "CREATE FUNCTION has(who text, e text, ledger int, own int) RETURNS void LANGUAGE sql AS $$ "
    "INSERT INTO tidemill.cursors (gatherer, epoch, stream, seq, hash) VALUES (who, u(e), 'gaps', ledger, 0), "
    "(who, u(e), 'deltas', own, 0), (who, u(e), 'trades', own, 0) ON CONFLICT (gatherer, epoch, stream, shard) DO "
    "UPDATE SET seq = excluded.seq $$;"
    "CREATE FUNCTION cover(ticker text, of_stream text) RETURNS text LANGUAGE sql AS $$ SELECT string_agg((CASE WHEN whole "
    "THEN '+' ELSE '-' END) || s(from_ts) || '-' || s(to_ts), ' ' ORDER BY from_ts) FROM coverage(ticker, t(0), t(100), "
    "of_stream) $$;";

static int own_plan_setup(void **state)
{
    struct tm_error err;
    (void)state;
    if (tm_plan_compile(&def, &plan, &err))
        return -1;
    cluster_create(&cluster);
    return 0;
}

static int setup_ledger(void **state)
{
    int rc = setup(state);
    struct fixture *f = *state;
    if (!rc && tm_migrate_production(f->pg, plan, &f->err))
        fail_msg("%s", f->err.message);
    must(f->pg, helpers);
    return rc;
}

static void expect(struct fixture *f, const char *sql, const char *wanted)
{
    PGresult *r = PQexec(f->db, sql);
    if (PQresultStatus(r) != PGRES_TUPLES_OK)
        fail_msg("%s: %s", sql, PQresultErrorMessage(r));
    assert_string_equal(PQgetvalue(r, 0, 0), wanted);
    PQclear(r);
}

static void expect_cover(struct fixture *f, const char *ticker, const char *wanted)
{
    char sql[128];
    (void)snprintf(sql, sizeof sql, "SELECT cover('%s', 'deltas')", ticker);
    expect(f, sql, wanted);
}

static void test_silence_is_not_wholeness(void **state)
{
    struct fixture *f = *state;
    expect_cover(f, "A", "-0-100");
    expect(f, "SELECT bool_or(whole)::text FROM coverage('A', t(0), t(100))", "false");
    must(f->pg, "SELECT whole('g1', 'x', 1, 'd/1', 'A', 10)"); /* a claim, but nobody said that he lives */
    must(f->pg, "SELECT has('g1', 'x', 9, 900)");
    expect_cover(f, "A", "-0-100");
    must(f->pg, "SELECT proof('g1', 'x', 1, 50, 1, 10)");
    expect_cover(f, "A", "-0-10 +10-49.75 -49.75-100"); /* dead since: no row says so */
    expect_cover(f, "B", "-0-100");
    expect(f, "SELECT reasons->>'g1' ~ '^not heard of since 2' FROM coverage('A', t(60), t(70), 'deltas')", "t");
    expect(f, "SELECT reasons->>'g1' FROM coverage('B', t(20), t(30), 'deltas')", "never subscribed");
}

static void test_what_has_not_arrived_does_not_count(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "SELECT whole('g1', 'x', 1, 'd/1', 'A', 10)");
    must(f->pg,
         "SELECT proof('g1', 'x', 1, 30, 1, 80), proof('g1', 'x', 2, 50, 1, 100), proof('g1', 'x', 3, 70, 3, 120)");
    must(f->pg, "SELECT has('g1', 'x', 1, 79)");
    expect_cover(f, "A", "-0-100");
    must(f->pg, "SELECT has('g1', 'x', 1, 99)"); /* the rows up to 100 are on their way */
    expect_cover(f, "A", "-0-10 +10-29.75 -29.75-100");
    must(f->pg, "SELECT has('g1', 'x', 2, 500)"); /* all rows, but a part of the ledger is missing */
    expect_cover(f, "A", "-0-10 +10-49.75 -49.75-100");
    must(f->pg, "SELECT has('g1', 'x', 3, 500)");
    expect_cover(f, "A", "-0-10 +10-69.75 -69.75-100");
}

static void test_gatherers_stand_in_for_each_other(void **state)
{
    struct fixture *f = *state;
    must(f->pg,
         "SELECT whole('g1', 'x', 1, 'd/1', 'A', 10), g('g1', 'x', 2, 'disconnected', 'd/1', NULL, NULL, 40, NULL),"
         " proof('g1', 'x', 1, 90, 2, 10), has('g1', 'x', 2, 10)");
    must(f->pg, "SELECT whole('g2', 'y', 1, 'd/7', 'A', 39), proof('g2', 'y', 1, 80, 1, 5), has('g2', 'y', 1, 5)");
    expect_cover(f, "A", "-0-10 +10-79.75 -79.75-100");
    expect(f, "SELECT reasons->>'g1' FROM coverage('A', t(85), t(86), 'deltas')", "disconnected");
    must(f->pg, "UPDATE gaps SET to_ts = t(41) WHERE gatherer = 'g2'"); /* it came too late */
    expect_cover(f, "A", "-0-10 +10-39.75 -39.75-41 +41-79.75 -79.75-100");
}

/* T and U are on one connection, V on another; only what happens to its own concerns a market. */
static void test_a_connection_concerns_its_markets(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "SELECT whole('g1', 'x', 1, 'd/1', 'T', 1), whole('g1', 'x', 2, 'd/1', 'U', 2), "
                "whole('g1', 'x', 3, 'd/2', 'V', 3), g('g1', 'x', 4, 'unsubscribed', 'd/1', NULL, 'U', 50, NULL), "
                "g('g1', 'x', 5, 'disconnected', 'd/2', NULL, NULL, 20, NULL, NULL, NULL, 'gap'), "
                "g('g1', 'x', 6, 'disconnected', 'd/2', NULL, NULL, 20, 30, NULL, 'data', 'gap'), "
                "whole('g1', 'x', 7, 'd/2', 'V', 31)");
    must(f->pg, "SELECT proof('g1', 'x', 1, 101, 7, 10), has('g1', 'x', 7, 10)");
    expect_cover(f, "T", "-0-1 +1-100");
    expect_cover(f, "U", "-0-2 +2-49.75 -49.75-100");
    expect_cover(f, "V", "-0-3 +3-19.75 -19.75-31 +31-100"); /* not from the first data on: from its own snapshot on */
    must(f->pg, "SELECT whole('g1', 'x', 8, 'd/2', 'U', 49)"); /* it moved, and the other had it before */
    expect_cover(f, "U", "-0-2 +2-100");
}

static void test_holes(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "SELECT whole('g1', 'x', 1, 'd/1', 'A', 0), whole('g1', 'x', 2, 'd/2', 'B', 0), "
                "g('g1', 'x', 3, 'sequence', 'd/1', NULL, NULL, 20, 21, 7, NULL, 'lost'), "
                "g('g1', 'x', 4, 'sequence', 'd/1', NULL, NULL, 40, 41, 9, NULL, 'late'), "
                "g('g1', 'x', 5, 'sequence', 'd/1', NULL, NULL, 40, 43, 9, 'late frames', 'late'), "
                "g('g1', 'x', 6, 'journal full', NULL, NULL, NULL, 60, 65, NULL, 'journal has room')");
    must(f->pg, "SELECT proof('g1', 'x', 1, 101, 6, 10), has('g1', 'x', 6, 10)");
    expect_cover(f, "A", "+0-19.75 -19.75-21 +21-59.75 -59.75-65 +65-100");
    expect_cover(f, "B", "+0-59.75 -59.75-65 +65-100");
    expect(f, "SELECT reasons->>'g1' FROM coverage('A', t(20), t(20.5), 'deltas')", "sequence");
    expect(f, "SELECT reasons->>'g1' FROM coverage('A', t(61), t(62), 'deltas')", "journal full");
}

/* What a gatherer had heard and then lost: rows of the stream, rows of another one, rows of the ledger itself. */
static void test_what_the_journal_lost(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "SELECT whole('g1', 'x', 1, 'd/1', 'A', 0), whole('g1', 'x', 2, 'd/1', 'B', 0), "
                "whole('g1', 'x', 9, 'd/1', 'A', 70), proof('g1', 'x', 1, 101, 9, 10), has('g1', 'x', 9, 10)");
    expect_cover(f, "A", "+0-100");
    must(f->pg,
         "INSERT INTO tidemill.absent (gatherer, epoch, stream, first_seq, last_seq, rows, reason, from_ts, to_ts) "
         "SELECT 'g1', epoch, 'deltas', 5, 6, 2, 'missing', t(20), t(21) FROM tidemill.cursors LIMIT 1");
    must(f->pg, "INSERT INTO tidemill.absent (gatherer, epoch, stream, first_seq, last_seq, rows, reason) "
                "SELECT 'g1', epoch, 'deltas', 7, 7, 1, 'dropped' FROM tidemill.cursors LIMIT 1");
    must(f->pg,
         "INSERT INTO tidemill.absent (gatherer, epoch, stream, first_seq, last_seq, rows, reason, from_ts, to_ts) "
         "SELECT 'g1', epoch, 'trades', 5, 6, 2, 'missing', t(30), t(31) FROM tidemill.cursors LIMIT 1");
    expect_cover(f, "A", "+0-19.75 -19.75-21 +21-100");
    expect(f, "SELECT reasons->>'g1' FROM coverage('A', t(20), t(20.5), 'deltas')", "missing");
    must(f->pg,
         "INSERT INTO tidemill.absent (gatherer, epoch, stream, first_seq, last_seq, rows, reason, from_ts, to_ts) "
         "SELECT 'g1', epoch, 'gaps', 3, 8, 6, 'missing', t(40), t(41) FROM tidemill.cursors LIMIT 1");
    expect_cover(f, "A", "+0-19.75 -19.75-21 +21-39.75 -39.75-70 +70-100"); /* claimed anew, after the loss */
    expect_cover(f, "B", "+0-19.75 -19.75-21 +21-39.75 -39.75-100");
    expect(f, "SELECT reasons->>'g1' FROM coverage('B', t(40.2), t(40.5), 'deltas')", "ledger missing");
}

static void test_a_process_that_was_away(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "SELECT whole('g1', 'x', 1, 'd/1', 'A', 5), whole('g1', 'x', 2, 'd/9', 'B', 6), "
                "g('g1', 'x', 3, 'stopped', NULL, NULL, NULL, 20, 28, NULL, 'start'), "
                "g('g1', 'x', 4, 'stopped', 'd/1', NULL, NULL, 20, NULL), whole('g1', 'x', 5, 'd/1', 'A', 30)");
    must(f->pg, "SELECT proof('g1', 'x', 1, 50, 5, 10), has('g1', 'x', 5, 10)");
    expect_cover(f, "B", "-0-6 +6-19.75 -19.75-100"); /* its connection never came back, so it has no row of its own */
    expect_cover(f, "A", "-0-5 +5-19.75 -19.75-30 +30-49.75 -49.75-100");
    /* its journal is gone: another epoch, which knows nothing of the first and does not take anything from it */
    must(f->pg, "SELECT whole('g1', 'z', 1, 'd/1', 'A', 70), proof('g1', 'z', 1, 90, 1, 1), has('g1', 'z', 1, 1)");
    expect_cover(f, "A", "-0-5 +5-19.75 -19.75-30 +30-49.75 -49.75-70 +70-89.75 -89.75-100");
}

/* Half of the stream comes by one channel, half by the other; two connections of one channel are as good as one. */
static void test_a_stream_of_two_channels(void **state)
{
    struct fixture *f = *state;
    must(
        f->pg,
        "SELECT g('g1', 'x', 1, 'whole', 'a/1', 'trades', NULL, 10, 10, NULL, NULL, NULL, 'a'), "
        "g('g1', 'x', 2, 'whole', 'a/2', 'trades', NULL, 12, 12, NULL, NULL, NULL, 'a'), "
        "g('g1', 'x', 3, 'whole', 'b/1', 'trades', NULL, 15, 15, NULL, NULL, NULL, 'b'), "
        "g('g1', 'x', 4, 'quiet', 'a/1', NULL, NULL, 30, NULL), g('g1', 'x', 5, 'quiet', 'b/1', NULL, NULL, 40, NULL)");
    must(f->pg, "SELECT proof('g1', 'x', 1, 101, 5, 10), has('g1', 'x', 5, 10)");
    expect(f, "SELECT cover('any', 'trades')", "-0-15 +15-39.75 -39.75-100");
}

static void test_streams_are_found(void **state)
{
    struct fixture *f = *state;
    must(f->pg,
         "SELECT whole('g1', 'x', 1, 'd/1', 'A', 0), g('g1', 'x', 2, 'whole', 'a/1', 'trades', NULL, 0, 0, NULL, "
         "NULL, NULL, 'a'), proof('g1', 'x', 1, 101, 2, 10), has('g1', 'x', 2, 10)");
    expect(f, "SELECT string_agg(stream || whole, ' ' ORDER BY stream) FROM coverage('A', t(1), t(2))",
           "deltastrue tradestrue");
    expect(f, "SELECT string_agg(stream || whole, ' ' ORDER BY stream) FROM coverage('B', t(1), t(2))",
           "deltasfalse tradestrue");
}

/*
 * g1 misses 20 to 21, g2 20.5 to 21.5: from 20.25 to 21 nobody is whole, and both were about. Of the three keys in there one
 * is known to repeat; that at 20.1 had g2, and that at 70, where g1 alone lives, was heard by one only.
 */
static void test_ambiguous_counts(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "SELECT whole('g1', 'x', 1, 'd/1', 'A', 0), g('g1', 'x', 2, 'sequence', 'd/1', NULL, NULL, 20, 21, 7), "
                "whole('g2', 'y', 1, 'd/1', 'A', 0), g('g2', 'y', 2, 'sequence', 'd/1', NULL, NULL, 20.5, 21.5, 7), "
                "g('g2', 'y', 3, 'quiet', 'd/1', NULL, NULL, 60, NULL), "
                "g('g1', 'x', 3, 'sequence', 'd/1', NULL, NULL, 70, 71, 8)");
    must(f->pg,
         "INSERT INTO deltas SELECT 'A', t(at), n, o, now() FROM (VALUES (20.1, 1, 0), (20.5, 1, 0), (20.5, 1, 1), "
         "(20.5, 2, 0), (20.9, 1, 0), (21.2, 1, 0), (70.5, 1, 0)) v (at, n, o)");
    must(f->pg, "SELECT proof('g1', 'x', 1, 95, 3, 10), has('g1', 'x', 3, 10), proof('g2', 'y', 1, 95, 3, 10), "
                "has('g2', 'y', 3, 10)");
    expect_cover(f, "A", "+0-20.25 -20.25-21 +21-69.75 -69.75-71 +71-94.75 -94.75-100");
    expect(f, "SELECT tidemill.find_ambiguities('deltas', 'at', 'ticker', 'occurrence')", "3");
    expect(f, "SELECT tidemill.find_ambiguities('deltas', 'at', 'ticker', 'occurrence')", "0"); /* said once */
    expect(f, "SELECT keys || ' ' || repeats || ' ' || s(from_ts) || ' ' || s(to_ts) FROM tidemill.ambiguities",
           "3 1 20.25 21");
    expect(f, "SELECT string_agg(ambiguous::text, ' ' ORDER BY from_ts) FROM coverage('A', t(0), t(100), 'deltas')",
           "0 3 0 0 0 0");
}

/*
 * By channels of all markets each gap of one gatherer is covered by the other, but market A was lost by both for a moment
 * (g1 from 20 to 21, g2 from 20.5 to 21.5): only its keys count.
 */
static void test_ambiguous_market(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "SELECT whole('g1', 'x', 1, 'd/1', NULL, 0), g('g1', 'x', 2, 'closed', 'd/1', NULL, 'A', 20, 21), "
                "whole('g1', 'x', 3, 'd/1', 'A', 21), g('g1', 'x', 4, 'sequence', 'd/1', NULL, NULL, 40, 41, 7), "
                "whole('g2', 'y', 1, 'd/1', NULL, 0), g('g2', 'y', 2, 'closed', 'd/1', NULL, 'A', 20.5, 21.5), "
                "whole('g2', 'y', 3, 'd/1', 'A', 21.5), g('g2', 'y', 4, 'sequence', 'd/1', NULL, NULL, 50, 51, 7)");
    must(f->pg, "INSERT INTO deltas SELECT n, t(at), 1, 0, now() FROM (VALUES ('A', 20.7), ('B', 20.7), ('A', 40.5), "
                "('B', 40.5), ('B', 50.5)) v (n, at)");
    must(f->pg, "SELECT proof('g1', 'x', 1, 95, 4, 10), has('g1', 'x', 4, 10), proof('g2', 'y', 1, 95, 4, 10), "
                "has('g2', 'y', 4, 10)");
    expect(f, "SELECT tidemill.find_ambiguities('deltas', 'at', 'ticker', 'occurrence')", "1");
    expect(f,
           "SELECT string_agg(ticker || keys || ' ' || s(from_ts) || ' ' || s(to_ts), ',') FROM tidemill.ambiguities",
           "A1 20.25 21");
}

/* What retention dropped is not there, whoever had all of it. */
static void test_dropped_days(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "SELECT whole('g1', 'x', 1, 'd/1', 'A', 0), proof('g1', 'x', 1, 95, 1, 10), has('g1', 'x', 1, 10)");
    must(
        f->pg,
        "INSERT INTO tidemill.dropped (stream, partition, from_ts, to_ts, rows) VALUES ('deltas', 'p', t(20), t(30), 5), "
        "('other', 'p', t(50), t(60), 5)");
    expect_cover(f, "A", "+0-20 -20-30 +30-94.75 -94.75-100");
    expect(f,
           "SELECT string_agg((reasons ? 'production')::text, ' ' ORDER BY from_ts) FROM coverage('A', t(0), t(100), "
           "'deltas') WHERE NOT whole",
           "true false");
}

static void test_heartbeats_are_pruned(void **state)
{
    struct fixture *f = *state;
    must(f->pg, "SELECT whole('g1', 'x', 1, 'd/1', 'A', 0)");
    must(f->pg,
         "SELECT proof('g1', 'x', n, 10 * n, 1, 10 * n) FROM generate_series(1, 8) n; SELECT has('g1', 'x', 1, 55)");
    expect_cover(f, "A", "+0-49.75 -49.75-100");
    expect(f, "SELECT tidemill.prune_heartbeats()", "4"); /* the fifth is the newest that has arrived */
    expect_cover(f, "A", "+0-49.75 -49.75-100");
    expect(f, "SELECT min(seq) FROM heartbeats", "5");
    must(f->pg, "SELECT has('g1', 'x', 1, 80)");
    expect(f, "SELECT tidemill.prune_heartbeats()", "3");
    expect_cover(f, "A", "+0-79.75 -79.75-100");
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup_ledger, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_silence_is_not_wholeness),
        TEST(test_what_has_not_arrived_does_not_count),
        TEST(test_gatherers_stand_in_for_each_other),
        TEST(test_a_connection_concerns_its_markets),
        TEST(test_holes),
        TEST(test_what_the_journal_lost),
        TEST(test_a_process_that_was_away),
        TEST(test_a_stream_of_two_channels),
        TEST(test_streams_are_found),
        TEST(test_ambiguous_counts),
        TEST(test_ambiguous_market),
        TEST(test_heartbeats_are_pruned),
        TEST(test_dropped_days),
    };
    return cmocka_run_group_tests(tests, own_plan_setup, group_teardown);
}
