/*
 * HTTP server for health, metrics and the console: libwebsockets on a loop, GET and HEAD only.
 *
 * Limits (FAILURES c4): 8 KiB of headers (431), 2 KiB target (414), 5 s to send them, 32 connections a listener (then
 * 503 or refused), any other method 405, a body 413, no version banner, X-Content-Type-Options: nosniff. Handlers run on
 * the loop's thread and fill a buffer; they must be quick. One loop's thread.
 */
#ifndef TM_NET_HTTPD_H
#define TM_NET_HTTPD_H

#include "base/buf.h"
#include "loop/loop.h"

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

/* Serve `path` at that address only. */
int tm_httpd_route(struct tm_httpd *httpd, const char *address, const char *path, tm_httpd_handler *handler, void *arg,
                   struct tm_error *err) TM_MUST_CHECK;

/* The port in use at an address given to tm_httpd_listen; 0 if none. */
int tm_httpd_port(const struct tm_httpd *httpd, const char *address);

#endif
