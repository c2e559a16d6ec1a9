/*
 * Tells a gatherer up to where production has its rows, so that its store may let them go (store/retention.h): a row a
 * stream in tidemill.acknowledged there, at most every two seconds, and only of cursors that were committed. A role that
 * may not write it costs the acknowledgement of that session and one warning. On the poller's thread.
 */
#ifndef TM_ENGINE_ACKNOWLEDGE_H
#define TM_ENGINE_ACKNOWLEDGE_H

#include "engine/dedup_private.h"

struct tm_acknowledging {
    int64_t at_us; /* monotonic; INT64_MAX: it is not allowed */
    int64_t sum;   /* of the seqs last told */
    bool told;     /* that it is not allowed */
};

void tm_acknowledge_session(struct tm_acknowledging *k); /* another session: everything is told again */

/* An error only where the session is lost. */
int tm_acknowledge(struct tm_acknowledging *k, const struct tm_peer *peer, const struct tm_dedup_orders *orders,
                   struct tm_pg *pg, struct tm_error *err) TM_MUST_CHECK;

/* Where there are several shards: read what all of them have, every second, for shard 0 to tell gatherers. On the merger's
 * thread, in its session: production may be another one in the next. */
int tm_acknowledge_least(struct tm_deduplicator *d, struct tm_pg *pg, const struct tm_deduplicator_options *options,
                         struct tm_error *err) TM_MUST_CHECK;

#endif
