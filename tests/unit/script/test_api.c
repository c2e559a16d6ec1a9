/* What scripts can do at run time: secrets that show nowhere, metrics, alerts, HTTP, notifications, state. */
#include "bench.h"

#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/socket.h>

/* ---- a server that takes anything ---- */

#define REQUESTS_MAX 64

/* Answers each request with the next status and closes; keeps what it was sent. On a thread, so that it may wait. */
static struct {
    pthread_t thread;
    int fd, port;
    int statuses[REQUESTS_MAX];
    char requests[REQUESTS_MAX][4096];
    atomic_int count;
} peer;

static size_t body_length(const char *request)
{
    const char *at = strcasestr(request, "content-length:");
    return at ? (size_t)atoi(at + 15) : 0;
}

static void answer(int fd, int i)
{
    char *text = peer.requests[i];
    size_t len = 0;
    ssize_t n;
    while (len < sizeof peer.requests[i] - 1 && (n = read(fd, text + len, sizeof peer.requests[i] - 1 - len)) > 0) {
        len += (size_t)n;
        text[len] = '\0';
        const char *end = strstr(text, "\r\n\r\n");
        if (end && len >= (size_t)(end + 4 - text) + body_length(text))
            break;
    }
    dprintf(fd,
            "HTTP/1.1 %d X\r\nContent-Type: application/json\r\nLocation: http://192.0.2.1/\r\nContent-Length: 8\r\n"
            "Connection: close\r\n\r\n{\"a\":5}\n",
            peer.statuses[i] ? peer.statuses[i] : 200);
    close(fd);
    atomic_fetch_add(&peer.count, 1);
}

static void *serve(void *arg)
{
    (void)arg;
    for (int i = 0, fd; i < REQUESTS_MAX && (fd = accept(peer.fd, NULL, NULL)) >= 0; i++)
        answer(fd, i);
    return NULL;
}

static int setup(void **state)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    char url[64];
    if (bench_setup(state))
        return -1;
    memset(&peer, 0, sizeof peer);
    peer.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(peer.fd, (struct sockaddr *)&at, len) || listen(peer.fd, 16) ||
        getsockname(peer.fd, (struct sockaddr *)&at, &len))
        return -1;
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d", ntohs(at.sin_port));
    setenv("TEST_URL", url, 1);
    setenv("TEST_SECRET", bench_file("secret", "canary-2718\n", 0600), 1);
    return pthread_create(&peer.thread, NULL, serve, NULL);
}

static int teardown(void **state)
{
    (void)shutdown(peer.fd, SHUT_RDWR);
    pthread_join(peer.thread, NULL);
    close(peer.fd);
    return bench_teardown(state);
}

static void assert_no_canary(void)
{
    struct tm_buf page = {0};
    assert_int_equal(tm_metrics_render(bench.services.metrics, &page), TM_OK);
    assert_null(strstr(tm_buf_cstr(&page), "canary"));
    tm_buf_fini(&page);
    if (bench_logged("canary"))
        bench_fail("canary");
}

#define SECRET "role() local secret = tm.secret { file = tm.env 'TEST_SECRET' }\n"

/* ---- secrets ---- */

