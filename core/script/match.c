#include "script/match.h"
#include "script/vm.h"

#include <string.h>

#define DEPTH_MAX 200
#define FUEL 4096   /* steps between two looks at the clock; a step is a byte of subject or set */
#define SET_FREE 64 /* a shorter set costs no step of its own */
#define ESCAPE '%'

static const char *match_here(struct tm_match *m, const char *s, const char *p);

static void __attribute__((noinline)) refuel(struct tm_match *m)
{
    m->fuel = FUEL;
    tm_vm_check(m->L);
}

static inline void burn(struct tm_match *m, size_t steps)
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
static const char *set_end(struct tm_match *m, const char *p)
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

static inline const char *item_end(struct tm_match *m, const char *p)
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
static inline bool is_item(struct tm_match *m, const char *s, const char *p, const char *end)
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

static const char *match_longest(struct tm_match *m, const char *s, const char *p, const char *end)
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

static const char *match_shortest(struct tm_match *m, const char *s, const char *p, const char *end)
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

static const char *open_capture(struct tm_match *m, const char *s, const char *p, ptrdiff_t len)
{
    if (m->level >= TM_CAPTURES_MAX)
        luaL_error(m->L, "too many captures");
    m->captures[m->level++] = (struct tm_capture){s, len};
    const char *found = match_here(m, s, p);
    if (!found)
        m->level--;
    return found;
}

static const char *close_capture(struct tm_match *m, const char *s, const char *p)
{
    int i = m->level - 1;
    while (i >= 0 && m->captures[i].len != TM_CAPTURE_UNFINISHED)
        i--;
    if (i < 0)
        luaL_error(m->L, "invalid pattern capture");
    m->captures[i].len = s - m->captures[i].at;
    const char *found = match_here(m, s, p);
    if (!found)
        m->captures[i].len = TM_CAPTURE_UNFINISHED;
    return found;
}

/* "%1" in a pattern: the same bytes again. */
static const char *match_again(struct tm_match *m, const char *s, char digit)
{
    int i = digit - '1';
    if (i < 0 || i >= m->level || m->captures[i].len == TM_CAPTURE_UNFINISHED)
        luaL_error(m->L, "invalid capture index");
    ptrdiff_t len = m->captures[i].len;
    if (len < 0 || m->end - s < len) /* a position has no bytes */
        return NULL;
    burn(m, (size_t)len / 16);
    return memcmp(m->captures[i].at, s, (size_t)len) == 0 ? s + len : NULL;
}

/* ---- the rest of the items ---- */

static const char *match_balance(struct tm_match *m, const char *s, const char *p)
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
static const char *match_frontier(struct tm_match *m, const char *s, const char *p)
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
static const char *match_item(struct tm_match *m, const char *s, const char *p, const char **next)
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

static const char *match_escape(struct tm_match *m, const char *s, const char *p, const char **next)
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

static const char *match_rest(struct tm_match *m, const char *s, const char *p)
{
    while (s && p) {
        burn(m, 1);
        switch (*p) {
        case '\0':
            return s;
        case '(':
            return p[1] == ')' ? open_capture(m, s, p + 2, TM_CAPTURE_POSITION)
                               : open_capture(m, s, p + 1, TM_CAPTURE_UNFINISHED);
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
static const char *match_here(struct tm_match *m, const char *s, const char *p)
{
    if (++m->depth > DEPTH_MAX)
        luaL_error(m->L, "pattern too complex");
    s = match_rest(m, s, p);
    m->depth--;
    return s;
}

void tm_match_init(struct tm_match *m, lua_State *L, const char *subject, size_t len)
{
    m->L = L;
    m->begin = subject;
    m->end = subject + len;
    m->fuel = FUEL;
    fill_kinds();
}

const char *tm_match_at(struct tm_match *m, const char *s, const char *p)
{
    m->level = m->depth = 0;
    return match_here(m, s, p);
}

void tm_match_charge(struct tm_match *m, size_t steps)
{
    burn(m, steps);
}

bool tm_match_is_plain(const char *pattern, size_t len)
{
    fill_kinds();
    for (size_t i = 0; i < len; i++)
        if (kinds[(unsigned char)pattern[i]] & SPECIAL)
            return false;
    return true;
}

bool tm_match_begins_plain(const char *p)
{
    fill_kinds();
    bool itself = *p && *p != ')' && !(kinds[(unsigned char)*p] & SPECIAL);
    return itself && p[1] != '*' && p[1] != '?' && p[1] != '-';
}
