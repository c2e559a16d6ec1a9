/*
 * What the tests of the record room share: cmocka, the compiled Kalshi plan, and reading single columns of a tuple by
 * hand (not with the room's own reader, whose faults would then hide themselves).
 */
#ifndef TESTS_RECORD_SUPPORT_H
#define TESTS_RECORD_SUPPORT_H

#include "kalshi_defs.h"

#include "record/decode.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* 2000-01-01 in Unix seconds, from `date -u -d 2000-01-01 +%s`. */
#define PG_EPOCH_S INT64_C(946684800)

struct fixture {
    struct tm_plan *plan;
    struct tm_decoder *decoder;
    struct tm_decoded d;
    char frame[1 << 16];
};

static inline int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct tm_error err = {0};
    if (tm_plan_compile(&kalshi_plan_def, &f->plan, &err))
        fail_msg("%s", err.message);
    assert_int_equal(tm_decoder_create(f->plan, &f->decoder), TM_OK);
    *state = f;
    return 0;
}

static inline int teardown(void **state)
{
    struct fixture *f = *state;
    tm_decoder_destroy(f->decoder);
    tm_plan_put(f->plan);
    free(f);
    return 0;
}

#define RECEIVED_US INT64_C(1794060001234567)

/* Decode a frame from a buffer whose padding is as misleading as can be. */
static inline struct tm_decoded *decode_bytes(struct fixture *f, const char *bytes, size_t len)
{
    assert_true(len + 16 <= sizeof f->frame);
    memcpy(f->frame, bytes, len);
    memcpy(f->frame + len, "\"}}}]]]\"\"\",,:0]}", 16);
    assert_int_equal(tm_decode_frame(f->decoder, f->frame, len, RECEIVED_US, &f->d), TM_OK);
    return &f->d;
}

static inline struct tm_decoded *decode(struct fixture *f, const char *text)
{
    return decode_bytes(f, text, strlen(text));
}

/* ---- columns ---- */

struct column_bytes {
    const uint8_t *at;
    int32_t len;
};

static inline int32_t read_int32(const uint8_t *p)
{
    return (int32_t)((uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3]);
}

static inline struct column_bytes column_of(const struct tm_row *row, const char *name)
{
    const uint8_t *at = row->tuple + 2;
    struct column_bytes found = {0};
    int count = row->tuple[0] << 8 | row->tuple[1];
    assert_int_equal(count, row->stream->column_count);
    for (int i = 0; i < count; i++) {
        struct column_bytes c = {at + 4, read_int32(at)};
        if (strcmp(row->stream->columns[i].name, name) == 0)
            found = c;
        at = c.at + (c.len > 0 ? c.len : 0);
    }
    assert_int_equal(at - row->tuple, row->len);
    assert_non_null(found.at);
    return found;
}

static inline int64_t int_of(const struct tm_row *row, const char *name)
{
    struct column_bytes c = column_of(row, name);
    int64_t v = 0;
    assert_true(c.len == 2 || c.len == 4 || c.len == 8);
    for (int i = 0; i < c.len; i++)
        v = (int64_t)((uint64_t)v << 8 | c.at[i]);
    return c.len == 2 ? (int16_t)v : c.len == 4 ? (int32_t)v : v;
}

/* A timestamptz as Unix microseconds. */
static inline int64_t time_of(const struct tm_row *row, const char *name)
{
    assert_int_equal(column_of(row, name).len, 8);
    return int_of(row, name) + PG_EPOCH_S * 1000000;
}

static inline bool is_null(const struct tm_row *row, const char *name)
{
    return column_of(row, name).len == -1;
}

static inline void assert_text(const struct tm_row *row, const char *name, const char *expected)
{
    struct column_bytes c = column_of(row, name);
    if (c.len != (int32_t)strlen(expected) || memcmp(c.at, expected, strlen(expected)) != 0)
        fail_msg("column %s: expected %s, got %.*s", name, expected, c.len, (const char *)c.at);
}

static inline void assert_jsonb(const struct tm_row *row, const char *name, const char *expected)
{
    struct column_bytes c = column_of(row, name);
    assert_int_equal(c.len, strlen(expected) + 1);
    assert_int_equal(c.at[0], 1);
    assert_memory_equal(c.at + 1, expected, strlen(expected));
}

static inline const struct tm_row *only_row(const struct tm_decoded *d, const char *stream)
{
    if (d->verdict != TM_VERDICT_ROWS)
        fail_msg("expected rows, got verdict %d: %s", (int)d->verdict, d->reason);
    assert_int_equal(d->row_count, 1);
    assert_string_equal(d->rows[0].stream->name, stream);
    return &d->rows[0];
}

static inline void assert_reason(const struct tm_decoded *d, enum tm_verdict verdict, const char *part)
{
    assert_int_equal(d->verdict, verdict);
    if (!strstr(d->reason, part))
        fail_msg("expected a reason with \"%s\", got \"%s\"", part, d->reason);
    assert_true(d->row_count >= 1);
    assert_string_equal(d->rows[0].stream->name, "unknown_frames");
}

#endif
