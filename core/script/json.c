#include "script/json.h"
#include "script/secret.h"

#include <lauxlib.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DEPTH_MAX 64
#define NUMBER_BYTES_MAX 64
#define ARRAY_MARK "tidemill.json.array"
#define EXACT_MAX 9007199254740992.0 /* 2^53 */

struct reader {
    lua_State *L;
    const char *start, *at, *end;
    int depth;
};

static void fail(struct reader *r, const char *expected)
{
    luaL_error(r->L, "JSON: expected %s at byte %d", expected, (int)(r->at - r->start) + 1);
}

static int peek(struct reader *r)
{
    while (r->at < r->end && (*r->at == ' ' || *r->at == '\t' || *r->at == '\n' || *r->at == '\r'))
        r->at++;
    return r->at < r->end ? (unsigned char)*r->at : -1;
}

static void expect(struct reader *r, char c, const char *what)
{
    if (peek(r) != (unsigned char)c)
        fail(r, what);
    r->at++;
}

static bool take_word(struct reader *r, const char *word)
{
    size_t len = strlen(word);
    if ((size_t)(r->end - r->at) < len || memcmp(r->at, word, len) != 0)
        return false;
    r->at += len;
    return true;
}

static unsigned read_hex4(struct reader *r)
{
    unsigned v = 0;
    for (int i = 0; i < 4; i++) {
        char c = r->at < r->end ? *r->at : '\0';
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                         : c >= 'A' && c <= 'F' ? (unsigned)(c - 'A' + 10)
                                                : 16;
        if (digit > 15)
            fail(r, "four hex digits");
        v = v << 4 | digit;
        r->at++;
    }
    return v;
}

static void add_utf8(luaL_Buffer *b, unsigned c)
{
    if (c < 0x80) {
        luaL_addchar(b, (char)c);
        return;
    }
    if (c < 0x800) {
        luaL_addchar(b, (char)(0xc0 | c >> 6));
    } else if (c < 0x10000) {
        luaL_addchar(b, (char)(0xe0 | c >> 12));
        luaL_addchar(b, (char)(0x80 | (c >> 6 & 0x3f)));
    } else {
        luaL_addchar(b, (char)(0xf0 | c >> 18));
        luaL_addchar(b, (char)(0x80 | (c >> 12 & 0x3f)));
        luaL_addchar(b, (char)(0x80 | (c >> 6 & 0x3f)));
    }
    luaL_addchar(b, (char)(0x80 | (c & 0x3f)));
}

static unsigned read_code_point(struct reader *r)
{
    unsigned c = read_hex4(r);
    if (c < 0xd800 || c > 0xdfff)
        return c;
    if (c > 0xdbff || !take_word(r, "\\u"))
        fail(r, "a pair of surrogates");
    unsigned low = read_hex4(r);
    if (low < 0xdc00 || low > 0xdfff)
        fail(r, "a pair of surrogates");
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

static void read_escape(struct reader *r, luaL_Buffer *b)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    char c = r->at < r->end ? *r->at : '\0';
    const char *found = c ? strchr(from, c) : NULL;
    if (found) {
        r->at++;
        luaL_addchar(b, to[found - from]);
    } else if (c == 'u') {
        r->at++;
        add_utf8(b, read_code_point(r));
    } else {
        fail(r, "an escape");
    }
}

static void read_string(struct reader *r)
{
    luaL_Buffer b;
    luaL_buffinit(r->L, &b);
    expect(r, '"', "a string");
    for (;;) {
        const char *run = r->at;
        while (r->at < r->end && *r->at != '"' && *r->at != '\\' && (unsigned char)*r->at >= 0x20)
            r->at++;
        luaL_addlstring(&b, run, (size_t)(r->at - run));
        if (r->at == r->end || (unsigned char)*r->at < 0x20)
            fail(r, "the end of the string");
        if (*r->at++ == '"')
            break;
        read_escape(r, &b);
    }
    luaL_pushresult(&b);
}

static void skip_digits(struct reader *r)
{
    if (r->at == r->end || *r->at < '0' || *r->at > '9')
        fail(r, "a digit");
    while (r->at < r->end && *r->at >= '0' && *r->at <= '9')
        r->at++;
}

