#include "net/ws_impl.h"
#include "base/clock.h"

#include <netdb.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

static const char *const stage_names[] = {"TCP connection", "TLS handshake", "answer to the upgrade"};
static const struct lws_retry_bo no_library_keepalive; /* pings are ours */

const char *tm_ws_why_name(enum tm_ws_why why)
{
    static const char *const names[] = {
        [TM_WS_LOCAL] = "local",         [TM_WS_REMOTE] = "remote",   [TM_WS_REFUSED] = "refused",
        [TM_WS_HANDSHAKE] = "handshake", [TM_WS_TIMEOUT] = "timeout", [TM_WS_SILENT] = "silent",
        [TM_WS_PROTOCOL] = "protocol",   [TM_WS_SLOW] = "slow",
    };
    return names[why];
}

int tm_ws_check_url(const char *url, struct tm_error *err)
{
    struct tm_url parsed;
    int rc = tm_url_parse(url, "ws", "wss", &parsed, err);
    if (!rc && parsed.tls && strchr(parsed.host, ':'))
        return tm_error_set(err, TM_EINVAL,
                            "URL \"%.300s\": wss needs a host name or an IPv4 address: the certificate of an IPv6 "
                            "address cannot be checked",
                            url);
    return rc;
}

void ws_move(struct tm_ws *ws, enum ws_state to)
{
    static const unsigned allowed[] = {
        [WS_RESOLVING] = 1u << WS_CONNECTING | 1u << WS_GONE,
        [WS_CONNECTING] = 1u << WS_OPEN | 1u << WS_GONE,
        [WS_OPEN] = 1u << WS_CLOSING | 1u << WS_GONE,
        [WS_CLOSING] = 1u << WS_GONE,
        [WS_GONE] = 0,
    };
    TM_FATAL_UNLESS(allowed[ws->state] & 1u << to);
    ws->state = to;
}

void ws_set_reason(struct tm_ws *ws, enum tm_ws_why why, int status, const char *fmt, ...)
{
    if (ws->reason_known)
        return;
    va_list args;
    va_start(args, fmt);
    (void)vsnprintf(ws->text, sizeof ws->text, fmt, args);
    va_end(args);
    ws->reason_known = true;
    ws->why = why;
    ws->status = status;
}

void ws_arm(struct tm_ws *ws, int64_t at_us, int64_t now_us)
{
    tm_timer_start(&ws->timer, at_us > now_us ? at_us - now_us : 0, 0);
}

static void go(struct tm_ws *ws)
{
    ws_move(ws, WS_GONE);
    tm_timer_stop(&ws->timer);
    ws->next = ws->context->gone;
    ws->context->gone = ws;
}

void ws_report_gone(struct tm_ws *ws)
{
    ws->events.on_close(ws->arg, ws->why, ws->status, ws->text);
    while (ws->out_first) {
        struct out_frame *f = ws->out_first;
        ws->out_first = f->next;
        free(f);
    }
    ws->context->connections--;
    tm_buf_fini(&ws->body);
    ws_frames_fini(&ws->frames);
    tm_auth_put(ws->options.auth);
    free(ws->user_agent);
    free(ws);
}

static void put_starting(struct tm_ws *ws)
{
    struct tm_ws **at = &ws->context->starting;
    while (*at)
        at = &(*at)->next;
    *at = ws;
}

static void remove_starting(struct tm_ws *ws)
{
    for (struct tm_ws **at = &ws->context->starting; *at; at = &(*at)->next)
        if (*at == ws) {
            *at = ws->next;
            return;
        }
}

/* The library has let go. With no reason recorded the peer, or the way to it, ended it. */
void ws_on_library_gone(struct tm_ws *ws)
{
    ws->wsi = NULL;
    if (ws->inside_connect)
        return;
    bool next_address = ws->state == WS_CONNECTING && ws->stage == WS_STAGE_TCP &&
                        ws->address_tries < ws->addresses.count && (!ws->reason_known || ws->why == TM_WS_REFUSED);
    if (next_address) {
        ws->reason_known = false;
        ws->address = (ws->address + 1) % ws->addresses.count;
        put_starting(ws);
        return;
    }
    if (ws->state == WS_CONNECTING && ws->stage != WS_STAGE_HTTP)
        ws_set_reason(ws, TM_WS_REFUSED, 0, "no %s with %s: refused, unreachable or broken off", stage_names[ws->stage],
                      ws->url.authority);
    else if (ws->state == WS_CONNECTING)
        ws_set_reason(ws, TM_WS_REMOTE, 0, "closed by %s before it answered the upgrade", ws->url.authority);
    else
        ws_set_reason(ws, TM_WS_REMOTE, 0, "connection closed by the peer without a close frame");
    go(ws);
}

void ws_begin_close(struct tm_ws *ws, int code)
{
    ws->close_code = code;
    lws_callback_on_writable(ws->wsi);
    tm_timer_start(&ws->timer, WS_CLOSE_GRACE_US, 0);
}

