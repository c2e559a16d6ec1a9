/*
 * A directory as a target: file:///path. The modes of files and directories are those of the process's umask.
 *
 * An object is written as ".put-<random>" in the directory where it will be, synced, and renamed to its name without
 * replacing what may be there; then every directory from there up to the archive's is synced. So a crash leaves the
 * object whole or not at all, and at most a temporary file, which sweep() removes. While it grows it is synced every
 * 32 MiB, so that the last sync is short; a disk that hangs in one cannot be stopped. After a sync that failed the
 * object is thrown away: what the disk has of it is not known (FAILURES T22).
 *
 * No symbolic link below the archive's directory is followed: a name that somebody else can make leads nowhere else.
 */
#include "archive/target_dir.h"
#include "archive/target_private.h"
#include "base/clock.h"
#include "base/directory.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SYNC_EVERY ((uint64_t)32 << 20)

struct dir_put {
    const struct tm_dir *dir;
    int parent, fd;
    uint64_t size, synced;
    char temporary[TM_DIR_TEMPORARY_MAX];
    char key[TM_TARGET_KEY_MAX + 1];
};

int tm_dir_failed(const struct tm_dir *d, const char *key, const char *what, struct tm_error *err)
{
    int e = errno;
    int code = e == ENOENT                               ? TM_ENOENT
               : e == ENOSPC || e == EDQUOT              ? TM_EFULL
               : e == EACCES || e == EPERM || e == EROFS ? TM_EDENIED
               : e == ELOOP                              ? TM_EDENIED
               : e == EEXIST                             ? TM_ECONFLICT
               : e == ENOMEM                             ? TM_ENOMEM
                                                         : TM_EIO;
    return tm_error_errno(err, code, e, "cannot %s %s%s%s%s", what, d->path, *key ? "/" : "", key,
                          e == ELOOP || e == ENOTDIR ? " (symbolic links are not followed there)" : "");
}

/* ---- opening ---- */

static const char *path_of(const char *url)
{
    return url + strlen("file://");
}

static int dir_check(const struct tm_target_options *o, struct tm_error *err)
{
    const char *path = path_of(o->url);
    if (path[0] != '/' || strchr(path, '?') || strlen(path) >= TM_DIR_PATH_MAX)
        return tm_error_set(
            err, TM_EINVAL,
            "archive URL \"%.200s\": expected file:///directory, from / on, without '?', of at most %d bytes", o->url,
            TM_DIR_PATH_MAX - 1);
    if (o->credentials)
        return tm_error_set(err, TM_EINVAL, "archive URL \"%.200s\": credentials are for s3:// only", o->url);
    return TM_OK;
}

static int make_dir(const struct tm_dir *d, struct tm_error *err)
{
    if (tm_directory_make(d->path, 0777) == 0)
        return TM_OK;
    int failed = errno;
    bool is_there = access(d->path, F_OK) == 0;
    errno = failed;
    return tm_dir_failed(d, "", is_there ? "sync the directory above" : "make the archive's directory", err);
}

static int dir_open(const struct tm_target_options *o, void **self, char *name, size_t size, struct tm_error *err)
{
    struct tm_dir *d = calloc(1, sizeof *d);
    if (!d)
        return tm_error_set(err, TM_ENOMEM, "no memory for an archive");
    size_t len = (size_t)snprintf(d->path, sizeof d->path, "%s", path_of(o->url));
    while (len > 1 && d->path[len - 1] == '/')
        d->path[--len] = '\0';
    d->stop = o->stop;
    int rc = o->read_only ? TM_OK : make_dir(d, err);
    d->fd = rc ? -1 : open(d->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!rc && d->fd < 0)
        rc = tm_dir_failed(d, "", "open the archive's directory", err);
    if (rc) {
        free(d);
        return rc;
    }
    (void)snprintf(name, size, "file://%s", d->path);
    *self = d;
    return TM_OK;
}

static void dir_close(void *self)
{
    struct tm_dir *d = self;
    close(d->fd);
    free(d);
}

/* ---- ways ---- */

/*
 * The directory that holds `key`, and the last part of it. `make`: directories that are missing are made. `each` is
 * called with every directory on the way, the archive's first. -1 and errno.
 */
