#include "exchange/conn.h"
#include "base/clock.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_CHUNK (32u << 10)
#define READ_ROUNDS 8 /* then the others get their turn */
#define TLS_RECORD_MAX 16384u
#define TLS_BUFFER (64 << 10)    /* records that leave in one write */
#define KEEP_CAPACITY (1u << 20) /* a larger empty output buffer is given back */

/* Everything before `upto` (counted from the first byte ever sent) may leave at `due`. */
struct mark {
    int64_t due_us;
    uint64_t upto;
};

/* Records that wait in front of the socket. */
static bool has_records(const struct tm_conn *c)
{
    return c->ssl && c->greeted && BIO_wpending(SSL_get_wbio(c->ssl)) > 0;
}

static void want(struct tm_conn *c)
{
    int events = c->closing ? 0 : EV_READ;
    if (c->fd < 0 || c->frozen)
        return;
    if (!c->greeted || c->released > c->sent_total || has_records(c))
        events |= EV_WRITE;
    tm_io_set(&c->io, events);
}

/* TLS says what it waits for through errors; turn them into errno of a plain socket. */
static ssize_t tls_result(struct tm_conn *c, int n)
{
    if (n > 0)
        return n;
    int why = SSL_get_error(c->ssl, n);
    ERR_clear_error();
    if (why == SSL_ERROR_ZERO_RETURN)
        return 0;
    errno = why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE ? EAGAIN : ECONNRESET;
    return -1;
}

static ssize_t conn_read(struct tm_conn *c, void *to, size_t len)
{
    return c->ssl ? tls_result(c, SSL_read(c->ssl, to, (int)len)) : recv(c->fd, to, len, 0);
}

/* The length of the WebSocket frame at `at`, at most `len`: our own frames, unmasked. */
static size_t frame_length(const uint8_t *at, size_t len)
{
    if (len < 2)
        return len;
    uint64_t payload = at[1] & 127, head = 2;
    if (payload >= 126) {
        size_t bytes = payload == 126 ? 2 : 8;
        if (len < 2 + bytes)
            return len;
        payload = 0;
        for (size_t i = 0; i < bytes; i++)
            payload = payload << 8 | at[2 + i];
        head += bytes;
    }
    return payload > len - head ? len : (size_t)(head + payload);
}

static ssize_t conn_write(struct tm_conn *c, const uint8_t *from, size_t len)
{
    if (!c->ssl)
        return send(c->fd, from, len, MSG_NOSIGNAL);
    if (c->frames_from != UINT64_MAX)
        len = c->sent_total < c->frames_from && c->frames_from - c->sent_total < len
                  ? (size_t)(c->frames_from - c->sent_total)
                  : frame_length(from, len);
    return tls_result(c, SSL_write(c->ssl, from, (int)(len < TLS_RECORD_MAX ? len : TLS_RECORD_MAX)));
}

static void greet(struct tm_conn *c)
{
    int rc = SSL_accept(c->ssl);
    if (rc == 1) {
        c->greeted = true;
        return;
    }
    if (tls_result(c, rc) <= 0 && errno != EAGAIN)
        tm_conn_close(c, false, "TLS handshake failed");
}

/* False when the connection is gone. */
static bool receive(struct tm_conn *c)
{
    for (int round = 0; round < READ_ROUNDS || (c->ssl && SSL_pending(c->ssl)); round++) {
        if (tm_buf_reserve(&c->in, READ_CHUNK)) {
            tm_conn_close(c, true, "out of memory");
            return false;
        }
        ssize_t n = conn_read(c, c->in.data + c->in.len, READ_CHUNK);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return true;
        if (n <= 0) {
            tm_conn_close(c, false, n ? strerror(errno) : "peer closed");
            return false;
        }
        c->in.len += (size_t)n;
        c->ops->on_data(c->owner);
        if (c->fd < 0 || c->closing)
            return c->fd >= 0;
    }
    return true;
}

static void on_io(void *arg, int events)
{
    struct tm_conn *c = arg;
    if (!c->greeted)
        greet(c);
    if (c->fd >= 0 && c->greeted && (events & EV_READ) && !c->closing && !receive(c))
        return;
    if (c->fd >= 0)
        tm_conn_flush(c);
}

static void on_delay(void *arg)
{
    tm_conn_flush(arg);
}

/* A record for each frame, as servers send them, and many of them in one write, as a server that is busy does. */
static void gather_records(SSL *ssl)
{
    BIO *buffer = BIO_new(BIO_f_buffer()), *socket = SSL_get_wbio(ssl);
    if (!buffer || !BIO_set_write_buffer_size(buffer, TLS_BUFFER) || !BIO_up_ref(socket)) {
        BIO_free(buffer); /* then each record is a write */
        return;
    }
    SSL_set0_wbio(ssl, BIO_push(buffer, socket));
}

