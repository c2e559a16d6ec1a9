/*
 * A script on a real loop, for tests of what its handlers do. What it did is read from the metrics that it counts:
 * `count 'name'` in the script, bench_until("name", n) in the test.
 */
#ifndef TESTS_SCRIPT_BENCH_H
#define TESTS_SCRIPT_BENCH_H

#include "../base/unit.h"

#include "script/script.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define UNUSED __attribute__((unused)) /* not every test asks for everything */
#define LIBRARY TM_SOURCE_DIR "/lua"
#define DEADLINE_US INT64_C(60000000)

struct bench {
    struct tm_services services;
    struct tm_script *script;
    struct tm_problems problems;
    struct tm_timer poll, deadline;
    bool late;
    const char *metric;
    double value;
    char dir[32];
    int log_fd, stderr_fd; /* the log goes to a file meanwhile */
};

static struct bench bench;

static int bench_setup(void **state)
{
    (void)state;
    struct tm_error err;
    char path[64];
    bench = (struct bench){.problems = {.arena = tm_arena_create()}, .dir = "/tmp/tm-bench-XXXXXX"};
    bench.services.loop = tm_loop_create();
    bench.services.metrics = tm_metrics_create();
    if (!mkdtemp(bench.dir) || tm_http_create(bench.services.loop, 4, 100, &bench.services.http, &err) < 0)
        return -1;
    (void)snprintf(path, sizeof path, "%s/log", bench.dir);
    (void)fflush(stderr);
    bench.stderr_fd = dup(2);
    bench.log_fd = open(path, O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return bench.log_fd >= 0 && dup2(bench.log_fd, 2) == 2 ? 0 : -1;
}

static int bench_teardown(void **state)
{
    (void)state;
    char command[64];
    tm_http_destroy(bench.services.http);
    tm_services_fini(&bench.services);
    tm_script_destroy(bench.script);
    tm_loop_destroy(bench.services.loop);
    tm_metrics_destroy(bench.services.metrics);
    tm_arena_destroy(bench.problems.arena);
    (void)dup2(bench.stderr_fd, 2);
    close(bench.stderr_fd);
    close(bench.log_fd);
    (void)snprintf(command, sizeof command, "rm -rf '%s'", bench.dir);
    return system(command);
}

static const char *bench_file(const char *name, const char *text, mode_t mode)
{
    static char path[96];
    (void)snprintf(path, sizeof path, "%s/%s", bench.dir, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    assert_true(fd >= 0 && fchmod(fd, mode) == 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text));
    close(fd);
    return path;
}

/* What was logged so far. The caller frees it. */
static char *bench_log(void)
{
    struct stat st;
    assert_int_equal(fstat(bench.log_fd, &st), 0);
    char *text = calloc(1, (size_t)st.st_size + 1);
    assert_non_null(text);
    assert_int_equal(pread(bench.log_fd, text, (size_t)st.st_size, 0), st.st_size);
    return text;
}

static UNUSED bool bench_logged(const char *text)
{
    char *log = bench_log();
    bool found = strstr(log, text) != NULL;
    free(log);
    return found;
}

static double bench_metric(const char *name)
{
    return tm_metric_get(tm_metrics_counter(bench.services.metrics, name, "", NULL));
}

static int bench_load(const char *body)
{
    char *text;
    int len =
        asprintf(&text,
                 "local tm = require 'tidemill' local host = require 'tidemill.host' require 'kalshi.streams' "
                 "local function count(name) tm.counter(name, 'test'):add() end "
                 "local function use() return host, count end "
                 "local function role(s) tm.deduplicator { id = 'd7', production = s or 'dbname=x', gatherers = { g = "
                 "'dbname=y' } } end\n%s",
                 body);
    assert_true(len > 0);
    struct tm_script_options options = {
        .path = bench_file("s.lua", text, 0600), .library = LIBRARY, .load_cpu_us = 20000000};
    free(text);
    return tm_script_load(&options, &bench.problems, &bench.script);
}

static void bench_run(const char *body)
{
    struct tm_error err;
    if (bench_load(body))
        fail_msg("%s: %s", bench.problems.list[0].where, bench.problems.list[0].message);
    bench.services.plan = tm_script_config(bench.script)->plan;
    if (tm_script_start(bench.script, &bench.services, &err) < 0)
        fail_msg("%s", err.message);
}

static void bench_poll(void *arg)
{
    (void)arg;
    if (bench_metric(bench.metric) >= bench.value)
        tm_loop_stop(bench.services.loop);
}

static void bench_late(void *arg)
{
    (void)arg;
    bench.late = true;
    tm_loop_stop(bench.services.loop);
}

static void bench_fail(const char *name)
{
    char *log = bench_log();
    (void)dup2(bench.stderr_fd, 2);
    fail_msg("%s is %g\n%s", name, bench_metric(name), log);
}

/* Run the loop until the script has counted that far. */
static void bench_until(const char *name, double value)
{
    bench.metric = name;
    bench.value = value;
    tm_timer_init(&bench.poll, bench.services.loop, bench_poll, NULL);
    tm_timer_init(&bench.deadline, bench.services.loop, bench_late, NULL);
    tm_timer_start(&bench.poll, 1000, 1000);
    tm_timer_start(&bench.deadline, DEADLINE_US, 0);
    tm_loop_run(bench.services.loop);
    tm_timer_stop(&bench.poll);
    tm_timer_stop(&bench.deadline);
    if (bench.late)
        bench_fail(name);
}

static UNUSED void bench_no_errors(void)
{
    if (bench_metric("tidemill_script_errors_total") > 0)
        bench_fail("tidemill_script_errors_total");
}

static bool bench_has_problem(const char *text)
{
    for (size_t i = 0; i < bench.problems.count && i < TM_PROBLEMS_MAX; i++)
        if (strstr(bench.problems.list[i].message, text))
            return true;
    return false;
}

static UNUSED void bench_expect_problem(const char *text)
{
    if (bench_has_problem(text))
        return;
    char all[8000] = "";
    for (size_t i = 0; i < bench.problems.count && i < 20; i++)
        (void)snprintf(all + strlen(all), sizeof all - strlen(all), "%s\n", bench.problems.list[i].message);
    fail_msg("no problem with \"%s\" among\n%s", text, all);
}

#define BENCH_TEST(name) cmocka_unit_test_setup_teardown(name, bench_setup, bench_teardown)

#endif
