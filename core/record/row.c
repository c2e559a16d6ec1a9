#include "record/row.h"
#include "record/compiled.h"
#include "record/scanner.h"

#include "base/clock.h"
#include "base/endian.h"
#include "base/unset.h"

/* A jsonb field is a version byte and then text. */
#define FIELD_BYTES_MAX (TM_FIELD_BYTES_MAX + 1)

/* ---- writing ---- */

int tm_row_begin(struct tm_row_writer *w, const struct tm_stream *stream, struct tm_buf *buf)
{
    uint8_t count[2];
    *w = (struct tm_row_writer){.stream = stream, .buf = buf, .start = buf->len};
    tm_put_be16(count, stream->column_count);
    return tm_buf_append(buf, count, sizeof count);
}

static const struct tm_column *next_column(const struct tm_row_writer *w)
{
    return w->next < w->stream->column_count ? &w->stream->columns[w->next] : NULL;
}

static int put_field(struct tm_row_writer *w, const void *bytes, size_t len)
{
    uint8_t head[4];
    int rc = tm_buf_reserve(w->buf, sizeof head + len);
    if (rc)
        return rc;
    tm_put_be32(head, (uint32_t)len);
    rc = tm_buf_append(w->buf, head, sizeof head);
    if (!rc)
        rc = tm_buf_append(w->buf, bytes, len);
    w->next++;
    return rc;
}

static int put_null(struct tm_row_writer *w)
{
    static const uint8_t null[4] = {0xff, 0xff, 0xff, 0xff};
    w->next++;
    return tm_buf_append(w->buf, null, sizeof null);
}

int tm_row_put_null(struct tm_row_writer *w)
{
    const struct tm_column *c = next_column(w);
    return c && !c->not_null ? put_null(w) : TM_EINVAL;
}

int tm_row_put_bool(struct tm_row_writer *w, bool v)
{
    const struct tm_column *c = next_column(w);
    uint8_t byte = v;
    return c && c->type == TM_TYPE_BOOL ? put_field(w, &byte, 1) : TM_EINVAL;
}

int tm_row_put_int(struct tm_row_writer *w, int64_t v)
{
    const struct tm_column *c = next_column(w);
    uint8_t bytes[8];
    if (!c)
        return TM_EINVAL;
    switch (c->type) {
    case TM_TYPE_INT2:
        tm_put_be16(bytes, (uint16_t)v);
        return v == (int16_t)v ? put_field(w, bytes, 2) : TM_EINVAL;
    case TM_TYPE_INT4:
        tm_put_be32(bytes, (uint32_t)v);
        return v == (int32_t)v ? put_field(w, bytes, 4) : TM_EINVAL;
    case TM_TYPE_INT8:
        tm_put_be64(bytes, (uint64_t)v);
        return put_field(w, bytes, 8);
    default:
        return TM_EINVAL;
    }
}

int tm_row_put_float(struct tm_row_writer *w, double v)
{
    const struct tm_column *c = next_column(w);
    uint64_t bits;
    uint8_t bytes[8];
    memcpy(&bits, &v, sizeof bits);
    tm_put_be64(bytes, bits);
    return c && c->type == TM_TYPE_FLOAT8 ? put_field(w, bytes, 8) : TM_EINVAL;
}

int tm_row_put_time(struct tm_row_writer *w, int64_t unix_us)
{
    const struct tm_column *c = next_column(w);
    uint8_t bytes[8];
    tm_put_be64(bytes, (uint64_t)tm_pg_time_us(unix_us));
    return c && c->type == TM_TYPE_TIMESTAMPTZ ? put_field(w, bytes, 8) : TM_EINVAL;
}

static int put_jsonb(struct tm_row_writer *w, const char *s, size_t len)
{
    struct tm_scanner scanner;
    struct tm_value value;
    uint8_t head[5] = {[4] = 1};
    tm_scanner_init(&scanner, s, len, false);
    if (tm_scan_document(&scanner, &value) || !tm_value_storable(value))
        return TM_EINVAL;
    int rc = tm_buf_reserve(w->buf, sizeof head + len);
    if (rc)
        return rc;
    tm_put_be32(head, (uint32_t)len + 1);
    rc = tm_buf_append(w->buf, head, sizeof head);
    if (!rc)
        rc = tm_buf_append(w->buf, s, len);
    w->next++;
    return rc;
}

int tm_row_put_text(struct tm_row_writer *w, const char *s, size_t len)
{
    const struct tm_column *c = next_column(w);
    if (!c || len > TM_FIELD_BYTES_MAX)
        return TM_EINVAL;
    switch (c->type) {
    case TM_TYPE_TEXT:
        return tm_text_storable(s, len) ? put_field(w, s, len) : TM_EINVAL;
    case TM_TYPE_BYTEA:
        return put_field(w, s, len);
    case TM_TYPE_JSONB:
        return put_jsonb(w, s, len);
    default:
        return TM_EINVAL;
    }
}

int tm_row_put_uuid(struct tm_row_writer *w, const uint8_t uuid[16])
{
    const struct tm_column *c = next_column(w);
    return c && c->type == TM_TYPE_UUID ? put_field(w, uuid, 16) : TM_EINVAL;
}

static int put_added(struct tm_row_writer *w, const struct tm_plan *plan)
{
    const struct tm_column *c = next_column(w);
    if (w->next == w->stream->column_count - 1)
        return tm_row_put_int(w, 0); /* seq, patched by the journal */
    if (w->stream->observer && w->next == w->stream->production_count - 2)
        return tm_row_put_text(w, plan->gatherer, strlen(plan->gatherer));
    if (w->stream->observer && w->next == w->stream->production_count - 1)
        return tm_row_put_uuid(w, plan->epoch);
    return c->not_null ? TM_EINVAL : put_null(w);
}

