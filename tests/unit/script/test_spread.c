/* Spreads and subscriptions as scripts see them, over generations of a script on the same services. */
#include "bench.h"

/* Run a generation until it has counted "done" once more. The one before it ends first; its plan is let go of with it, so
 * registries, which read it, are not carried over here. */
static void run(const char *body)
{
    char *text;
    double done = bench_metric("done") + 1;
    tm_script_destroy(bench.script);
    bench.script = NULL;
    assert_true(asprintf(&text, "role()\n%s", body) > 0);
    bench_run(text);
    free(text);
    bench_until("done", done);
    bench_no_errors();
    assert_true(bench_metric("done") == done);
}

static void test_operations(void **state)
{
    (void)state;
    run("tm.on('start', function()\n"
        "  local s, made = tm.spread('x', 2, 2)\n"
        "  assert(made and s:add 'A' and s:add 'B' and s:add 'C' and not s:add 'A')\n"
        "  assert(s:has 'B' and not s:has 'Z')\n"
        "  local connection, slot = s:find 'C'\n"
        "  assert(connection == 1 and slot == 0 and s:find 'Z' == nil)\n"
        "  assert(s:pending() == 5)\n"
        "  local names, n = s:slot(1, 0)\n"
        "  assert(names == '[\"A\",\"C\"]' and n == 2)\n"
        "  names, n, slot = s:take_slot(1)\n"
        "  assert(names == '[\"A\",\"C\"]' and n == 2 and slot == 0 and s:take_slot(1) == nil)\n"
        "  s:touch_slot(1, 0)\n"
        "  assert(select(3, s:take_slot(1)) == 0)\n"
        "  names, n = s:take(1, 'added', 1)\n"
        "  assert(names == '[\"A\"]' and n == 1)\n"
        "  s:give_back(1, 'added')\n"
        "  assert(select(2, s:take(1, 'added', 10)) == 2 and s:take(1, 'added', 10) == nil)\n"
        "  assert(s:take(1, 'removed', 10) == nil)\n"
        "  assert(s:remove 'A' and not s:remove 'A' and s:take(1, 'removed', 10) == '[\"A\"]')\n"
        "  s:sent(1, 'removed')\n"
        "  s:retell(1)\n"
        "  assert(s:stats(1).added == 1)\n"
        "  s:set_chunk(1, 1)\n"
        "  local stats = s:stats(1)\n"
        "  assert(stats.chunk == 1 and stats.names == 1 and s:stats(2).chunk == 2)\n"
        "  local list, cursor = s:next(0, 1)\n"
        "  assert(#list == 1 and cursor)\n"
        "  local rest, last = s:next(cursor, 10)\n"
        "  assert(#rest == 1 and rest[1] ~= list[1] and last == nil)\n"
        "  s:restart(2)\n"
        "  stats = s:stats()\n"
        "  assert(stats.names == 2 and stats.connections == 2 and stats.chunk == 2 and stats.memory > 1000)\n"
        "  s:clear()\n"
        "  assert(s:stats().names == 0)\n"
        "  local _, why = pcall(s.take, s, 3, 'added', 1)\n"
        "  assert(why:find('connection: expected an integer from 1 to 2', 1, true), why)\n"
        "  _, why = pcall(s.take, s, 1, 'add', 1)\n"
        "  assert(why:find('add', 1, true), why)\n"
        "  _, why = pcall(s.add, s, ('x'):rep(256))\n"
        "  assert(why:find('expected a name of 1 to 255 bytes', 1, true), why)\n"
        "  assert(not pcall(tm.spread, '', 1, 1) and not pcall(tm.spread, 'y', 0, 1) and not pcall(tm.spread, 'y', 1, 0)\n"
        "    and not pcall(tm.spread, 'y', 1001, 1) and not pcall(tm.spread, 'y', 1, 1.5))\n"
        "  assert(tm.close_spread 'x' and not tm.close_spread 'x' and not pcall(s.add, s, 'A') and #tm.spreads() == 0)\n"
        "  count 'done'\n"
        "end)\n");
}

static void test_the_next_generation_finds_it(void **state)
{
    (void)state;
    run("tm.on('start', function()\n"
        "  local s = tm.spread('kept', 1, 10)\n"
        "  tm.spread('other', 3, 10)\n"
        "  for i = 1, 20 do s:add('T' .. i) end\n"
        "  s:take(1, 'added', 100)\n"
        "  while s:take_slot(1) do end\n"
        "  count 'done'\n"
        "end)\n");
    run("tm.on('start', function()\n"
        "  local s, made = tm.spread('kept', 1, 10)\n"
        "  assert(not made and s:stats().names == 20 and s:pending() == 0)\n"
        "  local names = tm.spreads()\n"
        "  assert(#names == 2 and names[1] == 'kept' and names[2] == 'other')\n"
        "  tm.close_spread 'other'\n"
        "  count 'done'\n"
        "end)\n");
    run("tm.on('start', function()\n"
        "  local s, made = tm.spread('kept', 2, 10)\n"
        "  assert(not made and s:stats(1).names == 10 and s:stats(2).names == 10)\n"
        "  assert(s:stats(1).removed == 10 and s:stats(2).added == 10)\n"
        "  assert(#tm.spreads() == 1)\n"
        "  count 'done'\n"
        "end)\n");
}

