/* How many shards production has, changing that, and who is alive to hold them (store/shards.h). */
#include "database.h"
#include "group.h"

#include "store/migrate.h"
#include "store/shards.h"

#define LENGTH_US INT64_C(2000000)
#define SPREAD "{facts,daily}"

static int setup_production(void **state)
{
    int rc = setup(state);
    struct fixture *f = *state;
    if (!rc && tm_migrate_production(f->pg, plan, &f->err))
        fail_msg("%s", f->err.message);
    return rc;
}

/* As two shards left them: facts at 50 and 80, the second one has nothing of daily; gaps has no market. */
#define CURSORS                                                                                                        \
    "INSERT INTO tidemill.cursors (gatherer, epoch, stream, shard, seq, hash) SELECT 'g1', "                           \
    "'00000000-0000-0000-0000-000000000001', v.* FROM (VALUES ('facts', 0, 80, 8080), ('facts', 1, 50, 5050), "        \
    "('daily', 0, 7, 707), ('daily', 1, 0, 0), ('gaps', 0, 9, 909)) v"

static void expect_cursors(struct fixture *f, const char *stream, int count, int64_t seq, int64_t hash)
{
    char sql[256];
    (void)snprintf(sql, sizeof sql,
                   "SELECT count(*) FROM tidemill.cursors WHERE stream = '%s' AND seq = %lld AND hash = %lld", stream,
                   (long long)seq, (long long)hash);
    assert_int_equal(db_int(f->db, sql), count);
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM tidemill.cursors WHERE stream = '%s'", stream);
    assert_int_equal(db_int(f->db, sql), count);
}

static void test_the_first_number_is_kept(void **state)
{
    struct fixture *f = *state;
    assert_int_equal(tm_shards_expect(f->pg, 1, &f->err), TM_OK); /* nothing is recorded for one */
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.meta WHERE key = 'shards'"), 0);
    assert_int_equal(tm_shards_expect(f->pg, 4, &f->err), TM_OK);
    assert_int_equal(tm_shards_expect(f->pg, 4, &f->err), TM_OK);
    assert_int_equal(tm_shards_expect(f->pg, 1, &f->err), TM_ESTATE);
    assert_non_null(strstr(f->err.message, "shared in 4 shards and this script says 1"));
    assert_non_null(strstr(f->err.message, "tidemill reshard"));
}

static void test_what_was_merged_by_one_has_one(void **state)
{
    struct fixture *f = *state;
    db_exec(f->db, "INSERT INTO tidemill.cursors (gatherer, epoch, stream, seq, hash) VALUES ('g1', "
                   "'00000000-0000-0000-0000-000000000001', 'facts', 5, 5)");
    assert_int_equal(tm_shards_expect(f->pg, 4, &f->err), TM_ESTATE);
    assert_int_equal(tm_shards_expect(f->pg, 1, &f->err), TM_OK);
}

/* Nothing between the least cursor and the others is passed by. */
static void test_another_number_goes_back_to_the_least(void **state)
{
    struct fixture *f = *state;
    unsigned before;
    assert_int_equal(tm_shards_expect(f->pg, 2, &f->err), TM_OK);
    db_exec(f->db, CURSORS);
    db_exec(f->db, "INSERT INTO tidemill.leases (shard, holder, token) VALUES (0, 'd', 't0'), (1, 'd', 't1')");
    if (tm_shards_change(f->pg, 3, SPREAD, &before, &f->err))
        fail_msg("%s", f->err.message);
    assert_int_equal(before, 2);
    expect_cursors(f, "facts", 3, 50, 5050);
    expect_cursors(f, "daily", 3, 0, 0);
    expect_cursors(f, "gaps", 1, 9, 909);
    assert_int_equal(tm_shards_expect(f->pg, 3, &f->err), TM_OK);
    /* a holder that slept over it is refused */
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.leases WHERE token = '' AND released"), 2);
    assert_int_equal(tm_shards_change(f->pg, 1, SPREAD, &before, &f->err), TM_OK);
    expect_cursors(f, "facts", 1, 50, 5050);
    expect_cursors(f, "gaps", 1, 9, 909);
    assert_int_equal(db_int(f->db, "SELECT count(*) FROM tidemill.leases"), 1);
}

