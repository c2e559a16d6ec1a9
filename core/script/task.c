#include "script/script_impl.h"

#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RESERVE 250 /* slots that a flood of tm.spawn leaves to handlers and timers */
#define STEPS_PER_TURN 256
#define TURN_US (100 * TM_US_PER_MS) /* then the rest of the loop has its turn */
#define GARBAGE_MAX ((size_t)16 << 20)

int tm_tasks_init(struct tm_tasks *t)
{
    *t = (struct tm_tasks){.free_head = 0, .ready_head = -1, .ready_tail = -1, .running = -1};
    t->slots = calloc(TM_TASKS_MAX, sizeof *t->slots);
    if (!t->slots)
        return TM_ENOMEM;
    for (int i = 0; i < TM_TASKS_MAX; i++)
        t->slots[i].next = i + 1 < TM_TASKS_MAX ? i + 1 : -1;
    return TM_OK;
}

void tm_tasks_fini(struct tm_tasks *t)
{
    if (t->has_loop)
        tm_async_fini(&t->run);
    free(t->slots);
    t->slots = NULL;
}

static tm_task_handle handle_of(const struct tm_tasks *t, int slot)
{
    return (tm_task_handle)t->slots[slot].generation << 32 | (uint32_t)(slot + 1);
}

static struct tm_task *find(const struct tm_tasks *t, tm_task_handle handle)
{
    uint32_t slot = (uint32_t)handle - 1;
    if (!handle || slot >= TM_TASKS_MAX || !t->slots)
        return NULL;
    struct tm_task *task = &t->slots[slot];
    return task->state != TM_TASK_FREE && task->generation == handle >> 32 ? task : NULL;
}

bool tm_task_is_live(const struct tm_tasks *t, tm_task_handle handle)
{
    return find(t, handle) != NULL;
}

static void make_ready(struct tm_tasks *t, struct tm_task *task)
{
    int slot = (int)(task - t->slots);
    task->state = TM_TASK_READY;
    task->next = -1;
    if (t->ready_tail >= 0)
        t->slots[t->ready_tail].next = slot;
    else
        t->ready_head = slot;
    t->ready_tail = slot;
    if (t->has_loop)
        tm_async_send(&t->run);
}

static void release(lua_State *L, struct tm_tasks *t, struct tm_task *task)
{
    luaL_unref(L, LUA_REGISTRYINDEX, task->reference);
    t->kept -= task->keep;
    task->state = TM_TASK_FREE;
    task->generation++;
    task->co = NULL;
    task->next = t->free_head;
    t->free_head = (int)(task - t->slots);
    t->count--;
}

tm_task_handle tm_task_spawn(lua_State *L, const char *name, int args)
{
    struct tm_tasks *t = &tm_script_of(L)->tasks;
    struct tm_callback *callback = tm_callback_get(&tm_script_of(L)->callbacks, name);
    if (!tm_callback_may_run(callback)) {
        lua_pop(L, args + 1);
        return 0;
    }
    bool plain = !callback || callback->kind == TM_CALLBACK_TASK;
    if (t->free_head < 0 || (plain && t->count >= TM_TASKS_MAX - RESERVE))
        luaL_error(L, "%s: %d handlers are waiting already", name, t->count);
    lua_State *co = lua_newthread(L);
    int reference = luaL_ref(L, LUA_REGISTRYINDEX);
    luaL_checkstack(co, args + 1, name);
    lua_xmove(L, co, args + 1);
    struct tm_task *task = &t->slots[t->free_head];
    t->free_head = task->next;
    t->count++;
    task->co = co;
    task->reference = reference;
    task->args = args;
    task->begun = task->timed = task->keep = task->leaving = false;
    task->starting = t->beginning;
    task->callback = callback;
    (void)snprintf(task->name, sizeof task->name, "%s", name);
    make_ready(t, task);
    return handle_of(t, (int)(task - t->slots));
}

