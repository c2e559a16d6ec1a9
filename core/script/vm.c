#include "script/vm.h"
#include "script/call.h"

#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define HOOK_INSTRUCTIONS 100
#define CLOCK_HOOKS 10 /* reading the clock is a system call */

/*
 * At the end of its stack (65,500 slots) LuaJIT cannot call a hook any more, and a recursion through pcall can stay
 * there for ever. So the kill comes before, where the hook still works: LEVELS_MAX frames of the largest size (250
 * slots) and what HOOK_INSTRUCTIONS more can add (4 a call) fit.
 */
#define LEVELS_MAX 190
#define COLLECT_SLACK ((size_t)64 << 20) /* the collector allocates a smaller string table before it frees the old */

struct tm_vm {
    lua_State *L;
    void *owner;
    size_t used, limit;
    int depth, hooks;
    const char *killed; /* why; NULL: it is not */
    char killed_at[128];
    int64_t deadline_us;
};

static int64_t thread_cpu_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (int64_t)t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static void *allocate(void *ud, void *ptr, size_t old, size_t size)
{
    struct tm_vm *vm = ud;
    if (size == 0) {
        free(ptr);
        vm->used -= old;
        return NULL;
    }
    if (size > old && vm->used + (size - old) > vm->limit)
        return NULL;
    void *p = realloc(ptr, size);
    if (p)
        vm->used = vm->used - old + size;
    return p;
}

struct tm_vm *tm_vm_of(lua_State *L)
{
    void *ud;
    (void)lua_getallocf(L, &ud);
    return ud;
}

void *tm_vm_owner(lua_State *L)
{
    return tm_vm_of(L)->owner;
}

lua_State *tm_vm_state(struct tm_vm *vm)
{
    return vm->L;
}

size_t tm_vm_memory(const struct tm_vm *vm)
{
    return vm->used;
}

bool tm_vm_is_killed(const struct tm_vm *vm)
{
    return vm->killed != NULL;
}

static const char *verdict(struct tm_vm *vm, lua_State *L, lua_Debug *ar)
{
    if (lua_getstack(L, LEVELS_MAX, ar))
        return "recursion is too deep";
    if (++vm->hooks % CLOCK_HOOKS || thread_cpu_us() < vm->deadline_us)
        return NULL;
    return "used up its budget of CPU time";
}

const char *tm_vm_killed_at(const struct tm_vm *vm)
{
    return vm->killed ? vm->killed_at : "";
}

/* In a hook, level 0 is the function that was interrupted; later its line is not known any more. */
static void keep_place(struct tm_vm *vm, lua_State *L)
{
    lua_Debug ar;
    vm->killed_at[0] = '\0';
    if (lua_getstack(L, 0, &ar) && lua_getinfo(L, "Sl", &ar) && ar.currentline > 0)
        (void)snprintf(vm->killed_at, sizeof vm->killed_at, "%s:%d", ar.short_src, ar.currentline);
}

/* LuaJIT keeps one hook for all coroutines of a state, so new ones need no hook of their own. */
static void on_count(lua_State *L, lua_Debug *ar)
{
    struct tm_vm *vm = tm_vm_of(L);
    if (!vm->killed) {
        vm->killed = verdict(vm, L, ar);
        if (!vm->killed)
            return;
        keep_place(vm, L);
        lua_sethook(L, on_count, LUA_MASKCOUNT, 1);
    }
    luaL_where(L, 0); /* in a hook, level 0 is the function that was interrupted */
    lua_pushfstring(L, "%sstopped: %s", lua_tostring(L, -1), vm->killed);
    lua_error(L);
}

void tm_vm_enter(struct tm_vm *vm, int64_t cpu_us)
{
    if (vm->depth++ > 0)
        return;
    vm->killed = NULL;
    vm->deadline_us = thread_cpu_us() + cpu_us;
    lua_sethook(vm->L, on_count, LUA_MASKCOUNT, HOOK_INSTRUCTIONS);
}

void tm_vm_leave(struct tm_vm *vm)
{
    TM_FATAL_UNLESS(vm->depth > 0);
    vm->depth--;
}

static int collect_body(lua_State *L)
{
    lua_gc(L, LUA_GCCOLLECT, 0);
    return 0;
}

void tm_vm_collect(struct tm_vm *vm)
{
    vm->limit += COLLECT_SLACK;
    if (lua_cpcall(vm->L, collect_body, NULL))
        lua_pop(vm->L, 1);
    vm->limit -= COLLECT_SLACK;
}

static int open_body(lua_State *L)
{
    tm_sandbox_open(L);
    return 0;
}

int tm_vm_create(size_t memory_bytes_max, void *owner, struct tm_vm **out, struct tm_error *err)
{
    struct tm_vm *vm = calloc(1, sizeof *vm);
    if (!vm)
        return tm_error_set(err, TM_ENOMEM, "no memory for a script VM");
    vm->limit = memory_bytes_max ? memory_bytes_max : TM_VM_BYTES;
    vm->owner = owner;
    vm->L = lua_newstate(allocate, vm);
    if (!vm->L) {
        free(vm);
        return tm_error_set(err, TM_ENOMEM, "no memory for a script VM");
    }
    luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF);
    int rc = tm_call(vm, open_body, NULL, INT64_C(2000000), err);
    if (rc < 0) {
        tm_vm_destroy(vm);
        return rc;
    }
    *out = vm;
    return TM_OK;
}

void tm_vm_destroy(struct tm_vm *vm)
{
    if (!vm)
        return;
    lua_sethook(vm->L, NULL, 0, 0);
    lua_close(vm->L);
    free(vm);
}
