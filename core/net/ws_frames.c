#include "net/ws_frames.h"
#include "base/endian.h"
#include "base/utf8.h"

#define MESSAGE_KEEP_BYTES 1048576 /* a larger reassembly buffer is given back after use */
#define CONTROL_BYTES_MAX 125

enum opcode { CONTINUATION, TEXT, BINARY, CLOSE = 8, PING, PONG };

struct head {
    unsigned opcode;
    bool final;
    size_t bytes; /* of the head itself */
    uint64_t len;
};

void ws_frames_fini(struct ws_frames *f)
{
    tm_buf_fini(&f->message);
}

static enum ws_got fault(struct ws_frame *out, int code, const char *why)
{
    *out = (struct ws_frame){.code = code, .fault = why};
    return WS_GOT_FAULT;
}

static bool is_control(unsigned opcode)
{
    return opcode & 8;
}

static const char *breach_of_control(unsigned opcode, unsigned first, unsigned len)
{
    if (!(first & 0x80))
        return "a control frame in fragments";
    if (len > CONTROL_BYTES_MAX)
        return "a control frame of more than 125 bytes";
    return opcode == CLOSE && len == 1 ? "a close frame with half a code" : NULL;
}

/* What the first two bytes may not say; NULL: they may. */
static const char *breach_of(const struct ws_frames *f, unsigned first, unsigned second)
{
    unsigned opcode = first & 15;
    if (first & 0x70)
        return "a frame with reserved bits, though no extension was agreed on";
    if (second & 0x80)
        return "a masked frame, which only clients send";
    if (opcode > PONG || (opcode > BINARY && opcode < CLOSE))
        return "a frame with a reserved opcode";
    if (is_control(opcode))
        return breach_of_control(opcode, first, second);
    if (opcode == CONTINUATION && !f->in_message)
        return "a continuation of no message";
    return opcode != CONTINUATION && f->in_message ? "a message inside a message" : NULL;
}

/* The head at p, of which there are `there` bytes. WS_GOT_MESSAGE: it is whole and allowed. */
static enum ws_got read_head(const struct ws_frames *f, const unsigned char *p, size_t there, struct head *head,
                             struct ws_frame *out)
{
    if (there < 2)
        return WS_GOT_NOTHING;
    const char *breach = breach_of(f, p[0], p[1]);
    if (breach)
        return fault(out, WS_CLOSE_PROTOCOL, breach);
    *head = (struct head){.opcode = p[0] & 15, .final = p[0] & 0x80, .bytes = 2, .len = p[1]};
    if (p[1] < 126)
        return WS_GOT_MESSAGE;
    bool wide = p[1] == 127;
    head->bytes = wide ? 10 : 4;
    if (there < head->bytes)
        return WS_GOT_NOTHING;
    head->len = wide ? tm_get_be64(p + 2) : tm_get_be16(p + 2);
    if (head->len < (wide ? 0x10000 : 126))
        return fault(out, WS_CLOSE_PROTOCOL, "a length that is longer than it need be");
    if (head->len >> 63)
        return fault(out, WS_CLOSE_PROTOCOL, "a length of more than 63 bits");
    return WS_GOT_MESSAGE;
}

/* RFC 6455, 7.4, and the registry of IANA that it makes: 1004 to 1006 and 1015 never stand in a frame. */
static bool is_close_code(int code)
{
    return (code >= 1000 && code <= 1003) || (code >= 1007 && code <= 1014) || (code >= 3000 && code <= 4999);
}

static enum ws_got take_close(const char *payload, size_t len, struct ws_frame *out)
{
    *out = (struct ws_frame){.bytes = payload};
    if (!len)
        return WS_GOT_CLOSE;
    int code = tm_get_be16(payload);
    if (!is_close_code(code))
        return fault(out, WS_CLOSE_PROTOCOL, "a close code that must not be sent");
    if (!tm_utf8_is_valid(payload + 2, len - 2))
        return fault(out, WS_CLOSE_PAYLOAD, "a reason of a close frame that is not UTF-8");
    *out = (struct ws_frame){.bytes = payload + 2, .len = len - 2, .code = code};
    return WS_GOT_CLOSE;
}

