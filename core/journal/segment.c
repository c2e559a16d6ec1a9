#include "journal/segment.h"
#include "base/endian.h"
#include "journal/crc32c.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define FIXED_BYTES 52 /* magic to stream count */
#define ENTRY_BYTES 16

static const uint8_t magic[8] = "TMJRNL\r\n";

/* ---- names ---- */

void tm_segment_name(uint64_t number, char out[TM_SEGMENT_NAME_BYTES])
{
    (void)snprintf(out, TM_SEGMENT_NAME_BYTES, "%016" PRIx64 ".seg", number);
}

bool tm_segment_name_parse(const char *name, uint64_t *number)
{
    uint64_t value = 0;
    for (int i = 0; i < 16; i++) {
        char c = name[i];
        unsigned digit = c >= '0' && c <= '9'   ? (unsigned)(c - '0')
                         : c >= 'a' && c <= 'f' ? (unsigned)(c - 'a' + 10)
                                                : 16;
        if (digit > 15)
            return false;
        value = value << 4 | digit;
    }
    *number = value;
    return strcmp(name + 16, ".seg") == 0;
}

/* ---- header ---- */

uint32_t tm_segment_stream_bytes(const struct tm_segment_stream *s)
{
    return ENTRY_BYTES + s->name_len + s->columns_len;
}

uint32_t tm_segment_header_bytes(uint32_t table_bytes)
{
    return FIXED_BYTES + table_bytes + 4;
}

static uint32_t frame_key(const struct tm_segment_header *h)
{
    uint8_t bytes[32];
    memcpy(bytes, h->epoch, 16);
    tm_put_be64(bytes + 16, h->number);
    tm_put_be64(bytes + 24, h->salt);
    return tm_crc32c(0, bytes, sizeof bytes);
}

int tm_segment_header_begin(struct tm_buf *out, const struct tm_segment_header *h)
{
    uint8_t fixed[FIXED_BYTES];
    memcpy(fixed, magic, 8);
    tm_put_be32(fixed + 8, TM_SEGMENT_VERSION);
    tm_put_be32(fixed + 12, 0);
    memcpy(fixed + 16, h->epoch, 16);
    tm_put_be64(fixed + 32, h->number);
    tm_put_be64(fixed + 40, h->salt);
    tm_put_be32(fixed + 48, h->streams);
    tm_buf_clear(out);
    return tm_buf_append(out, fixed, sizeof fixed);
}

int tm_segment_header_stream(struct tm_buf *out, const struct tm_segment_stream *s)
{
    uint8_t entry[ENTRY_BYTES];
    tm_put_be16(entry, s->id);
    tm_put_be16(entry + 2, (uint16_t)s->name_len);
    tm_put_be32(entry + 4, s->columns_len);
    tm_put_be64(entry + 8, (uint64_t)s->next_seq);
    int rc = tm_buf_append(out, entry, sizeof entry);
    if (!rc)
        rc = tm_buf_append(out, s->name, s->name_len);
    if (!rc)
        rc = tm_buf_append(out, s->columns, s->columns_len);
    return rc;
}

int tm_segment_header_end(struct tm_buf *out, struct tm_segment_header *h)
{
    size_t bytes = out->len + 4;
    int rc = tm_buf_reserve(out, 4 + bytes);
    if (rc)
        return rc;
    tm_put_be32(out->data + 12, (uint32_t)bytes);
    tm_put_be32(out->data + out->len, tm_crc32c(0, out->data, out->len));
    memcpy(out->data + bytes, out->data, bytes);
    out->len = 2 * bytes;
    h->bytes = (uint32_t)bytes;
    h->key = frame_key(h);
    return TM_OK;
}

bool tm_segment_stream_next(const struct tm_segment_header *h, size_t *at, struct tm_segment_stream *out)
{
    size_t len = h->bytes - FIXED_BYTES - 4;
    if (*at + ENTRY_BYTES > len)
        return false;
    const uint8_t *entry = h->table + *at;
    out->id = tm_get_be16(entry);
    out->name_len = tm_get_be16(entry + 2);
    out->columns_len = tm_get_be32(entry + 4);
    out->next_seq = (int64_t)tm_get_be64(entry + 8);
    if (out->columns_len > len || *at + tm_segment_stream_bytes(out) > len)
        return false;
    out->name = (const char *)entry + ENTRY_BYTES;
    out->columns = out->name + out->name_len;
    *at += tm_segment_stream_bytes(out);
    return true;
}

/* A header that was written by somebody who can compute a CRC may still be nonsense. */
static bool table_ok(const struct tm_segment_header *h)
{
    struct tm_segment_stream s;
    size_t at = 0;
    uint32_t seen = 0;
    while (tm_segment_stream_next(h, &at, &s)) {
        if (s.next_seq < 1 || s.id != seen)
            return false;
        seen++;
    }
    return seen == h->streams && at == h->bytes - FIXED_BYTES - 4;
}

