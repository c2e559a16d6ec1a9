#include "control/server.h"

#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define IDLE_DEFAULT_US (600 * INT64_C(1000000))
#define READ_BYTES 16384

struct session {
    struct tm_control *control;
    int fd; /* -1: free */
    uid_t uid;
    pid_t pid;
    bool ended; /* nothing more will be read: close when the answers are out */
    struct tm_io io;
    struct tm_timer idle;
    struct tm_buf in, out;
};

struct tm_control {
    struct tm_control_options options;
    char path[sizeof((struct sockaddr_un *)0)->sun_path];
    int fd;
    dev_t device; /* of the socket's file, so that only our own is removed */
    ino_t inode;
    struct tm_io io;
    struct session sessions[TM_CONTROL_SESSIONS_MAX];
};

/* ---- sessions ---- */

static void close_session(struct session *s)
{
    tm_io_set(&s->io, 0);
    tm_timer_stop(&s->idle);
    close(s->fd);
    tm_buf_fini(&s->in);
    tm_buf_fini(&s->out);
    s->fd = -1;
}

static void on_idle(void *arg)
{
    close_session(arg);
}

static void touch(struct session *s)
{
    int64_t idle_us = s->control->options.idle_us;
    tm_timer_start(&s->idle, idle_us ? idle_us : IDLE_DEFAULT_US, 0);
}

static int answer_line(struct session *s, size_t len)
{
    const char *line = (const char *)s->in.data;
    if (len > 0 && line[len - 1] == '\r')
        len--;
    if (len == 0)
        return TM_OK;
    tm_log(TM_LOG_INFO, "control", "command", TM_F_U64("uid", s->uid), TM_F_I64("pid", s->pid),
           TM_F_BYTES("command", line, len));
    int rc = tm_command_answer(s->control->options.commands, TM_COMMAND_ADMIN, s->control->options.context, line, len,
                               &s->out);
    if (!rc && s->out.len > TM_CONTROL_ANSWER_MAX) {
        tm_buf_clear(&s->out);
        rc = tm_buf_printf(&s->out, "{\"ok\":false,\"error\":\"the answer is larger than 1 MiB\"}\n");
    }
    return rc;
}

/* Answer whole lines, one answer at a time: the next waits until this one is out. */
static int answer_lines(struct session *s)
{
    while (s->out.len == 0) {
        char *end = s->in.len ? memchr(s->in.data, '\n', s->in.len) : NULL;
        if (!end)
            break;
        size_t len = (size_t)(end - (char *)s->in.data);
        int rc = len > TM_CONTROL_LINE_MAX ? TM_OK : answer_line(s, len);
        if (rc)
            return rc;
        tm_buf_consume(&s->in, len + 1);
    }
    if (s->out.len == 0 && s->in.len > TM_CONTROL_LINE_MAX) {
        s->ended = true;
        tm_buf_clear(&s->in);
        return tm_buf_printf(&s->out, "{\"ok\":false,\"error\":\"expected a line of at most 64 KiB\"}\n");
    }
    return TM_OK;
}

static int write_out(struct session *s)
{
    while (s->out.len > 0) {
        ssize_t n = send(s->fd, s->out.data, s->out.len, MSG_NOSIGNAL);
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
            return TM_OK;
        if (n < 0)
            return TM_EIO;
        tm_buf_consume(&s->out, (size_t)n);
    }
    return TM_OK;
}

static int read_in(struct session *s)
{
    if (tm_buf_reserve(&s->in, READ_BYTES) < 0)
        return TM_ENOMEM;
    ssize_t n = read(s->fd, s->in.data + s->in.len, READ_BYTES);
    if (n < 0)
        return errno == EAGAIN || errno == EINTR ? TM_OK : TM_EIO;
    s->ended = s->ended || n == 0;
    s->in.len += (size_t)n;
    return TM_OK;
}

/* Answer and write until the peer must read or send more; a peer that only shut its sending side still gets all. */
static int progress(struct session *s)
{
    int rc = TM_OK;
    do {
        rc = answer_lines(s);
        if (!rc)
            rc = write_out(s);
    } while (!rc && s->out.len == 0 && s->in.len > 0 && memchr(s->in.data, '\n', s->in.len));
    return rc;
}

static void on_session(void *arg, int events)
{
    struct session *s = arg;
    int rc = events & EV_READ ? read_in(s) : TM_OK;
    if (!rc)
        rc = progress(s);
    if (rc || (s->ended && s->out.len == 0)) {
        close_session(s);
        return;
    }
    touch(s);
    tm_io_set(&s->io, s->out.len ? EV_WRITE : EV_READ);
}

/* ---- accepting ---- */

static void refuse(int fd, const char *answer)
{
    ssize_t ignored = send(fd, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)ignored;
    close(fd);
}

