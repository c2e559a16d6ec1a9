#include "base/log.h"
#include "net/ws.h"
#include "peer.h"

/* What one connection of ours saw. */
struct seen {
    struct tm_loop *loop;
    struct tm_ws_context *context;
    struct tm_ws *ws;
    int opens, closes, messages;
    size_t bytes, last_len;
    char last[65536 + 64];
    enum tm_ws_why why;
    int status;
    char text[600];
    int wanted; /* messages */
    bool close_on_message;
    const char *send_on_open;
};

static void on_open(void *arg)
{
    struct seen *s = arg;
    s->opens++;
    if (s->send_on_open)
        assert_int_equal(tm_ws_send(s->ws, s->send_on_open, strlen(s->send_on_open)), TM_OK);
}

static void on_message(void *arg, const char *bytes, size_t len)
{
    struct seen *s = arg;
    volatile char sink = 0;
    for (int i = 0; i < 16; i++) /* the promise of the header; the sanitizer watches */
        sink = (char)(sink ^ bytes[len + (size_t)i]);
    s->messages++;
    s->bytes += len;
    s->last_len = len;
    memcpy(s->last, bytes, len < sizeof s->last ? len : sizeof s->last);
    if (len < sizeof s->last)
        s->last[len] = '\0';
    if (s->close_on_message)
        tm_ws_close(s->ws);
}

static void on_close(void *arg, enum tm_ws_why why, int status, const char *text)
{
    struct seen *s = arg;
    s->closes++;
    s->why = why;
    s->status = status;
    snprintf(s->text, sizeof s->text, "%s", text);
}

static const struct tm_ws_events events = {on_open, on_message, on_close};

static bool is_closed(void *arg)
{
    return ((struct seen *)arg)->closes > 0;
}

static bool is_open(void *arg)
{
    return ((struct seen *)arg)->opens > 0;
}

static bool has_wanted(void *arg)
{
    const struct seen *s = arg;
    return s->messages >= s->wanted || s->closes;
}

static int set_up(void **state)
{
    struct seen *s = calloc(1, sizeof *s);
    struct tm_error err;
    s->loop = tm_loop_create();
    if (tm_ws_context_create(s->loop, &s->context, &err))
        fail_msg("%s", err.message);
    *state = s;
    return 0;
}

static int tear_down(void **state)
{
    struct seen *s = *state;
    if (s->ws && !s->closes) { /* the test failed half-way */
        tm_ws_close(s->ws);
        run_until(s->loop, is_closed, s, 5000);
    }
    tm_ws_context_destroy(s->context);
    tm_loop_destroy(s->loop);
    free(s);
    return 0;
}

static void connect_url(struct seen *s, const char *scheme, const char *host, int port, struct tm_ws_options options)
{
    char url[200];
    struct tm_error err;
    snprintf(url, sizeof url, "%s://%s:%d/trade?x=1", scheme, host, port);
    options.url = url;
    if (tm_ws_connect(s->context, &options, &events, s, &s->ws, &err))
        fail_msg("%s", err.message);
}

static void connect_to(struct seen *s, const struct peer *p, struct tm_ws_options options)
{
    connect_url(s, "ws", "127.0.0.1", p->port, options);
}

static void close_and_wait(struct seen *s)
{
    if (!s->closes)
        tm_ws_close(s->ws);
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    assert_int_equal(s->closes, 1);
}

static void wait_message(struct seen *s, int number)
{
    s->wanted = number;
    assert_true(run_until(s->loop, has_wanted, s, PATIENCE_MS));
    assert_int_equal(s->closes, 0);
}

/* Play a conversation, expect this end. */
static void expect_end(void **state, peer_fn *play, enum tm_ws_why why, int status, struct tm_ws_options options)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play, NULL, NULL);
    connect_to(s, p, options);
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    peer_stop(p);
    if (s->why != why)
        fail_msg("ended as %s (%d, %s), not as %s", tm_ws_why_name(s->why), s->status, s->text, tm_ws_why_name(why));
    assert_int_equal(s->status, status);
    assert_int_equal(s->closes, 1);
}

/* ---- */

static bool header_is(const struct peer_conn *c, const char *name, const char *value)
{
    char got[200];
    return !strcmp(peer_header(c, name, got, sizeof got), value);
}

static void play_hello(struct peer_conn *c)
{
    char text[200], host[64];
    size_t len;
    snprintf(host, sizeof host, "127.0.0.1:%d", c->peer->port);
    PEER_CHECK(peer_upgrade(c));
    PEER_CHECK(strstr(c->request, "GET /trade?x=1 HTTP/1.1\r\n"));
    PEER_CHECK(header_is(c, "Host", host));
    PEER_CHECK(header_is(c, "User-Agent", "tidemill"));
    PEER_CHECK(header_is(c, "Upgrade", "websocket"));
    PEER_CHECK(header_is(c, "Sec-WebSocket-Version", "13"));
    PEER_CHECK(header_is(c, "Sec-WebSocket-Extensions", "")); /* permessage-deflate is never offered */
    PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x81 && !strcmp(text, "first"));
    peer_frame(c, 0x81, "hello", 5);
    PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x88); /* close, 1000 */
    PEER_CHECK(len == 2 && (unsigned char)text[0] == 1000 >> 8 && (unsigned char)text[1] == (1000 & 0xff));
    peer_frame(c, 0x88, text, len);
}

static void test_hello(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_hello, NULL, NULL);
    s->send_on_open = "first";
    s->wanted = 1;
    connect_to(s, p, (struct tm_ws_options){0});
    assert_int_equal(tm_ws_send(s->ws, "early", 5), TM_ESTATE);
    assert_true(run_until(s->loop, has_wanted, s, PATIENCE_MS));
    assert_string_equal(s->last, "hello");
    assert_true(tm_clock_mono_us() - tm_ws_last_byte_us(s->ws) < TM_US_PER_S);
    close_and_wait(s);
    peer_stop(p);
    assert_int_equal(s->why, TM_WS_LOCAL);
}

/* ---- ways not to come up ---- */

