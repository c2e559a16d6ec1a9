/*
 * A library for LD_PRELOAD that lets a program's file system fail on purpose, in tests only. It looks at write, pwrite,
 * fsync, fdatasync, rename, link, mkdir, ftruncate and unlink on what lies below one directory and leaves all else alone.
 *
 *     TM_FAULT_DIR      the directory, absolute and without links
 *     TM_FAULT_CONTROL  a file that says what to do now; read at each such call, so a test changes it while the program
 *                       runs. Absent or empty: nothing. Its one line is made of words:
 *
 *         do=WHAT       kill    SIGKILL instead of the call
 *                       power   likewise, and everything that was not synced is taken away first: bytes behind the
 *                               synced length, overwritten bytes, new, renamed and removed names whose directory was
 *                               not synced
 *                       enospc, eio, erofs, edquot, einval   the call fails so and does nothing
 *                       eintr   likewise, but two calls in a row never do, so that a retry can succeed
 *                       short   a write takes half of its bytes, at least one; other calls are let through
 *         on=LIST       of the calls' names, with commas (all)
 *         nth=N         from the Nth such call on, counted from when the file was changed (1)
 *         count=N       for so many calls; 0: for as long as the file says so (0)
 *
 * Each fault that it does is a line "fault CALL PATH" in TM_FAULT_CONTROL.log, so that a test knows that it met something.
 *
 * Any thread: one lock over all that is kept. Its own work uses raw system calls and never passes through itself.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum action { NOTHING, KILL, POWER, SHORT, FAIL };

struct order {
    enum action action;
    int error;
    char on[128];
    unsigned long nth, count;
};

/* What a power loss would take back, newest first. */
enum undo_kind { UNDO_BYTES, UNDO_NEW, UNDO_DIR, UNDO_RENAME, UNDO_UNLINK };
struct undo {
    struct undo *next;
    enum undo_kind kind;
    char path[PATH_MAX], other[PATH_MAX]; /* other: where it came from; where a removed file is kept */
    off_t offset;
    size_t len;
    uint8_t bytes[];
};

struct file {
    struct file *next;
    char path[PATH_MAX];
    off_t synced; /* bytes that survive a power loss */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *dir, *control;
static char text[512]; /* of the control file, as it was read last */
static unsigned long calls;
static bool interrupted; /* the last call was */
static struct undo *undos;
static struct file *files;
static unsigned kept;

__attribute__((constructor)) static void begin(void)
{
    dir = getenv("TM_FAULT_DIR");
    control = getenv("TM_FAULT_CONTROL");
}

static long raw_write(int fd, const void *bytes, size_t len)
{
    return syscall(SYS_write, fd, bytes, len);
}

/* ---- where a call goes ---- */

static bool below(const char *path)
{
    size_t len = dir ? strlen(dir) : 0;
    return len && strncmp(path, dir, len) == 0 && (path[len] == '/' || path[len] == 0);
}

static bool path_of_fd(int fd, char *path)
{
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = dir && control ? readlink(link, path, PATH_MAX - 1) : -1;
    if (n <= 0)
        return false;
    path[n] = 0;
    return below(path);
}

static bool path_of_name(int at, const char *name, char *path)
{
    char base[PATH_MAX];
    if (!dir || !control)
        return false;
    if (name[0] == '/')
        snprintf(path, PATH_MAX, "%s", name);
    else {
        char link[64] = "/proc/self/cwd";
        if (at != AT_FDCWD)
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t n = readlink(link, base, sizeof base - 1);
        if (n <= 0)
            return false;
        base[n] = 0;
        if ((size_t)snprintf(path, PATH_MAX, "%s/%s", base, name) >= PATH_MAX)
            return false;
    }
    return below(path);
}

static void parent_of(const char *path, char *parent)
{
    snprintf(parent, PATH_MAX, "%s", path);
    char *slash = strrchr(parent, '/');
    if (slash)
        *slash = 0;
}

/* ---- what the control file says ---- */

static const char *word(const char *line, const char *key, char *to, size_t size)
{
    const char *at = strstr(line, key);
    to[0] = 0;
    if (at)
        snprintf(to, size, "%.*s", (int)strcspn(at + strlen(key), " \n"), at + strlen(key));
    return to;
}

static struct order parse(const char *line)
{
    static const struct {
        const char *name;
        enum action action;
        int error;
    } known[] = {{"kill", KILL, 0},        {"power", POWER, 0},    {"short", SHORT, 0},
                 {"enospc", FAIL, ENOSPC}, {"eio", FAIL, EIO},     {"erofs", FAIL, EROFS},
                 {"edquot", FAIL, EDQUOT}, {"eintr", FAIL, EINTR}, {"einval", FAIL, EINVAL}};
    struct order order = {.nth = 1};
    char value[64];
    word(line, "do=", value, sizeof value);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (strcmp(value, known[i].name) == 0) {
            order.action = known[i].action;
            order.error = known[i].error;
        }
    word(line, "on=", order.on, sizeof order.on);
    if (word(line, "nth=", value, sizeof value)[0])
        order.nth = strtoul(value, NULL, 10);
    if (word(line, "count=", value, sizeof value)[0])
        order.count = strtoul(value, NULL, 10);
    return order;
}

static struct order read_order(void)
{
    char now[sizeof text] = "";
    int fd = (int)syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (syscall(SYS_read, fd, now, sizeof now - 1) < 0)
            now[0] = 0;
        syscall(SYS_close, fd);
    }
    if (strcmp(now, text) != 0) {
        memcpy(text, now, sizeof text);
        calls = 0;
    }
    return parse(text);
}

