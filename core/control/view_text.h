/*
 * Lines of text for people, and values out of a JSON document for them. Used by view.c.
 *
 * A *sheet* is a list of lines. Text is put piece by piece into the last one and cut at the width: what is no printable
 * UTF-8 becomes '?', so that nothing a process says of others (errors, tickers) can command a terminal. Styles are escape
 * sequences, or nothing where colour is off. A character counts as one column.
 */
#ifndef TM_CONTROL_VIEW_TEXT_H
#define TM_CONTROL_VIEW_TEXT_H

#include "base/buf.h"
#include "record/decode.h"

struct tm_sheet {
    struct tm_buf text;   /* all lines, each ended by '\n' */
    size_t lines;         /* whole ones */
    size_t column, width; /* of the last one; its bound */
    bool colour, utf8;    /* styles; symbols beyond ASCII */
};

enum tm_style { TM_STYLE_PLAIN, TM_STYLE_BOLD, TM_STYLE_DIM, TM_STYLE_GREEN, TM_STYLE_AMBER, TM_STYLE_RED };

void tm_sheet_clear(struct tm_sheet *s);
void tm_sheet_fini(struct tm_sheet *s);
void tm_sheet_put(struct tm_sheet *s, enum tm_style style, const char *fmt, ...) TM_PRINTF(3, 4);
/* At the end of the line; nothing if it does not fit any more. */
void tm_sheet_put_right(struct tm_sheet *s, enum tm_style style, const char *text);
/* Spaces up to a column. */
void tm_sheet_to(struct tm_sheet *s, size_t column);
void tm_sheet_end_line(struct tm_sheet *s);

/* Columns of UTF-8 text. */
size_t tm_text_width(const char *text);

/* ---- values ---- */

/* The value of a path, e.g. "feed.rows"; 0, false, "" if it is not there or another kind. Strings as they were before
 * base/json.h escaped them, cut to `size`. */
double tm_view_number(struct tm_span document, const char *path);
bool tm_view_true(struct tm_span document, const char *path);
const char *tm_view_string(struct tm_span document, const char *path, char *out, size_t size);
bool tm_view_is(struct tm_span document, const char *path, const char *word); /* a string that is this word */
bool tm_view_item(struct tm_span document, const char *list, size_t index, struct tm_span *out);
size_t tm_view_count(struct tm_span document, const char *list);

/* ---- figures, each in a buffer of 16 bytes ---- */

const char *tm_view_amount(double n, char out[16]);   /* "3064", "12.3k", "1.24M" */
const char *tm_view_bytes(double n, char out[16]);    /* "32MiB" */
const char *tm_view_span_ms(double ms, char out[16]); /* "82ms", "14s", "3min" */

#endif
