#include "archive/parquet_format.h"

#include <stdio.h>
#include <string.h>

/* ---- from a stream ---- */

size_t tm_parquet_columns(const struct tm_stream *stream, enum tm_copy_side side,
                          struct tm_parquet_column out[TM_COLUMNS_MAX])
{
    size_t count = side == TM_COPY_LOCAL ? stream->column_count : stream->production_count, seq = stream->column_count;
    for (size_t i = 0; i < count; i++) {
        const struct tm_column *c = &stream->columns[i];
        out[i] = (struct tm_parquet_column){.name = c->name, .type = c->type, .scale = c->scale, .nullable = true};
    }
    if (side == TM_COPY_PRODUCTION && stream->observer)
        out[count++] = (struct tm_parquet_column){
            .name = stream->columns[seq - 1].name, .type = stream->columns[seq - 1].type, .nullable = true};
    return count;
}

/* ---- types ---- */

/* LogicalTypes.md, "DECIMAL": precision is the digits that the values need, at most 9 on INT32 and 18 on INT64. */
static struct tm_parquet_form integer_form(const struct tm_parquet_column *c)
{
    static const struct tm_parquet_form plain[] = {
        [TM_TYPE_INT2] = {TM_PARQUET_INT32, 4, TM_PARQUET_INTEGER, .bits = 16, .converted = 16},
        [TM_TYPE_INT4] = {TM_PARQUET_INT32, 4, TM_PARQUET_NONE, .converted = -1},
        [TM_TYPE_INT8] = {TM_PARQUET_INT64, 8, TM_PARQUET_NONE, .converted = -1},
    };
    static const int digits[] = {[TM_TYPE_INT2] = 5, [TM_TYPE_INT4] = 10, [TM_TYPE_INT8] = 18};
    if (!c->scale)
        return plain[c->type];
    int precision = c->scale > digits[c->type] ? c->scale : digits[c->type];
    bool narrow = precision <= 9;
    return (struct tm_parquet_form){.physical = narrow ? TM_PARQUET_INT32 : TM_PARQUET_INT64,
                                    .width = narrow ? 4 : 8,
                                    .logical = TM_PARQUET_DECIMAL,
                                    .scale = c->scale,
                                    .precision = precision,
                                    .converted = 5};
}

struct tm_parquet_form tm_parquet_form_of(const struct tm_parquet_column *column)
{
    static const struct tm_parquet_form forms[] = {
        [TM_TYPE_BOOL] = {TM_PARQUET_BOOLEAN, 0, TM_PARQUET_NONE, .converted = -1},
        [TM_TYPE_FLOAT8] = {TM_PARQUET_DOUBLE, 8, TM_PARQUET_NONE, .converted = -1},
        [TM_TYPE_TEXT] = {TM_PARQUET_BYTE_ARRAY, 0, TM_PARQUET_STRING, .converted = 0},
        [TM_TYPE_UUID] = {TM_PARQUET_FIXED, 16, TM_PARQUET_UUID, .converted = -1},
        [TM_TYPE_TIMESTAMPTZ] = {TM_PARQUET_INT64, 8, TM_PARQUET_TIMESTAMP, .converted = 10},
        [TM_TYPE_JSONB] = {TM_PARQUET_BYTE_ARRAY, 0, TM_PARQUET_JSON, .converted = 19},
        [TM_TYPE_BYTEA] = {TM_PARQUET_BYTE_ARRAY, 0, TM_PARQUET_NONE, .converted = -1},
    };
    bool integer = column->type == TM_TYPE_INT2 || column->type == TM_TYPE_INT4 || column->type == TM_TYPE_INT8;
    return integer ? integer_form(column) : forms[column->type];
}

const char *tm_parquet_type_text(const struct tm_parquet_column *column, char out[48])
{
    static const char *const names[] = {"bool", "int2", "int4",        "int8",  "float8",
                                        "text", "uuid", "timestamptz", "jsonb", "bytea"};
    int n = snprintf(out, 48, "%s", names[column->type]);
    if (column->scale)
        snprintf(out + n, 48 - (size_t)n, " with scale %d", column->scale);
    return out;
}

