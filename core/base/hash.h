/*
 * Hashes. XXH3 does the work; this header fixes how it is keyed.
 *
 * A fingerprint stands for a record's key in the seen-set, where an accidental match is a lost record. It is 128 bits
 * of XXH3 under a 192-byte secret drawn from getrandom() at start, so a hostile feed, which never sees the secret,
 * cannot construct two keys that match. The odds of an accident are worked out beside the constant in dedup/seen.h.
 * Fingerprints are private to a process and never stored.
 */
#ifndef TM_BASE_HASH_H
#define TM_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

struct tm_fp {
    uint64_t lo, hi;
};

struct tm_hash_key {
    unsigned char secret[192];
};

/* Draw a fresh key; aborts if the kernel has no randomness. */
void tm_hash_key_init(struct tm_hash_key *key);

struct tm_fp tm_hash_fp(const struct tm_hash_key *key, const void *bytes, size_t len);

/* The fingerprint of (key, occurrence): the same for 0, unrelated for each further one. */
static inline struct tm_fp tm_fp_occurrence(struct tm_fp fp, uint32_t occurrence)
{
    fp.lo += occurrence * UINT64_C(0x9e3779b97f4a7c15);
    fp.hi ^= occurrence * UINT64_C(0xc2b2ae3d27d4eb4f);
    return fp;
}

/* Unkeyed and stable for ever: shards of the ticker's hash, running hashes of a stream's history. */
uint64_t tm_hash64(const void *bytes, size_t len, uint64_t seed);

/* Bytes from the kernel's random source; aborts if there are none. */
void tm_random_bytes(void *out, size_t len);

/* A random number in [0, 1), for jitter. */
double tm_random_unit(void);

#endif
