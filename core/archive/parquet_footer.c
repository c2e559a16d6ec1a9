#include "archive/parquet_footer.h"

#include <string.h>

struct reading {
    struct tm_thrift_in t;
    struct tm_parquet_footer *f;
    uint64_t next; /* where in the file the next chunk must begin */
    uint64_t end;  /* where the footer begins */
    size_t memory_max;
    uint64_t rows; /* sum of the groups' */
};

static void fault(struct reading *r, const char *what)
{
    tm_thrift_fault(&r->t, what);
}

/* ---- Statistics ---- */

/* PLAIN, little-endian, of the column's width; false: another length. */
static bool get_bound(struct reading *r, struct tm_thrift_field f, int width, int64_t *v)
{
    size_t len;
    const uint8_t *bytes = tm_thrift_binary(&r->t, f, &len);
    if (len != (size_t)width)
        return false;
    int32_t narrow;
    if (width == 4) {
        memcpy(&narrow, bytes, 4);
        *v = narrow;
    } else {
        memcpy(v, bytes, 8);
    }
    return true;
}

static void get_statistics(struct reading *r, struct tm_thrift_field outer, const struct tm_parquet_column *c,
                           struct tm_parquet_place *p)
{
    int width = tm_parquet_form_of(c).width;
    bool integer = tm_parquet_is_integer(c->type), min = false, max = false;
    for (struct tm_thrift_field f = tm_thrift_enter(&r->t, outer); tm_thrift_next(&r->t, &f);) {
        if (f.id == 3)
            p->nulls = tm_thrift_i64(&r->t, f);
        else if (f.id == 5 && integer)
            max = get_bound(r, f, width, &p->max);
        else if (f.id == 6 && integer)
            min = get_bound(r, f, width, &p->min);
        else
            tm_thrift_skip(&r->t, f);
    }
    p->bounded = min && max;
    if (p->bounded && p->min > p->max)
        fault(r, "statistics whose min is above their max");
}

/* ---- ColumnMetaData ---- */

static void get_path(struct reading *r, struct tm_thrift_field f, const struct tm_parquet_column *c)
{
    struct tm_thrift_field of;
    size_t len = 0, count = tm_thrift_list(&r->t, f, &of);
    const uint8_t *name = count == 1 ? tm_thrift_binary(&r->t, of, &len) : NULL;
    if (!name || len != strlen(c->name) || memcmp(name, c->name, len) != 0)
        fault(r, "a column chunk under another name than its column's");
}

struct offsets {
    int64_t values, compressed, data_at, dictionary_at;
    int codec, physical;
};

static bool get_offset(struct reading *r, struct tm_thrift_field f, struct offsets *o)
{
    if (f.id == 1)
        o->physical = tm_thrift_i32(&r->t, f);
    else if (f.id == 4)
        o->codec = tm_thrift_i32(&r->t, f);
    else if (f.id == 5)
        o->values = tm_thrift_i64(&r->t, f);
    else if (f.id == 7)
        o->compressed = tm_thrift_i64(&r->t, f);
    else if (f.id == 9)
        o->data_at = tm_thrift_i64(&r->t, f);
    else if (f.id == 11)
        o->dictionary_at = tm_thrift_i64(&r->t, f);
    else
        return false;
    return true;
}

/* The chunk begins where the last one ended, and ends before the footer. */
static void check_place(struct reading *r, const struct offsets *o, struct tm_parquet_place *p)
{
    p->dictionary = o->dictionary_at > 0;
    int64_t first = p->dictionary ? o->dictionary_at : o->data_at;
    if (o->codec != TM_PARQUET_ZSTD)
        fault(r, "a column chunk that is not compressed with ZSTD");
    else if (first < 0 || (uint64_t)first != r->next || o->data_at < first)
        fault(r, "a column chunk that does not begin where the one before it ends");
    else if (o->compressed <= 0 || (uint64_t)o->compressed > r->end - r->next)
        fault(r, "a column chunk that is empty or reaches beyond the footer");
    if (r->t.fault)
        return;
    p->at = r->next;
    p->bytes = (uint64_t)o->compressed;
    r->next += p->bytes;
}

