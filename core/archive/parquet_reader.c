#include "archive/parquet_page.h"

#include "base/clock.h"
#include "base/endian.h"

#include <stdlib.h>
#include <string.h>

#define FETCH_BYTES (1 << 20)
#define TAIL_GUESS (64 << 10) /* most footers are in the file's last bytes */

struct tm_parquet_reader {
    struct tm_parquet_source source;
    struct tm_parquet_footer footer;

    /* what is wanted */
    size_t wanted_count;
    int from[TM_COLUMNS_MAX]; /* column of the file; -1: NULL in every row */
    int range_column;         /* of the file; -1: none */
    int64_t range_from, range_until;

    /* where it is */
    struct tm_parquet_cursor cursors[TM_COLUMNS_MAX]; /* of the columns of the file that are read */
    bool reading[TM_COLUMNS_MAX];
    size_t group; /* the next one, or the open one */
    bool open, failed;
    uint64_t rows_left; /* of the open one */
    size_t skipped;
};

/* ---- opening ---- */

static int read_tail(struct tm_parquet_reader *r, struct tm_buf *tail, size_t len, struct tm_error *err)
{
    const struct tm_parquet_reader_options *o = &r->source.options;
    tm_buf_clear(tail);
    int rc = tm_parquet_source_reserve(&r->source, tail, len, err);
    rc = rc ? rc : o->read_at(o->arg, o->size - len, tail->data, len, err);
    tail->len = rc ? 0 : len;
    return rc;
}

static int no_file(struct tm_error *err, const char *what)
{
    return tm_error_set(err, TM_ECORRUPT, "not a whole Parquet file: %s", what);
}

/* The footer's length, from the last eight bytes. */
static int footer_length(const struct tm_parquet_reader *r, const struct tm_buf *tail, uint32_t *len,
                         struct tm_error *err)
{
    const uint8_t *end = tail->data + tail->len;
    memcpy(len, end - TM_PARQUET_TAIL_BYTES, sizeof *len);
    if (memcmp(end - TM_PARQUET_MAGIC_BYTES, TM_PARQUET_MAGIC, TM_PARQUET_MAGIC_BYTES) != 0)
        return no_file(err, "it does not end with PAR1; it was cut, or is something else");
    if (*len > r->source.options.size - TM_PARQUET_MAGIC_BYTES - TM_PARQUET_TAIL_BYTES)
        return no_file(err, "its footer is longer than the file");
    if (*len > TM_PARQUET_FOOTER_BYTES_MAX)
        return no_file(err, "its footer has more than 16 MiB");
    return TM_OK;
}

static int check_magic(struct tm_parquet_reader *r, struct tm_error *err)
{
    const struct tm_parquet_reader_options *o = &r->source.options;
    uint8_t magic[TM_PARQUET_MAGIC_BYTES];
    int rc = o->read_at(o->arg, 0, magic, sizeof magic, err);
    if (!rc && memcmp(magic, TM_PARQUET_MAGIC, sizeof magic) != 0)
        return no_file(err, "it does not begin with PAR1");
    return rc;
}

static int read_footer(struct tm_parquet_reader *r, struct tm_buf *tail, struct tm_error *err)
{
    uint64_t size = r->source.options.size;
    uint32_t len;
    if (size < TM_PARQUET_MAGIC_BYTES + TM_PARQUET_TAIL_BYTES)
        return no_file(err, "it has fewer than 12 bytes");
    int rc = read_tail(r, tail, size < TAIL_GUESS ? (size_t)size : TAIL_GUESS, err);
    rc = rc ? rc : footer_length(r, tail, &len, err);
    if (!rc && tail->len < (size_t)len + TM_PARQUET_TAIL_BYTES)
        rc = read_tail(r, tail, (size_t)len + TM_PARQUET_TAIL_BYTES, err);
    rc = rc ? rc : check_magic(r, err);
    if (rc)
        return rc;
    const uint8_t *footer = tail->data + tail->len - TM_PARQUET_TAIL_BYTES - len;
    uint64_t at = size - TM_PARQUET_TAIL_BYTES - len;
    return tm_parquet_footer_read(&r->footer, footer, len, at, r->source.options.memory_max / 2, err);
}

/* Without tm_parquet_reader_expect: all columns, as they are. */
static void want_all(struct tm_parquet_reader *r)
{
    r->wanted_count = r->footer.column_count;
    for (size_t i = 0; i < r->wanted_count; i++)
        r->from[i] = (int)i;
}

