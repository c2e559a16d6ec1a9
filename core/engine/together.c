#include "engine/together.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

enum fold { LEAST, MOST, SUM };

static const struct {
    size_t at; /* of a struct tm_metric * in struct tm_deduplicator */
    enum fold fold;
} gauges[] = {
    {offsetof(struct tm_deduplicator, lag), MOST},         {offsetof(struct tm_deduplicator, behind), SUM},
    {offsetof(struct tm_deduplicator, connected), LEAST},  {offsetof(struct tm_deduplicator, stopped), MOST},
    {offsetof(struct tm_deduplicator, replicated), LEAST}, {offsetof(struct tm_deduplicator, lease_held), MOST},
    {offsetof(struct tm_deduplicator, standby), LEAST},    {offsetof(struct tm_deduplicator, lease_since), MOST},
    {offsetof(struct tm_deduplicator, seen_keys), SUM},    {offsetof(struct tm_deduplicator, seen_bytes), SUM},
};
#define GAUGES (sizeof gauges / sizeof *gauges)

static struct tm_metric *gauge_of(const struct tm_deduplicator *d, size_t i)
{
    return *(struct tm_metric *const *)(const void *)((const char *)d + gauges[i].at);
}

void tm_together_begin(struct tm_deduplicator *head)
{
    pthread_mutex_init(&head->telling, NULL);
    head->told = calloc(GAUGES, sizeof(struct tm_metric *));
    TM_FATAL_UNLESS(head->told);
    for (size_t i = 0; i < GAUGES; i++)
        head->told[i] = gauge_of(head, i);
}

void tm_together_end(struct tm_deduplicator *head)
{
    if (!head->told)
        return;
    free(head->told);
    pthread_mutex_destroy(&head->telling);
}

/* ---- gauges ---- */

static double fold(const struct tm_deduplicator *head, size_t i)
{
    double value = tm_metric_get(gauge_of(head, i));
    for (unsigned k = 1; k < head->shard_count; k++) {
        double next = tm_metric_get(gauge_of(head->shards[k], i));
        if (gauges[i].fold == SUM)
            value += next;
        else if (gauges[i].fold == MOST ? next > value : next < value)
            value = next;
    }
    return value;
}

static struct tm_metric *health_of(struct tm_deduplicator *head, const char *gatherer)
{
    char labels[96];
    (void)snprintf(labels, sizeof labels, "gatherer=\"%s\"", gatherer);
    return tm_metrics_gauge(head->metrics, "dedup_gatherer_health",
                            "1 while the gatherer's store can be read and its history is whole.", labels);
}

static void tell_gatherers(struct tm_deduplicator *head)
{
    struct tm_deduplicator_gatherer_stats s;
    pthread_mutex_lock(&head->telling);
    for (size_t i = 0; tm_together_gatherer_stats(head, i, &s) == TM_OK; i++)
        tm_metric_set(health_of(head, s.id), s.state == TM_PEER_CONNECTED);
    pthread_mutex_unlock(&head->telling);
}

static void tell_shards(struct tm_deduplicator *head)
{
    unsigned held = 0;
    for (unsigned k = 0; k < head->shard_count; k++) {
        struct tm_deduplicator *d = head->shards[k];
        char labels[24];
        bool ours = tm_metric_get(d->lease_held) > 0;
        (void)snprintf(labels, sizeof labels, "shard=\"%u\"", k);
        tm_metric_set(
            tm_metrics_gauge(head->metrics, "dedup_shard_held", "1 while this process merges the shard.", labels),
            ours);
        tm_metric_set(tm_metrics_gauge(head->metrics, "dedup_shard_lag_seconds",
                                       "dedup_sync_lag_seconds of the shard; 0 where another process merges it.",
                                       labels),
                      tm_metric_get(d->lag));
        held += ours;
    }
    tm_metric_set(tm_metrics_gauge(head->metrics, "dedup_shards", "Shards of production.", NULL), head->shard_count);
    tm_metric_set(tm_metrics_gauge(head->metrics, "dedup_shards_held", "Shards that this process merges.", NULL), held);
}

