#include "script/sql_value.h"
#include "script/secret.h"

#include <lauxlib.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define EXACT_MAX 9007199254740992.0 /* 2^53 */
#define EXACT_DIGITS 15              /* every decimal of so many digits survives a double */

/* ---- answers ---- */

/* An integer that a double holds, or its digits. */
static void push_integer(lua_State *L, const char *text, size_t len)
{
    double v = strtod(text, NULL);
    if (fabs(v) < EXACT_MAX)
        lua_pushnumber(L, v);
    else
        lua_pushlstring(L, text, len);
}

/* A number when the double stands for exactly these digits, or else the text. */
static void push_numeric(lua_State *L, const char *text, size_t len)
{
    size_t digits = strspn(text + (*text == '-'), "0123456789."), significant = 0;
    bool integer = !strchr(text, '.'), leading = true;
    for (const char *c = text; *c; c++) {
        leading = leading && (*c == '0' || *c == '.' || *c == '-');
        significant += *c >= '0' && *c <= '9' && !leading;
    }
    if (digits + (*text == '-') != len)
        lua_pushlstring(L, text, len); /* NaN, Infinity */
    else if (integer)
        push_integer(L, text, len);
    else if (significant <= EXACT_DIGITS)
        lua_pushnumber(L, strtod(text, NULL));
    else
        lua_pushlstring(L, text, len);
}

/* "2026-11-05 00:00:00.5+00" -> microseconds since 1970; what is no such time (infinity, BC) stays text. */
static void push_time(lua_State *L, const char *text, size_t len)
{
    struct tm t = {0};
    char fraction[7] = "000000";
    int used = 0, more = 0;
    if (sscanf(text, "%d-%d-%d %d:%d:%d%n", &t.tm_year, &t.tm_mon, &t.tm_mday, &t.tm_hour, &t.tm_min, &t.tm_sec,
               &used) == 6) {
        if (text[used] == '.' && sscanf(text + used + 1, "%6[0-9]%n", fraction, &more) == 1)
            used += 1 + more;
        for (size_t i = strlen(fraction); i < 6; i++)
            fraction[i] = '0';
        fraction[6] = '\0';
        t.tm_year -= 1900;
        t.tm_mon -= 1;
        double us = (double)timegm(&t) * 1e6 + strtod(fraction, NULL);
        if (strcmp(text + used, "+00") == 0 && fabs(us) < EXACT_MAX) {
            lua_pushnumber(L, us);
            return;
        }
    }
    lua_pushlstring(L, text, len);
}

/* The numbers are rows of pg_type and never change. All other types are text as PostgreSQL writes them. */
static void push_value(lua_State *L, unsigned type, const char *text, size_t len)
{
    switch (type) {
    case 16: /* bool */
        lua_pushboolean(L, *text == 't');
        return;
    case 20: /* int8 */
        push_integer(L, text, len);
        return;
    case 21:  /* int2 */
    case 23:  /* int4 */
    case 26:  /* oid */
    case 700: /* float4 */
    case 701: /* float8 */
        lua_pushnumber(L, strtod(text, NULL));
        return;
    case 1700: /* numeric */
        push_numeric(L, text, len);
        return;
    case 1184: /* timestamptz */
        push_time(L, text, len);
        return;
    default:
        lua_pushlstring(L, text, len);
    }
}

void tm_sql_push_rows(lua_State *L, const struct tm_pg_answer *answer)
{
    size_t at = 0, len;
    lua_createtable(L, (int)answer->column_count, 0);
    int names = lua_gettop(L);
    for (size_t i = 0; i < answer->column_count; i++) {
        lua_pushstring(L, answer->columns[i].name);
        lua_rawseti(L, names, (int)i + 1);
    }
    lua_createtable(L, (int)answer->row_count, 0);
    for (size_t row = 0; row < answer->row_count; row++) {
        lua_createtable(L, 0, (int)answer->column_count);
        for (size_t i = 0; i < answer->column_count; i++) {
            const char *cell = tm_pg_answer_next(answer, &at, &len);
            if (!cell)
                continue;
            lua_rawgeti(L, names, (int)i + 1);
            push_value(L, answer->columns[i].type, cell, len);
            lua_rawset(L, -3);
        }
        lua_rawseti(L, -2, (int)row + 1);
    }
}

/* ---- parameters ---- */

const char *tm_sql_parameter(lua_State *L, int index, int n, char number[TM_SQL_NUMBER_BYTES])
{
    size_t len;
    double v;
    const char *text;
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return NULL;
    case LUA_TBOOLEAN:
        return lua_toboolean(L, index) ? "t" : "f";
    case LUA_TNUMBER:
        v = lua_tonumber(L, index);
        if (fabs(v) >= EXACT_MAX && v == floor(v) && fabs(v) < 1e19)
            luaL_error(L, "sql: parameter %d: integers of 2^53 and more are not exact: pass their digits as text", n);
        (void)snprintf(number, TM_SQL_NUMBER_BYTES, "%.17g", v);
        return isnan(v) ? "NaN" : isinf(v) ? (v > 0 ? "Infinity" : "-Infinity") : number;
    case LUA_TLIGHTUSERDATA:
        if (!lua_touserdata(L, index))
            return NULL; /* tm.null */
        break;
    default:
        text = tm_secret_or_text(L, index, &len);
        if (text && strlen(text) != len)
            luaL_error(L, "sql: parameter %d: PostgreSQL's text holds no NUL bytes", n);
        if (text)
            return text;
    }
    luaL_error(L,
               "sql: parameter %d: expected text, a number, a boolean, nil or a secret, got a %s: tm.json.encode makes "
               "text of a table",
               n, luaL_typename(L, index));
    return NULL;
}
