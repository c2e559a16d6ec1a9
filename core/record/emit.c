#include "record/emit.h"

#include "base/clock.h"
#include "base/endian.h"

#include <inttypes.h>
#include <stdio.h>

/* ---- reasons ---- */

#define GOT_BYTES_MAX 40

static void printable(char *out, struct tm_value v)
{
    size_t n = v.len < GOT_BYTES_MAX ? v.len : GOT_BYTES_MAX;
    for (size_t i = 0; i < n; i++)
        out[i] = v.at[i] >= ' ' && v.at[i] <= '~' ? v.at[i] : '?';
    (void)strcpy(out + n, n < v.len ? "..." : "");
}

void tm_reason_set(char *reason, const struct tm_scanner *s, const char *where, const char *expected,
                   struct tm_value got)
{
    char text[GOT_BYTES_MAX + 4] = "nothing";
    struct tm_value raw = tm_value_raw(got);
    if (raw.kind == TM_VALUE_NONE) {
        (void)snprintf(reason, TM_REASON_BYTES, "%s: expected %s, got nothing", where, expected);
        return;
    }
    printable(text, raw);
    (void)snprintf(reason, TM_REASON_BYTES, "%s: expected %s, got %s at byte %td", where, expected, text,
                   raw.at - s->begin);
}

/* What was expected instead of a value that could not be converted. */
static const char *conversion_fault(enum tm_convert fault, const char *form)
{
    switch (fault) {
    case TM_CONVERT_OK:
        return NULL;
    case TM_CONVERT_FORM:
        return form;
    case TM_CONVERT_PRECISION:
        return "no more digits than the scale holds";
    case TM_CONVERT_RANGE:
        return "a value that fits the column";
    }
    return form;
}

/* ---- finding values ---- */

/* Follow the indexes of a place from its node's value. */
static struct tm_value follow(struct tm_value v, const struct tm_place *place)
{
    for (unsigned i = 0; i < place->index_count; i++)
        v = tm_value_item(v, place->index[i]);
    return v;
}

struct tm_value tm_place_value(const struct tm_notes *frame, const struct tm_place *place)
{
    const struct tm_value *v = place->text ? tm_notes_get(frame, place->node) : NULL;
    return v ? follow(*v, place) : (struct tm_value){0};
}

/* A decimal of the text that was scanned; one that was unescaped, or stands at the very beginning, has nothing before it
 * that could be read. */
static inline __attribute__((always_inline)) enum tm_convert decimal(const struct tm_scanner *s,
                                                                     const struct tm_value *v, int scale, int64_t *out)
{
    const char *end = v->at + v->len;
    if (__builtin_expect(!v->escaped && end - s->begin >= 16, 1))
        return tm_convert_decimal_within(v->at, v->len, scale, out);
    return tm_convert_decimal(v->at, v->len, scale, out);
}

static inline bool is_numeric(const struct tm_value *v)
{
    return v->kind == TM_VALUE_NUMBER || v->kind == TM_VALUE_STRING;
}

int tm_place_any_integer(const struct tm_emission *e, const struct tm_place *place, int64_t *out)
{
    struct tm_value item;
    const struct tm_value *v = place->text ? tm_notes_get(e->frame, place->node) : NULL;
    if (v && place->index_count) {
        item = follow(*v, place);
        v = &item;
    }
    if (!v || v->kind == TM_VALUE_NONE || v->kind == TM_VALUE_NULL || (v->kind == TM_VALUE_STRING && !v->len))
        return TM_ENOENT;
    return is_numeric(v) && !decimal(e->scanner, v, 0, out) ? TM_OK : TM_EPARSE;
}

/* ---- fields ---- */

/*
 * The put functions write a field at `at` and return the place after it, or NULL with e->expected. `at` is handed from
 * one to the next instead of being kept in *e, because bytes written through it could be *e for all the compiler knows.
 */

static uint8_t *refuse(struct tm_emission *e, const char *expected)
{
    e->expected = expected;
    return NULL;
}

static inline uint8_t *put_null(uint8_t *at)
{
    tm_put_be32(at, UINT32_MAX);
    return at + 4;
}

static inline uint8_t *put_int8(uint8_t *at, int64_t v)
{
    tm_put_be32(at, 8);
    tm_put_be64(at + 4, (uint64_t)v);
    return at + 12;
}

static uint8_t *grow(struct tm_emission *e, uint8_t *at, size_t need)
{
    size_t used = (size_t)(at - e->out->data), len = e->out->len;
    e->out->len = used;
    int rc = tm_buf_reserve(e->out, need);
    e->out->len = len;
    return rc ? refuse(e, NULL) : e->out->data + used;
}

