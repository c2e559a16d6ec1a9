/*
 * Parquet files of rows: written from binary COPY tuples, read back as binary COPY tuples.
 *
 * Source of all facts: the Apache Parquet format, parquet.thrift, Encodings.md, LogicalTypes.md; the comments name the
 * section. A file is flat: one column for each column of the tuples, in their order. What PostgreSQL's types become:
 *
 *     bool         BOOLEAN                                    int2         INT32, INTEGER(16, signed)
 *     int4         INT32                                      int8         INT64
 *     int2, scale  INT32, DECIMAL(5, scale)                   int4, scale  INT64, DECIMAL(10, scale)
 *     int8, scale  INT64, DECIMAL(18, scale)                  float8       DOUBLE
 *     timestamptz  INT64, TIMESTAMP(UTC, microseconds)        text         BYTE_ARRAY, STRING
 *     jsonb        BYTE_ARRAY, JSON                           bytea        BYTE_ARRAY
 *     uuid         FIXED_LEN_BYTE_ARRAY(16), UUID
 *
 * Every value comes back bit for bit. An int8 with a scale may hold more than DECIMAL's 18 digits; it is written all the
 * same, other readers may show it as they like. Infinite times are the extremes that DuckDB takes for infinite (+-(2^63 -
 * 1)); a finite one after year 294246 does not fit and is refused.
 *
 * Row groups are of bounded rows and bytes. Pages are of the first version, ZSTD, each with its CRC32. Encodings: see
 * parquet_column.h. Statistics: null_count of all columns; min and max of all but jsonb and bytea, long texts cut.
 *
 * The reader takes what this writer writes, and refuses the rest with an error that says what was met: nested columns,
 * other codecs, encodings, page versions, pages without CRC. It trusts no byte: each offset, length, count and level is
 * checked before it is used, and what it allocates stays below `memory_max`. What no CRC covers (footer, page headers)
 * is for the object's own hash in the manifest to protect: a flipped bit in a statistic skips a row group.
 *
 * Neither starts a thread or waits, but in the callbacks. An object is one thread's at a time.
 */
#ifndef TM_ARCHIVE_PARQUET_H
#define TM_ARCHIVE_PARQUET_H

#include "base/buf.h"
#include "record/plan.h"
#include "store/copy.h"

#define TM_PARQUET_GROUP_ROWS (1 << 17)     /* of a row group, unless the options say otherwise */
#define TM_PARQUET_GROUP_ROWS_MAX (1 << 20) /* what the options may say, and what the reader takes */
#define TM_PARQUET_GROUP_BYTES (32 << 20)   /* of a row group's values before they are encoded */
#define TM_PARQUET_MEMORY_MAX ((size_t)256 << 20)

struct tm_parquet_column {
    const char *name;
    enum tm_type type;
    int scale;     /* of int2, int4, int8: digits behind the point; 0: a plain integer */
    bool nullable; /* false: REQUIRED */
};

/*
 * The columns of a stream's rows on one side, in the order of tm_schema_production_columns or of stream->copy_columns;
 * returns how many. All are nullable: a table's column that was added later has no value in older rows, whatever the
 * definition says today.
 */
size_t tm_parquet_columns(const struct tm_stream *stream, enum tm_copy_side side,
                          struct tm_parquet_column out[TM_COLUMNS_MAX]);

/* A pair of the file's key/value metadata. */
struct tm_parquet_meta {
    const char *key, *value;
};

/* ---- writing ----
 *
 * create, put until there are no more rows, finish; destroy in any case. After an error only destroy is left.
 *
 * Memory: the values of one row group (group_bytes and the last tuple), and as much again while it is encoded.
 */
struct tm_parquet_writer;

/* The next bytes of the file, some 10 to 1,000 kB at a time. A negative answer ends the writing and is passed on. */
typedef int tm_parquet_sink(void *arg, const void *bytes, size_t len, struct tm_error *err);

struct tm_parquet_writer_options {
    const struct tm_parquet_column *columns; /* copied */
    size_t column_count;                     /* 1..TM_COLUMNS_MAX */
    tm_parquet_sink *sink;
    void *arg;
    const char *created_by; /* "tidemill version 1.2.3"; NULL: "tidemill" */
    uint32_t group_rows;    /* 0: TM_PARQUET_GROUP_ROWS */
    size_t group_bytes;     /* 0: TM_PARQUET_GROUP_BYTES */
    int level;              /* of zstd, 1..19; 0: 3 */
};

struct tm_parquet_summary {
    uint64_t rows, bytes; /* bytes: of the whole file, all given to the sink */
    uint32_t groups;
};

/* The lowest and highest value of an integer or timestamptz column over the whole file; times are Unix microseconds, with
 * infinite ones as the extremes. `any` is false where all are NULL, or the column is of another type. */
struct tm_parquet_span {
    bool any;
    int64_t min, max;
    uint64_t nulls;
};

