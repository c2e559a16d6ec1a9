/*
 * Working off a backlog: what the log, `tidemill status` and the metrics say of it. A backlog is more than a live feed ever
 * has waiting (200,000 rows); it is told when it is noticed, every 3 s, and when it is gone. The merger's thread.
 */
#ifndef TM_ENGINE_PROGRESS_H
#define TM_ENGINE_PROGRESS_H

#include "engine/dedup_private.h"

/* Times are monotonic; since_us 0: there is no backlog. */
struct tm_progress {
    int64_t since_us, told_us;
    uint64_t rows, told_rows; /* offered rows merged since */
};

/* After each transaction, which began at `started_us` and merged so many offered rows. */
void tm_progress_follow(struct tm_progress *p, struct tm_deduplicator *d, int64_t started_us, uint64_t merged);
/* Nothing is merged for now. */
void tm_progress_reset(struct tm_progress *p, struct tm_deduplicator *d);

#endif
