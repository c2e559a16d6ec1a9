/*
 * What systemd is told (sd_notify(3), without its library): one datagram for each state to the socket in
 * $NOTIFY_SOCKET, a path or, with a leading '@', a name in the abstract namespace. Without that variable all of it does
 * nothing. Nothing here blocks: a datagram that does not go out at once is lost.
 *
 *     READY=1                                 started, or the reload is over
 *     RELOADING=1 + MONOTONIC_USEC            a reload begins (Type=notify-reload)
 *     STOPPING=1                              stopping
 *     STATUS=...                              one line for people
 *     WATCHDOG=1                              twice per $WATCHDOG_USEC, from the policy loop: systemd knows if it hangs
 *
 * The policy thread. The variables are left in place; a child process is never started.
 */
#ifndef TM_CONTROL_NOTIFY_H
#define TM_CONTROL_NOTIFY_H

#include "base/error.h"
#include "loop/loop.h"

#include <sys/socket.h>
#include <sys/un.h>

struct tm_notify {
    int fd; /* -1: nobody wants to know */
    struct sockaddr_un address;
    socklen_t address_len;
    struct tm_timer watchdog;
};

/* Reads the environment; what is wrong with it is logged, and then nobody is told anything. */
void tm_notify_init(struct tm_notify *n, struct tm_loop *loop);
void tm_notify_fini(struct tm_notify *n);

/* `status` in one line; NULL: none. */
void tm_notify_ready(struct tm_notify *n, const char *status);
void tm_notify_reloading(struct tm_notify *n);
void tm_notify_stopping(struct tm_notify *n);

#endif
