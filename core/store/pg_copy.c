#include "base/clock.h"
#include "base/endian.h"
#include "store/pg_private.h"

#include <poll.h>
#include <stdlib.h>
#include <string.h>

#define CHUNK_BYTES 65536

/* PostgreSQL documentation, COPY, binary format: signature, flags, length of the header's extension. */
static const uint8_t copy_header[19] = {'P', 'G', 'C', 'O', 'P', 'Y', '\n', 0xff, '\r', '\n', 0};

/* ---- in ---- */

struct chunk {
    struct tm_pg *pg;
    int64_t deadline_us;
    size_t len;
    uint8_t bytes[CHUNK_BYTES];
};

static int send_bytes(struct tm_pg *pg, const void *bytes, size_t len, int64_t deadline_us, struct tm_error *err)
{
    for (;;) {
        int taken = PQputCopyData(pg->conn, bytes, (int)len);
        if (taken > 0)
            return tm_pg_flush(pg, deadline_us, err);
        if (taken < 0)
            return tm_pg_lost(pg, TM_ERETRY, err);
        int rc = tm_pg_wait(pg, POLLOUT, deadline_us, err);
        if (rc)
            return rc;
    }
}

static int chunk_send(struct chunk *c, struct tm_error *err)
{
    int rc = c->len ? send_bytes(c->pg, c->bytes, c->len, c->deadline_us, err) : TM_OK;
    c->len = 0;
    return rc;
}

static int chunk_put(struct chunk *c, const void *bytes, size_t len, struct tm_error *err)
{
    int rc = TM_OK;
    if (len > CHUNK_BYTES - c->len)
        rc = chunk_send(c, err);
    if (!rc && len > CHUNK_BYTES)
        return send_bytes(c->pg, bytes, len, c->deadline_us, err);
    if (rc)
        return rc;
    memcpy(c->bytes + c->len, bytes, len);
    c->len += len;
    return TM_OK;
}

/* Read up to the answer to COPY, past those to the statements before it. */
static int expect(struct tm_pg *pg, ExecStatusType wanted, int64_t deadline_us, struct tm_error *err)
{
    ExecStatusType status;
    PGresult *result;
    do {
        int rc = tm_pg_next_result(pg, deadline_us, &result, err);
        if (rc)
            return rc;
        status = PQresultStatus(result);
        if (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK || status == wanted)
            PQclear(result);
    } while (status == PGRES_COMMAND_OK || status == PGRES_TUPLES_OK);
    if (status == wanted)
        return TM_OK;
    int rc = tm_pg_failed(pg, result, err);
    int rest = pg->conn ? tm_pg_finish(pg, deadline_us, NULL, NULL) : TM_OK;
    return rest ? rest : rc;
}

static int end_copy(struct chunk *c, struct tm_error *err)
{
    static const uint8_t trailer[2] = {0xff, 0xff};
    int rc = chunk_put(c, trailer, sizeof trailer, err);
    rc = rc ? rc : chunk_send(c, err);
    if (rc)
        return rc;
    if (PQputCopyEnd(c->pg->conn, NULL) < 0)
        return tm_pg_lost(c->pg, TM_ERETRY, err);
    return tm_pg_flush(c->pg, c->deadline_us, err);
}

static int copy_part(struct chunk *c, const struct tm_pg_part *part, struct tm_error *err)
{
    c->deadline_us = tm_clock_mono_us() + c->pg->statement_us; /* each is a statement */
    int rc = expect(c->pg, PGRES_COPY_IN, c->deadline_us, err);
    rc = rc ? rc : chunk_put(c, copy_header, sizeof copy_header, err);
    for (size_t i = 0; !rc && i < part->count; i++)
        rc = chunk_put(c, part->tuples[i].bytes, part->tuples[i].len, err);
    return rc ? rc : end_copy(c, err);
}

int tm_pg_copy_in_parts(struct tm_pg *pg, const char *sql, const struct tm_pg_part *parts, size_t count,
                        struct tm_error *err)
{
    struct chunk *c = malloc(sizeof *c);
    if (!c)
        return tm_error_set(err, TM_ENOMEM, "out of memory for COPY");
    c->pg = pg;
    c->len = 0;
    int rc = tm_pg_send(pg, sql, &c->deadline_us, err);
    for (size_t i = 0; !rc && i < count; i++)
        rc = copy_part(c, &parts[i], err);
    rc = rc ? rc : tm_pg_finish(pg, c->deadline_us, NULL, err);
    free(c);
    return rc;
}

