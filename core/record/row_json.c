#include "record/row_json.h"

#include "base/clock.h"
#include "base/unset.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

static int put(struct tm_buf *out, const char *text)
{
    return tm_buf_append(out, text, strlen(text));
}

int tm_json_put_text(struct tm_buf *out, const char *text, size_t len)
{
    int rc = put(out, "\"");
    for (size_t i = 0; !rc && i < len; i++) {
        unsigned char c = (unsigned char)text[i];
        if (c == '"' || c == '\\')
            rc = tm_buf_printf(out, "\\%c", c);
        else if (c < 0x20)
            rc = tm_buf_printf(out, "\\u%04x", c);
        else
            rc = tm_buf_append(out, &text[i], 1);
    }
    return rc ? rc : put(out, "\"");
}

int tm_json_put_time(struct tm_buf *out, int64_t unix_us)
{
    int64_t us = unix_us % 1000000;
    time_t s = (time_t)(unix_us / 1000000 - (us < 0));
    struct tm t;
    if (!gmtime_r(&s, &t))
        return tm_buf_printf(out, "\"%" PRId64 "us\"", unix_us);
    return tm_buf_printf(out, "\"%04d-%02d-%02dT%02d:%02d:%02d.%06dZ\"", t.tm_year + 1900, t.tm_mon + 1, t.tm_mday,
                         t.tm_hour, t.tm_min, t.tm_sec, (int)(us < 0 ? us + 1000000 : us));
}

static int put_float(struct tm_buf *out, const uint8_t *bytes)
{
    uint64_t bits = tm_get_be64(bytes);
    double v;
    memcpy(&v, &bits, sizeof v);
    return tm_buf_printf(out, isfinite(v) ? "%.17g" : "\"%g\"", v);
}

static int put_hex(struct tm_buf *out, const struct tm_field *f)
{
    int rc = put(out, "\"\\\\x");
    for (int32_t i = 0; !rc && i < f->len; i++)
        rc = tm_buf_printf(out, "%02x", f->bytes[i]);
    return rc ? rc : put(out, "\"");
}

static int put_uuid(struct tm_buf *out, const uint8_t *b)
{
    return tm_buf_printf(out, "\"%02x%02x%02x%02x-%02x%02x-%02x%02x-%02x%02x-%02x%02x%02x%02x%02x%02x\"", b[0], b[1],
                         b[2], b[3], b[4], b[5], b[6], b[7], b[8], b[9], b[10], b[11], b[12], b[13], b[14], b[15]);
}

int tm_json_put_field(struct tm_buf *out, const struct tm_column *column, const struct tm_field *f)
{
    switch (column->type) {
    case TM_TYPE_BOOL:
        return put(out, f->bytes[0] ? "true" : "false");
    case TM_TYPE_INT2:
        return tm_buf_printf(out, "%d", (int16_t)tm_get_be16(f->bytes));
    case TM_TYPE_INT4:
        return tm_buf_printf(out, "%" PRId32, (int32_t)tm_get_be32(f->bytes));
    case TM_TYPE_INT8:
        return tm_buf_printf(out, "%" PRId64, (int64_t)tm_get_be64(f->bytes));
    case TM_TYPE_FLOAT8:
        return put_float(out, f->bytes);
    case TM_TYPE_TEXT:
        return tm_json_put_text(out, (const char *)f->bytes, (size_t)f->len);
    case TM_TYPE_UUID:
        return put_uuid(out, f->bytes);
    case TM_TYPE_TIMESTAMPTZ:
        return tm_json_put_time(out, tm_unix_time_us((int64_t)tm_get_be64(f->bytes)));
    case TM_TYPE_JSONB: /* a version byte first */
        return tm_buf_append(out, f->bytes + 1, (size_t)f->len - 1);
    case TM_TYPE_BYTEA:
        return put_hex(out, f);
    }
    return TM_EINVAL;
}

int tm_row_json(const struct tm_stream *stream, const uint8_t *tuple, size_t len, struct tm_buf *out)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    int rc = tm_tuple_split(tuple, len, fields, stream->column_count);
    bool first = true;
    if (!rc)
        rc = put(out, "{");
    for (size_t i = 0; !rc && i < stream->column_count; i++) {
        if (fields[i].len < 0)
            continue;
        rc = tm_buf_printf(out, "%s\"%s\":", first ? "" : ",", stream->columns[i].name);
        if (!rc)
            rc = tm_json_put_field(out, &stream->columns[i], &fields[i]);
        first = false;
    }
    return rc ? rc : put(out, "}");
}

/* ---- by a column list ---- */

static bool width_fits(enum tm_type type, int32_t len)
{
    switch (type) {
    case TM_TYPE_BOOL:
        return len == 1;
    case TM_TYPE_INT2:
        return len == 2;
    case TM_TYPE_INT4:
        return len == 4;
    case TM_TYPE_INT8:
    case TM_TYPE_FLOAT8:
    case TM_TYPE_TIMESTAMPTZ:
        return len == 8;
    case TM_TYPE_UUID:
        return len == 16;
    case TM_TYPE_JSONB:
        return len > 1;
    case TM_TYPE_TEXT:
    case TM_TYPE_BYTEA:
        return true;
    }
    return false;
}

static const struct tm_column *column_named(const struct tm_stream *stream, const char *name, size_t len)
{
    for (size_t i = 0; stream && i < stream->column_count; i++)
        if (strlen(stream->columns[i].name) == len && memcmp(stream->columns[i].name, name, len) == 0)
            return &stream->columns[i];
    return NULL;
}

static int put_listed(struct tm_buf *out, const struct tm_stream *stream, const char *name, size_t len,
                      const struct tm_field *f)
{
    const struct tm_column *column = column_named(stream, name, len);
    if (column && width_fits(column->type, f->len))
        return tm_json_put_field(out, column, f);
    if (len == 3 && memcmp(name, "seq", 3) == 0 && f->len == 8)
        return tm_buf_printf(out, "%" PRId64, (int64_t)tm_get_be64(f->bytes));
    return put_hex(out, f);
}

int tm_row_json_listed(const struct tm_stream *stream, const char *columns, const uint8_t *tuple, size_t len,
                       struct tm_buf *out)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    size_t count = len >= 2 ? tm_get_be16(tuple) : 0, i = 0;
    bool first = true;
    int rc = count && count <= TM_COLUMNS_MAX ? tm_tuple_split(tuple, len, fields, count) : TM_ECORRUPT;
    rc = rc ? rc : put(out, "{");
    for (const char *at = columns; !rc && *at && i < count; i++) {
        size_t name = strcspn(at, ",");
        if (fields[i].len >= 0) {
            rc = tm_buf_printf(out, "%s\"%.*s\":", first ? "" : ",", (int)name, at);
            rc = rc ? rc : put_listed(out, stream, at, name, &fields[i]);
            first = false;
        }
        at += name + (at[name] == ',');
    }
    if (!rc && i != count)
        return TM_ECORRUPT;
    return rc ? rc : put(out, "}");
}
