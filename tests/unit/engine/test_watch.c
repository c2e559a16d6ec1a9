/* The watch against sequences of snapshots written by hand: each test says which events it expects, in order. */
#include "engine/watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#define S INT64_C(1000000)
#define WALL (1790000000 * S) /* of monotonic 0 */

struct bench {
    struct tm_watch *watch;
    struct tm_watch_limits limits;
    struct tm_watch_snapshot s;
    struct tm_watch_link links[3];
    struct tm_watch_peer peers[2];
    char told[4096], text[128];
    struct tm_watch_event last;
};

static void on_event(void *arg, const struct tm_watch_event *e)
{
    struct bench *b = arg;
    size_t len = strlen(b->told);
    (void)snprintf(b->told + len, sizeof b->told - len, "%s%s%s%s", len ? " " : "", tm_watch_type_name(e->type),
                   e->name ? ":" : "", e->name ? e->name : "");
    b->last = *e;
    (void)snprintf(b->text, sizeof b->text, "%s", e->text ? e->text : "");
}

static void step(struct bench *b, int64_t after_us)
{
    b->s.now_us += after_us;
    b->s.wall_us = WALL + b->s.now_us;
    tm_watch_step(b->watch, &b->s, &b->limits, on_event, b);
}

/* Snapshots every 200 ms for so long. */
static void steps(struct bench *b, int64_t us)
{
    for (int64_t done = 0; done < us; done += S / 5)
        step(b, S / 5);
}

static void expect(struct bench *b, const char *told)
{
    assert_string_equal(b->told, told);
    b->told[0] = '\0';
}

/* All is well, and has been for a while. */
static struct bench gatherer(int links, int64_t born_us)
{
    static const char *const names[] = {"trade/1", "book/1", "book/2"};
    struct bench b = {.watch = tm_watch_create(0, born_us)};
    b.s.is_gatherer = true;
    b.s.store_connected = true;
    b.s.link_count = (size_t)links;
    b.s.journal_bytes_max = 1000;
    for (int i = 0; i < links; i++)
        b.links[i] = (struct tm_watch_link){.number = i, .name = names[i]};
    return b;
}

static void start(struct bench *b)
{
    b->s.links = b->links;
    step(b, S / 5);
    for (size_t i = 0; i < b->s.link_count; i++) {
        b->links[i].up = true;
        b->links[i].ups = 1;
        b->links[i].messages = 10;
        b->links[i].last_message_us = WALL + S / 5;
    }
    steps(b, 20 * S);
}

static void a_start_is_no_outage(void **state)
{
    (void)state;
    struct bench b = gatherer(2, 0);
    b.s.store_connected = false;
    start(&b); /* the store is away for 20 s, which is longer than the grace */
    expect(&b, "store_down");
    b.s.store_connected = true;
    steps(&b, 2 * S);
    expect(&b, "store_back");
    tm_watch_destroy(b.watch);
    b = gatherer(2, 0);
    start(&b);
    expect(&b, "");
    tm_watch_destroy(b.watch);
}

static void a_connection_goes_and_comes_back(void **state)
{
    (void)state;
    struct bench b = gatherer(2, 0);
    start(&b);
    b.links[0].last_message_us = b.s.wall_us - S / 10; /* the last thing it said */
    int64_t last_us = b.links[0].last_message_us;
    b.links[0].up = false;
    steps(&b, 5 * S);
    expect(&b, "connection_down:trade/1");
    assert_int_equal(b.last.link, 0);
    b.links[0].up = true;
    b.links[0].ups++;
    steps(&b, 3 * S);
    expect(&b, "connection_up:trade/1"); /* it is up and silent: the outage is not over */
    b.links[0].messages++;
    b.links[0].last_message_us = b.s.wall_us;
    int64_t back_us = b.s.wall_us;
    steps(&b, 2 * S);
    expect(&b, "outage_over:trade/1");
    assert_string_equal(b.text, "disconnected");
    assert_true(b.last.from_us <= last_us && b.last.from_us >= last_us - 25 * S);
    assert_true(b.last.to_us >= back_us && b.last.to_us <= back_us + S);
    tm_watch_destroy(b.watch);
}

