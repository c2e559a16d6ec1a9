/* The second implementation that the dedup tests compare with: an array of last additions, indexed by key number. */
#ifndef TM_TEST_DEDUP_MODEL_H
#define TM_TEST_DEDUP_MODEL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
/* after the above */
#include <cmocka.h>

#include "base/hash.h"

static inline uint64_t mix(uint64_t x)
{
    x += UINT64_C(0x9e3779b97f4a7c15);
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

struct dice {
    uint64_t state;
};

static inline uint64_t roll(struct dice *d, uint64_t below)
{
    return mix(d->state++) % below;
}

static inline struct tm_fp fp_of(uint64_t i)
{
    return (struct tm_fp){.lo = mix(i * 2 + 1), .hi = mix(i * 2 + UINT64_C(0x123456789))};
}

#define NEVER INT64_MIN

#endif
