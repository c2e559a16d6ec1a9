/* What a kind of target is to target.c, which checks arguments, hashes what is put, and names the target in errors. */
#ifndef TM_ARCHIVE_TARGET_PRIVATE_H
#define TM_ARCHIVE_TARGET_PRIVATE_H

#include "archive/target.h"

/*
 * `self` is what open made. Keys have been checked. Of a put: append takes any number of bytes; finish publishes what
 * was appended, which are `size` bytes; finish and abort free it.
 */
struct tm_target_kind {
    const char *scheme; /* with "://" */
    int (*check)(const struct tm_target_options *options, struct tm_error *err);
    int (*open)(const struct tm_target_options *options, void **self, char *name, size_t size, struct tm_error *err);
    void (*close)(void *self);
    int (*put_begin)(void *self, const char *key, void **put, struct tm_error *err);
    int (*put_append)(void *put, const void *bytes, size_t len, struct tm_error *err);
    int (*put_finish)(void *put, uint64_t size, struct tm_error *err);
    void (*put_abort)(void *put);
    int (*head)(void *self, const char *key, struct tm_object *out, struct tm_error *err);
    int (*read)(void *self, const char *key, size_t bytes_max, struct tm_buf *out, struct tm_error *err);
    int (*read_at)(void *self, const char *key, uint64_t offset, void *to, size_t len, struct tm_error *err);
    int (*list)(void *self, const char *prefix, const char *after, tm_target_each *each, void *arg,
                struct tm_error *err);
    int (*sweep)(void *self, int64_t before_us, size_t *removed, struct tm_error *err);
    void (*stats)(const void *self, struct tm_target_stats *out);
};

extern const struct tm_target_kind tm_target_dir, tm_target_s3;

/* A key that tm_target_check_key would take; for keys that were found. */
bool tm_target_is_key(const char *key);

#endif
