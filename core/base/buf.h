/*
 * A growable byte buffer, owned by one thread at a time.
 *
 *      data                 data+len            data+cap
 *      |  bytes written      |  free             |
 *
 * Growth doubles; the storage is kept by tm_buf_clear and given back by tm_buf_fini. A buffer that could not grow
 * keeps what it has and returns TM_ENOMEM. `struct tm_buf b = {0}` is a valid empty buffer.
 */
#ifndef TM_BASE_BUF_H
#define TM_BASE_BUF_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct tm_buf {
    uint8_t *data;
    size_t len;
    size_t cap;
};

void tm_buf_fini(struct tm_buf *b);

static inline void tm_buf_clear(struct tm_buf *b)
{
    b->len = 0;
}

/* Make room for `extra` more bytes after len. */
int tm_buf_reserve(struct tm_buf *b, size_t extra) TM_MUST_CHECK;
int tm_buf_append(struct tm_buf *b, const void *bytes, size_t len) TM_MUST_CHECK;
int tm_buf_printf(struct tm_buf *b, const char *fmt, ...) TM_PRINTF(2, 3) TM_MUST_CHECK;

/* Give back the room behind len. */
void tm_buf_fit(struct tm_buf *b);

/* The bytes as a NUL-terminated string (the NUL is not counted in len); NULL when memory is out. */
const char *tm_buf_cstr(struct tm_buf *b);

/* Drop the first `n` bytes, moving the rest down. */
void tm_buf_consume(struct tm_buf *b, size_t n);

#endif
