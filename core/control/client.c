#include "control/client.h"

#include "base/clock.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

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
