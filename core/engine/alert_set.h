/* The set of alerts: what its state machine (alert.c) and its memory (alert_keep.c) share. */
#ifndef TM_ENGINE_ALERT_SET_H
#define TM_ENGINE_ALERT_SET_H

#include "engine/alert.h"

struct tm_arena;

struct tm_alert {
    struct tm_alert_def def; /* texts in the set's arena */
    struct tm_alert_expr *when, *clear;
    char *meaning; /* two alerts with the same one are the same */
    enum tm_alert_state state;
    struct tm_metric *metric;
    struct tm_alert_result last;
    bool heard;                  /* that it fires was told, and not silenced */
    int64_t pending_us, told_us; /* monotonic */
    int64_t settle_us;           /* monotonic: until then an alert of the life before stays as it was */
    int64_t since_us;            /* wall */
    char summary[TM_ALERT_SUMMARY_MAX];
};

struct tm_alerts {
    struct tm_metrics *metrics;
    char *id;
    struct tm_arena *arena; /* the definitions of this generation */
    struct tm_alert *list;
    size_t count;
    struct tm_alert_silence silences[TM_ALERT_SILENCES_MAX];
    size_t silence_count;
    bool changed; /* since tm_alerts_take_changed */
};

/* Show the state in its metric. */
void tm_alert_show(const struct tm_alert *a);

#endif
