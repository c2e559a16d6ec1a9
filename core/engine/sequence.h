/*
 * Sequence numbers of one link's subscriptions: is this frame the next, after a hole, late, a repeat, or does its counter
 * begin again?
 *
 *     received   1 2 3 . . 6 7          hole {4,5} opens at 6
 *     later      4                      LATE: hole {5} is left
 *     later      5                      LATE, filled: nothing is missing any more
 *     later      6, the same bytes      REPEATED
 *     later      6, other bytes         BACK: the counter counts on from here, and what was lost nobody knows
 *
 * Each subscription id (0 where the protocol has none) has a counter of its own that every kind of frame
 * consumes, acknowledgements too (kalshi.md 5.0). Holes are remembered, at most TM_SEQUENCE_HOLES_MAX a link,
 * the oldest are given up, so that reordered frames can fill them. A number that was there before is no reason to drop a
 * frame: only the frame itself is, one of the last TM_SEQUENCE_RECENT of the link. Knows nothing of time. One thread.
 */
#ifndef TM_ENGINE_SEQUENCE_H
#define TM_ENGINE_SEQUENCE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TM_SEQUENCE_SUBSCRIPTIONS_MAX 256
#define TM_SEQUENCE_HOLES_MAX 64
#define TM_SEQUENCE_RECENT 256
#define TM_SEQUENCE_MAX (INT64_C(1) << 62) /* no exchange counts so far: whatever is more, or negative, is no number */

enum tm_sequence_verdict {
    TM_SEQUENCE_NEXT,
    TM_SEQUENCE_GAP,
    TM_SEQUENCE_LATE,
    TM_SEQUENCE_REPEATED,
    TM_SEQUENCE_BACK
};

struct tm_sequence_result {
    enum tm_sequence_verdict verdict;
    uint64_t gap;        /* GAP: the number of the new hole; LATE: of the hole it was in */
    int64_t first, last; /* GAP: the missing numbers, inclusive; BACK: what was expected, what came */
    bool filled;         /* LATE: it was the last one missing of that gap */
};

struct tm_sequence_subscription {
    int64_t sid, last;
};

struct tm_sequence_hole {
    int64_t sid, first, last;
    uint64_t gap;
};

struct tm_sequence {
    int64_t start; /* the number a subscription begins with; 0: whatever comes first */
    uint64_t gaps; /* given out so far */
    size_t subscription_count, hole_count;
    struct tm_sequence_subscription subscriptions[TM_SEQUENCE_SUBSCRIPTIONS_MAX];
    struct tm_sequence_hole holes[TM_SEQUENCE_HOLES_MAX];
    uint64_t recent[TM_SEQUENCE_RECENT]; /* digests of the last frames, whichever subscription's, in a ring */
    size_t recent_count;
};

void tm_sequence_init(struct tm_sequence *s, int64_t start);

/* `digest` is a hash of the whole frame. A subscription beyond the maximum is not checked: always NEXT. */
struct tm_sequence_result tm_sequence_check(struct tm_sequence *s, int64_t sid, int64_t number, uint64_t digest);

void tm_sequence_forget(struct tm_sequence *s, int64_t sid); /* the subscription ended */
void tm_sequence_reset(struct tm_sequence *s);               /* the connection ended: all do */

#endif
