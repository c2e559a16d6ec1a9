#include "script/place.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static const char names_key; /* registry: table of short name -> whole name, false when two files share the short one */

static void push_names(lua_State *L)
{
    lua_pushlightuserdata(L, (void *)(uintptr_t)&names_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
    if (lua_istable(L, -1))
        return;
    lua_pop(L, 1);
    lua_newtable(L);
    lua_pushlightuserdata(L, (void *)(uintptr_t)&names_key);
    lua_pushvalue(L, -2);
    lua_rawset(L, LUA_REGISTRYINDEX);
}

const char *tm_place_file(const lua_Debug *ar)
{
    return ar->source[0] == '@' ? ar->source + 1 : ar->short_src;
}

void tm_place_learn(lua_State *L, const char *chunk_name)
{
    lua_Debug ar;
    if (luaL_loadbufferx(L, "", 0, chunk_name, "t")) /* LuaJIT alone knows how it cuts a name: ask it with a chunk */
        lua_error(L);
    lua_getinfo(L, ">S", &ar);
    if (strcmp(ar.short_src, chunk_name + 1) == 0)
        return;
    push_names(L);
    lua_getfield(L, -1, ar.short_src);
    bool shared = !lua_isnil(L, -1) && (!lua_isstring(L, -1) || strcmp(lua_tostring(L, -1), chunk_name + 1) != 0);
    lua_pop(L, 1);
    if (shared)
        lua_pushboolean(L, false);
    else
        lua_pushstring(L, chunk_name + 1);
    lua_setfield(L, -2, ar.short_src);
    lua_pop(L, 1);
}

int tm_place_push(lua_State *L, int level)
{
    lua_Debug ar;
    if (!lua_getstack(L, level, &ar) || !lua_getinfo(L, "Sl", &ar) || ar.currentline <= 0)
        return false;
    lua_pushfstring(L, "%s:%d", tm_place_file(&ar), ar.currentline);
    return true;
}

void tm_place_where(lua_State *L, int level)
{
    if (!tm_place_push(L, level)) {
        lua_pushliteral(L, "");
        return;
    }
    lua_pushliteral(L, ": ");
    lua_concat(L, 2);
}

/* Where the short name at the beginning of a message ends: at the colon before its line. */
static const char *end_of_name(const char *message)
{
    for (const char *colon = strchr(message, ':'); colon; colon = strchr(colon + 1, ':'))
        if (colon[1] >= '0' && colon[1] <= '9')
            return colon;
    return NULL;
}

const char *tm_place_expand(lua_State *L, const char *message)
{
    const char *end = strncmp(message, "...", 3) == 0 ? end_of_name(message) : NULL;
    if (end && end - message < LUA_IDSIZE) {
        push_names(L);
        lua_pushlstring(L, message, (size_t)(end - message));
        lua_rawget(L, -2);
        lua_remove(L, -2);
        if (lua_type(L, -1) == LUA_TSTRING) {
            lua_pushstring(L, end);
            lua_concat(L, 2);
            return lua_tostring(L, -1);
        }
        lua_pop(L, 1);
    }
    lua_pushstring(L, message);
    return lua_tostring(L, -1);
}
