/*
 * A script: one generation of policy, from its file to its end.
 *
 *     tm_script_load    declare time: a fresh VM runs the file under a budget; what it declared is read and verified as
 *                       start would (script/config.h). No side effects. `tidemill check` is this and nothing more.
 *     tm_script_start   run time: the timers are started and the handlers of "start" are spawned
 *     tm_script_event   an event of the gatherer is handed to its handlers
 *     tm_script_drain   a newer generation runs (script/policy.h): see there
 *     tm_script_destroy pending requests and timers are forgotten; coroutines die where they wait
 *
 * Handlers and timers run as coroutines, each step under a CPU budget. What fails is logged with its traceback and
 * counted in tidemill_script_errors_total; it never ends the process. A handler or timer that keeps failing is disabled
 * (script/callback.h). Budgets and memory are the role's `limits` (struct tm_config_limits). All on the policy thread.
 */
#ifndef TM_SCRIPT_SCRIPT_H
#define TM_SCRIPT_SCRIPT_H

#include "script/callback.h"
#include "script/config.h"
#include "script/services.h"

#include <stdbool.h>

#define TM_SCRIPT_LOAD_CPU_US INT64_C(2000000)
#define TM_SCRIPT_STEP_CPU_US INT64_C(1000000)
#define TM_SCRIPT_CPU_US_MAX INT64_C(60000000) /* of any budget that a script sets for itself */
#define TM_SCRIPT_MEMORY_MAX (INT64_C(64) << 30)

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
const struct tm_callbacks *tm_script_callbacks(const struct tm_script *script);

int tm_script_start(struct tm_script *script, struct tm_services *services, struct tm_error *err) TM_MUST_CHECK;
void tm_script_event(struct tm_script *script, const struct tm_event *event);
void tm_script_watch(struct tm_script *script, const struct tm_watch_event *event); /* likewise: script/raise.c */

/* ---- as one generation among others: generation.c ---- */

/* Thread CPU time that loading and checking took. */
int64_t tm_script_load_cpu_us(const struct tm_script *script);

/* Whether every task spawned at the begin (handlers of "start") has run its first step; before that links that survive
 * have not been found again, so it should not be given events. `fn` is called from the loop when it comes to be. */
bool tm_script_is_settled(const struct tm_script *script);
void tm_script_on_settled(struct tm_script *script, void (*fn)(void *arg), void *arg);
/* A handler of "start" has failed: what it would have opened is not known. */
bool tm_script_start_failed(const struct tm_script *script);

/*
 * A newer generation runs: timers are cancelled, tasks that sleep end, handlers of events that came before run. Tasks
 * that wait for an answer get it and run until they sleep; opening links, spawning and setting timers is an error from
 * now on. Tasks that are kept (host.keep: recovery routines) go on to their end.
 */
void tm_script_drain(struct tm_script *script);
size_t tm_script_tasks(const struct tm_script *script); /* alive */
size_t tm_script_busy(const struct tm_script *script);  /* alive and kept */

/* An event for the kept tasks of a draining script: declared.observe(event), if the library has it. */
void tm_script_observe(struct tm_script *script, const struct tm_event *event);

/* tm.state: the text for the next generation (malloc'ed; NULL when the library keeps none), and back before the
 * start. */
int tm_script_save(struct tm_script *script, char **state, struct tm_error *err) TM_MUST_CHECK;
int tm_script_restore(struct tm_script *script, const char *state, struct tm_error *err) TM_MUST_CHECK;

/* The Lua directory, an absolute path: $TIDEMILL_LUA, else ../share/tidemill/lua beside the executable, else the
 * build's own. */
const char *tm_script_library(void);

#endif
