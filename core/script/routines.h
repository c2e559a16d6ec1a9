/*
 * Recovery runs: which routine works on which subject, what waits, what became of it (DESIGN 7, "Scripted recovery").
 * A table without Lua, because it outlives a generation of the script: the old one's runs go on while the new one has
 * taken over, and neither may start a second run of the same routine on the same subject.
 *
 *     offer -> WAITING --next--> RUNNING --end--> recent
 *                 ^                 |
 *                 +--- abandon -----+      (its generation is gone; it starts again, with what it saved)
 *
 * Single flight is per (routine, subject). What is offered while that pair waits replaces the fields of what waits; what
 * is offered while it runs waits for one more run afterwards. Both are counted as coalesced. At most `running_max` run
 * at once; of those that wait the smallest priority number starts first, then the oldest. When `waiting_max` wait, the
 * least urgent is dropped, with a log line and a count.
 *
 * Strings are copied. One thread (policy); time is a parameter: mono for delays, wall for what is shown.
 */
#ifndef TM_SCRIPT_ROUTINES_H
#define TM_SCRIPT_ROUTINES_H

#include "base/buf.h"
#include "engine/metrics.h"

#include <stdbool.h>
#include <stdint.h>

#define TM_RUN_STEPS_MAX 24 /* kept of each run: the newest */

struct tm_routines;

struct tm_run_offer {
    const char *routine, *subject, *event;
    const char *fields; /* JSON of the event */
    const char *saved;  /* what an earlier try saved; NULL */
    int priority;
    bool dry;
    uint32_t attempt;      /* 0: the first */
    int64_t not_before_us; /* monotonic; 0: at once */
};

/* What starts; borrowed until it ends. */
struct tm_run {
    uint64_t id;
    char uuid[37];
    const char *routine, *subject, *event, *fields, *saved;
    int priority;
    bool dry, cancelled;
    uint32_t attempt;
    int64_t started_us; /* Unix */
};

enum tm_run_offered { TM_RUN_QUEUED, TM_RUN_COALESCED, TM_RUN_DROPPED };

struct tm_routines *tm_routines_create(struct tm_metrics *metrics);
void tm_routines_destroy(struct tm_routines *r); /* NULL is fine */

/* The generation that starts runs from now on. Zeros: 4 and 200. */
void tm_routines_open(struct tm_routines *r, const void *owner, size_t running_max, size_t waiting_max);

enum tm_run_offered tm_routines_offer(struct tm_routines *r, const struct tm_run_offer *offer, int64_t wall_us);

/* The fields of what waits for the pair, or NULL; taking them away makes it wait no longer (`take`: the caller frees). */
const char *tm_routines_pending(const struct tm_routines *r, const char *routine, const char *subject);
char *tm_routines_take(struct tm_routines *r, const char *routine, const char *subject);

/* The most urgent that may start; NULL: none, or `owner` is not the generation that may. Then start it. */
const struct tm_run *tm_routines_next(const struct tm_routines *r, const void *owner, int64_t now_us);
void tm_routines_start(struct tm_routines *r, uint64_t id, const void *owner, int64_t wall_us);

/* A run under way, or NULL. */
const struct tm_run *tm_routines_find(const struct tm_routines *r, uint64_t id);
void tm_routines_step(struct tm_routines *r, uint64_t id, const char *text, int64_t wall_us);
void tm_routines_save(struct tm_routines *r, uint64_t id, const char *saved);
/* `result` is one of "done", "failed", "timeout", "cancelled"; `error` may be NULL. */
void tm_routines_end(struct tm_routines *r, uint64_t id, const char *result, const char *error, int64_t wall_us);

/* What waits is taken away, what runs is told so. How many there were. `subject` NULL: all subjects. */
size_t tm_routines_cancel(struct tm_routines *r, const char *routine, const char *subject);

/* The generation is gone: its runs wait again, with what they saved. */
void tm_routines_abandon(struct tm_routines *r, const void *owner, int64_t wall_us);

size_t tm_routines_running(const struct tm_routines *r);
size_t tm_routines_waiting(const struct tm_routines *r);

/* {"running":[..],"waiting":[..],"recent":[..],"coalesced":n,"dropped":n} */
int tm_routines_status(const struct tm_routines *r, struct tm_buf *out) TM_MUST_CHECK;

#endif
