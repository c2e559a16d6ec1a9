/* host: callback, limits, freeze. What keeps a script within its bounds, as far as the Lua library has a say in it. */
#include "script/frozen.h"
#include "script/script_impl.h"

#include <string.h>

#define FAILURES_MAX 1000000

/* callback(kind, name, failures?): tasks under this name are of that kind ("event", "timer", "routine", "task"), and events
 * and timers are disabled after so many failures in a row (the role's callback_failures unless given; 0: never). */
static int callback(lua_State *L)
{
    struct tm_script *script = tm_script_of(L);
    enum tm_callback_kind kind;
    const char *kind_name = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
    if (tm_callback_kind_parse(kind_name, &kind) < 0)
        return luaL_error(L, "callback: expected event, timer, routine or task, got '%s'", kind_name);
    lua_Integer failures = luaL_optinteger(L, 3, script->config.callback_failures);
    if (failures < 0 || failures > FAILURES_MAX)
        return luaL_error(L, "callback: expected 0 (never) to %d failures", FAILURES_MAX);
    struct tm_callback *c = tm_callback_get(&script->callbacks, name);
    if (!c)
        return luaL_error(L, "callback: expected at most %d handlers and timers", TM_CALLBACKS_MAX);
    c->kind = kind;
    c->limit = kind == TM_CALLBACK_EVENT || kind == TM_CALLBACK_TIMER ? (uint32_t)failures : 0;
    return 0;
}

/* limits(load_us?, memory_bytes?): declare time; they hold for the load that is under way. */
static int limits(lua_State *L)
{
    struct tm_script *script = tm_script_of(L);
    lua_Number load_us = luaL_optnumber(L, 1, 0), memory_bytes = luaL_optnumber(L, 2, 0);
    if (script->services)
        return luaL_error(L, "limits are for declare time");
    if (!(load_us >= 0 && load_us <= (lua_Number)TM_SCRIPT_CPU_US_MAX) ||
        !(memory_bytes >= 0 && memory_bytes <= (lua_Number)TM_SCRIPT_MEMORY_MAX))
        return luaL_error(L, "limits: expected a budget of at most 60 s and memory of at most 64 GiB");
    if (load_us > 0)
        tm_vm_set_budget(script->vm, (int64_t)load_us);
    if (memory_bytes > 0)
        tm_vm_set_memory_max(script->vm, (size_t)memory_bytes);
    return 0;
}

/* freeze(table, name) -> a view of it that cannot be written (script/frozen.h) */
static int freeze(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *name = luaL_checkstring(L, 2);
    lua_pushvalue(L, 1);
    tm_frozen_make(L, name);
    return 1;
}

void tm_api_guard(lua_State *L)
{
    static const luaL_Reg functions[] = {{"callback", callback}, {"limits", limits}, {"freeze", freeze}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
