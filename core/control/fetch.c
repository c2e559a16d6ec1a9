#include "control/fetch.h"

#include "base/clock.h"
#include "record/decode.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define READ_BYTES 65536
#define LOOK_AHEAD 16 /* the scanner's */

struct tm_fetch {
    int fd;
    bool is_socket, connected;
    char name[160]; /* of the source, for errors */
    const char *request;
    size_t sent;
    struct tm_buf in;
};

/* ---- connecting ---- */

static int connect_error(const struct tm_fetch *f, int cause, struct tm_error *err)
{
    return tm_error_errno(err, TM_EIO, cause, "cannot reach tidemill at %s (is it running?)", f->name);
}

static int start_connect(struct tm_fetch *f, const struct sockaddr *at, socklen_t len, struct tm_error *err)
{
    f->fd = socket(at->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (f->fd < 0)
        return tm_error_errno(err, TM_EIO, errno, "socket");
    if (connect(f->fd, at, len) == 0 || errno == EINPROGRESS || errno == EAGAIN)
        return TM_OK;
    return connect_error(f, errno, err);
}

static int begin_socket(struct tm_fetch *f, const char *path, struct tm_error *err)
{
    struct sockaddr_un at = {.sun_family = AF_UNIX};
    if (!*path || strlen(path) >= sizeof at.sun_path)
        return tm_error_set(err, TM_EINVAL, "socket %s: expected a path of 1 to %zu bytes", path,
                            sizeof at.sun_path - 1);
    strcpy(at.sun_path, path);
    f->is_socket = true;
    f->request = "status\n";
    return start_connect(f, (const struct sockaddr *)&at, sizeof at, err);
}

static int begin_address(struct tm_fetch *f, const char *address, struct tm_error *err)
{
    char host[128];
    const char *colon = strrchr(address, ':');
    bool brackets = address[0] == '[' && colon && colon > address && colon[-1] == ']';
    size_t len = colon ? (size_t)(colon - address) - (brackets ? 2 : 0) : 0;
    if (!len || len >= sizeof host || !colon[1])
        return tm_error_set(err, TM_EINVAL, "address %s: expected HOST:PORT like 127.0.0.1:8080", address);
    (void)snprintf(host, sizeof host, "%.*s", (int)len, address + brackets);
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list = NULL;
    int rc = getaddrinfo(host, colon + 1, &hints, &list);
    if (rc)
        return tm_error_set(err, TM_EINVAL, "address %s: %s; expected HOST:PORT like 127.0.0.1:8080", address,
                            gai_strerror(rc));
    f->request = "GET /state HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    rc = start_connect(f, list->ai_addr, list->ai_addrlen, err);
    freeaddrinfo(list);
    return rc;
}

int tm_fetch_begin(const struct tm_fetch_source *source, struct tm_fetch **out, struct tm_error *err)
{
    struct tm_fetch *f = calloc(1, sizeof *f);
    TM_FATAL_UNLESS(f);
    f->fd = -1;
    (void)snprintf(f->name, sizeof f->name, "%s", source->socket ? source->socket : source->address);
    int rc = source->socket ? begin_socket(f, source->socket, err) : begin_address(f, source->address, err);
    if (rc) {
        tm_fetch_end(f);
        return rc;
    }
    *out = f;
    return TM_OK;
}

void tm_fetch_end(struct tm_fetch *f)
{
    if (!f)
        return;
    if (f->fd >= 0)
        close(f->fd);
    tm_buf_fini(&f->in);
    free(f);
}

int tm_fetch_fd(const struct tm_fetch *f)
{
    return f->fd;
}

short tm_fetch_events(const struct tm_fetch *f)
{
    return f->request[f->sent] ? POLLOUT : POLLIN;
}

/* ---- talking ---- */

static int send_request(struct tm_fetch *f, struct tm_error *err)
{
    int cause = 0;
    socklen_t len = sizeof cause;
    if (!f->connected && (getsockopt(f->fd, SOL_SOCKET, SO_ERROR, &cause, &len) < 0 || cause))
        return connect_error(f, cause ? cause : errno, err);
    f->connected = true;
    ssize_t n = send(f->fd, f->request + f->sent, strlen(f->request + f->sent), MSG_NOSIGNAL);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
        return connect_error(f, errno, err);
    f->sent += n > 0 ? (size_t)n : 0;
    return TM_OK;
}

/* 1: the answer is whole. */
static int read_answer(struct tm_fetch *f, struct tm_error *err)
{
    if (f->in.len > TM_FETCH_BYTES_MAX)
        return tm_error_set(err, TM_EFULL, "%s: the answer is larger than %zu bytes", f->name, TM_FETCH_BYTES_MAX);
    if (tm_buf_reserve(&f->in, READ_BYTES + LOOK_AHEAD) < 0)
        return tm_error_set(err, TM_ENOMEM, "out of memory");
    ssize_t n = recv(f->fd, f->in.data + f->in.len, READ_BYTES, 0);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? 0
                                                 : tm_error_errno(err, TM_EIO, errno, "cannot read from %s", f->name);
    f->in.len += (size_t)n;
    memset(f->in.data + f->in.len, 0, LOOK_AHEAD);
    if (f->is_socket && f->in.len && f->in.data[f->in.len - 1] == '\n')
        return 1;
    if (n > 0)
        return 0;
    return f->is_socket ? tm_error_set(err, TM_EIO, "%s: tidemill hung up before it answered", f->name) : 1;
}

/* {"ok":true,"result":...}, or an error for people. */
static int open_envelope(struct tm_fetch *f, struct tm_span *out, struct tm_error *err)
{
    struct tm_span all = {(const char *)f->in.data, f->in.len}, error;
    if (tm_json_get(all, "result", out) == TM_OK)
        return TM_OK;
    bool told = tm_json_get(all, "error", &error) == TM_OK;
    return tm_error_set(err, TM_EPARSE, "%s: %.*s", f->name, (int)(told ? error.len : 20),
                        told ? error.at : "no answer of tidemill");
}

static int open_http(struct tm_fetch *f, struct tm_span *out, struct tm_error *err)
{
    char *body = memmem(f->in.data, f->in.len, "\r\n\r\n", 4);
    int status = 0;
    if (!body || sscanf((const char *)f->in.data, "HTTP/1.1 %d", &status) != 1 || status != 200)
        return tm_error_set(err, TM_EPARSE, "%s: expected the state of a tidemill process, got HTTP status %d", f->name,
                            status);
    out->at = body + 4;
    out->len = f->in.len - (size_t)((uint8_t *)body + 4 - f->in.data);
    while (out->len && out->at[out->len - 1] == '\n')
        out->len--;
    return TM_OK;
}

int tm_fetch_step(struct tm_fetch *f, const char **document, size_t *len, struct tm_error *err)
{
    struct tm_span found, role;
    if (f->request[f->sent])
        return send_request(f, err);
    int rc = read_answer(f, err);
    if (rc != 1)
        return rc;
    rc = f->is_socket ? open_envelope(f, &found, err) : open_http(f, &found, err);
    if (!rc && tm_json_get(found, "role", &role) < 0)
        rc = tm_error_set(err, TM_EPARSE, "%s: what answers there is no tidemill process", f->name);
    if (rc)
        return rc;
    *document = found.at;
    *len = found.len;
    return 1;
}

static int wait_for(struct tm_fetch *f, int64_t deadline_us, struct tm_error *err)
{
    int64_t left_us = deadline_us - tm_clock_mono_us();
    struct pollfd p = {.fd = f->fd, .events = tm_fetch_events(f)};
    if (left_us > 0 && poll(&p, 1, (int)(left_us / TM_US_PER_MS) + 1) != 0)
        return TM_OK;
    return tm_error_set(err, TM_ETIMEOUT, "%s: tidemill does not answer%s", f->name,
                        f->is_socket ? "; its admin address may (--at ADDRESS)" : "");
}

int tm_fetch_now(const struct tm_fetch_source *source, int64_t timeout_us, struct tm_buf *out, struct tm_error *err)
{
    int64_t deadline_us = tm_clock_mono_us() + timeout_us;
    struct tm_fetch *f = NULL;
    const char *document = NULL;
    size_t len = 0;
    int rc = tm_fetch_begin(source, &f, err);
    while (!rc) {
        rc = wait_for(f, deadline_us, err);
        rc = rc ? rc : tm_fetch_step(f, &document, &len, err);
    }
    if (rc == 1)
        rc = tm_buf_append(out, document, len);
    tm_fetch_end(f);
    return rc;
}