/*
 * Room for a field of `len` bytes and for all that the row has besides texts. A row begins with that room, so fields of
 * fixed length need not ask.
 */
static inline uint8_t *make_room(struct tm_emission *e, uint8_t *at, size_t len)
{
    size_t need = len + e->program->fixed_bytes;
    if (__builtin_expect(e->out->cap - (size_t)(at - e->out->data) >= need, 1))
        return at;
    return grow(e, at, need);
}

/* Copy by 32 bytes what is not longer, where so many can be read: the row has room for them, and what is too much is
 * written over by the next field. */
static inline void copy_short(uint8_t *to, const char *from)
{
    memcpy(to, from, 16);
    memcpy(to + 16, from + 16, 16);
}

static uint8_t *put_bytes(struct tm_emission *e, uint8_t *at, const char *bytes, size_t len)
{
    if (len > TM_FIELD_BYTES_MAX)
        return refuse(e, "at most 4 MiB");
    at = make_room(e, at, len);
    if (!at)
        return NULL;
    tm_put_be32(at, (uint32_t)len);
    memcpy(at + 4, bytes, len);
    return at + 4 + len;
}

static uint8_t *put_bool(struct tm_emission *e, uint8_t *at, const struct tm_value *v)
{
    if (v->kind != TM_VALUE_TRUE && v->kind != TM_VALUE_FALSE)
        return refuse(e, "true or false");
    tm_put_be32(at, 1);
    at[4] = v->kind == TM_VALUE_TRUE;
    return at + 5;
}

static inline bool is_in_range(const struct tm_emit *m, int64_t n)
{
    return (uint64_t)n - (uint64_t)m->min <= m->span;
}

#define SCALED_BYTES 40

/* -470000 at scale 6 as "-0.47". */
static void scaled_text(int64_t n, int scale, char out[SCALED_BYTES])
{
    uint64_t size = n < 0 ? 0 - (uint64_t)n : (uint64_t)n, one = (uint64_t)tm_power_of_ten[scale];
    unsigned billionths = (unsigned)(size % one * (uint64_t)tm_power_of_ten[TM_DECIMAL_SCALE_MAX - scale]);
    int len = snprintf(out, SCALED_BYTES, "%s%" PRIu64 ".%09u", n < 0 ? "-" : "", size / one, billionths);
    while (out[len - 1] == '0')
        len--;
    out[out[len - 1] == '.' ? len - 1 : len] = '\0';
}

/* What came is shown as it came, so the range is told in the same unit. */
static uint8_t *refuse_range(struct tm_emission *e, const struct tm_emit *m, const struct tm_reading *r, int64_t n)
{
    char min[SCALED_BYTES], max[SCALED_BYTES];
    const struct tm_range *range = m->column->range;
    const char *taken = r->one_minus ? " when taken from 1" : "";
    if (!range || (n >= range->min && n <= range->max))
        return refuse(e, "a value that fits the column");
    scaled_text(range->min, r->scale, min);
    scaled_text(range->max, r->scale, max);
    if (range->max == INT64_MAX)
        (void)snprintf(e->range, sizeof e->range, "at least %s%s", min, taken);
    else if (range->min == INT64_MIN)
        (void)snprintf(e->range, sizeof e->range, "at most %s%s", max, taken);
    else
        (void)snprintf(e->range, sizeof e->range, "%s to %s%s", min, max, taken);
    return refuse(e, e->range);
}

static uint8_t *put_narrow(uint8_t *at, enum tm_type type, int64_t n)
{
    if (type == TM_TYPE_INT4) {
        tm_put_be32(at, 4);
        tm_put_be32(at + 4, (uint32_t)n);
        return at + 8;
    }
    tm_put_be32(at, 2);
    tm_put_be16(at + 4, (uint16_t)n);
    return at + 6;
}

static uint8_t *put_int(struct tm_emission *e, uint8_t *at, const struct tm_emit *m, const struct tm_reading *r,
                        const struct tm_value *v)
{
    int64_t n;
    if (!is_numeric(v))
        return refuse(e, "a number");
    enum tm_convert fault = decimal(e->scanner, v, r->scale, &n);
    if (__builtin_expect(fault != TM_CONVERT_OK, 0))
        return refuse(e, conversion_fault(fault, "a number"));
    if (r->one_minus && __builtin_sub_overflow(tm_power_of_ten[r->scale], n, &n))
        return refuse(e, "a value that fits the column");
    if (!is_in_range(m, n))
        return refuse_range(e, m, r, n);
    return m->column->type == TM_TYPE_INT8 ? put_int8(at, n) : put_narrow(at, m->column->type, n);
}

