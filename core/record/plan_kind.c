/* Kinds: turning the sources of a kind's columns into a program of emits. */
#include "record/compiled.h"
#include "record/convert.h"
#include "record/scanner.h"

#include "base/endian.h"

#include <string.h>

#define FAULT(...) tm_error_set(err, TM_EINVAL, __VA_ARGS__)

/* What the parts of one kind are compiled with. */
struct building {
    struct tm_plan *plan;
    const struct tm_kind_def *def;
    struct tm_program *program;
    const struct tm_stream *stream;
    struct tm_error *err;
};

/* ---- paths ---- */

static struct tm_tree *frame_tree(const struct building *b)
{
    return b->program->tree ? b->program->tree : &b->plan->tree;
}

static int add_path(const struct building *b, const char *path, struct tm_place *out)
{
    bool whole = strncmp(path, "$.", 2) == 0;
    struct tm_tree *tree = whole || !b->program->element_tree ? frame_tree(b) : b->program->element_tree;
    int rc = tm_tree_add(tree, b->plan->arena, whole ? path + 2 : path, out, b->err);
    out->whole_frame = whole || !b->program->element_tree;
    return rc;
}

static int add_optional(const struct building *b, const char *path, struct tm_place *out)
{
    return path ? add_path(b, path, out) : TM_OK;
}

/* ---- readings ---- */

static bool unit_fits(enum tm_type type, enum tm_unit unit)
{
    switch (type) {
    case TM_TYPE_INT2:
    case TM_TYPE_INT4:
    case TM_TYPE_INT8:
        return unit == TM_UNIT_PLAIN || unit == TM_UNIT_DECIMAL;
    case TM_TYPE_TIMESTAMPTZ:
        return unit >= TM_UNIT_RFC3339 && unit <= TM_UNIT_MICROS;
    case TM_TYPE_BOOL:
    case TM_TYPE_FLOAT8:
    case TM_TYPE_TEXT:
    case TM_TYPE_UUID:
    case TM_TYPE_JSONB:
    case TM_TYPE_BYTEA:
        return unit == TM_UNIT_PLAIN;
    }
    return false;
}

static int check_reading(const struct tm_column *c, const struct tm_path_def *p, struct tm_error *err)
{
    if (!p->path)
        return FAULT("a path is missing");
    if (!unit_fits(c->type, p->unit))
        return FAULT("path \"%s\": the unit does not go with the column's type (integers: plain or decimal; "
                     "timestamptz: rfc3339, seconds, millis or micros; others: plain)",
                     p->path);
    int scale = p->unit == TM_UNIT_DECIMAL ? p->scale : 0;
    if (scale < 0 || scale > TM_DECIMAL_SCALE_MAX)
        return FAULT("path \"%s\": scale is %d, expected 0 to %d", p->path, scale, TM_DECIMAL_SCALE_MAX);
    if (c->scale && scale != c->scale)
        return FAULT("path \"%s\": scale is %d but the column is declared with %d", p->path, scale, c->scale);
    if (p->one_minus && p->unit != TM_UNIT_DECIMAL)
        return FAULT("path \"%s\": one_minus is for decimals only", p->path);
    return TM_OK;
}

/* What turns a timestamp's count into microseconds, as a power of ten. */
static uint8_t reading_scale(const struct tm_path_def *p)
{
    switch (p->unit) {
    case TM_UNIT_DECIMAL:
        return (uint8_t)p->scale;
    case TM_UNIT_SECONDS:
        return 6;
    case TM_UNIT_MILLIS:
        return 3;
    default:
        return 0;
    }
}

static enum tm_emit_op value_op(enum tm_type type)
{
    static const enum tm_emit_op ops[] = {
        [TM_TYPE_BOOL] = TM_EMIT_BOOL,  [TM_TYPE_INT2] = TM_EMIT_INT,         [TM_TYPE_INT4] = TM_EMIT_INT,
        [TM_TYPE_INT8] = TM_EMIT_INT,   [TM_TYPE_FLOAT8] = TM_EMIT_FLOAT,     [TM_TYPE_TEXT] = TM_EMIT_TEXT,
        [TM_TYPE_UUID] = TM_EMIT_UUID,  [TM_TYPE_TIMESTAMPTZ] = TM_EMIT_TIME, [TM_TYPE_JSONB] = TM_EMIT_JSONB,
        [TM_TYPE_BYTEA] = TM_EMIT_TEXT,
    };
    return ops[type];
}

