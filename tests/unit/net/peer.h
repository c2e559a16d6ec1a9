/*
 * A peer for the tests of the network room: a raw TCP (or TLS) server on loopback, one thread a connection,
 * blocking, with a function of the test that plays the other side. It shares no code with what it tests;
 * WebSocket frames are put together by hand. And a loop that runs until a condition holds.
 */
#ifndef TM_TEST_NET_PEER_H
#define TM_TEST_NET_PEER_H

#include "base/clock.h"
#include "loop/loop.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <pthread.h>
#include <signal.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#define PEER_WAIT_S 30
#define PATIENCE_MS 30000 /* for what must happen; it takes so long on a busy machine only */
#define PEER_CONNS_MAX 256
#define UNUSED __attribute__((unused))

/* cmocka's assertions belong to the thread of the test; those of a peer end the process. */
#define PEER_CHECK(condition)                                                                                          \
    do {                                                                                                               \
        if (!(condition)) {                                                                                            \
            fprintf(stderr, "%s:%d: peer: not so: %s\n", __FILE__, __LINE__, #condition);                              \
            abort();                                                                                                   \
        }                                                                                                              \
    } while (0)

struct peer;

struct peer_conn {
    struct peer *peer;
    int fd, number; /* number: 0 for the first connection */
    SSL *ssl;
    pthread_t thread;
    char request[8192];
    char key[64]; /* Sec-WebSocket-Key */
};

typedef void peer_fn(struct peer_conn *c);

struct peer {
    int listen_fd, port;
    peer_fn *play;
    void *arg;
    SSL_CTX *tls;
    pthread_t thread;
    pthread_mutex_t lock; /* over the closing of a connection's descriptor */
    _Atomic int accepted;
    _Atomic bool release; /* for conversations that wait for the test */
    int64_t accepted_us[PEER_CONNS_MAX];
    struct peer_conn conns[PEER_CONNS_MAX];
};

/* ---- bytes ---- */

static UNUSED bool peer_write(struct peer_conn *c, const void *bytes, size_t len)
{
    const char *p = bytes;
    while (len) {
        ssize_t n = c->ssl ? SSL_write(c->ssl, p, (int)len) : send(c->fd, p, len, MSG_NOSIGNAL);
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

static UNUSED bool peer_puts(struct peer_conn *c, const char *text)
{
    return peer_write(c, text, strlen(text));
}

static UNUSED ssize_t peer_read_some(struct peer_conn *c, void *out, size_t len)
{
    return c->ssl ? SSL_read(c->ssl, out, (int)len) : recv(c->fd, out, len, 0);
}

static UNUSED bool peer_read(struct peer_conn *c, void *out, size_t len)
{
    char *p = out;
    while (len) {
        ssize_t n = peer_read_some(c, p, len);
        if (n <= 0)
            return false;
        p += n;
        len -= (size_t)n;
    }
    return true;
}

/* Read until the other side closes or PEER_WAIT_S pass. */
static UNUSED void peer_drain(struct peer_conn *c)
{
    char sink[4096];
    while (peer_read_some(c, sink, sizeof sink) > 0)
        ;
}

/* Wait until the test sets peer->release. */
static UNUSED void peer_hold(struct peer_conn *c)
{
    for (int i = 0; i < PEER_WAIT_S * 500 && !atomic_load(&c->peer->release); i++)
        usleep(2000);
}

/* A request head, into c->request. */
static UNUSED bool peer_read_head(struct peer_conn *c)
{
    size_t len = 0;
    memset(c->request, 0, sizeof c->request);
    while (len < sizeof c->request - 1) {
        if (!peer_read(c, c->request + len, 1))
            return false;
        len++;
        if (len >= 4 && !memcmp(c->request + len - 4, "\r\n\r\n", 4))
            return true;
    }
    return false;
}

/* The value of a header in c->request, into `out`; "" if it is not there. */
static UNUSED const char *peer_header(const struct peer_conn *c, const char *name, char *out, size_t size)
{
    size_t name_len = strlen(name);
    out[0] = '\0';
    for (const char *p = c->request; (p = strstr(p, "\r\n")); p += 2)
        if (!strncasecmp(p + 2, name, name_len) && p[2 + name_len] == ':') {
            const char *value = p + 3 + name_len;
            value += strspn(value, " ");
            snprintf(out, size, "%.*s", (int)strcspn(value, "\r"), value);
        }
    return out;
}

/* ---- WebSocket by hand ---- */

/* Read the request, put the answer that accepts it into `out`, with these headers more; its length, or -1. */
static UNUSED int peer_answer(struct peer_conn *c, const char *headers, char *out, size_t size)
{
    char key[64], text[128];
    unsigned char sha[SHA_DIGEST_LENGTH], accept[64];
    if (!peer_read_head(c))
        return -1;
    snprintf(text, sizeof text, "%s258EAFA5-E914-47DA-95CA-C5AB0DC85B11",
             peer_header(c, "Sec-WebSocket-Key", key, sizeof key));
    SHA1((unsigned char *)text, strlen(text), sha);
    EVP_EncodeBlock(accept, sha, sizeof sha);
    return snprintf(out, size,
                    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n%s"
                    "Sec-WebSocket-Accept: %s\r\n\r\n",
                    headers, accept);
}

static UNUSED bool peer_upgrade(struct peer_conn *c)
{
    char answer[256];
    return peer_answer(c, "", answer, sizeof answer) > 0 && peer_puts(c, answer);
}

/* First byte as it goes on the wire (FIN 0x80, opcode), declared length, then `len` bytes. */
static UNUSED size_t frame_head(unsigned char *out, unsigned first, uint64_t declared)
{
    out[0] = (unsigned char)first;
    if (declared < 126) {
        out[1] = (unsigned char)declared;
        return 2;
    }
    bool wide = declared > 0xffff;
    out[1] = wide ? 127 : 126;
    for (int i = 0, n = wide ? 8 : 2; i < n; i++)
        out[2 + i] = (unsigned char)(declared >> 8 * (n - 1 - i));
    return wide ? 10 : 4;
}

static UNUSED bool peer_frame(struct peer_conn *c, unsigned first, const void *bytes, size_t len)
{
    unsigned char head[10];
    size_t n = frame_head(head, first, len);
    return peer_write(c, head, n) && peer_write(c, bytes, len);
}

/* A client's frame, unmasked into `out` (NUL added); its opcode with FIN, or -1. Fails the rule that it is
 * masked. */
static UNUSED int peer_read_frame(struct peer_conn *c, char *out, size_t size, size_t *len)
{
    unsigned char head[2], wide[8], mask[4];
    if (!peer_read(c, head, 2) || !(head[1] & 0x80))
        return -1;
    uint64_t n = head[1] & 0x7f;
    int extra = n == 126 ? 2 : n == 127 ? 8 : 0;
    if (extra) {
        if (!peer_read(c, wide, (size_t)extra))
            return -1;
        n = 0;
        for (int i = 0; i < extra; i++)
            n = n << 8 | wide[i];
    }
    if (!peer_read(c, mask, 4) || n >= size || !peer_read(c, out, n))
        return -1;
    for (uint64_t i = 0; i < n; i++)
        out[i] = (char)(out[i] ^ mask[i % 4]);
    out[n] = '\0';
    *len = n;
    return head[0];
}

/* Read until a close frame comes, and answer it. */
static UNUSED void peer_end(struct peer_conn *c)
{
    char text[4096];
    size_t len;
    int op;
    while ((op = peer_read_frame(c, text, sizeof text, &len)) >= 0 && op != 0x88)
        ;
    if (op == 0x88)
        peer_frame(c, 0x88, text, len);
}

/* ---- the server ---- */

static void *peer_conn_run(void *arg)
{
    struct peer_conn *c = arg;
    bool ready = true;
    if (c->peer->tls) {
        c->ssl = SSL_new(c->peer->tls);
        SSL_set_fd(c->ssl, c->fd);
        ready = SSL_accept(c->ssl) == 1;
    }
    if (ready)
        c->peer->play(c);
    if (c->ssl) {
        if (ready)
            SSL_shutdown(c->ssl);
        SSL_free(c->ssl);
    }
    pthread_mutex_lock(&c->peer->lock);
    close(c->fd);
    c->fd = -1;
    pthread_mutex_unlock(&c->peer->lock);
    return NULL;
}

static void *peer_run(void *arg)
{
    struct peer *p = arg;
    for (;;) {
        int fd = accept4(p->listen_fd, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        int n = atomic_load(&p->accepted);
        if (n == PEER_CONNS_MAX) {
            close(fd);
            continue;
        }
        struct timeval wait = {.tv_sec = PEER_WAIT_S};
        int one = 1;
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait);
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        p->conns[n].peer = p;
        p->conns[n].fd = fd;
        p->conns[n].number = n;
        p->accepted_us[n] = tm_clock_mono_us();
        atomic_store(&p->accepted, n + 1); /* before its conversation, at whose end tests look */
        pthread_create(&p->conns[n].thread, NULL, peer_conn_run, &p->conns[n]);
    }
}

static UNUSED int listen_on_loopback(int *port)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    assert_return_code(bind(fd, (struct sockaddr *)&a, sizeof a), errno);
    assert_return_code(listen(fd, 128), errno);
    assert_return_code(getsockname(fd, (struct sockaddr *)&a, &len), errno);
    *port = ntohs(a.sin_port);
    return fd;
}

static UNUSED struct peer *peer_start(peer_fn *play, void *arg, SSL_CTX *tls)
{
    struct peer *p = calloc(1, sizeof *p);
    signal(SIGPIPE, SIG_IGN);
    pthread_mutex_init(&p->lock, NULL);
    p->listen_fd = listen_on_loopback(&p->port);
    p->play = play;
    p->arg = arg;
    p->tls = tls;
    pthread_create(&p->thread, NULL, peer_run, p);
    return p;
}

static UNUSED void peer_stop(struct peer *p)
{
    atomic_store(&p->release, true);
    shutdown(p->listen_fd, SHUT_RDWR);
    pthread_join(p->thread, NULL);
    close(p->listen_fd);
    pthread_mutex_lock(&p->lock);
    for (int i = 0; i < atomic_load(&p->accepted); i++)
        if (p->conns[i].fd >= 0)
            shutdown(p->conns[i].fd, SHUT_RDWR); /* what has come can still be read */
    pthread_mutex_unlock(&p->lock);
    for (int i = 0; i < atomic_load(&p->accepted); i++)
        pthread_join(p->conns[i].thread, NULL);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

/* ---- certificates, made for the test ---- */

static UNUSED EVP_PKEY *make_key(void)
{
    return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
}

/* Self-signed, valid for `name` (a subjectAltName such as "DNS:localhost" or "IP:127.0.0.1"), from `from_s`
 * to `to_s` seconds from now. Written as PEM to `file`; the server's context comes back. */
static UNUSED SSL_CTX *make_tls_server(const char *name, long from_s, long to_s, const char *file)
{
    EVP_PKEY *key = make_key();
    X509 *cert = X509_new();
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), from_s);
    X509_gmtime_adj(X509_getm_notAfter(cert), to_s);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC, (const unsigned char *)"test", -1, -1,
                               0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_EXTENSION *alt = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, name);
    X509_add_ext(cert, alt, -1);
    X509_EXTENSION_free(alt);
    X509_sign(cert, key, EVP_sha256());
    FILE *f = fopen(file, "w");
    PEM_write_X509(f, cert);
    fclose(f);
    SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
    assert_int_equal(SSL_CTX_use_certificate(ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(ctx, key), 1);
    X509_free(cert);
    EVP_PKEY_free(key);
    return ctx;
}

/* ---- the loop until something holds ---- */

struct waiting {
    struct tm_loop *loop;
    bool (*holds)(void *arg);
    void *arg;
    int64_t until_us;
    bool held;
};

static UNUSED void waiting_check(void *arg)
{
    struct waiting *w = arg;
    w->held = w->holds(w->arg);
    if (w->held || tm_clock_mono_us() > w->until_us)
        tm_loop_stop(w->loop);
}

static UNUSED bool run_until(struct tm_loop *loop, bool (*holds)(void *arg), void *arg, int64_t limit_ms)
{
    struct waiting w = {loop, holds, arg, tm_clock_mono_us() + limit_ms * TM_US_PER_MS, false};
    struct tm_timer timer;
    tm_timer_init(&timer, loop, waiting_check, &w);
    tm_timer_start(&timer, 0, 2 * TM_US_PER_MS);
    tm_loop_run(loop);
    tm_timer_stop(&timer);
    return w.held;
}

static UNUSED bool never(void *arg)
{
    (void)arg;
    return false;
}

#endif
