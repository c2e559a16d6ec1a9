/* What comes on an open connection: its bytes, and what the frames in them ask for. */
#include "net/ws_impl.h"
#include "base/clock.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>
#include <sys/socket.h>

#define RECORDS_PER_TURN 256 /* of one connection; then the others and the timers have theirs */
#define MUCH_BYTES 8192      /* in a turn: there is more by now, for which a loop that collects is not to wait */

/* What one turn brought. */
struct taken {
    size_t len;
    bool ended;       /* nothing will come any more; `reason` says why, NULL: the peer ended it in order */
    bool more_inside; /* OpenSSL holds more, of which the socket says nothing */
    const char *reason;
};

static struct taken take_plain(int fd, char *to, size_t room)
{
    ssize_t n = recv(fd, to, room, MSG_DONTWAIT);
    if (n > 0)
        return (struct taken){.len = (size_t)n};
    if (n == 0)
        return (struct taken){.ended = true};
    bool later = errno == EAGAIN || errno == EINTR;
    return (struct taken){.ended = !later, .reason = later ? NULL : strerror(errno)};
}

/* Why SSL_read brought nothing; it may want the socket to take something first. */
static void note_end(struct tm_ws *ws, SSL *ssl, int rc, struct taken *t)
{
    int saved = errno, what = SSL_get_error(ssl, rc);
    if (what == SSL_ERROR_WANT_READ || what == SSL_ERROR_WANT_WRITE) {
        tm_io_set(&ws->io, what == SSL_ERROR_WANT_WRITE ? EV_READ | EV_WRITE : EV_READ);
        return;
    }
    unsigned long error = ERR_peek_error();
    bool in_order = what == SSL_ERROR_ZERO_RETURN || ERR_GET_REASON(error) == SSL_R_UNEXPECTED_EOF_WHILE_READING;
    t->ended = true;
    if (!in_order)
        t->reason = what == SSL_ERROR_SYSCALL && saved ? strerror(saved) : ERR_reason_error_string(error);
    ERR_clear_error();
}

/* SSL_read brings one record at a time, of those that OpenSSL has read together. */
static struct taken take_tls(struct tm_ws *ws, SSL *ssl, char *to, size_t room)
{
    struct taken t = {.more_inside = true};
    ERR_clear_error();
    for (int i = 0; t.more_inside && i < RECORDS_PER_TURN && t.len < room; i++) {
        errno = 0;
        int n = SSL_read(ssl, to + t.len, (int)(room - t.len));
        if (n > 0)
            t.len += (size_t)n;
        else
            note_end(ws, ssl, n, &t);
        t.more_inside = n > 0 && SSL_has_pending(ssl);
    }
    return t;
}

static void on_ping(struct tm_ws *ws, const struct ws_frame *frame)
{
    memcpy(ws->pong + LWS_PRE, frame->bytes, frame->len);
    ws->pong_len = frame->len;
    ws->pong_due = true;
    lws_callback_on_writable(ws->wsi);
}

/* The peer's close, or its answer to ours. */
static void on_close_frame(struct tm_ws *ws, const struct ws_frame *frame)
{
    ws->peer_closed = ws->deaf = true;
    if (ws->reason_known)
        return;
    ws_set_reason(ws, TM_WS_REMOTE, frame->code, "%.*s", (int)frame->len, frame->bytes);
    ws_begin_close(ws, frame->code);
}

static void on_fault(struct tm_ws *ws, const struct ws_frame *frame)
{
    ws->deaf = true;
    if (ws->reason_known)
        return;
    ws_set_reason(ws, TM_WS_PROTOCOL, 0, "the peer sent what is not taken: %s", frame->fault);
    ws_begin_close(ws, frame->code);
}

static void on_frame(struct tm_ws *ws, enum ws_got got, const struct ws_frame *frame)
{
    if (got == WS_GOT_CLOSE)
        on_close_frame(ws, frame);
    else if (got == WS_GOT_FAULT)
        on_fault(ws, frame);
    else if (ws->reason_known)
        return; /* closing: what still comes is not looked at */
    else if (got == WS_GOT_MESSAGE)
        ws->events.on_message(ws->arg, frame->bytes, frame->len);
    else if (got == WS_GOT_PING)
        on_ping(ws, frame);
}

/* `len` bytes at the front of the context's buffer. */
static void take_frames(struct tm_ws *ws, size_t len)
{
    const char *at = ws->context->bytes, *end = at + len;
    struct ws_frame frame;
    enum ws_got got;
    while (!ws->deaf && (got = ws_frames_next(&ws->frames, &at, end, &frame)) != WS_GOT_NOTHING)
        on_frame(ws, got, &frame);
    ws->rest_len = ws->deaf ? 0 : (size_t)(end - at);
    memcpy(ws->rest, at, ws->rest_len);
}

/* A peer that has closed, and then its half of the connection too, may still wait for our answer. */
static void on_end(struct tm_ws *ws, const char *reason)
{
    if (ws->peer_closed && ws->state == WS_OPEN && !reason) {
        ws_stop_reading(ws);
        return;
    }
    if (reason)
        ws_set_reason(ws, TM_WS_REMOTE, 0, "connection broke off: %s", reason);
    ws_kill(ws);
}

void ws_read(struct tm_ws *ws)
{
    struct tm_ws_context *c = ws->context;
    SSL *ssl = lws_get_ssl(ws->wsi);
    char *to = c->bytes + ws->rest_len;
    size_t room = TM_WS_READ_BYTES - ws->rest_len;
    memcpy(c->bytes, ws->rest, ws->rest_len);
    struct taken t = ssl ? take_tls(ws, ssl, to, room) : take_plain(lws_get_socket_fd(ws->wsi), to, room);
    c->turn_us = 0;
    if (t.len)
        take_frames(ws, ws->rest_len + t.len);
    if (t.ended)
        on_end(ws, t.reason);
    else if (ws->peer_closed && ws->state == WS_CLOSING)
        ws_let_go(ws);
    else if (t.more_inside || t.len > MUCH_BYTES)
        ws_context_read_again(ws);
}

static void on_readable(void *arg, int events)
{
    (void)events;
    ws_read(arg);
}

/*
 * The library has done its part of reading. It may have read on behind the head of the answer; asked for a body it gives
 * those bytes out, or reads more of them (ws_take_over). OpenSSL may hold still more, so there is a turn without an event of
 * the socket.
 */
void ws_start_reading(struct tm_ws *ws)
{
    char *none = NULL;
    int len = 0;
    (void)!lws_http_client_read(ws->wsi, &none, &len); /* an error comes again when we read */
    lws_rx_flow_control(ws->wsi, 0);
    tm_io_init(&ws->io, ws->context->loop, lws_get_socket_fd(ws->wsi), on_readable, ws);
    tm_io_set(&ws->io, EV_READ);
    ws_context_read_again(ws);
}

void ws_take_over(struct tm_ws *ws, const char *bytes, size_t len)
{
    TM_FATAL_UNLESS(len <= TM_WS_READ_BYTES - WS_FRAMES_REST);
    memcpy(ws->context->bytes, ws->rest, ws->rest_len);
    memcpy(ws->context->bytes + ws->rest_len, bytes, len);
    take_frames(ws, ws->rest_len + len);
}

/* While there is still a descriptor. */
void ws_stop_reading(struct tm_ws *ws)
{
    if (ws->io.loop)
        tm_io_set(&ws->io, 0);
    ws_context_drop(ws);
}
