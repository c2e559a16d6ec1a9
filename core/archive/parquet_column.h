/*
 * The writer's columns: the values of one row group, and what becomes of them.
 *
 * Values are kept as they will be stored: integers, times, booleans and the bits of float8 as int64_t in `fixed`, the
 * others end to end in `bytes`. NULLs take no value. tm_parquet_encode makes a column chunk of them: perhaps a dictionary
 * page, then data pages of TM_PARQUET_PAGE_BYTES. Encodings, chosen for each chunk (bench_parquet has the figures):
 *
 *     RLE_DICTIONARY        where values repeat so much that dictionary and indices take less than the alternative
 *     DELTA_BINARY_PACKED   other integers and times
 *     PLAIN                 other texts and bytes; float8, uuid, bool
 */
#ifndef TM_ARCHIVE_PARQUET_COLUMN_H
#define TM_ARCHIVE_PARQUET_COLUMN_H

#include "archive/parquet_format.h"

#include <zstd.h>

struct tm_parquet_values {
    struct tm_parquet_column column;
    struct tm_parquet_form form;
    struct tm_buf fixed;   /* int64_t each */
    struct tm_buf bytes;   /* end to end */
    struct tm_buf ends;    /* uint32_t each: where a value ends in `bytes` */
    struct tm_buf present; /* a byte for each row, 1: a value; empty while no NULL came */
    size_t rows, count;    /* count: without NULLs */
};

static inline const int64_t *tm_parquet_fixed(const struct tm_parquet_values *v)
{
    return (const int64_t *)(const void *)v->fixed.data;
}

/* Value `i` of a column that is not of int64_t; never NULL, also where all values are empty. */
static inline const uint8_t *tm_parquet_bytes(const struct tm_parquet_values *v, size_t i, size_t *len)
{
    const uint32_t *ends = (const uint32_t *)(const void *)v->ends.data;
    uint32_t begin = i ? ends[i - 1] : 0;
    *len = ends[i] - begin;
    return v->bytes.data ? v->bytes.data + begin : (const uint8_t *)"";
}

void tm_parquet_values_init(struct tm_parquet_values *v, const struct tm_parquet_column *column);
void tm_parquet_values_clear(struct tm_parquet_values *v);
void tm_parquet_values_fini(struct tm_parquet_values *v);

/* Add a field of a COPY tuple (len -1: NULL). TM_ECORRUPT: not a field of the column's type; TM_EPOISON: the file cannot
 * hold it; `why` says it. */
int tm_parquet_values_add(struct tm_parquet_values *v, const uint8_t *field, int32_t len,
                          const char **why) TM_MUST_CHECK;

/* Adds the values to the span; only for integers and times. */
void tm_parquet_values_span(const struct tm_parquet_values *v, struct tm_parquet_span *span);

#define TM_PARQUET_STATISTIC_BYTES_MAX 64 /* of a text; longer ones are cut */

/* Statistics of a chunk, PLAIN without length. */
struct tm_parquet_statistics {
    bool any; /* min and max are there */
    bool min_exact, max_exact;
    uint8_t min[TM_PARQUET_STATISTIC_BYTES_MAX], max[TM_PARQUET_STATISTIC_BYTES_MAX];
    size_t min_len, max_len;
    uint64_t nulls, nans;
};

void tm_parquet_values_statistics(const struct tm_parquet_values *v, struct tm_parquet_statistics *out);

/* A chunk that was written, for the footer. */
struct tm_parquet_chunk {
    uint64_t dictionary_at, data_at; /* in the file; dictionary_at 0: none */
    uint64_t compressed, uncompressed;
    uint32_t data_pages;
    enum tm_parquet_encoding encoding; /* of all data pages */
    uint64_t values;                   /* with NULLs */
    struct tm_parquet_statistics statistics;
};

/* What encoding needs besides; one for all columns. */
struct tm_parquet_encoder {
    ZSTD_CCtx *zstd;
    struct tm_buf slots, firsts, indices; /* of the dictionary (parquet_dictionary.h) */
    struct tm_buf levels;                 /* uint32_t each */
    struct tm_buf head, page, packed;
};

int tm_parquet_encoder_init(struct tm_parquet_encoder *e, int level, struct tm_error *err) TM_MUST_CHECK;
void tm_parquet_encoder_fini(struct tm_parquet_encoder *e);

/* Where finished pages go; a negative answer is passed on. */
typedef int tm_parquet_put_page(void *arg, const struct tm_buf *head, const struct tm_buf *body, struct tm_error *err);

/* `at`: where in the file the chunk begins. */
int tm_parquet_encode(struct tm_parquet_encoder *e, const struct tm_parquet_values *v, uint64_t at,
                      tm_parquet_put_page *put, void *arg, struct tm_parquet_chunk *out,
                      struct tm_error *err) TM_MUST_CHECK;

/* ColumnChunk, an element of RowGroup.columns. */
void tm_parquet_put_chunk(struct tm_thrift_out *t, const struct tm_parquet_values *v,
                          const struct tm_parquet_chunk *chunk);

#endif
