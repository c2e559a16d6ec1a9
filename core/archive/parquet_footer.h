/*
 * The footer of a file, read and checked: FileMetaData of parquet.thrift, as far as the reader needs it.
 */
#ifndef TM_ARCHIVE_PARQUET_FOOTER_H
#define TM_ARCHIVE_PARQUET_FOOTER_H

#include "archive/parquet_format.h"

/* A column chunk: pages from `at` up to `at + bytes`. */
struct tm_parquet_place {
    uint64_t at, bytes;
    bool dictionary; /* the first page is one */
    bool bounded;    /* min and max are known, of an integer or timestamptz column */
    int64_t min, max;
    int64_t nulls; /* -1: not said */
};

struct tm_parquet_footer {
    struct tm_parquet_column columns[TM_COLUMNS_MAX];
    size_t column_count;
    uint64_t rows;
    size_t group_count;
    struct tm_buf group_rows; /* uint64_t each */
    struct tm_buf places;     /* struct tm_parquet_place, columns of a group beside each other */
    struct tm_buf texts;      /* names, then key and value in turns, each with its NUL */
    size_t meta_at, meta_count;
    size_t created_by_at;
};

/*
 * `bytes` are the footer without length and magic, which begins at `at` of the file. What must hold: flat columns of our
 * types; row groups of 1 to TM_PARQUET_GROUP_ROWS_MAX rows, which add up; column chunks that follow each other without a
 * byte between, from the first magic to the footer. `memory_max` bounds what is allocated. TM_ECORRUPT, TM_ENOMEM.
 */
int tm_parquet_footer_read(struct tm_parquet_footer *f, const uint8_t *bytes, size_t len, uint64_t at,
                           size_t memory_max, struct tm_error *err) TM_MUST_CHECK;
void tm_parquet_footer_fini(struct tm_parquet_footer *f); /* also after a failure */

static inline uint64_t tm_parquet_group_rows(const struct tm_parquet_footer *f, size_t group)
{
    return ((const uint64_t *)(const void *)f->group_rows.data)[group];
}

static inline const struct tm_parquet_place *tm_parquet_place(const struct tm_parquet_footer *f, size_t group,
                                                              size_t column)
{
    return (const struct tm_parquet_place *)(const void *)f->places.data + group * f->column_count + column;
}

#endif
