/*
 * SQL text from stream definitions: the only place that writes DDL of stream tables. Pure text; store/migrate.h runs it.
 *
 * Every statement is idempotent (IF NOT EXISTS, ADD COLUMN IF NOT EXISTS, OR REPLACE), so migrating twice changes
 * nothing, and a stream whose definition grew a column gets it (nullable: old rows have no value for it). What a
 * definition lost stays in the table; a changed type or key is for a person to migrate. Names were checked by
 * tm_plan_compile and are written without quotes, so tables are those of the connection's search_path.
 *
 * Gatherer's store: table per stream with all columns plus `epoch_no int4 NOT NULL DEFAULT 0` (the store room sets the
 * default of the day), PRIMARY KEY (epoch_no, seq), range-partitioned by (epoch_no, seq), because the poll and the drop
 * are by seq; no unique key over exchange fields. Upsert streams: plain table, PRIMARY KEY = key, index on
 * (epoch_no, seq).
 *
 * Production: unique key = stream->key (time first; NULLS NOT DISTINCT where a column of it may be NULL), text COLLATE
 * "C", partitioned as declared; observer streams: unique (gatherer, epoch, seq), led by the day's column if there are
 * days. Where a stream has several keys, the unique indexes are not the parent's but each day's own:
 * a day has those of the keys that hold in it, and one in which a key ends has two, each for its side of the moment. So
 * a new key touches no day before it. ON CONFLICT DO NOTHING and COPY's 23505 look at the partition's indexes and mind no
 * parent. `within` streams have no unique key but an index on (ticker or the key's first column, received_at). Where the
 * extension timescaledb is present when the table is made, TM_PARTITION_DAY tables become hypertables (a DO block
 * decides, before there is a native parent).
 *
 * Hash-partitioned streams: a BRIN index on the exchange's time. Both: a BRIN index on received_at, and in schema `readable` a view per stream with decimals as numeric and without
 * epoch, sid and sequence numbers.
 *
 * Partitions. Made here: <stream>_h0 to _h7 (hash). Made by the store room as time goes by: <stream>_e<epoch_no>_<n>
 * (gatherer, n counts ranges of seq) and <stream>_p<yyyymmdd> (production, UTC days).
 */
#ifndef TM_RECORD_SCHEMA_H
#define TM_RECORD_SCHEMA_H

#include "base/arena.h"
#include "base/buf.h"
#include "record/plan.h"

int tm_schema_local(const struct tm_plan *plan, struct tm_buf *out) TM_MUST_CHECK;
int tm_schema_production(const struct tm_plan *plan, struct tm_buf *out) TM_MUST_CHECK;

/*
 * The unique indexes of the partition that holds the exchange times from_us <= t < to_us; returns how many. A name tells
 * columns and span apart, so an index that has it is the right one.
 */
struct tm_day_index {
    char name[64];
    const char *sql; /* CREATE UNIQUE INDEX */
};
#define TM_DAY_INDEX_MARK "_key_" /* between the partition's name and what tells its indexes apart */
int tm_schema_day_indexes(const struct tm_stream *stream, const char *partition, int64_t from_us, int64_t to_us,
                          struct tm_arena *arena, struct tm_day_index out[TM_KEYS_MAX]) TM_MUST_CHECK;

/* Column lists "a,b,c": what the poll selects from the gatherer (production columns, then seq unless it is one of
 * them), what COPY into production names, and the conflict target of the unique key. */
int tm_schema_poll_columns(const struct tm_stream *stream, struct tm_buf *out) TM_MUST_CHECK;
int tm_schema_production_columns(const struct tm_stream *stream, struct tm_buf *out) TM_MUST_CHECK;
int tm_schema_key_columns(const struct tm_stream *stream, struct tm_buf *out) TM_MUST_CHECK;

#endif
