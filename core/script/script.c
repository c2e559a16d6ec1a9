#include "script/script_impl.h"

#include "base/clock.h"
#include "base/log.h"
#include "engine/metrics.h"
#include "script/place.h"
#include "script/routines.h"

#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- where the library is ---- */

static bool holds_library(const char *dir)
{
    char probe[PATH_MAX];
    int n = snprintf(probe, sizeof probe, "%s/tidemill/init.lua", dir);
    return n > 0 && (size_t)n < sizeof probe && access(probe, R_OK) == 0;
}

/* Beside an installed executable, or above one in a build tree. */
static bool find_library(char *out, size_t size)
{
    static const char *const beside[] = {"../share/tidemill/lua", "../lua", "../../lua", "../../../lua"};
    char exe[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof exe - 1);
    if (n <= 0)
        return false;
    exe[n] = '\0';
    *strrchr(exe, '/') = '\0';
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        char path[2 * PATH_MAX], resolved[PATH_MAX];
        (void)snprintf(path, sizeof path, "%s/%s", exe, beside[i]);
        if (realpath(path, resolved) && holds_library(resolved)) {
            (void)snprintf(out, size, "%s", resolved);
            return true;
        }
    }
    return false;
}

const char *tm_script_library(void)
{
    static char found[PATH_MAX];
    static char absolute[PATH_MAX];
    const char *given = getenv("TIDEMILL_LUA");
    if (given && *given)
        return realpath(given, absolute) ? absolute : given;
    if (!found[0] && !find_library(found, sizeof found))
        (void)snprintf(found, sizeof found, "/usr/share/tidemill/lua");
    return found;
}

/* ---- load ---- */

struct tm_script *tm_script_of(lua_State *L)
{
    return tm_vm_owner(L);
}

/* The line of the script, or of an adapter, that called into the library tidemill/. */
static void push_caller(lua_State *L)
{
    lua_Debug ar;
    int level = 1;
    while (lua_getstack(L, level, &ar) && lua_getinfo(L, "S", &ar) &&
           (ar.what[0] == 'C' || strncmp(tm_place_file(&ar), "tidemill/", 9) == 0))
        level++;
    tm_place_where(L, level);
}

struct tm_services *tm_script_services(lua_State *L, const char *what)
{
    struct tm_services *services = tm_script_of(L)->services;
    if (services)
        return services;
    push_caller(L);
    lua_pushfstring(L, "%s%s is for run time: call it inside a handler (tm.on, tm.every, tm.after)",
                    lua_tostring(L, -1), what);
    lua_error(L);
    return NULL;
}

struct tm_services *tm_script_services_anew(lua_State *L, const char *what)
{
    struct tm_services *services = tm_script_services(L, what);
    struct tm_script *script = tm_script_of(L);
    if (!script->draining)
        return services;
    script->refused = true;
    push_caller(L);
    lua_pushfstring(L, "%s%s is refused: this generation of the script is being replaced", lua_tostring(L, -1), what);
    lua_error(L);
    return NULL;
}

void tm_script_problem(struct tm_problems *problems, const char *file, const char *text)
{
    for (const char *p = strchr(text, ':'); p; p = strchr(p + 1, ':')) {
        size_t digits = strspn(p + 1, "0123456789");
        if (digits == 0 || strncmp(p + 1 + digits, ": ", 2) != 0)
            continue;
        char where[PATH_MAX];
        (void)snprintf(where, sizeof where, "%.*s", (int)(p + 1 + digits - text), text);
        tm_problem_add(problems, where, p + 1 + digits + 2);
        return;
    }
    tm_problem_add(problems, file, text);
}

struct load {
    struct tm_script *script;
    const char *path;
    struct tm_problems *problems;
    bool ran; /* the file, to its end */
};

static int open_body(lua_State *L)
{
    struct tm_script *script = tm_script_of(L);
    tm_api_push(L);
    tm_module_open(L, &script->paths);
    return 0;
}

static int run_body(lua_State *L)
{
    struct load *load = lua_touserdata(L, 1);
    tm_module_load(L, &load->script->paths, load->path, load->path);
    lua_call(L, 0, 0);
    return 0;
}

static void read_problems(lua_State *L, int index, struct tm_problems *problems)
{
    lua_getfield(L, index, "errors");
    size_t count = lua_objlen(L, -1);
    for (size_t i = 1; i <= count; i++) {
        lua_rawgeti(L, -1, (int)i);
        lua_getfield(L, -1, "at");
        lua_getfield(L, -2, "message");
        tm_problem_add(problems, luaL_checkstring(L, -2), luaL_checkstring(L, -1));
        lua_pop(L, 3);
    }
    lua_pop(L, 1);
}

