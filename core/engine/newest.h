/*
 * The newest exchange time taken of each stream, by name: what the rule for new keys asks (record/keys.h). Lives as long as
 * the process takes records of the stream, over all plans. A few hundred names; what comes beyond them shares one entry,
 * which then says less.
 *
 * One thread adds and notes; any reads.
 */
#ifndef TM_ENGINE_NEWEST_H
#define TM_ENGINE_NEWEST_H

#include "record/plan.h"

#include <stdatomic.h>

#define TM_NEWEST_MAX (TM_STREAMS_MAX * 4)

struct tm_newest {
    struct tm_newest_entry {
        char name[64];
        _Atomic int64_t us;
    } entries[TM_NEWEST_MAX];
    _Atomic size_t count;
};

/* The entry of a stream, made when there is none: nothing was taken of it. Stays where it is. */
_Atomic int64_t *tm_newest_entry(struct tm_newest *n, const char *stream);

/* Something was taken: at the exchange time `us`, or, 0 and less, of no known time. */
void tm_newest_note(_Atomic int64_t *entry, int64_t us);

/* INT64_MIN: nothing was taken; 0: something of no known time; else Unix microseconds. */
int64_t tm_newest_get(const struct tm_newest *n, const char *stream);

/* tm_newest_get for all streams of a plan, by index. */
void tm_newest_of_plan(const struct tm_newest *n, const struct tm_plan *plan, int64_t out[TM_STREAMS_MAX]);

#endif
