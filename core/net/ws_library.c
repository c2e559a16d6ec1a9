/* What libwebsockets calls for a connection. Handlers answer 0 to go on and -1 to have it closed. */
#include "net/ws_impl.h"
#include "base/clock.h"

#include <errno.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#define PONGS_PER_TURN_MAX 64      /* the library can deliver one pong for ever (MEASURED.md) */
#define FRAGMENTS_MAX 100000       /* a message in empty fragments would never end */
#define MESSAGE_KEEP_BYTES 1048576 /* a larger reassembly buffer is given back after use */
#define BODY_BYTES_MAX 400         /* of an answer other than 101 */

/*
 * Close with this code from the next writable turn. Not by returning -1 here: in mid-frame the library would
 * leave its buffer full, read on while it waits for the answer to the close, and write past the end of the
 * buffer.
 */
static void fail_protocol(struct tm_ws *ws, enum lws_close_status code, const char *text)
{
    ws_set_reason(ws, TM_WS_PROTOCOL, 0, "%s", text);
    ws->close_code = code;
    tm_buf_fini(&ws->message);
    lws_callback_on_writable(ws->wsi);
    tm_timer_start(&ws->timer, WS_CLOSE_GRACE_US, 0);
}

static void append_fragment(struct tm_ws *ws, const char *bytes, size_t len, size_t to_come)
{
    size_t max = ws->options.message_bytes_max, have = ws->message.len;
    const char *fault = NULL;
    if (len > max - have || to_come > max - have - len)
        fault = "message exceeds message_bytes_max";
    else if (++ws->fragments > FRAGMENTS_MAX)
        fault = "message has too many fragments";
    else if (tm_buf_reserve(&ws->message, len + to_come + 16) || tm_buf_append(&ws->message, bytes, len))
        fault = "no memory for the message";
    if (fault)
        fail_protocol(ws, LWS_CLOSE_STATUS_MESSAGE_TOO_LARGE, fault);
}

static int on_fragment(struct tm_ws *ws, bool first, bool final, const char *bytes, size_t len)
{
    /* The library has been seen to repeat the end of a message for ever, without leaving its loop: so -1. */
    if (first == ws->in_message) {
        fail_protocol(ws, LWS_CLOSE_STATUS_PROTOCOL_ERR, "fragment outside a message");
        return -1;
    }
    ws->in_message = !final;
    append_fragment(ws, bytes, len, lws_remaining_packet_payload(ws->wsi));
    if (!final || ws->reason_known)
        return 0;
    ws->events.on_message(ws->arg, (const char *)ws->message.data, ws->message.len);
    ws->fragments = 0;
    tm_buf_clear(&ws->message);
    if (ws->message.cap > MESSAGE_KEEP_BYTES)
        tm_buf_fini(&ws->message);
    return 0;
}

static int on_receive(struct tm_ws *ws, const char *bytes, size_t len)
{
    if (ws->reason_known)
        return 0; /* closing; what still comes is not looked at */
    bool first = lws_is_first_fragment(ws->wsi), final = lws_is_final_fragment(ws->wsi);
    if (first && final && !ws->in_message && len <= TM_WS_RX_BYTES - 16 && len <= ws->options.message_bytes_max) {
        ws->events.on_message(ws->arg, bytes, len);
        return 0;
    }
    return on_fragment(ws, first, final, bytes, len);
}

static int on_pong(struct tm_ws *ws)
{
    if (ws->pong_turn != ws->context->turn)
        ws->pongs = 0;
    ws->pong_turn = ws->context->turn;
    if (++ws->pongs <= PONGS_PER_TURN_MAX)
        return 0;
    fail_protocol(ws, LWS_CLOSE_STATUS_POLICY_VIOLATION, "flood of pongs");
    return -1;
}

