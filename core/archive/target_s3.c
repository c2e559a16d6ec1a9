#include "archive/target_s3.h"
#include "archive/target_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- opening ---- */

static int s3_check(const struct tm_target_options *o, struct tm_error *err)
{
    struct tm_s3_place place;
    int rc = tm_s3_place_parse(o->url, &place, err);
    return rc ? rc : tm_s3_credentials_check(o->credentials, err);
}

static void s3_close(void *self)
{
    struct tm_s3 *s = self;
    tm_s3_client_fini(&s->client);
    free(s);
}

static int s3_open(const struct tm_target_options *o, void **self, char *name, size_t size, struct tm_error *err)
{
    struct tm_s3 *s = calloc(1, sizeof *s);
    if (!s)
        return tm_error_set(err, TM_ENOMEM, "no memory for an archive");
    s->part_bytes = o->part_bytes ? o->part_bytes : TM_TARGET_PART_BYTES;
    int rc = tm_s3_client_init(&s->client, o, err);
    if (rc) {
        free(s);
        return rc;
    }
    const char *named = s->client.place.name;
    (void)snprintf(name, size, "%.*s", (int)strlen(named) - 1, named);
    *self = s;
    return TM_OK;
}

static void s3_stats(const void *self, struct tm_target_stats *out)
{
    const struct tm_s3 *s = self;
    out->requests = s->client.requests;
    out->retries = s->client.retries;
    tm_s3_transport_moved(s->client.transport, &out->bytes_sent, &out->bytes_received);
}

/* ---- reading ---- */

static int s3_head(void *self, const char *key, struct tm_object *out, struct tm_error *err)
{
    struct tm_s3 *s = self;
    struct tm_s3_reply reply;
    int rc = tm_s3_client_call(&s->client, &(struct tm_s3_call){.method = "HEAD", .key = key}, &reply, err);
    if (rc)
        return rc;
    if (reply.answer.size == UINT64_MAX)
        return tm_error_set(err, TM_EPARSE, "HEAD %s%s: expected Content-Length", s->client.place.name, key);
    *out = (struct tm_object){.size = reply.answer.size, .modified_us = reply.answer.modified_us};
    memcpy(out->etag, reply.answer.etag, sizeof out->etag);
    return TM_OK;
}

static int s3_read(void *self, const char *key, size_t bytes_max, struct tm_buf *out, struct tm_error *err)
{
    struct tm_s3 *s = self;
    struct tm_s3_reply reply;
    struct tm_s3_call call = {.method = "GET", .key = key, .to = out, .to_max = bytes_max};
    return tm_s3_client_call(&s->client, &call, &reply, err);
}

/* The bytes that were asked for and no others: 206, "bytes A-B/SIZE". */
static int check_range(const struct tm_s3 *s, const char *key, uint64_t offset, size_t len, const struct tm_buf *got,
                       const struct tm_s3_answer *a, struct tm_error *err)
{
    unsigned long long first = 0, last = 0;
    if (a->status != 206 || sscanf(a->range, "bytes %llu-%llu/", &first, &last) != 2)
        return tm_error_set(err, TM_EPARSE, "GET %s%s: expected status 206 with Content-Range for a part of it, got %d",
                            s->client.place.name, key, a->status);
    if (first != offset || last - first + 1 != len || got->len != len)
        return tm_error_set(err, TM_ECORRUPT, "%s%s: expected %zu bytes from %llu on, got %zu, called \"%s\"",
                            s->client.place.name, key, len, (unsigned long long)offset, got->len, a->range);
    return TM_OK;
}

static int s3_read_at(void *self, const char *key, uint64_t offset, void *to, size_t len, struct tm_error *err)
{
    struct tm_s3 *s = self;
    struct tm_s3_reply reply;
    struct tm_buf body = {0};
    char range[64];
    (void)snprintf(range, sizeof range, "%llu-%llu", (unsigned long long)offset,
                   (unsigned long long)(offset + len - 1));
    struct tm_s3_call call = {.method = "GET", .key = key, .range = range, .to = &body, .to_max = len};
    int rc = tm_buf_reserve(&body, len) ? tm_error_set(err, TM_ENOMEM, "no memory to read %s", key)
                                        : tm_s3_client_call(&s->client, &call, &reply, err);
    rc = rc ? rc : check_range(s, key, offset, len, &body, &reply.answer, err);
    if (!rc)
        memcpy(to, body.data, len);
    tm_buf_fini(&body);
    return rc;
}

const struct tm_target_kind tm_target_s3 = {
    .scheme = "s3://",
    .check = s3_check,
    .open = s3_open,
    .close = s3_close,
    .put_begin = tm_s3_put_begin,
    .put_append = tm_s3_put_append,
    .put_finish = tm_s3_put_finish,
    .put_abort = tm_s3_put_abort,
    .head = s3_head,
    .read = s3_read,
    .read_at = s3_read_at,
    .list = tm_s3_list,
    .sweep = tm_s3_sweep,
    .stats = s3_stats,
};
