/*
 * Places in scripts, "FILE:LINE", with the whole name of the file: what LuaJIT writes into its own messages is cut to 59
 * characters ("...end/of/the/path.lua:5:"), which nobody can open. All are called inside a protected call; they may raise
 * errors of memory.
 */
#ifndef TM_SCRIPT_PLACE_H
#define TM_SCRIPT_PLACE_H

#include <lua.h>

/* Before a file is loaded under `chunk_name` ("@NAME"): remember what a message will call it. */
void tm_place_learn(lua_State *L, const char *chunk_name);

/* The file of an activation record or function that lua_getinfo("S") has filled in. */
const char *tm_place_file(const lua_Debug *ar);

/* Push "FILE:LINE" of the function at that level of the stack; false, and nothing pushed, when it has no line. */
int tm_place_push(lua_State *L, int level);

/* As luaL_where: push "FILE:LINE: ", or "" when there is no line. */
void tm_place_where(lua_State *L, int level);

/* Push `message`, with the file that it begins with in full. Returns the string pushed. */
const char *tm_place_expand(lua_State *L, const char *message);

#endif