tm_task_handle tm_task_self(lua_State *L)
{
    const struct tm_tasks *t = &tm_script_of(L)->tasks;
    if (t->running < 0 || t->slots[t->running].co != L)
        luaL_error(L, "only a handler (tm.on, tm.every, tm.after, tm.spawn) can wait, and not inside a coroutine "
                      "of its own");
    return handle_of(t, t->running);
}

/* Out of the ready queue, where it may be. */
static void unqueue(struct tm_tasks *t, const struct tm_task *task)
{
    int slot = (int)(task - t->slots), before = -1, at = t->ready_head;
    while (at >= 0 && at != slot) {
        before = at;
        at = t->slots[at].next;
    }
    if (at < 0)
        return;
    if (before >= 0)
        t->slots[before].next = task->next;
    else
        t->ready_head = task->next;
    if (t->ready_tail == slot)
        t->ready_tail = before;
}

bool tm_task_kill(lua_State *L, tm_task_handle handle)
{
    struct tm_tasks *t = &tm_script_of(L)->tasks;
    struct tm_task *task = find(t, handle);
    if (!task || task->state == TM_TASK_RUNNING)
        return false;
    if (task->state == TM_TASK_READY)
        unqueue(t, task);
    release(L, t, task);
    return true;
}

int tm_task_yield(lua_State *L)
{
    struct tm_tasks *t = &tm_script_of(L)->tasks;
    t->slots[t->running].state = TM_TASK_WAITING;
    return lua_yield(L, 0);
}

int tm_task_leave(lua_State *L)
{
    struct tm_tasks *t = &tm_script_of(L)->tasks;
    t->slots[t->running].leaving = true;
    return tm_task_yield(L);
}

void tm_task_keep(lua_State *L)
{
    struct tm_tasks *t = &tm_script_of(L)->tasks;
    if (t->running < 0)
        luaL_error(L, "only a task can be kept");
    t->kept += !t->slots[t->running].keep;
    t->slots[t->running].keep = true;
}

void tm_task_set_timed(struct tm_tasks *t, tm_task_handle handle)
{
    struct tm_task *task = find(t, handle);
    if (task)
        task->timed = true;
}

bool tm_task_is_kept(const struct tm_tasks *t, tm_task_handle handle)
{
    const struct tm_task *task = find(t, handle);
    return task && task->keep;
}

/* ---- steps ---- */

struct step {
    struct tm_script *script;
    struct tm_task *task;
    struct tm_error err;
    int result;
    size_t memory; /* of the VM before it */
};

static int step_body(lua_State *L)
{
    struct step *s = lua_touserdata(L, 1);
    s->result = tm_call_resume(L, s->task->co, s->task->args, &s->err);
    return 0;
}

static int release_body(lua_State *L)
{
    struct step *s = lua_touserdata(L, 1);
    release(L, &s->script->tasks, s->task);
    return 0;
}

static void end_task(struct step *s)
{
    tm_callback_note(&s->script->callbacks, s->task->callback, s->result < 0 ? &s->err : NULL);
    if (tm_call(s->script->vm, release_body, s, TM_SCRIPT_STEP_CPU_US, NULL) < 0)
        s->task->state = TM_TASK_FREE; /* out of memory: the slot is lost until the next generation */
    /* what a failed step held is garbage only now, and the next one may not live to see the collector run */
    if (s->result < 0 && tm_vm_memory(s->script->vm) > s->memory + GARBAGE_MAX)
        tm_vm_collect(s->script->vm);
}

void tm_task_end(struct tm_script *script, tm_task_handle handle)
{
    struct tm_task *task = find(&script->tasks, handle);
    struct step s = {.script = script, .task = task, .memory = tm_vm_memory(script->vm)};
    if (task && task->state == TM_TASK_WAITING)
        end_task(&s);
}

void tm_tasks_drop_unbegun(struct tm_script *script, bool all)
{
    struct tm_tasks *t = &script->tasks;
    int slot = t->ready_head;
    t->ready_head = t->ready_tail = -1;
    while (slot >= 0) {
        struct tm_task *task = &t->slots[slot];
        struct step s = {.script = script, .task = task, .memory = tm_vm_memory(script->vm)};
        slot = task->next;
        if (task->begun || !(all || task->timed))
            make_ready(t, task);
        else
            end_task(&s);
    }
}

