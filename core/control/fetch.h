/*
 * The state document of a running process (control/state.h), asked for without blocking: over its control socket, or by
 * GET /state at its admin address, which answers while the policy thread hangs.
 *
 *     tm_fetch_begin -> poll(fd, events) -> tm_fetch_step ... 1: the document is there -> tm_fetch_end
 *
 * The name of an address is looked up in begin, which may take a moment. One thread.
 */
#ifndef TM_CONTROL_FETCH_H
#define TM_CONTROL_FETCH_H

#include "base/buf.h"

#define TM_FETCH_BYTES_MAX ((size_t)16 << 20)

/* One of the two; the other is NULL. */
struct tm_fetch_source {
    const char *socket;  /* path */
    const char *address; /* "host:port" */
};

struct tm_fetch;

int tm_fetch_begin(const struct tm_fetch_source *source, struct tm_fetch **out, struct tm_error *err) TM_MUST_CHECK;
void tm_fetch_end(struct tm_fetch *f); /* at any moment; NULL is fine */

int tm_fetch_fd(const struct tm_fetch *f);
short tm_fetch_events(const struct tm_fetch *f); /* for poll */

/* When it is ready: 1: *document (until the end; 16 readable bytes follow it); 0: not yet; TM_EIO, TM_EPARSE, TM_EFULL. */
int tm_fetch_step(struct tm_fetch *f, const char **document, size_t *len, struct tm_error *err) TM_MUST_CHECK;

/* All of it, waiting at most `timeout_us`: the document is appended. */
int tm_fetch_now(const struct tm_fetch_source *source, int64_t timeout_us, struct tm_buf *out,
                 struct tm_error *err) TM_MUST_CHECK;

#endif