/* The allowed values as words, if they are short enough to be compared so. */
static void take_allowed(const struct building *b, struct tm_emit *emit)
{
    const char *const *one_of = emit->column->one_of;
    size_t count = 0;
    for (; one_of && one_of[count]; count++)
        if (strlen(one_of[count]) > sizeof(uint64_t))
            return;
    if (!count || count > UINT8_MAX)
        return;
    uint64_t *words = tm_arena_alloc(b->plan->arena, count * sizeof *words);
    for (size_t i = 0; i < count; i++) {
        words[i] = 0;
        memcpy(&words[i], one_of[i], strlen(one_of[i]));
    }
    emit->allowed = words;
    emit->allowed_count = (uint8_t)count;
}

/* The values that both the column's type and its range hold. */
static void take_range(struct tm_emit *emit)
{
    const struct tm_column *c = emit->column;
    struct tm_range r = c->type == TM_TYPE_INT2   ? (struct tm_range){INT16_MIN, INT16_MAX}
                        : c->type == TM_TYPE_INT4 ? (struct tm_range){INT32_MIN, INT32_MAX}
                                                  : (struct tm_range){INT64_MIN, INT64_MAX};
    if (c->range && c->range->min > r.min)
        r.min = c->range->min;
    if (c->range && c->range->max < r.max)
        r.max = c->range->max;
    emit->min = r.min;
    emit->span = (uint64_t)r.max - (uint64_t)r.min;
}

static enum tm_quick quick_way(const struct tm_emit *emit, const struct tm_reading *r)
{
    if (r->place.index_count || r->one_minus)
        return TM_QUICK_NONE;
    switch (emit->column->type) {
    case TM_TYPE_INT8:
        return TM_QUICK_INT8;
    case TM_TYPE_INT4:
        return TM_QUICK_INT4;
    case TM_TYPE_TEXT:
        return TM_QUICK_TEXT;
    case TM_TYPE_TIMESTAMPTZ:
        return r->unit == TM_UNIT_RFC3339 ? TM_QUICK_RFC3339 : TM_QUICK_NONE;
    default:
        return TM_QUICK_NONE;
    }
}

static void take_quick(struct tm_emit *emit, const struct tm_reading *first)
{
    emit->quick = (uint8_t)quick_way(emit, first);
    emit->scale = first->scale;
    emit->node = first->place.node;
    emit->whole_frame = first->place.whole_frame;
}

static int take_readings(const struct building *b, const struct tm_source_def *source, struct tm_emit *emit)
{
    struct tm_error *err = b->err;
    if (!source->path_count || source->path_count > TM_PATHS_MAX)
        return FAULT("%zu paths, expected 1 to %d", source->path_count, TM_PATHS_MAX);
    struct tm_reading *readings = tm_arena_alloc(b->plan->arena, source->path_count * sizeof *readings);
    for (size_t i = 0; i < source->path_count; i++) {
        const struct tm_path_def *p = &source->paths[i];
        int rc = check_reading(emit->column, p, err);
        if (!rc)
            rc = add_path(b, p->path, &readings[i].place);
        if (rc)
            return rc;
        readings[i].unit = p->unit;
        readings[i].one_minus = p->one_minus;
        readings[i].scale = reading_scale(p);
    }
    emit->op = (uint8_t)value_op(emit->column->type);
    emit->readings = readings;
    take_quick(emit, &readings[0]);
    emit->reading_count = (uint8_t)source->path_count;
    take_allowed(b, emit);
    take_range(emit);
    return TM_OK;
}

/* ---- columns ---- */

static void take_bytes(const struct building *b, struct tm_emit *emit, const void *bytes, size_t len)
{
    uint8_t *field = tm_arena_alloc(b->plan->arena, len + 4 + TM_EMIT_SLACK);
    tm_put_be32(field, (uint32_t)len);
    memcpy(field + 4, bytes, len);
    emit->op = TM_EMIT_BYTES;
    emit->bytes = field;
    emit->len = (uint32_t)len + 4;
}

static int take_constant(const struct building *b, struct tm_emit *emit, const char *text)
{
    struct tm_error *err = b->err;
    const struct tm_column *c = emit->column;
    if (c->type != TM_TYPE_TEXT)
        return FAULT("only a text column can be the tag or a constant");
    if (!text || !tm_text_storable(text, strlen(text)))
        return FAULT("a constant needs a text in UTF-8");
    bool allowed = !c->one_of;
    for (const char *const *one = c->one_of; one && *one; one++)
        allowed |= strcmp(*one, text) == 0;
    if (!allowed)
        return FAULT("\"%s\" is not among the column's allowed values", text);
    take_bytes(b, emit, text, strlen(text));
    return TM_OK;
}

