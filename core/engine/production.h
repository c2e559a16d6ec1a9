/*
 * The merger's session with production, from connect to close: who it talks to, what each transaction begins with, and a
 * COMMIT that no standby holds for ever. One thread, the merger's.
 *
 *     open -> [lease] -> expect -> begin, rows, commit ... -> close
 *
 * Who production is. The system identifier tells a database, the timeline a history of it (a failover, a point in time), and
 * the moment at which the server started its life. What the merger remembers holds for one life of one server only: with
 * each session it is forgotten, and each transaction expects the server that the session began with (tidemill.expect_server),
 * as behind a pooler that may change without the session noticing (FAILURES T5).
 *
 * Standbys. Where the server waits for a synchronous standby that is gone, COMMIT would hang for ever. After `standby_wait`
 * the server is told to wait no longer; the transaction is there, but perhaps nowhere else. From then on transactions are
 * committed without waiting, alarmed, until the clerk finds (tm_replication_probe) that a standby answers again. Nothing
 * rests on the standby: what a failover loses, cursors and rows alike, is polled again, and gatherers keep what was
 * acknowledged for days. Whatever is not rows and cursors (lease, tables) is never waited for.
 */
#ifndef TM_ENGINE_PRODUCTION_H
#define TM_ENGINE_PRODUCTION_H

#include "engine/dedup_private.h"

#define TM_PRODUCTION_EXPECT 320

struct tm_production {
    struct tm_deduplicator *d;
    struct tm_pg *pg;                  /* NULL: none */
    enum tm_pg_class refusal;          /* of the last connect that failed */
    char durability[16];               /* synchronous_commit as the role has it; at least "local" */
    char started[40];                  /* when the server's life began */
    char expect[TM_PRODUCTION_EXPECT]; /* what each transaction expects: lease, server, keys */
};

int tm_production_open(struct tm_production *p, const struct tm_dedup_settings *settings,
                       struct tm_error *err) TM_MUST_CHECK;
void tm_production_close(struct tm_production *p);

/* The tables, and whether they are what the plan's rows are written for. */
int tm_production_prepare(struct tm_production *p, const struct tm_plan *plan, bool migrate,
                          struct tm_error *err) TM_MUST_CHECK;

/* With the lease at hand: who the server is, and what transactions expect from now on. Whoever migrates later with other
 * keys waits for the transactions under way, and fails the next one of ours. */
int tm_production_expect(struct tm_production *p, const struct tm_lease *lease, const struct tm_plan *plan,
                         struct tm_error *err) TM_MUST_CHECK;

/* How a transaction begins: statements without result, to be sent ahead of others in one message; or alone. */
struct tm_production_opening {
    char sql[TM_PRODUCTION_EXPECT + 80];
};
struct tm_production_opening tm_production_opening(const struct tm_production *p);
int tm_production_begin(struct tm_production *p, struct tm_error *err) TM_MUST_CHECK;
int tm_production_commit(struct tm_production *p, int64_t standby_us, struct tm_error *err) TM_MUST_CHECK;

/* What the last failure was, and so what to do. */
enum tm_pg_class tm_production_class(const struct tm_production *p);

/* Clerk: while transactions are committed without waiting, a small one of its own tells whether a standby answers. */
int tm_replication_probe(struct tm_deduplicator *d, struct tm_pg *pg, struct tm_error *err) TM_MUST_CHECK;

#endif
