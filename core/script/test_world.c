#include "script/test_world.h"

#include "base/clock.h"
#include "record/row_json.h"
#include "script/json.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORLD "tidemill.world"
#define TRACEBACK_LINES_MAX 12

struct world {
    struct tm_arena *arena;
    struct tm_module_paths paths;
    struct tm_config config;
    struct tm_services services;
    struct tm_decoder *decoder;
    int require; /* reference */
};

static struct world *check_world(lua_State *L, int index)
{
    return luaL_checkudata(L, index, WORLD);
}

static int world_gc(lua_State *L)
{
    struct world *w = check_world(L, 1);
    struct tm_script *script = tm_script_of(L);
    if (script->services == &w->services)
        script->services = NULL;
    tm_services_fini(&w->services);
    tm_metrics_destroy(w->services.metrics);
    tm_decoder_destroy(w->decoder);
    tm_config_fini(&w->config);
    tm_buf_fini(&w->paths.source);
    tm_arena_destroy(w->arena);
    return 0;
}

static struct world *push_world(lua_State *L)
{
    struct world *w = lua_newuserdata(L, sizeof *w);
    memset(w, 0, sizeof *w);
    w->arena = tm_arena_create();
    w->require = LUA_NOREF;
    w->services.metrics = tm_metrics_create();
    if (luaL_newmetatable(L, WORLD)) {
        lua_pushcfunction(L, world_gc);
        lua_setfield(L, -2, "__gc");
        lua_pushliteral(L, "locked");
        lua_setfield(L, -2, "__metatable");
    }
    lua_setmetatable(L, -2);
    return w;
}

/* ---- loading ---- */

static int refuse_global(lua_State *L)
{
    return luaL_error(L, "'%s' is assigned as a global variable: write 'local %s' instead",
                      lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?",
                      lua_type(L, 2) == LUA_TSTRING ? lua_tostring(L, 2) : "?");
}

/* The globals of the world's chunks: those of the VM, but for `require` and `os`. */
static void make_environment(lua_State *L, struct world *w, int host, int os)
{
    lua_newtable(L);
    lua_pushvalue(L, host);
    tm_module_push_require(L, &w->paths);
    lua_pushvalue(L, -1);
    w->require = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_setfield(L, -2, "require");
    lua_pushvalue(L, os);
    lua_setfield(L, -2, "os");
    lua_createtable(L, 0, 3);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, refuse_global);
    lua_setfield(L, -2, "__newindex");
    lua_pushliteral(L, "locked");
    lua_setfield(L, -2, "__metatable");
    lua_setmetatable(L, -2);
    w->paths.environment = luaL_ref(L, LUA_REGISTRYINDEX);
}

