/*
 * Production's day partitions: which are known to be there, and making those that are not. Asking the server
 * for a day that is known costs nothing. One thread.
 */
#ifndef TM_ENGINE_DAYS_H
#define TM_ENGINE_DAYS_H

#include "record/plan.h"
#include "store/pg.h"

#define TM_DAYS_MAX 65536 /* since 1970: no time beyond the year 2149 has a partition of its own */

struct tm_days {
    uint8_t known[TM_DAYS_MAX / 8];
    int64_t ahead_of; /* the day for which tm_days_ahead did its work */
};

/* Another connection, perhaps another production: nothing is known. */
void tm_days_forget(struct tm_days *days);

/* The day of a Unix time, and the partitions of that day for all streams; outside any transaction. */
int tm_days_make(struct tm_days *days, struct tm_pg *pg, const struct tm_plan *plan, int64_t unix_us,
                 struct tm_error *err) TM_MUST_CHECK;

/* The days around now, so that in normal work no transaction meets a day without a partition. */
int tm_days_ahead(struct tm_days *days, struct tm_pg *pg, const struct tm_plan *plan, int64_t now_us,
                  struct tm_error *err) TM_MUST_CHECK;

#endif
