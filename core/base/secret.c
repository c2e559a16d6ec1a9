#include "base/secret.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define MODE_TOO_OPEN (S_IWGRP | S_IXGRP | S_IRWXO)

struct tm_secret {
    size_t refs, len, mapped;
    char text[];
};

int tm_secret_create(const void *text, size_t len, const char *source, struct tm_secret **out, struct tm_error *err)
{
    if (len == 0)
        return tm_error_set(err, TM_EINVAL, "%s is empty", source);
    if (len > TM_SECRET_BYTES_MAX)
        return tm_error_set(err, TM_EINVAL, "%s is longer than %zu bytes", source, TM_SECRET_BYTES_MAX);
    if (memchr(text, '\0', len))
        return tm_error_set(err, TM_EINVAL, "%s holds a NUL byte: expected text", source);
    size_t mapped = sizeof(struct tm_secret) + len + 1;
    struct tm_secret *s = mmap(NULL, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (s == MAP_FAILED)
        return tm_error_set(err, TM_ENOMEM, "no memory for %s", source);
    (void)mlock(s, mapped); /* RLIMIT_MEMLOCK may be 0 */
    (void)madvise(s, mapped, MADV_DONTDUMP);
    s->refs = 1;
    s->len = len;
    s->mapped = mapped;
    memcpy(s->text, text, len);
    *out = s;
    return TM_OK;
}

struct tm_secret *tm_secret_take(struct tm_secret *secret)
{
    secret->refs++;
    return secret;
}

void tm_secret_put(struct tm_secret *secret)
{
    if (!secret || --secret->refs > 0)
        return;
    size_t mapped = secret->mapped;
    explicit_bzero(secret, mapped);
    (void)munmap(secret, mapped);
}

const char *tm_secret_text(const struct tm_secret *secret)
{
    return secret->text;
}

size_t tm_secret_len(const struct tm_secret *secret)
{
    return secret->len;
}

/* ---- sources ---- */

static int check_file(int fd, const char *path, struct tm_error *err)
{
    struct stat st;
    if (fstat(fd, &st))
        return tm_error_errno(err, TM_EIO, errno, "cannot stat secret file %s", path);
    if (!S_ISREG(st.st_mode))
        return tm_error_set(err, TM_EINVAL, "secret file %s is not a regular file", path);
    unsigned mode = st.st_mode & 07777, user = st.st_uid;
    if (user != 0 && user != geteuid())
        return tm_error_set(err, TM_EDENIED,
                            "secret file %s belongs to user %u (mode %04o): expected root or the user that runs this, "
                            "%u, and mode 0600: chown %u %s && chmod 600 %s",
                            path, user, mode, (unsigned)geteuid(), (unsigned)geteuid(), path, path);
    if (mode & MODE_TOO_OPEN)
        return tm_error_set(err, TM_EDENIED,
                            "secret file %s is open to others (mode %04o): expected 0600, or 0640 at most: "
                            "chmod 600 %s",
                            path, mode, path);
    return TM_OK;
}

/* One byte more than the longest secret and its line break fits, so that what is too long is seen. */
static int read_all(int fd, const char *path, char *bytes, size_t size, size_t *len, struct tm_error *err)
{
    *len = 0;
    while (*len < size) {
        ssize_t n = read(fd, bytes + *len, size - *len);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return tm_error_errno(err, TM_EIO, errno, "cannot read secret file %s", path);
        if (n == 0)
            break;
        *len += (size_t)n;
    }
    return TM_OK;
}

static size_t without_line_break(const char *bytes, size_t len)
{
    if (len && bytes[len - 1] == '\n')
        len--;
    if (len && bytes[len - 1] == '\r')
        len--;
    return len;
}

static int read_secret(int fd, const char *path, struct tm_secret **out, struct tm_error *err)
{
    static const size_t size = TM_SECRET_BYTES_MAX + 3;
    char source[PATH_MAX + 16];
    size_t len = 0;
    (void)snprintf(source, sizeof source, "secret file %s", path);
    char *bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (bytes == MAP_FAILED)
        return tm_error_set(err, TM_ENOMEM, "no memory for %s", source);
    (void)madvise(bytes, size, MADV_DONTDUMP);
    int rc = read_all(fd, path, bytes, size, &len, err);
    if (!rc)
        rc = tm_secret_create(bytes, without_line_break(bytes, len), source, out, err);
    explicit_bzero(bytes, size);
    (void)munmap(bytes, size);
    return rc;
}

int tm_secret_read_file(const char *path, struct tm_secret **out, struct tm_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK); /* a FIFO would block before it is refused */
    if (fd < 0)
        return tm_error_errno(err, TM_ENOENT, errno, "cannot open secret file %s", path);
    int rc = check_file(fd, path, err);
    if (!rc)
        rc = read_secret(fd, path, out, err);
    close(fd);
    return rc;
}

int tm_secret_read_credential(const char *name, struct tm_secret **out, struct tm_error *err)
{
    char path[PATH_MAX];
    const char *dir = getenv("CREDENTIALS_DIRECTORY");
    if (!*name || strchr(name, '/') || name[0] == '.')
        return tm_error_set(err, TM_EINVAL, "credential \"%s\": expected the name of a credential, not a path", name);
    if (!dir || dir[0] != '/')
        return tm_error_set(
            err, TM_ENOENT,
            "credential %s: $CREDENTIALS_DIRECTORY is not set; the systemd unit needs LoadCredential=%s:"
            "/path",
            name, name);
    int n = snprintf(path, sizeof path, "%s/%s", dir, name);
    if (n < 0 || (size_t)n >= sizeof path)
        return tm_error_set(err, TM_EINVAL, "credential %s: its path is too long", name);
    return tm_secret_read_file(path, out, err);
}

int tm_secret_read_env(const char *name, struct tm_secret **out, struct tm_error *err)
{
    char source[128];
    const char *text = getenv(name);
    if (!text)
        return tm_error_set(err, TM_ENOENT, "the environment has no variable %s", name);
    (void)snprintf(source, sizeof source, "the environment variable %s", name);
    return tm_secret_create(text, strlen(text), source, out, err);
}
