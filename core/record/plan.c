#include "record/builtin.h"
#include "record/compiled.h"
#include "record/scanner.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#define FAULT(...) tm_error_set(err, TM_EINVAL, __VA_ARGS__)
#define BUILTIN_COUNT (sizeof tm_builtin_streams / sizeof *tm_builtin_streams)
#define GATHERER_BYTES_MAX 63

/* ---- streams ---- */

static int add_stream(struct tm_plan *plan, const struct tm_stream_def *def, struct tm_error *err)
{
    if (def->name && tm_plan_stream_by_name(plan, def->name))
        return FAULT("stream \"%s\": declared twice, or a name that every plan has", def->name);
    int rc = tm_stream_compile(def, plan->stream_count, plan->arena, &plan->streams[plan->stream_count], err);
    plan->streams[plan->stream_count].plan = plan;
    if (!rc)
        plan->stream_count++;
    return rc;
}

/* The declared streams first, so that an index is the place of the declaration. */
static int add_streams(struct tm_plan *plan, const struct tm_plan_def *def, struct tm_error *err)
{
    plan->streams = tm_arena_alloc(plan->arena, (def->stream_count + BUILTIN_COUNT) * sizeof *plan->streams);
    for (size_t i = 0; i < def->stream_count; i++) {
        const struct tm_stream_def *s = &def->streams[i];
        for (size_t k = 0; k < BUILTIN_COUNT; k++)
            if (s->name && strcmp(s->name, tm_builtin_streams[k].name) == 0)
                return FAULT("stream \"%s\": every plan has a stream of this name; take another", s->name);
        int rc = add_stream(plan, s, err);
        if (rc)
            return rc;
    }
    for (size_t k = 0; k < BUILTIN_COUNT; k++) {
        int rc = add_stream(plan, &tm_builtin_streams[k], err);
        if (rc)
            return rc;
    }
    return TM_OK;
}

/* ---- counted keys ---- */

/* The column that the stream's kinds feed with the occurrence: -1 none, -2 not the same in all. */
static int occurrence_column(const struct tm_plan_def *def, const struct tm_stream *s)
{
    int found = -1;
    for (size_t i = 0; i < def->kind_count; i++) {
        const struct tm_kind_def *k = &def->kinds[i];
        if (!k->stream || strcmp(k->stream, s->name) != 0)
            continue;
        for (size_t n = 0; n < k->source_count; n++) {
            if (k->sources[n].from != TM_FROM_OCCURRENCE || !k->sources[n].column)
                continue;
            int column = tm_stream_column(s, k->sources[n].column);
            if (found >= 0 && column != found)
                return -2;
            found = column;
        }
    }
    return found >= 0 ? found : tm_stream_column(s, "occurrence");
}

static int take_occurrence(const struct tm_plan_def *def, struct tm_stream *s, struct tm_error *err)
{
    int column = occurrence_column(def, s);
    if (column == -2)
        return FAULT("stream \"%s\": its kinds count occurrences in different columns", s->name);
    if (column < 0 || s->columns[column].type != TM_TYPE_INT2)
        return FAULT("stream \"%s\": a counted key needs an int2 column that is fed with the occurrence", s->name);
    s->occurrence_column = column;
    return TM_OK;
}

static void append_occurrence(struct tm_stream *s, struct tm_key *key)
{
    for (uint16_t i = 0; i < key->column_count; i++)
        if (key->columns[i] == s->occurrence_column)
            return;
    key->columns[key->column_count++] = (uint16_t)s->occurrence_column;
    s->columns[s->occurrence_column].in_key = true;
}

static bool is_hashed(const struct tm_stream *s, const struct tm_key *key, uint16_t column)
{
    if (key->counted && column == s->occurrence_column)
        return false;
    for (uint16_t i = 0; i < key->column_count; i++)
        if (key->columns[i] == column)
            return true;
    return false;
}

/* In the order of the columns, so that a key of neighbours is hashed where it stands in the tuple, in one piece. */
static void set_key_runs(const struct tm_stream *s, struct tm_key *key)
{
    bool in_run = false;
    for (uint16_t i = 0; i < s->column_count; i++) {
        bool hashed = is_hashed(s, key, i);
        if (hashed && !in_run)
            key->runs[key->run_count++] = (struct tm_key_run){.first = i};
        if (hashed)
            key->runs[key->run_count - 1].last = i;
        in_run = hashed;
    }
}

/*
 * Fingerprints made under different recipes must never meet (FAILURES T32): all that decides the key's bytes, and from
 * when it holds. Nothing of the stream's other keys, so that a seen-set stays good when one is added.
 */
