#include "script/frozen.h"

#include <lauxlib.h>

static char behind; /* its address is the key under which a view's metatable keeps the table */

static const char *printable(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : luaL_typename(L, index);
}

/* Upvalue 1: the name. */
static int refuse_write(lua_State *L)
{
    return luaL_error(L, "'%s.%s' cannot be set: library tables are read-only; keep your own in a local table",
                      lua_tostring(L, lua_upvalueindex(1)), printable(L, 2));
}

void tm_frozen_make(lua_State *L, const char *name)
{
    luaL_checkstack(L, 6, "freeze");
    lua_newtable(L);
    lua_createtable(L, 0, 4);
    lua_pushvalue(L, -3);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, name);
    lua_pushcclosure(L, refuse_write, 1);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
    lua_pushlightuserdata(L, &behind);
    lua_pushvalue(L, -4);
    lua_rawset(L, -3);
    lua_setmetatable(L, -2);
    lua_replace(L, -2);
}

bool tm_frozen_push(lua_State *L, int index)
{
    if (lua_type(L, index) != LUA_TTABLE || !lua_getmetatable(L, index))
        return false;
    lua_pushlightuserdata(L, &behind);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_istable(L, -1))
        return true;
    lua_pop(L, 1);
    return false;
}

void tm_frozen_refuse(lua_State *L, int index)
{
    if (tm_frozen_push(L, index))
        luaL_argerror(L, index, "expected a table that can be written, got a read-only library table");
}

int tm_frozen_rawset(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checkany(L, 2);
    luaL_checkany(L, 3);
    lua_settop(L, 3);
    tm_frozen_refuse(L, 1);
    lua_rawset(L, 1);
    return 1;
}

/* Upvalue 1: the table. A closure, so that the loop's state need not be the table. */
static int next_behind(lua_State *L)
{
    lua_settop(L, 2);
    return lua_next(L, lua_upvalueindex(1)) ? 2 : 0;
}

int tm_frozen_pairs(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (tm_frozen_push(L, 1))
        lua_pushcclosure(L, next_behind, 1);
    else
        lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushvalue(L, 1);
    lua_pushnil(L);
    return 3;
}
