/* Run time: handlers, timers, waiting, HTTP and registries on a real loop. What scripts did is read from the
 * metrics they set. */
#include "script/script.h"

#include "net/httpd.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define LIBRARY TM_SOURCE_DIR "/lua"
#define DEADLINE_US INT64_C(20000000)
#define ADDRESS "127.0.0.1:0"

struct bench {
    struct tm_services services;
    struct tm_httpd *httpd;
    struct tm_script *script;
    struct tm_problems problems;
    struct tm_timer poll, deadline;
    bool late;
    const char *until_metric;
    double until_value;
    int requests;
};

static struct bench bench;

static void serve(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer)
{
    struct bench *b = arg;
    b->requests++;
    answer->status = strstr(query, "fail") && b->requests < 3 ? 503 : 200;
    if (tm_buf_printf(answer->body, "{\"path\":\"%s\",\"query\":\"%s\"}", path, query) < 0)
        answer->status = 500;
}

static int setup(void **state)
{
    (void)state;
    struct tm_error err;
    bench = (struct bench){.problems = {.arena = tm_arena_create()}};
    bench.services.loop = tm_loop_create();
    bench.services.metrics = tm_metrics_create();
    if (tm_http_create(bench.services.loop, 4, 100, &bench.services.http, &err) < 0 ||
        tm_httpd_create(bench.services.loop, &bench.httpd, &err) < 0 ||
        tm_httpd_listen(bench.httpd, ADDRESS, &err) < 0 ||
        tm_httpd_route(bench.httpd, ADDRESS, "/base/thing", serve, &bench, &err) < 0)
        return -1;
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/base", tm_httpd_port(bench.httpd, ADDRESS));
    return setenv("TEST_URL", url, 1);
}

static int teardown(void **state)
{
    (void)state;
    tm_http_destroy(bench.services.http);
    tm_services_fini(&bench.services);
    tm_script_destroy(bench.script);
    tm_httpd_destroy(bench.httpd);
    tm_loop_destroy(bench.services.loop);
    tm_metrics_destroy(bench.services.metrics);
    tm_arena_destroy(bench.problems.arena);
    return 0;
}

static double metric(const char *name)
{
    return tm_metric_get(tm_metrics_counter(bench.services.metrics, name, "", NULL));
}

static void start(const char *body)
{
    char path[] = "/tmp/tm-run-XXXXXX", *text;
    struct tm_error err;
    int fd = mkstemp(path);
    int len = asprintf(&text,
                       "local tm = require 'tidemill'\nlocal host = require 'tidemill.host'\nrequire 'kalshi.streams'\n"
                       "tm.deduplicator { id = 'd', production = 'dbname=x', gatherers = { g = 'dbname=y' } }\n"
                       "local rest = tm.rest { url = tm.env 'TEST_URL', per_second = 1000 }\n"
                       "local registry = tm.registry('markets', { 'status', 'close_time', 'volume' })\n"
                       "local function count(name) tm.counter(name, 'test'):add() end\n"
                       "local function use() return host, rest, registry, count end\n%s",
                       body);
    assert_true(fd >= 0 && len > 0 && write(fd, text, (size_t)len) == len);
    close(fd);
    free(text);
    struct tm_script_options options = {.path = path, .library = LIBRARY};
    int rc = tm_script_load(&options, &bench.problems, &bench.script);
    unlink(path);
    if (rc)
        fail_msg("%s: %s", bench.problems.list[0].where, bench.problems.list[0].message);
    bench.services.plan = tm_script_config(bench.script)->plan;
    if (tm_script_start(bench.script, &bench.services, &err) < 0)
        fail_msg("%s", err.message);
}

static void poll(void *arg)
{
    (void)arg;
    if (metric(bench.until_metric) >= bench.until_value)
        tm_loop_stop(bench.services.loop);
}

static void on_deadline(void *arg)
{
    (void)arg;
    bench.late = true;
    tm_loop_stop(bench.services.loop);
}

/* Run the loop until the script has counted that far. */
static void run_until(const char *name, double value)
{
    bench.until_metric = name;
    bench.until_value = value;
    tm_timer_init(&bench.poll, bench.services.loop, poll, NULL);
    tm_timer_init(&bench.deadline, bench.services.loop, on_deadline, NULL);
    tm_timer_start(&bench.poll, 1000, 1000);
    tm_timer_start(&bench.deadline, DEADLINE_US, 0);
    tm_loop_run(bench.services.loop);
    tm_timer_stop(&bench.poll);
    tm_timer_stop(&bench.deadline);
    if (bench.late)
        fail_msg("%s did not reach %g, it is %g; errors %g", name, value, metric(name),
                 metric("tidemill_script_errors_total"));
}

