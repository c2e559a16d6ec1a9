/* host: registry_open, registry_find, registry_get, registry_next, registry_remove, registry_count, registry_unseen. A
 * registry is named by its place + 1; entries by their numbers. A new generation of a script finds what is in it. */
#include "script/script_impl.h"

#include "base/clock.h"
#include "base/endian.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define COLUMNS_MAX 32

struct tm_service_registry *tm_api_check_registry(lua_State *L, int index)
{
    struct tm_services *services = tm_script_services(L, "a registry");
    lua_Integer id = luaL_checkinteger(L, index);
    if (id < 1 || id > TM_STREAMS_MAX || !services->registries[id - 1].registry)
        luaL_error(L, "registry: it is not open");
    return &services->registries[id - 1];
}

static struct tm_registry *check_registry(lua_State *L)
{
    return tm_api_check_registry(L, 1)->registry;
}

static uint32_t check_entry(lua_State *L, const struct tm_registry *r, int index)
{
    double entry = luaL_checknumber(L, index);
    if (!(entry >= 0 && entry < tm_registry_end(r)) || !tm_registry_is_live(r, (uint32_t)entry))
        luaL_error(L, "registry: there is no such entry");
    return (uint32_t)entry;
}

/* The one of the stream, or a free one. */
static struct tm_service_registry *place_of(struct tm_services *services, const char *stream)
{
    struct tm_service_registry *found = tm_services_find_registry(services, stream);
    for (size_t i = 0; !found && i < TM_STREAMS_MAX; i++)
        if (!services->registries[i].registry)
            found = &services->registries[i];
    return found;
}

/* The names stay on the stack. */
static void read_columns(lua_State *L, int index, const char **columns)
{
    size_t count = lua_objlen(L, index);
    if (count > COLUMNS_MAX)
        luaL_error(L, "registry: expected at most %d columns", COLUMNS_MAX);
    luaL_checkstack(L, COLUMNS_MAX + 4, "registry");
    for (size_t i = 0; i < count; i++) {
        lua_rawgeti(L, index, (int)i + 1);
        columns[i] = luaL_checkstring(L, -1);
    }
    columns[count] = NULL;
}

static int make_registry(const struct tm_stream *stream, const char *const *columns, const char *const *quiet,
                         struct tm_registry **out, struct tm_error *err)
{
    int rc = tm_registry_create(stream, columns, out, err);
    for (; !rc && *quiet; quiet++)
        rc = tm_registry_keep_quietly(*out, *quiet, err);
    if (rc && *out) {
        tm_registry_destroy(*out);
        *out = NULL;
    }
    return rc;
}

static bool has_columns(const struct tm_registry *r, const char *const *columns, const char *const *quiet)
{
    size_t i = 1; /* behind the key */
    for (; *columns; columns++, i++)
        if (i >= tm_registry_column_count(r) || tm_registry_column_is_quiet(r, i) ||
            strcmp(tm_registry_column(r, i)->name, *columns) != 0)
            return false;
    for (; *quiet; quiet++, i++)
        if (i >= tm_registry_column_count(r) || !tm_registry_column_is_quiet(r, i) ||
            strcmp(tm_registry_column(r, i)->name, *quiet) != 0)
            return false;
    return i == tm_registry_column_count(r);
}

/* One that is open with other columns starts anew, empty. */
static int open_registry(struct tm_service_registry *r, const struct tm_stream *stream, const char *const *columns,
                         const char *const *quiet, struct tm_error *err)
{
    if (r->registry && has_columns(r->registry, columns, quiet))
        return TM_OK;
    struct tm_registry *made = NULL;
    int rc = make_registry(stream, columns, quiet, &made, err);
    if (rc)
        return rc;
    tm_service_registry_close(r);
    r->registry = made;
    r->stream = stream;
    return TM_OK;
}

/* registry_open(stream, {columns}, {quiet columns}?) -> id */
static int registry_open(lua_State *L)
{
    struct tm_services *services = tm_script_services_anew(L, "opening a registry");
    const char *name = luaL_checkstring(L, 1), *columns[COLUMNS_MAX + 1], *quiet[COLUMNS_MAX + 1] = {0};
    luaL_checktype(L, 2, LUA_TTABLE);
    const struct tm_stream *stream = services->plan ? tm_plan_stream_by_name(services->plan, name) : NULL;
    if (!stream)
        return luaL_error(L, "registry: there is no stream '%s'", name);
    read_columns(L, 2, columns);
    if (lua_type(L, 3) == LUA_TTABLE)
        read_columns(L, 3, quiet);
    struct tm_error err;
    struct tm_service_registry *r = place_of(services, name);
    if (!r)
        return luaL_error(L, "registry: at most %d can be open", TM_STREAMS_MAX);
    uint64_t generation = tm_script_of(L)->generation;
    bool is_ours = r->registry && r->generation == generation; /* declared twice: the first counts */
    if (!is_ours && open_registry(r, stream, columns, quiet, &err) < 0)
        return luaL_error(L, "%s", err.message);
    r->generation = generation;
    lua_pushinteger(L, (lua_Integer)(r - services->registries) + 1);
    return 1;
}

