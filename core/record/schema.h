/*
 * SQL text from stream definitions: the only place that writes DDL of stream tables. Pure text; store/migrate.h runs it.
 *
 * Every statement is idempotent (IF NOT EXISTS, ADD COLUMN IF NOT EXISTS), so migrating twice changes nothing, and a
 * stream whose definition grew a column gets it. Names were checked by tm_plan_compile.
 *
 * Gatherer's store: table per stream with all columns plus `epoch_no int4 NOT NULL DEFAULT <n>`, PRIMARY KEY
 * (epoch_no, seq), range-partitioned by (epoch_no, seq) (record/plan.h says why the poll is by seq); no unique key over
 * exchange fields. Upsert streams: plain table, PRIMARY KEY = key, index on (epoch_no, seq).
 * Production: unique key = stream->key (time first), text COLLATE "C", partitioned as declared; observer streams: unique
 * (gatherer, epoch, seq); `within` streams: an index over the key instead of a unique one. Where the extension
 * timescaledb is present at run time, TM_PARTITION_DAY tables become hypertables (a DO block decides).
 * Both: schema `readable` with a view per stream: decimals as numeric.
 */
#ifndef TM_RECORD_SCHEMA_H
#define TM_RECORD_SCHEMA_H

#include "base/buf.h"
#include "record/plan.h"

int tm_schema_local(const struct tm_plan *plan, struct tm_buf *out) TM_MUST_CHECK;
int tm_schema_production(const struct tm_plan *plan, struct tm_buf *out) TM_MUST_CHECK;

/* Column lists "a,b,c": what the poll selects from the gatherer (production columns, then seq unless it is one of
 * them), what COPY into production names, and the conflict target of the unique key. */
int tm_schema_poll_columns(const struct tm_stream *stream, struct tm_buf *out) TM_MUST_CHECK;
int tm_schema_production_columns(const struct tm_stream *stream, struct tm_buf *out) TM_MUST_CHECK;
int tm_schema_key_columns(const struct tm_stream *stream, struct tm_buf *out) TM_MUST_CHECK;

#endif