static void test_secrets_show_nowhere(void **state)
{
    (void)state;
    bench_run(
        SECRET
        "tm.on('start', function()\n"
        "  local longer = secret:format 'x{}y{}'\n"
        "  tm.log.info('shown', { secret = secret, longer = longer, null = tm.null })\n"
        "  assert(tostring(secret) == '***' and tostring(longer) == '***')\n"
        "  assert(('%s'):format(secret) == '***')\n"
        "  assert(tm.json.encode { a = secret, b = { secret } } == '{\"a\":\"***\",\"b\":[\"***\"]}' or\n"
        "         tm.json.encode { a = secret, b = { secret } } == '{\"b\":[\"***\"],\"a\":\"***\"}')\n"
        "  for _, join in ipairs { function() return 'x' .. secret end, function() return secret .. 'x' end,\n"
        "                          function() return secret .. longer end, function() return #secret end,\n"
        "                          function() return secret + 1 end, function() return secret < longer end,\n"
        "                          function() return secret.text end and function() return secret.text.x end,\n"
        "                          function() secret.x = 1 end, function() return ('x'):rep(secret) end,\n"
        "                          function() return table.concat({ secret }) end, function() secret:format 'none' end,\n"
        "                          function() secret.format('x', '{}') end, function() setmetatable(secret, {}) end,\n"
        "                          function() return tm.json.decode(secret) end, function() tm.log.info(secret) end,\n"
        "                          function() error(secret) end, function() return tonumber(secret) + 1 end,\n"
        "                          function() return tm.duration(secret) + 1 end } do\n"
        "    local ok, why = pcall(join)\n"
        "    assert(not ok)\n"
        "    assert(not tostring(why):find('canary', 1, true))\n"
        "    tm.log.info('refused', { why = tostring(why) })\n" /* the first ten */
        "  end\n"
        "  assert(getmetatable(secret) == 'locked' and secret.text == nil)\n"
        "  count 'done'\n"
        "  error(secret)\n"
        "end)\n");
    bench_until("done", 1);
    bench_until("tidemill_script_errors_total", 1);
    assert_true(bench_logged("longer=*** ") || bench_logged("longer=***\n"));
    assert_no_canary();
}

static void test_log_refuses_tables(void **state)
{
    (void)state;
    bench_run(
        "role() tm.on('start', function()\n"
        "  for _, value in ipairs { {}, function() end, coroutine.create(function() end) } do\n"
        "    local ok, why = pcall(tm.log.info, 'x', { field = value })\n"
        "    assert(not ok and why:find('field \"field\": expected text, a number or a boolean, got a ', 1, true), why)\n"
        "  end\n"
        "  count 'done'\n"
        "end)\n"
        "tm.every('20ms', function() tm.log.info('fine', { a = 1, b = true, c = 'x', d = 0.5 }) count 'tick' end)\n");
    bench_until("done", 1);
    while (!bench_logged("event=fine")) /* ten lines a second pass */
        bench_until("tick", bench_metric("tick") + 1);
    bench_no_errors();
}

/* Every secret of the configuration stays where it is: the structs point into it. */
static void test_secrets_in_declarations(void **state)
{
    (void)state;
    assert_int_equal(
        bench_load(
            "local secret = tm.secret { file = tm.env 'TEST_SECRET' }\n"
            "tm.deduplicator { id = 'd', production = tm.conninfo { dbname = \"it's\", password = secret },\n"
            "  gatherers = { g1 = 'dbname=y', g2 = tm.conninfo { host = 'b', port = 5433, password = secret } } }\n"
            "tm.signer { key_id = secret, headers = { ['X-A'] = secret, ['X-B'] = '{key_id}' } }\n"
            "secret = nil\n"),
        TM_OK);
    const struct tm_config *c = tm_script_config(bench.script);
    assert_string_equal(c->deduplicator.production, "dbname='it\\'s' password='canary-2718'");
    assert_string_equal(c->deduplicator.gatherers[1].conninfo, "host='b' port='5433' password='canary-2718'");
    assert_string_equal(c->signers[0].def.key_id, "canary-2718");
    assert_string_equal(c->signers[0].def.secrets[0].value, "canary-2718");
}

static void test_mistakes_name_no_secret(void **state)
{
    (void)state;
    assert_int_equal(
        bench_load("local secret = tm.secret { file = tm.env 'TEST_SECRET' }\n"
                   "tm.secret { file = '/nonexistent' }\n"
                   "tm.secret { env = 'NOT_THERE' }\n"
                   "tm.secret {}\n"
                   "tm.signer { key = secret, message = 'x', headers = { a = '{signature}' } }\n"
                   "tm.signer { key = secret, key_file = '/x', message = 'x', headers = { a = '{signature}' } }\n"
                   "tm.signer { headers = { a = secret:format 'x\\ny{}' } }\n"
                   "tm.gatherer { id = secret, store = secret, data = secret }\n"
                   "tm.feed { url = secret }\n"
                   "tm.every(secret, function() end)\n"
                   "tm.stream(secret) {}\n"
                   "tm.state(secret)\n"),
        TM_EINVAL);
    bench_expect_problem("cannot open secret file /nonexistent");
    bench_expect_problem("no variable NOT_THERE");
    bench_expect_problem("expected one of file, credential, env");
    bench_expect_problem("the signer's key: no PEM private key");
    bench_expect_problem("expected one of them");
    bench_expect_problem("has a line break");
    bench_expect_problem("url: expected text, got a userdata");
    for (size_t i = 0; i < bench.problems.count; i++)
        assert_null(strstr(bench.problems.list[i].message, "canary"));
}

