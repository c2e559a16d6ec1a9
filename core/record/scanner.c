#include "record/scanner.h"

const char *tm_scan_fault(struct tm_scanner *s, const char *at, const char *expected)
{
    s->fault_at = at < s->end ? at : s->end;
    s->expected = expected;
    return NULL;
}

const char *tm_scan_space_rest(struct tm_scanner *s, const char *p)
{
    while (p < s->end && (*p == ' ' || *p == '\n' || *p == '\r' || *p == '\t'))
        p++;
    return p;
}

/* ---- strings ---- */

static int hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The four digits at p, or -1. */
static int32_t hex4(const char *p)
{
    int32_t v = 0;
    for (int i = 0; i < 4; i++) {
        int d = hex_digit(p[i]);
        if (d < 0)
            return -1;
        v = v << 4 | d;
    }
    return v;
}

static const char *scan_escape(struct tm_scanner *s, const char *p)
{
    if (s->end - p < 2)
        return tm_scan_fault(s, s->end, "the rest of a string");
    s->escapes = true;
    switch (p[1]) {
    case '"':
    case '\\':
    case '/':
    case 'b':
    case 'f':
    case 'n':
    case 'r':
    case 't':
        return p + 2;
    case 'u':
        if (s->end - p >= 6 && hex4(p + 2) >= 0)
            return p + 6;
        return tm_scan_fault(s, p, "four hex digits after \\u");
    default:
        return tm_scan_fault(s, p, "an escape that JSON has");
    }
}

/* Unicode 15, table 3-7: the second byte's range depends on the first; the others are 80..BF. */
static int utf8_length(unsigned char first, unsigned char *low, unsigned char *high)
{
    *low = 0x80;
    *high = 0xbf;
    if (first >= 0xc2 && first <= 0xdf)
        return 2;
    if (first >= 0xe0 && first <= 0xef) {
        if (first == 0xe0)
            *low = 0xa0;
        if (first == 0xed)
            *high = 0x9f;
        return 3;
    }
    if (first >= 0xf0 && first <= 0xf4) {
        if (first == 0xf0)
            *low = 0x90;
        if (first == 0xf4)
            *high = 0x8f;
        return 4;
    }
    return 0;
}

static const char *scan_utf8(struct tm_scanner *s, const char *p)
{
    unsigned char low, high;
    int len = utf8_length((unsigned char)*p, &low, &high);
    if (!len || s->end - p < len)
        return tm_scan_fault(s, p, "UTF-8");
    unsigned char second = (unsigned char)p[1];
    if (second < low || second > high)
        return tm_scan_fault(s, p, "UTF-8");
    for (int i = 2; i < len; i++)
        if (((unsigned char)p[i] & 0xc0) != 0x80)
            return tm_scan_fault(s, p, "UTF-8");
    return p + len;
}

/* Over plain ASCII to the first byte that needs a look, or into the last bytes where no wide load is possible. */
static const char *scan_plain(const struct tm_scanner *s, const char *p)
{
    while ((uintptr_t)p <= (uintptr_t)s->wide_end && p < s->end) {
        uint32_t stops = tm_scan_stops(p);
        if (stops)
            return p + __builtin_ctz(stops);
        p += 16;
    }
    return p;
}

const char *tm_scan_string_rest(struct tm_scanner *s, const char *open, const char *p, struct tm_value *out)
{
    tm_value_set(out, open + 1, open + 1, TM_VALUE_STRING);
    for (;;) {
        p = scan_plain(s, p);
        if (p >= s->end)
            return tm_scan_fault(s, p, "the closing quote of a string");
        unsigned char c = (unsigned char)*p;
        if (c == '"') {
            out->len = (uint32_t)(p - out->at);
            return p + 1;
        }
        if (c == '\\') {
            out->escaped = true;
            p = scan_escape(s, p);
        } else if (c >= 0x80) {
            p = scan_utf8(s, p);
        } else if (c >= 0x20) {
            p++;
        } else {
            p = tm_scan_fault(s, p, "no control byte in a string");
        }
        if (!p)
            return NULL;
    }
}

/* ---- numbers and literals ---- */

