/*
 * Keeps the deduplicator's lease (store/lease.h): a thread with a session of its own renews it four times within its
 * length, so that a transaction of the merger may take longer than that. It renews only while the merger has a session with
 * production: a process that can reach production here but not there leaves the shard to another one.
 *
 * The merger takes the lease and gives it back, and renews it itself between transactions where the keeper is late.
 * Stopped processes stop as a whole, so a renewed lease means a living merger.
 */
#ifndef TM_ENGINE_KEEPER_H
#define TM_ENGINE_KEEPER_H

#include "store/lease.h"

struct tm_keeper;

/* `stop` ends its waits; it is the caller's and outlives it. */
int tm_keeper_start(struct tm_stop *stop, struct tm_keeper **out, struct tm_error *err) TM_MUST_CHECK;
void tm_keeper_join(struct tm_keeper *k); /* after `stop` was requested; NULL is fine */

/* From the merger's thread. It was just taken or renewed there; keep it so, at this production. */
int tm_keeper_hold(struct tm_keeper *k, const struct tm_lease *lease, const char *conninfo) TM_MUST_CHECK;
/* The merger has no session, or no lease. */
void tm_keeper_rest(struct tm_keeper *k);
/* Somebody else has it. */
bool tm_keeper_has_lost(struct tm_keeper *k);
/* Half of the lease has passed since it was renewed. */
bool tm_keeper_is_late(struct tm_keeper *k);
/* The merger has renewed it. */
void tm_keeper_renewed(struct tm_keeper *k);

#endif
