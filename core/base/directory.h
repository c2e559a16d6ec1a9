/*
 * Directories that outlive a power loss: a name is durable only when the directory that holds it was synced (fsync(2)).
 * Blocking; any thread. Results are as of mkdir(2): 0, or -1 and errno.
 */
#ifndef TM_BASE_DIRECTORY_H
#define TM_BASE_DIRECTORY_H

#include <sys/types.h>

/*
 * Make the last part of `path`, and its name durable. One that is there already is as good: whoever made it may have lost
 * its power before its name was durable, so that is done now, as far as the directory above may be read.
 */
int tm_directory_make(const char *path, mode_t mode);

/* All parts but the last, where they are missing; one that cannot be made is for whoever uses the path to tell. */
void tm_directory_make_above(const char *path, mode_t mode);

/* fsync, again when a signal came in between. */
int tm_directory_sync(int fd);

#endif
