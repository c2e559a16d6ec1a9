/*
 * Arbitrary bytes as a Parquet file: reading never crashes, never asks for bytes outside of the file, stays within its
 * memory, and what it gives are rows that can be written to another file and come back the same.
 *
 * The first byte chooses what the others are, so that checksums and compression do not keep them out: 0 the file as it
 * is, 1 its footer, 2 the pages of one column under a good footer (next bytes: type, nullable, encoding, rows, whether a
 * dictionary goes before and how much of the rest is it), 3 changes to a good file, three bytes each: where from its end,
 * and what is added.
 */
#include "../unit/archive/parquet_files.h"

#include "archive/parquet_column.h"

#include <zlib.h>

#define MEMORY ((size_t)64 << 20)
#define INPUT_MAX (64 << 10)

/* ---- files around the input ---- */

static void add(struct tm_buf *out, const void *bytes, size_t len)
{
    TM_FATAL_UNLESS(!tm_buf_append(out, bytes, len));
}

static void add_all(struct tm_buf *file, const uint8_t *data, size_t size)
{
    add(file, data, size);
}

static void end_file(struct tm_buf *file, size_t footer)
{
    uint32_t len = (uint32_t)(file->len - footer);
    add(file, &len, sizeof len);
    add(file, TM_PARQUET_MAGIC, TM_PARQUET_MAGIC_BYTES);
}

static void wrap_footer(struct tm_buf *file, const uint8_t *data, size_t size)
{
    add(file, TM_PARQUET_MAGIC, TM_PARQUET_MAGIC_BYTES);
    add(file, data, size);
    end_file(file, TM_PARQUET_MAGIC_BYTES);
}

struct recipe {
    struct tm_parquet_column column;
    int encoding;
    int32_t rows, entries;
    bool dictionary;
};

static void add_page(struct tm_buf *file, const struct recipe *r, bool dictionary, const uint8_t *bytes, size_t len)
{
    static uint8_t packed[2 * INPUT_MAX];
    struct tm_thrift_out t = {.buf = file};
    size_t packed_len = ZSTD_compress(packed, sizeof packed, bytes, len, 1);
    TM_FATAL_UNLESS(!ZSTD_isError(packed_len));
    tm_thrift_put_struct(&t, 0);
    tm_thrift_put_i32(&t, 1, dictionary ? TM_PARQUET_DICTIONARY_PAGE : TM_PARQUET_DATA_PAGE);
    tm_thrift_put_i32(&t, 2, (int32_t)len);
    tm_thrift_put_i32(&t, 3, (int32_t)packed_len);
    tm_thrift_put_i32(&t, 4, (int32_t)crc32(0, packed, (uInt)packed_len));
    tm_thrift_put_struct(&t, dictionary ? 7 : 5);
    tm_thrift_put_i32(&t, 1, dictionary ? r->entries : r->rows);
    tm_thrift_put_i32(&t, 2, dictionary ? TM_PARQUET_PLAIN : r->encoding);
    tm_thrift_put_i32(&t, 3, TM_PARQUET_RLE);
    tm_thrift_put_end(&t);
    tm_thrift_put_end(&t);
    add(file, packed, packed_len);
}

static void add_footer(struct tm_buf *file, const struct recipe *r, size_t data_at)
{
    struct tm_parquet_values values;
    struct tm_parquet_chunk chunk = {.encoding = r->dictionary ? TM_PARQUET_DICT : TM_PARQUET_PLAIN};
    struct tm_thrift_out t = {.buf = file};
    size_t footer = file->len;
    chunk.dictionary_at = r->dictionary ? TM_PARQUET_MAGIC_BYTES : 0;
    chunk.data_at = data_at;
    chunk.compressed = footer - TM_PARQUET_MAGIC_BYTES;
    chunk.values = (uint64_t)r->rows;
    tm_parquet_values_init(&values, &r->column);
    tm_thrift_put_struct(&t, 0);
    tm_parquet_put_schema(&t, &r->column, 1);
    tm_thrift_put_i64(&t, 3, r->rows);
    tm_thrift_put_list(&t, 4, TM_THRIFT_STRUCT, 1);
    tm_thrift_put_struct(&t, 0);
    tm_thrift_put_list(&t, 1, TM_THRIFT_STRUCT, 1);
    tm_parquet_put_chunk(&t, &values, &chunk);
    tm_thrift_put_i64(&t, 3, r->rows);
    tm_thrift_put_end(&t);
    tm_thrift_put_end(&t);
    end_file(file, footer);
}

