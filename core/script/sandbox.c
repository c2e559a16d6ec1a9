#include "script/vm.h"
#include "script/frozen.h"
#include "script/grant.h"
#include "script/libtable.h"
#include "script/pattern.h"

#include <lualib.h>
#include <string.h>

/* What scripts find in their globals. All else that the libraries below register is removed. */
static const char *const base_allowed[] = {
    "_VERSION", "assert", "error",  "getmetatable", "ipairs",    "next",     "pairs", "pcall",  "rawequal",
    "rawget",   "rawset", "select", "setmetatable", "tonumber",  "tostring", "type",  "unpack", "xpcall",
    "string",   "table",  "math",   "bit",          "coroutine", "os",       NULL};
static const char *const os_allowed[] = {"clock", "date", "difftime", "time", NULL};

/* Libraries that are there as tables, and then read-only. */
static const char *const frozen[] = {"string", "table", "math", "bit", "coroutine", "os",
                                     "io",     "debug", "ffi",  "jit", NULL};

static char globals_key; /* its address: of the table of globals, in the registry */

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

/* Remove every key of the table on top that is not in the list and not the name of a granted library. */
static void keep_only(lua_State *L, const char *const *list, uint32_t grants)
{
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_pop(L, 1);
        const char *name = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
        if (!is_allowed(list, name) && !(grants & tm_grant_of(name))) {
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

/* In Lua, so that what they resume can yield. A coroutine that resumes a coroutine nests frames on the C stack, which
 * LuaJIT does not bound. */
static const char coroutine_chunk[] = "local resume, wrap, check = ...\n"
                                      "return function(co, ...) check() return resume(co, ...) end,\n"
                                      "  function(f)\n"
                                      "    local go = wrap(f)\n"
                                      "    return function(...) check() return go(...) end\n"
                                      "  end\n";

static int check_stack(lua_State *L)
{
    tm_vm_check_stack(L);
    return 0;
}

static void wrap_coroutines(lua_State *L)
{
    if (luaL_loadbufferx(L, coroutine_chunk, sizeof coroutine_chunk - 1, "=coroutine", "t"))
        lua_error(L);
    lua_getglobal(L, "coroutine");
    lua_insert(L, -2);
    lua_getfield(L, -2, "resume");
    lua_getfield(L, -3, "wrap");
    lua_pushcfunction(L, check_stack);
    lua_call(L, 3, 2);
    lua_setfield(L, -3, "wrap");
    lua_setfield(L, -2, "resume");
    lua_pop(L, 1);
}

/* LuaJIT runs no finalizers of tables; better an error than one that is never called. */
static int set_metatable(lua_State *L)
{
    int type = lua_type(L, 2);
    luaL_checktype(L, 1, LUA_TTABLE);
    if (lua_gettop(L) < 2 || (type != LUA_TNIL && type != LUA_TTABLE))
        return luaL_argerror(L, 2, "nil or table expected");
    lua_settop(L, 2);
    if (luaL_getmetafield(L, 1, "__metatable"))
        return luaL_error(L, "cannot change a protected metatable");
    if (type == LUA_TTABLE) {
        lua_pushliteral(L, "__gc");
        lua_rawget(L, 2);
        if (!lua_isnil(L, -1))
            return luaL_error(L, "setmetatable: '__gc' is not supported: tables are not finalized");
        lua_pop(L, 1);
    }
    lua_setmetatable(L, 1);
    return 1;
}

static void replace_base(lua_State *L)
{
    lua_pushcfunction(L, set_metatable);
    lua_setglobal(L, "setmetatable");
    lua_pushcfunction(L, tm_frozen_rawset);
    lua_setglobal(L, "rawset");
    lua_getglobal(L, "next");
    lua_pushcclosure(L, tm_frozen_pairs, 1);
    lua_setglobal(L, "pairs");
    lua_getglobal(L, "string");
    tm_pattern_open(L);
    lua_getglobal(L, "table");
    tm_libtable_open(L);
    lua_pop(L, 2);
}

/* Upvalue 1: the library. What the stock library has beyond the sandbox. */
static int undefined_os(lua_State *L)
{
    static const char *const known[] = {"execute", "exit", "getenv", "remove", "rename", "setlocale", "tmpname", NULL};
    const char *name = lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "";
    if (!is_allowed(known, name))
        return 0;
    return luaL_error(L, "'os.%s' is not granted to scripts: start with --grant os%s", name,
                      strcmp(name, "getenv") == 0 ? ", or use tm.env" : "");
}

static void limit_os(lua_State *L)
{
    lua_getglobal(L, "os");
    keep_only(L, os_allowed, 0);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, undefined_os);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

/* ---- globals ---- */

static const char *printable(lua_State *L, int index)
{
    return lua_type(L, index) == LUA_TSTRING ? lua_tostring(L, index) : lua_typename(L, lua_type(L, index));
}

static int undefined_global(lua_State *L)
{
    const char *name = printable(L, 2);
    if (tm_grant_of(name))
        return luaL_error(L, "'%s' is not granted to scripts: start with --grant %s", name, name);
    return luaL_error(L, "'%s' is not defined: expected a local variable or one of Lua's own functions", name);
}

static int assigned_global(lua_State *L)
{
    const char *name = printable(L, 2);
    lua_getmetatable(L, 1);
    lua_getfield(L, -1, "__index");
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    if (!lua_isnil(L, -1))
        return luaL_error(L, "'%s' is Lua's own and cannot be replaced: write 'local %s' instead", name, name);
    return luaL_error(L, "'%s' is assigned as a global variable: write 'local %s' instead", name, name);
}

/* Move all globals into a table of their own, which stays behind an empty one: so assignments are always seen. */
static void hide_globals(lua_State *L)
{
    lua_pushlightuserdata(L, &globals_key);
    lua_newtable(L);
    lua_pushnil(L);
    while (lua_next(L, LUA_GLOBALSINDEX)) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, -4);
        lua_pushvalue(L, -1);
        lua_pushnil(L);
        lua_rawset(L, LUA_GLOBALSINDEX); /* clearing a present field is allowed during a traversal */
    }
    lua_rawset(L, LUA_REGISTRYINDEX);
}

