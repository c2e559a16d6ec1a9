#include "engine/bulletin.h"
#include "base/clock.h"
#include "base/log.h"

#include <stdio.h>

void tm_bulletin_disconnected(struct tm_deduplicator *d)
{
    pthread_mutex_lock(&d->lock);
    if (!d->down_since_us)
        d->down_since_us = tm_clock_wall_us();
    d->stats.production_connected = false;
    d->generation = 0;
    pthread_mutex_unlock(&d->lock);
    tm_metric_set(d->connected, 0);
}

void tm_bulletin_standby(struct tm_deduplicator *d)
{
    pthread_mutex_lock(&d->lock);
    d->down_since_us = 0;
    d->stats.production_connected = true;
    d->generation = 0;
    pthread_mutex_unlock(&d->lock);
    tm_metric_set(d->connected, 1);
    tm_metric_set(d->behind, 0);
    tm_bulletin_working(d);
}

void tm_bulletin_failure(struct tm_deduplicator *d, enum tm_pg_class class, const struct tm_error *err)
{
    pthread_mutex_lock(&d->lock);
    d->stats.production_errors++;
    d->stats.trouble = class;
    d->stalled_since_us = d->stalled_since_us ? d->stalled_since_us : tm_clock_mono_us();
    (void)snprintf(d->stats.last_error, sizeof d->stats.last_error, "%.255s", err->message);
    pthread_mutex_unlock(&d->lock);
    tm_metric_add(d->failures[class], 1);
    tm_metric_set(d->stopped, class == TM_PG_STOP);
    if (class == TM_PG_STOP)
        TM_LOG_LIMITED(TM_LOG_ERROR, "merger",
                       "production cannot be written until a person mends it; the gatherers keep the records",
                       TM_F_ERR(err));
    else if (class == TM_PG_RETRY)
        TM_LOG_LIMITED(TM_LOG_WARN, "merger", "production takes no rows now; the gatherers keep the records",
                       TM_F_ERR(err));
    else
        TM_LOG_LIMITED(TM_LOG_WARN, "merger", "production is away; the gatherers keep the records", TM_F_ERR(err));
}

void tm_bulletin_working(struct tm_deduplicator *d)
{
    pthread_mutex_lock(&d->lock);
    d->stats.trouble = TM_PG_OK;
    d->stalled_since_us = 0;
    pthread_mutex_unlock(&d->lock);
    tm_metric_set(d->stopped, 0);
}

void tm_bulletin_merged(struct tm_deduplicator *d, const struct tm_batch *b, int64_t now_us)
{
    struct tm_peer *peer = b->peer;
    pthread_mutex_lock(&d->lock);
    while (peer->heir)
        peer = peer->heir;
    struct tm_deduplicator_gatherer_stats *s = &peer->stats;
    s->polled += b->count;
    s->written += b->written;
    s->duplicate += b->duplicate;
    s->quarantined += b->quarantined;
    if (tm_stream_is_fingerprinted(b->stream)) {
        s->shared += b->count;
        s->shared_first += b->written;
    }
    if (b->received_max_us > s->last_row_us)
        s->last_row_us = b->received_max_us;
    pthread_mutex_unlock(&d->lock);
    if (b->received_max_us)
        tm_metric_observe_us(d->latency, now_us - b->received_max_us);
    if (b->committed_us)
        tm_metric_observe_us(d->store_latency, now_us - b->committed_us);
}
