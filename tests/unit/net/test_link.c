#include "base/log.h"
#include "net/link.h"
#include "peer.h"

#define LINKS 6
#define SECOND_US 900000 /* less what the peer's thread may have been late for the first of two */

struct test {
    struct tm_loop *loop;
    struct tm_ws_context *context;
    struct tm_link_limiter *limiter;
    struct tm_link *link;
    int ups, downs, messages;
    enum tm_ws_why why;
    int status;
    char text[600], last[100];
    int stop_after_ups, stop_on_message, wanted_ups, wanted_downs, wanted_messages;
    enum tm_link_state state_in_up, state_in_down;
};

static void on_up(void *arg)
{
    struct test *t = arg;
    t->ups++;
    t->state_in_up = tm_link_stats(t->link).state;
    if (t->ups == t->stop_after_ups)
        tm_link_stop(t->link);
}

static void on_message(void *arg, const char *bytes, size_t len)
{
    struct test *t = arg;
    t->messages++;
    snprintf(t->last, sizeof t->last, "%.*s", (int)(len < 90 ? len : 90), bytes);
    if (t->stop_on_message)
        tm_link_stop(t->link);
}

static void on_down(void *arg, enum tm_ws_why why, int status, const char *text)
{
    struct test *t = arg;
    t->downs++;
    t->why = why;
    t->status = status;
    t->state_in_down = tm_link_stats(t->link).state;
    snprintf(t->text, sizeof t->text, "%s", text);
}

static const struct tm_link_events events = {on_up, on_message, on_down};

static bool wanted(void *arg)
{
    const struct test *t = arg;
    return t->ups >= t->wanted_ups && t->downs >= t->wanted_downs && t->messages >= t->wanted_messages;
}

static bool is_stopped(void *arg)
{
    return tm_link_stats(((struct test *)arg)->link).state == TM_LINK_STOPPED;
}

static int set_up(void **state)
{
    struct test *t = calloc(1, sizeof *t);
    struct tm_error err;
    t->loop = tm_loop_create();
    t->limiter = tm_link_limiter_create(1000, 1000);
    if (tm_ws_context_create(t->loop, &t->context, &err))
        fail_msg("%s", err.message);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct test *t = *state;
    if (t->link) {
        tm_link_stop(t->link);
        run_until(t->loop, is_stopped, t, 5000);
        tm_link_destroy(t->link);
    }
    tm_ws_context_destroy(t->context);
    tm_link_limiter_destroy(t->limiter);
    tm_loop_destroy(t->loop);
    free(t);
    return 0;
}

static void make_link(struct test *t, int port)
{
    char url[100];
    struct tm_error err;
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/ws", port);
    struct tm_ws_options options = {.url = url, .connect_us = 2000000};
    if (tm_link_create(t->context, t->limiter, &options, &events, t, &t->link, &err))
        fail_msg("%s", err.message);
}

/* ---- backoff and limiter: pure ---- */