void tm_conn_init(struct tm_conn *c, struct tm_loop *loop, int fd, SSL *ssl)
{
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    c->fd = fd;
    c->ssl = ssl;
    c->greeted = !ssl;
    c->frames_from = UINT64_MAX;
    if (ssl)
        gather_records(ssl);
    tm_io_init(&c->io, loop, fd, on_io, c);
    tm_timer_init(&c->delay_timer, loop, on_delay, c);
    want(c);
}

void tm_conn_fini(struct tm_conn *c)
{
    if (c->fd >= 0)
        tm_conn_close(c, false, "exchange stopped");
    tm_buf_fini(&c->in);
    tm_buf_fini(&c->out);
    tm_buf_fini(&c->marks);
}

/* With a delay: mark what has come since, release what is due, and come back for the next. */
static void release_due(struct tm_conn *c, uint64_t end)
{
    int64_t now = tm_clock_mono_us();
    const struct mark *marks = (const struct mark *)c->marks.data;
    size_t count = c->marks.len / sizeof *marks, due = 0;
    uint64_t marked = count ? marks[count - 1].upto : c->released;
    struct mark last = {now + c->delay_us, end};
    if (end > marked && tm_buf_append(&c->marks, &last, sizeof last) == TM_OK)
        count++;
    marks = (const struct mark *)c->marks.data;
    for (; due < count && marks[due].due_us <= now; due++)
        c->released = marks[due].upto;
    tm_buf_consume(&c->marks, due * sizeof *marks);
    if (due < count)
        tm_timer_start(&c->delay_timer, ((const struct mark *)c->marks.data)->due_us - now, 0);
}

static void after_flush(struct tm_conn *c)
{
    if (tm_conn_backlog(c) == 0) {
        if (c->out.cap > KEEP_CAPACITY)
            tm_buf_fini(&c->out);
        tm_buf_clear(&c->out);
        c->sent = 0;
    } else if (c->sent > c->out.len / 2 && c->sent > TM_CONN_LOW) {
        tm_buf_consume(&c->out, c->sent);
        c->sent = 0;
    }
    if (c->closing && tm_conn_backlog(c) == 0 && !has_records(c)) {
        tm_conn_close(c, false, "finished");
        return;
    }
    want(c);
    if (c->was_high && tm_conn_backlog(c) < TM_CONN_LOW) {
        c->was_high = false;
        c->ops->on_drained(c->owner);
    }
}

void tm_conn_flush(struct tm_conn *c)
{
    if (c->fd < 0 || c->frozen || !c->greeted)
        return;
    uint64_t end = c->sent_total + tm_conn_backlog(c);
    if (c->delay_us || c->marks.len)
        release_due(c, end);
    else
        c->released = end;
    if (tm_conn_backlog(c) >= TM_CONN_LOW)
        c->was_high = true;
    while (c->released > c->sent_total) {
        ssize_t n = conn_write(c, c->out.data + c->sent, (size_t)(c->released - c->sent_total));
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            break;
        if (n <= 0) {
            tm_conn_close(c, false, n ? strerror(errno) : "peer closed");
            return;
        }
        c->sent += (size_t)n;
        c->sent_total += (uint64_t)n;
    }
    if (has_records(c) && BIO_flush(SSL_get_wbio(c->ssl)) <= 0 && !BIO_should_retry(SSL_get_wbio(c->ssl))) {
        tm_conn_close(c, false, strerror(errno));
        return;
    }
    after_flush(c);
}

void tm_conn_finish(struct tm_conn *c)
{
    c->closing = true;
    tm_conn_flush(c);
}

void tm_conn_close(struct tm_conn *c, bool reset, const char *reason)
{
    if (c->fd < 0)
        return;
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    if (reset)
        (void)setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    tm_io_set(&c->io, 0);
    tm_timer_stop(&c->delay_timer);
    if (c->ssl && c->greeted && !reset)
        (void)SSL_shutdown(c->ssl);
    SSL_free(c->ssl);
    ERR_clear_error();
    c->ssl = NULL;
    (void)close(c->fd);
    c->fd = -1;
    c->ops->on_closed(c->owner, reason);
}

void tm_conn_set_delay(struct tm_conn *c, int64_t delay_us)
{
    c->delay_us = delay_us;
    tm_conn_flush(c);
}

void tm_conn_set_frozen(struct tm_conn *c, bool frozen)
{
    c->frozen = frozen;
    if (c->fd < 0)
        return;
    tm_io_set(&c->io, 0);
    want(c);
    tm_conn_flush(c);
}
