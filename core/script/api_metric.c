/*
 * host: metric(kind, name, help, labels?) -> handle; metric_labelled(kind, name, help, names, values, max) -> handle, whether
 * it is the metric's "other"; metric_add, metric_set, metric_observe; metric_check(name) and metric_check_label(name).
 * Handles live as long as the process. metric_check works at declare time, the rest at run time.
 */
#include "script/script_impl.h"

#include "engine/metrics.h"

#include <math.h>
#include <string.h>

#define METRICS_MAX 1000 /* handles of one script, so that a loop cannot fill its memory; series have their own bound */
#define SETS_MAX 100
#define LABELS_MAX 8
#define VALUE_BYTES_MAX 128
#define LABELS_BYTES_MAX 4096
#define COUNT_FIELD "tidemill.metric.count"
#define METRIC_TYPE "tidemill.metric"

struct handle {
    struct tm_metric *metric;
    enum tm_metric_kind kind;
};

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

static const char *check_plain(lua_State *L, int index, const char *what)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    if (strlen(text) != len)
        luaL_error(L, "metric: expected %s without NUL bytes", what);
    return text;
}

static enum tm_metric_kind check_kind(lua_State *L)
{
    static const char *const kinds[] = {"counter", "gauge", "histogram", NULL};
    return (enum tm_metric_kind)luaL_checkoption(L, 1, NULL, kinds);
}

static const char *check_name(lua_State *L)
{
    const char *name = check_plain(L, 2, "a name");
    if (!tm_metric_is_name(name))
        luaL_error(L, "metric: expected a name of letters, digits, '_' and ':'");
    return name;
}

static int push_handle(lua_State *L, struct tm_metric *metric, enum tm_metric_kind kind)
{
    if (!metric)
        return luaL_error(L, "metric: %s is there already and is no %s", lua_tostring(L, 2), lua_tostring(L, 1));
    struct handle *h = lua_newuserdata(L, sizeof *h);
    *h = (struct handle){metric, kind};
    if (luaL_newmetatable(L, METRIC_TYPE)) {
        lua_pushliteral(L, "locked");
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
    return 1;
}

static int metric(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, "a metric");
    enum tm_metric_kind kind = check_kind(L);
    const char *name = check_name(L), *help = check_plain(L, 3, "a help text");
    const char *labels = lua_isnoneornil(L, 4) ? NULL : check_plain(L, 4, "labels");
    if (labels && !tm_metric_is_labels(labels))
        return luaL_error(L, "metric: expected labels like endpoint=\"/markets\"");
    count_metric(L);
    return push_handle(L, tm_metrics_bounded(services->metrics, kind, name, help, labels, "", 0, NULL), kind);
}

/* One `name="value"` each, into the text for the values and the text of the same names with "other". */
static void add_label(lua_State *L, int i, struct tm_buf *labels, struct tm_buf *other)
{
    lua_rawgeti(L, 4, i);
    lua_rawgeti(L, 5, i);
    size_t len;
    const char *name = luaL_checkstring(L, -2), *value = luaL_checklstring(L, -1, &len);
    const char *comma = i > 1 ? "," : "";
    if (!tm_metric_is_label_name(name) || len > VALUE_BYTES_MAX)
        luaL_error(L, "metric: expected label names of letters, digits and '_', and values of at most %d bytes",
                   VALUE_BYTES_MAX);
    if (tm_buf_printf(labels, "%s%s=\"", comma, name) || tm_metric_escape_label(labels, value, len) ||
        tm_buf_append(labels, "\"", 1) || tm_buf_printf(other, "%s%s=\"other\"", comma, name))
        luaL_error(L, "metric: the value of label %s: expected UTF-8 text without control characters", name);
    lua_pop(L, 2);
}

/* Fixed storage, so that an error leaves nothing behind. */
static struct tm_buf stack_buffer(lua_State *L)
{
    return (struct tm_buf){.data = lua_newuserdata(L, LABELS_BYTES_MAX), .cap = LABELS_BYTES_MAX};
}

static int metric_labelled(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, "a metric");
    enum tm_metric_kind kind = check_kind(L);
    const char *name = check_name(L), *help = check_plain(L, 3, "a help text");
    luaL_checktype(L, 4, LUA_TTABLE);
    luaL_checktype(L, 5, LUA_TTABLE);
    int count = (int)lua_objlen(L, 4), max = (int)luaL_checkinteger(L, 6);
    if (count < 1 || count > LABELS_MAX || (int)lua_objlen(L, 5) != count || max < 1 || max > SETS_MAX)
        return luaL_error(L, "metric: expected 1 to %d labels with a value each, and at most %d sets of them",
                          LABELS_MAX, SETS_MAX);
    lua_settop(L, 5);
    struct tm_buf labels = stack_buffer(L), other = stack_buffer(L);
    for (int i = 1; i <= count; i++)
        add_label(L, i, &labels, &other);
    const char *text = tm_buf_cstr(&labels), *rest = tm_buf_cstr(&other);
    count_metric(L);
    bool is_other;
    struct tm_metric *m = tm_metrics_bounded(services->metrics, kind, name, help, text, rest, (size_t)max, &is_other);
    (void)push_handle(L, m, kind);
    lua_pushboolean(L, is_other);
    return 2;
}

/* ---- writing ---- */

static struct tm_metric *check_metric(lua_State *L, enum tm_metric_kind kind, const char *expected)
{
    struct handle *h = luaL_checkudata(L, 1, METRIC_TYPE);
    if (h->kind != kind)
        luaL_error(L, "metric: expected a %s", expected);
    return h->metric;
}

static int metric_add(lua_State *L)
{
    struct tm_metric *m = check_metric(L, TM_METRIC_COUNTER, "counter");
    double n = luaL_optnumber(L, 2, 1);
    if (!(n >= 0 && n < 1e15 && n == floor(n)))
        return luaL_error(L, "metric: a counter goes up, by whole numbers");
    tm_metric_add(m, (uint64_t)n);
    return 0;
}

static int metric_set(lua_State *L)
{
    tm_metric_set(check_metric(L, TM_METRIC_GAUGE, "gauge"), luaL_checknumber(L, 2));
    return 0;
}

/* metric_observe(handle, seconds) */
static int metric_observe(lua_State *L)
{
    struct tm_metric *m = check_metric(L, TM_METRIC_HISTOGRAM, "histogram");
    double seconds = luaL_checknumber(L, 2);
    if (!(seconds >= 0 && seconds < 1e9))
        return luaL_error(L, "metric: expected seconds that are not negative");
    tm_metric_observe_us(m, (int64_t)(seconds * 1e6));
    return 0;
}

static int metric_check(lua_State *L)
{
    lua_pushboolean(L, lua_type(L, 1) == LUA_TSTRING && strlen(lua_tostring(L, 1)) == lua_objlen(L, 1) &&
                           tm_metric_is_name(lua_tostring(L, 1)));
    return 1;
}

static int metric_check_label(lua_State *L)
{
    lua_pushboolean(L, lua_type(L, 1) == LUA_TSTRING && strlen(lua_tostring(L, 1)) == lua_objlen(L, 1) &&
                           tm_metric_is_label_name(lua_tostring(L, 1)));
    return 1;
}

void tm_api_metric(lua_State *L)
{
    static const luaL_Reg functions[] = {{"metric", metric},
                                         {"metric_labelled", metric_labelled},
                                         {"metric_add", metric_add},
                                         {"metric_set", metric_set},
                                         {"metric_observe", metric_observe},
                                         {"metric_check", metric_check},
                                         {"metric_check_label", metric_check_label},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
