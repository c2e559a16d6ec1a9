/*
 * A disk in memory behind journal/fs.h. It knows which bytes and which directory entries were synced, so power can be
 * lost; it fails the nth call on demand, or ends the process there. It lives in shared memory: a forked child may work
 * on it and die, and the parent looks at what is left. Calls are serialised within a process.
 */
#ifndef TM_TEST_MEMDISK_H
#define TM_TEST_MEMDISK_H

#include "journal/fs.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MEM_FILES 48
#define MEM_NAME 40
#define MEM_DIR 1000
#define MEM_KILLED 77 /* exit status of a process that ended at a call */

enum mem_op {
    MEM_OPEN_DIR,
    MEM_LOCK,
    MEM_LIST,
    MEM_OPEN,
    MEM_SIZE,
    MEM_PREAD,
    MEM_PWRITE,
    MEM_FTRUNCATE,
    MEM_FDATASYNC,
    MEM_FSYNC,
    MEM_RENAME,
    MEM_UNLINK
};

enum mem_fault { MEM_NONE, MEM_KILL, MEM_ENOSPC, MEM_EIO, MEM_EINTR, MEM_SHORT };

struct mem_file {
    char name[MEM_NAME];        /* "" : no entry */
    char synced_name[MEM_NAME]; /* the entry as it would be after power loss */
    int open;                   /* handles */
    size_t size, synced_size;
    size_t data, synced; /* offsets of the contents within the disk */
};

struct memdisk {
    size_t bytes, file_bytes;
    uint64_t calls;
    uint64_t fault_at, fault_calls; /* which call fails first, and how many from there on */
    unsigned fault_ops;             /* bit mask of enum mem_op; 0: all */
    enum mem_fault fault;
    enum mem_op last_op; /* of the call at fault_at */
    bool locked;
    uint64_t random;
    struct mem_file files[MEM_FILES];
};

static pthread_mutex_t mem_lock = PTHREAD_MUTEX_INITIALIZER;

static inline uint8_t *mem_data(struct memdisk *d, const struct mem_file *f)
{
    return (uint8_t *)d + f->data;
}

static inline uint8_t *mem_synced(struct memdisk *d, const struct mem_file *f)
{
    return (uint8_t *)d + f->synced;
}

static inline struct memdisk *memdisk_create(size_t file_bytes)
{
    size_t bytes = sizeof(struct memdisk) + 2 * MEM_FILES * file_bytes;
    struct memdisk *d = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (d == MAP_FAILED)
        abort();
    d->bytes = bytes;
    d->file_bytes = file_bytes;
    for (size_t i = 0; i < MEM_FILES; i++) {
        d->files[i].data = sizeof *d + 2 * i * file_bytes;
        d->files[i].synced = d->files[i].data + file_bytes;
    }
    return d;
}

static inline void memdisk_destroy(struct memdisk *d)
{
    munmap(d, d->bytes);
}

static inline uint64_t mem_random(struct memdisk *d, uint64_t below)
{
    d->random += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t x = d->random;
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return (x ^ x >> 31) % below;
}

static inline void memdisk_no_faults(struct memdisk *d)
{
    d->fault = MEM_NONE;
    d->fault_at = d->fault_calls = 0;
    d->fault_ops = 0;
}

static inline void memdisk_clear(struct memdisk *d)
{
    for (int i = 0; i < MEM_FILES; i++) {
        struct mem_file *f = &d->files[i];
        f->name[0] = f->synced_name[0] = '\0';
        f->open = 0;
        f->size = f->synced_size = 0;
    }
    memdisk_no_faults(d);
    d->calls = 0;
    d->locked = false;
}

/* The same files in another disk of the same shape. */
static inline void memdisk_copy(struct memdisk *to, struct memdisk *from)
{
    memdisk_clear(to);
    for (int i = 0; i < MEM_FILES; i++) {
        struct mem_file *t = &to->files[i], *f = &from->files[i];
        memcpy(t->name, f->name, MEM_NAME);
        memcpy(t->synced_name, f->synced_name, MEM_NAME);
        t->size = f->size;
        t->synced_size = f->synced_size;
        memcpy(mem_data(to, t), mem_data(from, f), f->size);
        memcpy(mem_synced(to, t), mem_synced(from, f), f->synced_size);
    }
}

