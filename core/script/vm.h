/*
 * The policy VM: a LuaJIT state that can be stopped and cannot take the machine down (FAILURES c2).
 *
 *   memory   everything the state allocates is counted and capped; at the cap Lua sees "not enough memory"
 *   time     each entry from C has a budget of thread CPU time. The JIT compiler is off, so an instruction-count hook
 *            always fires and looks at the clock; instructions that turn out slow (comparing huge strings) are counted one
 *            by one; large allocations look too; and C functions whose work grows with their arguments call tm_vm_check in
 *            their loops. Once the budget is gone the kill is sticky: the hook then fires at every instruction until the
 *            outermost entry has returned, so neither pcall, xpcall nor a coroutine swallows it
 *   stack    recursion is bounded in Lua (frames of a coroutine) and in C (bytes, tm_vm_check_stack)
 *   library  base, string (without dump; own pattern matcher), table (own sort and insert), math, bit, coroutine, and the
 *            time functions of os; more only by grant (script/grant.h). No loaders, no bytecode. Library tables and
 *            globals are read-only (script/frozen.h), metatables of strings are locked, unknown globals are errors
 *
 * What an entry may take beyond its budget: one C function of Lua's own library at work on what fits under the memory cap
 * (well under a second), because a hook does not interrupt it.
 *
 * Slices: a coroutine that C resumes can be made to yield by itself after some time (tm_vm_set_slice), so that long work
 * of no urgency, such as a person's command, shares its thread with the rest of the loop.
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

/* memory_bytes_max 0: TM_VM_BYTES. `owner` is what API functions find with tm_vm_owner. The libraries are those that the
 * process is granted (tm_grants). */
int tm_vm_create(size_t memory_bytes_max, void *owner, struct tm_vm **out, struct tm_error *err) TM_MUST_CHECK;
/* The same without any grant. */
int tm_vm_create_bare(size_t memory_bytes_max, void *owner, struct tm_vm **out, struct tm_error *err) TM_MUST_CHECK;
void tm_vm_destroy(struct tm_vm *vm);

lua_State *tm_vm_state(struct tm_vm *vm);
struct tm_vm *tm_vm_of(lua_State *L); /* of any coroutine of it */
void *tm_vm_owner(lua_State *L);
size_t tm_vm_memory(const struct tm_vm *vm);
size_t tm_vm_memory_max(const struct tm_vm *vm);
void tm_vm_set_memory_max(struct tm_vm *vm, size_t bytes);

/* The budget of one entry; entries inside another share the outer one's. */
void tm_vm_enter(struct tm_vm *vm, int64_t cpu_us);
void tm_vm_leave(struct tm_vm *vm);
void tm_vm_set_budget(struct tm_vm *vm, int64_t cpu_us); /* of the entry under way, counted from its beginning */
void tm_vm_extend(struct tm_vm *vm, int64_t cpu_us);     /* by what it does on somebody else's account */

/* `co` yields, without values, once `us` from now have passed on the clock and an instruction of its own (not of a
 * coroutine of it, nor below a C function) comes next. tm_vm_is_sliced: that is why it yielded last; reset by the next
 * tm_vm_set_slice. NULL: none does. */
void tm_vm_set_slice(struct tm_vm *vm, lua_State *co, int64_t us);
bool tm_vm_is_sliced(const struct tm_vm *vm);

bool tm_vm_is_killed(const struct tm_vm *vm);        /* since the outermost enter */
const char *tm_vm_killed_at(const struct tm_vm *vm); /* "file:line"; "" when it is not, or that is not known */

/* For C functions that Lua calls and whose work grows with their arguments: raise if the entry's time is over. It reads a
 * clock (25 ns), so call it every few thousand steps. */
void tm_vm_check(lua_State *L);

/* For C functions that call Lua, and for what nests C frames in other ways: raise when the C stack is used up. */
void tm_vm_check_stack(lua_State *L);

/* Collect all garbage, after the cap was hit: the collector's own next step may lie beyond it. */
void tm_vm_collect(struct tm_vm *vm);

/* Prepares a new state's globals (sandbox.c); called by tm_vm_create inside a protected call. */
void tm_sandbox_open(lua_State *L, uint32_t grants);

/* Make the value on top of the stack (popped) a global that scripts can read. */
void tm_sandbox_define(lua_State *L, const char *name);

#endif
