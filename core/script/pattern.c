#include "script/pattern.h"
#include "script/vm.h"

#include <string.h>

#define CAPTURES_MAX 32
#define DEPTH_MAX 200
#define FUEL 4096   /* steps between two looks at the clock; a step is a byte of subject or set */
#define SET_FREE 64 /* a shorter set costs no step of its own */
#define ESCAPE '%'

enum { UNFINISHED = -1, POSITION = -2 };

struct capture {
    const char *at;
    ptrdiff_t len; /* or UNFINISHED, POSITION */
};

/* The pattern ends at its first NUL, as in Lua 5.1. */
struct match {
    lua_State *L;
    const char *begin, *end; /* the subject */
    size_t fuel;
    int level, depth;
    struct capture captures[CAPTURES_MAX];
};

static const char *match_here(struct match *m, const char *s, const char *p);

static void __attribute__((noinline)) refuel(struct match *m)
{
    m->fuel = FUEL;
    tm_vm_check(m->L);
}

static inline void burn(struct match *m, size_t steps)
{
    if (steps >= m->fuel)
        refuel(m);
    else
        m->fuel -= steps;
}

/* ---- classes ---- */

enum { CNTRL = 1, SPACE = 2, PUNCT = 4, DIGIT = 8, XDIGIT = 16, UPPER = 32, LOWER = 64, SPECIAL = 128 };

static uint8_t kinds[256];

static void fill(int from, int to, uint8_t kind)
{
    for (int c = from; c <= to; c++)
        kinds[c] |= kind;
}

static void fill_kinds(void)
{
    if (kinds['a'])
        return;
    fill(0, 31, CNTRL);
    fill(127, 127, CNTRL);
    fill('\t', '\r', SPACE);
    fill(' ', ' ', SPACE);
    fill('!', '/', PUNCT);
    fill(':', '@', PUNCT);
    fill('[', '`', PUNCT);
    fill('{', '~', PUNCT);
    fill('0', '9', DIGIT | XDIGIT);
    fill('A', 'F', XDIGIT);
    fill('a', 'f', XDIGIT);
    fill('A', 'Z', UPPER);
    fill('a', 'z', LOWER);
    for (const char *c = "^$*+?.([%-"; *c; c++)
        fill(*c, *c, SPECIAL);
}

/* What a letter after % stands for; 0: itself. */
static const uint8_t class_kinds[26] = {
    ['a' - 'a'] = UPPER | LOWER,
    ['c' - 'a'] = CNTRL,
    ['d' - 'a'] = DIGIT,
    ['g' - 'a'] = PUNCT | DIGIT | UPPER | LOWER,
    ['l' - 'a'] = LOWER,
    ['p' - 'a'] = PUNCT,
    ['s' - 'a'] = SPACE,
    ['u' - 'a'] = UPPER,
    ['w' - 'a'] = UPPER | LOWER | DIGIT,
    ['x' - 'a'] = XDIGIT,
};

static bool is_class(unsigned char c, unsigned char name)
{
    unsigned char lower = name | 0x20;
    bool letter = lower >= 'a' && lower <= 'z' && name < 0x80;
    if (letter && lower == 'z')
        return (c == 0) == (name == 'z');
    uint8_t kind = letter ? class_kinds[lower - 'a'] : 0;
    if (!kind)
        return c == name;
    return ((kinds[c] & kind) != 0) == (name == lower);
}

/* `set` is at '[', `last` at its ']'. */
static bool is_in_set(unsigned char c, const char *set, const char *last)
{
    bool found = true;
    if (set[1] == '^') {
        found = false;
        set++;
    }
    while (++set < last) {
        if (*set == ESCAPE) {
            set++;
            if (is_class(c, (unsigned char)*set))
                return found;
        } else if (set[1] == '-' && set + 2 < last) {
            set += 2;
            if ((unsigned char)set[-2] <= c && c <= (unsigned char)*set)
                return found;
        } else if ((unsigned char)*set == c) {
            return found;
        }
    }
    return !found;
}

/* The end of the single-character item at p. */
static const char *set_end(struct match *m, const char *p)
{
    const char *begun = p;
    if (*p == '^')
        p++;
    do { /* a ']' that comes first is an element */
        if (*p == '\0')
            luaL_error(m->L, "malformed pattern (missing ']')");
        if (*p++ == ESCAPE && *p != '\0')
            p++;
    } while (*p != ']');
    burn(m, (size_t)(p - begun));
    return p + 1;
}

static inline const char *item_end(struct match *m, const char *p)
{
    char c = *p++;
    if (c == ESCAPE) {
        if (*p == '\0')
            luaL_error(m->L, "malformed pattern (ends with '%%')");
        return p + 1;
    }
    return c == '[' ? set_end(m, p) : p;
}

