#include "control/server_private.h"

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define GROUPS_MAX 256
#define RESERVED 4                      /* sessions that only admins get */
#define MAKES_ROOM_US (5 * TM_US_PER_S) /* of idleness */

/* ---- accepting ---- */

static void refuse(int fd, const char *answer)
{
    ssize_t ignored = send(fd, answer, strlen(answer), MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)ignored;
    close(fd);
}

static size_t sessions_max(const struct tm_control *c)
{
    return c->options.settings.sessions_max ? c->options.settings.sessions_max : TM_CONTROL_SESSIONS;
}

/* Close the session that has been idle longest, if that is long enough. None makes room for a lower role. */
static bool make_room(struct tm_control *c, enum tm_command_role role)
{
    int64_t idle_us = c->options.makes_room_us ? c->options.makes_room_us : MAKES_ROOM_US;
    struct tm_control_session *oldest = NULL;
    for (struct tm_control_session *s = c->sessions; s; s = s->next)
        if (s->peer.role <= role && tm_control_session_is_idle(s) && (!oldest || s->last_us < oldest->last_us))
            oldest = s;
    if (!oldest || tm_clock_mono_us() - oldest->last_us < idle_us)
        return false;
    tm_log(TM_LOG_INFO, "control", "an idle session makes room for another", TM_F_U64("session", oldest->peer.session),
           TM_F_U64("uid", oldest->peer.uid));
    tm_control_session_destroy(oldest);
    return true;
}

static bool has_room(struct tm_control *c, enum tm_command_role role)
{
    size_t max = sessions_max(c), mine = role < TM_COMMAND_ADMIN && max > RESERVED ? max - RESERVED : max;
    return c->session_count < mine || make_room(c, role);
}

static bool read_peer(int fd, const struct tm_access_table *access, struct tm_control_peer *out)
{
    struct ucred credentials = {0};
    gid_t groups[GROUPS_MAX];
    socklen_t len = sizeof credentials, groups_len = sizeof groups;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &len) < 0)
        return false;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups, &groups_len) < 0)
        groups_len = 0;
    struct tm_access_peer peer = {credentials.uid, credentials.gid, credentials.pid, groups,
                                  groups_len / sizeof groups[0]};
    out->uid = peer.uid;
    out->pid = peer.pid;
    return tm_access_role(access, &peer, &out->role);
}

