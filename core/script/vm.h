/*
 * The policy VM: a LuaJIT state that can be stopped and cannot take the machine down (FAILURES c2).
 *
 *   memory   everything the state allocates is counted and capped; at the cap Lua sees "not enough memory"
 *   time     each entry from C has a budget of thread CPU time, read by an instruction-count hook. The JIT compiler is off,
 *            so the hook always fires. Once the budget is gone the kill is sticky: the hook then fires at every
 *            instruction until the outermost entry has returned, so neither pcall, xpcall nor a coroutine swallows it
 *   library  base, string (without dump), table, math, bit, coroutine, and the time functions of os; no io, debug,
 *            package, ffi, jit; text chunks only; metatables of strings are locked; unknown globals are errors
 *
 * What stays open: a C function of Lua's own library (a pathological string.find) is not interrupted by a hook.
 *
 * C enters Lua through script/call.h alone. One thread; the state is private to it.
 */
#ifndef TM_SCRIPT_VM_H
#define TM_SCRIPT_VM_H

#include "base/error.h"

#include <lauxlib.h>
#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tm_vm;

#define TM_VM_BYTES ((size_t)256 << 20)

/* memory_bytes_max 0: TM_VM_BYTES. `owner` is what API functions find with tm_vm_owner. */
int tm_vm_create(size_t memory_bytes_max, void *owner, struct tm_vm **out, struct tm_error *err) TM_MUST_CHECK;
void tm_vm_destroy(struct tm_vm *vm);

lua_State *tm_vm_state(struct tm_vm *vm);
struct tm_vm *tm_vm_of(lua_State *L); /* of any coroutine of it */
void *tm_vm_owner(lua_State *L);
size_t tm_vm_memory(const struct tm_vm *vm);

/* The budget of one entry; entries inside another share the outer one's. */
void tm_vm_enter(struct tm_vm *vm, int64_t cpu_us);
void tm_vm_leave(struct tm_vm *vm);
bool tm_vm_is_killed(const struct tm_vm *vm);        /* since the outermost enter */
const char *tm_vm_killed_at(const struct tm_vm *vm); /* "file:line"; "" when it is not, or that is not known */

/* Collect all garbage, after the cap was hit: the collector's own next step may lie beyond it. */
void tm_vm_collect(struct tm_vm *vm);

/* Prepares a new state's globals (sandbox.c); called by tm_vm_create inside a protected call. */
void tm_sandbox_open(lua_State *L);

#endif
