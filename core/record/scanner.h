/*
 * A strict scanner of JSON text (RFC 8259): says where values begin and end, builds nothing, converts nothing.
 *
 * Every byte is checked: grammar, escapes, control bytes, UTF-8 (no overlong forms, no encoded surrogates), nesting of
 * at most TM_JSON_DEPTH_MAX. Escaped lone surrogates and \u0000 are legal JSON and pass here; who wants to store such
 * text asks tm_value_unescape or tm_value_storable, which refuse them.
 *
 * The functions take and return a place in the text, NULL for a fault (then `expected` and `fault_at` say what and
 * where). Strings are looked at 16 bytes at a time where such a load stays inside what may be read: `wide_end` is the
 * last place where one may start (`wider_end`: two). With 16 readable bytes after the text that is its end; without, tm_scanner_init is
 * told so and the last bytes are taken one by one.
 *
 * A scanner is a small value on the stack of one thread; the text must stay while values refer to it.
 */
#ifndef TM_RECORD_SCANNER_H
#define TM_RECORD_SCANNER_H

#include "base/buf.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE2__) && !defined(TM_PORTABLE) /* TM_PORTABLE: tests of what other processors get */
#define TM_SCAN_WIDE
#include <emmintrin.h>
#endif

#define TM_JSON_DEPTH_MAX 64
#define TM_JSON_BYTES_MAX ((size_t)1 << 30) /* lengths of values are 32 bits */
#define TM_SCAN_PADDING 16

enum tm_value_kind {
    TM_VALUE_NONE,
    TM_VALUE_STRING,
    TM_VALUE_NUMBER,
    TM_VALUE_TRUE,
    TM_VALUE_FALSE,
    TM_VALUE_NULL,
    TM_VALUE_OBJECT,
    TM_VALUE_ARRAY,
};

/* A value in the text. A string is without its quotes; `escaped` says that it has escapes. */
struct tm_value {
    const char *at;
    uint32_t len;
    uint8_t kind;
    bool escaped;
    uint16_t walk; /* which walk noted it (record/walk.h) */
    uint32_t last; /* of an array: where its last element is, from `at`; 0: it is empty */
};

/* Field by field: a value is read soon after, and a load over several stores would wait for them. */
static inline void tm_value_set(struct tm_value *v, const char *at, const char *end, enum tm_value_kind kind)
{
    v->at = at;
    v->len = (uint32_t)(end - at);
    v->kind = (uint8_t)kind;
    v->escaped = false;
}

struct tm_scanner {
    const char *begin, *end;
    const char *wide_end, *wider_end; /* the last places from where 16 and 32 bytes can be read */
    struct tm_value ignored;          /* values that are only checked */
    uint32_t last;                    /* of the array scanned last: as in tm_value */
    const char *expected;             /* a fault: what would have been right ... */
    const char *fault_at;             /* ... and where */
    bool escapes;                     /* some string has an escape */
    bool odd_numbers; /* some number has an exponent or is so long that PostgreSQL's numeric may refuse it */
};

/* `padded`: TM_SCAN_PADDING bytes after the text are readable. Below 16 bytes without padding no wide load is possible:
 * wide_end stands before the text. */
static inline void tm_scanner_init(struct tm_scanner *s, const char *text, size_t len, bool padded)
{
    const char *end = text + len;
    uintptr_t readable = (uintptr_t)end + (padded ? TM_SCAN_PADDING : 0);
    s->begin = text;
    s->end = end;
    s->wide_end = (const char *)(readable - 16);
    s->wider_end = (const char *)(readable - 32);
    s->last = 0;
    s->expected = s->fault_at = NULL;
    s->escapes = s->odd_numbers = false;
}

/* Record a fault; returns NULL. */
const char *tm_scan_fault(struct tm_scanner *s, const char *at, const char *expected) __attribute__((cold));

/* The whole text is one value, with white space around it. */
int tm_scan_document(struct tm_scanner *s, struct tm_value *out) TM_MUST_CHECK;

/* Any value that begins at p; `depth` containers are open around it. Returns the place after it. */
const char *tm_scan_value(struct tm_scanner *s, const char *p, unsigned depth, struct tm_value *out);

/* The container that begins at p ('{' or '['). */
const char *tm_scan_container(struct tm_scanner *s, const char *p, unsigned depth);

/* The string that begins with the quote at `open` and is plain up to p. */
const char *tm_scan_string_rest(struct tm_scanner *s, const char *open, const char *p, struct tm_value *out);

const char *tm_scan_any_number(struct tm_scanner *s, const char *p, struct tm_value *out);
const char *tm_scan_space_rest(struct tm_scanner *s, const char *p);

/* Element `index` of an array that was scanned (negative: from the end); kind NONE if there is none. */
struct tm_value tm_value_item(struct tm_value array, int32_t index);

/* Walk an array that was scanned: start with *next = NULL; false at the end. */
bool tm_value_next(struct tm_value array, const char **next, struct tm_value *item);

