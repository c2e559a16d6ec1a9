/*
 * Objects into S3. Up to a part's length it is one PUT, beyond a multipart upload, part by part as they fill; both end
 * with "If-None-Match: *", so that an object that came meanwhile is not replaced. A server that does not know the
 * condition says 501, and gets the request without it: what is left then is the HEAD that every put begins with.
 *
 * Each put has a random id, which goes along as metadata (x-amz-meta-tidemill-put). So after an attempt whose answer was
 * lost it is not guessed whose object is there: HEAD says it, and its size. ETags are compared with each other only (that
 * of the upload, that of HEAD), not with an MD5, which they are not with encryption by KMS.
 */
#include "archive/s3_xml.h"
#include "archive/target_s3.h"
#include "base/clock.h"
#include "base/hash.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PARTS_MAX 10000
#define UPLOAD_ID_MAX 1100
#define ANSWER_MAX ((size_t)64 << 10)
#define ABORT_US (2 * TM_US_PER_S) /* two attempts */
#define ABORT_STOPPED_US (700 * TM_US_PER_MS)

static const char type_header[] = "content-type: application/octet-stream";
static const char if_none_match[] = "if-none-match: *";

struct s3_put {
    struct tm_s3 *s;
    struct tm_buf part;  /* what has not been sent yet */
    struct tm_buf parts; /* of the document that completes the upload */
    unsigned part_count;
    char id[33], id_header[64];
    char upload_id[UPLOAD_ID_MAX]; /* "": none was begun */
    char etag[72];                 /* of the whole, by the answer to the upload; "": not said */
    char key[TM_TARGET_KEY_MAX + 1];
};

static int no_memory(struct tm_error *err)
{
    return tm_error_set(err, TM_ENOMEM, "no memory for an object of S3");
}

static void free_put(struct s3_put *put)
{
    tm_buf_fini(&put->part);
    tm_buf_fini(&put->parts);
    free(put);
}

int tm_s3_put_begin(void *self, const char *key, void **out, struct tm_error *err)
{
    struct tm_s3 *s = self;
    struct tm_s3_reply reply;
    uint64_t random[2];
    int rc = tm_s3_client_call(&s->client, &(struct tm_s3_call){.method = "HEAD", .key = key}, &reply, err);
    if (!rc)
        return tm_error_set(err, TM_ECONFLICT, "%s%s is there already", s->client.place.name, key);
    if (rc != TM_ENOENT)
        return rc;
    struct s3_put *put = calloc(1, sizeof *put);
    if (!put)
        return no_memory(err);
    put->s = s;
    tm_random_bytes(random, sizeof random);
    (void)snprintf(put->id, sizeof put->id, "%016llx%016llx", (unsigned long long)random[0],
                   (unsigned long long)random[1]);
    (void)snprintf(put->id_header, sizeof put->id_header, "x-amz-meta-tidemill-put: %s", put->id);
    (void)snprintf(put->key, sizeof put->key, "%s", key);
    *out = put;
    return TM_OK;
}

/* ---- parts ---- */

static int create_upload(struct s3_put *put, struct tm_error *err)
{
    struct tm_buf body = {0};
    struct tm_s3_reply reply;
    struct tm_s3_call call = {.method = "POST",
                              .key = put->key,
                              .params = {{"uploads", ""}},
                              .headers = {type_header, put->id_header},
                              .to = &body,
                              .to_max = ANSWER_MAX};
    int rc = tm_s3_client_call(&put->s->client, &call, &reply, err);
    struct tm_span text = {.at = (const char *)body.data, .len = body.len};
    if (!rc && (!tm_s3_xml_is(text) || !tm_s3_xml_text(text, "UploadId", put->upload_id, sizeof put->upload_id) ||
                !put->upload_id[0])) {
        put->upload_id[0] = '\0';
        rc = tm_error_set(err, TM_EPARSE, "POST %s%s?uploads=: expected an <UploadId> in the answer",
                          put->s->client.place.name, put->key);
    }
    tm_buf_fini(&body);
    return rc;
}

/* It goes back into XML as it is. */
static bool is_plain(const char *etag)
{
    const char *c = etag;
    while (isalnum((unsigned char)*c) || (*c && strchr("-_.+/=", *c)))
        c++;
    return c > etag && !*c;
}

