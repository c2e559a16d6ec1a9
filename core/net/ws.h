/*
 * WebSocket client transport: one connection, from connect to close, on one loop's thread. The interface is
 * small so that what is behind it can be replaced: libwebsockets for all but the frames that come, which are found by
 * ws_frames.h.
 *
 * A tm_ws_context owns the library's context for one loop. A connection calls on_open once, on_message for
 * every complete message, and on_close exactly once, after which the handle is gone. Names are resolved on a
 * helper thread, never on the loop. TLS (wss) verifies certificate and host name, TLS 1.2 or later; ws is
 * allowed to loopback only. permessage-deflate is never offered. Redirects are refused.
 *
 * A frame that RFC 6455 does not allow, a masked one too, ends the connection (TM_WS_PROTOCOL), with the close code that
 * says why. Text is not checked for UTF-8, that is the decoder's part. Of one connection 64 KiB at most are taken in a turn
 * of the loop. Of the body of an answer other than 101 only what came together with its headers is seen. Set RLIMIT_NOFILE
 * before the context is created: the library's tables have that size.
 *
 * Liveness: any received byte counts. After `ping_idle_us` without one a ping is sent; after `silence_us`
 * without one the connection is closed as TM_WS_SILENT. Pings of the peer are answered.
 */
#ifndef TM_NET_WS_H
#define TM_NET_WS_H

#include "loop/loop.h"
#include "net/auth.h"

#include <stdbool.h>

struct tm_ws_context;
struct tm_ws;

enum tm_ws_why {
    TM_WS_LOCAL,     /* we closed it */
    TM_WS_REMOTE,    /* the peer closed or reset it, perhaps before the handshake; status is the close code, 0 if
                     none */
    TM_WS_REFUSED,   /* no TCP or TLS connection; text says why */
    TM_WS_HANDSHAKE, /* HTTP answered other than 101; status is the HTTP status, text the start of its body */
    TM_WS_TIMEOUT,   /* connect or handshake took longer than connect_us */
    TM_WS_SILENT,    /* nothing came for silence_us */
    TM_WS_PROTOCOL,  /* the peer broke RFC 6455 or a message exceeded message_bytes_max */
    TM_WS_SLOW,      /* our output queue exceeded send_bytes_max */
};
const char *tm_ws_why_name(enum tm_ws_why why);

struct tm_ws_events {
    void (*on_open)(void *arg);
    /* A whole text or binary message; 16 readable bytes follow it; valid during the call. */
    void (*on_message)(void *arg, const char *bytes, size_t len);
    void (*on_close)(void *arg, enum tm_ws_why why, int status, const char *text);
};

#define TM_WS_MESSAGE_BYTES ((size_t)4 << 20) /* defaults */
#define TM_WS_SEND_BYTES ((size_t)64 << 20)

struct tm_ws_options {
    const char *url;            /* ws://host[:port]/path or wss://... */
    const struct tm_auth *auth; /* NULL: unsigned; the connection holds it */
    const char *ca_file;        /* NULL: the system's */
    const char *user_agent;     /* NULL: "tidemill" */
    int64_t connect_us;         /* 0: 10 s, from connect to 101 */
    int64_t ping_idle_us;       /* 0: 5 s */
    int64_t silence_us;         /* 0: 15 s */
    size_t message_bytes_max;   /* 0: 4 MiB */
    size_t send_bytes_max;      /* 0: 64 MiB, queued but not yet written */
};

int tm_ws_context_create(struct tm_loop *loop, struct tm_ws_context **out, struct tm_error *err) TM_MUST_CHECK;
/* All connections must be closed. */
void tm_ws_context_destroy(struct tm_ws_context *context);
struct tm_loop *tm_ws_context_loop(const struct tm_ws_context *context);

/* Check a URL without connecting: form, scheme, ws only to loopback. */
int tm_ws_check_url(const char *url, struct tm_error *err) TM_MUST_CHECK;

/* Whether a file holds certificates of authorities. */
int tm_ws_check_ca_file(const char *path, struct tm_error *err) TM_MUST_CHECK;

/* Start connecting. Options are copied. A failure that is known at once is returned and on_close is not called. */
int tm_ws_connect(struct tm_ws_context *context, const struct tm_ws_options *options, const struct tm_ws_events *events,
                  void *arg, struct tm_ws **out, struct tm_error *err) TM_MUST_CHECK;

/* Other deadlines for a connection that is there; 0 as in the options. */
void tm_ws_set_liveness(struct tm_ws *ws, int64_t ping_idle_us, int64_t silence_us);

/* Queue a text message; the bytes are copied. TM_ESTATE unless open, TM_EFULL closes with TM_WS_SLOW later. */
int tm_ws_send(struct tm_ws *ws, const char *bytes, size_t len) TM_MUST_CHECK;

/* Begin the close; on_close follows from the loop within about a second, never from inside this call. No
 * message is delivered any more, and what was queued but not yet written is dropped. */
void tm_ws_close(struct tm_ws *ws);

/* Monotonic time, asked for once for what is taken of a connection in a turn: stamps messages at next to no cost. */
int64_t tm_ws_turn_us(struct tm_ws_context *context);

/* Monotonic time of the last received byte. */
int64_t tm_ws_last_byte_us(const struct tm_ws *ws);

#endif
