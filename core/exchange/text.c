#include "exchange/text.h"
#include "base/utf8.h"

#include <stdio.h>

static const char two_digits[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
                                 "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
                                 "8081828384858687888990919293949596979899";

char *tm_put_u64(char *p, uint64_t v)
{
    char tmp[20], *t = tmp + sizeof tmp;
    while (v >= 100) {
        t -= 2;
        memcpy(t, two_digits + 2 * (v % 100), 2);
        v /= 100;
    }
    if (v >= 10) {
        t -= 2;
        memcpy(t, two_digits + 2 * v, 2);
    } else {
        *--t = (char)('0' + v);
    }
    return tm_put_bytes(p, t, (size_t)(tmp + sizeof tmp - t));
}

char *tm_put_i64(char *p, int64_t v)
{
    if (v >= 0)
        return tm_put_u64(p, (uint64_t)v);
    *p++ = '-';
    return tm_put_u64(p, -(uint64_t)v);
}

char *tm_put_padded(char *p, uint64_t v, int digits)
{
    for (int i = digits - 1; i >= 0; i--) {
        p[i] = (char)('0' + v % 10);
        v /= 10;
    }
    return p + digits;
}

char *tm_put_price(char *p, uint32_t price, int decimals)
{
    p = tm_put_u64(p, price / 1000000);
    *p++ = '.';
    uint32_t micro = price % 1000000, fraction = micro / 100;
    if (__builtin_expect(micro % 100 != 0, 0))
        return tm_put_padded(p, micro, 6);
    if (decimals == 3 && fraction % 10 == 0)
        return tm_put_padded(p, fraction / 10, 3);
    memcpy(p, two_digits + 2 * (size_t)(fraction / 100), 2);
    memcpy(p + 2, two_digits + 2 * (size_t)(fraction % 100), 2);
    return p + 4;
}

char *tm_put_hundredths(char *p, int64_t v)
{
    uint64_t u = (uint64_t)v;
    if (v < 0) {
        *p++ = '-';
        u = -u;
    }
    p = tm_put_u64(p, u / 100);
    *p++ = '.';
    return tm_put_bytes(p, two_digits + 2 * (u % 100), 2);
}

/* Days since 1970-01-01 to year, month, day; Howard Hinnant, "chrono-compatible low-level date algorithms". */
static void civil_from_days(int64_t days, int64_t *year, uint32_t *month, uint32_t *day)
{
    days += 719468;
    int64_t era = (days >= 0 ? days : days - 146096) / 146097;
    uint32_t doe = (uint32_t)(days - era * 146097);
    uint32_t yoe = (doe - doe / 1460 + doe / 36524 - doe / 146096) / 365;
    uint32_t doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    uint32_t mp = (5 * doy + 2) / 153;
    *day = doy - (153 * mp + 2) / 5 + 1;
    *month = mp < 10 ? mp + 3 : mp - 9;
    *year = (int64_t)yoe + era * 400 + (*month <= 2);
}

static int64_t days_from_civil(int64_t year, uint32_t month, uint32_t day)
{
    year -= month <= 2;
    int64_t era = (year >= 0 ? year : year - 399) / 400;
    uint32_t yoe = (uint32_t)(year - era * 400);
    uint32_t doy = (153 * (month > 2 ? month - 3 : month + 9) + 2) / 5 + day - 1;
    uint32_t doe = yoe * 365 + yoe / 4 - yoe / 100 + doy;
    return era * 146097 + (int64_t)doe - 719468;
}

static char *put_fraction(char *p, uint32_t us)
{
    if (!us)
        return p;
    *p++ = '.';
    p = tm_put_padded(p, us, 6);
    while (p[-1] == '0')
        p--;
    return p;
}

char *tm_put_rfc3339(char *p, int64_t unix_us)
{
    int64_t seconds = unix_us / 1000000, us = unix_us % 1000000;
    if (us < 0) {
        us += 1000000;
        seconds--;
    }
    int64_t days = seconds / 86400, rest = seconds % 86400;
    if (rest < 0) {
        rest += 86400;
        days--;
    }
    int64_t year;
    uint32_t month, day;
    civil_from_days(days, &year, &month, &day);
    p = tm_put_padded(p, (uint64_t)year, 4);
    const uint64_t parts[] = {month, day, (uint64_t)rest / 3600, (uint64_t)rest / 60 % 60, (uint64_t)rest % 60};
    for (size_t i = 0; i < 5; i++) {
        *p++ = "--T::"[i];
        p = tm_put_bytes(p, two_digits + 2 * parts[i], 2);
    }
    p = put_fraction(p, (uint32_t)us);
    *p++ = 'Z';
    return p;
}

char *tm_put_uuid(char *p, const uint8_t id[16])
{
    static const char hex[] = "0123456789abcdef";
    for (int i = 0; i < 16; i++) {
        if (i == 4 || i == 6 || i == 8 || i == 10)
            *p++ = '-';
        *p++ = hex[id[i] >> 4];
        *p++ = hex[id[i] & 15];
    }
    return p;
}

static int hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool tm_uuid_parse(const char *text, size_t len, uint8_t id[16])
{
    if (len != 36)
        return false;
    for (int i = 0; i < 16; i++) {
        if ((i == 4 || i == 6 || i == 8 || i == 10) && *text++ != '-')
            return false;
        int high = hex_value(text[0]), low = high < 0 ? -1 : hex_value(text[1]);
        if (low < 0)
            return false;
        id[i] = (uint8_t)(high << 4 | low);
        text += 2;
    }
    return true;
}

static bool read_digits(const char *s, int n, int64_t *out)
{
    *out = 0;
    for (int i = 0; i < n; i++) {
        if (s[i] < '0' || s[i] > '9')
            return false;
        *out = *out * 10 + (s[i] - '0');
    }
    return true;
}

/* What follows the seconds: "Z" or ".d{1,6}Z", `len` characters of it. */
static bool read_fraction(const char *s, size_t len, int64_t *us)
{
    *us = 0;
    if (len == 1)
        return s[0] == 'Z';
    if (len < 3 || len > 8 || s[0] != '.' || s[len - 1] != 'Z' || !read_digits(s + 1, (int)len - 2, us))
        return false;
    for (size_t i = len - 2; i < 6; i++)
        *us *= 10;
    return true;
}

bool tm_rfc3339_parse(const char *text, size_t len, int64_t *unix_us)
{
    static const char form[] = "0000-00-00T00:00:00";
    static const int at[] = {0, 5, 8, 11, 14, 17}, width[] = {4, 2, 2, 2, 2, 2};
    int64_t part[6], us;
    if (len < sizeof form || !read_fraction(text + sizeof form - 1, len - (sizeof form - 1), &us))
        return false;
    for (size_t i = 0; i < sizeof form - 1; i++)
        if (form[i] != '0' && text[i] != form[i])
            return false;
    for (int i = 0; i < 6; i++)
        if (!read_digits(text + at[i], width[i], &part[i]))
            return false;
    int64_t days = days_from_civil(part[0], (uint32_t)part[1], (uint32_t)part[2]);
    *unix_us = (((days * 24 + part[3]) * 60 + part[4]) * 60 + part[5]) * 1000000 + us;
    return true;
}

bool tm_decimal_parse(const char *text, size_t len, int scale, int64_t *out)
{
    size_t i = len && text[0] == '-';
    int64_t v = 0;
    int fraction = -1; /* digits after the point, -1 before it */
    bool any = false;
    for (; i < len; i++) {
        if (text[i] == '.' && fraction < 0) {
            fraction = 0;
            continue;
        }
        if (text[i] < '0' || text[i] > '9' || v > INT64_MAX / 10 - 10)
            return false;
        any = true;
        if (fraction == scale && text[i] != '0')
            return false;
        if (fraction < scale)
            v = v * 10 + (text[i] - '0');
        if (fraction >= 0 && fraction < scale)
            fraction++;
    }
    for (int f = fraction < 0 ? 0 : fraction; f < scale; f++)
        v *= 10;
    *out = text[0] == '-' ? -v : v;
    return any;
}

int tm_json_quote(struct tm_buf *b, const char *bytes, size_t len)
{
    int rc = tm_buf_reserve(b, 6 * len + 2);
    if (rc)
        return rc;
    char *start = (char *)b->data + b->len, *p = start;
    *p++ = '"';
    for (size_t i = 0; i < len;) {
        unsigned char c = (unsigned char)bytes[i];
        size_t n = tm_utf8_length(bytes + i, len - i);
        if (c < 0x20 || c == 0x7f) {
            p += sprintf(p, "\\u%04x", c);
        } else if (c == '"' || c == '\\') {
            *p++ = '\\';
            *p++ = (char)c;
        } else if (n) {
            p = tm_put_bytes(p, bytes + i, n);
        } else {
            p = tm_put_lit(p, "\\ufffd");
        }
        i += n ? n : 1;
    }
    *p++ = '"';
    b->len += (size_t)(p - start);
    return TM_OK;
}
