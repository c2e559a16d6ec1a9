#include "script/vm.h"
#include "script/call.h"

#include "base/clock.h"
#include "script/grant.h"
#include "script/place.h"

#include <luajit.h>
#include <stdio.h>
#include <stdlib.h>

#define HOOK_INSTRUCTIONS 100
#define SLOW_US 500       /* so long for HOOK_INSTRUCTIONS: count each one from now on ... */
#define FAST_HOOKS 200    /* ... until so many in a row were fast */
#define LOOK_US_MIN 200   /* the clock of CPU time is a system call */
#define LARGE_BYTES 65536 /* an allocation that may have taken long to fill */

/*
 * At the end of its stack (65,500 slots) LuaJIT cannot call a hook any more, and a recursion through pcall can stay
 * there for ever. So the kill comes before, where the hook still works: LEVELS_MAX frames of the largest size (250
 * slots) and what HOOK_INSTRUCTIONS more can add (4 a call) fit.
 */
#define LEVELS_MAX 190
#define C_STACK_BYTES (256 << 10)        /* of the usual 8 MiB; coroutines that resume coroutines nest C frames */
#define COLLECT_SLACK ((size_t)64 << 20) /* the collector allocates a smaller string table before it frees the old */

static const char over_budget[] = "used up its budget of CPU time";

struct tm_vm {
    lua_State *L;
    void *owner;
    size_t used, limit;
    int depth, hook_count, fast_hooks;
    const char *killed; /* why; NULL: it is not */
    char killed_at[1024];
    int64_t entered_us, deadline_us; /* thread CPU time */
    int64_t look_us, hook_us;        /* monotonic: when to look at the CPU time again; when the hook fired last */
    const char *stack;               /* where the C stack stood at the outermost entry */
    lua_State *slice_co;             /* NULL: none */
    int64_t slice_us;                /* monotonic: its end */
    bool sliced;
};

/* CPU time never runs faster than the clock on the wall, so it need not be read before that could have got there. */
static bool is_over(struct tm_vm *vm, int64_t now_us)
{
    if (now_us < vm->look_us)
        return false;
    int64_t left_us = vm->deadline_us - tm_clock_thread_us();
    vm->look_us = now_us + (left_us > LOOK_US_MIN ? left_us : LOOK_US_MIN);
    return left_us <= 0;
}

static void on_count(lua_State *L, lua_Debug *ar);

static void set_hook(struct tm_vm *vm, lua_State *L, int count)
{
    vm->hook_count = count;
    vm->fast_hooks = 0;
    lua_sethook(L, on_count, LUA_MASKCOUNT, count);
}