static void wrap_pages(struct tm_buf *file, const uint8_t *data, size_t size)
{
    static const int encodings[] = {TM_PARQUET_PLAIN, TM_PARQUET_DELTA, TM_PARQUET_DICT, 4};
    if (size < 8)
        return;
    struct recipe r = {.column = {"c", data[0] % 10, 0, data[1] % 2},
                       .encoding = encodings[data[2] % 4],
                       .rows = data[3] | data[4] << 8,
                       .entries = data[6],
                       .dictionary = data[5] % 2};
    r.column.scale = data[0] > 200 && r.column.type >= TM_TYPE_INT2 && r.column.type <= TM_TYPE_INT8 ? data[0] % 9 : 0;
    size_t first = r.dictionary ? (size_t)data[7] * 4 : 0;
    data += 8;
    size -= 8;
    first = first < size ? first : size;
    add(file, TM_PARQUET_MAGIC, TM_PARQUET_MAGIC_BYTES);
    if (r.dictionary)
        add_page(file, &r, true, data, first);
    size_t data_at = file->len;
    add_page(file, &r, false, data + first, size - first);
    add_footer(file, &r, data_at);
}

/* ---- changes to a good file ---- */

static void write_good(struct tm_buf *file)
{
    static const struct tm_parquet_column columns[] = {
        {"at", TM_TYPE_TIMESTAMPTZ, 0, true}, {"price", TM_TYPE_INT4, 6, true}, {"ticker", TM_TYPE_TEXT, 0, false}};
    static const struct tm_parquet_meta meta = {"tidemill.stream", "trades"};
    struct tm_parquet_writer_options o = {.columns = columns, .column_count = 3, .group_rows = 20};
    struct tm_buf tuples = {0};
    struct tm_error err;
    for (int row = 0; row < 30; row++) {
        put_count(&tuples, 3);
        put_number(&tuples, row * 1000, 8);
        if (row % 3)
            put_number(&tuples, row % 5, 4);
        else
            put_null(&tuples);
        put_text(&tuples, row % 2 ? "KXA" : "KXB");
    }
    TM_FATAL_UNLESS(!file_write(file, o, &tuples, &meta, 1, &err));
    tm_buf_fini(&tuples);
}

static void change_good(struct tm_buf *file, const uint8_t *data, size_t size)
{
    static struct tm_buf good;
    if (!good.len)
        write_good(&good);
    add(file, good.data, good.len);
    for (; size >= 3; data += 3, size -= 3) {
        uint8_t *at = file->data + file->len - 1 - (size_t)(data[0] | data[1] << 8) % file->len;
        *at = (uint8_t)(*at + data[2]);
    }
}

/* ---- reading ---- */

static int read_file(struct tm_buf *file, struct tm_buf *tuples, size_t *rows, bool ranged)
{
    struct tm_parquet_reader_options o = {
        .read_at = file_read_at, .arg = file, .size = file->len, .fetch = 100, .memory_max = MEMORY};
    struct tm_parquet_reader *r;
    struct tm_error err;
    size_t count;
    int rc = tm_parquet_reader_open(&o, &r, &err);
    if (rc)
        return rc;
    const struct tm_parquet_column *columns = tm_parquet_reader_columns(r, &count);
    for (size_t i = 0; i < count; i++)
        (void)tm_parquet_reader_span(r, i);
    if (ranged && tm_parquet_reader_range(r, columns[0].name, -1000, 1000, &err))
        ranged = false;
    rc = file_tuples(r, tuples, rows, &err);
    tm_parquet_reader_close(r);
    return rc;
}

/* What was read can be written with the same columns, and is the same when it is read again. */
static void write_again(struct tm_buf *file, const struct tm_buf *tuples, size_t rows)
{
    struct tm_parquet_reader *r;
    struct tm_buf other = {0}, back = {0};
    struct tm_error err;
    size_t again;
    struct tm_parquet_writer_options o = {.group_rows = 1000};
    TM_FATAL_UNLESS(!file_open(file, &r, &err));
    o.columns = tm_parquet_reader_columns(r, &o.column_count);
    TM_FATAL_UNLESS(!file_write(&other, o, tuples, NULL, 0, &err));
    TM_FATAL_UNLESS(!read_file(&other, &back, &again, false) && again == rows && back.len == tuples->len);
    TM_FATAL_UNLESS(!back.len || memcmp(back.data, tuples->data, back.len) == 0);
    tm_parquet_reader_close(r);
    tm_buf_fini(&other);
    tm_buf_fini(&back);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static void (*const wraps[])(struct tm_buf *, const uint8_t *, size_t) = {add_all, wrap_footer, wrap_pages,
                                                                              change_good};
    struct tm_buf file = {0}, tuples = {0}, some = {0};
    size_t rows, fewer;
    if (size < 1 || size > INPUT_MAX)
        return 0;
    wraps[data[0] % 4](&file, data + 1, size - 1);
    if (file.len && !read_file(&file, &tuples, &rows, false)) {
        write_again(&file, &tuples, rows);
        TM_FATAL_UNLESS(!read_file(&file, &some, &fewer, true) && fewer <= rows);
    }
    tm_buf_fini(&file);
    tm_buf_fini(&tuples);
    tm_buf_fini(&some);
    return 0;
}
