#include "exchange/ws.h"
#include "base/endian.h"

#include <openssl/evp.h>

void tm_ws_accept_key(struct tm_slice key, char out[29])
{
    static const char guid[] = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
    unsigned char digest[EVP_MAX_MD_SIZE];
    EVP_MD_CTX *md = EVP_MD_CTX_new();
    TM_FATAL_UNLESS(md && EVP_DigestInit_ex(md, EVP_sha1(), NULL) == 1);
    TM_FATAL_UNLESS(EVP_DigestUpdate(md, key.at, key.len) == 1 && EVP_DigestUpdate(md, guid, sizeof guid - 1) == 1);
    TM_FATAL_UNLESS(EVP_DigestFinal_ex(md, digest, NULL) == 1);
    EVP_MD_CTX_free(md);
    EVP_EncodeBlock((unsigned char *)out, digest, 20);
}

uint8_t *tm_ws_put_head(uint8_t *p, enum tm_ws_opcode opcode, bool final, size_t len)
{
    *p++ = (uint8_t)((final ? 0x80 : 0) | opcode);
    if (len < 126) {
        *p++ = (uint8_t)len;
        return p;
    }
    if (len <= 0xffff) {
        *p++ = 126;
        tm_put_be16(p, (uint16_t)len);
        return p + 2;
    }
    *p++ = 127;
    tm_put_be64(p, len);
    return p + 8;
}

int tm_ws_append(struct tm_buf *out, enum tm_ws_opcode opcode, const void *payload, size_t len)
{
    int rc = tm_buf_reserve(out, TM_WS_HEAD_MAX + len);
    if (rc)
        return rc;
    uint8_t *p = tm_ws_put_head(out->data + out->len, opcode, true, len);
    if (len)
        memcpy(p, payload, len);
    out->len = (size_t)(p - out->data) + len;
    return TM_OK;
}

struct frame {
    enum tm_ws_opcode opcode;
    bool final;
    size_t head, len;
    const uint8_t *mask;
};

static int refuse(int *close_code, int code)
{
    *close_code = code;
    return TM_EPARSE;
}

static int read_head(struct tm_slice in, struct frame *f, int *close_code)
{
    const uint8_t *at = (const uint8_t *)in.at;
    if (in.len < 2)
        return TM_ERETRY;
    uint64_t len = at[1] & 127;
    size_t bytes = len == 126 ? 2 : len == 127 ? 8 : 0;
    f->opcode = at[0] & 15;
    f->final = at[0] & 0x80;
    bool control = f->opcode >= 8, known = f->opcode <= TM_WS_BINARY || (control && f->opcode <= TM_WS_PONG);
    if ((at[0] & 0x70) || !known || !(at[1] & 0x80) || (control && (!f->final || len > 125)))
        return refuse(close_code, 1002);
    f->head = 2 + bytes + 4;
    if (in.len < f->head)
        return TM_ERETRY;
    len = bytes == 2 ? tm_get_be16(at + 2) : bytes == 8 ? tm_get_be64(at + 2) : len;
    if (len > TM_WS_MESSAGE_MAX)
        return refuse(close_code, 1009);
    f->len = (size_t)len;
    f->mask = at + 2 + bytes;
    return TM_OK;
}

static int append_unmasked(struct tm_buf *to, const uint8_t *payload, const struct frame *f)
{
    int rc = tm_buf_reserve(to, f->len + 1); /* never a NULL place, even for nothing */
    if (rc)
        return rc;
    for (size_t i = 0; i < f->len; i++)
        to->data[to->len + i] = payload[i] ^ f->mask[i & 3];
    to->len += f->len;
    return TM_OK;
}

/* A control frame may come between the frames of a message: its payload is put behind what has been collected. */
static int take_control(struct tm_ws_reader *r, const uint8_t *payload, const struct frame *f, struct tm_slice *out)
{
    size_t kept = r->in_message ? r->message.len : 0;
    r->message.len = kept;
    int rc = append_unmasked(&r->message, payload, f);
    r->message.len = kept;
    *out = (struct tm_slice){(const char *)r->message.data + kept, f->len};
    return rc;
}

int tm_ws_read(struct tm_ws_reader *r, struct tm_slice in, size_t *used, enum tm_ws_opcode *opcode,
               struct tm_slice *payload, int *close_code)
{
    struct frame f;
    for (*used = 0;; *used += f.head + f.len) {
        struct tm_slice rest = {in.at + *used, in.len - *used};
        int rc = read_head(rest, &f, close_code);
        if (rc)
            return rc;
        if (rest.len - f.head < f.len)
            return TM_ERETRY;
        const uint8_t *bytes = (const uint8_t *)rest.at + f.head;
        if (f.opcode >= 8) {
            *used += f.head + f.len;
            *opcode = f.opcode;
            return take_control(r, bytes, &f, payload) ? refuse(close_code, 1009) : TM_OK;
        }
        if (r->in_message != (f.opcode == TM_WS_CONTINUATION))
            return refuse(close_code, 1002);
        if (!r->in_message)
            tm_buf_clear(&r->message);
        r->in_message = !f.final;
        if (r->message.len + f.len > TM_WS_MESSAGE_MAX || append_unmasked(&r->message, bytes, &f))
            return refuse(close_code, 1009);
        if (!f.final)
            continue;
        *used += f.head + f.len;
        *opcode = TM_WS_TEXT;
        *payload = (struct tm_slice){(const char *)r->message.data, r->message.len};
        return TM_OK;
    }
}
