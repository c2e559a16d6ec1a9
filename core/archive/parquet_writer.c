#include "archive/parquet_column.h"

#include "base/arena.h"
#include "base/endian.h"

#include <stdlib.h>

#define FLUSH_BYTES (256 << 10) /* what is gathered for the sink */
#define GROUP_BYTES_MAX ((size_t)1 << 30)

struct tm_parquet_writer {
    struct tm_parquet_writer_options options;
    struct tm_parquet_values columns[TM_COLUMNS_MAX];
    struct tm_parquet_span spans[TM_COLUMNS_MAX]; /* of the row groups that are written */
    struct tm_arena *names;
    struct tm_parquet_encoder encoder;
    struct tm_buf out;    /* pages on their way to the sink */
    struct tm_buf groups; /* RowGroup, one behind the other */
    uint64_t at;          /* bytes of the file so far, with `out` */
    uint64_t rows;        /* of the groups that are written */
    uint32_t group_count;
    size_t group_bytes; /* values of the open group */
    bool ended;         /* finished or failed */
};

/* ---- making one ---- */

static int check_options(const struct tm_parquet_writer_options *o, struct tm_error *err)
{
    if (o->group_rows > TM_PARQUET_GROUP_ROWS_MAX)
        return tm_error_set(err, TM_EINVAL, "rows of a row group: expected at most %d, got %u",
                            TM_PARQUET_GROUP_ROWS_MAX, o->group_rows);
    if (o->group_bytes > GROUP_BYTES_MAX)
        return tm_error_set(err, TM_EINVAL, "bytes of a row group: expected at most %zu, got %zu", GROUP_BYTES_MAX,
                            o->group_bytes);
    if (o->level < 0 || o->level > 19)
        return tm_error_set(err, TM_EINVAL, "zstd level: expected 1 to 19, got %d", o->level);
    return tm_parquet_check_columns(o->columns, o->column_count, err);
}

static void set_options(struct tm_parquet_writer *w, const struct tm_parquet_writer_options *o)
{
    w->options = *o;
    w->options.created_by = tm_arena_strdup(w->names, o->created_by ? o->created_by : "tidemill");
    w->options.group_rows = o->group_rows ? o->group_rows : TM_PARQUET_GROUP_ROWS;
    w->options.group_bytes = o->group_bytes ? o->group_bytes : TM_PARQUET_GROUP_BYTES;
    w->options.level = o->level ? o->level : 3;
    for (size_t i = 0; i < o->column_count; i++) {
        struct tm_parquet_column c = o->columns[i];
        c.name = tm_arena_strdup(w->names, c.name);
        tm_parquet_values_init(&w->columns[i], &c);
    }
    w->options.columns = NULL; /* the caller's, and copied */
}

static int put_magic(struct tm_parquet_writer *w)
{
    w->at += TM_PARQUET_MAGIC_BYTES;
    return tm_buf_append(&w->out, TM_PARQUET_MAGIC, TM_PARQUET_MAGIC_BYTES);
}

int tm_parquet_writer_create(const struct tm_parquet_writer_options *options, struct tm_parquet_writer **out,
                             struct tm_error *err)
{
    int rc = check_options(options, err);
    if (rc)
        return rc;
    struct tm_parquet_writer *w = calloc(1, sizeof *w);
    if (!w)
        return tm_error_set(err, TM_ENOMEM, "out of memory for a Parquet writer");
    w->names = tm_arena_create();
    set_options(w, options);
    rc = tm_parquet_encoder_init(&w->encoder, w->options.level, err);
    if (!rc && put_magic(w))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory for a Parquet writer");
    if (rc) {
        tm_parquet_writer_destroy(w);
        return rc;
    }
    *out = w;
    return TM_OK;
}

void tm_parquet_writer_destroy(struct tm_parquet_writer *w)
{
    if (!w)
        return;
    for (size_t i = 0; i < w->options.column_count; i++)
        tm_parquet_values_fini(&w->columns[i]);
    tm_parquet_encoder_fini(&w->encoder);
    tm_arena_destroy(w->names);
    tm_buf_fini(&w->out);
    tm_buf_fini(&w->groups);
    free(w);
}

/* ---- out ---- */

static int flush_out(struct tm_parquet_writer *w, struct tm_error *err)
{
    int rc = w->out.len ? w->options.sink(w->options.arg, w->out.data, w->out.len, err) : TM_OK;
    tm_buf_clear(&w->out);
    return rc;
}

