/*
 * What ws.c (a connection) and ws_context.c (the library's context of a loop) share; the latter's library also serves
 * wsd.c. Private to them.
 *
 * A connection's life. Only ws_move changes the state:
 *
 *     RESOLVING --> CONNECTING --101--> OPEN --> CLOSING --> GONE
 *         |             |                 |                   ^
 *         +-------------+-----------------+-------------------+
 *
 * GONE means that libwebsockets has let go of it. The context's pump, which runs at the end of each turn of
 * the loop, then reports on_close and frees it, so on_close never runs inside the library or inside a call of
 * ours.
 */
#ifndef TM_NET_WS_IMPL_H
#define TM_NET_WS_IMPL_H

#include "base/buf.h"
#include "base/clock.h"
#include "net/resolve.h"
#include "net/url.h"
#include "net/ws.h"

#include <libwebsockets.h>

/* Both buffers of the library: not below 16448, or flow control under TLS spins (MEASURED.md). A message up
 * to TM_WS_RX_BYTES - 16 that arrives in one frame is passed on without a copy. */
#define TM_WS_RX_BYTES 32768
#define TM_WS_PROTOCOL_NAME "tidemill"
#define WS_CLOSE_GRACE_US TM_US_PER_S /* for the peer's answer to our close frame */

enum ws_state { WS_RESOLVING, WS_CONNECTING, WS_OPEN, WS_CLOSING, WS_GONE };
enum ws_stage { WS_STAGE_TCP, WS_STAGE_TLS, WS_STAGE_HTTP };

struct out_frame {
    struct out_frame *next;
    size_t len;
    unsigned char bytes[]; /* LWS_PRE, then len */
};

struct tm_ws {
    struct tm_ws *next;                 /* in the context's list of starting or of gone connections */
    struct tm_ws *next_open, **open_at; /* in that of open TLS connections; NULL: not in it */
    struct tm_ws_context *context;
    struct tm_ws_options options; /* defaults filled in; the strings belong to others or to `url`, `user_agent` */
    struct tm_ws_events events;
    void *arg;
    struct tm_url url;
    char *user_agent;
    struct lws_vhost *vhost;
    enum ws_state state;
    enum ws_stage stage;
    struct lws *wsi;
    bool inside_connect; /* lws_client_connect_via_info is on the stack */
    struct tm_timer timer;
    int64_t started_us, last_byte_us, pinged_us;
    bool ping_due;
    bool reason_known;
    enum tm_ws_why why;
    int status;
    char text[512];
    enum lws_close_status close_code; /* that we send */
    struct tm_resolve_query *query;
    struct tm_resolved addresses;
    size_t address, address_tries;
    struct tm_buf message; /* fragments so far, or a body that came instead of 101 */
    bool in_message;
    uint32_t fragments;
    struct out_frame *out_first, *out_last;
    size_t out_bytes;
    uint64_t pong_turn;
    uint32_t pongs;
};

struct tm_ws_context {
    struct lws_context *lws;
    struct tm_loop *loop;
    struct tm_resolver *resolver;
    struct tm_prepare pump;
    struct ws_vhost *vhosts;
    struct tm_ws *starting, *gone;
    struct tm_ws *open_tls;
    struct tm_timer again; /* one more turn, at once */
    size_t connections;
    uint64_t turn;
    int64_t turn_us; /* 0: not read yet in this turn */
};

/* ws.c */
void ws_move(struct tm_ws *ws, enum ws_state to);
void ws_arm(struct tm_ws *ws, int64_t at_us, int64_t now_us);
void ws_start(struct tm_ws *ws); /* from the pump: ask for the address, or try one that is known */
void ws_report_gone(struct tm_ws *ws);
void ws_on_library_gone(struct tm_ws *ws);

/* The first reason is the true one; what follows from it does not count. */
void ws_set_reason(struct tm_ws *ws, enum tm_ws_why why, int status, const char *fmt, ...) TM_PRINTF(4, 5);

/* ws_library.c */
int ws_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);

/* ws_context.c */

/* A context of the library, for clients (here) or servers (wsd.c), with its log in ours; NULL: it cannot. */
struct lws_context *ws_library_create(const struct lws_context_creation_info *info);
void ws_library_destroy(struct lws_context *lws);

/* An open TLS connection: what OpenSSL has read ahead of it is handed on at the end of each turn, until it is dropped. */
void ws_context_read_ahead(struct tm_ws *ws);
void ws_context_drop(struct tm_ws *ws); /* does nothing for one that is not there */

/* The vhost for plain (tls false) or for TLS with these authorities, made at its first use. */
int ws_context_vhost(struct tm_ws_context *context, bool tls, const char *ca_file, struct lws_vhost **out,
                     struct tm_error *err) TM_MUST_CHECK;

#endif
