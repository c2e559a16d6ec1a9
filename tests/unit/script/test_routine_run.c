/* Events of one's own, waiting for them, and recovery routines on a real VM and loop; two generations of a script on one
 * set of services. What scripts did is read from the metrics they set. */
#include "bench.h"

#include "script/routines.h"

static struct tm_script *scripts[2]; /* generations; bench.script is the newest */

static int setup(void **state)
{
    scripts[0] = scripts[1] = NULL;
    return bench_setup(state);
}

static int teardown(void **state)
{
    tm_script_destroy(scripts[0]);
    tm_script_destroy(scripts[1]);
    bench.script = NULL;
    return bench_teardown(state);
}

static double runs(const char *result)
{
    char labels[64];
    (void)snprintf(labels, sizeof labels, "routine=\"r\",result=\"%s\"", result);
    return tm_metric_get(tm_metrics_counter(bench.services.metrics, "tidemill_recovery_runs_total", "", labels));
}

static struct tm_script *start(int slot, const char *body)
{
    char *text;
    assert_true(asprintf(&text, "role()\n%s", body) > 0);
    bench_run(text);
    free(text);
    return scripts[slot] = bench.script;
}

static void outage(int slot, double from)
{
    struct tm_watch_event event = {
        .type = TM_WATCH_OUTAGE_OVER, .link = -1, .name = "l", .text = "gap", .from_us = (int64_t)from, .to_us = 9};
    tm_script_watch(scripts[slot], &event);
}

static void events_reach_those_who_wait(void **state)
{
    (void)state;
    start(0,
          "tm.event 'flood'\n"
          "tm.on('start', function()\n"
          "  local e = tm.wait_for('flood', { match = { level = 2 }, timeout = '10s' })\n"
          "  assert(e.level == 2 and e.text == '' and e.type == 'flood')\n"
          "  count 'got'\n"
          "  local before = tm.monotonic()\n"
          "  assert(tm.wait_for('flood', { timeout = '20ms' }) == nil)\n"
          "  assert(tm.monotonic() - before >= 19000)\n"
          "  count 'done'\n"
          "end)\n"
          "tm.on('start', function()\n"
          "  tm.emit('flood', { level = 1 })\n"
          "  tm.emit('flood', { level = 2 })\n"
          "end)\n"
          "tm.on('outage_over', function(e)\n"
          "  assert(e.from == 1790000000123456 and e.to == 9 and e.text == 'gap' and e.name == 'l' and e.link == nil)\n"
          "  count 'watched'\n"
          "end)\n");
    bench_until("done", 1);
    outage(0, 1790000000123456.0);
    bench_until("watched", 1);
    assert_true(bench_metric("tidemill_script_errors_total") == 0);
}

static void tasks_can_be_parked_woken_and_killed(void **state)
{
    (void)state;
    start(0, "tm.on('start', function()\n"
             "  local parked\n"
             "  tm.spawn(function() parked = host.task() assert(host.park(1e9) == true) count 'woken' end)\n"
             "  tm.sleep '5ms'\n"
             "  assert(host.is_live(parked) and host.wake(parked))\n"
             "  assert(not host.wake(parked))\n" /* it is ready, not parked */
             "  tm.sleep '5ms'\n"
             "  assert(not host.is_live(parked) and not host.wake(parked) and not host.kill(parked))\n"
             "  local asleep = host.spawn('x', function() tm.sleep '30ms' count 'never' end)\n"
             "  local ready = host.spawn('y', function() count 'never' end)\n"
             "  local other = host.spawn('z', function() count 'other' end)\n"
             "  assert(host.kill(ready) and not host.wake(asleep))\n"
             "  tm.sleep '1ms'\n"
             "  assert(host.kill(asleep) and not host.is_live(asleep) and not host.is_live(other))\n"
             "  assert(not host.kill(host.task()))\n"
             "  tm.sleep '60ms'\n"
             "  count 'done'\n"
             "end)\n");
    bench_until("done", 1);
    assert_true(bench_metric("woken") == 1 && bench_metric("never") == 0 && bench_metric("other") == 1);
    assert_true(bench_metric("tidemill_script_errors_total") == 0);
}

