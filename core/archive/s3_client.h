/*
 * Requests to one bucket: signed, each with the hash of its body, and tried again where that may help.
 *
 * Tried again, after a pause with full jitter (base/backoff.h) that is no shorter than Retry-After: no connection, a
 * cut or late answer, 5xx but 501, 429, 408, and the codes SlowDown, RequestTimeout, OperationAborted,
 * ConditionalRequestConflict and BadDigest. Keys that are refused are renewed once. All else is the answer. One thread.
 */
#ifndef TM_ARCHIVE_S3_CLIENT_H
#define TM_ARCHIVE_S3_CLIENT_H

#include "archive/s3_credentials.h"
#include "archive/s3_place.h"
#include "archive/s3_transport.h"

struct tm_s3_client {
    struct tm_s3_place place;
    struct tm_s3_transport *transport;
    struct tm_s3_credentials *credentials;
    int64_t quiet_us, pause_us;
    unsigned tries;
    uint64_t requests, retries;
    struct tm_buf url;
};

struct tm_s3_call {
    const char *method;
    const char *key;              /* NULL: the bucket */
    struct tm_s3_param params[6]; /* name NULL: the end */
    const char *headers[4];       /* besides x-amz-content-sha256 and x-amz-security-token; NULL: the end */
    const char *range;
    const void *body;
    size_t body_len;
    struct tm_buf *to;
    size_t to_max;
    bool slow;       /* S3 may work on it for minutes, and a 200 may hold an error (CompleteMultipartUpload) */
    bool last;       /* not ended by *stop */
    unsigned tries;  /* 0: the client's */
    int64_t time_us; /* of an attempt; 0: by the length of the bodies */
};

struct tm_s3_reply {
    struct tm_s3_answer answer; /* but for `error`, which is read and freed */
    char code[64];              /* S3's word for an error; "" if it said none */
};

int tm_s3_client_init(struct tm_s3_client *c, const struct tm_target_options *options,
                      struct tm_error *err) TM_MUST_CHECK;
void tm_s3_client_fini(struct tm_s3_client *c);

/*
 * TM_OK: 2xx. Otherwise the error of target.h that says it best: 404 TM_ENOENT, 401 and 403 TM_EDENIED, 412
 * TM_ECONFLICT, 416 TM_ECORRUPT, other 4xx and 3xx TM_EINVAL; what was tried again in vain TM_ERETRY. *reply is filled
 * either way; its status is 0 if none came.
 */
int tm_s3_client_call(struct tm_s3_client *c, const struct tm_s3_call *call, struct tm_s3_reply *reply,
                      struct tm_error *err);

#endif