static const char *scan_digits(const struct tm_scanner *s, const char *p)
{
    for (; p <= s->wide_end; p += 16) {
        uint32_t others = tm_scan_nondigits(p);
        if (!others)
            continue;
        p += __builtin_ctz(others);
        return p < s->end ? p : s->end;
    }
    while (p < s->end && (unsigned)(*p - '0') < 10)
        p++;
    return p;
}

/* Longer numbers may have more digits than numeric can hold; shorter ones without exponent cannot. */
#define PLAIN_NUMBER_BYTES_MAX 16000

const char *tm_scan_any_number(struct tm_scanner *s, const char *p, struct tm_value *out)
{
    const char *start = p;
    p += *p == '-';
    const char *digits = p;
    p = scan_digits(s, p);
    if (p <= digits)
        return tm_scan_fault(s, p, "a digit");
    if (*digits == '0' && p - digits > 1)
        return tm_scan_fault(s, digits, "a number without leading zeros");
    if (p < s->end && *p == '.') {
        digits = p + 1;
        p = scan_digits(s, digits);
        if (p == digits)
            return tm_scan_fault(s, p, "a digit after the decimal point");
    }
    if (p < s->end && (*p | 0x20) == 'e') {
        s->odd_numbers = true;
        p++;
        p += p < s->end && (*p == '+' || *p == '-');
        digits = p;
        p = scan_digits(s, p);
        if (p == digits)
            return tm_scan_fault(s, p, "a digit in the exponent");
    }
    if (p - start > PLAIN_NUMBER_BYTES_MAX)
        s->odd_numbers = true;
    tm_value_set(out, start, p, TM_VALUE_NUMBER);
    return p;
}

static const char *scan_literal(struct tm_scanner *s, const char *p, struct tm_value *out)
{
    static const struct {
        const char *text;
        uint8_t len;
        enum tm_value_kind kind;
    } literals[] = {{"true", 4, TM_VALUE_TRUE}, {"false", 5, TM_VALUE_FALSE}, {"null", 4, TM_VALUE_NULL}};
    for (size_t i = 0; i < sizeof literals / sizeof *literals; i++) {
        ptrdiff_t len = literals[i].len;
        if (s->end - p >= len && memcmp(p, literals[i].text, (size_t)len) == 0) {
            tm_value_set(out, p, p + len, literals[i].kind);
            return p + len;
        }
    }
    return tm_scan_fault(s, p, "a value");
}

/* ---- values ---- */

static const char *scan_scalar(struct tm_scanner *s, const char *p, struct tm_value *out)
{
    if (*p == '"')
        return tm_scan_string(s, p, out);
    if (*p == '-' || (unsigned)(*p - '0') < 10)
        return tm_scan_number(s, p, out);
    return scan_literal(s, p, out);
}

const char *tm_scan_value(struct tm_scanner *s, const char *p, unsigned depth, struct tm_value *out)
{
    if (p >= s->end)
        return tm_scan_fault(s, p, "a value");
    if (*p != '{' && *p != '[')
        return scan_scalar(s, p, out);
    const char *after = tm_scan_container(s, p, depth);
    if (!after)
        return NULL;
    tm_value_set(out, p, after, *p == '{' ? TM_VALUE_OBJECT : TM_VALUE_ARRAY);
    out->last = s->last;
    return after;
}

/* A member's name and colon; returns the place of its value. */
static const char *scan_name(struct tm_scanner *s, const char *p)
{
    if (p >= s->end || *p != '"')
        return tm_scan_fault(s, p, "a name in quotes");
    p = tm_scan_string(s, p, &s->ignored);
    if (!p)
        return NULL;
    p = tm_scan_space(s, p);
    if (p >= s->end || *p != ':')
        return tm_scan_fault(s, p, "':' after a name");
    return tm_scan_space(s, p + 1);
}

/* The containers open inside the one being scanned: how many, and for each of them a bit that says "object". */
struct nesting {
    unsigned open, depth;
    uint64_t objects;
    const char *last; /* element of the outermost */
};

/* After a comma: the place of the next value. */
static inline const char *scan_next(struct tm_scanner *s, const char *p, struct nesting *n)
{
    if (n->objects & 1)
        return scan_name(s, p);
    if (n->open == 1)
        n->last = p;
    return p;
}

