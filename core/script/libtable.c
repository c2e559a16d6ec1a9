#include "script/libtable.h"
#include "script/frozen.h"
#include "script/vm.h"

#include <limits.h>

#define LOOK_MOVES 2000 /* element moves between two looks at the clock */
#define RUN 8           /* so many are sorted by insertion first */

/* The list and a scratch table of the same size change places after every pass. */
struct sort {
    lua_State *L;
    int from, to; /* stack indexes */
    bool has_less;
    int moves;
};

#define LESS 2 /* the stack index of the comparison function */

static void count_move(struct sort *s)
{
    if (++s->moves < LOOK_MOVES)
        return;
    s->moves = 0;
    tm_vm_check(s->L);
}

/* Whether the value on top comes before the one below it; both stay. */
static bool top_is_less(struct sort *s)
{
    lua_State *L = s->L;
    if (!s->has_less)
        return lua_lessthan(L, -1, -2);
    lua_pushvalue(L, LESS);
    lua_pushvalue(L, -2);
    lua_pushvalue(L, -4);
    lua_call(L, 2, 1);
    bool less = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return less;
}

/* Insertion sort of from[low .. high - 1], in place. */
static void sort_run(struct sort *s, int low, int high)
{
    lua_State *L = s->L;
    for (int i = low + 1; i < high; i++) {
        int at = i;
        lua_rawgeti(L, s->from, i);
        for (; at > low; at--) {
            lua_rawgeti(L, s->from, at - 1);
            lua_insert(L, -2); /* the one before, the new one */
            bool less = top_is_less(s);
            lua_insert(L, -2);
            if (!less)
                break;
            lua_rawseti(L, s->from, at);
            count_move(s);
        }
        if (at > low)
            lua_pop(L, 1);
        lua_rawseti(L, s->from, at);
    }
}

static void move(struct sort *s, int *from, int *to)
{
    lua_rawgeti(s->L, s->from, (*from)++);
    lua_rawseti(s->L, s->to, (*to)++);
    count_move(s);
}

/* from[low .. middle - 1] and from[middle .. high - 1] into to[low .. high - 1]; of equal ones the left comes first. */
static void merge(struct sort *s, int low, int middle, int high)
{
    int left = low, right = middle, to = low;
    while (left < middle && right < high) {
        lua_rawgeti(s->L, s->from, left);
        lua_rawgeti(s->L, s->from, right);
        bool less = top_is_less(s);
        lua_pop(s->L, 2);
        move(s, less ? &right : &left, &to);
    }
    while (left < middle)
        move(s, &left, &to);
    while (right < high)
        move(s, &right, &to);
}

static void merge_pass(struct sort *s, int count, int width)
{
    for (int low = 1; low <= count; low += 2 * width) {
        int middle = low + width <= count ? low + width : count + 1;
        int high = middle + width <= count ? middle + width : count + 1;
        merge(s, low, middle, high);
    }
    int swap = s->from;
    s->from = s->to;
    s->to = swap;
}

static void copy_back(struct sort *s, int count)
{
    s->to = 1;
    for (int from = 1, to = 1; from <= count;)
        move(s, &from, &to);
}

static int sort(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    struct sort s = {.L = L, .from = 1, .to = 3, .has_less = !lua_isnoneornil(L, 2)};
    if (s.has_less)
        luaL_checktype(L, 2, LUA_TFUNCTION);
    lua_settop(L, 2);
    tm_frozen_refuse(L, 1);
    tm_vm_check_stack(L);
    size_t objects = lua_objlen(L, 1);
    if (objects > INT_MAX / 4)
        return luaL_error(L, "sort: the list is too long");
    int count = (int)objects;
    for (int low = 1; low <= count; low += RUN)
        sort_run(&s, low, low + RUN <= count ? low + RUN : count + 1);
    if (count > RUN)
        lua_createtable(L, count, 0);
    for (int width = RUN; width < count; width *= 2)
        merge_pass(&s, count, width);
    if (s.from != 1)
        copy_back(&s, count);
    return 0;
}

/* insert(t, value) or insert(t, position, value) */
static int insert(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    int arguments = lua_gettop(L);
    if (arguments != 2 && arguments != 3)
        return luaL_error(L, "wrong number of arguments to 'insert'");
    tm_frozen_refuse(L, 1);
    int end = (int)lua_objlen(L, 1) + 1, at = end;
    if (arguments == 3) {
        lua_Integer position = luaL_checkinteger(L, 2);
        luaL_argcheck(L, position >= 1 && position < INT_MAX, 2, "expected a position from 1");
        at = (int)position;
    }
    for (int i = end; i > at; i--) {
        lua_rawgeti(L, 1, i - 1);
        lua_rawseti(L, 1, i);
        if (i % LOOK_MOVES == 0)
            tm_vm_check(L);
    }
    lua_pushvalue(L, arguments);
    lua_rawseti(L, 1, at);
    return 0;
}

static int check_position(lua_State *L, int index)
{
    lua_Integer position = luaL_checkinteger(L, index);
    luaL_argcheck(L, position > -INT_MAX / 2 && position < INT_MAX / 2, index, "expected a position below 2^30");
    return (int)position;
}

static void move_one(lua_State *L, int from, int to, int target)
{
    lua_rawgeti(L, 1, from);
    lua_rawseti(L, target, to);
    if (from % LOOK_MOVES == 0)
        tm_vm_check(L);
}

/* move(t, first, last, to, target?) -> target */
static int move_range(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TTABLE);
    int first = check_position(L, 2), last = check_position(L, 3), to = check_position(L, 4);
    int target = lua_isnoneornil(L, 5) ? 1 : 5;
    luaL_checktype(L, target, LUA_TTABLE);
    tm_frozen_refuse(L, target);
    if (to <= first || to > last || !lua_rawequal(L, 1, target))
        for (int i = first; i <= last; i++)
            move_one(L, i, to + (i - first), target);
    else
        for (int i = last; i >= first; i--)
            move_one(L, i, to + (i - first), target);
    lua_pushvalue(L, target);
    return 1;
}

void tm_libtable_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"sort", sort}, {"insert", insert}, {"move", move_range}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
