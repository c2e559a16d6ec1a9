/*
 * Text to numbers, exactly: decimals become scaled integers, times become microseconds, uuids become 16 bytes. Nothing
 * passes through a double except TM_TYPE_FLOAT8 columns. Pure functions, any thread; `s` need not end in NUL.
 *
 * Numbers have JSON's form: -?(0|[1-9][0-9]*)(.[0-9]+)?([eE][+-]?[0-9]+)?
 */
#ifndef TM_RECORD_CONVERT_H
#define TM_RECORD_CONVERT_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#if defined(__SSE4_1__) && !defined(TM_PORTABLE) /* as in record/scanner.h */
#include <smmintrin.h>
#define TM_CONVERT_WIDE
#endif

#define TM_DECIMAL_SCALE_MAX 9

/* 0001-01-01 and the last microsecond of 9999: every store and every client can show times between them. */
#define TM_TIME_US_MIN INT64_C(-62135596800000000)
#define TM_TIME_US_MAX INT64_C(253402300799999999)

enum tm_convert {
    TM_CONVERT_OK,
    TM_CONVERT_FORM,      /* not of the form */
    TM_CONVERT_PRECISION, /* digits other than 0 beyond the scale */
    TM_CONVERT_RANGE,     /* does not fit */
};

/* The value times 10^scale; scale 0 to 9. 1.50 and 15e-1 are the same at any scale that holds them. */
static inline enum tm_convert tm_convert_decimal(const char *s, size_t len, int scale, int64_t *out) TM_MUST_CHECK;

/* The same for text before whose end 16 bytes can be read, beginning at s or earlier: the fastest. */
static inline enum tm_convert tm_convert_decimal_within(const char *s, size_t len, int scale,
                                                        int64_t *out) TM_MUST_CHECK;

/* The nearest double; RANGE when it is infinite. */
enum tm_convert tm_convert_float8(const char *s, size_t len, double *out) TM_MUST_CHECK;

/*
 * RFC 3339: YYYY-MM-DD, then T, t or a space, hh:mm:ss, up to 9 fraction digits, then Z, z or +-hh:mm. Unix
 * microseconds. Second 60 is the first of the next minute, as in PostgreSQL.
 */
enum tm_convert tm_convert_rfc3339(const char *s, size_t len, int64_t *unix_us) TM_MUST_CHECK;

/* The day of the time before: times of a feed are of the same day, so it need not be worked out again. Starts as {0}. */
struct tm_day {
    char text[12];   /* "2026-11-05T" */
    int64_t seconds; /* Unix, of its beginning */
};

/* The same, faster for times such as "2026-11-05T14:02:33.640173Z" that are of this day. */
static inline enum tm_convert tm_convert_time_of(struct tm_day *day, const char *s, size_t len,
                                                 int64_t *unix_us) TM_MUST_CHECK;

/* A count of seconds (scale 6), milliseconds (3) or microseconds (0) since 1970; fractions to the microsecond. */
enum tm_convert tm_convert_epoch(const char *s, size_t len, int scale, int64_t *unix_us) TM_MUST_CHECK;

/* 8-4-4-4-12 hex digits of either case. */
enum tm_convert tm_convert_uuid(const char *s, size_t len, uint8_t out[16]) TM_MUST_CHECK;

/* ---- the decimals of the hot path, inlined ---- */

enum tm_convert tm_convert_any_decimal(const char *s, size_t len, int scale, int64_t *out) TM_MUST_CHECK;

extern const int64_t tm_power_of_ten[TM_DECIMAL_SCALE_MAX + 1];

#define TM_BYTES_01 UINT64_C(0x0101010101010101)
#define TM_BYTES_80 UINT64_C(0x8080808080808080)

/* The `len` bytes at s, 1 to 8, as a little-endian word; no byte beside them is read. */
static inline uint64_t tm_load_short(const char *s, size_t len)
{
    if (len >= 4) {
        uint32_t first, last;
        memcpy(&first, s, 4);
        memcpy(&last, s + len - 4, 4);
        return first | (uint64_t)last << (len - 4) * 8;
    }
    size_t middle = len / 2;
    return (uint64_t)(uint8_t)s[0] | (uint64_t)(uint8_t)s[middle] << middle * 8 |
           (uint64_t)(uint8_t)s[len - 1] << (len - 1) * 8;
}

/* Eight digits' values, the first in the lowest byte, to their number. */
static inline uint64_t tm_eight_digits(uint64_t v)
{
    v = v * 10 + (v >> 8);
    v = ((v & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x000f424000000064) +
         (v >> 16 & UINT64_C(0x000000ff000000ff)) * UINT64_C(0x0000271000000001)) >>
        32;
    return v & UINT32_MAX;
}

