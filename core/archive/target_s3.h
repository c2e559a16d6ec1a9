/* The S3 target in three files: reading (target_s3.c), writing (target_s3_put.c), walks (target_s3_list.c). */
#ifndef TM_ARCHIVE_TARGET_S3_H
#define TM_ARCHIVE_TARGET_S3_H

#include "archive/s3_client.h"

#define TM_S3_XML_MAX                                                                                                  \
    ((size_t)4 << 20) /* of a page of a listing: 1,000 keys of 1 KiB at most, and what is around them */

struct tm_s3 {
    struct tm_s3_client client;
    size_t part_bytes;
};

int tm_s3_put_begin(void *self, const char *key, void **put, struct tm_error *err) TM_MUST_CHECK;
int tm_s3_put_append(void *put, const void *bytes, size_t len, struct tm_error *err) TM_MUST_CHECK;
int tm_s3_put_finish(void *put, uint64_t size, struct tm_error *err) TM_MUST_CHECK;
void tm_s3_put_abort(void *put);

int tm_s3_list(void *self, const char *prefix, const char *after, tm_target_each *each, void *arg,
               struct tm_error *err) TM_MUST_CHECK;
int tm_s3_sweep(void *self, int64_t before_us, size_t *removed, struct tm_error *err) TM_MUST_CHECK;

/* End an upload that will not be completed; TM_OK if it is gone already. At most 5 s, when stopped less than one. */
int tm_s3_abort_upload(struct tm_s3_client *c, const char *key, const char *upload_id, struct tm_error *err);

#endif