static void test_backoff(void **state)
{
    (void)state;
    const int64_t s = TM_US_PER_S;
    static const struct {
        uint32_t tries;
        double random;
        int64_t pause_us;
    } rows[] = {
        {0, 0.0, 0},       {0, 0.5, 500000},   {1, 0.5, 1000000},  {2, 0.5, 2000000},   {3, 0.25, 2000000},
        {4, 0.5, 8000000}, {5, 0.5, 15000000}, {6, 0.5, 15000000}, {31, 0.5, 15000000}, {4000000000u, 0.5, 15000000},
        {5, 0.0, 0},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        assert_int_equal(tm_backoff_us(rows[i].tries, s, 30 * s, rows[i].random), rows[i].pause_us);
    assert_true(tm_backoff_us(9, s, 30 * s, 0.999999) < 30 * s);
    assert_int_equal(tm_backoff_us(7, 5 * s, 3 * s, 0.5), 3 * s / 2); /* the maximum wins over the base */
}

/* Full jitter: every tenth of the range is drawn about equally often. */
static void test_backoff_histogram(void **state)
{
    (void)state;
    int bins[10] = {0};
    uint64_t seed = 1;
    for (int i = 0; i < 100000; i++) {
        seed = seed * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
        int64_t pause = tm_backoff_us(5, TM_US_PER_S, 30 * TM_US_PER_S, (double)(seed >> 11) * 0x1p-53);
        assert_in_range(pause, 0, 30 * TM_US_PER_S - 1);
        bins[pause / (3 * TM_US_PER_S)]++;
    }
    for (int i = 0; i < 10; i++)
        assert_in_range(bins[i], 9500, 10500);
}

static void test_limiter(void **state)
{
    (void)state;
    struct tm_link_limiter *l = tm_link_limiter_create(10, 3);
    int64_t now = 1000000;
    for (int i = 0; i < 3; i++)
        assert_int_equal(tm_link_limiter_reserve(l, now), 0); /* the burst */
    for (int i = 1; i <= 20; i++)
        assert_in_range(tm_link_limiter_reserve(l, now), i * 100000 - 1,
                        i * 100000 + 1); /* then ten a second, in order */
    now += 2000000;
    assert_in_range(tm_link_limiter_reserve(l, now), 99999, 100001); /* all turns given away are used up */
    tm_link_limiter_set_rate(l, 1000);
    assert_in_range(tm_link_limiter_reserve(l, now), 1999, 2001); /* one is owed, one is ours */
    now += 3600 * TM_US_PER_S;
    for (int i = 0; i < 3; i++)
        assert_int_equal(tm_link_limiter_reserve(l, now), 0); /* no more than the burst is saved up */
    assert_true(tm_link_limiter_reserve(l, now) > 0);
    tm_link_limiter_destroy(l);
}

/* ---- opening frames ---- */

static void expect_frame(struct peer_conn *c, const char *text)
{
    char got[200];
    size_t len;
    PEER_CHECK(peer_read_frame(c, got, sizeof got, &len) == 0x81);
    if (strcmp(got, text)) {
        fprintf(stderr, "peer: connection %d got \"%s\", not \"%s\"\n", c->number, got, text);
        abort();
    }
}

static void play_openings(struct peer_conn *c)
{
    PEER_CHECK(peer_upgrade(c));
    expect_frame(c, "one");
    expect_frame(c, c->number ? "TWO again" : "two");
    if (!c->number)
        expect_frame(c, "three");
    expect_frame(c, "last");
    peer_frame(c, 0x81, "thanks", 6);
    if (!c->number)
        peer_hold(c); /* until the test has changed the frames */
    else
        peer_end(c);
}

static void set(struct test *t, uint32_t slot, const char *text)
{
    assert_int_equal(tm_link_set_opening(t->link, slot, text, strlen(text)), TM_OK);
}

static void test_openings(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_openings, NULL, NULL);
    make_link(t, p->port);
    set(t, 999999, "last");
    set(t, 20, "draft");
    set(t, 1, "one");
    set(t, 20, "two");
    set(t, 300, "three");
    set(t, 40, "gone");
    set(t, 40, "");
    set(t, 41, ""); /* never was */
    assert_int_equal(tm_link_set_opening(t->link, 1000000, "x", 1), TM_EINVAL);
    assert_int_equal(tm_link_send(t->link, "x", 1), TM_ESTATE);
    tm_link_start(t->link);
    t->wanted_messages = 1;
    assert_true(run_until(t->loop, wanted, t, PATIENCE_MS));
    set(t, 20, "TWO again");
    set(t, 300, "");
    p->release = true; /* the peer hangs up; all is sent again, as it is now */
    t->wanted_messages = 2;
    assert_true(run_until(t->loop, wanted, t, PATIENCE_MS));
    assert_int_equal(t->ups, 2);
    assert_int_equal(t->downs, 1);
    assert_int_equal(t->why, TM_WS_REMOTE);
    assert_int_equal(t->state_in_up, TM_LINK_UP);
    assert_int_equal(t->state_in_down, TM_LINK_DOWN);
    struct tm_link_stats stats = tm_link_stats(t->link);
    assert_int_equal(stats.state, TM_LINK_UP);
    assert_int_equal(stats.tries, 2);
    assert_int_equal(stats.ups, 2);
    assert_int_equal(stats.messages, 2);
    assert_int_equal(stats.bytes, 12);
    assert_true(stats.last_message_us >= stats.up_since_us - 1000000 && stats.last_byte_us > 0);
    assert_int_equal(tm_link_send(t->link, "more", 4), TM_OK);
    tm_link_stop(t->link);
    assert_true(run_until(t->loop, is_stopped, t, PATIENCE_MS));
    assert_int_equal(t->why, TM_WS_LOCAL);
    assert_int_equal(t->downs, 2);
    peer_stop(p);
}