void tm_together_tell(struct tm_deduplicator *head)
{
    for (size_t i = 0; i < GAUGES; i++)
        tm_metric_set(head->told[i], fold(head, i));
    tell_gatherers(head);
    tell_shards(head);
}

void tm_together_hide(struct tm_deduplicator *head, const char *gatherer)
{
    pthread_mutex_lock(&head->telling);
    tm_metric_hide(health_of(head, gatherer));
    pthread_mutex_unlock(&head->telling);
}

/* ---- statistics ---- */

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static void add(struct tm_deduplicator_stats *all, const struct tm_deduplicator_stats *one)
{
    all->lease = one->lease > all->lease ? one->lease : all->lease;
    all->takeovers += one->takeovers;
    all->production_connected = all->production_connected && one->production_connected;
    all->transactions += one->transactions;
    all->conflicts += one->conflicts;
    all->production_errors += one->production_errors;
    all->last_commit_us = most(all->last_commit_us, one->last_commit_us);
    all->lag_us = most(all->lag_us, one->lag_us);
    all->rows_behind += one->rows_behind;
    all->rows_per_s += one->rows_per_s;
    all->left_us = most(all->left_us, one->left_us);
    all->trouble = one->trouble > all->trouble ? one->trouble : all->trouble;
    all->stalled_us = most(all->stalled_us, one->stalled_us);
    all->unreplicated = all->unreplicated || one->unreplicated;
    all->shards_held += one->shards_held;
    if (!*all->identity)
        (void)snprintf(all->identity, sizeof all->identity, "%s", one->identity);
    if (!*all->last_error)
        (void)snprintf(all->last_error, sizeof all->last_error, "%s", one->last_error);
}

struct tm_deduplicator_stats tm_together_stats(struct tm_deduplicator *head)
{
    struct tm_deduplicator_stats all = tm_dedup_own_stats(head);
    for (unsigned k = 1; k < head->shard_count; k++) {
        struct tm_deduplicator_stats one = tm_dedup_own_stats(head->shards[k]);
        add(&all, &one);
    }
    return all;
}

/* The worst of what merging shards say. */
static int badness(enum tm_peer_state state)
{
    static const int of[] = {
        [TM_PEER_CONNECTED] = 0, [TM_PEER_CONNECTING] = 1, [TM_PEER_STOPPED] = 2, [TM_PEER_DOWN] = 3};
    return of[state];
}

static void add_gatherer(struct tm_deduplicator_gatherer_stats *all, const struct tm_deduplicator_gatherer_stats *one,
                         bool merging)
{
    all->polled += one->polled;
    all->written += one->written;
    all->duplicate += one->duplicate;
    all->quarantined += one->quarantined;
    all->shared += one->shared;
    all->shared_first += one->shared_first;
    all->sampled += one->sampled;
    all->sampled_alone += one->sampled_alone;
    all->behind += one->behind;
    all->lag_us = most(all->lag_us, one->lag_us);
    all->last_row_us = most(all->last_row_us, one->last_row_us);
    if (merging && badness(one->state) > badness(all->state)) {
        all->state = one->state;
        (void)snprintf(all->last_error, sizeof all->last_error, "%s", one->last_error);
    }
}

int tm_together_gatherer_stats(struct tm_deduplicator *head, size_t index, struct tm_deduplicator_gatherer_stats *out)
{
    int rc = tm_dedup_own_gatherer_stats(head, index, out);
    for (unsigned k = 1; !rc && k < head->shard_count; k++) {
        struct tm_deduplicator_gatherer_stats one;
        struct tm_deduplicator *d = head->shards[k];
        if (tm_dedup_own_gatherer_stats(d, index, &one) == TM_OK)
            add_gatherer(out, &one, tm_metric_get(d->lease_held) > 0);
    }
    return rc;
}