static uint8_t *put_float(struct tm_emission *e, uint8_t *at, const struct tm_value *v)
{
    double d;
    int64_t bits;
    if (!is_numeric(v))
        return refuse(e, "a number");
    enum tm_convert fault = tm_convert_float8(v->at, v->len, &d);
    if (fault)
        return refuse(e, conversion_fault(fault, "a number"));
    memcpy(&bits, &d, sizeof bits);
    return put_int8(at, bits);
}

static uint8_t *put_time(struct tm_emission *e, uint8_t *at, const struct tm_emit *m, const struct tm_reading *r,
                         const struct tm_value *v)
{
    int64_t us;
    enum tm_convert fault;
    const char *form = r->unit == TM_UNIT_RFC3339 ? "an RFC 3339 time" : "a count of time";
    if (r->unit == TM_UNIT_RFC3339 ? v->kind != TM_VALUE_STRING : !is_numeric(v))
        return refuse(e, form);
    fault = r->unit == TM_UNIT_RFC3339 ? tm_convert_time_of(&e->day, v->at, v->len, &us)
                                       : tm_convert_epoch(v->at, v->len, r->scale, &us);
    if (__builtin_expect(fault != TM_CONVERT_OK, 0))
        return refuse(e, conversion_fault(fault, form));
    if (m->is_time)
        e->row->exchange_us = us;
    return put_int8(at, tm_pg_time_us(us));
}

static uint8_t *put_uuid(struct tm_emission *e, uint8_t *at, const struct tm_value *v)
{
    if (v->kind != TM_VALUE_STRING || tm_convert_uuid(v->at, v->len, at + 4))
        return refuse(e, "a uuid");
    tm_put_be32(at, 16);
    return at + 20;
}

static bool is_listed(const char *const *one_of, const char *text, size_t len)
{
    for (; *one_of; one_of++)
        if (strlen(*one_of) == len && memcmp(*one_of, text, len) == 0)
            return true;
    return false;
}

/* All words are looked at: which of them it is cannot be predicted, that it is one of them can. */
static inline bool is_allowed(const struct tm_emit *m, const char *text, size_t len)
{
    if (!m->allowed)
        return !m->column->one_of || is_listed(m->column->one_of, text, len);
    if (len > sizeof(uint64_t))
        return false;
    uint64_t word = len ? tm_load_short(text, len) : 0;
    bool found = false;
    for (unsigned i = 0; i < m->allowed_count; i++)
        found |= word == m->allowed[i];
    return found;
}

/* The text of `len` bytes that ends at `at` is the ticker. An offset, because the buffer may still move. */
static void note_ticker(struct tm_emission *e, const uint8_t *at, size_t len)
{
    e->row->ticker_len = (uint32_t)len;
    e->ticker_at = (uint32_t)((size_t)(at - e->out->data) - e->out->len - len);
}

static uint8_t *put_text(struct tm_emission *e, uint8_t *at, const struct tm_emit *m, const struct tm_value *v)
{
    if (v->kind != TM_VALUE_STRING)
        return refuse(e, "a string");
    if (m->is_indexed && v->len > TM_KEY_TEXT_BYTES_MAX)
        return refuse(e, "a text short enough for a key");
    if (!is_allowed(m, v->at, v->len))
        return refuse(e, "one of the column's allowed values");
    at = put_bytes(e, at, v->at, v->len);
    if (m->is_ticker && at)
        note_ticker(e, at, v->len);
    return at;
}

static uint8_t *put_jsonb(struct tm_emission *e, uint8_t *at, const struct tm_value *v)
{
    struct tm_value raw = tm_value_raw(*v);
    if ((e->scanner->escapes || e->scanner->odd_numbers) && !tm_value_storable(*v))
        return refuse(e, "JSON that PostgreSQL can hold, without \\u0000, lone surrogates and giant numbers");
    if (raw.len > TM_FIELD_BYTES_MAX)
        return refuse(e, "at most 4 MiB");
    at = make_room(e, at, raw.len);
    if (!at)
        return NULL;
    tm_put_be32(at, raw.len + 1);
    at[4] = 1; /* jsonb's version */
    memcpy(at + 5, raw.at, raw.len);
    return at + 5 + raw.len;
}

/* The whole frame or element. */
static const struct tm_value *raw_value(const struct tm_emission *e)
{
    return &(e->element ? e->element : e->frame)->values[0];
}

