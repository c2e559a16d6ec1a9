/*
 * tidemill.absent (store/migrate.h): rows that a gatherer's epoch had and that are not in its store, by spans of seq, and
 * why. It is how a hole in a stream is told apart from rows that have yet to come.
 *
 *     reason    who writes it                                          lost for production
 *     released  retention, after production acknowledged them          no
 *     expired   retention of a full store (its ledger has the times; the detail names what is archived)   yes
 *     restored  the same, of which production got the rows from the archive    no
 *     archive   `tidemill restore`: rows that the archive should have and has not; gatherer 'archive'
 *     dropped   `tidemill quarantine drop`                             yes
 *     missing   the store writer, when the journal lost them           yes, between from_ts and to_ts
 *
 * Whoever polls steps over what a line covers, and leaves a copy of each lost span in production in the transaction that
 * moves its cursor, so that coverage() never takes a stream for whole where rows of it were lost.
 *
 * One thread at a time.
 */
#ifndef TM_STORE_ABSENT_H
#define TM_STORE_ABSENT_H

#include "store/pg.h"

/* ---- a gatherer's store ---- */

/* Rows `first` to `last` of a stream that the journal does not have any more. */
struct tm_absent_hole {
    const char *gatherer, *epoch, *stream;
    int32_t epoch_no;
    const char *received_column; /* of the stream's table: when a row arrived; NULL: it has none */
    int64_t first, last;
};

/* Write the line, in the transaction of the rows after the hole and behind them. Its times are on the safe side: from the
 * last proof that nothing of it had come (the row before it, or a heartbeat) to the first proof that all of it had. */
int tm_absent_note(struct tm_pg *pg, const struct tm_absent_hole *hole, struct tm_error *err) TM_MUST_CHECK;

/* ---- polling it ---- */

/* A stretch of a line that was stepped over. */
struct tm_absent_step {
    size_t line;
    int64_t first, last;
};

/* All zero: empty. */
struct tm_absent {
    PGresult *lines;
    struct tm_absent_step *steps; /* room for one a line */
    size_t step_count;
};

/* The lines about seqs after `from` up to `to`, and how many there are; what was there before is freed. */
int tm_absent_load(struct tm_absent *a, struct tm_pg *pg, const char *epoch, const char *stream, int64_t from,
                   int64_t to, struct tm_error *err) TM_MUST_CHECK;
void tm_absent_fini(struct tm_absent *a);

/* Begin to step anew. */
void tm_absent_rewind(struct tm_absent *a);
/* The first seq from `expected` on that no line covers, at most `to` + 1. */
int64_t tm_absent_skip(struct tm_absent *a, int64_t expected, int64_t to);

/* Seqs that were stepped over. */
struct tm_absent_count {
    uint64_t lost, released;
};
struct tm_absent_count tm_absent_stepped(const struct tm_absent *a);

/* ---- production ---- */

/* Copy what was stepped over and is lost, unless another shard (store/shards.h) has done so. */
int tm_absent_copy(const struct tm_absent *a, struct tm_pg *pg, const char *gatherer, const char *epoch,
                   const char *stream, struct tm_error *err) TM_MUST_CHECK;

#endif
