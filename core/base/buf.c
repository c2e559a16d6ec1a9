#include "base/buf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tm_buf_fini(struct tm_buf *b)
{
    free(b->data);
    *b = (struct tm_buf){0};
}

int tm_buf_reserve(struct tm_buf *b, size_t extra)
{
    if (extra <= b->cap - b->len)
        return TM_OK;
    if (extra > SIZE_MAX / 2 - b->len)
        return TM_ENOMEM;
    size_t cap = b->cap ? b->cap : 256;
    while (cap - b->len < extra)
        cap *= 2;
    uint8_t *data = realloc(b->data, cap);
    if (!data)
        return TM_ENOMEM;
    b->data = data;
    b->cap = cap;
    return TM_OK;
}

void tm_buf_fit(struct tm_buf *b)
{
    uint8_t *data = b->len && b->len < b->cap ? realloc(b->data, b->len) : NULL;
    if (!data)
        return;
    b->data = data;
    b->cap = b->len;
}

int tm_buf_append(struct tm_buf *b, const void *bytes, size_t len)
{
    int rc = tm_buf_reserve(b, len);
    if (rc)
        return rc;
    if (len)
        memcpy(b->data + b->len, bytes, len);
    b->len += len;
    return TM_OK;
}

int tm_buf_printf(struct tm_buf *b, const char *fmt, ...)
{
    va_list args;
    va_start(args, fmt);
    va_list again;
    va_copy(again, args);
    int n = vsnprintf(NULL, 0, fmt, args);
    va_end(args);
    int rc = n < 0 ? TM_EINVAL : tm_buf_reserve(b, (size_t)n + 1);
    if (!rc) {
        (void)vsnprintf((char *)b->data + b->len, (size_t)n + 1, fmt, again);
        b->len += (size_t)n;
    }
    va_end(again);
    return rc;
}

const char *tm_buf_cstr(struct tm_buf *b)
{
    if (tm_buf_reserve(b, 1))
        return NULL;
    b->data[b->len] = '\0';
    return (const char *)b->data;
}

void tm_buf_consume(struct tm_buf *b, size_t n)
{
    TM_FATAL_UNLESS(n <= b->len);
    if (n)
        memmove(b->data, b->data + n, b->len - n);
    b->len -= n;
}
