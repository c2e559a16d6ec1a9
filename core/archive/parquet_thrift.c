#include "archive/parquet_thrift.h"

#include <string.h>

/* ---- writing ---- */

static void put(struct tm_thrift_out *t, const void *bytes, size_t len)
{
    if (!t->rc)
        t->rc = tm_buf_append(t->buf, bytes, len);
}

static void put_byte(struct tm_thrift_out *t, unsigned byte)
{
    uint8_t b = (uint8_t)byte;
    put(t, &b, 1);
}

static void put_varint(struct tm_thrift_out *t, uint64_t v)
{
    uint8_t bytes[10];
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        bytes[n++] = (uint8_t)(v | 0x80);
    bytes[n++] = (uint8_t)v;
    put(t, bytes, n);
}

static uint64_t zigzag(int64_t v)
{
    return ((uint64_t)v << 1) ^ (uint64_t)(v >> 63);
}

/* The short form says how far the field is from the last one. */
static void put_field(struct tm_thrift_out *t, int field, enum tm_thrift_type type)
{
    if (!field)
        return;
    int *last = &t->last[t->depth - 1];
    int step = field - *last;
    if (step > 0 && step <= 15) {
        put_byte(t, (unsigned)step << 4 | type);
    } else {
        put_byte(t, type);
        put_varint(t, zigzag(field));
    }
    *last = field;
}

void tm_thrift_put_struct(struct tm_thrift_out *t, int field)
{
    put_field(t, field, TM_THRIFT_STRUCT);
    TM_FATAL_UNLESS(t->depth < TM_THRIFT_DEPTH_MAX);
    t->last[t->depth++] = 0;
}

void tm_thrift_put_end(struct tm_thrift_out *t)
{
    put_byte(t, TM_THRIFT_STOP);
    t->depth--;
}

void tm_thrift_put_empty(struct tm_thrift_out *t, int field)
{
    tm_thrift_put_struct(t, field);
    tm_thrift_put_end(t);
}

void tm_thrift_put_bool(struct tm_thrift_out *t, int field, bool v)
{
    put_field(t, field, v ? TM_THRIFT_TRUE : TM_THRIFT_FALSE);
}

void tm_thrift_put_i8(struct tm_thrift_out *t, int field, int8_t v)
{
    put_field(t, field, TM_THRIFT_I8);
    put_byte(t, (uint8_t)v);
}

void tm_thrift_put_i32(struct tm_thrift_out *t, int field, int32_t v)
{
    put_field(t, field, TM_THRIFT_I32);
    put_varint(t, zigzag(v));
}

void tm_thrift_put_i64(struct tm_thrift_out *t, int field, int64_t v)
{
    put_field(t, field, TM_THRIFT_I64);
    put_varint(t, zigzag(v));
}

void tm_thrift_put_binary(struct tm_thrift_out *t, int field, const void *bytes, size_t len)
{
    put_field(t, field, TM_THRIFT_BINARY);
    put_varint(t, len);
    put(t, bytes, len);
}

void tm_thrift_put_string(struct tm_thrift_out *t, int field, const char *s)
{
    tm_thrift_put_binary(t, field, s, strlen(s));
}

void tm_thrift_put_list(struct tm_thrift_out *t, int field, enum tm_thrift_type of, size_t count)
{
    put_field(t, field, TM_THRIFT_LIST);
    put_byte(t, (count < 15 ? (unsigned)count : 15) << 4 | of);
    if (count >= 15)
        put_varint(t, count);
}

/* ---- reading ---- */

void tm_thrift_in_init(struct tm_thrift_in *t, const void *bytes, size_t len)
{
    *t = (struct tm_thrift_in){.begin = bytes, .at = bytes, .end = (const uint8_t *)bytes + len};
}

void tm_thrift_fault(struct tm_thrift_in *t, const char *what)
{
    if (t->fault)
        return;
    t->fault = what;
    t->fault_at = (size_t)(t->at - t->begin);
    t->at = t->end;
}

static unsigned get_byte(struct tm_thrift_in *t)
{
    if (t->at < t->end)
        return *t->at++;
    tm_thrift_fault(t, "it ends too early");
    return 0;
}

static uint64_t get_varint(struct tm_thrift_in *t)
{
    uint64_t v = 0;
    for (unsigned shift = 0; shift < 64; shift += 7) {
        unsigned byte = get_byte(t);
        if (shift == 63 && byte > 1)
            break;
        v |= (uint64_t)(byte & 0x7f) << shift;
        if (byte < 0x80)
            return v;
    }
    tm_thrift_fault(t, "a number of more than 64 bits");
    return 0;
}

static int64_t get_zigzag(struct tm_thrift_in *t)
{
    uint64_t v = get_varint(t);
    return (int64_t)(v >> 1) ^ -(int64_t)(v & 1);
}

struct tm_thrift_field tm_thrift_enter(struct tm_thrift_in *t, struct tm_thrift_field f)
{
    if (f.type != TM_THRIFT_STRUCT && (f.type != TM_THRIFT_STOP || t->depth > 0))
        tm_thrift_fault(t, "expected a struct");
    if (++t->depth > TM_THRIFT_DEPTH_MAX)
        tm_thrift_fault(t, "nested too deep");
    return (struct tm_thrift_field){0};
}