static void push_globals(lua_State *L)
{
    lua_pushlightuserdata(L, &globals_key);
    lua_rawget(L, LUA_REGISTRYINDEX);
}

static void make_strict(lua_State *L)
{
    hide_globals(L);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_createtable(L, 0, 3);
    push_globals(L);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, undefined_global);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, assigned_global);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

static void freeze_libraries(lua_State *L)
{
    push_globals(L);
    for (const char *const *name = frozen; *name; name++) {
        lua_pushstring(L, *name);
        lua_rawget(L, -2);
        if (!lua_istable(L, -1)) {
            lua_pop(L, 1);
            continue;
        }
        tm_frozen_make(L, *name);
        lua_pushstring(L, *name);
        lua_insert(L, -2);
        lua_rawset(L, -3);
    }
    lua_pop(L, 1);
}

void tm_sandbox_define(lua_State *L, const char *name)
{
    push_globals(L);
    lua_pushstring(L, name);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 2);
}

static void open_granted(lua_State *L, uint32_t grants)
{
    if (grants & TM_GRANT_IO)
        open_library(L, luaopen_io, LUA_IOLIBNAME);
    if (grants & TM_GRANT_DEBUG)
        open_library(L, luaopen_debug, LUA_DBLIBNAME);
    if (grants & TM_GRANT_JIT)
        open_library(L, luaopen_jit, LUA_JITLIBNAME);
    if (grants & TM_GRANT_FFI) { /* the only one that makes no global */
        lua_pushcfunction(L, luaopen_ffi);
        lua_pushliteral(L, LUA_FFILIBNAME);
        lua_call(L, 1, 1);
        lua_setglobal(L, LUA_FFILIBNAME);
    }
}

void tm_sandbox_open(lua_State *L, uint32_t grants)
{
    open_library(L, luaopen_base, "");
    open_library(L, luaopen_table, LUA_TABLIBNAME);
    open_library(L, luaopen_string, LUA_STRLIBNAME);
    open_library(L, luaopen_math, LUA_MATHLIBNAME);
    open_library(L, luaopen_bit, LUA_BITLIBNAME);
    open_library(L, luaopen_os, LUA_OSLIBNAME);
    open_granted(L, grants);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    keep_only(L, base_allowed, grants);
    lua_pop(L, 1);
    if (!(grants & TM_GRANT_OS))
        limit_os(L);
    lock_strings(L);
    wrap_xpcall(L);
    wrap_coroutines(L);
    replace_base(L);
    make_strict(L);
    freeze_libraries(L);
}