/* Take what was declared: require "tidemill.declare".finish(file). */
static int finish_body(lua_State *L)
{
    struct load *load = lua_touserdata(L, 1);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "tidemill.declare");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "finish");
    lua_pushstring(L, load->path);
    lua_pushboolean(L, load->ran);
    lua_call(L, 2, 1);
    luaL_checktype(L, -1, LUA_TTABLE);
    int declared = lua_gettop(L);
    lua_getfield(L, declared, "tests");
    load->script->test_count = lua_objlen(L, -1);
    lua_settop(L, declared);
    read_problems(L, declared, load->problems);
    tm_config_read(L, load->script->arena, &load->script->config);
    lua_settop(L, declared);
    lua_getfield(L, declared, "summary");
    tm_facts_read(L, &load->script->facts, load->script->arena);
    lua_pushnil(L);
    lua_setfield(L, declared, "summary"); /* it has its copy */
    lua_settop(L, declared);
    load->script->declared = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

/* As they stand in the files: the order of declared tables is not an order. */
static int compare_problems(const void *a, const void *b)
{
    const struct tm_problem *p = a, *q = b;
    const char *pc = strrchr(p->where, ':'), *qc = strrchr(q->where, ':');
    size_t pn = pc ? (size_t)(pc - p->where) : strlen(p->where), qn = qc ? (size_t)(qc - q->where) : strlen(q->where);
    int order = pn != qn ? (pn > qn) - (pn < qn) : strncmp(p->where, q->where, pn);
    if (!order && pc && qc)
        order = (atoi(pc + 1) > atoi(qc + 1)) - (atoi(pc + 1) < atoi(qc + 1));
    return order ? order : strcmp(p->message, q->message);
}

void tm_problems_sort(struct tm_problems *problems)
{
    size_t kept = problems->count < TM_PROBLEMS_MAX ? problems->count : TM_PROBLEMS_MAX;
    qsort(problems->list, kept, sizeof *problems->list, compare_problems);
}

static struct tm_script *create(const struct tm_script_options *options)
{
    struct tm_script *script = calloc(1, sizeof *script);
    if (!script)
        return NULL;
    script->declared = LUA_NOREF;
    tm_config_init(&script->config);
    script->arena = tm_arena_create();
    script->paths.library = tm_arena_strdup(script->arena, options->library ? options->library : tm_script_library());
    script->paths.script = tm_module_directory(script->arena, options->path);
    script->path = tm_arena_strdup(script->arena, options->path);
    script->memory_bytes_max = options->memory_bytes_max;
    script->paths.arena = script->arena;
    if (tm_tasks_init(&script->tasks) == TM_OK)
        return script;
    tm_script_destroy(script);
    return NULL;
}

/* An entry whose failure is a problem of the file. */
static bool attempt(struct load *load, lua_CFunction body, int64_t cpu_us)
{
    struct tm_error err;
    if (tm_call(load->script->vm, body, load, cpu_us, &err) == TM_OK)
        return true;
    tm_script_problem(load->problems, load->path, err.message);
    return false;
}

/* That a file was read is a fact of the script, and what stood in it a secret one: nobody wants to see its hash. */
static void add_files(struct tm_script *script)
{
    for (const struct tm_module_file *f = script->paths.files; f; f = f->next) {
        char group[PATH_MAX + 8], hash[24];
        (void)snprintf(group, sizeof group, "file %s", f->name);
        (void)snprintf(hash, sizeof hash, "%016" PRIx64, f->hash);
        tm_facts_add(
            &script->facts, script->arena,
            (struct tm_fact){tm_arena_strdup(script->arena, group), "", tm_arena_strdup(script->arena, hash), true});
    }
}

int tm_script_open(const struct tm_script_options *options, struct tm_script **out, struct tm_error *err)
{
    *out = NULL;
    struct tm_script *script = create(options);
    if (!script)
        return tm_error_set(err, TM_ENOMEM, "no memory for a script");
    int rc = tm_vm_create(options->memory_bytes_max, script, &script->vm, err);
    if (!rc)
        rc = tm_call(script->vm, open_body, NULL, TM_SCRIPT_LOAD_CPU_US, err);
    if (rc) {
        tm_script_destroy(script);
        return rc;
    }
    *out = script;
    return TM_OK;
}

