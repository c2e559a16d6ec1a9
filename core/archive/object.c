#include "archive/object.h"
#include "archive/period.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES ((size_t)256 << 10)
#define READ_BYTES ((size_t)1 << 20)

struct tm_object_writer {
    struct tm_target *target;
    char key[TM_ARCHIVE_KEY];
    struct tm_parquet_writer *parquet;
    struct tm_put *put; /* NULL: not begun */
    struct tm_buf chunk, first;
    size_t last_at, last_len; /* in chunk, which is emptied before the next row comes and not after */
    bool flushed;
    uint64_t rows;
};

/* ---- writing ---- */

static int sink(void *arg, const void *bytes, size_t len, struct tm_error *err)
{
    struct tm_object_writer *w = arg;
    int rc = w->put ? TM_OK : tm_put_begin(w->target, w->key, &w->put, err);
    return rc ? rc : tm_put_append(w->put, bytes, len, err);
}

int tm_object_writer_create(struct tm_target *target, const char *key, const struct tm_parquet_column *columns,
                            size_t column_count, struct tm_object_writer **out, struct tm_error *err)
{
    struct tm_object_writer *w = calloc(1, sizeof *w);
    if (!w)
        return tm_error_set(err, TM_ENOMEM, "out of memory for an object");
    w->target = target;
    (void)snprintf(w->key, sizeof w->key, "%s", key);
    struct tm_parquet_writer_options options = {
        .columns = columns, .column_count = column_count, .sink = sink, .arg = w, .created_by = "tidemill"};
    int rc = tm_parquet_writer_create(&options, &w->parquet, err);
    if (rc) {
        tm_object_writer_abort(w);
        return rc;
    }
    *out = w;
    return TM_OK;
}

static int flush(struct tm_object_writer *w, struct tm_error *err)
{
    int rc = w->flushed ? TM_OK : tm_parquet_writer_put(w->parquet, w->chunk.data, w->chunk.len, err);
    w->flushed = true;
    return rc;
}

int tm_object_writer_put(void *writer, const uint8_t *tuple, size_t len, struct tm_error *err)
{
    struct tm_object_writer *w = writer;
    /* whoever is there already is found before the work, not after it */
    int rc = w->put ? TM_OK : tm_put_begin(w->target, w->key, &w->put, err);
    if (!rc && w->chunk.len + len > CHUNK_BYTES)
        rc = flush(w, err);
    if (rc)
        return rc;
    if (w->flushed)
        tm_buf_clear(&w->chunk);
    w->flushed = false;
    w->last_at = w->chunk.len;
    w->last_len = len;
    rc = tm_buf_append(&w->chunk, tuple, len);
    if (!rc && !w->rows)
        rc = tm_buf_append(&w->first, tuple, len);
    w->rows += !rc;
    return rc ? tm_error_set(err, rc, "out of memory for an object") : TM_OK;
}

static int publish(struct tm_object_writer *w, struct tm_object_written *out, struct tm_error *err)
{
    struct tm_parquet_summary summary;
    *out = (struct tm_object_written){.rows = w->rows};
    if (!w->rows)
        return TM_OK;
    int rc = flush(w, err);
    rc = rc ? rc : tm_parquet_writer_finish(w->parquet, NULL, 0, &summary, err);
    if (rc)
        return rc;
    struct tm_put *put = w->put;
    w->put = NULL;
    return tm_put_finish(put, &out->what, err);
}

int tm_object_writer_finish(struct tm_object_writer *w, struct tm_object_written *out, struct tm_error *err)
{
    int rc = publish(w, out, err);
    tm_object_writer_abort(w);
    return rc;
}

void tm_object_writer_abort(struct tm_object_writer *w)
{
    if (!w)
        return;
    tm_put_abort(w->put);
    tm_parquet_writer_destroy(w->parquet);
    tm_buf_fini(&w->chunk);
    tm_buf_fini(&w->first);
    free(w);
}

struct tm_span_bytes tm_object_writer_first(const struct tm_object_writer *w)
{
    return (struct tm_span_bytes){.bytes = w->first.data, .len = w->first.len};
}

struct tm_span_bytes tm_object_writer_last(const struct tm_object_writer *w)
{
    return (struct tm_span_bytes){.bytes = w->rows ? w->chunk.data + w->last_at : NULL, .len = w->last_len};
}