static uint8_t *put_raw(struct tm_emission *e, uint8_t *at, const struct tm_emit *m)
{
    const struct tm_value *whole = raw_value(e);
    struct tm_value raw = tm_value_raw(*whole);
    return m->column->type == TM_TYPE_JSONB ? put_jsonb(e, at, whole) : put_bytes(e, at, raw.at, raw.len);
}

/* ---- columns ---- */

static int fail(struct tm_emission *e, const struct tm_emit *m, const char *path, const struct tm_value *got)
{
    char where[100];
    if (!e->expected)
        return TM_ENOMEM;
    (void)snprintf(where, sizeof where, "%.40s: %.40s", e->program->kind.tag, path ? path : m->column->name);
    tm_reason_set(e->reason, e->scanner, where, e->expected, got ? *got : (struct tm_value){0});
    return TM_EPARSE;
}

static inline uint8_t *put_value(struct tm_emission *e, uint8_t *at, const struct tm_emit *m,
                                 const struct tm_reading *r, const struct tm_value *v)
{
    switch (m->op) {
    case TM_EMIT_BOOL:
        return put_bool(e, at, v);
    case TM_EMIT_INT:
        return put_int(e, at, m, r, v);
    case TM_EMIT_FLOAT:
        return put_float(e, at, v);
    case TM_EMIT_TEXT:
        return put_text(e, at, m, v);
    case TM_EMIT_UUID:
        return put_uuid(e, at, v);
    case TM_EMIT_TIME:
        return put_time(e, at, m, r, v);
    default:
        return put_jsonb(e, at, v);
    }
}

/* A string with escapes, anywhere but in jsonb, which keeps them. */
static uint8_t *put_escaped(struct tm_emission *e, uint8_t *at, const struct tm_emit *m, const struct tm_reading *r,
                            struct tm_value v)
{
    tm_buf_clear(e->scratch);
    int rc = tm_value_unescape(v, e->scratch);
    if (rc)
        return refuse(e, rc == TM_ENOMEM ? NULL : "text that PostgreSQL can hold, without \\u0000 and lone surrogates");
    v.at = (const char *)e->scratch->data;
    v.len = (uint32_t)e->scratch->len;
    return put_value(e, at, m, r, &v);
}

static inline bool is_present(const struct tm_value *v, enum tm_emit_op op)
{
    return v && v->kind != TM_VALUE_NULL && v->kind != TM_VALUE_NONE &&
           (v->len || v->kind != TM_VALUE_STRING || op == TM_EMIT_TEXT);
}

/* The first of the column's paths where something is. */
static __attribute__((noinline)) uint8_t *emit_any(struct tm_emission *e, uint8_t *at, const struct tm_emit *m)
{
    const struct tm_reading *r = m->readings, *end = r + m->reading_count;
    for (; r < end; r++) {
        const struct tm_value *v = tm_notes_get(r->place.whole_frame ? e->frame : e->element, r->place.node);
        if (r->place.index_count && v) {
            e->item = follow(*v, &r->place);
            v = &e->item;
        }
        if (!is_present(v, m->op))
            continue;
        at = v->escaped && m->op != TM_EMIT_JSONB ? put_escaped(e, at, m, r, *v) : put_value(e, at, m, r, v);
        if (!at)
            e->failed = fail(e, m, r->place.text, v);
        return at;
    }
    if (!m->column->not_null)
        return put_null(at);
    e->expected = "a value";
    e->failed = fail(e, m, m->readings->place.text, NULL);
    return NULL;
}

static inline uint8_t *quick_int8(const struct tm_emission *e, uint8_t *at, const struct tm_emit *m,
                                  const struct tm_value *v)
{
    int64_t n;
    return decimal(e->scanner, v, m->scale, &n) || !is_in_range(m, n) ? NULL : put_int8(at, n);
}

static inline uint8_t *quick_int4(const struct tm_emission *e, uint8_t *at, const struct tm_emit *m,
                                  const struct tm_value *v)
{
    int64_t n;
    if (decimal(e->scanner, v, m->scale, &n) || !is_in_range(m, n))
        return NULL;
    tm_put_be32(at, 4);
    tm_put_be32(at + 4, (uint32_t)n);
    return at + 8;
}

/* Room for a short text is part of a row's fixed bytes. */
static inline uint8_t *quick_text(struct tm_emission *e, uint8_t *at, const struct tm_emit *m, const struct tm_value *v)
{
    if (v->kind != TM_VALUE_STRING || v->len > TM_EMIT_SLACK || v->at > e->scanner->wider_end ||
        !is_allowed(m, v->at, v->len))
        return NULL;
    tm_put_be32(at, v->len);
    copy_short(at + 4, v->at);
    at += 4 + v->len;
    if (m->is_ticker)
        note_ticker(e, at, v->len);
    return at;
}