/* 64-bit integers beyond 2^53 are given as strings, so that no digit is lost. */
static void push_int(lua_State *L, int64_t v)
{
    char text[24];
    if (v > -(INT64_C(1) << 53) && v < INT64_C(1) << 53) {
        lua_pushnumber(L, (lua_Number)v);
        return;
    }
    (void)snprintf(text, sizeof text, "%" PRId64, v);
    lua_pushstring(L, text);
}

/* jsonb starts with a version byte; uuid and bytea are given raw; float8 is left out of registries by its use. */
static void push_field(lua_State *L, const struct tm_column *column, struct tm_field f)
{
    const char *text = (const char *)f.bytes;
    switch (column->type) {
    case TM_TYPE_BOOL:
        lua_pushboolean(L, f.bytes[0]);
        return;
    case TM_TYPE_INT2:
        push_int(L, (int16_t)tm_get_be16(f.bytes));
        return;
    case TM_TYPE_INT4:
        push_int(L, (int32_t)tm_get_be32(f.bytes));
        return;
    case TM_TYPE_INT8:
        push_int(L, (int64_t)tm_get_be64(f.bytes));
        return;
    case TM_TYPE_FLOAT8: {
        uint64_t bits = tm_get_be64(f.bytes);
        double v;
        memcpy(&v, &bits, sizeof v);
        lua_pushnumber(L, v);
        return;
    }
    case TM_TYPE_TIMESTAMPTZ:
        push_int(L, tm_unix_time_us((int64_t)tm_get_be64(f.bytes)));
        return;
    case TM_TYPE_JSONB:
        lua_pushlstring(L, text + 1, (size_t)f.len - 1);
        return;
    case TM_TYPE_TEXT:
    case TM_TYPE_UUID:
    case TM_TYPE_BYTEA:
        lua_pushlstring(L, text, (size_t)f.len);
        return;
    }
}

static void push_entry(lua_State *L, const struct tm_registry *r, uint32_t entry)
{
    size_t count = tm_registry_column_count(r);
    lua_createtable(L, 0, (int)count);
    for (size_t i = 0; i < count; i++) {
        struct tm_field f = tm_registry_get(r, entry, i);
        if (f.len < 0)
            continue;
        push_field(L, tm_registry_column(r, i), f);
        lua_setfield(L, -2, tm_registry_column(r, i)->name);
    }
}

/* registry_find(id, key) -> entry | nil */
static int registry_find(lua_State *L)
{
    struct tm_registry *r = check_registry(L);
    size_t len;
    const char *key = luaL_checklstring(L, 2, &len);
    int64_t entry = tm_registry_find(r, key, len);
    if (entry < 0)
        return 0;
    lua_pushnumber(L, (lua_Number)entry);
    return 1;
}

/* registry_get(id, entry) -> {column = value}; times in microseconds since 1970 */
static int registry_get(lua_State *L)
{
    struct tm_registry *r = check_registry(L);
    push_entry(L, r, check_entry(L, r, 2));
    return 1;
}

/* registry_next(id, entry?) -> the next live entry after that one | nil */
static int registry_next(lua_State *L)
{
    const struct tm_registry *r = check_registry(L);
    double after = luaL_optnumber(L, 2, -1);
    uint32_t end = tm_registry_end(r);
    for (double entry = after + 1; entry >= 0 && entry < end; entry++) {
        if (tm_registry_is_live(r, (uint32_t)entry)) {
            lua_pushnumber(L, entry);
            return 1;
        }
    }
    return 0;
}

/* registry_unseen(id, before, limit) -> up to `limit` entries that no document has shown since round `before` */
static int registry_unseen(lua_State *L)
{
    const struct tm_service_registry *r = tm_api_check_registry(L, 1);
    double before = luaL_checknumber(L, 2);
    int limit = (int)luaL_checkinteger(L, 3), count = 0;
    uint32_t end = tm_registry_end(r->registry);
    lua_newtable(L);
    for (uint32_t entry = 0; entry < end && count < limit; entry++) {
        uint32_t seen = entry < r->seen_count ? r->seen[entry] : 0;
        if (seen >= before || !tm_registry_is_live(r->registry, entry))
            continue;
        lua_pushnumber(L, entry);
        lua_rawseti(L, -2, ++count);
    }
    return 1;
}

static int registry_remove(lua_State *L)
{
    struct tm_registry *r = check_registry(L);
    tm_registry_remove(r, check_entry(L, r, 2));
    return 0;
}

static int registry_count(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)tm_registry_count(check_registry(L)));
    return 1;
}

void tm_api_registry(lua_State *L)
{
    static const luaL_Reg functions[] = {{"registry_open", registry_open},     {"registry_find", registry_find},
                                         {"registry_get", registry_get},       {"registry_next", registry_next},
                                         {"registry_remove", registry_remove}, {"registry_count", registry_count},
                                         {"registry_unseen", registry_unseen}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
