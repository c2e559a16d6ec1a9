/* The script's alerts: evaluated every second on the policy thread, told to the log and to the handlers of "alert". */
#include "script/script_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/alert.h"

#include <math.h>

#define EVERY_US TM_US_PER_S

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

/* {type, name, state, severity, value?, summary, since, repeated, labels, description?, runbook?} */
static void push_alert(lua_State *L, const struct tm_alert_view *a)
{
    lua_createtable(L, 0, 12);
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
    push_labels(L, a);
    lua_setfield(L, -2, "labels");
}

static int dispatch_body(lua_State *L)
{
    const struct tm_alert_view *a = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, tm_script_of(L)->declared);
    lua_getfield(L, -1, "dispatch");
    push_alert(L, a);
    lua_call(L, 1, 0);
    return 0;
}

static void on_change(void *arg, const struct tm_alert_view *a)
{
    struct tm_services *services = arg;
    struct tm_script *script = services->alert_script;
    struct tm_error err;
    tm_log(a->state == TM_ALERT_FIRING ? TM_LOG_WARN : TM_LOG_INFO, "alert",
           a->state == TM_ALERT_FIRING ? "alert fires" : "alert is resolved", TM_F_STR("alert", a->name),
           TM_F_STR("severity", tm_alert_severity_name(a->severity)), TM_F_F64("value", a->value),
           TM_F_STR("summary", a->summary));
    if (script && tm_call(script->vm, dispatch_body, (void *)(uintptr_t)a, TM_SCRIPT_STEP_CPU_US, &err) < 0)
        tm_script_failed(script, "alert", &err);
}

static void on_second(void *arg)
{
    struct tm_services *services = arg;
    tm_alerts_evaluate(services->alerts, tm_clock_mono_us(), tm_clock_wall_us(), on_change, services);
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
