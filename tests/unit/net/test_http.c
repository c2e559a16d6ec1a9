#include "base/log.h"
#include "net/http.h"
#include "peer.h"

#define ANSWERS_MAX 40

struct answer {
    int status, calls;
    char content_type[64], retry_after[64], error[600], body[256];
    size_t len;
    int64_t elapsed_us;
};

struct test {
    struct tm_loop *loop;
    struct tm_http *http;
    struct answer answers[ANSWERS_MAX];
    int done, wanted;
    struct tm_buf taken;
};

static struct test *current; /* on_done gets the answer's slot as its argument */

static void on_done(void *arg, struct tm_http_response *r)
{
    struct answer *a = arg;
    a->calls++;
    a->status = r->status;
    a->len = r->body->len;
    a->elapsed_us = r->elapsed_us;
    snprintf(a->content_type, sizeof a->content_type, "%s", r->content_type);
    snprintf(a->retry_after, sizeof a->retry_after, "%s", r->retry_after);
    snprintf(a->error, sizeof a->error, "%s", r->error ? r->error : "");
    snprintf(a->body, sizeof a->body, "%.*s", (int)(a->len < 250 ? a->len : 250), a->len ? (char *)r->body->data : "");
    assert_int_equal(!r->status, !!r->error);
    volatile char sink = 0;
    for (int i = 0; r->status && i < 16; i++) /* readable, says the header; the sanitizer watches */
        sink = (char)(sink ^ (char)r->body->data[r->body->len + (size_t)i]);
    current->done++;
}

static int set_up(void **state)
{
    struct test *t = calloc(1, sizeof *t);
    struct tm_error err;
    t->loop = tm_loop_create();
    if (tm_http_create(t->loop, 4, 20, &t->http, &err))
        fail_msg("%s", err.message);
    *state = current = t;
    return 0;
}

static int tear_down(void **state)
{
    struct test *t = *state;
    tm_http_destroy(t->http);
    tm_loop_destroy(t->loop);
    tm_buf_fini(&t->taken);
    free(t);
    return 0;
}

static bool is_done(void *arg)
{
    const struct test *t = arg;
    return t->done >= t->wanted;
}

static void wait_done(struct test *t, int wanted)
{
    t->wanted = wanted;
    assert_true(run_until(t->loop, is_done, t, PATIENCE_MS));
    assert_int_equal(t->done, wanted);
}

static void send_request(struct test *t, int slot, struct tm_http_request request)
{
    struct tm_error err;
    if (tm_http_send(t->http, &request, on_done, &t->answers[slot], &err))
        fail_msg("%s", err.message);
}

/* GET http://127.0.0.1:port/path */
static void get(struct test *t, int slot, int port, const char *path, struct tm_http_request request)
{
    char url[200];
    snprintf(url, sizeof url, "http://127.0.0.1:%d%s", port, path);
    request.url = url;
    if (!request.method)
        request.method = "GET";
    send_request(t, slot, request);
}

static struct answer *get_one(struct test *t, struct peer *p, struct tm_http_request request)
{
    get(t, 0, p->port, "/path?secret=1", request);
    wait_done(t, 1);
    peer_stop(p);
    assert_int_equal(t->answers[0].calls, 1);
    return &t->answers[0];
}

static void expect_error(const struct answer *a, const char *text)
{
    assert_int_equal(a->status, 0);
    assert_int_equal(a->len, 0);
    if (!strstr(a->error, text))
        fail_msg("\"%s\" is not in \"%s\"", text, a->error);
    assert_null(strstr(a->error, "secret"));
}

/* ---- */

static bool request_has(const struct peer_conn *c, const char *text)
{
    return strstr(c->request, text);
}

