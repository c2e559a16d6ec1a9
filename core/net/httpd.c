#include "net/httpd.h"
#include "base/clock.h"
#include "base/log.h"
#include "net/httpd_address.h"
#include "net/httpd_request.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS_MAX 32 /* a listener */
#define SPARE_MAX 4        /* further ones, for short answers */
#define SHORT_BYTES 16384  /* a socket that is new takes so much at once */
#define HEAD_TIMEOUT_US (5 * TM_US_PER_S)
#define IDLE_TIMEOUT_US (60 * TM_US_PER_S)  /* between requests; longer than a scrape interval */
#define WRITE_TIMEOUT_US (10 * TM_US_PER_S) /* for the client to take the answers to all that it has asked for */
#define STALLED_US (1 * TM_US_PER_S)        /* who has taken nothing for so long gives way */
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
    const char *path; /* owned */
    tm_httpd_handler *handler;
    tm_httpd_taker *take; /* a WebSocket; then there is no handler */
    bool page;            /* for browsers: the names that it may be asked for by are known */
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
    int64_t busy_until_us;    /* WRITING: begins with the first of several answers; 0: none is under way */
    int64_t progress_us;      /* WRITING: when the client last took something */
    bool keep_alive;
    bool spare; /* one short answer, then it is closed */
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
    size_t conn_count, spare_count; /* the latter are among the former */
};

struct tm_httpd {
    struct tm_loop *loop;
    struct listener *listeners;
    struct tm_buf body; /* of the answer in hand */
    char *names;        /* for browsers, each between two spaces; NULL: none */
};

/* Everything but its socket. */
static void conn_free(struct conn *c)
{
    struct conn **at = &c->listener->conns;
    while (*at != c)
        at = &(*at)->next;
    *at = c->next;
    c->listener->conn_count--;
    c->listener->spare_count -= c->spare;
    tm_io_set(&c->io, 0);
    tm_timer_stop(&c->timer);
    tm_buf_fini(&c->out);
    free(c);
}

static void conn_close(struct conn *c)
{
    int fd = c->fd;
    conn_free(c);
    close(fd);
}

static const char *reason_of(int status)
{
    switch (status) {
    case 200:
        return "OK";
    case 400:
        return "Bad Request";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 405:
        return "Method Not Allowed";
    case 413:
        return "Content Too Large";
    case 414:
        return "URI Too Long";
    case 421:
        return "Misdirected Request";
    case 426:
        return "Upgrade Required";
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

/* A header that goes with a status. */
static const char *line_of(int status)
{
    return status == 405 ? "Allow: GET, HEAD\r\n" : status == 426 ? "Upgrade: websocket\r\n" : "";
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
                           "X-Content-Type-Options: nosniff\r\nCache-Control: no-store\r\n%s%sConnection: %s\r\n\r\n",
                           answer->status, reason_of(answer->status), date, answer->content_type, answer->body->len,
                           answer->headers, line_of(answer->status), c->keep_alive ? "keep-alive" : "close");
    if (!rc && !head_only)
        rc = tm_buf_append(&c->out, answer->body->data, answer->body->len);
    return rc;
}

static struct tm_httpd_answer fresh_answer(struct tm_httpd *httpd)
{
    tm_buf_clear(&httpd->body);
    return (struct tm_httpd_answer){200, "text/plain; charset=utf-8", "", &httpd->body};
}

static const char *advice_for(int status)
{
    return status == 421 ? ": ask by address, or allow this name (console_names)" : "";
}

static int compose_error(struct conn *c, int status, bool head_only)
{
    struct tm_httpd_answer answer = fresh_answer(c->listener->httpd);
    answer.status = status;
    int rc = tm_buf_printf(answer.body, "%d %s%s\n", status, reason_of(status), advice_for(status));
    return rc ? rc : compose(c, &answer, head_only);
}

/* The host of "host:port" or "[v6]:port", in lower case; false if it is none. */
static bool host_of(const char *text, char *out, size_t size)
{
    size_t len = text[0] == '[' ? strcspn(text + 1, "]") : strcspn(text, ":");
    const char *from = text + (text[0] == '[');
    if (!len || len >= size || (text[0] == '[' && from[len] != ']'))
        return false;
    for (size_t i = 0; i < len; i++) {
        if (!isalnum((unsigned char)from[i]) && !strchr(".-:_", from[i]))
            return false; /* no name; and one with a space in it would be two of ours */
        out[i] = (char)tolower((unsigned char)from[i]);
    }
    out[len] = '\0';
    return true;
}

/* Whether a browser that asks for this host means us: see the header. */
static bool is_ours(const struct tm_httpd *httpd, const char *host_and_port)
{
    char host[256], own[256] = "", name[260];
    unsigned char address[16];
    if (!host_of(host_and_port, host, sizeof host))
        return false;
    if (inet_pton(AF_INET, host, address) == 1 || inet_pton(AF_INET6, host, address) == 1 || !strcmp(host, "localhost"))
        return true;
    if (!gethostname(own, sizeof own - 1) && !strcasecmp(host, own))
        return true;
    (void)snprintf(name, sizeof name, " %s ", host);
    return httpd->names && strcasestr(httpd->names, name);
}

/* A page names itself where it comes from when it opens a WebSocket; other programs name nothing. */
static bool is_foreign(const struct tm_httpd_request *request)
{
    const char *at = strstr(request->origin, "://");
    return *request->origin && (!at || strcasecmp(at + 3, request->host) != 0);
}

/* 200, or what speaks against the request at this route. */
static int judge(const struct conn *c, const struct route *r, const struct tm_httpd_request *request)
{
    if (r->page && !is_ours(c->listener->httpd, request->host))
        return 421;
    if (!r->take)
        return 200;
    if (!request->websocket)
        return 426;
    if (is_foreign(request))
        return 403;
    return c->in_len > request->size ? 400 : 200; /* nothing may follow before we have answered */
}

static const struct route *find_route(const struct listener *l, const char *path)
{
    const struct route *r = l->routes;
    while (r && strcmp(r->path, path))
        r = r->next;
    return r;
}

static int compose_answer(struct conn *c, const struct route *r, const struct tm_httpd_request *request)
{
    struct tm_httpd_answer answer = fresh_answer(c->listener->httpd);
    r->handler(r->arg, request->path, request->query, &answer);
    return compose(c, &answer, request->head);
}

static void conn_wait(struct conn *c, enum conn_state state, int64_t timeout_us)
{
    c->state = state;
    c->waiting_since_us = tm_clock_mono_us();
    c->busy_until_us = 0;
    tm_timer_start(&c->timer, timeout_us, 0);
    tm_io_set(&c->io, EV_READ);
}

static void conn_busy(struct conn *c)
{
    int64_t now_us = tm_clock_mono_us();
    if (!c->busy_until_us) {
        c->busy_until_us = now_us + WRITE_TIMEOUT_US;
        c->progress_us = now_us;
    }
    c->state = CONN_WRITING;
    tm_timer_start(&c->timer, c->busy_until_us > now_us ? c->busy_until_us - now_us : 1, 0);
}

/* Write on; true when everything is out. The connection may be gone after false. */
static bool conn_write(struct conn *c)
{
    while (c->out_sent < c->out.len) {
        ssize_t n = send(c->fd, c->out.data + c->out_sent, c->out.len - c->out_sent, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) && !c->spare) {
            tm_io_set(&c->io, EV_WRITE);
            return false;
        }
        if (n < 0) {
            conn_close(c);
            return false;
        }
        c->out_sent += (size_t)n;
        c->progress_us = tm_clock_mono_us();
    }
    if (c->keep_alive)
        return true;
    (void)shutdown(c->fd, SHUT_WR);
    conn_wait(c, CONN_DRAINING, DRAIN_TIMEOUT_US);
    return false;
}

