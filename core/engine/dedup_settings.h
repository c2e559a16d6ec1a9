/*
 * The deduplicator's settings and peers, policy thread: making them from options, starting and stopping pollers. What they
 * are, and who holds them, stands in dedup_private.h.
 */
#ifndef TM_ENGINE_DEDUP_SETTINGS_H
#define TM_ENGINE_DEDUP_SETTINGS_H

#include "engine/dedup_private.h"

/* The next settings. A gatherer whose conninfo is what it was keeps its peer; a plan that says the same as that of
 * d->settings (NULL at start) is that. New peers have no thread yet. */
struct tm_dedup_settings *tm_dedup_settings_create(struct tm_deduplicator *d,
                                                   const struct tm_deduplicator_options *options);
/* The peer of a gatherer's id, or NULL. */
struct tm_peer *tm_dedup_settings_peer(const struct tm_dedup_settings *s, const char *id);

/* Start the pollers of the peers that these settings bring; all of them or none. Applies the bounds of the queues. */
int tm_peers_start(struct tm_deduplicator *d, const struct tm_dedup_settings *settings,
                   struct tm_error *err) TM_MUST_CHECK;
/* It is not in the newest settings any more; what it counted goes on in its heir (NULL: the gatherer was removed). */
void tm_peer_leave(struct tm_peer *peer, struct tm_peer *heir);
/* Let go of the pollers that have ended; never waits. */
void tm_peers_reap(struct tm_deduplicator *d);
/* Stop all pollers and wait for their ends. */
void tm_peers_stop(struct tm_deduplicator *d);

#endif
