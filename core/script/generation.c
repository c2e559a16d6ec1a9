/* A script as one generation among others: settling, draining, and what it leaves to the next. */
#include "script/script_impl.h"

#include <stdlib.h>
#include <string.h>

#define STATE_BYTES_MAX ((size_t)16 << 20)

int64_t tm_script_load_cpu_us(const struct tm_script *script)
{
    return script->load_cpu_us;
}

/* ---- settling ---- */

bool tm_script_is_settled(const struct tm_script *script)
{
    return script->tasks.settling == 0;
}

void tm_script_on_settled(struct tm_script *script, void (*fn)(void *arg), void *arg)
{
    script->tasks.on_settled = fn;
    script->tasks.settled_arg = arg;
}

bool tm_script_start_failed(const struct tm_script *script)
{
    return script->tasks.start_failed;
}

/* ---- draining ---- */

void tm_script_drain(struct tm_script *script)
{
    script->draining = true;
    tm_script_on_settled(script, NULL, NULL);
    /* ticks that were due, and handlers of "start" that never began; handlers of events have their say */
    tm_tasks_drop_unbegun(script, !tm_script_is_settled(script));
    tm_api_clock_drain(script);
}

size_t tm_script_tasks(const struct tm_script *script)
{
    return (size_t)script->tasks.count;
}

size_t tm_script_busy(const struct tm_script *script)
{
    return (size_t)script->tasks.kept;
}

/* ---- state ---- */

/* Push declared[name]; false, with nothing pushed, when there is no such function. */
static bool push_declared(lua_State *L, const char *name)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, tm_script_of(L)->declared);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
    if (lua_isfunction(L, -1))
        return true;
    lua_pop(L, 1);
    return false;
}

static int save_body(lua_State *L)
{
    char **state = lua_touserdata(L, 1);
    size_t len;
    if (!push_declared(L, "save_state"))
        return 0;
    lua_call(L, 0, 1);
    if (lua_isnil(L, -1))
        return 0;
    const char *text = luaL_checklstring(L, -1, &len);
    if (len > STATE_BYTES_MAX)
        return luaL_error(L, "tm.state: expected at most 16 MiB, got %d", (int)len);
    *state = strdup(text);
    return *state ? 0 : luaL_error(L, "tm.state: no memory for %d bytes", (int)len);
}

int tm_script_save(struct tm_script *script, char **state, struct tm_error *err)
{
    *state = NULL;
    return tm_call(script->vm, save_body, state, TM_SCRIPT_STEP_CPU_US, err);
}

static int restore_body(lua_State *L)
{
    const char *state = lua_touserdata(L, 1);
    if (!push_declared(L, "restore_state"))
        return 0;
    lua_pushstring(L, state);
    lua_call(L, 1, 0);
    return 0;
}

int tm_script_restore(struct tm_script *script, const char *state, struct tm_error *err)
{
    if (!state)
        return TM_OK;
    return tm_call(script->vm, restore_body, (void *)(uintptr_t)state, TM_SCRIPT_STEP_CPU_US, err);
}

/* ---- events for kept tasks ---- */

static int observe_body(lua_State *L)
{
    if (!push_declared(L, "observe"))
        return 0;
    tm_script_push_event(L, lua_touserdata(L, 1));
    lua_call(L, 1, 0);
    return 0;
}

void tm_script_observe(struct tm_script *script, const struct tm_event *event)
{
    struct tm_error err;
    if (tm_call(script->vm, observe_body, (void *)(uintptr_t)event, TM_SCRIPT_STEP_CPU_US, &err) < 0)
        tm_script_failed(script, tm_event_type_name(event->type), &err);
}
