/*
 * Secrets in Lua: a userdata that shows as "***" wherever it is printed, cannot be joined to text, and whose bytes no
 * function gives to Lua. Host functions and declarations that take secret text accept it in place of a string.
 */
#ifndef TM_SCRIPT_SECRET_H
#define TM_SCRIPT_SECRET_H

#include "base/arena.h"
#include "base/secret.h"

#include <lua.h>

#define TM_SECRET_MASK "***"

/* The secret at that index, or NULL when it is something else. Never raises. */
struct tm_secret *tm_secret_at(lua_State *L, int index);

/* Text or secret: its bytes, valid while the value stays on the stack; NULL when it is neither. */
const char *tm_secret_or_text(lua_State *L, int index, size_t *len);

/* The same for a field of a declaration: a string is copied to the arena, a secret is kept alive by the script. NULL
 * when absent; raises like script/table.h does. */
const char *tm_secret_field(lua_State *L, int index, const char *field, struct tm_arena *arena);

#endif
