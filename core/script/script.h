/*
 * A script: one generation of policy, from its file to its end.
 *
 *     tm_script_load    declare time: a fresh VM runs the file under a budget; what it declared is read and verified as
 *                       start would (script/config.h). No side effects. `tidemill check` is this and nothing more.
 *     tm_script_start   run time: the timers are started and the handlers of "start" are spawned
 *     tm_script_event   an event of the gatherer is handed to its handlers
 *     tm_script_destroy pending requests and timers are forgotten; coroutines die where they wait
 *
 * Handlers and timers run as coroutines, each step under a CPU budget. What fails is logged with its traceback and
 * counted in tidemill_script_errors_total; it never ends the process. All on the policy thread.
 */
#ifndef TM_SCRIPT_SCRIPT_H
#define TM_SCRIPT_SCRIPT_H

#include "script/config.h"
#include "script/services.h"

#define TM_SCRIPT_LOAD_CPU_US INT64_C(2000000)
#define TM_SCRIPT_STEP_CPU_US INT64_C(1000000)

struct tm_script;

struct tm_script_options {
    const char *path;
    const char *library;     /* directory of the Lua library; NULL: tm_script_library() */
    int64_t load_cpu_us;     /* 0: TM_SCRIPT_LOAD_CPU_US */
    size_t memory_bytes_max; /* 0: the VM's default */
};

/*
 * TM_OK, or TM_EINVAL when there are problems. The script comes out in both cases unless memory is out (then NULL);
 * `problems->arena` must be set and outlive `problems`.
 */
int tm_script_load(const struct tm_script_options *options, struct tm_problems *problems,
                   struct tm_script **out) TM_MUST_CHECK;
void tm_script_destroy(struct tm_script *script); /* NULL is fine */

struct tm_config *tm_script_config(struct tm_script *script);
size_t tm_script_memory(const struct tm_script *script);

int tm_script_start(struct tm_script *script, struct tm_services *services, struct tm_error *err) TM_MUST_CHECK;
void tm_script_event(struct tm_script *script, const struct tm_event *event);
void tm_script_watch(struct tm_script *script, const struct tm_watch_event *event); /* likewise: script/raise.c */

/* The Lua directory: $TIDEMILL_LUA, else ../share/tidemill/lua beside the executable, else the build's own. */
const char *tm_script_library(void);

#endif
