/* host: spawn. */
#include "script/script_impl.h"

/* spawn(name, fn, ...): run fn(...) as a task of its own, from the loop. */
static int spawn(lua_State *L)
{
    (void)tm_script_services(L, "tm.spawn");
    const char *name = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    (void)tm_task_spawn(L, name, lua_gettop(L) - 2);
    return 0;
}

void tm_api_task(lua_State *L)
{
    lua_pushcfunction(L, spawn);
    lua_setfield(L, -2, "spawn");
}