/* ---- HTTP ---- */

static void test_http(void **state)
{
    (void)state;
    peer.statuses[1] = 302;
    peer.statuses[2] = 503;
    bench_run(SECRET
              "local url = tm.env 'TEST_URL'\n"
              "tm.on('start', function()\n"
              "  local r = tm.http.request { method = 'POST', url = url .. '/a?b=c', json = { x = 'y' },\n"
              "    headers = { Authorization = secret:format 'Bearer {}', ['X-Plain'] = 'p' } }\n"
              "  assert(r:ok() and r:json().a == 5 and r.status == 200)\n"
              "  r = tm.http.get(url .. '/moved')\n" /* redirects are answers */
              "  assert(r.status == 302 and not r:ok())\n"
              "  r = tm.http.request { method = 'PUT', url = url .. '/again', body = 'b' }\n"
              "  assert(r.status == 200)\n"
              "  r = tm.http.get(secret:format(url .. '/{}'))\n"
              "  assert(r.status == 200)\n"
              "  for _, bad in ipairs { 'http://127.0.0.1:1/{}', 'http://127.0.0.1:1/{}?q={}' } do\n"
              "    r = tm.http.get(secret:format(bad), { retries = 0 })\n"
              "    assert(r.status == 0 and not r.error:find('canary', 1, true) and r.error:find('/***', 1, true), "
              "r.error)\n"
              "    tm.log.info('failed', { error = r.error })\n"
              "  end\n"
              "  for _, bad in ipairs { 'ftp://{}', '{}', 'http://192.0.2.1/{}', 'https://user:{}@x/' } do\n"
              "    local ok, why = pcall(tm.http.get, secret:format(bad))\n"
              "    assert(not ok and not tostring(why):find('canary', 1, true), tostring(why))\n"
              "  end\n"
              "  local ok, why = pcall(tm.http.get, url, { headers = { a = secret:format 'x\\r\\n{}' } })\n"
              "  assert(not ok and not tostring(why):find('canary', 1, true))\n"
              "  count 'done'\n"
              "end)\n");
    bench_until("done", 1);
    bench_no_errors();
    assert_int_equal(atomic_load(&peer.count), 5);
    assert_non_null(strstr(peer.requests[0], "POST /a?b=c HTTP/1.1\r\n"));
    assert_non_null(strstr(peer.requests[0], "Authorization: Bearer canary-2718\r\n"));
    assert_non_null(strstr(peer.requests[0], "X-Plain: p\r\n"));
    assert_non_null(strstr(peer.requests[0], "Content-Type: application/json\r\n"));
    assert_non_null(strstr(peer.requests[0], "\r\n\r\n{\"x\":\"y\"}"));
    assert_non_null(strstr(peer.requests[3], "PUT /again"));
    assert_non_null(strstr(peer.requests[4], "GET /canary-2718 HTTP/1.1\r\n"));
    assert_no_canary();
}

/* ---- notifications ---- */

