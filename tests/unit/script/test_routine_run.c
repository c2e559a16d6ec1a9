/* Events of one's own, waiting for them, and recovery routines on a real VM and loop; two generations of a script on one
 * set of services. What scripts did is read from the metrics they set. */
#include "script/routines.h"
#include "script/script.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#define LIBRARY TM_SOURCE_DIR "/lua"
#define DEADLINE_US INT64_C(20000000)

struct bench {
    struct tm_services services;
    struct tm_script *scripts[2];
    struct tm_problems problems;
    struct tm_timer poll, deadline;
    bool late;
    const char *until_metric;
    double until_value;
};

static struct bench bench;

static int setup(void **state)
{
    (void)state;
    bench = (struct bench){.problems = {.arena = tm_arena_create()}};
    bench.services.loop = tm_loop_create();
    bench.services.metrics = tm_metrics_create();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    tm_script_destroy(bench.scripts[0]);
    tm_script_destroy(bench.scripts[1]);
    tm_services_fini(&bench.services);
    tm_loop_destroy(bench.services.loop);
    tm_metrics_destroy(bench.services.metrics);
    tm_arena_destroy(bench.problems.arena);
    return 0;
}

static double metric(const char *name)
{
    return tm_metric_get(tm_metrics_counter(bench.services.metrics, name, "", NULL));
}

static double runs(const char *result)
{
    char labels[64];
    (void)snprintf(labels, sizeof labels, "routine=\"r\",result=\"%s\"", result);
    return tm_metric_get(tm_metrics_counter(bench.services.metrics, "tidemill_recovery_runs_total", "", labels));
}

static struct tm_script *start(int slot, const char *body)
{
    char path[] = "/tmp/tm-run-XXXXXX", *text;
    struct tm_error err;
    int fd = mkstemp(path);
    int len = asprintf(&text,
                       "local tm = require 'tidemill'\nlocal host = require 'tidemill.host'\n"
                       "require 'kalshi.streams'\n"
                       "tm.deduplicator { id = 'd', production = 'dbname=x', gatherers = { g = 'dbname=y' } }\n"
                       "local function count(name) tm.counter(name, 'test'):add() end\n"
                       "local function use() return host, count end\n%s",
                       body);
    assert_true(fd >= 0 && len > 0 && write(fd, text, (size_t)len) == len);
    close(fd);
    free(text);
    struct tm_script_options options = {.path = path, .library = LIBRARY};
    int rc = tm_script_load(&options, &bench.problems, &bench.scripts[slot]);
    unlink(path);
    if (rc)
        fail_msg("%s: %s", bench.problems.list[0].where, bench.problems.list[0].message);
    bench.services.plan = tm_script_config(bench.scripts[slot])->plan;
    if (tm_script_start(bench.scripts[slot], &bench.services, &err) < 0)
        fail_msg("%s", err.message);
    return bench.scripts[slot];
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

static void outage(int slot, double from)
{
    struct tm_watch_event event = {
        .type = TM_WATCH_OUTAGE_OVER, .link = -1, .name = "l", .text = "gap", .from_us = (int64_t)from, .to_us = 9};
    tm_script_watch(bench.scripts[slot], &event);
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
    run_until("done", 1);
    outage(0, 1790000000123456.0);
    run_until("watched", 1);
    assert_true(metric("tidemill_script_errors_total") == 0);
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
    run_until("done", 1);
    assert_true(metric("woken") == 1 && metric("never") == 0 && metric("other") == 1);
    assert_true(metric("tidemill_script_errors_total") == 0);
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
    run_until("second", 1);
    assert_true(metric("first") == 1);
    assert_true(runs("timeout") == 1);
    while (tm_routines_running(bench.services.routines))
        run_until("second", 1);
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
    run_until("failed", 1);
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
    run_until("begin_old", 1);
    start_named(1, "new", "true");
    outage(1, 2); /* waits; which lets the old one's end */
    assert_int_equal(tm_routines_running(bench.services.routines), 1);
    run_until("end_new", 1);
    assert_true(metric("end_old") == 1 && metric("begin_old") == 1 && metric("begin_new") == 1);
    assert_true(runs("done") >= 1);
    outage(0, 3); /* an old script may not start anything more */
    run_until("end_new", 2);
    assert_true(metric("begin_old") == 1);
}

static void a_run_outlives_the_end_of_its_script(void **state)
{
    (void)state;
    start_named(0, "old", "false");
    outage(0, 1);
    run_until("begin_old", 1);
    start_named(1, "new", "true");
    tm_script_destroy(bench.scripts[0]);
    bench.scripts[0] = NULL;
    run_until("end_new_after_old", 1);
    assert_true(metric("end_old") == 0);
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
    run_until("done", 1);
    assert_true(metric("tidemill_script_errors_total") == 0);
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
