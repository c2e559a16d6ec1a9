#include "record/convert.h"

#include <locale.h>
#include <math.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

const int64_t tm_power_of_ten[TM_DECIMAL_SCALE_MAX + 1] = {1,      10,      100,      1000,      10000,
                                                           100000, 1000000, 10000000, 100000000, 1000000000};

#ifdef TM_CONVERT_WIDE
const uint8_t tm_windows[48] = {
    [16] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, [24] = 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
#endif

static bool is_digit(char c)
{
    return (unsigned)(c - '0') < 10;
}

/* ---- decimals ---- */

/* A number's digits without the zeros around them, and the power of ten of the last one. */
struct decimal {
    uint64_t digits;
    int64_t exponent;
    bool negative, too_long;
};

/* Take a digit. Zeros are held back until another digit follows, so trailing ones cost no range. */
static void take_digit(struct decimal *d, char c, unsigned *zeros)
{
    if (c == '0') {
        *zeros += d->digits != 0;
        return;
    }
    for (; *zeros; --*zeros)
        d->too_long |= __builtin_mul_overflow(d->digits, UINT64_C(10), &d->digits);
    d->too_long |= __builtin_mul_overflow(d->digits, UINT64_C(10), &d->digits);
    d->too_long |= __builtin_add_overflow(d->digits, (uint64_t)(c - '0'), &d->digits);
}

static const char *take_exponent(const char *p, const char *end, int64_t *exponent)
{
    bool negative = p < end && *p == '-';
    p += p < end && (*p == '-' || *p == '+');
    const char *digits = p;
    int64_t v = 0;
    for (; p < end && is_digit(*p); p++)
        if (v < 1000000000) /* beyond this only 0 fits any scale, whatever the rest */
            v = v * 10 + (*p - '0');
    *exponent += negative ? -v : v;
    return p == digits ? NULL : p;
}

static bool take_decimal(const char *p, const char *end, struct decimal *d)
{
    unsigned zeros = 0;
    *d = (struct decimal){.negative = p < end && *p == '-'};
    p += d->negative;
    const char *digits = p;
    for (; p < end && is_digit(*p); p++)
        take_digit(d, *p, &zeros);
    if (p == digits || (*digits == '0' && p - digits > 1))
        return false;
    if (p < end && *p == '.') {
        digits = ++p;
        for (; p < end && is_digit(*p); p++)
            take_digit(d, *p, &zeros);
        d->exponent -= p - digits;
        if (p == digits)
            return false;
    }
    d->exponent += zeros;
    if (p < end && (*p | 0x20) == 'e' && !(p = take_exponent(p + 1, end, &d->exponent)))
        return false;
    return p == end;
}

enum tm_convert tm_convert_any_decimal(const char *s, size_t len, int scale, int64_t *out)
{
    struct decimal d;
    if (!take_decimal(s, s + len, &d))
        return TM_CONVERT_FORM;
    *out = 0;
    if (!d.digits && !d.too_long)
        return TM_CONVERT_OK;
    int64_t shift = d.exponent + scale; /* the last digit is not 0, so a negative shift loses something */
    if (shift < 0)
        return TM_CONVERT_PRECISION;
    if (d.too_long || shift > 18)
        return TM_CONVERT_RANGE;
    uint64_t v = d.digits;
    for (; shift; shift--)
        if (__builtin_mul_overflow(v, UINT64_C(10), &v))
            return TM_CONVERT_RANGE;
    if (v > (uint64_t)INT64_MAX + d.negative)
        return TM_CONVERT_RANGE;
    *out = d.negative ? (int64_t)(0 - v) : (int64_t)v;
    return TM_CONVERT_OK;
}

/* ---- doubles ---- */

static locale_t c_locale;

static void make_c_locale(void)
{
    c_locale = newlocale(LC_ALL_MASK, "C", (locale_t)0);
}

enum tm_convert tm_convert_float8(const char *s, size_t len, double *out)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct decimal form;
    char text[400]; /* a double's shortest exact form never needs more; longer input is not a sane number */
    if (!take_decimal(s, s + len, &form))
        return TM_CONVERT_FORM;
    if (len >= sizeof text)
        return TM_CONVERT_RANGE;
    memcpy(text, s, len);
    text[len] = '\0';
    pthread_once(&once, make_c_locale);
    *out = strtod_l(text, NULL, c_locale);
    return isfinite(*out) ? TM_CONVERT_OK : TM_CONVERT_RANGE;
}

/* ---- times ---- */

static bool take_digits(const char *p, int count, int *out)
{
    int v = 0;
    for (int i = 0; i < count; i++) {
        if (!is_digit(p[i]))
            return false;
        v = v * 10 + (p[i] - '0');
    }
    *out = v;
    return true;
}

/*
 * Eight bytes at once: XORed with `form` a digit becomes its value and a separator becomes 0. Adding 0x76 to a value
 * above 9, or 0x7f to one above 0, sets its top bit; `limit` has the one or the other for each byte. false: not the
 * form. Otherwise byte i of *values is what byte i of the text stands for.
 */
static bool take_eight(const char *p, const char form[static 8], uint64_t limit, uint64_t *values)
{
    uint64_t text, expected;
    memcpy(&text, p, 8);
    memcpy(&expected, form, 8);
    text ^= expected;
    *values = text;
    return !((((text & UINT64_C(0x7f7f7f7f7f7f7f7f)) + limit) | text) & UINT64_C(0x8080808080808080));
}

static int two(uint64_t values, int byte)
{
    return (int)(values >> byte * 8 & 0xff) * 10 + (int)(values >> (byte + 1) * 8 & 0xff);
}

