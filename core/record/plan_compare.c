#include "record/compiled.h"

#include <string.h>

#define FAULT(...) tm_error_set(err, TM_EINVAL, __VA_ARGS__)

/* Whoever adds a field compares it below, or says there why not: a reload that takes a changed plan for the same one
 * would leave the change out in silence. */
#if UINTPTR_MAX == UINT64_MAX
_Static_assert(sizeof(struct tm_column) == 40, "tm_column changed: see same_column");
_Static_assert(sizeof(struct tm_stream) == 2680, "tm_stream changed: see same_stream and tm_stream_keeps_seen");
_Static_assert(sizeof(struct tm_program) == 240, "tm_program changed: see same_program");
#endif

static bool same_text(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_list(const char *const *a, const char *const *b)
{
    if (!a || !b)
        return a == b;
    for (; *a && *b; a++, b++)
        if (strcmp(*a, *b) != 0)
            return false;
    return !*a && !*b;
}

static bool same_range(const struct tm_range *a, const struct tm_range *b)
{
    return a == b || (a && b && a->min == b->min && a->max == b->max);
}

/* ---- streams ---- */

static bool same_column(const struct tm_column *a, const struct tm_column *b)
{
    return same_text(a->name, b->name) && a->type == b->type && a->not_null == b->not_null && a->in_key == b->in_key &&
           a->local_only == b->local_only && a->scale == b->scale && same_list(a->one_of, b->one_of) &&
           same_range(a->range, b->range);
}

static bool same_places(const struct tm_stream *a, const struct tm_stream *b)
{
    return a->occurrence_column == b->occurrence_column && a->ticker_column == b->ticker_column &&
           a->time_column == b->time_column && a->partition_column == b->partition_column &&
           a->received_column == b->received_column;
}

static bool same_key(const struct tm_key *a, const struct tm_key *b)
{
    return a->from_us == b->from_us && a->version == b->version && a->counted == b->counted &&
           a->column_count == b->column_count &&
           memcmp(a->columns, b->columns, a->column_count * sizeof *a->columns) == 0 && a->run_count == b->run_count &&
           memcmp(a->runs, b->runs, a->run_count * sizeof *a->runs) == 0;
}

static bool same_keys(const struct tm_stream *a, const struct tm_stream *b)
{
    bool same = a->keys_count == b->keys_count;
    for (uint16_t i = 0; same && i < a->keys_count; i++)
        same = same_key(&a->keys[i], &b->keys[i]);
    return same;
}

/* All but the plan they are part of. */
static bool same_stream(const struct tm_stream *a, const struct tm_stream *b)
{
    bool same = same_text(a->name, b->name) && a->index == b->index && a->mode == b->mode &&
                a->column_count == b->column_count && a->production_count == b->production_count &&
                a->observer == b->observer && a->partition == b->partition && a->within_us == b->within_us &&
                a->window_us == b->window_us && a->memory_bytes_max == b->memory_bytes_max &&
                same_text(a->copy_columns, b->copy_columns) && same_places(a, b) && same_keys(a, b);
    for (uint16_t i = 0; same && i < a->column_count; i++)
        same = same_column(&a->columns[i], &b->columns[i]);
    return same;
}

bool tm_stream_same_rows(const struct tm_stream *a, const struct tm_stream *b)
{
    bool same = strcmp(a->name, b->name) == 0 && a->column_count == b->column_count &&
                a->production_count == b->production_count && a->observer == b->observer;
    for (uint16_t i = 0; same && i < a->column_count; i++)
        same = strcmp(a->columns[i].name, b->columns[i].name) == 0 && a->columns[i].type == b->columns[i].type;
    return same;
}

/* What stands in the bytes that are hashed: the columns of each run in turn, wherever in the tuple the run begins. */
static bool same_hashed(const struct tm_stream *a, const struct tm_stream *b)
{
    if (a->keys->run_count != b->keys->run_count)
        return false;
    for (uint16_t r = 0; r < a->keys->run_count; r++) {
        const struct tm_key_run *x = &a->keys->runs[r], *y = &b->keys->runs[r];
        if (x->last - x->first != y->last - y->first)
            return false;
        for (uint16_t i = 0; x->first + i <= x->last; i++) {
            const struct tm_column *c = &a->columns[x->first + i], *d = &b->columns[y->first + i];
            if (strcmp(c->name, d->name) != 0 || c->type != d->type || c->scale != d->scale)
                return false;
        }
    }
    return true;
}

/* By the first key: later ones begin after all that was seen (record/keys.h), and a key's version is in every fingerprint. */
bool tm_stream_keeps_seen(const struct tm_stream *from, const struct tm_stream *to)
{
    return strcmp(from->name, to->name) == 0 && from->mode == to->mode && from->observer == to->observer &&
           from->keys_count && to->keys_count && from->keys->version == to->keys->version && same_hashed(from, to);
}

/* ---- kinds ---- */

static bool same_place(const struct tm_place *a, const struct tm_place *b)
{
    return same_text(a->text, b->text) && a->node == b->node && a->whole_frame == b->whole_frame &&
           a->index_count == b->index_count && memcmp(a->index, b->index, a->index_count * sizeof *a->index) == 0;
}

static bool same_reading(const struct tm_reading *a, const struct tm_reading *b)
{
    return same_place(&a->place, &b->place) && a->unit == b->unit && a->scale == b->scale &&
           a->one_minus == b->one_minus;
}

/* Its column is that of the same number in the stream, which is compared there. */
static bool same_emit(const struct tm_emit *a, const struct tm_emit *b)
{
    bool same = a->op == b->op && a->is_time == b->is_time && a->is_ticker == b->is_ticker &&
                a->is_indexed == b->is_indexed && a->reading_count == b->reading_count && a->len == b->len &&
                (!a->len || memcmp(a->bytes, b->bytes, a->len) == 0);
    for (uint8_t i = 0; same && i < a->reading_count; i++)
        same = same_reading(&a->readings[i], &b->readings[i]);
    return same;
}

static bool same_tree(const struct tm_tree *a, const struct tm_tree *b)
{
    if (!a || !b)
        return a == b;
    bool same = a->node_count == b->node_count;
    for (uint16_t i = 0; same && i < a->node_count; i++)
        same = a->nodes[i].parent == b->nodes[i].parent && a->nodes[i].len == b->nodes[i].len &&
               memcmp(a->nodes[i].name, b->nodes[i].name, a->nodes[i].len) == 0;
    return same;
}

static bool same_kind(const struct tm_kind *a, const struct tm_kind *b)
{
    bool same_target = a->stream && b->stream ? a->stream->index == b->stream->index : a->stream == b->stream;
    bool same_opened = a->opens && b->opens ? a->opens->index == b->opens->index : a->opens == b->opens;
    return same_opened && same_text(a->tag, b->tag) && a->index == b->index && a->role == b->role &&
           a->forward == b->forward && a->document == b->document && same_target;
}

static bool same_program(const struct tm_program *a, const struct tm_program *b)
{
    bool same = same_kind(&a->kind, &b->kind) && a->emit_count == b->emit_count && same_place(&a->each, &b->each) &&
                same_tree(a->tree, b->tree) && same_tree(a->element_tree, b->element_tree) &&
                same_place(&a->sid, &b->sid) && same_place(&a->channel, &b->channel) &&
                same_place(&a->code, &b->code) && same_place(&a->message, &b->message);
    for (uint16_t i = 0; same && i < a->emit_count; i++)
        same = same_emit(&a->emits[i], &b->emits[i]);
    return same;
}

/* ---- the plan ---- */

bool tm_plan_equal(const struct tm_plan *a, const struct tm_plan *b)
{
    bool same = same_text(a->gatherer, b->gatherer) && memcmp(a->epoch, b->epoch, sizeof a->epoch) == 0 &&
                a->stream_count == b->stream_count && a->program_count == b->program_count &&
                same_tree(&a->tree, &b->tree) && same_place(&a->tag, &b->tag) && same_place(&a->sid, &b->sid) &&
                same_place(&a->sequence, &b->sequence);
    for (uint16_t i = 0; same && i < a->stream_count; i++)
        same = same_stream(&a->streams[i], &b->streams[i]);
    for (uint16_t i = 0; same && i < a->program_count; i++)
        same = same_program(&a->programs[i], &b->programs[i]);
    return same;
}

static int check_columns(const struct tm_stream *from, const struct tm_stream *to, struct tm_error *err)
{
    for (uint16_t i = 0; i < to->column_count; i++) {
        int at = tm_stream_column(from, to->columns[i].name);
        if (at >= 0 && from->columns[at].type != to->columns[i].type)
            return FAULT("stream \"%s\": column \"%s\" cannot change its type while the process runs: give the column "
                         "another name, or migrate the tables and restart",
                         to->name, to->columns[i].name);
    }
    return TM_OK;
}

int tm_plan_check_reload(const struct tm_plan *from, const struct tm_plan *to, struct tm_error *err)
{
    int rc = TM_OK;
    for (uint16_t i = 0; !rc && i < to->stream_count; i++) {
        const struct tm_stream *s = &to->streams[i], *old = tm_plan_stream_by_name(from, s->name);
        if (!old)
            continue;
        if (old->mode != s->mode || old->observer != s->observer)
            return FAULT("stream \"%s\" cannot become an %s stream while the process runs: its table has another key; "
                         "give the stream another name, or migrate the tables and restart",
                         s->name,
                         s->mode == TM_STREAM_UPSERT ? "upsert"
                         : s->observer               ? "observer"
                                                     : "append");
        rc = check_columns(old, s, err);
    }
    return rc;
}

bool tm_column_may_disagree(const struct tm_stream *s, uint16_t column)
{
    const struct tm_column *c = &s->columns[column];
    return !c->in_key && !c->local_only && c->type != TM_TYPE_TIMESTAMPTZ && column != s->occurrence_column;
}

bool tm_stream_may_disagree(const struct tm_stream *s)
{
    if (s->mode != TM_STREAM_APPEND || s->observer || s->within_us || s->keys_count != 1)
        return false;
    for (uint16_t i = 0; i < s->column_count; i++)
        if (tm_column_may_disagree(s, i))
            return true;
    return false;
}