/* Any values in any places, on a spread that is open: refused with an error or done, and nothing worse. */
static void test_wrong_arguments(void **state)
{
    (void)state;
    run("local values = { 1, 2, 0, -1, 1.5, 1e308, -1e308, 0/0, 1/0, '', 'added', 'removed', 'x\\0y', ('z'):rep(300), {}, "
        "false, function() end, host.null }\n"
        "tm.on('start', function()\n"
        "  local state = 7\n"
        "  local function any()\n"
        "    state = (state * 1103515245 + 12345) % 2147483648\n"
        "    return values[math.floor(state / 65536) % #values + 1]\n"
        "  end\n"
        "  for name, f in pairs(host) do\n"
        "    if name:find '^spread_' then\n"
        "      for i = 1, 3000 do\n"
        "        local id = host.spread_open('fuzz', 2, 3)\n"
        "        pcall(host.spread_add, id, 'N' .. i)\n"
        "        pcall(f, i % 4 > 0 and id or any(), any(), any(), any())\n"
        "      end\n"
        "      tm.sleep '1ms'\n"
        "    end\n"
        "  end\n"
        "  count 'done'\n"
        "end)\n");
}

/* ---- what links are subscribed to ---- */

static void note(enum tm_event_type type, int link, int64_t sid, const char *channel)
{
    struct tm_event *e = calloc(1, sizeof *e + strlen(channel) + 1);
    assert_non_null(e);
    e->type = type;
    e->link = link;
    e->sid = sid;
    e->text_len = strlen(channel);
    memcpy(e->text, channel, e->text_len);
    tm_services_note_event(&bench.services, e);
    free(e);
}

static int64_t sid_of(int link, const char *channel)
{
    const struct tm_service_subscriptions *all = &bench.services.subscriptions[link];
    for (size_t i = 0; i < all->count; i++)
        if (strcmp(all->list[i].channel, channel) == 0)
            return all->list[i].sid;
    return -1;
}

static void test_subscriptions_of_links(void **state)
{
    (void)state;
    char many[16];
    bench.services.links[3] = strdup("a");
    bench.services.links[4] = strdup("b");
    note(TM_EVENT_SUBSCRIBED, 3, 1, "trade");
    note(TM_EVENT_SUBSCRIBED, 3, 2, "ticker");
    note(TM_EVENT_SUBSCRIBED, 4, 1, "trade");
    note(TM_EVENT_SUBSCRIBED, 5, 1, "trade"); /* no such link (any more) */
    note(TM_EVENT_SUBSCRIBED, -1, 1, "trade");
    note(TM_EVENT_SUBSCRIBED, TM_LINKS_MAX, 1, "trade");
    note(TM_EVENT_SUBSCRIBED, 3, -1, "nothing");
    assert_int_equal(bench.services.subscriptions[3].count, 2);
    assert_int_equal(bench.services.subscriptions[5].count, 0);
    note(TM_EVENT_SUBSCRIBED, 3, 7, "trade"); /* anew */
    assert_int_equal(sid_of(3, "trade"), 7);
    note(TM_EVENT_UNSUBSCRIBED, 3, 2, "");
    note(TM_EVENT_UNSUBSCRIBED, 3, 2, "");
    assert_int_equal(sid_of(3, "ticker"), -1);
    assert_int_equal(sid_of(3, "trade"), 7);
    note(TM_EVENT_LINK_DOWN, 3, -1, "reset");
    assert_int_equal(sid_of(3, "trade"), -1);
    assert_int_equal(sid_of(4, "trade"), 1);
    for (int i = 0; i < 2 * TM_LINK_SUBSCRIPTIONS_MAX; i++) {
        (void)snprintf(many, sizeof many, "c%d", i);
        note(TM_EVENT_SUBSCRIBED, 3, i, many);
    }
    assert_int_equal(bench.services.subscriptions[3].count, TM_LINK_SUBSCRIPTIONS_MAX);
    assert_int_equal(sid_of(3, "c31"), 31);
    tm_services_forget_link(&bench.services, 4);
    assert_int_equal(sid_of(4, "trade"), -1);
}

/* ---- a registry and a rule ---- */

