/*
 * Frozen tables: views of a library's table that can be read and not be written.
 *
 *     script -> view {} --__index--> the table itself (never handed out)
 *                       --__newindex--> an error
 *
 * The view is empty, so reading costs one more look-up; the metatable is locked. pairs(view) goes over the table behind it;
 * next, # and rawget see the empty view. What could write raw (rawset, table.insert, sort and move, JSON arrays) refuses views.
 */
#ifndef TM_SCRIPT_FROZEN_H
#define TM_SCRIPT_FROZEN_H

#include <lua.h>
#include <stdbool.h>

/* Replace the table on top of the stack by its view. `name` is how errors call it. */
void tm_frozen_make(lua_State *L, const char *name);

/* Push the table behind the view at that index; nothing and false when it is none. */
bool tm_frozen_push(lua_State *L, int index);

/* Raise if the argument is a view. */
void tm_frozen_refuse(lua_State *L, int index);

/* What scripts get for functions of Lua's base library that could look behind or write to a view. */
int tm_frozen_rawset(lua_State *L);
int tm_frozen_pairs(lua_State *L); /* a closure: upvalue 1 is `next` */

#endif