/* What a new generation of a script asks for again is not sent again. */
static void play_repeated_openings(struct peer_conn *c)
{
    PEER_CHECK(peer_upgrade(c));
    expect_frame(c, "one");
    peer_frame(c, 0x81, "thanks", 6);
    expect_frame(c, "other");
    expect_frame(c, "new");
    expect_frame(c, "one"); /* as bytes it was there, in this slot it is new */
    expect_frame(c, "end");
    peer_frame(c, 0x81, "thanks", 6);
    peer_end(c);
}

static void set_and_send(struct test *t, uint32_t slot, const char *text)
{
    set(t, slot, text);
    assert_int_equal(tm_link_send_opening(t->link, slot), TM_OK);
}

static void test_repeated_openings(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_repeated_openings, NULL, NULL);
    make_link(t, p->port);
    set(t, 1, "one");
    assert_int_equal(tm_link_send_opening(t->link, 1), TM_ESTATE);
    tm_link_start(t->link);
    t->wanted_messages = 1;
    assert_true(run_until(t->loop, wanted, t, PATIENCE_MS));
    set_and_send(t, 1, "one");
    set_and_send(t, 1, "other");
    set_and_send(t, 1, "other");
    set(t, 2, "new"); /* kept without being sent, then asked for */
    set_and_send(t, 2, "new");
    set_and_send(t, 2, "new");
    set_and_send(t, 1, "one");
    set(t, 2, "");
    assert_int_equal(tm_link_send_opening(t->link, 2), TM_ENOENT);
    assert_int_equal(tm_link_send(t->link, "end", 3), TM_OK);
    t->wanted_messages = 2;
    assert_true(run_until(t->loop, wanted, t, PATIENCE_MS));
    tm_link_stop(t->link);
    assert_true(run_until(t->loop, is_stopped, t, PATIENCE_MS));
    peer_stop(p);
}

/* Ten thousand slots, set in a scrambled order, come in order. */
static void play_many_openings(struct peer_conn *c)
{
    char expected[32];
    PEER_CHECK(peer_upgrade(c));
    for (int i = 0; i < 10000; i++) {
        snprintf(expected, sizeof expected, "slot %d", i * 7);
        expect_frame(c, expected);
    }
    peer_frame(c, 0x81, "all", 3);
    peer_end(c);
}

static void test_many_openings(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_many_openings, NULL, NULL);
    char text[32];
    make_link(t, p->port);
    for (int i = 0; i < 10000; i++) {
        int slot = i * 6007 % 10000 * 7;
        snprintf(text, sizeof text, "slot %d", slot);
        set(t, (uint32_t)slot, text);
    }
    tm_link_start(t->link);
    t->wanted_messages = 1;
    assert_true(run_until(t->loop, wanted, t, PATIENCE_MS));
    tm_link_stop(t->link);
    assert_true(run_until(t->loop, is_stopped, t, PATIENCE_MS));
    peer_stop(p);
}

/* ---- coming back ---- */

static void play_refuse_all(struct peer_conn *c)
{
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 401 Unauthorized\r\nContent-Length: 4\r\n\r\nnope");
    peer_end(c);
}

