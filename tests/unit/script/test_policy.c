/* Generations of a script: what a reload takes over, what it refuses, and how the old generation ends. What scripts did
 * is read from the metrics they set. */
#include "script/policy.h"

#include "base/log.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <malloc.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define LIBRARY TM_SOURCE_DIR "/lua"
#define DEADLINE_US INT64_C(20000000)

#define HEAD                                                                                                           \
    "local tm = require 'tidemill'\nlocal host = require 'tidemill.host'\nrequire 'kalshi.streams'\n"                  \
    "local declared = require 'tidemill.declare'.declared\n"                                                           \
    "local function count(name) tm.counter(name, 'test'):add() end\n"                                                  \
    "local function use() return host, count, declared end\n"
#define ROLE "tm.deduplicator { id = 'd', production = 'dbname=x', gatherers = { g = 'dbname=y' } }\n"
#define TICK(name) "tm.every('2ms', function() count '" name "' end)\n"

struct bench {
    struct tm_services services;
    struct tm_policy_options options;
    struct tm_policy *policy;
    struct tm_policy_report report;
    struct tm_timer watch, deadline;
    bool late;
    bool (*until)(void);
    const char *metric;
    double value;
    int slow, caller;
};

static struct bench bench;
static char dir[64], path[96];

static int setup(void **state)
{
    (void)state;
    struct tm_error err;
    bench = (struct bench){.slow = -1};
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, NULL);
    (void)snprintf(dir, sizeof dir, "/tmp/tm-policy-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/s.lua", dir);
    bench.services.loop = tm_loop_create();
    bench.services.metrics = tm_metrics_create();
    bench.options = (struct tm_policy_options){.path = path, .library = LIBRARY, .services = &bench.services};
    return tm_http_create(bench.services.loop, 8, 100, &bench.services.http, &err);
}

static int teardown(void **state)
{
    (void)state;
    char command[96];
    tm_policy_report_fini(&bench.report);
    tm_http_destroy(bench.services.http);
    tm_policy_destroy(bench.policy);
    tm_services_fini(&bench.services);
    tm_loop_destroy(bench.services.loop);
    tm_metrics_destroy(bench.services.metrics);
    if (bench.slow >= 0)
        close(bench.slow);
    (void)snprintf(command, sizeof command, "rm -rf %s", dir);
    return system(command);
}

/* ---- files ---- */

static void put_file(const char *name, const char *bytes, size_t len)
{
    char file[160];
    (void)snprintf(file, sizeof file, "%s/%s", dir, name);
    (void)unlink(file);
    FILE *f = fopen(file, "w");
    assert_non_null(f);
    assert_int_equal(fwrite(bytes, 1, len, f), len);
    fclose(f);
}

static void put_script(const char *body)
{
    char *text;
    int len = asprintf(&text, "%s%s", HEAD, body);
    assert_true(len > 0);
    put_file("s.lua", text, (size_t)len);
    free(text);
}

/* ---- running ---- */

static void start(const char *body)
{
    struct tm_problems problems = {.arena = tm_arena_create()};
    struct tm_script_options options = {.path = path, .library = LIBRARY};
    struct tm_script *script;
    struct tm_error err;
    put_script(body);
    if (tm_script_load(&options, &problems, &script) < 0)
        fail_msg("%s: %s", problems.list[0].where, problems.list[0].message);
    tm_arena_destroy(problems.arena);
    if (tm_policy_create(&bench.options, script, &bench.policy, &err) < 0 || tm_policy_start(bench.policy, &err) < 0)
        fail_msg("%s", err.message);
}

static int reload(void)
{
    tm_policy_report_fini(&bench.report);
    return tm_policy_reload(bench.policy, &bench.report);
}

static void reload_good(void)
{
    if (reload() < 0)
        fail_msg("not reloaded: %s", bench.report.err.message);
}

static double metric(const char *name)
{
    return tm_metric_get(tm_metrics_counter(bench.services.metrics, name, "", NULL));
}

static double gauge(const char *name)
{
    return tm_metric_get(tm_metrics_gauge(bench.services.metrics, name, "", NULL));
}

