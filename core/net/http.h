/*
 * HTTP client: libcurl multi on a loop; never blocks it. https verifies, TLS 1.2 or later; http is allowed to
 * loopback only. Redirects are not followed (the 3xx is the answer), proxies of the environment not used,
 * bodies bounded, at most `parallel_max` requests at once, the rest wait in a bounded queue. One loop's
 * thread. Idempotent requests that fail in a way libcurl recommends to retry (CURLE_HTTP2, SEND, RECV or no
 * answer on a reused connection) are retried once on a fresh connection. Requests are signed when they start,
 * not when they are queued; the timeout counts from there, too. Headers and bodies may be secret: no error repeats
 * them, and the copies made here are overwritten at the end.
 */
#ifndef TM_NET_HTTP_H
#define TM_NET_HTTP_H

#include "base/buf.h"
#include "loop/loop.h"
#include "net/auth.h"

#include <stdbool.h>

struct tm_http;

#define TM_HTTP_RESPONSE_BYTES ((size_t)64 << 20) /* default of response_bytes_max */

struct tm_http_request {
    const char *method; /* "GET", "POST", ... */
    const char *url;
    bool url_is_secret;         /* only its host goes into errors, not the path (queries never do) */
    const char *const *headers; /* "Name: value", NULL-terminated; may be NULL */
    const char *body;           /* NULL: none */
    size_t body_len;
    const struct tm_auth *auth; /* NULL: unsigned; held until on_done */
    int64_t timeout_us;         /* 0: 30 s */
    size_t response_bytes_max;  /* 0: 64 MiB */
};

struct tm_http_response {
    int status;               /* 0: no HTTP answer; error says why */
    const char *content_type; /* "" if none */
    const char *retry_after;  /* "" if none */
    struct tm_buf *body;      /* 16 readable bytes follow; may be taken over by swapping with an empty one */
    const char *error;        /* NULL when status > 0 */
    int64_t elapsed_us;
};

typedef void tm_http_done(void *arg, struct tm_http_response *response);

int tm_http_create(struct tm_loop *loop, size_t parallel_max, size_t queue_max, struct tm_http **out,
                   struct tm_error *err) TM_MUST_CHECK;
void tm_http_destroy(struct tm_http *http); /* outstanding requests end with on_done(status 0, "stopped") */

/* on_done is called once from the loop, never from inside this call; it may send, but not destroy. TM_EFULL
 * when the queue is full. */
int tm_http_send(struct tm_http *http, const struct tm_http_request *request, tm_http_done *on_done, void *arg,
                 struct tm_error *err) TM_MUST_CHECK;

#endif
