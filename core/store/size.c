#include "store/size.h"

#include "base/unset.h"

#include "record/row.h"

#define PAGE_BYTES 8192
#define PAGE_HEADER_BYTES 24
#define ITEM_POINTER_BYTES 4
#define HEAP_HEADER_BYTES 23
#define INDEX_HEADER_BYTES 8
#define INDEX_FILL 0.9 /* rows come in the order of the key: leaves are split to be that full */
#define VARLENA_SHORT_MAX 126
#define ALIGN_MAX 8

static size_t align(size_t at, size_t to)
{
    return (at + to - 1) / to * to;
}

static size_t fixed(size_t at, size_t width)
{
    return align(at, width) + width;
}

static size_t variable(size_t at, size_t len)
{
    return len <= VARLENA_SHORT_MAX ? at + 1 + len : align(at, 4) + 4 + len;
}

/* The end of the field that begins at `at` or, aligned, behind it. */
static size_t field_end(size_t at, const struct tm_column *column, const struct tm_field *f)
{
    switch (column->type) {
    case TM_TYPE_BOOL:
        return at + 1;
    case TM_TYPE_INT2:
        return fixed(at, 2);
    case TM_TYPE_INT4:
        return fixed(at, 4);
    case TM_TYPE_INT8:
    case TM_TYPE_FLOAT8:
    case TM_TYPE_TIMESTAMPTZ:
        return fixed(at, 8);
    case TM_TYPE_UUID:
        return at + 16;
    case TM_TYPE_TEXT:
    case TM_TYPE_JSONB:
    case TM_TYPE_BYTEA:
        return variable(at, (size_t)f->len);
    }
    return at;
}

static size_t heap_tuple_bytes(const struct tm_stream *stream, const struct tm_field *fields)
{
    bool nulls = false;
    size_t at = 0;
    for (size_t i = 0; i < stream->column_count; i++) {
        nulls |= fields[i].len < 0;
        if (fields[i].len >= 0)
            at = field_end(at, &stream->columns[i], &fields[i]);
    }
    at = fixed(at, 4); /* epoch_no */
    size_t bitmap = nulls ? (size_t)(stream->column_count + 1 + 7) / 8 : 0;
    return align(HEAP_HEADER_BYTES + bitmap, ALIGN_MAX) + align(at, ALIGN_MAX);
}

double tm_store_local_row_bytes(const struct tm_stream *stream, const uint8_t *tuple, size_t len)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    if (tm_tuple_split(tuple, len, fields, stream->column_count) < 0)
        return 0;
    double page = (double)PAGE_BYTES / (PAGE_BYTES - PAGE_HEADER_BYTES);
    double heap = (double)(heap_tuple_bytes(stream, fields) + ITEM_POINTER_BYTES) * page;
    size_t key = align(4, 8) + 8; /* epoch_no, seq */
    return heap + (double)(INDEX_HEADER_BYTES + key + ITEM_POINTER_BYTES) * page / INDEX_FILL;
}