int tm_parquet_reader_open(const struct tm_parquet_reader_options *options, struct tm_parquet_reader **out,
                           struct tm_error *err)
{
    struct tm_parquet_reader *r = calloc(1, sizeof *r);
    struct tm_buf tail = {0};
    if (!r)
        return tm_error_set(err, TM_ENOMEM, "out of memory for a Parquet reader");
    r->source.options = *options;
    r->source.options.fetch = options->fetch ? options->fetch : FETCH_BYTES;
    r->source.options.memory_max = options->memory_max ? options->memory_max : TM_PARQUET_MEMORY_MAX;
    r->source.zstd = ZSTD_createDCtx();
    r->range_column = -1;
    int rc = r->source.zstd ? read_footer(r, &tail, err) : tm_error_set(err, TM_ENOMEM, "out of memory for zstd");
    r->source.memory = r->footer.places.cap + r->footer.group_rows.cap + r->footer.texts.cap;
    tm_buf_fini(&tail);
    if (rc) {
        tm_parquet_reader_close(r);
        return rc;
    }
    for (size_t i = 0; i < r->footer.column_count; i++)
        tm_parquet_cursor_init(&r->cursors[i], &r->source, &r->footer.columns[i]);
    want_all(r);
    *out = r;
    return TM_OK;
}

void tm_parquet_reader_close(struct tm_parquet_reader *r)
{
    if (!r)
        return;
    for (size_t i = 0; i < r->footer.column_count; i++)
        if (r->cursors[i].source)
            tm_parquet_cursor_fini(&r->cursors[i]);
    tm_parquet_footer_fini(&r->footer);
    ZSTD_freeDCtx(r->source.zstd);
    free(r);
}

/* ---- what the footer says ---- */

uint64_t tm_parquet_reader_rows(const struct tm_parquet_reader *r)
{
    return r->footer.rows;
}

size_t tm_parquet_reader_groups(const struct tm_parquet_reader *r)
{
    return r->footer.group_count;
}

const char *tm_parquet_reader_created_by(const struct tm_parquet_reader *r)
{
    return r->footer.created_by_at ? (const char *)r->footer.texts.data + r->footer.created_by_at : "";
}

const char *tm_parquet_reader_meta(const struct tm_parquet_reader *r, const char *key)
{
    const char *at = (const char *)r->footer.texts.data + r->footer.meta_at;
    for (size_t i = 0; i < r->footer.meta_count; i++) {
        const char *value = at + strlen(at) + 1;
        if (strcmp(at, key) == 0)
            return value;
        at = value + strlen(value) + 1;
    }
    return NULL;
}

const struct tm_parquet_column *tm_parquet_reader_columns(const struct tm_parquet_reader *r, size_t *count)
{
    *count = r->footer.column_count;
    return r->footer.columns;
}

struct tm_parquet_span tm_parquet_reader_span(const struct tm_parquet_reader *r, size_t column)
{
    struct tm_parquet_span span = {true, INT64_MAX, INT64_MIN, 0};
    for (size_t g = 0; g < r->footer.group_count; g++) {
        const struct tm_parquet_place *p = tm_parquet_place(&r->footer, g, column);
        uint64_t nulls = p->nulls > 0 ? (uint64_t)p->nulls : 0;
        span.nulls += nulls;
        if (nulls == tm_parquet_group_rows(&r->footer, g))
            continue; /* no value: nothing to bound */
        span.any = span.any && p->bounded;
        span.min = p->min < span.min ? p->min : span.min;
        span.max = p->max > span.max ? p->max : span.max;
    }
    if (!span.any || span.min > span.max)
        return (struct tm_parquet_span){.nulls = span.nulls};
    return span;
}

/* ---- what is wanted ---- */

static int file_column(const struct tm_parquet_reader *r, const char *name)
{
    for (size_t i = 0; i < r->footer.column_count; i++)
        if (strcmp(r->footer.columns[i].name, name) == 0)
            return (int)i;
    return -1;
}

static int match_column(struct tm_parquet_reader *r, const struct tm_parquet_column *c, unsigned leniency, int *from,
                        struct tm_error *err)
{
    char want[48], have[48];
    *from = file_column(r, c->name);
    if (*from < 0 && (leniency & TM_PARQUET_MISSING_NULL) && c->nullable)
        return TM_OK;
    if (*from < 0)
        return tm_error_set(err, TM_EINVAL, "the file has no column \"%s\" (expected %s)", c->name,
                            tm_parquet_type_text(c, want));
    const struct tm_parquet_column *of = &r->footer.columns[*from];
    if (of->type != c->type || of->scale != c->scale)
        return tm_error_set(err, TM_EINVAL, "column \"%s\": expected %s, the file has %s", c->name,
                            tm_parquet_type_text(c, want), tm_parquet_type_text(of, have));
    return TM_OK;
}

static bool is_among(const char *name, const struct tm_parquet_column *columns, size_t count)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(columns[i].name, name) == 0)
            return true;
    return false;
}

