/*
 * Occurrence counting: how often has this connection seen this key? (DESIGN 4, FAILURES T9)
 *
 * Real deltas repeat within a microsecond, so the number of the repeat (0, 1, 2, ...) is part of a counted key. The
 * count is per connection: two connections that both hear an event must number it alike. A key counts on while its last
 * sighting is younger than `window_us` exactly (every gatherer must decide alike), and starts again at 0 after. Memory
 * follows the keys of the window and is given back as they expire; at memory_bytes_max the oldest are forgotten,
 * counted in `evicted_early`. Time is a parameter. One thread.
 */
#ifndef TM_DEDUP_COUNTER_H
#define TM_DEDUP_COUNTER_H

#include "base/error.h"
#include "base/hash.h"

struct tm_counter;

/* memory_bytes_max 0: 64 MiB; at least 224 KiB, TM_EINVAL below. 40 to 60 bytes a key. */
int tm_counter_create(int64_t window_us, size_t memory_bytes_max, struct tm_counter **out) TM_MUST_CHECK;
void tm_counter_destroy(struct tm_counter *c);

/* The number of this sighting, from 0, capped at 32767 (the column is int2; more is a fault counted by the caller). */
uint32_t tm_counter_next(struct tm_counter *c, struct tm_fp fp, int64_t now_us);

void tm_counter_prefetch(const struct tm_counter *c, struct tm_fp fp);

uint64_t tm_counter_keys(const struct tm_counter *c);
uint64_t tm_counter_memory(const struct tm_counter *c);
uint64_t tm_counter_evicted_early(const struct tm_counter *c);

#endif
