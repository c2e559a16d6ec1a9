/* The admin thread and its watch: health is answered, and a policy thread that hangs is noticed, without it. */
#include "control/admin.h"
#include "control/granting.h"
#include "script/grant.h"

#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define ADDRESS "127.0.0.1:0"
#define S INT64_C(1000000)

/* Time is a parameter, so that hours pass at once. */
static void test_heartbeat(void **state)
{
    (void)state;
    struct tm_heartbeat_watch w = {0};
    int64_t now = 100 * S;
    assert_int_equal(tm_heartbeat_look(&w, 0, now, 5 * S), TM_POLICY_STARTING);
    assert_int_equal(tm_heartbeat_look(&w, 0, now += 60 * S, 5 * S), TM_POLICY_STARTING);
    assert_int_equal(tm_heartbeat_look(&w, 1, now += S, 5 * S), TM_POLICY_RUNNING);
    for (int i = 0; i < 4; i++)
        assert_int_equal(tm_heartbeat_look(&w, 1, now += S, 5 * S), TM_POLICY_RUNNING);
    assert_int_equal(tm_heartbeat_look(&w, 1, now += S, 5 * S), TM_POLICY_STUCK);
    assert_int_equal(w.missing_us, 5 * S);
    assert_int_equal(tm_heartbeat_look(&w, 1, now += S / 2, 5 * S), TM_POLICY_STUCK);
    assert_int_equal(tm_heartbeat_look(&w, 2, now += S / 10, 5 * S), TM_POLICY_RUNNING);
    assert_int_equal(w.missing_us, 0);
    assert_int_equal(tm_heartbeat_look(&w, 0, now += S, 5 * S), TM_POLICY_STARTING); /* it stops */
}

static void test_a_suspended_process_is_not_a_hang(void **state)
{
    (void)state;
    struct tm_heartbeat_watch w = {0};
    int64_t now = 100 * S;
    (void)tm_heartbeat_look(&w, 7, now, 5 * S);
    assert_int_equal(tm_heartbeat_look(&w, 7, now += 3600 * S, 5 * S), TM_POLICY_RUNNING);
    assert_int_equal(tm_heartbeat_look(&w, 8, now += S / 10, 5 * S), TM_POLICY_RUNNING);
}

struct policy {
    struct tm_loop *loop;
    struct tm_heartbeat heartbeat;
    struct tm_timer step;
    struct tm_admin *admin;
    struct tm_metrics *metrics;
    int port, phase;
    char answer[400];
};

static void answer(void *arg, const char *path, const char *query, struct tm_httpd_answer *a)
{
    const struct policy *p = arg;
    (void)path;
    (void)query;
    if (tm_buf_printf(a->body, "policy is %s", tm_policy_state_name(tm_admin_policy(p->admin))) < 0)
        a->status = 500;
}

/* A blocking GET: on the policy thread, which therefore hangs while it waits. */
static void get(struct policy *p)
{
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const char request[] = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    at.sin_port = htons((uint16_t)p->port);
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_int_equal(connect(fd, (struct sockaddr *)&at, sizeof at), 0);
    assert_true(write(fd, request, sizeof request - 1) == (ssize_t)sizeof request - 1);
    size_t len = 0;
    ssize_t n;
    while ((n = read(fd, p->answer + len, sizeof p->answer - 1 - len)) > 0)
        len += (size_t)n;
    p->answer[len] = '\0';
    close(fd);
}

static double metric(const struct policy *p, const char *name, const char *labels)
{
    return labels ? tm_metric_get(tm_metrics_counter(p->metrics, name, "", labels))
                  : tm_metric_get(tm_metrics_gauge(p->metrics, name, "", NULL));
}

static void hang_until(struct policy *p, enum tm_policy_state state)
{
    while (tm_admin_policy(p->admin) != state)
        nanosleep(&(struct timespec){0, 1000000}, NULL);
}

