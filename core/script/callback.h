/*
 * Callbacks: how the functions of a script fare. A callback is known by its name, which says what it is and where it stands
 * ("tm.on gap at g.lua:12"); every task that runs under a name counts for it.
 *
 *     enabled --`limit` failures in a row--> disabled --a new generation of the script--> enabled
 *
 * Handlers of events and timers that repeat have a limit (what runs once is a new thing each time); a disabled one is not run any more (skipped is counted), which is
 * logged once, shown in tidemill_callbacks_disabled and in `tidemill status`. Tasks and routines are counted only.
 * At most TM_CALLBACKS_MAX names; what comes beyond is counted in the metrics alone. The policy thread's.
 */
#ifndef TM_SCRIPT_CALLBACK_H
#define TM_SCRIPT_CALLBACK_H

#include "base/error.h"
#include "engine/metrics.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TM_CALLBACKS_MAX 1000
#define TM_CALLBACK_NAME_MAX 256
#define TM_CALLBACK_FAILURES 10 /* in a row, unless the script says otherwise */

enum tm_callback_kind { TM_CALLBACK_EVENT, TM_CALLBACK_TIMER, TM_CALLBACK_ROUTINE, TM_CALLBACK_TASK };
#define TM_CALLBACK_KINDS 4
const char *tm_callback_kind_name(enum tm_callback_kind kind);
int tm_callback_kind_parse(const char *name, enum tm_callback_kind *out) TM_MUST_CHECK;

struct tm_callback {
    struct tm_callback *next, *next_in_bucket;
    enum tm_callback_kind kind;
    uint64_t runs, failures, skipped;
    uint32_t streak; /* failures since the last run that ended well */
    uint32_t limit;  /* 0: never disabled */
    bool disabled;
    char last_error[256];
    char name[TM_CALLBACK_NAME_MAX];
};

#define TM_CALLBACK_BUCKETS 256

struct tm_callbacks {
    struct tm_callback *first, *last; /* in the order of making */
    struct tm_callback *buckets[TM_CALLBACK_BUCKETS];
    size_t count, disabled;
    struct tm_metric *failed[TM_CALLBACK_KINDS], *disabled_gauge; /* NULL before run time */
};

/* Run time begins; the gauge starts from zero with each generation. */
void tm_callbacks_start(struct tm_callbacks *c, struct tm_metrics *metrics);
void tm_callbacks_fini(struct tm_callbacks *c);

/* Find or make; a new one is a task. NULL when there are too many (or memory is out). */
struct tm_callback *tm_callback_get(struct tm_callbacks *c, const char *name);

/* Whether it may run now; counts what is left out. NULL may. */
bool tm_callback_may_run(struct tm_callback *callback);

/* A run has ended: well (err NULL) or with an error. */
void tm_callback_note(struct tm_callbacks *c, struct tm_callback *callback, const struct tm_error *err);

#endif
