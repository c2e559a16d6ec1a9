/*
 * WebSocket server that tells: sockets that asked for it (tm_httpd_socket) are taken over by libwebsockets and get what is
 * told to all of them. What they say is not wanted: a message of a peer ends its connection with 1008; pings are answered.
 *
 *     tm_wsd_take   the handshake is answered at once, and on_open may tell the new one something of its own
 *     tm_wsd_tell   to each one that has taken all that it was told before; the others miss it
 *
 * Bounds: `peers_max` peers; a message told is kept once for all and until each has it or is closed, a peer's own first
 * message until it has it; 128 KiB in the kernel for each. A peer that has not taken a message for `stuck_us` is dropped,
 * as is one whose machine does not acknowledge for 20 s. Nothing blocks. One loop's thread. The text is UTF-8.
 *
 * libwebsockets is given a request of our own making with nothing but the key in it, so that what else the peer asked for
 * (compression, protocols, header lines by the kilobyte) never reaches it.
 */
#ifndef TM_NET_WSD_H
#define TM_NET_WSD_H

#include "base/buf.h"
#include "loop/loop.h"

#include <stdbool.h>

struct tm_wsd;

struct tm_wsd_options {
    struct tm_loop *loop;
    size_t peers_max; /* 0: 64 */
    int64_t stuck_us; /* 0: 10 s */
    /* Append what a new peer is told first; nothing: nothing. May be NULL. */
    void (*on_open)(void *arg, struct tm_buf *out);
    void *arg;
};

int tm_wsd_create(const struct tm_wsd_options *options, struct tm_wsd **out, struct tm_error *err) TM_MUST_CHECK;
void tm_wsd_destroy(struct tm_wsd *wsd); /* hangs up on all; NULL is fine */

/* A tm_httpd_taker; `arg` is the tm_wsd. */
bool tm_wsd_take(void *wsd, int fd, const char *websocket_key);

/* Copied. Call it at least every few seconds while there are peers: it is what looks for the stuck ones. */
int tm_wsd_tell(struct tm_wsd *wsd, const char *text, size_t len) TM_MUST_CHECK;

size_t tm_wsd_count(const struct tm_wsd *wsd);

#endif