static void step(void *arg)
{
    struct policy *p = arg;
    if (p->phase == 0) {
        if (tm_admin_policy(p->admin) != TM_POLICY_RUNNING)
            return;
        get(p);
        assert_non_null(strstr(p->answer, "policy is running"));
        hang_until(p, TM_POLICY_STUCK); /* it does not turn here */
        get(p);
        assert_non_null(strstr(p->answer, "policy is stuck"));
        assert_true(metric(p, "tidemill_policy_stuck_seconds", NULL) >= 0.3);
        p->phase = 1;
    } else if (tm_admin_policy(p->admin) == TM_POLICY_RUNNING) {
        assert_true(metric(p, "tidemill_engine_alerts_total", "alert=\"PolicyStuck\"") == 1);
        tm_loop_stop(p->loop);
    }
}

static void test_health_answers_while_policy_hangs(void **state)
{
    (void)state;
    struct policy p = {.loop = tm_loop_create(), .metrics = tm_metrics_create()};
    struct tm_error err;
    struct tm_admin_options options = {.metrics = p.metrics, .policy = &p.heartbeat, .stuck_us = 300000};
    alarm(60);
    assert_int_equal(tm_admin_create(&options, &p.admin, &err), TM_OK);
    assert_int_equal(tm_admin_serve(p.admin, ADDRESS, "/health", answer, &p, &err), TM_OK);
    p.port = tm_admin_port(p.admin, ADDRESS);
    assert_int_equal(tm_admin_start(p.admin, &err), TM_OK);
    assert_int_equal(tm_admin_policy(p.admin), TM_POLICY_STARTING);
    tm_heartbeat_start(&p.heartbeat, p.loop);
    tm_timer_init(&p.step, p.loop, step, &p);
    tm_timer_start(&p.step, 1000, 1000);
    tm_loop_run(p.loop);
    tm_timer_stop(&p.step);
    tm_heartbeat_stop(&p.heartbeat);
    hang_until(&p, TM_POLICY_STARTING); /* over is not missing */
    tm_admin_destroy(p.admin);
    tm_loop_destroy(p.loop);
    tm_metrics_destroy(p.metrics);
    alarm(0);
}

static void test_grants_of_the_command_line(void **state)
{
    (void)state;
    struct tm_error err;
    char *separate[] = {"tidemill", "run", "--grant", "io,os", "f.lua", NULL};
    int argc = 5;
    unsetenv("TIDEMILL_GRANT");
    assert_int_equal(tm_granting_take(&argc, separate, &err), TM_OK);
    assert_int_equal(argc, 3);
    assert_string_equal(separate[2], "f.lua");
    assert_int_equal(tm_grants(), TM_GRANT_IO | TM_GRANT_OS);
    setenv("TIDEMILL_GRANT", "ffi", 1);
    char *equals[] = {"tidemill", "check", "f.lua", "--grant=debug", NULL};
    argc = 4;
    assert_int_equal(tm_granting_take(&argc, equals, &err), TM_OK);
    assert_int_equal(argc, 3);
    assert_int_equal(tm_grants(), TM_GRANT_DEBUG); /* the option stands for itself */
    char *none[] = {"tidemill", "check", "f.lua", NULL};
    argc = 3;
    assert_int_equal(tm_granting_take(&argc, none, &err), TM_OK);
    assert_int_equal(tm_grants(), TM_GRANT_FFI);
    char *unknown[] = {"tidemill", "run", "--grant", "sockets", "f.lua", NULL};
    argc = 5;
    assert_int_equal(tm_granting_take(&argc, unknown, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "got 'sockets'"));
    char *last[] = {"tidemill", "run", "--grant", NULL};
    argc = 3;
    assert_int_equal(tm_granting_take(&argc, last, &err), TM_EINVAL);
    unsetenv("TIDEMILL_GRANT");
    tm_grants_set(0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_heartbeat),
        cmocka_unit_test(test_a_suspended_process_is_not_a_hang),
        cmocka_unit_test(test_health_answers_while_policy_hangs),
        cmocka_unit_test(test_grants_of_the_command_line),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