int tm_pg_copy_in(struct tm_pg *pg, const char *copy_sql, const struct tm_span_bytes *tuples, size_t count,
                  struct tm_error *err)
{
    struct tm_pg_part part = {.tuples = tuples, .count = count};
    return tm_pg_copy_in_parts(pg, copy_sql, &part, 1, err);
}

/* ---- out ---- */

/* One row of COPY data; *len is -1 at the end of the stream. */
static int next_row(struct tm_pg *pg, int64_t deadline_us, char **row, int *len, struct tm_error *err)
{
    while ((*len = PQgetCopyData(pg->conn, row, 1)) == 0) {
        int rc = tm_pg_wait(pg, POLLIN, deadline_us, err);
        if (rc)
            return rc;
        if (!PQconsumeInput(pg->conn))
            return tm_pg_lost(pg, TM_ERETRY, err);
    }
    if (*len < -1)
        return tm_pg_lost(pg, TM_ERETRY, err);
    return TM_OK;
}

/* libpq hands over whole messages of the server, one a tuple: the first begins with the header, which is a
 * message of its own in current servers but need not be; the trailer is a field count of -1. */
static int hand_row(const uint8_t *row, size_t len, bool first, tm_pg_copy_row *take, void *arg, struct tm_error *err)
{
    if (first) {
        if (len < sizeof copy_header || memcmp(row, copy_header, sizeof copy_header) != 0)
            return tm_error_set(err, TM_ECORRUPT, "COPY: expected the binary header, got other bytes");
        row += sizeof copy_header;
        len -= sizeof copy_header;
    }
    if (!len || (len == 2 && tm_get_be16(row) == 0xffff))
        return TM_OK;
    return take(arg, row, len, err);
}

static int read_rows(struct tm_pg *pg, int64_t deadline_us, tm_pg_copy_row *take, void *arg, struct tm_error *err)
{
    int rc = TM_OK;
    for (bool first = true; !rc; first = false) {
        char *row = NULL;
        int len;
        rc = next_row(pg, deadline_us, &row, &len, err);
        if (!rc && len == -1)
            return TM_OK;
        if (!rc)
            rc = hand_row((const uint8_t *)row, (size_t)len, first, take, arg, err);
        PQfreemem(row);
    }
    return rc;
}

static int end_out(struct tm_pg *pg, int64_t deadline_us, int rc, struct tm_error *err)
{
    rc = rc ? rc : tm_pg_finish(pg, deadline_us, NULL, err);
    /* in mid-stream the rest is of no use and would have to be read: the connection goes instead */
    if (rc && pg->conn && PQtransactionStatus(pg->conn) == PQTRANS_ACTIVE)
        (void)tm_pg_lost(pg, rc, NULL);
    return rc;
}

int tm_pg_copy_each(struct tm_pg *pg, const char *copy_sql, tm_pg_copy_row *take, void *arg, struct tm_error *err)
{
    int64_t deadline_us;
    int rc = tm_pg_send(pg, copy_sql, &deadline_us, err);
    rc = rc ? rc : expect(pg, PGRES_COPY_OUT, deadline_us, err);
    rc = rc ? rc : read_rows(pg, deadline_us, take, arg, err);
    return end_out(pg, deadline_us, rc, err);
}

struct keeping {
    struct tm_buf *out;
    size_t left;
};

static int keep_row(void *arg, const uint8_t *row, size_t len, struct tm_error *err)
{
    struct keeping *k = arg;
    if (tm_buf_append(k->out, row, len))
        return tm_error_set(err, TM_ENOMEM, "out of memory for COPY");
    if (len > k->left)
        return tm_error_set(err, TM_EFULL, "COPY has more bytes than are taken at once");
    k->left -= len;
    return TM_OK;
}

int tm_pg_copy_out_parts(struct tm_pg *pg, const char *sql, struct tm_buf *const *outs, size_t count, size_t bytes_max,
                         struct tm_error *err)
{
    struct keeping k = {.left = bytes_max};
    int64_t deadline_us;
    int rc = tm_pg_send(pg, sql, &deadline_us, err);
    for (size_t i = 0; !rc && i < count; i++) {
        deadline_us = tm_clock_mono_us() + pg->statement_us; /* each is a statement */
        rc = expect(pg, PGRES_COPY_OUT, deadline_us, err);
        k.out = outs[i];
        rc = rc ? rc : read_rows(pg, deadline_us, keep_row, &k, err);
    }
    return end_out(pg, deadline_us, rc, err);
}

int tm_pg_copy_out(struct tm_pg *pg, const char *copy_sql, struct tm_buf *out, struct tm_error *err)
{
    size_t start = out->len;
    int rc = tm_pg_copy_out_parts(pg, copy_sql, &out, 1, SIZE_MAX, err);
    if (rc)
        out->len = start;
    return rc;
}