static void test_refused(void **state)
{
    struct seen *s = *state;
    int port, fd = listen_on_loopback(&port);
    close(fd);
    connect_url(s, "ws", "127.0.0.1", port, (struct tm_ws_options){0});
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    assert_int_equal(s->why, TM_WS_REFUSED);
    assert_non_null(strstr(s->text, "no TCP connection with 127.0.0.1"));
    assert_int_equal(s->opens, 0);
}

static void play_close_at_once(struct peer_conn *c)
{
    (void)c;
}

static void test_closed_at_once(void **state)
{
    expect_end(state, play_close_at_once, TM_WS_REMOTE, 0, (struct tm_ws_options){0});
}

static void play_close_after_request(struct peer_conn *c)
{
    peer_read_head(c);
}

static void test_closed_after_request(void **state)
{
    expect_end(state, play_close_after_request, TM_WS_REMOTE, 0, (struct tm_ws_options){0});
}

static void play_stall(struct peer_conn *c)
{
    peer_hold(c);
}

static void test_stall(void **state)
{
    int64_t before = tm_clock_mono_us();
    expect_end(state, play_stall, TM_WS_TIMEOUT, 0, (struct tm_ws_options){.connect_us = 200000});
    assert_in_range(tm_clock_mono_us() - before, 200000, 2000000);
}

static const char unauthorized[] = "{\"error\":{\"code\":\"token_authentication_failure\"}}";

static void play_401(struct peer_conn *c)
{
    char answer[300];
    peer_read_head(c);
    snprintf(answer, sizeof answer,
             "HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s",
             strlen(unauthorized), unauthorized);
    peer_puts(c, answer);
    peer_drain(c);
}

static void test_401(void **state)
{
    expect_end(state, play_401, TM_WS_HANDSHAKE, 401, (struct tm_ws_options){0});
    assert_string_equal(((struct seen *)*state)->text, unauthorized);
}

static void play_503_chunked(struct peer_conn *c)
{
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 503 Service Unavailable\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbusy\r\n0\r\n\r\n");
    peer_drain(c);
}

static void test_503(void **state)
{
    expect_end(state, play_503_chunked, TM_WS_HANDSHAKE, 503, (struct tm_ws_options){0});
    assert_string_equal(((struct seen *)*state)->text, "busy");
}

static void play_redirect(struct peer_conn *c)
{
    char answer[300];
    PEER_CHECK(c->number == 0); /* it is not followed */
    peer_read_head(c);
    snprintf(answer, sizeof answer,
             "HTTP/1.1 302 Found\r\nLocation: ws://127.0.0.1:%d/elsewhere\r\nContent-Length: 0\r\n\r\n", c->peer->port);
    peer_puts(c, answer);
    peer_drain(c);
}

static void test_redirect(void **state)
{
    expect_end(state, play_redirect, TM_WS_HANDSHAKE, 302, (struct tm_ws_options){0});
}

static void play_wrong_accept(struct peer_conn *c)
{
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                 "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n");
    peer_drain(c);
}

static void test_wrong_accept(void **state)
{
    expect_end(state, play_wrong_accept, TM_WS_PROTOCOL, 0, (struct tm_ws_options){0});
}

static void play_no_http(struct peer_conn *c)
{
    peer_read_head(c);
    peer_puts(c, "220 mail.example ESMTP\r\n\r\n");
    peer_drain(c);
}

static void test_no_http(void **state)
{
    expect_end(state, play_no_http, TM_WS_TIMEOUT, 0, (struct tm_ws_options){.connect_us = 300000});
}

static void play_endless_head(struct peer_conn *c)
{
    peer_read_head(c);
    peer_puts(c, "HTTP/1.1 101 Switching Protocols\r\n");
    while (peer_puts(c, "X-Filler: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n"))
        ;
}

static void test_endless_head(void **state)
{
    expect_end(state, play_endless_head, TM_WS_PROTOCOL, 0, (struct tm_ws_options){.connect_us = 3000000});
}

static void test_close_while_connecting(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_stall, NULL, NULL);
    connect_to(s, p, (struct tm_ws_options){0});
    tm_ws_close(s->ws);
    assert_int_equal(s->closes, 0); /* never from inside the call */
    assert_true(run_until(s->loop, is_closed, s, 1000));
    assert_int_equal(s->why, TM_WS_LOCAL);
    connect_to(s, p, (struct tm_ws_options){0});
    s->closes = 0;
    assert_false(run_until(s->loop, is_closed, s, 50));
    close_and_wait(s);
    assert_int_equal(s->why, TM_WS_LOCAL);
    peer_stop(p);
}

static void test_close_while_resolving(void **state)
{
    struct seen *s = *state;
    connect_url(s, "ws", "localhost", 9, (struct tm_ws_options){0});
    close_and_wait(s);
    assert_int_equal(s->why, TM_WS_LOCAL);
}

static void test_name(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_stall, NULL, NULL);
    connect_url(s, "ws", "localhost", p->port, (struct tm_ws_options){.connect_us = 300000});
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    assert_int_equal(s->why, TM_WS_TIMEOUT); /* so the connection was made */
    assert_int_equal(p->accepted, 1);
    peer_stop(p);
}

static void test_unknown_name(void **state)
{
    struct seen *s = *state;
    connect_url(s, "wss", "no-such-host.invalid", 443, (struct tm_ws_options){0});
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    assert_int_equal(s->why, TM_WS_REFUSED);
    assert_non_null(strstr(s->text, "cannot resolve no-such-host.invalid"));
}