static void a_blink_between_two_snapshots_is_an_outage_but_no_edge(void **state)
{
    (void)state;
    struct bench b = gatherer(1, 0);
    start(&b);
    b.links[0].ups++;
    b.links[0].messages += 3; /* whether these came before or after nobody knows */
    step(&b, S / 5);
    steps(&b, 3 * S);
    expect(&b, "");
    b.links[0].messages++;
    steps(&b, 2 * S);
    expect(&b, "outage_over:trade/1");
    assert_int_equal(b.last.from_us, WALL + S / 5); /* the last message before */
    tm_watch_destroy(b.watch);
}

static void a_burst_of_gaps_is_one_outage(void **state)
{
    (void)state;
    struct bench b = gatherer(1, 0);
    start(&b);
    b.links[0].last_message_us = b.s.wall_us;
    b.links[0].messages++;
    step(&b, S / 5);
    int64_t good_us = b.links[0].last_message_us;
    for (int i = 0; i < 5; i++) {
        b.links[0].gaps++;
        b.links[0].messages += 2;
        b.links[0].last_message_us = b.s.wall_us;
        step(&b, S / 2);
    }
    expect(&b, "");
    int64_t end_us = b.s.wall_us;
    steps(&b, 2 * S);
    expect(&b, "outage_over:trade/1");
    assert_string_equal(b.text, "gap");
    assert_int_equal(b.last.from_us, good_us);
    assert_int_equal(b.last.to_us, end_us);
    tm_watch_destroy(b.watch);
}

static void all_connections_are_one_event_more(void **state)
{
    (void)state;
    struct bench b = gatherer(3, 0);
    start(&b);
    for (int i = 0; i < 3; i++)
        b.links[i].up = false;
    steps(&b, 3 * S);
    expect(&b, "all_connections_down connection_down:trade/1 connection_down:book/1 connection_down:book/2");
    b.links[1].up = true;
    b.links[1].ups++;
    steps(&b, 2 * S);
    expect(&b, "connections_back connection_up:book/1");
    tm_watch_destroy(b.watch);
}

static void a_flap_is_not_told(void **state)
{
    (void)state;
    struct bench b = gatherer(1, 0);
    start(&b);
    for (int i = 0; i < 20; i++) {
        b.s.store_connected = !b.s.store_connected;
        steps(&b, 3 * S / 5);
    }
    expect(&b, "");
    tm_watch_destroy(b.watch);
}

static void an_earlier_life_is_an_outage(void **state)
{
    (void)state;
    struct bench b = gatherer(1, WALL - 3600 * S);
    start(&b);
    expect(&b, "outage_over:trade/1");
    assert_string_equal(b.text, "start");
    assert_int_equal(b.last.from_us, WALL - 3600 * S);
    /* a connection that is opened an hour later has no earlier life */
    b.s.now_us += 3600 * S;
    b.s.link_count = 2;
    b.links[1] = (struct tm_watch_link){.number = 1, .name = "book/1", .up = true, .ups = 1, .messages = 1};
    step(&b, S / 5);
    b.links[1].messages = 9;
    steps(&b, 5 * S);
    expect(&b, "");
    tm_watch_destroy(b.watch);
}

static void a_number_that_is_given_to_another_link_starts_anew(void **state)
{
    (void)state;
    struct bench b = gatherer(1, 0);
    start(&b);
    b.links[0] = (struct tm_watch_link){.number = 0, .name = "ticker/1", .up = true, .ups = 1, .messages = 2};
    steps(&b, 3 * S);
    expect(&b, "");
    tm_watch_destroy(b.watch);
}

static void the_store_and_its_rebuilding(void **state)
{
    (void)state;
    struct bench b = gatherer(1, 0);
    start(&b);
    b.s.store_connected = false;
    b.s.store_error = "no route";
    int64_t from_us = b.s.wall_us;
    steps(&b, 4 * S);
    expect(&b, "store_down");
    assert_string_equal(b.text, "no route");
    assert_true(b.last.from_us >= from_us && b.last.from_us <= from_us + S / 5);
    b.s.store_connected = true;
    b.s.store_rebuilds = 1;
    steps(&b, 3 * S);
    expect(&b, "store_rebuilt store_back");
    assert_true(b.last.to_us - b.last.from_us >= 4 * S && b.last.to_us - b.last.from_us <= 5 * S);
    tm_watch_destroy(b.watch);
}

