#include "net/wsd.h"

#include "base/clock.h"
#include "base/log.h"
#include "net/ws_impl.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define PEERS_MAX 64
#define STUCK_US (10 * TM_US_PER_S)
#define SEND_BYTES 65536        /* the kernel takes twice that */
#define UNACKNOWLEDGED_MS 20000 /* a machine that is gone */
#define SPARE_FDS 8             /* of the library's own */

struct message {
    size_t references, len;
    unsigned char bytes[]; /* LWS_PRE, then len */
};

/* The library makes one with each connection. `wsd` is set while it is in the list. */
struct peer {
    struct peer *next;
    struct tm_wsd *wsd;
    struct lws *wsi;
    struct message *message; /* not written yet; held */
    int64_t told_us;         /* when the message that is under way was told */
    bool refused;            /* it spoke */
};

struct tm_wsd {
    struct tm_wsd_options options;
    struct lws_context *lws;
    struct lws_vhost *vhost;
    struct peer *peers;
    size_t count;
};

/* ---- messages ---- */

static struct message *message_create(const void *text, size_t len)
{
    struct message *m = malloc(sizeof *m + LWS_PRE + len);
    if (!m)
        return NULL;
    m->references = 1;
    m->len = len;
    memcpy(m->bytes + LWS_PRE, text, len);
    return m;
}

static void message_put(struct message *m)
{
    if (m && --m->references == 0)
        free(m);
}

static void give(struct peer *p, struct message *m, int64_t now_us)
{
    m->references++;
    p->message = m;
    p->told_us = now_us;
    lws_callback_on_writable(p->wsi);
}

/* ---- what the library calls ---- */

static void greet(struct peer *p)
{
    struct tm_buf first = {0};
    struct tm_wsd *w = p->wsd;
    if (w->options.on_open)
        w->options.on_open(w->options.arg, &first);
    struct message *m = first.len ? message_create(first.data, first.len) : NULL;
    if (m)
        give(p, m, tm_clock_mono_us());
    message_put(m);
    tm_buf_fini(&first);
}

static void on_established(struct peer *p, struct lws *wsi)
{
    struct tm_wsd *w = lws_context_user(lws_get_context(wsi));
    *p = (struct peer){.next = w->peers, .wsd = w, .wsi = wsi};
    w->peers = p;
    w->count++;
    greet(p);
}

static void on_closed(struct peer *p)
{
    if (!p->wsd)
        return;
    struct peer **at = &p->wsd->peers;
    while (*at != p)
        at = &(*at)->next;
    *at = p->next;
    p->wsd->count--;
    p->wsd = NULL;
    message_put(p->message);
    p->message = NULL;
}

static int on_writable(struct peer *p)
{
    struct message *m = p->message;
    if (p->refused) {
        lws_close_reason(p->wsi, LWS_CLOSE_STATUS_POLICY_VIOLATION, NULL, 0);
        return -1;
    }
    if (!m)
        return 0;
    p->message = NULL;
    int written = lws_write(p->wsi, m->bytes + LWS_PRE, m->len, LWS_WRITE_TEXT); /* what the kernel refuses it keeps */
    message_put(m);
    return written < 0 ? -1 : 0;
}

/* Nothing that it says is read from here on; closing at once, in mid-frame, the library does not do well (ws_library.c). */
static void on_receive(struct peer *p)
{
    p->refused = true;
    (void)lws_rx_flow_control(p->wsi, 0);
    lws_callback_on_writable(p->wsi);
}

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    (void)in;
    (void)len;
    switch ((int)reason) {
    case LWS_CALLBACK_ESTABLISHED:
        on_established(user, wsi);
        return 0;
    case LWS_CALLBACK_CLOSED:
        on_closed(user);
        return 0;
    case LWS_CALLBACK_SERVER_WRITEABLE:
        return on_writable(user);
    case LWS_CALLBACK_RECEIVE:
        on_receive(user);
        return 0;
    case LWS_CALLBACK_HTTP: /* none comes here */
        return -1;
    default:
        return 0;
    }
}

/* ---- life ---- */

static const struct lws_protocols protocols[] = {
    {.name = "tidemill-tell",
     .callback = callback,
     .per_session_data_size = sizeof(struct peer),
     .rx_buffer_size = 512},
    {0},
};

static bool start_library(struct tm_wsd *w)
{
    void *loops[] = {tm_loop_native(w->options.loop)};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = LWS_SERVER_OPTION_LIBEV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS,
        .foreign_loops = loops,
        .fd_limit_per_thread = (unsigned)w->options.peers_max + SPARE_FDS, /* its tables are as large as that */
        .user = w,
        .gid = -1,
        .uid = -1,
    };
    w->lws = ws_library_create(&info);
    struct lws_context_creation_info vhost = {
        .port = CONTEXT_PORT_NO_LISTEN_SERVER, .vhost_name = "tell", .protocols = protocols};
    w->vhost = w->lws ? lws_create_vhost(w->lws, &vhost) : NULL;
    return w->vhost;
}

int tm_wsd_create(const struct tm_wsd_options *options, struct tm_wsd **out, struct tm_error *err)
{
    struct tm_wsd *w = calloc(1, sizeof *w);
    TM_FATAL_UNLESS(w);
    w->options = *options;
    w->options.peers_max = options->peers_max ? options->peers_max : PEERS_MAX;
    w->options.stuck_us = options->stuck_us ? options->stuck_us : STUCK_US;
    if (!start_library(w)) {
        tm_wsd_destroy(w);
        return tm_error_set(err, TM_EIO,
                            "libwebsockets cannot start on libev; is the package libwebsockets-evlib-ev installed?");
    }
    *out = w;
    return TM_OK;
}

void tm_wsd_destroy(struct tm_wsd *w)
{
    if (!w)
        return;
    if (w->lws)
        ws_library_destroy(w->lws);
    free(w);
}

static void bound(int fd)
{
    int bytes = SEND_BYTES, ms = UNACKNOWLEDGED_MS, one = 1;
    (void)setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &bytes, sizeof bytes);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &ms, sizeof ms);
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
}

bool tm_wsd_take(void *arg, int fd, const char *websocket_key)
{
    struct tm_wsd *w = arg;
    char request[256];
    if (w->count >= w->options.peers_max)
        return false;
    int len = snprintf(request, sizeof request,
                       "GET / HTTP/1.1\r\nHost: tidemill\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                       "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n\r\n",
                       websocket_key);
    bound(fd);
    (void)lws_adopt_socket_vhost_readbuf(w->vhost, fd, request, (size_t)len); /* it closes what it cannot take */
    return true;
}

/* Asked to close it, the library would first write what it holds for it, and so wait for it, too. */
static void drop(struct peer *p)
{
    (void)shutdown(lws_get_socket_fd(p->wsi), SHUT_RDWR);
}

int tm_wsd_tell(struct tm_wsd *w, const char *text, size_t len)
{
    int64_t now_us = tm_clock_mono_us();
    if (!w->peers)
        return TM_OK;
    struct message *m = message_create(text, len);
    if (!m)
        return TM_ENOMEM;
    for (struct peer *p = w->peers; p; p = p->next) {
        if (!p->message && !lws_partial_buffered(p->wsi))
            give(p, m, now_us);
        else if (now_us - p->told_us > w->options.stuck_us)
            drop(p);
    }
    message_put(m);
    return TM_OK;
}

size_t tm_wsd_count(const struct tm_wsd *w)
{
    return w->count;
}