int tm_script_load(const struct tm_script_options *options, struct tm_problems *problems, struct tm_script **out)
{
    int64_t cpu_us = options->load_cpu_us ? options->load_cpu_us : TM_SCRIPT_LOAD_CPU_US;
    int64_t begun_us = tm_clock_thread_us();
    struct tm_error err;
    struct tm_script *script;
    int rc = tm_script_open(options, &script, &err);
    *out = script;
    if (rc)
        return rc;
    struct load load = {.script = script, .path = options->path, .problems = problems};
    load.ran = attempt(&load, run_body, cpu_us);
    (void)attempt(&load, finish_body, cpu_us);
    tm_config_verify(&script->config, problems);
    tm_problems_sort(problems);
    add_files(script);
    script->load_cpu_us = tm_clock_thread_us() - begun_us;
    return problems->count ? TM_EINVAL : TM_OK;
}

void tm_script_destroy(struct tm_script *script)
{
    if (!script)
        return;
    if (script->services && script->services->routines)
        tm_routines_abandon(script->services->routines, script, tm_clock_wall_us());
    tm_api_clock_close(script);
    tm_api_http_close(script);
    tm_api_sql_close(script);
    tm_api_alert_close(script);
    tm_tasks_fini(&script->tasks);
    tm_callbacks_fini(&script->callbacks);
    tm_vm_destroy(script->vm);
    tm_config_fini(&script->config);
    tm_api_secret_close(script);
    tm_buf_fini(&script->paths.source);
    tm_arena_destroy(script->arena);
    free(script);
}

struct tm_config *tm_script_config(struct tm_script *script)
{
    return &script->config;
}

size_t tm_script_memory(const struct tm_script *script)
{
    return tm_vm_memory(script->vm);
}

const struct tm_callbacks *tm_script_callbacks(const struct tm_script *script)
{
    return &script->callbacks;
}

/* ---- run ---- */

void tm_script_failed(struct tm_script *script, const char *what, const struct tm_error *err)
{
    TM_LOG_LIMITED(TM_LOG_ERROR, "script", "policy failed", TM_F_STR("handler", what), TM_F_ERR(err),
                   TM_F_STR("traceback", tm_call_traceback()));
    if (script->errors)
        tm_metric_add(script->errors, 1);
}

static int begin_body(lua_State *L)
{
    struct tm_script *script = tm_script_of(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, script->declared);
    lua_getfield(L, -1, "begin");
    lua_call(L, 0, 0);
    return 0;
}

int tm_script_start(struct tm_script *script, struct tm_services *services, struct tm_error *err)
{
    script->services = services;
    script->generation = services->generation;
    script->errors = tm_metrics_counter(services->metrics, "tidemill_script_errors_total",
                                        "Failures of handlers and timers of the script", NULL);
    tm_callbacks_start(&script->callbacks, services->metrics);
    tm_tasks_start(&script->tasks, services->loop, script);
    script->tasks.beginning = true;
    int rc = tm_call(script->vm, begin_body, NULL, script->config.limits.load_us, err);
    script->tasks.beginning = false;
    script->tasks.settling = script->tasks.count;
    return rc ? rc : tm_api_alert_start(script, err);
}

static void set_number(lua_State *L, const char *name, int64_t v)
{
    lua_pushnumber(L, (lua_Number)v);
    lua_setfield(L, -2, name);
}

void tm_script_push_event(lua_State *L, const struct tm_event *e)
{
    lua_createtable(L, 0, 8);
    lua_pushstring(L, tm_event_type_name(e->type));
    lua_setfield(L, -2, "type");
    set_number(L, "link_id", e->link);
    set_number(L, "number", e->number);
    set_number(L, "first", e->first);
    set_number(L, "last", e->last);
    if (e->sid >= 0)
        set_number(L, "sid", e->sid);
    if (e->kind) {
        lua_pushstring(L, e->kind);
        lua_setfield(L, -2, "kind");
    }
    lua_pushlstring(L, e->text, e->text_len);
    lua_setfield(L, -2, "text");
}

static int event_body(lua_State *L)
{
    const struct tm_event *event = lua_touserdata(L, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, tm_script_of(L)->declared);
    lua_getfield(L, -1, "dispatch");
    tm_script_push_event(L, event);
    lua_call(L, 1, 0);
    return 0;
}

void tm_script_event(struct tm_script *script, const struct tm_event *event)
{
    struct tm_error err;
    tm_services_note_event(script->services, event);
    if (tm_call(script->vm, event_body, (void *)(uintptr_t)event, script->config.limits.event_us, &err) < 0)
        tm_script_failed(script, tm_event_type_name(event->type), &err);
}
