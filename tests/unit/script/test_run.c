/* Run time: handlers, timers, waiting, HTTP and registries on a real loop. What scripts did is read from the
 * metrics they set. */
#include "bench.h"

#include "net/httpd.h"

#include <arpa/inet.h>
#include <sys/socket.h>

#define ADDRESS "127.0.0.1:0"

static struct tm_httpd *httpd;
static const char *limits; /* of the role, or NULL */
static int requests;

static void serve(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer)
{
    (void)arg;
    requests++;
    answer->status = strstr(query, "fail") && requests < 3 ? 503 : 200;
    if (tm_buf_printf(answer->body, "{\"path\":\"%s\",\"query\":\"%s\"}", path, query) < 0)
        answer->status = 500;
}

static int setup(void **state)
{
    struct tm_error err;
    limits = NULL;
    requests = 0;
    if (bench_setup(state) || tm_httpd_create(bench.services.loop, &httpd, &err) < 0 ||
        tm_httpd_listen(httpd, ADDRESS, &err) < 0 ||
        tm_httpd_route(httpd, ADDRESS, "/base/thing", serve, NULL, &err) < 0)
        return -1;
    char url[64];
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/base", tm_httpd_port(httpd, ADDRESS));
    return setenv("TEST_URL", url, 1);
}

static int teardown(void **state)
{
    tm_http_destroy(bench.services.http); /* its connections end before their server does */
    bench.services.http = NULL;
    tm_httpd_destroy(httpd);
    return bench_teardown(state);
}

static void start(const char *body)
{
    char *text;
    int len = asprintf(&text,
                       "tm.deduplicator { id = 'd', production = 'dbname=x', gatherers = { g = 'dbname=y' }, %s }\n"
                       "local rest = tm.rest { url = tm.env 'TEST_URL', per_second = 1000 }\n"
                       "local registry = tm.registry('markets', { 'status', 'close_time', 'volume' })\n"
                       "local function used() return rest, registry end\n%s",
                       limits ? limits : "", body);
    assert_true(len > 0);
    bench_run(text);
    free(text);
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
    bench_until("ticked", 1);
    bench_until("spawned", 1);
    bench_until("after", 1);
    assert_true(bench_metric("started") == 1);
    assert_true(bench_metric("slow") == 1); /* a run that is not over leaves ticks out */
    assert_true(bench_metric("tidemill_script_errors_total") == 0);
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
    bench_until("fine", 1);
    bench_until("tidemill_script_errors_total", 8);
    assert_true(bench_metric("tidemill_script_errors_total") == 8);
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
    bench_until("caught", 1);
}

/* A flood costs handlers and timers nothing: some room is theirs, and who sleeps is not counted with the timers. */
static void test_too_many_tasks(void **state)
{
    (void)state;
    start("tm.on('start', function()\n"
          "  for i = 1, 2000 do tm.spawn(function() tm.sleep '1h' end) end\n"
          "end)\n"
          "tm.on('start', function()\n"
          "  for i = 1, 2000 do tm.after('1h', function() end) end\n"
          "end)\n"
          "tm.every('1ms', function() tm.sleep '1ms' count 'timer' end)\n"
          "tm.on('start', function() tm.sleep '20ms' count 'second' end)\n");
    bench_until("tidemill_script_errors_total", 2);
    bench_until("second", 1);
    bench_until("timer", 5);
    assert_true(bench_metric("tidemill_script_errors_total") == 2);
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
    bench_until("done", 2);
    assert_true(bench_metric("tidemill_script_errors_total") == 0);
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
    bench_until("done", 1);
    assert_true(bench_metric("retried") == 2);
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
    bench_until("asked", 1);
    close(silent);
    tm_script_destroy(bench.script);
    bench.script = NULL;
    tm_http_destroy(bench.services.http);
    bench.services.http = NULL;
    assert_true(bench_metric("never") == 0);
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
    bench_until("done", 1);
    assert_true(bench_metric("tidemill_script_errors_total") == 0);
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
    bench_until("survived", 1);
}

static const struct tm_callback *callback(const char *prefix)
{
    const struct tm_callback *c = tm_script_callbacks(bench.script)->first;
    while (c && strncmp(c->name, prefix, strlen(prefix)) != 0)
        c = c->next;
    assert_non_null(c);
    return c;
}

