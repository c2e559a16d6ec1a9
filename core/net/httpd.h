/*
 * HTTP server for health, metrics and the console: HTTP/1.1 on a loop, GET and HEAD only, keep-alive.
 *
 * It is our own and not libwebsockets', which hangs up on much of what has to be answered here (431, 414, 405
 * for an unknown method, 413, 400 for smuggling). A WebSocket for the console can still be handed to
 * libwebsockets: its lws_adopt_socket_vhost_readbuf takes over a socket together with the request that was
 * read from it.
 *
 * Limits (FAILURES c4): 8 KiB of headers (431), 2 KiB target (414), 5 s to send them, 10 s to take the
 * answer, any other method 405, a body 413, no version banner, X-Content-Type-Options: nosniff. 32
 * connections a listener: a further one takes the place of the one that has waited longest without a whole
 * request, so that slow or idle clients cannot keep others out; when all 32 are being answered it gets 503.
 * Handlers run on the loop's thread and fill a buffer; they must be quick and may not destroy the server. One
 * loop's thread.
 */
#ifndef TM_NET_HTTPD_H
#define TM_NET_HTTPD_H

#include "base/buf.h"
#include "loop/loop.h"

#include <stdbool.h>

struct tm_httpd;

struct tm_httpd_answer {
    int status;               /* preset 200 */
    const char *content_type; /* preset "text/plain; charset=utf-8"; static string */
    struct tm_buf *body;
};

/* `path` without query, `query` "" if none. A path without handler answers 404. */
typedef void tm_httpd_handler(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer);

int tm_httpd_create(struct tm_loop *loop, struct tm_httpd **out, struct tm_error *err) TM_MUST_CHECK;
void tm_httpd_destroy(struct tm_httpd *httpd);

/* Listen on "address:port" (IPv6 in brackets; port 0 picks one). The same address twice is one listener. */
int tm_httpd_listen(struct tm_httpd *httpd, const char *address, struct tm_error *err) TM_MUST_CHECK;

/* Whether an address has the form that listen takes; whether two of them cannot be listened on at a time. */
int tm_httpd_check_address(const char *address, struct tm_error *err) TM_MUST_CHECK;
bool tm_httpd_addresses_clash(const char *address, const char *other);

/* Serve `path` at that address only. */
int tm_httpd_route(struct tm_httpd *httpd, const char *address, const char *path, tm_httpd_handler *handler, void *arg,
                   struct tm_error *err) TM_MUST_CHECK;

/* The port in use at an address given to tm_httpd_listen; 0 if none. */
int tm_httpd_port(const struct tm_httpd *httpd, const char *address);

#endif