static void disks_have_two_limits(void **state)
{
    (void)state;
    struct bench b = gatherer(1, 0);
    b.limits.disk_bytes = 1000;
    b.s.disk_known = true;
    b.s.disk_free_bytes = 1050;
    start(&b);
    expect(&b, "");
    b.s.disk_free_bytes = 999;
    steps(&b, 2 * S);
    expect(&b, "disk_low:disk");
    assert_true(b.last.value == 999 && b.last.limit == 1000);
    b.s.disk_free_bytes = 1050; /* above the limit, but not enough to say that it is fine */
    steps(&b, 5 * S);
    expect(&b, "");
    b.s.disk_free_bytes = 1101;
    b.s.journal_bytes = 801;
    steps(&b, 2 * S);
    expect(&b, "disk_fine:disk disk_low:journal");
    tm_watch_destroy(b.watch);
}

static void unknown_frames_are_a_rate(void **state)
{
    (void)state;
    struct bench b = gatherer(1, 0);
    start(&b);
    b.s.unknown = 9;
    steps(&b, 11 * S);
    expect(&b, "");
    b.s.unknown += 10; /* 60 a minute */
    step(&b, S / 5);
    expect(&b, "unknown_frames");
    for (int i = 0; i < 30; i++) {
        b.s.unknown += 10;
        steps(&b, 10 * S);
    }
    expect(&b, ""); /* it goes on */
    steps(&b, 25 * S);
    b.s.unknown += 10;
    step(&b, S / 5);
    expect(&b, "unknown_frames");
    tm_watch_destroy(b.watch);
}

static void lag_has_levels(void **state)
{
    (void)state;
    struct bench b = gatherer(1, 0);
    start(&b);
    b.s.lag_us = 31 * S;
    step(&b, S / 5);
    expect(&b, "lag");
    assert_int_equal(b.last.level, 1);
    b.s.lag_us = 20 * S;
    step(&b, S / 5);
    b.s.lag_us = 200 * S;
    step(&b, S / 5);
    expect(&b, "");
    b.s.lag_us = 301 * S;
    step(&b, S / 5);
    expect(&b, "lag");
    assert_int_equal(b.last.level, 2);
    b.s.lag_us = 14 * S;
    step(&b, S / 5);
    expect(&b, "lag_over");
    assert_true(b.last.value == 301);
    b.s.lag_us = 400 * S; /* straight to the second level */
    step(&b, S / 5);
    expect(&b, "lag");
    assert_int_equal(b.last.level, 2);
    tm_watch_destroy(b.watch);
}

static void production_and_its_gatherers(void **state)
{
    (void)state;
    struct bench b = {.watch = tm_watch_create(0, 0)};
    b.s.production_identity = "";
    b.s.peers = b.peers;
    b.s.peer_count = 2;
    b.peers[0] = (struct tm_watch_peer){.id = "g1", .connected = true};
    b.peers[1] = (struct tm_watch_peer){.id = "g2", .connected = true};
    b.s.production_connected = true;
    steps(&b, 2 * S);
    b.s.production_identity = "7/00000001";
    steps(&b, 20 * S);
    expect(&b, "");
    b.s.production_connected = false;
    b.peers[1].connected = false;
    steps(&b, 3 * S);
    expect(&b, "production_down gatherer_down:g2");
    b.s.production_connected = true;
    b.s.production_identity = "7/00000002";
    step(&b, S / 5);
    expect(&b, "failover:7/00000002");
    assert_string_equal(b.text, "7/00000001");
    b.peers[1].connected = true;
    steps(&b, 3 * S);
    expect(&b, "production_back gatherer_back:g2");
    tm_watch_destroy(b.watch);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_start_is_no_outage),
        cmocka_unit_test(a_connection_goes_and_comes_back),
        cmocka_unit_test(a_blink_between_two_snapshots_is_an_outage_but_no_edge),
        cmocka_unit_test(a_burst_of_gaps_is_one_outage),
        cmocka_unit_test(all_connections_are_one_event_more),
        cmocka_unit_test(a_flap_is_not_told),
        cmocka_unit_test(an_earlier_life_is_an_outage),
        cmocka_unit_test(a_number_that_is_given_to_another_link_starts_anew),
        cmocka_unit_test(the_store_and_its_rebuilding),
        cmocka_unit_test(disks_have_two_limits),
        cmocka_unit_test(unknown_frames_are_a_rate),
        cmocka_unit_test(lag_has_levels),
        cmocka_unit_test(production_and_its_gatherers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
