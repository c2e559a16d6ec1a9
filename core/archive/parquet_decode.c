/* What is in a page: levels and values (README.md of the format, "Data Pages"; Encodings.md). */
#include "archive/parquet_page.h"
#include "archive/parquet_pack.h"

#include "base/clock.h"

#include <string.h>

/* Bytes yet to be read; TM_PARQUET_PADDING more are readable. */
struct span {
    const uint8_t *at, *end;
};

/* ---- values of a page to items ---- */

static const char *plain_fixed(struct span s, int width, uint64_t *items, size_t count)
{
    if ((size_t)(s.end - s.at) != count * (size_t)width)
        return "another number of bytes than its values take";
    if (width == 8) {
        memcpy(items, s.at, count * 8);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        int32_t narrow;
        memcpy(&narrow, s.at + i * 4, 4);
        items[i] = (uint64_t)(int64_t)narrow;
    }
    return NULL;
}

static const char *plain_bits(struct span s, uint64_t *items, size_t count)
{
    if ((size_t)(s.end - s.at) != (count + 7) / 8)
        return "another number of bytes than its values take";
    for (size_t i = 0; i < count; i++)
        items[i] = s.at[i / 8] >> (i % 8) & 1;
    return NULL;
}

/* `base`: what offsets are counted from. */
static const char *plain_bytes(struct span s, const uint8_t *base, int width, uint64_t *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        uint32_t len = (uint32_t)width;
        if (!width) {
            if (s.end - s.at < 4)
                return "it ends within a value";
            memcpy(&len, s.at, 4);
            s.at += 4;
        }
        if (len > (size_t)(s.end - s.at) || len > TM_PARQUET_VALUE_BYTES_MAX)
            return "a value longer than its page, or than 4 MiB";
        items[i] = (uint64_t)(s.at - base) << 32 | len;
        s.at += len;
    }
    return s.at == s.end ? NULL : "bytes behind the last value";
}

static const char *plain(const struct tm_parquet_cursor *c, struct span s, const uint8_t *base, uint64_t *items,
                         size_t count)
{
    if (c->form.physical == TM_PARQUET_BOOLEAN)
        return plain_bits(s, items, count);
    if (tm_parquet_is_fixed(c->column->type))
        return plain_fixed(s, c->form.width, items, count);
    return plain_bytes(s, base, c->form.width, items, count);
}

/* ---- what a type allows ---- */

static const char *check_times(uint64_t *items, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        int64_t us = (int64_t)items[i];
        if (us == INT64_MAX || us == -INT64_MAX) { /* infinite */
            items[i] = us > 0 ? (uint64_t)INT64_MAX : (uint64_t)INT64_MIN;
            continue;
        }
        if (us < INT64_C(-210866803200000000)) /* 4714-11-24 BC, the first day that PostgreSQL knows */
            return "a time before the year 4713 BC";
        items[i] = (uint64_t)tm_pg_time_us(us);
    }
    return NULL;
}

static const char *check_texts(const uint8_t *base, const uint64_t *items, size_t count, bool empty)
{
    for (size_t i = 0; i < count; i++) {
        size_t len = items[i] & UINT32_MAX;
        if (!tm_parquet_is_text(base + (items[i] >> 32), len) || (!empty && !len))
            return "text that is not UTF-8, or JSON that is empty";
    }
    return NULL;
}

static const char *check_values(const struct tm_parquet_cursor *c, const uint8_t *base, uint64_t *items, size_t count)
{
    switch (c->column->type) {
    case TM_TYPE_INT2:
        for (size_t i = 0; i < count; i++)
            if ((int64_t)items[i] != (int16_t)items[i])
                return "a value that does not fit int2";
        return NULL;
    case TM_TYPE_INT4: /* a decimal is stored in 64 bits */
        for (size_t i = 0; i < count; i++)
            if ((int64_t)items[i] != (int32_t)items[i])
                return "a value that does not fit int4";
        return NULL;
    case TM_TYPE_TIMESTAMPTZ:
        return check_times(items, count);
    case TM_TYPE_TEXT:
        return check_texts(base, items, count, true);
    case TM_TYPE_JSONB:
        return check_texts(base, items, count, false);
    default:
        return NULL;
    }
}

/* ---- dictionary ---- */

