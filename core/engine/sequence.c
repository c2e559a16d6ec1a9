#include "engine/sequence.h"

#include <string.h>

void tm_sequence_init(struct tm_sequence *s, int64_t start)
{
    memset(s, 0, sizeof *s);
    s->start = start;
}

static struct tm_sequence_subscription *find(struct tm_sequence *s, int64_t sid)
{
    for (size_t i = 0; i < s->subscription_count; i++)
        if (s->subscriptions[i].sid == sid)
            return &s->subscriptions[i];
    return NULL;
}

/* A new subscription, as if the number before its first had just come. NULL when there are too many. */
static struct tm_sequence_subscription *add(struct tm_sequence *s, int64_t sid, int64_t number)
{
    if (s->subscription_count == TM_SEQUENCE_SUBSCRIPTIONS_MAX)
        return NULL;
    struct tm_sequence_subscription *sub = &s->subscriptions[s->subscription_count++];
    sub->sid = sid;
    sub->last = (s->start ? s->start : number) - 1;
    return sub;
}

static void remove_hole(struct tm_sequence *s, size_t index)
{
    s->hole_count--;
    memmove(&s->holes[index], &s->holes[index + 1], (s->hole_count - index) * sizeof *s->holes);
}

static void add_hole(struct tm_sequence *s, struct tm_sequence_hole hole)
{
    if (s->hole_count == TM_SEQUENCE_HOLES_MAX)
        remove_hole(s, 0);
    s->holes[s->hole_count++] = hole;
}

static bool gap_is_open(const struct tm_sequence *s, uint64_t gap)
{
    for (size_t i = 0; i < s->hole_count; i++)
        if (s->holes[i].gap == gap)
            return true;
    return false;
}

/* Take `number` out of hole `index`, which holds it; in the middle it leaves two holes of the same gap. */
static void fill(struct tm_sequence *s, size_t index, int64_t number)
{
    struct tm_sequence_hole *hole = &s->holes[index];
    struct tm_sequence_hole rest = *hole;
    rest.first = number + 1;
    hole->last = number - 1;
    bool low = hole->first <= hole->last, high = rest.first <= rest.last;
    if (low && high)
        add_hole(s, rest);
    else if (high)
        *hole = rest;
    else if (!low)
        remove_hole(s, index);
}

static void remove_holes_of(struct tm_sequence *s, int64_t sid)
{
    for (size_t i = s->hole_count; i-- > 0;)
        if (s->holes[i].sid == sid)
            remove_hole(s, i);
}

static void remember(struct tm_sequence *s, uint64_t digest)
{
    s->recent[s->recent_count++ % TM_SEQUENCE_RECENT] = digest;
}

static bool is_recent(const struct tm_sequence *s, uint64_t digest)
{
    size_t count = s->recent_count < TM_SEQUENCE_RECENT ? s->recent_count : TM_SEQUENCE_RECENT;
    for (size_t i = 0; i < count; i++)
        if (s->recent[i] == digest)
            return true;
    return false;
}

/* The hole that this number is missing in; NULL: none. */
static struct tm_sequence_hole *hole_of(struct tm_sequence *s, int64_t sid, int64_t number)
{
    for (size_t i = 0; i < s->hole_count; i++) {
        struct tm_sequence_hole *hole = &s->holes[i];
        if (hole->sid == sid && number >= hole->first && number <= hole->last)
            return hole;
    }
    return NULL;
}

static struct tm_sequence_result back(int64_t expected, int64_t number)
{
    return (struct tm_sequence_result){.verdict = TM_SEQUENCE_BACK, .first = expected, .last = number};
}

/* A number that is not beyond the last. */
static struct tm_sequence_result check_old(struct tm_sequence *s, struct tm_sequence_subscription *sub, int64_t number,
                                           uint64_t digest)
{
    struct tm_sequence_hole *hole = hole_of(s, sub->sid, number);
    if (hole) {
        struct tm_sequence_result r = {.verdict = TM_SEQUENCE_LATE, .gap = hole->gap};
        fill(s, (size_t)(hole - s->holes), number);
        r.filled = !gap_is_open(s, r.gap);
        return r;
    }
    if (is_recent(s, digest))
        return (struct tm_sequence_result){.verdict = TM_SEQUENCE_REPEATED};
    struct tm_sequence_result r = back(sub->last + 1, number);
    remove_holes_of(s, sub->sid);
    sub->last = number;
    return r;
}

static struct tm_sequence_result check_new(struct tm_sequence *s, struct tm_sequence_subscription *sub, int64_t number)
{
    struct tm_sequence_result r = {.verdict = TM_SEQUENCE_NEXT};
    if (number > sub->last + 1) {
        r = (struct tm_sequence_result){
            .verdict = TM_SEQUENCE_GAP, .gap = ++s->gaps, .first = sub->last + 1, .last = number - 1};
        add_hole(s, (struct tm_sequence_hole){.sid = sub->sid, .first = r.first, .last = r.last, .gap = r.gap});
    }
    sub->last = number;
    return r;
}

struct tm_sequence_result tm_sequence_check(struct tm_sequence *s, int64_t sid, int64_t number, uint64_t digest)
{
    struct tm_sequence_subscription *sub = find(s, sid);
    if (number < 0 || number > TM_SEQUENCE_MAX)
        return back(sub ? sub->last + 1 : s->start, number);
    if (!sub)
        sub = add(s, sid, number);
    if (!sub)
        return (struct tm_sequence_result){.verdict = TM_SEQUENCE_NEXT};
    struct tm_sequence_result r = number <= sub->last ? check_old(s, sub, number, digest) : check_new(s, sub, number);
    if (r.verdict != TM_SEQUENCE_REPEATED)
        remember(s, digest);
    return r;
}

void tm_sequence_forget(struct tm_sequence *s, int64_t sid)
{
    struct tm_sequence_subscription *sub = find(s, sid);
    if (!sub)
        return;
    *sub = s->subscriptions[--s->subscription_count];
    remove_holes_of(s, sid);
}

void tm_sequence_reset(struct tm_sequence *s)
{
    s->subscription_count = 0;
    s->hole_count = 0;
    s->recent_count = 0;
}
