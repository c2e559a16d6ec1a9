/*
 * The table under the seen-set and the counter: fingerprints in the order of their hash, in one array.
 *
 *     slot = two or four words:  | hi | the upper 56 bits of lo, generation tag | payload ... |      second word 0: empty
 *
 * A key's home is hi scaled to the capacity (hi * capacity / 2^64), so any capacity will do, and growing it stretches the
 * order without changing it. Keys stand sorted by hi, each at or behind its home with no empty slot between: a look-up
 * reads on from the home until a larger hi or an empty slot, mostly within one cache line.
 *
 *     grow:    | old layout, home by the old capacity | gap | new layout              |   the pass moves down
 *     shrink:  | new layout        | gap | old layout, home by the old capacity       |   the pass moves up
 *                                  ^ boundary: a value of hi, on either side of which another capacity counts
 *
 * A pass of small steps, driven by insertions, takes the table from one layout to the next (of another or of the same
 * size) and leaves out dead keys on the way. There is no other rehashing, no page and no pointer: no stall at any size,
 * one cache miss a look-up, and never two copies of anything. Filled to 75 % (to 80 % when memory allows no more), then
 * stretched to 53 %: 20 to 30 bytes a key with two words, in the middle of growing too.
 *
 * The array is address space reserved for the memory bound, of which only what is used is ever touched; what a shrinking
 * pass leaves behind goes back to the kernel in small pieces, and what a growing pass comes to is asked for in small
 * pieces ahead of it. Huge pages would take a tenth off a look-up, but making one is a pause of its own: the kernel clears
 * 2 MiB, or moves other memory out of the way, or a hypervisor has to find them. One thread.
 */
#ifndef TM_DEDUP_TABLE_H
#define TM_DEDUP_TABLE_H

#include "base/error.h"
#include "base/hash.h"
#include "dedup/ages.h"

#include <stdbool.h>
#include <stddef.h>

struct tm_table {
    uint64_t *words;
    unsigned width;                       /* words in a slot: 2 or 4 */
    uint64_t boundary, cap_low, cap_high; /* below the boundary cap_low counts, above it cap_high */
    enum { TM_PASS_NONE, TM_PASS_GROW, TM_PASS_SHRINK } pass;
    uint64_t pass_from, pass_at; /* the old capacity; the next slot of it that the pass comes to */
    uint64_t slots_max;          /* capacity allowed by the memory bound */
    uint64_t slots_touched;      /* slots that may hold memory */
    size_t reserved_bytes;
    size_t fresh_begin, fresh_end; /* bytes of the array that a pass will need and that have no pages yet */
    unsigned turn;                 /* insertions since the last step */
    uint64_t *scratch;
    struct tm_ages ages;
};

/* TM_EINVAL when the bound is below tm_table_bytes_min, TM_ENOMEM. memory_bytes_max counts everything but *t. */
int tm_table_init(struct tm_table *t, unsigned width, int64_t window_us, size_t memory_bytes_max) TM_MUST_CHECK;
void tm_table_fini(struct tm_table *t);
size_t tm_table_bytes_min(unsigned width);

/* New bounds. A smaller memory bound is reached step by step, as keys are added. */
void tm_table_configure(struct tm_table *t, int64_t window_us, size_t memory_bytes_max);
void tm_table_clear(struct tm_table *t);

/* The slot of this fingerprint, added if it was not there; *is_new says which. The payload of a new one is not set.
 * NULL: it could not be kept (counted as evicted). */
uint64_t *tm_table_put(struct tm_table *t, struct tm_fp fp, int64_t now_us, bool *is_new);

/* Time goes on, and one step of work is done. */
void tm_table_advance(struct tm_table *t, int64_t now_us);

uint64_t tm_table_memory(const struct tm_table *t);

static inline uint64_t *tm_table_home(const struct tm_table *t, uint64_t hi)
{
    uint64_t cap = hi < t->boundary ? t->cap_low : t->cap_high;
    return t->words + (uint64_t)(((unsigned __int128)hi * cap) >> 64) * t->width;
}

static inline void tm_table_prefetch(const struct tm_table *t, struct tm_fp fp)
{
    const uint64_t *home = tm_table_home(t, fp.hi);
    __builtin_prefetch(home, 1);
    __builtin_prefetch(home + 4, 1); /* many a search ends in the next line */
    __asm__ volatile(""); /* gcc takes a function that only prefetches for one without effect, and drops the call */
}

/*
 * The first slot from the home on that is empty, holds this fingerprint, or a hash behind it. As little as can be hangs on
 * what memory answers: a processor that need not wait with the next look-up for this one's answer asks for many at once.
 */
static inline uint64_t *tm_table_seek(const struct tm_table *t, struct tm_fp fp)
{
    uint64_t *slot = tm_table_home(t, fp.hi);
    while (slot[0] < fp.hi && slot[1])
        slot += t->width;
    while (__builtin_expect(slot[0] == fp.hi && slot[1] && (slot[1] ^ fp.lo) >> 8, 0)) /* another one of this hi */
        slot += t->width;
    return slot;
}

static inline bool tm_table_holds(const uint64_t *slot, struct tm_fp fp)
{
    return slot[1] && slot[0] == fp.hi && (slot[1] ^ fp.lo) >> 8 == 0;
}

static inline bool tm_table_contains(const struct tm_table *t, struct tm_fp fp)
{
    const uint64_t *slot = tm_table_seek(t, fp);
    return tm_table_holds(slot, fp) && !t->ages.dead[slot[1] & 0xff];
}

#endif