static void play_ok(struct peer_conn *c)
{
    while (peer_read_head(c)) {
        PEER_CHECK(request_has(c, "GET /path?secret=1 HTTP/1.1\r\n"));
        PEER_CHECK(request_has(c, "\r\nUser-Agent: tidemill\r\n"));
        PEER_CHECK(request_has(c, "\r\nX-One: 1\r\n") && request_has(c, "\r\nX-Two: 2\r\n"));
        peer_puts(c, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 4\r\n\r\ntrue");
    }
}

static void test_get(void **state)
{
    static const char *const headers[] = {"X-One: 1", "X-Two: 2", NULL};
    const struct answer *a =
        get_one(*state, peer_start(play_ok, NULL, NULL), (struct tm_http_request){.headers = headers});
    assert_int_equal(a->status, 200);
    assert_string_equal(a->body, "true");
    assert_string_equal(a->content_type, "application/json");
    assert_string_equal(a->retry_after, "");
    assert_in_range(a->elapsed_us, 1, 5000000);
}

static void play_429(struct peer_conn *c)
{
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 429 Too Many Requests\r\nretry-AFTER:  17 \r\nContent-Length: 4\r\n\r\nslow");
    peer_drain(c);
}

static void test_retry_after(void **state)
{
    const struct answer *a = get_one(*state, peer_start(play_429, NULL, NULL), (struct tm_http_request){0});
    assert_int_equal(a->status, 429);
    assert_string_equal(a->retry_after, "17");
    assert_string_equal(a->body, "slow");
    assert_string_equal(a->content_type, "");
}

static void play_post(struct peer_conn *c)
{
    char body[5];
    PEER_CHECK(peer_read_head(c) && request_has(c, "POST /path") && request_has(c, "Content-Length: 5\r\n"));
    PEER_CHECK(peer_read(c, body, 5) && !memcmp(body, "a\0b\r\n", 5));
    peer_puts(c, "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n");
    peer_drain(c);
}

static void test_post(void **state)
{
    struct tm_http_request request = {.method = "POST", .body = "a\0b\r\n", .body_len = 5};
    const struct answer *a = get_one(*state, peer_start(play_post, NULL, NULL), request);
    assert_int_equal(a->status, 201);
}

static void play_head(struct peer_conn *c)
{
    PEER_CHECK(peer_read_head(c) && request_has(c, "HEAD /path"));
    peer_puts(c, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
    peer_drain(c);
}

static void test_head(void **state)
{
    const struct answer *a =
        get_one(*state, peer_start(play_head, NULL, NULL), (struct tm_http_request){.method = "HEAD"});
    assert_int_equal(a->status, 200);
    assert_int_equal(a->len, 0);
}

static void play_redirect(struct peer_conn *c)
{
    PEER_CHECK(c->number == 0);
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 302 Found\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n");
    PEER_CHECK(!peer_read_head(c)); /* it is not followed */
}

static void test_redirect(void **state)
{
    const struct answer *a = get_one(*state, peer_start(play_redirect, NULL, NULL), (struct tm_http_request){0});
    assert_int_equal(a->status, 302);
}

static void play_stall(struct peer_conn *c)
{
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf");
    peer_hold(c);
}

static void test_timeout(void **state)
{
    struct tm_http_request request = {.timeout_us = 300000};
    const struct answer *a = get_one(*state, peer_start(play_stall, NULL, NULL), request);
    expect_error(a, "/path: no complete answer within 300 ms");
    assert_in_range(a->elapsed_us, 290000, 2000000);
}

static void play_thousand(struct peer_conn *c)
{
    char body[1000];
    memset(body, 'b', sizeof body);
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n");
    peer_write(c, body, sizeof body);
    peer_puts(c, "\r\n0\r\n\r\n");
    peer_drain(c);
}

static void test_body_at_the_limit(void **state)
{
    struct tm_http_request request = {.response_bytes_max = 1000};
    const struct answer *a = get_one(*state, peer_start(play_thousand, NULL, NULL), request);
    assert_int_equal(a->status, 200);
    assert_int_equal(a->len, 1000);
}

static void test_body_over_the_limit(void **state)
{
    struct tm_http_request request = {.response_bytes_max = 999};
    const struct answer *a = get_one(*state, peer_start(play_thousand, NULL, NULL), request);
    expect_error(a, "the body exceeds 999 bytes");
}

static void play_cut_off(struct peer_conn *c)
{
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf");
}

static void test_cut_off(void **state)
{
    const struct answer *a = get_one(*state, peer_start(play_cut_off, NULL, NULL), (struct tm_http_request){0});
    expect_error(a, "GET http://127.0.0.1:");
}

static void play_garbage(struct peer_conn *c)
{
    peer_read_head(c);
    peer_puts(c, "220 mail.example ESMTP\r\n");
}

static void test_garbage(void **state)
{
    const struct answer *a = get_one(*state, peer_start(play_garbage, NULL, NULL), (struct tm_http_request){0});
    expect_error(a, "HTTP/0.9");
}

static void test_refused(void **state)
{
    struct test *t = *state;
    int port, fd = listen_on_loopback(&port);
    close(fd);
    get(t, 0, port, "/x", (struct tm_http_request){0});
    assert_int_equal(t->done, 0);
    wait_done(t, 1);
    expect_error(&t->answers[0], "Connection refused");
}

/* ---- retry: a kept connection that dies under the second request ---- */

static void play_dies(struct peer_conn *c)
{
    peer_read_head(c);
    peer_puts(c, c->number ? "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfresh"
                           : "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept");
    if (c->number)
        peer_drain(c);
    else
        peer_read_head(c); /* the second request gets no answer */
}

static void test_retry_on_dead_connection(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_dies, NULL, NULL);
    get(t, 0, p->port, "/", (struct tm_http_request){0});
    wait_done(t, 1);
    get(t, 1, p->port, "/", (struct tm_http_request){0});
    wait_done(t, 2);
    assert_string_equal(t->answers[0].body, "kept");
    assert_int_equal(t->answers[1].status, 200);
    assert_string_equal(t->answers[1].body, "fresh");
    assert_int_equal(p->accepted, 2);
    tm_http_destroy(t->http);
    t->http = NULL;
    peer_stop(p);
}

static void play_resets_second(struct peer_conn *c)
{
    struct linger linger = {1, 0};
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nkept");
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n");
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

/* What is not idempotent is never sent twice. */
static void test_no_retry_of_post(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_resets_second, NULL, NULL);
    get(t, 0, p->port, "/", (struct tm_http_request){0});
    wait_done(t, 1);
    get(t, 1, p->port, "/", (struct tm_http_request){.method = "POST", .body = "x", .body_len = 1});
    wait_done(t, 2);
    assert_int_equal(t->answers[1].status, 0);
    assert_int_equal(p->accepted, 1);
    peer_stop(p);
}

/* And nothing is retried for ever. */
static void test_retry_only_once(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_resets_second, NULL, NULL);
    get(t, 0, p->port, "/", (struct tm_http_request){0});
    wait_done(t, 1);
    get(t, 1, p->port, "/", (struct tm_http_request){0});
    wait_done(t, 2);
    assert_int_equal(t->answers[1].status, 200); /* the fresh connection answers its first request */
    assert_int_equal(p->accepted, 2);
    tm_http_destroy(t->http);
    t->http = NULL;
    peer_stop(p);
}