/* After a value: close what ends here. Returns the place of the next value, or of the end when nothing is open. */
static inline const char *scan_after_value(struct tm_scanner *s, const char *p, struct nesting *n)
{
    while (n->open) {
        bool object = n->objects & 1;
        p = tm_scan_space(s, p);
        if (__builtin_expect(p >= s->end, 0))
            return tm_scan_fault(s, p, object ? "',' or '}'" : "',' or ']'");
        if (*p == ',')
            return scan_next(s, tm_scan_space(s, p + 1), n);
        if (*p != (object ? '}' : ']'))
            return tm_scan_fault(s, p, object ? "',' or '}'" : "',' or ']'");
        n->objects >>= 1;
        n->open--;
        p++;
    }
    return p;
}

/* At '{' or '[': returns the place of the first value inside, or, when it is empty, what follows it (*empty). */
static inline const char *scan_open(struct tm_scanner *s, const char *p, struct nesting *n, bool *empty)
{
    bool object = *p == '{';
    if (n->depth + n->open >= TM_JSON_DEPTH_MAX)
        return tm_scan_fault(s, p, "at most 64 levels of nesting");
    p = tm_scan_space(s, p + 1);
    *empty = p < s->end && *p == (object ? '}' : ']');
    if (*empty)
        return p + 1;
    n->open++;
    n->objects = n->objects << 1 | object;
    return scan_next(s, p, n);
}

const char *tm_scan_container(struct tm_scanner *s, const char *p, unsigned depth)
{
    struct nesting n = {.depth = depth, .last = p};
    const char *begin = p;
    do {
        bool complete = true;
        if (__builtin_expect(p >= s->end, 0))
            return tm_scan_fault(s, p, "a value");
        if (*p == '"')
            p = tm_scan_string(s, p, &s->ignored);
        else if (*p == '{' || *p == '[')
            p = scan_open(s, p, &n, &complete);
        else
            p = scan_scalar(s, p, &s->ignored);
        if (p && complete)
            p = scan_after_value(s, p, &n);
        if (!p)
            return NULL;
    } while (n.open);
    s->last = (uint32_t)(n.last - begin);
    return p;
}

int tm_scan_document(struct tm_scanner *s, struct tm_value *out)
{
    const char *p = tm_scan_space(s, s->begin);
    p = tm_scan_value(s, p, 0, out);
    if (!p)
        return TM_EPARSE;
    p = tm_scan_space(s, p);
    if (p != s->end) {
        (void)tm_scan_fault(s, p, "nothing after the value");
        return TM_EPARSE;
    }
    return TM_OK;
}

/* ---- values that were scanned before ---- */

bool tm_value_next(struct tm_value array, const char **next, struct tm_value *item)
{
    struct tm_scanner s;
    tm_scanner_init(&s, array.at, array.len, false);
    const char *p = tm_scan_space(&s, *next ? *next : array.at + 1);
    if (*p == ']')
        return false;
    if (*p == ',')
        p = tm_scan_space(&s, p + 1);
    *next = tm_scan_value(&s, p, 0, item);
    TM_FATAL_UNLESS(*next);
    return true;
}

/* How many elements, by walking over them. */
static int32_t count_items(struct tm_value array)
{
    struct tm_value item;
    const char *next = NULL;
    int32_t count = 0;
    while (tm_value_next(array, &next, &item))
        count++;
    return count;
}

static struct tm_value last_item(struct tm_value array)
{
    struct tm_scanner s;
    struct tm_value item = {0};
    if (!array.last)
        return item;
    tm_scanner_init(&s, array.at, array.len, false);
    TM_FATAL_UNLESS(tm_scan_value(&s, array.at + array.last, 0, &item));
    return item;
}

struct tm_value tm_value_item(struct tm_value array, int32_t index)
{
    struct tm_value item = {0};
    const char *next = NULL;
    if (array.kind != TM_VALUE_ARRAY)
        return item;
    if (index == -1)
        return last_item(array);
    if (index < 0)
        index += count_items(array);
    for (int32_t i = 0; i <= index; i++)
        if (!tm_value_next(array, &next, &item))
            return (struct tm_value){0};
    return item;
}

/* ---- escapes ---- */

