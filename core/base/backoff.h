/*
 * The pause before trying again: full jitter, so that many that failed together do not come back together
 * (FAILURES T28). A pure function; time and randomness are the caller's.
 */
#ifndef TM_BASE_BACKOFF_H
#define TM_BASE_BACKOFF_H

#include <stdint.h>

/* A pause in [0, min(max, base * 2^tries)]; `random` is in [0,1). */
int64_t tm_backoff_us(uint32_t tries, int64_t base_us, int64_t max_us, double random);

#endif