static int take_raw(struct tm_emit *emit, struct tm_error *err)
{
    enum tm_type type = emit->column->type;
    if (type != TM_TYPE_JSONB && type != TM_TYPE_TEXT && type != TM_TYPE_BYTEA)
        return FAULT("the raw frame goes into a jsonb, text or bytea column");
    emit->op = TM_EMIT_RAW;
    return TM_OK;
}

static int take_source(const struct building *b, const struct tm_source_def *source, struct tm_emit *emit)
{
    struct tm_error *err = b->err;
    const struct tm_column *c = emit->column;
    switch (source->from) {
    case TM_FROM_PATHS:
        return take_readings(b, source, emit);
    case TM_FROM_TAG:
        return take_constant(b, emit, b->def->tag);
    case TM_FROM_CONST:
        return take_constant(b, emit, source->text);
    case TM_FROM_RAW:
        return take_raw(emit, err);
    case TM_FROM_RECEIVED_AT:
        emit->op = TM_EMIT_RECEIVED;
        return c->type == TM_TYPE_TIMESTAMPTZ ? TM_OK : FAULT("the time of arrival needs a timestamptz column");
    case TM_FROM_OCCURRENCE:
        emit->op = TM_EMIT_OCCURRENCE;
        return c - b->stream->columns == b->stream->occurrence_column
                   ? TM_OK
                   : FAULT("the stream does not count occurrences in this column");
    case TM_FROM_NULL:
        return c->not_null ? FAULT("the column is not_null") : TM_OK;
    }
    return FAULT("unknown source %d", (int)source->from);
}

static int take_sources(const struct building *b)
{
    struct tm_error *err = b->err;
    bool fed[TM_COLUMNS_MAX] = {false};
    for (size_t i = 0; i < b->def->source_count; i++) {
        const struct tm_source_def *source = &b->def->sources[i];
        const char *name = source->column ? source->column : "";
        int column = tm_stream_column(b->stream, name);
        if (column < 0 || column >= b->program->emit_count)
            return FAULT("column \"%s\" is not declared by stream \"%s\"", name, b->stream->name);
        if (fed[column])
            return FAULT("column \"%s\" has two sources; alternatives are paths of one source", name);
        fed[column] = true;
        if (take_source(b, source, &b->program->emits[column]))
            return tm_error_wrap(err, "column \"%s\"", name);
    }
    for (int i = 0; i < b->program->emit_count; i++) {
        const struct tm_column *c = &b->stream->columns[i];
        if (!fed[i] && c->not_null)
            return FAULT("column \"%s\" is not_null but has no source", c->name);
        if (i == b->stream->occurrence_column && b->program->emits[i].op != TM_EMIT_OCCURRENCE)
            return FAULT("column \"%s\" counts occurrences and must be fed so by every kind", c->name);
    }
    return TM_OK;
}

/* The columns that tm_stream_compile added. */
static void emit_added(const struct building *b)
{
    struct tm_program *p = b->program;
    for (uint16_t i = p->emit_count; i < b->stream->column_count; i++) {
        struct tm_emit *emit = &p->emits[i];
        const char *name = emit->column->name;
        static const uint8_t no_seq[8] = {0};
        if (strcmp(name, "gatherer") == 0)
            take_bytes(b, emit, b->plan->gatherer, strlen(b->plan->gatherer));
        else if (strcmp(name, "epoch") == 0)
            take_bytes(b, emit, b->plan->epoch, sizeof b->plan->epoch);
        else if (strcmp(name, "sid") == 0)
            emit->op = TM_EMIT_SID;
        else if (strcmp(name, "exchange_seq") == 0)
            emit->op = TM_EMIT_SEQUENCE;
        else
            take_bytes(b, emit, no_seq, sizeof no_seq);
    }
    p->emit_count = b->stream->column_count;
}

static uint32_t fixed_bytes(const struct tm_program *p)
{
    uint32_t sum = 2 + TM_EMIT_SLACK;
    for (uint16_t i = 0; i < p->emit_count; i++)
        sum += p->emits[i].op == TM_EMIT_BYTES ? p->emits[i].len : 4 + TM_EMIT_SLACK;
    return sum;
}

static int take_rows(struct building *b)
{
    struct tm_program *p = b->program;
    uint16_t added = b->stream->observer ? 5 : 3;
    p->emits = tm_arena_alloc(b->plan->arena, b->stream->column_count * sizeof *p->emits);
    p->emit_count = (uint16_t)(b->stream->column_count - added);
    for (int i = 0; i < b->stream->column_count; i++) {
        bool within = b->stream->within_us != 0;
        p->emits[i].column = &b->stream->columns[i];
        p->emits[i].is_indexed = within ? i == tm_stream_within_lead(b->stream) : b->stream->columns[i].in_key;
        p->emits[i].is_time = i == b->stream->time_column;
        p->emits[i].is_ticker = i == b->stream->ticker_column;
    }
    int rc = take_sources(b);
    if (rc)
        return rc;
    emit_added(b);
    p->fixed_bytes = fixed_bytes(p);
    return TM_OK;
}

