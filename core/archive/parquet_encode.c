/* Column chunks: a dictionary page perhaps, then data pages (README.md of the format, "Data Pages"; parquet.thrift). */
#include "archive/parquet_dictionary.h"
#include "archive/parquet_pack.h"

#include <string.h>
#include <zlib.h>

#define SAMPLE 8192 /* values by which the alternative to a dictionary is measured */

int tm_parquet_encoder_init(struct tm_parquet_encoder *e, int level, struct tm_error *err)
{
    *e = (struct tm_parquet_encoder){.zstd = ZSTD_createCCtx()};
    if (!e->zstd || ZSTD_isError(ZSTD_CCtx_setParameter(e->zstd, ZSTD_c_compressionLevel, level)))
        return tm_error_set(err, TM_ENOMEM, "out of memory for a zstd context of level %d", level);
    return TM_OK;
}

void tm_parquet_encoder_fini(struct tm_parquet_encoder *e)
{
    ZSTD_freeCCtx(e->zstd);
    tm_buf_fini(&e->slots);
    tm_buf_fini(&e->firsts);
    tm_buf_fini(&e->indices);
    tm_buf_fini(&e->levels);
    tm_buf_fini(&e->head);
    tm_buf_fini(&e->page);
    tm_buf_fini(&e->packed);
}

/* A chunk in the making. */
struct making {
    struct tm_parquet_encoder *e;
    const struct tm_parquet_values *v;
    struct tm_parquet_dictionary dictionary;
    unsigned width; /* bits of an index */
    tm_parquet_put_page *put;
    void *arg;
    struct tm_parquet_chunk *out;
    uint64_t at;
};

/* What a page holds: rows of the chunk, and the values among them. */
struct part {
    size_t row, rows, value, values;
};

static int no_memory(struct tm_error *err)
{
    return tm_error_set(err, TM_ENOMEM, "out of memory for a Parquet page");
}

/* ---- values ---- */

static int put_plain_bytes(struct tm_buf *out, const struct tm_parquet_values *v, size_t i)
{
    size_t len;
    const uint8_t *bytes = tm_parquet_bytes(v, i, &len);
    uint32_t head = (uint32_t)len;
    size_t head_len = v->form.physical == TM_PARQUET_FIXED ? 0 : sizeof head;
    if (tm_buf_reserve(out, head_len + len))
        return TM_ENOMEM;
    memcpy(out->data + out->len, &head, head_len);
    memcpy(out->data + out->len + head_len, bytes, len);
    out->len += head_len + len;
    return TM_OK;
}

static int put_plain_bits(struct tm_buf *out, const int64_t *values, size_t count)
{
    if (tm_buf_reserve(out, (count + 7) / 8))
        return TM_ENOMEM;
    uint8_t *at = out->data + out->len;
    memset(at, 0, (count + 7) / 8);
    for (size_t i = 0; i < count; i++)
        at[i / 8] |= (uint8_t)(values[i] << (i % 8));
    out->len += (count + 7) / 8;
    return TM_OK;
}

/* Value `which[i]` for each i, or value `from + i` where `which` is NULL. */
static int put_plain(struct tm_buf *out, const struct tm_parquet_values *v, const uint32_t *which, size_t from,
                     size_t count)
{
    int rc = TM_OK;
    if (v->form.physical == TM_PARQUET_BOOLEAN)
        return put_plain_bits(out, tm_parquet_fixed(v) + from, count);
    for (size_t i = 0; i < count && !rc; i++) {
        size_t value = which ? which[i] : from + i;
        if (tm_parquet_is_fixed(v->column.type))
            rc = tm_buf_append(out, tm_parquet_fixed(v) + value, (size_t)v->form.width); /* the low bytes come first */
        else
            rc = put_plain_bytes(out, v, value);
    }
    return rc;
}

