/* What session.c and session_api.c share. */
#ifndef TM_SCRIPT_SESSION_IMPL_H
#define TM_SCRIPT_SESSION_IMPL_H

#include "base/arena.h"
#include "script/call.h"
#include "script/module.h"
#include "script/session.h"

enum tm_session_state { TM_SESSION_IDLE, TM_SESSION_READY, TM_SESSION_RUNNING, TM_SESSION_WAITING };

struct tm_sessions {
    struct tm_loop *loop;
    struct tm_taps *taps;
    struct tm_session *first;
    struct tm_session *ready_head, **ready_tail;
    struct tm_async run;
    struct tm_timer rest; /* until there is something left of what they may use */
    double allowance_us;
    int64_t counted_us;
    struct tm_async tapped; /* sent by the threads that offer rows */
    uint32_t last_number;
    size_t memory_bytes_max;
};

struct tm_session {
    struct tm_session *next, *next_ready;
    struct tm_sessions *set;
    struct tm_session_options options;
    struct tm_arena *arena;
    struct tm_module_paths paths;
    struct tm_vm *vm;
    uint32_t number; /* and the count of its commands: a token */
    uint32_t commands;
    enum tm_session_state state;
    bool resting;          /* the reader is slow */
    bool has_answered;     /* host.done was called */
    const char *cancelled; /* from inside of a slice: why */
    lua_State *co;
    int reference;
    int args;         /* on the coroutine's stack, to resume with */
    int64_t cpu_us;   /* used by the command */
    size_t out_bytes; /* printed by it */
    struct tm_buf request, out, answer;
    struct tm_timer timer; /* of a wait */
    uint64_t token;        /* of the answer that is waited for; 0: none */
    struct tm_tap *tap;
    bool waits_for_row;
};

/* Make it ready with the values that `push` puts on its stack. */
void tm_session_wake(struct tm_session *s, int (*push)(lua_State *co, void *arg), void *arg);
void tm_session_close_tap(struct tm_session *s);

/* session_api.c: push the table of host functions. */
void tm_session_api_push(lua_State *L);
/* A row may be there for a session that waits for one. */
void tm_session_offer_row(struct tm_session *s);

#endif