static bool parse_copy(const uint8_t *bytes, size_t len, uint64_t number, struct tm_segment_header *out)
{
    if (len < FIXED_BYTES + 4 || memcmp(bytes, magic, 8) != 0 || tm_get_be32(bytes + 8) != TM_SEGMENT_VERSION)
        return false;
    *out = (struct tm_segment_header){
        .bytes = tm_get_be32(bytes + 12),
        .number = tm_get_be64(bytes + 32),
        .salt = tm_get_be64(bytes + 40),
        .streams = tm_get_be32(bytes + 48),
        .table = bytes + FIXED_BYTES,
    };
    memcpy(out->epoch, bytes + 16, 16);
    if (out->bytes < FIXED_BYTES + 4 || out->bytes > len || out->bytes > TM_SEGMENT_HEADER_MAX || out->number != number)
        return false;
    if (tm_crc32c(0, bytes, out->bytes - 4) != tm_get_be32(bytes + out->bytes - 4))
        return false;
    out->key = frame_key(out);
    return table_ok(out);
}

/* The first copy is damaged, so its length may be: look for the second, which must stand at its own length. */
static bool find_second_copy(const uint8_t *bytes, size_t len, uint64_t number, struct tm_segment_header *out)
{
    if (len > TM_SEGMENT_HEADER_MAX * 2)
        len = TM_SEGMENT_HEADER_MAX * 2;
    for (size_t at = FIXED_BYTES + 4; at + FIXED_BYTES + 4 <= len; at++) {
        const uint8_t *hit = memchr(bytes + at, magic[0], len - at);
        if (!hit)
            return false;
        at = (size_t)(hit - bytes);
        if (len - at > 16 && tm_get_be32(hit + 12) == at && parse_copy(hit, len - at, number, out))
            return true;
    }
    return false;
}

int tm_segment_header_parse(const uint8_t *bytes, size_t len, uint64_t number, struct tm_segment_header *out)
{
    if (parse_copy(bytes, len, number, out)) {
        if (len < 2 * (size_t)out->bytes || memcmp(bytes, bytes + out->bytes, out->bytes) != 0)
            out->damaged_bytes = out->bytes;
        return TM_OK;
    }
    if (!find_second_copy(bytes, len, number, out))
        return TM_ECORRUPT;
    out->damaged_bytes = out->bytes;
    return TM_OK;
}

/* ---- frames ---- */

static uint32_t head_crc(const uint8_t *head, uint64_t offset, uint32_t key)
{
    uint8_t at[8];
    tm_put_be64(at, offset);
    return tm_crc32c(tm_crc32c(key, at, sizeof at), head, TM_FRAME_HEAD_BYTES - 4);
}

void tm_frame_seal(uint8_t *head, const struct tm_frame *f, uint32_t key)
{
    tm_put_be32(head, f->length);
    tm_put_be32(head + 4, f->count);
    tm_put_be32(head + 8, f->synced);
    tm_put_be32(head + 12, tm_crc32c(0, head + TM_FRAME_HEAD_BYTES, f->length));
    tm_put_be32(head + 16, head_crc(head, f->offset, key));
}

bool tm_frame_head_parse(const uint8_t *head, uint64_t offset, uint32_t key, struct tm_frame *out)
{
    *out = (struct tm_frame){
        .offset = offset,
        .length = tm_get_be32(head),
        .count = tm_get_be32(head + 4),
        .synced = tm_get_be32(head + 8),
        .payload_crc = tm_get_be32(head + 12),
    };
    return out->length <= TM_FRAME_BYTES_MAX && out->count <= out->length / TM_ITEM_BYTES_MIN &&
           out->synced <= offset && head_crc(head, offset, key) == tm_get_be32(head + 16);
}

bool tm_frame_payload_ok(const struct tm_frame *f)
{
    return tm_crc32c(0, f->payload, f->length) == f->payload_crc;
}

/* ---- items ---- */

bool tm_item_next(const uint8_t *payload, uint32_t length, uint32_t *at, struct tm_item *out)
{
    if (length - *at < TM_ITEM_BYTES_MIN)
        return false;
    const uint8_t *item = payload + *at;
    out->stream = tm_get_be16(item);
    out->len = tm_get_be32(item + 2);
    if (out->len < 8 || out->len > length - *at - TM_ITEM_HEAD_BYTES)
        return false;
    out->tuple = item + TM_ITEM_HEAD_BYTES;
    out->seq = (int64_t)tm_get_be64(out->tuple + out->len - 8);
    *at += TM_ITEM_HEAD_BYTES + out->len;
    return true;
}