static void read_number(struct reader *r)
{
    const char *run = r->at;
    bool integer = true;
    if (*r->at == '-')
        r->at++;
    if (r->at < r->end && *r->at == '0')
        r->at++;
    else
        skip_digits(r);
    if (r->at < r->end && *r->at == '.') {
        integer = false;
        r->at++;
        skip_digits(r);
    }
    if (r->at < r->end && (*r->at == 'e' || *r->at == 'E')) {
        integer = false;
        r->at++;
        if (r->at < r->end && (*r->at == '+' || *r->at == '-'))
            r->at++;
        skip_digits(r);
    }
    char text[NUMBER_BYTES_MAX + 1];
    size_t len = (size_t)(r->at - run);
    memcpy(text, run, len < NUMBER_BYTES_MAX ? len : NUMBER_BYTES_MAX);
    text[len < NUMBER_BYTES_MAX ? len : NUMBER_BYTES_MAX] = '\0';
    double v = strtod(text, NULL);
    if (len > NUMBER_BYTES_MAX || (integer && fabs(v) >= EXACT_MAX))
        lua_pushlstring(r->L, run, len);
    else
        lua_pushnumber(r->L, v);
}

static void read_value(struct reader *r);

static void read_members(struct reader *r)
{
    lua_newtable(r->L);
    if (peek(r) == '}') {
        r->at++;
        return;
    }
    for (;;) {
        if (peek(r) != '"')
            fail(r, "a name in quotes");
        read_string(r);
        expect(r, ':', "':'");
        read_value(r);
        lua_rawset(r->L, -3);
        if (peek(r) == '}')
            break;
        expect(r, ',', "',' or '}'");
    }
    r->at++;
}

static void mark_array(lua_State *L, int index)
{
    lua_pushvalue(L, index);
    luaL_newmetatable(L, ARRAY_MARK);
    lua_setmetatable(L, -2);
    lua_pop(L, 1);
}

static void read_elements(struct reader *r)
{
    lua_newtable(r->L);
    mark_array(r->L, -1);
    if (peek(r) == ']') {
        r->at++;
        return;
    }
    for (int i = 1;; i++) {
        read_value(r);
        lua_rawseti(r->L, -2, i);
        if (peek(r) == ']')
            break;
        expect(r, ',', "',' or ']'");
    }
    r->at++;
}

static void read_nested(struct reader *r, void (*read)(struct reader *r))
{
    if (++r->depth > DEPTH_MAX)
        fail(r, "less than 64 levels");
    luaL_checkstack(r->L, 8, "JSON");
    r->at++;
    read(r);
    r->depth--;
}

static void read_value(struct reader *r)
{
    int c = peek(r);
    if (c == '{')
        read_nested(r, read_members);
    else if (c == '[')
        read_nested(r, read_elements);
    else if (c == '"')
        read_string(r);
    else if (c == '-' || (c >= '0' && c <= '9'))
        read_number(r);
    else if (c == 't' && take_word(r, "true"))
        lua_pushboolean(r->L, true);
    else if (c == 'f' && take_word(r, "false"))
        lua_pushboolean(r->L, false);
    else if (c == 'n' && take_word(r, "null"))
        lua_pushlightuserdata(r->L, NULL);
    else
        fail(r, "a value");
}

void tm_json_push(lua_State *L, const char *text, size_t len)
{
    struct reader r = {.L = L, .start = text, .at = text, .end = text + len};
    read_value(&r);
    if (peek(&r) != -1)
        fail(&r, "the end");
}

/* ---- encode ---- */

struct writer {
    lua_State *L;
    char *bytes; /* a userdata at index `slot`, so that an error leaves nothing behind */
    size_t len, cap;
    int slot, depth;
};

static void put(struct writer *w, const char *bytes, size_t len)
{
    if (len > w->cap - w->len) {
        size_t cap = w->cap * 2 > w->len + len ? w->cap * 2 : w->len + len;
        char *grown = lua_newuserdata(w->L, cap);
        memcpy(grown, w->bytes, w->len);
        lua_replace(w->L, w->slot);
        w->bytes = grown;
        w->cap = cap;
    }
    memcpy(w->bytes + w->len, bytes, len);
    w->len += len;
}

static void put_escaped(struct writer *w, const char *s, size_t len)
{
    put(w, "\"", 1);
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)s[i];
        char escape[8];
        if (c == '"' || c == '\\') {
            escape[0] = '\\';
            escape[1] = (char)c;
            put(w, escape, 2);
        } else if (c < 0x20) {
            put(w, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
        } else {
            put(w, s + i, 1);
        }
    }
    put(w, "\"", 1);
}

