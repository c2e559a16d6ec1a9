/*
 * Randomness for the model: all of it comes from the seed. `tm_rng` is a stream (xoshiro256**, Blackman and Vigna),
 * used by the generator alone and in the order of events; tm_mix is a hash for what must not depend on that order,
 * such as a market's first book.
 */
#ifndef TM_EXCHANGE_RNG_H
#define TM_EXCHANGE_RNG_H

#include <stdbool.h>
#include <stdint.h>

struct tm_rng {
    uint64_t s[4];
};

/* splitmix64 finaliser over (seed, a, b). */
static inline uint64_t tm_mix(uint64_t seed, uint64_t a, uint64_t b)
{
    uint64_t z = seed + a * UINT64_C(0x9e3779b97f4a7c15) + b * UINT64_C(0xd1342543de82ef95);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

static inline void tm_rng_init(struct tm_rng *r, uint64_t seed)
{
    for (uint64_t i = 0; i < 4; i++)
        r->s[i] = tm_mix(seed, i + 1, 0);
}

static inline uint64_t tm_rng_next(struct tm_rng *r)
{
    uint64_t *s = r->s, x = s[1] * 5, out = (x << 7 | x >> 57) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = s[3] << 45 | s[3] >> 19;
    return out;
}

/* 0 .. n-1; n > 0. The bias of the multiply is below n/2^32. */
static inline uint32_t tm_rng_below(struct tm_rng *r, uint32_t n)
{
    return (uint32_t)((tm_rng_next(r) >> 32) * n >> 32);
}

/* True with probability p. */
static inline bool tm_rng_chance(struct tm_rng *r, double p)
{
    return (double)(tm_rng_next(r) >> 11) * 0x1p-53 < p;
}

#endif
