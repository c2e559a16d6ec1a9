#include "exchange/server.h"
#include "base/clock.h"
#include "base/log.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/err.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 1024
#define ACCEPTS_PER_TURN 64

struct tm_peer {
    struct tm_conn conn;
    struct tm_server *server;
    struct tm_client *client; /* after the upgrade */
    struct tm_peer *next, **back;
    bool mute;
};

static void unlink_peer(struct tm_peer *p)
{
    *p->back = p->next;
    if (p->next)
        p->next->back = p->back;
}

static void link_peer(struct tm_peer **list, struct tm_peer *p)
{
    p->next = *list;
    p->back = list;
    if (p->next)
        p->next->back = &p->next;
    *list = p;
}

static void free_peer(struct tm_peer *p)
{
    unlink_peer(p);
    tm_conn_fini(&p->conn);
    if (p->client)
        tm_client_free(p->client);
    free(p);
}

static void on_turn(void *arg)
{
    struct tm_server *s = arg;
    tm_feed_flush(s->feed);
    while (s->gone)
        free_peer(s->gone);
}

static void on_closed(void *owner, const char *reason)
{
    struct tm_peer *p = owner;
    if (p->client)
        tm_client_close(p->client, reason);
    unlink_peer(p);
    link_peer(&p->server->gone, p);
}

static void on_drained(void *owner)
{
    struct tm_peer *p = owner;
    if (p->client)
        tm_client_on_drained(p->client);
}

/* Upgrades */

static void copy_text(struct tm_slice from, char *to, size_t size)
{
    (void)snprintf(to, size, "%.*s", (int)from.len, from.at);
}

static bool wants_upgrade(const struct tm_request *r)
{
    return tm_http_has_word(tm_http_header(r, "Upgrade"), "websocket") &&
           tm_http_has_word(tm_http_header(r, "Connection"), "upgrade") &&
           tm_json_is(tm_http_header(r, "Sec-WebSocket-Version"), "13") &&
           tm_http_header(r, "Sec-WebSocket-Key").len == 24;
}

static void accept_upgrade(struct tm_peer *p, const struct tm_request *r, const struct tm_identity *who)
{
    char accept[29];
    tm_ws_accept_key(tm_http_header(r, "Sec-WebSocket-Key"), accept);
    if (tm_buf_printf(&p->conn.out,
                      "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                      "Sec-WebSocket-Accept: %s\r\n\r\n",
                      accept)) {
        tm_conn_close(&p->conn, true, "out of memory");
        return;
    }
    if (p->server->feed->opt->tls_record_per_message)
        p->conn.frames_from = p->conn.sent_total + tm_conn_backlog(&p->conn);
    p->client = tm_client_open(p->server->feed, &p->conn, who);
    tm_client_mark(p->client);
}

static void upgrade(struct tm_peer *p, const struct tm_request *r)
{
    struct tm_reply reply = {0};
    char label[80] = "", key[80], agent[160];
    copy_text(tm_http_header(r, "KALSHI-ACCESS-KEY"), key, sizeof key);
    copy_text(tm_http_header(r, "User-Agent"), agent, sizeof agent);
    tm_query_get(r->query, "label", label, sizeof label);
    struct tm_identity who = {label[0] ? label : key[0] ? key : agent, key, agent};
    struct tm_fault *fault = tm_faults_meet(p->server->faults, TM_FAULT_HANDSHAKE, &who, r->path);
    if (fault) {
        tm_fault_reply(fault, &reply);
    } else if (tm_auth_check(p->server->auth, r, tm_clock_wall_us(), &reply)) {
        if (wants_upgrade(r)) {
            accept_upgrade(p, r, &who);
            return;
        }
        reply.extra = "Sec-WebSocket-Version: 13\r\n";
        tm_reply_printf(&reply, 426,
                        "{\"error\":{\"code\":\"upgrade_required\",\"message\":\"expected a WebSocket "
                        "handshake, version 13\"}}");
    }
    tm_http_send(&p->conn, r, &reply);
    tm_buf_fini(&reply.body);
}

