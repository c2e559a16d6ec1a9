/* Pages and WebSockets for browsers: who may have them, what they get, and that nobody who does not read holds up others. */
#include "net/httpd.h"
#include "net/wsd.h"
#include "peer.h"

#include <fcntl.h>

#define AT "127.0.0.1:0"
#define KEY "dGhlIHNhbXBsZSBub25jZQ==" /* RFC 6455 1.3, as is its answer */
#define ACCEPT "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
#define UPGRADE                                                                                                        \
    "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY
#define STUCK_US 300000

struct test {
    struct tm_loop *loop;
    struct tm_httpd *httpd;
    struct tm_wsd *wsd;
    int port;
    size_t greeting; /* bytes of the first message */
};

struct client {
    struct test *t;
    int fd;
    uint8_t *in;
    size_t len, wanted;
    bool ended;
};

static void page(void *arg, const char *path, const char *query, struct tm_httpd_answer *answer)
{
    (void)arg;
    (void)path;
    (void)query;
    answer->headers = "X-Test: yes\r\n";
    assert_int_equal(tm_buf_printf(answer->body, "page"), 0);
}

static void greet(void *arg, struct tm_buf *out)
{
    struct test *t = arg;
    assert_int_equal(tm_buf_reserve(out, t->greeting + 1), 0);
    memset(out->data, 'g', t->greeting);
    out->len = t->greeting;
}

static int set_up(void **state)
{
    struct test *t = calloc(1, sizeof *t);
    struct tm_error err;
    t->loop = tm_loop_create();
    t->greeting = 5;
    struct tm_wsd_options options = {.loop = t->loop, .peers_max = 3, .stuck_us = STUCK_US, .on_open = greet, .arg = t};
    if (tm_wsd_create(&options, &t->wsd, &err) || tm_httpd_create(t->loop, &t->httpd, &err) ||
        tm_httpd_listen(t->httpd, AT, &err) || tm_httpd_page(t->httpd, AT, "/", page, t, &err) ||
        tm_httpd_socket(t->httpd, AT, "/live", tm_wsd_take, t->wsd, &err))
        fail_msg("%s", err.message);
    tm_httpd_allow_names(t->httpd, "one.example two.example");
    t->port = tm_httpd_port(t->httpd, AT);
    *state = t;
    return 0;
}

static int tear_down(void **state)
{
    struct test *t = *state;
    tm_httpd_destroy(t->httpd);
    tm_wsd_destroy(t->wsd);
    tm_loop_destroy(t->loop);
    free(t);
    return 0;
}

static struct client *open_client(struct test *t, const char *request)
{
    struct client *c = calloc(1, sizeof *c);
    struct sockaddr_in a = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)t->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    c->t = t;
    c->in = calloc(1, 4 << 20);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    assert_return_code(connect(c->fd, (struct sockaddr *)&a, sizeof a), errno);
    assert_return_code(fcntl(c->fd, F_SETFL, O_NONBLOCK), errno);
    assert_int_equal(send(c->fd, request, strlen(request), MSG_NOSIGNAL), strlen(request));
    return c;
}

static void close_client(struct client *c)
{
    close(c->fd);
    free(c->in);
    free(c);
}

static bool has_read(void *arg)
{
    struct client *c = arg;
    for (ssize_t n; (n = recv(c->fd, c->in + c->len, (4 << 20) - 1 - c->len, 0)) != 0;) {
        if (n < 0 && errno != EAGAIN)
            c->ended = true;
        if (n < 0)
            return c->len >= c->wanted || c->ended;
        c->len += (size_t)n;
    }
    c->ended = true;
    return true;
}

static void read_bytes(struct client *c, size_t wanted)
{
    c->wanted = wanted;
    assert_true(run_until(c->t->loop, has_read, c, 10000));
}

static bool head_is_there(void *arg)
{
    struct client *c = arg;
    (void)has_read(c);
    return c->ended || strstr((char *)c->in, "\r\n\r\n");
}

static int status_of(struct test *t, const char *request)
{
    struct client *c = open_client(t, request);
    int status = 0;
    assert_true(run_until(t->loop, head_is_there, c, 10000));
    assert_int_equal(sscanf((char *)c->in, "HTTP/1.1 %d", &status), 1);
    close_client(c);
    return status;
}

