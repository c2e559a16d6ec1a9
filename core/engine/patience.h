/*
 * How long the merger waits before it tries production again, by what went wrong. One attempt at a time, each pause with
 * full jitter (base/backoff.h):
 *
 *     retry       the session is good and the server said "not now" (disk full, deadlock, cancelled): 100 ms to 4 s
 *     reconnect   nobody answers, or a server that does not write: 200 ms, then up to 2 s for as long as a failover may
 *                 take, for then a longer pause is only added to the outage; after ten minutes up to 30 s
 *     refused     the server has no connection for us (53300): 1 s to 30 s, or we would be part of the problem
 *     stop        schema, rights, corruption, a script that contradicts production: 1 s to 30 s
 *
 * A pure state machine: time and randomness are the caller's.
 */
#ifndef TM_ENGINE_PATIENCE_H
#define TM_ENGINE_PATIENCE_H

#include "store/pg.h"

struct tm_patience {
    uint32_t failures; /* in a row */
    int64_t since_us;  /* of the first of them, monotonic */
    enum tm_pg_class class;
};

/* It works. */
void tm_patience_reset(struct tm_patience *p);
/* It failed once more: how long to wait. `connected`: the session is there. `random` is in [0,1). */
int64_t tm_patience_pause_us(struct tm_patience *p, enum tm_pg_class class, bool connected, int64_t now_us,
                             double random);

#endif
