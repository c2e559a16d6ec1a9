/*
 * The books of the store writer (FAILURES I7). For each stream of a gatherer, since the process began:
 *
 *     received              = journaled + duplicate + discarded                             (engine/intake.h)
 *     journaled + replayed  = stored + quarantined + gone + pending
 *
 *     replayed   rows that this process had to store though it did not journal them since: what the process before it left
 *                in the journal, and what the store lost in a crash of its own and is given again
 *     gone       rows that were never found in the journal: damage, or a store older than what was released
 *     pending    a gauge: rows of the journal that the store has not got; from the seqs of both, so from another source than
 *                the counters
 *
 * In a deduplicator, for each stream: polled = written + duplicate + quarantined (counted with each COMMIT).
 * The writer's thread, but for create.
 */
#ifndef TM_ENGINE_ACCOUNT_H
#define TM_ENGINE_ACCOUNT_H

#include "engine/lanes.h"
#include "engine/metrics.h"

struct tm_accounts;

/* Before anything is appended to the journal. */
struct tm_accounts *tm_accounts_create(struct tm_journal *journal, const struct tm_plan *plan,
                                       struct tm_metrics *metrics);
void tm_accounts_destroy(struct tm_accounts *accounts);

/* A session has read where the store stands. */
void tm_accounts_loaded(struct tm_accounts *accounts, struct tm_lanes *lanes);
/* What is in the lanes is committed; before they are cleared. */
void tm_accounts_committed(struct tm_accounts *accounts, struct tm_lanes *lanes);
/* Bring `pending` up to date. */
void tm_accounts_publish(struct tm_accounts *accounts);

#endif