static void test_nothing_changes_under_somebody_at_work(void **state)
{
    struct fixture *f = *state;
    unsigned before;
    db_exec(f->db,
            "INSERT INTO tidemill.leases (shard, holder, token, released, expires_at) VALUES (0, 'd7', 't', false, "
            "now() + interval '1 minute')");
    assert_int_equal(tm_shards_change(f->pg, 3, SPREAD, &before, &f->err), TM_ESTATE);
    assert_non_null(strstr(f->err.message, "found d7"));
    assert_int_equal(tm_shards_expect(f->pg, 1, &f->err), TM_OK); /* and the session goes on */
}

/* ---- who ---- */

static struct tm_shards_view look(struct fixture *f)
{
    static struct tm_member members[8];
    static struct tm_shard_standing shards[3];
    struct tm_shards_view v = {.members = members, .members_max = 8, .shards = shards, .shard_count = 3};
    if (tm_members_look(f->pg, LENGTH_US, &v, &f->err))
        fail_msg("%s", f->err.message);
    return v;
}

#define A "aaaaaaaaaaaaaaaa"
#define B "bbbbbbbbbbbbbbbb"

static void test_members_live_as_long_as_they_say_so(void **state)
{
    struct fixture *f = *state;
    struct tm_pg *other = engine_open(&cluster, f->name);
    assert_int_equal(tm_members_beat(other, B, "d2", LENGTH_US, &f->err), TM_OK);
    assert_int_equal(tm_members_beat(f->pg, A, "d1", LENGTH_US, &f->err), TM_OK);
    struct tm_shards_view v = look(f);
    assert_int_equal(v.member_count, 2);
    assert_string_equal(v.members[0].name, "d1"); /* in the order of ids, everywhere */
    assert_false(v.members[1].ripe);
    db_exec(f->db, "UPDATE tidemill.members SET started_at = now() - interval '3 s' WHERE name = 'd2'");
    v = look(f);
    assert_true(v.members[1].ripe);
    /* silent for too long; it is new again when it wakes up */
    db_exec(f->db, "UPDATE tidemill.members SET expires_at = now() - interval '1 s' WHERE name = 'd2'");
    assert_int_equal(look(f).member_count, 1);
    assert_int_equal(tm_members_beat(other, B, "d2", LENGTH_US, &f->err), TM_OK);
    v = look(f);
    assert_int_equal(v.member_count, 2);
    assert_false(v.members[1].ripe);
    /* killed: its session is gone, half of its time has passed */
    tm_pg_close(other);
    db_exec(f->db, "UPDATE tidemill.members SET expires_at = now() + interval '500 ms' WHERE name = 'd2'");
    db_wait(f->db,
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND backend_type = "
            "'client backend'",
            2, 5000000);
    assert_int_equal(look(f).member_count, 1);
    assert_int_equal(tm_members_leave(f->pg, A, &f->err), TM_OK);
    assert_int_equal(look(f).member_count, 0);
}

static void test_leases_lead_to_their_members(void **state)
{
    struct fixture *f = *state;
    struct tm_lease_found found;
    struct tm_lease lease = {.shard = 1, .holder = "d1", .member = A, .length_us = LENGTH_US};
    assert_int_equal(tm_lease_take(&lease, f->pg, &found, &f->err), TM_OK);
    assert_true(found.taken);
    struct tm_shards_view v = look(f);
    assert_int_equal(v.shards[1].member, -1); /* its member is not alive; but it is held */
    assert_string_equal(v.shards[1].holder, "d1");
    assert_int_equal(tm_members_beat(f->pg, A, "d1", LENGTH_US, &f->err), TM_OK);
    v = look(f);
    assert_int_equal(v.shards[1].member, 0);
    assert_int_equal(v.shards[0].member, -1);
    assert_string_equal(v.shards[0].holder, "");
    assert_int_equal(tm_lease_release(&lease, f->pg, &f->err), TM_OK);
    assert_int_equal(look(f).shards[1].member, -1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_the_first_number_is_kept, setup_production, teardown),
        cmocka_unit_test_setup_teardown(test_what_was_merged_by_one_has_one, setup_production, teardown),
        cmocka_unit_test_setup_teardown(test_another_number_goes_back_to_the_least, setup_production, teardown),
        cmocka_unit_test_setup_teardown(test_nothing_changes_under_somebody_at_work, setup_production, teardown),
        cmocka_unit_test_setup_teardown(test_members_live_as_long_as_they_say_so, setup_production, teardown),
        cmocka_unit_test_setup_teardown(test_leases_lead_to_their_members, setup_production, teardown),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