/* The socket becomes somebody else's; false: there was no room. */
static bool conn_give(struct conn *c, const struct route *r, const struct tm_httpd_request *request)
{
    tm_io_set(&c->io, 0); /* who takes it has the loop watch it, too */
    if (!r->take(r->arg, c->fd, request->websocket_key))
        return false;
    conn_free(c);
    return true;
}

static int conn_compose(struct conn *c, int status, const struct route *r, const struct tm_httpd_request *request,
                        bool head)
{
    int rc = status == 200 ? compose_answer(c, r, request) : compose_error(c, status, head);
    return !rc && c->spare && c->out.len > SHORT_BYTES ? compose_error(c, 503, head) : rc;
}

/* False: the connection is not to be read from any more, or gone. */
static bool conn_answer(struct conn *c, int status, const struct tm_httpd_request *request)
{
    bool head = status == 200 && request->head;
    const struct route *r = status == 200 ? find_route(c->listener, request->path) : NULL;
    if (status == 200)
        status = r ? judge(c, r, request) : 404;
    if (status == 200 && r->take) {
        if (!c->spare && conn_give(c, r, request))
            return false;
        status = 503;
    }
    bool whole =
        status == 200 || status == 404 || status == 421 || status == 426; /* the request; so the next is welcome */
    c->keep_alive = whole && request->keep_alive && !c->spare;
    if (conn_compose(c, status, r, request, head)) {
        TM_LOG_LIMITED(TM_LOG_ERROR, "net", "no memory for an HTTP answer", TM_F_STR("at", c->listener->address));
        conn_close(c);
        return false;
    }
    if (whole) {
        c->in_len -= request->size;
        memmove(c->in, c->in + request->size, c->in_len);
    }
    conn_busy(c);
    return conn_write(c);
}

/* Answer every request that is whole; then wait for the rest of the next, or for all of it. */
static void conn_serve(struct conn *c)
{
    struct tm_httpd_request request;
    int status;
    while ((status = tm_httpd_request_parse(c->in, c->in_len, &request)))
        if (!conn_answer(c, status, &request))
            return;
    if (c->state == CONN_WRITING)
        conn_wait(c, CONN_READING, c->in_len ? HEAD_TIMEOUT_US : IDLE_TIMEOUT_US);
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
        conn_serve(c);
    }
}

