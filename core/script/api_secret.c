/* host: secret, secret_format, is_secret, conninfo. Usable at declare time and at run time. */
#include "script/script_impl.h"
#include "script/secret.h"
#include "script/table.h"

#include <stdlib.h>
#include <string.h>

#define SECRET_TYPE "tidemill.secret"
#define SETTINGS_MAX 64

/* Userdata of other types compare unequal by their metatable; a secret that is collected already is none. */
struct tm_secret *tm_secret_at(lua_State *L, int index)
{
    struct tm_secret **box = lua_touserdata(L, index);
    if (!box || lua_type(L, index) != LUA_TUSERDATA || !lua_getmetatable(L, index))
        return NULL;
    luaL_getmetatable(L, SECRET_TYPE);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same ? *box : NULL;
}

static struct tm_secret *check_secret(lua_State *L, int index)
{
    struct tm_secret *secret = tm_secret_at(L, index);
    if (!secret)
        luaL_error(L, "expected a secret, got a %s", luaL_typename(L, index));
    return secret;
}

static int show(lua_State *L)
{
    lua_pushliteral(L, TM_SECRET_MASK);
    return 1;
}

static int refuse_concat(lua_State *L)
{
    return luaL_error(L, "a secret cannot be joined to text, which would show it: use secret:format \"Bearer {}\", "
                         "which makes another secret");
}

static int collect(lua_State *L)
{
    struct tm_secret **box = lua_touserdata(L, 1);
    tm_secret_put(*box);
    *box = NULL;
    return 0;
}

static int format(lua_State *L);

static void push_type(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"__tostring", show}, {"__concat", refuse_concat}, {"__gc", collect}, {NULL, NULL}};
    if (!luaL_newmetatable(L, SECRET_TYPE))
        return;
    luaL_setfuncs(L, functions, 0);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, format);
    lua_setfield(L, -2, "format");
    lua_setfield(L, -2, "__index");
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
}

/* The box and its type are made before the secret is, so that no error can come between and leave it behind. */
static struct tm_secret **push_box(lua_State *L)
{
    struct tm_secret **box = lua_newuserdata(L, sizeof(struct tm_secret *));
    *box = NULL;
    push_type(L);
    lua_setmetatable(L, -2);
    return box;
}

const char *tm_secret_or_text(lua_State *L, int index, size_t *len)
{
    const struct tm_secret *secret = tm_secret_at(L, index);
    if (secret) {
        *len = tm_secret_len(secret);
        return tm_secret_text(secret);
    }
    return lua_type(L, index) == LUA_TSTRING ? lua_tolstring(L, index, len) : NULL;
}

const char *tm_secret_field(lua_State *L, int index, const char *field, struct tm_arena *arena)
{
    lua_getfield(L, index, field);
    struct tm_secret *secret = tm_secret_at(L, -1);
    lua_pop(L, 1);
    if (!secret)
        return tm_table_string(L, index, field, arena);
    struct tm_script *script = tm_script_of(L);
    struct tm_secret **grown = realloc(script->secrets, (script->secret_count + 1) * sizeof(struct tm_secret *));
    if (!grown)
        return luaL_error(L, "not enough memory for a secret"), NULL;
    script->secrets = grown;
    script->secrets[script->secret_count++] = tm_secret_take(secret);
    return tm_secret_text(secret);
}

void tm_api_secret_close(struct tm_script *script)
{
    for (size_t i = 0; i < script->secret_count; i++)
        tm_secret_put(script->secrets[i]);
    free(script->secrets);
    script->secrets = NULL;
    script->secret_count = 0;
}

/* secret("file"|"credential"|"env", name) -> secret, or nil and why */
static int secret_read(lua_State *L)
{
    static const char *const sources[] = {"file", "credential", "env", NULL};
    static int (*const readers[])(const char *, struct tm_secret **, struct tm_error *) = {
        tm_secret_read_file, tm_secret_read_credential, tm_secret_read_env};
    int source = luaL_checkoption(L, 1, NULL, sources);
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    if (!len || strlen(name) != len)
        return luaL_error(L, "secret: expected a name without NUL bytes");
    struct tm_secret **box = push_box(L);
    struct tm_error err;
    if (readers[source](name, box, &err) == TM_OK)
        return 1;
    lua_pushnil(L);
    lua_pushstring(L, err.message);
    return 2;
}

static int append_formatted(struct tm_buf *out, const char *template, size_t len, const struct tm_secret *secret)
{
    int rc = TM_OK;
    for (size_t at = 0; at < len && !rc;) {
        const char *found = memmem(template + at, len - at, "{}", 2);
        size_t plain = found ? (size_t)(found - template) - at : len - at;
        rc = tm_buf_append(out, template + at, plain);
        if (!rc && found)
            rc = tm_buf_append(out, tm_secret_text(secret), tm_secret_len(secret));
        at += plain + (found ? 2 : 0);
        if (!rc && out->len > TM_SECRET_BYTES_MAX)
            rc = TM_EFULL;
    }
    return rc;
}

