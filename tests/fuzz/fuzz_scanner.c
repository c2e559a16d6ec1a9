/*
 * Frames and documents from anywhere through the decoder of the Kalshi plan. Whatever comes:
 *   - malformed means that the scanner of whole documents refuses it too, and nothing else does;
 *   - rows are well-formed tuples of their stream, and what is not understood is one row of unknown_frames;
 *   - decoding again, now with the order of keys remembered, gives the same bytes.
 */
#include "../unit/record/kalshi_defs.h"

#include "record/decode.h"
#include "record/scanner.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_BYTES_MAX (1 << 16)

static struct tm_plan *plan;
static struct tm_decoder *decoder;

static void start(void)
{
    struct tm_error err;
    if (plan)
        return;
    TM_FATAL_UNLESS(!tm_plan_compile(&kalshi_plan_def, &plan, &err));
    TM_FATAL_UNLESS(!tm_decoder_create(plan, &decoder));
}

static void check_row(const struct tm_row *row)
{
    struct tm_field fields[TM_COLUMNS_MAX];
    TM_FATAL_UNLESS(!tm_tuple_split(row->tuple, row->len, fields, row->stream->column_count));
    TM_FATAL_UNLESS(tm_tuple_length(row->tuple, row->len) == row->len);
    for (uint16_t i = 0; i < row->stream->column_count; i++) {
        const struct tm_column *c = &row->stream->columns[i];
        TM_FATAL_UNLESS(fields[i].len >= 0 || !c->not_null);
        if (c->type == TM_TYPE_TEXT && fields[i].len > 0)
            TM_FATAL_UNLESS(tm_text_storable((const char *)fields[i].bytes, (size_t)fields[i].len));
    }
}

static int take_row(void *arg, struct tm_row *row)
{
    (void)arg;
    check_row(row);
    return 0;
}

static void check_decoded(const struct tm_decoded *d)
{
    for (size_t i = 0; i < d->row_count; i++)
        check_row(&d->rows[i]);
    bool refused = d->verdict == TM_VERDICT_UNKNOWN || d->verdict == TM_VERDICT_MALFORMED;
    TM_FATAL_UNLESS(refused == (d->reason[0] != '\0'));
    TM_FATAL_UNLESS(d->verdict != TM_VERDICT_CONTROL || d->row_count == 0);
    TM_FATAL_UNLESS(!refused || strcmp(d->rows[0].stream->name, "unknown_frames") == 0);
}

static bool is_json(const char *bytes, size_t len)
{
    struct tm_scanner s;
    struct tm_value v;
    tm_scanner_init(&s, bytes, len, false);
    return !tm_scan_document(&s, &v);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t first[FIRST_BYTES_MAX];
    struct tm_decoded d;
    struct tm_error err;
    char *frame = malloc(size + TM_SCAN_PADDING);
    start();
    TM_FATAL_UNLESS(frame);
    memcpy(frame, data, size);
    memset(frame + size, size % 3 ? '"' : '}', TM_SCAN_PADDING);

    TM_FATAL_UNLESS(!tm_decode_frame(decoder, frame, size, 1, &d));
    check_decoded(&d);
    TM_FATAL_UNLESS((d.verdict == TM_VERDICT_MALFORMED) != is_json((const char *)data, size));
    size_t len = d.row_count ? d.rows[0].len : 0;
    if (len && len <= sizeof first)
        memcpy(first, d.rows[0].tuple, len);
    TM_FATAL_UNLESS(!tm_decode_frame(decoder, frame, size, 1, &d));
    TM_FATAL_UNLESS(len == (d.row_count ? d.rows[0].len : 0));
    TM_FATAL_UNLESS(len > sizeof first || !len || memcmp(first, d.rows[0].tuple, len) == 0);

    const struct tm_kind *kind = tm_plan_kind_by_tag(plan, size % 2 ? "rest_trade" : "rest_orderbook");
    int rc = tm_decode_document(decoder, kind, "", (struct tm_span){(const char *)data, size}, 1, take_row, NULL, &err);
    TM_FATAL_UNLESS(rc == TM_OK || rc == TM_EPARSE);
    free(frame);
    return 0;
}
