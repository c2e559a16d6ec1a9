/*
 * One object of the archive, row by row: tuples become Parquet and go to the target as they come; and back.
 *
 *     writer    create, put a tuple at a time, finish or abort. Nothing is begun at the target before the first row, so an
 *               object without rows is none. What is kept of the rows: how many, the first, the last, the span of a column
 *     reader    verifies size and hash first, then hands over batches of tuples
 *
 * Blocks. One thread.
 */
#ifndef TM_ARCHIVE_OBJECT_H
#define TM_ARCHIVE_OBJECT_H

#include "archive/parquet.h"
#include "archive/target.h"

struct tm_object_writer;

/* Columns and key are copied. */
int tm_object_writer_create(struct tm_target *target, const char *key, const struct tm_parquet_column *columns,
                            size_t column_count, struct tm_object_writer **out, struct tm_error *err) TM_MUST_CHECK;
/* In the form of tm_pg_copy_row. TM_ECONFLICT: the object is there already. */
int tm_object_writer_put(void *writer, const uint8_t *tuple, size_t len, struct tm_error *err) TM_MUST_CHECK;

struct tm_object_written {
    uint64_t rows;
    struct tm_put_result what;
};
/* Publish it and free the writer, whatever comes; without rows there is no object. */
int tm_object_writer_finish(struct tm_object_writer *w, struct tm_object_written *out,
                            struct tm_error *err) TM_MUST_CHECK;
void tm_object_writer_abort(struct tm_object_writer *w); /* NULL is fine */

/* Before finish: the first and the last tuple (empty: no rows), and the span of an integer or time column. */
struct tm_span_bytes tm_object_writer_first(const struct tm_object_writer *w);
struct tm_span_bytes tm_object_writer_last(const struct tm_object_writer *w);
struct tm_parquet_span tm_object_writer_span(const struct tm_object_writer *w, size_t column);

/* Whole tuples laid end to end. */
typedef int tm_object_take(void *arg, const uint8_t *tuples, size_t len, size_t rows, struct tm_error *err);

/*
 * Read an object: its bytes must be what `what` says before any row is handed over, and its rows as many as `rows`.
 * TM_ENOENT, TM_ECORRUPT: it is not what was promised. TM_EINVAL: its columns do not fit those that are wanted. A column
 * that it lacks is NULL, one that is not wanted is left out. What `take` returns ends it and is returned.
 */
struct tm_object_reading {
    const char *key;
    struct tm_put_result what;
    uint64_t rows;
    const struct tm_parquet_column *columns;
    size_t column_count;
};
int tm_object_read(struct tm_target *target, const struct tm_object_reading *r, tm_object_take *take, void *arg,
                   struct tm_error *err) TM_MUST_CHECK;

/* Size and hash of what is there, and how many rows it says it has: for an object whose writer died before its manifest. */
int tm_object_look(struct tm_target *target, const char *key, struct tm_object_written *out,
                   struct tm_error *err) TM_MUST_CHECK;

#endif