static int set_key_version(const struct tm_stream *s, struct tm_key *key)
{
    struct tm_buf recipe = {0};
    int rc = tm_buf_printf(&recipe, "%s from=%lld occurrence=%d within=%lld:", s->name, (long long)key->from_us,
                           key->counted, (long long)s->within_us);
    for (uint16_t i = 0; i < key->column_count && !rc; i++) {
        const struct tm_column *c = &s->columns[key->columns[i]];
        rc = tm_buf_printf(&recipe, " %s/%d/%d", c->name, (int)c->type, c->scale);
    }
    if (!rc)
        key->version = tm_hash64(recipe.data, recipe.len, 0);
    tm_buf_fini(&recipe);
    return rc;
}

static int finish_stream(const struct tm_plan_def *def, struct tm_stream *s, struct tm_error *err)
{
    bool counted = false;
    for (uint16_t i = 0; i < s->keys_count; i++)
        counted |= s->keys[i].counted;
    int rc = counted ? take_occurrence(def, s, err) : TM_OK;
    for (uint16_t i = 0; !rc && i < s->keys_count; i++) {
        if (s->keys[i].counted)
            append_occurrence(s, &s->keys[i]);
        set_key_runs(s, &s->keys[i]);
        if (set_key_version(s, &s->keys[i]))
            rc = tm_error_set(err, TM_ENOMEM, "no memory for a plan");
    }
    s->key_count = s->keys->column_count;
    return rc;
}

static int finish_keys(struct tm_plan *plan, const struct tm_plan_def *def, struct tm_error *err)
{
    int rc = TM_OK;
    for (uint16_t i = 0; !rc && i < plan->stream_count; i++)
        rc = finish_stream(def, &plan->streams[i], err);
    return rc;
}

/* ---- kinds ---- */

static int protocol_path(struct tm_plan *plan, const char *what, const char *path, struct tm_place *out,
                         struct tm_error *err)
{
    if (!path)
        return TM_OK;
    int rc = tm_tree_add(&plan->tree, plan->arena, path, out, err);
    out->whole_frame = true;
    return rc ? tm_error_wrap(err, "protocol: %s", what) : TM_OK;
}

static int add_protocol(struct tm_plan *plan, const struct tm_plan_def *def, struct tm_error *err)
{
    bool frames = false;
    for (size_t i = 0; i < def->kind_count; i++)
        frames |= !def->kinds[i].document;
    if (frames && !def->protocol.tag_path)
        return FAULT("protocol: tag_path is missing: where does a frame say what kind it is?");
    int rc = protocol_path(plan, "tag_path", def->protocol.tag_path, &plan->tag, err);
    if (!rc)
        rc = protocol_path(plan, "subscription_path", def->protocol.subscription_path, &plan->sid, err);
    if (!rc)
        rc = protocol_path(plan, "sequence_path", def->protocol.sequence_path, &plan->sequence, err);
    return rc;
}

static void index_tag(struct tm_plan *plan, uint16_t program)
{
    const char *tag = plan->programs[program].kind.tag;
    uint32_t slot = (uint32_t)tm_hash64(tag, strlen(tag), 0) & plan->tag_mask;
    while (plan->tag_table[slot] != TM_NODE_NONE)
        slot = (slot + 1) & plan->tag_mask;
    plan->tag_table[slot] = program;
}

static int add_kinds(struct tm_plan *plan, const struct tm_plan_def *def, struct tm_error *err)
{
    uint32_t slots = 4;
    while (slots < 2 * def->kind_count)
        slots *= 2;
    plan->tag_mask = slots - 1;
    plan->tag_table = tm_arena_alloc(plan->arena, slots * sizeof *plan->tag_table);
    memset(plan->tag_table, 0xff, slots * sizeof *plan->tag_table);
    plan->programs = tm_arena_alloc(plan->arena, (def->kind_count + 1) * sizeof *plan->programs);
    for (size_t i = 0; i < def->kind_count; i++) {
        int rc = tm_kind_compile(plan, &def->kinds[i], i, &plan->programs[i], err);
        if (rc)
            return rc;
        index_tag(plan, plan->program_count++);
    }
    return TM_OK;
}