static size_t put_utf8(uint32_t c, char out[4])
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        out[0] = (char)(0xc0 | c >> 6);
        out[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    if (c < 0x10000) {
        out[0] = (char)(0xe0 | c >> 12);
        out[1] = (char)(0x80 | (c >> 6 & 0x3f));
        out[2] = (char)(0x80 | (c & 0x3f));
        return 3;
    }
    out[0] = (char)(0xf0 | c >> 18);
    out[1] = (char)(0x80 | (c >> 12 & 0x3f));
    out[2] = (char)(0x80 | (c >> 6 & 0x3f));
    out[3] = (char)(0x80 | (c & 0x3f));
    return 4;
}

/* The character of the \u escape at p, which may be a pair; 0 for one that no text can hold. */
static uint32_t unicode_escape(const char *p, const char *end, const char **after)
{
    uint32_t c = (uint32_t)hex4(p + 2);
    *after = p + 6;
    if (c < 0xd800 || c > 0xdfff)
        return c;
    if (c > 0xdbff || end - p < 12 || p[6] != '\\' || p[7] != 'u')
        return 0;
    uint32_t low = (uint32_t)hex4(p + 8);
    if (low < 0xdc00 || low > 0xdfff)
        return 0;
    *after = p + 12;
    return 0x10000 + ((c - 0xd800) << 10) + (low - 0xdc00);
}

/* The character of the escape at p (at its backslash); 0 for one that no text can hold. */
static uint32_t escape(const char *p, const char *end, const char **after)
{
    static const char letters[] = "bfnrt", codes[] = "\b\f\n\r\t";
    if (p[1] == 'u')
        return unicode_escape(p, end, after);
    *after = p + 2;
    const char *at = strchr(letters, p[1]);
    return (unsigned char)(at ? codes[at - letters] : p[1]);
}

int tm_value_unescape(struct tm_value string, struct tm_buf *out)
{
    const char *p = string.at, *end = p + string.len;
    int rc = tm_buf_reserve(out, string.len); /* an escape is never shorter than what it stands for */
    if (rc)
        return rc;
    while (p < end) {
        const char *stop = memchr(p, '\\', (size_t)(end - p));
        size_t plain = (size_t)((stop ? stop : end) - p);
        memcpy(out->data + out->len, p, plain);
        out->len += plain;
        p += plain;
        if (p == end)
            break;
        uint32_t c = escape(p, end, &p);
        if (!c)
            return TM_EPARSE;
        out->len += put_utf8(c, (char *)out->data + out->len);
    }
    return TM_OK;
}

static bool string_storable(const char *p, const char *end)
{
    while ((p = memchr(p, '\\', (size_t)(end - p))))
        if (!escape(p, end, &p))
            return false;
    return true;
}

/*
 * numeric holds 131072 digits before and 16383 after the point. What is refused here is a little more: a token longer
 * than 16000 bytes, or an exponent beyond +-16000 less its length; no exchange sends either.
 */
static bool number_storable(const char *p, const char *end)
{
    long exponent = 0, length = end - p, limit = 16000 - length;
    while (p < end && (*p | 0x20) != 'e')
        p++;
    if (p < end)
        p++;
    for (p += p < end && (*p == '+' || *p == '-'); p < end && exponent <= 16000; p++)
        exponent = exponent * 10 + (*p - '0');
    return exponent <= limit;
}

bool tm_value_storable(struct tm_value value)
{
    struct tm_scanner s;
    struct tm_value item;
    struct tm_value raw = tm_value_raw(value);
    tm_scanner_init(&s, raw.at, raw.len, false);
    for (const char *p = raw.at; p < s.end;) {
        if (*p != '"' && *p != '-' && (unsigned)(*p - '0') >= 10) {
            p++;
            continue;
        }
        p = scan_scalar(&s, p, &item);
        TM_FATAL_UNLESS(p);
        bool fine = item.kind == TM_VALUE_STRING ? string_storable(item.at, item.at + item.len)
                                                 : number_storable(item.at, item.at + item.len);
        if (!fine)
            return false;
    }
    return true;
}

bool tm_text_storable(const char *text, size_t len)
{
    struct tm_scanner s;
    tm_scanner_init(&s, text, len, false);
    for (const char *p = text; p && p < s.end;) {
        if (!*p)
            return false;
        p = (unsigned char)*p < 0x80 ? p + 1 : scan_utf8(&s, p);
        if (!p)
            return false;
    }
    return true;
}
