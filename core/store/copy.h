/*
 * Storing rows: COPY first, and what to do when a batch is refused.
 *
 * All inside the caller's open transaction, each attempt under the savepoint tm_copy. The straight COPY of
 * the whole batch is the fast path (MEASURED.md: 2.5 times the others). Where it meets
 *   - a key that is there already (23505, unique streams in production), the batch is copied to the stage, a
 *     temporary table, and goes on by INSERT ... ON CONFLICT DO NOTHING. In a gatherer's store the key is our
 *     own seq, so a row that is there already is not a duplicate but another history: TM_ECORRUPT;
 *   - a row that can never be stored (classes 22, 23, 54), the batch is halved until the row stands alone; it
 *     is given to `on_reject` with SQLSTATE and message, and the rest is stored. A bad row never costs its
 *     neighbours. on_reject may use the connection.
 * Production's records that are there already are compared where they were staged: what a stream says beyond its key and its
 * times may differ between gatherers, and then both versions go to tidemill.conflicts (FAILURES T26). NULL is no version.
 * Two kinds of stream always go by the stage:
 *   - upserts: of equal keys the newest stays, by order of the rows in a gatherer's store, by received_at in
 *     production (where a row that came late does not undo a newer one);
 *   - within_us in production: a row received within that time of a stored one with an equal key is a
 *     duplicate. In a batch the older row counts as stored first.
 *
 * After an error the transaction is over: roll it back. stored + duplicate + rejected = count after success.
 */
#ifndef TM_STORE_COPY_H
#define TM_STORE_COPY_H

#include "record/plan.h"
#include "store/pg.h"

enum tm_copy_side { TM_COPY_LOCAL, TM_COPY_PRODUCTION };

struct tm_copy_result {
    uint64_t stored, duplicate, rejected;
    uint64_t disagreeing; /* of the duplicates that were staged: newly found in tidemill.conflicts */
    bool conflicted;      /* the slow path was needed */
};

typedef int tm_copy_reject(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple,
                           const char *sqlstate, const char *message);

struct tm_copy_batch {
    const struct tm_stream *stream;
    enum tm_copy_side side;
    const char *columns;                /* the tuples' column list */
    const struct tm_span_bytes *tuples; /* one row each */
    size_t count;
    const char *gatherer;  /* whose rows they are, a plain word; NULL: not one gatherer's */
    bool expect_conflicts; /* go to the temporary table at once (catch-up after a restart) */
    tm_copy_reject *on_reject;
    void *arg;
};

/*
 * The statements that store a batch, with one COPY FROM STDIN among them, each ended by ";": to be sent in one message with
 * those of other batches, where nothing is refused as a rule (tm_pg_copy_in_parts). They have no savepoint and count
 * nothing: when the message fails, roll back and store batch by batch. Not for a stream that is `within_us` in production.
 */
int tm_copy_statements(struct tm_pg *pg, const struct tm_copy_batch *batch, struct tm_buf *sql,
                       struct tm_error *err) TM_MUST_CHECK;

int tm_copy_rows(struct tm_pg *pg, const struct tm_copy_batch *batch, struct tm_copy_result *result,
                 struct tm_error *err) TM_MUST_CHECK;

#endif
