/*
 * The codec of frames against the examples of RFC 6455, bad frames put together by hand, and random streams, each in
 * pieces of every kind. A piece lies at the end of an allocation of its own, so that a sanitizer sees what is read beyond.
 */
#include "net/ws_frames.h"
#include "peer.h"

#include <iconv.h>

#define MAX_BYTES ((size_t)200000)
#define GOT_MAX 4000

struct got {
    enum ws_got kind;
    int code;
    size_t at, len; /* in `bytes` */
    bool in_place;
};

/* What came out of a stream. */
struct sink {
    struct ws_frames frames;
    char rest[WS_FRAMES_REST];
    size_t rest_len;
    bool over;
    struct got got[GOT_MAX];
    int count;
    struct tm_buf bytes;
    const char *fault;
};

static struct sink *sink_create(size_t message_bytes_max)
{
    struct sink *s = calloc(1, sizeof *s);
    s->frames.message_bytes_max = message_bytes_max;
    return s;
}

static void sink_destroy(struct sink *s)
{
    ws_frames_fini(&s->frames);
    tm_buf_fini(&s->bytes);
    free(s);
}

static void keep(struct sink *s, enum ws_got kind, const struct ws_frame *f, const char *from, const char *end)
{
    volatile char sum = 0;
    for (size_t i = 0; kind == WS_GOT_MESSAGE && i < WS_FRAMES_PADDING; i++)
        sum = (char)(sum ^ f->bytes[f->len + i]);
    assert_in_range(s->count, 0, GOT_MAX - 1);
    s->got[s->count++] = (struct got){kind, f->code, s->bytes.len, f->len, f->bytes >= from && f->bytes <= end};
    assert_int_equal(tm_buf_append(&s->bytes, f->bytes, f->len), TM_OK);
    s->fault = f->fault;
    s->over = kind == WS_GOT_CLOSE || kind == WS_GOT_FAULT;
}

static void feed(struct sink *s, const char *bytes, size_t len)
{
    size_t all = s->rest_len + len;
    char *piece = malloc(all + WS_FRAMES_PADDING), *end = piece + all;
    const char *at = piece;
    struct ws_frame frame;
    enum ws_got kind;
    memcpy(piece, s->rest, s->rest_len);
    memcpy(piece + s->rest_len, bytes, len);
    memset(end, 0xff, WS_FRAMES_PADDING);
    while (!s->over && (kind = ws_frames_next(&s->frames, &at, end, &frame)) != WS_GOT_NOTHING)
        keep(s, kind, &frame, piece, end);
    if (!s->over) {
        s->rest_len = (size_t)(end - at);
        assert_in_range(s->rest_len, 0, WS_FRAMES_REST - 1);
        memcpy(s->rest, at, s->rest_len);
    }
    free(piece);
}

static const char *bytes_of(const struct sink *s, int number)
{
    return (const char *)s->bytes.data + s->got[number].at;
}

static void assert_got(const struct sink *s, int number, enum ws_got kind, const char *bytes, size_t len)
{
    assert_in_range(number, 0, s->count - 1);
    assert_int_equal(s->got[number].kind, kind);
    assert_int_equal(s->got[number].len, len);
    if (len)
        assert_memory_equal(bytes_of(s, number), bytes, len);
}

struct wire {
    const char *bytes;
    size_t len;
};

#define WIRE(text)                                                                                                     \
    {                                                                                                                  \
        text, sizeof text - 1                                                                                          \
    }

/* Feed in one piece, in two of every size, and byte by byte; look at each. */
static void in_all_pieces(const struct wire *w, size_t max, void (*look)(const struct sink *s, const void *arg),
                          const void *arg)
{
    for (size_t cut = 0; cut <= w->len; cut++) {
        struct sink *s = sink_create(max);
        feed(s, w->bytes, cut);
        feed(s, w->bytes + cut, w->len - cut);
        look(s, arg);
        sink_destroy(s);
    }
    struct sink *s = sink_create(max);
    for (size_t i = 0; i < w->len; i++)
        feed(s, w->bytes + i, 1);
    look(s, arg);
    sink_destroy(s);
}

