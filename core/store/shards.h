/*
 * The shards of a production: how many there are, who is alive to hold them, and who holds which. Three places there:
 *
 *     tidemill.meta     key 'shards': their number; absent: one. Set once, by the first that comes with more than one while
 *                       nothing has been merged; after that tm_shards_change moves it, and nothing else
 *     tidemill.members  a row for each process that shares: a random id, its name, up to when it is alive (by the
 *                       database's clock, as with leases), and the backend it says so with
 *     tidemill.leases   a lease for each shard; its token begins with the member's id (store/lease.h)
 *
 * Cursors. Of a stream that is spread over the shards every shard has a cursor in tidemill.cursors, made at 0 with the first
 * of them: so what production has of a stream is the least of its cursors, and a shard that has taken nothing yet counts.
 *
 * One thread at a time.
 */
#ifndef TM_STORE_SHARDS_H
#define TM_STORE_SHARDS_H

#include "store/lease.h"

#include <stddef.h>

/* ---- how many ---- */

/* TM_ESTATE unless production has so many; where it has none recorded and nothing in it, `shards` is recorded. */
int tm_shards_expect(struct tm_pg *pg, unsigned shards, struct tm_error *err) TM_MUST_CHECK;

/*
 * Another number, in one transaction: every cursor goes back to the least of its stream's, and what lies between is polled
 * again and found stored. TM_ESTATE while any lease is held. `spread`: the streams that are, as an array of PostgreSQL.
 * *before: what it was.
 */
int tm_shards_change(struct tm_pg *pg, unsigned shards, const char *spread, unsigned *before,
                     struct tm_error *err) TM_MUST_CHECK;

/* ---- who ---- */

struct tm_member {
    char id[TM_LEASE_MEMBER];
    char name[TM_LEASE_HOLDER];
    bool ripe; /* it has been there for longer than a lease */
};

struct tm_shard_standing {
    int member;                   /* its holder, of the members; -1: nobody, or one that is not alive any more */
    char holder[TM_LEASE_HOLDER]; /* the name; "": it is free */
};

struct tm_shards_view {
    struct tm_member *members; /* room for `members_max`; by id */
    size_t members_max, member_count;
    struct tm_shard_standing *shards; /* room for `shard_count` */
    unsigned shard_count;
};

/* We are alive for `length_us` from now on. */
int tm_members_beat(struct tm_pg *pg, const char *id, const char *name, int64_t length_us,
                    struct tm_error *err) TM_MUST_CHECK;
int tm_members_leave(struct tm_pg *pg, const char *id, struct tm_error *err) TM_MUST_CHECK;
/* `length_us`: of our leases, to know an abandoned one. */
int tm_members_look(struct tm_pg *pg, int64_t length_us, struct tm_shards_view *view,
                    struct tm_error *err) TM_MUST_CHECK;

#endif
