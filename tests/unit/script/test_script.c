/* From a file to a configuration: the stock scripts compile, broken ones say all that is wrong and where. */
#include "script/script.h"

#include "net/httpd.h"

#include "record/schema.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#define LIBRARY TM_SOURCE_DIR "/lua"

static struct tm_problems problems;
static struct tm_script *script;
static char dir[64];

static int setup(void **state)
{
    (void)state;
    (void)snprintf(dir, sizeof dir, "/tmp/tm-script-XXXXXX");
    problems = (struct tm_problems){.arena = tm_arena_create()};
    script = NULL;
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[96];
    tm_script_destroy(script);
    tm_arena_destroy(problems.arena);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static int load_file(const char *path)
{
    struct tm_script_options options = {.path = path, .library = LIBRARY, .load_cpu_us = 5000000};
    return tm_script_load(&options, &problems, &script);
}

static const char *path_of(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static const char *write_file(const char *name, const char *text)
{
    const char *path = path_of(name);
    FILE *f = fopen(path, "w");
    assert_non_null(f);
    fputs(text, f);
    fclose(f);
    return path;
}

static int load_text(const char *text)
{
    return load_file(write_file("s.lua", text));
}

static bool has_problem(const char *where, const char *text)
{
    for (size_t i = 0; i < problems.count; i++) {
        const char *at = strrchr(problems.list[i].where, '/');
        if (at && strcmp(at + 1, where) == 0 && strstr(problems.list[i].message, text))
            return true;
    }
    return false;
}

static void assert_problem(const char *where, const char *text)
{
    if (has_problem(where, text))
        return;
    for (size_t i = 0; i < problems.count; i++)
        print_message("%s: %s\n", problems.list[i].where, problems.list[i].message);
    fail_msg("no problem at %s with \"%s\"", where, text);
}

/* ---- stock scripts ---- */

static void test_gatherer_compiles(void **state)
{
    (void)state;
    setenv("TIDEMILL_ID", "g7", 1);
    setenv("KALSHI_WS_URL", "ws://127.0.0.1:1234/x", 1);
    setenv("KALSHI_REST_URL", "http://127.0.0.1:1234/y", 1);
    assert_int_equal(load_file(LIBRARY "/kalshi/gatherer.lua"), TM_OK);
    const struct tm_config *c = tm_script_config(script);
    assert_int_equal(c->role, TM_CONFIG_GATHERER);
    assert_string_equal(c->id, "g7");
    assert_string_equal(c->gatherer.store, "dbname=kalshi_ts");
    assert_string_equal(c->health, "127.0.0.1:8080");
    assert_string_equal(c->metrics, "127.0.0.1:9090");
    assert_null(c->socket);
    assert_int_equal(c->feed_count, 1);
    assert_string_equal(c->feeds[0].ws.url, "ws://127.0.0.1:1234/x");
    assert_int_equal(c->feeds[0].signer, -1);
    assert_int_equal(c->gatherer.reconnect_code_count, 3);
    assert_int_equal(c->gatherer.reconnect_codes[0], 25);
    unsetenv("TIDEMILL_ID");
    unsetenv("KALSHI_WS_URL");
    unsetenv("KALSHI_REST_URL");
}

static void test_deduplicator_compiles(void **state)
{
    (void)state;
    setenv("TIDEMILL_GATHERERS", "g2=host=b dbname=x; g1=host=a password='p=1'", 1);
    setenv("TIDEMILL_ACCEPT_PAST", "3650d", 1);
    setenv("TIDEMILL_ARCHIVE", "s3://bucket/kalshi?region=eu-central-1", 1);
    setenv("TIDEMILL_ARCHIVE_LAG", "90m", 1);
    assert_int_equal(load_file(LIBRARY "/kalshi/deduplicator.lua"), TM_OK);
    const struct tm_config *c = tm_script_config(script);
    assert_int_equal(c->role, TM_CONFIG_DEDUPLICATOR);
    assert_int_equal(c->deduplicator.gatherer_count, 2);
    assert_string_equal(c->deduplicator.gatherers[0].id, "g1");
    assert_string_equal(c->deduplicator.gatherers[0].conninfo, "host=a password='p=1'");
    assert_string_equal(c->deduplicator.gatherers[1].conninfo, "host=b dbname=x");
    assert_true(c->deduplicator.accept_past_us == INT64_C(3650) * 86400 * 1000000);
    assert_non_null(c->deduplicator.plan);
    assert_int_equal(c->deduplicator.retain_count, 2);
    assert_string_equal(c->deduplicator.retain[0].stream, "orderbook_deltas");
    assert_true(c->deduplicator.retain[0].keep_us == INT64_C(90) * 86400 * 1000000);
    assert_string_equal(c->deduplicator.retain[1].stream, "tickers");
    assert_true(c->deduplicator.retain[1].keep_us == INT64_C(30) * 86400 * 1000000);
    assert_true(c->deduplicator.standby_wait_us == 10000000);
    const struct tm_archive_settings *archive = &c->deduplicator.archive;
    assert_string_equal(archive->to, "s3://bucket/kalshi?region=eu-central-1");
    assert_true(archive->lag_us == INT64_C(90) * 60 * 1000000);
    assert_true(archive->wait_us == INT64_C(6) * 3600 * 1000000);
    const struct tm_plan *plan = c->deduplicator.plan;
    assert_true(tm_archive_length_us(archive, tm_plan_stream_by_name(plan, "trades")) == TM_PERIOD_HOUR_US);
    assert_true(tm_archive_length_us(archive, tm_plan_stream_by_name(plan, "orderbook_snapshots")) == TM_PERIOD_DAY_US);
    assert_true(tm_archive_length_us(archive, tm_plan_stream_by_name(plan, "markets")) == 0);
    assert_true(tm_archive_length_us(archive, tm_plan_stream_by_name(plan, "heartbeats")) == 0);
    unsetenv("TIDEMILL_ARCHIVE");
    unsetenv("TIDEMILL_ARCHIVE_LAG");
    unsetenv("TIDEMILL_GATHERERS");
    unsetenv("TIDEMILL_ACCEPT_PAST");
}

/* Both roles read the same definitions: the keys, and so the fingerprints' recipes, are equal. */
static void test_kalshi_streams(void **state)
{
    (void)state;
    static const char *const names[] = {
        "trades", "orderbook_deltas", "orderbook_snapshots", "tickers", "lifecycle", "markets", "events", "series",
        "gaps",   "unknown_frames"};
    assert_int_equal(load_file(LIBRARY "/kalshi/deduplicator.lua"), TM_OK);
    const struct tm_plan *plan = tm_script_config(script)->plan;
    struct tm_buf sql = {0};
    assert_int_equal(tm_schema_production(plan, &sql), TM_OK);
    const char *text = tm_buf_cstr(&sql);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char create[80];
        (void)snprintf(create, sizeof create, "CREATE TABLE IF NOT EXISTS %s", names[i]);
        if (!tm_plan_stream_by_name(plan, names[i]) || !strstr(text, create))
            fail_msg("stream %s", names[i]);
    }
    const struct tm_stream *deltas = tm_plan_stream_by_name(plan, "orderbook_deltas");
    static const char *const key[] = {"exchange_ts", "ticker", "side", "price", "delta", "occurrence"};
    assert_int_equal(deltas->key_count, 6);
    for (size_t i = 0; i < 6; i++)
        assert_string_equal(deltas->columns[deltas->key[i]].name, key[i]);
    assert_true(deltas->window_us == INT64_C(24) * 3600 * 1000000);
    tm_buf_fini(&sql);
}

static void test_dedup_changes_a_stream(void **state)
{
    (void)state;
    assert_int_equal(load_text("local tm = require 'tidemill'\n"
                               "require 'kalshi.streams'\n"
                               "tm.deduplicator { id = 'd', production = 'dbname=x', gatherers = { g = 'dbname=y' } }\n"
                               "tm.dedup('trades', { window = '1h', memory = '64MiB' })\n"
                               "tm.dedup('tickers', { key = { 'ticker', 'exchange_ts' } })\n"),
                     TM_OK);
    const struct tm_plan *plan = tm_script_config(script)->plan;
    assert_true(tm_plan_stream_by_name(plan, "trades")->window_us == INT64_C(3600) * 1000000);
    assert_int_equal(tm_plan_stream_by_name(plan, "trades")->memory_bytes_max, 64 << 20);
    assert_int_equal(tm_plan_stream_by_name(plan, "tickers")->key_count, 2);
}

/* ---- broken scripts ---- */

static void test_all_problems_at_once(void **state)
{
    (void)state;
    assert_int_equal(load_text("local tm = require 'tidemill'\n"                                        /* 1 */
                               "local kalshi = require 'kalshi'\n"                                      /* 2 */
                               "tm.gatherer { id = 'g 1', stor = 'x', data = 'd', health = '8080' }\n"  /* 3 */
                               "local ex = kalshi.exchange { ws_url = 'ws://example.com/x',\n"          /* 4 */
                               "  rest_url = 'ftp://foo', key_id = 'a', key_file = '/nonexistent' }\n"  /* 5 */
                               "ex:subscribe('orderbook_delta', { conections = 3, markets = 'all' })\n" /* 6 */
                               "ex:subscribe('trades')\n"                                               /* 7 */
                               "tm.dedup('tradez', { window = '48 hours' })\n"                          /* 8 */
                               "tm.every('1 minute', function() end)\n"                                 /* 9 */
                               "tm.stream 'x' { columns = { { 'b', 'int5' } }, key = { 'b' } }\n"       /* 10 */
                               "undefined_thing()\n"),                                                  /* 11 */
                     TM_EINVAL);
    assert_problem("s.lua:3", "unknown key \"stor\", did you mean \"store\"?");
    assert_false(has_problem("s.lua:3", "missing key \"store\"")); /* it is there, misspelt */
    assert_problem("s.lua:3", "id: expected an id");
    assert_problem("s.lua:3", "health: expected \"address:port\"");
    assert_problem("s.lua:4", "wss");
    assert_problem("s.lua:4", "ftp://foo");
    assert_problem("s.lua:4", "/nonexistent");
    assert_problem("s.lua:6", "unknown key \"conections\", did you mean \"connections\"?");
    assert_problem("s.lua:7", "did you mean \"trade\"?");
    assert_problem("s.lua:8", "unknown stream, did you mean \"trades\"?");
    assert_problem("s.lua:8", "expected a duration");
    assert_problem("s.lua:9", "expected a duration");
    assert_problem("s.lua:10", "unknown value \"int5\"");
    assert_problem("s.lua:11", "'undefined_thing' is not defined");
}

static void assert_refused(const char *text, const char *where, const char *message)
{
    tm_script_destroy(script);
    problems.count = 0;
    assert_int_equal(load_text(text), TM_EINVAL);
    assert_problem(where, message);
}

static void test_files_that_cannot_run(void **state)
{
    (void)state;
    assert_refused("local x = = 3\n", "s.lua:1", "unexpected symbol near '='");
    assert_refused("\nerror('no')\n", "s.lua:2", "no");
    assert_refused("require 'missing.module'\n", "s.lua:1", "looked for missing.module.lua");
    assert_refused("require '../etc/passwd'\n", "s.lua:1", "expected a module name");
    assert_refused("while true do end\n", "s.lua:1", "budget of CPU time");
    assert_refused("-- nothing\n", "s.lua", "declares no role");
    assert_refused("\x1bLJ\x02", "s.lua", "bytecode");
    assert_refused("local tm = require 'tidemill'\ntm.json.decode('{')\n", "s.lua:2", "JSON: expected");
    assert_refused("local tm = require 'tidemill'\ntm.sleep('1s')\n", "s.lua:2", "run time");
}

static void test_a_library_beside_the_script(void **state)
{
    (void)state;
    (void)write_file("mine.lua", "return { store = 'dbname=mine' }\n");
    assert_int_equal(load_text("#!/usr/bin/env tidemill\nlocal tm = require 'tidemill'\nlocal mine = require 'mine'\n"
                               "tm.gatherer { id = 'g', data = 'd', store = mine.store }\n"
                               "tm.protocol { tag = 'type' }\n"),
                     TM_OK);
    assert_string_equal(tm_script_config(script)->gatherer.store, "dbname=mine");
}

static void test_files_others_can_change_are_refused(void **state)
{
    (void)state;
    const char *path = write_file("open.lua", "-- x\n");
    assert_int_equal(chmod(path, 0666), 0);
    assert_int_equal(load_file(path), TM_EINVAL);
    assert_problem("open.lua", "can be written by everybody");
    tm_script_destroy(script);
    problems.count = 0;
    assert_int_equal(mkfifo(path_of("fifo.lua"), 0600), 0);
    assert_int_equal(load_file(path_of("fifo.lua")), TM_EINVAL);
    assert_problem("fifo.lua", "not a regular file");
}

/* One problem, which says what is wrong and what to do. */
static void refused_for(const char *path, const char *text)
{
    assert_int_equal(load_file(path), TM_EINVAL);
    assert_problem("open.lua", text);
    tm_script_destroy(script);
    script = NULL;
    problems.count = 0;
}

static void test_groups_and_directories(void **state)
{
    (void)state;
    char path[128];
    (void)snprintf(path, sizeof path, "%s", write_file("open.lua", "-- x\n"));
    assert_int_equal(chmod(dir, 0777), 0);
    refused_for(path, "can be written by everybody (mode 0777): chmod go-w");
    assert_int_equal(chmod(dir, 01777), 0); /* as /tmp is */
    refused_for(path, "declares no role");
    assert_int_equal(chmod(dir, 0700), 0);
    if (geteuid() != 0)
        return;
    assert_int_equal(chown(path, 0, 0) || chmod(path, 0664), 0);
    refused_for(path, "declares no role"); /* root's own group */
    assert_int_equal(chown(path, 0, 12345), 0);
    refused_for(path, "can be written by group 12345 (mode 0664): chmod go-w");
    assert_int_equal(chown(path, 12345, 12345), 0);
    refused_for(path, "belongs to user 12345, and root runs it: expected root: chown root ");
    assert_int_equal(chmod(path, 0600), 0);
    refused_for(path, "belongs to user 12345");
    assert_int_equal(chown(path, 0, 0) || chown(dir, 12345, 0), 0);
    refused_for(path, "belongs to user 12345");
    assert_int_equal(chown(dir, 0, 0), 0);
}

static void test_addresses(void **state)
{
    (void)state;
    static const char *const good[] = {"127.0.0.1:0", "[::1]:8080", "127.0.0.1:65535", "0.0.0.0:1"};
    static const char *const bad[] = {"8080",  ":8080", "a:",   "a:65536", "::1:80",
                                      "[::1]", "a:1x",  "a:-1", "",        "localhost:1"};
    struct tm_error err;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++)
        assert_int_equal(tm_httpd_check_address(good[i], &err), TM_OK);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        if (tm_httpd_check_address(bad[i], &err) == TM_OK)
            fail_msg("accepted %s", bad[i]);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* A key from a moment on, with what it does not say as it was. */
static void test_dedup_from_a_moment(void **state)
{
    (void)state;
    assert_int_equal(
        load_text(
            "local tm = require 'tidemill'; require 'kalshi.streams'\n"
            "tm.deduplicator { id = 'd', production = 'dbname=x', gatherers = 'g1=dbname=y', key_margin = '30s' }\n"
            "tm.dedup('orderbook_deltas', { from = '2026-11-26T00:00:00Z',\n"
            "  key = { 'ticker', 'exchange_ts', 'side', 'price' } })\n"
            "tm.dedup('orderbook_deltas', { from = '2026-11-26T12:00:00Z', occurrence = false })"),
        TM_OK);
    const struct tm_stream *deltas =
        tm_plan_stream_by_name(tm_script_config(script)->deduplicator.plan, "orderbook_deltas");
    assert_int_equal(deltas->keys_count, 3);
    assert_true(deltas->keys[1].from_us == INT64_C(1795651200) * 1000000);
    assert_true(deltas->keys[2].from_us == INT64_C(1795694400) * 1000000);
    assert_true(deltas->keys[0].counted && deltas->keys[1].counted && !deltas->keys[2].counted);
    assert_int_equal(deltas->keys[0].column_count, 6);
    assert_int_equal(deltas->keys[1].column_count, 5);
    assert_int_equal(deltas->keys[2].column_count, 4);
    assert_true(tm_script_config(script)->deduplicator.key_margin_us == 30 * INT64_C(1000000));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_gatherer_compiles),
        TEST(test_deduplicator_compiles),
        TEST(test_kalshi_streams),
        TEST(test_dedup_changes_a_stream),
        TEST(test_dedup_from_a_moment),
        TEST(test_all_problems_at_once),
        TEST(test_files_that_cannot_run),
        TEST(test_a_library_beside_the_script),
        TEST(test_files_others_can_change_are_refused),
        TEST(test_groups_and_directories),
        TEST(test_addresses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
