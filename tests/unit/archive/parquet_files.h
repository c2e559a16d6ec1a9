/*
 * Parquet files in memory for the tests of the archive room: tuples written by hand, a file of them, the tuples of a
 * file.
 */
#ifndef TESTS_ARCHIVE_PARQUET_FILES_H
#define TESTS_ARCHIVE_PARQUET_FILES_H

#include "archive/parquet.h"

#include "base/endian.h"

#include <stdlib.h>
#include <string.h>

static inline void put_field(struct tm_buf *out, const void *bytes, size_t len)
{
    uint8_t head[4];
    tm_put_be32(head, (uint32_t)len);
    TM_FATAL_UNLESS(!tm_buf_append(out, head, 4) && !tm_buf_append(out, bytes, len));
}

static inline void put_null(struct tm_buf *out)
{
    TM_FATAL_UNLESS(!tm_buf_append(out, "\xff\xff\xff\xff", 4));
}

/* An integer of `len` bytes; also bool, a time as PostgreSQL's microseconds, and the bits of float8. */
static inline void put_number(struct tm_buf *out, int64_t v, size_t len)
{
    uint8_t bytes[8];
    tm_put_be64(bytes, (uint64_t)v);
    put_field(out, bytes + 8 - len, len);
}

static inline void put_text(struct tm_buf *out, const char *s)
{
    put_field(out, s, strlen(s));
}

static inline void put_count(struct tm_buf *out, size_t columns)
{
    uint8_t head[2];
    tm_put_be16(head, (uint16_t)columns);
    TM_FATAL_UNLESS(!tm_buf_append(out, head, 2));
}

static int file_sink(void *arg, const void *bytes, size_t len, struct tm_error *err)
{
    (void)err;
    return tm_buf_append(arg, bytes, len);
}

/* The bytes asked for must lie within the file: the reader is trusted with that, so it is checked here. */
static int file_read_at(void *arg, uint64_t offset, void *bytes, size_t len, struct tm_error *err)
{
    const struct tm_buf *file = arg;
    (void)err;
    TM_FATAL_UNLESS(offset <= file->len && len <= file->len - offset);
    memcpy(bytes, file->data + offset, len);
    return TM_OK;
}

/* The options' sink is set to `file`, which is emptied. */
static inline int file_write(struct tm_buf *file, struct tm_parquet_writer_options o, const struct tm_buf *tuples,
                             const struct tm_parquet_meta *meta, size_t meta_count, struct tm_error *err)
{
    struct tm_parquet_writer *w;
    struct tm_parquet_summary summary = {0};
    o.sink = file_sink;
    o.arg = file;
    tm_buf_clear(file);
    int rc = tm_parquet_writer_create(&o, &w, err);
    if (rc)
        return rc;
    rc = tm_parquet_writer_put(w, tuples->data, tuples->len, err);
    rc = rc ? rc : tm_parquet_writer_finish(w, meta, meta_count, &summary, err);
    tm_parquet_writer_destroy(w);
    TM_FATAL_UNLESS(rc || summary.bytes == file->len);
    return rc;
}

static inline int file_open(struct tm_buf *file, struct tm_parquet_reader **r, struct tm_error *err)
{
    struct tm_parquet_reader_options o = {
        .read_at = file_read_at, .arg = file, .size = file->len, .fetch = 1000, .memory_max = 64 << 20};
    return tm_parquet_reader_open(&o, r, err);
}

/* All tuples that the reader gives; *rows: how many. */
static inline int file_tuples(struct tm_parquet_reader *r, struct tm_buf *tuples, size_t *rows, struct tm_error *err)
{
    size_t n, group;
    int rc;
    tm_buf_clear(tuples);
    *rows = 0;
    while ((rc = tm_parquet_reader_next(r, 10000, tuples, &n, &group, err)) > 0)
        *rows += n;
    return rc;
}

#endif
