/* The directory target in two files: objects (target_dir.c) and walks over all of it (target_dir_walk.c). */
#ifndef TM_ARCHIVE_TARGET_DIR_H
#define TM_ARCHIVE_TARGET_DIR_H

#include "archive/target.h"

#include <sys/stat.h>

#define TM_DIR_PATH_MAX 400 /* so that errors with a path and a key are whole */
#define TM_DIR_TEMPORARY ".put-"
#define TM_DIR_TEMPORARY_MAX 48

struct tm_dir {
    int fd;
    const atomic_bool *stop;
    char path[TM_DIR_PATH_MAX];
};

/* The error of errno: "cannot WHAT PATH/KEY: ..."; `key` may be "". */
int tm_dir_failed(const struct tm_dir *d, const char *key, const char *what, struct tm_error *err);

/* A descriptor of an object that is there, and what fstat says of it; or a code. */
int tm_dir_open_object(const struct tm_dir *d, const char *key, struct stat *st, struct tm_error *err) TM_MUST_CHECK;

int tm_dir_list(void *self, const char *prefix, const char *after, tm_target_each *each, void *arg,
                struct tm_error *err) TM_MUST_CHECK;
int tm_dir_sweep(void *self, int64_t before_us, size_t *removed, struct tm_error *err) TM_MUST_CHECK;

#endif
