/*
 * Decoding: one JSON frame in, finished rows out, in a single strict pass (RFC 8259) over its bytes.
 *
 * A decoder belongs to one thread; it owns the rows it returns until the next call. It allocates only to grow its
 * buffers. `bytes[len .. len+15]` must be readable (any content): the scanner looks 16 bytes at a time.
 *
 * Verdicts: nothing is ever dropped here.
 *   ROWS       the frame's kind is known and its shape is right: rows[0..row_count)
 *   CONTROL    a kind that carries no data (acknowledgement, subscribed, error); rows is empty
 *   UNKNOWN    valid JSON, but the tag is unknown or the shape is not the declared one (a required field missing, a
 *              value of the wrong form, text that PostgreSQL cannot hold such as \u0000): rows[0] is a row of
 *              unknown_frames with the raw bytes and the reason
 *   MALFORMED  not JSON (or not UTF-8, or nested deeper than 64, or longer than TM_FIELD_BYTES_MAX): likewise
 * sid and sequence are filled whenever they could be read, for UNKNOWN too, because such frames consume numbers.
 */
#ifndef TM_RECORD_DECODE_H
#define TM_RECORD_DECODE_H

#include "record/row.h"

struct tm_decoder;

enum tm_verdict { TM_VERDICT_ROWS, TM_VERDICT_CONTROL, TM_VERDICT_UNKNOWN, TM_VERDICT_MALFORMED };

struct tm_span {
    const char *at; /* inside the frame; NULL: absent */
    size_t len;
};

struct tm_decoded {
    enum tm_verdict verdict;
    const struct tm_kind *kind; /* NULL when the tag is unknown or could not be read */
    bool has_sid, has_sequence;
    int64_t sid, sequence;
    struct tm_row *rows;
    size_t row_count;
    struct tm_span channel; /* SUBSCRIBED */
    int64_t code;           /* ERROR */
    struct tm_span text;    /* ERROR */
    char reason[160];       /* UNKNOWN, MALFORMED: what was expected, what came, at which byte */
};

int tm_decoder_create(const struct tm_plan *plan, struct tm_decoder **out) TM_MUST_CHECK;
void tm_decoder_destroy(struct tm_decoder *d);

/* Decode a frame. Returns TM_OK with a verdict, or TM_ENOMEM. */
int tm_decode_frame(struct tm_decoder *d, const char *bytes, size_t len, int64_t received_us,
                    struct tm_decoded *out) TM_MUST_CHECK;

/*
 * Decode a REST document whose array at `path` ("" for the document itself) holds objects of kind `kind`: `each` is
 * called with the row of every object in turn, or with a row of unknown_frames for one that has not the declared
 * shape; a non-zero return stops and is returned. TM_EPARSE if the document is not JSON or has no array there.
 */
int tm_decode_document(struct tm_decoder *d, const struct tm_kind *kind, const char *path, struct tm_span document,
                       int64_t received_us, int (*each)(void *arg, struct tm_row *row), void *arg,
                       struct tm_error *err) TM_MUST_CHECK;

/* The raw value at a path of a JSON document (strings with their quotes); TM_ENOENT, or TM_EPARSE if not JSON. */
int tm_json_get(struct tm_span document, const char *path, struct tm_span *out) TM_MUST_CHECK;

#endif