static int64_t get_column_meta(struct reading *r, struct tm_thrift_field outer, const struct tm_parquet_column *c,
                               struct tm_parquet_place *p)
{
    struct offsets o = {.values = -1, .data_at = -1, .physical = -1, .codec = -1};
    bool path = false;
    for (struct tm_thrift_field f = tm_thrift_enter(&r->t, outer); tm_thrift_next(&r->t, &f);) {
        if (f.id == 3) {
            get_path(r, f, c);
            path = true;
        } else if (f.id == 12) {
            get_statistics(r, f, c, p);
        } else if (!get_offset(r, f, &o)) {
            tm_thrift_skip(&r->t, f);
        }
    }
    if (!path || o.physical != (int)tm_parquet_form_of(c).physical)
        fault(r, "a column chunk of another name or type than its column's");
    check_place(r, &o, p);
    return o.values;
}

static void get_chunk(struct reading *r, struct tm_thrift_field outer, const struct tm_parquet_column *c,
                      struct tm_parquet_place *p, int64_t *values)
{
    bool meta = false;
    *p = (struct tm_parquet_place){.nulls = -1};
    for (struct tm_thrift_field f = tm_thrift_enter(&r->t, outer); tm_thrift_next(&r->t, &f);) {
        if (f.id == 3 && !meta) {
            *values = get_column_meta(r, f, c, p);
            meta = true;
        } else if (f.id == 1 || f.id == 8 || f.id == 9) {
            fault(r, "a column chunk in another file, or encrypted");
        } else {
            tm_thrift_skip(&r->t, f);
        }
    }
    if (!meta)
        fault(r, "a column chunk without its metadata");
}

/* ---- RowGroup ---- */

static void get_chunks(struct reading *r, struct tm_thrift_field outer, int64_t values[TM_COLUMNS_MAX])
{
    struct tm_parquet_footer *f = r->f;
    struct tm_thrift_field of;
    size_t count = tm_thrift_list(&r->t, outer, &of), size = sizeof(struct tm_parquet_place);
    if (!r->t.fault && count != f->column_count)
        fault(r, "a row group with another number of columns than the schema");
    if (!r->t.fault && f->places.len + (count + 1) * size > r->memory_max / 2)
        fault(r, "more row groups than memory is allowed for");
    if (r->t.fault)
        return;
    if (tm_buf_reserve(&f->places, count * size)) {
        fault(r, "out of memory");
        return;
    }
    struct tm_parquet_place *p = (struct tm_parquet_place *)(void *)(f->places.data + f->places.len);
    for (size_t i = 0; i < count && !r->t.fault; i++)
        get_chunk(r, of, &f->columns[i], &p[i], &values[i]);
    f->places.len += count * size;
}

static void get_group(struct reading *r, struct tm_thrift_field outer)
{
    int64_t values[TM_COLUMNS_MAX], rows = -1;
    bool chunks = false;
    for (struct tm_thrift_field f = tm_thrift_enter(&r->t, outer); tm_thrift_next(&r->t, &f);) {
        if (f.id == 1 && !chunks) {
            get_chunks(r, f, values);
            chunks = true;
        } else if (f.id == 3) {
            rows = tm_thrift_i64(&r->t, f);
        } else {
            tm_thrift_skip(&r->t, f);
        }
    }
    if (!chunks || rows < 1 || rows > TM_PARQUET_GROUP_ROWS_MAX)
        fault(r, "a row group without columns, without rows, or of more than 1,048,576 rows");
    for (size_t i = 0; i < r->f->column_count && !r->t.fault; i++) {
        const struct tm_parquet_place *p = tm_parquet_place(r->f, r->f->group_count, i);
        if (values[i] != rows || p->nulls > rows || p->nulls < -1)
            fault(r, "a column chunk with another number of values than its row group has rows");
    }
    uint64_t number = (uint64_t)rows;
    if (!r->t.fault && tm_buf_append(&r->f->group_rows, &number, sizeof number))
        fault(r, "out of memory");
    r->rows += number;
    r->f->group_count += !r->t.fault;
}

static void get_groups(struct reading *r, struct tm_thrift_field f)
{
    struct tm_thrift_field of;
    size_t count = tm_thrift_list(&r->t, f, &of);
    if (!r->f->column_count)
        fault(r, "row groups before the schema");
    for (; count && !r->t.fault; count--)
        get_group(r, of);
}

/* ---- FileMetaData ---- */