int tm_parquet_check_columns(const struct tm_parquet_column *columns, size_t count, struct tm_error *err)
{
    if (count < 1 || count > TM_COLUMNS_MAX)
        return tm_error_set(err, TM_EINVAL, "expected 1 to %d columns, got %zu", TM_COLUMNS_MAX, count);
    for (size_t i = 0; i < count; i++) {
        const struct tm_parquet_column *c = &columns[i];
        bool integer = c->type == TM_TYPE_INT2 || c->type == TM_TYPE_INT4 || c->type == TM_TYPE_INT8;
        if (!c->name || !*c->name || (unsigned)c->type > TM_TYPE_BYTEA)
            return tm_error_set(err, TM_EINVAL, "column %zu: expected a name and a type", i + 1);
        if (c->scale < 0 || c->scale > 9 || (c->scale && !integer))
            return tm_error_set(err, TM_EINVAL, "column \"%s\": expected a scale of 0 to 9 on an integer, got %d",
                                c->name, c->scale);
        for (size_t k = 0; k < i; k++)
            if (strcmp(columns[k].name, c->name) == 0)
                return tm_error_set(err, TM_EINVAL, "two columns are named \"%s\"", c->name);
    }
    return TM_OK;
}

/* ---- SchemaElement ---- */

static void put_logical(struct tm_thrift_out *t, const struct tm_parquet_form *form)
{
    tm_thrift_put_struct(t, 10);
    tm_thrift_put_struct(t, (int)form->logical);
    if (form->logical == TM_PARQUET_DECIMAL) {
        tm_thrift_put_i32(t, 1, form->scale);
        tm_thrift_put_i32(t, 2, form->precision);
    } else if (form->logical == TM_PARQUET_INTEGER) {
        tm_thrift_put_i8(t, 1, (int8_t)form->bits);
        tm_thrift_put_bool(t, 2, true);
    } else if (form->logical == TM_PARQUET_TIMESTAMP) {
        tm_thrift_put_bool(t, 1, true); /* isAdjustedToUTC */
        tm_thrift_put_struct(t, 2);
        tm_thrift_put_empty(t, 2); /* MICROS */
        tm_thrift_put_end(t);
    }
    tm_thrift_put_end(t);
    tm_thrift_put_end(t);
}

static void put_leaf(struct tm_thrift_out *t, const struct tm_parquet_column *c)
{
    struct tm_parquet_form form = tm_parquet_form_of(c);
    tm_thrift_put_struct(t, 0);
    tm_thrift_put_i32(t, 1, (int32_t)form.physical);
    if (form.physical == TM_PARQUET_FIXED)
        tm_thrift_put_i32(t, 2, form.width);
    tm_thrift_put_i32(t, 3, c->nullable ? TM_PARQUET_OPTIONAL : TM_PARQUET_REQUIRED);
    tm_thrift_put_string(t, 4, c->name);
    if (form.converted >= 0)
        tm_thrift_put_i32(t, 6, form.converted);
    if (form.logical == TM_PARQUET_DECIMAL) {
        tm_thrift_put_i32(t, 7, form.scale);
        tm_thrift_put_i32(t, 8, form.precision);
    }
    if (form.logical != TM_PARQUET_NONE)
        put_logical(t, &form);
    tm_thrift_put_end(t);
}

void tm_parquet_put_schema(struct tm_thrift_out *t, const struct tm_parquet_column *columns, size_t count)
{
    tm_thrift_put_list(t, 2, TM_THRIFT_STRUCT, count + 1);
    tm_thrift_put_struct(t, 0);
    tm_thrift_put_string(t, 4, "schema");
    tm_thrift_put_i32(t, 5, (int32_t)count);
    tm_thrift_put_end(t);
    for (size_t i = 0; i < count; i++)
        put_leaf(t, &columns[i]);
}

struct element {
    struct tm_parquet_form form;
    int repetition, children; /* -1: not said */
    const uint8_t *name;
    size_t name_len;
};

/* TimeUnit, of which only MICROS is taken. */
static void get_unit(struct tm_thrift_in *t, struct tm_thrift_field outer)
{
    for (struct tm_thrift_field f = tm_thrift_enter(t, outer); tm_thrift_next(t, &f);) {
        if (f.id != 2)
            tm_thrift_fault(t, "a timestamp that is not of microseconds");
        tm_thrift_skip(t, f);
    }
}

static void get_annotation(struct tm_thrift_in *t, struct tm_thrift_field outer, struct tm_parquet_form *form)
{
    for (struct tm_thrift_field f = tm_thrift_enter(t, outer); tm_thrift_next(t, &f);) {
        if (form->logical == TM_PARQUET_DECIMAL && f.id <= 2)
            *(f.id == 1 ? &form->scale : &form->precision) = tm_thrift_i32(t, f);
        else if (form->logical == TM_PARQUET_INTEGER && f.id == 1)
            form->bits = tm_thrift_i32(t, f);
        else if ((form->logical == TM_PARQUET_INTEGER && f.id == 2) ||
                 (form->logical == TM_PARQUET_TIMESTAMP && f.id == 1)) {
            if (!tm_thrift_bool(t, f))
                tm_thrift_fault(t, "an unsigned integer, or a timestamp that is not UTC");
        } else if (form->logical == TM_PARQUET_TIMESTAMP && f.id == 2)
            get_unit(t, f);
        else
            tm_thrift_skip(t, f);
    }
}

