/* host: spawn, task, park, wake, kill, is_live, keep. A task is named to Lua by an opaque string. */
#include "script/script_impl.h"

#include <string.h>

static int push_handle(lua_State *L, tm_task_handle handle)
{
    lua_pushlstring(L, (const char *)&handle, sizeof handle);
    return 1;
}

static tm_task_handle check_handle(lua_State *L, int index)
{
    size_t len;
    tm_task_handle handle;
    const char *bytes = luaL_checklstring(L, index, &len);
    if (len != sizeof handle)
        luaL_error(L, "task: expected what host.task or host.spawn returned");
    memcpy(&handle, bytes, sizeof handle);
    return handle;
}

/* spawn(name, fn, ...) -> task: run fn(...) as a task of its own, from the loop. */
static int spawn(lua_State *L)
{
    (void)tm_script_services_anew(L, "tm.spawn");
    const char *name = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    tm_task_handle handle = tm_task_spawn(L, name, lua_gettop(L) - 2);
    return push_handle(L, handle);
}

/* task() -> the running one */
static int task(lua_State *L)
{
    (void)tm_script_services(L, "waiting");
    return push_handle(L, tm_task_self(L));
}

/* wake(task) -> whether it was parked; its park returns true */
static int wake(lua_State *L)
{
    (void)tm_script_services(L, "waking a handler");
    lua_pushboolean(L, tm_api_clock_wake(tm_script_of(L), check_handle(L, 1)));
    return 1;
}

/* kill(task) -> whether it was there: it never goes on */
static int kill_task(lua_State *L)
{
    (void)tm_script_services(L, "ending a handler");
    tm_task_handle handle = check_handle(L, 1);
    bool killed = tm_task_kill(L, handle);
    if (killed)
        tm_api_clock_forget(tm_script_of(L), handle);
    lua_pushboolean(L, killed);
    return 1;
}

/* is_live(task) */
static int is_live(lua_State *L)
{
    (void)tm_script_services(L, "asking for a handler");
    lua_pushboolean(L, tm_task_is_live(&tm_script_of(L)->tasks, check_handle(L, 1)));
    return 1;
}

/* keep(): the running task goes on when its script is replaced by a newer one */
static int keep(lua_State *L)
{
    (void)tm_script_services(L, "keeping a handler");
    tm_task_keep(L);
    return 0;
}

void tm_api_task(lua_State *L)
{
    static const luaL_Reg functions[] = {{"spawn", spawn},     {"task", task}, {"wake", wake}, {"kill", kill_task},
                                         {"is_live", is_live}, {"keep", keep}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
