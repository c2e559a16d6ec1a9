/*
 * Frames that links receive, beside reading the same bytes raw: 291-byte text frames from a sender on loopback that
 * writes many with each call (with TLS each in a record of its own), over 1 and 150 connections, plain and TLS. Per second
 * of the receiving thread's processor time: what one core could take. The floor is read() or SSL_read and a minimal parser
 * of frames.
 *
 *     bench_link [SECONDS [links]] [--quick] [--json]     of each of the eight runs, default 3; `links`: without reading raw
 */
#include "report.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#define PAYLOAD 291
#define FRAME (PAYLOAD + 4)
#define FRAMES_PER_WRITE 64
#define CONNECTIONS_MAX 150
#define READ_BYTES 65536

static SSL_CTX *server_tls, *client_tls;
static char ca_file[] = "/tmp/bench_link-XXXXXX";
static int64_t run_us;

/* One of the eight runs; the sender's connections are in order of their arrival. */
struct run {
    int connections, port, listener;
    bool tls;
    _Atomic bool over;
    uint64_t messages;
    int64_t first_us;
    double first_cpu, cpu;
    int down;
    struct tm_loop *loop;
    struct tm_link *links[CONNECTIONS_MAX];
    struct tm_timer end;
};

static _Noreturn void die(const char *what)
{
    fprintf(stderr, "bench_link: %s: %s\n", what, strerror(errno));
    ERR_print_errors_fp(stderr);
    exit(1);
}

static double thread_cpu(void)
{
    struct rusage use;
    getrusage(RUSAGE_THREAD, &use);
    return (double)(use.ru_utime.tv_sec + use.ru_stime.tv_sec) +
           (double)(use.ru_utime.tv_usec + use.ru_stime.tv_usec) / 1e6;
}

static void count(struct run *r, uint64_t messages)
{
    if (!r->messages) {
        r->first_us = tm_clock_mono_us();
        r->first_cpu = thread_cpu();
    }
    r->messages += messages;
}

/* ---- the sender ---- */

/* A key and a certificate for 127.0.0.1 that last as long as the run. */
static void make_tls(void)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509V3_CTX v3;
    server_tls = SSL_CTX_new(TLS_server_method());
    client_tls = SSL_CTX_new(TLS_client_method());
    if (!key || !cert || !server_tls || !client_tls)
        die("TLS");
    X509_set_version(cert, X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -60);
    X509_gmtime_adj(X509_getm_notAfter(cert), 86400);
    X509_set_pubkey(cert, key);
    X509_NAME *name = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const unsigned char *)"bench", -1, -1, 0);
    X509_set_issuer_name(cert, name);
    X509V3_set_ctx(&v3, cert, cert, NULL, NULL, 0);
    X509_EXTENSION *san = X509V3_EXT_conf_nid(NULL, &v3, NID_subject_alt_name, "IP:127.0.0.1");
    X509_EXTENSION *ca = X509V3_EXT_conf_nid(NULL, &v3, NID_basic_constraints, "critical,CA:TRUE");
    X509_add_ext(cert, san, -1);
    X509_add_ext(cert, ca, -1);
    FILE *f = fdopen(mkstemp(ca_file), "w");
    if (!X509_sign(cert, key, EVP_sha256()) || !SSL_CTX_use_certificate(server_tls, cert) ||
        !SSL_CTX_use_PrivateKey(server_tls, key) || !f || !PEM_write_X509(f, cert) || fclose(f))
        die("certificate");
    X509_EXTENSION_free(san);
    X509_EXTENSION_free(ca);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static ssize_t put(int fd, SSL *ssl, const void *bytes, size_t len)
{
    return ssl ? SSL_write(ssl, bytes, (int)len) : send(fd, bytes, len, MSG_NOSIGNAL);
}

static void upgrade(int fd, SSL *ssl)
{
    char request[4096] = "", text[200], answer[300];
    unsigned char sha[SHA_DIGEST_LENGTH], accept[64];
    for (size_t len = 0; len < sizeof request - 1 && !strstr(request, "\r\n\r\n"); len++)
        if ((ssl ? SSL_read(ssl, request + len, 1) : read(fd, request + len, 1)) != 1)
            die("the upgrade");
    const char *key = strstr(request, "Sec-WebSocket-Key: ");
    if (!key)
        die("no key");
    int n = snprintf(text, sizeof text, "%.24s258EAFA5-E914-47DA-95CA-C5AB0DC85B11", key + 19);
    SHA1((unsigned char *)text, (size_t)n, sha);
    EVP_EncodeBlock(accept, sha, sizeof sha);
    n = snprintf(answer, sizeof answer,
                 "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: %s\r\n\r\n",
                 accept);
    (void)!put(fd, ssl, answer, (size_t)n);
}

