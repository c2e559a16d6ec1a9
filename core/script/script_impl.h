/* What the files of this room share about a script; nobody outside core/script includes it. */
#ifndef TM_SCRIPT_IMPL_H
#define TM_SCRIPT_IMPL_H

#include "script/call.h"
#include "script/module.h"
#include "script/script.h"
#include "script/task.h"

struct tm_wait;         /* an HTTP request under way (api_http.c) */
struct tm_script_timer; /* api_clock.c */

struct tm_script {
    struct tm_arena *arena;
    struct tm_vm *vm;
    struct tm_module_paths paths;
    struct tm_config config;
    struct tm_services *services; /* NULL at declare time */
    struct tm_tasks tasks;
    struct tm_script_timer *timers;
    struct tm_wait *waits;
    struct tm_metric *errors;
    const char *path;
    size_t memory_bytes_max;
    size_t test_count; /* declared with tm.test */
    int declared;      /* reference to the table of declarations; LUA_NOREF before */
};

struct tm_script *tm_script_of(lua_State *L);

/* A script whose VM has the host and the modules, before any file has run. NULL: memory is out. */
int tm_script_open(const struct tm_script_options *options, struct tm_script **out, struct tm_error *err) TM_MUST_CHECK;

/* "file:line: text" of a Lua error becomes where and message of a problem; of the file where it says none. */
void tm_script_problem(struct tm_problems *problems, const char *file, const char *text);

/* The services, or a Lua error that says that `what` is for run time. */
struct tm_services *tm_script_services(lua_State *L, const char *what);

/* Log and count a failure of policy. */
void tm_script_failed(struct tm_script *script, const char *what, const struct tm_error *err);

/* api.c: the index of all that Lua can reach. Pushes the host table. */
void tm_api_push(lua_State *L);

/* One Lua table each. They add their functions to the table on top. */
void tm_api_base(lua_State *L);     /* api_base.c: where, env, log, JSON */
void tm_api_clock(lua_State *L);    /* api_clock.c: time, timers, sleep */
void tm_api_task(lua_State *L);     /* api_task.c: spawn */
void tm_api_http(lua_State *L);     /* api_http.c */
void tm_api_link(lua_State *L);     /* api_link.c */
void tm_api_rows(lua_State *L);     /* api_rows.c: REST documents to rows */
void tm_api_registry(lua_State *L); /* api_registry.c */
void tm_api_metric(lua_State *L);   /* api_metric.c */

/* Stop and free what a script has under way. */
void tm_api_clock_close(struct tm_script *script);
void tm_api_http_close(struct tm_script *script);

/* Part 0 (rows of the kind's stream) or 1 (not understood) of a batch that `decode` returned; false: it is empty. */
bool tm_api_batch(lua_State *L, int index, int part, const struct tm_stream **stream, const struct tm_buf **rows);

/* The registry named at that index of a function's arguments, or a Lua error (api_registry.c). */
struct tm_service_registry *tm_api_check_registry(lua_State *L, int index);

#endif