static void test_handlers_and_timers(void **state)
{
    (void)state;
    start("local ticks = 0\n"
          "tm.on('start', function() count 'started'\n"
          "  local before = tm.monotonic()\n"
          "  tm.sleep '20ms'\n"
          "  assert(tm.monotonic() - before >= 19000)\n"
          "  tm.after('1ms', function() count 'after' end)\n"
          "  local never = tm.after('1h', error)\n"
          "  assert(never:cancel() and not never:cancel())\n"
          "  tm.spawn(function(a, b) assert(a == 1 and b == 'x') count 'spawned' end, 1, 'x')\n"
          "end)\n"
          "tm.every('2ms', function() ticks = ticks + 1 if ticks == 5 then count 'ticked' end end)\n"
          "tm.every('1ms', function() count 'slow' tm.sleep '1h' end)\n");
    run_until("ticked", 1);
    run_until("spawned", 1);
    run_until("after", 1);
    assert_true(metric("started") == 1);
    assert_true(metric("slow") == 1); /* a run that is not over leaves ticks out */
    assert_true(metric("tidemill_script_errors_total") == 0);
}

static void test_failures_cost_nothing_but_themselves(void **state)
{
    (void)state;
    start("tm.on('start', function() error('one') end)\n"
          "tm.on('start', function() local t = nil; t.x = 1 end)\n"
          "tm.on('start', function() while true do end end)\n"
          "tm.on('start', function() while true do pcall(error) end end)\n"
          "tm.on('start', function() coroutine.yield() end)\n"
          "tm.on('start', function() coroutine.wrap(function() tm.sleep '1ms' end)() end)\n"
          "tm.on('start', function() local t = {} while true do t[#t + 1] = ('x'):rep(1e6) .. #t end end)\n"
          "tm.on('start', function() tm.sleep '5ms' error('after a wait') end)\n"
          "tm.on('start', function() tm.sleep '50ms' count 'fine' end)\n");
    run_until("fine", 1);
    run_until("tidemill_script_errors_total", 8);
    assert_true(metric("tidemill_script_errors_total") == 8);
    assert_true(tm_script_memory(bench.script) < (16 << 20)); /* the balloon is gone */
}

static void test_waiting_inside_pcall(void **state)
{
    (void)state;
    start("tm.on('start', function()\n"
          "  local ok, err = pcall(function() tm.sleep '1ms' error('inside', 0) end)\n"
          "  assert(not ok and err == 'inside')\n"
          "  count 'caught'\n"
          "end)\n");
    run_until("caught", 1);
}

static void test_too_many_tasks(void **state)
{
    (void)state;
    start("tm.on('start', function()\n"
          "  for i = 1, 2000 do tm.spawn(function() tm.sleep '1h' end) end\n"
          "end)\n"
          "tm.every('1ms', function() count 'never' end)\n"
          "tm.on('start', function() count 'second' end)\n");
    run_until("tidemill_script_errors_total", 1);
    assert_true(metric("second") == 1);
}

static void test_http(void **state)
{
    (void)state;
    start("tm.on('start', function()\n"
          "  local r = rest:get('/thing', { b = 'x y&z', a = 1 })\n"
          "  assert(r.status == 200, r.error)\n"
          "  local d = tm.json.decode(r.body)\n"
          "  assert(d.path == '/base/thing' and d.query == 'a=1&b=x%20y%26z', r.body)\n"
          "  assert(tm.json.get(r.body, 'path') == '/base/thing' and tm.json.get(r.body, 'none') == nil)\n"
          "  assert(rest:get('/absent').status == 404)\n"
          "  count 'done'\n"
          "end)\n"
          "tm.on('start', function()\n"
          "  local r = host.http { method = 'GET', url = 'http://127.0.0.1:1/' }\n"
          "  assert(r.status == 0 and #r.error > 0)\n"
          "  assert(not pcall(host.http, { method = 'GET', url = 'http://192.0.2.1/' }))\n"
          "  assert(not pcall(host.http, { method = 'GET', url = tm.env 'TEST_URL', headers = { 'A: "
          "b\\r\\nC: d' } }))\n"
          "  count 'done'\n"
          "end)\n");
    run_until("done", 2);
    assert_true(metric("tidemill_script_errors_total") == 0);
}

static void test_patient_get(void **state)
{
    (void)state;
    start("tm.on('start', function()\n"
          "  local r = rest:get_patiently('/thing', { q = 'fail' }, function(f) assert(f.status == 503) "
          "count 'retried' end)\n"
          "  assert(r.status == 200)\n"
          "  count 'done'\n"
          "end)\n");
    run_until("done", 1);
    assert_true(metric("retried") == 2);
}