/* The bytes as digits' values in the upper bytes of a word, 0 before the first. */
static inline uint64_t tm_load_values(const char *s, size_t len)
{
    unsigned shift = (unsigned)(8 - len) * 8;
    return (tm_load_short(s, len) << shift) ^ ('0' * TM_BYTES_01 << shift);
}

static inline bool tm_are_digits(uint64_t values)
{
    return !(((values + (0x7f - 9) * TM_BYTES_01) | values) & TM_BYTES_80);
}

/*
 * "0.4700", "31.54", "7": up to eight bytes of digits with at most one point, without a branch on any of them, because
 * the lengths of counts are as random as the counts. false: look again, byte by byte.
 */
static inline bool tm_take_short(const char *s, size_t len, uint64_t *digits, unsigned *decimals)
{
    if (len - 1 > 7)
        return false;
    unsigned shift = (unsigned)(8 - len) * 8;
    uint64_t v = tm_load_values(s, len);
    uint64_t other = v ^ ('.' ^ '0') * TM_BYTES_01; /* 0 where the point is */
    uint64_t point = (other - TM_BYTES_01) & ~other & TM_BYTES_80;
    *decimals = 0;
    if (point) {
        unsigned at = (unsigned)__builtin_ctzll(point) & ~7u;
        uint64_t before = (UINT64_C(1) << at) - 1;
        if (at == shift || at == 56)
            return false;
        *decimals = 7 - at / 8;
        v = (v & ~before & ~(UINT64_C(0xff) << at)) | (v & before) << 8;
    }
    if (!tm_are_digits(v))
        return false;
    *digits = tm_eight_digits(v);
    return s[0] != '0' || len == 1 || s[1] == '.';
}

static inline enum tm_convert tm_convert_decimal(const char *s, size_t len, int scale, int64_t *out)
{
    size_t sign = len && *s == '-';
    uint64_t digits;
    unsigned decimals;
    if (!tm_take_short(s + sign, len - sign, &digits, &decimals) || decimals > (unsigned)scale)
        return tm_convert_any_decimal(s, len, scale, out);
    int64_t v = (int64_t)digits * tm_power_of_ten[(unsigned)scale - decimals]; /* below 10^8 * 10^9 */
    *out = sign ? -v : v;
    return TM_CONVERT_OK;
}

#ifdef TM_CONVERT_WIDE

/* Windows of 16 bytes into it: the last n are ones at n, the first n at 32 - n. */
extern const uint8_t tm_windows[48];

static inline __m128i tm_load_wide(const void *at)
{
    return _mm_loadu_si128((const __m128i *)at);
}

/* Sixteen digits' values to their number: pairs, fours, eights, all at once. */
static inline uint64_t tm_sixteen_digits(__m128i v)
{
    v = _mm_maddubs_epi16(v, _mm_set1_epi16(1 << 8 | 10));
    v = _mm_madd_epi16(v, _mm_set1_epi32(1 << 16 | 100));
    v = _mm_packus_epi32(v, v);
    v = _mm_madd_epi16(v, _mm_set1_epi32(1 << 16 | 10000));
    uint64_t eights = (uint64_t)_mm_cvtsi128_si64(v);
    return (eights & UINT32_MAX) * 100000000 + (eights >> 32);
}

/* Up to 16 bytes of digits with at most one point; false: look again, byte by byte. The bytes that end with the text are
 * taken, so the digits stand at the right whatever their number. */
