#include "script/table.h"

#include <lauxlib.h>
#include <math.h>
#include <string.h>

/* Push the field; false (and nothing pushed) when it is absent. */
static bool push_typed(lua_State *L, int index, const char *field, int type)
{
    lua_getfield(L, index, field);
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        return false;
    }
    if (lua_type(L, -1) != type)
        luaL_error(L, "declaration field '%s': expected a %s, got a %s", field, lua_typename(L, type),
                   luaL_typename(L, -1));
    return true;
}

const char *tm_table_string(lua_State *L, int index, const char *field, struct tm_arena *arena)
{
    if (!push_typed(L, index, field, LUA_TSTRING))
        return NULL;
    size_t len;
    const char *s = lua_tolstring(L, -1, &len);
    if (strlen(s) != len)
        luaL_error(L, "declaration field '%s': expected text without NUL bytes", field);
    const char *copy = tm_arena_strndup(arena, s, len);
    lua_pop(L, 1);
    return copy;
}

double tm_table_number(lua_State *L, int index, const char *field, double fallback)
{
    if (!push_typed(L, index, field, LUA_TNUMBER))
        return fallback;
    double v = lua_tonumber(L, -1);
    lua_pop(L, 1);
    if (!isfinite(v))
        luaL_error(L, "declaration field '%s': expected a finite number", field);
    return v;
}

int64_t tm_table_int(lua_State *L, int index, const char *field, int64_t fallback)
{
    double v = tm_table_number(L, index, field, (double)fallback);
    if (v < 0 || v > 9007199254740992.0)
        luaL_error(L, "declaration field '%s': expected 0 to 2^53", field);
    return (int64_t)v;
}

bool tm_table_bool(lua_State *L, int index, const char *field)
{
    if (!push_typed(L, index, field, LUA_TBOOLEAN))
        return false;
    bool v = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return v;
}

bool tm_table_push(lua_State *L, int index, const char *field)
{
    luaL_checkstack(L, 4, "declaration");
    return push_typed(L, index, field, LUA_TTABLE);
}

const char *const *tm_table_strings(lua_State *L, int index, const char *field, struct tm_arena *arena)
{
    if (!tm_table_push(L, index, field))
        return NULL;
    size_t count = lua_objlen(L, -1);
    const char **list = tm_arena_alloc(arena, (count + 1) * sizeof *list);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        if (lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "declaration field '%s': expected a list of strings", field);
        list[i] = tm_arena_strdup(arena, lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    return list;
}

int tm_table_enum(lua_State *L, int index, const char *field, const char *const *names, int fallback)
{
    if (!push_typed(L, index, field, LUA_TSTRING))
        return fallback;
    const char *text = lua_tostring(L, -1);
    for (int i = 0; names[i]; i++) {
        if (strcmp(names[i], text) == 0) {
            lua_pop(L, 1);
            return i;
        }
    }
    return luaL_error(L, "declaration field '%s': '%s' is not one of its values", field, text);
}

void *tm_table_list(lua_State *L, int index, const char *field, size_t size, tm_table_convert *convert,
                    struct tm_arena *arena, size_t *count)
{
    *count = 0;
    if (!tm_table_push(L, index, field))
        return NULL;
    size_t n = lua_objlen(L, -1);
    char *list = n ? tm_arena_alloc(arena, n * size) : NULL;
    for (size_t i = 0; i < n; i++) {
        lua_rawgeti(L, -1, (int)i + 1);
        if (!lua_istable(L, -1))
            luaL_error(L, "declaration field '%s': expected a list of tables", field);
        convert(L, lua_gettop(L), arena, list + i * size);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    *count = n;
    return list;
}
