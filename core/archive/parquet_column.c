#include "archive/parquet_column.h"

#include "base/clock.h"
#include "base/endian.h"
#include "record/scanner.h"

#include <string.h>

void tm_parquet_values_init(struct tm_parquet_values *v, const struct tm_parquet_column *column)
{
    *v = (struct tm_parquet_values){.column = *column, .form = tm_parquet_form_of(column)};
}

void tm_parquet_values_clear(struct tm_parquet_values *v)
{
    tm_buf_clear(&v->fixed);
    tm_buf_clear(&v->bytes);
    tm_buf_clear(&v->ends);
    tm_buf_clear(&v->present);
    v->rows = v->count = 0;
}

void tm_parquet_values_fini(struct tm_parquet_values *v)
{
    tm_buf_fini(&v->fixed);
    tm_buf_fini(&v->bytes);
    tm_buf_fini(&v->ends);
    tm_buf_fini(&v->present);
}

/* ---- adding ---- */

static int no_memory(const char **why)
{
    *why = "out of memory";
    return TM_ENOMEM;
}

static int add_presence(struct tm_parquet_values *v, bool value, const char **why)
{
    if (!v->present.len && !value) { /* the first NULL: all before it are values */
        if (tm_buf_reserve(&v->present, v->rows + 1))
            return no_memory(why);
        memset(v->present.data, 1, v->rows);
        v->present.len = v->rows;
    }
    v->rows++;
    v->count += value;
    if (v->count == v->rows)
        return TM_OK;
    uint8_t byte = value;
    return tm_buf_append(&v->present, &byte, 1) ? no_memory(why) : TM_OK;
}

static int add_null(struct tm_parquet_values *v, const char **why)
{
    if (v->column.nullable)
        return add_presence(v, false, why);
    *why = "NULL in a column that has none";
    return TM_EPOISON;
}

static int add_fixed(struct tm_parquet_values *v, int64_t value, const char **why)
{
    if (tm_buf_append(&v->fixed, &value, sizeof value))
        return no_memory(why);
    return add_presence(v, true, why);
}

static int add_bytes(struct tm_parquet_values *v, const uint8_t *bytes, size_t len, const char **why)
{
    uint32_t end = (uint32_t)(v->bytes.len + len);
    if (tm_buf_append(&v->bytes, bytes, len) || tm_buf_append(&v->ends, &end, sizeof end))
        return no_memory(why);
    return add_presence(v, true, why);
}

/* PostgreSQL's infinities are the extremes of int64; what other readers show as infinite is 2^63 - 1 and its negative. */
static int add_time(struct tm_parquet_values *v, int64_t pg_us, const char **why)
{
    if (pg_us == INT64_MAX)
        return add_fixed(v, INT64_MAX, why);
    if (pg_us == INT64_MIN)
        return add_fixed(v, -INT64_MAX, why);
    if (pg_us >= tm_pg_time_us(INT64_MAX)) {
        *why = "a time after the year 294246, which microseconds since 1970 cannot hold";
        return TM_EPOISON;
    }
    return add_fixed(v, tm_unix_time_us(pg_us), why);
}

static int add_text(struct tm_parquet_values *v, const uint8_t *bytes, size_t len, const char **why)
{
    if (tm_parquet_is_text(bytes, len))
        return add_bytes(v, bytes, len, why);
    *why = "text that is not UTF-8";
    return TM_EPOISON;
}

static int wrong_length(const char **why)
{
    *why = "a field that is not of the column's type";
    return TM_ECORRUPT;
}

int tm_parquet_values_add(struct tm_parquet_values *v, const uint8_t *field, int32_t len, const char **why)
{
    if (len < 0)
        return add_null(v, why);
    switch (v->column.type) {
    case TM_TYPE_BOOL:
        return len == 1 && *field <= 1 ? add_fixed(v, *field, why) : wrong_length(why);
    case TM_TYPE_INT2:
        return len == 2 ? add_fixed(v, (int16_t)tm_get_be16(field), why) : wrong_length(why);
    case TM_TYPE_INT4:
        return len == 4 ? add_fixed(v, (int32_t)tm_get_be32(field), why) : wrong_length(why);
    case TM_TYPE_INT8:
    case TM_TYPE_FLOAT8:
        return len == 8 ? add_fixed(v, (int64_t)tm_get_be64(field), why) : wrong_length(why);
    case TM_TYPE_TIMESTAMPTZ:
        return len == 8 ? add_time(v, (int64_t)tm_get_be64(field), why) : wrong_length(why);
    case TM_TYPE_UUID:
        return len == 16 ? add_bytes(v, field, 16, why) : wrong_length(why);
    case TM_TYPE_JSONB: /* a version, and the document as text */
        return len > 1 && *field == 1 ? add_text(v, field + 1, (size_t)len - 1, why) : wrong_length(why);
    case TM_TYPE_TEXT:
        return add_text(v, field, (size_t)len, why);
    case TM_TYPE_BYTEA:
        return add_bytes(v, field, (size_t)len, why);
    }
    return wrong_length(why);
}

/* Eight bytes at a time while they are ASCII without NUL, as nearly all are. */
bool tm_parquet_is_text(const uint8_t *bytes, size_t len)
{
    const uint64_t ones = UINT64_C(0x0101010101010101), highs = ones << 7;
    size_t at = 0;
    for (uint64_t word; at + 8 <= len; at += 8) {
        memcpy(&word, bytes + at, 8);
        if (((word - ones) | word) & highs) /* a byte of 0, or above 0x7f; perhaps 0x80 after a borrow, which is both */
            break;
    }
    return tm_text_storable((const char *)bytes + at, len - at);
}

/* ---- statistics ---- */

