#include "control/view_text.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- the sheet ---- */

static const char *const styles[] = {"", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[1;31m"};

void tm_sheet_clear(struct tm_sheet *s)
{
    tm_buf_clear(&s->text);
    s->lines = s->column = 0;
}

void tm_sheet_fini(struct tm_sheet *s)
{
    tm_buf_fini(&s->text);
}

static void append(struct tm_sheet *s, const char *bytes, size_t len)
{
    TM_FATAL_UNLESS(tm_buf_append(&s->text, bytes, len) == TM_OK);
}

/* How many bytes the character at `text` has; 0: it is none that may be printed. */
static size_t character(const char *text)
{
    const unsigned char *c = (const unsigned char *)text;
    if (c[0] < 0x80)
        return c[0] >= ' ' && c[0] != 0x7f;
    size_t len = c[0] >= 0xf0 && c[0] < 0xf5 ? 4 : c[0] >= 0xe0 ? 3 : c[0] >= 0xc2 ? 2 : 0;
    for (size_t i = 1; i < len; i++)
        if ((c[i] & 0xc0) != 0x80)
            return 0;
    return len == 2 && c[0] == 0xc2 && c[1] < 0xa0 ? 0 : c[0] >= 0xf5 ? 0 : len; /* C1 controls */
}

static void put_text(struct tm_sheet *s, const char *text)
{
    while (*text && s->column < s->width) {
        size_t len = character(text);
        bool shown = len == 1 || (len > 1 && s->utf8);
        append(s, shown ? text : "?", shown ? len : 1);
        s->column++;
        text += len ? len : 1;
    }
}

void tm_sheet_put(struct tm_sheet *s, enum tm_style style, const char *fmt, ...)
{
    char text[1024];
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    bool styled = s->colour && style != TM_STYLE_PLAIN && *text && s->column < s->width;
    if (styled)
        append(s, styles[style], strlen(styles[style]));
    put_text(s, text);
    if (styled)
        append(s, "\x1b[0m", 4);
}

void tm_sheet_to(struct tm_sheet *s, size_t column)
{
    for (column = column < s->width ? column : s->width; s->column < column; s->column++)
        append(s, " ", 1);
}

void tm_sheet_put_right(struct tm_sheet *s, enum tm_style style, const char *text)
{
    size_t width = tm_text_width(text);
    if (s->column + 1 + width > s->width)
        return;
    tm_sheet_to(s, s->width - width);
    tm_sheet_put(s, style, "%s", text);
}

void tm_sheet_end_line(struct tm_sheet *s)
{
    append(s, "\n", 1);
    s->lines++;
    s->column = 0;
}

size_t tm_text_width(const char *text)
{
    size_t width = 0;
    for (; *text; text++)
        width += ((unsigned char)*text & 0xc0) != 0x80;
    return width;
}

/* ---- values ---- */

double tm_view_number(struct tm_span document, const char *path)
{
    struct tm_span v;
    char text[40];
    if (tm_json_get(document, path, &v) < 0 || v.len >= sizeof text || (*v.at != '-' && (*v.at < '0' || *v.at > '9')))
        return 0;
    memcpy(text, v.at, v.len);
    text[v.len] = '\0';
    return strtod(text, NULL);
}

bool tm_view_true(struct tm_span document, const char *path)
{
    struct tm_span v;
    return tm_json_get(document, path, &v) == TM_OK && v.len == 4 && memcmp(v.at, "true", 4) == 0;
}

/* One byte of a string, of which base/json.h made \u00XX, \" or \\, or which it left; moves `at`. */
static char unescape(const char **at, const char *end)
{
    unsigned byte;
    const char *p = *at;
    if (*p != '\\' || p + 1 >= end) {
        *at = p + 1;
        return *p;
    }
    if (p[1] == 'u' && p + 5 < end && sscanf(p + 2, "%4x", &byte) == 1) {
        *at = p + 6;
        return (char)(byte & 0xff);
    }
    *at = p + 2;
    return p[1];
}

const char *tm_view_string(struct tm_span document, const char *path, char *out, size_t size)
{
    struct tm_span v;
    size_t len = 0;
    *out = '\0';
    if (tm_json_get(document, path, &v) < 0 || v.len < 2 || *v.at != '"')
        return out;
    const char *at = v.at + 1, *end = v.at + v.len - 1;
    while (at < end && len + 1 < size)
        out[len++] = unescape(&at, end);
    out[len] = '\0';
    return out;
}

bool tm_view_is(struct tm_span document, const char *path, const char *word)
{
    char text[64];
    return strcmp(tm_view_string(document, path, text, sizeof text), word) == 0;
}

bool tm_view_item(struct tm_span document, const char *list, size_t index, struct tm_span *out)
{
    char path[80];
    (void)snprintf(path, sizeof path, "%s[%zu]", list, index);
    return tm_json_get(document, path, out) == TM_OK;
}

size_t tm_view_count(struct tm_span document, const char *list)
{
    struct tm_span item;
    size_t count = 0;
    while (tm_view_item(document, list, count, &item))
        count++;
    return count;
}

/* ---- figures ---- */

const char *tm_view_amount(double n, char out[16])
{
    static const char units[] = "kMGT";
    if (fabs(n) < 9999.5) {
        (void)snprintf(out, 16, fabs(n) < 9.95 && n != floor(n) ? "%.1f" : "%.0f", n);
        return out;
    }
    size_t unit = 0;
    for (n /= 1000; fabs(n) >= 999.5 && units[unit + 1]; unit++)
        n /= 1000;
    (void)snprintf(out, 16, "%.*f%c", fabs(n) < 10 ? 2 : fabs(n) < 100 ? 1 : 0, n, units[unit]);
    return out;
}

const char *tm_view_bytes(double n, char out[16])
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;
    for (; n >= 1024 && unit < 4; unit++)
        n /= 1024;
    (void)snprintf(out, 16, "%.*f%s", n < 10 && unit ? 1 : 0, n, units[unit]);
    return out;
}

const char *tm_view_span_ms(double ms, char out[16])
{
    static const struct {
        double below, unit;
        const char *name;
    } steps[] = {
        {1e3, 1, "ms"}, {120e3, 1e3, "s"}, {7200e3, 60e3, "min"}, {172800e3, 3600e3, "h"}, {1e300, 86400e3, "d"}};
    size_t i = 0;
    if (ms < 0) {
        (void)snprintf(out, 16, "-");
        return out;
    }
    while (ms >= steps[i].below)
        i++;
    double shown = ms / steps[i].unit;
    (void)snprintf(out, 16, "%.*f%s", i == 1 && shown < 9.95 ? 1 : 0, shown, steps[i].name);
    return out;
}