static void test_callbacks_that_keep_failing_are_disabled(void **state)
{
    (void)state;
    start("tm.every('1ms', function() count 'bad' error('always') end, { failures = 3 })\n"
          "tm.every('1ms', function() count 'stock' local t = nil; return t.x end)\n"
          "local n = 0\n"
          "tm.every('1ms', function() n = n + 1 count 'mixed' if n % 3 ~= 0 then error('sometimes') end end, "
          "{ failures = 3 })\n"
          "tm.every('1ms', function() count 'good' end)\n"
          "tm.on('start', function() for i = 1, 30 do tm.spawn(function() error('spawned') end) end end)\n");
    bench_until("stock", 10);
    double good = bench_metric("good");
    bench_until("good", good + 50);
    bench_until("mixed", 40);
    assert_true(bench_metric("bad") == 3 && bench_metric("stock") == 10);
    assert_true(tm_metric_get(tm_metrics_gauge(bench.services.metrics, "tidemill_callbacks_disabled", "", NULL)) == 2);
    const struct tm_callback *bad = callback("tm.every at");
    assert_true(bad->disabled && bad->failures == 3 && bad->runs == 3 && bad->skipped > 0 && bad->limit == 3);
    assert_non_null(strstr(bad->last_error, "always"));
    const struct tm_callback *spawned = callback("tm.spawn at");
    assert_true(spawned->failures == 30 && !spawned->disabled); /* a task is only counted */
    assert_true(tm_metric_get(tm_metrics_counter(bench.services.metrics, "tidemill_callback_failures_total", "",
                                                 "kind=\"task\"")) == 30);
    assert_true(tm_metric_get(tm_metrics_counter(bench.services.metrics, "tidemill_callback_failures_total", "",
                                                 "kind=\"timer\"")) >= 13);
}

static void test_events_of_a_disabled_handler_are_left_out(void **state)
{
    (void)state;
    start("tm.on('unknown', function(e) count 'failing' error(e.text, 0) end, { failures = 2 })\n"
          "tm.on('unknown', function() count 'fine' end)\n");
    struct tm_event *event = calloc(1, sizeof *event + 8);
    event->type = TM_EVENT_UNKNOWN;
    event->text_len = (size_t)snprintf(event->text, 8, "boom");
    for (int i = 1; i <= 5; i++) {
        tm_script_event(bench.script, event);
        bench_until("fine", i);
    }
    free(event);
    assert_true(bench_metric("failing") == 2);
    const struct tm_callback *c = callback("tm.on unknown");
    assert_true(c->disabled && c->skipped == 3 && strcmp(c->last_error, "boom") == 0);
}

static void test_limits_of_the_role(void **state)
{
    (void)state;
    limits = "limits = { step = '20ms', routine = '300ms', memory = '32MiB' }, callback_failures = 2";
    start("local hog = function() local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(1e5) .. i end end\n"
          "tm.on('start', function() pcall(hog) while true do end end)\n"
          "tm.every('1ms', function() count 'two' error('x') end)\n"
          "tm.on('start', function()\n"
          "  host.callback('routine', 'slow')\n"
          "  host.spawn('slow', function() while true do end end)\n"
          "  tm.sleep '30ms' count 'done'\n"
          "end)\n");
    bench_until("done", 1);
    bench_until("two", 2);
    bench_until("tidemill_script_errors_total", 4);
    const struct tm_config *config = tm_script_config(bench.script);
    assert_true(config->limits.step_us == 20000 && config->limits.routine_us == 300000 &&
                config->limits.load_us == TM_SCRIPT_LOAD_CPU_US && config->limits.memory_bytes == (32 << 20));
    assert_non_null(strstr(callback("slow")->last_error, "budget"));
}

static void test_the_library_is_read_only(void **state)
{
    (void)state;
    start("tm.on('start', function()\n"
          "  assert(not pcall(function() tm.on = nil end) and not pcall(function() host.log = nil end))\n"
          "  assert(not pcall(function() tm.log.info = nil end))\n"
          "  assert(not pcall(tm.json.array, string) and not pcall(tm.json.array, tm))\n"
          "  local n = 0 for name in pairs(host) do n = n + (type(name) == 'string' and 1 or 0) end\n"
          "  assert(n > 20)\n"
          "  count 'done'\n"
          "end)\n");
    bench_until("done", 1);
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
        TEST(test_callbacks_that_keep_failing_are_disabled),
        TEST(test_events_of_a_disabled_handler_are_left_out),
        TEST(test_limits_of_the_role),
        TEST(test_the_library_is_read_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
