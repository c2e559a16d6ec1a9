#include "script/pattern.h"
#include "script/match.h"
#include "script/vm.h"

#include <string.h>

#define ESCAPE '%'

/* ---- results ---- */

static void push_capture(struct tm_match *m, int i, const char *s, const char *end)
{
    if (i >= m->level) {
        if (i != 0)
            luaL_error(m->L, "invalid capture index");
        lua_pushlstring(m->L, s, (size_t)(end - s));
        return;
    }
    const struct tm_capture *c = &m->captures[i];
    if (c->len == TM_CAPTURE_UNFINISHED)
        luaL_error(m->L, "unfinished capture");
    if (c->len == TM_CAPTURE_POSITION)
        lua_pushinteger(m->L, c->at - m->begin + 1);
    else
        lua_pushlstring(m->L, c->at, (size_t)c->len);
}

/* All captures; the whole match from s when there is none (s NULL: nothing). */
static int push_captures(struct tm_match *m, const char *s, const char *end)
{
    int count = m->level == 0 && s ? 1 : m->level;
    luaL_checkstack(m->L, count, "too many captures");
    for (int i = 0; i < count; i++)
        push_capture(m, i, s, end);
    return count;
}

/* ---- find, match ---- */

static size_t start_of(lua_State *L, int index, size_t len)
{
    lua_Integer start = luaL_optinteger(L, index, 1);
    start = start < 0 ? start + (lua_Integer)len : start - 1;
    if (start < 0)
        return 0;
    return (size_t)start < len ? (size_t)start : len;
}

static int find_plain(lua_State *L, const char *s, size_t len, size_t start, const char *text, size_t text_len)
{
    const char *at = text_len ? memmem(s + start, len - start, text, text_len) : s + start;
    if (!at) {
        lua_pushnil(L);
        return 1;
    }
    lua_pushinteger(L, at - s + 1);
    lua_pushinteger(L, at - s + (lua_Integer)text_len);
    return 2;
}

/* The first match at or after *s, whose place it becomes; NULL: none. */
static const char *search(struct tm_match *m, const char **s, const char *p)
{
    bool anchored = *p == '^';
    bool plain = !anchored && tm_match_begins_plain(p);
    p += anchored;
    for (;; ++*s) {
        if (plain) {
            const char *at = memchr(*s, *p, (size_t)(m->end - *s));
            *s = at ? at : m->end;
        }
        const char *end = tm_match_at(m, *s, p);
        if (end || anchored || *s >= m->end)
            return end;
    }
}

static int find_or_match(lua_State *L, bool find)
{
    size_t len, pattern_len;
    const char *subject = luaL_checklstring(L, 1, &len), *p = luaL_checklstring(L, 2, &pattern_len);
    size_t start = start_of(L, 3, len);
    if (find && (lua_toboolean(L, 4) || tm_match_is_plain(p, pattern_len)))
        return find_plain(L, subject, len, start, p, pattern_len);
    struct tm_match m;
    tm_match_init(&m, L, subject, len);
    const char *s = subject + start, *end = search(&m, &s, p);
    if (!end) {
        lua_pushnil(L);
        return 1;
    }
    if (!find)
        return push_captures(&m, s, end);
    lua_pushinteger(L, s - subject + 1);
    lua_pushinteger(L, end - subject);
    return push_captures(&m, NULL, NULL) + 2;
}

static int find(lua_State *L)
{
    return find_or_match(L, true);
}

static int match(lua_State *L)
{
    return find_or_match(L, false);
}

/* ---- gmatch ---- */

/* Upvalues: subject, pattern, where to go on. An anchor means nothing here, as in Lua 5.1. */
static int gmatch_next(lua_State *L)
{
    size_t len;
    const char *subject = lua_tolstring(L, lua_upvalueindex(1), &len), *p = lua_tostring(L, lua_upvalueindex(2));
    struct tm_match m;
    tm_match_init(&m, L, subject, len);
    for (const char *s = subject + lua_tointeger(L, lua_upvalueindex(3)); s <= m.end; s++) {
        const char *end = tm_match_at(&m, s, p);
        if (!end)
            continue;
        lua_pushinteger(L, end - subject + (end == s));
        lua_replace(L, lua_upvalueindex(3));
        return push_captures(&m, s, end);
    }
    return 0;
}

static int gmatch(lua_State *L)
{
    luaL_checkstring(L, 1);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lua_pushinteger(L, 0);
    lua_pushcclosure(L, gmatch_next, 3);
    return 1;
}

/* ---- gsub ---- */