static void on_accept(void *arg, int events)
{
    (void)events;
    struct tm_control *c = arg;
    int fd = accept4(c->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    struct tm_control_peer peer = {.session = c->last_number + 1};
    char full[96];
    if (!read_peer(fd, &c->access, &peer)) {
        TM_LOG_LIMITED(TM_LOG_WARN, "control", "peer refused", TM_F_U64("uid", peer.uid), TM_F_I64("pid", peer.pid));
        refuse(fd, "{\"ok\":false,\"error\":\"not allowed: expected root, the user that runs tidemill, or one that its "
                   "script's control setting names\"}\n");
    } else if (!has_room(c, peer.role)) {
        (void)snprintf(full, sizeof full, "{\"ok\":false,\"error\":\"%zu sessions are open already: close one\"}\n",
                       c->session_count);
        refuse(fd, full);
    } else {
        c->last_number++;
        (void)tm_control_session_create(c, fd, &peer);
    }
}

/* ---- within a command ---- */

struct tm_control_peer tm_control_peer(const struct tm_control *control)
{
    return control->peer;
}

static int put_session(const struct tm_control_session *s, const char *comma, struct tm_buf *out)
{
    int rc = tm_buf_printf(
        out,
        "%s{\"session\":%u,\"uid\":%u,\"pid\":%d,\"role\":\"%s\",\"idle_ms\":%lld,"
        "\"commands\":%llu,\"running\":",
        comma, s->peer.session, (unsigned)s->peer.uid, (int)s->peer.pid, tm_command_role_name(s->peer.role),
        (long long)(tm_clock_mono_us() - s->last_us) / TM_US_PER_MS, (unsigned long long)s->commands);
    rc = rc ? rc : tm_json_put_string(out, s->running);
    return rc ? rc : tm_buf_append(out, "}", 1);
}

int tm_control_put_sessions(const struct tm_control *control, struct tm_buf *out)
{
    int rc = tm_buf_append(out, "[", 1);
    for (const struct tm_control_session *s = control->sessions; !rc && s; s = s->next)
        rc = put_session(s, s == control->sessions ? "" : ",", out);
    return rc ? rc : tm_buf_append(out, "]", 1);
}

int tm_control_kill(struct tm_control *control, uint32_t session, bool close, struct tm_error *err)
{
    struct tm_control_session *s = control->sessions;
    while (s && s->peer.session != session)
        s = s->next;
    if (!s)
        return tm_error_set(err, TM_ENOENT, "there is no session %u: the command sessions lists them", session);
    bool was_busy = s->lua && tm_session_cancel(s->lua, "ended by another session");
    if (close) {
        s->closing = true;
        tm_control_session_go_on(s);
    }
    return was_busy || close ? TM_OK : tm_error_set(err, TM_ESTATE, "session %u runs no command", session);
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
    mode_t old = umask(0177); /* 0600 from the first moment, more when it is known whose */
    int bound = bind(c->fd, (const struct sockaddr *)address, sizeof *address);
    int saved = errno;
    umask(old);
    if (bound < 0)
        return tm_error_errno(err, TM_EIO, saved, "control socket %s: cannot bind", address->sun_path);
    struct stat st;
    if (listen(c->fd, SOMAXCONN) < 0 || lstat(address->sun_path, &st) < 0)
        return tm_error_errno(err, TM_EIO, errno, "control socket %s: cannot listen", address->sun_path);
    c->device = st.st_dev;
    c->inode = st.st_ino;
    return TM_OK;
}

/* A descriptor of the socket's file, never of what a link or somebody else has put in its place; < 0: an error. */
static int open_own_file(const struct tm_control *c, struct tm_error *err)
{
    struct stat st;
    int fd = open(c->path, O_PATH | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0)
        return tm_error_errno(err, TM_EIO, errno, "control socket %s: it is gone", c->path);
    if (fstat(fd, &st) == 0 && st.st_dev == c->device && st.st_ino == c->inode)
        return fd;
    close(fd);
    return tm_error_set(err, TM_ESTATE, "control socket %s: another file is in its place: remove it and start again",
                        c->path);
}

/* Give the socket's file its group and mode. chmod goes by /proc, as fchmod takes no descriptor that is a mere path. */
static int open_file(const struct tm_control *c, struct tm_error *err)
{
    char by_descriptor[32];
    int rc = TM_OK, fd = open_own_file(c, err);
    if (fd < 0)
        return fd;
    (void)snprintf(by_descriptor, sizeof by_descriptor, "/proc/self/fd/%d", fd);
    if (c->access.has_group && fchownat(fd, "", (uid_t)-1, c->access.group, AT_EMPTY_PATH) < 0)
        rc = tm_error_errno(err, TM_EIO, errno, "control socket %s: cannot be given to the group", c->path);
    else if (chmod(by_descriptor, tm_access_mode(&c->access)) < 0)
        rc = tm_error_errno(err, TM_EIO, errno, "control socket %s: cannot be opened to others", c->path);
    close(fd);
    return rc;
}

int tm_control_configure(struct tm_control *c, const struct tm_config_control *settings, struct tm_error *err)
{
    struct tm_access_table table;
    int rc = tm_access_resolve(settings, &table, err);
    if (rc)
        return rc;
    tm_access_fini(&c->access);
    c->access = table;
    c->options.settings = *settings;
    c->options.settings.rules = NULL; /* borrowed; the table has them */
    c->options.settings.group = NULL;
    return open_file(c, err);
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
    int rc = listen_at(c, &address, err);
    if (!rc)
        tm_io_init(&c->io, options->loop, c->fd, on_accept, c);
    rc = rc ? rc : tm_control_configure(c, &options->settings, err);
    if (rc) {
        tm_control_close(c);
        return rc;
    }
    tm_io_set(&c->io, EV_READ);
    *out = c;
    return TM_OK;
}

void tm_control_close(struct tm_control *c)
{
    if (!c)
        return;
    while (c->sessions)
        tm_control_session_destroy(c->sessions);
    tm_access_fini(&c->access);
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
