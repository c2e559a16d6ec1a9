/*
 * The reader's columns: the pages of one column chunk, fetched, checked and decoded one after the other.
 *
 *     begin ... [load while row == rows] ... values by row and item
 *
 * A page is decoded whole: `items` holds a number for each value that is not NULL. Integers, times (as PostgreSQL's
 * microseconds), booleans and the bits of float8 are themselves; of others it is offset << 32 | length from `base`.
 */
#ifndef TM_ARCHIVE_PARQUET_PAGE_H
#define TM_ARCHIVE_PARQUET_PAGE_H

#include "archive/parquet_footer.h"

#include <zstd.h>

/* What all columns of a reader share: the file and the memory. */
struct tm_parquet_source {
    struct tm_parquet_reader_options options;
    size_t memory; /* allocated through tm_parquet_source_reserve */
    ZSTD_DCtx *zstd;
};

/* Room for `size` bytes in all in `buf`; TM_ENOMEM when the source's memory is used up. */
int tm_parquet_source_reserve(struct tm_parquet_source *s, struct tm_buf *buf, size_t size,
                              struct tm_error *err) TM_MUST_CHECK;

struct tm_parquet_cursor {
    struct tm_parquet_source *source;
    const struct tm_parquet_column *column;
    struct tm_parquet_form form;
    size_t group;

    uint64_t at, end; /* of the file: the next page's header, the end of the chunk */
    uint64_t rows_left; /* of the chunk, in pages to come */
    bool dictionary_due;
    struct tm_buf window; /* bytes of the file from `window_at` on */
    uint64_t window_at;

    uint64_t page_at; /* of the page at hand, for errors */
    unsigned page;    /* its number */

    struct tm_buf dictionary, dictionary_items; /* bytes, and uint64_t each */
    size_t dictionary_count;
    struct tm_buf bytes, items_buf, levels, present_buf;

    /* the page at hand */
    const uint8_t *base, *present; /* present: a byte for each row; NULL: all are */
    const uint64_t *items;
    size_t rows, row, item; /* row and item: the next ones to be given */
};

void tm_parquet_cursor_init(struct tm_parquet_cursor *c, struct tm_parquet_source *source,
                            const struct tm_parquet_column *column);
void tm_parquet_cursor_fini(struct tm_parquet_cursor *c);

/* Stand before the first page of a chunk. */
void tm_parquet_cursor_begin(struct tm_parquet_cursor *c, size_t group, const struct tm_parquet_place *place,
                             uint64_t rows);

/* The next data page of the chunk, which must have one. TM_ECORRUPT, TM_ENOMEM, or what the callback answered. */
int tm_parquet_cursor_load(struct tm_parquet_cursor *c, struct tm_error *err) TM_MUST_CHECK;

/* After the last row: nothing of the chunk may be left. */
int tm_parquet_cursor_end(const struct tm_parquet_cursor *c, struct tm_error *err) TM_MUST_CHECK;

/* TM_ECORRUPT with row group, column, page and byte. */
int tm_parquet_cursor_fault(const struct tm_parquet_cursor *c, struct tm_error *err, const char *what);

/* ---- between parquet_page.c, which fetches, and parquet_decode.c ---- */

struct tm_parquet_page_head {
    int type, values, encoding, level_encoding;
    int32_t compressed, uncompressed, crc;
    bool has_crc, has_part; /* has_part: the header of that type of page */
};

/* Decode c->bytes, of `len`, as a dictionary page or a data page. */
int tm_parquet_decode_dictionary(struct tm_parquet_cursor *c, const struct tm_parquet_page_head *head, size_t len,
                                 struct tm_error *err) TM_MUST_CHECK;
int tm_parquet_decode_page(struct tm_parquet_cursor *c, const struct tm_parquet_page_head *head, size_t len,
                           struct tm_error *err) TM_MUST_CHECK;

#endif