/* Whether the character at s is the item from p to `end`. */
static inline bool is_item(struct match *m, const char *s, const char *p, const char *end)
{
    switch (*p) {
    case '.':
        return true;
    case ESCAPE:
        return is_class((unsigned char)*s, (unsigned char)p[1]);
    case '[':
        if (end - p > SET_FREE)
            burn(m, (size_t)(end - p));
        return is_in_set((unsigned char)*s, p, end - 1);
    default:
        return *p == *s;
    }
}

/* ---- repetition ---- */

static const char *match_longest(struct match *m, const char *s, const char *p, const char *end)
{
    const char *at = s;
    while (at < m->end && is_item(m, at, p, end))
        at++;
    burn(m, (size_t)(at - s));
    for (; at >= s; at--) {
        const char *found = match_here(m, at, end + 1);
        if (found)
            return found;
    }
    return NULL;
}

static const char *match_shortest(struct match *m, const char *s, const char *p, const char *end)
{
    for (;; s++) {
        const char *found = match_here(m, s, end + 1);
        if (found)
            return found;
        if (s >= m->end || !is_item(m, s, p, end))
            return NULL;
    }
}

/* ---- captures ---- */

static const char *open_capture(struct match *m, const char *s, const char *p, ptrdiff_t len)
{
    if (m->level >= CAPTURES_MAX)
        luaL_error(m->L, "too many captures");
    m->captures[m->level++] = (struct capture){s, len};
    const char *found = match_here(m, s, p);
    if (!found)
        m->level--;
    return found;
}

static const char *close_capture(struct match *m, const char *s, const char *p)
{
    int i = m->level - 1;
    while (i >= 0 && m->captures[i].len != UNFINISHED)
        i--;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->captures[i].len = s - m->captures[i].at;
    const char *found = match_here(m, s, p);
    if (!found)
        m->captures[i].len = UNFINISHED;
    return found;
}

/* "%1" in a pattern: the same bytes again. */
static const char *match_again(struct match *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->level || m->captures[i].len == UNFINISHED)
        luaL_error(m->L, "invalid capture index");
    ptrdiff_t len = m->captures[i].len;
    if (len < 0 || m->end - s < len) /* a position has no bytes */
        return NULL;
    burn(m, (size_t)len / 16);
    return memcmp(m->captures[i].at, s, (size_t)len) == 0 ? s + len : NULL;
}

/* ---- the rest of the items ---- */

static const char *match_balance(struct match *m, const char *s, const char *p)
{
    if (p[0] == '\0' || p[1] == '\0')
        luaL_error(m->L, "unbalanced pattern");
    if (s >= m->end || *s != p[0])
        return NULL;
    size_t depth = 1;
    for (const char *at = s + 1; at < m->end; at++) {
        burn(m, 1);
        if (*at == p[1]) {
            if (--depth == 0)
                return at + 1;
        } else if (*at == p[0]) {
            depth++;
        }
    }
    return NULL;
}

/* "%f[set]": from outside the set into it; before the subject and after it is a NUL. p is at '['; its end comes out. */
static const char *match_frontier(struct match *m, const char *s, const char *p)
{
    if (*p != '[')
        luaL_error(m->L, "missing '[' after '%%f' in pattern");
    const char *end = item_end(m, p);
    unsigned char before = s == m->begin ? '\0' : (unsigned char)s[-1];
    unsigned char here = (unsigned char)*s; /* strings end with a NUL */
    burn(m, (size_t)(end - p) * 2);
    return !is_in_set(before, p, end - 1) && is_in_set(here, p, end - 1) ? end : NULL;
}

/* What a single-character item and the suffix behind it make of the subject at s. NULL: no match; else where to go on,
 * `*next` in the pattern (NULL: the match is complete). */
static const char *match_item(struct match *m, const char *s, const char *p, const char **next)
{
    const char *end = item_end(m, p), *found;
    switch (*end) {
    case '*':
        *next = NULL;
        return match_longest(m, s, p, end);
    case '-':
        *next = NULL;
        return match_shortest(m, s, p, end);
    case '+':
        *next = NULL;
        return s < m->end && is_item(m, s, p, end) ? match_longest(m, s + 1, p, end) : NULL;
    case '?':
        found = s < m->end && is_item(m, s, p, end) ? match_here(m, s + 1, end + 1) : NULL;
        *next = found ? NULL : end + 1;
        return found ? found : s;
    default:
        *next = end;
        return s < m->end && is_item(m, s, p, end) ? s + 1 : NULL;
    }
}

static const char *match_escape(struct match *m, const char *s, const char *p, const char **next)
{
    if (p[1] == 'b') {
        s = match_balance(m, s, p + 2);
        *next = p + 4;
        return s;
    }
    if (p[1] == 'f') {
        *next = match_frontier(m, s, p + 2);
        return *next ? s : NULL;
    }
    if (p[1] >= '0' && p[1] <= '9') {
        *next = p + 2;
        return match_again(m, s, p[1]);
    }
    return match_item(m, s, p, next);
}

