/* host: http. One request; the task that asks waits for the answer. */
#include "script/script_impl.h"
#include "script/secret.h"

#include <stdlib.h>
#include <string.h>

#define HEADERS_MAX 32

struct tm_wait {
    struct tm_wait *next, **link;
    struct tm_script *script; /* NULL: the script has ended meanwhile */
    tm_task_handle task;
};

static void unlink_wait(struct tm_wait *w)
{
    if (!w->script)
        return;
    *w->link = w->next;
    if (w->next)
        w->next->link = w->link;
}

static struct tm_wait *add_wait(lua_State *L)
{
    struct tm_wait *w = calloc(1, sizeof *w);
    if (!w) {
        luaL_error(L, "http: not enough memory");
        return NULL;
    }
    w->script = tm_script_of(L);
    w->link = &w->script->waits;
    w->next = w->script->waits;
    if (w->next)
        w->next->link = &w->next;
    w->script->waits = w;
    return w;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    if (!text || !*text)
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* {status, body, content_type?, retry_after?, error?, elapsed_us} */
static int push_response(lua_State *L, void *arg)
{
    const struct tm_http_response *r = arg;
    lua_createtable(L, 0, 6);
    lua_pushinteger(L, r->status);
    lua_setfield(L, -2, "status");
    lua_pushlstring(L, r->body ? (const char *)r->body->data : "", r->body ? r->body->len : 0);
    lua_setfield(L, -2, "body");
    lua_pushnumber(L, (lua_Number)r->elapsed_us);
    lua_setfield(L, -2, "elapsed_us");
    set_text(L, "content_type", r->content_type);
    set_text(L, "retry_after", r->retry_after);
    set_text(L, "error", r->error);
    return 1;
}

static void on_done(void *arg, struct tm_http_response *response)
{
    struct tm_wait *w = arg;
    struct tm_script *script = w->script;
    tm_task_handle task = w->task;
    unlink_wait(w);
    free(w);
    if (script)
        tm_task_wake(script, task, push_response, response);
}

static const char *field(lua_State *L, int index, const char *name)
{
    lua_getfield(L, index, name);
    const char *s = lua_isnil(L, -1) ? NULL : luaL_checkstring(L, -1);
    return s; /* stays on the stack while the request is sent */
}

/* Text, or a secret in its place. */
static const char *secret_or_text_field(lua_State *L, int index, const char *name, bool *is_secret)
{
    size_t len;
    lua_getfield(L, index, name);
    *is_secret = tm_secret_at(L, -1) != NULL;
    const char *s = lua_isnil(L, -1) ? NULL : tm_secret_or_text(L, -1, &len);
    if (!lua_isnil(L, -1) && (!s || strlen(s) != len))
        luaL_error(L, "http: %s: expected text or a secret, got a %s", name, luaL_typename(L, -1));
    return s; /* likewise */
}

/* Any bytes, or a secret. */
static const char *body_field(lua_State *L, int index, size_t *len)
{
    *len = 0;
    lua_getfield(L, index, "body");
    const char *s = lua_isnil(L, -1) ? NULL : tm_secret_or_text(L, -1, len);
    if (!s && !lua_isnil(L, -1))
        luaL_error(L, "http: body: expected text or a secret, got a %s", luaL_typename(L, -1));
    return s; /* likewise */
}

static double number_field(lua_State *L, int index, const char *name)
{
    lua_getfield(L, index, name);
    double v = luaL_optnumber(L, -1, 0);
    lua_pop(L, 1);
    return v >= 0 && v < 9e15 ? v : 0;
}

static void collect_headers(lua_State *L, int index, const char **headers)
{
    lua_getfield(L, index, "headers");
    size_t count = lua_istable(L, -1) ? lua_objlen(L, -1) : 0;
    if (count > HEADERS_MAX)
        luaL_error(L, "http: expected at most %d headers", HEADERS_MAX);
    luaL_checkstack(L, HEADERS_MAX + 4, "headers");
    int list = lua_gettop(L);
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, list, (int)i + 1);
        size_t len;
        headers[i] = tm_secret_or_text(L, -1, &len);
        if (!headers[i] || strlen(headers[i]) != len || strpbrk(headers[i], "\r\n"))
            luaL_error(L, "http: header %d: expected text or a secret, like \"Name: value\", without line breaks",
                       (int)i + 1);
    }
    headers[count] = NULL;
}

static const struct tm_auth *signer_of(lua_State *L, int index)
{
    const struct tm_config *config = &tm_script_of(L)->config;
    size_t signer = (size_t)number_field(L, index, "signer");
    return signer >= 1 && signer <= config->signer_count ? config->signers[signer - 1].auth : NULL;
}

/* http{method, url, headers, body, signer, timeout_us, bytes_max} -> response */
static int http(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, "an HTTP request");
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    const char *headers[HEADERS_MAX + 1];
    struct tm_http_request request = {.headers = headers};
    request.method = field(L, 1, "method");
    request.url = secret_or_text_field(L, 1, "url", &request.url_is_secret);
    request.body = body_field(L, 1, &request.body_len);
    request.auth = signer_of(L, 1);
    request.timeout_us = (int64_t)number_field(L, 1, "timeout_us");
    request.response_bytes_max = (size_t)number_field(L, 1, "bytes_max");
    collect_headers(L, 1, headers);
    if (!request.method || !request.url)
        return luaL_error(L, "http: expected a method and a url");
    tm_task_handle self = tm_task_self(L);
    struct tm_wait *w = add_wait(L);
    w->task = self;
    struct tm_error err;
    int rc = tm_http_send(services->http, &request, on_done, w, &err);
    if (rc < 0) {
        unlink_wait(w);
        free(w);
        return luaL_error(L, "http: %s", err.message);
    }
    return tm_task_yield(L);
}

void tm_api_http_close(struct tm_script *script)
{
    for (struct tm_wait *w = script->waits; w; w = w->next)
        w->script = NULL;
    script->waits = NULL;
}

void tm_api_http(lua_State *L)
{
    lua_pushcfunction(L, http);
    lua_setfield(L, -2, "http");
}
