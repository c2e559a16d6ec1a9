/* Links that are declared anew, removed and added while the gatherer runs (feed.h has the exchange). */
#include "feed.h"

static void wait_tries(struct fixture *f, int link, uint64_t tries)
{
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (link_stats(f, link).link.tries < tries || link_stats(f, link).link.state != TM_LINK_UP)
        assert_true(keep_waiting(until_us));
    assert_int_equal(link_stats(f, link).link.tries, tries);
}

static struct tm_auth *make_auth(const char *value)
{
    struct tm_error err;
    struct tm_auth *auth = NULL;
    struct tm_auth_header_def header = {.name = "x-key", .value = value};
    assert_int_equal(tm_auth_create(&(struct tm_auth_def){.headers = &header, .header_count = 1}, &auth, &err), TM_OK);
    return auth;
}

/* The signature goes with the generation of the script that made it, right after the call. */
static void update(struct fixture *f, struct tm_gatherer_link *def, const char *value)
{
    struct tm_auth *auth = value ? make_auth(value) : NULL;
    def->ws.auth = auth;
    assert_int_equal(tm_gatherer_link_update(f->g, f->links[0], def), TM_OK);
    tm_auth_put(auth);
    def->ws.auth = NULL;
}

static void a_link_reconnects_only_for_what_matters(void **state)
{
    struct fixture *f = *state;
    char got[64];
    start(f, &plain);
    wait_tries(f, f->links[0], 1);
    wait_tries(f, f->links[1], 1);
    struct tm_gatherer_link def = link_def(f, "a");
    update(f, &def, "first");
    wait_tries(f, f->links[0], 2);
    assert_string_equal(peer_header(&f->peer->conns[2], "x-key", got, sizeof got), "first");
    def.quiet_us = 600 * S;
    def.ws.silence_us = 20 * S;
    def.ws.ping_idle_us = 7 * S;
    update(f, &def, "first"); /* another object that says the same */
    update(f, &def, "second");
    wait_tries(f, f->links[0], 3);
    assert_string_equal(peer_header(&f->peer->conns[3], "x-key", got, sizeof got), "second");
    char other[80];
    (void)snprintf(other, sizeof other, "%s?other", f->url);
    def.ws.url = other;
    update(f, &def, "second");
    wait_tries(f, f->links[0], 4);
    assert_non_null(strstr(f->peer->conns[4].request, "GET /feed?other "));
    def.ws.url = "http://nowhere";
    assert_int_equal(tm_gatherer_link_update(f->g, f->links[0], &def), TM_EINVAL);
    assert_int_equal(tm_gatherer_link_update(f->g, 7, &def), TM_ENOENT);
    due(200, 0);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (link_stats(f, 0).rows + link_stats(f, 1).rows < 200)
        assert_true(keep_waiting(until_us));
    wait_table(f, "facts", 200);
    assert_int_equal(link_stats(f, f->links[1]).link.tries, 1);
}

/* Quiet is measured anew at once, by the definition of now. */
static void quiet_is_applied_without_reconnect(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    wait_tries(f, f->links[0], 1);
    struct tm_gatherer_link def = link_def(f, "a");
    def.quiet_us = 300 * TM_US_PER_MS;
    update(f, &def, NULL);
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (link_stats(f, f->links[0]).link.tries < 2)
        assert_true(keep_waiting(until_us));
}

static int add_link(struct fixture *f, const char *name, const char *url)
{
    struct tm_gatherer_link def = {.name = name, .ws = {.url = url}};
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    int link;
    while ((link = tm_gatherer_link_add(f->g, &def, &f->err)) == TM_EFULL)
        assert_true(keep_waiting(until_us));
    return link;
}

static void numbers_of_links_are_used_again(void **state)
{
    struct fixture *f = *state;
    int given = 0;
    start(f, &plain);
    for (int round = 0; round < 8; round++) {
        int links[300];
        for (int i = 0; i < 300; i++, given++) {
            links[i] = add_link(f, "x", "ws://127.0.0.1:1/");
            assert_in_range(links[i], 0, 999);
        }
        for (int i = 0; i < 300; i++) {
            struct tm_gatherer_link_stats s;
            tm_gatherer_link_remove(f->g, links[i]);
            assert_int_equal(tm_gatherer_link_stats(f->g, links[i], &s), TM_ENOENT);
            assert_int_equal(tm_gatherer_link_send(f->g, links[i], "x", 1), TM_ENOENT);
        }
    }
    assert_true(given > 2000);
    due(100, 0);
    expect_facts(f);
    expect_same_sockets(f);
}

/* Events of a link that is gone are not taken for those of the link that has its number now. */
static void late_events_are_not_the_new_links(void **state)
{
    struct fixture *f = *state;
    start(f, &plain);
    wait_tries(f, f->links[0], 1);
    int old = add_link(f, "old", "ws://127.0.0.1:1/");
    int64_t until_us = tm_clock_mono_us() + WAIT_US;
    while (link_stats(f, old).link.tries < 1)
        assert_true(keep_waiting(until_us));
    tm_gatherer_link_remove(f->g, old);
    int link = -1;
    while (link != old) { /* others take the numbers above until it is let go of */
        link = add_link(f, "new", f->url);
        assert_true(keep_waiting(until_us));
    }
    wait_tries(f, link, 1);
    for (struct tm_event *e; (e = tm_gatherer_next_event(f->g)); free(e))
        if (e->link == link)
            assert_int_equal(e->type, TM_EVENT_LINK_UP);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(a_link_reconnects_only_for_what_matters),
        TEST(quiet_is_applied_without_reconnect),
        TEST(numbers_of_links_are_used_again),
        TEST(late_events_are_not_the_new_links),
    };
    return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
