/* host: spread_*. Which market is on which connection (engine/spread.h), kept by name, so that a reloaded script finds
 * it. Connections count from 1 here. Lists of names are given as the text of a JSON array, so that a frame for a
 * thousand tickers is one concatenation and not a thousand strings. */
#include "script/script_impl.h"

#include <stdlib.h>
#include <string.h>

#define NAME_MAX_BYTES 200
#define LIST_MAX 10000

static struct tm_services *services_of(lua_State *L)
{
    return tm_script_services(L, "a spread");
}

static struct tm_service_spread *check_entry(lua_State *L)
{
    struct tm_services *services = services_of(L);
    double id = luaL_checknumber(L, 1);
    if (!(id >= 1 && id <= TM_SPREADS_MAX) || !services->spreads[(int)id - 1].name)
        luaL_error(L, "spread: it is not open");
    return &services->spreads[(int)id - 1];
}

static struct tm_spread *check_spread(lua_State *L)
{
    return check_entry(L)->spread;
}

static uint32_t check_count(lua_State *L, int index, const char *what, uint32_t low, uint32_t high)
{
    double v = luaL_checknumber(L, index);
    if (!(v >= low && v <= high) || v != (double)(uint32_t)v)
        luaL_error(L, "spread: %s: expected an integer from %d to %d", what, (int)low, (int)high);
    return (uint32_t)v;
}

static uint32_t check_connection(lua_State *L, const struct tm_spread *s, int index)
{
    return check_count(L, index, "connection", 1, tm_spread_connections(s)) - 1;
}

static enum tm_spread_change check_change(lua_State *L, int index)
{
    static const char *const names[] = {"added", "removed", NULL};
    return luaL_checkoption(L, index, NULL, names) == 0 ? TM_SPREAD_ADDED : TM_SPREAD_REMOVED;
}

static int check_rc(lua_State *L, int rc)
{
    if (rc == TM_EINVAL)
        return luaL_error(L, "spread: expected a name of 1 to %d bytes", TM_SPREAD_NAME_MAX);
    if (rc < 0)
        return luaL_error(L, "spread: %s", tm_code_name(rc));
    return rc;
}

static struct tm_buf *scratch(lua_State *L)
{
    struct tm_buf *out = &services_of(L)->scratch;
    tm_buf_clear(out);
    return out;
}

static void push_text(lua_State *L, const struct tm_buf *text)
{
    lua_pushlstring(L, (const char *)text->data, text->len);
}

/* ---- open and close ---- */

static int make_spread(lua_State *L, struct tm_services *services, const char *name, uint32_t connections,
                       uint32_t chunk)
{
    int i = 0;
    while (i < TM_SPREADS_MAX && services->spreads[i].name)
        i++;
    if (i == TM_SPREADS_MAX)
        return luaL_error(L, "spread %s: %d are open already", name, TM_SPREADS_MAX);
    struct tm_service_spread entry = {.name = strdup(name), .spread = tm_spread_create(connections, chunk)};
    if (!entry.name || !entry.spread) {
        free(entry.name);
        tm_spread_destroy(entry.spread);
        return luaL_error(L, "spread %s: not enough memory", name);
    }
    services->spreads[i] = entry;
    return i;
}

/* spread_open(name, connections, chunk) -> id, made anew; one that is open takes that size */
static int spread_open(lua_State *L)
{
    struct tm_services *services = services_of(L);
    size_t len;
    const char *name = luaL_checklstring(L, 1, &len);
    uint32_t connections = check_count(L, 2, "connections", 1, TM_SPREAD_CONNECTIONS_MAX);
    uint32_t chunk = check_count(L, 3, "chunk", 1, TM_SPREAD_CHUNK_MAX);
    if (len == 0 || len > NAME_MAX_BYTES || strlen(name) != len)
        return luaL_error(L, "spread: expected a name of 1 to %d bytes", NAME_MAX_BYTES);
    int i = tm_services_find_spread(services, name);
    bool made = i < 0;
    if (made)
        i = make_spread(L, services, name, connections, chunk);
    else
        (void)check_rc(L, tm_spread_resize(services->spreads[i].spread, connections, chunk));
    lua_pushinteger(L, i + 1);
    lua_pushboolean(L, made);
    return 2;
}

