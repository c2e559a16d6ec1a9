/*
 * The seen-set: has this fingerprint been seen within the window? The hot path of deduplication.
 *
 * A set of 128-bit keyed fingerprints (base/hash.h) in one open-addressing array that is kept in the order of the hash
 * and grows, shrinks and drops what is too old in small steps as keys are added (table.h): no stall at any size, 16 bytes
 * a slot, 20 to 30 bytes a key and 100 KiB. Of each fingerprint 8 bits are given up for the generation in which it was
 * last added (ages.h): a key is remembered for the window and up to a 1/14 of it longer.
 *
 * Odds: a false "seen" loses a record. 120 bits remain; with n keys in the window the chance that a new one collides is
 * n / 2^120. At 100,000 records a second and a window of a day n = 8.6e9, and a year inserts 3.2e12 records:
 * 3.2e12 * 8.6e9 / 1.3e36 = 2e-14 expected losses a year, far below the 1e-6 that DESIGN 4 asks.
 *
 * Bounds: the window and memory_bytes_max. When memory is reached the oldest generations go first and the counter
 * `evicted_early` says so; what was forgotten is caught by the store's unique index. Time is a parameter and may stand
 * still or step back (it is then held). It passes with tm_seen_add and tm_seen_advance. One thread.
 *
 * Usual order, for a batch: tm_seen_prefetch for each, then tm_seen_contains, and tm_seen_add only after the record is
 * in the journal (gatherer) or its transaction has committed (deduplicator).
 */
#ifndef TM_DEDUP_SEEN_H
#define TM_DEDUP_SEEN_H

#include "base/error.h"
#include "base/hash.h"

#include <stdbool.h>

struct tm_seen;

#define TM_SEEN_WINDOW_US (INT64_C(3600) * 1000000) /* of a stream that declares none */
#define TM_SEEN_BYTES ((size_t)256 << 20)           /* default of memory_bytes_max */
#define TM_SEEN_KEY_BYTES 30                        /* of a key, at most: see above */

struct tm_seen_options {
    int64_t window_us;
    size_t memory_bytes_max; /* 0: 256 MiB; at least 128 KiB */
};

struct tm_seen_stats {
    uint64_t keys; /* remembered now */
    uint64_t memory_bytes;
    uint64_t expired, evicted_early; /* forgotten since the start: out of the window, for want of memory */
};

/* Whether tm_seen_create would take them: TM_EINVAL. */
int tm_seen_check(const struct tm_seen_options *options, struct tm_error *err) TM_MUST_CHECK;

int tm_seen_create(const struct tm_seen_options *options, struct tm_seen **out, struct tm_error *err) TM_MUST_CHECK;
void tm_seen_destroy(struct tm_seen *s);

void tm_seen_prefetch(const struct tm_seen *s, struct tm_fp fp);
bool tm_seen_contains(const struct tm_seen *s, struct tm_fp fp);

/* Add, or renew its age; true if it was not there. Never fails: at the memory bound the oldest generations go. */
bool tm_seen_add(struct tm_seen *s, struct tm_fp fp, int64_t now_us);

/* Time passes though nothing is added, e.g. once a turn; also does a little of the sweeping. */
void tm_seen_advance(struct tm_seen *s, int64_t now_us);

/* Change the bounds of a live set (reload); nothing that is inside the new bounds is forgotten. A smaller memory bound is
 * reached within as many additions as a sixteenth of the keys. A window of 0 leaves the window, a memory bound under the
 * least is the least. */
void tm_seen_configure(struct tm_seen *s, const struct tm_seen_options *options, int64_t now_us);

/* Forget everything: production's identity changed (FAILURES T5). Takes milliseconds when it is large. */
void tm_seen_clear(struct tm_seen *s);

struct tm_seen_stats tm_seen_stats(const struct tm_seen *s);

#endif