static int put_values(struct making *m, const struct part *p)
{
    struct tm_buf *page = &m->e->page;
    const struct tm_parquet_values *v = m->v;
    uint8_t width = (uint8_t)m->width;
    switch (m->out->encoding) {
    case TM_PARQUET_DICT:
        if (tm_buf_append(page, &width, 1))
            return TM_ENOMEM;
        return tm_parquet_put_runs(page, m->dictionary.indices + p->value, p->values, width);
    case TM_PARQUET_DELTA:
        return tm_parquet_put_deltas(page, tm_parquet_fixed(v) + p->value, p->values, v->form.width == 4);
    default:
        return put_plain(page, v, NULL, p->value, p->values);
    }
}

static int put_level_runs(struct making *m, const struct part *p)
{
    struct tm_buf *page = &m->e->page, *scratch = &m->e->levels;
    if (p->values == p->rows || p->values == 0)
        return tm_parquet_put_run(page, p->values > 0, p->rows, 1);
    if (tm_buf_reserve(scratch, p->rows * sizeof(uint32_t)))
        return TM_ENOMEM;
    uint32_t *levels = (uint32_t *)(void *)scratch->data;
    for (size_t i = 0; i < p->rows; i++)
        levels[i] = m->v->present.data[p->row + i];
    return tm_parquet_put_runs(page, levels, p->rows, 1);
}

/* Definition levels: 1 for a value, 0 for NULL, as runs behind their length in bytes. */
static int put_levels(struct making *m, const struct part *p)
{
    struct tm_buf *page = &m->e->page;
    uint32_t bytes = 0;
    if (tm_buf_append(page, &bytes, sizeof bytes) || put_level_runs(m, p))
        return TM_ENOMEM;
    bytes = (uint32_t)(page->len - sizeof bytes);
    memcpy(page->data, &bytes, sizeof bytes);
    return TM_OK;
}

/* ---- pages ---- */

static int put_head(struct making *m, enum tm_parquet_page_type type, size_t values)
{
    struct tm_thrift_out t = {.buf = &m->e->head};
    const struct tm_buf *body = &m->e->packed;
    tm_buf_clear(&m->e->head);
    tm_thrift_put_struct(&t, 0);
    tm_thrift_put_i32(&t, 1, (int32_t)type);
    tm_thrift_put_i32(&t, 2, (int32_t)m->e->page.len);
    tm_thrift_put_i32(&t, 3, (int32_t)body->len);
    tm_thrift_put_i32(&t, 4, (int32_t)crc32(0, body->data, (uInt)body->len));
    if (type == TM_PARQUET_DICTIONARY_PAGE) {
        tm_thrift_put_struct(&t, 7);
        tm_thrift_put_i32(&t, 1, (int32_t)values);
        tm_thrift_put_i32(&t, 2, TM_PARQUET_PLAIN);
    } else {
        tm_thrift_put_struct(&t, 5);
        tm_thrift_put_i32(&t, 1, (int32_t)values);
        tm_thrift_put_i32(&t, 2, (int32_t)m->out->encoding);
        tm_thrift_put_i32(&t, 3, TM_PARQUET_RLE);
        tm_thrift_put_i32(&t, 4, TM_PARQUET_RLE);
    }
    tm_thrift_put_end(&t);
    tm_thrift_put_end(&t);
    return t.rc;
}

/* Compress what stands in the encoder's page, and hand it over behind its header. */
static int emit(struct making *m, enum tm_parquet_page_type type, size_t values, struct tm_error *err)
{
    struct tm_parquet_encoder *e = m->e;
    tm_buf_clear(&e->packed);
    if (tm_buf_reserve(&e->packed, ZSTD_compressBound(e->page.len)))
        return no_memory(err);
    e->packed.len = ZSTD_compress2(e->zstd, e->packed.data, e->packed.cap, e->page.data, e->page.len);
    if (ZSTD_isError(e->packed.len))
        return tm_error_set(err, TM_ENOMEM, "zstd: %s", ZSTD_getErrorName(e->packed.len));
    if (put_head(m, type, values))
        return no_memory(err);
    m->out->compressed += e->head.len + e->packed.len;
    m->out->uncompressed += e->head.len + e->page.len;
    m->at += e->head.len + e->packed.len;
    return m->put(m->arg, &e->head, &e->packed, err);
}

