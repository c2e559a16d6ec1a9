/*
 * Decoding: one JSON frame in, finished rows out, in a single strict pass (RFC 8259) over its bytes.
 *
 * A decoder belongs to one thread; it owns the rows it returns until the next call, and holds its plan. It allocates only
 * to grow its buffers. In tm_decode_frame `bytes[len .. len+15]` must be readable (any content): the scanner looks 16 bytes at a
 * time. Documents need no such padding.
 *
 * Verdicts: nothing is ever dropped here.
 *   ROWS       the frame's kind is known and its shape is right: rows[0..row_count); none if a kind's array is empty
 *   CONTROL    a kind that carries no data (acknowledgement, subscribed, error); rows is empty
 *   UNKNOWN    valid JSON, but the tag is unknown or the shape is not the declared one (a required field missing, a
 *              value of the wrong form, text that PostgreSQL cannot hold such as \u0000, a name that the plan reads
 *              twice in one object): rows[0] is a row of unknown_frames with the raw bytes and the reason. Where only
 *              some elements of a kind's array are wrong, the rows of the others follow it.
 *   MALFORMED  not JSON (or not UTF-8, or nested deeper than 64, or longer than TM_FIELD_BYTES_MAX): likewise, rows[0]
 * sid and sequence are filled whenever they could be read, for UNKNOWN and MALFORMED too: such frames consume numbers.
 *
 * Values. A number may stand as such or in a string, with an exponent or without; it is taken exactly or not at all.
 * null and "" are absent, except that "" is a text. White space around the frame is accepted. Names that the plan does
 * not read are checked and skipped. The order of keys never matters; that of the last frame of the kind is the fastest.
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
    struct tm_span channel; /* SUBSCRIBED; as it stands in the frame, escapes and all */
    int64_t code;           /* ERROR */
    struct tm_span text;    /* ERROR; likewise; NULL if it says nothing */
    char reason[160];       /* UNKNOWN, MALFORMED: what was expected, what came, at which byte; ASCII; else "" */
};

int tm_decoder_create(const struct tm_plan *plan, struct tm_decoder **out) TM_MUST_CHECK;
void tm_decoder_destroy(struct tm_decoder *d);

/* Decode a frame. Returns TM_OK with a verdict, or TM_ENOMEM. */
int tm_decode_frame(struct tm_decoder *d, const char *bytes, size_t len, int64_t received_us,
                    struct tm_decoded *out) TM_MUST_CHECK;

/*
 * Decode a REST document whose array at `path` ("" for the document itself) holds objects of kind `kind`; one
 * object alone is taken like an array of it. `each` is called with the row of every object in turn, or with a
 * row of unknown_frames for one that has not the declared shape; a non-zero return stops and is returned. The
 * document is checked whole before the first call. TM_EPARSE if it is not JSON or has no array or object
 * there; TM_EINVAL if the kind is one of frames. Eight arguments, because a document is told by four and
 * answered by two.
 */
int tm_decode_document(struct tm_decoder *d, const struct tm_kind *kind, const char *path, struct tm_span document,
                       int64_t received_us, int (*each)(void *arg, struct tm_row *row), void *arg,
                       struct tm_error *err) TM_MUST_CHECK;

/*
 * The raw value at a path of a JSON document (strings with their quotes), e.g. "data.rows[-1].id". A name
 * that comes twice means the last. TM_ENOENT: nothing there. TM_EPARSE: not JSON. TM_EINVAL: not a path.
 */
int tm_json_get(struct tm_span document, const char *path, struct tm_span *out) TM_MUST_CHECK;

#endif
