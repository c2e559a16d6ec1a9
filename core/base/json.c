#include "base/json.h"

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
