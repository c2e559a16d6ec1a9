#include "script/vm.h"

#include <lualib.h>
#include <string.h>

/* What scripts find in their globals. All else that the libraries below register is removed. */
static const char *const base_allowed[] = {
    "_VERSION", "assert", "error",  "getmetatable", "ipairs",    "next",     "pairs", "pcall",  "rawequal",
    "rawget",   "rawset", "select", "setmetatable", "tonumber",  "tostring", "type",  "unpack", "xpcall",
    "string",   "table",  "math",   "bit",          "coroutine", "os",       NULL};
static const char *const os_allowed[] = {"clock", "date", "difftime", "time", NULL};

static void open_library(lua_State *L, lua_CFunction open, const char *name)
{
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

static bool is_allowed(const char *const *list, const char *name)
{
    for (; *list; list++)
        if (strcmp(*list, name) == 0)
            return true;
    return false;
}

/* Remove every key of the table on top that is not in the list. */
static void keep_only(lua_State *L, const char *const *list)
{
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        if (lua_type(L, -1) != LUA_TSTRING || !is_allowed(list, lua_tostring(L, -1))) {
            lua_pushvalue(L, -1);
            lua_pushnil(L);
            lua_rawset(L, -4); /* clearing a present field is allowed during a traversal */
        }
    }
}

static void lock_strings(lua_State *L)
{
    lua_pushliteral(L, "");
    TM_FATAL_UNLESS(lua_getmetatable(L, -1));
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 2);
    lua_getglobal(L, "string");
    lua_pushnil(L);
    lua_setfield(L, -2, "dump");
    lua_pop(L, 1);
}

/* The message handler around a script's own: hooks do not fire inside a handler that a hook's error called, so once
 * the VM is killed the script's handler must not run. Upvalue 1 is the script's. */
static int guarded_handler(lua_State *L)
{
    if (tm_vm_is_killed(tm_vm_of(L)))
        return 1;
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 1);
    return 1;
}

static int guard_handler(lua_State *L)
{
    lua_pushvalue(L, 1);
    lua_pushcclosure(L, guarded_handler, 1);
    return 1;
}

/* In Lua, so that a coroutine can still yield through xpcall. */
static const char xpcall_chunk[] = "local xpcall, guard = ...\n"
                                   "return function(f, handler, ...) return xpcall(f, guard(handler), ...) end\n";

static void wrap_xpcall(lua_State *L)
{
    if (luaL_loadbufferx(L, xpcall_chunk, sizeof xpcall_chunk - 1, "=xpcall", "t"))
        lua_error(L);
    lua_getglobal(L, "xpcall");
    lua_pushcfunction(L, guard_handler);
    lua_call(L, 2, 1);
    lua_setglobal(L, "xpcall");
}

static const char *printable(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : lua_typename(L, lua_type(L, index));
}

static int undefined_global(lua_State *L)
{
    return luaL_error(L, "'%s' is not defined: expected a local variable or one of Lua's own functions",
                      printable(L, 2));
}

static int assigned_global(lua_State *L)
{
    return luaL_error(L, "'%s' is assigned as a global variable: write 'local %s' instead", printable(L, 2),
                      printable(L, 2));
}

static void make_strict(lua_State *L)
{
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_createtable(L, 0, 3);
    lua_pushcfunction(L, undefined_global);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, assigned_global);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

void tm_sandbox_open(lua_State *L)
{
    open_library(L, luaopen_base, "");
    open_library(L, luaopen_table, LUA_TABLIBNAME);
    open_library(L, luaopen_string, LUA_STRLIBNAME);
    open_library(L, luaopen_math, LUA_MATHLIBNAME);
    open_library(L, luaopen_bit, LUA_BITLIBNAME);
    open_library(L, luaopen_os, LUA_OSLIBNAME);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    keep_only(L, base_allowed);
    lua_pop(L, 1);
    lua_getglobal(L, "os");
    keep_only(L, os_allowed);
    lua_pop(L, 1);
    lock_strings(L);
    wrap_xpcall(L);
    make_strict(L);
}
