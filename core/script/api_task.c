/* host: spawn, keep_task. */
#include "script/script_impl.h"

/* spawn(name, fn, ...): run fn(...) as a task of its own, from the loop. */
static int spawn(lua_State *L)
{
    (void)tm_script_services_anew(L, "tm.spawn");
    const char *name = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    (void)tm_task_spawn(L, name, lua_gettop(L) - 2);
    return 0;
}

/* keep_task(): the running task goes on when its script is replaced by a newer one. */
static int keep_task(lua_State *L)
{
    (void)tm_script_services(L, "keeping a task");
    tm_task_keep(L);
    return 0;
}

void tm_api_task(lua_State *L)
{
    static const luaL_Reg functions[] = {{"spawn", spawn}, {"keep_task", keep_task}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
