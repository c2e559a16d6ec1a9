/*
 * The numbers of parquet.thrift that files of flat rows need, and how a column of ours is told in them.
 */
#ifndef TM_ARCHIVE_PARQUET_FORMAT_H
#define TM_ARCHIVE_PARQUET_FORMAT_H

#include "archive/parquet.h"
#include "archive/parquet_thrift.h"

#define TM_PARQUET_MAGIC "PAR1"
#define TM_PARQUET_MAGIC_BYTES 4
#define TM_PARQUET_TAIL_BYTES 8 /* length of the footer, little-endian, and the magic again */
#define TM_PARQUET_FOOTER_BYTES_MAX (16 << 20)
#define TM_PARQUET_PAGE_HEAD_BYTES_MAX (64 << 10)
#define TM_PARQUET_PAGE_BYTES (1 << 20)                                     /* of values: where the writer cuts */
#define TM_PARQUET_VALUE_BYTES_MAX (TM_FIELD_BYTES_MAX + 1)                 /* a jsonb field has a byte more */
#define TM_PARQUET_PAGE_BYTES_MAX (TM_PARQUET_VALUE_BYTES_MAX + (12 << 20)) /* what the reader takes */
#define TM_PARQUET_PADDING 16                                               /* readable behind a page (parquet_pack.h) */

enum tm_parquet_physical { /* Type */
    TM_PARQUET_BOOLEAN = 0,
    TM_PARQUET_INT32 = 1,
    TM_PARQUET_INT64 = 2,
    TM_PARQUET_DOUBLE = 5,
    TM_PARQUET_BYTE_ARRAY = 6,
    TM_PARQUET_FIXED = 7,
};

enum tm_parquet_repetition { TM_PARQUET_REQUIRED = 0, TM_PARQUET_OPTIONAL = 1 };

enum tm_parquet_encoding {
    TM_PARQUET_PLAIN = 0,
    TM_PARQUET_RLE = 3,
    TM_PARQUET_DELTA = 5, /* DELTA_BINARY_PACKED */
    TM_PARQUET_DICT = 8,  /* RLE_DICTIONARY */
};

enum tm_parquet_codec { TM_PARQUET_ZSTD = 6 };

enum tm_parquet_page_type { TM_PARQUET_DATA_PAGE = 0, TM_PARQUET_DICTIONARY_PAGE = 2 };

/* LogicalType, by its field number in the union. */
enum tm_parquet_logical {
    TM_PARQUET_NONE = 0,
    TM_PARQUET_STRING = 1,
    TM_PARQUET_DECIMAL = 5,
    TM_PARQUET_TIMESTAMP = 8,
    TM_PARQUET_INTEGER = 10,
    TM_PARQUET_JSON = 12,
    TM_PARQUET_UUID = 14,
};

/* A column's type as parquet.thrift says it. What a logical type does not have is 0. */
struct tm_parquet_form {
    enum tm_parquet_physical physical;
    int width; /* bytes of a value in PLAIN; 0: BOOLEAN and BYTE_ARRAY */
    enum tm_parquet_logical logical;
    int scale, precision; /* DECIMAL */
    int bits;             /* INTEGER, signed */
    int converted;        /* ConvertedType, for older readers; -1: none */
};

struct tm_parquet_form tm_parquet_form_of(const struct tm_parquet_column *column);

/* For people: "timestamptz", "int4 with scale 6". */
const char *tm_parquet_type_text(const struct tm_parquet_column *column, char out[48]);

/* Whether values are kept as int64_t: all integers, times, booleans, and the bits of float8. */
static inline bool tm_parquet_is_fixed(enum tm_type type)
{
    return type != TM_TYPE_TEXT && type != TM_TYPE_JSONB && type != TM_TYPE_BYTEA && type != TM_TYPE_UUID;
}

/* Whether they are ordered as int64_t. */
static inline bool tm_parquet_is_integer(enum tm_type type)
{
    return type == TM_TYPE_INT2 || type == TM_TYPE_INT4 || type == TM_TYPE_INT8 || type == TM_TYPE_TIMESTAMPTZ;
}

/* UTF-8 without NUL, as PostgreSQL's text is. */
bool tm_parquet_is_text(const uint8_t *bytes, size_t len);

/* TM_EINVAL names the first column that no file can have. */
int tm_parquet_check_columns(const struct tm_parquet_column *columns, size_t count, struct tm_error *err) TM_MUST_CHECK;

/* FileMetaData.schema (field 2): the root and a leaf for each column. */
void tm_parquet_put_schema(struct tm_thrift_out *t, const struct tm_parquet_column *columns, size_t count);

/*
 * The same read back. A file that is not one flat row of columns as above leaves a fault in `t`. Names go to `names`,
 * one behind the other with their NULs; columns[i].name is NULL until the caller, who alone knows when `names` has come
 * to rest, puts them in. Returns how many columns.
 */
size_t tm_parquet_get_schema(struct tm_thrift_in *t, struct tm_thrift_field f,
                             struct tm_parquet_column columns[TM_COLUMNS_MAX], struct tm_buf *names);

#endif
