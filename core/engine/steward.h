/*
 * The steward of a process that shares a production's shards with others: a thread with a session of its own, where there is
 * more than one shard. Six times within a lease it says in production that this process is alive, looks who else is and who
 * holds what (store/shards.h), and works out whose each shard is (engine/share.h):
 *
 *     one that is for us   `wanted`: its merger takes the lease as soon as it is free or has run out
 *     one that is not      its merger finishes its transaction and gives the lease back, which whoever it is for takes within
 *                          a twentieth of a lease
 *
 * So a newcomer's share is there within a lease (until it is ripe), a sixth of one, and the transactions under way; a dead
 * process's shards within a lease and a sixth. Nothing rests on the steward but who is to work: what it says may be late or
 * differ between processes, the leases hold (one that cannot reach production changes nothing).
 *
 * It also tells the gauges of all shards together, several times a second.
 */
#ifndef TM_ENGINE_STEWARD_H
#define TM_ENGINE_STEWARD_H

#include "engine/dedup_private.h"

struct tm_steward;

/* `head` has all its shards. */
int tm_steward_start(struct tm_deduplicator *head, struct tm_error *err) TM_MUST_CHECK;
/* Says that this process goes, so that others need not wait to find out. Before the mergers stop; NULL is fine. */
void tm_steward_stop(struct tm_steward *s);

/* Who holds the shard, as of the last look; "": nobody. Any thread. */
void tm_steward_holder(struct tm_steward *s, unsigned shard, char out[TM_LEASE_HOLDER]);

#endif