static void put_number(struct writer *w, double v)
{
    char text[40];
    if (!isfinite(v))
        luaL_error(w->L, "JSON: expected a finite number");
    bool integer = v == floor(v) && fabs(v) <= EXACT_MAX;
    int len = snprintf(text, sizeof text, integer ? "%.0f" : "%.15g", v);
    if (!integer && strtod(text, NULL) != v)
        len = snprintf(text, sizeof text, "%.17g", v);
    put(w, text, (size_t)len);
}

static void put_value(struct writer *w, int index);

static bool is_array(lua_State *L, int index)
{
    if (lua_objlen(L, index) > 0)
        return true;
    if (!lua_getmetatable(L, index))
        return false;
    luaL_getmetatable(L, ARRAY_MARK);
    bool marked = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return marked;
}

static int count_entries(lua_State *L, int index)
{
    int n = 0;
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1))
        n++;
    return n;
}

static void put_array(struct writer *w, int index)
{
    int count = (int)lua_objlen(w->L, index);
    if (count_entries(w->L, index) != count)
        luaL_error(w->L, "JSON: expected an array without holes and names, or a table of names alone");
    put(w, "[", 1);
    for (int i = 1; i <= count; i++) {
        if (i > 1)
            put(w, ",", 1);
        lua_rawgeti(w->L, index, i);
        put_value(w, lua_gettop(w->L));
        lua_pop(w->L, 1);
    }
    put(w, "]", 1);
}

static void put_object(struct writer *w, int index)
{
    bool first = true;
    put(w, "{", 1);
    lua_pushnil(w->L);
    while (lua_next(w->L, index)) {
        if (lua_type(w->L, -2) != LUA_TSTRING)
            luaL_error(w->L, "JSON: expected names that are strings, got a %s", luaL_typename(w->L, -2));
        if (!first)
            put(w, ",", 1);
        first = false;
        size_t len;
        const char *name = lua_tolstring(w->L, -2, &len);
        put_escaped(w, name, len);
        put(w, ":", 1);
        put_value(w, lua_gettop(w->L));
        lua_pop(w->L, 1);
    }
    put(w, "}", 1);
}

static void put_table(struct writer *w, int index)
{
    if (++w->depth > DEPTH_MAX)
        luaL_error(w->L, "JSON: expected less than %d levels (does a table contain itself?)", DEPTH_MAX);
    luaL_checkstack(w->L, 8, "JSON");
    if (is_array(w->L, index))
        put_array(w, index);
    else
        put_object(w, index);
    w->depth--;
}

static void put_value(struct writer *w, int index)
{
    size_t len;
    const char *s;
    switch (lua_type(w->L, index)) {
    case LUA_TSTRING:
        s = lua_tolstring(w->L, index, &len);
        put_escaped(w, s, len);
        return;
    case LUA_TNUMBER:
        put_number(w, lua_tonumber(w->L, index));
        return;
    case LUA_TBOOLEAN:
        put(w, lua_toboolean(w->L, index) ? "true" : "false", lua_toboolean(w->L, index) ? 4 : 5);
        return;
    case LUA_TTABLE:
        put_table(w, index);
        return;
    case LUA_TNIL:
        put(w, "null", 4);
        return;
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(w->L, index)) {
            put(w, "null", 4);
            return;
        }
        break;
    case LUA_TUSERDATA:
        if (tm_secret_at(w->L, index)) {
            put_escaped(w, TM_SECRET_MASK, sizeof TM_SECRET_MASK - 1);
            return;
        }
        break;
    default:
        break;
    }
    luaL_error(w->L, "JSON: cannot hold a %s", luaL_typename(w->L, index));
}

void tm_json_encode(lua_State *L, int index)
{
    index = index < 0 ? lua_gettop(L) + index + 1 : index;
    struct writer w = {.L = L, .cap = 512};
    w.bytes = lua_newuserdata(L, w.cap);
    w.slot = lua_gettop(L);
    put_value(&w, index);
    lua_pushlstring(L, w.bytes, w.len);
    lua_replace(L, w.slot);
}

int tm_json_lua_decode(lua_State *L)
{
    size_t len;
    const char *text = luaL_checklstring(L, 1, &len);
    tm_json_push(L, text, len);
    return 1;
}

int tm_json_lua_encode(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    tm_json_encode(L, 1);
    return 1;
}

int tm_json_lua_array(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    if (luaL_getmetafield(L, 1, "__metatable"))
        return luaL_argerror(L, 1, "expected a table of one's own, its metatable is protected");
    lua_settop(L, 1);
    mark_array(L, 1);
    return 1;
}
