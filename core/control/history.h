/*
 * Figures of the last ten minutes, one a second, and rates of counters: for charts. Pure; time is a parameter.
 *
 *     each second:  tm_history_count for each counter, tm_history_note for each figure, then tm_history_turn
 *
 * A figure that is not noted in a second has no value then. Bounded: TM_HISTORY_SERIES_MAX figures and
 * TM_HISTORY_COUNTERS_MAX counters; further names are not kept, their rates are 0. A name that was not used for the whole
 * time makes room. One thread.
 */
#ifndef TM_CONTROL_HISTORY_H
#define TM_CONTROL_HISTORY_H

#include "base/buf.h"

#define TM_HISTORY_SECONDS 600
#define TM_HISTORY_SERIES_MAX 64
#define TM_HISTORY_COUNTERS_MAX 1400
#define TM_HISTORY_WINDOW 10 /* seconds, the longest of a rate */

struct tm_history;

struct tm_history *tm_history_create(void);
void tm_history_destroy(struct tm_history *h); /* NULL is fine */

/* A counter as it stands. One that went back began anew. */
void tm_history_count(struct tm_history *h, const char *counter, double value, int64_t now_us);
/* Its increase a second over the last `seconds`, or as many as are known; 0 before there are two readings. */
double tm_history_rate(const struct tm_history *h, const char *counter, int seconds);

void tm_history_note(struct tm_history *h, const char *figure, double value);
void tm_history_turn(struct tm_history *h); /* the second is over */

/* {"rows":2,"lag_s":0.1}: the second before this one; a figure without a value is left out. */
int tm_history_put_latest(const struct tm_history *h, struct tm_buf *out) TM_MUST_CHECK;

/* {"step_s":1,"figures":{"rows":[1,2,null],...}}: all of the same length, the newest last. */
int tm_history_put(const struct tm_history *h, struct tm_buf *out) TM_MUST_CHECK;

#endif
