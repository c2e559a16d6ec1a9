/*
 * The matcher behind script/pattern.h: one pattern at one place of one subject.
 *
 *     struct tm_match m;
 *     tm_match_init(&m, L, subject, len);
 *     end = tm_match_at(&m, s, p)      the end of the match at s (NULL: none); its captures are in m until the next
 *
 * Steps are charged to the VM of L: the budget's end, and malformed patterns, raise Lua errors. Nothing is allocated.
 */
#ifndef TM_SCRIPT_MATCH_H
#define TM_SCRIPT_MATCH_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#define TM_CAPTURES_MAX 32

enum { TM_CAPTURE_UNFINISHED = -1, TM_CAPTURE_POSITION = -2 };

struct tm_capture {
    const char *at;
    ptrdiff_t len; /* or TM_CAPTURE_UNFINISHED, TM_CAPTURE_POSITION */
};

/* The pattern ends at its first NUL, as in Lua 5.1; the subject must be followed by one, as Lua strings are. */
struct tm_match {
    lua_State *L;
    const char *begin, *end; /* the subject */
    size_t fuel;
    int level, depth; /* captures so far; nesting */
    struct tm_capture captures[TM_CAPTURES_MAX];
};

void tm_match_init(struct tm_match *m, lua_State *L, const char *subject, size_t len);
const char *tm_match_at(struct tm_match *m, const char *s, const char *p);

/* Work done besides matching. */
void tm_match_charge(struct tm_match *m, size_t steps);

/* Whether a pattern is text without special characters. */
bool tm_match_is_plain(const char *pattern, size_t len);

/* Whether a pattern begins with a character that stands for itself once: only there can it match. */
bool tm_match_begins_plain(const char *pattern);

#endif
