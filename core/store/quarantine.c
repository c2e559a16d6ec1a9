#include "store/quarantine.h"

static int put_hex(struct tm_buf *out, struct tm_span_bytes bytes)
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

int tm_quarantine_put(struct tm_pg *pg, const struct tm_quarantine *q, struct tm_error *err)
{
    struct tm_buf hex = {0};
    int rc = put_hex(&hex, q->tuple);
    const char *tuple = rc ? NULL : tm_buf_cstr(&hex);
    const char *values[] = {q->stream,   q->gatherer, q->epoch,   q->seq,
                            q->sqlstate, q->error,    q->columns, tuple};
    PGresult *result;
    rc = tuple
             ? tm_pg_query(
                   pg,
                   "INSERT INTO tidemill.quarantine (stream, gatherer, epoch, seq, sqlstate, error, columns, "
                   "tuple) VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
                   8, values, &result, err)
             : tm_error_set(err, TM_ENOMEM, "out of memory for a quarantined row");
    if (!rc)
        PQclear(result);
    tm_buf_fini(&hex);
    return rc;
}
