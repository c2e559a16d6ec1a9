/*
 * A record as JSON text, for people and tests: one object, a name for each column that is not NULL, in their order.
 *
 *     integers          as stored (prices in units of the column's scale), all digits
 *     float8            as a number; what JSON cannot hold (NaN, infinity) as text
 *     timestamptz       "2026-08-13T12:34:56.000001Z", always six digits
 *     uuid, bytea       "01234567-89ab-...", "\\x0123"
 *     jsonb             the document itself
 */
#ifndef TM_RECORD_ROW_JSON_H
#define TM_RECORD_ROW_JSON_H

#include "base/buf.h"
#include "record/plan.h"
#include "record/row.h"

/* Append the tuple in its local form. TM_ECORRUPT unless it is one of the stream. */
int tm_row_json(const struct tm_stream *stream, const uint8_t *tuple, size_t len, struct tm_buf *out) TM_MUST_CHECK;

/* The same for a tuple that was written under another column list "a,b,seq": what the stream has no column of that name
 * for, or of another width, is shown as bytea. `stream` may be NULL: all of it is, but for a last column `seq`. */
int tm_row_json_listed(const struct tm_stream *stream, const char *columns, const uint8_t *tuple, size_t len,
                       struct tm_buf *out) TM_MUST_CHECK;

/* Append a value that is not NULL, of the column's width. */
int tm_json_put_field(struct tm_buf *out, const struct tm_column *column, const struct tm_field *f) TM_MUST_CHECK;

/* Append bytes of UTF-8 as a JSON string. */
int tm_json_put_text(struct tm_buf *out, const char *text, size_t len) TM_MUST_CHECK;

/* Append Unix microseconds as a JSON string, as above. */
int tm_json_put_time(struct tm_buf *out, int64_t unix_us) TM_MUST_CHECK;

#endif
