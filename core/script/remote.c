#include "script/remote.h"
#include "script/script_impl.h"
#include "script/session.h"

#include "base/clock.h"

#include <string.h>

#define CALL_US (100 * TM_US_PER_MS)

struct entry {
    const struct tm_remote_call *call;
    struct tm_buf *out;
    bool late;
};

/* In the function's own VM: text in an environment that has `tm`, and whose globals are its own. */
static void push_chunk(lua_State *L, const struct tm_remote_call *call)
{
    if (luaL_loadbufferx(L, call->arguments, call->len, "=policy", "t"))
        lua_error(L);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "tidemill");
    lua_call(L, 1, 1);
    lua_createtable(L, 0, 2);
    lua_insert(L, -2);
    lua_setfield(L, -2, "tm");
    lua_createtable(L, 0, 1);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setfenv(L, -2);
}

/* remote.call(role, name, arguments, token): JSON, or nil when it comes later */
static int call_body(lua_State *L)
{
    struct entry *e = lua_touserdata(L, 1);
    const struct tm_remote_call *call = e->call;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "tidemill.remote");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "call");
    lua_pushinteger(L, call->role);
    lua_pushstring(L, call->name);
    if (strcmp(call->name, "policy") == 0 && call->role >= 2)
        push_chunk(L, call);
    else
        lua_pushlstring(L, call->arguments, call->len);
    lua_pushnumber(L, (lua_Number)call->token);
    lua_call(L, 4, 1);
    e->late = lua_isnil(L, -1);
    size_t len = 0;
    const char *text = e->late ? "" : luaL_checklstring(L, -1, &len);
    if (tm_buf_append(e->out, text, len) < 0)
        luaL_error(L, "not enough memory");
    return 0;
}

/* "file:line: text" of an error that the library raises says nothing to who called from afar. */
static void leave_out_place(struct tm_error *err)
{
    char *text = strstr(err->message, ": ");
    if (strncmp(err->message, "tidemill/", 9) == 0 && text)
        memmove(err->message, text + 2, strlen(text + 2) + 1);
}

int tm_remote_call(struct tm_script *script, const struct tm_remote_call *call, struct tm_buf *out,
                   struct tm_error *err)
{
    struct entry e = {.call = call, .out = out};
    int rc = tm_call(script->vm, call_body, &e, CALL_US, err);
    if (rc)
        leave_out_place(err);
    return rc ? rc : e.late;
}

/* remote_answer(token, ok, text): host function of the script's VM */
static int remote_answer(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, "an answer");
    size_t len;
    double token = luaL_checknumber(L, 1);
    const char *text = luaL_checklstring(L, 3, &len);
    if (services->sessions && token >= 1 && token < 9007199254740992.0)
        tm_sessions_answer(services->sessions, (uint64_t)token, lua_toboolean(L, 2), text, len);
    return 0;
}

void tm_api_remote(lua_State *L)
{
    static const luaL_Reg functions[] = {{"remote_answer", remote_answer}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