/* ---- RFC 6455, 5.7 ---- */

static void look_examples(const struct sink *s, const void *arg)
{
    (void)arg;
    assert_int_equal(s->count, 3);
    assert_got(s, 0, WS_GOT_MESSAGE, "Hello", 5);
    assert_got(s, 1, WS_GOT_MESSAGE, "Hello", 5);
    assert_got(s, 2, WS_GOT_PING, "Hello", 5);
    assert_int_equal(s->rest_len, 0);
}

static void test_examples(void **state)
{
    static const struct wire w = WIRE("\x81\x05\x48\x65\x6c\x6c\x6f"         /* a text message */
                                      "\x01\x03\x48\x65\x6c\x80\x02\x6c\x6f" /* one in fragments */
                                      "\x89\x05\x48\x65\x6c\x6c\x6f");       /* a ping */
    (void)state;
    in_all_pieces(&w, MAX_BYTES, look_examples, NULL);
}

static void look_binary(const struct sink *s, const void *arg)
{
    const struct wire *w = arg;
    assert_int_equal(s->count, 1);
    assert_got(s, 0, WS_GOT_MESSAGE, w->bytes, w->len);
}

static void test_example_lengths(void **state)
{
    static char block[65536 + 10];
    (void)state;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 31);
    struct wire small = {block, 4 + 256}, large = {block, 10 + 65536};
    struct wire payload = {block + 4, 256};
    memcpy(block, "\x82\x7e\x01\x00", 4);
    in_all_pieces(&small, MAX_BYTES, look_binary, &payload);
    memcpy(block, "\x82\x7f\0\0\0\0\0\1\0\0", 10);
    payload = (struct wire){block + 10, 65536};
    for (size_t cut = 0; cut <= large.len; cut += cut < 30 || cut > 65530 ? 1 : 1499) {
        struct sink *s = sink_create(MAX_BYTES);
        feed(s, large.bytes, cut);
        feed(s, large.bytes + cut, large.len - cut);
        look_binary(s, &payload);
        sink_destroy(s);
    }
}

/* ---- what a message may look like ---- */

static void look_interleaved(const struct sink *s, const void *arg)
{
    (void)arg;
    assert_int_equal(s->count, 6);
    assert_got(s, 0, WS_GOT_PONG, "", 0);
    assert_got(s, 1, WS_GOT_PING, "p", 1);
    assert_got(s, 2, WS_GOT_MESSAGE, "abc", 3);
    assert_got(s, 3, WS_GOT_MESSAGE, "", 0);
    assert_got(s, 4, WS_GOT_MESSAGE, "", 0);
    assert_got(s, 5, WS_GOT_CLOSE, "bye", 3);
    assert_int_equal(s->got[5].code, 1001);
}

static void test_interleaved(void **state)
{
    static const struct wire w = WIRE("\x01\x01"
                                      "a"
                                      "\x8a\x00"
                                      "\x00\x00"
                                      "\x00\x01"
                                      "b"
                                      "\x89\x01p"
                                      "\x80\x01"
                                      "c"
                                      "\x82\x00"         /* an empty message */
                                      "\x02\x00\x80\x00" /* one of empty fragments */
                                      "\x88\x05\x03\xe9"
                                      "bye\x81\x01x"); /* nothing counts after it */
    (void)state;
    in_all_pieces(&w, MAX_BYTES, look_interleaved, NULL);
}

