#include "base/log.h"
#include "net/httpd.h"
#include "net/httpd_request.h"
#include "peer.h"

#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>

#define AT "127.0.0.1:0"

/* The server's loop runs in the test's thread; clients are sockets of the same thread, read without blocking.
 */
struct test {
    struct tm_loop *loop;
    struct tm_httpd *httpd;
    int port, calls;
    char query[100];
    size_t large;
};

struct client {
    struct test *t;
    int fd;
    char in[65536];
    size_t len, total;
    bool ended;
    const char *until; /* wait for this text, or for the end if NULL */
};

static void health(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer)
{
    struct test *t = arg;
    t->calls++;
    assert_string_equal(path, "/health");
    snprintf(t->query, sizeof t->query, "%s", query);
    answer->content_type = "application/json";
    answer->status = strstr(query, "ill") ? 503 : 200;
    assert_int_equal(tm_buf_printf(answer->body, "{\"ok\":true}"), 0);
}

static void large(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer)
{
    struct test *t = arg;
    (void)path;
    (void)query;
    assert_int_equal(tm_buf_reserve(answer->body, t->large), 0);
    memset(answer->body->data, 'L', t->large);
    answer->body->len = t->large;
}

static int set_up(void **state)
{
    struct test *t = calloc(1, sizeof *t);
    struct tm_error err;
    t->loop = tm_loop_create();
    if (tm_httpd_create(t->loop, &t->httpd, &err) || tm_httpd_listen(t->httpd, AT, &err) ||
        tm_httpd_route(t->httpd, AT, "/health", health, t, &err) ||
        tm_httpd_route(t->httpd, AT, "/large", large, t, &err))
        fail_msg("%s", err.message);
    t->port = tm_httpd_port(t->httpd, AT);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct test *t = *state;
    tm_httpd_destroy(t->httpd);
    tm_loop_destroy(t->loop);
    free(t);
    return 0;
}

/* `small`: with segments and a buffer so small that the server's buffer stays small, too. */
static struct client *open_client_with(struct test *t, bool small)
{
    struct client *c = calloc(1, sizeof *c);
    int bytes = 4096, segment = 536;
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)t->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->t = t;
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (small) {
        assert_return_code(setsockopt(c->fd, SOL_SOCKET, SO_RCVBUF, &bytes, sizeof bytes), errno);
        assert_return_code(setsockopt(c->fd, IPPROTO_TCP, TCP_MAXSEG, &segment, sizeof segment), errno);
    }
    assert_return_code(connect(c->fd, (struct sockaddr *)&a, sizeof a), errno);
    assert_return_code(fcntl(c->fd, F_SETFL, O_NONBLOCK), errno);
    return c;
}

static struct client *open_client(struct test *t)
{
    return open_client_with(t, false);
}

static void close_client(struct client *c)
{
    close(c->fd);
    free(c);
}

static bool has_read(void *arg)
{
    struct client *c = arg;
    for (;;) {
        char sink[65536];
        ssize_t n = recv(c->fd, sink, sizeof sink, 0);
        if (n == 0 || (n < 0 && errno != EAGAIN))
            c->ended = true;
        if (n <= 0)
            break;
        c->total += (size_t)n;
        size_t room = sizeof c->in - 1 - c->len, keep = (size_t)n < room ? (size_t)n : room;
        memcpy(c->in + c->len, sink, keep);
        c->len += keep;
    }
    return c->ended || (c->until && strstr(c->in, c->until));
}

