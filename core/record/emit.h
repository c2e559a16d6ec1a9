/*
 * Emitting: the values that a walk noted become one tuple, column by column, in the order of the table.
 *
 * Values are converted exactly or not at all: the first one that has not the declared form stops the row, `reason` then
 * says which, what was expected and what came, and the buffer is as it was.
 */
#ifndef TM_RECORD_EMIT_H
#define TM_RECORD_EMIT_H

#include "record/convert.h"
#include "record/row.h"
#include "record/walk.h"

#define TM_REASON_BYTES 160

/* All that a row is made of. Filled by the decoder for a frame or an element; borrowed for the call. */
struct tm_emission {
    const struct tm_program *program;
    const struct tm_notes *frame, *element; /* element: of a kind with `each` */
    const struct tm_scanner *scanner;       /* of the frame: tells what its text may contain, and where it begins */
    int64_t received_us;
    bool has_sid, has_sequence;
    int64_t sid, sequence;
    struct tm_buf *out, *scratch;
    char *reason;      /* TM_REASON_BYTES */
    struct tm_day day; /* kept from row to row */

    /* while a row is written */
    struct tm_row *row;
    uint32_t ticker_at;   /* in the row; 0: none yet */
    const char *expected; /* instead of the value that could not be taken; NULL: memory is out */
    char range[120];      /* what it points to, where the range of a column is told */
    int failed;
    struct tm_value item; /* of an array, that a path's indexes lead to */
};

/* Append a row to e->out. TM_EPARSE: not the declared shape, see e->reason. TM_ENOMEM. */
int tm_emit_row(struct tm_emission *e, struct tm_row *row) TM_MUST_CHECK;

/* The value of the frame at a place; kind NONE if there is none. */
struct tm_value tm_place_value(const struct tm_notes *frame, const struct tm_place *place);

/* An integer of the frame there, a number or a string of one. TM_ENOENT: absent, null or "". TM_EPARSE: something else. */
int tm_place_any_integer(const struct tm_emission *e, const struct tm_place *place, int64_t *out) TM_MUST_CHECK;

/* The same, at once for a number of one to eight digits, as numbers of connections and sequences are. */
static inline int tm_place_integer(const struct tm_emission *e, const struct tm_place *place, int64_t *out)
{
    const struct tm_value *v = &e->frame->values[place->node];
    bool usual = place->text && v->walk == e->frame->walk && v->kind == TM_VALUE_NUMBER && !place->index_count;
    if (__builtin_expect(!usual || v->len > 8 || v->at + v->len < e->scanner->begin + 8, 0))
        return tm_place_any_integer(e, place, out);
    uint64_t word;
    unsigned shift = (8 - v->len) * 8;
    memcpy(&word, v->at + v->len - 8, 8);
    word = (word ^ '0' * TM_BYTES_01) >> shift << shift;
    if (__builtin_expect(!tm_are_digits(word), 0))
        return tm_place_any_integer(e, place, out);
    *out = (int64_t)tm_eight_digits(word);
    return TM_OK;
}

/* Write "WHERE: expected WHAT, got VALUE at byte N" into reason. Feed bytes that are not printable become '?'. */
void tm_reason_set(char *reason, const struct tm_scanner *s, const char *where, const char *expected,
                   struct tm_value got);

#endif
