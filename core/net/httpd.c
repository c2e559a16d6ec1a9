#include "net/httpd.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/httpd_request.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 32 /* a listener */
#define HEAD_TIMEOUT_US (5 * TM_US_PER_S)
#define IDLE_TIMEOUT_US (60 * TM_US_PER_S)  /* between requests; longer than a scrape interval */
#define WRITE_TIMEOUT_US (10 * TM_US_PER_S) /* for the client to take the whole answer */
#define DRAIN_TIMEOUT_US TM_US_PER_S
#define DRAIN_BYTES_MAX 262144
#define ACCEPT_PAUSE_US (100 * TM_US_PER_MS) /* when no descriptor is left */

/*
 * READING --head whole--> WRITING --answered, keep-alive--> READING
 *    |                       |--answered, close--> DRAINING --> closed
 * DRAINING reads on and discards: closing with unread bytes would reset the connection under the answer.
 */
enum conn_state { CONN_READING, CONN_WRITING, CONN_DRAINING };

struct route {
    struct route *next;
    char *path;
    tm_httpd_handler *handler;
    void *arg;
};

struct conn {
    struct conn *next;
    struct listener *listener;
    int fd;
    enum conn_state state;
    struct tm_io io;
    struct tm_timer timer;
    int64_t waiting_since_us; /* READING, DRAINING */
    bool keep_alive;
    size_t in_len, out_sent, drained;
    struct tm_buf out;
    char in[TM_HTTPD_HEAD_MAX];
};

struct listener {
    struct listener *next;
    struct tm_httpd *httpd;
    char *address;
    int fd, port;
    struct tm_io io;
    struct tm_timer pause;
    struct route *routes;
    struct conn *conns;
    size_t conn_count;
};

struct tm_httpd {
    struct tm_loop *loop;
    struct listener *listeners;
    struct tm_buf body; /* of the answer in hand */
};

static void conn_close(struct conn *c)
{
    struct conn **at = &c->listener->conns;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->listener->conn_count--;
    tm_io_set(&c->io, 0);
    tm_timer_stop(&c->timer);
    close(c->fd);
    tm_buf_fini(&c->out);
    free(c);
}

static const char *reason_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    case 505:
        return "HTTP Version Not Supported";
    default:
        return "Unknown";
    }
}

/* Put head and body into the output. */
static int compose(struct conn *c, const struct tm_httpd_answer *answer, bool head_only)
{
    char date[40];
    time_t now = time(NULL);
    struct tm utc;
    strftime(date, sizeof date, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &utc));
    tm_buf_clear(&c->out);
    c->out_sent = 0;
    int rc = tm_buf_printf(&c->out,
                           "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                           "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n%sConnection: %s\r\n\r\n",
                           answer->status, reason_of(answer->status), date, answer->content_type, answer->body->len,
                           answer->status == 405 ? "Allow: GET, HEAD\r\n" : "", c->keep_alive ? "keep-alive" : "close");
    if (!rc && !head_only)
        rc = tm_buf_append(&c->out, answer->body->data, answer->body->len);
    return rc;
}

static struct tm_httpd_answer fresh_answer(struct tm_httpd *httpd)
{
    tm_buf_clear(&httpd->body);
    return (struct tm_httpd_answer){200, "text/plain; charset=utf-8", &httpd->body};
}

static int compose_error(struct conn *c, int status, bool head_only)
{
    struct tm_httpd_answer answer = fresh_answer(c->listener->httpd);
    answer.status = status;
    int rc = tm_buf_printf(answer.body, "%d %s\n", status, reason_of(status));
    return rc ? rc : compose(c, &answer, head_only);
}

static int compose_answer(struct conn *c, const struct tm_httpd_request *request)
{
    const struct route *r = c->listener->routes;
    while (r && strcmp(r->path, request->path))
        r = r->next;
    if (!r)
        return compose_error(c, 404, request->head);
    struct tm_httpd_answer answer = fresh_answer(c->listener->httpd);
    r->handler(r->arg, request->path, request->query, &answer);
    return compose(c, &answer, request->head);
}