int tm_row_end(struct tm_row_writer *w, const struct tm_plan *plan, struct tm_row *row)
{
    int rc = TM_OK;
    while (!rc && w->next < w->stream->column_count)
        rc = put_added(w, plan);
    if (!rc)
        rc = tm_row_read(row, w->stream, w->buf->data + w->start, w->buf->len - w->start);
    if (rc)
        w->buf->len = w->start;
    return rc;
}

/* ---- reading ---- */

int tm_tuple_split(const uint8_t *tuple, size_t len, struct tm_field *fields, size_t count)
{
    const uint8_t *at = tuple + 2, *end = tuple + len;
    if (len < 2 || tm_get_be16(tuple) != count)
        return TM_ECORRUPT;
    for (struct tm_field *f = fields; f < fields + count; f++) {
        if (end - at < 4)
            return TM_ECORRUPT;
        int32_t n = (int32_t)tm_get_be32(at);
        at += 4;
        f->bytes = at;
        f->len = n;
        if (n < 0 ? n != -1 : n > end - at)
            return TM_ECORRUPT;
        at += n < 0 ? 0 : n;
    }
    return at == end ? TM_OK : TM_ECORRUPT;
}

int64_t tm_tuple_length(const uint8_t *bytes, size_t len)
{
    if (len < 2)
        return 0;
    uint16_t count = tm_get_be16(bytes);
    if (count > TM_COLUMNS_MAX)
        return TM_ECORRUPT;
    size_t at = 2;
    for (uint16_t i = 0; i < count; i++) {
        if (len - at < 4)
            return 0;
        int32_t n = (int32_t)tm_get_be32(bytes + at);
        if (n < -1 || n > FIELD_BYTES_MAX)
            return TM_ECORRUPT;
        at += 4;
        n = n > 0 ? n : 0;
        if (len - at < (size_t)n)
            return 0;
        at += (size_t)n;
    }
    return (int64_t)at;
}

int tm_row_read(struct tm_row *row, const struct tm_stream *stream, uint8_t *tuple, size_t len)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    int rc = tm_tuple_split(tuple, len, fields, stream->column_count);
    if (rc)
        return rc;
    *row = (struct tm_row){.stream = stream, .tuple = tuple, .len = (uint32_t)len, .exchange_us = INT64_MIN};
    if (stream->occurrence_column >= 0)
        row->occurrence_at = (uint32_t)(fields[stream->occurrence_column].bytes - tuple);
    if (stream->time_column >= 0 && fields[stream->time_column].len == 8)
        row->exchange_us = tm_unix_time_us((int64_t)tm_get_be64(fields[stream->time_column].bytes));
    if (stream->ticker_column >= 0 && fields[stream->ticker_column].len >= 0) {
        row->ticker = (const char *)fields[stream->ticker_column].bytes;
        row->ticker_len = (uint32_t)fields[stream->ticker_column].len;
    }
    return TM_OK;
}

/* ---- fingerprints ---- */

/* An observer's row is a record of its own: its fingerprint meets no other. */
static struct tm_fp unique_fingerprint(const struct tm_hash_key *key)
{
    static _Atomic uint64_t count;
    uint64_t number = count++;
    return tm_hash_fp(key, &number, sizeof number);
}

/* The columns of a run with their length words, as they stand in the tuple: where one ends is part of what is hashed. */
static struct tm_fp run_fingerprint(const struct tm_hash_key *key, const struct tm_field *first,
                                    const struct tm_field *last)
{
    const uint8_t *begin = first->bytes - 4, *end = last->bytes + (last->len > 0 ? last->len : 0);
    return tm_hash_fp(key, begin, (size_t)(end - begin));
}

const struct tm_key *tm_stream_key_at(const struct tm_stream *stream, const struct tm_field *fields)
{
    const struct tm_field *time = &fields[stream->time_column];
    int64_t pg_us = time->len == 8 ? (int64_t)tm_get_be64(time->bytes) : INT64_MIN; /* infinities are extremes */
    uint16_t i = (uint16_t)(stream->keys_count - 1);
    while (i && pg_us < tm_pg_time_us(stream->keys[i].from_us))
        i--;
    return &stream->keys[i];
}

struct tm_fp tm_stream_fingerprint(const struct tm_stream *stream, const struct tm_hash_key *key,
                                   const struct tm_field *fields)
{
    struct tm_fp runs[TM_COLUMNS_MAX] TM_UNSET;
    if (stream->observer)
        return unique_fingerprint(key);
    const struct tm_key *of = tm_stream_key_of(stream, fields);
    const struct tm_key_run *run = of->runs;
    struct tm_fp fp = run_fingerprint(key, &fields[run->first], &fields[run->last]);
    if (of->run_count > 1) {
        runs[0] = fp;
        for (uint16_t i = 1; i < of->run_count; i++, run++)
            runs[i] = run_fingerprint(key, &fields[run[1].first], &fields[run[1].last]);
        fp = tm_hash_fp(key, runs, of->run_count * sizeof *runs);
    }
    fp.lo ^= of->version; /* another recipe, another fingerprint */
    return fp;
}

void tm_row_set_occurrence(struct tm_row *row, uint16_t occurrence)
{
    if (row->occurrence_at)
        tm_put_be16(row->tuple + row->occurrence_at, occurrence);
}