/* A port where connections are taken and nothing is said; its URL is TEST_SILENT. */
static int listen_silently(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_true(fd >= 0 && bind(fd, (struct sockaddr *)&at, len) == 0 && listen(fd, 4) == 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &len), 0);
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(at.sin_port));
    assert_int_equal(setenv("TEST_SILENT", url, 1), 0);
    return fd;
}

/* A request whose script ends first: its answer finds nobody, in whatever order things are torn down. */
static void test_script_ends_while_it_waits(void **state)
{
    (void)state;
    int silent = listen_silently();
    start("tm.on('start', function() count 'asked' host.http { method = 'GET', url = tm.env 'TEST_SILENT' } "
          "count 'never' end)\n"
          "tm.on('start', function() tm.sleep '1h' end)\n");
    run_until("asked", 1);
    close(silent);
    tm_script_destroy(bench.script);
    bench.script = NULL;
    tm_http_destroy(bench.services.http);
    bench.services.http = NULL;
    assert_true(metric("never") == 0);
}

static void test_registry(void **state)
{
    (void)state;
    start("local function page(...) return tm.json.encode { markets = tm.json.array { ... } } end\n"
          "local function market(t, s, v) return { ticker = t, status = s, close_time = "
          "'2026-11-05T00:00:00.5Z', volume_fp = v } end\n"
          "tm.on('start', function()\n"
          "  local id = registry.entry.id\n"
          "  local _, changed, rows = host.decode('market', 'markets', page(market('A', 'active', '1.00'), "
          "market('B', 'active', '2.50')), id, 1)\n"
          "  assert(#changed == 2 and rows == 2 and registry:count() == 2)\n"
          "  local b = registry:get 'B'\n"
          "  assert(b.ticker == 'B' and b.status == 'active' and b.volume == 250)\n"
          "  assert(b.close_time == 1793836800500000)\n" /* date -u -d 2026-11-05 +%s */
          "  _, changed = host.decode('market', 'markets', page(market('A', 'closed', '1.00'), market('C', "
          "'active', '0.00')), id, 2)\n"
          "  assert(#changed == 2 and registry:at(changed[1]).status == 'closed')\n"
          "  _, changed = host.decode('market', 'markets', page(market('A', 'closed', '1.00')), id, 2)\n"
          "  assert(#changed == 0)\n"
          "  local unseen = registry:unseen(2, 10)\n"
          "  assert(#unseen == 1 and registry:at(unseen[1]).ticker == 'B')\n"
          "  registry:remove 'B'\n"
          "  local seen = {}\n"
          "  for m in registry:each() do seen[m.ticker] = true end\n"
          "  assert(seen.A and seen.C and not seen.B and registry:count() == 2)\n"
          "  local none, why = host.decode('market', 'markets', '{\"markets\":', id)\n"
          "  assert(none == nil and type(why) == 'string')\n"
          "  local _, _, n, unknown = host.decode('market', 'markets', "
          "'{\"markets\":[{\"status\":\"x\"},{\"ticker\":\"D\"}]}', id)\n"
          "  assert(n == 2 and unknown == 1 and registry:get 'D')\n"
          "  assert(not pcall(host.decode, 'trade', '', '{}') and not pcall(host.registry_get, id, 99))\n"
          "  count 'done'\n"
          "end)\n");
    run_until("done", 1);
    assert_true(metric("tidemill_script_errors_total") == 0);
}

/* Host functions refuse arguments of any wrong type with an error, and nothing worse. */
static void test_host_functions_with_wrong_arguments(void **state)
{
    (void)state;
    start("local values = { false, 0, -1, 1e308, 0/0, '', 'x', {}, function() end, host.null }\n"
          "tm.on('start', function()\n"
          "  for name, f in pairs(host) do\n"
          "    if type(f) == 'function' and name ~= 'log' then\n"
          "      for i = 1, #values do\n"
          "        for j = 1, #values do pcall(f, values[i], values[j], values[i]) pcall(f, values[i]) end\n"
          "      end\n"
          "    end\n"
          "    tm.sleep '1us'\n"
          "  end\n"
          "  count 'survived'\n"
          "end)\n");
    run_until("survived", 1);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_handlers_and_timers),
        TEST(test_failures_cost_nothing_but_themselves),
        TEST(test_waiting_inside_pcall),
        TEST(test_too_many_tasks),
        TEST(test_http),
        TEST(test_patient_get),
        TEST(test_script_ends_while_it_waits),
        TEST(test_registry),
        TEST(test_host_functions_with_wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
