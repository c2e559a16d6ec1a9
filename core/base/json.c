#include "base/json.h"

#include <stdarg.h>
#include <stdio.h>

int tm_json_put_string(struct tm_buf *out, const char *text)
{
    int rc = tm_buf_append(out, "\"", 1);
    for (; !rc && text && *text; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            rc = tm_buf_printf(out, "\\%c", c);
        else if (c < 0x20 || c >= 0x7f)
            rc = tm_buf_printf(out, "\\u%04x", c);
        else
            rc = tm_buf_append(out, text, 1);
    }
    return rc ? rc : tm_buf_append(out, "\"", 1);
}

void tm_json_add(struct tm_json *j, const char *fmt, ...)
{
    char text[512];
    va_list args;
    va_start(args, fmt);
    int n = vsnprintf(text, sizeof text, fmt, args);
    va_end(args);
    if (!j->rc)
        j->rc = (size_t)n < sizeof text ? tm_buf_append(j->out, text, (size_t)n) : TM_EFULL;
}

void tm_json_add_string(struct tm_json *j, const char *name, const char *value)
{
    tm_json_add(j, "\"%s\":", name);
    if (!j->rc)
        j->rc = tm_json_put_string(j->out, value);
}