static enum ws_got take_control(unsigned opcode, const char *payload, size_t len, struct ws_frame *out)
{
    if (opcode == CLOSE)
        return take_close(payload, len, out);
    *out = (struct ws_frame){.bytes = payload, .len = len};
    return opcode == PING ? WS_GOT_PING : WS_GOT_PONG;
}

/* Room for all of a frame that is a fragment, or of which only a part has come. */
static enum ws_got begin_frame(struct ws_frames *f, const struct head *head, struct ws_frame *out)
{
    if (++f->fragments > WS_FRAGMENTS_MAX)
        return fault(out, WS_CLOSE_SIZE, "a message in too many fragments");
    if (tm_buf_reserve(&f->message, (size_t)head->len + WS_FRAMES_PADDING))
        return fault(out, WS_CLOSE_SIZE, "a message for which there is no memory");
    f->in_frame = true;
    f->left = head->len;
    f->final = head->final;
    f->in_message = !head->final;
    return WS_GOT_NOTHING;
}

/* Collect what has come of the frame at hand; hand the message over when that was its last one. */
static enum ws_got go_on(struct ws_frames *f, const char **at, const char *end, struct ws_frame *out)
{
    size_t there = (size_t)(end - *at), n = f->left < there ? (size_t)f->left : there;
    if (n)
        memcpy(f->message.data + f->message.len, *at, n);
    f->message.len += n;
    f->left -= n;
    *at += n;
    f->in_frame = f->left > 0;
    if (f->left || !f->final)
        return WS_GOT_NOTHING;
    *out = (struct ws_frame){.bytes = (const char *)f->message.data, .len = f->message.len};
    f->is_taken = true;
    return WS_GOT_MESSAGE;
}

static void forget_message(struct ws_frames *f)
{
    f->is_taken = false;
    f->fragments = 0;
    tm_buf_clear(&f->message);
    if (f->message.cap > MESSAGE_KEEP_BYTES)
        tm_buf_fini(&f->message);
}

/* What follows a head that is whole, `there` bytes of it; *at stands behind the head and goes on. */
static enum ws_got take_frame(struct ws_frames *f, const struct head *head, const char **at, const char *end,
                              struct ws_frame *out)
{
    const char *payload = *at;
    bool is_whole = head->len <= (size_t)(end - payload);
    if (is_control(head->opcode)) {
        *at += head->len;
        return take_control(head->opcode, payload, (size_t)head->len, out);
    }
    if (head->len > f->message_bytes_max - f->message.len)
        return fault(out, WS_CLOSE_SIZE, "a message of more than message_bytes_max");
    if (is_whole && head->final && head->opcode != CONTINUATION) {
        *at += head->len;
        *out = (struct ws_frame){.bytes = payload, .len = (size_t)head->len};
        return WS_GOT_MESSAGE;
    }
    enum ws_got got = begin_frame(f, head, out);
    return got ? got : go_on(f, at, end, out);
}

enum ws_got ws_frames_next(struct ws_frames *f, const char **at, const char *end, struct ws_frame *out)
{
    struct head head;
    if (f->is_taken)
        forget_message(f);
    enum ws_got got = f->in_frame ? go_on(f, at, end, out) : WS_GOT_NOTHING;
    while (!got && !f->in_frame) {
        size_t there = (size_t)(end - *at);
        got = read_head(f, (const unsigned char *)*at, there, &head, out);
        if (got != WS_GOT_MESSAGE || (is_control(head.opcode) && there - head.bytes < head.len))
            return got == WS_GOT_FAULT ? got : WS_GOT_NOTHING;
        *at += head.bytes;
        got = take_frame(f, &head, at, end, out);
    }
    return got;
}
