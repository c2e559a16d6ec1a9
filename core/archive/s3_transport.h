/*
 * One HTTP request on libcurl, signed by it if asked (AWS Signature Version 4), on a thread that may wait.
 *
 * Why not net/http: that client lives on a loop, for policy. An export runs on a thread of its own that has nothing else
 * to do while a part goes up; so one handle (one kept connection) is driven until the request has ended, in slices of
 * 100 ms, in which *stop is looked at. It does not use curl_easy_perform, which would look but once a second.
 *
 * What libcurl 7.88.1 signs is what it is given: method, path and query as they are in the URL, `host`, the date, and
 * all headers of the list. AWS computes a canonical form first. So that both are the same, who makes a request sees to it
 * that (s3_place.h does for the URL):
 *   - the path is percent-encoded but for letters, digits and -._~/ ('=' too, which our keys have);
 *   - the query is encoded likewise, sorted, and a parameter without value has its '=' ("uploads=");
 *   - x-amz-content-sha256 is a header of the list: libcurl would hash only what it sends as POSTFIELDS, and S3 wants it;
 *   - names of headers are small letters and none begins another one (7.88.1 sorts whole lines, so "x-a:" would come
 *     behind "x-a-b:"); values have no double spaces; and none is empty ("Expect:", which would be signed, not sent).
 * libcurl keeps copies of the secret in memory that is not locked; they are freed with the handle.
 *
 * TLS is verified, 1.2 or later; http is allowed to loopback only, and to link-local addresses for a metadata service.
 * HTTP/1.1, no redirects (a 3xx is the answer), no proxy of the environment.
 */
#ifndef TM_ARCHIVE_S3_TRANSPORT_H
#define TM_ARCHIVE_S3_TRANSPORT_H

#include "base/buf.h"

#include <stdatomic.h>
#include <stdbool.h>

#define TM_S3_ERROR_BODY_MAX ((size_t)64 << 10) /* of a body that is no 2xx; what is behind is dropped */

struct tm_s3_transport;

struct tm_s3_signer {
    const char *scope; /* "aws:amz:REGION:s3" */
    const char *id, *secret;
};

struct tm_s3_request {
    const char *method, *url;
    const char *const *headers; /* "name: value", NULL-terminated; may be NULL. All of them are signed */
    const char *range;          /* "0-9"; not signed; NULL: none */
    const void *body;           /* of POST and PUT, which always have one, of other methods never */
    size_t body_len;
    const struct tm_s3_signer *signer; /* NULL: unsigned */
    bool link_local;                   /* http to link-local addresses, too */
    bool last;                         /* not ended by *stop: what tidies up when stopped; give it a short whole_us */
    int64_t quiet_us;                  /* without a byte in either direction */
    int64_t whole_us;                  /* for all of it */
    struct tm_buf *to;                 /* the body of a 2xx goes behind what is there; NULL: dropped */
    size_t to_max;                     /* bytes of it */
};

struct tm_s3_answer {
    int status;             /* 0: none came */
    uint64_t size;          /* Content-Length; UINT64_MAX: not said */
    int64_t modified_us;    /* Last-Modified; 0: not said */
    int64_t retry_after_us; /* 0: not said */
    char etag[72];          /* without quotes; "" if none */
    char put_id[40];        /* x-amz-meta-tidemill-put */
    char region[40];        /* x-amz-bucket-region */
    char range[64];         /* Content-Range */
    struct tm_buf error;    /* the body of what is no 2xx; the owner frees it */
};

/* `ca_file`: PEM of the authorities that count instead of the system's; NULL: those. Both must live as long. */
int tm_s3_transport_create(const char *ca_file, const atomic_bool *stop, struct tm_s3_transport **out,
                           struct tm_error *err) TM_MUST_CHECK;
void tm_s3_transport_destroy(struct tm_s3_transport *t); /* NULL is fine */

/*
 * TM_OK: an answer came, whole, whatever its status. TM_ERETRY: none, or a part of one; TM_ETIMEOUT likewise;
 * TM_ESTOPPED; TM_EDENIED: TLS does not verify; TM_ECORRUPT: more than to_max bytes; TM_EINVAL: libcurl refuses.
 * What came in vain has been taken off *to again. `answer` is cleared first.
 */
int tm_s3_transport_do(struct tm_s3_transport *t, const struct tm_s3_request *request, struct tm_s3_answer *answer,
                       struct tm_error *err) TM_MUST_CHECK;

/* Bytes of bodies since create. */
void tm_s3_transport_moved(const struct tm_s3_transport *t, uint64_t *sent, uint64_t *received);

/* A pause between two requests; TM_ESTOPPED when *stop. */
int tm_s3_transport_pause(const struct tm_s3_transport *t, int64_t us, struct tm_error *err) TM_MUST_CHECK;

#endif
