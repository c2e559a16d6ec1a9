#include "net/http.h"
#include "base/clock.h"
#include "net/curl.h"
#include "net/url.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define TIMEOUT_US_DEFAULT (30 * TM_US_PER_S)
#define RETRY_AFTER_MAX 64

struct request {
    struct request *next; /* in the queue, or in the list of those at work */
    struct tm_http *http;
    struct tm_url url;
    char *method, *full_url;
    struct curl_slist *headers;
    char *body; /* NULL: none */
    size_t body_len;
    const struct tm_auth *auth;
    int64_t timeout_us, started_us;
    size_t response_bytes_max;
    tm_http_done *on_done;
    void *arg;

    CURL *curl;
    struct curl_slist *all_headers; /* with the signature of this try */
    struct tm_buf response;
    bool retried, too_big, remote_plain, url_is_secret;
    char retry_after[RETRY_AFTER_MAX];
    char error[CURL_ERROR_SIZE];
};

/* curl asks for a watcher per socket and lets go of it before it closes the socket. */
struct watch {
    struct tm_http *http;
    curl_socket_t fd;
    struct tm_io io;
};

struct tm_http {
    struct tm_loop *loop;
    CURLM *multi;
    struct tm_timer timer; /* curl's */
    struct tm_timer kick;  /* ours: start what waits, so that on_done never runs inside a call of the user */
    size_t parallel_max, queue_max, working, queued;
    struct request *at_work, *first, *last;
    bool stopping;
};

static void start_curl_library(void)
{
    TM_FATAL_UNLESS(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

static void free_headers(struct curl_slist *list)
{
    for (struct curl_slist *h = list; h; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(list);
}

static void free_request(struct request *r)
{
    if (r->curl)
        curl_easy_cleanup(r->curl);
    free_headers(r->headers);
    free_headers(r->all_headers);
    if (r->full_url)
        explicit_bzero(r->full_url, strlen(r->full_url));
    if (r->body)
        explicit_bzero(r->body, r->body_len);
    explicit_bzero(&r->url, sizeof r->url);
    tm_buf_fini(&r->response);
    free(r->method);
    free(r->full_url);
    free(r->body);
    tm_auth_put(r->auth);
    free(r);
}

static void finish(struct request *r, int status, const char *content_type, const char *error)
{
    struct tm_http_response response = {
        .status = status,
        .content_type = content_type ? content_type : "",
        .retry_after = r->retry_after,
        .body = &r->response,
        .error = error,
        .elapsed_us = tm_clock_mono_us() - r->started_us,
    };
    r->on_done(r->arg, &response);
    free_request(r);
}

static void fail(struct request *r, const char *why)
{
    char text[CURL_ERROR_SIZE + 400];
    char path[128]; /* the query stays out: it may hold what logs must not */
    if (r->url_is_secret)
        (void)snprintf(path, sizeof path, "/***");
    else
        (void)snprintf(path, sizeof path, "%.*s", (int)strcspn(r->url.path, "?"), r->url.path);
    (void)snprintf(text, sizeof text, "%s %s://%s%s: %s", r->method, r->url.tls ? "https" : "http", r->url.authority,
                   path, why);
    tm_buf_clear(&r->response);
    finish(r, 0, NULL, text);
}

/* ---- what curl calls while a request is at work ---- */

static size_t on_body(char *bytes, size_t size, size_t count, void *arg)
{
    struct request *r = arg;
    size_t len = size * count;
    if (len > r->response_bytes_max - r->response.len || tm_buf_append(&r->response, bytes, len)) {
        r->too_big = true;
        return 0;
    }
    return len;
}

static size_t on_header(char *line, size_t size, size_t count, void *arg)
{
    static const char name[] = "retry-after:";
    struct request *r = arg;
    size_t len = size * count, skip = sizeof name - 1;
    if (len >= 5 && !strncmp(line, "HTTP/", 5))
        r->retry_after[0] = '\0'; /* a new answer; the one before was informational */
    if (len <= skip || strncasecmp(line, name, skip))
        return len;
    while (skip < len && (line[skip] == ' ' || line[skip] == '\t'))
        skip++;
    while (len > skip && strchr(" \t\r\n", line[len - 1]))
        len--;
    (void)snprintf(r->retry_after, sizeof r->retry_after, "%.*s", (int)(len - skip), line + skip);
    return size * count;
}

/* Plain http goes to loopback only, whatever the name resolves to. */
static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct request *r = arg;
    (void)purpose;
    if (!r->url.tls && !tm_addr_is_loopback(&address->addr)) {
        r->remote_plain = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

/* ---- starting ---- */

static int put_header(void *arg, const char *name, const char *value)
{
    struct request *r = arg;
    struct tm_buf line = {0};
    const char *text = tm_buf_printf(&line, "%s: %s", name, value) ? NULL : tm_buf_cstr(&line);
    struct curl_slist *grown = text ? curl_slist_append(r->all_headers, text) : NULL;
    tm_buf_fini(&line);
    if (!grown)
        return TM_ENOMEM;
    r->all_headers = grown;
    return TM_OK;
}

/* The given headers and, made now and not when it was queued, the signature. */
static int collect_headers(struct request *r, struct tm_error *err)
{
    free_headers(r->all_headers);
    r->all_headers = NULL;
    for (const struct curl_slist *h = r->headers; h; h = h->next) {
        struct curl_slist *grown = curl_slist_append(r->all_headers, h->data);
        if (!grown)
            return tm_error_set(err, TM_ENOMEM, "no memory for the headers");
        r->all_headers = grown;
    }
    if (!r->auth)
        return TM_OK;
    return tm_auth_headers(r->auth, r->method, r->url.path, tm_clock_wall_us(), put_header, r, err);
}

static void set_method(struct request *r)
{
    CURL *c = r->curl;
    if (r->body) {
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)r->body_len);
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, r->body);
    }
    if (!strcmp(r->method, "HEAD"))
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    else
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, r->method);
}