static int days_in_month(int year, int month)
{
    static const uint8_t days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    bool leap = (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
    return days[month - 1] + (month == 2 && leap);
}

/* Days from 1970-01-01 in the Gregorian calendar; years begin in March, so that the leap day is the last one. */
static int64_t days_from_date(int year, int month, int day)
{
    int y = month <= 2 ? year - 1 : year;
    int era = (y >= 0 ? y : y - 399) / 400;
    int of_era = y - era * 400;
    int of_year = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    int day_of_era = of_era * 365 + of_era / 4 - of_era / 100 + of_year;
    return (int64_t)era * 146097 + day_of_era - 719468;
}

/* "YYYY-MM-DDThh:mm:ss", 19 bytes, to Unix seconds. */
static enum tm_convert take_date_time(const char *s, int64_t *seconds)
{
    uint64_t date, time;
    int day;
    if (!take_eight(s, "0000-00-", UINT64_C(0x7f76767f76767676), &date) ||
        !take_eight(s + 11, "00:00:00", UINT64_C(0x76767f76767f7676), &time) || !take_digits(s + 8, 2, &day) ||
        (s[10] != 'T' && s[10] != 't' && s[10] != ' '))
        return TM_CONVERT_FORM;
    int year = two(date, 0) * 100 + two(date, 2), month = two(date, 5);
    int hour = two(time, 0), minute = two(time, 3), second = two(time, 6);
    if (year < 1 || month < 1 || month > 12 || day < 1 || day > days_in_month(year, month) || hour > 23 ||
        minute > 59 || second > 60)
        return TM_CONVERT_RANGE;
    *seconds = days_from_date(year, month, day) * 86400 + hour * 3600 + minute * 60 + second;
    return TM_CONVERT_OK;
}

/* ".123456789" at p; returns the place after it, NULL for a fault. */
static const char *take_fraction(const char *p, const char *end, int *us, enum tm_convert *fault)
{
    int digits = 0, v = 0;
    *fault = TM_CONVERT_OK;
    for (p++; p < end && is_digit(*p); p++, digits++) {
        if (digits < 6)
            v = v * 10 + (*p - '0');
        else if (*p != '0')
            *fault = TM_CONVERT_PRECISION;
    }
    if (digits < 1 || digits > 9)
        *fault = TM_CONVERT_FORM;
    for (; digits < 6; digits++)
        v *= 10;
    *us = v;
    return p;
}

/* ".640173Z" at the end of the text, the usual case, in one step. */
static bool take_fraction_utc(const char *p, const char *end, int *us)
{
    static const int power[] = {1000000, 100000, 10000, 1000, 100, 10, 1};
    size_t digits = (size_t)(end - p) - 2;
    if (*p != '.' || end[-1] != 'Z' || digits - 1 > 5)
        return false;
    uint64_t v = tm_load_values(p + 1, digits);
    *us = (int)tm_eight_digits(v) * power[digits];
    return tm_are_digits(v);
}

static enum tm_convert take_offset(const char *p, const char *end, int *seconds)
{
    int hours, minutes;
    *seconds = 0;
    if (end - p == 1 && (*p | 0x20) == 'z')
        return TM_CONVERT_OK;
    if (end - p != 6 || (*p != '+' && *p != '-') || !take_digits(p + 1, 2, &hours) || p[3] != ':' ||
        !take_digits(p + 4, 2, &minutes))
        return TM_CONVERT_FORM;
    if (hours > 23 || minutes > 59)
        return TM_CONVERT_RANGE;
    *seconds = (hours * 60 + minutes) * (*p == '-' ? -60 : 60);
    return TM_CONVERT_OK;
}

enum tm_convert tm_convert_rfc3339(const char *s, size_t len, int64_t *unix_us)
{
    const char *p = s + 19, *end = s + len;
    int64_t seconds;
    int us = 0, offset;
    if (len < 20)
        return TM_CONVERT_FORM;
    enum tm_convert fault = take_date_time(s, &seconds);
    if (fault)
        return fault;
    if (take_fraction_utc(p, end, &us)) {
        *unix_us = seconds * 1000000 + us;
        return tm_time_in_range(*unix_us);
    }
    if (*p == '.') {
        p = take_fraction(p, end, &us, &fault);
        if (fault)
            return fault;
    }
    fault = take_offset(p, end, &offset);
    if (fault)
        return fault;
    *unix_us = (seconds - offset) * 1000000 + us;
    return tm_time_in_range(*unix_us);
}

enum tm_convert tm_convert_epoch(const char *s, size_t len, int scale, int64_t *unix_us)
{
    enum tm_convert fault = tm_convert_decimal(s, len, scale, unix_us);
    return fault ? fault : tm_time_in_range(*unix_us);
}

/* ---- uuid ---- */

enum tm_convert tm_convert_uuid(const char *s, size_t len, uint8_t out[16])
{
    static const uint8_t places[16] = {0, 2, 4, 6, 9, 11, 14, 16, 19, 21, 24, 26, 28, 30, 32, 34};
    if (len != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-')
        return TM_CONVERT_FORM;
    for (int i = 0; i < 16; i++) {
        int v = 0;
        for (int k = 0; k < 2; k++) {
            char c = s[places[i] + k], letter = (char)(c | 0x20);
            if (is_digit(c))
                v = v << 4 | (c - '0');
            else if (letter >= 'a' && letter <= 'f')
                v = v << 4 | (letter - 'a' + 10);
            else
                return TM_CONVERT_FORM;
        }
        out[i] = (uint8_t)v;
    }
    return TM_CONVERT_OK;
}