static int put_page(void *arg, const struct tm_buf *head, const struct tm_buf *body, struct tm_error *err)
{
    struct tm_parquet_writer *w = arg;
    if (tm_buf_append(&w->out, head->data, head->len) || tm_buf_append(&w->out, body->data, body->len))
        return tm_error_set(err, TM_ENOMEM, "out of memory for a Parquet page");
    w->at += head->len + body->len;
    return w->out.len < FLUSH_BYTES ? TM_OK : flush_out(w, err);
}

/* RowGroup of parquet.thrift, an element of FileMetaData.row_groups. */
static int put_group(struct tm_parquet_writer *w, const struct tm_parquet_chunk *chunks, size_t rows)
{
    struct tm_thrift_out t = {.buf = &w->groups};
    uint64_t compressed = 0, uncompressed = 0;
    size_t count = w->options.column_count;
    tm_thrift_put_struct(&t, 0);
    tm_thrift_put_list(&t, 1, TM_THRIFT_STRUCT, count);
    for (size_t i = 0; i < count; i++) {
        tm_parquet_put_chunk(&t, &w->columns[i], &chunks[i]);
        compressed += chunks[i].compressed;
        uncompressed += chunks[i].uncompressed;
    }
    tm_thrift_put_i64(&t, 2, (int64_t)uncompressed);
    tm_thrift_put_i64(&t, 3, (int64_t)rows);
    tm_thrift_put_i64(&t, 5, (int64_t)(chunks[0].dictionary_at ? chunks[0].dictionary_at : chunks[0].data_at));
    tm_thrift_put_i64(&t, 6, (int64_t)compressed);
    tm_thrift_put_end(&t);
    return t.rc;
}

static int write_group(struct tm_parquet_writer *w, struct tm_error *err)
{
    struct tm_parquet_chunk chunks[TM_COLUMNS_MAX];
    size_t rows = w->columns[0].rows;
    int rc = TM_OK;
    if (!rows)
        return TM_OK;
    for (size_t i = 0; i < w->options.column_count && !rc; i++) {
        struct tm_parquet_values *v = &w->columns[i];
        rc = tm_parquet_encode(&w->encoder, v, w->at, put_page, w, &chunks[i], err);
        tm_parquet_values_span(v, &w->spans[i]);
    }
    if (!rc && put_group(w, chunks, rows))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory for the footer");
    for (size_t i = 0; i < w->options.column_count; i++)
        tm_parquet_values_clear(&w->columns[i]);
    w->rows += rows;
    w->group_count++;
    w->group_bytes = 0;
    return rc;
}

/* ---- in ---- */

uint64_t tm_parquet_writer_rows(const struct tm_parquet_writer *w)
{
    return w->rows + w->columns[0].rows;
}

static int bad_row(struct tm_parquet_writer *w, size_t column, int rc, const char *why, struct tm_error *err)
{
    return tm_error_set(err, rc, "row %llu, column \"%s\": %s",
                        (unsigned long long)tm_parquet_writer_rows(w) - (column == 0 ? 0 : 1) + 1,
                        w->columns[column].column.name, why);
}

/* One tuple from the front of `at`; its length, or negative. */
static int64_t put_tuple(struct tm_parquet_writer *w, const uint8_t *at, const uint8_t *end, struct tm_error *err)
{
    const uint8_t *begin = at;
    size_t count = w->options.column_count;
    const char *why = "the tuple ends too early";
    if (end - at < 2 || tm_get_be16(at) != count)
        return tm_error_set(err, TM_ECORRUPT, "row %llu: expected a COPY tuple of %zu columns, got %d",
                            (unsigned long long)tm_parquet_writer_rows(w) + 1, count,
                            end - at < 2 ? -1 : tm_get_be16(at));
    at += 2;
    for (size_t i = 0; i < count; i++) {
        int32_t len = end - at < 4 ? -2 : (int32_t)tm_get_be32(at);
        at += 4;
        if (len < -1 || (len > 0 && len > end - at))
            return bad_row(w, i, TM_ECORRUPT, why, err);
        if (len > TM_PARQUET_VALUE_BYTES_MAX)
            return bad_row(w, i, TM_EPOISON, "a value of more than 4 MiB", err);
        int rc = tm_parquet_values_add(&w->columns[i], at, len, &why);
        if (rc)
            return bad_row(w, i, rc, why, err);
        at += len > 0 ? len : 0;
    }
    return at - begin;
}