static void on_poll(void *arg)
{
    (void)arg;
    if (bench.until())
        tm_loop_stop(bench.services.loop);
}

static void on_deadline(void *arg)
{
    (void)arg;
    bench.late = true;
    tm_loop_stop(bench.services.loop);
}

/* Run the loop until the condition holds. */
static void run_until(const char *what, bool (*until)(void))
{
    bench.until = until;
    tm_timer_init(&bench.watch, bench.services.loop, on_poll, NULL);
    tm_timer_init(&bench.deadline, bench.services.loop, on_deadline, NULL);
    tm_timer_start(&bench.watch, 1000, 1000);
    tm_timer_start(&bench.deadline, DEADLINE_US, 0);
    tm_loop_run(bench.services.loop);
    tm_timer_stop(&bench.watch);
    tm_timer_stop(&bench.deadline);
    if (bench.late)
        fail_msg("it did not come to: %s; errors %g, last %s", what, metric("tidemill_script_errors_total"),
                 tm_policy_status(bench.policy).last_error);
}

static bool metric_reached(void)
{
    return metric(bench.metric) >= bench.value;
}

static void run_until_metric(const char *name, double value)
{
    bench.metric = name;
    bench.value = value;
    run_until(name, metric_reached);
}

static bool is_drained(void)
{
    return tm_policy_status(bench.policy).draining == 0;
}

/* The running generation's timer of that name ticks on. */
static void assert_ticking(const char *name)
{
    run_until_metric(name, metric(name) + 2);
}

static void assert_changes(const char *const *expected)
{
    size_t i = 0;
    for (; expected[i]; i++) {
        if (i >= bench.report.change_count)
            fail_msg("no line for: %s", expected[i]);
        assert_string_equal(bench.report.changes[i], expected[i]);
    }
    if (i < bench.report.change_count)
        fail_msg("and %s", bench.report.changes[i]);
}

#define ASSERT_CHANGES(...) assert_changes((const char *const[]){__VA_ARGS__, NULL})

static bool is_changed(const char *line)
{
    for (size_t i = 0; i < bench.report.change_count; i++)
        if (strcmp(bench.report.changes[i], line) == 0)
            return true;
    return false;
}

/* ---- good reloads ---- */

static void test_nothing_changed(void **state)
{
    (void)state;
    start(ROLE TICK("one"));
    assert_int_equal(tm_policy_status(bench.policy).generation, 1);
    reload_good();
    assert_int_equal(bench.report.change_count, 0);
    assert_int_equal(bench.report.generation, 2);
    assert_ticking("one");
    assert_true(gauge("tidemill_script_generation") == 2);
}

static char file_line[160];

static void test_timers_and_handlers_are_those_of_the_new_generation(void **state)
{
    (void)state;
    start(ROLE TICK("old") "tm.on('start', function() count 'started' end)\n");
    run_until_metric("old", 2);
    put_script(ROLE TICK("new") "tm.every('3ms', function() end)\n"
                                "tm.on('gap', function() end)\ntm.on('start', function() count 'started' end)\n");
    reload_good();
    double old = metric("old");
    (void)snprintf(file_line, sizeof file_line, "file %s: changed", path);
    ASSERT_CHANGES(file_line, "handlers: gap: added: 1", "timers: tm.every 3ms: added: 1");
    run_until_metric("new", 10);
    assert_true(metric("old") == old);
    assert_true(metric("started") == 2);
    assert_int_equal(tm_policy_status(bench.policy).draining, 0);
    assert_true(metric("tidemill_script_errors_total") == 0);
}

