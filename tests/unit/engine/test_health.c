/* The truth table of /health (FAILURES F2, T30): what the owner's document prints, and when the answer is 503. */
#include "engine/health.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <jansson.h>
#include <string.h>

#define S INT64_C(1000000)
#define NOW (1000 * S)

enum journal { OK, FULL, EIO_, HANGS };

/* ---- gatherer ---- */

static struct tm_gatherer_stats gatherer(int links_up, bool db, enum journal journal)
{
    struct tm_gatherer_stats s = {.links = 150, .links_up = (size_t)links_up, .rows = 1000};
    s.journal.appended = 1000;
    s.journal.durable = journal == OK ? 1000 : 900;
    s.last_durable_age_us = journal == OK ? S / 5 : journal == HANGS ? 4 * S : S;
    s.discarding = journal == FULL;
    s.journal.stalled = journal == EIO_;
    s.store.connected = db;
    s.store.last_commit_us = NOW - S;
    return s;
}

static json_t *answer_of(int got, int expected, struct tm_buf *text)
{
    json_error_t error;
    json_t *answer = json_loads(tm_buf_cstr(text), 0, &error);
    if (!answer)
        fail_msg("not JSON: %s: %s", error.text, tm_buf_cstr(text));
    if (got != expected)
        fail_msg("%d instead of %d: %s", got, expected, tm_buf_cstr(text));
    return answer;
}

static const char *text_of(const json_t *answer, const char *name)
{
    return json_string_value(json_object_get(answer, name));
}

static void test_gatherer(void **state)
{
    (void)state;
    static const struct {
        int links_up;
        bool db;
        enum journal journal;
        int status;
        const char *health;
    } table[] = {
        {150, true, OK, 200, "healthy"},      {150, true, FULL, 503, "unhealthy"},
        {150, true, EIO_, 503, "unhealthy"},  {150, true, HANGS, 503, "unhealthy"},
        {150, false, OK, 200, "degraded"},    {150, false, FULL, 503, "unhealthy"},
        {150, false, EIO_, 503, "unhealthy"}, {150, false, HANGS, 503, "unhealthy"},
        {0, true, OK, 503, "unhealthy"},      {0, true, FULL, 503, "unhealthy"},
        {0, true, EIO_, 503, "unhealthy"},    {0, false, OK, 503, "unhealthy"},
        {0, false, FULL, 503, "unhealthy"},   {0, false, EIO_, 503, "unhealthy"},
        {149, true, OK, 200, "degraded"},
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tm_buf text = {0};
        struct tm_gatherer_stats s = gatherer(table[i].links_up, table[i].db, table[i].journal);
        int got = tm_health_of_gatherer(&s, NOW, TM_POLICY_RUNNING, &text);
        json_t *answer = answer_of(got, table[i].status, &text);
        assert_string_equal(text_of(answer, "status"), table[i].health);
        assert_int_equal(json_integer_value(json_object_get(answer, "ws_connections")), table[i].links_up);
        assert_string_equal(text_of(answer, "db"), table[i].db ? "connected" : "disconnected");
        assert_int_equal(json_integer_value(json_object_get(answer, "last_durable_age_ms")),
                         s.last_durable_age_us / 1000);
        assert_true((*text_of(answer, "reason") == '\0') == (strcmp(table[i].health, "healthy") == 0));
        json_decref(answer);
        tm_buf_fini(&text);
    }
}

/* As component-failure.md prints it; more may follow. */
static void test_printed(void **state)
{
    (void)state;
    struct tm_buf text = {0};
    struct tm_gatherer_stats s = gatherer(150, true, OK);
    assert_int_equal(tm_health_of_gatherer(&s, NOW, TM_POLICY_RUNNING, &text), 200);
    static const char first[] = "{\"status\":\"healthy\",\"ws_connections\":150,\"db\":\"connected\",";
    assert_memory_equal(tm_buf_cstr(&text), first, sizeof first - 1);
    tm_buf_clear(&text);
    struct tm_deduplicator_gatherer_stats peers[] = {{.id = "g1", .state = TM_PEER_CONNECTED},
                                                     {.id = "g2", .state = TM_PEER_CONNECTED}};
    struct tm_deduplicator_stats d = {.lease = TM_LEASE_HELD, .production_connected = true, .gatherer_count = 2};
    assert_int_equal(tm_health_of_deduplicator(&d, peers, NOW, TM_POLICY_RUNNING, &text), 200);
    static const char second[] =
        "{\"status\":\"healthy\",\"gatherers\":{\"g1\":\"connected\",\"g2\":\"connected\"},\"rds\":\"connected\",";
    assert_memory_equal(tm_buf_cstr(&text), second, sizeof second - 1);
    tm_buf_fini(&text);
}

/* Nothing that waits to be written, and nothing written either: the thread that hears hangs, and it does not matter why. */
static void test_age_alone(void **state)
{
    (void)state;
    static const struct {
        int64_t age_us;
        int status;
    } table[] = {{0, 200}, {2900 * 1000, 200}, {3100 * 1000, 503}, {3600 * S, 503}};
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tm_buf text = {0};
        struct tm_gatherer_stats s = gatherer(150, true, OK);
        s.last_durable_age_us = table[i].age_us;
        json_decref(answer_of(tm_health_of_gatherer(&s, NOW, TM_POLICY_RUNNING, &text), table[i].status, &text));
        tm_buf_fini(&text);
    }
}