static int send_part(struct s3_put *put, struct tm_error *err)
{
    char number[16];
    struct tm_s3_reply reply;
    int rc = put->upload_id[0] ? TM_OK : create_upload(put, err);
    if (rc)
        return rc;
    if (put->part_count == PARTS_MAX)
        return tm_error_set(err, TM_EINVAL, "%s%s: more than %d parts of %zu bytes; expected larger parts",
                            put->s->client.place.name, put->key, PARTS_MAX, put->s->part_bytes);
    (void)snprintf(number, sizeof number, "%u", put->part_count + 1);
    struct tm_s3_call call = {.method = "PUT",
                              .key = put->key,
                              .params = {{"partNumber", number}, {"uploadId", put->upload_id}},
                              .headers = {type_header},
                              .body = put->part.data,
                              .body_len = put->part.len};
    rc = tm_s3_client_call(&put->s->client, &call, &reply, err);
    if (rc)
        return rc;
    if (!is_plain(reply.answer.etag))
        return tm_error_set(err, TM_EPARSE, "PUT %s%s part %s: expected an ETag in the answer",
                            put->s->client.place.name, put->key, number);
    put->part_count++;
    tm_buf_clear(&put->part);
    if (tm_buf_printf(&put->parts, "<Part><PartNumber>%s</PartNumber><ETag>\"%s\"</ETag></Part>", number,
                      reply.answer.etag))
        return no_memory(err);
    return TM_OK;
}

/* A full part is kept until more comes: an object of just its length is one PUT. */
int tm_s3_put_append(void *arg, const void *bytes, size_t len, struct tm_error *err)
{
    struct s3_put *put = arg;
    const uint8_t *at = bytes;
    while (len) {
        size_t room = put->s->part_bytes - put->part.len;
        int rc = room ? TM_OK : send_part(put, err);
        if (rc)
            return rc;
        if (!room)
            continue;
        size_t n = len < room ? len : room;
        if (tm_buf_append(&put->part, at, n))
            return no_memory(err);
        at += n;
        len -= n;
    }
    return TM_OK;
}

/* ---- the end ---- */

int tm_s3_abort_upload(struct tm_s3_client *c, const char *key, const char *upload_id, struct tm_error *err)
{
    struct tm_s3_reply reply;
    struct tm_s3_call call = {.method = "DELETE", .key = key, .params = {{"uploadId", upload_id}}};
    call.time_us = ABORT_US;
    call.tries = 2;
    int rc = tm_s3_client_call(c, &call, &reply, err);
    if (rc == TM_ESTOPPED) { /* once more, in the time that a stop leaves */
        call.last = true;
        call.time_us = ABORT_STOPPED_US;
        call.tries = 1;
        rc = tm_s3_client_call(c, &call, &reply, err);
    }
    return rc == TM_ENOENT ? TM_OK : rc;
}

void tm_s3_put_abort(void *arg)
{
    struct s3_put *put = arg;
    struct tm_error ignored; /* what stays is swept, and a rule of the bucket's lifecycle ends it */
    if (put->upload_id[0])
        (void)tm_s3_abort_upload(&put->s->client, put->key, put->upload_id, &ignored);
    free_put(put);
}

static int corrupt(const struct s3_put *put, const char *what, const char *expected, const char *got,
                   struct tm_error *err)
{
    return tm_error_set(err, TM_ECORRUPT, "%s%s: expected %s %s, got %s", put->s->client.place.name, put->key, what,
                        expected, got);
}

/* The part count behind the hyphen of a multipart ETag, where it has that form. */
static bool counts_other_parts(const struct s3_put *put, const char *etag)
{
    size_t hex = strspn(etag, "0123456789abcdef");
    return put->upload_id[0] && hex == 32 && etag[hex] == '-' && strtoul(etag + hex + 1, NULL, 10) != put->part_count;
}

static int compare(const struct s3_put *put, const struct tm_s3_answer *there, uint64_t size, struct tm_error *err)
{
    char expected[32], got[32];
    (void)snprintf(expected, sizeof expected, "%llu", (unsigned long long)size);
    (void)snprintf(got, sizeof got, "%llu", (unsigned long long)there->size);
    if (there->size != size)
        return corrupt(put, "a size of", expected, got, err);
    if (put->etag[0] && strcmp(put->etag, there->etag) != 0)
        return corrupt(put, "the ETag", put->etag, there->etag, err);
    (void)snprintf(expected, sizeof expected, "of %u parts", put->part_count);
    return counts_other_parts(put, there->etag) ? corrupt(put, "an ETag", expected, there->etag, err) : TM_OK;
}