/* Opened, with its greeting read; what is in `in` then are frames. */
static struct client *open_socket(struct test *t)
{
    struct client *c = open_client(t, "GET /live HTTP/1.1\r\nHost: localhost\r\nOrigin: http://localhost\r\n" UPGRADE
                                      "\r\nSec-WebSocket-Extensions: permessage-deflate\r\nCookie: x=1\r\n\r\n");
    assert_true(run_until(t->loop, head_is_there, c, 10000));
    char *end = strstr((char *)c->in, "\r\n\r\n");
    assert_memory_equal(c->in, "HTTP/1.1 101 ", 13);
    assert_non_null(strcasestr((char *)c->in, "Sec-WebSocket-Accept: " ACCEPT "\r\n"));
    assert_null(strcasestr((char *)c->in, "deflate"));
    size_t head = (size_t)(end + 4 - (char *)c->in);
    memmove(c->in, c->in + head, c->len - head);
    c->len -= head;
    return c;
}

/* A whole text frame of the server at the start of what was read; taken off. */
static void expect_text(struct client *c, char byte, size_t len)
{
    size_t head = len < 126 ? 2 : len < 65536 ? 4 : 10;
    read_bytes(c, head + len);
    assert_true(c->len >= head + len);
    assert_int_equal(c->in[0], 0x81);
    size_t said = c->in[1];
    if (head == 4)
        said = (size_t)c->in[2] << 8 | c->in[3];
    for (size_t i = 2; head == 10 && i < 10; i++)
        said = (i == 2 ? 0 : said << 8) | c->in[i];
    assert_int_equal(said, len);
    for (size_t i = 0; i < len; i++)
        assert_int_equal(c->in[head + i], byte);
    memmove(c->in, c->in + head + len, c->len - head - len);
    c->len -= head + len;
}

static void tell(struct test *t, char byte, size_t len)
{
    char *text = malloc(len);
    memset(text, byte, len);
    assert_int_equal(tm_wsd_tell(t->wsd, text, len), TM_OK);
    free(text);
}

static void turn(struct test *t, int ms)
{
    (void)run_until(t->loop, never, t, ms);
}