static void wipe(struct tm_buf *buf)
{
    if (buf->data)
        explicit_bzero(buf->data, buf->cap);
    tm_buf_fini(buf);
}

/* The buffer becomes a secret, or an error; it is wiped in both cases. Growing it may leave copies: so reserve first. */
static int push_made(lua_State *L, struct tm_secret **box, struct tm_buf *text, int rc, const char *what)
{
    struct tm_error err;
    if (!rc)
        rc = tm_secret_create(text->data, text->len, what, box, &err);
    else
        (void)tm_error_set(&err, rc, "%s is too long", what);
    wipe(text);
    return rc ? luaL_error(L, "%s", err.message) : 1;
}

/* secret_format(secret, "Bearer {}") -> another secret; also secret:format("Bearer {}") */
static int format(lua_State *L)
{
    const struct tm_secret *secret = check_secret(L, 1);
    size_t len;
    const char *template = luaL_checklstring(L, 2, &len);
    if (!memmem(template, len, "{}", 2))
        return luaL_error(L, "secret: expected a text with {} in it, in whose place the secret goes");
    struct tm_secret **box = push_box(L);
    struct tm_buf text = {0};
    int rc = tm_buf_reserve(&text, TM_SECRET_BYTES_MAX + len + tm_secret_len(secret));
    if (!rc)
        rc = append_formatted(&text, template, len, secret);
    return push_made(L, box, &text, rc, "the formatted secret");
}

static int is_secret(lua_State *L)
{
    lua_pushboolean(L, tm_secret_at(L, 1) != NULL);
    return 1;
}

/* ---- conninfo ---- */

static int append_quoted(struct tm_buf *out, const char *keyword, const char *value, size_t len)
{
    int rc = tm_buf_printf(out, "%s%s='", out->len ? " " : "", keyword);
    for (size_t i = 0; i < len && !rc; i++) {
        if (value[i] == '\'' || value[i] == '\\')
            rc = tm_buf_append(out, "\\", 1);
        if (!rc)
            rc = tm_buf_append(out, value + i, 1);
    }
    return rc ? rc : tm_buf_append(out, "'", 1);
}

/* Pushes keyword and value of element i and leaves them on the stack. */
static void check_setting(lua_State *L, int i)
{
    lua_rawgeti(L, 1, i);
    if (!lua_istable(L, -1))
        luaL_error(L, "conninfo: expected a list of { keyword, value }");
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    size_t len;
    const char *value = tm_secret_or_text(L, -1, &len);
    if (lua_type(L, -2) != LUA_TSTRING ||
        strspn(lua_tostring(L, -2), "abcdefghijklmnopqrstuvwxyz_") != lua_objlen(L, -2) || !value ||
        strlen(value) != len || len > TM_SECRET_BYTES_MAX)
        luaL_error(L, "conninfo: expected keywords in lower case with values that are text or secrets");
}

/* conninfo({ { keyword, value }, ... }, hidden) -> "keyword='value' ..."; a secret when `hidden` or a value is one */
static int conninfo(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    bool hidden = lua_toboolean(L, 2);
    lua_settop(L, 1);
    int count = (int)lua_objlen(L, 1);
    if (count > SETTINGS_MAX)
        return luaL_error(L, "conninfo: expected at most %d settings", SETTINGS_MAX);
    luaL_checkstack(L, 3 * SETTINGS_MAX + 8, "conninfo");
    for (int i = 1; i <= count; i++) {
        check_setting(L, i);
        hidden = hidden || tm_secret_at(L, -1);
    }
    struct tm_secret **box = push_box(L);
    struct tm_buf text = {0};
    int rc = tm_buf_reserve(&text, 3 * TM_SECRET_BYTES_MAX + 256);
    for (int i = 0; i < count && !rc; i++) {
        size_t len;
        const char *value = tm_secret_or_text(L, 4 + 3 * i, &len);
        rc = append_quoted(&text, lua_tostring(L, 3 + 3 * i), value, len);
        if (!rc && text.len > TM_SECRET_BYTES_MAX)
            rc = TM_EFULL;
    }
    if (rc || hidden)
        return push_made(L, box, &text, rc, "the conninfo");
    lua_pushlstring(L, (const char *)text.data, text.len);
    tm_buf_fini(&text);
    return 1;
}

void tm_api_secret(lua_State *L)
{
    static const luaL_Reg functions[] = {{"secret", secret_read},
                                         {"secret_format", format},
                                         {"is_secret", is_secret},
                                         {"conninfo", conninfo},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
