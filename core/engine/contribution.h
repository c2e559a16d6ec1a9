/*
 * What each gatherer adds that no other brings: of a sample of the records, one in TM_CONTRIBUTION_ONE_IN by their
 * fingerprint, it is kept for TM_CONTRIBUTION_SETTLE_US who brought them; then they are counted. A copy that comes later than
 * that is not seen, so while a gatherer is behind, the others' records count as theirs alone.
 *
 * Bounded: when the sample is full further records are not taken into it. One thread.
 */
#ifndef TM_ENGINE_CONTRIBUTION_H
#define TM_ENGINE_CONTRIBUTION_H

#include "base/hash.h"

#include <stdbool.h>
#include <stdint.h>

#define TM_CONTRIBUTION_ONE_IN 64
#define TM_CONTRIBUTION_SETTLE_US INT64_C(60000000)
#define TM_CONTRIBUTION_RECORDS 16384
#define TM_CONTRIBUTION_GATHERERS_MAX 64

struct tm_contribution;

struct tm_contribution *tm_contribution_create(void);
void tm_contribution_destroy(struct tm_contribution *c); /* NULL is fine */

static inline bool tm_contribution_samples(struct tm_fp fp)
{
    return fp.hi % TM_CONTRIBUTION_ONE_IN == 0;
}

/* A record of the sample is in production for the first time; the gatherer (its id) brought it. */
void tm_contribution_first(struct tm_contribution *c, struct tm_fp fp, const char *gatherer, int64_t now_us);
/* Another copy of it. Asked for again (a transaction that is tried again) it changes nothing. */
void tm_contribution_copy(struct tm_contribution *c, struct tm_fp fp, const char *gatherer);
/* Count what is old enough; now and then. `now_us` is monotonic. */
void tm_contribution_settle(struct tm_contribution *c, int64_t now_us);

/* Of the records counted so far, those that the gatherer brought, and those that it alone did. */
struct tm_contribution_counts {
    uint64_t brought, alone;
};
struct tm_contribution_counts tm_contribution_of(const struct tm_contribution *c, const char *gatherer);

#endif