static void conn_wait(struct conn *c, enum conn_state state, int64_t timeout_us)
{
    c->state = state;
    c->waiting_since_us = tm_clock_mono_us();
    tm_timer_start(&c->timer, timeout_us, 0);
    tm_io_set(&c->io, EV_READ);
}

/* Write on; true when everything is out. The connection may be gone after false. */
static bool conn_write(struct conn *c)
{
    while (c->out_sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            tm_io_set(&c->io, EV_WRITE);
            return false;
        }
        if (n < 0) {
            conn_close(c);
            return false;
        }
        c->out_sent += (size_t)n;
    }
    if (c->keep_alive)
        return true;
    (void)shutdown(c->fd, SHUT_WR);
    conn_wait(c, CONN_DRAINING, DRAIN_TIMEOUT_US);
    return false;
}

static bool conn_answer(struct conn *c, int status, const struct tm_httpd_request *request)
{
    c->keep_alive = status == 200 && request->keep_alive;
    if (status == 200 ? compose_answer(c, request) : compose_error(c, status, false)) {
        TM_LOG_LIMITED(TM_LOG_ERROR, "net", "no memory for an HTTP answer", TM_F_STR("at", c->listener->address));
        conn_close(c);
        return false;
    }
    if (status == 200) {
        c->in_len -= request->size;
        memmove(c->in, c->in + request->size, c->in_len);
    }
    c->state = CONN_WRITING;
    tm_timer_start(&c->timer, WRITE_TIMEOUT_US, 0);
    return conn_write(c);
}

/* Answer every request that is whole; then wait for the rest of the next. */
static void conn_serve(struct conn *c)
{
    for (;;) {
        struct tm_httpd_request request;
        int status = tm_httpd_request_parse(c->in, c->in_len, &request);
        if (!status)
            break;
        if (!conn_answer(c, status, &request))
            return;
        conn_wait(c, CONN_READING, IDLE_TIMEOUT_US);
    }
    tm_io_set(&c->io, EV_READ);
}

static void conn_read(struct conn *c)
{
    ssize_t n = recv(c->fd, c->in + c->in_len, sizeof c->in - c->in_len, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    if (n <= 0) {
        conn_close(c);
        return;
    }
    if (!c->in_len)
        tm_timer_start(&c->timer, HEAD_TIMEOUT_US, 0);
    c->in_len += (size_t)n;
    conn_serve(c);
}

static void conn_drain(struct conn *c)
{
    ssize_t n = recv(c->fd, c->in, sizeof c->in, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    c->drained += n > 0 ? (size_t)n : 0;
    if (n <= 0 || c->drained > DRAIN_BYTES_MAX)
        conn_close(c);
}

static void on_conn_io(void *arg, int events)
{
    struct conn *c = arg;
    (void)events;
    if (c->state == CONN_READING) {
        conn_read(c);
    } else if (c->state == CONN_DRAINING) {
        conn_drain(c);
    } else if (conn_write(c)) {
        conn_wait(c, CONN_READING, IDLE_TIMEOUT_US);
        conn_serve(c);
    }
}

static void on_conn_timer(void *arg)
{
    conn_close(arg);
}

/* The connection that has kept a place longest without a whole request; NULL if all are being answered. */
static struct conn *longest_waiting(const struct listener *l)
{
    struct conn *longest = NULL;
    for (struct conn *c = l->conns; c; c = c->next)
        if (c->state != CONN_WRITING && (!longest || c->waiting_since_us < longest->waiting_since_us))
            longest = c;
    return longest;
}

static void refuse(int fd)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    (void)!send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
    close(fd);
}

static void add_conn(struct listener *l, int fd)
{
    if (l->conn_count >= CONNECTIONS_MAX && longest_waiting(l))
        conn_close(longest_waiting(l));
    struct conn *c = l->conn_count < CONNECTIONS_MAX ? calloc(1, sizeof *c) : NULL;
    if (!c) {
        refuse(fd);
        return;
    }
    c->listener = l;
    c->fd = fd;
    c->next = l->conns;
    l->conns = c;
    l->conn_count++;
    tm_io_init(&c->io, l->httpd->loop, fd, on_conn_io, c);
    tm_timer_init(&c->timer, l->httpd->loop, on_conn_timer, c);
    conn_wait(c, CONN_READING, HEAD_TIMEOUT_US);
}

static void on_accept(void *arg, int events)
{
    struct listener *l = arg;
    (void)events;
    for (int i = 0; i < 16; i++) { /* a turn; the loop has other work */
        int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            add_conn(l, fd);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            TM_LOG_LIMITED(TM_LOG_WARN, "net", "cannot accept a connection", TM_F_STR("at", l->address),
                           TM_F_STR("cause", strerror(errno)));
            tm_io_set(&l->io, 0);
            tm_timer_start(&l->pause, ACCEPT_PAUSE_US, 0);
        }
        return;
    }
}

