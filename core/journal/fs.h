/*
 * The file system as the journal sees it: a table of functions, so that tests can fail the nth call, run out of space,
 * or take away what was not synced, all within one process. tm_fs_posix is the real one.
 *
 * Every function returns as the system call of its name does (-1 and errno). Names are relative to a directory handle.
 * Files are made 0600 and close-on-exec; the directory 0700. Functions are called from the thread that opens the
 * journal, from its own thread, and (open, size, pread, close) from readers' threads.
 */
#ifndef TM_JOURNAL_FS_H
#define TM_JOURNAL_FS_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct tm_fs {
    void *arg;                                    /* the first argument of each */
    int (*open_dir)(void *arg, const char *path); /* creates the last part of the path if it is missing */
    int (*lock_dir)(void *arg, int dir);          /* EWOULDBLOCK when somebody else holds it */
    int (*list_dir)(void *arg, int dir, void (*each)(void *to, const char *name), void *to);
    int (*open)(void *arg, int dir, const char *name, int flags);
    int64_t (*size)(void *arg, int fd);
    ssize_t (*pread)(void *arg, int fd, void *to, size_t len, int64_t offset);
    ssize_t (*pwrite)(void *arg, int fd, const void *from, size_t len, int64_t offset);
    int (*ftruncate)(void *arg, int fd, int64_t size);
    int (*fdatasync)(void *arg, int fd);
    int (*fsync)(void *arg, int fd); /* a file with its size, or a directory */
    int (*rename)(void *arg, int dir, const char *from, const char *to);
    int (*unlink)(void *arg, int dir, const char *name);
    int (*close)(void *arg, int fd);
};

extern const struct tm_fs tm_fs_posix;

/* Read up to `len` bytes, over interruptions and short reads; fewer only at the end of the file. -1 and errno. */
ssize_t tm_fs_read(const struct tm_fs *fs, int fd, void *to, size_t len, uint64_t offset);

/* Write all of it, over interruptions and short writes, or -1 and errno with any part of it written. */
int tm_fs_write(const struct tm_fs *fs, int fd, const void *from, size_t len, uint64_t offset);

/* These go on when a signal interrupts. */
int tm_fs_datasync(const struct tm_fs *fs, int fd);
int tm_fs_sync(const struct tm_fs *fs, int fd);
int tm_fs_truncate(const struct tm_fs *fs, int fd, uint64_t size);
int tm_fs_open(const struct tm_fs *fs, int dir, const char *name, int flags);

#endif