static void test_diff_of_declarations(void **state)
{
    (void)state;
    start(
        "tm.deduplicator { id = 'd', production = 'password=hunter2', gatherers = { g = 'dbname=y' }, poll = '250ms' }\n"
        "tm.stream 'odd' { columns = { { 'a', 'int4' }, { 'b', 'text' } }, key = { 'a' } }\n"
        "tm.signer { key_id = 'canary', headers = { A = '{key_id}' } }\n"
        "tm.rest { url = 'http://127.0.0.1:1/x' }\n"
        "tm.alert 'Lag' { when = 'm > 1', hold = '30s', severity = 'warning', summary = 'x' }\n"
        "tm.alert 'Gone' { when = 'm > 2', severity = 'warning', summary = 'x' }\n");
    put_script(
        "-- a comment moves every line\n"
        "tm.deduplicator { id = 'd', production = 'password=hunter3', gatherers = { g = 'dbname=z' }, poll = '1s' }\n"
        "tm.stream 'even' { columns = { { 'a', 'int4' } }, key = { 'a' } }\n"
        "tm.dedup('trades', { window = '1h', memory = '64MiB' })\n"
        "tm.signer { key_id = 'canary2', headers = { A = '{key_id}' } }\n"
        "tm.rest { url = 'http://127.0.0.1:1/y' }\n"
        "tm.alert 'Lag' { when = 'm > 1', hold = '90s', severity = 'warning', summary = 'x' }\n");
    reload_good();
    (void)snprintf(file_line, sizeof file_line, "file %s: changed", path);
    ASSERT_CHANGES("alert Gone: removed", "alert Lag: hold: 30s -> 90s", "deduplicator: gatherer g: changed",
                   "deduplicator: poll: 250ms -> 1s", "deduplicator: production: changed", file_line,
                   "rest 1: url: http://127.0.0.1:1/x -> http://127.0.0.1:1/y", "signer 1: key_id: changed",
                   "stream even: added", "stream odd: removed", "stream trades: memory: added: 64MiB",
                   "stream trades: window: 2d -> 1h");
}

static void test_required_files_are_read_anew(void **state)
{
    (void)state;
    put_file("mine.lua", "return 'old'\n", 13);
    start(ROLE "local mine = require 'mine'\ntm.every('2ms', function() count(mine) end)\n");
    run_until_metric("old", 1);
    put_file("mine.lua", "return 'new'\n", 13);
    reload_good();
    (void)snprintf(file_line, sizeof file_line, "file %s/mine.lua: changed", dir);
    ASSERT_CHANGES(file_line);
    assert_ticking("new");
}

static void test_log_settings_apply(void **state)
{
    (void)state;
    start(ROLE);
    put_script(
        "tm.deduplicator { id = 'd', production = 'dbname=x', gatherers = { g = 'dbname=y' }, log_level = 'error' }\n");
    reload_good();
    assert_true(is_changed("deduplicator: log_level: info -> error"));
    assert_int_equal(tm_policy_config(bench.policy)->log_level, TM_LOG_ERROR);
}

/* ---- state ---- */

#define STATE                                                                                                          \
    "local n = 0\n"                                                                                                    \
    "declared.save_state = function() return tm.json.encode { n = n } end\n"                                           \
    "declared.restore_state = function(text) n = tm.json.decode(text).n end\n"

static void test_state_is_handed_over(void **state)
{
    (void)state;
    start(ROLE STATE "tm.every('1ms', function() if n < 7 then n = n + 1 count 'counted' end end)\n");
    run_until_metric("counted", 7);
    put_script(ROLE STATE "tm.on('start', function() assert(n == 7) count 'kept' end)\n");
    reload_good();
    run_until_metric("kept", 1);
    assert_string_equal(bench.services.state, "{\"n\":7}");
}

static void test_state_that_cannot_be_kept_refuses_the_reload(void **state)
{
    (void)state;
    start(ROLE TICK("old") "declared.save_state = function() error('no way') end\n");
    assert_true(reload() < 0);
    assert_non_null(strstr(bench.report.err.message, "state of the running generation"));
    assert_non_null(strstr(bench.report.err.message, "no way"));
    assert_ticking("old");
    tm_policy_destroy(bench.policy);
    start(ROLE TICK("older") "declared.save_state = function() return '1' end\n");
    put_script(ROLE "declared.restore_state = function() error('not mine') end\n");
    assert_true(reload() < 0);
    assert_non_null(strstr(bench.report.err.message, "not mine"));
    assert_ticking("older");
}

