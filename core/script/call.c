#include "script/call.h"
#include "script/place.h"

#include <stdio.h>
#include <string.h>

/* The policy thread's alone: one thread enters Lua. */
static char traceback[4096];

struct entry {
    lua_CFunction body;
    void *arg;
    int status;
    struct tm_error *err;
};

const char *tm_call_traceback(void)
{
    return traceback;
}

/* The error at `index` of `of`, pushed on L (a dead coroutine has nobody to catch an error of memory). Errors may be any
 * value; tables (and nil) are described by their type, never converted by their metamethods. */
static const char *message_of(lua_State *L, lua_State *of, int index)
{
    int type = lua_type(of, index);
    if (type == LUA_TSTRING)
        return tm_place_expand(L, lua_tostring(of, index));
    if (type == LUA_TNUMBER)
        return lua_pushfstring(L, "%f", lua_tonumber(of, index));
    return lua_pushfstring(L, "error(%s value)", lua_typename(L, type));
}

static void keep_traceback(lua_State *L, lua_State *of, const char *message, int level)
{
    luaL_traceback(L, of, message, level);
    (void)snprintf(traceback, sizeof traceback, "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
}

static int on_error(lua_State *L)
{
    const char *message = message_of(L, L, 1);
    keep_traceback(L, L, message, 1);
    lua_pushstring(L, message);
    return 1;
}

static int set_error(struct tm_error *err, int status, const char *message)
{
    if (status == LUA_ERRMEM)
        return tm_error_set(err, TM_ENOMEM, "script: not enough memory under its cap");
    return tm_error_set(err, TM_ESCRIPT, "%s", message ? message : "error in error handling");
}

static int enter(lua_State *L)
{
    struct entry *e = lua_touserdata(L, 1);
    lua_pushcfunction(L, on_error);
    lua_pushcfunction(L, e->body);
    lua_pushlightuserdata(L, e->arg);
    e->status = lua_pcall(L, 1, 0, -3);
    if (e->status)
        (void)set_error(e->err, e->status, lua_tostring(L, -1));
    return 0;
}

int tm_call(struct tm_vm *vm, lua_CFunction body, void *arg, int64_t cpu_us, struct tm_error *err)
{
    lua_State *L = tm_vm_state(vm);
    struct tm_error local;
    struct entry e = {.body = body, .arg = arg, .err = err ? err : &local};
    e.err->code = TM_OK;
    traceback[0] = '\0';
    tm_vm_enter(vm, cpu_us);
    int status = lua_cpcall(L, enter, &e); /* the entry itself can run out of memory */
    tm_vm_leave(vm);
    if (status) {
        (void)set_error(e.err, status, lua_tostring(L, -1));
        lua_pop(L, 1);
    }
    if (e.err->code == TM_ENOMEM)
        tm_vm_collect(vm);
    return e.err->code;
}

int tm_call_resume(lua_State *L, lua_State *co, int args, struct tm_error *err)
{
    int status = lua_resume(co, args);
    if (status == 0 || status == LUA_YIELD) {
        lua_settop(co, 0);
        return status == 0;
    }
    const char *message = status == LUA_ERRMEM ? "not enough memory" : message_of(L, co, -1);
    keep_traceback(L, co, message, 0);
    return set_error(err, status, message);
}