/* However the dice fall: the first try at once, never two within a second, on_down for each. */
static void test_tries_are_spaced(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_refuse_all, NULL, NULL);
    make_link(t, p->port);
    int64_t before = tm_clock_mono_us();
    tm_link_start(t->link);
    t->wanted_downs = 3;
    assert_true(run_until(t->loop, wanted, t, PATIENCE_MS));
    assert_int_equal(t->why, TM_WS_HANDSHAKE);
    assert_int_equal(t->status, 401);
    assert_string_equal(t->text, "nope");
    assert_int_equal(t->ups, 0);
    assert_in_range(p->accepted_us[0] - before, 0, 500000);
    for (int i = 1; i < 3; i++)
        assert_in_range(p->accepted_us[i] - p->accepted_us[i - 1], SECOND_US, 5000000);
    struct tm_link_stats stats = tm_link_stats(t->link);
    assert_int_equal(stats.tries, 3);
    assert_int_equal(stats.state, TM_LINK_DOWN);
    assert_true(stats.next_try_us > tm_clock_mono_us());
    tm_link_stop(t->link);
    assert_int_equal(tm_link_stats(t->link).state, TM_LINK_STOPPED); /* there was nothing to close */
    peer_stop(p);
}

static void play_greet(struct peer_conn *c)
{
    PEER_CHECK(peer_upgrade(c));
    peer_frame(c, 0x81, "hi", 2);
    peer_end(c);
}

static void test_reconnect(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_greet, NULL, NULL);
    make_link(t, p->port);
    tm_link_reconnect(t->link); /* not started: nothing */
    assert_int_equal(tm_link_stats(t->link).tries, 0);
    tm_link_start(t->link);
    tm_link_start(t->link);
    t->wanted_messages = 1;
    assert_true(run_until(t->loop, wanted, t, PATIENCE_MS));
    tm_link_reconnect(t->link);
    assert_int_equal(t->downs, 0); /* not from inside the call */
    t->wanted_messages = 2;
    assert_true(run_until(t->loop, wanted, t, PATIENCE_MS));
    assert_int_equal(t->downs, 1);
    assert_int_equal(t->why, TM_WS_LOCAL);
    assert_in_range(p->accepted_us[1] - p->accepted_us[0], SECOND_US, 4000000); /* the second between tries */
    tm_link_stop(t->link);
    tm_link_reconnect(t->link); /* stopped is for good */
    assert_true(run_until(t->loop, is_stopped, t, PATIENCE_MS));
    assert_false(run_until(t->loop, never, NULL, 50));
    assert_int_equal(p->accepted, 2);
    peer_stop(p);
}

/* ---- stopping ---- */

static void play_hold(struct peer_conn *c)
{
    peer_hold(c);
}

static void test_stop_while_connecting(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_hold, NULL, NULL);
    make_link(t, p->port);
    tm_link_start(t->link);
    assert_false(run_until(t->loop, never, NULL, 50));
    assert_int_equal(tm_link_stats(t->link).state, TM_LINK_CONNECTING);
    tm_link_stop(t->link);
    assert_true(run_until(t->loop, is_stopped, t, 1000));
    assert_int_equal(t->ups, 0);
    assert_int_equal(t->downs, 1);
    assert_int_equal(t->why, TM_WS_LOCAL);
    peer_stop(p);
}

static void test_stop_before_first_turn(void **state)
{
    struct test *t = *state;
    make_link(t, 9);
    tm_link_start(t->link);
    tm_link_stop(t->link);
    assert_int_equal(tm_link_stats(t->link).state, TM_LINK_STOPPED);
    assert_false(run_until(t->loop, never, NULL, 30));
    assert_int_equal(tm_link_stats(t->link).tries, 0);
}

static void test_stop_in_on_up(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_greet, NULL, NULL);
    make_link(t, p->port);
    set(t, 1, "must not be sent");
    t->stop_after_ups = 1;
    tm_link_start(t->link);
    assert_true(run_until(t->loop, is_stopped, t, PATIENCE_MS));
    assert_int_equal(t->messages, 0);
    peer_stop(p);
}

