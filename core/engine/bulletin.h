/*
 * What others see of the merger's work: statistics, health, metrics, and the log's word on what fails. Called by the
 * merger's thread.
 */
#ifndef TM_ENGINE_BULLETIN_H
#define TM_ENGINE_BULLETIN_H

#include "engine/dedup_private.h"

/* There is no session; pollers wait. */
void tm_bulletin_disconnected(struct tm_deduplicator *d);
/* Production is there, but it is another one's to write: its lag is not ours. */
void tm_bulletin_standby(struct tm_deduplicator *d);
/* An attempt failed once more: TM_PG_RECONNECT, TM_PG_RETRY or TM_PG_STOP, where somebody has to look. */
void tm_bulletin_failure(struct tm_deduplicator *d, enum tm_pg_class class, const struct tm_error *err);
/* It was written to, or there is nothing to write. */
void tm_bulletin_working(struct tm_deduplicator *d);
/* A batch is in production, as of `now_us` of the wall: its gatherer's books, and how old its rows were. */
void tm_bulletin_merged(struct tm_deduplicator *d, const struct tm_batch *b, int64_t now_us);

#endif