static void a_run_from_event_to_end(void **state)
{
    (void)state;
    start(0, "tm.routine 'r' {\n"
             "  on = { 'outage_over' }, retries = 1, backoff = '1ms', timeout = '100ms',\n"
             "  run = function(run, event)\n"
             "    run:step('looking', { n = 1 })\n"
             "    if run.attempt == 0 then run:save { from = event.from } count 'first' tm.sleep '1h' end\n"
             "    assert(run.saved.from == 1790000000123456, 'saved')\n"
             "    count 'second'\n"
             "  end }\n");
    outage(0, 1790000000123456.0);
    bench_until("second", 1);
    assert_true(bench_metric("first") == 1);
    assert_true(runs("timeout") == 1);
    while (tm_routines_running(bench.services.routines))
        bench_until("second", 1);
    assert_true(runs("done") == 1);
}

static void a_run_that_its_budget_ends_is_not_running_for_ever(void **state)
{
    (void)state;
    start(0, "tm.routine 'r' { on = { 'outage_over' }, run = function() while true do pcall(error) end end }\n"
             "tm.every('50ms', function()\n"
             "  for _, run in ipairs(tm.routine.list().recent) do\n"
             "    if run.state == 'failed' then count 'failed' end\n"
             "  end\n"
             "end)\n");
    outage(0, 1);
    bench_until("failed", 1);
    assert_int_equal(tm_routines_running(bench.services.routines), 0);
}

static const char *const SHARED = "tm.routine 'r' { on = { 'outage_over' }, run = function(run, event)\n"
                                  "  count('begin_' .. NAME)\n"
                                  "  run:save { by = NAME }\n"
                                  "  tm.wait_for('my.go', { timeout = '10s' })\n"
                                  "  count('end_' .. NAME .. (run.saved and '_after_' .. run.saved.by or ''))\n"
                                  "end }\n"
                                  "tm.every('5ms', function() if GO() then tm.emit 'my.go' end end)\n";

static void start_named(int slot, const char *name, const char *go)
{
    char text[2048];
    (void)snprintf(text, sizeof text, "local NAME = '%s'\nlocal function GO() return %s end\n%s", name, go, SHARED);
    start(slot, text);
}

static void a_new_generation_waits_for_the_run_of_the_old_one(void **state)
{
    (void)state;
    start_named(0, "old", "tm.now() > 0 and #tm.routine.list().waiting > 0");
    outage(0, 1);
    bench_until("begin_old", 1);
    start_named(1, "new", "true");
    outage(1, 2); /* waits; which lets the old one's end */
    assert_int_equal(tm_routines_running(bench.services.routines), 1);
    bench_until("end_new", 1);
    assert_true(bench_metric("end_old") == 1 && bench_metric("begin_old") == 1 && bench_metric("begin_new") == 1);
    assert_true(runs("done") >= 1);
    outage(0, 3); /* an old script may not start anything more */
    bench_until("end_new", 2);
    assert_true(bench_metric("begin_old") == 1);
}

static void a_run_outlives_the_end_of_its_script(void **state)
{
    (void)state;
    start_named(0, "old", "false");
    outage(0, 1);
    bench_until("begin_old", 1);
    start_named(1, "new", "true");
    tm_script_destroy(scripts[0]);
    scripts[0] = NULL;
    bench_until("end_new_after_old", 1);
    assert_true(bench_metric("end_old") == 0);
}

/* Every function, with arguments that nobody gives. */
static void nonsense_is_refused(void **state)
{
    (void)state;
    start(
        0,
        "tm.on('start', function()\n"
        "  local values = { 0, -1, 1e300, 0/0, '', 'x', ('x'):rep(1e5), 'a\\0b', true, {}, { routine = 'r' },\n"
        "    { routine = 'r', subject = 's', event = 'e', fields = '{}', priority = -1 }, function() end,\n"
        "    { routine = 5, subject = {}, event = 'e', fields = '{}' }, 'done', 'failed' }\n"
        "  for name, fn in pairs(host) do\n"
        "    if name:find '^routine_' or name == 'wake' or name == 'kill' or name == 'is_live' or name == 'link_tell' then\n"
        "      for i = 0, #values do\n"
        "        for j = 0, #values do pcall(fn, values[i], values[j], values[i]) end\n"
        "      end\n"
        "    end\n"
        "  end\n"
        "  count 'done'\n"
        "end)\n");
    bench_until("done", 1);
    assert_true(bench_metric("tidemill_script_errors_total") == 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(events_reach_those_who_wait, setup, teardown),
        cmocka_unit_test_setup_teardown(tasks_can_be_parked_woken_and_killed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_from_event_to_end, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_that_its_budget_ends_is_not_running_for_ever, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_generation_waits_for_the_run_of_the_old_one, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_outlives_the_end_of_its_script, setup, teardown),
        cmocka_unit_test_setup_teardown(nonsense_is_refused, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
