/*
 * The script's alerts: evaluated every second on the policy thread, told to the log and to the handlers of "alert".
 * What is to outlive the process is written to a small file when it changes (script setting alert_state).
 */
#include "script/script_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/alert.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define EVERY_US TM_US_PER_S
#define STATE_BYTES_MAX (TM_ALERTS_MAX * 1024)

static void set_text(lua_State *L, const char *name, const char *text)
{
    if (!text)
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, double v)
{
    lua_pushnumber(L, v);
    lua_setfield(L, -2, name);
}

static void push_labels(lua_State *L, const struct tm_alert_view *a)
{
    lua_createtable(L, 0, (int)a->label_count);
    for (size_t i = 0; i < a->label_count; i++)
        set_text(L, a->labels[i].name, a->labels[i].value);
}

void tm_api_push_alert(lua_State *L, const struct tm_alert_view *a)
{
    lua_createtable(L, 0, 13);
    set_text(L, "type", "alert");
    set_text(L, "name", a->name);
    set_text(L, "state", tm_alert_state_name(a->state));
    set_text(L, "severity", tm_alert_severity_name(a->severity));
    set_text(L, "summary", a->summary);
    set_text(L, "description", a->description);
    set_text(L, "runbook", a->runbook);
    set_number(L, "since", (double)a->since_us);
    if (!isnan(a->value))
        set_number(L, "value", a->value);
    lua_pushboolean(L, a->repeated);
    lua_setfield(L, -2, "repeated");
    lua_pushboolean(L, a->silenced);
    lua_setfield(L, -2, "silenced");
    push_labels(L, a);
    lua_setfield(L, -2, "labels");
}

static int dispatch_body(lua_State *L)
{
    const struct tm_alert_view *a = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, tm_script_of(L)->declared);
    lua_getfield(L, -1, "dispatch");
    tm_api_push_alert(L, a);
    lua_call(L, 1, 0);
    return 0;
}

/* What always fires is no news. */
static enum tm_log_level level_of(const struct tm_alert_view *a)
{
    if (a->severity == TM_ALERT_INFO)
        return a->repeated ? TM_LOG_DEBUG : TM_LOG_INFO;
    return a->state == TM_ALERT_FIRING ? TM_LOG_WARN : TM_LOG_INFO;
}

static void on_change(void *arg, const struct tm_alert_view *a)
{
    struct tm_services *services = arg;
    struct tm_script *script = services->alert_script;
    struct tm_error err;
    tm_log(level_of(a), "alert", a->state == TM_ALERT_FIRING ? "alert fires" : "alert is resolved",
           TM_F_STR("alert", a->name), TM_F_STR("severity", tm_alert_severity_name(a->severity)),
           TM_F_F64("value", a->value), TM_F_STR("summary", a->summary),
           TM_F_STR("silenced", a->silenced ? "yes" : "no"));
    if (script && !a->silenced &&
        tm_call(script->vm, dispatch_body, (void *)(uintptr_t)a, TM_SCRIPT_STEP_CPU_US, &err) < 0)
        tm_script_failed(script, "alert", &err);
}

/* ---- the file ---- */

static int write_file(const char *path, const struct tm_buf *text)
{
    char new[4096];
    int len = snprintf(new, sizeof new, "%s.new", path);
    int fd = len > 0 && (size_t)len < sizeof new
                 ? open(new, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0600)
                 : -1;
    if (fd < 0)
        return -1;
    bool whole = write(fd, text->data, text->len) == (ssize_t)text->len;
    return close(fd) == 0 && whole && rename(new, path) == 0 ? 0 : -1;
}

/* It is no loss of data when this fails: a restart forgets, and somebody is told a second time. */
static void save(struct tm_services *services)
{
    const struct tm_script *script = services->alert_script;
    const char *path = script ? script->config.alert_state : NULL;
    struct tm_buf text = {0};
    if (!path || !tm_alerts_take_changed(services->alerts))
        return;
    int rc = tm_alerts_save(services->alerts, tm_clock_mono_us(), tm_clock_wall_us(), &text);
    if (!rc && write_file(path, &text) < 0)
        TM_LOG_LIMITED(TM_LOG_WARN, "alert", "the states of alerts cannot be written: a restart forgets them",
                       TM_F_STR("file", path), TM_F_STR("error", strerror(errno)));
    tm_buf_fini(&text);
}

