/*
 * The control socket: newline-framed commands on a unix socket, for people and programs on the same machine.
 *
 *     > status\n                    < {"ok":true,"result":{...}}\n
 *     > nonsense\n                  < {"ok":false,"error":"..."}\n
 *
 * Who may: the socket is made 0600 and the peer's uid (SO_PEERCRED) must be root's or our own; both are checked. Limits:
 * a line 64 KiB, an answer 1 MiB, 4 sessions, 10 minutes idle. A session that does not read its answers is not read
 * from. A live socket of another process is never replaced, a stale one is. Every command is logged with uid and pid.
 *
 * One loop's thread. Commands run on it and must be quick.
 */
#ifndef TM_CONTROL_SERVER_H
#define TM_CONTROL_SERVER_H

#include "control/command.h"
#include "loop/loop.h"

#define TM_CONTROL_LINE_MAX 65536
#define TM_CONTROL_ANSWER_MAX (1 << 20)
#define TM_CONTROL_SESSIONS_MAX 4

struct tm_control;

struct tm_control_options {
    struct tm_loop *loop;
    const char *path;
    const struct tm_command *commands; /* ends with a NULL name; borrowed */
    void *context;                     /* what commands get */
    int64_t idle_us;                   /* 0: 10 minutes */
};

int tm_control_open(const struct tm_control_options *options, struct tm_control **out,
                    struct tm_error *err) TM_MUST_CHECK;
void tm_control_close(struct tm_control *control); /* NULL is fine; removes the socket */

#endif
