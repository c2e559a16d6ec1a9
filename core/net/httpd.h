/*
 * HTTP server for health, metrics and the console: HTTP/1.1 on a loop, GET and HEAD only, keep-alive.
 *
 * It is our own and not libwebsockets', which hangs up on much of what has to be answered here (431, 414, 405
 * for an unknown method, 413, 400 for smuggling). A connection that becomes a WebSocket is handed over, with its
 * socket (net/wsd.h).
 *
 * Pages for browsers (tm_httpd_page, tm_httpd_socket) are given only to who asks for them by an address, as localhost, by
 * this machine's name or one of the names allowed: 421 otherwise. A name that somebody else's DNS points here is none of
 * them, so no foreign page reads ours; and one that opens a WebSocket here gets 403, as its Origin is another one.
 *
 * Limits (FAILURES c4): 8 KiB of headers (431), 2 KiB target (414), 5 s to send them, 10 s to take the
 * answers to all that was asked for at once, any other method 405, a body 413, no version banner,
 * X-Content-Type-Options: nosniff.
 *
 * 32 connections a listener. A further one takes the place of the one that has taken nothing of its answer for longest, if
 * that is a second or more; else of the one that has waited longest without a whole request. So clients that are slow to ask
 * or to read, or idle, keep nobody out. Where all 32 take their answers it gets one of 4 spare places: of those the longest
 * waiting gives way, and each is answered once, in 16 KiB or less, as /health is; what is longer, or a WebSocket, is 503.
 *
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
    const char *headers;      /* further lines, each with its CRLF; preset ""; static string */
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

/* The same, for browsers (see above). */
int tm_httpd_page(struct tm_httpd *httpd, const char *address, const char *path, tm_httpd_handler *handler, void *arg,
                  struct tm_error *err) TM_MUST_CHECK;

/* Likewise a path that is a WebSocket: the socket, not blocking and with nothing read after the request, and the request's
 * key are handed over. False: there is no room, 503; the socket stays the server's. */
typedef bool tm_httpd_taker(void *arg, int fd, const char *websocket_key);
int tm_httpd_socket(struct tm_httpd *httpd, const char *address, const char *path, tm_httpd_taker *take, void *arg,
                    struct tm_error *err) TM_MUST_CHECK;

/* Further names for browsers, separated by spaces; copied. */
void tm_httpd_allow_names(struct tm_httpd *httpd, const char *names);

/* The port in use at an address given to tm_httpd_listen; 0 if none. */
int tm_httpd_port(const struct tm_httpd *httpd, const char *address);

#endif
