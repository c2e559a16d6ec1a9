/* What libwebsockets calls for a connection. Handlers answer 0 to go on and -1 to have it closed. */
#include "net/ws_impl.h"
#include "base/clock.h"
#include "base/endian.h"
#include "base/hash.h"

#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>
#include <string.h>

#define BODY_BYTES_MAX 400 /* of an answer other than 101 */

/*
 * The last thing that is written, put together here: the library would write it as a part of its own way to close, in which
 * it reads. If the peer's has come both have closed, and -1 has the library let go.
 */
static int write_close(struct tm_ws *ws)
{
    unsigned char frame[LWS_PRE + 8], *p = frame + LWS_PRE, len = ws->close_code ? 2 : 0;
    if (ws->state == WS_CLOSING)
        return 0;
    ws_move(ws, WS_CLOSING);
    p[0] = 0x88;
    p[1] = 0x80 | len;
    tm_random_bytes(p + 2, 4); /* the mask */
    tm_put_be16(p + 6, (uint16_t)ws->close_code);
    p[6] ^= p[2];
    p[7] ^= p[3];
    int written = lws_write(ws->wsi, p, 6u + len, LWS_WRITE_RAW);
    return written < 0 || ws->peer_closed ? -1 : 0;
}

static int write_control(struct tm_ws *ws)
{
    unsigned char ping[LWS_PRE + 4];
    if (ws->pong_due && lws_write(ws->wsi, ws->pong + LWS_PRE, ws->pong_len, LWS_WRITE_PONG) < 0)
        return -1;
    ws->pong_due = false;
    if (ws->ping_due && lws_write(ws->wsi, ping + LWS_PRE, 0, LWS_WRITE_PING) < 0)
        return -1;
    ws->ping_due = false;
    return 0;
}

static int on_writable(struct tm_ws *ws)
{
    if (ws->reason_known)
        return write_close(ws);
    if (write_control(ws))
        return -1;
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

/* HTTP forbids it, and the library would take frames that came along for the body. A length of 0 is common, and harmless. */
static bool has_body(struct lws *wsi)
{
    char length[8] = "";
    bool given = lws_hdr_copy(wsi, length, sizeof length, WSI_TOKEN_HTTP_CONTENT_LENGTH) != 0;
    return lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) || (given && strcmp(length, "0") != 0);
}

/* Another answer than 101: keep as much of its body as has arrived with it. */
static int on_response(struct tm_ws *ws)
{
    int status = (int)lws_http_client_http_response(ws->wsi);
    if (status == 101 && has_body(ws->wsi))
        ws_set_reason(ws, TM_WS_PROTOCOL, 0, "the answer to the upgrade is wrong: 101 with a body");
    if (status == 101)
        return ws->reason_known ? -1 : 0;
    for (int i = 0; i < 4 && ws->body.len < BODY_BYTES_MAX; i++) {
        char *buf = NULL;
        int len = 0;
        if (lws_http_client_read(ws->wsi, &buf, &len))
            break;
    }
    const char *body = tm_buf_cstr(&ws->body);
    ws_set_reason(ws, TM_WS_HANDSHAKE, status, "%s", body && *body ? body : "no body");
    return -1;
}

static int on_body(struct tm_ws *ws, const char *bytes, size_t len)
{
    if (ws->state == WS_OPEN) {
        ws_take_over(ws, bytes, len);
        return 0;
    }
    size_t room = BODY_BYTES_MAX - ws->body.len;
    return tm_buf_append(&ws->body, bytes, len < room ? len : room) ? -1 : 0;
}

static int on_established(struct tm_ws *ws)
{
    ws_move(ws, WS_OPEN);
    int64_t now = tm_clock_mono_us();
    ws->last_byte_us = now;
    int64_t first =
        ws->options.ping_idle_us < ws->options.silence_us ? ws->options.ping_idle_us : ws->options.silence_us;
    ws_arm(ws, now + first, now);
    ws->events.on_open(ws->arg);
    ws_start_reading(ws);
    return 0;
}

static void on_connect_error(struct tm_ws *ws, const char *text, size_t len)
{
    if (ws->stage != WS_STAGE_HTTP)
        return; /* ws_on_library_gone says which stage failed; the library knows no more */
    if (text && (!strncmp(text, "HS:", 3) || strstr(text, "parsing header")))
        ws_set_reason(ws, TM_WS_PROTOCOL, 0, "the answer to the upgrade is wrong: %.*s", (int)len, text);
}

static void on_closed(struct tm_ws *ws)
{
    ws->last_byte_us = tm_ws_last_byte_us(ws); /* while there is still a socket to ask */
    ws_stop_reading(ws);
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
    if (reason == LWS_CALLBACK_CLIENT_WRITEABLE)
        return on_writable(ws);
    if (reason == LWS_CALLBACK_OPENSSL_PERFORM_SERVER_CERT_VERIFICATION) {
        on_certificate(wsi, user, len); /* user and len are the library's own here */
        return 0;
    }
    return ws && wsi && lws_wsi_user(wsi) == user ? on_setup_event(ws, reason, in, len) : 0;
}