static int on_writable(struct tm_ws *ws)
{
    unsigned char ping[LWS_PRE + 4];
    if (ws->reason_known) {
        if (ws->state == WS_OPEN)
            ws_move(ws, WS_CLOSING);
        lws_close_reason(ws->wsi, ws->close_code, NULL, 0);
        return -1;
    }
    if (ws->ping_due && lws_write(ws->wsi, ping + LWS_PRE, 0, LWS_WRITE_PING) < 0)
        return -1;
    ws->ping_due = false;
    while (ws->out_first && !lws_send_pipe_choked(ws->wsi)) {
        struct out_frame *f = ws->out_first;
        ws->out_first = f->next;
        ws->out_bytes -= f->len;
        int written = lws_write(ws->wsi, f->bytes + LWS_PRE, f->len, LWS_WRITE_TEXT);
        free(f);
        if (written < 0)
            return -1;
    }
    if (ws->out_first)
        lws_callback_on_writable(ws->wsi);
    return 0;
}

struct header_space {
    unsigned char **at, *end;
    struct lws *wsi;
};

static int put_header(void *arg, const char *name, const char *value)
{
    struct header_space *space = arg;
    size_t left = (size_t)(space->end - *space->at);
    int n = snprintf((char *)*space->at, left, "%s: %s\r\n", name, value);
    if (n < 0 || (size_t)n >= left)
        return TM_EFULL;
    *space->at += n;
    return TM_OK;
}

static int on_request_headers(struct tm_ws *ws, unsigned char **at, size_t len)
{
    struct header_space space = {at, *at + len, ws->wsi};
    struct tm_error err;
    ws->stage = WS_STAGE_HTTP;
    int rc = put_header(&space, "User-Agent", ws->options.user_agent);
    if (!rc && ws->options.auth)
        rc = tm_auth_headers(ws->options.auth, "GET", ws->url.path, tm_clock_wall_us(), put_header, &space, &err);
    else if (rc)
        tm_error_set(&err, rc, "user agent is too long");
    if (rc)
        ws_set_reason(ws, TM_WS_LOCAL, 0, "%s", err.message);
    return rc ? -1 : 0;
}

/* Another answer than 101: keep as much of its body as has arrived with it. */
static int on_response(struct tm_ws *ws)
{
    int status = (int)lws_http_client_http_response(ws->wsi);
    if (status == 101)
        return 0;
    for (int i = 0; i < 4 && ws->message.len < BODY_BYTES_MAX; i++) {
        char *buf = NULL;
        int len = 0;
        if (lws_http_client_read(ws->wsi, &buf, &len))
            break;
    }
    const char *body = tm_buf_cstr(&ws->message);
    ws_set_reason(ws, TM_WS_HANDSHAKE, status, "%s", body && *body ? body : "no body");
    return -1;
}

static int on_body(struct tm_ws *ws, const char *bytes, size_t len)
{
    size_t room = BODY_BYTES_MAX - ws->message.len;
    return tm_buf_append(&ws->message, bytes, len < room ? len : room) ? -1 : 0;
}

static int on_established(struct tm_ws *ws)
{
    ws_move(ws, WS_OPEN);
    if (ws->url.tls)
        ws_context_read_ahead(ws);
    int64_t now = tm_clock_mono_us();
    ws->last_byte_us = now;
    int64_t first =
        ws->options.ping_idle_us < ws->options.silence_us ? ws->options.ping_idle_us : ws->options.silence_us;
    ws_arm(ws, now + first, now);
    ws->events.on_open(ws->arg);
    return 0;
}

static int on_peer_close(struct tm_ws *ws, const unsigned char *bytes, size_t len)
{
    int code = len >= 2 ? bytes[0] << 8 | bytes[1] : 0;
    ws_set_reason(ws, TM_WS_REMOTE, code, "%.*s", len > 2 ? (int)(len - 2) : 0, len > 2 ? (const char *)bytes + 2 : "");
    tm_timer_start(&ws->timer, WS_CLOSE_GRACE_US, 0);
    return 0;
}