static void test_urls(void **state)
{
    static const char *const good[] = {"ws://127.0.0.1",
                                       "ws://127.9.9.9:1/x",
                                       "ws://[::1]:8080/",
                                       "ws://localhost?a=b",
                                       "wss://example.com/trade-api/ws/v2",
                                       "WSS://Example.com:65535/"};
    static const char *const bad[] = {"",
                                      "http://127.0.0.1/",
                                      "ws:/127.0.0.1",
                                      "ws://",
                                      "ws://example.com/",
                                      "ws://192.168.0.1/",
                                      "ws://127.0.0.1.example.com/",
                                      "ws://localhost.example.com/",
                                      "ws://user:secret@127.0.0.1/",
                                      "ws://127.0.0.1:0/",
                                      "ws://127.0.0.1:65536/",
                                      "ws://127.0.0.1:80x/",
                                      "ws://127.0.0.1/a b",
                                      "ws://127.0.0.1/a\r\nX: y",
                                      "ws://127.0.0.1/#part",
                                      "ws://[::1/",
                                      "ws://[127.0.0.1]/",
                                      "ws://[::2]/",
                                      "wss://[::1]/",
                                      "wss://exa mple.com/"};
    struct tm_error err;
    (void)state;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++)
        if (tm_ws_check_url(good[i], &err))
            fail_msg("%s: %s", good[i], err.message);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        if (!tm_ws_check_url(bad[i], &err))
            fail_msg("%s was accepted", bad[i]);
}

/* ---- ways to end ---- */

static void play_close_1001(struct peer_conn *c)
{
    char text[64];
    size_t len;
    peer_upgrade(c);
    peer_frame(c, 0x88,
               "\x03\xe9"
               "bye",
               5);
    PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x88 && len >= 2 && text[0] == 3); /* echoed */
}

static void test_close_frame(void **state)
{
    expect_end(state, play_close_1001, TM_WS_REMOTE, 1001, (struct tm_ws_options){0});
    assert_string_equal(((struct seen *)*state)->text, "bye");
}

static void play_close_1012(struct peer_conn *c)
{
    char text[64];
    size_t len;
    peer_upgrade(c);
    peer_frame(c, 0x88, "\x03\xf4", 2);
    shutdown(c->fd, SHUT_WR); /* it still listens */
    PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x88 && len == 2 && !memcmp(text, "\x03\xf4", 2));
}

static void test_close_1012(void **state)
{
    expect_end(state, play_close_1012, TM_WS_REMOTE, 1012, (struct tm_ws_options){0});
}

static void play_close_without_code(struct peer_conn *c)
{
    char text[64];
    size_t len;
    peer_upgrade(c);
    peer_frame(c, 0x88, "", 0);
    PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x88 && len == 0);
    PEER_CHECK(peer_read_some(c, text, 1) == 0); /* and hangs up at once */
}

static void test_close_without_code(void **state)
{
    expect_end(state, play_close_without_code, TM_WS_REMOTE, 0, (struct tm_ws_options){0});
}

static void play_answer_close(struct peer_conn *c)
{
    char text[200];
    size_t len;
    peer_upgrade(c);
    peer_frame(c, 0x01, "half", 4);
    PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x88);
    peer_frame(c, 0x80, "more", 4);
    peer_frame(c, 0x88, text, len);
    PEER_CHECK(peer_read_some(c, text, 1) == 0); /* hung up, though we have not */
}

/* Who has closed and been answered waits for nothing more. */
static void test_close_is_answered(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_answer_close, NULL, NULL);
    connect_to(s, p, (struct tm_ws_options){0});
    assert_true(run_until(s->loop, is_open, s, PATIENCE_MS));
    close_and_wait(s);
    assert_int_equal(s->why, TM_WS_LOCAL);
    assert_int_equal(s->messages, 0);
    peer_stop(p);
}

static void play_eof(struct peer_conn *c)
{
    peer_upgrade(c);
    peer_frame(c, 0x81, "x", 1);
}

static void test_eof(void **state)
{
    expect_end(state, play_eof, TM_WS_REMOTE, 0, (struct tm_ws_options){0});
    assert_int_equal(((struct seen *)*state)->messages, 1);
}

static void play_reset(struct peer_conn *c)
{
    struct linger linger = {1, 0};
    peer_upgrade(c);
    setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &linger, sizeof linger);
}

static void test_reset(void **state)
{
    expect_end(state, play_reset, TM_WS_REMOTE, 0, (struct tm_ws_options){0});
}

static void play_silent(struct peer_conn *c)
{
    char text[200];
    size_t len;
    peer_upgrade(c);
    PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x89); /* the ping before giving up */
    peer_hold(c);
}

static void test_silent(void **state)
{
    struct tm_ws_options options = {.ping_idle_us = 100000, .silence_us = 400000};
    int64_t before = tm_clock_mono_us();
    expect_end(state, play_silent, TM_WS_SILENT, 0, options);
    assert_in_range(tm_clock_mono_us() - before, 400000, 2000000);
}

static void play_pongs(struct peer_conn *c)
{
    char text[200];
    size_t len;
    int op, pings = 0;
    peer_upgrade(c);
    while ((op = peer_read_frame(c, text, sizeof text, &len)) == 0x89) {
        pings++;
        peer_frame(c, 0x8a, text, len);
    }
    PEER_CHECK(op == 0x88 && pings >= 5);
    peer_frame(c, 0x88, text, len);
}

static void test_pongs_keep_it_open(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_pongs, NULL, NULL);
    connect_to(s, p, (struct tm_ws_options){.ping_idle_us = 50000, .silence_us = 200000});
    assert_false(run_until(s->loop, is_closed, s, 800));
    close_and_wait(s);
    assert_int_equal(s->why, TM_WS_LOCAL);
    peer_stop(p);
}

static void play_trickle(struct peer_conn *c)
{
    static const char zeros[1000];
    unsigned char head[10];
    peer_upgrade(c);
    peer_write(c, head, frame_head(head, 0x82, 1000));
    for (int i = 0; i < 20; i++) {
        peer_write(c, zeros, 50);
        usleep(50000);
    }
    peer_end(c);
}

/* Half a message counts as life. */
static void test_trickle_keeps_it_open(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_trickle, NULL, NULL);
    s->wanted = 1;
    connect_to(s, p, (struct tm_ws_options){.ping_idle_us = 100000, .silence_us = 300000});
    assert_true(run_until(s->loop, has_wanted, s, PATIENCE_MS));
    assert_int_equal(s->messages, 1);
    assert_int_equal(s->last_len, 1000);
    close_and_wait(s);
    peer_stop(p);
}

static void play_never_read(struct peer_conn *c)
{
    peer_upgrade(c);
    peer_hold(c);
}