static bool send_some(int fd, SSL *ssl, const char *frames)
{
    for (size_t at = 0; at < (size_t)FRAMES_PER_WRITE * FRAME;) {
        ssize_t n = put(fd, ssl, frames + at, ssl ? FRAME : (size_t)FRAMES_PER_WRITE * FRAME - at);
        if (n <= 0)
            return false;
        at += (size_t)n;
    }
    return true;
}

/* Blocking sockets in turn: the receiver reads all of them, so none of them blocks for long. */
static void *send_frames(void *arg)
{
    static char frames[FRAMES_PER_WRITE * FRAME];
    struct run *r = arg;
    int fd[CONNECTIONS_MAX];
    SSL *ssl[CONNECTIONS_MAX] = {NULL};
    pthread_setname_np(pthread_self(), "sender"); /* for profiles */
    for (size_t i = 0; i < sizeof frames; i += FRAME) {
        memcpy(frames + i, "\x81\x7e\x01\x23", 4);
        memset(frames + i + 4, 'x', PAYLOAD);
    }
    for (int i = 0; i < r->connections; i++) {
        fd[i] = accept(r->listener, NULL, NULL);
        if (r->tls) {
            ssl[i] = SSL_new(server_tls);
            SSL_set_fd(ssl[i], fd[i]);
            if (SSL_accept(ssl[i]) != 1)
                die("SSL_accept");
        }
        upgrade(fd[i], ssl[i]);
    }
    for (int i = 0; !atomic_load(&r->over) && send_some(fd[i], ssl[i], frames);)
        i = (i + 1) % r->connections;
    for (int i = 0; i < r->connections; i++) {
        SSL_free(ssl[i]);
        close(fd[i]);
    }
    return NULL;
}

static void listen_on_loopback(struct run *r)
{
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof a;
    r->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(r->listener, (struct sockaddr *)&a, len) || listen(r->listener, CONNECTIONS_MAX) ||
        getsockname(r->listener, (struct sockaddr *)&a, &len))
        die("listen");
    r->port = ntohs(a.sin_port);
}

/* ---- raw ---- */

struct raw {
    int fd;
    SSL *ssl;
    size_t len;
    unsigned char in[READ_BYTES];
};

static ssize_t take(struct raw *c)
{
    if (!c->ssl)
        return recv(c->fd, c->in + c->len, sizeof c->in - c->len, MSG_DONTWAIT);
    int n = SSL_read(c->ssl, c->in + c->len, (int)(sizeof c->in - c->len));
    return n > 0 ? n : -1;
}

static void raw_connect(const struct run *r, struct raw *c)
{
    static const char get[] = "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                              "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_port = htons((uint16_t)r->port)};
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (connect(c->fd, (struct sockaddr *)&at, sizeof at))
        die("connect");
    if (r->tls) {
        c->ssl = SSL_new(client_tls);
        SSL_set_read_ahead(c->ssl, 1);
        SSL_set_fd(c->ssl, c->fd);
        if (SSL_connect(c->ssl) != 1)
            die("SSL_connect");
    }
    (void)!put(c->fd, c->ssl, get, sizeof get - 1);
    for (char *end = NULL; !end;) {
        ssize_t n = c->ssl ? SSL_read(c->ssl, c->in + c->len, (int)(sizeof c->in - c->len))
                           : recv(c->fd, c->in + c->len, sizeof c->in - c->len, 0);
        if (n <= 0)
            die("no answer to the upgrade");
        c->len += (size_t)n;
        end = memmem(c->in, c->len, "\r\n\r\n", 4);
        if (end) {
            size_t head = (size_t)((unsigned char *)end + 4 - c->in);
            memmove(c->in, c->in + head, c->len -= head);
        }
    }
    (void)fcntl(c->fd, F_SETFL, O_NONBLOCK);
}

/* Whole frames at the front are counted and dropped. */
static uint64_t frames_of(struct raw *c)
{
    uint64_t frames = 0;
    size_t at = 0;
    while (c->len - at >= 4) {
        size_t len = c->in[at + 1] & 127, head = len == 126 ? 4 : 2;
        len = len == 126 ? (size_t)(c->in[at + 2] << 8 | c->in[at + 3]) : len;
        if (head + len > c->len - at)
            break;
        at += head + len;
        frames++;
    }
    memmove(c->in, c->in + at, c->len -= at);
    return frames;
}