/* Volumes change all the time: they are kept, but a market does not count as changed for them. */
static void test_quiet_columns(void **state)
{
    (void)state;
    run("local r = tm.registry('markets', { 'status' }, { 'volume' })\n"
        "local function put(status, volume)\n"
        "  local _, changed = host.decode('market', 'markets', tm.json.encode { markets = tm.json.array { { ticker = 'A', "
        "status = status, volume_fp = volume } } }, r.entry.id, 1)\n"
        "  return #changed\n"
        "end\n"
        "tm.on('start', function()\n"
        "  assert(put('active', '1.00') == 1 and put('active', '1.00') == 0)\n"
        "  assert(put('active', '12.50') == 0 and r:get('A').volume == 1250)\n"
        "  assert(put('active', nil) == 0 and r:get('A').volume == nil)\n"
        "  assert(put('closed', '3.00') == 1 and r:get('A').status == 'closed' and r:get('A').volume == 300)\n"
        "  assert(host.registry_open('markets', { 'status' }, { 'volume' }) == r.entry.id and r:count() == 1)\n"
        /* declared twice by one script: the first counts */
        "  assert(host.registry_open('markets', { 'status', 'volume' }) == r.entry.id and r:count() == 1)\n"
        "  count 'done'\n"
        "end)\n");
}

/* A hundred thousand markets under a rule over their fields: what it takes, and the longest single step. */
static void test_a_rule_over_100000_markets(void **state)
{
    (void)state;
    run("local rest = tm.rest { url = 'http://127.0.0.1:1/' }\n"
        "local markets = require 'kalshi.markets'.new(rest, { on_market = function() end, on_gone = function() end })\n"
        "local rule, chooser = require 'tidemill.rule', require 'tidemill.chooser'\n"
        "local function market(i)\n"
        "  return ('{\"ticker\":\"KXS%02d-26NOV05-T%06d\",\"event_ticker\":\"KXS%02d-26NOV05\",\"status\":\"active\","
        "\"close_time\":\"2030-11-05T%02d:00:00Z\",\"volume_fp\":\"%d.00\"}'):format(i % 40, i, i % 40, i % 24, i % 7)\n"
        "end\n"
        "tm.on('start', function()\n"
        "  for page = 0, 99 do\n"
        "    local list = {}\n"
        "    for i = 1, 1000 do list[i] = market(page * 1000 + i) end\n"
        "    host.decode('market', 'markets', '{\"markets\":[' .. table.concat(list, ',') .. ']}', "
        "markets.registry.entry.id, 1)\n"
        "    tm.sleep '1us'\n"
        "  end\n"
        "  assert(markets.registry:count() == 100000)\n"
        "  local soon = 1920092400000000\n" /* date -u -d '2030-11-05 07:00' +%s */
        "  local spread = tm.spread('rule', 16, 500)\n"
        "  local function choice(m) return m.series_ticker ~= 'KXS07' and m.close_time < soon and m.volume > 0 end\n"
        "  local function pass(name)\n"
        "    local c = chooser.new { rule = rule.check(choice), spread = spread, markets = markets, every_us = 60e6, what = "
        "'x', failed = error, done = error }\n"
        "    local begun, longest, more = tm.monotonic(), 0, true\n"
        "    while more do\n"
        "      local at = tm.monotonic()\n"
        "      more = c:step()\n"
        "      longest = math.max(longest, tm.monotonic() - at)\n"
        "      tm.sleep '1us'\n"
        "    end\n"
        "    tm.gauge('us_' .. name, 'test'):set(tm.monotonic() - begun)\n"
        "    tm.gauge('longest_' .. name, 'test'):set(longest)\n"
        "  end\n"
        "  pass 'first'\n"
        "  pass 'again'\n"
        "  tm.gauge('names', 'test'):set(spread:stats().names)\n"
        "  count 'done'\n"
        "end)\n");
    double expected = 0;
    for (int i = 1; i <= 100000; i++)
        expected += i % 40 != 7 && i % 24 < 7 && i % 7 > 0;
    struct tm_metrics *m = bench.services.metrics;
    assert_true(tm_metric_get(tm_metrics_gauge(m, "names", "", NULL)) == expected);
    print_message("a rule over 100,000 markets: first %.0f ms (longest step %.1f ms), again %.0f ms (%.1f ms)\n",
                  tm_metric_get(tm_metrics_gauge(m, "us_first", "", NULL)) / 1e3,
                  tm_metric_get(tm_metrics_gauge(m, "longest_first", "", NULL)) / 1e3,
                  tm_metric_get(tm_metrics_gauge(m, "us_again", "", NULL)) / 1e3,
                  tm_metric_get(tm_metrics_gauge(m, "longest_again", "", NULL)) / 1e3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        BENCH_TEST(test_operations),      BENCH_TEST(test_the_next_generation_finds_it),
        BENCH_TEST(test_wrong_arguments), BENCH_TEST(test_subscriptions_of_links),
        BENCH_TEST(test_quiet_columns),   BENCH_TEST(test_a_rule_over_100000_markets),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