static void test_slow_peer(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_never_read, NULL, NULL);
    static char bytes[1 << 20];
    connect_to(s, p, (struct tm_ws_options){.send_bytes_max = 3 << 20});
    assert_true(run_until(s->loop, is_open, s, PATIENCE_MS));
    int sent = 0, rc;
    while ((rc = tm_ws_send(s->ws, bytes, sizeof bytes)) == TM_OK && sent < 100)
        sent++;
    assert_int_equal(rc, TM_EFULL);
    assert_int_equal(sent, 3);
    assert_int_equal(tm_ws_send(s->ws, "x", 1), TM_ESTATE);
    assert_int_equal(s->closes, 0);
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    assert_int_equal(s->why, TM_WS_SLOW);
    peer_stop(p);
}

/* A peer that reads nothing cannot hold the close up. */
static void test_close_stalled_peer(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_never_read, NULL, NULL);
    static char bytes[32 << 20];
    connect_to(s, p, (struct tm_ws_options){0});
    assert_true(run_until(s->loop, is_open, s, PATIENCE_MS));
    assert_int_equal(tm_ws_send(s->ws, bytes, sizeof bytes), TM_OK);
    run_until(s->loop, never, NULL, 100);
    int64_t before = tm_clock_mono_us();
    close_and_wait(s);
    assert_in_range(tm_clock_mono_us() - before, 0, 2500000);
    assert_int_equal(s->why, TM_WS_LOCAL);
    peer_stop(p);
}

/* ---- frames that are not allowed ---- */

struct wire {
    const char *bytes;
    size_t len;
};

static void play_wire(struct peer_conn *c)
{
    const struct wire *w = c->peer->arg;
    char text[200];
    size_t len;
    peer_upgrade(c);
    peer_write(c, w->bytes, w->len);
    PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x88 && len == 2);
    PEER_CHECK(!memcmp(text, "\x03\xea", 2)); /* 1002 */
}

#define WIRE(text)                                                                                                     \
    {                                                                                                                  \
        text, sizeof text - 1                                                                                          \
    }

static void test_illegal_frames(void **state)
{
    static const struct wire wires[] = {
        WIRE("\x83\x01x"),                                /* reserved opcodes */
        WIRE("\x8b\x01x"),                                /* */
        WIRE("\xc1\x01x"),                                /* reserved bits: nothing was negotiated */
        WIRE("\xa1\x01x"),                                /* */
        WIRE("\x89\x7e\x00\x7e"),                         /* a ping of 126 bytes */
        WIRE("\x09\x01x"),                                /* half a ping */
        WIRE("\x80\x01x"),                                /* continuation of nothing */
        WIRE("\x01\x01x\x81\x01y"),                       /* a message inside a message */
        WIRE("\x82\x7f\x80\x00\x00\x00\x00\x00\x00\x00"), /* 2^63 bytes */
        WIRE("\x81\x7e\x00\x01x"),                        /* a length of another form than its own */
        WIRE("\x81\x82\x01\x02\x03\x04\x69\x6b"),         /* masked */
        WIRE("\x88\x02\x03\xed"),                         /* 1005 stands for a close without a code */
    };
    struct seen *s = *state;
    for (size_t i = 0; i < sizeof wires / sizeof wires[0]; i++) {
        struct peer *p = peer_start(play_wire, (void *)(uintptr_t)&wires[i], NULL);
        s->closes = s->messages = 0;
        connect_to(s, p, (struct tm_ws_options){0});
        assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
        peer_stop(p);
        if (s->why != TM_WS_PROTOCOL || s->messages)
            fail_msg("wire %zu: ended as %s after %d messages", i, tm_ws_why_name(s->why), s->messages);
    }
}

static void play_oversize(struct peer_conn *c)
{
    static char bytes[100001], text[200];
    size_t len;
    peer_upgrade(c);
    peer_frame(c, 0x82, bytes, 100000);
    peer_frame(c, 0x82, bytes, 100001);
    PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x88);
    PEER_CHECK(len >= 2 && (unsigned char)text[0] == 1009 >> 8 && (unsigned char)text[1] == (1009 & 0xff));
}

static void test_oversize(void **state)
{
    expect_end(state, play_oversize, TM_WS_PROTOCOL, 0, (struct tm_ws_options){.message_bytes_max = 100000});
    assert_int_equal(((struct seen *)*state)->messages, 1);
    assert_int_equal(((struct seen *)*state)->last_len, 100000);
}

static void play_oversize_fragments(struct peer_conn *c)
{
    static char bytes[400];
    peer_upgrade(c);
    peer_frame(c, 0x01, bytes, sizeof bytes);
    for (int i = 0; i < 10; i++)
        peer_frame(c, 0x00, bytes, sizeof bytes);
    peer_end(c);
}

static void test_oversize_fragments(void **state)
{
    expect_end(state, play_oversize_fragments, TM_WS_PROTOCOL, 0, (struct tm_ws_options){.message_bytes_max = 1000});
    assert_int_equal(((struct seen *)*state)->messages, 0);
}

static void play_declare_huge(struct peer_conn *c)
{
    static char zeros[65536];
    unsigned char head[10];
    peer_upgrade(c);
    peer_write(c, head, frame_head(head, 0x82, (uint64_t)1 << 62));
    peer_write(c, zeros, sizeof zeros);
    peer_end(c);
}

static void test_declared_huge(void **state)
{
    expect_end(state, play_declare_huge, TM_WS_PROTOCOL, 0, (struct tm_ws_options){0});
}

static void play_empty_fragments(struct peer_conn *c)
{
    static char frames[20000]; /* continuation, not final, empty: two zero bytes each */
    peer_upgrade(c);
    peer_frame(c, 0x01, "", 0);
    for (int i = 0; i < 20 && peer_write(c, frames, sizeof frames); i++)
        ;
    peer_end(c);
}

static void test_empty_fragments(void **state)
{
    expect_end(state, play_empty_fragments, TM_WS_PROTOCOL, 0, (struct tm_ws_options){0});
}

/* ---- frames that are ---- */

