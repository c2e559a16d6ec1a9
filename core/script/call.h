/*
 * Entering Lua from C: the one place with a pcall.
 *
 * tm_call runs `body`, a C function, inside a protected call with a CPU budget; everything that may raise (pushing
 * strings, calling script functions, resuming coroutines) happens in such a body. `arg` arrives as light userdata at
 * index 1. An error becomes a tm_error (TM_ESCRIPT; TM_ENOMEM at the memory cap) whose message starts with file:line;
 * the traceback of the last failure is kept until the next one.
 */
#ifndef TM_SCRIPT_CALL_H
#define TM_SCRIPT_CALL_H

#include "script/vm.h"

int tm_call(struct tm_vm *vm, lua_CFunction body, void *arg, int64_t cpu_us, struct tm_error *err) TM_MUST_CHECK;

/*
 * Inside a body: resume `co` with the `args` values on its stack. 1: it has ended, 0: it has yielded, negative: it
 * failed (and is dead). On success its results or yielded values are dropped.
 */
int tm_call_resume(lua_State *L, lua_State *co, int args, struct tm_error *err) TM_MUST_CHECK;

const char *tm_call_traceback(void);

#endif
