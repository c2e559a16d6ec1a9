/*
 * The control socket: commands on a unix socket, for people and programs on the same machine. A session begins with lines
 * and may go over to frames.
 *
 *   lines     > status\n                         < {"ok":true,"result":{...}}\n
 *             > nonsense\n                       < {"ok":false,"error":"..."}\n
 *             > eval 1 + 1\n                     < {"ok":true,"result":2,"output":""}\n
 *             > frames\n                         < {"ok":true,"result":{"session":3,"role":"admin"}}\n     and from then on
 *
 *   frames    LENGTH\n and so many bytes of JSON, both ways; a client gives each request an id:
 *             > {"id":1,"op":"eval","text":"tap \"trades\" { n = 2 }"}
 *             < {"id":1,"out":"..."} ...         what the command prints, while it runs
 *             < {"id":1,"ok":true,"result":...}  its end; see lua/tidemill/repl/init.lua for what goes and comes
 *             > {"id":1,"op":"cancel"}           ends the command under way, whose answer says so
 *
 * Who may: control/access.h, by the file's permissions and by what the kernel says of the peer; both are checked. What:
 * each command, and each function that a command in Lua calls, has a role. Limits: a line 64 KiB, a frame 256 KiB, an
 * answer and the output of a command 1 MiB, `sessions_max` sessions, 10 s for a line or frame that has begun and for a
 * session's first command, 100 commands a second (200 in a burst), 10 minutes idle. Sessions are 64 and not a handful:
 * a console keeps one for as long as it is open, and 50 of them beside hostile peers are measured (bench_repl, X19); one
 * that asks nothing costs a descriptor and two small buffers. The last four are for admins. When all are taken, the one
 * that has been idle longest makes room if that is 5 s and its role is not above that of the peer who comes. A session
 * that does not read its answers is not read from, and its command rests. A live socket of another process is never
 * replaced, a stale one is. Every command is logged with uid, pid and session.
 *
 * One loop's thread. Commands of the table run on it and must be quick; those in Lua take turns (script/session.h).
 */
#ifndef TM_CONTROL_SERVER_H
#define TM_CONTROL_SERVER_H

#include "control/access.h"
#include "control/command.h"
#include "loop/loop.h"
#include "script/session.h"

#define TM_CONTROL_LINE_MAX 65536
#define TM_CONTROL_FRAME_MAX (256 << 10)
#define TM_CONTROL_ANSWER_MAX (1 << 20)
#define TM_CONTROL_SESSIONS 64

struct tm_control;

struct tm_control_options {
    struct tm_loop *loop;
    const char *path;
    const struct tm_command *commands; /* ends with a NULL name; borrowed */
    void *context;                     /* what commands get */
    struct tm_config_control settings; /* read at once */
    int64_t idle_us, begin_us;         /* 0: 10 minutes, 10 s */
    int64_t makes_room_us;             /* 0: 5 s */
    struct tm_sessions *sessions;      /* NULL: no commands in Lua */
    struct tm_script *(*script)(void *context);
    const char *library; /* of commands in Lua; NULL: the usual */
};

int tm_control_open(const struct tm_control_options *options, struct tm_control **out,
                    struct tm_error *err) TM_MUST_CHECK;
void tm_control_close(struct tm_control *control); /* NULL is fine; removes the socket */

/* Other settings, for sessions that begin from now on; the socket's file takes the group and mode they say. */
int tm_control_configure(struct tm_control *control, const struct tm_config_control *settings,
                         struct tm_error *err) TM_MUST_CHECK;

/* ---- within a command ---- */

struct tm_control_peer {
    uint32_t session;
    uid_t uid;
    pid_t pid;
    enum tm_command_role role;
};

/* Who gave the command that runs now. */
struct tm_control_peer tm_control_peer(const struct tm_control *control);

/* [{"session":n,"uid":..,"pid":..,"role":..,"idle_ms":..,"commands":n,"running":"..."}] */
int tm_control_put_sessions(const struct tm_control *control, struct tm_buf *out) TM_MUST_CHECK;

/* End the command that a session has under way; with `close` the session too. TM_ENOENT, TM_ESTATE: nothing runs there. */
int tm_control_kill(struct tm_control *control, uint32_t session, bool close, struct tm_error *err) TM_MUST_CHECK;

#endif