static void play_never_answers(struct peer_conn *c)
{
    peer_read_head(c);
}

static void test_no_retry_on_fresh_connection(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_never_answers, NULL, NULL);
    get(t, 0, p->port, "/", (struct tm_http_request){0});
    wait_done(t, 1);
    expect_error(&t->answers[0], "Empty reply");
    assert_int_equal(p->accepted, 1);
    peer_stop(p);
}

/* ---- bounds ---- */

static _Atomic int at_once, most_at_once;

static void play_counted(struct peer_conn *c)
{
    while (peer_read_head(c)) {
        int now = atomic_fetch_add(&at_once, 1) + 1, most = atomic_load(&most_at_once);
        while (now > most && !atomic_compare_exchange_weak(&most_at_once, &most, now))
            ;
        usleep(20000);
        atomic_fetch_sub(&at_once, 1);
        peer_puts(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    }
}

static void test_parallel_and_queue(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_counted, NULL, NULL);
    struct tm_error err;
    char url[100];
    for (int i = 0; i < 20; i++)
        get(t, i, p->port, "/", (struct tm_http_request){0});
    snprintf(url, sizeof url, "http://127.0.0.1:%d/", p->port);
    struct tm_http_request request = {.method = "GET", .url = url};
    assert_int_equal(tm_http_send(t->http, &request, on_done, &t->answers[20], &err), TM_EFULL);
    wait_done(t, 20);
    for (int i = 0; i < 20; i++)
        assert_int_equal(t->answers[i].status, 200);
    assert_int_equal(most_at_once, 4);
    assert_in_range(p->accepted, 1, 4); /* connections are kept */
    tm_http_destroy(t->http);
    t->http = NULL;
    peer_stop(p);
}

static void test_stopped(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_stall, NULL, NULL);
    for (int i = 0; i < 8; i++)
        get(t, i, p->port, "/", (struct tm_http_request){0});
    run_until(t->loop, never, NULL, 50);
    tm_http_destroy(t->http);
    t->http = NULL;
    assert_int_equal(t->done, 8);
    for (int i = 0; i < 8; i++) {
        assert_int_equal(t->answers[i].calls, 1);
        expect_error(&t->answers[i], "stopped");
    }
    peer_stop(p);
}

