/* What systemd hears: the datagrams that come out of a real socket, by path and by abstract name. */
#include "control/notify.h"
#include "base/log.h"

#include <inttypes.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define DEADLINE_US INT64_C(10000000)

static struct tm_loop *loop;
static struct tm_notify notify;
static struct tm_timer deadline;
static char dir[64], path[96];
static int systemd; /* its socket */

static int listen_at(const char *name)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(name));
    memcpy(at.sun_path, name, strlen(name));
    if (name[0] == '@')
        at.sun_path[0] = '\0';
    else
        len++;
    int fd = socket(AF_UNIX, SOCK_DGRAM, 0);
    assert_true(fd >= 0 && bind(fd, (const struct sockaddr *)&at, len) == 0);
    return fd;
}

static int setup(void **state)
{
    (void)state;
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, NULL);
    (void)snprintf(dir, sizeof dir, "/tmp/tm-notify-XXXXXX");
    if (!mkdtemp(dir))
        return -1;
    (void)snprintf(path, sizeof path, "%s/s", dir);
    loop = tm_loop_create();
    systemd = listen_at(path);
    unsetenv("WATCHDOG_USEC");
    unsetenv("WATCHDOG_PID");
    return setenv("NOTIFY_SOCKET", path, 1);
}

static int teardown(void **state)
{
    (void)state;
    tm_notify_fini(&notify);
    tm_loop_destroy(loop);
    close(systemd);
    (void)unlink(path);
    return rmdir(dir);
}

/* The next datagram; "" when there is none. */
static const char *heard(void)
{
    static char text[2048];
    ssize_t n = recv(systemd, text, sizeof text - 1, MSG_DONTWAIT);
    text[n > 0 ? n : 0] = '\0';
    return text;
}

static void test_states(void **state)
{
    (void)state;
    tm_notify_init(&notify, loop);
    tm_notify_ready(&notify, NULL);
    assert_string_equal(heard(), "READY=1");
    tm_notify_ready(&notify, "all\nis = well");
    assert_string_equal(heard(), "READY=1\nSTATUS=all is = well");
    tm_notify_stopping(&notify);
    assert_string_equal(heard(), "STOPPING=1");
    assert_string_equal(heard(), "");
}

static int64_t monotonic_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void test_reloading_carries_the_time(void **state)
{
    (void)state;
    int64_t said = 0, before = monotonic_us();
    tm_notify_init(&notify, loop);
    tm_notify_reloading(&notify);
    assert_int_equal(sscanf(heard(), "RELOADING=1\nMONOTONIC_USEC=%" SCNd64, &said), 1);
    assert_true(said >= before && said <= monotonic_us());
}

static void test_abstract_name(void **state)
{
    (void)state;
    char name[64];
    (void)snprintf(name, sizeof name, "@tidemill-test/%d", (int)getpid());
    close(systemd);
    systemd = listen_at(name);
    setenv("NOTIFY_SOCKET", name, 1);
    tm_notify_init(&notify, loop);
    tm_notify_ready(&notify, NULL);
    assert_string_equal(heard(), "READY=1");
}

static void test_nobody_to_tell(void **state)
{
    (void)state;
    static const char *const bad[] = {"", "relative/path", "@", "vsock:2:1234"};
    char longer[200];
    memset(longer, 'x', sizeof longer);
    longer[0] = '/';
    longer[sizeof longer - 1] = '\0';
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        setenv("NOTIFY_SOCKET", bad[i], 1);
        tm_notify_init(&notify, loop);
        tm_notify_ready(&notify, "x");
        assert_int_equal(notify.fd, -1);
    }
    setenv("NOTIFY_SOCKET", longer, 1);
    tm_notify_init(&notify, loop);
    assert_int_equal(notify.fd, -1);
    unsetenv("NOTIFY_SOCKET");
    tm_notify_init(&notify, loop);
    tm_notify_reloading(&notify);
    assert_string_equal(heard(), "");
}

/* systemd that is gone or does not read must not stop us. */
static void test_systemd_is_deaf(void **state)
{
    (void)state;
    tm_notify_init(&notify, loop);
    for (int i = 0; i < 10000; i++)
        tm_notify_stopping(&notify);
    close(systemd);
    systemd = -1;
    tm_notify_stopping(&notify);
}

static int beats;

static void on_beat(void *arg, int events)
{
    (void)arg;
    (void)events;
    while (strcmp(heard(), "WATCHDOG=1") == 0)
        if (++beats == 3)
            tm_loop_stop(loop);
}

static void on_deadline(void *arg)
{
    (void)arg;
    tm_loop_stop(loop);
}

static void listen_for_beats(const char *usec, int64_t at_most_us)
{
    struct tm_io io;
    setenv("WATCHDOG_USEC", usec, 1);
    beats = 0;
    tm_notify_init(&notify, loop);
    tm_io_init(&io, loop, systemd, on_beat, NULL);
    tm_io_set(&io, EV_READ);
    tm_timer_init(&deadline, loop, on_deadline, NULL);
    tm_timer_start(&deadline, at_most_us, 0);
    tm_loop_run(loop);
    tm_io_set(&io, 0);
    tm_timer_stop(&deadline);
}

static void test_watchdog_beats_twice_a_period(void **state)
{
    (void)state;
    int64_t before = monotonic_us();
    listen_for_beats("40000", DEADLINE_US);
    assert_int_equal(beats, 3);
    assert_true(monotonic_us() - before >= 3 * 20000 - 5000); /* not faster than half of it */
}

static void test_watchdog_of_another_process_or_no_number(void **state)
{
    (void)state;
    setenv("WATCHDOG_PID", "1", 1);
    listen_for_beats("2000", 50000);
    assert_int_equal(beats, 0);
    unsetenv("WATCHDOG_PID");
    listen_for_beats("2000x", 50000);
    assert_int_equal(beats, 0);
    listen_for_beats("-5", 50000);
    assert_int_equal(beats, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_states),
        TEST(test_reloading_carries_the_time),
        TEST(test_abstract_name),
        TEST(test_nobody_to_tell),
        TEST(test_systemd_is_deaf),
        TEST(test_watchdog_beats_twice_a_period),
        TEST(test_watchdog_of_another_process_or_no_number),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