static int world_open(lua_State *L)
{
    const char *path = luaL_checkstring(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    struct world *w = push_world(L);
    w->paths.library = tm_script_of(L)->paths.library;
    w->paths.script = tm_module_directory(w->arena, path);
    make_environment(L, w, 2, 3);
    tm_module_load(L, &w->paths, path, path);
    return 2;
}

static int world_require(lua_State *L)
{
    struct world *w = check_world(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, w->require);
    lua_pushvalue(L, 2);
    lua_call(L, 1, 1);
    return 1;
}

/* ---- what was declared ---- */

static int push_problems(lua_State *L, const struct tm_problems *problems)
{
    size_t kept = problems->count < TM_PROBLEMS_MAX ? problems->count : TM_PROBLEMS_MAX;
    lua_createtable(L, (int)kept, 0);
    for (size_t i = 0; i < kept; i++) {
        lua_pushfstring(L, "%s: %s", problems->list[i].where, problems->list[i].message);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

/* As in a process, they are there before the first of them is judged. */
static void open_alerts(lua_State *L, struct world *w)
{
    struct tm_error err;
    w->services.alerts = tm_alerts_create(w->services.metrics, w->config.id);
    if (tm_alerts_replace(w->services.alerts, w->config.alerts, w->config.alert_count, w->services.simulated_us, NULL,
                          NULL, &err) < 0)
        luaL_error(L, "%s", err.message);
}

/* finish(world, declared): the errors of the library are in declared.errors already. */
static int world_finish(lua_State *L)
{
    struct world *w = check_world(L, 1);
    luaL_checktype(L, 2, LUA_TTABLE);
    lua_settop(L, 2);
    struct tm_problems *problems = tm_arena_alloc(w->arena, sizeof *problems);
    problems->arena = w->arena;
    problems->count = 0;
    lua_getfield(L, 2, "errors");
    for (size_t i = 1, count = lua_objlen(L, 3); i <= count; i++) {
        lua_rawgeti(L, 3, (int)i);
        lua_getfield(L, -1, "at");
        lua_getfield(L, -2, "message");
        tm_problem_add(problems, luaL_checkstring(L, -2), luaL_checkstring(L, -1));
        lua_settop(L, 3);
    }
    lua_settop(L, 2);
    tm_config_read(L, w->arena, &w->config);
    tm_config_verify(&w->config, problems);
    tm_problems_sort(problems);
    w->services.plan = w->config.plan;
    if (problems->count == 0)
        open_alerts(L, w);
    lua_settop(L, 2);
    return push_problems(L, problems);
}

static int world_use(lua_State *L)
{
    struct world *w = check_world(L, 1);
    w->services.simulated_us = (int64_t)luaL_checknumber(L, 2);
    tm_script_of(L)->services = &w->services;
    return 0;
}

static const struct tm_plan *check_plan(lua_State *L, const struct world *w)
{
    if (!w->config.plan)
        luaL_error(L, "the script has problems, so there is no plan to run with");
    return w->config.plan;
}

/* ---- frames ---- */

static void push_json_row(lua_State *L, const struct tm_stream *stream, const uint8_t *tuple, size_t len)
{
    struct tm_buf text = {0};
    int rc = tm_row_json(stream, tuple, len, &text);
    lua_createtable(L, 0, 2);
    lua_pushstring(L, stream->name);
    lua_setfield(L, -2, "stream");
    if (!rc)
        lua_pushlstring(L, (const char *)text.data, text.len);
    else
        lua_pushliteral(L, "{}");
    tm_buf_fini(&text);
    lua_setfield(L, -2, "json");
}

static void set_span(lua_State *L, const char *name, struct tm_span span)
{
    lua_pushlstring(L, span.at ? span.at : "", span.at ? span.len : 0);
    lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, int64_t v)
{
    lua_pushnumber(L, (lua_Number)v);
    lua_setfield(L, -2, name);
}

static void push_decoded(lua_State *L, const struct tm_decoded *d)
{
    static const char *const verdicts[] = {"rows", "control", "unknown", "malformed"};
    static const char *const roles[] = {"data", "ack", "subscribed", "unsubscribed", "error"};
    lua_createtable(L, 0, 12);
    lua_pushstring(L, verdicts[d->verdict]);
    lua_setfield(L, -2, "verdict");
    lua_pushstring(L, d->reason);
    lua_setfield(L, -2, "reason");
    if (d->kind) {
        lua_pushstring(L, d->kind->tag);
        lua_setfield(L, -2, "kind");
        lua_pushstring(L, roles[d->kind->role]);
        lua_setfield(L, -2, "role");
        lua_pushboolean(L, d->kind->forward);
        lua_setfield(L, -2, "forward");
    }
    if (d->has_sid)
        set_number(L, "sid", d->sid);
    set_number(L, "code", d->code);
    set_span(L, "channel", d->channel);
    set_span(L, "text", d->text);
    lua_createtable(L, (int)d->row_count, 0);
    for (size_t i = 0; i < d->row_count; i++) {
        push_json_row(L, d->rows[i].stream, d->rows[i].tuple, d->rows[i].len);
        lua_rawseti(L, -2, (int)i + 1);
    }
    lua_setfield(L, -2, "rows");
}

static int world_frame(lua_State *L)
{
    struct world *w = check_world(L, 1);
    const struct tm_plan *plan = check_plan(L, w);
    size_t len;
    const char *text = luaL_checklstring(L, 2, &len);
    int64_t now_us = (int64_t)luaL_checknumber(L, 3);
    char *padded = lua_newuserdata(L, len + 16);
    memcpy(padded, text, len);
    memset(padded + len, 0, 16);
    if (!w->decoder && tm_decoder_create(plan, &w->decoder) < 0)
        return luaL_error(L, "no memory for a decoder");
    struct tm_decoded d;
    if (tm_decode_frame(w->decoder, padded, len, now_us, &d) < 0)
        return luaL_error(L, "no memory to decode a frame");
    push_decoded(L, &d);
    return 1;
}

static int batch_rows(lua_State *L)
{
    int count = 0;
    lua_newtable(L);
    for (int part = 0; part < 2; part++) {
        const struct tm_stream *stream;
        const struct tm_buf *rows;
        if (!tm_api_batch(L, 1, part, &stream, &rows))
            continue;
        for (size_t at = 0; at < rows->len;) {
            int64_t len = tm_tuple_length(rows->data + at, rows->len - at);
            if (len <= 0)
                return luaL_error(L, "a batch holds no rows");
            push_json_row(L, stream, rows->data + at, (size_t)len);
            lua_rawseti(L, -2, ++count);
            at += (size_t)len;
        }
    }
    return 1;
}

/* ---- registries ---- */

static int put_value(lua_State *L, struct tm_row_writer *w, const struct tm_column *c)
{
    size_t len = 0;
    if (lua_isnil(L, -1))
        return tm_row_put_null(w);
    switch (c->type) {
    case TM_TYPE_BOOL:
        return lua_isboolean(L, -1) ? tm_row_put_bool(w, lua_toboolean(L, -1)) : TM_EINVAL;
    case TM_TYPE_INT2:
    case TM_TYPE_INT4:
    case TM_TYPE_INT8:
        return lua_type(L, -1) == LUA_TNUMBER ? tm_row_put_int(w, (int64_t)lua_tonumber(L, -1)) : TM_EINVAL;
    case TM_TYPE_FLOAT8:
        return lua_type(L, -1) == LUA_TNUMBER ? tm_row_put_float(w, lua_tonumber(L, -1)) : TM_EINVAL;
    case TM_TYPE_TIMESTAMPTZ:
        return lua_type(L, -1) == LUA_TNUMBER ? tm_row_put_time(w, (int64_t)lua_tonumber(L, -1)) : TM_EINVAL;
    case TM_TYPE_TEXT:
    case TM_TYPE_JSONB:
    case TM_TYPE_BYTEA: {
        const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        return text ? tm_row_put_text(w, text, len) : TM_EINVAL;
    }
    case TM_TYPE_UUID: {
        const char *text = lua_type(L, -1) == LUA_TSTRING ? lua_tolstring(L, -1, &len) : NULL;
        return text && len == 16 ? tm_row_put_uuid(w, (const uint8_t *)text) : TM_EINVAL;
    }
    }
    return TM_EINVAL;
}

static void check_names(lua_State *L, const struct tm_stream *stream, int row)
{
    lua_pushnil(L);
    while (lua_next(L, row)) {
        lua_pop(L, 1);
        size_t i = 0;
        while (i < stream->column_count && lua_type(L, -1) == LUA_TSTRING &&
               strcmp(stream->columns[i].name, lua_tostring(L, -1)) != 0)
            i++;
        if (i == stream->column_count || lua_type(L, -1) != LUA_TSTRING)
            luaL_error(L, "stream %s has no column '%s'", stream->name,
                       lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : luaL_typename(L, -1));
    }
}

/* The row of a table {column = value}, in a buffer that the world owns. */
static int put_row(lua_State *L, struct world *world, const struct tm_stream *stream, struct tm_row *row)
{
    struct tm_buf *buf = &world->paths.source; /* free between two files */
    struct tm_row_writer w;
    tm_buf_clear(buf);
    if (tm_row_begin(&w, stream, buf) < 0)
        return luaL_error(L, "no memory for a row");
    for (uint16_t i = 0; i < stream->column_count && !stream->columns[i].local_only; i++) {
        const struct tm_column *c = &stream->columns[i];
        lua_getfield(L, 3, c->name);
        if (lua_isnil(L, -1) && i == stream->received_column) {
            lua_pop(L, 1);
            lua_pushnumber(L, (lua_Number)world->services.simulated_us);
        }
        if (put_value(L, &w, c) < 0)
            return luaL_error(L, "stream %s: column %s does not take a %s", stream->name, c->name,
                              luaL_typename(L, -1));
        lua_pop(L, 1);
    }
    if (tm_row_end(&w, world->config.plan, row) < 0)
        return luaL_error(L, "stream %s: the row is not whole", stream->name);
    return 0;
}

/* put(world, stream, row): times are microseconds since 1970, amounts as stored, as registries give them. */
static int world_put(lua_State *L)
{
    struct world *w = check_world(L, 1);
    const struct tm_stream *stream = tm_plan_stream_by_name(check_plan(L, w), luaL_checkstring(L, 2));
    luaL_checktype(L, 3, LUA_TTABLE);
    lua_settop(L, 3);
    if (!stream)
        return luaL_error(L, "there is no stream '%s'", lua_tostring(L, 2));
    struct tm_service_registry *kept = tm_services_find_registry(&w->services, stream->name);
    if (!kept)
        return luaL_error(L, "the script keeps no registry of %s (tm.registry)", stream->name);
    check_names(L, stream, 3);
    struct tm_row row;
    (void)put_row(L, w, stream, &row);
    uint32_t entry;
    if (tm_registry_put(kept->registry, row.tuple, row.len, &entry) < 0)
        return luaL_error(L, "stream %s: the row cannot be kept", stream->name);
    return 0;
}

/* ---- alerts ---- */

/* measure(world, name, labels or nil, value): a metric of the engine, as its name says a counter or a gauge. */
static int world_measure(lua_State *L)
{
    struct world *w = check_world(L, 1);
    const char *name = luaL_checkstring(L, 2), *labels = luaL_optstring(L, 3, NULL);
    double value = luaL_checknumber(L, 4);
    size_t len = strlen(name);
    bool counts = len > 6 && strcmp(name + len - 6, "_total") == 0;
    if (!tm_metric_is_name(name) || (labels && !tm_metric_is_labels(labels)))
        return luaL_error(L, "expected the name of a metric, and labels as words with values");
    struct tm_metric *metric = tm_metrics_bounded(w->services.metrics, counts ? TM_METRIC_COUNTER : TM_METRIC_GAUGE,
                                                  name, "", labels, NULL, 0, NULL);
    if (!metric)
        return luaL_error(L, "%s: it is a metric of another kind", name);
    tm_metric_set(metric, value);
    return 0;
}

struct changes {
    lua_State *L;
    int list, count;
};

static void on_alert(void *arg, const struct tm_alert_view *a)
{
    struct changes *c = arg;
    tm_api_push_alert(c->L, a);
    lua_rawseti(c->L, c->list, ++c->count);
}

/* alerts(world): judge the script's alerts at the world's time; what changed, as the event "alert" has it. */
static int world_alerts(lua_State *L)
{
    struct world *w = check_world(L, 1);
    struct tm_services *s = &w->services;
    lua_settop(L, 1);
    lua_newtable(L);
    struct changes changes = {L, 2, 0};
    if (!s->alerts)
        return luaL_error(L, "the script has problems, so it has no alerts");
    tm_alerts_evaluate(s->alerts, tm_services_mono_us(s), tm_services_wall_us(s), on_alert, &changes);
    return 1;
}

static int traceback(lua_State *L)
{
    lua_State *co = lua_tothread(L, 1);
    const char *message = luaL_checkstring(L, 2);
    luaL_argcheck(L, co, 1, "expected a coroutine");
    luaL_traceback(L, co, message, 0);
    return 1;
}

void tm_test_world_push(lua_State *L)
{
    static const luaL_Reg functions[] = {{"open", world_open},
                                         {"require", world_require},
                                         {"finish", world_finish},
                                         {"use", world_use},
                                         {"frame", world_frame},
                                         {"rows", batch_rows},
                                         {"put", world_put},
                                         {"measure", world_measure},
                                         {"alerts", world_alerts},
                                         {"traceback", traceback},
                                         {NULL, NULL}};
    lua_newtable(L);
    luaL_setfuncs(L, functions, 0);
}
