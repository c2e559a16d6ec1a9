/* host: now_us, monotonic_us, timer, cancel, sleep_us, park. */
#include "script/script_impl.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TIMERS_MAX 1000
#define TIMER_US_MAX 1e16 /* 300 years */

/* A timer that repeats never overlaps itself: while its last run is not over, a tick is left out. */
struct tm_script_timer {
    struct tm_timer timer;
    struct tm_script *script;
    struct tm_script_timer *next;
    double id;
    int fn; /* reference; LUA_NOREF: only wakes `waiting` */
    bool repeats, parked;
    tm_task_handle waiting, last_run;
    char name[TM_CALLBACK_NAME_MAX];
};

static void unlink_timer(struct tm_script_timer *t)
{
    struct tm_script_timer **at = &t->script->timers;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    tm_timer_stop(&t->timer);
    free(t);
}

static int fire_body(lua_State *L)
{
    struct tm_script_timer *t = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, t->fn);
    t->last_run = tm_task_spawn(L, t->name, 0);
    tm_task_set_timed(&t->script->tasks, t->last_run);
    if (!t->repeats)
        luaL_unref(L, LUA_REGISTRYINDEX, t->fn);
    return 0;
}

static void on_timer(void *arg)
{
    struct tm_script_timer *t = arg;
    struct tm_script *script = t->script;
    struct tm_error err;
    if (t->fn == LUA_NOREF) {
        tm_task_handle waiting = t->waiting;
        unlink_timer(t);
        tm_task_wake(script, waiting, NULL, NULL);
        return;
    }
    if (tm_task_is_live(&script->tasks, t->last_run))
        return;
    if (tm_call(script->vm, fire_body, t, TM_SCRIPT_STEP_CPU_US, &err) < 0)
        tm_script_failed(script, t->name, &err);
    if (!t->repeats)
        unlink_timer(t);
}

/* A task sleeps once at a time, so sleeps are bounded by the tasks: a flood of timers costs nobody his sleep. */
static struct tm_script_timer *add_timer(lua_State *L, struct tm_services *services, bool sleeps)
{
    struct tm_script *script = tm_script_of(L);
    size_t count = 0;
    for (struct tm_script_timer *t = script->timers; t; t = t->next)
        count += t->fn != LUA_NOREF;
    struct tm_script_timer *t = sleeps || count < TIMERS_MAX ? calloc(1, sizeof *t) : NULL;
    if (!t) {
        luaL_error(L, "timer: %d timers are waiting already", (int)count);
        return NULL;
    }
    t->script = script;
    t->fn = LUA_NOREF;
    t->next = script->timers;
    t->id = t->next ? t->next->id + 1 : 1;
    script->timers = t;
    tm_timer_init(&t->timer, services->loop, on_timer, t);
    return t;
}

static int64_t check_us(lua_State *L, int index)
{
    double us = luaL_checknumber(L, index);
    if (!(us >= 0 && us <= TIMER_US_MAX))
        luaL_error(L, "timer: expected a duration that is not negative");
    return (int64_t)us;
}

/* timer(after_us, every_us, name, fn) -> id; every_us 0: once */
static int timer(lua_State *L)
{
    struct tm_services *services = tm_script_services_anew(L, "a timer");
    int64_t after_us = check_us(L, 1), every_us = check_us(L, 2);
    const char *name = luaL_checkstring(L, 3);
    luaL_checktype(L, 4, LUA_TFUNCTION);
    lua_settop(L, 4);
    int fn = luaL_ref(L, LUA_REGISTRYINDEX);
    struct tm_script_timer *t = add_timer(L, services, false);
    t->fn = fn;
    t->repeats = every_us > 0;
    (void)snprintf(t->name, sizeof t->name, "%s", name);
    tm_timer_start(&t->timer, after_us, every_us);
    lua_pushnumber(L, t->id);
    return 1;
}

/* cancel(id) -> whether it was still to come */
static int cancel(lua_State *L)
{
    double id = luaL_checknumber(L, 1);
    struct tm_script_timer *t = tm_script_of(L)->timers;
    while (t && (t->id != id || t->fn == LUA_NOREF))
        t = t->next;
    if (t) {
        luaL_unref(L, LUA_REGISTRYINDEX, t->fn);
        unlink_timer(t);
    }
    lua_pushboolean(L, t != NULL);
    return 1;
}

/* The running task waits; one of a script that is being replaced ends here instead, unless it is kept. */
static int wait_us(lua_State *L, const char *what, bool parked)
{
    struct tm_services *services = tm_script_services(L, what);
    const struct tm_script *script = tm_script_of(L);
    int64_t us = check_us(L, 1);
    tm_task_handle self = tm_task_self(L);
    if (script->draining && !tm_task_is_kept(&script->tasks, self))
        return tm_task_leave(L);
    struct tm_script_timer *t = add_timer(L, services, true);
    t->waiting = self;
    t->parked = parked;
    tm_timer_start(&t->timer, us, 0);
    return tm_task_yield(L);
}

static int sleep_us(lua_State *L)
{
    return wait_us(L, "tm.sleep", false);
}

/* park(us) -> true when host.wake came, nothing when the time was over */
static int park(lua_State *L)
{
    return wait_us(L, "waiting", true);
}

static int push_true(lua_State *L, void *arg)
{
    (void)arg;
    lua_pushboolean(L, true);
    return 1;
}

bool tm_api_clock_wake(struct tm_script *script, tm_task_handle task)
{
    struct tm_script_timer *t = script->timers;
    while (t && (!t->parked || t->waiting != task))
        t = t->next;
    if (!t)
        return false;
    unlink_timer(t);
    tm_task_wake(script, task, push_true, NULL);
    return true;
}

void tm_api_clock_forget(struct tm_script *script, tm_task_handle task)
{
    struct tm_script_timer *t = script->timers;
    while (t && (t->fn != LUA_NOREF || t->waiting != task))
        t = t->next;
    if (t)
        unlink_timer(t);
}

static int now_us(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)tm_clock_wall_us());
    return 1;
}

static int monotonic_us(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)tm_clock_mono_us());
    return 1;
}

/* References to the functions stay: the VM ends soon. */
void tm_api_clock_drain(struct tm_script *script)
{
    for (struct tm_script_timer *t = script->timers, *next; t; t = next) {
        next = t->next;
        tm_task_handle waiting = t->fn == LUA_NOREF ? t->waiting : 0;
        if (waiting && tm_task_is_kept(&script->tasks, waiting))
            continue;
        unlink_timer(t);
        if (waiting)
            tm_task_end(script, waiting);
    }
}

void tm_api_clock_close(struct tm_script *script)
{
    while (script->timers)
        unlink_timer(script->timers);
}

void tm_api_clock(lua_State *L)
{
    static const luaL_Reg functions[] = {{"now_us", now_us}, {"monotonic_us", monotonic_us}, {"timer", timer},
                                         {"cancel", cancel}, {"sleep_us", sleep_us},         {"park", park},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
