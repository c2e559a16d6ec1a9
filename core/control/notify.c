#include "control/notify.h"

#include "base/clock.h"
#include "base/log.h"

#include <errno.h>
#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define STATE_BYTES_MAX 1024

static void send_state(struct tm_notify *n, const char *state)
{
    if (n->fd < 0)
        return;
    ssize_t sent =
        sendto(n->fd, state, strlen(state), MSG_NOSIGNAL, (const struct sockaddr *)&n->address, n->address_len);
    if (sent < 0)
        TM_LOG_LIMITED(TM_LOG_WARN, "notify", "systemd was not told", TM_F_STR("state", state),
                       TM_F_STR("why", strerror(errno)));
}

static void on_watchdog(void *arg)
{
    send_state(arg, "WATCHDOG=1");
}

/* A path, or '@' and an abstract name; TM_EINVAL for what is neither or too long. */
static int parse_address(struct tm_notify *n, const char *text)
{
    size_t len = strlen(text);
    n->address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if ((text[0] != '/' && text[0] != '@') || len < 2 || len >= sizeof n->address.sun_path)
        return TM_EINVAL;
    memcpy(n->address.sun_path, text, len);
    if (text[0] == '@')
        n->address.sun_path[0] = '\0';
    /* an abstract name ends with the address, a path with its NUL */
    n->address_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len + (text[0] == '/'));
    return TM_OK;
}

/* Whole and positive, or 0. */
static int64_t number_in(const char *name)
{
    const char *text = getenv(name);
    char *end = NULL;
    errno = 0;
    long long value = text && *text ? strtoll(text, &end, 10) : 0;
    return end && *end == '\0' && errno == 0 && value > 0 ? value : 0;
}

static int64_t watchdog_us(void)
{
    int64_t pid = number_in("WATCHDOG_PID");
    return pid && pid != getpid() ? 0 : number_in("WATCHDOG_USEC");
}

void tm_notify_init(struct tm_notify *n, struct tm_loop *loop)
{
    const char *where = getenv("NOTIFY_SOCKET");
    int64_t period_us = watchdog_us() / 2;
    n->fd = -1;
    tm_timer_init(&n->watchdog, loop, on_watchdog, n);
    if (!where || !*where)
        return;
    if (parse_address(n, where) < 0) {
        tm_log(TM_LOG_WARN, "notify", "NOTIFY_SOCKET: expected a path or @name", TM_F_STR("got", where));
        return;
    }
    n->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (n->fd < 0)
        tm_log(TM_LOG_WARN, "notify", "no socket for systemd", TM_F_STR("why", strerror(errno)));
    else if (period_us)
        tm_timer_start(&n->watchdog, period_us, period_us);
}

void tm_notify_fini(struct tm_notify *n)
{
    tm_timer_stop(&n->watchdog);
    if (n->fd >= 0)
        close(n->fd);
    n->fd = -1;
}

void tm_notify_ready(struct tm_notify *n, const char *status)
{
    char state[STATE_BYTES_MAX] = "READY=1";
    if (status) {
        int start = snprintf(state, sizeof state, "READY=1\nSTATUS=");
        (void)snprintf(state + start, sizeof state - (size_t)start, "%s", status);
        for (char *p = state + start; *p; p++)
            *p = *p == '\n' ? ' ' : *p; /* a line break would begin another variable */
    }
    send_state(n, state);
}

void tm_notify_reloading(struct tm_notify *n)
{
    char state[STATE_BYTES_MAX];
    (void)snprintf(state, sizeof state, "RELOADING=1\nMONOTONIC_USEC=%" PRId64, tm_clock_mono_us());
    send_state(n, state);
}

void tm_notify_stopping(struct tm_notify *n)
{
    send_state(n, "STOPPING=1");
}
