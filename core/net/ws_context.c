#include "net/ws_impl.h"
#include "base/clock.h"
#include "base/log.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define HANDSHAKE_BYTES_MAX 16384 /* of headers in the answer to the upgrade */
#define LIBRARY_TIMEOUT_S 3600    /* out of the way: deadlines are ours */

/* Sets of trusted authorities differ by vhost. */
struct ws_vhost {
    struct ws_vhost *next;
    struct lws_vhost *vhost;
    SSL_CTX *ssl;  /* NULL: plain */
    char *ca_file; /* NULL: the system's authorities */
};

static const struct lws_protocols protocols[] = {
    /* A buffer for frames, one a connection, that is never used; and how much is written at a time. */
    {.name = TM_WS_PROTOCOL_NAME, .callback = ws_callback, .rx_buffer_size = 1, .tx_packet_size = TM_WS_RX_BYTES},
    {0},
};

/* Creating and destroying contexts touches globals of libwebsockets and OpenSSL. */
static pthread_mutex_t library_lock = PTHREAD_MUTEX_INITIALIZER;

static void on_library_log(int level, const char *line)
{
    enum tm_log_level to = level == LLL_ERR ? TM_LOG_ERROR : TM_LOG_WARN;
    if (strstr(line, "readbuf: calling service"))
        return; /* a trace that was left in it, as an error, for each socket that it takes over */
    TM_LOG_LIMITED(to, "net", "libwebsockets", TM_F_BYTES("text", line, strcspn(line, "\n")));
}

void ws_context_read_again(struct tm_ws *ws)
{
    struct tm_ws **first = &ws->context->unread;
    ws_context_drop(ws);
    ws->next_unread = *first;
    ws->unread_at = first;
    if (*first)
        (*first)->unread_at = &ws->next_unread;
    *first = ws;
    tm_timer_start(&ws->context->again, 0, 0);
}

void ws_context_drop(struct tm_ws *ws)
{
    if (!ws->unread_at)
        return;
    *ws->unread_at = ws->next_unread;
    if (ws->next_unread)
        ws->next_unread->unread_at = ws->unread_at;
    ws->unread_at = NULL;
}

/* Each once: one that has still more puts itself back, before those that follow. */
static void on_again(void *arg)
{
    struct tm_ws_context *c = arg;
    for (struct tm_ws *ws = c->unread, *next; ws; ws = next) {
        next = ws->next_unread;
        ws_context_drop(ws);
        ws_read(ws);
    }
}

/* The end of a turn: report what has gone, start what was asked for; both may cause more. */
static void on_pump(void *arg)
{
    struct tm_ws_context *c = arg;
    c->turn++;
    c->turn_us = 0;
    while (c->gone || c->starting) {
        struct tm_ws **list = c->gone ? &c->gone : &c->starting;
        struct tm_ws *ws = *list;
        bool gone = list == &c->gone;
        *list = ws->next;
        ws->next = NULL;
        if (gone)
            ws_report_gone(ws);
        else
            ws_start(ws);
    }
}

struct lws_context *ws_library_create(const struct lws_context_creation_info *info)
{
    pthread_mutex_lock(&library_lock);
    lws_set_log_level(LLL_ERR | LLL_WARN, on_library_log);
    struct lws_context *lws = lws_create_context(info);
    pthread_mutex_unlock(&library_lock);
    return lws;
}

void ws_library_destroy(struct lws_context *lws)
{
    pthread_mutex_lock(&library_lock);
    lws_context_destroy(lws);
    pthread_mutex_unlock(&library_lock);
}

static struct lws_context *create_library_context(struct tm_loop *loop)
{
    void *loops[] = {tm_loop_native(loop)};
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = LWS_SERVER_OPTION_LIBEV | LWS_SERVER_OPTION_EXPLICIT_VHOSTS | LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT,
        .foreign_loops = loops,
        .pt_serv_buf_size = TM_WS_RX_BYTES,
        .max_http_header_data2 = HANDSHAKE_BYTES_MAX,
        .max_http_header_pool2 = 4096,
        .timeout_secs = LIBRARY_TIMEOUT_S,
        .gid = -1,
        .uid = -1,
    };
    return ws_library_create(&info);
}

