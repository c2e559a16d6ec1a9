/*
 * The frames of RFC 6455 that a server sends, found in bytes as they come. Pure: no socket, no clock, and no memory of its
 * own but for a message that is not whole yet. Strict: reserved bits are zero, nothing is masked, a length has its shortest
 * form, control frames are final and have 125 bytes at most, a continuation continues something and nothing else comes in
 * between, a close code is one that may be sent, its reason is UTF-8. Text is not checked for UTF-8, that is the decoder's
 * part.
 *
 *     *at                                              end                end + WS_FRAMES_PADDING
 *     |  frame  |  frame  |  frame  |  part of a frame  |  readable, any bytes  |
 *
 * ws_frames_next takes one thing after the other off the front and says WS_GOT_NOTHING when it needs more. What it leaves
 * then between *at and end, less than WS_FRAMES_REST bytes, is put before the bytes that come next; the payload of a data
 * frame is never left, but collected. So a message that lies between *at and end in one frame is handed over where it is,
 * any other one is copied once.
 */
#ifndef TM_NET_WS_FRAMES_H
#define TM_NET_WS_FRAMES_H

#include "base/buf.h"

#define WS_FRAMES_PADDING 16
#define WS_FRAMES_REST 127       /* a control frame is at most as long */
#define WS_FRAGMENTS_MAX 100000u /* a message in empty fragments would never end */

enum ws_close_code { WS_CLOSE_NORMAL = 1000, WS_CLOSE_PROTOCOL = 1002, WS_CLOSE_PAYLOAD = 1007, WS_CLOSE_SIZE = 1009 };

/* All zero but for message_bytes_max is the beginning of a stream. */
struct ws_frames {
    size_t message_bytes_max;
    struct tm_buf message; /* what has come of a message that is not whole */
    uint64_t left;         /* what is still to come of the frame at hand */
    uint32_t fragments;
    bool in_frame;   /* of `message` */
    bool final;      /* the frame at hand is the last one of its message */
    bool in_message; /* a continuation must follow */
    bool is_taken;   /* `message` has been handed over */
};

enum ws_got {
    WS_GOT_NOTHING, /* more bytes are needed */
    WS_GOT_MESSAGE, /* text or binary */
    WS_GOT_PING,
    WS_GOT_PONG,
    WS_GOT_CLOSE, /* the last thing that counts; `code` is 0 if it had none, the payload is the reason */
    WS_GOT_FAULT, /* likewise: not allowed, or more than the bounds; `code` is what to close with, `fault` says why */
};

struct ws_frame {
    const char *bytes; /* valid until the next call, or until the bytes around it move */
    size_t len;
    int code;
    const char *fault;
};

void ws_frames_fini(struct ws_frames *f);

/* Take the next thing off the front; `out` is set as it says. After CLOSE and FAULT it must not be called again. */
enum ws_got ws_frames_next(struct ws_frames *f, const char **at, const char *end, struct ws_frame *out);

#endif