/* A whole frame is handed over where it lies, and only that. */
static void test_in_place(void **state)
{
    static const char bytes[] = "\x81\x03one\x81\x03two\x01\x01t\x80\x04hree\x81\x04"
                                "fo";
    struct sink *s = sink_create(MAX_BYTES);
    (void)state;
    feed(s, bytes, sizeof bytes - 1);
    feed(s,
         "ur\x81\x04"
         "five",
         8);
    assert_int_equal(s->count, 5);
    static const bool in_place[] = {true, true, false, false, true};
    for (int i = 0; i < 5; i++)
        assert_int_equal(s->got[i].in_place, in_place[i]);
    assert_got(s, 3, WS_GOT_MESSAGE, "four", 4);
    sink_destroy(s);
}

/* ---- what it may not ---- */

struct bad {
    struct wire wire;
    int code;
    const char *fault;
};

static void look_bad(const struct sink *s, const void *arg)
{
    const struct bad *b = arg;
    assert_int_equal(s->count, 2);
    assert_got(s, 0, WS_GOT_MESSAGE, "ok", 2);
    if (s->got[1].kind != WS_GOT_FAULT || s->got[1].code != b->code || !strstr(s->fault, b->fault))
        fail_msg("\"%s\" expected, and got %d, %d, \"%s\"", b->fault, (int)s->got[1].kind, s->got[1].code, s->fault);
}

#define BAD(text, code, fault)                                                                                         \
    {                                                                                                                  \
        WIRE("\x81\x02ok" text), code, fault                                                                           \
    }

static void test_bad_frames(void **state)
{
    static const struct bad bad[] = {
        BAD("\xc1\x01x", 1002, "reserved bits"),
        BAD("\xa1\x01x", 1002, "reserved bits"),
        BAD("\x91\x01x", 1002, "reserved bits"),
        BAD("\x83\x01x", 1002, "reserved opcode"),
        BAD("\x87\x01x", 1002, "reserved opcode"),
        BAD("\x8b\x01x", 1002, "reserved opcode"),
        BAD("\x8f\x01x", 1002, "reserved opcode"),
        BAD("\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 1002, "masked"), /* RFC 6455, 5.7, a client's */
        BAD("\x8a\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58", 1002, "masked"),
        BAD("\x81\x80\1\2\3\4", 1002, "masked"),
        BAD("\x89\x7e\x00\x7e", 1002, "more than 125"),
        BAD("\x88\x7f\0\0\0\0\0\0\0\1", 1002, "more than 125"),
        BAD("\x09\x01x", 1002, "control frame in fragments"),
        BAD("\x08\x00", 1002, "control frame in fragments"),
        BAD("\x80\x01x", 1002, "continuation of no message"),
        BAD("\x00\x01x", 1002, "continuation of no message"),
        BAD("\x01\x01x\x81\x01y", 1002, "inside a message"),
        BAD("\x02\x00\x02\x00", 1002, "inside a message"),
        BAD("\x81\x7e\x00\x7d", 1002, "longer than it need be"),
        BAD("\x81\x7e\x00\x00", 1002, "longer than it need be"),
        BAD("\x81\x7f\0\0\0\0\0\0\xff\xff", 1002, "longer than it need be"),
        BAD("\x82\x7f\x80\0\0\0\0\0\0\0", 1002, "63 bits"),
        BAD("\x82\x7f\x7f\xff\xff\xff\xff\xff\xff\xff", 1009, "message_bytes_max"),
        BAD("\x82\x7f\0\0\0\0\0\3\x0d\x41", 1009, "message_bytes_max"), /* MAX_BYTES + 1 */
        BAD("\x01\x01x\x00\x7f\0\0\0\0\0\3\x0d\x40", 1009, "message_bytes_max"),
        BAD("\x88\x01\x03", 1002, "half a code"),
        BAD("\x88\x02\x03\xed", 1002, "close code"),
        BAD("\x88\x03\x03\xe8\xff", 1007, "UTF-8"),
        BAD("\x88\x04\x03\xe8"
            "a\xc3",
            1007, "UTF-8"),
    };
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        in_all_pieces(&bad[i].wire, MAX_BYTES, look_bad, &bad[i]);
}

/* Other limits than a head can show: the sum of the fragments, and how many there are. */
static void test_bounds(void **state)
{
    static const char block[64];
    struct sink *s = sink_create(150);
    (void)state;
    feed(s, "\x01\x40", 2);
    feed(s, block, 64);
    feed(s, "\x00\x40", 2);
    feed(s, block, 64);
    feed(s, "\x80\x16", 2);
    feed(s, block, 22);
    assert_int_equal(s->count, 1);
    assert_got(s, 0, WS_GOT_MESSAGE, (const char *)s->bytes.data, 150);
    feed(s, "\x01\x40", 2);
    feed(s, block, 64);
    feed(s, "\x80\x57", 2); /* 151 */
    assert_int_equal(s->count, 2);
    assert_int_equal(s->got[1].kind, WS_GOT_FAULT);
    assert_int_equal(s->got[1].code, 1009);
    sink_destroy(s);
}

static void test_fragments_without_end(void **state)
{
    struct sink *s = sink_create(MAX_BYTES);
    static char empty[2 * 99999];
    (void)state;
    feed(s, "\x01\x00", 2);
    feed(s, empty, sizeof empty);
    assert_int_equal(s->count, 0);
    feed(s, "\x80\x00", 2); /* the 100,001st */
    assert_int_equal(s->got[0].kind, WS_GOT_FAULT);
    assert_int_equal(s->got[0].code, 1009);
    sink_destroy(s);
    s = sink_create(MAX_BYTES);
    for (int i = 0; i < 3; i++) { /* each message has the whole count */
        feed(s, "\x01\x00", 2);
        feed(s, empty, sizeof empty - 2);
        feed(s, "\x80\x01x", 3);
        assert_got(s, i, WS_GOT_MESSAGE, "x", 1);
    }
    sink_destroy(s);
}

/* ---- closes ---- */

/* The registry of IANA: what is marked "must not be sent", unassigned or below 1000 is refused. */
static bool may_be_sent(int code)
{
    static const int registered[] = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014};
    for (size_t i = 0; i < sizeof registered / sizeof registered[0]; i++)
        if (code == registered[i])
            return true;
    return code / 1000 == 3 || code / 1000 == 4;
}