static bool named(const char *list, const char *call)
{
    size_t len = strlen(call);
    for (const char *at = list; *at; at += strcspn(at, ",") + (at[strcspn(at, ",")] == ','))
        if (strcspn(at, ",") == len && strncmp(at, call, len) == 0)
            return true;
    return !*list;
}

static void tell(const char *call, const char *path)
{
    char name[PATH_MAX], line[PATH_MAX + 64];
    snprintf(name, sizeof name, "%s.log", control);
    int n = snprintf(line, sizeof line, "fault %s %s\n", call, path);
    int fd = (int)syscall(SYS_openat, AT_FDCWD, name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (fd >= 0) {
        raw_write(fd, line, (size_t)n);
        syscall(SYS_close, fd);
    }
}

/* ---- power loss ---- */

static struct file *file_of(const char *path, bool fresh_is_synced)
{
    for (struct file *f = files; f; f = f->next)
        if (strcmp(f->path, path) == 0)
            return f;
    struct file *f = calloc(1, sizeof *f);
    struct stat st;
    if (!f)
        abort();
    snprintf(f->path, sizeof f->path, "%s", path);
    f->synced = fresh_is_synced && stat(path, &st) == 0 ? st.st_size : 0;
    f->next = files;
    files = f;
    return f;
}

static struct undo *push(enum undo_kind kind, const char *path, const char *other, size_t len)
{
    struct undo *u = calloc(1, sizeof *u + len);
    if (!u)
        abort();
    u->kind = kind;
    u->len = len;
    snprintf(u->path, sizeof u->path, "%s", path);
    snprintf(u->other, sizeof u->other, "%s", other);
    u->next = undos;
    undos = u;
    return u;
}

/* What is about to be overwritten or cut off below the synced length is kept. */
static void keep_bytes(int fd, const char *path, off_t offset, size_t len)
{
    struct file *f = file_of(path, true);
    if (offset >= f->synced)
        return;
    if ((off_t)len > f->synced - offset)
        len = (size_t)(f->synced - offset);
    struct undo *u = push(UNDO_BYTES, path, "", len);
    char own[64];
    snprintf(own, sizeof own, "/proc/self/fd/%d", fd); /* it may be open for writing only */
    int in = (int)syscall(SYS_openat, AT_FDCWD, own, O_RDONLY | O_CLOEXEC);
    ssize_t n = in < 0 ? -1 : pread(in, u->bytes, len, offset);
    u->offset = offset;
    u->len = n > 0 ? (size_t)n : 0;
    if (in >= 0)
        syscall(SYS_close, in);
}

static void forget(const char *path, bool names)
{
    char parent[PATH_MAX];
    for (struct undo **at = &undos; *at;) {
        struct undo *u = *at;
        parent_of(u->path, parent);
        bool settled = names ? u->kind != UNDO_BYTES && strcmp(parent, path) == 0
                             : u->kind == UNDO_BYTES && strcmp(u->path, path) == 0;
        if (!settled) {
            at = &u->next;
            continue;
        }
        if (u->kind == UNDO_UNLINK)
            syscall(SYS_unlinkat, AT_FDCWD, u->other, 0);
        *at = u->next;
        free(u);
    }
}

static void on_synced(int fd, const char *path)
{
    struct stat st;
    if (fstat(fd, &st))
        return;
    if (S_ISDIR(st.st_mode)) {
        forget(path, true);
        return;
    }
    file_of(path, true)->synced = st.st_size;
    forget(path, false);
}

static void rename_file(const char *from, const char *to)
{
    for (struct file *f = files; f; f = f->next)
        if (strcmp(f->path, from) == 0)
            snprintf(f->path, sizeof f->path, "%s", to);
    for (struct undo *u = undos; u; u = u->next)
        if (u->kind == UNDO_BYTES && strcmp(u->path, from) == 0)
            snprintf(u->path, sizeof u->path, "%s", to);
}

static void keep_removed(const char *path)
{
    char where[PATH_MAX];
    snprintf(where, sizeof where, "%s.kept-%u", control, kept++);
    if (syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, where, 0) == 0)
        push(UNDO_UNLINK, path, where, 0);
}