static void start_session(struct session *s, int fd, const struct ucred *peer)
{
    struct tm_loop *loop = s->control->options.loop;
    s->fd = fd;
    s->uid = peer->uid;
    s->pid = peer->pid;
    s->ended = false;
    tm_io_init(&s->io, loop, fd, on_session, s);
    tm_timer_init(&s->idle, loop, on_idle, s);
    tm_io_set(&s->io, EV_READ);
    touch(s);
}

static struct session *free_session(struct tm_control *c)
{
    for (size_t i = 0; i < TM_CONTROL_SESSIONS_MAX; i++)
        if (c->sessions[i].fd < 0)
            return &c->sessions[i];
    return NULL;
}

static void on_accept(void *arg, int events)
{
    (void)events;
    struct tm_control *c = arg;
    int fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct ucred peer = {0};
    socklen_t len = sizeof peer;
    struct session *s = free_session(c);
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len) < 0 || (peer.uid != 0 && peer.uid != geteuid())) {
        TM_LOG_LIMITED(TM_LOG_WARN, "control", "peer refused", TM_F_U64("uid", peer.uid), TM_F_I64("pid", peer.pid));
        refuse(fd, "{\"ok\":false,\"error\":\"not allowed: expected root or the user that runs tidemill\"}\n");
    } else if (!s) {
        refuse(fd, "{\"ok\":false,\"error\":\"4 sessions are open already: close one\"}\n");
    } else {
        start_session(s, fd, &peer);
    }
}

/* ---- the socket ---- */

/* Whether somebody listens there. */
static bool is_live(const struct sockaddr_un *address)
{
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return true;
    bool live = connect(fd, (const struct sockaddr *)address, sizeof *address) == 0 || errno != ECONNREFUSED;
    close(fd);
    return live;
}

static int clear_stale(const struct sockaddr_un *address, struct tm_error *err)
{
    struct stat st;
    if (lstat(address->sun_path, &st) < 0)
        return TM_OK; /* nothing there, or bind will say why */
    if (!S_ISSOCK(st.st_mode))
        return tm_error_set(err, TM_EINVAL, "control socket %s: a file that is not a socket is there; move it away",
                            address->sun_path);
    if (is_live(address))
        return tm_error_set(err, TM_ESTATE,
                            "control socket %s: another process listens there; stop it or choose "
                            "another path",
                            address->sun_path);
    if (unlink(address->sun_path) < 0)
        return tm_error_errno(err, TM_EIO, errno, "control socket %s: cannot remove the stale one", address->sun_path);
    return TM_OK;
}

static int listen_at(struct tm_control *c, const struct sockaddr_un *address, struct tm_error *err)
{
    int rc = clear_stale(address, err);
    if (rc)
        return rc;
    c->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (c->fd < 0)
        return tm_error_errno(err, TM_EIO, errno, "control socket");
    mode_t old = umask(0177); /* 0600 from the first moment */
    int bound = bind(c->fd, (const struct sockaddr *)address, sizeof *address);
    int saved = errno;
    umask(old);
    if (bound < 0)
        return tm_error_errno(err, TM_EIO, saved, "control socket %s: cannot bind", address->sun_path);
    struct stat st;
    if (listen(c->fd, TM_CONTROL_SESSIONS_MAX) < 0 || stat(address->sun_path, &st) < 0)
        return tm_error_errno(err, TM_EIO, errno, "control socket %s: cannot listen", address->sun_path);
    c->device = st.st_dev;
    c->inode = st.st_ino;
    return TM_OK;
}

int tm_control_open(const struct tm_control_options *options, struct tm_control **out, struct tm_error *err)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(options->path);
    if (len == 0 || len >= sizeof address.sun_path)
        return tm_error_set(err, TM_EINVAL, "control socket: expected a path of 1 to %zu bytes, got %zu",
                            sizeof address.sun_path - 1, len);
    memcpy(address.sun_path, options->path, len);
    struct tm_control *c = calloc(1, sizeof *c);
    if (!c)
        return tm_error_set(err, TM_ENOMEM, "control socket: out of memory");
    c->options = *options;
    memcpy(c->path, options->path, len);
    c->options.path = c->path;
    c->fd = -1;
    for (size_t i = 0; i < TM_CONTROL_SESSIONS_MAX; i++)
        c->sessions[i] = (struct session){.control = c, .fd = -1};
    int rc = listen_at(c, &address, err);
    if (rc) {
        tm_control_close(c);
        return rc;
    }
    tm_io_init(&c->io, options->loop, c->fd, on_accept, c);
    tm_io_set(&c->io, EV_READ);
    *out = c;
    return TM_OK;
}

void tm_control_close(struct tm_control *c)
{
    if (!c)
        return;
    for (size_t i = 0; i < TM_CONTROL_SESSIONS_MAX; i++)
        if (c->sessions[i].fd >= 0)
            close_session(&c->sessions[i]);
    struct stat st;
    if (c->inode) {
        tm_io_set(&c->io, 0);
        if (lstat(c->path, &st) == 0 && st.st_dev == c->device && st.st_ino == c->inode)
            (void)unlink(c->path);
    }
    if (c->fd >= 0)
        close(c->fd);
    free(c);
}