static void play_pong_flood(struct peer_conn *c)
{
    static unsigned char frames[200000]; /* empty pongs that nobody asked for */
    peer_upgrade(c);
    for (size_t i = 0; i < sizeof frames; i += 2)
        frames[i] = 0x8a;
    peer_write(c, frames, sizeof frames);
    peer_frame(c, 0x81, "after", 5);
    peer_end(c);
}

static void test_pong_flood(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_pong_flood, NULL, NULL);
    connect_to(s, p, (struct tm_ws_options){0});
    wait_message(s, 1);
    assert_string_equal(s->last, "after");
    close_and_wait(s);
    peer_stop(p);
}

static void play_pings(struct peer_conn *c)
{
    char ping[125], text[200];
    size_t len;
    peer_upgrade(c);
    for (int n = 125; n >= 0; n -= 25) {
        memset(ping, n, sizeof ping);
        peer_frame(c, 0x89, ping, (size_t)n);
        PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x8a);
        PEER_CHECK(len == (size_t)n && !memcmp(text, ping, len));
    }
    peer_frame(c, 0x81, "all", 3);
    peer_end(c);
}

static void test_pings_are_answered(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_pings, NULL, NULL);
    connect_to(s, p, (struct tm_ws_options){0});
    wait_message(s, 1);
    close_and_wait(s);
    peer_stop(p);
}

static void play_ping_flood(struct peer_conn *c)
{
    char text[200];
    size_t len;
    int op, pongs = 0;
    peer_upgrade(c);
    for (int i = 0; i < 20000; i++)
        peer_frame(c, 0x89, "heartbeat", 9);
    peer_frame(c, 0x81, "after", 5);
    while ((op = peer_read_frame(c, text, sizeof text, &len)) == 0x8a) {
        PEER_CHECK(!strcmp(text, "heartbeat"));
        pongs++;
    }
    PEER_CHECK(pongs >= 1);
    peer_frame(c, 0x88, text, len);
}

static void test_ping_flood(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_ping_flood, NULL, NULL);
    s->wanted = 1;
    connect_to(s, p, (struct tm_ws_options){0});
    assert_true(run_until(s->loop, has_wanted, s, PATIENCE_MS));
    assert_string_equal(s->last, "after");
    run_until(s->loop, never, NULL, 50); /* the last pong */
    close_and_wait(s);
    peer_stop(p);
}

static void play_fragments(struct peer_conn *c)
{
    static char block[100000];
    peer_upgrade(c);
    peer_frame(c, 0x01, "one ", 4);
    peer_frame(c, 0x89, "ping", 4);
    peer_frame(c, 0x00, "two ", 4);
    peer_frame(c, 0x8a, "pong", 4);
    peer_frame(c, 0x80, "three", 5);
    peer_frame(c, 0x81, "", 0);
    peer_frame(c, 0x01, "", 0);
    peer_frame(c, 0x80, "late", 4);
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)('a' + i % 26);
    peer_frame(c, 0x01, "", 0);
    for (int i = 0; i < 5000; i++)
        peer_frame(c, 0x00, block + i, 1);
    peer_frame(c, 0x80, "!", 1);
    peer_frame(c, 0x82, block, sizeof block);
    peer_frame(c, 0x81, "end", 3);
    peer_end(c);
}

struct kept {
    int count;
    size_t len[8];
    char text[8][16];
    char large[100001];
};

static struct kept kept;

static void keep_message(void *arg, const char *bytes, size_t len)
{
    on_message(arg, bytes, len);
    if (len == 100000)
        memcpy(kept.large, bytes, len);
    kept.len[kept.count] = len;
    snprintf(kept.text[kept.count++], sizeof kept.text[0], "%.*s", (int)(len < 15 ? len : 15), bytes);
}

static void test_fragments(void **state)
{
    static const struct tm_ws_events keeping = {on_open, keep_message, on_close};
    struct seen *s = *state;
    struct peer *p = peer_start(play_fragments, NULL, NULL);
    struct tm_error err;
    char url[64];
    snprintf(url, sizeof url, "ws://127.0.0.1:%d/", p->port);
    struct tm_ws_options options = {.url = url};
    kept = (struct kept){0};
    assert_int_equal(tm_ws_connect(s->context, &options, &keeping, s, &s->ws, &err), TM_OK);
    wait_message(s, 6);
    close_and_wait(s);
    peer_stop(p);
    static const size_t lengths[] = {13, 0, 4, 5001, 100000, 3};
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(kept.len[i], lengths[i]);
    assert_string_equal(kept.text[0], "one two three");
    assert_string_equal(kept.text[2], "late");
    assert_string_equal(kept.text[3], "abcdefghijklmno");
    assert_string_equal(kept.text[5], "end");
    for (size_t i = 0; i < 100000; i++)
        assert_int_equal(kept.large[i], 'a' + i % 26);
}

/* Every length around the sizes of the buffers and of the length fields. */
static const size_t lengths_tried[] = {0,     1,     125,   126,   127,   32751, 32752, 32753, 32767,
                                       32768, 32769, 65535, 65536, 65537, 98303, 98304, 98305};

static void play_lengths(struct peer_conn *c)
{
    static char block[98305];
    memset(block, 'z', sizeof block);
    peer_upgrade(c);
    for (size_t i = 0; i < sizeof lengths_tried / sizeof lengths_tried[0]; i++)
        peer_frame(c, 0x81, block, lengths_tried[i]);
    peer_end(c);
}

static void run_lengths(struct seen *s, struct peer *p)
{
    size_t total = 0, n = sizeof lengths_tried / sizeof lengths_tried[0];
    for (size_t i = 0; i < n; i++)
        total += lengths_tried[i];
    wait_message(s, (int)n);
    assert_int_equal(s->bytes, total);
    assert_int_equal(s->last_len, 98305);
    close_and_wait(s);
    peer_stop(p);
}

static void test_lengths(void **state)
{
    struct peer *p = peer_start(play_lengths, NULL, NULL);
    connect_to(*state, p, (struct tm_ws_options){0});
    run_lengths(*state, p);
}