static void get_columns(struct reading *r, struct tm_thrift_field f)
{
    if (r->f->column_count)
        fault(r, "two schemas");
    r->f->column_count = r->t.fault ? 0 : tm_parquet_get_schema(&r->t, f, r->f->columns, &r->f->texts);
    char *name = (char *)r->f->texts.data; /* until the texts are complete, which may move them */
    for (size_t i = 0; i < r->f->column_count; i++, name += strlen(name) + 1)
        r->f->columns[i].name = name;
    struct tm_error err;
    if (r->f->column_count && tm_parquet_check_columns(r->f->columns, r->f->column_count, &err))
        fault(r, "two columns of one name");
}

static void keep_text(struct reading *r, const uint8_t *bytes, size_t len)
{
    if (len && memchr(bytes, 0, len))
        fault(r, "a text with a NUL");
    else if (tm_buf_append(&r->f->texts, bytes, len) || tm_buf_append(&r->f->texts, "", 1))
        fault(r, "out of memory");
}

static void get_pair(struct reading *r, struct tm_thrift_field outer)
{
    const uint8_t *text[2] = {NULL, NULL};
    size_t len[2] = {0, 0};
    for (struct tm_thrift_field f = tm_thrift_enter(&r->t, outer); tm_thrift_next(&r->t, &f);) {
        if (f.id == 1 || f.id == 2)
            text[f.id - 1] = tm_thrift_binary(&r->t, f, &len[f.id - 1]);
        else
            tm_thrift_skip(&r->t, f);
    }
    if (!text[0])
        fault(r, "metadata without a key");
    if (r->t.fault)
        return;
    keep_text(r, text[0], len[0]);
    keep_text(r, text[1], len[1]);
    r->f->meta_count++;
}

static void get_meta(struct reading *r, struct tm_thrift_field f)
{
    struct tm_thrift_field of;
    size_t count = tm_thrift_list(&r->t, f, &of);
    if (r->f->meta_count)
        fault(r, "two lists of metadata");
    r->f->meta_at = r->f->texts.len;
    for (; count && !r->t.fault; count--)
        get_pair(r, of);
}

static void get_created_by(struct reading *r, struct tm_thrift_field f)
{
    size_t len;
    const uint8_t *bytes = tm_thrift_binary(&r->t, f, &len);
    r->f->created_by_at = r->f->texts.len;
    keep_text(r, bytes, len);
}

static void get_file(struct reading *r)
{
    int64_t rows = -1;
    for (struct tm_thrift_field f = tm_thrift_enter(&r->t, (struct tm_thrift_field){0}); tm_thrift_next(&r->t, &f);) {
        if (f.id == 2)
            get_columns(r, f);
        else if (f.id == 3)
            rows = tm_thrift_i64(&r->t, f);
        else if (f.id == 4)
            get_groups(r, f);
        else if (f.id == 5)
            get_meta(r, f);
        else if (f.id == 6)
            get_created_by(r, f);
        else
            tm_thrift_skip(&r->t, f);
    }
    if (!r->t.fault && r->t.at != r->t.end)
        fault(r, "bytes behind its end");
    if (!r->f->column_count)
        fault(r, "no schema");
    if (rows < 0 || (uint64_t)rows != r->rows)
        fault(r, "row groups that do not add up to the file's rows");
    if (r->next != r->end)
        fault(r, "bytes between the last column chunk and the footer");
    r->f->rows = r->rows;
}

/* The texts have come to rest. */
static void set_names(struct tm_parquet_footer *f)
{
    char *name = (char *)f->texts.data;
    for (size_t i = 0; i < f->column_count; i++, name += strlen(name) + 1)
        f->columns[i].name = name;
}

int tm_parquet_footer_read(struct tm_parquet_footer *f, const uint8_t *bytes, size_t len, uint64_t at,
                           size_t memory_max, struct tm_error *err)
{
    struct reading r = {.f = f, .next = TM_PARQUET_MAGIC_BYTES, .end = at, .memory_max = memory_max};
    *f = (struct tm_parquet_footer){0};
    tm_thrift_in_init(&r.t, bytes, len);
    get_file(&r);
    if (r.t.fault)
        return tm_error_set(err, TM_ECORRUPT, "the footer, row group %zu, at byte %llu: %s", f->group_count,
                            (unsigned long long)(at + r.t.fault_at), r.t.fault);
    set_names(f);
    return TM_OK;
}

void tm_parquet_footer_fini(struct tm_parquet_footer *f)
{
    tm_buf_fini(&f->group_rows);
    tm_buf_fini(&f->places);
    tm_buf_fini(&f->texts);
}