static void test_notify(void **state)
{
    (void)state;
    peer.statuses[0] = 503;
    bench_run(SECRET "tm.notify 'ops' { url = secret:format(tm.env 'TEST_URL' .. '/{}'), min_interval = '1ms',\n"
                     "  headers = { ['X-Token'] = secret } }\n"
                     "tm.notify 'gone' { url = secret:format 'http://127.0.0.1:1/{}' }\n"
                     "tm.on('start', function()\n"
                     "  tm.notify.send('ops', 'one', { n = 1, s = secret })\n"
                     "  tm.notify.send('ops', 'two')\n"
                     "  tm.notify.send('gone', 'never')\n"
                     "  count 'sent'\n" /* at once */
                     "end)\n"
                     "tm.every('5ms', function()\n"
                     "  if host.metric then count 'tick' end\n"
                     "end)\n");
    bench_until("sent", 1);
    while (atomic_load(&peer.count) < 3)
        bench_until("tick", bench_metric("tick") + 1);
    bench_no_errors();
    assert_non_null(strstr(peer.requests[1], "POST /canary-2718"));
    assert_non_null(strstr(peer.requests[1], "X-Token: canary-2718\r\n"));
    assert_non_null(strstr(peer.requests[1], "\"text\":\"one\""));
    assert_non_null(strstr(peer.requests[1], "\"s\":\"***\""));
    assert_non_null(strstr(peer.requests[1], "\"id\":\"d7\""));
    assert_non_null(strstr(peer.requests[2], "\"text\":\"two\""));
    assert_no_canary();
}

/* ---- metrics ---- */

static double labelled(const char *name, const char *labels)
{
    return tm_metric_get(tm_metrics_counter(bench.services.metrics, name, "", labels));
}

static void test_metrics(void **state)
{
    (void)state;
    (void)tm_metrics_gauge(bench.services.metrics, "engine_gauge", "", NULL);
    bench_run(
        "role()\n"
        "local calls = tm.counter { name = 'calls_total', help = 'Calls', labels = { 'endpoint', 'code' }, max = 3 }\n"
        "local took = tm.histogram { name = 'took_seconds', help = 'Time' }\n"
        "local wrong = tm.counter { name = 'engine_gauge', help = 'x' }\n"
        "tm.on('start', function()\n"
        "  for i = 1, 10 do calls:add(i, { endpoint = 'a\"\\\\\\n' .. i, code = i }) end\n"
        "  calls:add(1, { endpoint = 'a\"\\\\\\n1', code = 1 })\n"
        "  took:observe(0.25)\n"
        "  local function refused(text, fn, ...)\n"
        "    local ok, why = pcall(fn, ...)\n"
        "    assert(not ok and tostring(why):find(text, 1, true), tostring(why))\n"
        "  end\n"
        "  refused('is there already', wrong.add, wrong)\n"
        "  refused('UTF-8', calls.add, calls, 1, { endpoint = '\\255', code = 1 })\n"
        "  refused('UTF-8', calls.add, calls, 1, { endpoint = '\\1', code = 1 })\n"
        "  refused('at most 128 bytes', calls.add, calls, 1, { endpoint = ('x'):rep(200), code = 1 })\n"
        "  refused('labels like', tm.counter, 'fixed_total', 'x', 'a=b')\n"
        "  refused('labels like', tm.counter, 'fixed_total', 'x', 'a=\"b\"} 1\\nx{')\n"
        "  refused('a counter goes up', calls.add, calls, -1, { endpoint = 'x', code = 1 })\n"
        "  tm.counter('fixed_total', 'x', 'a=\"b\"'):add(2)\n"
        "  count 'done'\n"
        "end)\n");
    bench_until("done", 1);
    bench_no_errors();
    assert_true(labelled("calls_total", "endpoint=\"a\\\"\\\\\\n1\",code=\"1\"") == 2);
    assert_true(labelled("calls_total", "endpoint=\"a\\\"\\\\\\n3\",code=\"3\"") == 3);
    assert_true(labelled("calls_total", "endpoint=\"other\",code=\"other\"") == 4 + 5 + 6 + 7 + 8 + 9 + 10);
    assert_true(labelled("fixed_total", "a=\"b\"") == 2);
    assert_true(bench_metric("tidemill_metrics_dropped_series_total") >= 7);
    struct tm_buf page = {0};
    assert_int_equal(tm_metrics_render(bench.services.metrics, &page), TM_OK);
    assert_non_null(strstr(tm_buf_cstr(&page), "took_seconds_bucket{le=\"0.25\"} 1\n"));
    tm_buf_fini(&page);
}

