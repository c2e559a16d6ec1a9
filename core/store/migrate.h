/*
 * Schemas of both stores: stream tables (text from record/schema.h) and the engine's own tables in schema
 * `tidemill`. Applying is idempotent, takes an advisory lock so that two processes cannot race, and runs in
 * one transaction; a schema that is as it should be is left alone, without locks or rights to change it.
 *
 * A gatherer's store
 *   tidemill.epochs      key epoch_no; epoch uuid, gatherer, created_at
 *   tidemill.checkpoint  key epoch_no; segment, journal_offset: where the writer goes on in the journal
 *   tidemill.streams     key (epoch_no, stream); seq, hash: the last committed row of each stream
 *   tidemill.marks       key (epoch_no, stream, seq); hash, committed_at: one per stream and commit, where a
 *                        cursor may stand, with the running hash of all rows up to it (FAILURES T4b)
 *   tidemill.acknowledged key (production, epoch uuid, stream); seq, at: up to where a production has the rows for good.
 *                        Written by whoever polls for it; `production` names it and its deduplicator's shard
 *   NOTIFY tidemill      with each commit
 * Production
 *   tidemill.cursors     key (gatherer, epoch uuid, stream, shard); seq, hash, updated_at
 *   tidemill.ambiguities key (stream, ticker, from_ts); to_ts, keys, repeats, found_at: counts that may be too low
 *   coverage()           the gap ledger, read (store/coverage.h)
 *   tidemill.gatherers   key (gatherer, epoch uuid); state (active, draining: the script names it no more, retired:
 *                        refused), first_seen, changed_at, detail
 *   tidemill.late        key (gatherer, epoch, stream, seq); at, columns, tuple: rows of days that were sealed (store/late.h)
 *   tidemill.dropped     key (stream, partition); from_ts, to_ts, rows, at: days that retention dropped (store/expiry.h)
 *   tidemill.exports, export_cursors, export_late: what is in the archive (store/exports.h)
 *   tidemill.restores    key manifest; state, asked_at, changed_at, rows, bytes, stored, duplicate, detail: what policy asks
 *                        to be brought back from the archive (engine/refill.h)
 *   tidemill.conflicts   id, at, stream, key, stored, came, gatherer (NULL: not known): records of one key that do not agree
 *   tidemill.members     key member; name, started_at, expires_at: processes that share the shards (store/shards.h)
 *   tidemill.leases      key shard; holder, token, generation, released, taken_at, expires_at: who writes (store/lease.h)
 * Both
 *   tidemill.quarantine  id, at, stream, gatherer, epoch, seq, sqlstate, error, columns, tuple
 *   tidemill.absent      id, at, who, gatherer, epoch, stream, first_seq, last_seq, rows, reason, detail, from_ts, to_ts:
 *                        rows of a gatherer that its store has no more, and why; production has a copy of what it will
 *                        never be given (store/absent.h)
 *   tidemill.restored    key (archive, object); sha256, rows, at: how far a restore came that was interrupted
 *   tidemill.meta        key, value
 *   tidemill.keys        key (stream, from_ts); columns, occurrence, known_since: what makes two records the same, by
 *                        spans of exchange time. A plan that contradicts it is refused with TM_ESTATE (store/keys.h)
 *
 * Partitions are made beside their table and then attached, which waits for no reader and no writer.
 */
#ifndef TM_STORE_MIGRATE_H
#define TM_STORE_MIGRATE_H

#include "record/plan.h"
#include "store/pg.h"

/* The SQL itself, for `tidemill schema`. */
int tm_migrate_sql_local(const struct tm_plan *plan, struct tm_buf *out) TM_MUST_CHECK;
int tm_migrate_sql_production(const struct tm_plan *plan, struct tm_buf *out) TM_MUST_CHECK;

int tm_migrate_local(struct tm_pg *pg, const struct tm_plan *plan, struct tm_error *err) TM_MUST_CHECK;
int tm_migrate_production(struct tm_pg *pg, const struct tm_plan *plan, struct tm_error *err) TM_MUST_CHECK;

/* The number of `epoch` in this gatherer's store; registers it and makes it the tables' default when it is new. */
int tm_migrate_epoch(struct tm_pg *pg, const struct tm_plan *plan, const uint8_t epoch[16], const char *gatherer,
                     int32_t *epoch_no, struct tm_error *err) TM_MUST_CHECK;

/* Rows of a local partition by default: an hour of a busy feed, so that dropping one frees a few hundred megabytes at a
 * time, and a stream that is quiet does not need a new one for weeks. */
#define TM_PARTITION_ROWS INT64_C(4000000)

/* The rows of this store's partitions: `wanted` (0: the default) for one that has none yet, else what it has. */
int tm_migrate_partition_rows(struct tm_pg *pg, int64_t wanted, int64_t *rows, struct tm_error *err) TM_MUST_CHECK;

/* Gatherer: a partition of `stream` that holds `seq` and one ahead. Outside any transaction of rows. */
int tm_migrate_local_partition(struct tm_pg *pg, const struct tm_stream *stream, int32_t epoch_no, int64_t seq,
                               struct tm_error *err) TM_MUST_CHECK;
/* The same where the rows of partitions are known. */
int tm_migrate_local_partition_of(struct tm_pg *pg, const struct tm_stream *stream, int32_t epoch_no, int64_t seq,
                                  int64_t rows, struct tm_error *err) TM_MUST_CHECK;
/* The last seq of the partition that holds `seq`. */
int64_t tm_migrate_local_partition_end(int64_t seq, int64_t rows);

/* An id as PostgreSQL writes it. */
void tm_uuid_format(const uint8_t uuid[16], char out[37]);

/* Production: the partitions of TM_PARTITION_DAY streams from `from_us` to `to_us` (Unix, UTC days, inclusive). */
int tm_migrate_production_days(struct tm_pg *pg, const struct tm_plan *plan, int64_t from_us, int64_t to_us,
                               struct tm_error *err) TM_MUST_CHECK;

#endif
