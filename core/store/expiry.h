/*
 * Production forgets: whole days of a stream that is kept for a time only, oldest first, a day a call. Beside whoever
 * merges: a day is detached CONCURRENTLY, which waits for those who use the table but lets nobody wait, and then dropped.
 *
 * Before that it gets a line in tidemill.dropped, which coverage() reads: what was there once is not said to be there. A
 * day goes an hour after its end has become older than the time to keep, and rows of such days do not go into the table
 * any more (store/late.h), so whoever merges does not have to know what was dropped.
 */
#ifndef TM_STORE_EXPIRY_H
#define TM_STORE_EXPIRY_H

#include "store/pg.h"

struct tm_expired {
    char partition[128], day[16];
    int64_t rows; /* about, where there are many */
};

/* Of an autocommit session; where production has TimescaleDB a chunk goes (store/hypertable.h). 1: a day went, 0: none may go, the oldest stands in *out. What was begun and not finished is
 * finished first. `archived`: a day goes only when all of it is in the archive (store/exports.h); until then TM_ESTATE. */
int tm_expiry_step(struct tm_pg *pg, const char *stream, int64_t keep_us, bool archived, struct tm_expired *out,
                   struct tm_error *err) TM_MUST_CHECK;

#endif