static void test_close_codes(void **state)
{
    (void)state;
    for (int code = 0; code < 65536; code++) {
        char frame[] = {(char)0x88, 2, (char)(code >> 8), (char)code};
        struct sink *s = sink_create(MAX_BYTES);
        feed(s, frame, sizeof frame);
        assert_int_equal(s->count, 1);
        assert_int_equal(s->got[0].kind, may_be_sent(code) ? WS_GOT_CLOSE : WS_GOT_FAULT);
        assert_int_equal(s->got[0].code, may_be_sent(code) ? code : 1002);
        sink_destroy(s);
    }
    struct sink *s = sink_create(MAX_BYTES);
    feed(s, "\x88\x00", 2);
    assert_got(s, 0, WS_GOT_CLOSE, "", 0);
    assert_int_equal(s->got[0].code, 0);
    sink_destroy(s);
}

/* The C library's opinion. */
static bool iconv_takes(iconv_t cd, const char *text, size_t len)
{
    char copy[8], out[64], *from = copy, *to = out;
    size_t room = sizeof out;
    memcpy(copy, text, len);
    iconv(cd, NULL, NULL, NULL, NULL);
    return iconv(cd, &from, &len, &to, &room) != (size_t)-1;
}

static void try_reason(iconv_t cd, const char *text, size_t len)
{
    char frame[16] = {(char)0x88, (char)(2 + len), 0x03, (char)0xe8};
    memcpy(frame + 4, text, len);
    struct sink *s = sink_create(MAX_BYTES);
    feed(s, frame, 4 + len);
    bool taken = s->got[0].kind == WS_GOT_CLOSE;
    if (taken != iconv_takes(cd, text, len))
        fail_msg("reason %02x %02x %02x %02x: taken %d", (unsigned char)text[0], (unsigned char)text[1],
                 (unsigned char)text[2], (unsigned char)text[3], taken);
    sink_destroy(s);
}

