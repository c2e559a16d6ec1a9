/*
 * host: what a person changes by hand in the running generation (lua/tidemill/remote.lua), until the next one comes:
 *
 *     alert_set(definition)                          an alert's, in the form of the declarations
 *     stream_set(name, window_us, memory_bytes)      of its seen-set; 0: as it is
 *     note_change(what, keep?)                       script/changes.h
 */
#include "script/script_impl.h"

#include "script/changes.h"
#include "script/policy.h"

#include <string.h>

static struct tm_script *running(lua_State *L, const char *what)
{
    struct tm_script *script = tm_script_of(L);
    (void)tm_script_services_anew(L, what);
    return script;
}

static int alert_set(lua_State *L)
{
    struct tm_script *script = running(L, "changing an alert");
    struct tm_config *config = &script->config;
    struct tm_alert_def def = {0};
    struct tm_error err;
    luaL_checktype(L, 1, LUA_TTABLE);
    tm_config_read_alert(L, 1, script->arena, &def);
    size_t i = 0;
    while (i < config->alert_count && strcmp(config->alerts[i].name, def.name) != 0)
        i++;
    if (i == config->alert_count)
        return luaL_error(L, "there is no alert '%s'", def.name);
    struct tm_alert_def before = config->alerts[i];
    config->alerts[i] = def;
    if (tm_api_alert_start(script, &err) == TM_OK)
        return 0;
    config->alerts[i] = before;
    return luaL_error(L, "%s", err.message);
}

static struct tm_stream_def *find_stream(const struct tm_config *config, const char *name)
{
    for (size_t i = 0; i < config->plan_def.stream_count; i++)
        if (strcmp(config->plan_def.streams[i].name, name) == 0) /* it is in our own arena */
            return (struct tm_stream_def *)(uintptr_t)&config->plan_def.streams[i];
    return NULL;
}

static int stream_set(lua_State *L)
{
    struct tm_script *script = running(L, "changing a stream");
    const char *name = luaL_checkstring(L, 1);
    double window_us = luaL_checknumber(L, 2), bytes = luaL_checknumber(L, 3);
    struct tm_stream_def *stream = find_stream(&script->config, name);
    struct tm_error err;
    if (!stream)
        return luaL_error(L, "there is no stream '%s' in the script", name);
    if (!(window_us >= 0 && window_us < 9e15 && bytes >= 0 && bytes < 9e15))
        return luaL_error(L, "stream_set: expected a window and a size of memory");
    struct tm_stream_def before = *stream;
    stream->window_us = window_us > 0 ? (int64_t)window_us : stream->window_us;
    stream->memory_bytes_max = bytes > 0 ? (size_t)bytes : stream->memory_bytes_max;
    if (tm_policy_apply(script, &err) == TM_OK)
        return 0;
    *stream = before;
    return luaL_error(L, "%s", err.message);
}

static int note_change(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, "a change by hand");
    const char *what = luaL_checkstring(L, 1), *keep = luaL_optstring(L, 2, NULL);
    if (services->changes)
        tm_changes_note(services->changes, services->generation, what, keep);
    return 0;
}

void tm_api_adjust(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"alert_set", alert_set}, {"stream_set", stream_set}, {"note_change", note_change}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
