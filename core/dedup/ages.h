/*
 * Generations: when was each key last added, to within 1/14 of the window, at the cost of one byte a key.
 *
 *        dead, not yet swept      live
 *     ...------------------|oldest-------------------now|  free tags ...
 *
 * A generation is a tag (1..255) given to the keys added during 1/128 of the window, or to a 1/64 part of what memory
 * can hold, whichever is over first. It dies as a whole: when its last addition is older than the window and 1/16 of it,
 * or, oldest first, when memory is short. A key that is added again stays in its generation for that 1/16, and moves to
 * the present one after it. Keys of a dead generation count as absent at once; their slots are swept later, and until then
 * the tag cannot be used again. When no tag is free the present generation goes on until one is (`blocked` asks for
 * sweeping), so keys are then kept a little longer; never shorter. One thread.
 */
#ifndef TM_DEDUP_AGES_H
#define TM_DEDUP_AGES_H

#include <stdbool.h>
#include <stdint.h>

struct tm_ages {
    int64_t window_us, now_us;
    int64_t fresh_us;          /* a generation is stale when it is older ... */
    int64_t kept_us;           /* ... and is kept for so much longer than the window */
    int64_t opened_us;         /* when the present generation began */
    uint64_t share_max;        /* keys in one generation */
    uint64_t count[256];       /* keys by tag, live or dead */
    int64_t last_us[256];      /* the last addition to it */
    uint8_t dead[256];         /* by tag: 1 when its keys count as absent */
    uint8_t stale[256];        /* by tag: 1 when a key that is added again has to leave it; so are the dead */
    bool blocked;              /* a new generation is due, but its tag is still in use */
    uint8_t oldest, now;       /* tags of the oldest live and the present generation */
    uint8_t fresh;             /* of the oldest that is not stale */
    uint64_t live, unswept;    /* keys */
    uint64_t expired, evicted; /* keys that died of age, of want of memory */
};

void tm_ages_init(struct tm_ages *a, int64_t window_us, uint64_t keys_max);
void tm_ages_configure(struct tm_ages *a, int64_t window_us, uint64_t keys_max);

/* Time goes on: bury what is older than the window, begin a new generation when it is due. A step back is ignored. */
void tm_ages_advance_to(struct tm_ages *a, int64_t now_us);

static inline void tm_ages_advance(struct tm_ages *a, int64_t now_us)
{
    if (now_us > a->now_us || a->blocked || a->count[a->now] >= a->share_max)
        tm_ages_advance_to(a, now_us);
}

/* Bury the oldest generations until `keys` keys are dead or only the present one lives. */
void tm_ages_evict(struct tm_ages *a, uint64_t keys);

/* A key with this tag leaves the table. */
void tm_ages_swept(struct tm_ages *a, uint8_t tag);

/* A key is added to the present generation; its tag. */
static inline uint8_t tm_ages_add(struct tm_ages *a)
{
    a->count[a->now]++;
    a->last_us[a->now] = a->now_us;
    a->live++;
    return a->now;
}

/* A key whose tag is stale is added again. Copies of a record come within seconds: most keep their tag, and what they
 * stand in need not be written. */
static inline uint8_t tm_ages_renew(struct tm_ages *a, uint8_t tag)
{
    tm_ages_swept(a, tag);
    return tm_ages_add(a);
}

#endif