bool tm_thrift_next(struct tm_thrift_in *t, struct tm_thrift_field *f)
{
    unsigned head = get_byte(t);
    if (t->fault || head == TM_THRIFT_STOP) {
        t->depth--;
        return false;
    }
    int64_t id = head >> 4 ? f->id + (int)(head >> 4) : get_zigzag(t);
    f->type = head & 15;
    if (id <= 0 || id > INT16_MAX || f->type == TM_THRIFT_STOP)
        tm_thrift_fault(t, "not the head of a field");
    f->id = t->fault ? 0 : (int)id;
    if (t->fault)
        t->depth--;
    return !t->fault;
}

bool tm_thrift_bool(struct tm_thrift_in *t, struct tm_thrift_field f)
{
    if (f.type != TM_THRIFT_TRUE && f.type != TM_THRIFT_FALSE)
        tm_thrift_fault(t, "expected a boolean");
    return f.type == TM_THRIFT_TRUE;
}

int32_t tm_thrift_i32(struct tm_thrift_in *t, struct tm_thrift_field f)
{
    if (f.type == TM_THRIFT_I8)
        return (int8_t)get_byte(t);
    if (f.type != TM_THRIFT_I16 && f.type != TM_THRIFT_I32)
        tm_thrift_fault(t, "expected an integer of at most 32 bits");
    int64_t v = get_zigzag(t);
    if (v != (int32_t)v)
        tm_thrift_fault(t, "an integer of more than 32 bits");
    return (int32_t)v;
}

int64_t tm_thrift_i64(struct tm_thrift_in *t, struct tm_thrift_field f)
{
    if (f.type != TM_THRIFT_I64)
        tm_thrift_fault(t, "expected an integer of 64 bits");
    return get_zigzag(t);
}

const uint8_t *tm_thrift_binary(struct tm_thrift_in *t, struct tm_thrift_field f, size_t *len)
{
    if (f.type != TM_THRIFT_BINARY)
        tm_thrift_fault(t, "expected a string");
    uint64_t n = get_varint(t);
    if (n > (uint64_t)(t->end - t->at))
        tm_thrift_fault(t, "a string longer than what is left");
    *len = t->fault ? 0 : (size_t)n;
    const uint8_t *bytes = t->at;
    t->at += *len;
    return bytes;
}

size_t tm_thrift_list(struct tm_thrift_in *t, struct tm_thrift_field f, struct tm_thrift_field *of)
{
    if (f.type != TM_THRIFT_LIST && f.type != TM_THRIFT_SET)
        tm_thrift_fault(t, "expected a list");
    unsigned head = get_byte(t);
    uint64_t count = head >> 4 == 15 ? get_varint(t) : head >> 4;
    *of = (struct tm_thrift_field){.type = head & 15};
    if (count > (uint64_t)(t->end - t->at)) /* each element takes a byte at least */
        tm_thrift_fault(t, "a list longer than what is left");
    return t->fault ? 0 : (size_t)count;
}

/* ---- what is not known ---- */

static void skip_bytes(struct tm_thrift_in *t, uint64_t n)
{
    if (n > (uint64_t)(t->end - t->at))
        tm_thrift_fault(t, "it ends too early");
    else
        t->at += n;
}

static void skip_list(struct tm_thrift_in *t, struct tm_thrift_field f)
{
    struct tm_thrift_field of;
    size_t count = tm_thrift_list(t, f, &of);
    if (of.type == TM_THRIFT_TRUE || of.type == TM_THRIFT_FALSE) { /* in lists they take a byte */
        skip_bytes(t, count);
        return;
    }
    if (++t->depth > TM_THRIFT_DEPTH_MAX)
        tm_thrift_fault(t, "nested too deep");
    for (; count && !t->fault; count--)
        tm_thrift_skip(t, of);
    t->depth--;
}

void tm_thrift_skip(struct tm_thrift_in *t, struct tm_thrift_field f)
{
    switch (f.type) {
    case TM_THRIFT_TRUE:
    case TM_THRIFT_FALSE:
        break;
    case TM_THRIFT_I8:
        skip_bytes(t, 1);
        break;
    case TM_THRIFT_I16:
    case TM_THRIFT_I32:
    case TM_THRIFT_I64:
        get_varint(t);
        break;
    case TM_THRIFT_DOUBLE:
        skip_bytes(t, 8);
        break;
    case TM_THRIFT_BINARY:
        skip_bytes(t, get_varint(t));
        break;
    case TM_THRIFT_LIST:
    case TM_THRIFT_SET:
        skip_list(t, f);
        break;
    case TM_THRIFT_STRUCT:
        for (struct tm_thrift_field in = tm_thrift_enter(t, f); tm_thrift_next(t, &in);)
            tm_thrift_skip(t, in);
        break;
    default: /* parquet.thrift has no maps and no uuids */
        tm_thrift_fault(t, "a type that Parquet does not use");
    }
}
