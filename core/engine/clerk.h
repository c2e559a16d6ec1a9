/*
 * The clerk keeps the ledger in production: a thread of the deduplicator with a connection of its own, beside the merger and
 * never in its way. While this process merges (of several shards: shard 0) it calls, every few seconds (store/coverage.h):
 *
 *     tidemill.prune_heartbeats()         heartbeats that a later one makes superfluous
 *     tidemill.find_ambiguities(...)      for each counted stream: counts that may be too low, because two gatherers each
 *                                         missed another one of equal records. They are counted
 *                                         (tidemill_ambiguous_keys_total), logged, and shown by coverage()
 *
 *     partitions                          the days to come are made, and days of streams that are kept for a time only go
 *                                         (store/expiry.h)
 *
 * and reads the newest gaps, for who looks at this process (engine/gap_log.h).
 *
 * The functions only tidy up or add what is known: when production is away, or a call fails, nothing is wrong and the next
 * call makes up for it. Two of them at once do no harm.
 */
#ifndef TM_ENGINE_CLERK_H
#define TM_ENGINE_CLERK_H

#include "engine/deduplicator.h"

struct tm_clerk;

int tm_clerk_start(struct tm_deduplicator *d, struct tm_clerk **out, struct tm_error *err) TM_MUST_CHECK;
void tm_clerk_stop(struct tm_clerk *c); /* NULL is fine; cancels what is under way */

#endif