int tm_parquet_writer_put(struct tm_parquet_writer *w, const uint8_t *tuples, size_t len, struct tm_error *err)
{
    const uint8_t *end = tuples + len;
    if (w->ended)
        return tm_error_set(err, TM_ESTATE, "the Parquet writer has ended");
    while (tuples < end) {
        int64_t taken = put_tuple(w, tuples, end, err);
        w->ended = taken < 0;
        if (taken < 0)
            return (int)taken;
        tuples += taken;
        w->group_bytes += (size_t)taken;
        if (w->columns[0].rows < w->options.group_rows && w->group_bytes < w->options.group_bytes)
            continue;
        int rc = write_group(w, err);
        w->ended = rc != TM_OK;
        if (rc)
            return rc;
    }
    return TM_OK;
}

struct tm_parquet_span tm_parquet_writer_span(const struct tm_parquet_writer *w, size_t column)
{
    struct tm_parquet_span span = w->spans[column];
    tm_parquet_values_span(&w->columns[column], &span);
    return span;
}

/* ---- the footer ---- */

static void put_meta(struct tm_thrift_out *t, const struct tm_parquet_meta *meta, size_t count)
{
    if (!count)
        return;
    tm_thrift_put_list(t, 5, TM_THRIFT_STRUCT, count);
    for (size_t i = 0; i < count; i++) {
        tm_thrift_put_struct(t, 0);
        tm_thrift_put_string(t, 1, meta[i].key);
        tm_thrift_put_string(t, 2, meta[i].value);
        tm_thrift_put_end(t);
    }
}

/* FileMetaData of parquet.thrift, its length, and the magic. */
static int put_footer(struct tm_parquet_writer *w, const struct tm_parquet_meta *meta, size_t meta_count)
{
    struct tm_parquet_column columns[TM_COLUMNS_MAX];
    size_t begin = w->out.len, count = w->options.column_count;
    struct tm_thrift_out t = {.buf = &w->out};
    for (size_t i = 0; i < count; i++)
        columns[i] = w->columns[i].column;
    tm_thrift_put_struct(&t, 0);
    tm_thrift_put_i32(&t, 1, 1); /* version */
    tm_parquet_put_schema(&t, columns, count);
    tm_thrift_put_i64(&t, 3, (int64_t)w->rows);
    tm_thrift_put_list(&t, 4, TM_THRIFT_STRUCT, w->group_count);
    if (!t.rc && w->groups.len)
        t.rc = tm_buf_append(&w->out, w->groups.data, w->groups.len);
    put_meta(&t, meta, meta_count);
    tm_thrift_put_string(&t, 6, w->options.created_by);
    tm_thrift_put_list(&t, 7, TM_THRIFT_STRUCT, count);
    for (size_t i = 0; i < count; i++) { /* ColumnOrder: TYPE_ORDER */
        tm_thrift_put_struct(&t, 0);
        tm_thrift_put_empty(&t, 1);
        tm_thrift_put_end(&t);
    }
    tm_thrift_put_end(&t);
    uint32_t len = (uint32_t)(w->out.len - begin);
    w->at += len + sizeof len;
    if (t.rc || tm_buf_append(&w->out, &len, sizeof len))
        return TM_ENOMEM;
    return put_magic(w);
}

int tm_parquet_writer_finish(struct tm_parquet_writer *w, const struct tm_parquet_meta *meta, size_t meta_count,
                             struct tm_parquet_summary *summary, struct tm_error *err)
{
    if (w->ended)
        return tm_error_set(err, TM_ESTATE, "the Parquet writer has ended");
    w->ended = true;
    int rc = write_group(w, err);
    if (!rc && w->groups.len > TM_PARQUET_FOOTER_BYTES_MAX / 2)
        rc = tm_error_set(err, TM_EFULL, "the file has %u row groups, more than a footer holds; write several files",
                          w->group_count);
    if (!rc && put_footer(w, meta, meta_count))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory for the footer");
    rc = rc ? rc : flush_out(w, err);
    *summary = (struct tm_parquet_summary){.rows = w->rows, .bytes = w->at, .groups = w->group_count};
    return rc;
}