/* A bound of one generation is the bound of all: the series are counted in the registry. */
static void test_metrics_over_generations(void **state)
{
    (void)state;
    static const char script[] = "role() local m = tm.gauge { name = 'g', help = 'x', labels = { 'l' }, max = 2 }\n"
                                 "tm.on('start', function() m:set(1, { l = tm.monotonic() }) count 'done' end)\n";
    for (int i = 1; i <= 5; i++) {
        bench_run(script);
        bench_until("done", i);
        tm_script_destroy(bench.script);
        bench.script = NULL;
    }
    struct tm_buf page = {0};
    assert_int_equal(tm_metrics_render(bench.services.metrics, &page), TM_OK);
    int series = 0;
    for (const char *at = tm_buf_cstr(&page); (at = strstr(at, "\ng{l=")); at++)
        series++;
    assert_int_equal(series, 3); /* two and "other" */
    tm_buf_fini(&page);
}

/* ---- alerts ---- */

static void test_alerts(void **state)
{
    (void)state;
    bench_run(
        "role()\n"
        "local level = tm.gauge('level', 'x')\n"
        "tm.alert 'High' { when = 'level > 5', clear = 'level < 2', severity = 'critical', summary = '{id}: {value}',\n"
        "  labels = { team = 'data' }, runbook = 'https://x' }\n"
        "tm.on('start', function() level:set(7) end)\n"
        "tm.on('alert', function(a)\n"
        "  assert(a.name == 'High' and a.severity == 'critical' and a.labels.team == 'data' and a.runbook == 'https://x')\n"
        "  assert(math.abs(tm.now() - a.since) < 3600e6 and a.repeated == false and a.description == nil)\n"
        "  if a.state == 'firing' then\n"
        "    assert(a.value == 7 and a.summary == 'd7: 7')\n"
        "    level:set(1)\n"
        "  end\n"
        "  count(a.state)\n"
        "end)\n");
    bench_until("firing", 1);
    bench_until("resolved", 1);
    bench_no_errors();
    assert_true(bench_logged("event=\"alert fires\" alert=High severity=critical value=7"));
    assert_true(bench_logged("event=\"alert is resolved\""));
}

/* The next generation finds the state, and it is the one that hears. */
static void test_alerts_survive(void **state)
{
    (void)state;
    bench_run("role() local level = tm.gauge('level', 'x') tm.alert 'A' { when = 'level > 5' }\n"
              "tm.on('start', function() level:set(7) end) tm.on('alert', function() count 'old' end)\n");
    bench_until("old", 1);
    struct tm_script *before = bench.script;
    bench_run("role() local level = tm.gauge('level', 'x') tm.alert 'A' { when = '(level>5)', summary = 'new' }\n"
              "tm.after('1500ms', function() count 'later' level:set(0) end)\n"
              "tm.on('alert', function(a) assert(a.summary == 'new') count(a.state) end)\n");
    tm_script_destroy(before);
    bench_until("later", 1);
    assert_true(bench_metric("firing") == 0); /* it fired before and fires still */
    bench_until("resolved", 1);
    assert_true(bench_metric("old") == 1);
    bench_no_errors();
}

static void test_alert_mistakes(void **state)
{
    (void)state;
    assert_int_equal(
        bench_load("role() tm.alert 'A' { when = 'x >' }\ntm.alert 'B' { when = 'x > 1', clear = 'x <> 1' }\n"
                   "tm.alert 'C' { when = 'rate(x) > 1' }\n"),
        TM_EINVAL);
    bench_expect_problem("tm.alert A: when: column 4: expected a number, a metric, a function or (, got the end");
    bench_expect_problem("tm.alert B: clear: column 4: expected a number, a metric, a function or (, got \">\"");
    bench_expect_problem("tm.alert C: when: column 7: expected a comma");
    assert_int_equal(bench.problems.count, 3);
    const char *at = strrchr(bench.problems.list[2].where, '/');
    assert_string_equal(at, "/s.lua:4");
}