static inline __attribute__((always_inline)) bool tm_take_wide(const char *s, size_t len, uint64_t *digits,
                                                               unsigned *decimals)
{
    if (len - 1 > 15)
        return false;
    __m128i v = _mm_sub_epi8(tm_load_wide(s + len - 16), _mm_set1_epi8('0'));
    v = _mm_and_si128(v, tm_load_wide(tm_windows + len));
    __m128i good = _mm_cmpeq_epi8(_mm_min_epu8(v, _mm_set1_epi8(9)), v);
    uint32_t others = (uint32_t)_mm_movemask_epi8(good) ^ 0xffff;
    *decimals = 0;
    if (others) {
        uint32_t points = (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(v, _mm_set1_epi8('.' - '0')));
        uint32_t edges = 1u << 15 | 1u << (16 - len);
        if ((others ^ points) | (others & (others - 1)) | (others & edges))
            return false;
        unsigned at = (unsigned)__builtin_ctz(others);
        *decimals = 15 - at;
        const __m128i order = _mm_setr_epi8(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
        v = _mm_shuffle_epi8(v, _mm_add_epi8(order, tm_load_wide(tm_windows + 31 - at))); /* what is before moves up */
    }
    *digits = tm_sixteen_digits(v);
    return s[0] != '0' || len == 1 || s[1] == '.';
}

static inline __attribute__((always_inline)) enum tm_convert tm_convert_decimal_within(const char *s, size_t len,
                                                                                       int scale, int64_t *out)
{
    size_t sign = len && *s == '-';
    uint64_t digits;
    unsigned decimals;
    int64_t v;
    if (!tm_take_wide(s + sign, len - sign, &digits, &decimals) || decimals > (unsigned)scale ||
        __builtin_mul_overflow((int64_t)digits, tm_power_of_ten[(unsigned)scale - decimals], &v))
        return tm_convert_any_decimal(s, len, scale, out);
    *out = sign ? -v : v;
    return TM_CONVERT_OK;
}

#else

static inline enum tm_convert tm_convert_decimal_within(const char *s, size_t len, int scale, int64_t *out)
{
    return tm_convert_decimal(s, len, scale, out);
}

#endif

/* ---- the times of the hot path, inlined ---- */

static inline enum tm_convert tm_time_in_range(int64_t us)
{
    return us >= TM_TIME_US_MIN && us <= TM_TIME_US_MAX ? TM_CONVERT_OK : TM_CONVERT_RANGE;
}

#ifdef TM_CONVERT_WIDE

/* "14:02:33.640173Z", 16 bytes, to microseconds; false: look again. */
static inline bool tm_take_time_of_day(const char *s, int64_t *us)
{
    const __m128i form = _mm_setr_epi8('0', '0', ':', '0', '0', ':', '0', '0', '.', '0', '0', '0', '0', '0', '0', 'Z');
    const __m128i most = _mm_setr_epi8(9, 9, 0, 9, 9, 0, 9, 9, 0, 9, 9, 9, 9, 9, 9, 0);
    const __m128i pairs = _mm_setr_epi8(0, 1, 3, 4, 6, 7, -1, -1, 9, 10, 11, 12, 13, 14, -1, -1);
    const __m128i most_of_pair = _mm_setr_epi16(23, 59, 60, 0, 99, 99, 99, 0);
    const __m128i weights = _mm_setr_epi16(60, 1, 1, 0, 100, 1, 1, 0);
    __m128i v = _mm_sub_epi8(tm_load_wide(s), form);
    int good = _mm_movemask_epi8(_mm_cmpeq_epi8(_mm_min_epu8(v, most), v));
    v = _mm_maddubs_epi16(_mm_shuffle_epi8(v, pairs), _mm_set1_epi16(1 << 8 | 10));
    if (good != 0xffff || _mm_movemask_epi8(_mm_cmpgt_epi16(v, most_of_pair)))
        return false;
    v = _mm_madd_epi16(v, weights);
    int64_t clock = _mm_cvtsi128_si64(v), fraction = _mm_extract_epi64(v, 1); /* two halves each */
    *us = ((clock & UINT32_MAX) * 60 + (clock >> 32)) * 1000000 + (fraction & UINT32_MAX) * 100 + (fraction >> 32);
    return true;
}

static inline bool tm_is_of_day(const struct tm_day *day, const char *s)
{
    uint64_t eight, eight_day;
    uint32_t four, four_day;
    memcpy(&eight, s, 8);
    memcpy(&four, s + 7, 4);
    memcpy(&eight_day, day->text, 8);
    memcpy(&four_day, day->text + 7, 4);
    return eight == eight_day && four == four_day;
}

static inline enum tm_convert tm_convert_time_of(struct tm_day *day, const char *s, size_t len, int64_t *unix_us)
{
    int64_t us;
    if (len != 27 || !tm_take_time_of_day(s + 11, &us))
        return tm_convert_rfc3339(s, len, unix_us);
    if (!tm_is_of_day(day, s)) {
        enum tm_convert fault = tm_convert_rfc3339(s, len, unix_us);
        if (fault)
            return fault;
        memcpy(day->text, s, 11);
        day->seconds = (*unix_us - us) / 1000000;
    }
    *unix_us = day->seconds * 1000000 + us;
    return tm_time_in_range(*unix_us);
}

#else

static inline enum tm_convert tm_convert_time_of(struct tm_day *day, const char *s, size_t len, int64_t *unix_us)
{
    (void)day;
    return tm_convert_rfc3339(s, len, unix_us);
}

#endif

#endif