void ws_let_go(struct tm_ws *ws)
{
    ws_stop_reading(ws);
    lws_set_timeout(ws->wsi, PENDING_TIMEOUT_USER_OK, LWS_TO_KILL_SYNC);
}

/* shutdown() first: with unsent bytes the library would wait for them, for ever on a stalled peer. */
void ws_kill(struct tm_ws *ws)
{
    if (ws->state == WS_GONE)
        return;
    if (ws->query)
        tm_resolver_cancel(ws->query);
    ws->query = NULL;
    remove_starting(ws);
    if (!ws->wsi) {
        go(ws);
        return;
    }
    int fd = lws_get_socket_fd(ws->wsi);
    if (fd >= 0)
        (void)shutdown(fd, SHUT_RDWR);
    ws_let_go(ws);
}

/* The kernel knows when bytes last came; asking it at deadlines costs nothing per message and sees half
 * messages too. */
int64_t tm_ws_last_byte_us(const struct tm_ws *ws)
{
    struct tcp_info info;
    socklen_t len = sizeof info;
    int fd = ws->wsi ? lws_get_socket_fd(ws->wsi) : -1;
    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len))
        return ws->last_byte_us;
    int64_t at = tm_clock_mono_us() - (int64_t)info.tcpi_last_data_recv * TM_US_PER_MS;
    return at > ws->last_byte_us ? at : ws->last_byte_us;
}

static void check_liveness(struct tm_ws *ws)
{
    ws->last_byte_us = tm_ws_last_byte_us(ws);
    int64_t now = tm_clock_mono_us(), silent_at = ws->last_byte_us + ws->options.silence_us;
    int64_t ping_at = ws->last_byte_us + ws->options.ping_idle_us;
    if (now >= silent_at) {
        ws_set_reason(ws, TM_WS_SILENT, 0, "no byte came for %lld ms",
                      (long long)((now - ws->last_byte_us) / TM_US_PER_MS));
        ws_kill(ws);
        return;
    }
    /* Not simply "pinged after the last byte": the kernel's stamp may be some milliseconds early. */
    bool pinged = ws->pinged_us - ws->last_byte_us >= ws->options.ping_idle_us;
    if (now >= ping_at && !pinged) {
        ws->ping_due = pinged = true;
        ws->pinged_us = now;
        lws_callback_on_writable(ws->wsi);
    }
    int64_t next = pinged ? now + ws->options.ping_idle_us : ping_at;
    ws_arm(ws, next < silent_at ? next : silent_at, now);
}

static void on_timer(void *arg)
{
    struct tm_ws *ws = arg;
    if (ws->state == WS_OPEN && !ws->reason_known) {
        check_liveness(ws);
        return;
    }
    const char *what = ws->state == WS_RESOLVING ? "name resolution" : stage_names[ws->stage];
    ws_set_reason(ws, TM_WS_TIMEOUT, 0, "no %s with %s within %lld ms", what, ws->url.authority,
                  (long long)(ws->options.connect_us / TM_US_PER_MS));
    ws_kill(ws);
}

static void on_resolved(void *arg, const struct tm_resolved *answer)
{
    struct tm_ws *ws = arg;
    ws->query = NULL;
    ws->addresses = *answer;
    for (size_t i = 0; !ws->url.tls && i < answer->count; i++)
        if (!tm_addr_is_loopback((const struct sockaddr *)&answer->address[i])) {
            ws->addresses.count = 0;
            ws->addresses.error = "ws is allowed to loopback only, and the name stands for another address";
        }
    if (!ws->addresses.count) {
        ws_set_reason(ws, TM_WS_REFUSED, 0, "cannot resolve %s: %s", ws->url.host, ws->addresses.error);
        go(ws);
        return;
    }
    ws->address = ws->context->turn % ws->addresses.count; /* not always the same first */
    put_starting(ws);
}

static bool create_try(struct tm_ws *ws, const char *address)
{
    struct lws_client_connect_info info = {
        .context = ws->context->lws,
        .vhost = ws->vhost,
        .address = address,
        .port = ws->url.port,
        .ssl_connection = LCCSCF_HTTP_NO_FOLLOW_REDIRECT | (ws->url.tls ? LCCSCF_USE_SSL : 0),
        .path = ws->url.path,
        .host = ws->url.authority,
        .alpn = "http/1.1",
        .ietf_version_or_minus_one = -1,
        .userdata = ws,
        .local_protocol_name = TM_WS_PROTOCOL_NAME, /* or bodies of answers are swallowed */
        .pwsi = &ws->wsi,
        .retry_and_idle_policy = &no_library_keepalive,
    };
    ws->stage = WS_STAGE_TCP;
    ws->address_tries++;
    ws->inside_connect = true;
    struct lws *wsi = lws_client_connect_via_info(&info);
    ws->inside_connect = false;
    return wsi && ws->wsi;
}