/* With all that is in it, which nothing leads to any more. */
static void lose_dir(const char *path)
{
    char where[PATH_MAX];
    snprintf(where, sizeof where, "%s.lost-%u", control, kept++);
    syscall(SYS_renameat, AT_FDCWD, path, AT_FDCWD, where);
}

static void undo(const struct undo *u)
{
    int fd;
    switch (u->kind) {
    case UNDO_BYTES:
        fd = (int)syscall(SYS_openat, AT_FDCWD, u->path, O_WRONLY | O_CLOEXEC);
        if (fd >= 0)
            syscall(SYS_pwrite64, fd, u->bytes, u->len, u->offset);
        break;
    case UNDO_NEW:
        syscall(SYS_unlinkat, AT_FDCWD, u->path, 0);
        break;
    case UNDO_DIR:
        lose_dir(u->path);
        break;
    case UNDO_RENAME:
        syscall(SYS_renameat, AT_FDCWD, u->path, AT_FDCWD, u->other);
        rename_file(u->path, u->other);
        break;
    case UNDO_UNLINK:
        syscall(SYS_linkat, AT_FDCWD, u->other, AT_FDCWD, u->path, 0);
        break;
    }
}

static void lose_power(void)
{
    for (const struct file *f = files; f; f = f->next) {
        struct stat st;
        if (stat(f->path, &st) == 0 && st.st_size > f->synced)
            syscall(SYS_truncate, f->path, f->synced);
    }
    for (const struct undo *u = undos; u; u = u->next)
        undo(u);
}

/* ---- one call ---- */

/* Returns with the lock held: go on, or errno is set. */
static enum action meet(const char *call, const char *path)
{
    pthread_mutex_lock(&lock);
    struct order order = read_order();
    if (order.action == NOTHING || !named(order.on, call))
        return NOTHING;
    calls++;
    if (calls < order.nth || (order.count && calls >= order.nth + order.count))
        return NOTHING;
    if (order.error == EINTR && interrupted) {
        interrupted = false;
        return NOTHING;
    }
    interrupted = order.error == EINTR;
    tell(call, path);
    if (order.action == POWER)
        lose_power();
    if (order.action == POWER || order.action == KILL) {
        kill(getpid(), SIGKILL);
        for (;;)
            pause();
    }
    errno = order.error;
    return order.action;
}

static void leave(void)
{
    int error = errno;
    pthread_mutex_unlock(&lock);
    errno = error;
}

static ssize_t put(const char *call, int fd, const void *bytes, size_t len, off_t offset)
{
    char path[PATH_MAX];
    bool at = offset >= 0;
    if (!path_of_fd(fd, path))
        return at ? syscall(SYS_pwrite64, fd, bytes, len, offset) : raw_write(fd, bytes, len);
    ssize_t n = -1;
    enum action action = meet(call, path);
    if (action == SHORT && len > 1)
        len /= 2;
    if (action != FAIL) {
        off_t where = at ? offset : lseek(fd, 0, SEEK_CUR);
        keep_bytes(fd, path, where, len);
        n = at ? syscall(SYS_pwrite64, fd, bytes, len, offset) : raw_write(fd, bytes, len);
    }
    leave();
    return n;
}

static int sync_it(const char *call, long number, int fd)
{
    char path[PATH_MAX];
    if (!path_of_fd(fd, path))
        return (int)syscall(number, fd);
    int rc = -1;
    if (meet(call, path) != FAIL) {
        rc = (int)syscall(number, fd);
        if (rc == 0)
            on_synced(fd, path);
    }
    leave();
    return rc;
}

static int cut(int fd, off_t size)
{
    char path[PATH_MAX];
    struct stat st;
    if (!path_of_fd(fd, path))
        return (int)syscall(SYS_ftruncate, fd, size);
    int rc = -1;
    if (meet("ftruncate", path) != FAIL) {
        if (fstat(fd, &st) == 0 && st.st_size > size)
            keep_bytes(fd, path, size, (size_t)(st.st_size - size));
        rc = (int)syscall(SYS_ftruncate, fd, size);
    }
    leave();
    return rc;
}

