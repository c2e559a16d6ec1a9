/*
 * tidemill.keys: by which keys a store's records are told apart, and since when it is known.
 *
 *     stream, from_ts ('-infinity': the first key), columns, occurrence, known_since
 *
 * A plan may go on from what is recorded (record/keys.h): a key may be added whose moment is later than every record in
 * the store. Anything else is refused with TM_ESTATE: it would make two records of one, or one of two. In production a key
 * that has not begun is not taken back either, since the script that lacks it may just be an old one; in a gatherer's
 * store, which has one process, it is.
 *
 * Whoever changes the list holds tidemill.keys exclusively from its look at the newest record to its COMMIT; whoever
 * merges rows into production holds it shared and expects the list it began with (tidemill.expect_keys). So no row slips
 * in under another list than its store has.
 */
#ifndef TM_STORE_KEYS_H
#define TM_STORE_KEYS_H

#include "record/keys.h"
#include "store/copy.h"

#define TM_KEYS_DIGEST 33

/* Inside the transaction that migrates, before anything else: may the plan's keys follow on what is recorded? What does
 * not hold any more is deleted; the schema's text records the rest. */
int tm_keys_judge(struct tm_pg *pg, const struct tm_plan *plan, enum tm_copy_side side,
                  struct tm_error *err) TM_MUST_CHECK;

/*
 * Inside the same transaction, after the tables: where a stream has several keys, each day has the unique indexes of
 * those that hold in it (record/schema.h). While it had one, the parent had it for all days. To be rid of that index and
 * keep the days', the partitions are detached, which makes their indexes their own, and attached again; days made by
 * this version carry a CHECK of their bounds, so that attaching does not read them.
 */
int tm_keys_index_days(struct tm_pg *pg, const struct tm_plan *plan, struct tm_error *err) TM_MUST_CHECK;
/* The same of one partition that is not attached yet, or was made by a process that did not know the keys. */
int tm_keys_index_day(struct tm_pg *pg, const struct tm_stream *stream, const char *partition, int64_t day_us,
                      struct tm_error *err) TM_MUST_CHECK;
/* Has the table itself the unique index? Then a new partition gets it from there. */
int tm_keys_parent_is_unique(struct tm_pg *pg, const struct tm_stream *stream, bool *unique,
                             struct tm_error *err) TM_MUST_CHECK;

/*
 * A session of the deduplicator: TM_ESTATE unless production has recorded just what the plan declares. `digest` is for
 * tidemill.expect_keys, at the beginning of each transaction; "" where production has no list and the plan needs none.
 */
int tm_keys_expect(struct tm_pg *pg, const struct tm_plan *plan, char digest[TM_KEYS_DIGEST],
                   struct tm_error *err) TM_MUST_CHECK;

/*
 * After rows of a gatherer's store with times up to newest_us were read, and before they are taken: TM_ESTATE unless the
 * gatherer and this plan know the same keys of the stream, of those that have begun by then. A gatherer that did not know
 * one has numbered or dropped rows by another; a plan that does not would merge them by another.
 */
int tm_keys_are_known(struct tm_pg *pg, const struct tm_stream *stream, int64_t newest_us,
                      struct tm_error *err) TM_MUST_CHECK;

#endif
