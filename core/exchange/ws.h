/*
 * RFC 6455, the server's side: the accept key, frame heads, and a reader for what clients send. No extensions are ever
 * negotiated. Control frames are answered by the owner; the reader reports them.
 */
#ifndef TM_EXCHANGE_WS_H
#define TM_EXCHANGE_WS_H

#include "base/buf.h"
#include "exchange/json.h"

#define TM_WS_MESSAGE_MAX (32u << 20) /* from a client: a subscribe with a million tickers is one message */
#define TM_WS_HEAD_MAX 10

enum tm_ws_opcode { TM_WS_CONTINUATION, TM_WS_TEXT, TM_WS_BINARY, TM_WS_CLOSE = 8, TM_WS_PING, TM_WS_PONG };

/* The value of Sec-WebSocket-Accept; `out` takes 28 characters and a NUL. */
void tm_ws_accept_key(struct tm_slice key, char out[29]);

/* The head of an unmasked frame; returns the place after it. */
uint8_t *tm_ws_put_head(uint8_t *p, enum tm_ws_opcode opcode, bool final, size_t len);

/* Append a whole frame. */
int tm_ws_append(struct tm_buf *out, enum tm_ws_opcode opcode, const void *payload, size_t len) TM_MUST_CHECK;

/* Where the reader is in a message of several frames. */
struct tm_ws_reader {
    struct tm_buf message;
    bool in_message;
};

/*
 * Take the next message or control frame off the front of `in`. TM_OK with *opcode and *payload (valid until the next
 * call), TM_ERETRY when more bytes are needed, TM_EPARSE with the close code to answer in *close_code. *used is how
 * many bytes of `in` are spent, in every case; the caller consumes them after it has looked at the payload.
 */
int tm_ws_read(struct tm_ws_reader *r, struct tm_slice in, size_t *used, enum tm_ws_opcode *opcode,
               struct tm_slice *payload, int *close_code) TM_MUST_CHECK;

#endif