static void set_options(struct request *r)
{
    CURL *c = r->curl;
    tm_curl_defaults(c);
    curl_easy_setopt(c, CURLOPT_URL, r->full_url);
    curl_easy_setopt(c, CURLOPT_PRIVATE, r);
    int64_t left_us = r->timeout_us - (tm_clock_mono_us() - r->started_us); /* less than all of it in a retry */
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, left_us > TM_US_PER_MS ? (long)(left_us / TM_US_PER_MS) : 1L);
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, r->error);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, r);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, r);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, r);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, r->all_headers);
    curl_easy_setopt(c, CURLOPT_FRESH_CONNECT, r->retried ? 1L : 0L);
    set_method(r);
}

static void remove_at_work(struct request *r)
{
    struct request **at = &r->http->at_work;
    while (*at != r)
        at = &(*at)->next;
    *at = r->next;
    r->http->working--;
}

static void start(struct request *r)
{
    struct tm_http *http = r->http;
    struct tm_error err;
    r->next = http->at_work;
    http->at_work = r;
    http->working++;
    if (!r->retried)
        r->started_us = tm_clock_mono_us();
    int rc = collect_headers(r, &err);
    if (!rc && !r->curl)
        r->curl = curl_easy_init();
    if (!rc && r->curl)
        set_options(r);
    if (rc || !r->curl || curl_multi_add_handle(http->multi, r->curl) != CURLM_OK) {
        remove_at_work(r);
        fail(r, rc ? err.message : "cannot start: no memory");
    }
}

static void on_kick(void *arg)
{
    struct tm_http *http = arg;
    while (http->first && http->working < http->parallel_max) {
        struct request *r = http->first;
        http->first = r->next;
        if (!http->first)
            http->last = NULL;
        http->queued--;
        start(r);
    }
}

/* ---- ending ---- */

static bool is_idempotent(const char *method)
{
    static const char *const methods[] = {"GET", "HEAD", "PUT", "DELETE", "OPTIONS"};
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++)
        if (!strcmp(method, methods[i]))
            return true;
    return false;
}

/* A kept connection may have died unnoticed; then nothing is wrong with the request or the server. */
static bool may_retry(const struct request *r, CURLcode code)
{
    long connects = 0;
    curl_easy_getinfo(r->curl, CURLINFO_NUM_CONNECTS, &connects);
    bool died = code == CURLE_SEND_ERROR || code == CURLE_RECV_ERROR || code == CURLE_GOT_NOTHING;
    return !r->retried && is_idempotent(r->method) && (code == CURLE_HTTP2 || (died && connects == 0));
}