int tm_parquet_decode_dictionary(struct tm_parquet_cursor *c, const struct tm_parquet_page_head *head, size_t len,
                                 struct tm_error *err)
{
    size_t count = (size_t)head->values;
    struct tm_buf taken = c->dictionary; /* the page's bytes stay: they are what items point into */
    if (head->encoding != TM_PARQUET_PLAIN)
        return tm_parquet_cursor_fault(c, err, "a dictionary that is not PLAIN");
    if (count > (size_t)TM_PARQUET_GROUP_ROWS_MAX)
        return tm_parquet_cursor_fault(c, err, "a dictionary of more entries than a row group has rows");
    c->dictionary = c->bytes;
    c->bytes = taken;
    int rc = tm_parquet_source_reserve(c->source, &c->dictionary_items, count * 8 + 8, err);
    if (rc)
        return rc;
    uint64_t *items = (uint64_t *)(void *)c->dictionary_items.data;
    struct span s = {c->dictionary.data, c->dictionary.data + len};
    const char *fault = plain(c, s, c->dictionary.data, items, count);
    fault = fault ? fault : check_values(c, c->dictionary.data, items, count);
    c->dictionary_count = count;
    return fault ? tm_parquet_cursor_fault(c, err, fault) : TM_OK;
}

/* ---- data pages ---- */

static uint32_t *levels_of(struct tm_parquet_cursor *c)
{
    return (uint32_t *)(void *)c->levels.data;
}

/* Definition levels, behind their length: 1 for a value, 0 for NULL. *values: how many are not NULL. */
static const char *get_levels(struct tm_parquet_cursor *c, struct span *s, size_t rows, size_t *values)
{
    uint32_t len, *levels = levels_of(c);
    c->present = NULL;
    *values = rows;
    if (!c->column->nullable)
        return NULL;
    if (s->end - s->at < 4)
        return "it ends before its levels";
    memcpy(&len, s->at, 4);
    s->at += 4;
    if (len > (size_t)(s->end - s->at))
        return "levels longer than the page";
    const char *fault = tm_parquet_get_runs(s->at, s->at + len, 1, 2, levels, rows);
    if (fault)
        return fault;
    s->at += len;
    *values = 0;
    for (size_t i = 0; i < rows; i++) {
        c->present_buf.data[i] = (uint8_t)levels[i];
        *values += levels[i];
    }
    c->present = *values == rows ? NULL : c->present_buf.data;
    return NULL;
}

static const char *by_dictionary(struct tm_parquet_cursor *c, struct span s, uint64_t *items, size_t count)
{
    const uint64_t *entries = (const uint64_t *)(const void *)c->dictionary_items.data;
    uint32_t *indices = levels_of(c);
    if (s.at == s.end)
        return count ? "it ends before its values" : NULL;
    unsigned width = *s.at++;
    if (width > 32 || (count && !c->dictionary_count))
        return "indices of more than 32 bits, or without a dictionary";
    const char *fault = tm_parquet_get_runs(s.at, s.end, width, (uint32_t)c->dictionary_count, indices, count);
    for (size_t i = 0; i < count && !fault; i++)
        items[i] = entries[indices[i]];
    c->base = c->dictionary.data;
    return fault;
}

static const char *get_values(struct tm_parquet_cursor *c, int encoding, struct span s, uint64_t *items, size_t count)
{
    const char *fault;
    c->base = c->bytes.data;
    switch (encoding) {
    case TM_PARQUET_DICT:
        return by_dictionary(c, s, items, count); /* whose entries are checked */
    case TM_PARQUET_DELTA:
        if (!tm_parquet_is_integer(c->column->type))
            return "DELTA_BINARY_PACKED in a column that is not of integers";
        fault = tm_parquet_get_deltas(s.at, s.end, c->form.width == 4, (int64_t *)items, count);
        break;
    case TM_PARQUET_PLAIN:
        fault = plain(c, s, c->base, items, count);
        break;
    default:
        return "expected the encoding PLAIN, RLE_DICTIONARY or DELTA_BINARY_PACKED";
    }
    return fault ? fault : check_values(c, c->base, items, count);
}

int tm_parquet_decode_page(struct tm_parquet_cursor *c, const struct tm_parquet_page_head *head, size_t len,
                           struct tm_error *err)
{
    size_t rows = (size_t)head->values, values;
    int rc = tm_parquet_source_reserve(c->source, &c->items_buf, rows * 8, err);
    rc = rc ? rc : tm_parquet_source_reserve(c->source, &c->levels, rows * 4, err);
    rc = rc ? rc : tm_parquet_source_reserve(c->source, &c->present_buf, rows, err);
    if (rc)
        return rc;
    struct span s = {c->bytes.data, c->bytes.data + len};
    uint64_t *items = (uint64_t *)(void *)c->items_buf.data;
    const char *fault = NULL;
    if (c->column->nullable && head->level_encoding != TM_PARQUET_RLE)
        fault = "definition levels that are not RLE";
    fault = fault ? fault : get_levels(c, &s, rows, &values);
    fault = fault ? fault : get_values(c, head->encoding, s, items, values);
    if (fault)
        return tm_parquet_cursor_fault(c, err, fault);
    c->items = items;
    c->rows = rows;
    c->row = c->item = 0;
    c->rows_left -= rows;
    return TM_OK;
}
