/*
 * One HTTP/1.x request head, taken apart. Pure: bytes in, a request or a status out. Private to the server.
 *
 * Strict where laxness has let requests be smuggled: CRLF line ends, no folded lines, no space before a
 * colon, one Host, no Content-Length beside Transfer-Encoding.
 */
#ifndef TM_NET_HTTPD_REQUEST_H
#define TM_NET_HTTPD_REQUEST_H

#include <stdbool.h>
#include <stddef.h>

#define TM_HTTPD_HEAD_MAX 8192
#define TM_HTTPD_TARGET_MAX 2048

struct tm_httpd_request {
    bool head;         /* HEAD, not GET */
    bool keep_alive;   /* the client wants more over this connection */
    const char *path;  /* in the given bytes, NUL-terminated */
    const char *query; /* likewise, "" if none */
    const char *host;  /* likewise, as these are */
    const char *origin;
    bool websocket;            /* asks to become a WebSocket (RFC 6455 4.2.1), and says all that this needs */
    const char *websocket_key; /* its Sec-WebSocket-Key; "" if none */
    size_t size;               /* of the whole head, with the empty line */
};

/*
 * 0: more bytes are needed. 200: *out is a GET or HEAD. Any other number is the status to answer before
 * closing. The bytes are cut into strings in place, but not before the head is whole.
 */
int tm_httpd_request_parse(char *bytes, size_t len, struct tm_httpd_request *out);

#endif