static void get_logical(struct tm_thrift_in *t, struct tm_thrift_field outer, struct tm_parquet_form *form)
{
    for (struct tm_thrift_field f = tm_thrift_enter(t, outer); tm_thrift_next(t, &f);) {
        form->logical = (enum tm_parquet_logical)f.id;
        get_annotation(t, f, form);
    }
}

static struct element get_element(struct tm_thrift_in *t, struct tm_thrift_field outer)
{
    struct element e = {.form = {.physical = (enum tm_parquet_physical)-1, .converted = -1}, .repetition = -1};
    e.children = -1;
    for (struct tm_thrift_field f = tm_thrift_enter(t, outer); tm_thrift_next(t, &f);) {
        if (f.id == 1)
            e.form.physical = (enum tm_parquet_physical)tm_thrift_i32(t, f);
        else if (f.id == 2)
            e.form.width = tm_thrift_i32(t, f);
        else if (f.id == 3)
            e.repetition = tm_thrift_i32(t, f);
        else if (f.id == 4)
            e.name = tm_thrift_binary(t, f, &e.name_len);
        else if (f.id == 5)
            e.children = tm_thrift_i32(t, f);
        else if (f.id == 6)
            e.form.converted = tm_thrift_i32(t, f);
        else if (f.id == 10)
            get_logical(t, f, &e.form);
        else
            tm_thrift_skip(t, f);
    }
    return e;
}

/* The type of ours that is told so; false: none is. */
static bool match_type(const struct tm_parquet_form *form, struct tm_parquet_column *c)
{
    for (int type = TM_TYPE_BOOL; type <= TM_TYPE_BYTEA; type++) {
        c->type = (enum tm_type)type;
        c->scale = tm_parquet_is_integer(c->type) && c->type != TM_TYPE_TIMESTAMPTZ ? form->scale : 0;
        struct tm_parquet_form own = tm_parquet_form_of(c);
        bool sized = form->physical != TM_PARQUET_FIXED || form->width == own.width;
        if (own.physical == form->physical && own.logical == form->logical && own.scale == form->scale &&
            own.precision == form->precision && own.bits == form->bits && own.converted == form->converted && sized)
            return true;
    }
    return false;
}

static void get_leaf(struct tm_thrift_in *t, struct tm_thrift_field f, struct tm_parquet_column *c,
                     struct tm_buf *names)
{
    struct element e = get_element(t, f);
    *c = (struct tm_parquet_column){.nullable = e.repetition == TM_PARQUET_OPTIONAL};
    if (t->fault)
        return;
    if (e.children > 0 || (e.repetition != TM_PARQUET_OPTIONAL && e.repetition != TM_PARQUET_REQUIRED))
        tm_thrift_fault(t, "a nested or repeated column, expected flat ones");
    else if (!e.name_len || e.name_len > 255 || memchr(e.name, 0, e.name_len))
        tm_thrift_fault(t, "a column whose name is empty, too long or has a NUL");
    else if (e.form.scale < 0 || e.form.scale > 9 || !match_type(&e.form, c))
        tm_thrift_fault(t, "a column of a type that the archive does not use");
    else if (tm_buf_append(names, e.name, e.name_len) || tm_buf_append(names, "", 1))
        tm_thrift_fault(t, "out of memory");
}

size_t tm_parquet_get_schema(struct tm_thrift_in *t, struct tm_thrift_field f,
                             struct tm_parquet_column columns[TM_COLUMNS_MAX], struct tm_buf *names)
{
    struct tm_thrift_field of;
    size_t count = tm_thrift_list(t, f, &of);
    if (!t->fault && (count < 2 || count > TM_COLUMNS_MAX + 1))
        tm_thrift_fault(t, "expected 1 to 64 columns");
    if (t->fault)
        return 0;
    struct element root = get_element(t, of);
    if (root.children != (int)count - 1)
        tm_thrift_fault(t, "a nested schema, expected a flat one");
    for (size_t i = 0; i + 1 < count && !t->fault; i++)
        get_leaf(t, of, &columns[i], names);
    return t->fault ? 0 : count - 1;
}
