#include "engine/trend.h"

#include <math.h>
#include <stdlib.h>

void tm_trend_add(struct tm_trend *t, int64_t now_us, double value)
{
    size_t last = (t->first + t->count + TM_TREND_SAMPLES - 1) % TM_TREND_SAMPLES;
    if (t->count && now_us - t->at_us[last] < TM_TREND_EVERY_US)
        return;
    if (t->count == TM_TREND_SAMPLES) {
        t->first = (t->first + 1) % TM_TREND_SAMPLES;
        t->count--;
    }
    size_t at = (t->first + t->count++) % TM_TREND_SAMPLES;
    t->at_us[at] = now_us;
    t->values[at] = value;
}

double tm_trend_seconds_left(const struct tm_trend *t)
{
    size_t last = (t->first + t->count + TM_TREND_SAMPLES - 1) % TM_TREND_SAMPLES;
    if (!t->count || t->at_us[last] - t->at_us[t->first] < TM_TREND_KNOWN_US)
        return INFINITY;
    double lost = t->values[t->first] - t->values[last];
    double seconds = (double)(t->at_us[last] - t->at_us[t->first]) / 1e6;
    return lost > 0 ? t->values[last] / (lost / seconds) : INFINITY;
}

int64_t tm_clock_watch_look(struct tm_clock_watch *w, int64_t mono_us, int64_t wall_us)
{
    int64_t offset_us = wall_us - mono_us, step_us = w->offset_us ? offset_us - w->offset_us : 0;
    w->offset_us = offset_us;
    return llabs(step_us) >= TM_CLOCK_STEP_US ? step_us : 0;
}
