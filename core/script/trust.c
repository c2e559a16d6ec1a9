#include "script/trust.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* `what` begins the message: "" for the file itself, "its directory " else. */
static int check_writers(const char *what, const char *path, const struct stat *st, struct tm_error *err)
{
    unsigned mode = st->st_mode & 07777, group = st->st_gid;
    if (S_ISDIR(st->st_mode) && (mode & S_ISVTX))
        return TM_OK;
    if (mode & S_IWOTH)
        return tm_error_set(err, TM_EDENIED, "%scan be written by everybody (mode %04o): chmod go-w %s", what, mode,
                            path);
    if ((mode & S_IWGRP) && group != 0 && group != st->st_uid)
        return tm_error_set(err, TM_EDENIED, "%scan be written by group %u (mode %04o): chmod go-w %s", what, group,
                            mode, path);
    return TM_OK;
}

static int check_owner(const char *what, const char *path, const struct stat *st, const char *library,
                       struct tm_error *err)
{
    unsigned owner = st->st_uid, self = geteuid();
    struct stat of_library;
    if (owner == 0 || owner == self)
        return TM_OK;
    if (self != 0)
        return tm_error_set(err, TM_EDENIED, "%sbelongs to user %u: expected root or user %u, who runs it: chown %u %s",
                            what, owner, self, self, path);
    if (stat(library, &of_library) == 0 && of_library.st_uid == owner)
        return TM_OK;
    return tm_error_set(err, TM_EDENIED,
                        "%sbelongs to user %u, and root runs it: expected root: chown root %s, or run it as that user",
                        what, owner, path);
}

static int check(const char *what, const char *path, const struct stat *st, const char *library, struct tm_error *err)
{
    int rc = check_owner(what, path, st, library, err);
    return rc ? rc : check_writers(what, path, st, err);
}

int tm_trust_file(const char *path, const struct stat *st, const char *library, struct tm_error *err)
{
    char directory[PATH_MAX], what[PATH_MAX + 32];
    struct stat of_directory;
    int rc = check("", path, st, library, err);
    if (rc)
        return rc;
    const char *slash = strrchr(path, '/');
    (void)snprintf(directory, sizeof directory, "%.*s", slash ? (int)(slash - path) + 1 : 2, slash ? path : "./");
    if (stat(directory, &of_directory) < 0)
        return tm_error_errno(err, TM_EIO, errno, "cannot stat its directory %s", directory);
    (void)snprintf(what, sizeof what, "its directory %s ", directory);
    return check(what, directory, &of_directory, library, err);
}
