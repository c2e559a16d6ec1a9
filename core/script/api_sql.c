/*
 * host: sql(database, transaction?, text, ...) -> rows, affected | nil, {message, sqlstate?}
 *       sql_begin(database) -> transaction | nil, error
 *       sql_end(transaction, commit) -> true | nil, error
 *
 * Run time, in tasks, which wait. `database` counts as in script/sql.h: the declared ones (tm.sql) from 1; 0 is the role's
 * own. Everything happens from the loop, never inside the call, because a task can be woken only when it waits. A
 * transaction whose task dies is rolled back. Values: see script/sql_value.h.
 */
#include "script/script_impl.h"
#include "script/secret.h"
#include "script/sql.h"
#include "script/sql_value.h"

#include <math.h>
#include <string.h>

#define SQL_BYTES_MAX ((size_t)1 << 20)

/* ---- outcomes ---- */

static int push_error(lua_State *L, const char *message, const char *sqlstate)
{
    lua_pushnil(L);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, message);
    lua_setfield(L, -2, "message");
    if (sqlstate && *sqlstate) {
        lua_pushstring(L, sqlstate);
        lua_setfield(L, -2, "sqlstate");
    }
    return 2;
}

static int push_outcome(lua_State *L, void *arg)
{
    const struct tm_sql_outcome *o = arg;
    luaL_checkstack(L, 16, "an answer");
    if (o->error)
        return push_error(L, o->error, o->sqlstate);
    if (o->ended) {
        lua_pushboolean(L, true);
        return 1;
    }
    if (o->transaction > 0) {
        lua_pushnumber(L, o->transaction);
        return 1;
    }
    tm_sql_push_rows(L, o->answer);
    lua_pushnumber(L, (lua_Number)(o->answer->affected < 0 ? 0 : o->answer->affected));
    return 2;
}

static void on_outcome(void *arg, uint64_t waiter, struct tm_sql_outcome *outcome)
{
    tm_task_wake(arg, waiter, push_outcome, outcome);
}

static bool is_live(void *arg, uint64_t waiter)
{
    const struct tm_script *script = arg;
    return tm_task_is_live(&script->tasks, waiter);
}

void tm_api_sql_close(struct tm_script *script)
{
    tm_sql_destroy(script->sql);
    script->sql = NULL;
}

/* ---- the functions ---- */

static struct tm_sql *check_sql(lua_State *L, const char *what)
{
    struct tm_script *script = tm_script_of(L);
    struct tm_sql_owner owner = {.arg = script, .on_outcome = on_outcome, .is_live = is_live};
    struct tm_loop *loop = tm_script_services(L, what)->loop;
    struct tm_error err;
    if (!script->sql && tm_sql_create(loop, &script->config, &owner, &script->sql, &err) < 0)
        luaL_error(L, "sql: %s", err.message);
    return script->sql;
}

static size_t check_database(lua_State *L, const struct tm_sql *sql, int index)
{
    lua_Number n = luaL_checknumber(L, index);
    if (!(n >= 0 && n < (double)tm_sql_count(sql) && n == floor(n)))
        luaL_error(L, "sql: there is no such database: expected what tm.sql returns");
    return (size_t)n;
}

static const char *check_text(lua_State *L, int index)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    if (strlen(text) != len || len > SQL_BYTES_MAX || !len)
        luaL_error(L, "sql: expected a statement of at most 1 MiB without NUL bytes");
    return text;
}

/* The task waits for what was asked for, unless that was refused. */
static int wait_for(lua_State *L, int rc, const struct tm_error *err)
{
    if (rc == TM_ESTATE)
        return luaL_error(L, "sql: %s", err->message);
    return rc ? push_error(L, err->message, NULL) : tm_task_yield(L);
}

static int sql_statement(lua_State *L)
{
    struct tm_sql *sql = check_sql(L, "a statement");
    const char *values[TM_PG_PARAMETERS_MAX];
    char numbers[TM_PG_PARAMETERS_MAX][TM_SQL_NUMBER_BYTES];
    struct tm_sql_statement s = {.database = check_database(L, sql, 1), .values = values};
    s.in_transaction = !lua_isnil(L, 2);
    s.transaction = s.in_transaction ? luaL_checknumber(L, 2) : 0;
    s.text = check_text(L, 3);
    s.count = lua_gettop(L) - 3;
    if (s.count > TM_PG_PARAMETERS_MAX)
        return luaL_error(L, "sql: expected at most %d parameters", TM_PG_PARAMETERS_MAX);
    for (int i = 0; i < s.count; i++) {
        values[i] = tm_sql_parameter(L, 4 + i, i + 1, numbers[i]);
        s.hidden = s.hidden || tm_secret_at(L, 4 + i);
    }
    struct tm_error err;
    return wait_for(L, tm_sql_run(sql, tm_task_self(L), &s, &err), &err);
}

static int sql_begin(lua_State *L)
{
    struct tm_sql *sql = check_sql(L, "a transaction");
    size_t database = check_database(L, sql, 1);
    tm_sql_begin(sql, tm_task_self(L), database);
    return tm_task_yield(L);
}

static int sql_end(lua_State *L)
{
    struct tm_sql *sql = check_sql(L, "a transaction");
    lua_Number transaction = luaL_checknumber(L, 1);
    struct tm_error err;
    return wait_for(L, tm_sql_end(sql, tm_task_self(L), transaction, lua_toboolean(L, 2), &err), &err);
}

void tm_api_sql(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"sql", sql_statement}, {"sql_begin", sql_begin}, {"sql_end", sql_end}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