static inline struct mem_file *mem_find(struct memdisk *d, const char *name)
{
    for (int i = 0; i < MEM_FILES; i++)
        if (name[0] && strcmp(d->files[i].name, name) == 0)
            return &d->files[i];
    return NULL;
}

/* A file made by hand, as if it had always been there. */
static inline void memdisk_put(struct memdisk *d, const char *name, const void *bytes, size_t len)
{
    struct mem_file *f = mem_find(d, name);
    for (int i = 0; !f && i < MEM_FILES; i++)
        if (!d->files[i].name[0] && !d->files[i].synced_name[0])
            f = &d->files[i];
    if (!f || len > d->file_bytes)
        abort();
    (void)snprintf(f->name, MEM_NAME, "%s", name);
    (void)snprintf(f->synced_name, MEM_NAME, "%s", name);
    if (len) { /* an empty file may come without bytes */
        memcpy(mem_data(d, f), bytes, len);
        memcpy(mem_synced(d, f), bytes, len);
    }
    f->size = f->synced_size = len;
}

static inline int memdisk_open_handles(const struct memdisk *d)
{
    int open = d->locked;
    for (int i = 0; i < MEM_FILES; i++)
        open += d->files[i].open;
    return open;
}

/* ---- power loss ---- */

enum mem_loss {
    MEM_LOSS_NONE,   /* only the process died */
    MEM_LOSS_ALL,    /* what was not synced is gone */
    MEM_LOSS_PREFIX, /* of each file, some of what was not synced is there, from its beginning */
    MEM_LOSS_MIXED,  /* each 64 bytes: as before, as written, or garbage; entries as before or after */
    MEM_LOSS_KINDS
};

static inline void mem_lose_data(struct memdisk *d, struct mem_file *f, enum mem_loss loss)
{
    uint8_t *data = mem_data(d, f), *synced = mem_synced(d, f);
    size_t longer = f->size > f->synced_size ? f->size - f->synced_size : 0;
    size_t size = f->synced_size + (longer && loss != MEM_LOSS_ALL ? mem_random(d, longer + 1) : 0);
    if (loss == MEM_LOSS_MIXED && size < f->synced_size + longer && mem_random(d, 2))
        size = f->synced_size + longer;
    for (size_t at = 0; at < size && loss != MEM_LOSS_PREFIX; at += 64) {
        size_t len = size - at < 64 ? size - at : 64;
        size_t kept = at < f->synced_size ? (f->synced_size - at < len ? f->synced_size - at : len) : 0;
        uint64_t pick = loss == MEM_LOSS_ALL ? 0 : mem_random(d, 3);
        if (pick == 0) {
            memcpy(data + at, synced + at, kept);
            memset(data + at + kept, 0, len - kept);
        } else if (pick == 1 && memcmp(data + at, synced + at, kept) == 0) {
            for (size_t i = kept; i < len; i++)
                data[at + i] = (uint8_t)mem_random(d, 256);
        }
    }
    f->size = size;
}

static inline void mem_lose_entry(struct memdisk *d, struct mem_file *f, enum mem_loss loss)
{
    if (loss == MEM_LOSS_ALL || (loss == MEM_LOSS_MIXED && mem_random(d, 2))) {
        struct mem_file *other = f->synced_name[0] ? mem_find(d, f->synced_name) : NULL;
        if (!other || other == f)
            memcpy(f->name, f->synced_name, MEM_NAME);
        else if (loss == MEM_LOSS_ALL) {
            other->name[0] = '\0';
            memcpy(f->name, f->synced_name, MEM_NAME);
        }
    }
}

static inline void mem_lose_power(struct memdisk *d, enum mem_loss loss)
{
    for (int i = 0; i < MEM_FILES; i++)
        mem_lose_data(d, &d->files[i], loss);
    /* entries that lose their name first, so that names they had are free for those that had them before */
    for (int round = 0; round < 2; round++)
        for (int i = 0; i < MEM_FILES; i++)
            if ((d->files[i].synced_name[0] == '\0') == (round == 0))
                mem_lose_entry(d, &d->files[i], loss);
    for (int i = 0; i < MEM_FILES; i++) {
        struct mem_file *f = &d->files[i];
        if (!f->name[0])
            f->size = 0;
        memcpy(f->synced_name, f->name, MEM_NAME);
        memcpy(mem_synced(d, f), mem_data(d, f), f->size);
        f->synced_size = f->size;
    }
}

/* The process is dead: its handles and its lock are gone. The machine may be dead too; then what is left is all that
 * there is, and counts as synced. */
