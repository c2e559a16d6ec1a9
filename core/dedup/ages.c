#include "dedup/ages.h"

#include <string.h>

#define WINDOW_PARTS 128
#define MEMORY_PARTS 64
#define FRESH_PART 16

static uint8_t next_tag(uint8_t tag)
{
    return tag == 255 ? 1 : (uint8_t)(tag + 1);
}

void tm_ages_init(struct tm_ages *a, int64_t window_us, uint64_t keys_max)
{
    memset(a, 0, sizeof *a);
    memset(a->dead, 1, sizeof a->dead);
    memset(a->stale, 1, sizeof a->stale);
    a->oldest = a->now = a->fresh = 1;
    a->dead[1] = a->stale[1] = 0;
    a->now_us = a->opened_us = INT64_MIN;
    tm_ages_configure(a, window_us, keys_max);
}

void tm_ages_configure(struct tm_ages *a, int64_t window_us, uint64_t keys_max)
{
    a->window_us = window_us;
    a->fresh_us = window_us / FRESH_PART;
    a->kept_us = window_us > INT64_MAX - a->fresh_us ? INT64_MAX : window_us + a->fresh_us;
    a->share_max = keys_max / MEMORY_PARTS + 1;
}

/* Is `us` more than `span_us` before now? Written so that no clock can make it overflow. */
static bool is_past(const struct tm_ages *a, int64_t us, int64_t span_us)
{
    return us < a->now_us && (uint64_t)a->now_us - (uint64_t)us > (uint64_t)span_us;
}

static void outdate_oldest(struct tm_ages *a)
{
    a->stale[a->fresh] = 1;
    a->fresh = next_tag(a->fresh);
}

static uint64_t bury_oldest(struct tm_ages *a)
{
    uint64_t keys = a->count[a->oldest];
    if (a->fresh == a->oldest)
        outdate_oldest(a);
    a->dead[a->oldest] = 1;
    a->live -= keys;
    a->unswept += keys;
    a->oldest = next_tag(a->oldest);
    return keys;
}

static void open_next(struct tm_ages *a)
{
    uint8_t tag = next_tag(a->now);
    a->blocked = a->dead[tag] && a->count[tag];
    if (a->blocked || tag == a->oldest)
        return;
    a->now = tag;
    a->dead[tag] = a->stale[tag] = 0;
    a->opened_us = a->last_us[tag] = a->now_us;
}

static void begin_when_due(struct tm_ages *a)
{
    if (a->count[a->now] == 0)
        a->opened_us = a->now_us;
    else if (a->count[a->now] >= a->share_max || is_past(a, a->opened_us, a->window_us / WINDOW_PARTS))
        open_next(a);
}

void tm_ages_advance_to(struct tm_ages *a, int64_t now_us)
{
    if (now_us > a->now_us)
        a->now_us = now_us;
    begin_when_due(a);
    while (a->fresh != a->now && is_past(a, a->last_us[a->fresh], a->fresh_us))
        outdate_oldest(a);
    a->stale[a->now] = is_past(a, a->last_us[a->now], a->fresh_us); /* one that is blocked may go on for long */
    while (a->oldest != a->now && is_past(a, a->last_us[a->oldest], a->kept_us))
        a->expired += bury_oldest(a);
}

void tm_ages_evict(struct tm_ages *a, uint64_t keys)
{
    open_next(a); /* so that the present one, if it is all there is, can go */
    while (a->oldest != a->now && a->unswept < keys)
        a->evicted += bury_oldest(a);
}

void tm_ages_swept(struct tm_ages *a, uint8_t tag)
{
    a->count[tag]--;
    if (a->dead[tag])
        a->unswept--;
    else
        a->live--;
}