static void on_pause_over(void *arg)
{
    struct listener *l = arg;
    tm_io_set(&l->io, EV_READ);
}

int tm_httpd_create(struct tm_loop *loop, struct tm_httpd **out, struct tm_error *err)
{
    struct tm_httpd *httpd = calloc(1, sizeof *httpd);
    if (!httpd)
        return tm_error_set(err, TM_ENOMEM, "no memory for the HTTP server");
    httpd->loop = loop;
    *out = httpd;
    return TM_OK;
}

static void free_listener(struct listener *l)
{
    while (l->conns)
        conn_close(l->conns);
    tm_io_set(&l->io, 0);
    tm_timer_stop(&l->pause);
    close(l->fd);
    while (l->routes) {
        struct route *r = l->routes;
        l->routes = r->next;
        free(r->path);
        free(r);
    }
    free(l->address);
    free(l);
}

void tm_httpd_destroy(struct tm_httpd *httpd)
{
    if (!httpd)
        return;
    while (httpd->listeners) {
        struct listener *l = httpd->listeners;
        httpd->listeners = l->next;
        free_listener(l);
    }
    tm_buf_fini(&httpd->body);
    free(httpd);
}

static struct listener *find_listener(const struct tm_httpd *httpd, const char *address)
{
    struct listener *l = httpd->listeners;
    while (l && strcmp(l->address, address))
        l = l->next;
    return l;
}

/* "address:port" or "[v6]:port" into its two parts; numeric both, so that nothing is looked up. */
static struct addrinfo *parse_address(const char *address)
{
    char host[64];
    const char *colon = strrchr(address, ':');
    bool brackets = *address == '[' && colon && colon > address + 1 && colon[-1] == ']';
    size_t len = colon ? (size_t)(colon - address) - (brackets ? 2 : 0) : 0;
    if (!len || len >= sizeof host || (!brackets && memchr(address, ':', len)))
        return NULL;
    memcpy(host, address + brackets, len);
    host[len] = '\0';
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *list = NULL;
    size_t digits = strspn(colon + 1, "0123456789");
    if (!digits || digits > 5 || colon[1 + digits] || atoi(colon + 1) > 65535)
        return NULL;
    return getaddrinfo(host, colon + 1, &hints, &list) ? NULL : list;
}

static int open_socket(const struct addrinfo *a)
{
    int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (a->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
    if (!bind(fd, a->ai_addr, a->ai_addrlen) && !listen(fd, 128))
        return fd;
    int cause = errno;
    close(fd);
    errno = cause;
    return -1;
}

static int port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &len))
        return 0;
    return ntohs(at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                          : ((struct sockaddr_in *)&at)->sin_port);
}

static int bind_error(const char *address, int cause, struct tm_error *err)
{
    if (cause == EADDRINUSE)
        return tm_error_set(err, TM_EIO, "cannot listen on %s: address in use; choose another address", address);
    if (cause == EADDRNOTAVAIL)
        return tm_error_set(err, TM_EINVAL, "cannot listen on %s: this machine does not have that address", address);
    if (cause == EACCES)
        return tm_error_set(err, TM_EDENIED, "cannot listen on %s: permission denied; choose a port from 1024 on",
                            address);
    return tm_error_errno(err, TM_EIO, cause, "cannot listen on %s", address);
}

