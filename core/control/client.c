#include "control/client.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define INDENT 2
#define NAME_WIDTH 22

/* ---- asking ---- */

int tm_client_connect(const char *path, struct tm_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof address.sun_path)
        return tm_error_set(err, TM_EINVAL, "socket %s: expected a path of 1 to %zu bytes", path,
                            sizeof address.sun_path - 1);
    memcpy(address.sun_path, path, len);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return tm_error_errno(err, TM_EIO, errno, "socket");
    if (connect(fd, (const struct sockaddr *)&address, sizeof address) < 0) {
        int saved = errno;
        close(fd);
        return tm_error_errno(err, TM_EIO, saved, "cannot reach tidemill at %s (is it running?)", path);
    }
    return fd;
}

static int send_line(int fd, const char *line, struct tm_error *err)
{
    struct tm_buf out = {0};
    int rc = tm_buf_printf(&out, "%s\n", line);
    for (size_t at = 0; !rc && at < out.len;) {
        ssize_t n = send(fd, out.data + at, out.len - at, MSG_NOSIGNAL);
        if (n < 0 && errno == EPIPE)
            break; /* it was refused, and the answer says why */
        if (n < 0 && errno != EINTR)
            rc = tm_error_errno(err, TM_EIO, errno, "cannot send the command");
        at += n > 0 ? (size_t)n : 0;
    }
    tm_buf_fini(&out);
    return rc;
}

static int receive_some(int fd, int64_t deadline_us, struct tm_buf *answer, struct tm_error *err)
{
    int64_t left_us = deadline_us - tm_clock_mono_us();
    struct pollfd p = {.fd = fd, .events = POLLIN};
    if (left_us <= 0 || poll(&p, 1, (int)(left_us / 1000) + 1) == 0)
        return tm_error_set(err, TM_ETIMEOUT, "tidemill does not answer");
    if (tm_buf_reserve(answer, 16384) < 0)
        return tm_error_set(err, TM_ENOMEM, "out of memory");
    ssize_t n = recv(fd, answer->data + answer->len, 16384, 0);
    if (n < 0 && errno != EINTR)
        return tm_error_errno(err, TM_EIO, errno, "cannot read the answer");
    if (n == 0)
        return tm_error_set(err, TM_EIO, "tidemill hung up before it answered");
    answer->len += n > 0 ? (size_t)n : 0;
    return TM_OK;
}

int tm_client_ask(const char *socket_path, const char *line, int64_t timeout_us, struct tm_buf *answer,
                  struct tm_error *err)
{
    int64_t deadline_us = tm_clock_mono_us() + timeout_us;
    int fd = tm_client_connect(socket_path, err);
    if (fd < 0)
        return fd;
    int rc = send_line(fd, line, err);
    while (!rc && (answer->len == 0 || answer->data[answer->len - 1] != '\n'))
        rc = receive_some(fd, deadline_us, answer, err);
    close(fd);
    if (!rc)
        answer->len--;
    return rc;
}

/* ---- printing ---- */

struct printer {
    const char *at, *end;
    struct tm_buf *out;
    int depth, lists;
};

static void skip_space(struct printer *p)
{
    while (p->at < p->end && strchr(" \t\r\n", *p->at))
        p->at++;
}

static int put_text(struct printer *p, const char *bytes, size_t len)
{
    return tm_buf_append(p->out, bytes, len);
}

/* A string without its quotes, or a number or word; escapes are left as they are. */
static void take_scalar(struct printer *p, const char **text, size_t *len)
{
    const char *start = p->at;
    if (p->at < p->end && *p->at == '"') {
        for (p->at++; p->at < p->end && *p->at != '"'; p->at++)
            if (*p->at == '\\' && p->at + 1 < p->end)
                p->at++;
        *text = start + 1;
        *len = (size_t)(p->at - start) - 1;
        p->at += p->at < p->end;
        return;
    }
    while (p->at < p->end && !strchr(",]} \t\r\n", *p->at))
        p->at++;
    *text = start;
    *len = (size_t)(p->at - start);
}

static int print_value(struct printer *p);

/* The separator or the end after a member; false at the end. */
static bool next_member(struct printer *p, char close)
{
    skip_space(p);
    if (p->at < p->end && *p->at == ',') {
        p->at++;
        skip_space(p);
        return true;
    }
    if (p->at < p->end && *p->at == close)
        p->at++;
    return false;
}

static bool begin_members(struct printer *p, char close)
{
    p->at++;
    skip_space(p);
    if (p->at < p->end && *p->at != close)
        return true;
    p->at += p->at < p->end;
    return false;
}

static bool is_container(const struct printer *p)
{
    return p->at < p->end && (*p->at == '{' || *p->at == '[');
}

static int print_name(struct printer *p, const char *name, size_t len)
{
    if (p->lists)
        return tm_buf_printf(p->out, "%.*s=", (int)len, name);
    int rc =
        tm_buf_printf(p->out, "%*s%-*.*s", p->depth * INDENT, "", is_container(p) ? 0 : NAME_WIDTH, (int)len, name);
    return rc || !is_container(p) ? rc : put_text(p, "\n", 1);
}

static int print_object(struct printer *p)
{
    int rc = TM_OK;
    p->depth++;
    for (bool more = begin_members(p, '}'); more && !rc; more = next_member(p, '}')) {
        const char *name;
        size_t len;
        take_scalar(p, &name, &len);
        skip_space(p);
        p->at += p->at < p->end; /* the colon */
        skip_space(p);
        bool container = is_container(p);
        rc = print_name(p, name, len);
        if (!rc)
            rc = print_value(p);
        if (!rc && (p->lists || !container))
            rc = put_text(p, p->lists ? " " : "\n", 1);
    }
    p->depth--;
    return rc;
}

static int print_list(struct printer *p)
{
    int rc = TM_OK;
    p->lists++;
    for (bool more = begin_members(p, ']'); more && !rc; more = next_member(p, ']')) {
        if (p->lists == 1)
            rc = tm_buf_printf(p->out, "%*s", (p->depth + 1) * INDENT, "");
        if (!rc)
            rc = print_value(p);
        if (!rc)
            rc = put_text(p, p->lists == 1 ? "\n" : " ", 1);
    }
    p->lists--;
    return rc;
}

static int print_value(struct printer *p)
{
    const char *text;
    size_t len;
    if (is_container(p))
        return *p->at == '{' ? print_object(p) : print_list(p);
    take_scalar(p, &text, &len);
    return put_text(p, text, len);
}

int tm_client_pretty(const char *json, size_t len, struct tm_buf *out)
{
    struct printer p = {.at = json, .end = json + len, .out = out, .depth = -1};
    skip_space(&p);
    int rc = print_value(&p);
    if (!rc && out->len > 0 && out->data[out->len - 1] != '\n')
        rc = put_text(&p, "\n", 1);
    return rc;
}