/* spread_close(name) -> whether there was one */
static int spread_close(lua_State *L)
{
    struct tm_services *services = services_of(L);
    int i = tm_services_find_spread(services, luaL_checkstring(L, 1));
    if (i >= 0) {
        free(services->spreads[i].name);
        tm_spread_destroy(services->spreads[i].spread);
        services->spreads[i] = (struct tm_service_spread){0};
    }
    lua_pushboolean(L, i >= 0);
    return 1;
}

/* spread_names() -> {name} of all that are open */
static int spread_names(lua_State *L)
{
    const struct tm_services *services = services_of(L);
    int count = 0;
    lua_newtable(L);
    for (int i = 0; i < TM_SPREADS_MAX; i++) {
        if (!services->spreads[i].name)
            continue;
        lua_pushstring(L, services->spreads[i].name);
        lua_rawseti(L, -2, ++count);
    }
    return 1;
}

/* ---- names ---- */

/* spread_add(id, name) -> whether it is new */
static int spread_add(lua_State *L)
{
    struct tm_spread *s = check_spread(L);
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    lua_pushboolean(L, check_rc(L, tm_spread_add(s, name, len)));
    return 1;
}

/* spread_remove(id, name) -> whether it was there */
static int spread_remove(lua_State *L)
{
    struct tm_spread *s = check_spread(L);
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    lua_pushboolean(L, check_rc(L, tm_spread_remove(s, name, len)));
    return 1;
}

/* spread_find(id, name) -> connection, slot | nil */
static int spread_find(lua_State *L)
{
    const struct tm_spread *s = check_spread(L);
    size_t len;
    const char *name = luaL_checklstring(L, 2, &len);
    struct tm_spread_place place;
    if (!tm_spread_find(s, name, len, &place))
        return 0;
    lua_pushnumber(L, (lua_Number)place.connection + 1);
    lua_pushnumber(L, place.slot);
    return 2;
}

/* spread_next(id, cursor, limit) -> up to `limit` names, the cursor for the next ones | {}, nil: these were the last.
 * Start with 0. */
static int spread_next(lua_State *L)
{
    const struct tm_spread *s = check_spread(L);
    uint32_t cursor = check_count(L, 2, "cursor", 0, UINT32_MAX >> 1);
    uint32_t limit = check_count(L, 3, "limit", 1, LIST_MAX), count = 0;
    size_t len;
    const char *name = NULL;
    lua_newtable(L);
    while (count < limit && (name = tm_spread_next(s, &cursor, &len))) {
        lua_pushlstring(L, name, len);
        lua_rawseti(L, -2, (int)++count);
    }
    if (!name)
        return 1;
    lua_pushnumber(L, cursor);
    return 2;
}

/* spread_clear(id): forget all names */
static int spread_clear(lua_State *L)
{
    tm_spread_clear(check_spread(L));
    return 0;
}

/* ---- changes ---- */

/* spread_take(id, connection, "added"|"removed", limit) -> JSON array of names, how many | nil: there are none */
static int spread_take(lua_State *L)
{
    struct tm_spread *s = check_spread(L);
    uint32_t connection = check_connection(L, s, 2);
    enum tm_spread_change what = check_change(L, 3);
    int count = check_rc(L, tm_spread_take(s, connection, what, check_count(L, 4, "limit", 1, LIST_MAX)));
    if (count == 0)
        return 0;
    struct tm_buf *out = scratch(L);
    int rc = tm_spread_put_taken(s, connection, what, out);
    if (rc)
        rc = tm_spread_give_back(s, connection, what) ? TM_ENOMEM : rc;
    (void)check_rc(L, rc);
    push_text(L, out);
    lua_pushinteger(L, count);
    return 2;
}

/* spread_give_back(id, connection, "added"|"removed"): the last ones taken could not be sent */
static int spread_give_back(lua_State *L)
{
    struct tm_spread *s = check_spread(L);
    uint32_t connection = check_connection(L, s, 2);
    (void)check_rc(L, tm_spread_give_back(s, connection, check_change(L, 3)));
    return 0;
}

/* spread_sent(id, connection, "added"|"removed"): they are on their way */
static int spread_sent(lua_State *L)
{
    struct tm_spread *s = check_spread(L);
    uint32_t connection = check_connection(L, s, 2);
    tm_spread_sent(s, connection, check_change(L, 3));
    return 0;
}

static int push_slot(lua_State *L, const struct tm_spread *s, uint32_t connection, uint32_t slot)
{
    struct tm_buf *out = scratch(L);
    (void)check_rc(L, tm_spread_put_slot(s, connection, slot, out));
    push_text(L, out);
    lua_pushnumber(L, tm_spread_slot_count(s, connection, slot));
    return 2;
}