static void send_text(struct client *c, const char *text)
{
    assert_int_equal(send(c->fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

static const char *wait_for(struct client *c, const char *text)
{
    c->until = text;
    assert_true(run_until(c->t->loop, has_read, c, PATIENCE_MS));
    return c->in;
}

/* Send, wait for the end, expect the status line. */
static void expect_status(struct test *t, const char *request, const char *status)
{
    struct client *c = open_client(t);
    char line[100];
    send_text(c, request);
    wait_for(c, NULL);
    snprintf(line, sizeof line, "HTTP/1.1 %s\r\n", status);
    if (strncmp(c->in, line, strlen(line)))
        fail_msg("\"%.60s\" was answered with \"%.200s\"", request, c->in);
    assert_non_null(strstr(c->in, "\r\nConnection: close\r\n"));
    close_client(c);
}

static void test_get(void **state)
{
    struct test *t = *state;
    struct client *c = open_client(t);
    send_text(c, "GET /health?a=b&c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    const char *in = wait_for(c, NULL);
    assert_memory_equal(in, "HTTP/1.1 200 OK\r\n", 17);
    assert_non_null(strstr(in, "\r\nContent-Type: application/json\r\n"));
    assert_non_null(strstr(in, "\r\nContent-Length: 11\r\n"));
    assert_non_null(strstr(in, "\r\nX-Content-Type-Options: nosniff\r\n"));
    assert_null(strstr(in, "Server:"));
    assert_string_equal(strstr(in, "\r\n\r\n") + 4, "{\"ok\":true}");
    assert_string_equal(t->query, "a=b&c");
    close_client(c);
}

static void test_head(void **state)
{
    struct test *t = *state;
    struct client *c = open_client(t);
    send_text(c, "HEAD /health HTTP/1.0\r\n\r\n");
    const char *in = wait_for(c, NULL);
    assert_memory_equal(in, "HTTP/1.1 200 OK\r\n", 17);
    assert_non_null(strstr(in, "\r\nContent-Length: 11\r\n"));
    assert_string_equal(strstr(in, "\r\n\r\n") + 4, "");
    assert_string_equal(t->query, "");
    close_client(c);
}

static void test_statuses(void **state)
{
    struct test *t = *state;
    static const struct {
        const char *request, *status;
    } rows[] = {
        {"GET /health?ill HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "503 Service Unavailable"},
        {"GET /nothing HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "404 Not Found"},
        {"GET /health/ HTTP/1.1\r\nHost: x\r\nConnection: Close\r\n\r\n", "404 Not Found"},
        {"GET /health HTTP/1.0\r\n\r\n", "200 OK"},
        {"\r\nGET /health HTTP/1.0\r\n\r\n", "200 OK"},
        {"GET /health HTTP/1.0\r\nContent-Length: 0\r\n\r\n", "200 OK"},
        {"POST /health HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "405 Method Not Allowed"},
        {"DELETE /health HTTP/1.1\r\nHost: x\r\n\r\n", "405 Method Not Allowed"},
        {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", "405 Method Not Allowed"},
        {"PROPFIND /health HTTP/1.1\r\nHost: x\r\n\r\n", "405 Method Not Allowed"},
        {"get /health HTTP/1.1\r\nHost: x\r\n\r\n", "405 Method Not Allowed"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc", "413 Content Too Large"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "413 Content Too Large"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
         "400 Bad Request"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nContent-Length: 0\r\n\r\n", "400 Bad Request"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n", "400 Bad Request"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nContent-Length: \r\n\r\n", "400 Bad Request"},
        {"GET /health HTTP/1.1\r\n\r\n", "400 Bad Request"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", "400 Bad Request"},
        {"GET /health HTTP/1.1\r\nHost : x\r\n\r\n", "400 Bad Request"},
        {"GET /health HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", "400 Bad Request"},
        {"GET /health HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "400 Bad Request"},
        {"GET /health HTTP/1.1\r\nHost: x\r\nnonsense\r\n\r\n", "400 Bad Request"},
        {"GET /health\r\n\r\n", "400 Bad Request"},
        {"GET  /health HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
        {"GET health HTTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
        {"GET /health FTP/1.1\r\nHost: x\r\n\r\n", "400 Bad Request"},
        {"\x16\x03\x01\x02\r\n\r\n", "400 Bad Request"},
        {"GET /health HTTP/2.0\r\nHost: x\r\n\r\n", "505 HTTP Version Not Supported"},
        {"GET /health HTTP/1.10\r\nHost: x\r\n\r\n", "505 HTTP Version Not Supported"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
        expect_status(t, rows[i].request, rows[i].status);
    assert_int_equal(t->calls, 4);
}

static void test_405_names_the_methods(void **state)
{
    struct test *t = *state;
    struct client *c = open_client(t);
    send_text(c, "PUT /health HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(wait_for(c, NULL), "\r\nAllow: GET, HEAD\r\n"));
    close_client(c);
}

/* `fill` bytes in the target or in one header. */
static char *padded(const char *before, size_t fill, const char *after)
{
    char *text = calloc(1, strlen(before) + fill + strlen(after) + 1);
    strcpy(text, before);
    memset(text + strlen(before), 'a', fill);
    strcat(text, after);
    return text;
}

static void expect_padded(struct test *t, const char *before, size_t fill, const char *after, const char *status)
{
    char *text = padded(before, fill, after);
    expect_status(t, text, status);
    free(text);
}

static void test_sizes(void **state)
{
    struct test *t = *state;
    const char *end = " HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    expect_padded(t, "GET /health?", 2048 - 8, end, "200 OK");
    expect_padded(t, "GET /health?", 2048 - 7, end, "414 URI Too Long");
    expect_padded(t, "GET /", 6000, end, "414 URI Too Long");
    expect_padded(t, "GET /", 60000, end, "414 URI Too Long"); /* more than is read before the answer */
    const char *head = "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\nA: ";
    size_t rest = strlen(head) + 4;
    expect_padded(t, head, 8192 - rest, "\r\n\r\n", "200 OK");
    expect_padded(t, head, 8192 - rest + 1, "\r\n\r\n", "431 Request Header Fields Too Large");
    expect_padded(t, head, 100000, "\r\n\r\n", "431 Request Header Fields Too Large");
}

/* Every way to cut a request in two gives the same answer. */
static void test_split_anywhere(void **state)
{
    (void)state;
    static const char text[] = "GET /health?q HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n";
    for (size_t cut = 0; cut <= sizeof text - 1; cut++) {
        char bytes[sizeof text];
        struct tm_httpd_request r;
        memcpy(bytes, text, sizeof text);
        int status = tm_httpd_request_parse(bytes, cut, &r);
        assert_int_equal(status, cut == sizeof text - 1 ? 200 : 0);
        if (!status)
            assert_memory_equal(bytes, text, sizeof text); /* untouched until it is whole */
    }
}

static void test_keep_alive_and_pipelining(void **state)
{
    struct test *t = *state;
    struct client *c = open_client(t);
    send_text(c, "GET /health?1 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_non_null(strstr(wait_for(c, "true}"), "\r\nConnection: keep-alive\r\n"));
    assert_false(c->ended);
    memset(c->in, 0, sizeof c->in);
    c->len = 0;
    send_text(c, "GET /health?2 HTTP/1.1\r\nHost: x\r\n\r\nHEAD /health?3 HTTP/1.1\r\nHost: x\r\n\r\n"
                 "GET /health?4 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /health?5 "
                 "HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for(c, NULL);
    assert_int_equal(t->calls, 4); /* after close nothing more is served */
    assert_string_equal(t->query, "4");
    close_client(c);
}

static void test_http10_keep_alive(void **state)
{
    struct test *t = *state;
    struct client *c = open_client(t);
    send_text(c, "GET /health HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n");
    wait_for(c, "true}");
    assert_false(c->ended);
    close_client(c);
}

/* An answer larger than any socket buffer, to a client that takes its time. */
static void test_large_answer(void **state)
{
    struct test *t = *state;
    struct client *c = open_client(t);
    t->large = 30 << 20;
    send_text(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\nGET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    run_until(t->loop, never, NULL, 50);
    wait_for(c, NULL);
    assert_true(c->total > t->large && c->total < t->large + 1000);
    assert_int_equal(t->calls, 1);
    close_client(c);
}

static void test_slow_head_is_cut_off(void **state)
{
    struct test *t = *state;
    struct client *c = open_client(t);
    struct client *next = open_client(t);
    int64_t before = tm_clock_mono_us();
    send_text(c, "GET /health HT");
    send_text(next, "GET /health HTTP/1.1\r\nHost: x\r\n\r\nGET /health HT"); /* which belongs to the next request */
    wait_for(next, NULL);
    assert_in_range(tm_clock_mono_us() - before, 4900000, 7000000);
    assert_int_equal(t->calls, 1);
    wait_for(c, NULL);
    assert_in_range(tm_clock_mono_us() - before, 4900000, 7000000);
    assert_int_equal(c->len, 0);
    close_client(c);
    close_client(next);
}

/* Five hundred clients that never finish their request, and one that does. */
static void test_slow_clients_keep_nobody_out(void **state)
{
    struct test *t = *state;
    struct client *slow[500];
    for (size_t i = 0; i < 500; i++) {
        slow[i] = open_client(t);
        send_text(slow[i], "GET /health HTTP/1.1\r\nX-Slow: ");
        if (i % 50 == 49)
            wait_for(slow[i - 49], NULL); /* it gave its place to a later one: the listener's queue is short again */
    }
    struct client *c = open_client(t);
    int64_t before = tm_clock_mono_us();
    send_text(c, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n");
    wait_for(c, "true}");
    assert_in_range(tm_clock_mono_us() - before, 0, 1000000);
    int open_still = 0;
    for (size_t i = 0; i < 500; i++) {
        open_still += !has_read(slow[i]);
        close_client(slow[i]);
    }
    assert_in_range(open_still, 1, 32);
    close_client(c);
}

static bool is_answered(void *arg)
{
    struct client *c = arg;
    char first;
    return recv(c->fd, &first, 1, MSG_PEEK) == 1;
}

#define PLACES 32
#define PIPELINED 180 /* they fit into what the server reads at once */

static void send_requests(struct client *c, int count)
{
    static const char request[] = "GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    char text[PIPELINED * sizeof request] = "";
    for (int i = 0; i < count; i++)
        strcat(text, request);
    send_text(c, text);
}

/* Clients that ask and do not read, in all places. The server's buffers do not hold an answer. */
static void open_slow_readers(struct test *t, struct client **slow, int requests)
{
    t->large = 1 << 20;
    for (size_t i = 0; i < PLACES; i++) {
        slow[i] = open_client_with(t, true);
        send_requests(slow[i], requests);
    }
    for (size_t i = 0; i < PLACES; i++)
        assert_true(run_until(t->loop, is_answered, slow[i], PATIENCE_MS));
}

static void close_slow_readers(struct test *t, struct client **slow)
{
    for (size_t i = 0; i < PLACES; i++)
        close_client(slow[i]);
    run_until(t->loop, never, NULL, 20);
    expect_status(t, "GET /health HTTP/1.0\r\n\r\n", "200 OK");
}

/* When all places are taken by clients that are being answered, a further one gets a short answer, but no long one. */
static void test_all_busy(void **state)
{
    struct test *t = *state;
    struct client *busy[PLACES], *idle[20];
    bool in_time = false;
    for (int i = 0; !in_time && i < 10; i++) {
        int64_t before_us = tm_clock_mono_us();
        open_slow_readers(t, busy, 1);
        struct client *c = open_client(t);
        send_text(c, "GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        wait_for(c, NULL);
        in_time = tm_clock_mono_us() - before_us < 900 * TM_US_PER_MS; /* none of them is stalled yet */
        if (in_time) {
            assert_memory_equal(c->in, "HTTP/1.1 503 ", 13);
            assert_true(c->len < 1000);
        }
        close_client(c);
        for (size_t k = 0; k < 20; k++)
            idle[k] = open_client(t);
        expect_status(t, "GET /health HTTP/1.0\r\n\r\n", "200 OK");
        for (size_t k = 0; k < 20; k++)
            close_client(idle[k]);
        close_slow_readers(t, busy);
    }
    assert_true(in_time);
}

/* Clients that have asked for a lot and take nothing of it give way to newcomers. */
static void test_slow_readers_keep_nobody_out(void **state)
{
    struct test *t = *state;
    struct client *slow[PLACES];
    open_slow_readers(t, slow, PIPELINED);
    int64_t before_us = tm_clock_mono_us();
    expect_status(t, "GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", "200 OK");
    assert_in_range(tm_clock_mono_us() - before_us, 0, TM_US_PER_S);
    run_until(t->loop, never, NULL, 1100);
    struct client *c = open_client(t);
    before_us = tm_clock_mono_us();
    send_text(c, "GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    wait_for(c, NULL);
    assert_true(c->total > t->large);
    assert_in_range(tm_clock_mono_us() - before_us, 0, 2 * TM_US_PER_S);
    close_client(c);
    close_slow_readers(t, slow);
}

/* 10 s are for all that was asked for at once, however many answers that makes. */
static void test_slow_reader_is_cut_off(void **state)
{
    struct test *t = *state;
    struct client *c = open_client(t);
    char sink[16384];
    int64_t before_us = tm_clock_mono_us();
    t->large = 6 << 20;
    send_requests(c, PIPELINED);
    while (tm_clock_mono_us() - before_us < 10500 * TM_US_PER_MS) {
        run_until(t->loop, never, NULL, 5); /* some 3 MB a second: now and then an answer is out */
        ssize_t n = recv(c->fd, sink, sizeof sink, 0);
        c->total += n > 0 ? (size_t)n : 0;
    }
    wait_for(c, NULL);
    assert_in_range(c->total, t->large * 2, PIPELINED * t->large / 2);
    assert_in_range(tm_clock_mono_us() - before_us, 0, 20 * TM_US_PER_S);
    close_client(c);
}

static void test_client_that_vanishes(void **state)
{
    struct test *t = *state;
    struct linger linger = {1, 0};
    t->large = 16 << 20;
    for (int i = 0; i < 100; i++) {
        struct client *c = open_client(t);
        send_text(c, i % 2 ? "GET /large HTTP/1.1\r\nHost: x\r\n\r\n" : "GET /hea");
        if (i % 3 == 0)
            setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
        run_until(t->loop, never, NULL, 2);
        close_client(c);
    }
    expect_status(t, "GET /health HTTP/1.0\r\n\r\n", "200 OK");
}

/* ---- listening ---- */

static void expect_listen_error(struct test *t, const char *address, const char *text)
{
    struct tm_error err;
    assert_int_not_equal(tm_httpd_listen(t->httpd, address, &err), 0);
    if (!strstr(err.message, text))
        fail_msg("\"%s\" is not in \"%s\"", text, err.message);
}

static void test_listen_errors(void **state)
{
    struct test *t = *state;
    char taken[40], text[200];
    snprintf(taken, sizeof taken, "127.0.0.1:%d", t->port);
    snprintf(text, sizeof text, "cannot listen on 127.0.0.1:%d: address in use; choose another address", t->port);
    expect_listen_error(t, taken, text);
    expect_listen_error(t, "192.0.2.1:8080", "this machine does not have that address");
    static const char *const wrong[] = {"",
                                        "8080",
                                        ":8080",
                                        "localhost:8080",
                                        "127.0.0.1",
                                        "127.0.0.1:",
                                        "127.0.0.1:http",
                                        "127.0.0.1:65536",
                                        "127.0.0.1:-1",
                                        "127.0.0.1:80 ",
                                        "::1:8080",
                                        "[::1:8080",
                                        "[]:1"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++)
        expect_listen_error(t, wrong[i], "expected ADDRESS:PORT");
}

static void test_two_listeners(void **state)
{
    struct test *t = *state;
    struct tm_error err;
    int port = t->port;
    assert_int_equal(tm_httpd_listen(t->httpd, AT, &err), 0); /* the same address is the same listener */
    assert_int_equal(tm_httpd_port(t->httpd, AT), port);
    assert_int_equal(tm_httpd_listen(t->httpd, "[::1]:0", &err), 0);
    assert_int_not_equal(tm_httpd_port(t->httpd, "[::1]:0"), 0);
    assert_int_equal(tm_httpd_listen(t->httpd, "127.0.0.2:0", &err), 0);
    assert_int_equal(tm_httpd_port(t->httpd, "127.0.0.9:0"), 0);
    assert_int_equal(tm_httpd_route(t->httpd, AT, "/health", health, t, &err), TM_ESTATE);
    assert_int_equal(tm_httpd_route(t->httpd, "127.0.0.9:0", "/", health, t, &err), TM_ENOENT);
    assert_int_equal(tm_httpd_route(t->httpd, "127.0.0.2:0", "/metrics", large, t, &err), 0);
    expect_status(t, "GET /metrics HTTP/1.0\r\n\r\n", "404 Not Found"); /* not at this address */
}

/* A server that restarts gets its port back though old connections linger. */
static void test_restart_on_same_port(void **state)
{
    struct test *t = *state;
    struct tm_error err;
    char address[40];
    expect_status(t, "GET /health HTTP/1.0\r\n\r\n", "200 OK"); /* we close first: TIME_WAIT is on our side */
    snprintf(address, sizeof address, "127.0.0.1:%d", t->port);
    tm_httpd_destroy(t->httpd);
    assert_int_equal(tm_httpd_create(t->loop, &t->httpd, &err), 0);
    if (tm_httpd_listen(t->httpd, address, &err))
        fail_msg("%s", err.message);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_get),
        T(test_head),
        T(test_statuses),
        T(test_405_names_the_methods),
        T(test_sizes),
        T(test_split_anywhere),
        T(test_keep_alive_and_pipelining),
        T(test_http10_keep_alive),
        T(test_large_answer),
        T(test_slow_head_is_cut_off),
        T(test_slow_clients_keep_nobody_out),
        T(test_all_busy),
        T(test_slow_readers_keep_nobody_out),
        T(test_slow_reader_is_cut_off),
        T(test_client_that_vanishes),
        T(test_listen_errors),
        T(test_two_listeners),
        T(test_restart_on_same_port),
    };
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, NULL);
    return cmocka_run_group_tests_name("net/httpd", tests, NULL, NULL);
}