void ws_start(struct tm_ws *ws)
{
    if (ws->state == WS_RESOLVING && !ws->addresses.count) {
        ws->query = tm_resolver_ask(ws->context->resolver, ws->url.host, on_resolved, ws);
        return;
    }
    if (ws->state == WS_RESOLVING)
        ws_move(ws, WS_CONNECTING);
    char address[NI_MAXHOST] = "";
    const struct sockaddr_storage *at = &ws->addresses.address[ws->address];
    getnameinfo((const struct sockaddr *)at, sizeof *at, address, sizeof address, NULL, 0, NI_NUMERICHOST);
    if (!create_try(ws, address))
        ws_on_library_gone(ws);
}

static void set_liveness(struct tm_ws_options *o, int64_t ping_idle_us, int64_t silence_us)
{
    o->ping_idle_us = ping_idle_us ? ping_idle_us : 5 * TM_US_PER_S;
    o->silence_us = silence_us ? silence_us : 15 * TM_US_PER_S;
}

static void take_options(struct tm_ws *ws, const struct tm_ws_options *options)
{
    struct tm_ws_options *o = &ws->options;
    *o = *options;
    o->url = o->ca_file = NULL;
    o->auth = tm_auth_take(options->auth);
    ws->user_agent = strdup(o->user_agent ? o->user_agent : "tidemill");
    TM_FATAL_UNLESS(ws->user_agent);
    o->user_agent = ws->user_agent;
    o->connect_us = o->connect_us ? o->connect_us : 10 * TM_US_PER_S;
    set_liveness(o, o->ping_idle_us, o->silence_us);
    o->message_bytes_max = o->message_bytes_max ? o->message_bytes_max : TM_WS_MESSAGE_BYTES;
    o->send_bytes_max = o->send_bytes_max ? o->send_bytes_max : TM_WS_SEND_BYTES;
}

int tm_ws_connect(struct tm_ws_context *context, const struct tm_ws_options *options, const struct tm_ws_events *events,
                  void *arg, struct tm_ws **out, struct tm_error *err)
{
    struct tm_url url;
    struct lws_vhost *vhost;
    int rc = tm_ws_check_url(options->url, err);
    if (!rc)
        rc = tm_url_parse(options->url, "ws", "wss", &url, err);
    if (!rc && options->user_agent && strpbrk(options->user_agent, "\r\n"))
        rc = tm_error_set(err, TM_EINVAL, "user agent has a line break");
    if (!rc)
        rc = ws_context_vhost(context, url.tls, options->ca_file, &vhost, err);
    if (rc)
        return rc;
    struct tm_ws *ws = calloc(1, sizeof *ws);
    TM_FATAL_UNLESS(ws);
    ws->context = context;
    ws->url = url;
    ws->vhost = vhost;
    ws->events = *events;
    ws->arg = arg;
    take_options(ws, options);
    ws->frames.message_bytes_max = ws->options.message_bytes_max;
    ws->addresses.address[0] = url.address; /* a numeric host needs no resolver */
    ws->addresses.count = url.address.ss_family != AF_UNSPEC;
    tm_timer_init(&ws->timer, context->loop, on_timer, ws);
    tm_timer_start(&ws->timer, ws->options.connect_us, 0);
    context->connections++;
    put_starting(ws);
    *out = ws;
    return TM_OK;
}

/* While it connects the timer belongs to the handshake, while it closes to the close. */
void tm_ws_set_liveness(struct tm_ws *ws, int64_t ping_idle_us, int64_t silence_us)
{
    set_liveness(&ws->options, ping_idle_us, silence_us);
    if (ws->state == WS_OPEN && !ws->reason_known)
        tm_timer_start(&ws->timer, 0, 0);
}

int tm_ws_send(struct tm_ws *ws, const char *bytes, size_t len)
{
    if (ws->state != WS_OPEN || ws->reason_known)
        return TM_ESTATE;
    if (len > ws->options.send_bytes_max - ws->out_bytes) {
        ws_set_reason(ws, TM_WS_SLOW, 0, "%zu bytes wait to be sent, the limit is %zu", ws->out_bytes + len,
                      ws->options.send_bytes_max);
        tm_timer_start(&ws->timer, 0, 0);
        return TM_EFULL;
    }
    struct out_frame *f = malloc(sizeof *f + LWS_PRE + len);
    if (!f)
        return TM_ENOMEM;
    f->next = NULL;
    f->len = len;
    memcpy(f->bytes + LWS_PRE, bytes, len);
    if (ws->out_first)
        ws->out_last->next = f;
    else
        ws->out_first = f;
    ws->out_last = f;
    ws->out_bytes += len;
    lws_callback_on_writable(ws->wsi);
    return TM_OK;
}

void tm_ws_close(struct tm_ws *ws)
{
    if (ws->state == WS_GONE || ws->reason_known)
        return;
    ws_set_reason(ws, TM_WS_LOCAL, 0, "closed by us");
    if (ws->state == WS_OPEN)
        ws_begin_close(ws, WS_CLOSE_NORMAL);
    else
        tm_timer_start(&ws->timer, 0, 0);
}
