/*
 * One accepted socket, plain or TLS: non-blocking, with an input buffer that its owner consumes and an output buffer
 * that is sent as the peer takes it. Many frames leave in one send(). Embedded in its owner; loop's thread.
 *
 *      out.data        sent              released          out.len
 *      |  sent          |  may leave now  |  delayed        |
 *
 * Callbacks: on_data when `in` grew, on_drained when the backlog went below TM_CONN_LOW, on_closed once, whatever the
 * reason; the owner may free itself only after the turn of the loop in which that came.
 *
 * Faults live here as far as they are about bytes: a delay for everything that leaves, and a freeze in which nothing
 * is read, sent or answered (half-open).
 */
#ifndef TM_EXCHANGE_CONN_H
#define TM_EXCHANGE_CONN_H

#include "base/buf.h"
#include "loop/loop.h"

#include <openssl/ssl.h>

#define TM_CONN_LOW (256u << 10)

struct tm_conn_ops {
    void (*on_data)(void *owner);
    void (*on_drained)(void *owner);
    void (*on_closed)(void *owner, const char *reason);
};

struct tm_conn {
    struct tm_io io;
    struct tm_timer delay_timer;
    const struct tm_conn_ops *ops;
    void *owner;
    SSL *ssl; /* NULL: plain */
    int fd;   /* -1: closed */
    struct tm_buf in, out, marks;
    size_t sent;
    uint64_t sent_total, released; /* counted from the first byte ever sent */
    uint64_t frames_from;          /* with TLS, one record per frame from this byte on; UINT64_MAX: pack records full */
    int64_t delay_us;
    bool greeted; /* TLS handshake done, or plain */
    bool closing; /* close when all is sent */
    bool frozen;
    bool was_high;
};

/* Take over `fd` (and `ssl`, may be NULL), start reading. */
void tm_conn_init(struct tm_conn *c, struct tm_loop *loop, int fd, SSL *ssl);
void tm_conn_fini(struct tm_conn *c);

/* Bytes that wait to be sent. */
static inline size_t tm_conn_backlog(const struct tm_conn *c)
{
    return c->out.len - c->sent;
}

/* Send what may be sent now; asks the loop for the rest. May call on_closed. */
void tm_conn_flush(struct tm_conn *c);

/* Close when everything has been sent; nothing more is read. */
void tm_conn_finish(struct tm_conn *c);

/* Close now. `reset`: with RST, as a crash or a middlebox would. */
void tm_conn_close(struct tm_conn *c, bool reset, const char *reason);

/* From now on whatever leaves does so `delay_us` after it was due; 0 ends it (what is under way keeps its time). */
void tm_conn_set_delay(struct tm_conn *c, int64_t delay_us);
void tm_conn_set_frozen(struct tm_conn *c, bool frozen);

#endif
