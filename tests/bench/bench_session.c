/*
 * What a session of the control socket costs the policy thread: to open one, in time and memory, and to run a short command,
 * from its start to its answer. Without a process around it; bench_repl.py measures the whole under load.
 *
 *     build/release/tests/bench_session [--quick] [--json]
 */
#include "report.h"

#include "base/clock.h"
#include "base/log.h"
#include "script/session.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SESSIONS 50
#define COMMANDS 2000

static struct tm_loop *loop;

static int command(void *arg, const char *line, struct tm_buf *out)
{
    (void)arg;
    (void)line;
    return tm_buf_printf(out,
                         "{\"ok\":true,\"result\":[{\"name\":\"trade/1\",\"state\":\"up\",\"last_message_ms\":5}]}\n");
}

static struct tm_script *script(void *arg)
{
    (void)arg;
    return NULL;
}

static bool on_output(void *arg, const char *text, size_t len)
{
    (void)arg;
    (void)text;
    return len > 0;
}

static void on_done(void *arg, const char *json, size_t len)
{
    (void)arg;
    if (len < 10 || !strstr(json, "true"))
        abort();
    tm_loop_stop(loop);
}

static long resident_bytes(void)
{
    long total = 0, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f || fscanf(f, "%ld %ld", &total, &resident) != 2)
        abort();
    fclose(f);
    return resident * sysconf(_SC_PAGESIZE);
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void measure(struct tm_session *session, const char *name, const char *text)
{
    static int64_t took_us[COMMANDS];
    struct tm_error err;
    char json[200];
    int len = snprintf(json, sizeof json, "{\"op\":\"eval\",\"json\":true,\"text\":\"%s\"}", text);
    int64_t begun_us = tm_clock_thread_us();
    int commands = tm_bench_quick ? COMMANDS / 10 : COMMANDS;
    for (int i = 0; i < commands; i++) {
        int64_t at_us = tm_clock_mono_us();
        if (tm_session_start(session, json, (size_t)len, &err) < 0)
            abort();
        tm_loop_run(loop);
        took_us[i] = tm_clock_mono_us() - at_us;
        usleep(500); /* not more than the share of all sessions */
    }
    double cpu_us = (double)(tm_clock_thread_us() - begun_us) / commands;
    qsort(took_us, (size_t)commands, sizeof *took_us, compare);
    tm_bench_note("%-12s  p50 %5lld us   p99 %5lld us   %6.1f us of CPU time\n", text, (long long)took_us[commands / 2],
                  (long long)took_us[commands * 99 / 100], cpu_us);
    tm_bench_report(&(struct tm_bench_result){.name = name, .figure = cpu_us, .unit = "us"});
}

int main(int argc, char **argv)
{
    tm_bench_begin(&argc, argv);
    struct tm_session *sessions[SESSIONS];
    struct tm_error err;
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, NULL);
    loop = tm_loop_create();
    struct tm_sessions *set = tm_sessions_create(loop, NULL);
    struct tm_session_options options = {
        .set = set, .owner = {.command = command, .script = script, .on_output = on_output, .on_done = on_done}};
    long before = resident_bytes();
    int64_t begun_us = tm_clock_thread_us();
    for (int i = 0; i < SESSIONS; i++)
        if (tm_session_create(&options, &sessions[i], &err) < 0) {
            fprintf(stderr, "%s\n", err.message);
            return 1;
        }
    double open_ms = (double)(tm_clock_thread_us() - begun_us) / SESSIONS / 1e3;
    double kib = (double)(resident_bytes() - before) / SESSIONS / 1024;
    tm_bench_report(&(struct tm_bench_result){.name = "session/open", .figure = open_ms, .unit = "ms"});
    tm_bench_report(&(struct tm_bench_result){.name = "session/memory", .figure = kib, .unit = "KiB"});
    measure(sessions[0], "session/sum", "1 + 1");
    measure(sessions[0], "session/links", "#links()");
    for (int i = 0; i < SESSIONS; i++)
        tm_session_destroy(sessions[i]);
    tm_sessions_destroy(set);
    tm_loop_destroy(loop);
    return 0;
}
