/*
 * Days where production has TimescaleDB: a table of days is a hypertable then (record/schema.h), and its chunks are dropped
 * and compressed instead of partitions. All by documented functions and views of the extension, since 2.0; without it every
 * call here finds nothing to do.
 *
 *     dropping      a chunk that is older than the time to keep, with its line in tidemill.dropped before it (store/expiry.h):
 *                   so there is no retention policy, which would drop without a word
 *     compressing   a policy of the extension's, for chunks older than `compress` and an hour. Nothing is ever inserted into
 *                   one that is compressed: rows of such times go to tidemill.late (engine/merge.c), as conflicts with
 *                   compressed rows are known to newer versions only, and cost decompression there
 *
 * One thread at a time; autocommit sessions.
 */
#ifndef TM_STORE_HYPERTABLE_H
#define TM_STORE_HYPERTABLE_H

#include "record/plan.h"
#include "store/expiry.h"

int tm_hypertable_is(struct tm_pg *pg, const char *stream, bool *is, struct tm_error *err) TM_MUST_CHECK;

/* As tm_expiry_step, of a hypertable. */
int tm_hypertable_expire(struct tm_pg *pg, const char *stream, int64_t keep_us, bool archived, struct tm_expired *out,
                         struct tm_error *err) TM_MUST_CHECK;

/* Let chunks older than that be compressed from now on; cheap when it is so already. 1: it was set, 0: there was nothing
 * to do, as it is so or the table is no hypertable. */
int tm_hypertable_compress(struct tm_pg *pg, const struct tm_stream *stream, int64_t compress_us,
                           struct tm_error *err) TM_MUST_CHECK;

/* "ALTER TABLE ... SET (timescaledb.compress, ...)": by market, in the order of time. */
int tm_hypertable_compress_sql(const struct tm_stream *stream, struct tm_buf *out) TM_MUST_CHECK;

#endif
