/*
 * string.find, match, gmatch and gsub with our own pattern matcher.
 *
 * The patterns are Lua 5.1's, as LuaJIT has them (%g, and classes of ASCII whatever the locale); tests compare results and
 * error texts with the stock functions. What differs: every step of a match is counted, and the VM's clock is looked at
 * (tm_vm_check) every few thousand steps, so that a pathological pattern ends with the budget; a plain search is linear in
 * subject and text; a start beyond 2^31 is clamped. Bounds: 32 captures, 200 levels of backtracking, both errors.
 *
 * A replacement function or an __index function called by gsub cannot yield ("attempt to yield across C-call boundary").
 */
#ifndef TM_SCRIPT_PATTERN_H
#define TM_SCRIPT_PATTERN_H

#include <lua.h>

/* Put the functions into the table on top of the stack. */
void tm_pattern_open(lua_State *L);

#endif
