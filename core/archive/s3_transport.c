#include "archive/s3_transport.h"
#include "base/clock.h"
#include "net/curl.h"
#include "net/url.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SLICE_MS 100
#define CONNECT_MS 10000

struct tm_s3_transport {
    CURLM *multi;
    CURL *curl;
    const char *ca_file;
    const atomic_bool *stop;
    uint64_t sent, received;

    /* of the request at work */
    const struct tm_s3_request *request;
    struct tm_s3_answer *answer;
    struct curl_slist *headers;
    bool too_big, no_memory, remote_plain;
    uint64_t progress; /* counts callbacks */
    char error[CURL_ERROR_SIZE];
};

static void start_curl_library(void)
{
    TM_FATAL_UNLESS(curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK);
}

int tm_s3_transport_create(const char *ca_file, const atomic_bool *stop, struct tm_s3_transport **out,
                           struct tm_error *err)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, start_curl_library);
    struct tm_s3_transport *t = calloc(1, sizeof *t);
    if (t) {
        t->multi = curl_multi_init();
        t->curl = curl_easy_init();
        t->ca_file = ca_file;
        t->stop = stop;
    }
    if (!t || !t->multi || !t->curl) {
        tm_s3_transport_destroy(t);
        return tm_error_set(err, TM_ENOMEM, "no memory for an HTTP client");
    }
    *out = t;
    return TM_OK;
}

void tm_s3_transport_destroy(struct tm_s3_transport *t)
{
    if (!t)
        return;
    if (t->curl)
        curl_easy_cleanup(t->curl);
    if (t->multi)
        curl_multi_cleanup(t->multi);
    free(t);
}

void tm_s3_transport_moved(const struct tm_s3_transport *t, uint64_t *sent, uint64_t *received)
{
    *sent = t->sent;
    *received = t->received;
}

static bool is_stopped(const atomic_bool *stop)
{
    return stop && atomic_load_explicit(stop, memory_order_relaxed);
}

int tm_s3_transport_pause(const struct tm_s3_transport *t, int64_t us, struct tm_error *err)
{
    int64_t until = tm_clock_mono_us() + us, left;
    while (!is_stopped(t->stop) && (left = until - tm_clock_mono_us()) > 0) {
        int64_t slice = left < SLICE_MS * TM_US_PER_MS ? left : SLICE_MS * TM_US_PER_MS;
        (void)nanosleep(&(struct timespec){.tv_nsec = (long)(slice * 1000)}, NULL);
    }
    return is_stopped(t->stop) ? tm_error_set(err, TM_ESTOPPED, "asked to stop") : TM_OK;
}

/* ---- what libcurl calls ---- */

static bool is_link_local(const struct sockaddr *addr)
{
    static const uint8_t ec2_v6[] = {0xfd, 0x00, 0x0e, 0xc2}; /* fd00:ec2::/32, where EC2 and EKS have theirs */
    if (addr->sa_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)addr)->sin_addr.s_addr) >> 16 == 0xa9fe;
    if (addr->sa_family == AF_INET6)
        return !memcmp(&((const struct sockaddr_in6 *)(const void *)addr)->sin6_addr, ec2_v6, sizeof ec2_v6);
    return false;
}