/* ---- kinds ---- */

static int check_kind(const struct building *b)
{
    const struct tm_kind_def *d = b->def;
    bool data = d->role == TM_ROLE_DATA;
    const struct {
        bool wrong;
        const char *text;
    } rules[] = {
        {(unsigned)d->role > TM_ROLE_ERROR, "unknown role"},
        {data && !d->stream, "a kind of role data names the stream that it feeds"},
        {!data && (d->stream || d->each || d->source_count), "only a kind of role data feeds a stream"},
        {!data && d->document, "a document is a kind of role data"},
        {d->channel_path && d->role != TM_ROLE_SUBSCRIBED, "channel_path is for role subscribed"},
        {d->role == TM_ROLE_SUBSCRIBED && !d->channel_path, "role subscribed needs channel_path"},
        {(d->role == TM_ROLE_SUBSCRIBED || d->role == TM_ROLE_UNSUBSCRIBED) && !d->subscription_path &&
             !b->plan->sid.text,
         "subscription_path is missing, here and in the protocol"},
        {(d->code_path || d->text_path) && d->role != TM_ROLE_ERROR, "code_path and text_path are for role error"},
        {d->role == TM_ROLE_ERROR && !d->code_path, "role error needs code_path"},
        {d->document && (d->subscription_path || d->forward || d->opens),
         "a document has no subscription, opens none and is not forwarded"},
    };
    for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
        if (rules[i].wrong)
            return tm_error_set(b->err, TM_EINVAL, "%s", rules[i].text);
    return TM_OK;
}

/* The paths of the frame itself; `each` last, because from then on paths are the element's. */
static int take_frame_paths(const struct building *b)
{
    const struct tm_kind_def *d = b->def;
    struct tm_program *p = b->program;
    p->sid = b->plan->sid;
    int rc = add_optional(b, d->subscription_path, &p->sid);
    if (!rc)
        rc = add_optional(b, d->channel_path, &p->channel);
    if (!rc)
        rc = add_optional(b, d->code_path, &p->code);
    if (!rc)
        rc = add_optional(b, d->text_path, &p->message);
    if (!rc)
        rc = add_optional(b, d->each, &p->each);
    return rc;
}

static struct tm_tree *new_tree(struct tm_plan *plan)
{
    struct tm_tree *tree = tm_arena_alloc(plan->arena, sizeof *tree);
    tm_tree_init(tree, plan->arena);
    return tree;
}

static int compile(struct building *b)
{
    struct tm_program *p = b->program;
    struct tm_error *err = b->err;
    int rc = check_kind(b);
    if (rc)
        return rc;
    if (b->def->document)
        p->tree = new_tree(b->plan);
    rc = take_frame_paths(b);
    if (rc || b->def->role != TM_ROLE_DATA)
        return rc;
    b->stream = p->kind.stream = tm_plan_stream_by_name(b->plan, b->def->stream);
    if (!b->stream)
        return FAULT("stream \"%s\" is not declared", b->def->stream);
    if (b->def->each)
        p->element_tree = new_tree(b->plan);
    rc = take_rows(b);
    if (!rc && p->tree)
        tm_tree_finish(p->tree, b->plan->arena);
    if (!rc && p->element_tree)
        tm_tree_finish(p->element_tree, b->plan->arena);
    return rc;
}

int tm_kind_compile(struct tm_plan *plan, const struct tm_kind_def *def, size_t position, struct tm_program *out,
                    struct tm_error *err)
{
    if (!def->tag || !*def->tag)
        return FAULT("kind %zu: a tag is missing", position + 1);
    if (tm_plan_kind_by_tag(plan, def->tag))
        return FAULT("kind \"%s\": declared twice", def->tag);
    *out = (struct tm_program){.kind =
                                   {
                                       .tag = tm_arena_strdup(plan->arena, def->tag),
                                       .index = (uint16_t)position,
                                       .role = def->role,
                                       .forward = def->forward,
                                       .document = def->document,
                                   },
                               .tag_len = strlen(def->tag)};
    struct building b = {.plan = plan, .def = def, .program = out, .err = err};
    int rc = compile(&b);
    return rc ? tm_error_wrap(err, "kind \"%s\"", def->tag) : TM_OK;
}