int tm_ws_context_create(struct tm_loop *loop, struct tm_ws_context **out, struct tm_error *err)
{
    struct tm_ws_context *c = calloc(1, sizeof *c);
    TM_FATAL_UNLESS(c);
    c->loop = loop;
    c->lws = create_library_context(loop);
    if (!c->lws) {
        free(c);
        return tm_error_set(err, TM_EIO,
                            "libwebsockets cannot start on libev; is the package libwebsockets-evlib-ev installed?");
    }
    c->resolver = tm_resolver_create(loop);
    tm_timer_init(&c->again, loop, on_again, c);
    tm_prepare_init_early(&c->pump, loop, on_pump, c); /* on_close comes from it */
    *out = c;
    return TM_OK;
}

void tm_ws_context_destroy(struct tm_ws_context *c)
{
    if (!c)
        return;
    TM_FATAL_UNLESS(c->connections == 0);
    tm_prepare_fini(&c->pump);
    tm_timer_stop(&c->again);
    tm_resolver_destroy(c->resolver);
    ws_library_destroy(c->lws);
    while (c->vhosts) {
        struct ws_vhost *v = c->vhosts;
        c->vhosts = v->next;
        SSL_CTX_free(v->ssl);
        free(v->ca_file);
        free(v);
    }
    free(c);
}

struct tm_loop *tm_ws_context_loop(const struct tm_ws_context *c)
{
    return c->loop;
}

int64_t tm_ws_turn_us(struct tm_ws_context *c)
{
    if (!c->turn_us)
        c->turn_us = tm_clock_mono_us();
    return c->turn_us;
}

/* Our own SSL_CTX and not one made by the library, which only logs that a CA file cannot be loaded. */
static int create_ssl(const char *ca_file, SSL_CTX **out, struct tm_error *err)
{
    SSL_CTX *ssl = SSL_CTX_new(TLS_client_method());
    TM_FATAL_UNLESS(ssl);
    SSL_CTX_set_min_proto_version(ssl, TLS1_2_VERSION);
    SSL_CTX_set_verify(ssl, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(ssl, SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_ENABLE_PARTIAL_WRITE);
    SSL_CTX_set_read_ahead(ssl, 1); /* a call for many records instead of two for each */
    SSL_CTX_set_default_read_buffer_len(ssl, TM_WS_RX_BYTES);
    int ok = ca_file ? SSL_CTX_load_verify_file(ssl, ca_file) : SSL_CTX_set_default_verify_paths(ssl);
    if (!ok) {
        const char *reason = ERR_reason_error_string(ERR_get_error());
        tm_error_set(err, TM_EINVAL, "cannot load certificates from %s: %s; expected a PEM file of trusted authorities",
                     ca_file ? ca_file : "the system's store", reason ? reason : "unknown OpenSSL error");
        ERR_clear_error();
        SSL_CTX_free(ssl);
        return TM_EINVAL;
    }
    *out = ssl;
    return TM_OK;
}

int tm_ws_check_ca_file(const char *path, struct tm_error *err)
{
    SSL_CTX *ssl = NULL;
    int rc = create_ssl(path, &ssl, err);
    SSL_CTX_free(ssl);
    return rc;
}

static struct lws_vhost *create_library_vhost(struct lws_context *lws, SSL_CTX *ssl)
{
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = ssl ? LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT : 0,
        .vhost_name = "client",
        .protocols = protocols,
        .provided_client_ssl_ctx = ssl,
        .http_proxy_address = "none:0", /* or the library takes one from the environment */
        .timeout_secs = LIBRARY_TIMEOUT_S,
        .connect_timeout_secs = LIBRARY_TIMEOUT_S,
    };
    return lws_create_vhost(lws, &info);
}

static bool is_same(const char *a, const char *b)
{
    return a == b || (a && b && !strcmp(a, b));
}

int ws_context_vhost(struct tm_ws_context *c, bool tls, const char *ca_file, struct lws_vhost **out,
                     struct tm_error *err)
{
    if (!tls)
        ca_file = NULL;
    for (struct ws_vhost *v = c->vhosts; v; v = v->next)
        if (tls == !!v->ssl && is_same(v->ca_file, ca_file)) {
            *out = v->vhost;
            return TM_OK;
        }
    SSL_CTX *ssl = NULL;
    int rc = tls ? create_ssl(ca_file, &ssl, err) : TM_OK;
    if (rc)
        return rc;
    struct ws_vhost *v = calloc(1, sizeof *v);
    TM_FATAL_UNLESS(v);
    *v = (struct ws_vhost){.next = c->vhosts, .ssl = ssl, .ca_file = ca_file ? strdup(ca_file) : NULL};
    v->vhost = create_library_vhost(c->lws, ssl);
    TM_FATAL_UNLESS(v->vhost);
    c->vhosts = v;
    *out = v->vhost;
    return TM_OK;
}
