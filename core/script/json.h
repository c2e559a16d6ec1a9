/*
 * JSON <-> Lua values, on the stack of a protected call. Written here rather than taken from a library so
 * that all its memory is under the VM's cap and no number is changed silently:
 *
 *   null    tm.null (a light userdata), so that it survives a round trip
 *   number  a double; an integer of 2^53 or more, which a double may not hold, as the string of its digits
 *   array   a table 1..n; an empty Lua table encodes as {}; as [] when its metatable is the array mark
 *   secret  encodes as "***"
 *
 * Depth 64. Duplicate names: the last wins.
 */
#ifndef TM_SCRIPT_JSON_H
#define TM_SCRIPT_JSON_H

#include <lua.h>
#include <stddef.h>

/* Push the value of a JSON text; raises a Lua error that says what was expected at which byte. */
void tm_json_push(lua_State *L, const char *text, size_t len);

/* Push the JSON text of the value at `index`; raises for what JSON cannot hold. */
void tm_json_encode(lua_State *L, int index);

/* Lua functions: json_decode(text), json_encode(value), json_array(table). */
int tm_json_lua_decode(lua_State *L);
int tm_json_lua_encode(lua_State *L);
int tm_json_lua_array(lua_State *L);

#endif
