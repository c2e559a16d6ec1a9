#include "journal/fs.h"
#include "base/directory.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int posix_open_dir(void *arg, const char *path)
{
    (void)arg;
    if (tm_directory_make(path, 0700))
        return -1;
    return open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static int posix_lock_dir(void *arg, int dir)
{
    (void)arg;
    return flock(dir, LOCK_EX | LOCK_NB);
}

static int posix_list_dir(void *arg, int dir, void (*each)(void *to, const char *name), void *to)
{
    (void)arg;
    int copy = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d) {
        if (copy >= 0)
            close(copy);
        return -1;
    }
    errno = 0;
    for (const struct dirent *e; (e = readdir(d)); errno = 0)
        each(to, e->d_name);
    int failed = errno;
    closedir(d);
    errno = failed;
    return failed ? -1 : 0;
}

static int posix_open(void *arg, int dir, const char *name, int flags)
{
    (void)arg;
    return openat(dir, name, flags | O_CLOEXEC | O_NOFOLLOW, 0600);
}

static int64_t posix_size(void *arg, int fd)
{
    (void)arg;
    struct stat st;
    return fstat(fd, &st) ? -1 : (int64_t)st.st_size;
}

static ssize_t posix_pread(void *arg, int fd, void *to, size_t len, int64_t offset)
{
    (void)arg;
    return pread(fd, to, len, offset);
}

static ssize_t posix_pwrite(void *arg, int fd, const void *from, size_t len, int64_t offset)
{
    (void)arg;
    return pwrite(fd, from, len, offset);
}

static int posix_ftruncate(void *arg, int fd, int64_t size)
{
    (void)arg;
    return ftruncate(fd, size);
}

static int posix_fdatasync(void *arg, int fd)
{
    (void)arg;
    return fdatasync(fd);
}

static int posix_fsync(void *arg, int fd)
{
    (void)arg;
    return fsync(fd);
}

static int posix_rename(void *arg, int dir, const char *from, const char *to)
{
    (void)arg;
    return renameat(dir, from, dir, to);
}

static int posix_unlink(void *arg, int dir, const char *name)
{
    (void)arg;
    return unlinkat(dir, name, 0);
}

static int posix_close(void *arg, int fd)
{
    (void)arg;
    return close(fd);
}

const struct tm_fs tm_fs_posix = {
    .open_dir = posix_open_dir,
    .lock_dir = posix_lock_dir,
    .list_dir = posix_list_dir,
    .open = posix_open,
    .size = posix_size,
    .pread = posix_pread,
    .pwrite = posix_pwrite,
    .ftruncate = posix_ftruncate,
    .fdatasync = posix_fdatasync,
    .fsync = posix_fsync,
    .rename = posix_rename,
    .unlink = posix_unlink,
    .close = posix_close,
};

ssize_t tm_fs_read(const struct tm_fs *fs, int fd, void *to, size_t len, uint64_t offset)
{
    size_t done = 0;
    while (done < len) {
        ssize_t n = fs->pread(fs->arg, fd, (uint8_t *)to + done, len - done, (int64_t)(offset + done));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return -1;
        if (n == 0)
            break;
        done += (size_t)n;
    }
    return (ssize_t)done;
}

int tm_fs_write(const struct tm_fs *fs, int fd, const void *from, size_t len, uint64_t offset)
{
    while (len) {
        ssize_t n = fs->pwrite(fs->arg, fd, from, len, (int64_t)offset);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            if (n == 0)
                errno = ENOSPC;
            return -1;
        }
        from = (const uint8_t *)from + n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int tm_fs_datasync(const struct tm_fs *fs, int fd)
{
    int rc;
    while ((rc = fs->fdatasync(fs->arg, fd)) && errno == EINTR)
        ;
    return rc;
}

int tm_fs_sync(const struct tm_fs *fs, int fd)
{
    int rc;
    while ((rc = fs->fsync(fs->arg, fd)) && errno == EINTR)
        ;
    return rc;
}

int tm_fs_truncate(const struct tm_fs *fs, int fd, uint64_t size)
{
    int rc;
    while ((rc = fs->ftruncate(fs->arg, fd, (int64_t)size)) && errno == EINTR)
        ;
    return rc;
}

int tm_fs_open(const struct tm_fs *fs, int dir, const char *name, int flags)
{
    int fd;
    while ((fd = fs->open(fs->arg, dir, name, flags)) < 0 && errno == EINTR)
        ;
    return fd;
}