static uint32_t check_slot(lua_State *L, int index)
{
    return check_count(L, index, "slot", 0, TM_SPREAD_SLOTS_MAX - 1);
}

/* spread_slot(id, connection, slot) -> JSON array of its names, how many */
static int spread_slot(lua_State *L)
{
    const struct tm_spread *s = check_spread(L);
    uint32_t connection = check_connection(L, s, 2);
    return push_slot(L, s, connection, check_slot(L, 3));
}

/* spread_take_slot(id, connection) -> JSON array of a changed slot's names, how many, slot | nil: none has changed */
static int spread_take_slot(lua_State *L)
{
    struct tm_spread *s = check_spread(L);
    uint32_t connection = check_connection(L, s, 2);
    int64_t slot = tm_spread_take_slot(s, connection);
    if (slot < 0)
        return 0;
    (void)push_slot(L, s, connection, (uint32_t)slot);
    lua_pushnumber(L, (lua_Number)slot);
    return 3;
}

/* spread_touch_slot(id, connection, slot): it could not be set, so it has changed still */
static int spread_touch_slot(lua_State *L)
{
    struct tm_spread *s = check_spread(L);
    uint32_t connection = check_connection(L, s, 2);
    tm_spread_touch_slot(s, connection, check_slot(L, 3));
    return 0;
}

/* spread_restart(id, connection): nobody over there knows anything (any more) */
static int spread_restart(lua_State *L)
{
    struct tm_spread *s = check_spread(L);
    tm_spread_restart(s, check_connection(L, s, 2));
    return 0;
}

/* spread_retell(id, connection): what it was told is in doubt */
static int spread_retell(lua_State *L)
{
    struct tm_spread *s = check_spread(L);
    tm_spread_retell(s, check_connection(L, s, 2));
    return 0;
}

/* spread_chunk(id, connection, chunk): of this connection alone */
static int spread_chunk(lua_State *L)
{
    struct tm_spread *s = check_spread(L);
    uint32_t connection = check_connection(L, s, 2);
    (void)check_rc(L, tm_spread_set_chunk(s, connection, check_count(L, 3, "chunk", 1, TM_SPREAD_CHUNK_MAX)));
    return 0;
}

/* ---- figures ---- */

static void set_number(lua_State *L, const char *name, double v)
{
    lua_pushnumber(L, v);
    lua_setfield(L, -2, name);
}

/* spread_stats(id, connection?) -> {names, slots, dirty, added, removed, chunk} of a connection; without one
 * {names, connections, chunk, pending, memory} of all */
static int spread_stats(lua_State *L)
{
    const struct tm_spread *s = check_spread(L);
    if (lua_isnoneornil(L, 2)) {
        lua_createtable(L, 0, 5);
        set_number(L, "names", tm_spread_count(s));
        set_number(L, "connections", tm_spread_connections(s));
        set_number(L, "chunk", tm_spread_chunk(s));
        set_number(L, "pending", (double)tm_spread_pending(s));
        set_number(L, "memory", (double)tm_spread_memory(s));
        return 1;
    }
    struct tm_spread_stats stats = tm_spread_stats(s, check_connection(L, s, 2));
    lua_createtable(L, 0, 6);
    set_number(L, "names", stats.names);
    set_number(L, "slots", stats.slots);
    set_number(L, "dirty", stats.dirty);
    set_number(L, "added", stats.added);
    set_number(L, "removed", stats.removed);
    set_number(L, "chunk", stats.chunk);
    return 1;
}

/* spread_pending(id) -> changes not taken and slots not set, of all connections */
static int spread_pending(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)tm_spread_pending(check_spread(L)));
    return 1;
}

void tm_api_spread(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"spread_open", spread_open},           {"spread_close", spread_close},
        {"spread_names", spread_names},         {"spread_add", spread_add},
        {"spread_remove", spread_remove},       {"spread_find", spread_find},
        {"spread_next", spread_next},           {"spread_clear", spread_clear},
        {"spread_take", spread_take},           {"spread_give_back", spread_give_back},
        {"spread_sent", spread_sent},           {"spread_slot", spread_slot},
        {"spread_take_slot", spread_take_slot}, {"spread_touch_slot", spread_touch_slot},
        {"spread_restart", spread_restart},     {"spread_retell", spread_retell},
        {"spread_chunk", spread_chunk},         {"spread_stats", spread_stats},
        {"spread_pending", spread_pending},     {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
