/*
 * Schemas of both stores: stream tables (text from record/schema.h) and the engine's own tables in schema
 * `tidemill`. Applying is idempotent, takes an advisory lock so that two processes cannot race, and runs in
 * one transaction.
 *
 * Gatherer's store
 *   tidemill.epochs      epoch_no int4 PK, epoch uuid UNIQUE, gatherer text, created_at
 *   tidemill.checkpoint  epoch_no PK, segment int8, journal_offset int8        where the writer continues in
 * the journal tidemill.streams     (epoch_no, stream) PK, seq int8, hash int8, first_seq int8   last
 * committed seq of each stream tidemill.marks       (epoch_no, stream, seq) PK, hash int8, committed_at   one
 * per stream and commit: where a cursor may stand, with the running hash of the stream's history up to it
 * (FAILURES T4b) NOTIFY tidemill      after each commit Production tidemill.cursors     (gatherer, epoch
 * uuid, stream, shard int4) PK, seq int8, hash int8, updated_at tidemill.quarantine  id, at, stream,
 * gatherer, epoch, seq, sqlstate, error, columns, tuple bytea Both: tidemill.meta    key PK, value
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

/* The number of `epoch` in this gatherer's store; registers it and makes it the tables' default when it is
 * new. */
int tm_migrate_epoch(struct tm_pg *pg, const struct tm_plan *plan, const uint8_t epoch[16],
                     const char *gatherer, int32_t *epoch_no, struct tm_error *err) TM_MUST_CHECK;

/* Gatherer: a partition of `stream` that holds `seq` and one ahead; outside any transaction of rows, cheap
 * when there. */
/* The last seq of the partition that holds `seq`. */
int64_t tm_migrate_local_partition_end(int64_t seq);
int tm_migrate_local_partition(struct tm_pg *pg, const struct tm_stream *stream, int32_t epoch_no,
                               int64_t seq, struct tm_error *err) TM_MUST_CHECK;

/* An id as PostgreSQL writes it. */
void tm_uuid_format(const uint8_t uuid[16], char out[37]);

/* Production: the partitions of TM_PARTITION_DAY streams from `from_us` to `to_us` (Unix, UTC days,
 * inclusive). */
int tm_migrate_production_days(struct tm_pg *pg, const struct tm_plan *plan, int64_t from_us, int64_t to_us,
                               struct tm_error *err) TM_MUST_CHECK;

#endif
