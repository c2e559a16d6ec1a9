/*
 * What ws.c (a connection), ws_library.c (what the library tells of it), ws_read.c (what comes on it) and ws_context.c (the
 * library's context of a loop) share; the latter's library also serves wsd.c. Private to them.
 *
 * libwebsockets connects, shakes hands, upgrades, writes and lets go. It reads until the connection is open, and never
 * again: a frame costs it 1.5 to 3 us. From then on its reading is stopped (lws_rx_flow_control), and a watcher of ours
 * reads from the socket, or by SSL_read, into one buffer of the context; what is kept for a connection is the beginning of
 * a frame. So the library's part of closing is not used either, which would read: the close frame is written like any
 * other, and who has sent and got one lets go.
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
#include "net/ws_frames.h"

#include <libwebsockets.h>

/* The library's buffer, for the answer to the upgrade and what came with it, and OpenSSL's: not below 16448, a record and
 * more, or the library leaves a part of one in OpenSSL and spins when it is to read no more (MEASURED.md). */
#define TM_WS_RX_BYTES 32768
#define TM_WS_READ_BYTES 65536 /* of one connection in a turn */
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
    struct tm_ws *next;                     /* in the context's list of starting or of gone connections */
    struct tm_ws *next_unread, **unread_at; /* in that of those to read from in the next turn; NULL: not in it */
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
    int close_code; /* that we send; 0: none */
    struct tm_resolve_query *query;
    struct tm_resolved addresses;
    size_t address, address_tries;
    struct tm_buf body; /* that came instead of 101 */
    struct out_frame *out_first, *out_last;
    size_t out_bytes;
    bool pong_due;
    size_t pong_len;
    unsigned char pong[LWS_PRE + WS_FRAMES_REST]; /* to the last ping: enough for all before it (RFC 6455, 5.5.3) */
    struct tm_io io;                              /* from the opening on */
    struct ws_frames frames;
    bool deaf;        /* there was a close frame or a fault: what still comes is thrown away */
    bool peer_closed; /* by a close frame */
    size_t rest_len;
    char rest[WS_FRAMES_REST]; /* the beginning of a frame, which has come */
};

struct tm_ws_context {
    struct lws_context *lws;
    struct tm_loop *loop;
    struct tm_resolver *resolver;
    struct tm_prepare pump;
    struct ws_vhost *vhosts;
    struct tm_ws *starting, *gone;
    struct tm_ws *unread;
    struct tm_timer again;                            /* one more turn, at once */
    char bytes[TM_WS_READ_BYTES + WS_FRAMES_PADDING]; /* of the connection that is being read from */
    size_t connections;
    uint64_t turn;
    int64_t turn_us; /* 0: not asked for yet since the last reading */
};

/* ws.c */
void ws_move(struct tm_ws *ws, enum ws_state to);
void ws_arm(struct tm_ws *ws, int64_t at_us, int64_t now_us);
void ws_start(struct tm_ws *ws); /* from the pump: ask for the address, or try one that is known */
void ws_report_gone(struct tm_ws *ws);
void ws_on_library_gone(struct tm_ws *ws);

/* Have the close frame sent, with this code or with 0 for none; a reason is known. It has a second for all of it. */
void ws_begin_close(struct tm_ws *ws, int code);
void ws_let_go(struct tm_ws *ws); /* both have closed; what is unsent may still go */
void ws_kill(struct tm_ws *ws);   /* at once */

/* The first reason is the true one; what follows from it does not count. */
void ws_set_reason(struct tm_ws *ws, enum tm_ws_why why, int status, const char *fmt, ...) TM_PRINTF(4, 5);

/* ws_library.c */
int ws_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);

/* ws_read.c */
void ws_start_reading(struct tm_ws *ws); /* from the library's callback of the opening */
void ws_take_over(struct tm_ws *ws, const char *bytes, size_t len);
void ws_read(struct tm_ws *ws);
void ws_stop_reading(struct tm_ws *ws); /* for good */

/* ws_context.c */

/* A context of the library, for clients (here) or servers (wsd.c), with its log in ours; NULL: it cannot. */
struct lws_context *ws_library_create(const struct lws_context_creation_info *info);
void ws_library_destroy(struct lws_context *lws);

/* Have it read from in the next turn, also if its socket has nothing, until it is dropped. */
void ws_context_read_again(struct tm_ws *ws);
void ws_context_drop(struct tm_ws *ws); /* does nothing for one that is not there */

/* The vhost for plain (tls false) or for TLS with these authorities, made at its first use. */
int ws_context_vhost(struct tm_ws_context *context, bool tls, const char *ca_file, struct lws_vhost **out,
                     struct tm_error *err) TM_MUST_CHECK;

#endif