/* ---- refused ---- */

static void assert_rejected(const char *text)
{
    uint64_t generation = tm_policy_status(bench.policy).generation;
    double failures =
        tm_metric_get(tm_metrics_counter(bench.services.metrics, "tidemill_reloads_total", "", "result=\"failure\""));
    assert_true(reload() < 0);
    if (bench.report.problems.count == 0 || !strstr(bench.report.problems.list[0].message, text))
        fail_msg("expected \"%s\", got %zu problems, %s", text, bench.report.problems.count, bench.report.err.message);
    assert_int_equal(bench.report.generation, generation);
    struct tm_policy_status now = tm_policy_status(bench.policy);
    assert_int_equal(now.generation, generation);
    assert_false(now.last_ok);
    assert_non_null(strstr(now.last_error, text));
    assert_true(tm_metric_get(tm_metrics_counter(bench.services.metrics, "tidemill_reloads_total", "",
                                                 "result=\"failure\"")) == failures + 1);
    assert_true(gauge("tidemill_reload_last_result") == 0);
    assert_ticking("old");
}

static void test_bad_files_leave_the_running_generation_alone(void **state)
{
    (void)state;
    start(ROLE TICK("old"));
    put_script(ROLE "local x = = 3\n");
    assert_rejected("unexpected symbol");
    put_script(ROLE "error('at load')\n");
    assert_rejected("at load");
    put_script(ROLE "tm.everey('1s', function() end)\n");
    assert_rejected("everey");
    put_script("-- nothing\n");
    assert_rejected("declares no role");
    put_script(ROLE "require 'missing'\n");
    assert_rejected("module 'missing' is not there");
    put_file("s.lua", "\x1bLJ\x02", 4);
    assert_rejected("bytecode");
    assert_int_equal(unlink(path), 0);
    assert_rejected("No such file");
    assert_int_equal(mkfifo(path, 0600), 0);
    assert_rejected("not a regular file");
    put_script(ROLE);
    assert_int_equal(chmod(path, 0666), 0);
    assert_rejected("can be written by everybody");
    put_script(ROLE TICK("new"));
    reload_good();
    assert_true(gauge("tidemill_reload_last_result") == 1);
    assert_ticking("new");
}

/* A script cut at any byte is refused, or it is one that means something by itself; never does the process suffer. */
static void test_half_written_files(void **state)
{
    (void)state;
    static const char text[] = "local tm = require 'tidemill'\nrequire 'kalshi.streams'\n"
                               "tm.deduplicator { id = 'd', production = 'dbname=x', gatherers = { g = 'dbname=y' } }\n"
                               "tm.every('2ms', function() tm.counter('old', 'test'):add() end)\n";
    start(ROLE TICK("old"));
    for (size_t len = 0; len < sizeof text - 1; len += 7) {
        put_file("s.lua", text, len);
        bool role = len > (size_t)(strstr(text, "tm.every") - text) - 2;
        int rc = reload();
        if (!role && rc == TM_OK)
            fail_msg("taken at %zu bytes", len);
    }
    put_file("s.lua", text, sizeof text - 1);
    reload_good();
    assert_ticking("old");
}

static int64_t thread_cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void test_an_endless_loop_ends_within_its_budget(void **state)
{
    (void)state;
    start(ROLE TICK("old"));
    int64_t load_us = tm_script_load_cpu_us(tm_policy_script(bench.policy));
    int64_t budget_us = load_us * 10 < 50000 ? 50000 : load_us * 10 > 2000000 ? 2000000 : load_us * 10;
    put_script(ROLE "while true do pcall(error) end\n");
    int64_t before_us = thread_cpu_us();
    assert_true(reload() < 0);
    int64_t used_us = thread_cpu_us() - before_us;
    /* the file has used what was left, and taking what was declared has its own */
    if (used_us < budget_us / 2 || used_us > 3 * budget_us)
        fail_msg("used %lld us of %lld", (long long)used_us, (long long)budget_us);
    assert_non_null(strstr(bench.report.problems.list[0].message, "budget of CPU time"));
    assert_non_null(strstr(bench.report.problems.list[1].message, "ten times what the running generation took"));
    assert_ticking("old");
}

