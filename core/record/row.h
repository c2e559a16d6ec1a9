/*
 * Rows: writing, walking and fingerprinting binary COPY tuples (layout in record/plan.h).
 */
#ifndef TM_RECORD_ROW_H
#define TM_RECORD_ROW_H

#include "base/buf.h"
#include "base/endian.h"
#include "record/plan.h"

/* A finished record inside a buffer that somebody else owns. Offsets are from the first byte of the tuple. */
struct tm_row {
    const struct tm_stream *stream;
    uint8_t *tuple;
    uint32_t len;
    uint32_t occurrence_at; /* offset of the 2 bytes to patch; 0: none */
    int64_t exchange_us;    /* value of time_column in Unix microseconds; INT64_MIN: NULL or none */
    const char *ticker;     /* value of ticker_column, not NUL-terminated; NULL: none */
    uint32_t ticker_len;
};

/*
 * Writing by hand, column by column in order; used for gaps, unknown frames and tests. A put that is refused
 * (TM_EINVAL: not the type of the next column, NULL where that is not_null, no more columns, text that is not
 * UTF-8 or not JSON) writes nothing. To give a row up, set buf->len back to start; tm_row_end does so itself
 * when it fails.
 */
struct tm_row_writer {
    const struct tm_stream *stream;
    struct tm_buf *buf;
    size_t start;
    uint16_t next;
};

int tm_row_begin(struct tm_row_writer *w, const struct tm_stream *stream, struct tm_buf *buf) TM_MUST_CHECK;
int tm_row_put_null(struct tm_row_writer *w) TM_MUST_CHECK;
int tm_row_put_bool(struct tm_row_writer *w, bool v) TM_MUST_CHECK;
int tm_row_put_int(struct tm_row_writer *w,
                   int64_t v) TM_MUST_CHECK; /* the width of the column; TM_EINVAL if it does not fit */
int tm_row_put_float(struct tm_row_writer *w, double v) TM_MUST_CHECK;
int tm_row_put_time(struct tm_row_writer *w, int64_t unix_us) TM_MUST_CHECK;
int tm_row_put_text(struct tm_row_writer *w, const char *s, size_t len) TM_MUST_CHECK; /* text, bytea, jsonb */
int tm_row_put_uuid(struct tm_row_writer *w, const uint8_t uuid[16]) TM_MUST_CHECK;
/* Columns not put (the added ones) become NULL or the plan's gatherer and epoch; fills *row, which points
 * into buf. */
int tm_row_end(struct tm_row_writer *w, const struct tm_plan *plan, struct tm_row *row) TM_MUST_CHECK;

/* One field of a tuple: bytes in the tuple; len -1 is NULL. */
struct tm_field {
    const uint8_t *bytes;
    int32_t len;
};

/* Find the fields of a tuple of `count` columns; TM_ECORRUPT unless the bytes are exactly one well-formed tuple. */
int tm_tuple_split(const uint8_t *tuple, size_t len, struct tm_field *fields, size_t count) TM_MUST_CHECK;

/* The length of the well-formed tuple at the start of `bytes`, 0 if more bytes are needed, negative if malformed. */
int64_t tm_tuple_length(const uint8_t *bytes, size_t len);

/*
 * The key that holds for a record, by its exchange time. Most streams have one key and do not look.
 */
const struct tm_key *tm_stream_key_at(const struct tm_stream *stream, const struct tm_field *fields);
static inline const struct tm_key *tm_stream_key_of(const struct tm_stream *stream, const struct tm_field *fields)
{
    return __builtin_expect(stream->keys_count == 1, 1) ? stream->keys : tm_stream_key_at(stream, fields);
}

/*
 * The fingerprint of the record's key without its occurrence, from its key columns' bytes: the same for a row
 * that was just decoded, read back from a journal or copied out of a store, within one process (base/hash.h).
 * `fields` are what tm_tuple_split found in a tuple of the local or the production form: the key's columns
 * stand at the same places in both. An observer's row is nobody's copy: its fingerprint meets no other, not
 * even one of the same row.
 */
struct tm_fp tm_stream_fingerprint(const struct tm_stream *stream, const struct tm_hash_key *key,
                                   const struct tm_field *fields);

/* Make a row of a tuple in the local form; TM_ECORRUPT unless it is one well-formed tuple. */
int tm_row_read(struct tm_row *row, const struct tm_stream *stream, uint8_t *tuple, size_t len) TM_MUST_CHECK;

/* Patch the occurrence of a finished row; nothing where the stream does not count. */
void tm_row_set_occurrence(struct tm_row *row, uint16_t occurrence);

/* Patch the seq of a finished tuple in the local form: its last 8 bytes. */
static inline void tm_tuple_set_seq(uint8_t *tuple, size_t len, int64_t seq)
{
    tm_put_be64(tuple + len - 8, (uint64_t)seq);
}

#endif