static inline uint8_t *quick_rfc3339(struct tm_emission *e, uint8_t *at, const struct tm_emit *m,
                                     const struct tm_value *v)
{
    int64_t us;
    if (v->kind != TM_VALUE_STRING || tm_convert_time_of(&e->day, v->at, v->len, &us))
        return NULL;
    if (m->is_time)
        e->row->exchange_us = us;
    return put_int8(at, tm_pg_time_us(us));
}

/* The short way; NULL: look again. */
static inline uint8_t *quick_value(struct tm_emission *e, uint8_t *at, const struct tm_emit *m,
                                   const struct tm_value *v)
{
    switch ((enum tm_quick)m->quick) {
    case TM_QUICK_INT8:
        return quick_int8(e, at, m, v);
    case TM_QUICK_INT4:
        return quick_int4(e, at, m, v);
    case TM_QUICK_TEXT:
        return quick_text(e, at, m, v);
    case TM_QUICK_RFC3339:
        return quick_rfc3339(e, at, m, v);
    case TM_QUICK_NONE:
        break;
    }
    return NULL;
}

/* Nearly always the first path leads to a plain string or number; all else, and faults, go the long way. */
static inline uint8_t *emit_value(struct tm_emission *e, uint8_t *at, const struct tm_emit *m)
{
    const struct tm_notes *notes = m->whole_frame ? e->frame : e->element;
    const struct tm_value *v = &notes->values[m->node];
    bool usual = v->walk == notes->walk && v->len && !v->escaped && is_numeric(v);
    uint8_t *after = __builtin_expect(usual, 1) ? quick_value(e, at, m, v) : NULL;
    return __builtin_expect(after != NULL, 1) ? after : emit_any(e, at, m);
}

static uint8_t *emit_other(struct tm_emission *e, uint8_t *at, const struct tm_emit *m)
{
    switch (m->op) {
    case TM_EMIT_RECEIVED:
        if (m->is_time)
            e->row->exchange_us = e->received_us;
        return put_int8(at, tm_pg_time_us(e->received_us));
    case TM_EMIT_OCCURRENCE:
        tm_put_be32(at, 2);
        tm_put_be16(at + 4, 0);
        e->row->occurrence_at = (uint32_t)((size_t)(at + 4 - e->out->data) - e->out->len);
        return at + 6;
    case TM_EMIT_RAW:
        at = put_raw(e, at, m);
        if (!at)
            e->failed = fail(e, m, NULL, raw_value(e));
        return at;
    default:
        return put_null(at);
    }
}

static inline uint8_t *emit_column(struct tm_emission *e, uint8_t *at, const struct tm_emit *m)
{
    if (m->op >= TM_EMIT_BOOL)
        return emit_value(e, at, m);
    switch (m->op) {
    case TM_EMIT_BYTES:
        if (m->len <= TM_EMIT_SLACK)
            copy_short(at, (const char *)m->bytes);
        else
            memcpy(at, m->bytes, m->len);
        at += m->len;
        if (m->is_ticker)
            note_ticker(e, at, m->len - 4);
        return at;
    case TM_EMIT_SID:
        return e->has_sid ? put_int8(at, e->sid) : put_null(at);
    case TM_EMIT_SEQUENCE:
        return e->has_sequence ? put_int8(at, e->sequence) : put_null(at);
    default:
        return emit_other(e, at, m);
    }
}

int tm_emit_row(struct tm_emission *e, struct tm_row *row)
{
    const struct tm_program *p = e->program;
    size_t start = e->out->len;
    int rc = tm_buf_reserve(e->out, p->fixed_bytes);
    if (rc)
        return rc;
    *row = (struct tm_row){.stream = p->kind.stream, .exchange_us = INT64_MIN};
    e->row = row;
    e->ticker_at = 0;
    uint8_t *at = e->out->data + start;
    tm_put_be16(at, p->emit_count);
    at += 2;
    for (const struct tm_emit *m = p->emits, *end = m + p->emit_count; m < end; m++) {
        at = emit_column(e, at, m);
        if (__builtin_expect(!at, 0))
            return e->failed;
    }
    row->tuple = e->out->data + start;
    row->len = (uint32_t)(at - row->tuple);
    if (e->ticker_at)
        row->ticker = (const char *)row->tuple + e->ticker_at;
    e->out->len = start + row->len;
    return TM_OK;
}