static int move(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    char old[PATH_MAX], new[PATH_MAX];
    bool ours = path_of_name(from_at, from, old);
    if (!path_of_name(to_at, to, new) || !ours)
        return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    int rc = -1;
    if (meet("rename", new) != FAIL) {
        struct stat st;
        if (!(flags & RENAME_NOREPLACE) && stat(new, &st) == 0)
            keep_removed(new);
        rc = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
        if (rc == 0) {
            rename_file(old, new);
            push(UNDO_RENAME, new, old, 0);
        }
    }
    leave();
    return rc;
}

static int link_it(int from_at, const char *from, int to_at, const char *to, int flags)
{
    char path[PATH_MAX];
    if (!path_of_name(to_at, to, path))
        return (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
    int rc = -1;
    if (meet("link", path) != FAIL) {
        rc = (int)syscall(SYS_linkat, from_at, from, to_at, to, flags);
        if (rc == 0)
            push(UNDO_NEW, path, "", 0);
    }
    leave();
    return rc;
}

static int make_dir(int at, const char *name, mode_t mode)
{
    char path[PATH_MAX];
    if (!path_of_name(at, name, path))
        return (int)syscall(SYS_mkdirat, at, name, mode);
    int rc = -1;
    if (meet("mkdir", path) != FAIL) {
        rc = (int)syscall(SYS_mkdirat, at, name, mode);
        if (rc == 0)
            push(UNDO_DIR, path, "", 0);
    }
    leave();
    return rc;
}

static int drop(int at, const char *name, int flags)
{
    char path[PATH_MAX];
    if (!path_of_name(at, name, path))
        return (int)syscall(SYS_unlinkat, at, name, flags);
    int rc = -1;
    if (meet("unlink", path) != FAIL) {
        keep_removed(path);
        rc = (int)syscall(SYS_unlinkat, at, name, flags);
    }
    leave();
    return rc;
}

/* A file that is made here is not safe before its directory is synced. */
static int make(int at, const char *name, int flags, mode_t mode)
{
    char path[PATH_MAX];
    bool ours = (flags & O_CREAT) && path_of_name(at, name, path);
    struct stat st;
    bool is_new = ours && fstatat(at, name, &st, AT_SYMLINK_NOFOLLOW) != 0;
    int fd = (int)syscall(SYS_openat, at, name, flags, mode);
    if (fd >= 0 && is_new) {
        pthread_mutex_lock(&lock);
        push(UNDO_NEW, path, "", 0);
        file_of(path, false)->synced = 0;
        leave();
    }
    return fd;
}

/* ---- the names that programs call; both of the pairs that large files have made of one ---- */

ssize_t write(int fd, const void *bytes, size_t len)
{
    return put("write", fd, bytes, len, -1);
}

ssize_t pwrite(int fd, const void *bytes, size_t len, off_t offset)
{
    return put("pwrite", fd, bytes, len, offset);
}

ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t offset)
{
    return put("pwrite", fd, bytes, len, (off_t)offset);
}

int fsync(int fd)
{
    return sync_it("fsync", SYS_fsync, fd);
}

int fdatasync(int fd)
{
    return sync_it("fdatasync", SYS_fdatasync, fd);
}

int ftruncate(int fd, off_t size)
{
    return cut(fd, size);
}

int ftruncate64(int fd, off64_t size)
{
    return cut(fd, (off_t)size);
}

int rename(const char *from, const char *to)
{
    return move(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int from_at, const char *from, int to_at, const char *to)
{
    return move(from_at, from, to_at, to, 0);
}

int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    return move(from_at, from, to_at, to, flags);
}

int linkat(int from_at, const char *from, int to_at, const char *to, int flags)
{
    return link_it(from_at, from, to_at, to, flags);
}

int mkdir(const char *name, mode_t mode)
{
    return make_dir(AT_FDCWD, name, mode);
}

int mkdirat(int at, const char *name, mode_t mode)
{
    return make_dir(at, name, mode);
}

int unlink(const char *name)
{
    return drop(AT_FDCWD, name, 0);
}

int unlinkat(int at, const char *name, int flags)
{
    return drop(at, name, flags);
}

static mode_t mode_of(int flags, va_list rest)
{
    return flags & (O_CREAT | O_TMPFILE) ? va_arg(rest, mode_t) : 0;
}

#define OPENS_AT(name)                                                                                                 \
    int name(int at, const char *path, int flags, ...)                                                                 \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = mode_of(flags, rest);                                                                            \
        va_end(rest);                                                                                                  \
        return make(at, path, flags, mode);                                                                            \
    }
OPENS_AT(openat)
OPENS_AT(openat64)

#define OPENS(name)                                                                                                    \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode_t mode = mode_of(flags, rest);                                                                            \
        va_end(rest);                                                                                                  \
        return make(AT_FDCWD, path, flags, mode);                                                                      \
    }
OPENS(open)
OPENS(open64)