/* TM_EINVAL names the column and what is wrong with it, or the option. */
int tm_parquet_writer_create(const struct tm_parquet_writer_options *options, struct tm_parquet_writer **out,
                             struct tm_error *err) TM_MUST_CHECK;

/* Whole tuples laid end to end, as tm_pg_copy_out gives them; no header, no trailer. TM_ECORRUPT: not such tuples;
 * TM_EPOISON: a value that the file cannot hold (NULL in a REQUIRED column, a time beyond the range). Both name row and
 * column. */
int tm_parquet_writer_put(struct tm_parquet_writer *w, const uint8_t *tuples, size_t len,
                          struct tm_error *err) TM_MUST_CHECK;

uint64_t tm_parquet_writer_rows(const struct tm_parquet_writer *w); /* put so far */

/* Of the rows put so far; so it can become metadata of the file. */
struct tm_parquet_span tm_parquet_writer_span(const struct tm_parquet_writer *w, size_t column);

/* The last row group, the metadata and the footer. A file without rows is a good file. */
int tm_parquet_writer_finish(struct tm_parquet_writer *w, const struct tm_parquet_meta *meta, size_t meta_count,
                             struct tm_parquet_summary *summary, struct tm_error *err) TM_MUST_CHECK;
void tm_parquet_writer_destroy(struct tm_parquet_writer *w); /* NULL is fine */

/* ---- reading ----
 *
 * open, expect, perhaps range, then next until it gives 0; close in any case. TM_ECORRUPT says row group, column, page
 * and byte of the file where they are known. What the callback answers is passed on.
 */
struct tm_parquet_reader;

/* Exactly `len` bytes from `offset`, which lie within the size that was told. */
typedef int tm_parquet_read_at(void *arg, uint64_t offset, void *bytes, size_t len, struct tm_error *err);

struct tm_parquet_reader_options {
    tm_parquet_read_at *read_at;
    void *arg;
    uint64_t size;     /* of the file */
    size_t fetch;      /* bytes to ask for at a time, so a ranged GET pays; 0: 1 MiB */
    size_t memory_max; /* 0: TM_PARQUET_MEMORY_MAX. A file that needs more is refused (TM_ENOMEM) */
};

/* Reads the footer only, in one or two calls. */
int tm_parquet_reader_open(const struct tm_parquet_reader_options *options, struct tm_parquet_reader **out,
                           struct tm_error *err) TM_MUST_CHECK;
void tm_parquet_reader_close(struct tm_parquet_reader *r); /* NULL is fine */

/* What the footer says. Pointers are the reader's. */
uint64_t tm_parquet_reader_rows(const struct tm_parquet_reader *r);
size_t tm_parquet_reader_groups(const struct tm_parquet_reader *r);
const char *tm_parquet_reader_created_by(const struct tm_parquet_reader *r);
const char *tm_parquet_reader_meta(const struct tm_parquet_reader *r, const char *key); /* NULL: none */
const struct tm_parquet_column *tm_parquet_reader_columns(const struct tm_parquet_reader *r, size_t *count);

/* Over all row groups, from their statistics; `any` is false where one of them has none. */
struct tm_parquet_span tm_parquet_reader_span(const struct tm_parquet_reader *r, size_t column);

/*
 * The tuples that are wanted: these columns, by name, in this order. TM_EINVAL unless each is in the file with the same
 * type and scale and the file has no others; the error names the first that is not so. Without this call the tuples have
 * the file's columns.
 */
enum tm_parquet_leniency {
    TM_PARQUET_EXACT = 0,
    TM_PARQUET_MISSING_NULL = 1,  /* a nullable column that the file lacks is NULL */
    TM_PARQUET_IGNORE_OTHERS = 2, /* columns of the file that are not wanted are not read */
};
int tm_parquet_reader_expect(struct tm_parquet_reader *r, const struct tm_parquet_column *columns, size_t count,
                             unsigned leniency, struct tm_error *err) TM_MUST_CHECK;

/*
 * Only rows whose integer or timestamptz column (Unix microseconds) has from <= v < until, or is NULL. Row groups that
 * by their statistics have none are not read. INT64_MIN and INT64_MAX: no bound on that side. Begins anew.
 */
int tm_parquet_reader_range(struct tm_parquet_reader *r, const char *column, int64_t from, int64_t until,
                            struct tm_error *err) TM_MUST_CHECK;

/*
 * Append whole tuples to `out`, at least one, until it grew by `bytes_max` or the row group ends; 1, or 0 after the last
 * row. On an error nothing is appended. *rows: how many; *group: of which row group, from 0.
 */
int tm_parquet_reader_next(struct tm_parquet_reader *r, size_t bytes_max, struct tm_buf *out, size_t *rows,
                           size_t *group, struct tm_error *err) TM_MUST_CHECK;

/* Row groups that `next` passed over by their statistics so far. */
size_t tm_parquet_reader_skipped(const struct tm_parquet_reader *r);

#endif
