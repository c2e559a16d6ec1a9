/*
 * What people changed by hand in the running process: the newest TM_CHANGES_MAX, with the generation of the script in which
 * each one was made. A reload brings what the files say, so those of an older generation hold no longer. Each is logged.
 * Policy thread.
 */
#ifndef TM_SCRIPT_CHANGES_H
#define TM_SCRIPT_CHANGES_H

#include "base/buf.h"

#define TM_CHANGES_MAX 200

struct tm_changes;

struct tm_changes *tm_changes_create(void);
void tm_changes_destroy(struct tm_changes *c); /* NULL is fine */

/* Who is at work from now on: "uid 1000, session 3"; NULL: nobody in particular. Copied. */
void tm_changes_set_who(struct tm_changes *c, const char *who);

/* `what`: the command that does it again; `keep`: what to write into the script instead; NULL: nothing. Both are cut at
 * 1,000 bytes. */
void tm_changes_note(struct tm_changes *c, uint64_t generation, const char *what, const char *keep);

/* How many were made in that generation. */
size_t tm_changes_count(const struct tm_changes *c, uint64_t generation);

/* [{"at":us,"generation":n,"who":..,"what":..,"keep":..}], the oldest first. */
int tm_changes_put(const struct tm_changes *c, struct tm_buf *out) TM_MUST_CHECK;

#endif
