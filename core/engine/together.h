/*
 * What several shards of one process say as one: statistics, and the gauges that each shard's threads set for themselves
 * (in a registry of the shard's own) are folded into those that others know. Where there is one shard nothing of this runs.
 */
#ifndef TM_ENGINE_TOGETHER_H
#define TM_ENGINE_TOGETHER_H

#include "engine/dedup_private.h"

/* Of `head`, between the moment when its gauges are made in the registry that others read and when its own are made. */
void tm_together_begin(struct tm_deduplicator *head);
void tm_together_end(struct tm_deduplicator *head);

/* Fold the gauges; now and then, any one thread at a time. */
void tm_together_tell(struct tm_deduplicator *head);
/* A gatherer was removed: its series goes. */
void tm_together_hide(struct tm_deduplicator *head, const char *gatherer);

/* Any thread. */
struct tm_deduplicator_stats tm_together_stats(struct tm_deduplicator *head);
int tm_together_gatherer_stats(struct tm_deduplicator *head, size_t index,
                               struct tm_deduplicator_gatherer_stats *out) TM_MUST_CHECK;

#endif
