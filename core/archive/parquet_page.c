#include "archive/parquet_page.h"

#include <string.h>
#include <zlib.h>

int tm_parquet_source_reserve(struct tm_parquet_source *s, struct tm_buf *buf, size_t size, struct tm_error *err)
{
    if (size <= buf->cap)
        return TM_OK;
    size_t max = s->options.memory_max, before = buf->cap;
    if (size > max / 2 || s->memory - before + size * 2 > max) /* a buffer may grow to twice what is asked */
        return tm_error_set(err, TM_ENOMEM, "reading the file takes more memory than the %zu bytes allowed", max);
    if (tm_buf_reserve(buf, size - buf->len))
        return tm_error_set(err, TM_ENOMEM, "out of memory for reading a Parquet file");
    s->memory += buf->cap - before;
    return TM_OK;
}

void tm_parquet_cursor_init(struct tm_parquet_cursor *c, struct tm_parquet_source *source,
                            const struct tm_parquet_column *column)
{
    *c = (struct tm_parquet_cursor){.source = source, .column = column, .form = tm_parquet_form_of(column)};
}

static void give_back(struct tm_parquet_cursor *c, struct tm_buf *buf)
{
    c->source->memory -= buf->cap;
    tm_buf_fini(buf);
}

void tm_parquet_cursor_fini(struct tm_parquet_cursor *c)
{
    give_back(c, &c->window);
    give_back(c, &c->dictionary);
    give_back(c, &c->dictionary_items);
    give_back(c, &c->bytes);
    give_back(c, &c->items_buf);
    give_back(c, &c->levels);
    give_back(c, &c->present_buf);
}

void tm_parquet_cursor_begin(struct tm_parquet_cursor *c, size_t group, const struct tm_parquet_place *place,
                             uint64_t rows)
{
    c->group = group;
    c->at = c->page_at = c->window_at = place->at;
    c->end = place->at + place->bytes;
    c->rows_left = rows;
    c->dictionary_due = place->dictionary;
    c->dictionary_count = 0;
    c->page = 0;
    c->rows = c->row = c->item = 0;
    tm_buf_clear(&c->window);
}

int tm_parquet_cursor_fault(const struct tm_parquet_cursor *c, struct tm_error *err, const char *what)
{
    return tm_error_set(err, TM_ECORRUPT, "row group %zu, column \"%s\", page %u at byte %llu: %s", c->group,
                        c->column->name, c->page, (unsigned long long)c->page_at, what);
}

/* ---- fetching ---- */

/* The next `len` bytes of the chunk, which must have them; they stay where they are until the next call. */
static int fetch(struct tm_parquet_cursor *c, size_t len, const uint8_t **bytes, struct tm_error *err)
{
    struct tm_parquet_source *s = c->source;
    size_t used = (size_t)(c->at - c->window_at);
    if (used + len > c->window.len) {
        tm_buf_consume(&c->window, used);
        c->window_at = c->at;
        used = 0;
        size_t ask = len > s->options.fetch ? len : s->options.fetch;
        ask = ask > c->end - c->at ? (size_t)(c->end - c->at) : ask;
        int rc = tm_parquet_source_reserve(s, &c->window, ask, err);
        size_t there = c->window.len;
        if (!rc)
            rc = s->options.read_at(s->options.arg, c->at + there, c->window.data + there, ask - there, err);
        if (rc)
            return rc;
        c->window.len = ask;
    }
    *bytes = c->window.data + used;
    return TM_OK;
}

/* ---- PageHeader ---- */

static void get_part(struct tm_thrift_in *t, struct tm_thrift_field outer, struct tm_parquet_page_head *h)
{
    h->has_part = true;
    for (struct tm_thrift_field f = tm_thrift_enter(t, outer); tm_thrift_next(t, &f);) {
        if (f.id == 1)
            h->values = tm_thrift_i32(t, f);
        else if (f.id == 2)
            h->encoding = tm_thrift_i32(t, f);
        else if (f.id == 3 && h->type == TM_PARQUET_DATA_PAGE)
            h->level_encoding = tm_thrift_i32(t, f);
        else
            tm_thrift_skip(t, f);
    }
}

static void get_head(struct tm_thrift_in *t, struct tm_parquet_page_head *h)
{
    *h = (struct tm_parquet_page_head){-1, -1, -1, -1, -1, -1, 0, false, false};
    for (struct tm_thrift_field f = tm_thrift_enter(t, (struct tm_thrift_field){0}); tm_thrift_next(t, &f);) {
        if (f.id == 1)
            h->type = tm_thrift_i32(t, f);
        else if (f.id == 2)
            h->uncompressed = tm_thrift_i32(t, f);
        else if (f.id == 3)
            h->compressed = tm_thrift_i32(t, f);
        else if (f.id == 4) {
            h->crc = tm_thrift_i32(t, f);
            h->has_crc = true;
        } else if (f.id == (h->type == TM_PARQUET_DATA_PAGE ? 5 : 7))
            get_part(t, f, h);
        else
            tm_thrift_skip(t, f);
    }
}