static void play_two(struct peer_conn *c)
{
    peer_upgrade(c);
    peer_write(c,
               "\x81\x01"
               "a\x81\x01"
               "b",
               6);
    peer_end(c);
}

static void test_close_on_message(void **state)
{
    struct seen *s = *state;
    struct peer *p = peer_start(play_two, NULL, NULL);
    s->close_on_message = true;
    connect_to(s, p, (struct tm_ws_options){0});
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    assert_int_equal(s->why, TM_WS_LOCAL);
    assert_int_equal(s->messages, 1);
    peer_stop(p);
}

static void play_count(struct peer_conn *c)
{
    static char text[200000];
    size_t len;
    peer_upgrade(c);
    for (int i = 0; i < 200; i++) {
        PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x81);
        PEER_CHECK(len == (size_t)i * 700 && (!len || text[0] == 'A' + i % 26));
        if (i % 50 == 0)
            usleep(20000);
    }
    peer_frame(c, 0x81, "got them", 8);
    peer_end(c);
}

static void test_sends_arrive_in_order(void **state)
{
    static char text[200 * 700];
    struct seen *s = *state;
    struct peer *p = peer_start(play_count, NULL, NULL);
    connect_to(s, p, (struct tm_ws_options){0});
    assert_true(run_until(s->loop, is_open, s, PATIENCE_MS));
    for (int i = 0; i < 200; i++) {
        memset(text, 'A' + i % 26, sizeof text);
        assert_int_equal(tm_ws_send(s->ws, text, (size_t)i * 700), TM_OK);
    }
    wait_message(s, 1);
    assert_string_equal(s->last, "got them");
    close_and_wait(s);
    peer_stop(p);
}

/* What comes right behind the answer to the upgrade, in the same segment: the library reads it with the answer. */
static void write_with_answer(struct peer_conn *c, const char *headers, const char *bytes, size_t len, size_t now)
{
    static char text[200000];
    int on = 1, off = 0;
    int n = peer_answer(c, headers, text, sizeof text);
    PEER_CHECK(n > 0 && (size_t)n + len <= sizeof text);
    memcpy(text + n, bytes, len);
    setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &on, sizeof on); /* TLS: records of their own */
    if (c->peer->arg) {
        peer_write(c, text, (size_t)n);
        peer_write(c, bytes, now);
    } else {
        peer_write(c, text, (size_t)n + now);
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_CORK, &off, sizeof off);
    usleep(20000);
    peer_write(c, bytes + now, len - now);
    peer_end(c);
}

#define EARLY 600 /* frames of 4 + 291 bytes: more than the library reads at a time */

static size_t early_frames(char *out)
{
    size_t len = 0;
    for (int i = 0; i < EARLY; i++) {
        len += frame_head((unsigned char *)out + len, 0x81, 291);
        memset(out + len, 'a' + i % 26, 291);
        len += 291;
    }
    return len;
}

static void play_early(struct peer_conn *c)
{
    static char frames[EARLY * 295];
    size_t len = early_frames(frames);
    write_with_answer(c, "", frames, len, 1000); /* in the middle of the fourth frame */
}

static void play_early_many(struct peer_conn *c)
{
    static char frames[EARLY * 295];
    size_t len = early_frames(frames);
    write_with_answer(c, "Content-Length: 0\r\n", frames, len, len);
}

static void expect_early(struct seen *s, struct peer *p)
{
    wait_message(s, EARLY);
    assert_int_equal(s->bytes, EARLY * 291);
    assert_int_equal(s->last[0], 'a' + (EARLY - 1) % 26);
    close_and_wait(s);
    peer_stop(p);
}

static void test_frames_with_the_answer(void **state)
{
    struct peer *p = peer_start(play_early, NULL, NULL);
    connect_to(*state, p, (struct tm_ws_options){0});
    expect_early(*state, p);
}

static void test_many_frames_with_the_answer(void **state)
{
    struct peer *p = peer_start(play_early_many, NULL, NULL);
    connect_to(*state, p, (struct tm_ws_options){0});
    expect_early(*state, p);
}

static void play_early_close(struct peer_conn *c)
{
    write_with_answer(c, "", "\x81\x01x\x88\x02\x03\xe9", 7, 7);
}

static void test_close_with_the_answer(void **state)
{
    expect_end(state, play_early_close, TM_WS_REMOTE, 1001, (struct tm_ws_options){0});
    assert_int_equal(((struct seen *)*state)->messages, 1);
}

static void play_chunked_answer(struct peer_conn *c)
{
    write_with_answer(c, "Transfer-Encoding: chunked\r\n", "\x81\x01x", 3, 3);
}

static void test_answer_with_a_body(void **state)
{
    expect_end(state, play_chunked_answer, TM_WS_PROTOCOL, 0, (struct tm_ws_options){0});
    assert_non_null(strstr(((struct seen *)*state)->text, "101 with a body"));
}

static void play_flood(struct peer_conn *c)
{
    static char frames[EARLY * 295];
    size_t len = early_frames(frames);
    peer_upgrade(c);
    while (!atomic_load(&c->peer->release) && peer_write(c, frames, len))
        ;
}

/* Who sends without end does not keep the others, or a close, waiting. */
static void run_beside_a_flood(struct seen *s, struct seen *flood)
{
    struct peer *p = peer_start(play_two, NULL, NULL);
    flood->wanted = EARLY;
    assert_true(run_until(s->loop, has_wanted, flood, PATIENCE_MS));
    connect_to(s, p, (struct tm_ws_options){0});
    wait_message(s, 2);
    close_and_wait(s);
    tm_ws_close(flood->ws);
    int64_t before = tm_clock_mono_us();
    assert_true(run_until(s->loop, is_closed, flood, PATIENCE_MS));
    assert_in_range(tm_clock_mono_us() - before, 0, 3000000);
    assert_int_equal(flood->why, TM_WS_LOCAL);
    peer_stop(p);
}

