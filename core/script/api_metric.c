/* host: metric(kind, name, help, labels) -> handle; metric_add, metric_set. Handles live as long as the process. */
#include "script/script_impl.h"

#include "engine/metrics.h"

#include <string.h>

#define METRICS_MAX 200 /* of one script, so that a loop cannot use up the process's series */
#define COUNT_FIELD "tidemill.metric.count"

static void count_metric(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, COUNT_FIELD);
    lua_Integer count = lua_tointeger(L, -1) + 1;
    if (count > METRICS_MAX)
        luaL_error(L, "metric: expected at most %d in a script", METRICS_MAX);
    lua_pushinteger(L, count);
    lua_setfield(L, LUA_REGISTRYINDEX, COUNT_FIELD);
    lua_pop(L, 1);
}

/* metric("counter"|"gauge", name, help, labels?) */
static int metric(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, "a metric");
    const char *kind = luaL_checkstring(L, 1);
    const char *name = luaL_checkstring(L, 2), *help = luaL_checkstring(L, 3), *labels = luaL_optstring(L, 4, NULL);
    count_metric(L);
    struct tm_metric *m = strcmp(kind, "counter") == 0 ? tm_metrics_counter(services->metrics, name, help, labels)
                                                       : tm_metrics_gauge(services->metrics, name, help, labels);
    *(struct tm_metric **)lua_newuserdata(L, sizeof(struct tm_metric *)) = m;
    if (luaL_newmetatable(L, "tidemill.metric")) {
        lua_pushliteral(L, "locked");
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
    return 1;
}

static struct tm_metric *check_metric(lua_State *L)
{
    return *(struct tm_metric **)luaL_checkudata(L, 1, "tidemill.metric");
}

static int metric_add(lua_State *L)
{
    double n = luaL_optnumber(L, 2, 1);
    if (!(n >= 0 && n < 1e15))
        return luaL_error(L, "metric: a counter only goes up");
    tm_metric_add(check_metric(L), (uint64_t)n);
    return 0;
}

static int metric_set(lua_State *L)
{
    tm_metric_set(check_metric(L), luaL_checknumber(L, 2));
    return 0;
}

void tm_api_metric(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"metric", metric}, {"metric_add", metric_add}, {"metric_set", metric_set}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