/* The next page's rows: as many as hold TM_PARQUET_PAGE_BYTES of values, one at least. */
static struct part next_part(const struct making *m, const struct part *last)
{
    const struct tm_parquet_values *v = m->v;
    struct part p = {.row = last->row + last->rows, .value = last->value + last->values};
    bool long_ones = m->out->encoding == TM_PARQUET_PLAIN && v->form.physical == TM_PARQUET_BYTE_ARRAY;
    for (size_t bytes = 0; p.row + p.rows < v->rows && bytes < TM_PARQUET_PAGE_BYTES; p.rows++) {
        bool value = !v->present.len || v->present.data[p.row + p.rows];
        size_t len = 8;
        if (value && long_ones)
            tm_parquet_bytes(v, p.value + p.values, &len);
        bytes += value ? len + (long_ones ? 4 : 0) : 1;
        p.values += value;
    }
    return p;
}

static int put_data_page(struct making *m, const struct part *p, struct tm_error *err)
{
    tm_buf_clear(&m->e->page);
    if ((m->v->column.nullable && put_levels(m, p)) || put_values(m, p))
        return no_memory(err);
    m->out->data_pages++;
    return emit(m, TM_PARQUET_DATA_PAGE, p->rows, err);
}

static int put_dictionary_page(struct making *m, struct tm_error *err)
{
    tm_buf_clear(&m->e->page);
    if (put_plain(&m->e->page, m->v, m->dictionary.firsts, 0, m->dictionary.entries))
        return no_memory(err);
    m->out->dictionary_at = m->at;
    return emit(m, TM_PARQUET_DICTIONARY_PAGE, m->dictionary.entries, err);
}

/* ---- which encoding ---- */

/* Bytes that the values take without a dictionary; deltas are tried on the first ones. */
static int alternative(struct making *m, uint64_t *bytes)
{
    const struct tm_parquet_values *v = m->v;
    *bytes = v->bytes.len + v->count * 4;
    if (!tm_parquet_is_fixed(v->column.type))
        return TM_OK;
    size_t sample = v->count < SAMPLE ? v->count : SAMPLE;
    tm_buf_clear(&m->e->page);
    if (tm_parquet_put_deltas(&m->e->page, tm_parquet_fixed(v), sample, v->form.width == 4))
        return TM_ENOMEM;
    *bytes = (uint64_t)m->e->page.len * v->count / sample;
    return TM_OK;
}

static int choose(struct making *m)
{
    enum tm_type type = m->v->column.type;
    uint64_t bytes;
    m->out->encoding = tm_parquet_is_integer(type) && m->v->count ? TM_PARQUET_DELTA : TM_PARQUET_PLAIN;
    if (!m->v->count || type == TM_TYPE_BOOL || type == TM_TYPE_FLOAT8 || type == TM_TYPE_UUID)
        return TM_OK;
    int made = tm_parquet_dictionary(m->e, m->v, &m->dictionary);
    if (made <= 0)
        return made;
    m->width = tm_parquet_bits(m->dictionary.entries - 1);
    m->width = m->width ? m->width : 1; /* some readers do not take 0 */
    if (alternative(m, &bytes))
        return TM_ENOMEM;
    if (m->dictionary.plain_bytes + m->v->count * m->width / 8 < bytes)
        m->out->encoding = TM_PARQUET_DICT;
    return TM_OK;
}