static const char *head_fault(const struct tm_parquet_cursor *c, const struct tm_parquet_page_head *h)
{
    if (h->type != TM_PARQUET_DATA_PAGE && h->type != TM_PARQUET_DICTIONARY_PAGE)
        return "expected a data page of the first version or a dictionary page";
    if ((h->type == TM_PARQUET_DICTIONARY_PAGE) != c->dictionary_due)
        return "a dictionary page where none is due, or none where one is";
    if (!h->has_part || h->values < 0)
        return "a page header without what its type needs";
    if (!h->has_crc)
        return "a page without CRC, which is not of ours";
    if (h->compressed < 0 || (uint64_t)h->compressed > c->end - c->at)
        return "a page longer than its column chunk";
    if (h->uncompressed < 0 || h->uncompressed > TM_PARQUET_PAGE_BYTES_MAX)
        return "a page of more than 16 MiB";
    if (h->type == TM_PARQUET_DATA_PAGE && (h->values < 1 || (uint64_t)h->values > c->rows_left))
        return "a page with no values, or with more than its row group has rows";
    return NULL;
}

static int read_head(struct tm_parquet_cursor *c, struct tm_parquet_page_head *h, struct tm_error *err)
{
    struct tm_thrift_in t;
    const uint8_t *bytes;
    uint64_t left = c->end - c->at;
    size_t len = left < TM_PARQUET_PAGE_HEAD_BYTES_MAX ? (size_t)left : TM_PARQUET_PAGE_HEAD_BYTES_MAX;
    c->page_at = c->at;
    if (!len)
        return tm_parquet_cursor_fault(c, err, "the column chunk ends, but rows are missing");
    int rc = fetch(c, len, &bytes, err);
    if (rc)
        return rc;
    tm_thrift_in_init(&t, bytes, len);
    get_head(&t, h);
    if (t.fault)
        return tm_parquet_cursor_fault(c, err, t.fault);
    c->at += (size_t)(t.at - t.begin);
    const char *fault = head_fault(c, h);
    return fault ? tm_parquet_cursor_fault(c, err, fault) : TM_OK;
}

/* ---- a page ---- */

static int decompress(struct tm_parquet_cursor *c, const uint8_t *packed, const struct tm_parquet_page_head *h,
                      struct tm_error *err)
{
    size_t len = (size_t)h->uncompressed;
    tm_buf_clear(&c->bytes);
    int rc = tm_parquet_source_reserve(c->source, &c->bytes, len + TM_PARQUET_PADDING, err);
    if (rc)
        return rc;
    size_t got = ZSTD_decompressDCtx(c->source->zstd, c->bytes.data, len, packed, (size_t)h->compressed);
    if (ZSTD_isError(got) || got != len)
        return tm_parquet_cursor_fault(c, err, "zstd does not give the bytes that the header names");
    memset(c->bytes.data + len, 0, TM_PARQUET_PADDING);
    return TM_OK;
}

static int load_one(struct tm_parquet_cursor *c, struct tm_error *err)
{
    struct tm_parquet_page_head h;
    const uint8_t *packed = NULL;
    int rc = read_head(c, &h, err);
    rc = rc ? rc : fetch(c, (size_t)h.compressed, &packed, err);
    if (rc)
        return rc;
    if ((int32_t)crc32(0, packed, (uInt)h.compressed) != h.crc)
        return tm_parquet_cursor_fault(c, err, "the CRC32 of the page is not that of its header");
    rc = decompress(c, packed, &h, err);
    if (rc)
        return rc;
    c->at += (uint64_t)h.compressed;
    bool dictionary = h.type == TM_PARQUET_DICTIONARY_PAGE;
    rc = dictionary ? tm_parquet_decode_dictionary(c, &h, (size_t)h.uncompressed, err)
                    : tm_parquet_decode_page(c, &h, (size_t)h.uncompressed, err);
    c->page++;
    return rc;
}

int tm_parquet_cursor_load(struct tm_parquet_cursor *c, struct tm_error *err)
{
    int rc = TM_OK;
    if (c->dictionary_due) {
        rc = load_one(c, err);
        c->dictionary_due = false;
    }
    return rc ? rc : load_one(c, err);
}

int tm_parquet_cursor_end(const struct tm_parquet_cursor *c, struct tm_error *err)
{
    if (c->at == c->end && !c->rows_left)
        return TM_OK;
    return tm_parquet_cursor_fault(c, err, "bytes behind the last page of the column chunk");
}
