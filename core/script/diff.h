/*
 * What a script declares as facts, and how the facts of two generations differ, in lines for people:
 *
 *     stream trades: window: 2d -> 1d
 *     signer 1: key_id: changed
 *     file /etc/tidemill/gatherer.lua: changed
 *     kind novelty: added
 *
 * lua/tidemill/summary.lua makes the facts; the files that were read are among them, so that no line at all means that
 * nothing has changed. Secrets are compared and never shown. Everything lives in the arena given.
 */
#ifndef TM_SCRIPT_DIFF_H
#define TM_SCRIPT_DIFF_H

#include "base/arena.h"
#include "base/error.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>

#define TM_DIFF_LINES_MAX 1000 /* the last line then says how many there are more */

struct tm_fact {
    const char *group, *field, *text; /* field "": that the group is there */
    bool secret;
};

struct tm_facts {
    struct tm_fact *list;
    size_t count, cap;
};

void tm_facts_add(struct tm_facts *facts, struct tm_arena *arena, struct tm_fact fact);

/* Add those of the flat list on top of the stack: group, field, text, secret, group, ... */
void tm_facts_read(lua_State *L, struct tm_facts *facts, struct tm_arena *arena);

/* Sorts both. Returns the number of lines. */
size_t tm_facts_diff(struct tm_facts *before, struct tm_facts *after, struct tm_arena *arena,
                     const char *const **lines);

#endif
