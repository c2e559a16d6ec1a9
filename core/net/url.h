/*
 * URLs of the network room: taken apart and checked once, at the border. Allowed is
 * scheme://host[:port][/path[?query]] without user, password or fragment. A scheme without TLS is allowed to
 * loopback only. Any thread.
 */
#ifndef TM_NET_URL_H
#define TM_NET_URL_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>

#define TM_URL_HOST_MAX 100  /* libwebsockets keeps host:port in 128 bytes */
#define TM_URL_PATH_MAX 1900 /* and the request line in 2048 */

struct tm_url {
    bool tls;
    uint16_t port;                       /* the scheme's default if not given */
    struct sockaddr_storage address;     /* of a numeric host, without port; ss_family AF_UNSPEC for a name */
    char host[TM_URL_HOST_MAX + 1];      /* IPv6 without brackets */
    char authority[TM_URL_HOST_MAX + 9]; /* host[:port] as a Host header wants it */
    char path[TM_URL_PATH_MAX + 1];      /* with the query; "/" if none */
};

/* `plain` and `secure` are the two schemes allowed, e.g. "ws" and "wss". */
int tm_url_parse(const char *url, const char *plain, const char *secure, struct tm_url *out,
                 struct tm_error *err) TM_MUST_CHECK;

bool tm_addr_is_loopback(const struct sockaddr *addr);

#endif