/* Append a string's text to `out` with escapes resolved. TM_EPARSE: a lone surrogate or \u0000. */
int tm_value_unescape(struct tm_value string, struct tm_buf *out) TM_MUST_CHECK;

/* Would PostgreSQL take this value as jsonb? No lone surrogates, no \u0000, numbers within numeric's range. */
bool tm_value_storable(struct tm_value value);

/* Would PostgreSQL take these bytes as text? UTF-8 without NUL. */
bool tm_text_storable(const char *text, size_t len);

/* The value as it stands in the text: a string with its quotes. */
static inline struct tm_value tm_value_raw(struct tm_value v)
{
    if (v.kind == TM_VALUE_STRING) {
        v.at--;
        v.len += 2;
    }
    return v;
}

/* ---- the steps that are worth inlining ---- */

/* Bits of the 32 bytes that are alike. */
static inline uint32_t tm_scan_equal(const void *a, const void *b)
{
#ifdef TM_SCAN_WIDE
    const __m128i *x = (const __m128i *)a, *y = (const __m128i *)b;
    __m128i low = _mm_cmpeq_epi8(_mm_loadu_si128(x), _mm_loadu_si128(y));
    __m128i high = _mm_cmpeq_epi8(_mm_loadu_si128(x + 1), _mm_loadu_si128(y + 1));
    return (uint32_t)_mm_movemask_epi8(low) | (uint32_t)_mm_movemask_epi8(high) << 16;
#else
    const char *x = (const char *)a, *y = (const char *)b;
    uint32_t equal = 0;
    for (unsigned i = 0; i < 32; i++)
        equal |= (uint32_t)(x[i] == y[i]) << i;
    return equal;
#endif
}

/* Bits of the 16 bytes at p that end the plain part of a string: quote, backslash, control bytes, all but ASCII. */
static inline uint32_t tm_scan_stops(const char *p)
{
#ifdef TM_SCAN_WIDE
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)p);
    __m128i stops = _mm_or_si128(_mm_cmpeq_epi8(x, _mm_set1_epi8('"')), _mm_cmpeq_epi8(x, _mm_set1_epi8('\\')));
    stops = _mm_or_si128(stops, _mm_cmplt_epi8(x, _mm_set1_epi8(0x20))); /* signed: bytes from 0x80 are below too */
    return (uint32_t)_mm_movemask_epi8(stops);
#else
    uint32_t stops = 0;
    for (unsigned i = 0; i < 16; i++) {
        unsigned char c = (unsigned char)p[i];
        stops |= (uint32_t)(c == '"' || c == '\\' || c < 0x20 || c >= 0x80) << i;
    }
    return stops;
#endif
}

/* The string that begins with the quote at `open`. */
static inline const char *tm_scan_string(struct tm_scanner *s, const char *open, struct tm_value *out)
{
    const char *p = open + 1;
    for (; p <= s->wide_end; p += 16) {
        uint32_t stops = tm_scan_stops(p);
        if (!stops)
            continue;
        const char *stop = p + __builtin_ctz(stops);
        if (__builtin_expect(*stop != '"' || stop >= s->end, 0))
            break;
        tm_value_set(out, open + 1, stop, TM_VALUE_STRING);
        return stop + 1;
    }
    return tm_scan_string_rest(s, open, p, out);
}

/* Bits of the 16 bytes at p that are no digits. */
static inline uint32_t tm_scan_nondigits(const char *p)
{
#ifdef TM_SCAN_WIDE
    __m128i d = _mm_sub_epi8(_mm_loadu_si128((const __m128i *)(const void *)p), _mm_set1_epi8('0'));
    return ~(uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(d, _mm_set1_epi8(9)), d)) & 0xffff;
#else
    uint32_t bits = 0;
    for (unsigned i = 0; i < 16; i++)
        bits |= (uint32_t)((unsigned)(p[i] - '0') > 9) << i;
    return bits;
#endif
}

/* The number at p, which begins with a digit or '-': in one step if it is a plain integer with a comma behind it. */
static inline const char *tm_scan_number(struct tm_scanner *s, const char *p, struct tm_value *out)
{
    if (__builtin_expect(p <= s->wide_end, 1)) {
        uint32_t others = tm_scan_nondigits(p);
        const char *after = p + (others ? __builtin_ctz(others) : 0);
        if (after < s->end && (*after == ',' || *after == '}') && (*p > '0' || after == p + 1)) {
            tm_value_set(out, p, after, TM_VALUE_NUMBER);
            return after;
        }
    }
    return tm_scan_any_number(s, p, out);
}

/* The first byte that is not white space, or the end of the text. */
static inline const char *tm_scan_space(struct tm_scanner *s, const char *p)
{
    if (__builtin_expect(p < s->end && (unsigned char)*p > ' ', 1))
        return p;
    return tm_scan_space_rest(s, p);
}

#endif
