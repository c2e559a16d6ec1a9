#include "engine/progress.h"
#include "base/clock.h"
#include "base/log.h"

#define BACKLOG_ROWS 200000
#define TELL_EVERY_US (3 * TM_US_PER_S)

static void note_progress(struct tm_deduplicator *d, uint64_t behind, uint64_t per_s)
{
    pthread_mutex_lock(&d->lock);
    d->stats.rows_per_s = per_s;
    d->stats.left_us = per_s ? (int64_t)(behind * TM_US_PER_S / per_s) : 0;
    pthread_mutex_unlock(&d->lock);
}

static uint64_t per_second(uint64_t rows, int64_t us)
{
    return us > 0 ? rows * TM_US_PER_S / (uint64_t)us : 0;
}

static void tell(struct tm_progress *p, struct tm_deduplicator *d, uint64_t behind, int64_t now_us)
{
    uint64_t per_s = per_second(p->rows - p->told_rows, now_us - p->told_us);
    note_progress(d, behind, per_s);
    tm_log(TM_LOG_INFO, "merger", "catching up", TM_F_U64("rows_behind", behind), TM_F_U64("rows_per_s", per_s),
           TM_F_U64("left_s", per_s ? behind / per_s : 0));
    p->told_us = now_us;
    p->told_rows = p->rows;
}

static void end(struct tm_progress *p, struct tm_deduplicator *d, int64_t now_us)
{
    note_progress(d, 0, 0);
    tm_log(TM_LOG_INFO, "merger", "caught up", TM_F_U64("rows", p->rows),
           TM_F_U64("rows_per_s", per_second(p->rows, now_us - p->since_us)),
           TM_F_I64("took_ms", (now_us - p->since_us) / TM_US_PER_MS));
    *p = (struct tm_progress){0};
}

void tm_progress_follow(struct tm_progress *p, struct tm_deduplicator *d, int64_t started_us, uint64_t merged)
{
    int64_t now_us = tm_clock_mono_us();
    uint64_t behind = tm_dedup_rows_behind(d);
    tm_metric_set(d->behind, (double)behind);
    if (!p->since_us && behind < BACKLOG_ROWS)
        return;
    if (!p->since_us) {
        *p = (struct tm_progress){.since_us = started_us, .told_us = started_us};
        p->rows = merged;
        tell(p, d, behind, now_us);
        return;
    }
    p->rows += merged;
    if (behind < BACKLOG_ROWS / 10)
        end(p, d, now_us);
    else if (now_us - p->told_us >= TELL_EVERY_US)
        tell(p, d, behind, now_us);
}

void tm_progress_reset(struct tm_progress *p, struct tm_deduplicator *d)
{
    *p = (struct tm_progress){0};
    note_progress(d, 0, 0);
}
