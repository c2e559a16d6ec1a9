#include "base/directory.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int tm_directory_sync(int fd)
{
    int rc;
    while ((rc = fsync(fd)) && errno == EINTR)
        ;
    return rc;
}

static int sync_above(const char *path)
{
    char above[PATH_MAX];
    size_t len = strlen(path);
    while (len > 1 && path[len - 1] == '/')
        len--;
    while (len && path[len - 1] != '/')
        len--;
    if ((size_t)snprintf(above, sizeof above, "%.*s", len ? (int)len : 1, len ? path : ".") >= sizeof above) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int fd = open(above, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd < 0 ? -1 : tm_directory_sync(fd), failed = errno;
    if (fd >= 0)
        close(fd);
    errno = failed;
    return rc;
}

int tm_directory_make(const char *path, mode_t mode)
{
    bool made = mkdir(path, mode) == 0;
    if (!made && errno != EEXIST)
        return -1;
    return sync_above(path) && made ? -1 : 0;
}

void tm_directory_make_above(const char *path, mode_t mode)
{
    char part[PATH_MAX];
    for (const char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        (void)snprintf(part, sizeof part, "%.*s", (int)(slash - path), path);
        if (mkdir(part, mode) == 0)
            (void)sync_above(part);
    }
}