static void load(struct tm_services *services, const char *path)
{
    static const char zero = '\0';
    struct tm_buf text = {0};
    FILE *file = path ? fopen(path, "re") : NULL;
    if (!file)
        return;
    size_t len = tm_buf_reserve(&text, STATE_BYTES_MAX) ? 0 : fread(text.data, 1, STATE_BYTES_MAX - 1, file);
    (void)fclose(file);
    text.len = len;
    if (!tm_buf_append(&text, &zero, 1)) {
        size_t taken =
            tm_alerts_load(services->alerts, (const char *)text.data, tm_clock_mono_us(), tm_clock_wall_us());
        tm_log(TM_LOG_INFO, "alert", "states of alerts from before the restart", TM_F_STR("file", path),
               TM_F_I64("taken", (int64_t)taken));
    }
    tm_buf_fini(&text);
}

static void on_second(void *arg)
{
    struct tm_services *services = arg;
    tm_alerts_evaluate(services->alerts, tm_clock_mono_us(), tm_clock_wall_us(), on_change, services);
    save(services);
}

int tm_api_alert_start(struct tm_script *script, struct tm_error *err)
{
    struct tm_services *services = script->services;
    const struct tm_config *config = &script->config;
    struct tm_script *before = services->alert_script;
    if (!services->alerts && config->alert_count == 0)
        return TM_OK;
    if (!services->alerts)
        services->alerts = tm_alerts_create(services->metrics, config->id);
    services->alert_script = script;
    int rc = tm_alerts_replace(services->alerts, config->alerts, config->alert_count, tm_clock_wall_us(), on_change,
                               services, err);
    if (rc) {
        services->alert_script = before;
        return rc;
    }
    if (!services->alert_timer.loop) {
        load(services, config->alert_state);
        tm_timer_init(&services->alert_timer, services->loop, on_second, services);
        tm_timer_start(&services->alert_timer, EVERY_US, EVERY_US);
    }
    return TM_OK;
}

void tm_api_alert_close(struct tm_script *script)
{
    if (script->services && script->services->alert_script == script)
        script->services->alert_script = NULL;
}

/* ---- host ---- */

#define WHAT "looking at alerts"

static int alert_list(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, WHAT);
    size_t count = services->alerts ? tm_alerts_count(services->alerts) : 0;
    lua_createtable(L, (int)count, 0);
    for (size_t i = 0; i < count; i++) {
        struct tm_alert_view a;
        tm_alerts_get(services->alerts, i, &a);
        a.silenced = tm_alerts_is_silenced(services->alerts, a.name, tm_services_wall_us(services));
        tm_api_push_alert(L, &a);
        lua_rawseti(L, -2, (int)i + 1);
    }
    return 1;
}

static int alert_silences(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, WHAT);
    size_t count = services->alerts ? tm_alerts_silence_count(services->alerts) : 0;
    int shown = 0;
    lua_newtable(L);
    for (size_t i = 0; i < count; i++) {
        const struct tm_alert_silence *s = tm_alerts_silence_get(services->alerts, i);
        if (s->until_us <= tm_services_wall_us(services))
            continue;
        lua_createtable(L, 0, 3);
        set_text(L, "alert", s->pattern);
        set_text(L, "reason", s->why);
        set_number(L, "until_us", (double)s->until_us);
        lua_rawseti(L, -2, ++shown);
    }
    return 1;
}

/* alert_silence(pattern, us, why): 0 ends it. true | nil, why not */
static int alert_silence(lua_State *L)
{
    struct tm_services *services = tm_script_services(L, "silencing alerts");
    const char *pattern = luaL_checkstring(L, 1), *why = luaL_optstring(L, 3, "");
    double us = luaL_checknumber(L, 2);
    struct tm_error err;
    if (!(us >= 0 && us <= 1e15))
        return luaL_error(L, "alert_silence: expected a duration");
    if (!services->alerts)
        services->alerts = tm_alerts_create(services->metrics, tm_script_of(L)->config.id);
    int64_t wall_us = tm_services_wall_us(services);
    if (tm_alerts_silence(services->alerts, pattern, us > 0 ? wall_us + (int64_t)us : 0, why, wall_us, &err) < 0) {
        lua_pushnil(L);
        lua_pushstring(L, err.message);
        return 2;
    }
    lua_pushboolean(L, true);
    return 1;
}

void tm_api_alert(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"alert_list", alert_list}, {"alert_silences", alert_silences}, {"alert_silence", alert_silence}, {NULL, NULL}};
    luaL_setfuncs(L, functions, 0);
}