/* Grows as a userdata at index `slot`, so that it is under the memory cap and an error leaves nothing behind. */
struct output {
    lua_State *L;
    char *bytes;
    size_t len, cap;
    int slot;
    char first[512];
};

static void __attribute__((noinline)) grow(struct output *o, size_t extra)
{
    size_t cap = o->cap * 2 > o->len + extra ? o->cap * 2 : o->len + extra;
    char *grown = lua_newuserdata(o->L, cap);
    memcpy(grown, o->bytes, o->len);
    lua_replace(o->L, o->slot);
    o->bytes = grown;
    o->cap = cap;
}

static inline void put(struct output *o, const char *bytes, size_t len)
{
    if (len > o->cap - o->len)
        grow(o, len);
    memcpy(o->bytes + o->len, bytes, len);
    o->len += len;
}

static inline void put_char(struct output *o, char c)
{
    if (o->len == o->cap)
        grow(o, 1);
    o->bytes[o->len++] = c;
}

/* The value on top of the stack, which is text or a number; popped. */
static void put_value(struct output *o)
{
    size_t len;
    const char *text = lua_tolstring(o->L, -1, &len);
    if (len > o->cap - o->len) { /* growing pushes on the stack above it, so the text stays */
        grow(o, len);
    }
    memcpy(o->bytes + o->len, text, len);
    o->len += len;
    lua_pop(o->L, 1);
}

/* A replacement text: %0 to %9 are captures, % makes of another character itself. */
static void put_template(struct tm_match *m, struct output *o, const char *s, const char *end)
{
    size_t len;
    const char *text = lua_tolstring(m->L, 3, &len);
    tm_match_charge(m, len);
    for (size_t i = 0; i < len; i++) {
        if (text[i] != ESCAPE) {
            put_char(o, text[i]);
            continue;
        }
        char c = text[++i]; /* a NUL at the end */
        if (c < '0' || c > '9') {
            put_char(o, c);
        } else if (c == '0') {
            put(o, s, (size_t)(end - s));
        } else {
            push_capture(m, c - '1', s, end);
            put_value(o);
        }
    }
}

static void put_replacement(struct tm_match *m, struct output *o, const char *s, const char *end)
{
    lua_State *L = m->L;
    switch (lua_type(L, 3)) {
    case LUA_TFUNCTION:
        lua_pushvalue(L, 3);
        lua_call(L, push_captures(m, s, end), 1);
        break;
    case LUA_TTABLE:
        push_capture(m, 0, s, end);
        lua_gettable(L, 3);
        break;
    default:
        put_template(m, o, s, end);
        return;
    }
    if (!lua_toboolean(L, -1)) {
        lua_pop(L, 1);
        put(o, s, (size_t)(end - s));
    } else if (lua_isstring(L, -1)) {
        put_value(o);
    } else {
        luaL_error(L, "invalid replacement value (a %s)", luaL_typename(L, -1));
    }
}

static int substitute(struct tm_match *m, struct output *o, const char *p, int max)
{
    bool anchored = *p == '^';
    const char *s = m->begin;
    int count = 0;
    p += anchored;
    while (count < max) {
        const char *end = tm_match_at(m, s, p);
        if (end) {
            count++;
            put_replacement(m, o, s, end);
        }
        if (end && end > s)
            s = end;
        else if (s < m->end)
            put_char(o, *s++);
        else
            break;
        if (anchored)
            break;
    }
    put(o, s, (size_t)(m->end - s));
    return count;
}

/* gsub(subject, pattern, replacement, max?) -> text, count */
static int gsub(lua_State *L)
{
    size_t len;
    const char *subject = luaL_checklstring(L, 1, &len), *p = luaL_checkstring(L, 2);
    int type = lua_type(L, 3);
    if (type != LUA_TNUMBER && type != LUA_TSTRING && type != LUA_TTABLE && type != LUA_TFUNCTION)
        luaL_argerror(L, 3, "string/function/table expected");
    int max = (int)luaL_optinteger(L, 4, (lua_Integer)len + 1);
    tm_vm_check_stack(L);
    lua_settop(L, 4);
    luaL_checkstack(L, TM_CAPTURES_MAX + 8, "gsub");
    struct tm_match m;
    struct output o = {.L = L, .bytes = o.first, .cap = sizeof o.first, .slot = 4};
    tm_match_init(&m, L, subject, len);
    int count = substitute(&m, &o, p, max);
    lua_pushlstring(L, o.bytes, o.len);
    lua_pushinteger(L, count);
    return 2;
}

void tm_pattern_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"find", find}, {"match", match}, {"gmatch", gmatch}, {"gsub", gsub}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