/* Here the address is known that a name stands for. */
static curl_socket_t on_open_socket(void *arg, curlsocktype purpose, struct curl_sockaddr *address)
{
    struct tm_s3_transport *t = arg;
    (void)purpose;
    bool plain = !strncasecmp(t->request->url, "http:", 5);
    if (plain && !tm_addr_is_loopback(&address->addr) && !(t->request->link_local && is_link_local(&address->addr))) {
        t->remote_plain = true;
        return CURL_SOCKET_BAD;
    }
    return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

static bool is_success(const struct tm_s3_answer *answer)
{
    return answer->status >= 200 && answer->status < 300;
}

static size_t on_body(char *bytes, size_t one, size_t len, void *arg)
{
    struct tm_s3_transport *t = arg;
    (void)one;
    t->progress++;
    t->received += len;
    if (!is_success(t->answer)) {
        struct tm_buf *to = &t->answer->error;
        size_t room = TM_S3_ERROR_BODY_MAX - to->len;
        t->no_memory = tm_buf_append(to, bytes, len < room ? len : room);
        return t->no_memory ? 0 : len;
    }
    if (!t->request->to)
        return len;
    t->too_big = len > t->request->to_max - t->request->to->len;
    t->no_memory = !t->too_big && tm_buf_append(t->request->to, bytes, len);
    return t->too_big || t->no_memory ? 0 : len;
}

/* The value of a header line if it has this name, without spaces around it. */
static bool take_header(const char *line, size_t len, const char *name, char *to, size_t size)
{
    size_t name_len = strlen(name);
    if (len <= name_len || line[name_len] != ':' || strncasecmp(line, name, name_len) != 0)
        return false;
    line += name_len + 1;
    len -= name_len + 1;
    for (; len && (*line == ' ' || *line == '\t'); len--)
        line++;
    while (len && (line[len - 1] == '\n' || line[len - 1] == '\r' || line[len - 1] == ' '))
        len--;
    (void)snprintf(to, size, "%.*s", (int)(len < size ? len : size - 1), line);
    return true;
}

static void strip_quotes(char *text)
{
    size_t len = strlen(text);
    if (len >= 2 && text[0] == '"' && text[len - 1] == '"') {
        memmove(text, text + 1, len - 2);
        text[len - 2] = '\0';
    }
}

static void take_known_header(struct tm_s3_answer *a, const char *line, size_t len)
{
    char text[64];
    if (take_header(line, len, "etag", a->etag, sizeof a->etag))
        strip_quotes(a->etag);
    else if (take_header(line, len, "content-length", text, sizeof text))
        a->size = strtoull(text, NULL, 10);
    else if (take_header(line, len, "last-modified", text, sizeof text)) {
        time_t at = curl_getdate(text, NULL);
        a->modified_us = at > 0 ? at * TM_US_PER_S : 0;
    } else if (take_header(line, len, "retry-after", text, sizeof text))
        a->retry_after_us = strspn(text, "0123456789") < 7 ? strtoll(text, NULL, 10) * TM_US_PER_S : 0;
    else if (!take_header(line, len, "x-amz-meta-tidemill-put", a->put_id, sizeof a->put_id) &&
             !take_header(line, len, "x-amz-bucket-region", a->region, sizeof a->region))
        (void)take_header(line, len, "content-range", a->range, sizeof a->range);
}

/* Each answer begins with its status line, and a "100 Continue" may come before the one that counts. */
static size_t on_header(char *bytes, size_t one, size_t len, void *arg)
{
    struct tm_s3_transport *t = arg;
    long status = 0;
    (void)one;
    t->progress++;
    if (len > 5 && !strncasecmp(bytes, "HTTP/", 5)) {
        struct tm_buf error = t->answer->error;
        *t->answer = (struct tm_s3_answer){.size = UINT64_MAX, .error = error};
        curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &status);
        t->answer->status = (int)status;
    } else
        take_known_header(t->answer, bytes, len);
    return len;
}

/* ---- one request ---- */

static bool has_body(const char *method)
{
    return !strcmp(method, "PUT") || !strcmp(method, "POST");
}

static void set_method(CURL *c, const struct tm_s3_request *q)
{
    if (!strcmp(q->method, "HEAD"))
        curl_easy_setopt(c, CURLOPT_NOBODY, 1L);
    else if (has_body(q->method)) { /* not CURLOPT_UPLOAD, which would have to seek when libcurl sends it again */
        curl_easy_setopt(c, CURLOPT_POSTFIELDS, q->body_len ? q->body : "");
        curl_easy_setopt(c, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)q->body_len);
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
    } else if (strcmp(q->method, "GET") != 0)
        curl_easy_setopt(c, CURLOPT_CUSTOMREQUEST, q->method);
}

static void set_signer(CURL *c, const struct tm_s3_signer *signer)
{
    if (!signer)
        return;
    curl_easy_setopt(c, CURLOPT_AWS_SIGV4, signer->scope);
    curl_easy_setopt(c, CURLOPT_USERNAME, signer->id);
    curl_easy_setopt(c, CURLOPT_PASSWORD, signer->secret);
}

