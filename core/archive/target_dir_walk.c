/* Walks over a directory target: in the order of whole keys, with the names of one directory a level in memory. */
#include "archive/target_dir.h"
#include "archive/target_private.h"
#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct walk {
    const struct tm_dir *dir;
    struct tm_error *err;
    char key[TM_TARGET_KEY_MAX + 258]; /* where the walk is: "" or with a slash at its end */

    /* a listing */
    const char *prefix, *after; /* after: NULL from the first on */
    tm_target_each *each;       /* NULL: it is a sweep */
    void *arg;

    /* a sweep */
    int64_t before_us;
    size_t removed;
};

/* Names of one directory; those of directories end in a slash, so that they sort as keys do. */
struct names {
    char **names;
    size_t count, room;
};

static void free_names(struct names *n)
{
    for (size_t i = 0; i < n->count; i++)
        free(n->names[i]);
    free(n->names);
}

static int add_name(struct names *n, const char *name, bool is_dir)
{
    if (n->count == n->room) {
        size_t room = n->room ? 2 * n->room : 32;
        char **grown = realloc(n->names, room * sizeof *grown);
        if (!grown)
            return -1;
        n->names = grown;
        n->room = room;
    }
    char *copy = NULL;
    if (asprintf(&copy, "%s%s", name, is_dir ? "/" : "") < 0)
        return -1;
    n->names[n->count++] = copy;
    return 0;
}

static int by_bytes(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static bool is_temporary(const char *name)
{
    return !strncmp(name, TM_DIR_TEMPORARY, strlen(TM_DIR_TEMPORARY));
}

/* Regular files and directories that this walk is about. */
static int take_entry(const struct walk *w, int fd, const char *name, struct names *to)
{
    struct stat st;
    bool is_ours = name[0] == '.' && !w->each && is_temporary(name);
    if (name[0] == '.' && !is_ours)
        return 0;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? 0 : -1; /* gone since */
    if (S_ISDIR(st.st_mode) && !is_ours)
        return add_name(to, name, true);
    return S_ISREG(st.st_mode) && (w->each || is_ours) ? add_name(to, name, false) : 0;
}

static int read_names(const struct walk *w, int fd, struct names *to)
{
    int copy = openat(fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), rc = 0;
    DIR *d = copy < 0 ? NULL : fdopendir(copy);
    if (!d) {
        if (copy >= 0)
            close(copy);
        return -1;
    }
    errno = 0;
    for (const struct dirent *e; !rc && (e = readdir(d)); errno = 0)
        rc = take_entry(w, fd, e->d_name, to);
    int failed = errno;
    closedir(d);
    errno = failed;
    if (rc || failed)
        return -1;
    if (to->count)
        qsort(to->names, to->count, sizeof *to->names, by_bytes);
    return 0;
}

static bool starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* May a directory (its key ends in a slash) hold what is asked for? */
static bool leads_on(const struct walk *w)
{
    if (!starts(w->key, w->prefix) && !starts(w->prefix, w->key))
        return false;
    return !w->after || strcmp(w->key, w->after) > 0 || starts(w->after, w->key);
}

static int on_object(struct walk *w, int fd, const char *name)
{
    struct stat st;
    if (!starts(w->key, w->prefix) || (w->after && strcmp(w->key, w->after) <= 0) || !tm_target_is_key(w->key))
        return TM_OK;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW))
        return errno == ENOENT ? TM_OK : tm_dir_failed(w->dir, w->key, "stat", w->err);
    struct tm_object object = {.size = (uint64_t)st.st_size};
    object.modified_us = st.st_mtim.tv_sec * TM_US_PER_S + st.st_mtim.tv_nsec / 1000;
    return w->each(w->arg, w->key, &object);
}

static int on_temporary(struct walk *w, int fd, const char *name)
{
    struct stat st;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) || st.st_mtim.tv_sec * TM_US_PER_S >= w->before_us)
        return TM_OK;
    if (unlinkat(fd, name, 0))
        return errno == ENOENT ? TM_OK : tm_dir_failed(w->dir, w->key, "remove", w->err);
    w->removed++;
    return TM_OK;
}

static int walk(struct walk *w, int fd);

static int on_directory(struct walk *w, int fd, const char *name)
{
    char plain[256];
    if (!leads_on(w))
        return TM_OK;
    (void)snprintf(plain, sizeof plain, "%.*s", (int)strlen(name) - 1, name);
    int below = openat(fd, plain, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (below < 0)
        return errno == ENOENT ? TM_OK : tm_dir_failed(w->dir, w->key, "open", w->err);
    int rc = walk(w, below);
    close(below);
    return rc;
}

static int on_name(struct walk *w, int fd, size_t at, const char *name)
{
    size_t len = strlen(name);
    if (at + len >= sizeof w->key || at + len > TM_TARGET_KEY_MAX + 1)
        return TM_OK; /* no key can be that long */
    if (w->dir->stop && atomic_load_explicit(w->dir->stop, memory_order_relaxed))
        return tm_error_set(w->err, TM_ESTOPPED, "asked to stop");
    memcpy(w->key + at, name, len + 1);
    int rc = name[len - 1] == '/' ? on_directory(w, fd, name)
             : w->each            ? on_object(w, fd, name)
                                  : on_temporary(w, fd, name);
    w->key[at] = '\0';
    return rc;
}

static int walk(struct walk *w, int fd)
{
    struct names n = {0};
    size_t at = strlen(w->key);
    int rc = read_names(w, fd, &n) ? tm_dir_failed(w->dir, w->key, "list", w->err) : TM_OK;
    for (size_t i = 0; !rc && i < n.count; i++)
        rc = on_name(w, fd, at, n.names[i]);
    free_names(&n);
    return rc;
}

int tm_dir_list(void *self, const char *prefix, const char *after, tm_target_each *each, void *arg,
                struct tm_error *err)
{
    const struct tm_dir *d = self;
    struct walk w = {.dir = d, .err = err, .prefix = prefix, .after = after, .each = each, .arg = arg};
    return walk(&w, d->fd);
}

int tm_dir_sweep(void *self, int64_t before_us, size_t *removed, struct tm_error *err)
{
    const struct tm_dir *d = self;
    struct walk w = {.dir = d, .err = err, .prefix = "", .before_us = before_us};
    int rc = walk(&w, d->fd);
    *removed = w.removed;
    return rc;
}