static void raw_run(struct run *r)
{
    struct raw *all = calloc((size_t)r->connections, sizeof *all);
    struct pollfd polled[CONNECTIONS_MAX];
    if (!all)
        die("memory");
    for (int i = 0; i < r->connections; i++) {
        raw_connect(r, &all[i]);
        polled[i] = (struct pollfd){.fd = all[i].fd, .events = POLLIN};
    }
    while (!r->messages || tm_clock_mono_us() - r->first_us < run_us) {
        (void)poll(polled, (nfds_t)r->connections, 1000);
        for (int i = 0; i < r->connections; i++) {
            ssize_t n = polled[i].revents ? 1 : 0;
            while (n > 0 && (n = take(&all[i])) > 0) {
                all[i].len += (size_t)n;
                count(r, frames_of(&all[i]));
            }
        }
    }
    r->cpu = thread_cpu() - r->first_cpu;
    atomic_store(&r->over, true);
    for (int i = 0; i < r->connections; i++) {
        SSL_free(all[i].ssl);
        close(all[i].fd);
    }
    free(all);
}

/* ---- links ---- */

static void on_message(void *arg, const char *bytes, size_t len)
{
    (void)bytes;
    struct run *r = arg;
    if (len != PAYLOAD)
        die("a frame of another length");
    if (!r->messages)
        tm_timer_start(&r->end, run_us, 0); /* all connections are up */
    count(r, 1);
}

static void on_down(void *arg, enum tm_ws_why why, int status, const char *text)
{
    struct run *r = arg;
    if (why != TM_WS_LOCAL) {
        fprintf(stderr, "bench_link: lost: %s %d %s\n", tm_ws_why_name(why), status, text);
        exit(1);
    }
    if (++r->down == r->connections)
        tm_loop_stop(r->loop);
}

static void on_end(void *arg)
{
    struct run *r = arg;
    r->cpu = thread_cpu() - r->first_cpu;
    atomic_store(&r->over, true);
    for (int i = 0; i < r->connections; i++)
        tm_link_stop(r->links[i]);
}

static void link_run(struct run *r)
{
    static const struct tm_link_events events = {.on_message = on_message, .on_down = on_down};
    struct tm_ws_context *context;
    struct tm_error err;
    char url[64];
    snprintf(url, sizeof url, "%s://127.0.0.1:%d/", r->tls ? "wss" : "ws", r->port);
    struct tm_ws_options options = {.url = url, .ca_file = r->tls ? ca_file : NULL};
    struct tm_link_limiter *limiter = tm_link_limiter_create(1000, 1000);
    r->loop = tm_loop_create();
    if (tm_ws_context_create(r->loop, &context, &err))
        die(err.message);
    for (int i = 0; i < r->connections; i++) {
        if (tm_link_create(context, limiter, &options, &events, r, &r->links[i], &err))
            die(err.message);
        tm_link_start(r->links[i]);
    }
    tm_timer_init(&r->end, r->loop, on_end, r);
    tm_loop_run(r->loop);
    for (int i = 0; i < r->connections; i++)
        tm_link_destroy(r->links[i]);
    tm_ws_context_destroy(context);
    tm_link_limiter_destroy(limiter);
    tm_loop_destroy(r->loop);
}

/* Messages a second of processor time. */
static double measure(const char *what, int connections, bool tls, void (*receive)(struct run *))
{
    struct run r = {.connections = connections, .tls = tls};
    pthread_t sender;
    listen_on_loopback(&r);
    pthread_create(&sender, NULL, send_frames, &r);
    receive(&r);
    double wall = (double)(tm_clock_mono_us() - r.first_us) / 1e6;
    pthread_join(sender, NULL);
    close(r.listener);
    tm_bench_note("%-5s %3d %s: %.0f messages in %.2f s, %.2f us of processor time each\n", what, connections,
                  tls ? "TLS" : "plain", (double)r.messages, wall, 1e6 * r.cpu / (double)r.messages);
    return (double)r.messages / r.cpu;
}

int main(int argc, char **argv)
{
    static const char *const names[] = {"link/plain-1", "link/plain-150", "link/tls-1", "link/tls-150"};
    tm_bench_begin(&argc, argv);
    run_us = (int64_t)((argc > 1 ? atof(argv[1]) : tm_bench_quick ? 0.5 : 3) * 1e6);
    tm_log_init(TM_LOG_WARN, TM_LOG_LOGFMT, NULL);
    signal(SIGPIPE, SIG_IGN);
    make_tls();
    for (int i = 0; i < 4; i++) {
        int connections = i % 2 ? CONNECTIONS_MAX : 1;
        double links = measure("links", connections, i / 2, link_run);
        double raw = argc > 2 ? 0 : measure("raw", connections, i / 2, raw_run);
        tm_bench_report(&(struct tm_bench_result){names[i], links, "msg/s", raw, "raw reading"});
    }
    SSL_CTX_free(server_tls);
    SSL_CTX_free(client_tls);
    return unlink(ca_file);
}