static void test_beside_a_flood(void **state)
{
    struct seen *s = *state, *flood = calloc(1, sizeof *flood);
    struct peer *p = peer_start(play_flood, NULL, NULL);
    *flood = (struct seen){.loop = s->loop, .context = s->context};
    connect_to(flood, p, (struct tm_ws_options){0});
    run_beside_a_flood(s, flood);
    peer_stop(p);
    free(flood);
}

#define MANY 150

static bool many_done(void *arg)
{
    const struct seen *all = arg;
    for (int i = 0; i < MANY; i++)
        if (!all[i].messages || !all[i].opens)
            return false;
    return true;
}

static bool many_closed(void *arg)
{
    const struct seen *all = arg;
    for (int i = 0; i < MANY; i++)
        if (!all[i].closes)
            return false;
    return true;
}

/* As many as a gatherer holds, all connecting at the same moment. */
static void test_many_connections(void **state)
{
    struct seen *s = *state, *all = calloc(MANY, sizeof *all);
    struct peer *p = peer_start(play_two, NULL, NULL);
    for (int i = 0; i < MANY; i++) {
        all[i].context = s->context;
        connect_to(&all[i], p, (struct tm_ws_options){0});
    }
    assert_true(run_until(s->loop, many_done, all, PATIENCE_MS));
    for (int i = 0; i < MANY; i++)
        tm_ws_close(all[i].ws);
    assert_true(run_until(s->loop, many_closed, all, PATIENCE_MS));
    for (int i = 0; i < MANY; i++)
        assert_int_equal(all[i].why, TM_WS_LOCAL);
    assert_int_equal(p->accepted, MANY);
    peer_stop(p);
    free(all);
}

static void play_auth(struct peer_conn *c)
{
    PEER_CHECK(peer_upgrade(c));
    PEER_CHECK(header_is(c, "X-Key", "key-1"));
    PEER_CHECK(header_is(c, "X-Path", "/trade"));
    peer_frame(c, 0x81, "in", 2);
    peer_end(c);
}

static void test_auth_headers(void **state)
{
    static const struct tm_auth_header_def headers[] = {{"X-Key", "{key_id}"}, {"X-Path", "{path}"}};
    const struct tm_auth_def def = {.key_id = "key-1", .headers = headers, .header_count = 2};
    struct seen *s = *state;
    struct tm_auth *auth;
    struct tm_error err;
    assert_int_equal(tm_auth_create(&def, &auth, &err), TM_OK);
    struct peer *p = peer_start(play_auth, NULL, NULL);
    connect_to(s, p, (struct tm_ws_options){.auth = auth});
    wait_message(s, 1);
    close_and_wait(s);
    peer_stop(p);
    tm_auth_put(auth);
}

/* ---- TLS ---- */

static char cert_file[] = "/tmp/tm_test_ws_XXXXXX";

static struct peer *start_tls(peer_fn *play, const char *name, long from_s, long to_s)
{
    return peer_start(play, NULL, make_tls_server(name, from_s, to_s, cert_file));
}

static void stop_tls(struct peer *p)
{
    SSL_CTX *tls = p->tls;
    peer_stop(p);
    SSL_CTX_free(tls);
}

static void expect_refused(struct seen *s, struct peer *p, const char *ca_file, const char *host, const char *text)
{
    connect_url(s, "wss", host, p->port, (struct tm_ws_options){.ca_file = ca_file});
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    assert_int_equal(s->why, TM_WS_REFUSED);
    if (!strstr(s->text, text))
        fail_msg("\"%s\" is not in \"%s\"", text, s->text);
    assert_int_equal(s->opens, 0);
    stop_tls(p);
}

static void test_tls_self_signed(void **state)
{
    expect_refused(*state, start_tls(play_eof, "IP:127.0.0.1", -60, 3600), NULL, "127.0.0.1", "self-signed");
}

static void test_tls_wrong_host(void **state)
{
    expect_refused(*state, start_tls(play_eof, "DNS:example.com", -60, 3600), cert_file, "localhost",
                   "ostname mismatch");
}

static void test_tls_expired(void **state)
{
    expect_refused(*state, start_tls(play_eof, "IP:127.0.0.1", -7200, -3600), cert_file, "127.0.0.1", "expired");
}

static void test_tls_not_yet_valid(void **state)
{
    expect_refused(*state, start_tls(play_eof, "IP:127.0.0.1", 3600, 7200), cert_file, "127.0.0.1", "not yet valid");
}