static void fail_with(struct request *r, CURLcode code)
{
    char text[CURL_ERROR_SIZE + 64];
    long cause = 0;
    curl_easy_getinfo(r->curl, CURLINFO_OS_ERRNO, &cause);
    if (r->too_big)
        (void)snprintf(text, sizeof text, "the body exceeds %zu bytes", r->response_bytes_max);
    else if (r->remote_plain)
        (void)snprintf(text, sizeof text, "http is allowed to loopback only, and the name stands for another address");
    else if (code == CURLE_OPERATION_TIMEDOUT)
        (void)snprintf(text, sizeof text, "no complete answer within %lld ms",
                       (long long)(r->timeout_us / TM_US_PER_MS));
    else
        (void)snprintf(text, sizeof text, "%s%s%s", r->error[0] ? r->error : curl_easy_strerror(code),
                       cause ? ": " : "", cause ? strerror((int)cause) : "");
    fail(r, text);
}

static void on_finished(struct request *r, CURLcode code)
{
    long status = 0;
    const char *content_type = NULL;
    curl_multi_remove_handle(r->http->multi, r->curl);
    remove_at_work(r);
    if (code != CURLE_OK && may_retry(r, code)) {
        r->retried = true;
        tm_buf_clear(&r->response);
        start(r);
        return;
    }
    curl_easy_getinfo(r->curl, CURLINFO_RESPONSE_CODE, &status);
    curl_easy_getinfo(r->curl, CURLINFO_CONTENT_TYPE, &content_type);
    if (code == CURLE_OK && tm_buf_reserve(&r->response, 16))
        fail(r, "no memory for the body");
    else if (code == CURLE_OK)
        finish(r, (int)status, content_type, NULL);
    else
        fail_with(r, code);
}

static void take_finished(struct tm_http *http)
{
    CURLMsg *message;
    int left;
    while ((message = curl_multi_info_read(http->multi, &left))) {
        struct request *r = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &r);
        on_finished(r, code);
    }
    on_kick(http);
}

/* ---- curl on the loop ---- */

static void on_socket_event(void *arg, int events)
{
    struct watch *w = arg;
    struct tm_http *http = w->http; /* w may be freed below */
    int mask = (events & EV_READ ? CURL_CSELECT_IN : 0) | (events & EV_WRITE ? CURL_CSELECT_OUT : 0), running;
    curl_multi_socket_action(http->multi, w->fd, mask, &running);
    take_finished(http);
}

static void on_curl_timer(void *arg)
{
    struct tm_http *http = arg;
    int running;
    curl_multi_socket_action(http->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    take_finished(http);
}

static int on_set_timer(CURLM *multi, long timeout_ms, void *arg)
{
    struct tm_http *http = arg;
    (void)multi;
    if (timeout_ms < 0)
        tm_timer_stop(&http->timer);
    else
        tm_timer_start(&http->timer, timeout_ms * TM_US_PER_MS, 0);
    return 0;
}

static int on_set_socket(CURL *curl, curl_socket_t fd, int what, void *arg, void *known)
{
    struct tm_http *http = arg;
    struct watch *w = known;
    (void)curl;
    if (what == CURL_POLL_REMOVE) {
        if (w)
            tm_io_set(&w->io, 0);
        free(w);
        return 0;
    }
    if (!w) {
        w = calloc(1, sizeof *w);
        if (!w)
            return -1;
        w->http = http;
        w->fd = fd;
        tm_io_init(&w->io, http->loop, fd, on_socket_event, w);
        curl_multi_assign(http->multi, fd, w);
    }
    tm_io_set(&w->io, (what & CURL_POLL_IN ? EV_READ : 0) | (what & CURL_POLL_OUT ? EV_WRITE : 0));
    return 0;
}

/* ---- the interface ---- */

int tm_http_create(struct tm_loop *loop, size_t parallel_max, size_t queue_max, struct tm_http **out,
                   struct tm_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl_library);
    struct tm_http *http = calloc(1, sizeof *http);
    CURLM *multi = http ? curl_multi_init() : NULL;
    if (!multi) {
        free(http);
        return tm_error_set(err, TM_ENOMEM, "no memory for the HTTP client");
    }
    *http = (struct tm_http){.loop = loop, .multi = multi, .parallel_max = parallel_max, .queue_max = queue_max};
    tm_timer_init(&http->timer, loop, on_curl_timer, http);
    tm_timer_init(&http->kick, loop, on_kick, http);
    curl_multi_setopt(multi, CURLMOPT_SOCKETFUNCTION, on_set_socket);
    curl_multi_setopt(multi, CURLMOPT_SOCKETDATA, http);
    curl_multi_setopt(multi, CURLMOPT_TIMERFUNCTION, on_set_timer);
    curl_multi_setopt(multi, CURLMOPT_TIMERDATA, http);
    *out = http;
    return TM_OK;
}

