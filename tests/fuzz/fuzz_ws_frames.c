/*
 * Frames of a server: whatever the bytes are, they mean the same in one piece and in many, nothing beyond them is read but
 * the padding, and no message is larger than it may be. The first byte says how large, the second where to cut.
 */
#include "net/ws_frames.h"

#include <stdlib.h>
#include <string.h>

#define MESSAGE_BYTES_MAX(choice) ((choice) % 2 ? 300 : 70000)

/* What came, as text that two runs can be compared by. */
struct run {
    struct ws_frames frames;
    struct tm_buf rest, said;
    bool over;
};

static void must(bool holds)
{
    if (!holds)
        abort();
}

static void note(struct run *r, enum ws_got got, const struct ws_frame *f)
{
    volatile char last = 0;
    if (got == WS_GOT_MESSAGE) {
        last = f->bytes[f->len + WS_FRAMES_PADDING - 1];
        must(f->len <= r->frames.message_bytes_max);
    } else {
        must(f->len <= 125);
    }
    (void)last;
    r->over = got == WS_GOT_CLOSE || got == WS_GOT_FAULT;
    if (got == WS_GOT_FAULT)
        must(f->fault && (f->code == WS_CLOSE_PROTOCOL || f->code == WS_CLOSE_PAYLOAD || f->code == WS_CLOSE_SIZE));
    must(!tm_buf_printf(&r->said, "%d %d %zu ", (int)got, f->code, f->len) &&
         !tm_buf_append(&r->said, f->bytes, f->len));
}

/* In an allocation of its own, so that the sanitizer guards both ends. */
static void feed(struct run *r, const uint8_t *bytes, size_t len)
{
    size_t all = r->rest.len + len;
    char *piece = malloc(all + WS_FRAMES_PADDING);
    const char *at = piece, *end = piece + all;
    struct ws_frame frame;
    enum ws_got got;
    must(!tm_buf_append(&r->rest, bytes, len));
    if (all)
        memcpy(piece, r->rest.data, all);
    memset(piece + all, 0x81, WS_FRAMES_PADDING);
    while (!r->over && (got = ws_frames_next(&r->frames, &at, end, &frame)) != WS_GOT_NOTHING)
        note(r, got, &frame);
    tm_buf_consume(&r->rest, (size_t)(at - piece));
    must(r->over || r->rest.len < WS_FRAMES_REST);
    free(piece);
}

static void run_fini(struct run *r)
{
    ws_frames_fini(&r->frames);
    tm_buf_fini(&r->rest);
    tm_buf_fini(&r->said);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2)
        return 0;
    struct run whole = {.frames.message_bytes_max = MESSAGE_BYTES_MAX(data[0])}, cut = whole;
    size_t step = 1 + data[1] + size / 256;
    data += 2;
    size -= 2;
    feed(&whole, data, size);
    for (size_t at = 0; at < size; at += step)
        feed(&cut, data + at, step < size - at ? step : size - at);
    must(whole.said.len == cut.said.len && whole.over == cut.over);
    must(!whole.said.len || !memcmp(whole.said.data, cut.said.data, cut.said.len));
    run_fini(&whole);
    run_fini(&cut);
    return 0;
}
