/*
 * Values between Lua and PostgreSQL, which both sides give and take as text.
 *
 *     bool                        a boolean
 *     int2, int4, oid, float4/8   a number
 *     int8, numeric               a number when a double stands for exactly these digits, else the text
 *     timestamptz                 microseconds since 1970, or the text of what is no such time (infinity, BC)
 *     NULL                        nil
 *     all others                  the text as PostgreSQL writes it
 *
 * On the stack of a protected call. Sessions are those of store/async.h: times are in UTC and ISO.
 */
#ifndef TM_SCRIPT_SQL_VALUE_H
#define TM_SCRIPT_SQL_VALUE_H

#include "store/async.h"

#include <lua.h>

#define TM_SQL_NUMBER_BYTES 40 /* a number as text */

/* Push the rows: a list of tables column = value. Takes six slots of the stack, which the caller has checked. */
void tm_sql_push_rows(lua_State *L, const struct tm_pg_answer *answer);

/*
 * The text of the value at `index`, parameter number `n`: text, a secret, a number or a boolean; NULL, which is SQL NULL,
 * for nil and tm.null. Valid while the value stays on the stack and `number`, the room for one, is there. Raises for what
 * cannot be a parameter.
 */
const char *tm_sql_parameter(lua_State *L, int index, int n, char number[TM_SQL_NUMBER_BYTES]);

#endif
