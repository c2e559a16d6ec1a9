/*
 * Which source files are run: those that nobody can change but root, the user who runs them, and whoever could make the
 * program do anything in any case.
 *
 * A file, and the directory that it is found in, must belong to root or to the process's user, and neither group nor
 * others may write it. Three things look like exceptions and are none:
 *
 *   group     A group with the number of the owner is his private one, and root's group is root: with umask 002 this is
 *             how a checkout looks.
 *   sticky    A directory where anybody may make files and nobody touch another's (/tmp) is as good as the files in it.
 *   checkout  As root, the owner of the Lua library is taken as root is. Every script requires that library, so what its
 *             owner can do to root he can do already; and a checkout that is mounted into a container, where root runs
 *             it, belongs to whoever made it outside.
 *
 * Directories further up are not looked at: who owns one of them could put only another file of root's in the place of
 * this one. What is checked is the open file, so no link and no rename after the check leads elsewhere.
 */
#ifndef TM_SCRIPT_TRUST_H
#define TM_SCRIPT_TRUST_H

#include "base/error.h"

#include <sys/stat.h>

/* `st` is of the open file; `library` the directory of the Lua library. TM_EDENIED, and the message says what to do. */
int tm_trust_file(const char *path, const struct stat *st, const char *library, struct tm_error *err) TM_MUST_CHECK;

#endif
