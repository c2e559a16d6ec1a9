/*
 * The rows of one transaction: which of the polled rows go into production, and putting them there. merger.c
 * opens and ends the transaction and moves the cursors.
 *
 *     choose     what production is known to hold and what is twice in the transaction is left out, absurd times are
 *                set aside; no statement is sent
 *     make_days  the partitions that the rows need, outside the transaction
 *     store      COPY; refused and absurd rows into tidemill.quarantine
 *                Rows of days that retention has sealed go to tidemill.late, and what gatherers disagree about to
 *                tidemill.conflicts, beside what is stored
 *     committed  the seen-sets learn what is in production now; polled = written + duplicate + quarantined + late is
 *                counted
 *
 * A row that was left out as a repeat of one that production then refused is stored in its place: it may be
 * the good copy (another gatherer's). One thread.
 */
#ifndef TM_ENGINE_MERGE_H
#define TM_ENGINE_MERGE_H

#include "engine/dedup_private.h"

struct tm_merge;

int tm_merge_create(struct tm_deduplicator *d, const struct tm_dedup_settings *settings, struct tm_merge **out,
                    struct tm_error *err) TM_MUST_CHECK;
void tm_merge_destroy(struct tm_merge *m);

/* Other settings, between two transactions; the caller holds them. A new plan's streams keep the seen-set of the stream of
 * their name where the key means the same. Nothing has changed when it fails. */
int tm_merge_set_settings(struct tm_merge *m, const struct tm_dedup_settings *settings,
                          struct tm_error *err) TM_MUST_CHECK;

/* Can there be a merge by this plan? For a check before a reload, on any thread. */
int tm_merge_check(const struct tm_plan *plan, struct tm_error *err) TM_MUST_CHECK;

/* Another connection: what the seen-sets and the list of partitions know may not be true there (FAILURES T5).
 */
void tm_merge_forget(struct tm_merge *m);

/* Partitions for the days to come; cheap when they are there. */
int tm_merge_days_ahead(struct tm_merge *m, struct tm_pg *pg, struct tm_error *err) TM_MUST_CHECK;

/* The batches stay the caller's and must live until `committed` or the next choice. */
int tm_merge_choose(struct tm_merge *m, struct tm_batch *const *batches, size_t count,
                    struct tm_error *err) TM_MUST_CHECK;
int tm_merge_make_days(struct tm_merge *m, struct tm_pg *pg, struct tm_error *err) TM_MUST_CHECK;
/* `opening` and COPY into every table that as a rule refuses nothing, in one message, as each further one costs both sides
 * a wake-up. After an error nothing is stored; TM_EPOISON: a row was refused, so roll back, begin again, and leave all of
 * it to tm_merge_store. */
int tm_merge_store_at_once(struct tm_merge *m, struct tm_pg *pg, const char *opening,
                           struct tm_error *err) TM_MUST_CHECK;
/* What is not stored yet. */
int tm_merge_store(struct tm_merge *m, struct tm_pg *pg, struct tm_error *err) TM_MUST_CHECK;
void tm_merge_committed(struct tm_merge *m);

#endif
