/* Tests of policy: files of tests and a script's own, each with an outcome that is known beforehand. */
#include "script/test.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LIBRARY TM_SOURCE_DIR "/lua"
#define RESULTS_MAX 64

static struct {
    char name[200], where[200], message[2000];
    bool passed;
} results[RESULTS_MAX];
static size_t result_count;
static char dir[64];

static int setup(void **state)
{
    (void)state;
    result_count = 0;
    (void)snprintf(dir, sizeof dir, "/tmp/tm-test-XXXXXX");
    return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
    (void)state;
    char command[96];
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

static const char *path_of(const char *name)
{
    static char path[128];
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    return path;
}

static void write_file(const char *name, const char *text)
{
    FILE *f = fopen(path_of(name), "w");
    assert_non_null(f);
    assert_int_equal(fputs(text, f) < 0, 0);
    assert_int_equal(fclose(f), 0);
}

static void keep(void *arg, const struct tm_test_result *r)
{
    (void)arg;
    assert_true(result_count < RESULTS_MAX);
    (void)snprintf(results[result_count].name, sizeof results->name, "%s", r->name);
    (void)snprintf(results[result_count].where, sizeof results->where, "%s", r->where);
    (void)snprintf(results[result_count].message, sizeof results->message, "%s", r->message ? r->message : "");
    results[result_count++].passed = r->message == NULL;
}

static void run_file(const char *name, uint32_t seed, size_t memory)
{
    struct tm_test_options options = {
        .path = path_of(name), .library = LIBRARY, .seed = seed, .memory_bytes_max = memory};
    struct tm_error err;
    result_count = 0;
    assert_int_equal(tm_test_run(&options, keep, NULL, &err), TM_OK);
}

/* The test `name` has the outcome: passed (NULL), or failed at "file:line" with this text. */
static void assert_result(const char *name, const char *where, const char *text)
{
    for (size_t i = 0; i < result_count; i++) {
        if (strcmp(results[i].name, name) != 0)
            continue;
        if (results[i].passed != (text == NULL) || (text && !strstr(results[i].message, text)) ||
            (where && !strstr(results[i].where, where)))
            fail_msg("%s: at %s: \"%s\"", name, results[i].where, results[i].message);
        return;
    }
    fail_msg("there was no test %s", name);
}

static void assert_all_passed(size_t count)
{
    for (size_t i = 0; i < result_count; i++)
        if (!results[i].passed)
            fail_msg("%s: at %s: %s", results[i].name, results[i].where, results[i].message);
    assert_int_equal(result_count, count);
}

#define HEAD "local t = require 'tidemill.test'\n"

#define SCRIPT                                                                                                         \
    "local tm = require 'tidemill'\n"                                                                                  \
    "local kalshi = require 'kalshi'\n"                                                                                \
    "tm.gatherer { id = tm.env('ID', 'g1'), store = 'dbname=x', data = 'd' }\n"                                        \
    "local ex = kalshi.exchange { ws_url = 'ws://127.0.0.1:1/ws', rest_url = 'http://127.0.0.1:1/api' }\n"             \
    "ex:subscribe('orderbook_delta', { connections = 2, markets = { 'A', 'B', 'C' } })\n"

static void test_asserts(void **state)
{
    (void)state;
    write_file("a_test.lua", HEAD                                                                 /* 1 */
               "t.test('equal', function() t.equal({ a = { 1, 2 } }, { a = { 1, 2 } }) end)\n"    /* 2 */
               "t.test('differs', function()\n"                                                   /* 3 */
               "  t.equal({ a = 1, b = { 1, 2 } }, { a = 1, b = { 1, 3 }, c = 'x' })\n"           /* 4 */
               "end)\n"                                                                           /* 5 */
               "t.test('extra', function() t.equal({ a = 1, z = 2 }, { a = 1 }) end)\n"           /* 6 */
               "t.test('same', function() t.same({}, {}) end)\n"                                  /* 7 */
               "t.test('truthy', function() t.truthy(nil, 'the thing') end)\n"                    /* 8 */
               "t.test('matches', function() t.matches('abc', '^b') end)\n"                       /* 9 */
               "t.test('raises', function() t.error(function() error 'boom' end, 'boo') end)\n"   /* 10 */
               "t.test('raises not', function() t.error(function() end) end)\n"                   /* 11 */
               "t.test('contains', function() t.contains({ 1, { x = 1 } }, { x = 1 }) end)\n"     /* 12 */
               "t.test('null', function() t.equal(t.json.decode 'null', t.null) end)\n"           /* 13 */
               "t.test('other error', function() error { code = 1 } end)\n"                       /* 14 */
               "t.describe('inside', function() t.test('it', function() t.falsy(1) end) end)\n"); /* 15 */
    run_file("a_test.lua", 1, 0);
    assert_int_equal(result_count, 12);
    assert_result("equal", NULL, NULL);
    assert_result("differs", "a_test.lua:4", ".b[2]: expected 3, got 2");
    assert_result("differs", "a_test.lua:4", ".c: expected \"x\", got nothing");
    assert_result("extra", "a_test.lua:6", ".z: expected nothing, got 2");
    assert_result("same", "a_test.lua:7", "expected the same");
    assert_result("truthy", "a_test.lua:8", "the thing: expected something that is true, got nil");
    assert_result("matches", "a_test.lua:9", "expected a match of \"^b\" in \"abc\"");
    assert_result("raises", NULL, NULL);
    assert_result("raises not", "a_test.lua:11", "expected an error, there was none");
    assert_result("contains", NULL, NULL);
    assert_result("null", NULL, NULL);
    assert_result("other error", "a_test.lua:14", "error(table value)");
    assert_result("inside it", "a_test.lua:15", "expected nil or false, got 1");
}

/* One bad test costs its neighbours nothing. */
static void test_runaways(void **state)
{
    (void)state;
    write_file("s.lua", SCRIPT "tm.after('1s', function() while true do end end)\n"
                               "tm.every('10s', function() error('tick') end)\n");
    write_file("r_test.lua", HEAD                                                                         /* 1 */
               "t.test('loop', function()\n"                                                              /* 2 */
               "  while true do pcall(function() while true do end end) end\n"                            /* 3 */
               "end)\n"                                                                                   /* 4 */
               "t.test('memory', function() local s = ('x'):rep(1e6) while true do s = s .. s end end)\n" /* 5 */
               "t.test('handler loops', function() t.load 's.lua' t.start() t.advance '2s' end)\n"        /* 6 */
               "t.test('no rest', function()\n"                                                           /* 7 */
               "  t.load 'spin.lua' t.start()\n"                                                          /* 8 */
               "end)\n"                                                                                   /* 9 */
               "t.test('good', function() end)\n");                                                       /* 10 */
    write_file("spin.lua", SCRIPT "tm.on('start', function() while true do tm.sleep '0s' end end)\n");
    run_file("r_test.lua", 1, (size_t)64 << 20);
    assert_int_equal(result_count, 5);
    assert_result("loop", "r_test.lua:3", "budget of CPU time");
    assert_result("memory", NULL, "memory");
    assert_result("handler loops", "s.lua:6", "budget of CPU time");
    assert_result("no rest", NULL, "does not come to rest");
    assert_result("good", NULL, NULL);
}

static void test_a_file_that_cannot_run(void **state)
{
    (void)state;
    write_file("x_test.lua", HEAD "t.test('a', function() end)\nnot_there()\n");
    run_file("x_test.lua", 1, 0);
    assert_int_equal(result_count, 1);
    assert_result("(load)", "x_test.lua:3", "'not_there' is not defined");
    run_file("missing_test.lua", 1, 0);
    assert_result("(load)", "missing_test.lua", "No such file");
    write_file("y_test.lua", HEAD "t.test('', function() end)\n");
    run_file("y_test.lua", 1, 0);
    assert_result("(load)", "y_test.lua:2", "expected a name");
}

static void test_declarations(void **state)
{
    (void)state;
    write_file("s.lua", SCRIPT "local function double(x) return 2 * x end\nreturn { double = double }\n");
    write_file("bad.lua", "local tm = require 'tidemill'\ntm.gatherer { id = 'g', stor = 'x', data = 'd' }\n");
    write_file("dies.lua", SCRIPT "nothing()\n");
    write_file("global.lua", SCRIPT "leaked = 1\n");
    write_file(
        "d_test.lua", HEAD
        "t.test('good', function()\n"
        "  local policy = t.load('s.lua', { env = { ID = 'g7' } })\n"
        "  t.equal(policy.problems, {})\n"
        "  t.equal(policy.role.id, 'g7')\n"
        "  t.equal(policy.streams.trades.key, { 'trade_id' })\n"
        "  t.equal(policy.kinds.trade.stream, 'trades')\n"
        "  t.equal(policy.exports.double(4), 8)\n"
        "  t.equal(policy.connections, { { name = 'orderbook_delta', count = 2, markets = '3 named markets', feed = 1 } })\n"
        "  t.equal(policy.require 'kalshi.frames'.chunks({ 1, 2, 3 }, 2), { { 1, 2 }, { 3 } })\n"
        "end)\n"
        "t.test('the environment is given', function() t.equal(t.load 's.lua'.role.id, 'g1') end)\n"
        "t.test('bad', function()\n"
        "  local policy = t.load 'bad.lua'\n"
        "  t.equal(#policy.problems, 1)\n"
        "  t.matches(policy.problems[1], '/bad.lua:2: tm.gatherer: unknown key \"stor\", did you mean \"store\"')\n"
        "  t.error(function() t.start() end, 'the script has problems')\n"
        "end)\n"
        "t.test('dies', function() t.matches(t.load 'dies.lua'.problems[1], '/dies.lua:6: .nothing. is not defined') end)\n"
        "t.test('global', function() t.matches(t.load 'global.lua'.problems[1], '/global.lua:6: .leaked. is assigned') end)\n"
        "t.test('missing', function() t.error(function() t.load 'no.lua' end, 'No such file') end)\n"
        "t.test('worlds are apart', function()\n"
        "  local a, b = t.load 's.lua', t.load 's.lua'\n"
        "  t.truthy(a.declared ~= b.declared)\n"
        "  t.equal(#b.declared.feeds, 1)\n"
        "end)\n");
    setenv("ID", "real", 1);
    run_file("d_test.lua", 1, 0);
    assert_all_passed(7);
}

/* Time, tasks, links, HTTP, rows: one walk through a day of the stock adapter. */
static void test_a_run(void **state)
{
    (void)state;
    write_file("s.lua", SCRIPT
               "require 'recovery' (ex, { backfill = false, pause = false, reconcile = false, snapshots = false })\n"
               "local registry = tm.registry('events', { 'title' })\n"
               "tm.on('start', function()\n"
               "  local ticks = tm.counter('ticks', 'help', 'a=\"b\"')\n"
               "  tm.every('1m', function() ticks:add(1) tm.sleep '90s' end)\n" /* leaves every second out */
               "  local e = registry:get 'E1'\n"
               "  tm.log.info('event', { title = e and e.title or 'none', at = tm.now(), time = os.time() })\n"
               "end)\n"
               "tm.on('error', function(e) error(e.text .. e.number) end)\n");
    write_file(
        "run_test.lua", HEAD
        "local function answer(request)\n"
        "  if request.url:find 'status=open' and request.url:find '/markets' then\n"
        "    return { body = { markets = t.json.array { { ticker = 'A', status = 'active' } } }, after = '2s' }\n"
        "  end\n"
        "  local name = request.url:match '/(%a+)%?' or 'series'\n"
        "  return { body = { [name] = t.json.array {} } }\n"
        "end\n"
        "t.before_each(function() t.load 's.lua' t.http(answer) end)\n"
        "t.test('walk', function()\n"
        "  t.registry('events', { { event_ticker = 'E1', title = 'one' } })\n"
        "  t.start()\n"
        "  t.equal(t.links(), { 'orderbook_delta/1', 'orderbook_delta/2' })\n"
        "  t.equal(t.logs()[1].fields, { title = 'one', at = 1767225600e6, time = 1767225600 })\n"
        "  t.advance '150ms'\n"
        "  t.equal(t.sent 'orderbook_delta/1', {})\n" /* it is not up */
        "  t.link_up()\n"
        "  t.matches(t.sent('orderbook_delta/1')[1], '\"A\",\"C\"')\n"
        "  t.matches(t.sent('orderbook_delta/2')[1], '\"B\"')\n"
        "  t.expect_request 'GET http://127.0.0.1:1/api/markets%?limit=1000&status=open'\n"
        "  t.equal(#t.requests(), 0)\n" /* the first answer takes 2 s */
        "  t.advance '2s'\n"
        "  t.truthy(#t.requests() > 0)\n"
        "  t.equal(#t.rows 'markets', 1)\n"
        "  t.equal(t.rows('markets')[1].ticker, 'A')\n"
        "  t.subscribed('orderbook_delta/1', 'orderbook_delta', 7)\n"
        "  t.emit('gap', { link = 'orderbook_delta/1', sid = 7, first = 5, last = 6 })\n"
        "  t.equal(#t.sent 'orderbook_delta/1', 1)\n"
        "  t.advance '199ms'\n"
        "  t.equal(#t.sent 'orderbook_delta/1', 1)\n"
        "  t.advance '1ms'\n"
        "  t.matches(t.sent('orderbook_delta/1')[2], 'get_snapshot.*\"A\",\"C\"')\n"
        "  t.advance '10m'\n"
        "  t.equal(t.metric('ticks', 'a=\"b\"'), 5)\n"
        "end)\n"
        "t.test('frames', function()\n"
        "  t.start()\n"
        "  t.frame('orderbook_delta', '{\"type\":\"orderbook_delta\",\"sid\":1,\"seq\":1,\"msg\":{\"market_ticker\":\"A\",'\n"
        "    .. '\"price_dollars\":\"0.9600\",\"delta_fp\":\"-54.00\",\"side\":\"yes\",\"ts\":\"2026-01-01T00:00:00.25Z\"}}')\n"
        "  local row = t.rows('orderbook_deltas')[1]\n"
        "  t.equal({ row.price, row.delta, row.exchange_ts, row.received_at },\n"
        "    { 960000, -5400, '2026-01-01T00:00:00.250000Z', '2026-01-01T00:00:00.000000Z' })\n"
        "  t.frame('unknown', { type = 'odd' })\n"
        "  t.equal(t.rows('unknown_frames')[1].received_at, '2026-01-01T00:00:00.000000Z')\n"
        "  t.error(function() t.frame('trade', { type = 'odd' }) end, 'takes it for unknown')\n"
        "end)\n"
        "t.test('a handler that fails is seen', function()\n"
        "  t.start()\n"
        "  t.emit('error', { text = 'boom', number = 3 })\n"
        "  local failures = t.failures()\n"
        "  t.equal(#failures, 1)\n"
        "  t.matches(failures[1].message, 's.lua:14: boom3')\n"
        "end)\n"
        "t.test('waiting in the test itself', function()\n"
        "  local tm = t.load 's.lua'.require 'tidemill'\n"
        "  t.http(answer)\n"
        "  t.start()\n"
        "  tm.sleep '3s'\n"
        "  t.equal(t.now(), 3e6)\n"
        "end)\n"
        "t.test('no such link', function() t.start() t.error(function() t.sent 'ordebook' end, 'orderbook_delta/1') end)\n");
    run_file("run_test.lua", 1, 0);
    assert_all_passed(5);
}

static void test_failing_handlers_fail_the_test(void **state)
{
    (void)state;
    write_file("s.lua", SCRIPT "tm.on('link_up', function() tm.log.warn('about to', { a = 1 }) error 'boom' end)\n");
    write_file("f_test.lua",
               HEAD "t.test('fails', function() t.load 's.lua' t.http(function() return {} end) t.start() "
                    "t.link_up 'orderbook_delta/1' end)\n"
                    "t.test('http', function() t.load 's.lua' t.start() end)\n"
                    "t.test('silent', function() t.load 's.lua' t.http(function() end) t.start() end)\n");
    run_file("f_test.lua", 1, 0);
    assert_result("fails", "s.lua:6", "failed: boom");
    assert_result("fails", NULL, "warn about to a=1");
    assert_result("http", NULL, "the test answers no HTTP");
    assert_result("silent", NULL, NULL);
}

/* The same seed, the same numbers; another seed, others. */
static void test_the_seed_decides(void **state)
{
    (void)state;
    char first[sizeof results->message];
    write_file("s_test.lua", HEAD "local function roll() return math.random(1e9) .. ' ' .. math.random(1e9) end\n"
                                  "local before\n"
                                  "t.test('a', function() before = roll() error(before, 0) end)\n"
                                  "t.test('b', function() t.equal(roll(), before) end)\n");
    run_file("s_test.lua", 7, 0);
    (void)snprintf(first, sizeof first, "%s", results[0].message);
    assert_result("b", NULL, NULL);
    run_file("s_test.lua", 7, 0);
    assert_string_equal(results[0].message, first);
    run_file("s_test.lua", 8, 0);
    assert_string_not_equal(results[0].message, first);
}

/* Every function of the host is simulated, and nothing else is. */
static void test_nothing_of_the_host_is_missing(void **state)
{
    (void)state;
    write_file("n_test.lua", HEAD "t.test('names', function()\n"
                                  "  local real = {}\n"
                                  "  for name in pairs(require 'tidemill.host') do real[#real + 1] = name end\n"
                                  "  table.sort(real)\n"
                                  "  t.equal(require 'tidemill.simulator'.names(), real)\n"
                                  "end)\n");
    run_file("n_test.lua", 1, 0);
    assert_all_passed(1);
}

/* ---- a script's own tests ---- */

static int load_and_test(const char *text, struct tm_problems *problems)
{
    write_file("own.lua", text);
    struct tm_script_options options = {.path = path_of("own.lua"), .library = LIBRARY};
    struct tm_script *script;
    assert_int_equal(tm_script_load(&options, problems, &script), TM_OK);
    int rc = tm_script_test(script, problems);
    for (size_t i = 0; i < problems->count; i++)
        print_message("%s: %s\n", problems->list[i].where, problems->list[i].message);
    tm_script_destroy(script);
    return rc;
}

static void test_own_tests(void **state)
{
    (void)state;
    struct tm_problems *problems = calloc(1, sizeof *problems);
    problems->arena = tm_arena_create();
    assert_int_equal(load_and_test(SCRIPT, problems), TM_OK); /* none */
    assert_int_equal(load_and_test(SCRIPT "local n = 0\n"
                                          "local function up() n = n + 1 return n end\n"
                                          "tm.test('once', function(t) t.equal(up(), 1) end)\n"
                                          "tm.test('and again afresh', function(t) t.equal(up(), 1) end)\n"
                                          "tm.test('in a world', function(t)\n"
                                          "  t.http(function() end) t.start() t.advance '1s'\n"
                                          "  t.equal(#t.links(), 2)\n"
                                          "end)\n",
                                   problems),
                     TM_OK);
    assert_int_equal(problems->count, 0);
    assert_int_equal(load_and_test(SCRIPT "tm.test('bad', function(t) t.equal(1, 2) end)\n"
                                          "tm.test('good', function(t) end)\n"
                                          "tm.test('worse', function() while true do end end)\n",
                                   problems),
                     TM_EINVAL);
    assert_int_equal(problems->count, 2);
    assert_non_null(strstr(problems->list[0].where, "own.lua:6"));
    assert_string_equal(problems->list[0].message, "test \"bad\": expected 2, got 1");
    assert_non_null(strstr(problems->list[1].where, "own.lua:8"));
    assert_non_null(strstr(problems->list[1].message, "budget of CPU time"));
    tm_arena_destroy(problems->arena);
    free(problems);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_asserts),
        TEST(test_runaways),
        TEST(test_a_file_that_cannot_run),
        TEST(test_declarations),
        TEST(test_a_run),
        TEST(test_failing_handlers_fail_the_test),
        TEST(test_the_seed_decides),
        TEST(test_nothing_of_the_host_is_missing),
        TEST(test_own_tests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