void tm_http_destroy(struct tm_http *http)
{
    if (!http)
        return;
    http->stopping = true;
    while (http->at_work) {
        struct request *r = http->at_work;
        curl_multi_remove_handle(http->multi, r->curl);
        remove_at_work(r);
        fail(r, "stopped");
    }
    while (http->first) {
        struct request *r = http->first;
        http->first = r->next;
        fail(r, "stopped");
    }
    curl_multi_cleanup(http->multi);
    tm_timer_stop(&http->timer);
    tm_timer_stop(&http->kick);
    free(http);
}

static bool is_method(const char *method)
{
    size_t len = strspn(method, "ABCDEFGHIJKLMNOPQRSTUVWXYZ");
    return len && len < 16 && !method[len];
}

static int check(const struct tm_http *http, const struct tm_http_request *q, struct tm_url *url, struct tm_error *err)
{
    if (http->stopping)
        return tm_error_set(err, TM_ESTOPPED, "the HTTP client is stopping");
    if (!is_method(q->method))
        return tm_error_set(err, TM_EINVAL, "HTTP method \"%.30s\": expected a word in capital letters", q->method);
    for (size_t i = 0; q->headers && q->headers[i]; i++)
        if (!strchr(q->headers[i], ':') || strpbrk(q->headers[i], "\r\n"))
            return tm_error_set(err, TM_EINVAL, "header %zu: expected \"Name: value\" on one line", i + 1);
    if (http->queued >= http->queue_max)
        return tm_error_set(err, TM_EFULL, "%zu HTTP requests wait already, which is the limit", http->queued);
    int rc = tm_url_parse(q->url, "http", "https", url, err);
    if (rc && q->url_is_secret)
        (void)tm_error_set(err, rc, "the URL, which is secret, is not one: expected https://host/path");
    return rc;
}

static struct request *copy_request(const struct tm_http_request *q)
{
    struct request *r = calloc(1, sizeof *r);
    if (!r)
        return NULL;
    bool ok = (r->method = strdup(q->method)) && (r->full_url = strdup(q->url));
    for (size_t i = 0; ok && q->headers && q->headers[i]; i++) {
        struct curl_slist *grown = curl_slist_append(r->headers, q->headers[i]);
        ok = grown;
        r->headers = grown ? grown : r->headers;
    }
    if (ok && q->body && (ok = (r->body = malloc(q->body_len + 1))))
        memcpy(r->body, q->body, q->body_len);
    if (!ok) {
        free_request(r);
        return NULL;
    }
    r->body_len = q->body_len;
    r->url_is_secret = q->url_is_secret;
    r->auth = tm_auth_take(q->auth);
    r->timeout_us = q->timeout_us ? q->timeout_us : TIMEOUT_US_DEFAULT;
    r->response_bytes_max = q->response_bytes_max ? q->response_bytes_max : TM_HTTP_RESPONSE_BYTES;
    return r;
}

int tm_http_send(struct tm_http *http, const struct tm_http_request *request, tm_http_done *on_done, void *arg,
                 struct tm_error *err)
{
    struct tm_url url;
    int rc = check(http, request, &url, err);
    if (rc)
        return rc;
    struct request *r = copy_request(request);
    if (!r)
        return tm_error_set(err, TM_ENOMEM, "no memory for an HTTP request");
    r->http = http;
    r->url = url;
    r->on_done = on_done;
    r->arg = arg;
    r->started_us = tm_clock_mono_us();
    if (http->last)
        http->last->next = r;
    else
        http->first = r;
    http->last = r;
    http->queued++;
    tm_timer_start(&http->kick, 0, 0);
    return TM_OK;
}
