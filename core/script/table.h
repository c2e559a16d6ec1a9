/*
 * Reading the tables that the Lua library has checked already: a wrong type here is a fault of the library, so it is
 * raised as a Lua error that names the field. `index` is absolute. Strings are copied into the arena.
 */
#ifndef TM_SCRIPT_TABLE_H
#define TM_SCRIPT_TABLE_H

#include "base/arena.h"

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

const char *tm_table_string(lua_State *L, int index, const char *field, struct tm_arena *arena); /* NULL: absent */
double tm_table_number(lua_State *L, int index, const char *field, double fallback);
bool tm_table_bool(lua_State *L, int index, const char *field);

/* A count or a duration: never negative, never beyond what the type holds. */
int64_t tm_table_int(lua_State *L, int index, const char *field, int64_t fallback);

/* Push the table in `field`, or nothing and false when it is absent. */
bool tm_table_push(lua_State *L, int index, const char *field);

/* A list of strings, NULL-terminated; NULL when absent. */
const char *const *tm_table_strings(lua_State *L, int index, const char *field, struct tm_arena *arena);

/* The position in `names` (NULL-terminated) of the field's text; `fallback` when absent. */
int tm_table_enum(lua_State *L, int index, const char *field, const char *const *names, int fallback);

/*
 * Convert a list of tables: allocates `size` bytes per element in the arena and calls `convert` with the element on
 * the top of the stack. Returns the array, NULL when empty or absent.
 */
typedef void tm_table_convert(lua_State *L, int index, struct tm_arena *arena, void *element);
void *tm_table_list(lua_State *L, int index, const char *field, size_t size, tm_table_convert *convert,
                    struct tm_arena *arena, size_t *count);

#endif
