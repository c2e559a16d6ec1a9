/*
 * Where a bucket is, from its URL, and the URLs of requests to it:
 *
 *     s3://bucket[/prefix][?region=R][&endpoint=URL][&path_style=true|false][&ca_file=/PATH]
 *
 * Without an endpoint it is Amazon's of that region; with one (https, or http to loopback) the region is "us-east-1"
 * if none is given, which is what most servers of that language believe in. path_style=true puts the bucket into the
 * path, false before the host's name; by default it is true with an endpoint and for names with dots, which no
 * certificate of Amazon's covers. Values may be percent-encoded.
 *
 * URLs of requests are in the form that AWS signs (s3_transport.h says why): all but letters, digits and -._~ encoded,
 * queries sorted, each parameter with its '='. Immutable after parse; any thread.
 */
#ifndef TM_ARCHIVE_S3_PLACE_H
#define TM_ARCHIVE_S3_PLACE_H

#include "archive/target.h"

#include <limits.h>

struct tm_s3_place {
    char name[200];                        /* s3://bucket/prefix/, for people */
    char prefix[TM_TARGET_PREFIX_MAX + 2]; /* "" or with a slash at its end */
    char base[400];                        /* scheme, host and, with path_style, bucket; no slash at its end */
    char scope[100];                       /* for libcurl: aws:amz:REGION:s3 */
    char region[64];
    char ca_file[PATH_MAX]; /* "": the system's authorities */
};

int tm_s3_place_parse(const char *url, struct tm_s3_place *out, struct tm_error *err) TM_MUST_CHECK;

struct tm_s3_param {
    const char *name, *value; /* value NULL: the parameter is left out */
};

/* Put the URL of an object (key NULL: of the bucket) into *out, NUL-terminated. Parameters in any order, at most 8. */
int tm_s3_place_url(const struct tm_s3_place *place, const char *key, const struct tm_s3_param *params, size_t count,
                    struct tm_buf *out) TM_MUST_CHECK;

#endif
