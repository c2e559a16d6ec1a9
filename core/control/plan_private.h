/* What plan.c (the arithmetic) and plan_report.c (text and JSON) share. */
#ifndef TM_CONTROL_PLAN_PRIVATE_H
#define TM_CONTROL_PLAN_PRIVATE_H

#include "control/plan.h"
#include "script/script.h"

#define TM_PLAN_RATE 2000                  /* records a second, when --rate says nothing */
#define TM_PLAN_DISK (UINT64_C(100) << 30) /* for the local store, when --disk says nothing */
#define TM_PLAN_TICKER_BYTES 24            /* a typical value of ... */
#define TM_PLAN_TEXT_BYTES 12
#define TM_PLAN_JSON_BYTES 256
#define TM_PLAN_REGISTRY_ROWS 1000000
#define TM_PLAN_LINES_MAX 32

struct tm_plan_stream {
    const struct tm_stream *stream;
    const struct tm_stream_def *def;   /* NULL: built in */
    bool fed;                          /* frames bring its rows */
    double rate;                       /* records a second that are assumed */
    double journal_bytes, store_bytes; /* of a row */
    size_t seen_bytes;                 /* the seen-set's bound; 0: it has none */
    double seen_us;                    /* the time that the bound covers at that rate; 0: it has no rate */
};

struct tm_plan_line { /* of memory, or an outage */
    const char *name, *why;
    double value; /* bytes; or seconds, negative: never */
};

struct tm_plan_view {
    const char *path;
    const struct tm_config *config;
    struct tm_plan_stream streams[TM_STREAMS_MAX];
    size_t stream_count, link_count;
    double rate, disk;
    bool rate_given, disk_given, links_known;
    double journal_rate, store_rate; /* bytes a second */
    double keep_seconds, kept_bytes; /* of acknowledged rows in the local store */
    double store_room;               /* for the local store: its limit or its disk */
    double journal_bytes;            /* the journal's bound */
    struct tm_plan_line memory[TM_PLAN_LINES_MAX], outages[TM_PLAN_LINES_MAX];
    size_t memory_count, outage_count;
    double memory_total;
    char names[TM_PLAN_LINES_MAX][80]; /* of lines that need one of their own */
    size_t name_count;
};

int tm_plan_report_text(const struct tm_plan_view *view, struct tm_buf *out) TM_MUST_CHECK;
int tm_plan_report_json(const struct tm_plan_view *view, struct tm_buf *out) TM_MUST_CHECK;

#endif
