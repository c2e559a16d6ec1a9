/*
 * Tasks: the coroutines of a script's handlers and timers.
 *
 *     spawn -> READY -> running -> WAITING -> READY -> ... -> gone
 *                           \-> ended or failed -> gone
 *
 * A task that waits holds a handle (slot and generation) given to whoever will wake it; a wake-up whose task is gone is
 * a logged no-op. Every step is an entry of its own into the VM, with its own budget, so that one bad handler costs its
 * neighbours nothing. Ready tasks run in order, a bounded number and time a turn. At most TM_TASKS_MAX live at once,
 * and the last of them are kept for handlers, timers and routines (script/callback.h says what is one).
 */
#ifndef TM_SCRIPT_TASK_H
#define TM_SCRIPT_TASK_H

#include "loop/loop.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TM_TASKS_MAX 1000

struct tm_script;
struct tm_callback;

typedef uint64_t tm_task_handle; /* 0 is none */

enum tm_task_state { TM_TASK_FREE, TM_TASK_READY, TM_TASK_RUNNING, TM_TASK_WAITING };

struct tm_task {
    enum tm_task_state state;
    uint32_t generation;
    int next; /* in the ready queue or the free list; -1: the last */
    int args; /* to resume with, on the coroutine's stack */
    int reference;
    bool begun;    /* it has run a step */
    bool timed;    /* spawned by a timer */
    bool starting; /* spawned when its script began: a handler of "start" */
    bool keep;     /* goes on when its script is replaced (tm_task_keep) */
    bool leaving;  /* it has come to its end by waiting (tm_task_leave) */
    lua_State *co;
    struct tm_callback *callback; /* NULL: not counted */
    char name[80];
};

struct tm_tasks {
    struct tm_task *slots;
    int count, free_head, ready_head, ready_tail, running; /* -1: none */
    int kept;                                              /* how many are */
    int settling;   /* steps until every task spawned at the script's begin has run its first */
    bool beginning; /* tasks spawned now are `starting` */
    bool start_failed;
    void (*on_settled)(void *arg);
    void *settled_arg;
    struct tm_async run;
    bool has_loop;
};

int tm_tasks_init(struct tm_tasks *t);
void tm_tasks_start(struct tm_tasks *t, struct tm_loop *loop, struct tm_script *script);
void tm_tasks_fini(struct tm_tasks *t); /* the VM frees the coroutines */

/* In a protected call: make a task of the function and `args` arguments on top of the stack (popped). Raises when there
 * are too many. It runs from the loop. 0: its callback is disabled, nothing was made. */
tm_task_handle tm_task_spawn(lua_State *L, const char *name, int args);

/* In a C function: the running task, for whoever will wake it. Raises unless L is its coroutine. */
tm_task_handle tm_task_self(lua_State *L);

/* As the last thing of that function: `return tm_task_yield(L)`. It returns what the wake-up pushes. */
int tm_task_yield(lua_State *L);

/* Likewise: end the task here instead of waiting. */
int tm_task_leave(lua_State *L);

/* In a C function: the running task is to go on when its script is replaced. */
void tm_task_keep(lua_State *L);
bool tm_task_is_kept(const struct tm_tasks *t, tm_task_handle handle);

/* From the loop: end a task that waits; nothing if it is gone. */
void tm_task_end(struct tm_script *script, tm_task_handle handle);

/* The task was spawned by a timer. */
void tm_task_set_timed(struct tm_tasks *t, tm_task_handle handle);

/* From the loop: end those that have not run a step yet and are a timer's, or all that have not. */
void tm_tasks_drop_unbegun(struct tm_script *script, bool all);
/* Forget a task that waits or is ready, not the running one: whoever would have woken it finds it gone. False: it was
 * gone already, or is running. May be called inside a protected call only. */
bool tm_task_kill(lua_State *L, tm_task_handle handle);

bool tm_task_is_live(const struct tm_tasks *t, tm_task_handle handle);

/* From the loop: make it ready with the values that `push` puts on its stack (it returns how many, may raise). */
void tm_task_wake(struct tm_script *script, tm_task_handle handle, int (*push)(lua_State *co, void *arg), void *arg);

#endif