static const char *match_rest(struct match *m, const char *s, const char *p)
{
    while (s && p) {
        burn(m, 1);
        switch (*p) {
        case '\0':
            return s;
        case '(':
            return p[1] == ')' ? open_capture(m, s, p + 2, POSITION) : open_capture(m, s, p + 1, UNFINISHED);
        case ')':
            return close_capture(m, s, p + 1);
        case ESCAPE:
            s = match_escape(m, s, p, &p);
            break;
        case '$':
            if (p[1] == '\0')
                return s == m->end ? s : NULL;
            s = match_item(m, s, p, &p);
            break;
        default:
            s = match_item(m, s, p, &p);
        }
    }
    return s;
}

/* The end of the match of pattern p at s, or NULL. */
static const char *match_here(struct match *m, const char *s, const char *p)
{
    if (++m->depth > DEPTH_MAX)
        luaL_error(m->L, "pattern too complex");
    s = match_rest(m, s, p);
    m->depth--;
    return s;
}

static void match_init(struct match *m, lua_State *L, const char *subject, size_t len)
{
    m->L = L;
    m->begin = subject;
    m->end = subject + len;
    m->fuel = FUEL;
}

static const char *match_at(struct match *m, const char *s, const char *p)
{
    m->level = m->depth = 0;
    return match_here(m, s, p);
}

/* ---- results ---- */

static void push_capture(struct match *m, int i, const char *s, const char *end)
{
    if (i >= m->level) {
        if (i != 0)
            luaL_error(m->L, "invalid capture index");
        lua_pushlstring(m->L, s, (size_t)(end - s));
        return;
    }
    const struct capture *c = &m->captures[i];
    if (c->len == UNFINISHED)
        luaL_error(m->L, "unfinished capture");
    if (c->len == POSITION)
        lua_pushinteger(m->L, c->at - m->begin + 1);
    else
        lua_pushlstring(m->L, c->at, (size_t)c->len);
}

/* All captures; the whole match from s when there is none (s NULL: nothing). */
static int push_captures(struct match *m, const char *s, const char *end)
{
    int count = m->level == 0 && s ? 1 : m->level;
    luaL_checkstack(m->L, count, "too many captures");
    for (int i = 0; i < count; i++)
        push_capture(m, i, s, end);
    return count;
}

/* ---- find, match ---- */

static bool is_plain(const char *pattern, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (kinds[(unsigned char)pattern[i]] & SPECIAL)
            return false;
    return true;
}

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

/* A pattern that begins with a character which stands for itself once: only there can it match. */
static bool begins_plain(const char *p)
{
    bool itself = *p && *p != ')' && !(kinds[(unsigned char)*p] & SPECIAL);
    return itself && p[1] != '*' && p[1] != '?' && p[1] != '-';
}

/* The first match at or after *s, whose place it becomes; NULL: none. */
static const char *search(struct match *m, const char **s, const char *p)
{
    bool anchored = *p == '^';
    bool plain = !anchored && begins_plain(p);
    p += anchored;
    for (;; ++*s) {
        if (plain) {
            const char *at = memchr(*s, *p, (size_t)(m->end - *s));
            *s = at ? at : m->end;
        }
        const char *end = match_at(m, *s, p);
        if (end || anchored || *s >= m->end)
            return end;
    }
}

static int find_or_match(lua_State *L, bool find)
{
    size_t len, pattern_len;
    const char *subject = luaL_checklstring(L, 1, &len), *p = luaL_checklstring(L, 2, &pattern_len);
    size_t start = start_of(L, 3, len);
    if (find && (lua_toboolean(L, 4) || is_plain(p, pattern_len)))
        return find_plain(L, subject, len, start, p, pattern_len);
    struct match m;
    match_init(&m, L, subject, len);
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
    struct match m;
    match_init(&m, L, subject, len);
    for (const char *s = subject + lua_tointeger(L, lua_upvalueindex(3)); s <= m.end; s++) {
        const char *end = match_at(&m, s, p);
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
static void put_template(struct match *m, struct output *o, const char *s, const char *end)
{
    size_t len;
    const char *text = lua_tolstring(m->L, 3, &len);
    burn(m, len);
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

static void put_replacement(struct match *m, struct output *o, const char *s, const char *end)
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

static int substitute(struct match *m, struct output *o, const char *p, int max)
{
    bool anchored = *p == '^';
    const char *s = m->begin;
    int count = 0;
    p += anchored;
    while (count < max) {
        const char *end = match_at(m, s, p);
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
    luaL_checkstack(L, CAPTURES_MAX + 8, "gsub");
    struct match m;
    struct output o = {.L = L, .bytes = o.first, .cap = sizeof o.first, .slot = 4};
    match_init(&m, L, subject, len);
    int count = substitute(&m, &o, p, max);
    lua_pushlstring(L, o.bytes, o.len);
    lua_pushinteger(L, count);
    return 2;
}

void tm_pattern_open(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"find", find}, {"match", match}, {"gmatch", gmatch}, {"gsub", gsub}, {NULL, NULL}};
    fill_kinds();
    luaL_setfuncs(L, functions, 0);
}