int tm_parquet_encode(struct tm_parquet_encoder *e, const struct tm_parquet_values *v, uint64_t at,
                      tm_parquet_put_page *put, void *arg, struct tm_parquet_chunk *out, struct tm_error *err)
{
    struct making m = {.e = e, .v = v, .put = put, .arg = arg, .out = out, .at = at};
    *out = (struct tm_parquet_chunk){.values = v->rows};
    tm_parquet_values_statistics(v, &out->statistics);
    if (choose(&m))
        return no_memory(err);
    int rc = out->encoding == TM_PARQUET_DICT ? put_dictionary_page(&m, err) : TM_OK;
    out->data_at = m.at;
    for (struct part p = {0}; !rc && (p = next_part(&m, &p)).rows;)
        rc = put_data_page(&m, &p, err);
    return rc;
}

/* ---- the footer's part ---- */

static void put_statistics(struct tm_thrift_out *t, const struct tm_parquet_values *v,
                           const struct tm_parquet_statistics *s)
{
    tm_thrift_put_struct(t, 12);
    tm_thrift_put_i64(t, 3, (int64_t)s->nulls);
    if (s->any) {
        tm_thrift_put_binary(t, 5, s->max, s->max_len);
        tm_thrift_put_binary(t, 6, s->min, s->min_len);
        tm_thrift_put_bool(t, 7, s->max_exact);
        tm_thrift_put_bool(t, 8, s->min_exact);
    }
    if (v->column.type == TM_TYPE_FLOAT8)
        tm_thrift_put_i64(t, 9, (int64_t)s->nans);
    tm_thrift_put_end(t);
}

static void put_encoding_stats(struct tm_thrift_out *t, int type, int encoding, uint32_t pages)
{
    tm_thrift_put_struct(t, 0);
    tm_thrift_put_i32(t, 1, type);
    tm_thrift_put_i32(t, 2, encoding);
    tm_thrift_put_i32(t, 3, (int32_t)pages);
    tm_thrift_put_end(t);
}

static void put_encodings(struct tm_thrift_out *t, const struct tm_parquet_chunk *chunk)
{
    bool dictionary = chunk->encoding == TM_PARQUET_DICT;
    tm_thrift_put_list(t, 2, TM_THRIFT_I32, dictionary ? 3 : 2);
    tm_thrift_put_i32(t, 0, (int32_t)chunk->encoding);
    tm_thrift_put_i32(t, 0, TM_PARQUET_RLE); /* of the levels */
    if (dictionary)
        tm_thrift_put_i32(t, 0, TM_PARQUET_PLAIN); /* of the dictionary page */
}

void tm_parquet_put_chunk(struct tm_thrift_out *t, const struct tm_parquet_values *v,
                          const struct tm_parquet_chunk *chunk)
{
    bool dictionary = chunk->encoding == TM_PARQUET_DICT;
    tm_thrift_put_struct(t, 0);
    tm_thrift_put_i64(t, 2, 0); /* file_offset, as the format wants it */
    tm_thrift_put_struct(t, 3);
    tm_thrift_put_i32(t, 1, (int32_t)v->form.physical);
    put_encodings(t, chunk);
    tm_thrift_put_list(t, 3, TM_THRIFT_BINARY, 1);
    tm_thrift_put_string(t, 0, v->column.name);
    tm_thrift_put_i32(t, 4, TM_PARQUET_ZSTD);
    tm_thrift_put_i64(t, 5, (int64_t)chunk->values);
    tm_thrift_put_i64(t, 6, (int64_t)chunk->uncompressed);
    tm_thrift_put_i64(t, 7, (int64_t)chunk->compressed);
    tm_thrift_put_i64(t, 9, (int64_t)chunk->data_at);
    if (dictionary)
        tm_thrift_put_i64(t, 11, (int64_t)chunk->dictionary_at);
    put_statistics(t, v, &chunk->statistics);
    tm_thrift_put_list(t, 13, TM_THRIFT_STRUCT, dictionary ? 2 : 1);
    if (dictionary)
        put_encoding_stats(t, TM_PARQUET_DICTIONARY_PAGE, TM_PARQUET_PLAIN, 1);
    put_encoding_stats(t, TM_PARQUET_DATA_PAGE, (int)chunk->encoding, chunk->data_pages);
    tm_thrift_put_end(t);
    tm_thrift_put_end(t);
}
