/* host: where, env, log, json_*, null. Usable at declare time and at run time. */
#include "script/json.h"
#include "script/place.h"
#include "script/script_impl.h"
#include "script/secret.h"

#include "base/log.h"

#include <stdlib.h>
#include <string.h>

#define LOG_FIELDS_MAX 16

static int where_function(lua_State *L)
{
    lua_Debug ar;
    lua_pushvalue(L, 1);
    if (!lua_getinfo(L, ">S", &ar) || ar.linedefined <= 0)
        lua_pushliteral(L, "?");
    else
        lua_pushfstring(L, "%s:%d", tm_place_file(&ar), ar.linedefined);
    return 1;
}

/* where(level): "file:line" of the function at that level above the caller (1: the caller itself); "?" when there is
 * none, as after a tail call. where(fn): where a function is defined. */
static int where(lua_State *L)
{
    if (lua_isfunction(L, 1))
        return where_function(L);
    if (!tm_place_push(L, (int)luaL_checkinteger(L, 1)))
        lua_pushliteral(L, "?");
    return 1;
}

static int env(lua_State *L)
{
    lua_pushstring(L, getenv(luaL_checkstring(L, 1))); /* NULL becomes nil */
    return 1;
}

static struct tm_log_field field_of(lua_State *L, const char *name, int index)
{
    size_t len;
    switch (lua_type(L, index)) {
    case LUA_TNUMBER: {
        double v = lua_tonumber(L, index);
        bool integer = v > -9e15 && v < 9e15 && v == (double)(int64_t)v;
        return integer ? TM_F_I64(name, v) : TM_F_F64(name, v);
    }
    case LUA_TSTRING: {
        const char *s = lua_tolstring(L, index, &len);
        return TM_F_BYTES(name, s, len);
    }
    case LUA_TBOOLEAN:
        return TM_F_STR(name, lua_toboolean(L, index) ? "true" : "false");
    default:
        break;
    }
    if (tm_secret_at(L, index))
        return TM_F_STR(name, TM_SECRET_MASK);
    if (lua_islightuserdata(L, index) && !lua_touserdata(L, index))
        return TM_F_STR(name, "null");
    luaL_error(L,
               "log: field \"%s\": expected text, a number or a boolean, got a %s: tm.json.encode makes text of a "
               "table",
               name, luaL_typename(L, index));
    return (struct tm_log_field){0};
}

/* The values stay on the stack, so that the fields' pointers hold. Names become the line's keys: letters and _ only. */
static size_t collect_fields(lua_State *L, int index, struct tm_log_field *fields)
{
    size_t count = 0;
    luaL_checkstack(L, 2 * LOG_FIELDS_MAX + 4, "log fields");
    lua_pushnil(L);
    while (count < LOG_FIELDS_MAX && lua_next(L, index)) {
        if (lua_type(L, -2) != LUA_TSTRING ||
            strspn(lua_tostring(L, -2), "abcdefghijklmnopqrstuvwxyz_0123456789") != lua_objlen(L, -2))
            return luaL_error(L, "log: expected fields named in lower case, like {market = ticker}"), 0;
        fields[count] = field_of(L, lua_tostring(L, -2), -1);
        count++;
        lua_pushvalue(L, -2);
    }
    return count;
}

/* log(level, text, fields?) */
static int log_line(lua_State *L)
{
    enum tm_log_level level;
    if (tm_log_level_parse(luaL_checkstring(L, 1), &level) < 0)
        return luaL_error(L, "log: expected a level debug, info, warn or error");
    const char *text = luaL_checkstring(L, 2);
    struct tm_log_field fields[LOG_FIELDS_MAX + 1];
    size_t count = 0;
    if (!lua_isnoneornil(L, 3)) {
        luaL_checktype(L, 3, LUA_TTABLE);
        count = collect_fields(L, 3, fields);
    }
    static struct tm_log_limit limit;
    uint32_t held = 0;
    if (level != TM_LOG_DEBUG && !tm_log_limit_pass(&limit, &held))
        return 0;
    if (held)
        fields[count++] = TM_F_U64("suppressed", held);
    tm_log_fields(level, "policy", text, fields, count);
    return 0;
}

void tm_api_base(lua_State *L)
{
    static const luaL_Reg functions[] = {{"where", where},
                                         {"env", env},
                                         {"log", log_line},
                                         {"json_decode", tm_json_lua_decode},
                                         {"json_encode", tm_json_lua_encode},
                                         {"json_array", tm_json_lua_array},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
    lua_pushlightuserdata(L, NULL);
    lua_setfield(L, -2, "null");
}
