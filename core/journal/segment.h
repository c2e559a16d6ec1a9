/*
 * The format of a segment file: names, header, frames, items. Pure functions over bytes; integers are big-endian.
 *
 *     file      | header | the same header again | frame | frame | ...
 *     header    | magic[8] | u32 version | u32 bytes of this copy | epoch[16] | u64 segment | u64 salt | u32 streams |
 *               | streams x: u16 id | u16 name bytes | u32 column bytes | u64 next seq | name | columns |
 *               | u32 crc32c of all before |
 *     frame     | u32 length | u32 count | u32 synced | u32 crc of payload | u32 crc of head | payload: count items |
 *     item      | u16 stream | u32 length | tuple bytes; the last 8 are seq |
 *
 * The header stands twice because the salt in it is the key to every frame. The head's CRC covers epoch, segment, salt
 * and its own offset, then the four fields before it: bytes that were moved, swapped, repeated or left over from another
 * file never pass, and a search for the next frame after damage needs 20 bytes a try, not a payload. A damaged payload
 * under a good head costs that frame alone.
 *
 * `synced` is the offset up to which the segment was known to be durable when the frame was written. It tells damage
 * from a torn tail: what lies before a later frame's `synced` was durable, so it was damaged; what lies behind all of
 * them may never have reached the disk. A frame of length 0 and count 0 carries nothing but that mark; a clean close
 * ends with one.
 */
#ifndef TM_JOURNAL_SEGMENT_H
#define TM_JOURNAL_SEGMENT_H

#include "base/buf.h"

#include <stdbool.h>

#define TM_SEGMENT_VERSION 1
#define TM_SEGMENT_NAME_BYTES 21           /* 16 hex digits, ".seg", NUL */
#define TM_SEGMENT_HEADER_MAX (256 * 1024) /* one copy */
#define TM_FRAME_HEAD_BYTES 20
#define TM_ITEM_HEAD_BYTES 6
#define TM_ITEM_BYTES_MIN (TM_ITEM_HEAD_BYTES + 8)
#define TM_RECORD_BYTES_MAX (16u << 20)
#define TM_FRAME_BYTES_MAX (TM_RECORD_BYTES_MAX + TM_ITEM_HEAD_BYTES) /* payload */

void tm_segment_name(uint64_t number, char out[TM_SEGMENT_NAME_BYTES]);
bool tm_segment_name_parse(const char *name, uint64_t *number);

/* ---- header ---- */

struct tm_segment_header {
    uint8_t epoch[16];
    uint64_t number, salt;
    uint32_t bytes; /* of one copy; frames begin at twice this */
    uint32_t streams;
    const uint8_t *table;   /* the stream entries, inside the caller's bytes */
    uint32_t key;           /* CRC of epoch, number and salt: where every head's CRC begins */
    uint32_t damaged_bytes; /* of the copy that could not be used; 0 when both are good */
};

struct tm_segment_stream {
    uint16_t id;
    int64_t next_seq;
    const char *name, *columns; /* not NUL-terminated */
    uint32_t name_len, columns_len;
};

uint32_t tm_segment_stream_bytes(const struct tm_segment_stream *s);
uint32_t tm_segment_header_bytes(uint32_t table_bytes);

/* Begin a header in `out`, add its streams, end it: then `out` holds both copies. epoch, number, salt, streams are read
 * from *h; bytes and key are filled. */
int tm_segment_header_begin(struct tm_buf *out, const struct tm_segment_header *h) TM_MUST_CHECK;
int tm_segment_header_stream(struct tm_buf *out, const struct tm_segment_stream *s) TM_MUST_CHECK;
int tm_segment_header_end(struct tm_buf *out, struct tm_segment_header *h) TM_MUST_CHECK;

/* Find a good copy among the first bytes of a file. TM_ECORRUPT when there is none for this segment number. */
int tm_segment_header_parse(const uint8_t *bytes, size_t len, uint64_t number,
                            struct tm_segment_header *out) TM_MUST_CHECK;

/* Step through h->table; *at starts at 0. False at the end. The table was checked by parse. */
bool tm_segment_stream_next(const struct tm_segment_header *h, size_t *at, struct tm_segment_stream *out);

/* ---- frames ---- */

struct tm_frame {
    uint64_t offset; /* of the head */
    uint32_t length, count, synced, payload_crc;
    const uint8_t *payload;
};

static inline uint64_t tm_frame_end(const struct tm_frame *f)
{
    return f->offset + TM_FRAME_HEAD_BYTES + f->length;
}

/* Write the head (20 bytes) in front of its payload, which is already there. */
void tm_frame_seal(uint8_t *head, const struct tm_frame *f, uint32_t key);

/* Does a good head for `offset` stand here? Fills all but payload. */
bool tm_frame_head_parse(const uint8_t *head, uint64_t offset, uint32_t key, struct tm_frame *out);
bool tm_frame_payload_ok(const struct tm_frame *f);

/* ---- items ---- */

struct tm_item {
    uint16_t stream;
    uint32_t len;
    const uint8_t *tuple;
    int64_t seq;
};

/* The item at *at within a payload; false at the end or when it does not fit. */
bool tm_item_next(const uint8_t *payload, uint32_t length, uint32_t *at, struct tm_item *out);

#endif
