/*
 * Secrets: text that must not be seen - a password, a token, a key.
 *
 * A secret lives in pages of its own, which are locked into memory where the system allows it, left out of core dumps,
 * and overwritten when the last reference is put back. Reference-counted, one thread at a time. The text never changes
 * and ends with a NUL that is not counted; it holds no other NUL.
 *
 * A file is read only when nobody but its owner (root or ourselves) can change it and nobody outside of its group can
 * read it: mode 0640 at most. One line break at its end is not part of the secret. Errors name the source, never a
 * byte of the text.
 */
#ifndef TM_BASE_SECRET_H
#define TM_BASE_SECRET_H

#include "base/error.h"

#define TM_SECRET_BYTES_MAX ((size_t)64 << 10)

struct tm_secret;

/* `source` says in errors where the text is from ("secret file /x"). TM_EINVAL: empty, too long, or with a NUL. */
int tm_secret_create(const void *text, size_t len, const char *source, struct tm_secret **out,
                     struct tm_error *err) TM_MUST_CHECK;
int tm_secret_read_file(const char *path, struct tm_secret **out, struct tm_error *err) TM_MUST_CHECK;

/* The file of that name in $CREDENTIALS_DIRECTORY (systemd, LoadCredential=). */
int tm_secret_read_credential(const char *name, struct tm_secret **out, struct tm_error *err) TM_MUST_CHECK;

/* A variable of the environment, which child processes inherit and /proc shows: only where nothing else is possible. */
int tm_secret_read_env(const char *name, struct tm_secret **out, struct tm_error *err) TM_MUST_CHECK;

struct tm_secret *tm_secret_take(struct tm_secret *secret);
void tm_secret_put(struct tm_secret *secret); /* NULL is fine */

const char *tm_secret_text(const struct tm_secret *secret);
size_t tm_secret_len(const struct tm_secret *secret);

#endif
