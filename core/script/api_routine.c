/* host: routine_*: the table of recovery runs (script/routines.h), which generations of a script share. */
#include "script/script_impl.h"

#include "script/routines.h"

#include <stdlib.h>
#include <string.h>

#define FIELDS_BYTES_MAX 65536

static int64_t now_us(lua_State *L)
{
    return tm_services_wall_us(tm_script_of(L)->services);
}

static struct tm_routines *routines_of(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, "a recovery run");
    if (!services->routines)
        services->routines = tm_routines_create(services->metrics);
    return services->routines;
}

static size_t check_count(lua_State *L, int index)
{
    double n = luaL_optnumber(L, index, 0);
    if (!(n >= 0 && n <= 1000))
        luaL_error(L, "routine: expected a count from 0 to 1000");
    return (size_t)n;
}

static const char *check_text(lua_State *L, int index)
{
    size_t len;
    const char *text = luaL_checklstring(L, index, &len);
    if (len > FIELDS_BYTES_MAX || strlen(text) != len)
        luaL_error(L, "routine: expected text of at most %d bytes, without NUL bytes", FIELDS_BYTES_MAX);
    return text;
}

static uint64_t check_id(lua_State *L)
{
    double id = luaL_checknumber(L, 1);
    return id >= 1 && id < 9e15 ? (uint64_t)id : 0;
}

/* routine_open(running_max, waiting_max): this generation starts runs from now on; 0: the default */
static int routine_open(lua_State *L)
{
    struct tm_routines *r = routines_of(L);
    size_t running_max = check_count(L, 1), waiting_max = check_count(L, 2);
    tm_routines_open(r, tm_script_of(L), running_max, waiting_max);
    return 0;
}

/* Stays on the stack while it is used. */
static const char *text_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    return lua_isnil(L, -1) ? NULL : check_text(L, lua_gettop(L));
}

static double number_field(lua_State *L, const char *name, double max)
{
    lua_getfield(L, 1, name);
    double v = luaL_optnumber(L, -1, 0);
    lua_pop(L, 1);
    if (!(v >= 0 && v <= max))
        luaL_error(L, "routine: %s: expected a number from 0 to %f", name, max);
    return v;
}

/* routine_offer{routine, subject, event, fields, priority, dry, attempt, delay_us, saved}
 * -> "queued" | "coalesced" | "dropped" */
