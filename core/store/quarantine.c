#include "store/quarantine.h"

#include <stdio.h>
#include <string.h>

int tm_quarantine_put_hex(struct tm_buf *out, struct tm_span_bytes bytes)
{
    static const char hex[] = "0123456789abcdef";
    int rc = tm_buf_append(out, "\\x", 2);
    rc = rc ? rc : tm_buf_reserve(out, bytes.len * 2);
    for (size_t i = 0; !rc && i < bytes.len; i++) {
        out->data[out->len++] = (uint8_t)hex[bytes.bytes[i] >> 4];
        out->data[out->len++] = (uint8_t)hex[bytes.bytes[i] & 15];
    }
    return rc;
}

/* A message that was cut to fit a buffer may end inside a character, which the server would refuse. */
static void trim_character(char *text)
{
    size_t len = strlen(text), tail = 0;
    while (tail < 3 && tail < len && ((uint8_t)text[len - 1 - tail] & 0xc0) == 0x80)
        tail++;
    uint8_t lead = tail < len ? (uint8_t)text[len - 1 - tail] : 0;
    size_t wanted = lead >= 0xf0 ? 3 : lead >= 0xe0 ? 2 : lead >= 0xc0 ? 1 : 0;
    if (tail < wanted)
        text[len - 1 - tail] = '\0';
}

int tm_quarantine_put(struct tm_pg *pg, const struct tm_quarantine *q, struct tm_error *err)
{
    struct tm_buf hex = {0};
    char message[sizeof err->message];
    (void)snprintf(message, sizeof message, "%s", q->error);
    trim_character(message);
    int rc = tm_quarantine_put_hex(&hex, q->tuple);
    const char *tuple = rc ? NULL : tm_buf_cstr(&hex);
    const char *values[] = {q->stream, q->gatherer, q->epoch, q->seq, q->sqlstate, message, q->columns, tuple};
    rc = tuple ? tm_pg_run(pg,
                           "INSERT INTO tidemill.quarantine (stream, gatherer, epoch, seq, sqlstate, error, columns, "
                           "tuple) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                           8, values, NULL, err)
               : tm_error_set(err, TM_ENOMEM, "out of memory for a quarantined row");
    tm_buf_fini(&hex);
    return rc;
}