static void test_what_needs_a_restart_is_named(void **state)
{
    (void)state;
    start(ROLE TICK("old"));
    put_script(
        "tm.deduplicator { id = 'other', production = 'dbname=x', gatherers = { g = 'dbname=y' }, health = '127.0.0.1:1',"
        " metrics = '127.0.0.1:2', socket = '/tmp/x' }\n");
    assert_rejected("id cannot change while it runs (d -> other): restart to apply it");
    assert_int_equal(bench.report.problems.count, 4);
    assert_string_equal(bench.report.problems.list[1].message,
                        "health cannot change while it runs (127.0.0.1:8080 -> 127.0.0.1:1): restart to apply it");
    assert_string_equal(bench.report.problems.list[3].message,
                        "socket cannot change while it runs (none -> /tmp/x): restart to apply it");
    assert_non_null(strstr(bench.report.problems.list[0].where, "s.lua:7"));
    put_script("tm.gatherer { id = 'd', store = 'dbname=x', data = 'y' }\n");
    assert_rejected("the role cannot change while it runs (deduplicator -> gatherer)");
}

static int failing_tests(struct tm_script *script, struct tm_problems *problems)
{
    (void)script;
    tm_problem_add(problems, "s_test.lua:3", "expected 1, got 2");
    return 1;
}

static void test_the_scripts_own_tests_decide(void **state)
{
    (void)state;
    bench.options.run_tests = failing_tests;
    start(ROLE TICK("old"));
    assert_rejected("expected 1, got 2");
}

/* A begin that fails comes after the engine was asked: the old generation is still whole. */
static void test_a_begin_that_fails_goes_back(void **state)
{
    (void)state;
    start(ROLE TICK("old"));
    put_script(ROLE TICK("new") "table.insert(require 'tidemill.declare'.started, function() error 'not today' end)\n");
    assert_true(reload() < 0);
    assert_non_null(strstr(bench.report.err.message, "not today"));
    assert_int_equal(bench.report.problems.count, 0);
    assert_ticking("old");
    assert_true(metric("new") == 0);
    assert_int_equal(bench.services.generation, 1);
    put_script(ROLE TICK("newer"));
    reload_good();
    assert_int_equal(bench.report.generation, 2);
}

/* ---- draining ---- */

/* A port where requests wait until the test answers them; its URL is TEST_SLOW. */
static void listen_slowly(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof at;
    char url[64];
    bench.slow = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    assert_true(bench.slow >= 0 && bind(bench.slow, (struct sockaddr *)&at, len) == 0);
    assert_true(listen(bench.slow, 16) == 0 && getsockname(bench.slow, (struct sockaddr *)&at, &len) == 0);
    (void)snprintf(url, sizeof url, "http://127.0.0.1:%d/", ntohs(at.sin_port));
    assert_int_equal(setenv("TEST_SLOW", url, 1), 0);
}

static bool is_readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, 0) > 0;
}

static bool has_caller(void)
{
    return is_readable(bench.slow);
}

static bool has_request(void)
{
    return is_readable(bench.caller);
}

/* Wait for a request; it is answered by answer(). */
static void wait_for_request(void)
{
    char request[4096];
    run_until("somebody calls", has_caller);
    bench.caller = accept(bench.slow, NULL, NULL);
    assert_true(bench.caller >= 0);
    run_until("a request is here", has_request);
    assert_true(read(bench.caller, request, sizeof request) > 0);
}

