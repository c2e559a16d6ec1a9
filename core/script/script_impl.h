/* What the files of this room share about a script; nobody outside core/script includes it. */
#ifndef TM_SCRIPT_IMPL_H
#define TM_SCRIPT_IMPL_H

#include "script/call.h"
#include "script/callback.h"
#include "script/diff.h"
#include "script/module.h"
#include "script/script.h"
#include "script/task.h"

struct tm_wait;         /* an HTTP request under way (api_http.c) */
struct tm_script_timer; /* api_clock.c */
struct tm_sql;          /* the databases of a script (script/sql.h) */
struct tm_secret;       /* base/secret.h */

struct tm_script {
    struct tm_arena *arena;
    struct tm_vm *vm;
    struct tm_module_paths paths;
    struct tm_config config;
    struct tm_services *services; /* NULL at declare time */
    struct tm_tasks tasks;
    struct tm_callbacks callbacks;
    struct tm_script_timer *timers;
    struct tm_wait *waits;
    struct tm_sql *sql;         /* NULL until the first use */
    struct tm_secret **secrets; /* that the configuration refers to */
    size_t secret_count;
    struct tm_metric *errors;
    const char *path;
    size_t memory_bytes_max;
    size_t test_count; /* declared with tm.test */
    struct tm_facts facts;
    uint64_t generation;
    int64_t load_cpu_us;
    bool draining; /* a newer generation runs */
    bool refused;  /* the step under way asked for what a draining script may not have */
    int declared;  /* reference to the table of declarations; LUA_NOREF before */
};

struct tm_script *tm_script_of(lua_State *L);

/* A script whose VM has the host and the modules, before any file has run. NULL: memory is out. */
int tm_script_open(const struct tm_script_options *options, struct tm_script **out, struct tm_error *err) TM_MUST_CHECK;

/* "file:line: text" of a Lua error becomes where and message of a problem; of the file where it says none. */
void tm_script_problem(struct tm_problems *problems, const char *file, const char *text);

/* The services, or a Lua error that says that `what` is for run time. */
struct tm_services *tm_script_services(lua_State *L, const char *what);

/* Likewise for what a script that is being replaced may not do any more: an error then, too. */
struct tm_services *tm_script_services_anew(lua_State *L, const char *what);

/* Log and count a failure of policy. */
void tm_script_failed(struct tm_script *script, const char *what, const struct tm_error *err);

/* Push an event as the table that handlers get. */
void tm_script_push_event(lua_State *L, const struct tm_event *event);

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
void tm_api_spread(lua_State *L);   /* api_spread.c: which market is on which connection */
void tm_api_guard(lua_State *L);    /* api_guard.c */
void tm_api_secret(lua_State *L);   /* api_secret.c */
void tm_api_sql(lua_State *L);      /* api_sql.c */
void tm_api_alert(lua_State *L);    /* api_alert.c */
void tm_api_routine(lua_State *L);  /* api_routine.c: the table of recovery runs */
void tm_api_adjust(lua_State *L);   /* api_adjust.c: changes by hand */
void tm_api_remote(lua_State *L);   /* remote.c: answers to sessions */

/* Stop and free what a script has under way. */
void tm_api_clock_close(struct tm_script *script);
void tm_api_clock_drain(struct tm_script *script);
void tm_api_http_close(struct tm_script *script);
void tm_api_sql_close(struct tm_script *script);
void tm_api_secret_close(struct tm_script *script);

/* api_alert.c: the alerts of this script are the ones that count from now on, and it hears of them; and no longer. */
int tm_api_alert_start(struct tm_script *script, struct tm_error *err) TM_MUST_CHECK;
void tm_api_alert_close(struct tm_script *script);
/* {type, name, state, severity, value?, summary, since, repeated, silenced, labels, description?, runbook?} */
void tm_api_push_alert(lua_State *L, const struct tm_alert_view *a);

/* End the wait of a parked task (host.park) with true; false: it is not parked. And: forget the timer of a task that was
 * killed (api_clock.c). */
bool tm_api_clock_wake(struct tm_script *script, tm_task_handle task);
void tm_api_clock_forget(struct tm_script *script, tm_task_handle task);

/* Part 0 (rows of the kind's stream) or 1 (not understood) of a batch that `decode` returned; false: it is empty. */
bool tm_api_batch(lua_State *L, int index, int part, const struct tm_stream **stream, const struct tm_buf **rows);

/* The registry named at that index of a function's arguments, or a Lua error (api_registry.c). */
struct tm_service_registry *tm_api_check_registry(lua_State *L, int index);

#endif
