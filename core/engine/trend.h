/*
 * Two things that only show over time: when a disk is going to be full, and a wall clock that was set. Pure: time is a
 * parameter.
 */
#ifndef TM_ENGINE_TREND_H
#define TM_ENGINE_TREND_H

#include <stddef.h>
#include <stdint.h>

#define TM_TREND_SAMPLES 60
#define TM_TREND_EVERY_US (INT64_C(60) * 1000000)      /* between two samples: an hour is looked at */
#define TM_TREND_KNOWN_US (INT64_C(10) * 60 * 1000000) /* of which so much must be known */

struct tm_trend {
    int64_t at_us[TM_TREND_SAMPLES]; /* a ring */
    double values[TM_TREND_SAMPLES];
    size_t first, count;
};

/* Monotonic time, not going back; readings that come too often are left out. */
void tm_trend_add(struct tm_trend *t, int64_t now_us, double value);

/* Seconds until the value is 0 if it goes on as over the last hour; INFINITY: it does not fall, or too little is known. */
double tm_trend_seconds_left(const struct tm_trend *t);

#define TM_CLOCK_STEP_US 500000 /* slewing is slower than this between two looks; a step of less hurts nobody */

struct tm_clock_watch {
    int64_t offset_us; /* wall - monotonic at the last look; 0: none yet */
};

/* By how much the wall clock was set since the last look, forwards or back; 0: it was not. A machine that slept has a step
 * too: its monotonic clock stood. */
int64_t tm_clock_watch_look(struct tm_clock_watch *w, int64_t mono_us, int64_t wall_us);

#endif