struct tm_parquet_span tm_object_writer_span(const struct tm_object_writer *w, size_t column)
{
    return tm_parquet_writer_span(w->parquet, column);
}

/* ---- reading ---- */

struct source {
    struct tm_target *target;
    const char *key;
};

static int read_at(void *arg, uint64_t offset, void *bytes, size_t len, struct tm_error *err)
{
    const struct source *s = arg;
    return tm_target_read_at(s->target, s->key, offset, bytes, len, err);
}

static int hand_over(struct tm_parquet_reader *reader, const struct tm_object_reading *r, tm_object_take *take,
                     void *arg, struct tm_error *err)
{
    struct tm_buf tuples = {0};
    size_t rows, group;
    uint64_t seen = 0;
    int rc;
    while ((rc = tm_parquet_reader_next(reader, READ_BYTES, &tuples, &rows, &group, err)) > 0) {
        seen += rows;
        rc = take(arg, tuples.data, tuples.len, rows, err);
        if (rc)
            break;
        tm_buf_clear(&tuples);
    }
    tm_buf_fini(&tuples);
    if (!rc && seen != r->rows)
        rc = tm_error_set(err, TM_ECORRUPT, "%s: the manifest promises %llu rows, it has %llu", r->key,
                          (unsigned long long)r->rows, (unsigned long long)seen);
    return rc;
}

static int open_reader(struct source *s, uint64_t size, struct tm_parquet_reader **out, struct tm_error *err)
{
    struct tm_parquet_reader_options options = {.read_at = read_at, .arg = s, .size = size};
    return tm_parquet_reader_open(&options, out, err);
}

int tm_object_read(struct tm_target *target, const struct tm_object_reading *r, tm_object_take *take, void *arg,
                   struct tm_error *err)
{
    struct source s = {.target = target, .key = r->key};
    struct tm_parquet_reader *reader = NULL;
    int rc = tm_target_verify(target, r->key, &r->what, err);
    rc = rc ? rc : open_reader(&s, r->what.size, &reader, err);
    rc = rc ? rc
            : tm_parquet_reader_expect(reader, r->columns, r->column_count,
                                       TM_PARQUET_MISSING_NULL | TM_PARQUET_IGNORE_OTHERS, err);
    rc = rc ? rc : hand_over(reader, r, take, arg, err);
    tm_parquet_reader_close(reader);
    return rc;
}

/* ---- what is there ---- */

static int hash_all(struct source *s, uint64_t size, EVP_MD_CTX *md, uint8_t *chunk, struct tm_error *err)
{
    int rc = TM_OK;
    for (uint64_t at = 0; !rc && at < size;) {
        size_t n = size - at < READ_BYTES ? (size_t)(size - at) : READ_BYTES;
        rc = read_at(s, at, chunk, n, err);
        if (!rc && !EVP_DigestUpdate(md, chunk, n))
            rc = tm_error_set(err, TM_ENOMEM, "SHA-256 failed");
        at += n;
    }
    return rc;
}

static int hash_object(struct source *s, struct tm_put_result *out, struct tm_error *err)
{
    struct tm_object object;
    int rc = tm_target_head(s->target, s->key, &object, err);
    if (rc)
        return rc;
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    uint8_t *chunk = malloc(READ_BYTES);
    out->size = object.size;
    if (!md || !chunk || !EVP_DigestInit_ex(md, EVP_sha256(), NULL))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory for an object");
    rc = rc ? rc : hash_all(s, object.size, md, chunk, err);
    if (!rc && !EVP_DigestFinal_ex(md, out->sha256, NULL))
        rc = tm_error_set(err, TM_ENOMEM, "SHA-256 failed");
    EVP_MD_CTX_free(md);
    free(chunk);
    return rc;
}

int tm_object_look(struct tm_target *target, const char *key, struct tm_object_written *out, struct tm_error *err)
{
    struct source s = {.target = target, .key = key};
    struct tm_parquet_reader *reader = NULL;
    int rc = hash_object(&s, &out->what, err);
    rc = rc ? rc : open_reader(&s, out->what.size, &reader, err);
    if (!rc)
        out->rows = tm_parquet_reader_rows(reader);
    tm_parquet_reader_close(reader);
    return rc;
}