/* Requests */

static bool under(struct tm_slice path, const char *base)
{
    size_t len = strlen(base);
    return path.len >= len && memcmp(path.at, base, len) == 0 && (path.len == len || path.at[len] == '/');
}

static void answer(struct tm_peer *p, const struct tm_request *r)
{
    struct tm_reply reply = {0};
    if (tm_json_is(r->path, TM_WS_PATH)) {
        upgrade(p, r);
        return;
    }
    if (under(r->path, TM_REST_BASE))
        tm_rest_handle(p->server->rest, r, tm_clock_wall_us(), &reply);
    else if (under(r->path, TM_CONTROL_BASE))
        tm_control_handle(p->server->control, r, &reply);
    if (!reply.status) {
        reply.type = "text/plain";
        tm_reply_printf(&reply, 404, "404 page not found\n");
    }
    tm_http_send(&p->conn, r, &reply);
    tm_buf_fini(&reply.body);
}

static void refuse(struct tm_peer *p, int status)
{
    struct tm_reply reply = {.type = "text/plain"};
    tm_reply_printf(&reply, status, "the request could not be read\n");
    tm_http_send(&p->conn, NULL, &reply);
    tm_buf_fini(&reply.body);
}

static void on_data(void *owner)
{
    struct tm_peer *p = owner;
    while (p->conn.fd >= 0 && !p->conn.closing && p->conn.in.len && !p->client && !p->mute) {
        struct tm_request r;
        int status = 400, rc = tm_http_parse(&p->conn.in, &r, &status);
        if (rc == TM_ERETRY)
            return;
        if (rc) {
            refuse(p, status);
            return;
        }
        answer(p, &r);
        tm_buf_consume(&p->conn.in, r.length);
    }
    if (p->client && p->conn.in.len)
        tm_client_on_data(p->client);
    if (p->mute)
        tm_buf_clear(&p->conn.in);
}

/* Accepting */

static const struct tm_conn_ops peer_ops = {on_data, on_drained, on_closed};

static void reset(int fd)
{
    struct linger hard = {.l_onoff = 1, .l_linger = 0};
    (void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof hard);
    (void)close(fd);
}

static SSL *make_ssl(struct tm_listener *l, int fd)
{
    SSL *ssl = SSL_new(l->server->tls);
    TM_FATAL_UNLESS(ssl && SSL_set_fd(ssl, fd) == 1);
    SSL_set_accept_state(ssl);
    return ssl;
}

static void take_peer(struct tm_listener *l, int fd)
{
    struct tm_server *s = l->server;
    struct tm_slice nothing = {"", 0};
    if (tm_faults_meet(s->faults, TM_FAULT_REFUSE, NULL, nothing)) {
        reset(fd);
        return;
    }
    struct tm_peer *p = calloc(1, sizeof *p);
    TM_FATAL_UNLESS(p);
    p->server = s;
    p->conn.ops = &peer_ops;
    p->conn.owner = p;
    p->mute = tm_faults_meet(s->faults, TM_FAULT_SILENCE, NULL, nothing) != NULL;
    link_peer(&s->peers, p);
    tm_conn_init(&p->conn, s->loop, fd, l->tls ? make_ssl(l, fd) : NULL);
    if (p->mute)
        tm_conn_set_frozen(&p->conn, true);
}

static void on_accept(void *arg, int events)
{
    struct tm_listener *l = arg;
    (void)events;
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            take_peer(l, fd);
            continue;
        }
        if (errno != EAGAIN && errno != EINTR && errno != ECONNABORTED)
            TM_LOG_LIMITED(TM_LOG_WARN, "exchange", "cannot accept", TM_F_STR("cause", strerror(errno)));
        return;
    }
}

/* Opening */