static int routine_offer(lua_State *L)
{
    static const char *const names[] = {"queued", "coalesced", "dropped"};
    struct tm_routines *r = routines_of(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct tm_run_offer o = {.routine = text_field(L, "routine"),
                             .subject = text_field(L, "subject"),
                             .event = text_field(L, "event"),
                             .fields = text_field(L, "fields"),
                             .saved = text_field(L, "saved"),
                             .priority = (int)number_field(L, "priority", 1000),
                             .attempt = (uint32_t)number_field(L, "attempt", 1e6)};
    double delay_us = number_field(L, "delay_us", 1e15);
    lua_getfield(L, 1, "dry");
    o.dry = lua_toboolean(L, -1);
    if (!o.routine || !o.subject || !o.event || !o.fields)
        return luaL_error(L, "routine: expected a routine, a subject, an event and its fields");
    o.not_before_us = delay_us > 0 ? tm_services_mono_us(tm_script_of(L)->services) + (int64_t)delay_us : 0;
    lua_pushstring(L, names[tm_routines_offer(r, &o, now_us(L))]);
    return 1;
}

/* routine_pending(routine, subject) -> the fields of what waits | nil */
static int routine_pending(lua_State *L)
{
    const char *routine = check_text(L, 1), *subject = check_text(L, 2);
    lua_pushstring(L, tm_routines_pending(routines_of(L), routine, subject));
    return 1;
}

/* routine_take(routine, subject) -> the same, and it waits no longer */
static int routine_take(lua_State *L)
{
    const char *routine = check_text(L, 1), *subject = check_text(L, 2);
    struct tm_routines *r = routines_of(L);
    lua_pushstring(L, tm_routines_pending(r, routine, subject)); /* first, as this may raise */
    free(tm_routines_take(r, routine, subject));
    return 1;
}

static void set_text(lua_State *L, const char *name, const char *text)
{
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, double v)
{
    lua_pushnumber(L, v);
    lua_setfield(L, -2, name);
}

/* routine_next() -> {id, run_id, routine, subject, event, fields, saved, dry, attempt, started} | nil */
static int routine_next(lua_State *L)
{
    struct tm_routines *r = routines_of(L);
    int64_t started_us = now_us(L);
    lua_createtable(L, 0, 10);
    const struct tm_run *run = tm_routines_next(r, tm_script_of(L), tm_services_mono_us(tm_script_of(L)->services));
    if (!run)
        return 0;
    set_number(L, "id", (double)run->id);
    set_text(L, "run_id", run->uuid);
    set_text(L, "routine", run->routine);
    set_text(L, "subject", run->subject);
    set_text(L, "event", run->event);
    set_text(L, "fields", run->fields);
    set_text(L, "saved", run->saved);
    set_number(L, "attempt", run->attempt);
    set_number(L, "started", (double)started_us);
    lua_pushboolean(L, run->dry);
    lua_setfield(L, -2, "dry");
    tm_routines_start(r, run->id, tm_script_of(L), started_us); /* last: what is above may raise */
    return 1;
}

/* routine_step(id, text) */
static int routine_step(lua_State *L)
{
    uint64_t id = check_id(L);
    tm_routines_step(routines_of(L), id, check_text(L, 2), now_us(L));
    return 0;
}

/* routine_save(id, text): what a next try is given */
static int routine_save(lua_State *L)
{
    uint64_t id = check_id(L);
    tm_routines_save(routines_of(L), id, check_text(L, 2));
    return 0;
}

/* routine_saved(id) -> that text | nil */
static int routine_saved(lua_State *L)
{
    const struct tm_run *run = tm_routines_find(routines_of(L), check_id(L));
    lua_pushstring(L, run ? run->saved : NULL);
    return 1;
}

/* routine_cancelled(id) -> whether somebody asked it to end; nil: there is no such run */
static int routine_cancelled(lua_State *L)
{
    const struct tm_run *run = tm_routines_find(routines_of(L), check_id(L));
    if (!run)
        return 0;
    lua_pushboolean(L, run->cancelled);
    return 1;
}

/* routine_cancel(routine, subject?) -> how many */
static int routine_cancel(lua_State *L)
{
    const char *routine = check_text(L, 1), *subject = lua_isnoneornil(L, 2) ? NULL : check_text(L, 2);
    lua_pushnumber(L, (lua_Number)tm_routines_cancel(routines_of(L), routine, subject));
    return 1;
}

/* routine_end(id, result, error?) */
static int routine_end(lua_State *L)
{
    static const char *const results[] = {"done", "failed", "timeout", "cancelled", NULL};
    uint64_t id = check_id(L);
    const char *result = results[luaL_checkoption(L, 2, NULL, results)];
    tm_routines_end(routines_of(L), id, result, lua_isnoneornil(L, 3) ? NULL : check_text(L, 3), now_us(L));
    return 0;
}

/* routine_list() -> JSON */
static int routine_list(lua_State *L)
{
    static struct tm_buf out; /* kept: pushing may raise. Only the policy thread comes here */
    tm_buf_clear(&out);
    if (tm_routines_status(routines_of(L), &out) < 0)
        return luaL_error(L, "routine: not enough memory");
    lua_pushlstring(L, (const char *)out.data, out.len);
    return 1;
}

void tm_api_routine(lua_State *L)
{
    static const luaL_Reg functions[] = {{"routine_open", routine_open},
                                         {"routine_offer", routine_offer},
                                         {"routine_pending", routine_pending},
                                         {"routine_take", routine_take},
                                         {"routine_next", routine_next},
                                         {"routine_step", routine_step},
                                         {"routine_save", routine_save},
                                         {"routine_saved", routine_saved},
                                         {"routine_cancelled", routine_cancelled},
                                         {"routine_cancel", routine_cancel},
                                         {"routine_end", routine_end},
                                         {"routine_list", routine_list},
                                         {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