static int walk_to(const struct tm_dir *d, const char *key, bool make, int (*each)(int fd), const char **leaf)
{
    char part[256];
    int fd = openat(d->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (const char *slash; fd >= 0 && (slash = strchr(key, '/')); key = slash + 1) {
        (void)snprintf(part, sizeof part, "%.*s", (int)(slash - key), key);
        if ((each && each(fd)) || (make && mkdirat(fd, part, 0777) && errno != EEXIST)) {
            int e = errno;
            close(fd);
            errno = e;
            return -1;
        }
        int next = openat(fd, part, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        int e = errno;
        close(fd);
        errno = e;
        fd = next;
    }
    *leaf = key;
    return fd;
}

int tm_dir_open_object(const struct tm_dir *d, const char *key, struct stat *st, struct tm_error *err)
{
    const char *leaf;
    int parent = walk_to(d, key, false, NULL, &leaf);
    int fd = parent < 0 ? -1 : openat(parent, leaf, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    int rc = fd < 0 || fstat(fd, st) ? tm_dir_failed(d, key, "open", err) : TM_OK;
    if (!rc && !S_ISREG(st->st_mode))
        rc = tm_error_set(err, TM_ENOENT, "%s/%s is not a file", d->path, key);
    if (parent >= 0)
        close(parent);
    if (!rc)
        return fd;
    if (fd >= 0)
        close(fd);
    return rc;
}

/* ---- writing ---- */

static int create_temporary(struct dir_put *put, struct tm_error *err)
{
    uint64_t random[2];
    tm_random_bytes(random, sizeof random);
    (void)snprintf(put->temporary, sizeof put->temporary, TM_DIR_TEMPORARY "%016llx%016llx",
                   (unsigned long long)random[0], (unsigned long long)random[1]);
    put->fd = openat(put->parent, put->temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0666);
    return put->fd < 0 ? tm_dir_failed(put->dir, put->key, "create a temporary file for", err) : TM_OK;
}

static void free_put(struct dir_put *put)
{
    if (put->fd >= 0)
        close(put->fd);
    if (put->parent >= 0)
        close(put->parent);
    free(put);
}

static int dir_put_begin(void *self, const char *key, void **out, struct tm_error *err)
{
    struct dir_put *put = calloc(1, sizeof *put);
    struct stat st;
    const char *leaf;
    int rc = TM_OK;
    if (!put)
        return tm_error_set(err, TM_ENOMEM, "no memory for an object");
    put->dir = self;
    put->fd = -1;
    (void)snprintf(put->key, sizeof put->key, "%s", key);
    put->parent = walk_to(self, put->key, true, NULL, &leaf);
    if (put->parent < 0)
        rc = tm_dir_failed(self, key, "make the directories of", err);
    else if (!fstatat(put->parent, leaf, &st, AT_SYMLINK_NOFOLLOW))
        rc = tm_error_set(err, TM_ECONFLICT, "%s/%s is there already", put->dir->path, key);
    else
        rc = create_temporary(put, err);
    if (rc) {
        free_put(put);
        return rc;
    }
    *out = put;
    return TM_OK;
}

static int dir_put_append(void *arg, const void *bytes, size_t len, struct tm_error *err)
{
    struct dir_put *put = arg;
    const uint8_t *at = bytes;
    while (len) {
        ssize_t n = write(put->fd, at, len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tm_dir_failed(put->dir, put->key, "write", err);
        at += n;
        len -= (size_t)n;
        put->size += (uint64_t)n;
    }
    if (put->size - put->synced < SYNC_EVERY)
        return TM_OK;
    put->synced = put->size;
    return tm_directory_sync(put->fd) ? tm_dir_failed(put->dir, put->key, "sync", err) : TM_OK;
}

static void dir_put_abort(void *arg)
{
    struct dir_put *put = arg;
    (void)unlinkat(put->parent, put->temporary, 0);
    free_put(put);
}

/* Without replacing: -1 and EEXIST. File systems that know no such rename know links. */
static int publish(const struct dir_put *put, const char *leaf)
{
    if (!renameat2(put->parent, put->temporary, put->parent, leaf, RENAME_NOREPLACE))
        return 0;
    if (errno != EINVAL && errno != ENOSYS)
        return -1;
    if (linkat(put->parent, put->temporary, put->parent, leaf, 0))
        return -1;
    (void)unlinkat(put->parent, put->temporary, 0);
    return 0;
}

static int check_written(const struct dir_put *put, uint64_t size, struct tm_error *err)
{
    struct stat st;
    if (tm_directory_sync(put->fd) || fstat(put->fd, &st))
        return tm_dir_failed(put->dir, put->key, "sync", err);
    if ((uint64_t)st.st_size != size)
        return tm_error_set(err, TM_ECORRUPT, "%s/%s: expected %llu bytes in the file, got %llu", put->dir->path,
                            put->key, (unsigned long long)size, (unsigned long long)st.st_size);
    return TM_OK;
}

/* Also directories that somebody else has made: he may not have come to sync them. */
static int sync_way(const struct dir_put *put, struct tm_error *err)
{
    const char *leaf;
    int fd = walk_to(put->dir, put->key, false, tm_directory_sync, &leaf);
    int rc =
        fd < 0 || tm_directory_sync(fd) ? tm_dir_failed(put->dir, put->key, "sync the directories of", err) : TM_OK;
    if (fd >= 0)
        close(fd);
    return rc;
}

static int dir_put_finish(void *arg, uint64_t size, struct tm_error *err)
{
    struct dir_put *put = arg;
    const char *slash = strrchr(put->key, '/'), *leaf = slash ? slash + 1 : put->key;
    int rc = check_written(put, size, err);
    if (!rc && publish(put, leaf))
        rc = tm_dir_failed(put->dir, put->key, "give its name to", err);
    if (rc) {
        dir_put_abort(put);
        return rc;
    }
    rc = sync_way(put, err);
    if (rc) /* nobody may take for durable what perhaps is not */
        (void)unlinkat(put->parent, leaf, 0);
    free_put(put);
    return rc;
}

/* ---- reading ---- */

static void describe(const struct stat *st, struct tm_object *out)
{
    *out = (struct tm_object){.size = (uint64_t)st->st_size};
    out->modified_us = st->st_mtim.tv_sec * TM_US_PER_S + st->st_mtim.tv_nsec / 1000;
}

static int dir_head(void *self, const char *key, struct tm_object *out, struct tm_error *err)
{
    struct stat st;
    int fd = tm_dir_open_object(self, key, &st, err);
    if (fd < 0)
        return fd;
    close(fd);
    describe(&st, out);
    return TM_OK;
}

static int read_fd(const struct tm_dir *d, const char *key, int fd, uint64_t offset, void *to, size_t len,
                   struct tm_error *err)
{
    for (size_t done = 0; done < len;) {
        ssize_t n = pread(fd, (uint8_t *)to + done, len - done, (off_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tm_dir_failed(d, key, "read", err);
        if (n == 0)
            return tm_error_set(err, TM_ECORRUPT, "%s/%s: expected %zu bytes from %llu on, got %zu", d->path, key, len,
                                (unsigned long long)offset, done);
        done += (size_t)n;
    }
    return TM_OK;
}

static int dir_read_at(void *self, const char *key, uint64_t offset, void *to, size_t len, struct tm_error *err)
{
    struct stat st;
    int fd = tm_dir_open_object(self, key, &st, err);
    if (fd < 0)
        return fd;
    int rc = offset > INT64_MAX - len ? tm_error_set(err, TM_EINVAL, "an offset beyond what a file can have")
                                      : read_fd(self, key, fd, offset, to, len, err);
    close(fd);
    return rc;
}

static int dir_read(void *self, const char *key, size_t bytes_max, struct tm_buf *out, struct tm_error *err)
{
    struct stat st;
    int fd = tm_dir_open_object(self, key, &st, err), rc = TM_OK;
    if (fd < 0)
        return fd;
    size_t size = (size_t)st.st_size;
    if (size > bytes_max)
        rc = tm_error_set(err, TM_ECORRUPT, "%s/%s: expected at most %zu bytes, got %zu",
                          ((const struct tm_dir *)self)->path, key, bytes_max, size);
    else if (tm_buf_reserve(out, size))
        rc = tm_error_set(err, TM_ENOMEM, "no memory to read %s", key);
    rc = rc ? rc : read_fd(self, key, fd, 0, out->data + out->len, size, err);
    if (!rc)
        out->len += size;
    close(fd);
    return rc;
}

static void dir_stats(const void *self, struct tm_target_stats *out)
{
    (void)self;
    (void)out;
}

const struct tm_target_kind tm_target_dir = {
    .scheme = "file://",
    .check = dir_check,
    .open = dir_open,
    .close = dir_close,
    .put_begin = dir_put_begin,
    .put_append = dir_put_append,
    .put_finish = dir_put_finish,
    .put_abort = dir_put_abort,
    .head = dir_head,
    .read = dir_read,
    .read_at = dir_read_at,
    .list = tm_dir_list,
    .sweep = tm_dir_sweep,
    .stats = dir_stats,
};