static void answer(void)
{
    static const char text[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";
    assert_int_equal(send(bench.caller, text, sizeof text - 1, MSG_NOSIGNAL), sizeof text - 1);
    close(bench.caller);
}

#define ASK "assert(host.http { method = 'GET', url = tm.env 'TEST_SLOW' }.status == 200)\n"

static void test_a_waiting_task_gets_its_answer_and_runs_until_it_sleeps(void **state)
{
    (void)state;
    listen_slowly();
    start(ROLE "tm.on('start', function() " ASK " count 'answered' tm.sleep '1us' count 'never' end)\n"
               "tm.on('start', function() count 'sleeping' tm.sleep '1h' count 'never' end)\n"
               "tm.on('start', function() count 'sleeping' pcall(tm.sleep, '1h') count 'never' end)\n");
    wait_for_request();
    run_until_metric("sleeping", 2);
    put_script(ROLE);
    reload_good();
    assert_int_equal(tm_policy_status(bench.policy).draining, 1);
    answer();
    run_until("the old generation is closed", is_drained);
    assert_true(metric("answered") == 1);
    assert_true(metric("never") == 0);
    assert_true(metric("tidemill_script_errors_total") == 0);
}

static void test_what_a_replaced_script_may_not_do(void **state)
{
    (void)state;
    listen_slowly();
    start(ROLE
          "local function refused(ok, err)\n"
          "  if not ok and err:find('this generation of the script is being replaced', 1, true) then count 'refused' "
          "else error(err) end\n"
          "end\n"
          "tm.on('start', function() " ASK "  refused(pcall(tm.after, '1ms', function() count 'never' end))\n"
          "  refused(pcall(tm.spawn, function() count 'never' end))\n"
          "  refused(pcall(host.link_open, 1, 'x'))\n"
          "  refused(pcall(host.link_close, 0))\n"
          "  refused(pcall(host.link_opening, 0, 0, 'x'))\n"
          "  tm.spawn(function() count 'never' end)\n"
          "end)\n");
    wait_for_request();
    put_script(ROLE);
    reload_good();
    answer();
    run_until("the old generation is closed", is_drained);
    assert_true(metric("refused") == 5);
    assert_true(metric("never") == 0);
    assert_true(metric("tidemill_script_errors_total") == 0); /* it is no fault of the script's */
}

static void test_kept_tasks_go_on(void **state)
{
    (void)state;
    listen_slowly();
    bench.options.drain_us = 1000; /* no reason to end them */
    start(ROLE "tm.on('start', function() host.keep()\n" ASK "  for i = 1, 20 do tm.sleep '5ms' count 'step' end\n"
               "  count 'finished' end)\n");
    wait_for_request();
    struct tm_script *old = tm_policy_script(bench.policy);
    put_script(ROLE);
    reload_good();
    assert_int_equal(tm_script_busy(old), 1);
    answer();
    run_until_metric("finished", 1);
    run_until("the old generation is closed", is_drained);
    assert_true(metric("step") == 20);
}

static void test_the_oldest_of_four_is_closed(void **state)
{
    (void)state;
    start(ROLE "tm.on('start', function() host.keep() count 'kept' tm.sleep '1h' end)\n");
    for (int i = 1; i <= 5; i++) {
        run_until_metric("kept", i);
        reload_good();
        assert_int_equal(tm_policy_status(bench.policy).draining, i < 3 ? i : 3);
    }
}

static void test_an_answer_that_never_comes_is_not_waited_for(void **state)
{
    (void)state;
    listen_slowly();
    bench.options.drain_us = 20000;
    start(ROLE "tm.on('start', function() " ASK " count 'never' end)\n");
    wait_for_request();
    put_script(ROLE);
    reload_good();
    run_until("the old generation is closed", is_drained);
    answer(); /* to nobody */
    put_script(ROLE "tm.on('start', function() count 'next' end)\n");
    reload_good();
    run_until_metric("next", 1);
    assert_true(metric("never") == 0);
}

/* A start handler that never began does not begin in a script that is replaced already. */
static void test_two_reloads_in_one_turn(void **state)
{
    (void)state;
    start(ROLE "tm.on('start', function() count 'first' end)\n");
    put_script(ROLE "tm.on('start', function() count 'second' end)\n");
    reload_good();
    put_script(ROLE "tm.on('start', function() count 'third' end)\n");
    reload_good();
    run_until_metric("third", 1);
    assert_true(metric("first") == 0 && metric("second") == 0);
    assert_int_equal(tm_policy_status(bench.policy).draining, 0);
}

static void give_event(int link)
{
    struct tm_event *event = calloc(1, sizeof *event + 1);
    assert_non_null(event);
    event->type = TM_EVENT_UNKNOWN;
    event->link = link;
    event->sid = -1;
    tm_policy_event(bench.policy, event);
    free(event);
}

static void test_events_go_to_the_new_generation(void **state)
{
    (void)state;
    start(ROLE "tm.on('unknown', function() count 'old' end)\n");
    give_event(-1);
    run_until_metric("old", 1);
    put_script(ROLE "tm.on('unknown', function() count 'new' end)\n");
    reload_good();
    give_event(-1);
    give_event(5); /* of a link that this generation has not opened */
    run_until_metric("new", 1);
    give_event(-1);
    run_until_metric("new", 2);
    assert_true(metric("old") == 1 && metric("new") == 2);
}

/* ---- many ---- */

static size_t open_fds(void)
{
    size_t count = 0;
    DIR *d = opendir("/proc/self/fd");
    assert_non_null(d);
    while (readdir(d))
        count++;
    closedir(d);
    return count;
}

/* Bytes that malloc has given out and not got back. */
static size_t memory_in_use(void)
{
    struct mallinfo2 m = mallinfo2();
    return m.uordblks + m.hblkhd;
}

static void test_a_thousand_reloads_leave_nothing(void **state)
{
    (void)state;
    static const char *const bodies[] = {
        ROLE "tm.on('start', function() tm.sleep '1h' end)\ntm.every('1h', function() end)\n",
        ROLE "local x = = 1\n",
        ROLE "error('at load')\n",
        ROLE
        "tm.state('kept')\ntm.on('start', function() end)\ntm.on('start', function() host.keep() tm.sleep '1us' end)\n",
        ROLE "tm.dedup('trades', { window = '1h' })\n",
    };
    size_t memory = 0, fds = 0;
    start(ROLE "tm.state('kept', { n = 0 })\n");
    for (int i = 0; i < 1000; i++) {
        put_script(bodies[i % 5]);
        int rc = reload();
        assert_true((rc == TM_OK) == (i % 5 != 1 && i % 5 != 2));
        tm_policy_report_fini(&bench.report);
        if (i % 50 == 49)
            run_until("all is drained", is_drained);
        if (i == 99) {
            memory = memory_in_use();
            fds = open_fds();
        }
    }
    assert_int_equal(open_fds(), fds);
    size_t after = memory_in_use();
    if (after > memory + (256 << 10)) /* a single generation holds more */
        fail_msg("in use: %zu after 100, %zu after 1000 reloads", memory, after);
    assert_int_equal(tm_policy_status(bench.policy).generation, 601);
    assert_int_equal(tm_policy_status(bench.policy).failed, 400);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_nothing_changed),
        TEST(test_timers_and_handlers_are_those_of_the_new_generation),
        TEST(test_diff_of_declarations),
        TEST(test_required_files_are_read_anew),
        TEST(test_log_settings_apply),
        TEST(test_state_is_handed_over),
        TEST(test_state_that_cannot_be_kept_refuses_the_reload),
        TEST(test_bad_files_leave_the_running_generation_alone),
        TEST(test_half_written_files),
        TEST(test_an_endless_loop_ends_within_its_budget),
        TEST(test_what_needs_a_restart_is_named),
        TEST(test_the_scripts_own_tests_decide),
        TEST(test_a_begin_that_fails_goes_back),
        TEST(test_a_waiting_task_gets_its_answer_and_runs_until_it_sleeps),
        TEST(test_what_a_replaced_script_may_not_do),
        TEST(test_kept_tasks_go_on),
        TEST(test_the_oldest_of_four_is_closed),
        TEST(test_an_answer_that_never_comes_is_not_waited_for),
        TEST(test_two_reloads_in_one_turn),
        TEST(test_events_go_to_the_new_generation),
        TEST(test_a_thousand_reloads_leave_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