/* ---- state ---- */

/* With the host's own JSON: what a double holds comes back to the bit. */
static void test_state(void **state)
{
    (void)state;
    bench_run(
        "local declared = require 'tidemill.declare'.declared\n"
        "role() local s = tm.state('s', { list = {} })\n"
        "tm.on('start', function()\n"
        "  local numbers = { 1 / 3, 5e-324, 1.7976931348623157e308, 2 ^ 53, -2 ^ 53, 2 ^ 53 + 2, 2 ^ 63, 1e15, 0.1, -0.5,\n"
        "    math.huge, -math.huge, 9007199254740991 }\n"
        "  s.numbers, s.text, s.empty, s.sparse, s.null, s.marked = numbers, '\\0\\n\\255\"\\\\', {}, { [7] = 'x' }, tm.null,\n"
        "    tm.json.array {}\n"
        "  local text = declared.save_state()\n"
        "  assert(tm.json.decode(text).v == 1)\n"
        "  for key in pairs(s) do s[key] = nil end\n"
        "  declared.restore_state(text)\n"
        "  for i, v in ipairs(numbers) do assert(s.numbers[i] == v, i) end\n"
        "  assert(s.text == '\\0\\n\\255\"\\\\' and next(s.empty) == nil and s.sparse[7] == 'x' and s.null == tm.null)\n"
        "  assert(tm.json.encode(s.marked) == '[]' and tm.json.encode(s.empty) == '{}' and #s.list == 0)\n"
        "  s.f = function() end\n"
        "  local ok, why = pcall(declared.save_state)\n"
        "  assert(not ok and why == 'state s.f: a function cannot be kept, only texts, numbers, booleans and plain tables')\n"
        "  count 'done'\n"
        "end)\n");
    bench_until("done", 1);
    bench_no_errors();
}

/* ---- wrong arguments ---- */

static void test_wrong_arguments(void **state)
{
    (void)state;
    bench_run(
        SECRET
        "local db = tm.sql { conninfo = 'host=/nonexistent', timeout = '100ms' }\n"
        "local names = { 'secret', 'secret_format', 'is_secret', 'conninfo', 'sql', 'sql_begin', 'sql_end', 'metric',\n"
        "  'metric_labelled', 'metric_add', 'metric_set', 'metric_observe', 'metric_check', 'metric_check_label', 'http',\n"
        "  'json_encode' }\n"
        "tm.on('start', function()\n"
        "  local metric = host.metric('gauge', 'fuzz', 'x')\n"
        "  local values = { false, 0, 1, -1, 1e308, 0/0, '', 'x', 'file', 'counter', 'a\\0b', {}, { {} }, { { 'a', 'b' } },\n"
        "    { 'l' }, function() end, host.null, secret, metric, db, coroutine.create(function() end), tm.json.array {} }\n"
        "  for _, name in ipairs(names) do\n"
        "    local f = assert(host[name], name)\n"
        "    for i = 1, 400 do\n"
        "      local args = {}\n"
        "      for k = 1, 7 do args[k] = values[math.random(#values + 1)] end\n"
        "      tm.spawn(function() pcall(f, unpack(args, 1, math.random(0, 7))) end)\n"
        "      if i % 50 == 0 then tm.sleep '1ms' end\n"
        "    end\n"
        "    tm.sleep '1ms'\n"
        "  end\n"
        "  count 'survived'\n"
        "end)\n");
    bench_until("survived", 1);
    assert_no_canary();
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_secrets_show_nowhere),
        TEST(test_log_refuses_tables),
        TEST(test_secrets_in_declarations),
        TEST(test_mistakes_name_no_secret),
        TEST(test_http),
        TEST(test_notify),
        TEST(test_metrics),
        TEST(test_metrics_over_generations),
        TEST(test_alerts),
        TEST(test_alerts_survive),
        TEST(test_alert_mistakes),
        TEST(test_state),
        TEST(test_wrong_arguments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
