/* Series of connections and gatherers: as many as there are, up to the bound, and none of what is gone. */
#include "control/figures.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdio.h>
#include <string.h>

#define S INT64_C(1000000)

static struct tm_metrics *metrics;
static struct tm_figures *figures;
static struct tm_buf page;

static const char *look(void)
{
    tm_buf_clear(&page);
    assert_int_equal(tm_metrics_render(metrics, &page), TM_OK);
    return tm_buf_cstr(&page);
}

static size_t count(const char *what)
{
    size_t found = 0;
    for (const char *at = look(); (at = strstr(at, what)); at++)
        found++;
    return found;
}

static void begin(bool is_gatherer)
{
    metrics = tm_metrics_create();
    figures = tm_figures_create(metrics, is_gatherer, "g1", "1.2.3");
}

static void end(void)
{
    tm_figures_destroy(figures);
    tm_metrics_destroy(metrics);
    tm_buf_fini(&page);
}

static void see_links(const char *const *names, size_t count_of)
{
    static struct tm_watch_link links[1000];
    struct tm_gatherer_stats stats = {.last_durable_age_us = 200 * 1000, .last_message_age_us = S};
    struct tm_watch_snapshot s = {.now_us = 50 * S,
                                  .links = links,
                                  .link_count = count_of,
                                  .disk_known = true,
                                  .disk_free_bytes = 4096,
                                  .journal_bytes = 7,
                                  .journal_bytes_max = 70};
    for (size_t i = 0; i < count_of; i++)
        links[i] =
            (struct tm_watch_link){.name = names[i], .up = i % 2 == 0, .messages = 10 + i, .last_message_us = 1000 * S};
    tm_figures_gatherer(figures, &s, &stats);
}

static void test_links(void **state)
{
    (void)state;
    begin(true);
    assert_non_null(strstr(look(), "tidemill_info{id=\"g1\",role=\"gatherer\",version=\"1.2.3\"} 1\n"));
    static const char *const two[] = {"trade/1", "a \"quoted\" name"}, *const one[] = {"a \"quoted\" name"};
    see_links(two, 2);
    look();
    assert_non_null(strstr(look(), "ws_connection_up{connection=\"trade/1\"} 1\n"));
    assert_non_null(strstr(look(), "ws_connection_up{connection=\"a \\\"quoted\\\" name\"} 0\n"));
    assert_non_null(strstr(look(), "ws_connection_messages_total{connection=\"trade/1\"} 10\n"));
    assert_non_null(strstr(look(), "ws_connection_last_message_timestamp_seconds{connection=\"trade/1\"} 1000\n"));
    assert_non_null(strstr(look(), "tidemill_last_durable_age_seconds 0.2\n"));
    assert_non_null(strstr(look(), "tidemill_journal_bytes_max 70\n"));
    assert_non_null(strstr(look(), "tidemill_disk_free_bytes 4096\n"));
    assert_non_null(strstr(look(), "tidemill_disk_left_seconds +Inf\n"));
    see_links(one, 1); /* the other one is closed */
    assert_null(strstr(look(), "trade/1"));
    assert_non_null(strstr(look(), "ws_connection_up{connection=\"a \\\"quoted\\\" name\"} 1\n"));
    see_links(two, 2); /* and open again */
    assert_int_equal(count("connection=\"trade/1\""), 3);
    end();
}

static void test_bound(void **state)
{
    (void)state;
    static char texts[1000][16];
    static const char *names[1000];
    begin(true);
    for (size_t i = 0; i < 1000; i++) {
        (void)snprintf(texts[i], sizeof texts[i], "link/%zu", i);
        names[i] = texts[i];
    }
    see_links(names, 1000);
    assert_int_equal(count("ws_connection_up{"), TM_FIGURES_LINKS);
    assert_non_null(strstr(look(), "tidemill_metrics_dropped_series_total 0\n"));
    end();
}

static void test_gatherers(void **state)
{
    (void)state;
    static const struct tm_watch_peer two[2];
    struct tm_deduplicator_gatherer_stats peers[] = {
        {.id = "g1", .written = 70, .duplicate = 30, .quarantined = 1, .lag_us = 2 * S, .last_row_us = 900 * S},
        {.id = "g2", .written = 5, .duplicate = 95}};
    struct tm_deduplicator_stats stats = {.last_commit_us = 47 * S};
    struct tm_watch_snapshot s = {.now_us = 50 * S, .peers = two, .peer_count = 2};
    begin(false);
    tm_figures_deduplicator(figures, &s, &stats, peers);
    assert_non_null(strstr(look(), "dedup_gatherer_rows_total{gatherer=\"g1\",result=\"first\"} 70\n"));
    assert_non_null(strstr(look(), "dedup_gatherer_rows_total{gatherer=\"g1\",result=\"duplicate\"} 30\n"));
    assert_non_null(strstr(look(), "dedup_gatherer_rows_total{gatherer=\"g2\",result=\"duplicate\"} 95\n"));
    assert_non_null(strstr(look(), "dedup_gatherer_lag_seconds{gatherer=\"g1\"} 2\n"));
    assert_non_null(strstr(look(), "dedup_last_commit_age_seconds 3\n"));
    s.peer_count = 1;
    tm_figures_deduplicator(figures, &s, &stats, peers);
    assert_null(strstr(look(), "gatherer=\"g2\""));
    end();
}

static void test_clock(void **state)
{
    (void)state;
    begin(true);
    tm_figures_clock(figures, 10 * S, 1000 * S);
    tm_figures_clock(figures, 11 * S, 1001 * S);
    assert_non_null(strstr(look(), "tidemill_clock_steps_total 0\n"));
    tm_figures_clock(figures, 12 * S, 702 * S);
    assert_non_null(strstr(look(), "tidemill_clock_steps_total 1\n"));
    assert_non_null(strstr(look(), "tidemill_clock_step_seconds -300\n"));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_links), cmocka_unit_test(test_bound),
                                       cmocka_unit_test(test_gatherers), cmocka_unit_test(test_clock)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