static void test_tls_old_version(void **state)
{
    struct peer *p = start_tls(play_eof, "IP:127.0.0.1", -60, 3600);
    SSL_CTX_set_security_level(p->tls, 0);
    SSL_CTX_set_min_proto_version(p->tls, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(p->tls, TLS1_1_VERSION);
    expect_refused(*state, p, cert_file, "127.0.0.1", "no TLS handshake");
}

static void test_tls_stall(void **state)
{
    struct seen *s = *state;
    int port, fd = listen_on_loopback(&port);
    connect_url(s, "wss", "127.0.0.1", port, (struct tm_ws_options){.connect_us = 200000});
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    assert_int_equal(s->why, TM_WS_TIMEOUT);
    assert_non_null(strstr(s->text, "TLS handshake"));
    close(fd);
}

static void test_tls_lengths(void **state)
{
    struct peer *p = start_tls(play_lengths, "DNS:localhost", -60, 3600);
    SSL_CTX *tls = p->tls;
    connect_url(*state, "wss", "localhost", p->port, (struct tm_ws_options){.ca_file = cert_file});
    run_lengths(*state, p);
    SSL_CTX_free(tls);
}

static void play_records(struct peer_conn *c)
{
    char text[291];
    memset(text, 'r', sizeof text);
    peer_upgrade(c);
    for (int i = 0; i < 20000; i++)
        peer_frame(c, 0x81, text, sizeof text); /* two records a message */
    peer_end(c);
}

static void test_tls_many_records(void **state)
{
    struct seen *s = *state;
    struct peer *p = start_tls(play_records, "DNS:localhost", -60, 3600);
    connect_url(s, "wss", "localhost", p->port, (struct tm_ws_options){.ca_file = cert_file});
    wait_message(s, 20000);
    assert_int_equal(s->bytes, 20000 * 291);
    close_and_wait(s);
    stop_tls(p);
}

/* The records of the frames are in OpenSSL by then, and the socket says nothing of them. */
static void test_tls_frames_with_the_answer(void **state)
{
    struct peer *p = peer_start(play_early_many, *state, make_tls_server("DNS:localhost", -60, 3600, cert_file));
    SSL_CTX *tls = p->tls;
    connect_url(*state, "wss", "localhost", p->port, (struct tm_ws_options){.ca_file = cert_file});
    expect_early(*state, p);
    SSL_CTX_free(tls);
}

static void test_tls_beside_a_flood(void **state)
{
    struct seen *s = *state, *flood = calloc(1, sizeof *flood);
    struct peer *p = start_tls(play_flood, "DNS:localhost", -60, 3600);
    *flood = (struct seen){.loop = s->loop, .context = s->context};
    connect_url(flood, "wss", "localhost", p->port, (struct tm_ws_options){.ca_file = cert_file});
    run_beside_a_flood(s, flood);
    stop_tls(p);
    free(flood);
}

static void play_garbage(struct peer_conn *c)
{
    static const char garbage[100] = {23, 3, 3, 0, 90};
    peer_upgrade(c);
    peer_frame(c, 0x81, "x", 1);
    (void)!send(c->fd, garbage, sizeof garbage, MSG_NOSIGNAL);
    usleep(200000);
}

/* What came before it counts. */
static void test_tls_broken_record(void **state)
{
    struct seen *s = *state;
    struct peer *p = start_tls(play_garbage, "IP:127.0.0.1", -60, 3600);
    connect_url(s, "wss", "127.0.0.1", p->port, (struct tm_ws_options){.ca_file = cert_file});
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    assert_int_equal(s->why, TM_WS_REMOTE);
    assert_non_null(strstr(s->text, "broke off"));
    assert_int_equal(s->messages, 1);
    stop_tls(p);
}

static void play_key_updates(struct peer_conn *c)
{
    char text[200];
    size_t len;
    peer_upgrade(c);
    for (int i = 0; i < 10; i++) {
        SSL_key_update(c->ssl, SSL_KEY_UPDATE_REQUESTED); /* TLS 1.3 wants it answered */
        peer_frame(c, 0x89, "key", 3);
        PEER_CHECK(peer_read_frame(c, text, sizeof text, &len) == 0x8a && len == 3);
    }
    peer_frame(c, 0x81, "x", 1);
    peer_end(c);
}

static void test_tls_key_updates(void **state)
{
    struct seen *s = *state;
    struct peer *p = start_tls(play_key_updates, "DNS:localhost", -60, 3600);
    connect_url(s, "wss", "localhost", p->port, (struct tm_ws_options){.ca_file = cert_file});
    wait_message(s, 1);
    close_and_wait(s);
    stop_tls(p);
}

static void test_tls_eof(void **state)
{
    struct seen *s = *state;
    struct peer *p = start_tls(play_eof, "IP:127.0.0.1", -60, 3600);
    connect_url(s, "wss", "127.0.0.1", p->port, (struct tm_ws_options){.ca_file = cert_file});
    assert_true(run_until(s->loop, is_closed, s, PATIENCE_MS));
    assert_int_equal(s->why, TM_WS_REMOTE);
    assert_int_equal(s->messages, 1);
    stop_tls(p);
}

static void test_bad_ca_file(void **state)
{
    struct seen *s = *state;
    struct tm_error err;
    struct tm_ws_options options = {.url = "wss://localhost/", .ca_file = "/nonexistent/ca.pem"};
    assert_int_equal(tm_ws_connect(s->context, &options, &events, s, &s->ws, &err), TM_EINVAL);
    assert_non_null(strstr(err.message, "/nonexistent/ca.pem"));
}

static int make_cert_file(void **state)
{
    (void)state;
    int fd = mkstemp(cert_file);
    return fd < 0 ? -1 : close(fd);
}

static int remove_cert_file(void **state)
{
    (void)state;
    return unlink(cert_file);
}

#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_hello),
        T(test_refused),
        T(test_closed_at_once),
        T(test_closed_after_request),
        T(test_stall),
        T(test_401),
        T(test_503),
        T(test_redirect),
        T(test_wrong_accept),
        T(test_no_http),
        T(test_endless_head),
        T(test_close_while_connecting),
        T(test_close_while_resolving),
        T(test_name),
        T(test_unknown_name),
        T(test_urls),
        T(test_close_frame),
        T(test_close_1012),
        T(test_close_without_code),
        T(test_close_is_answered),
        T(test_eof),
        T(test_reset),
        T(test_silent),
        T(test_pongs_keep_it_open),
        T(test_trickle_keeps_it_open),
        T(test_slow_peer),
        T(test_close_stalled_peer),
        T(test_illegal_frames),
        T(test_oversize),
        T(test_oversize_fragments),
        T(test_declared_huge),
        T(test_empty_fragments),
        T(test_pong_flood),
        T(test_pings_are_answered),
        T(test_ping_flood),
        T(test_fragments),
        T(test_lengths),
        T(test_close_on_message),
        T(test_sends_arrive_in_order),
        T(test_frames_with_the_answer),
        T(test_many_frames_with_the_answer),
        T(test_close_with_the_answer),
        T(test_answer_with_a_body),
        T(test_beside_a_flood),
        T(test_many_connections),
        T(test_auth_headers),
        T(test_tls_self_signed),
        T(test_tls_wrong_host),
        T(test_tls_expired),
        T(test_tls_not_yet_valid),
        T(test_tls_old_version),
        T(test_tls_stall),
        T(test_tls_lengths),
        T(test_tls_many_records),
        T(test_tls_frames_with_the_answer),
        T(test_tls_beside_a_flood),
        T(test_tls_broken_record),
        T(test_tls_key_updates),
        T(test_tls_eof),
        T(test_bad_ca_file),
    };
    tm_log_init(TM_LOG_ERROR, TM_LOG_LOGFMT, NULL);
    return cmocka_run_group_tests_name("net/ws", tests, make_cert_file, remove_cert_file);
}