static void on_connect_error(struct tm_ws *ws, const char *text, size_t len)
{
    if (ws->stage != WS_STAGE_HTTP)
        return; /* ws_on_library_gone says which stage failed; the library knows no more */
    if (text && (!strncmp(text, "HS:", 3) || strstr(text, "parsing header")))
        ws_set_reason(ws, TM_WS_PROTOCOL, 0, "the answer to the upgrade is wrong: %.*s", (int)len, text);
}

/* Nothing recorded: either the stream ended, or the library found a frame that it does not accept and hung
 * up. */
static void on_closed(struct tm_ws *ws)
{
    char byte;
    ws->last_byte_us = tm_ws_last_byte_us(ws); /* while there is still a socket to ask */
    SSL *ssl = lws_get_ssl(ws->wsi);
    ssize_t n = recv(lws_get_socket_fd(ws->wsi), &byte, 1, MSG_PEEK | MSG_DONTWAIT);
    bool ended = n == 0 || (n < 0 && errno != EAGAIN) || (ssl && SSL_get_shutdown(ssl) & SSL_RECEIVED_SHUTDOWN);
    if (!ended)
        ws_set_reason(ws, TM_WS_PROTOCOL, 0, "the peer sent a frame that RFC 6455 does not allow");
}

static void on_certificate(struct lws *wsi, X509_STORE_CTX *store, bool accepted)
{
    struct tm_ws *ws = lws_wsi_user(wsi);
    if (ws && !accepted)
        ws_set_reason(ws, TM_WS_REFUSED, 0, "certificate of %s refused: %s", ws->url.host,
                      X509_verify_cert_error_string(X509_STORE_CTX_get_error(store)));
}

static int on_setup_event(struct tm_ws *ws, enum lws_callback_reasons reason, void *in, size_t len)
{
    switch ((int)reason) {
    case LWS_CALLBACK_WSI_CREATE:
        ws->stage = ws->url.tls ? WS_STAGE_TLS : WS_STAGE_HTTP;
        return 0;
    case LWS_CALLBACK_CLIENT_APPEND_HANDSHAKE_HEADER:
        return on_request_headers(ws, in, len);
    case LWS_CALLBACK_ESTABLISHED_CLIENT_HTTP:
        return on_response(ws);
    case LWS_CALLBACK_RECEIVE_CLIENT_HTTP_READ:
        return on_body(ws, in, len);
    case LWS_CALLBACK_COMPLETED_CLIENT_HTTP:
        return -1; /* the body is whole; do not keep the connection for another request */
    case LWS_CALLBACK_CLIENT_ESTABLISHED:
        return on_established(ws);
    case LWS_CALLBACK_CLIENT_CONNECTION_ERROR:
        on_connect_error(ws, in, len);
        return 0;
    case LWS_CALLBACK_WS_PEER_INITIATED_CLOSE:
        return on_peer_close(ws, in, len);
    case LWS_CALLBACK_CLIENT_CLOSED:
        on_closed(ws);
        return 0;
    case LWS_CALLBACK_WSI_DESTROY:
        ws_on_library_gone(ws);
        return 0;
    default:
        return 0;
    }
}

int ws_callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct tm_ws *ws = user;
    if (reason == LWS_CALLBACK_CLIENT_RECEIVE)
        return on_receive(ws, in, len);
    if (reason == LWS_CALLBACK_CLIENT_RECEIVE_PONG)
        return on_pong(ws);
    if (reason == LWS_CALLBACK_CLIENT_WRITEABLE)
        return on_writable(ws);
    if (reason == LWS_CALLBACK_OPENSSL_PERFORM_SERVER_CERT_VERIFICATION) {
        on_certificate(wsi, user, len); /* user and len are the library's own here */
        return 0;
    }
    return ws && wsi && lws_wsi_user(wsi) == user ? on_setup_event(ws, reason, in, len) : 0;
}
