/*
 * Policy: the running script, the older generations of it that are being drained, and the reload from one to the next.
 *
 *     tm_policy_create   takes over a loaded script as generation 1
 *     tm_policy_start    the engine is in the services: begin, and take the gatherer's events
 *     tm_policy_reload   generation N+1, in this order:
 *
 *         load the files anew into a fresh VM and check them as start would        |
 *         the script's own tests                                                   |  whatever fails here
 *         what cannot change while it runs: id, data, addresses, journal sizes     |  leaves N untouched
 *         the engine's check                                                       |
 *         state of N -> N+1                                                        |
 *         ---- the swap, between two turns of the loop ----
 *         the engine takes what changed, N+1 begins (if it cannot, the engine goes back to N), N is drained
 *         ---- afterwards ----
 *         events go to N+1, once its handlers of "start" have run their first step
 *         links that N+1 has not opened by then are closed; while a handler of "start" still waits they have `grace_us`
 *         N is closed when nothing of it is left, after `drain_us` in any case, unless tasks of it are kept (recovery
 *         routines); of three generations that are drained the oldest is closed when a fourth comes
 *
 * Loading is bounded: a reload may use ten times the CPU time that loading the running generation took, at least 50 ms
 * and at most 2 s, so an endless loop in a new file is rejected quickly and N goes on.
 *
 * Paths are resolved once: the script's (as given to create, absolute) and the data directory (against the directory in
 * which the process was at create). Every file is read whole; a file that changes while it is read is found out by its
 * syntax or by its next reload, never by a script that is half one and half the other: nothing is read after the load.
 *
 * All on the policy thread, and not from inside of a script's step.
 */
#ifndef TM_SCRIPT_POLICY_H
#define TM_SCRIPT_POLICY_H

#include "script/script.h"

#define TM_POLICY_DRAINING_MAX 3

struct tm_policy;

struct tm_policy_options {
    const char *path;             /* of the script, absolute */
    const char *library;          /* NULL: tm_script_library() */
    struct tm_services *services; /* loop and metrics are there, the rest before tm_policy_start */
    int (*run_tests)(struct tm_script *script, struct tm_problems *problems); /* 0: all passed; NULL: there are none */
    int64_t drain_us, grace_us;                                               /* 0: 60 s, 10 s */
};

/* `script` is loaded without problems; it is the policy's from now on, whatever is returned. */
int tm_policy_create(const struct tm_policy_options *options, struct tm_script *script, struct tm_policy **out,
                     struct tm_error *err) TM_MUST_CHECK;
void tm_policy_destroy(struct tm_policy *p); /* closes all generations; NULL is fine */

int tm_policy_start(struct tm_policy *p, struct tm_error *err) TM_MUST_CHECK;

/* The running generation; what is borrowed from it holds until the next reload. */
struct tm_script *tm_policy_script(struct tm_policy *p);
struct tm_config *tm_policy_config(struct tm_policy *p);

/* An event from elsewhere than the gatherer, to the running generation (and to kept tasks of older ones). One of a link
 * that the running generation has not opened is dropped. */
void tm_policy_event(struct tm_policy *p, const struct tm_event *event);

struct tm_policy_report {
    struct tm_arena *arena;
    uint64_t generation; /* that runs now */
    int64_t duration_us;
    const char *const *changes; /* lines for people; none: nothing changed */
    size_t change_count;
    struct tm_problems problems; /* why the script was rejected; none although it failed: see err */
    struct tm_error err;
};

/* Logged and counted here. `report` is filled in any case; give it back with tm_policy_report_fini. */
int tm_policy_reload(struct tm_policy *p, struct tm_policy_report *report) TM_MUST_CHECK;
void tm_policy_report_fini(struct tm_policy_report *report);

/* What the configuration of the running generation says of the plan has changed by hand: the engine takes it now, as at a
 * reload. Nothing has changed when it fails. May be called from a step of the script. */
int tm_policy_apply(struct tm_script *script, struct tm_error *err) TM_MUST_CHECK;

struct tm_policy_status {
    uint64_t generation, succeeded, failed; /* reloads */
    int64_t last_us;                        /* Unix time of the last reload; 0: none yet */
    int64_t last_duration_us;
    bool last_ok;
    const char *last_error; /* of the last reload that failed; "": none */
    size_t draining;
};
struct tm_policy_status tm_policy_status(const struct tm_policy *p);

#endif