static inline void memdisk_reboot(struct memdisk *d, enum mem_loss loss)
{
    if (loss != MEM_LOSS_NONE)
        mem_lose_power(d, loss);
    for (int i = 0; i < MEM_FILES; i++)
        d->files[i].open = 0;
    d->locked = false;
    memdisk_no_faults(d);
}

/* ---- the calls ---- */

/* Enter a call; true when it must fail, with errno set. `*part` is set where a write must stop half-way. */
static inline bool mem_fails(struct memdisk *d, enum mem_op op, bool *part)
{
    d->calls++;
    *part = false;
    if (d->fault == MEM_NONE || (d->fault_ops && !(d->fault_ops & 1u << op)))
        return false;
    if (d->calls < d->fault_at || d->calls >= d->fault_at + d->fault_calls)
        return false;
    d->last_op = op;
    *part = op == MEM_PWRITE && (d->fault == MEM_SHORT || d->fault == MEM_KILL || d->calls % 2);
    if (d->fault == MEM_KILL && !*part)
        _exit(MEM_KILLED);
    errno = d->fault == MEM_ENOSPC ? ENOSPC : d->fault == MEM_EINTR ? EINTR : EIO;
    return d->fault != MEM_SHORT;
}

#define MEM_ENTER(op)                                                                                                  \
    struct memdisk *d = arg;                                                                                           \
    bool part;                                                                                                         \
    pthread_mutex_lock(&mem_lock);                                                                                     \
    bool fails = mem_fails(d, op, &part);                                                                              \
    (void)part
#define MEM_RETURN(value)                                                                                              \
    do {                                                                                                               \
        int mem_errno = errno;                                                                                         \
        pthread_mutex_unlock(&mem_lock);                                                                               \
        errno = mem_errno;                                                                                             \
        return value;                                                                                                  \
    } while (0)

static inline int mem_open_dir(void *arg, const char *path)
{
    MEM_ENTER(MEM_OPEN_DIR);
    (void)path;
    MEM_RETURN(fails ? -1 : MEM_DIR);
}

static inline int mem_lock_dir(void *arg, int dir)
{
    MEM_ENTER(MEM_LOCK);
    (void)dir;
    if (!fails && d->locked) {
        errno = EWOULDBLOCK;
        fails = true;
    }
    if (!fails)
        d->locked = true;
    MEM_RETURN(fails ? -1 : 0);
}

static inline int mem_list_dir(void *arg, int dir, void (*each)(void *to, const char *name), void *to)
{
    MEM_ENTER(MEM_LIST);
    (void)dir;
    each(to, ".");
    for (int i = MEM_FILES - 1; i >= 0 && !fails; i--)
        if (d->files[i].name[0])
            each(to, d->files[i].name);
    MEM_RETURN(fails ? -1 : 0);
}

static inline struct mem_file *mem_make(struct memdisk *d, const char *name)
{
    for (int i = 0; i < MEM_FILES; i++) {
        struct mem_file *f = &d->files[i];
        if (f->name[0] || f->synced_name[0] || f->open)
            continue;
        (void)snprintf(f->name, MEM_NAME, "%s", name);
        f->size = f->synced_size = 0;
        return f;
    }
    abort(); /* the test needs more files */
}

static inline int mem_open(void *arg, int dir, const char *name, int flags)
{
    MEM_ENTER(MEM_OPEN);
    (void)dir;
    struct mem_file *f = fails ? NULL : mem_find(d, name);
    if (!fails && !f && !(flags & O_CREAT))
        errno = ENOENT;
    else if (f && (flags & O_CREAT) && (flags & O_EXCL)) {
        errno = EEXIST;
        f = NULL;
    } else if (!fails && !f)
        f = mem_make(d, name);
    if (f && (flags & O_TRUNC))
        f->size = 0;
    if (f)
        f->open++;
    MEM_RETURN(f ? (int)(f - d->files) : -1);
}

static inline int64_t mem_size(void *arg, int fd)
{
    MEM_ENTER(MEM_SIZE);
    MEM_RETURN(fails ? -1 : (int64_t)d->files[fd].size);
}