static void test_stop_in_on_message(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_greet, NULL, NULL);
    make_link(t, p->port);
    t->stop_on_message = 1;
    tm_link_start(t->link);
    assert_true(run_until(t->loop, is_stopped, t, PATIENCE_MS));
    assert_int_equal(t->messages, 1);
    assert_int_equal(t->downs, 1);
    peer_stop(p);
}

/* ---- many links ---- */

static bool all_tried(void *arg)
{
    const struct peer *p = arg;
    return p->accepted >= LINKS;
}

static void nothing_down(void *arg, enum tm_ws_why why, int status, const char *text)
{
    (void)arg;
    (void)why;
    (void)status;
    (void)text;
}

static bool all_stopped(void *arg)
{
    struct tm_link **links = arg;
    for (int i = 0; i < LINKS; i++)
        if (tm_link_stats(links[i]).state != TM_LINK_STOPPED)
            return false;
    return true;
}

/* Six links start together under a limiter of ten a second with a burst of two. */
static void test_limiter_across_links(void **state)
{
    static const struct tm_link_events quiet = {.on_down = nothing_down};
    struct test *t = *state;
    struct peer *p = peer_start(play_hold, NULL, NULL);
    struct tm_link_limiter *limiter = tm_link_limiter_create(10, 2);
    struct tm_link *links[LINKS];
    struct tm_error err;
    char url[100];
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/", p->port);
    struct tm_ws_options options = {.url = url};
    for (int i = 0; i < LINKS; i++) {
        assert_int_equal(tm_link_create(t->context, limiter, &options, &quiet, NULL, &links[i], &err), TM_OK);
        tm_link_start(links[i]);
    }
    assert_true(run_until(t->loop, all_tried, p, PATIENCE_MS));
    assert_in_range(p->accepted_us[1] - p->accepted_us[0], 0, 60000);
    for (int i = 2; i < LINKS; i++)
        assert_in_range(p->accepted_us[i] - p->accepted_us[0], (i - 1) * 100000 - 20000, (i - 1) * 100000 + 400000);
    for (int i = 0; i < LINKS; i++)
        tm_link_stop(links[i]);
    assert_true(run_until(t->loop, all_stopped, links, PATIENCE_MS));
    for (int i = 0; i < LINKS; i++)
        tm_link_destroy(links[i]);
    tm_link_limiter_destroy(limiter);
    peer_stop(p);
}

static void test_bad_url(void **state)
{
    struct test *t = *state;
    struct tm_error err;
    struct tm_ws_options options = {.url = "http://localhost/"};
    struct tm_link *link;
    assert_int_equal(tm_link_create(t->context, t->limiter, &options, &events, t, &link, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "expected ws:// or wss://"));
}

static void test_bad_ca_file(void **state)
{
    struct test *t = *state;
    struct tm_error err;
    struct tm_ws_options options = {.url = "wss://localhost/", .ca_file = "/nonexistent/ca.pem"};
    assert_int_equal(tm_link_create(t->context, t->limiter, &options, &events, t, &t->link, &err), TM_OK);
    tm_link_start(t->link);
    t->wanted_downs = 1;
    assert_true(run_until(t->loop, wanted, t, PATIENCE_MS));
    assert_int_equal(t->why, TM_WS_REFUSED);
    assert_non_null(strstr(t->text, "/nonexistent/ca.pem"));
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_backoff),
        cmocka_unit_test(test_backoff_histogram),
        cmocka_unit_test(test_limiter),
        T(test_openings),
        T(test_repeated_openings),
        T(test_many_openings),
        T(test_tries_are_spaced),
        T(test_reconnect),
        T(test_stop_while_connecting),
        T(test_stop_before_first_turn),
        T(test_stop_in_on_up),
        T(test_stop_in_on_message),
        T(test_limiter_across_links),
        T(test_bad_url),
        T(test_bad_ca_file),
    };
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, NULL);
    return cmocka_run_group_tests_name("net/link", tests, NULL, NULL);
}