static int resolve(const char *where, struct sockaddr_in *at, struct tm_error *err)
{
    char host[64];
    const char *colon = strrchr(where, ':');
    char *rest = NULL;
    long port = colon ? strtol(colon + 1, &rest, 10) : -1;
    *at = (struct sockaddr_in){.sin_family = AF_INET};
    if (!colon || rest == colon + 1 || *rest || port < 0 || port > 65535 || colon - where >= (long)sizeof host)
        return tm_error_set(err, TM_EINVAL, "listen: expected ADDR:PORT such as 127.0.0.1:0, got \"%s\"", where);
    (void)snprintf(host, sizeof host, "%.*s", (int)(colon - where), where);
    at->sin_port = htons((uint16_t)port);
    if (inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &at->sin_addr) == 1)
        return TM_OK;
    return tm_error_set(err, TM_EINVAL, "listen: expected an IPv4 address, got \"%s\"", host);
}

static int bind_to(struct tm_listener *l, struct sockaddr_in at, struct tm_error *err)
{
    int on = 1;
    socklen_t len = sizeof at;
    l->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (l->fd < 0)
        return tm_error_errno(err, TM_EIO, errno, "listen: socket");
    (void)setsockopt(l->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(l->fd, (struct sockaddr *)&at, sizeof at) || listen(l->fd, BACKLOG) ||
        getsockname(l->fd, (struct sockaddr *)&at, &len))
        return tm_error_errno(err, TM_EIO, errno, "listen: port %u", ntohs(at.sin_port));
    char host[INET_ADDRSTRLEN];
    (void)inet_ntop(AF_INET, &at.sin_addr, host, sizeof host);
    (void)snprintf(l->address, sizeof l->address, "%s:%u", host, ntohs(at.sin_port));
    return TM_OK;
}

static int open_listener(struct tm_listener *l, const char *where, struct tm_error *err)
{
    struct sockaddr_in at;
    int rc = resolve(where, &at, err);
    if (!rc)
        rc = bind_to(l, at, err);
    if (rc)
        return rc;
    tm_io_init(&l->io, l->server->loop, l->fd, on_accept, l);
    tm_io_set(&l->io, EV_READ);
    return TM_OK;
}

static int open_tls(struct tm_server *s, const struct tm_options *o, struct tm_error *err)
{
    s->tls = SSL_CTX_new(TLS_server_method());
    TM_FATAL_UNLESS(s->tls);
    SSL_CTX_set_min_proto_version(s->tls, TLS1_2_VERSION);
    SSL_CTX_set_mode(s->tls, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    if (SSL_CTX_use_certificate_chain_file(s->tls, o->tls_cert) == 1 &&
        SSL_CTX_use_PrivateKey_file(s->tls, o->tls_key, SSL_FILETYPE_PEM) == 1 &&
        SSL_CTX_check_private_key(s->tls) == 1)
        return TM_OK;
    char why[160];
    ERR_error_string_n(ERR_get_error(), why, sizeof why);
    return tm_error_set(err, TM_EINVAL, "TLS: certificate %s and key %s cannot be used: %s", o->tls_cert, o->tls_key,
                        why);
}

int tm_server_open(struct tm_server *s, const struct tm_options *o, struct tm_error *err)
{
    s->plain = (struct tm_listener){.server = s, .fd = -1};
    s->secure = (struct tm_listener){.server = s, .fd = -1, .tls = true};
    tm_prepare_init(&s->turn, s->loop, on_turn, s);
    int rc = open_listener(&s->plain, o->listen, err);
    if (!rc && o->tls_cert)
        rc = open_tls(s, o, err);
    if (!rc && o->tls_cert)
        rc = open_listener(&s->secure, o->tls_listen, err);
    return rc;
}

static void close_listener(struct tm_listener *l)
{
    if (l->fd < 0)
        return;
    if (l->address[0])
        tm_io_set(&l->io, 0);
    (void)close(l->fd);
    l->fd = -1;
}

void tm_server_close(struct tm_server *s)
{
    close_listener(&s->plain);
    close_listener(&s->secure);
    while (s->peers)
        tm_conn_close(&s->peers->conn, false, "exchange stopped");
    while (s->gone)
        free_peer(s->gone);
    tm_prepare_fini(&s->turn);
    SSL_CTX_free(s->tls);
}