static void begin_anew(struct tm_parquet_reader *r)
{
    r->group = 0;
    r->open = false;
    r->skipped = 0;
}

int tm_parquet_reader_expect(struct tm_parquet_reader *r, const struct tm_parquet_column *columns, size_t count,
                             unsigned leniency, struct tm_error *err)
{
    int from[TM_COLUMNS_MAX];
    int rc = tm_parquet_check_columns(columns, count, err);
    for (size_t i = 0; i < count && !rc; i++)
        rc = match_column(r, &columns[i], leniency, &from[i], err);
    for (size_t i = 0; i < r->footer.column_count && !rc && !(leniency & TM_PARQUET_IGNORE_OTHERS); i++)
        if (!is_among(r->footer.columns[i].name, columns, count))
            rc = tm_error_set(err, TM_EINVAL, "the file has a column \"%s\" that is not expected",
                              r->footer.columns[i].name);
    if (rc)
        return rc;
    r->wanted_count = count;
    memcpy(r->from, from, count * sizeof *from);
    begin_anew(r);
    return TM_OK;
}

int tm_parquet_reader_range(struct tm_parquet_reader *r, const char *column, int64_t from, int64_t until,
                            struct tm_error *err)
{
    int of = file_column(r, column);
    if (of < 0 || !tm_parquet_is_integer(r->footer.columns[of].type))
        return tm_error_set(err, TM_EINVAL, "a range of \"%s\": expected an integer or timestamptz column of the file",
                            column);
    r->range_column = of;
    r->range_from = from;
    r->range_until = until;
    begin_anew(r);
    return TM_OK;
}

size_t tm_parquet_reader_skipped(const struct tm_parquet_reader *r)
{
    return r->skipped;
}

/* ---- row groups ---- */

static bool in_range(const struct tm_parquet_reader *r, int64_t v)
{
    return v >= r->range_from && (v < r->range_until || r->range_until == INT64_MAX);
}

/* Whether statistics say that no row of the group is in the range: all of it lies on one side, and nothing is NULL. */
static bool out_of_range(const struct tm_parquet_reader *r, size_t group)
{
    if (r->range_column < 0)
        return false;
    const struct tm_parquet_place *p = tm_parquet_place(&r->footer, group, (size_t)r->range_column);
    if (!p->bounded || p->nulls != 0)
        return false;
    return p->max < r->range_from || (p->min >= r->range_until && r->range_until != INT64_MAX);
}

static void begin_group(struct tm_parquet_reader *r)
{
    memset(r->reading, 0, sizeof r->reading);
    for (size_t i = 0; i < r->wanted_count; i++)
        if (r->from[i] >= 0)
            r->reading[r->from[i]] = true;
    if (r->range_column >= 0)
        r->reading[r->range_column] = true;
    r->rows_left = tm_parquet_group_rows(&r->footer, r->group);
    for (size_t i = 0; i < r->footer.column_count; i++)
        if (r->reading[i])
            tm_parquet_cursor_begin(&r->cursors[i], r->group, tm_parquet_place(&r->footer, r->group, i), r->rows_left);
    r->open = true;
}

/* The next group with rows, open; false: there is none. */
static bool find_group(struct tm_parquet_reader *r)
{
    for (; !r->open && r->group < r->footer.group_count; r->group++) {
        if (!out_of_range(r, r->group)) {
            begin_group(r);
            return true;
        }
        r->skipped++;
    }
    return r->open;
}

static int end_group(struct tm_parquet_reader *r, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; i < r->footer.column_count && !rc; i++)
        if (r->reading[i])
            rc = tm_parquet_cursor_end(&r->cursors[i], err);
    r->open = false;
    r->group++;
    return rc;
}

/* Load what is at the end of its page; *rows: how many rows all columns have at hand. */
static int load_pages(struct tm_parquet_reader *r, size_t *rows, struct tm_error *err)
{
    *rows = r->rows_left;
    for (size_t i = 0; i < r->footer.column_count; i++) {
        struct tm_parquet_cursor *c = &r->cursors[i];
        if (!r->reading[i])
            continue;
        int rc = c->row == c->rows ? tm_parquet_cursor_load(c, err) : TM_OK;
        if (rc)
            return rc;
        *rows = c->rows - c->row < *rows ? c->rows - c->row : *rows;
    }
    return TM_OK;
}

/* ---- tuples ---- */

static bool has_value(const struct tm_parquet_cursor *c)
{
    return !c->present || c->present[c->row];
}

