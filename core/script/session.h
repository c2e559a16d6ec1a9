/*
 * Sessions: people and programs that give commands in Lua to a running process (the control socket, `tidemill repl`).
 *
 *     a set of sessions, on the policy thread's loop
 *       session 1: a VM of its own, its globals, at most one command under way
 *       session 2: ...
 *
 * Each session has a VM of its own, without grants and with a cap of memory: nothing that it assigns reaches the script's
 * VM or another session, and it outlives a reload. Its library is lua/tidemill/repl/. It reaches the process through two
 * ways, both text: `command` (the table of control/command.h) and functions of the script's library (script/remote.h).
 *
 * A command is a coroutine that runs in slices of 2 ms, one slice of all sessions for each turn of the loop and a quarter of
 * a processor for all of them together (after a burst of 100 ms), until it ends,
 * waits (sleep, tap, an answer of policy) or has used up its CPU time. So a command that never ends holds up nobody, can be
 * cancelled between two slices, also by another session, and its output is on its way while it runs. What cannot yield
 * (inside of a sort's comparison, say) may take HOLD_US in one piece, then it is stopped.
 *
 *     IDLE --start--> READY --slice--> READY | WAITING | IDLE (done)
 *                       ^---- wake ------/
 *
 * All on the policy thread, and not from inside of a script's step.
 */
#ifndef TM_SCRIPT_SESSION_H
#define TM_SCRIPT_SESSION_H

#include "base/buf.h"
#include "engine/tap.h"
#include "loop/loop.h"

#define TM_SESSION_MEMORY ((size_t)32 << 20)
#define TM_SESSION_CPU_US INT64_C(2000000) /* of a command */
#define TM_SESSION_OUTPUT ((size_t)1 << 20)
#define TM_SESSIONS_MEMORY ((size_t)256 << 20) /* of all sessions: what is left of it bounds each one too */

struct tm_script;
struct tm_session;
struct tm_sessions;

/* `taps` may be NULL: then there is nothing to tap. */
struct tm_sessions *tm_sessions_create(struct tm_loop *loop, struct tm_taps *taps);
void tm_sessions_destroy(struct tm_sessions *set); /* all sessions are destroyed already; NULL is fine */

void tm_sessions_set_memory_max(struct tm_sessions *set, size_t bytes);

/* A reload: answers that a function of the old generation owes are errors now. */
void tm_sessions_script_changed(struct tm_sessions *set);

struct tm_session_owner {
    void *arg;
    int role; /* 0 read, 1 operate, 2 admin: whose functions of the script's library it may call */
    /* Run one line of the command table; append the whole answer, as the socket would give it. */
    int (*command)(void *arg, const char *line, struct tm_buf *out);
    struct tm_script *(*script)(void *arg); /* the running generation; NULL: none */
    /* What was printed, as it comes; false: too much waits to be read, the command rests until tm_session_resume. */
    bool (*on_output)(void *arg, const char *text, size_t len);
    /* The command is over: its answer, a JSON object. Another one may be started from here. */
    void (*on_done)(void *arg, const char *json, size_t len);
};

struct tm_session_options {
    struct tm_sessions *set;
    struct tm_session_owner owner;
    const char *library;                       /* directory of the Lua library; NULL: tm_script_library() */
    size_t memory_bytes_max, output_bytes_max; /* 0: as above */
    int64_t cpu_us;                            /* 0: as above */
};

int tm_session_create(const struct tm_session_options *options, struct tm_session **out,
                      struct tm_error *err) TM_MUST_CHECK;
void tm_session_destroy(struct tm_session *s); /* what runs ends, untold; NULL is fine */

/*
 * Start a command: a request as a JSON object {"op":"eval","text":...}, see lua/tidemill/repl/init.lua. TM_ESTATE: one runs.
 * `json` is copied. What is wrong with the request is an answer.
 */
int tm_session_start(struct tm_session *s, const char *json, size_t len, struct tm_error *err) TM_MUST_CHECK;
bool tm_session_is_busy(const struct tm_session *s);

/* End the command under way; its answer says `why`. False: there is none. */
bool tm_session_cancel(struct tm_session *s, const char *why);

/* The reader has caught up. */
void tm_session_resume(struct tm_session *s);

/* The answer to a function that was called under this token (script/remote.h); late ones are dropped. */
void tm_sessions_answer(struct tm_sessions *set, uint64_t token, bool ok, const char *text, size_t len);

#endif