static inline ssize_t mem_pread(void *arg, int fd, void *to, size_t len, int64_t offset)
{
    MEM_ENTER(MEM_PREAD);
    const struct mem_file *f = &d->files[fd];
    size_t n = (size_t)offset >= f->size ? 0 : f->size - (size_t)offset;
    n = n > len ? len : n;
    if (!fails && n)
        memcpy(to, mem_data(d, f) + offset, n);
    MEM_RETURN(fails ? -1 : (ssize_t)n);
}

static inline ssize_t mem_pwrite(void *arg, int fd, const void *from, size_t len, int64_t offset)
{
    MEM_ENTER(MEM_PWRITE);
    struct mem_file *f = &d->files[fd];
    size_t n = part ? (len + 1) / 2 : fails ? 0 : len;
    if ((size_t)offset + n > d->file_bytes)
        abort(); /* the test needs larger files */
    if (n) {
        if ((size_t)offset > f->size)
            memset(mem_data(d, f) + f->size, 0, (size_t)offset - f->size);
        memcpy(mem_data(d, f) + offset, from, n);
        f->size = (size_t)offset + n > f->size ? (size_t)offset + n : f->size;
    }
    if (part && d->fault == MEM_KILL)
        _exit(MEM_KILLED);
    MEM_RETURN(fails ? -1 : (ssize_t)n);
}

static inline int mem_ftruncate(void *arg, int fd, int64_t size)
{
    MEM_ENTER(MEM_FTRUNCATE);
    struct mem_file *f = &d->files[fd];
    if (!fails && (size_t)size > f->size)
        memset(mem_data(d, f) + f->size, 0, (size_t)size - f->size);
    if (!fails)
        f->size = (size_t)size;
    MEM_RETURN(fails ? -1 : 0);
}

static inline void mem_sync_file(struct memdisk *d, struct mem_file *f)
{
    memcpy(mem_synced(d, f), mem_data(d, f), f->size);
    f->synced_size = f->size;
}

static inline int mem_fdatasync(void *arg, int fd)
{
    MEM_ENTER(MEM_FDATASYNC);
    if (!fails)
        mem_sync_file(d, &d->files[fd]);
    MEM_RETURN(fails ? -1 : 0);
}

static inline int mem_fsync(void *arg, int fd)
{
    MEM_ENTER(MEM_FSYNC);
    if (!fails && fd != MEM_DIR)
        mem_sync_file(d, &d->files[fd]);
    for (int i = 0; i < MEM_FILES && !fails && fd == MEM_DIR; i++)
        memcpy(d->files[i].synced_name, d->files[i].name, MEM_NAME);
    MEM_RETURN(fails ? -1 : 0);
}

static inline int mem_rename(void *arg, int dir, const char *from, const char *to)
{
    MEM_ENTER(MEM_RENAME);
    (void)dir;
    struct mem_file *f = fails ? NULL : mem_find(d, from), *old = fails ? NULL : mem_find(d, to);
    if (!fails && !f) {
        errno = ENOENT;
        fails = true;
    }
    if (old && f)
        old->name[0] = '\0';
    if (f)
        (void)snprintf(f->name, MEM_NAME, "%s", to);
    MEM_RETURN(fails ? -1 : 0);
}

static inline int mem_unlink(void *arg, int dir, const char *name)
{
    MEM_ENTER(MEM_UNLINK);
    (void)dir;
    struct mem_file *f = fails ? NULL : mem_find(d, name);
    if (!fails && !f) {
        errno = ENOENT;
        fails = true;
    }
    if (f)
        f->name[0] = '\0';
    MEM_RETURN(fails ? -1 : 0);
}

/* Closing cannot fail in a way that matters, so it is not a call that is counted. */
static inline int mem_close(void *arg, int fd)
{
    struct memdisk *d = arg;
    pthread_mutex_lock(&mem_lock);
    if (fd == MEM_DIR)
        d->locked = false;
    else
        d->files[fd].open--;
    pthread_mutex_unlock(&mem_lock);
    return 0;
}

static inline struct tm_fs memdisk_fs(struct memdisk *d)
{
    return (struct tm_fs){
        .arg = d,
        .open_dir = mem_open_dir,
        .lock_dir = mem_lock_dir,
        .list_dir = mem_list_dir,
        .open = mem_open,
        .size = mem_size,
        .pread = mem_pread,
        .pwrite = mem_pwrite,
        .ftruncate = mem_ftruncate,
        .fdatasync = mem_fdatasync,
        .fsync = mem_fsync,
        .rename = mem_rename,
        .unlink = mem_unlink,
        .close = mem_close,
    };
}

#endif
