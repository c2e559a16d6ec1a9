/*
 * Storing rows: COPY first, and what to do when a batch is refused.
 *
 * All inside the caller's open transaction, each attempt under a savepoint. The straight COPY of the whole
 * batch is the fast path (MEASURED.md: 2.5 times the others). Where it meets
 *   - a key that is there already (23505, unique streams): COPY to a temporary table and INSERT ... ON
 * CONFLICT DO NOTHING;
 *   - a row that can never be stored (classes 22, 23): the batch is halved until the row stands alone; it is
 * given to `on_reject` with SQLSTATE and message, and the rest is stored. A bad row never costs its
 * neighbours. Streams with within_us and upserts always go by the temporary table: a key received within
 * `within_us` of a stored one is a duplicate; an upsert replaces an older row.
 */
#ifndef TM_STORE_COPY_H
#define TM_STORE_COPY_H

#include "record/plan.h"
#include "store/pg.h"

enum tm_copy_side { TM_COPY_LOCAL, TM_COPY_PRODUCTION };

struct tm_copy_result {
    uint64_t stored, duplicate, rejected;
    bool conflicted; /* the slow path was needed */
};

typedef int tm_copy_reject(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple,
                           const char *sqlstate, const char *message);

struct tm_copy_batch {
    const struct tm_stream *stream;
    enum tm_copy_side side;
    const char *columns;                /* the tuples' column list */
    const struct tm_span_bytes *tuples; /* one row each */
    size_t count;
    bool expect_conflicts; /* go to the temporary table at once (catch-up after a restart) */
    tm_copy_reject *on_reject;
    void *arg;
};

int tm_copy_rows(struct tm_pg *pg, const struct tm_copy_batch *batch, struct tm_copy_result *result,
                 struct tm_error *err) TM_MUST_CHECK;

#endif
