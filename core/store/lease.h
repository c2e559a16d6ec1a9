/*
 * The lease of a shard: which of several deduplicators writes it (DESIGN 5). A row of tidemill.leases in production, which
 * names the holder by a random token and ends at a moment of the database's clock, so that no two machines' clocks have
 * to agree and nothing depends on a session that a pooler may share or a stopped process may keep open.
 *
 *     take     free, released or expired, by compare-and-swap of the token before; ours from an earlier session too, and
 *              that of a holder of our name whose session is gone: a process that was killed and started again;
 *              another's whose session is gone after half of its length
 *     renew    moves the end; on any session, also while a transaction of the writing session is open
 *     guard    the statement that a writing transaction begins with: refused with TM_LEASE_LOST unless the token is ours,
 *              and held with FOR KEY SHARE up to the end of the transaction, which does not wait for renew
 *     release  at a clean stop: whoever waits takes it at once
 *
 * The row also names the backend of the writing session. A holder that was stopped in mid-transaction keeps locks of
 * rows; so whoever finds the lease expired ends that backend, before it takes the lease and again afterwards. Where the
 * role may not do that, the server's idle_in_transaction_session_timeout does it (engine/merger.c).
 *
 * The lease is what makes two deduplicators take turns. That nothing is written twice does not rest on it: cursors move
 * by compare-and-swap. One thread at a time.
 */
#ifndef TM_STORE_LEASE_H
#define TM_STORE_LEASE_H

#include "store/pg.h"

#define TM_LEASE_TOKEN 33
#define TM_LEASE_MEMBER 17
#define TM_LEASE_HOLDER 64
#define TM_LEASE_LOST "TML01" /* SQLSTATE of a refused guard; class TM_PG_RETRY */

struct tm_lease {
    int shard;
    char holder[TM_LEASE_HOLDER]; /* for people: a plain word, needs no escaping */
    char member[TM_LEASE_MEMBER]; /* tokens begin with it (store/shards.h); "": they are all random */
    char token[TM_LEASE_TOKEN];   /* ours as of the last take; "": never taken */
    int64_t length_us;
};

/* What take found. */
struct tm_lease_found {
    bool taken, resumed;            /* resumed: it was ours already */
    bool took_over;                 /* from a holder that had not released it */
    char other[TM_LEASE_HOLDER];    /* who held it before, or holds it */
    int64_t generation, overdue_us; /* how long it had been expired when it was taken over */
};

/* Of an autocommit session, which becomes the writing one. Waits for no lock of the holder's. */
int tm_lease_take(struct tm_lease *lease, struct tm_pg *pg, struct tm_lease_found *found,
                  struct tm_error *err) TM_MUST_CHECK;

/* *held: whether it still was ours. */
int tm_lease_renew(const struct tm_lease *lease, struct tm_pg *pg, bool *held, struct tm_error *err) TM_MUST_CHECK;

/* Nothing happens when it is not ours. */
int tm_lease_release(const struct tm_lease *lease, struct tm_pg *pg, struct tm_error *err) TM_MUST_CHECK;

/* "SELECT tidemill.guard_lease(0, 'token')" */
int tm_lease_guard(const struct tm_lease *lease, struct tm_buf *out) TM_MUST_CHECK;

#endif