/* When all kinds and streams are there. */
static int resolve_opened(struct tm_plan *plan, const struct tm_plan_def *def, struct tm_error *err)
{
    for (size_t i = 0; i < def->kind_count; i++) {
        const struct tm_kind_def *k = &def->kinds[i];
        struct tm_kind *kind = &plan->programs[i].kind;
        if (!k->opens)
            continue;
        for (uint16_t s = 0; s < plan->stream_count; s++)
            if (strcmp(plan->streams[s].name, k->opens) == 0)
                kind->opens = &plan->streams[s];
        if (!kind->opens)
            return FAULT("kind \"%s\": it opens stream \"%s\", which is not declared", k->tag, k->opens);
        if (!kind->stream || kind->stream->ticker_column < 0)
            return FAULT("kind \"%s\": it opens a stream, but its own rows name no market", k->tag);
        plan->streams[kind->opens->index].opened = true;
    }
    return TM_OK;
}

/* ---- the plan ---- */

static int check_sizes(const struct tm_plan_def *def, struct tm_error *err)
{
    if (def->stream_count > TM_STREAMS_MAX - BUILTIN_COUNT)
        return FAULT("%zu streams, expected at most %zu", def->stream_count, TM_STREAMS_MAX - BUILTIN_COUNT);
    if (def->kind_count > TM_KINDS_MAX)
        return FAULT("%zu kinds, expected at most %d", def->kind_count, TM_KINDS_MAX);
    return TM_OK;
}

static int compile(struct tm_plan *plan, const struct tm_plan_def *def, struct tm_error *err)
{
    const char *gatherer = def->gatherer ? def->gatherer : "";
    if (strlen(gatherer) > GATHERER_BYTES_MAX || !tm_text_storable(gatherer, strlen(gatherer)))
        return FAULT("gatherer \"%.80s\": an id has at most %d bytes of UTF-8", gatherer, GATHERER_BYTES_MAX);
    plan->gatherer = tm_arena_strdup(plan->arena, gatherer);
    memcpy(plan->epoch, def->epoch, sizeof plan->epoch);
    tm_tree_init(&plan->tree, plan->arena);
    int rc = check_sizes(def, err);
    if (!rc)
        rc = add_streams(plan, def, err);
    if (!rc)
        rc = finish_keys(plan, def, err);
    if (!rc)
        rc = add_protocol(plan, def, err);
    if (!rc)
        rc = add_kinds(plan, def, err);
    if (!rc)
        rc = resolve_opened(plan, def, err);
    if (!rc)
        tm_tree_finish(&plan->tree, plan->arena);
    return rc;
}

int tm_plan_compile(const struct tm_plan_def *def, struct tm_plan **out, struct tm_error *err)
{
    struct tm_arena *arena = tm_arena_create();
    struct tm_plan *plan = tm_arena_alloc(arena, sizeof *plan);
    plan->arena = arena;
    plan->references = 1;
    int rc = compile(plan, def, err);
    if (rc)
        tm_plan_put(plan);
    else
        *out = plan;
    return rc;
}

/* Immutable for its holders, who are given it as const; the count is the one thing in it that changes. */
static struct tm_plan *countable(const struct tm_plan *plan)
{
    return (struct tm_plan *)(uintptr_t)plan;
}

struct tm_plan *tm_plan_take(const struct tm_plan *plan)
{
    if (plan)
        atomic_fetch_add_explicit(&countable(plan)->references, 1, memory_order_relaxed);
    return countable(plan);
}

void tm_plan_put(const struct tm_plan *plan)
{
    if (plan && atomic_fetch_sub_explicit(&countable(plan)->references, 1, memory_order_acq_rel) == 1)
        tm_arena_destroy(plan->arena);
}

size_t tm_plan_stream_count(const struct tm_plan *plan)
{
    return plan->stream_count;
}

const struct tm_stream *tm_plan_stream(const struct tm_plan *plan, size_t index)
{
    return index < plan->stream_count ? &plan->streams[index] : NULL;
}

const struct tm_stream *tm_plan_stream_by_name(const struct tm_plan *plan, const char *name)
{
    for (uint16_t i = 0; i < plan->stream_count; i++)
        if (strcmp(plan->streams[i].name, name) == 0)
            return &plan->streams[i];
    return NULL;
}

const struct tm_program *tm_plan_program(const struct tm_plan *plan, const char *tag, size_t len)
{
    for (uint32_t slot = (uint32_t)tm_hash64(tag, len, 0) & plan->tag_mask;; slot = (slot + 1) & plan->tag_mask) {
        uint16_t i = plan->tag_table[slot];
        if (i == TM_NODE_NONE)
            return NULL;
        const struct tm_program *p = &plan->programs[i];
        if (p->tag_len == len && memcmp(p->kind.tag, tag, len) == 0)
            return p;
    }
}

const struct tm_kind *tm_plan_kind_by_tag(const struct tm_plan *plan, const char *tag)
{
    const struct tm_program *p = tm_plan_program(plan, tag, strlen(tag));
    return p ? &p->kind : NULL;
}