static void widen(const struct tm_parquet_values *v, int64_t *min, int64_t *max)
{
    const int64_t *values = tm_parquet_fixed(v);
    for (size_t i = 0; i < v->count; i++) {
        *min = values[i] < *min ? values[i] : *min;
        *max = values[i] > *max ? values[i] : *max;
    }
}

void tm_parquet_values_span(const struct tm_parquet_values *v, struct tm_parquet_span *span)
{
    span->nulls += v->rows - v->count;
    if (!tm_parquet_is_integer(v->column.type) || !v->count)
        return;
    if (!span->any)
        *span = (struct tm_parquet_span){true, INT64_MAX, INT64_MIN, span->nulls};
    widen(v, &span->min, &span->max);
}

/* PLAIN, little-endian; a boolean takes a byte. */
static void set_fixed(struct tm_parquet_statistics *s, const struct tm_parquet_values *v, int64_t min, int64_t max)
{
    s->any = s->min_exact = s->max_exact = true;
    s->min_len = s->max_len = v->form.width ? (size_t)v->form.width : 1;
    memcpy(s->min, &min, s->min_len);
    memcpy(s->max, &max, s->max_len);
}

static void integer_statistics(const struct tm_parquet_values *v, struct tm_parquet_statistics *s)
{
    int64_t min = INT64_MAX, max = INT64_MIN;
    widen(v, &min, &max);
    set_fixed(s, v, min, max);
}

/* ColumnOrder in parquet.thrift: NaN is left out, a lowest zero is -0, a highest one +0. */
static void float_statistics(const struct tm_parquet_values *v, struct tm_parquet_statistics *s)
{
    const double *values = (const double *)(const void *)v->fixed.data;
    double min = __builtin_inf(), max = -__builtin_inf();
    for (size_t i = 0; i < v->count; i++) {
        s->nans += values[i] != values[i];
        min = values[i] < min ? values[i] : min;
        max = values[i] > max ? values[i] : max;
    }
    if (s->nans == v->count)
        return;
    min = min == 0 ? -0.0 : min;
    max = max == 0 ? 0.0 : max;
    int64_t bits[2];
    memcpy(&bits[0], &min, 8);
    memcpy(&bits[1], &max, 8);
    set_fixed(s, v, bits[0], bits[1]);
}

struct text {
    const uint8_t *at;
    size_t len;
};

/* LogicalTypes.md, "STRING" and "UUID": unsigned, byte by byte; a text before those it begins. */
static int compare(struct text a, struct text b)
{
    int order = memcmp(a.at, b.at, a.len < b.len ? a.len : b.len);
    return order ? order : (a.len > b.len) - (a.len < b.len);
}

/* The longest beginning of a UTF-8 text that ends with a whole character and is not too long. */
static size_t cut(struct text t)
{
    size_t len = TM_PARQUET_STATISTIC_BYTES_MAX;
    if (t.len <= len)
        return t.len;
    while (len && (t.at[len] & 0xc0) == 0x80)
        len--;
    return len;
}

/* The character at `at`, of `len` bytes, becomes the next one of the same length; false: there is none. */
static bool next_character(uint8_t *at, size_t len)
{
    static const uint32_t ends[] = {0, 0x7f, 0x7ff, 0xffff, 0x10ffff};
    uint32_t c = len == 1 ? *at : *at & (0xffU >> (len + 1));
    for (size_t i = 1; i < len; i++)
        c = c << 6 | (at[i] & 0x3f);
    if (c == ends[len])
        return false;
    c = c + 1 == 0xd800 ? 0xe000 : c + 1;
    for (size_t i = len - 1; i > 0; i--, c >>= 6)
        at[i] = (uint8_t)(0x80 | (c & 0x3f));
    *at = (uint8_t)(len == 1 ? c : (0xf00U >> len & 0xff) | c);
    return true;
}

/* Bytes that come after all texts that begin with these: the last character that has a next one becomes it. 0: none. */
static size_t above(uint8_t *bytes, size_t len)
{
    while (len) {
        size_t begin = len - 1;
        while (begin && (bytes[begin] & 0xc0) == 0x80)
            begin--;
        if (next_character(bytes + begin, len - begin))
            return len;
        len = begin;
    }
    return 0;
}

static void set_texts(struct tm_parquet_statistics *s, struct text min, struct text max)
{
    s->min_len = cut(min);
    s->max_len = cut(max);
    memcpy(s->min, min.at, s->min_len);
    memcpy(s->max, max.at, s->max_len);
    s->min_exact = s->min_len == min.len;
    s->max_exact = s->max_len == max.len;
    if (!s->max_exact)
        s->max_len = above(s->max, s->max_len);
    s->any = s->max_exact || s->max_len > 0;
}

static void text_statistics(const struct tm_parquet_values *v, struct tm_parquet_statistics *s)
{
    struct text min = {0}, max = {0}, t;
    for (size_t i = 0; i < v->count; i++) {
        t.at = tm_parquet_bytes(v, i, &t.len);
        if (!i)
            min = max = t;
        else if (compare(t, min) < 0)
            min = t;
        else if (compare(t, max) > 0)
            max = t;
    }
    set_texts(s, min, max);
}

void tm_parquet_values_statistics(const struct tm_parquet_values *v, struct tm_parquet_statistics *out)
{
    *out = (struct tm_parquet_statistics){.nulls = v->rows - v->count};
    if (!v->count)
        return;
    if (v->column.type == TM_TYPE_FLOAT8)
        float_statistics(v, out);
    else if (tm_parquet_is_fixed(v->column.type))
        integer_statistics(v, out);
    else if (v->column.type == TM_TYPE_TEXT || v->column.type == TM_TYPE_UUID)
        text_statistics(v, out); /* a uuid is too short to be cut */
}