/* Is what is there this put's, and whole? If it is this put's and is not, it is taken away again. */
static int check_there(const struct s3_put *put, uint64_t size, struct tm_error *err)
{
    struct tm_s3_client *c = &put->s->client;
    struct tm_s3_reply reply, ignored_reply;
    struct tm_error ignored;
    int rc = tm_s3_client_call(c, &(struct tm_s3_call){.method = "HEAD", .key = put->key}, &reply, err);
    if (rc == TM_ENOENT)
        return tm_error_set(err, TM_ERETRY, "%s%s: nothing is there after the upload", c->place.name, put->key);
    if (rc)
        return rc;
    const char *id = reply.answer.put_id;
    bool ours = id[0] ? !strcmp(id, put->id) : put->etag[0] && !strcmp(put->etag, reply.answer.etag);
    if (!ours && (id[0] || !put->etag[0]))
        return tm_error_set(err, TM_ECONFLICT, "%s%s is there already, by another upload", c->place.name, put->key);
    rc = compare(put, &reply.answer, size, err);
    if (rc && id[0]) /* best effort: otherwise the key stays taken by what is broken */
        (void)tm_s3_client_call(c, &(struct tm_s3_call){.method = "DELETE", .key = put->key}, &ignored_reply, &ignored);
    return rc;
}

static int put_whole(struct s3_put *put, const char *condition, struct tm_s3_reply *reply, struct tm_error *err)
{
    struct tm_s3_call call = {.method = "PUT",
                              .key = put->key,
                              .headers = {type_header, put->id_header, condition},
                              .body = put->part.data,
                              .body_len = put->part.len};
    int rc = tm_s3_client_call(&put->s->client, &call, reply, err);
    if (!rc)
        memcpy(put->etag, reply->answer.etag, sizeof put->etag);
    return rc;
}

static int complete(struct s3_put *put, const char *condition, struct tm_s3_reply *reply, struct tm_error *err)
{
    struct tm_buf body = {0}, answer = {0};
    char etag[72];
    int rc = tm_buf_printf(&body,
                           "<CompleteMultipartUpload xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\">%.*s"
                           "</CompleteMultipartUpload>",
                           (int)put->parts.len, (const char *)put->parts.data);
    struct tm_s3_call call = {.method = "POST",
                              .key = put->key,
                              .params = {{"uploadId", put->upload_id}},
                              .headers = {"content-type: application/xml", condition},
                              .body = body.data,
                              .body_len = body.len,
                              .to = &answer,
                              .to_max = ANSWER_MAX,
                              .slow = true};
    rc = rc ? no_memory(err) : tm_s3_client_call(&put->s->client, &call, reply, err);
    struct tm_span text = {.at = (const char *)answer.data, .len = answer.len};
    if (!rc && tm_s3_xml_is(text) && tm_s3_xml_text(text, "ETag", etag, sizeof etag)) {
        const char *from = etag + (etag[0] == '"');
        (void)snprintf(put->etag, sizeof put->etag, "%.*s", (int)strcspn(from, "\""), from);
    }
    tm_buf_fini(&body);
    tm_buf_fini(&answer);
    return rc;
}

/*
 * The last request, and what its outcome means. "It is there already" and "there is no such upload" may be what an attempt
 * of our own has left whose answer was lost; not all of them are known here, as libcurl, too, sends a request again when
 * it finds a kept connection dead.
 */
static int publish(struct s3_put *put, uint64_t size, struct tm_error *err)
{
    bool multipart = put->upload_id[0];
    struct tm_s3_reply reply;
    struct tm_error there;
    int rc = multipart ? complete(put, if_none_match, &reply, err) : put_whole(put, if_none_match, &reply, err);
    if (rc && reply.answer.status == 501)
        rc = multipart ? complete(put, NULL, &reply, err) : put_whole(put, NULL, &reply, err);
    if (!rc)
        return check_there(put, size, err);
    if (rc != TM_ECONFLICT && !(multipart && rc == TM_ENOENT))
        return rc;
    int found = check_there(put, size, &there);
    if (found == TM_ECORRUPT)
        *err = there;
    return found == TM_ECORRUPT || !found ? found : rc;
}

int tm_s3_put_finish(void *arg, uint64_t size, struct tm_error *err)
{
    struct s3_put *put = arg;
    int rc = put->upload_id[0] && put->part.len ? send_part(put, err) : TM_OK;
    rc = rc ? rc : publish(put, size, err);
    if (rc)
        tm_s3_put_abort(put);
    else
        free_put(put);
    return rc;
}