static void test_reasons(void **state)
{
    static const unsigned char edges[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xff};
    iconv_t cd = iconv_open("UTF-32LE", "UTF-8");
    (void)state;
    for (int a = 0; a < 256; a++)
        for (size_t b = 0; b < sizeof edges; b++)
            for (size_t c = 0; c < sizeof edges; c++) {
                char text[4] = {(char)a, (char)edges[b], (char)edges[c], (char)0xbf};
                for (size_t len = 1; len <= 4; len++)
                    try_reason(cd, text, len);
            }
    iconv_close(cd);
}

/* ---- random streams ---- */

static uint32_t rnd(uint32_t *seed, uint32_t below)
{
    *seed = *seed * 1664525 + 1013904223;
    return (uint32_t)(((uint64_t)(*seed >> 8) * below) >> 24);
}

static void put(struct tm_buf *wire, unsigned first, const char *bytes, size_t len)
{
    unsigned char head[10];
    size_t n = frame_head(head, first, len);
    assert_int_equal(tm_buf_append(wire, head, n) || tm_buf_append(wire, bytes, len), 0);
}

/* A message in frames of its own choice, with pings between them. */
static void put_message(struct tm_buf *wire, uint32_t *seed, const char *bytes, size_t len)
{
    unsigned opcode = 1 + rnd(seed, 2);
    while (rnd(seed, 3) == 0) {
        size_t n = rnd(seed, (uint32_t)len + 1);
        put(wire, opcode, bytes, n);
        bytes += n;
        len -= n;
        opcode = 0;
        if (rnd(seed, 2))
            put(wire, 0x89, "ping", rnd(seed, 5));
    }
    put(wire, 0x80 | opcode, bytes, len);
}

static void test_random_streams(void **state)
{
    static char block[200000];
    static const uint32_t sizes[] = {10, 300, 300, 300, 3000, 70000}, pieces[] = {2, 20, 500, 70000};
    (void)state;
    for (size_t i = 0; i < sizeof block; i++)
        block[i] = (char)(i * 7 + i / 251);
    for (uint32_t round = 0; round < 60; round++) {
        uint32_t seed = round + 1, count = 0, offsets[200], lengths[200];
        struct tm_buf wire = {0};
        for (; count < 200; count++) {
            lengths[count] = rnd(&seed, sizes[rnd(&seed, 6)]);
            offsets[count] = rnd(&seed, 100000);
            put_message(&wire, &seed, block + offsets[count], lengths[count]);
        }
        struct sink *s = sink_create(MAX_BYTES);
        for (size_t at = 0, n; at < wire.len; at += n) {
            n = 1 + rnd(&seed, pieces[round % 4]);
            n = n < wire.len - at ? n : wire.len - at;
            feed(s, (const char *)wire.data + at, n);
        }
        uint32_t seen = 0;
        for (int i = 0; i < s->count; i++)
            if (s->got[i].kind == WS_GOT_MESSAGE) {
                assert_in_range(seen, 0, count - 1);
                assert_got(s, i, WS_GOT_MESSAGE, block + offsets[seen], lengths[seen]);
                seen++;
            } else {
                assert_got(s, i, WS_GOT_PING, "ping", s->got[i].len);
            }
        assert_int_equal(seen, count);
        sink_destroy(s);
        tm_buf_fini(&wire);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_examples),
        cmocka_unit_test(test_example_lengths),
        cmocka_unit_test(test_interleaved),
        cmocka_unit_test(test_in_place),
        cmocka_unit_test(test_bad_frames),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_fragments_without_end),
        cmocka_unit_test(test_close_codes),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_random_streams),
    };
    return cmocka_run_group_tests_name("net/ws_frames", tests, NULL, NULL);
}