static bool row_wanted(const struct tm_parquet_reader *r)
{
    if (r->range_column < 0)
        return true;
    const struct tm_parquet_cursor *c = &r->cursors[r->range_column];
    if (!has_value(c))
        return true;
    int64_t v = (int64_t)c->items[c->item];
    if (c->column->type == TM_TYPE_TIMESTAMPTZ && v != INT64_MAX && v != INT64_MIN)
        v = tm_unix_time_us(v);
    return in_range(r, v);
}

static int put_bytes(struct tm_buf *out, const struct tm_parquet_cursor *c, uint64_t item)
{
    const uint8_t *bytes = c->base + (item >> 32);
    uint32_t len = (uint32_t)item, version = c->column->type == TM_TYPE_JSONB;
    if (tm_buf_reserve(out, 5 + len))
        return TM_ENOMEM;
    uint8_t *at = out->data + out->len;
    tm_put_be32(at, len + version);
    at[4] = 1; /* of jsonb; otherwise the value goes over it */
    memcpy(at + 4 + version, bytes, len);
    out->len += 4 + version + len;
    return TM_OK;
}

/* The field of one column, as PostgreSQL's send function of the type writes it. Room for fixed ones is there. */
static int put_value(struct tm_buf *out, const struct tm_parquet_cursor *c, uint64_t item)
{
    uint8_t *at = out->data + out->len;
    switch (c->column->type) {
    case TM_TYPE_BOOL:
        tm_put_be32(at, 1);
        at[4] = (uint8_t)item;
        out->len += 5;
        return TM_OK;
    case TM_TYPE_INT2:
        tm_put_be32(at, 2);
        tm_put_be16(at + 4, (uint16_t)item);
        out->len += 6;
        return TM_OK;
    case TM_TYPE_INT4:
        tm_put_be32(at, 4);
        tm_put_be32(at + 4, (uint32_t)item);
        out->len += 8;
        return TM_OK;
    case TM_TYPE_INT8:
    case TM_TYPE_FLOAT8:
    case TM_TYPE_TIMESTAMPTZ:
        tm_put_be32(at, 8);
        tm_put_be64(at + 4, item);
        out->len += 12;
        return TM_OK;
    default:
        return put_bytes(out, c, item);
    }
}

static int put_field(struct tm_buf *out, const struct tm_parquet_cursor *c)
{
    if (tm_buf_reserve(out, 12))
        return TM_ENOMEM;
    if (c && has_value(c))
        return put_value(out, c, c->items[c->item]);
    tm_put_be32(out->data + out->len, UINT32_MAX);
    out->len += 4;
    return TM_OK;
}

static int put_tuple(const struct tm_parquet_reader *r, struct tm_buf *out)
{
    if (tm_buf_reserve(out, 2))
        return TM_ENOMEM;
    tm_put_be16(out->data + out->len, (uint16_t)r->wanted_count);
    out->len += 2;
    int rc = TM_OK;
    for (size_t i = 0; i < r->wanted_count && !rc; i++)
        rc = put_field(out, r->from[i] < 0 ? NULL : &r->cursors[r->from[i]]);
    return rc;
}

static void advance(struct tm_parquet_reader *r)
{
    for (size_t i = 0; i < r->footer.column_count; i++) {
        struct tm_parquet_cursor *c = &r->cursors[i];
        if (!r->reading[i])
            continue;
        c->item += has_value(c);
        c->row++;
    }
    r->rows_left--;
}

/* Rows of the open group, until there are `bytes_max` or it ends. */
static int put_rows(struct tm_parquet_reader *r, size_t bytes_max, struct tm_buf *out, size_t *rows,
                    struct tm_error *err)
{
    size_t begin = out->len, at_hand;
    while (r->rows_left && out->len - begin < bytes_max) {
        int rc = load_pages(r, &at_hand, err);
        if (rc)
            return rc;
        for (; at_hand && out->len - begin < bytes_max; at_hand--) {
            if (row_wanted(r)) {
                if (put_tuple(r, out))
                    return tm_error_set(err, TM_ENOMEM, "out of memory for rows of a Parquet file");
                ++*rows;
            }
            advance(r);
        }
    }
    return TM_OK;
}

int tm_parquet_reader_next(struct tm_parquet_reader *r, size_t bytes_max, struct tm_buf *out, size_t *rows,
                           size_t *group, struct tm_error *err)
{
    size_t begin = out->len;
    *rows = 0;
    if (r->failed)
        return tm_error_set(err, TM_ESTATE, "reading the Parquet file has failed before");
    while (!*rows && find_group(r)) {
        *group = r->group;
        int rc = put_rows(r, bytes_max ? bytes_max : 1, out, rows, err);
        if (!rc && !r->rows_left)
            rc = end_group(r, err);
        if (rc) {
            r->failed = true;
            out->len = begin;
            return rc;
        }
    }
    return *rows > 0;
}
