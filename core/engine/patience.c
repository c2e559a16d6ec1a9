#include "engine/patience.h"
#include "base/backoff.h"
#include "base/clock.h"

#define FAILOVER_US (600 * TM_US_PER_S)

static const struct bounds {
    int64_t base_us, max_us;
} in_session = {100 * TM_US_PER_MS, 4 * TM_US_PER_S}, failover = {200 * TM_US_PER_MS, 2 * TM_US_PER_S},
  patient = {TM_US_PER_S, 30 * TM_US_PER_S};

void tm_patience_reset(struct tm_patience *p)
{
    *p = (struct tm_patience){0};
}

static const struct bounds *bounds_of(enum tm_pg_class class, bool connected, int64_t lasted_us)
{
    if (class == TM_PG_RETRY && connected)
        return &in_session;
    return class == TM_PG_RECONNECT && lasted_us < FAILOVER_US ? &failover : &patient;
}

int64_t tm_patience_pause_us(struct tm_patience *p, enum tm_pg_class class, bool connected, int64_t now_us,
                             double random)
{
    if (!p->since_us)
        p->since_us = now_us;
    if (class != p->class)
        p->failures = 0; /* another trouble: what was learned of the one before says nothing of it */
    p->class = class;
    const struct bounds *b = bounds_of(class, connected, now_us - p->since_us);
    return tm_backoff_us(p->failures++, b->base_us, b->max_us, random);
}