static void on_conn_timer(void *arg)
{
    conn_close(arg);
}

/* The connection that has kept a place longest without a whole request; NULL if all are being answered. */
static struct conn *longest_waiting(const struct listener *l, bool spare)
{
    struct conn *longest = NULL;
    for (struct conn *c = l->conns; c; c = c->next)
        if (c->state != CONN_WRITING && c->spare == spare &&
            (!longest || c->waiting_since_us < longest->waiting_since_us))
            longest = c;
    return longest;
}

/* The one that has taken nothing of its answer for longest; NULL if all have, of late. */
static struct conn *longest_stalled(const struct listener *l)
{
    struct conn *longest = NULL;
    int64_t before_us = tm_clock_mono_us() - STALLED_US;
    for (struct conn *c = l->conns; c; c = c->next)
        if (c->state == CONN_WRITING && c->progress_us <= before_us &&
            (!longest || c->progress_us < longest->progress_us))
            longest = c;
    return longest;
}

/* A place for a newcomer; false: it is one of the spare ones. */
static bool make_place(struct listener *l)
{
    if (l->conn_count - l->spare_count < CONNECTIONS_MAX)
        return true;
    struct conn *gone = longest_stalled(l);
    gone = gone ? gone : longest_waiting(l, false);
    bool ordinary = gone;
    if (!gone && l->spare_count == SPARE_MAX)
        gone = longest_waiting(l, true); /* they are never being answered */
    if (gone)
        conn_close(gone);
    return ordinary;
}

static void refuse(int fd)
{
    static const char answer[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    (void)!send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL);
    close(fd);
}

static void add_conn(struct listener *l, int fd)
{
    bool ordinary = make_place(l);
    struct conn *c = calloc(1, sizeof *c);
    if (!c) {
        refuse(fd);
        return;
    }
    c->listener = l;
    c->fd = fd;
    c->next = l->conns;
    l->conns = c;
    l->conn_count++;
    c->spare = !ordinary;
    l->spare_count += c->spare;
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
        free((void *)(uintptr_t)r->path);
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
    free(httpd->names);
    free(httpd);
}

void tm_httpd_allow_names(struct tm_httpd *httpd, const char *names)
{
    free(httpd->names);
    TM_FATAL_UNLESS(asprintf(&httpd->names, " %s ", names) > 0);
}

static struct listener *find_listener(const struct tm_httpd *httpd, const char *address)
{
    struct listener *l = httpd->listeners;
    while (l && strcmp(l->address, address))
        l = l->next;
    return l;
}

int tm_httpd_listen(struct tm_httpd *httpd, const char *address, struct tm_error *err)
{
    if (find_listener(httpd, address))
        return TM_OK;
    int fd, rc = tm_httpd_open(address, &fd, err);
    if (rc)
        return rc;
    struct listener *l = calloc(1, sizeof *l);
    TM_FATAL_UNLESS(l && (l->address = strdup(address)));
    l->httpd = httpd;
    l->fd = fd;
    l->port = tm_httpd_port_of(fd);
    l->next = httpd->listeners;
    httpd->listeners = l;
    tm_timer_init(&l->pause, httpd->loop, on_pause_over, l);
    tm_io_init(&l->io, httpd->loop, fd, on_accept, l);
    tm_io_set(&l->io, EV_READ);
    return TM_OK;
}

static int add_route(struct tm_httpd *httpd, const char *address, const struct route *def, struct tm_error *err)
{
    struct listener *l = find_listener(httpd, address);
    if (!l)
        return tm_error_set(err, TM_ENOENT, "cannot serve %s at %s: nothing listens there", def->path, address);
    if (find_route(l, def->path))
        return tm_error_set(err, TM_ESTATE, "cannot serve %s at %s twice", def->path, address);
    struct route *r = malloc(sizeof *r);
    TM_FATAL_UNLESS(r);
    *r = *def;
    TM_FATAL_UNLESS(r->path = strdup(def->path));
    r->next = l->routes;
    l->routes = r;
    return TM_OK;
}

int tm_httpd_route(struct tm_httpd *httpd, const char *address, const char *path, tm_httpd_handler *handler, void *arg,
                   struct tm_error *err)
{
    return add_route(httpd, address, &(struct route){.path = path, .handler = handler, .arg = arg}, err);
}

int tm_httpd_page(struct tm_httpd *httpd, const char *address, const char *path, tm_httpd_handler *handler, void *arg,
                  struct tm_error *err)
{
    return add_route(httpd, address, &(struct route){.path = path, .handler = handler, .page = true, .arg = arg}, err);
}

int tm_httpd_socket(struct tm_httpd *httpd, const char *address, const char *path, tm_httpd_taker *take, void *arg,
                    struct tm_error *err)
{
    return add_route(httpd, address, &(struct route){.path = path, .take = take, .page = true, .arg = arg}, err);
}

int tm_httpd_port(const struct tm_httpd *httpd, const char *address)
{
    const struct listener *l = find_listener(httpd, address);
    return l ? l->port : 0;
}