/* What a task was refused because its script is being replaced is no fault of it. */
static void step_failed(struct tm_script *script, const struct tm_task *task, const struct tm_error *err)
{
    script->tasks.start_failed = script->tasks.start_failed || task->starting;
    if (script->refused)
        tm_log(TM_LOG_INFO, "script", "a handler of the replaced script ends", TM_F_STR("handler", task->name),
               TM_F_ERR(err));
    else
        tm_script_failed(script, task->name, err);
}

static int64_t budget_of(const struct tm_script *script, const struct tm_task *task)
{
    bool routine = task->callback && task->callback->kind == TM_CALLBACK_ROUTINE;
    return routine ? script->config.limits.routine_us : script->config.limits.step_us;
}

static void run_step(struct tm_script *script, struct tm_task *task)
{
    struct tm_tasks *t = &script->tasks;
    struct step s = {.script = script, .task = task, .memory = tm_vm_memory(script->vm)};
    task->state = TM_TASK_RUNNING;
    task->begun = true;
    script->refused = false;
    t->running = (int)(task - t->slots);
    if (tm_call(script->vm, step_body, &s, budget_of(script, task), &s.err) < 0)
        s.result = s.err.code;
    t->running = -1;
    if (s.result == 0 && task->state != TM_TASK_WAITING)
        s.result = tm_error_set(&s.err, TM_ESCRIPT, "it yielded without waiting for anything");
    if (s.result == 0 && !task->leaving)
        return;
    if (s.result < 0)
        step_failed(script, task, &s.err);
    end_task(&s);
}

static void run_ready(void *arg)
{
    struct tm_script *script = arg;
    struct tm_tasks *t = &script->tasks;
    int64_t until_us = tm_clock_mono_us() + TURN_US;
    for (int steps = 0; t->ready_head >= 0 && steps < STEPS_PER_TURN && tm_clock_mono_us() < until_us; steps++) {
        struct tm_task *task = &t->slots[t->ready_head];
        t->ready_head = task->next;
        if (t->ready_head < 0)
            t->ready_tail = -1;
        run_step(script, task);
        if (t->settling > 0 && --t->settling == 0 && t->on_settled)
            t->on_settled(t->settled_arg);
    }
    if (t->ready_head >= 0)
        tm_async_send(&t->run);
}

void tm_tasks_start(struct tm_tasks *t, struct tm_loop *loop, struct tm_script *script)
{
    tm_async_init(&t->run, loop, run_ready, script);
    t->has_loop = true;
    tm_async_send(&t->run);
}

/* ---- wake ---- */

struct wake {
    struct tm_task *task;
    int (*push)(lua_State *co, void *arg);
    void *arg;
};

static int wake_body(lua_State *L)
{
    struct wake *w = lua_touserdata(L, 1);
    int before = lua_gettop(L);
    int count = w->push ? w->push(L, w->arg) : 0;
    luaL_checkstack(w->task->co, count, "results");
    lua_xmove(L, w->task->co, count);
    w->task->args = count;
    lua_settop(L, before);
    return 0;
}

void tm_task_wake(struct tm_script *script, tm_task_handle handle, int (*push)(lua_State *co, void *arg), void *arg)
{
    struct tm_task *task = find(&script->tasks, handle);
    if (!task || task->state != TM_TASK_WAITING) {
        tm_log(TM_LOG_DEBUG, "script", "late completion: its handler is gone");
        return;
    }
    struct wake w = {.task = task, .push = push, .arg = arg};
    struct tm_error err;
    if (tm_call(script->vm, wake_body, &w, TM_SCRIPT_STEP_CPU_US, &err) < 0) {
        tm_script_failed(script, task->name, &err);
        struct step s = {.script = script, .task = task, .result = err.code, .err = err};
        end_task(&s);
        return;
    }
    make_ready(&script->tasks, task);
}