static void test_bad_requests(void **state)
{
    struct test *t = *state;
    struct tm_error err;
    static const char *const split[] = {"X: a\r\nY: b", NULL}, *const bare[] = {"X", NULL};
    const struct tm_http_request bad[] = {
        {.method = "GET", .url = "ftp://127.0.0.1/"},
        {.method = "GET", .url = "http://example.com/"},
        {.method = "GET", .url = "http://user@127.0.0.1/"},
        {.method = "get", .url = "http://127.0.0.1/"},
        {.method = "GET /x", .url = "http://127.0.0.1/"},
        {.method = "", .url = "http://127.0.0.1/"},
        {.method = "GET", .url = "http://127.0.0.1/", .headers = split},
        {.method = "GET", .url = "http://127.0.0.1/", .headers = bare},
        {.method = "GET", .url = "http://127.0.0.1/a b"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (tm_http_send(t->http, &bad[i], on_done, &t->answers[0], &err) != TM_EINVAL)
            fail_msg("request %zu was accepted", i);
    assert_int_equal(t->done, 0);
}

/* The caller may keep the body by swapping an empty buffer in. */
static void take_body(void *arg, struct tm_http_response *r)
{
    struct test *t = arg;
    struct tm_buf empty = t->taken;
    t->taken = *r->body;
    *r->body = empty;
    t->done++;
}

static void test_take_body(void **state)
{
    struct test *t = *state;
    struct peer *p = peer_start(play_429, NULL, NULL);
    struct tm_error err;
    char url[100];
    snprintf(url, sizeof url, "http://localhost:%d/", p->port);
    struct tm_http_request request = {.method = "GET", .url = url};
    assert_int_equal(tm_http_send(t->http, &request, take_body, t, &err), TM_OK);
    wait_done(t, 1);
    assert_int_equal(t->taken.len, 4);
    assert_memory_equal(t->taken.data, "slow", 4);
    peer_stop(p);
}

static void play_signed(struct peer_conn *c)
{
    char stamp[64];
    PEER_CHECK(peer_read_head(c));
    long long ms = atoll(peer_header(c, "X-Time", stamp, sizeof stamp));
    PEER_CHECK(llabs(ms - tm_clock_wall_us() / TM_US_PER_MS) < 5000);
    PEER_CHECK(request_has(c, "\r\nX-What: GET/path\r\n")); /* without the query */
    peer_puts(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    peer_drain(c);
}

static void test_auth(void **state)
{
    static const struct tm_auth_header_def headers[] = {{"X-Time", "{timestamp_ms}"}, {"X-What", "{method}{path}"}};
    const struct tm_auth_def def = {.headers = headers, .header_count = 2};
    struct tm_auth *auth;
    struct tm_error err;
    assert_int_equal(tm_auth_create(&def, &auth, &err), TM_OK);
    const struct answer *a =
        get_one(*state, peer_start(play_signed, NULL, NULL), (struct tm_http_request){.auth = auth});
    assert_int_equal(a->status, 200);
    tm_auth_put(auth);
}

static void test_self_signed_is_refused(void **state)
{
    struct test *t = *state;
    char file[] = "/tmp/tm_test_http_XXXXXX", url[100];
    close(mkstemp(file));
    SSL_CTX *tls = make_tls_server("DNS:localhost", -60, 3600, file);
    struct peer *p = peer_start(play_never_answers, NULL, tls);
    snprintf(url, sizeof url, "https://localhost:%d/", p->port);
    send_request(t, 0, (struct tm_http_request){.method = "GET", .url = url});
    wait_done(t, 1);
    expect_error(&t->answers[0], "self-signed certificate");
    peer_stop(p);
    SSL_CTX_free(tls);
    unlink(file);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_get),
        T(test_retry_after),
        T(test_post),
        T(test_head),
        T(test_redirect),
        T(test_timeout),
        T(test_body_at_the_limit),
        T(test_body_over_the_limit),
        T(test_cut_off),
        T(test_garbage),
        T(test_refused),
        T(test_retry_on_dead_connection),
        T(test_no_retry_of_post),
        T(test_retry_only_once),
        T(test_no_retry_on_fresh_connection),
        T(test_parallel_and_queue),
        T(test_stopped),
        T(test_bad_requests),
        T(test_take_body),
        T(test_auth),
        T(test_self_signed_is_refused),
    };
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, NULL);
    return cmocka_run_group_tests_name("net/http", tests, NULL, NULL);
}