static void test_store_takes_nothing(void **state)
{
    (void)state;
    struct tm_buf text = {0};
    struct tm_gatherer_stats s = gatherer(150, true, OK);
    s.store.journal_lag_bytes = 1;
    s.store.last_commit_us = NOW - 61 * S;
    json_t *answer = answer_of(tm_health_of_gatherer(&s, NOW, TM_POLICY_RUNNING, &text), 200, &text);
    assert_string_equal(text_of(answer, "status"), "degraded");
    json_decref(answer);
    tm_buf_fini(&text);
}

/* ---- deduplicator ---- */

static void test_deduplicator(void **state)
{
    (void)state;
    enum { UP = TM_PEER_CONNECTED, DOWN = TM_PEER_DOWN, HOLE = TM_PEER_STOPPED };
    static const struct {
        bool production;
        enum tm_lease_state lease;
        int peers[3];
        int lag_s, commit_s;
        int status;
        const char *health;
    } table[] = {
        {true, TM_LEASE_HELD, {UP, UP, UP}, 0, 0, 200, "healthy"},
        {true, TM_LEASE_HELD, {UP, DOWN, UP}, 0, 0, 200, "degraded"},
        {true, TM_LEASE_HELD, {UP, HOLE, UP}, 0, 0, 200, "degraded"},
        {true, TM_LEASE_HELD, {UP, DOWN, DOWN}, 0, 0, 200, "degraded"},
        {true, TM_LEASE_HELD, {DOWN, DOWN, HOLE}, 0, 0, 503, "unhealthy"},
        {false, TM_LEASE_NONE, {UP, UP, UP}, 0, 0, 503, "unhealthy"},
        {false, TM_LEASE_NONE, {DOWN, DOWN, DOWN}, 0, 0, 503, "unhealthy"},
        {true, TM_LEASE_STANDBY, {UP, UP, UP}, 0, 900, 200, "healthy"},
        {true, TM_LEASE_HELD, {UP, UP, UP}, 59, 59, 200, "healthy"},
        {true, TM_LEASE_HELD, {UP, UP, UP}, 61, 1, 200, "degraded"},   /* it works a backlog off */
        {true, TM_LEASE_HELD, {UP, UP, UP}, 61, 61, 503, "unhealthy"}, /* it does not */
        {true, TM_LEASE_HELD, {UP, UP, UP}, 0, 900, 200, "healthy"},   /* there is nothing to do */
    };
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        struct tm_buf text = {0};
        struct tm_deduplicator_gatherer_stats peers[3] = {{.id = "g1"}, {.id = "g2"}, {.id = "g3"}};
        struct tm_deduplicator_stats s = {.lease = table[i].lease,
                                          .production_connected = table[i].production,
                                          .gatherer_count = 3,
                                          .lag_us = table[i].lag_s * S,
                                          .last_commit_us = NOW - table[i].commit_s * S};
        for (size_t k = 0; k < 3; k++)
            peers[k].state = (enum tm_peer_state)table[i].peers[k];
        int got = tm_health_of_deduplicator(&s, peers, NOW, TM_POLICY_RUNNING, &text);
        json_t *answer = answer_of(got, table[i].status, &text);
        assert_string_equal(text_of(answer, "status"), table[i].health);
        assert_string_equal(text_of(answer, "rds"), table[i].production ? "connected" : "disconnected");
        assert_string_equal(text_of(json_object_get(answer, "gatherers"), "g2"),
                            tm_peer_state_name((enum tm_peer_state)table[i].peers[1]));
        json_decref(answer);
        tm_buf_fini(&text);
    }
}

/* After a long absence a backlog is no reason to call it sick at once. */
static void test_deduplicator_begins(void **state)
{
    (void)state;
    for (int s = 59; s <= 61; s += 2) {
        struct tm_buf text = {0};
        struct tm_deduplicator_gatherer_stats peer = {.id = "g1", .state = TM_PEER_CONNECTED};
        struct tm_deduplicator_stats stats = {.lease = TM_LEASE_HELD,
                                              .production_connected = true,
                                              .gatherer_count = 1,
                                              .lag_us = 86400 * S,
                                              .started_us = NOW - s * S};
        int got = tm_health_of_deduplicator(&stats, &peer, NOW, TM_POLICY_RUNNING, &text);
        json_decref(answer_of(got, s < 60 ? 200 : 503, &text));
        tm_buf_fini(&text);
    }
}

/* The feed goes on without policy; and nothing that is worse is hidden by it. */
static void test_policy(void **state)
{
    (void)state;
    for (int up = 0; up < 2; up++) {
        struct tm_buf text = {0};
        struct tm_gatherer_stats s = gatherer(up ? 150 : 0, true, OK);
        json_t *answer = answer_of(tm_health_of_gatherer(&s, NOW, TM_POLICY_STUCK, &text), up ? 200 : 503, &text);
        assert_string_equal(text_of(answer, "status"), up ? "degraded" : "unhealthy");
        assert_string_equal(text_of(answer, "policy"), "stuck");
        json_decref(answer);
        tm_buf_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gatherer),     cmocka_unit_test(test_printed),
        cmocka_unit_test(test_age_alone),    cmocka_unit_test(test_store_takes_nothing),
        cmocka_unit_test(test_deduplicator), cmocka_unit_test(test_deduplicator_begins),
        cmocka_unit_test(test_policy),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