/* LuaJIT allows a hook to be set at any moment (its own interpreter does it in a signal handler). */
static void look_while_allocating(struct tm_vm *vm)
{
    if (!vm->depth || vm->killed || !is_over(vm, tm_clock_mono_us()))
        return;
    vm->killed = over_budget;
    set_hook(vm, vm->L, 1);
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
    if (size >= LARGE_BYTES && size > old)
        look_while_allocating(vm);
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

size_t tm_vm_memory_max(const struct tm_vm *vm)
{
    return vm->limit;
}

void tm_vm_set_memory_max(struct tm_vm *vm, size_t bytes)
{
    vm->limit = bytes;
}

bool tm_vm_is_killed(const struct tm_vm *vm)
{
    return vm->killed != NULL;
}

static _Noreturn void raise_kill(struct tm_vm *vm, lua_State *L, int level)
{
    tm_place_where(L, level);
    lua_pushfstring(L, "%sstopped: %s", lua_tostring(L, -1), vm->killed);
    lua_error(L);
    __builtin_unreachable();
}

static const char *verdict(struct tm_vm *vm, lua_State *L, lua_Debug *ar, int64_t now_us)
{
    if (lua_getstack(L, LEVELS_MAX, ar))
        return "recursion is too deep";
    return is_over(vm, now_us) ? over_budget : NULL;
}

/* A hundred additions take a microsecond, a hundred comparisons of huge strings seconds. */
static void adapt_hook(struct tm_vm *vm, lua_State *L, int64_t now_us)
{
    bool slow = now_us - vm->hook_us > SLOW_US;
    vm->hook_us = now_us;
    if (vm->hook_count > 1 && slow)
        set_hook(vm, L, 1);
    else if (vm->hook_count == 1 && (vm->fast_hooks = slow ? 0 : vm->fast_hooks + 1) > FAST_HOOKS)
        set_hook(vm, L, HOOK_INSTRUCTIONS);
}

const char *tm_vm_killed_at(const struct tm_vm *vm)
{
    return vm->killed ? vm->killed_at : "";
}

/* In a hook, level 0 is the function that was interrupted; later its line is not known any more. */
static void keep_place(struct tm_vm *vm, lua_State *L, int level)
{
    lua_Debug ar;
    vm->killed_at[0] = '\0';
    if (lua_getstack(L, level, &ar) && lua_getinfo(L, "Sl", &ar) && ar.currentline > 0)
        (void)snprintf(vm->killed_at, sizeof vm->killed_at, "%s:%d", tm_place_file(&ar), ar.currentline);
}

/* LuaJIT keeps one hook for all coroutines of a state, so new ones need no hook of their own. */
static void on_count(lua_State *L, lua_Debug *ar)
{
    struct tm_vm *vm = tm_vm_of(L);
    int64_t now_us = tm_clock_mono_us();
    if (!vm->killed && (vm->killed = verdict(vm, L, ar, now_us)))
        keep_place(vm, L, 0);
    if (!vm->killed) {
        adapt_hook(vm, L, now_us);
        if (L == vm->slice_co && now_us >= vm->slice_us && lua_isyieldable(L)) {
            vm->sliced = true;
            lua_yield(L, 0); /* LuaJIT lets a hook do so, and goes on at the instruction that comes next */
        }
        return;
    }
    if (vm->hook_count != 1)
        set_hook(vm, L, 1);
    raise_kill(vm, L, 0); /* in a hook, level 0 is the function that was interrupted */
}

void tm_vm_check(lua_State *L)
{
    struct tm_vm *vm = tm_vm_of(L);
    if (!vm->killed && vm->depth && is_over(vm, tm_clock_mono_us())) {
        vm->killed = over_budget;
        keep_place(vm, L, 1);
        set_hook(vm, L, 1);
    }
    if (vm->killed)
        raise_kill(vm, L, 1);
}

void tm_vm_check_stack(lua_State *L)
{
    const char *here = __builtin_frame_address(0), *there = tm_vm_of(L)->stack;
    ptrdiff_t used = there > here ? there - here : here - there;
    if (there && used > C_STACK_BYTES)
        luaL_error(L, "C stack overflow: coroutines or callbacks are nested too deeply");
}

void tm_vm_enter(struct tm_vm *vm, int64_t cpu_us)
{
    if (vm->depth++ > 0)
        return;
    vm->killed = NULL;
    vm->stack = __builtin_frame_address(0);
    vm->entered_us = tm_clock_thread_us();
    vm->hook_us = tm_clock_mono_us();
    tm_vm_set_budget(vm, cpu_us);
    set_hook(vm, vm->L, HOOK_INSTRUCTIONS);
}

void tm_vm_set_budget(struct tm_vm *vm, int64_t cpu_us)
{
    vm->deadline_us = vm->entered_us + cpu_us;
    vm->look_us = 0;
}

void tm_vm_extend(struct tm_vm *vm, int64_t cpu_us)
{
    vm->deadline_us += cpu_us;
}

void tm_vm_set_slice(struct tm_vm *vm, lua_State *co, int64_t us)
{
    vm->slice_co = co;
    vm->slice_us = tm_clock_mono_us() + us;
    vm->sliced = false;
}

bool tm_vm_is_sliced(const struct tm_vm *vm)
{
    return vm->sliced;
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
    const uint32_t *grants = lua_touserdata(L, 1);
    tm_sandbox_open(L, *grants);
    return 0;
}

static int create(size_t memory_bytes_max, void *owner, uint32_t grants, struct tm_vm **out, struct tm_error *err)
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
    int rc = tm_call(vm, open_body, &grants, INT64_C(2000000), err);
    luaJIT_setmode(vm->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF); /* opening a granted library "jit" turns it on */
    if (rc < 0) {
        tm_vm_destroy(vm);
        return rc;
    }
    *out = vm;
    return TM_OK;
}

int tm_vm_create(size_t memory_bytes_max, void *owner, struct tm_vm **out, struct tm_error *err)
{
    return create(memory_bytes_max, owner, tm_grants(), out, err);
}

int tm_vm_create_bare(size_t memory_bytes_max, void *owner, struct tm_vm **out, struct tm_error *err)
{
    return create(memory_bytes_max, owner, 0, out, err);
}

void tm_vm_destroy(struct tm_vm *vm)
{
    if (!vm)
        return;
    lua_sethook(vm->L, NULL, 0, 0);
    lua_close(vm->L);
    free(vm);
}
