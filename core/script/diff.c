#include "script/diff.h"

#include <lauxlib.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TEXT_SHOWN_MAX 120

void tm_facts_add(struct tm_facts *facts, struct tm_arena *arena, struct tm_fact fact)
{
    if (facts->count == facts->cap) {
        size_t cap = facts->cap ? facts->cap * 2 : 64;
        struct tm_fact *grown = tm_arena_alloc(arena, cap * sizeof *grown);
        if (facts->count)
            memcpy(grown, facts->list, facts->count * sizeof *grown);
        facts->list = grown;
        facts->cap = cap;
    }
    facts->list[facts->count++] = fact;
}

static const char *text_at(lua_State *L, struct tm_arena *arena, size_t index)
{
    lua_rawgeti(L, -1, (int)index);
    const char *text = tm_arena_strdup(arena, luaL_checkstring(L, -1));
    lua_pop(L, 1);
    return text;
}

void tm_facts_read(lua_State *L, struct tm_facts *facts, struct tm_arena *arena)
{
    luaL_checktype(L, -1, LUA_TTABLE);
    size_t count = lua_objlen(L, -1);
    for (size_t i = 1; i + 3 <= count; i += 4) {
        struct tm_fact fact = {text_at(L, arena, i), text_at(L, arena, i + 1), text_at(L, arena, i + 2), false};
        lua_rawgeti(L, -1, (int)i + 3);
        fact.secret = lua_toboolean(L, -1);
        lua_pop(L, 1);
        tm_facts_add(facts, arena, fact);
    }
}

/* ---- comparing ---- */

struct lines {
    struct tm_arena *arena;
    const char **list;
    size_t count, more;
};

static void TM_PRINTF(2, 3) add_line(struct lines *l, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    if (l->count == TM_DIFF_LINES_MAX) {
        l->more++;
        return;
    }
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    l->list[l->count++] = tm_arena_strdup(l->arena, text);
}

static int compare(const void *a, const void *b)
{
    const struct tm_fact *x = a, *y = b;
    int order = strcmp(x->group, y->group);
    if (!order)
        order = strcmp(x->field, y->field);
    return order ? order : strcmp(x->text, y->text);
}

static size_t group_end(const struct tm_facts *facts, size_t from)
{
    size_t at = from;
    while (at < facts->count && strcmp(facts->list[at].group, facts->list[from].group) == 0)
        at++;
    return at;
}

/* "trades: window" of (trades, window), "trades" of (trades, ""). */
static const char *label(const struct tm_fact *f, char out[256])
{
    if (*f->field)
        (void)snprintf(out, 256, "%.160s: %.80s", f->group, f->field);
    else
        (void)snprintf(out, 256, "%.160s", f->group);
    return out;
}

static void one_side(struct lines *l, const struct tm_fact *f, const char *what)
{
    char name[256];
    if (f->secret || !*f->text)
        add_line(l, "%s: %s", label(f, name), what);
    else
        add_line(l, "%s: %s: %.*s", label(f, name), what, TEXT_SHOWN_MAX, f->text);
}

static void both_sides(struct lines *l, const struct tm_fact *a, const struct tm_fact *b)
{
    char name[256];
    if (strcmp(a->text, b->text) == 0)
        return;
    if (a->secret || b->secret)
        add_line(l, "%s: changed", label(b, name));
    else
        add_line(l, "%s: %.*s -> %.*s", label(b, name), TEXT_SHOWN_MAX, a->text, TEXT_SHOWN_MAX, b->text);
}

/* The fields of a group that both have. */
static void diff_group(struct lines *l, const struct tm_fact *a, size_t a_count, const struct tm_fact *b,
                       size_t b_count)
{
    size_t i = 0, j = 0;
    while (i < a_count || j < b_count) {
        int order = i == a_count ? 1 : j == b_count ? -1 : strcmp(a[i].field, b[j].field);
        if (order < 0)
            one_side(l, &a[i++], "removed");
        else if (order > 0)
            one_side(l, &b[j++], "added");
        else
            both_sides(l, &a[i++], &b[j++]);
    }
}

static void sort(struct tm_facts *facts)
{
    if (facts->count)
        qsort(facts->list, facts->count, sizeof *facts->list, compare);
}

size_t tm_facts_diff(struct tm_facts *before, struct tm_facts *after, struct tm_arena *arena, const char *const **lines)
{
    struct lines l = {.arena = arena, .list = tm_arena_alloc(arena, (TM_DIFF_LINES_MAX + 1) * sizeof *l.list)};
    size_t i = 0, j = 0;
    sort(before);
    sort(after);
    while (i < before->count || j < after->count) {
        size_t i_end = group_end(before, i), j_end = group_end(after, j);
        int order = i == before->count  ? 1
                    : j == after->count ? -1
                                        : strcmp(before->list[i].group, after->list[j].group);
        if (order < 0)
            add_line(&l, "%.200s: removed", before->list[i].group);
        else if (order > 0)
            add_line(&l, "%.200s: added", after->list[j].group);
        else
            diff_group(&l, before->list + i, i_end - i, after->list + j, j_end - j);
        i = order <= 0 ? i_end : i;
        j = order >= 0 ? j_end : j;
    }
    if (l.more) {
        char text[64];
        (void)snprintf(text, sizeof text, "and %zu more", l.more);
        l.list[l.count++] = tm_arena_strdup(arena, text);
    }
    *lines = l.list;
    return l.count;
}