static int address_error(const char *address, struct tm_error *err)
{
    return tm_error_set(err, TM_EINVAL,
                        "cannot listen on \"%s\": expected ADDRESS:PORT with a numeric address, such as "
                        "127.0.0.1:8080 or [::1]:8080",
                        address);
}

int tm_httpd_check_address(const char *address, struct tm_error *err)
{
    struct addrinfo *a = parse_address(address);
    if (!a)
        return address_error(address, err);
    freeaddrinfo(a);
    return TM_OK;
}

static bool is_wildcard(const struct addrinfo *a)
{
    if (a->ai_family == AF_INET6)
        return IN6_IS_ADDR_UNSPECIFIED(&((const struct sockaddr_in6 *)(const void *)a->ai_addr)->sin6_addr);
    return ((const struct sockaddr_in *)(const void *)a->ai_addr)->sin_addr.s_addr == htonl(INADDR_ANY);
}

static bool is_same_socket(const struct addrinfo *a, const struct addrinfo *b)
{
    if (a->ai_family != b->ai_family)
        return false; /* IPv6 sockets are V6ONLY */
    if (a->ai_family == AF_INET6) {
        const struct sockaddr_in6 *x = (const void *)a->ai_addr, *y = (const void *)b->ai_addr;
        return x->sin6_port && x->sin6_port == y->sin6_port &&
               (is_wildcard(a) || is_wildcard(b) || !memcmp(&x->sin6_addr, &y->sin6_addr, sizeof x->sin6_addr));
    }
    const struct sockaddr_in *x = (const void *)a->ai_addr, *y = (const void *)b->ai_addr;
    return x->sin_port && x->sin_port == y->sin_port &&
           (is_wildcard(a) || is_wildcard(b) || x->sin_addr.s_addr == y->sin_addr.s_addr);
}

bool tm_httpd_addresses_clash(const char *address, const char *other)
{
    if (strcmp(address, other) == 0)
        return false; /* one listener serves both */
    struct addrinfo *a = parse_address(address), *b = parse_address(other);
    bool clash = a && b && is_same_socket(a, b);
    if (a)
        freeaddrinfo(a);
    if (b)
        freeaddrinfo(b);
    return clash;
}

int tm_httpd_listen(struct tm_httpd *httpd, const char *address, struct tm_error *err)
{
    if (find_listener(httpd, address))
        return TM_OK;
    struct addrinfo *a = parse_address(address);
    if (!a)
        return address_error(address, err);
    int fd = open_socket(a), cause = errno;
    freeaddrinfo(a);
    if (fd < 0)
        return bind_error(address, cause, err);
    struct listener *l = calloc(1, sizeof *l);
    TM_FATAL_UNLESS(l && (l->address = strdup(address)));
    l->httpd = httpd;
    l->fd = fd;
    l->port = port_of(fd);
    l->next = httpd->listeners;
    httpd->listeners = l;
    tm_timer_init(&l->pause, httpd->loop, on_pause_over, l);
    tm_io_init(&l->io, httpd->loop, fd, on_accept, l);
    tm_io_set(&l->io, EV_READ);
    return TM_OK;
}

int tm_httpd_route(struct tm_httpd *httpd, const char *address, const char *path, tm_httpd_handler *handler, void *arg,
                   struct tm_error *err)
{
    struct listener *l = find_listener(httpd, address);
    if (!l)
        return tm_error_set(err, TM_ENOENT, "cannot serve %s at %s: nothing listens there", path, address);
    for (const struct route *r = l->routes; r; r = r->next)
        if (!strcmp(r->path, path))
            return tm_error_set(err, TM_ESTATE, "cannot serve %s at %s twice", path, address);
    struct route *r = calloc(1, sizeof *r);
    TM_FATAL_UNLESS(r && (r->path = strdup(path)));
    r->handler = handler;
    r->arg = arg;
    r->next = l->routes;
    l->routes = r;
    return TM_OK;
}

int tm_httpd_port(const struct tm_httpd *httpd, const char *address)
{
    const struct listener *l = find_listener(httpd, address);
    return l ? l->port : 0;
}