static void set_options(struct tm_s3_transport *t)
{
    CURL *c = t->curl;
    curl_easy_reset(c); /* keeps the connection */
    tm_curl_defaults(c);
    curl_easy_setopt(c, CURLOPT_URL, t->request->url);
    curl_easy_setopt(c, CURLOPT_PATH_AS_IS, 1L);
    curl_easy_setopt(c, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(c, CURLOPT_QUICK_EXIT, 1L); /* who stops does not wait for a name server */
    if (t->ca_file)
        curl_easy_setopt(c, CURLOPT_CAINFO, t->ca_file);
    curl_easy_setopt(c, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(c, CURLOPT_TIMEOUT_MS, (long)(t->request->whole_us / TM_US_PER_MS + 1));
    curl_easy_setopt(c, CURLOPT_ERRORBUFFER, t->error);
    curl_easy_setopt(c, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(c, CURLOPT_WRITEDATA, t);
    curl_easy_setopt(c, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(c, CURLOPT_HEADERDATA, t);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    curl_easy_setopt(c, CURLOPT_OPENSOCKETDATA, t);
    curl_easy_setopt(c, CURLOPT_HTTPHEADER, t->headers);
    if (t->request->range)
        curl_easy_setopt(c, CURLOPT_RANGE, t->request->range);
    set_method(c, t->request);
    set_signer(c, t->request->signer);
}

static int collect_headers(struct tm_s3_transport *t)
{
    t->headers = NULL;
    for (const char *const *h = t->request->headers; h && *h; h++) {
        struct curl_slist *grown = curl_slist_append(t->headers, *h);
        if (!grown)
            return TM_ENOMEM;
        t->headers = grown;
    }
    return TM_OK;
}

static void free_headers(struct tm_s3_transport *t) /* one of them may be a session token */
{
    for (struct curl_slist *h = t->headers; h; h = h->next)
        explicit_bzero(h->data, strlen(h->data));
    curl_slist_free_all(t->headers);
    t->headers = NULL;
}

static uint64_t bytes_up(const struct tm_s3_transport *t)
{
    curl_off_t n = 0;
    curl_easy_getinfo(t->curl, CURLINFO_SIZE_UPLOAD_T, &n);
    return (uint64_t)n;
}

static int told(struct tm_s3_transport *t, CURLcode code, struct tm_error *err)
{
    const char *text = t->error[0] ? t->error : curl_easy_strerror(code);
    switch (code) {
    case CURLE_OK:
        return TM_OK;
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return tm_error_set(err, TM_EDENIED,
                            "TLS: %s; expected a certificate for this host from an authority of the system, or of "
                            "ca_file= in the URL",
                            text);
    case CURLE_OPERATION_TIMEDOUT:
        return tm_error_set(err, TM_ETIMEOUT, "%s", text);
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_BAD_FUNCTION_ARGUMENT:
    case CURLE_FAILED_INIT:
    case CURLE_NOT_BUILT_IN:
        return tm_error_set(err, TM_EINVAL, "libcurl: %s", text);
    case CURLE_OUT_OF_MEMORY:
        return tm_error_set(err, TM_ENOMEM, "no memory for an HTTP request");
    default:
        return tm_error_set(err, TM_ERETRY, "%s", text);
    }
}

static int ended(struct tm_s3_transport *t, CURLcode code, struct tm_error *err)
{
    if (t->too_big)
        return tm_error_set(err, TM_ECORRUPT, "the answer has more than %zu bytes", t->request->to_max);
    if (t->no_memory)
        return tm_error_set(err, TM_ENOMEM, "no memory for the answer");
    if (t->remote_plain)
        return tm_error_set(err, TM_EINVAL, "http is allowed to loopback only, and this is another host; use https");
    return told(t, code, err);
}

/* Drives the handle until its request has ended. */
static int drive(struct tm_s3_transport *t, struct tm_error *err)
{
    int64_t quiet_since = tm_clock_mono_us();
    uint64_t progress = 0;
    for (int running = 1, left;;) {
        CURLMcode rc = curl_multi_perform(t->multi, &running);
        const CURLMsg *message = curl_multi_info_read(t->multi, &left);
        if (message && message->msg == CURLMSG_DONE)
            return ended(t, message->data.result, err);
        if (rc == CURLM_OK)
            rc = curl_multi_poll(t->multi, NULL, 0, SLICE_MS, NULL);
        if (rc != CURLM_OK)
            return tm_error_set(err, TM_ENOMEM, "libcurl: %s", curl_multi_strerror(rc));
        if (is_stopped(t->stop) && !t->request->last)
            return tm_error_set(err, TM_ESTOPPED, "asked to stop");
        int64_t now = tm_clock_mono_us();
        if (t->progress + bytes_up(t) != progress) {
            progress = t->progress + bytes_up(t);
            quiet_since = now;
        } else if (now - quiet_since > t->request->quiet_us)
            return tm_error_set(err, TM_ETIMEOUT, "nothing came and nothing was taken for %lld ms",
                                (long long)((now - quiet_since) / TM_US_PER_MS));
    }
}

int tm_s3_transport_do(struct tm_s3_transport *t, const struct tm_s3_request *request, struct tm_s3_answer *answer,
                       struct tm_error *err)
{
    size_t before = request->to ? request->to->len : 0;
    tm_buf_clear(&answer->error);
    *answer = (struct tm_s3_answer){.size = UINT64_MAX, .error = answer->error};
    t->request = request;
    t->answer = answer;
    t->too_big = t->no_memory = t->remote_plain = false;
    t->progress = 0;
    t->error[0] = '\0';
    int rc = collect_headers(t);
    if (!rc)
        set_options(t);
    if (rc || curl_multi_add_handle(t->multi, t->curl) != CURLM_OK)
        rc = tm_error_set(err, TM_ENOMEM, "no memory for an HTTP request");
    else {
        rc = drive(t, err);
        t->sent += bytes_up(t);
        (void)curl_multi_remove_handle(t->multi, t->curl);
    }
    curl_easy_reset(t->curl); /* it holds pointers to what ends now */
    free_headers(t);
    if (request->to && (rc || !is_success(answer)))
        request->to->len = before;
    if (rc)
        answer->status = 0;
    return rc;
}