static void test_who_may_ask(void **state)
{
    struct test *t = *state;
    char own[256] = "", request[512];
    assert_int_equal(status_of(t, "GET / HTTP/1.1\r\nHost: 10.1.2.3:80\r\n\r\n"), 200);
    assert_int_equal(status_of(t, "GET / HTTP/1.1\r\nHost: [fe80::1]\r\n\r\n"), 200);
    assert_int_equal(status_of(t, "GET / HTTP/1.1\r\nHost: LocalHost:9\r\n\r\n"), 200);
    assert_int_equal(status_of(t, "GET / HTTP/1.1\r\nHost: Two.example\r\n\r\n"), 200);
    assert_return_code(gethostname(own, sizeof own - 1), errno);
    snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s:1\r\n\r\n", own);
    assert_int_equal(status_of(t, request), 200);
    static const char *const strangers[] = {
        "evil.example", "one.example.evil.example", "one.example two.example", "example", "",
        ":80",          "localhost.evil.example",   "1.2.3.4.evil.example",    "[::1"};
    for (size_t i = 0; i < sizeof strangers / sizeof *strangers; i++) {
        snprintf(request, sizeof request, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", strangers[i]);
        if (status_of(t, request) != 421)
            fail_msg("Host \"%s\" was let in", strangers[i]);
        snprintf(request, sizeof request, "GET /live HTTP/1.1\r\nHost: %s\r\n" UPGRADE "\r\n\r\n", strangers[i]);
        assert_int_equal(status_of(t, request), 421);
    }
}

static void test_what_is_no_handshake(void **state)
{
    struct test *t = *state;
    static const struct {
        int status;
        const char *lines;
    } wrong[] = {
        {426, "Host: localhost"},
        {426,
         "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: h2c\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY},
        {426, "Host: localhost\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: " KEY},
        {426,
         "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 8\r\nSec-WebSocket-Key: " KEY},
        {426,
         "Host: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: x"},
        {403, "Host: localhost\r\nOrigin: http://evil.example\r\n" UPGRADE},
        {403, "Host: localhost\r\nOrigin: null\r\n" UPGRADE},
        {403, "Host: localhost:1\r\nOrigin: http://localhost:2\r\n" UPGRADE},
    };
    char request[512];
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        snprintf(request, sizeof request, "GET /live HTTP/1.1\r\n%s\r\n\r\n", wrong[i].lines);
        assert_int_equal(status_of(t, request), wrong[i].status);
    }
    assert_int_equal(status_of(t, "GET /live HTTP/1.1\r\nHost: localhost\r\n" UPGRADE "\r\n\r\n\x81\x80"), 400);
    assert_int_equal(tm_wsd_count(t->wsd), 0);
}

static void test_all_are_told(void **state)
{
    struct test *t = *state;
    struct client *a = open_socket(t), *b = open_socket(t);
    expect_text(a, 'g', 5);
    expect_text(b, 'g', 5);
    tell(t, 'x', 100);
    expect_text(a, 'x', 100);
    expect_text(b, 'x', 100);
    tell(t, 'y', 700000); /* more than the kernel takes at once */
    expect_text(a, 'y', 700000);
    expect_text(b, 'y', 700000);
    tell(t, 'z', 200);
    expect_text(b, 'z', 200);
    expect_text(a, 'z', 200);
    struct client *c = open_socket(t);
    expect_text(c, 'g', 5);
    assert_int_equal(tm_wsd_count(t->wsd), 3);
    assert_int_equal(status_of(t, "GET /live HTTP/1.1\r\nHost: localhost\r\n" UPGRADE "\r\n\r\n"), 503);
    close_client(a);
    turn(t, 50);
    tell(t, 'w', 10);
    assert_int_equal(tm_wsd_count(t->wsd), 2);
    struct client *d = open_socket(t);
    expect_text(d, 'g', 5);
    close_client(b);
    close_client(c);
    close_client(d);
}

static void test_who_does_not_read_is_dropped_and_others_are_served(void **state)
{
    struct test *t = *state;
    struct client *slow = open_socket(t), *good = open_socket(t);
    expect_text(slow, 'g', 5);
    expect_text(good, 'g', 5);
    int64_t begun_us = tm_clock_mono_us();
    size_t told = 0;
    while (tm_wsd_count(t->wsd) == 2 &&
           tm_clock_mono_us() - begun_us < 30 * STUCK_US) { /* the kernel's part is bounded */
        tell(t, 'm', 100000);
        expect_text(good, 'm', 100000);
        told++;
    }
    assert_int_equal(tm_wsd_count(t->wsd), 1);
    assert_true(tm_clock_mono_us() - begun_us >= STUCK_US);
    tell(t, 'n', 10);
    expect_text(good, 'n', 10);
    slow->wanted = SIZE_MAX;
    assert_true(run_until(t->loop, has_read, slow, 10000));
    assert_true(slow->ended && slow->len < (3 << 20) && told > 2);
    close_client(slow);
    close_client(good);
}

static void test_who_speaks_is_refused(void **state)
{
    struct test *t = *state;
    struct client *c = open_socket(t);
    expect_text(c, 'g', 5);
    static const uint8_t ping[] = {0x89, 0x82, 1, 2, 3, 4, 'h' ^ 1, 'i' ^ 2};
    assert_int_equal(send(c->fd, ping, sizeof ping, MSG_NOSIGNAL), sizeof ping);
    read_bytes(c, 4);
    assert_memory_equal(c->in, "\x8a\x02hi", 4);
    c->len = 0;
    static const uint8_t hello[] = {0x81, 0x82, 1, 2, 3, 4, 'h' ^ 1, 'i' ^ 2};
    assert_int_equal(send(c->fd, hello, sizeof hello, MSG_NOSIGNAL), sizeof hello);
    read_bytes(c, 4);
    assert_memory_equal(c->in, "\x88\x02\x03\xf0", 4); /* 1008 */
    close_client(c);
    turn(t, 50);
    assert_int_equal(tm_wsd_count(t->wsd), 0);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_who_may_ask, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_no_handshake, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_all_are_told, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_does_not_read_is_dropped_and_others_are_served, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_who_speaks_is_refused, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
