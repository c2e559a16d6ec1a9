/* Events of the watch (engine/watch.h) as tables for Lua; lua/tidemill/event.lua lists their fields. */
#include "script/script_impl.h"

static void set_number(lua_State *L, const char *name, double v)
{
    lua_pushnumber(L, v);
    lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

/* A name is called by what it is the name of. */
static const char *name_field(enum tm_watch_type type)
{
    switch (type) {
    case TM_WATCH_GATHERER_DOWN:
    case TM_WATCH_GATHERER_BACK:
        return "gatherer";
    case TM_WATCH_FAILOVER:
        return "identity";
    case TM_WATCH_DISK_LOW:
    case TM_WATCH_DISK_FINE:
        return "place";
    default:
        return "name";
    }
}

static void push_event(lua_State *L, const struct tm_watch_event *e)
{
    lua_createtable(L, 0, 10);
    set_text(L, "type", tm_watch_type_name(e->type));
    set_text(L, "text", e->text ? e->text : "");
    if (e->link >= 0)
        set_number(L, "link_id", e->link);
    if (e->name)
        set_text(L, name_field(e->type), e->name);
    if (e->from_us)
        set_number(L, "from", (double)e->from_us);
    if (e->to_us)
        set_number(L, "to", (double)e->to_us);
    if (e->limit > 0) {
        set_number(L, "value", e->value);
        set_number(L, "limit", e->limit);
    }
    if (e->type == TM_WATCH_LAG)
        set_text(L, "level", e->level > 1 ? "critical" : "warning");
}

static int watch_body(lua_State *L)
{
    const struct tm_watch_event *event = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, tm_script_of(L)->declared);
    lua_getfield(L, -1, "dispatch");
    push_event(L, event);
    lua_call(L, 1, 0);
    return 0;
}

void tm_script_watch(struct tm_script *script, const struct tm_watch_event *event)
{
    struct tm_error err;
    if (tm_call(script->vm, watch_body, (void *)(uintptr_t)event, TM_SCRIPT_STEP_CPU_US, &err) < 0)
        tm_script_failed(script, tm_watch_type_name(event->type), &err);
}
