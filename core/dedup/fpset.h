/*
 * A set of fingerprints that lives for one transaction: what this transaction itself is about to store.
 * Cleared in one go, sized for the rows at hand. Nothing is ever expired or evicted, unlike the seen-set. One
 * thread.
 */
#ifndef TM_DEDUP_FPSET_H
#define TM_DEDUP_FPSET_H

#include "base/error.h"
#include "base/hash.h"

#include <stdbool.h>

struct tm_fpset {
    struct tm_fp *slots; /* {0, 0} is free; a fingerprint of that value is always new */
    size_t size;         /* a power of two, at least twice the rows */
};

void tm_fpset_fini(struct tm_fpset *s);
int tm_fpset_clear(struct tm_fpset *s, size_t rows) TM_MUST_CHECK;
void tm_fpset_prefetch(const struct tm_fpset *s, struct tm_fp fp); /* some adds ahead */
bool tm_fpset_add(struct tm_fpset *s, struct tm_fp fp);            /* true if it was not there */

#endif
