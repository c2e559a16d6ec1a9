#include "engine/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/endian.h"
#include "base/unset.h"

#define INDEX_MIN 1024
#define NONE UINT32_MAX

/* A blob is the kept columns in order, each as int32 length and bytes, cut out of the tuple. */
struct entry {
    uint8_t *blob; /* NULL: free, and `len` is the next free one */
    uint32_t len;
    uint32_t hash;
};

struct tm_registry {
    const struct tm_stream *stream;
    uint16_t columns[TM_COLUMNS_MAX]; /* column numbers in the stream; [0] is the key */
    size_t column_count, loud_count;  /* quiet columns come last */
    struct entry *entries;
    uint32_t end, cap, free_head;
    uint32_t *index; /* entry number, or NONE; open addressing with linear probing */
    uint32_t index_size;
    size_t count, blob_bytes;
    struct tm_buf scratch;
};

static int find_column(const struct tm_stream *stream, const char *name)
{
    for (uint16_t i = 0; i < stream->column_count; i++)
        if (strcmp(stream->columns[i].name, name) == 0)
            return i;
    return -1;
}

static int add_column(struct tm_registry *r, const char *name, struct tm_error *err)
{
    int column = find_column(r->stream, name);
    if (column < 0 || r->column_count == TM_COLUMNS_MAX)
        return tm_error_set(err, TM_EINVAL, "registry of %s: expected one of its columns, got \"%s\"", r->stream->name,
                            name);
    r->columns[r->column_count++] = (uint16_t)column;
    return TM_OK;
}

static int choose_columns(struct tm_registry *r, const char *const *columns, struct tm_error *err)
{
    int rc = TM_OK;
    r->columns[r->column_count++] = r->stream->key[0];
    for (; !rc && *columns; columns++)
        rc = add_column(r, *columns, err);
    r->loud_count = r->column_count;
    return rc;
}

int tm_registry_keep_quietly(struct tm_registry *r, const char *column, struct tm_error *err)
{
    return add_column(r, column, err);
}

int tm_registry_create(const struct tm_stream *stream, const char *const *columns, struct tm_registry **out,
                       struct tm_error *err)
{
    if (stream->mode != TM_STREAM_UPSERT || stream->key_count != 1)
        return tm_error_set(err, TM_EINVAL, "registry of %s: expected an upsert stream with one key column",
                            stream->name);
    struct tm_registry *r = calloc(1, sizeof *r);
    if (!r)
        return tm_error_set(err, TM_ENOMEM, "registry of %s: out of memory", stream->name);
    r->stream = stream;
    (void)tm_plan_take(stream->plan);
    r->free_head = NONE;
    r->index_size = INDEX_MIN;
    r->index = malloc(INDEX_MIN * sizeof *r->index);
    int rc = r->index ? choose_columns(r, columns, err) : tm_error_set(err, TM_ENOMEM, "registry: out of memory");
    if (rc) {
        tm_registry_destroy(r);
        return rc;
    }
    memset(r->index, 0xff, INDEX_MIN * sizeof *r->index);
    *out = r;
    return TM_OK;
}

void tm_registry_destroy(struct tm_registry *r)
{
    if (!r)
        return;
    for (uint32_t i = 0; i < r->end; i++)
        free(r->entries[i].blob);
    free(r->entries);
    free(r->index);
    tm_buf_fini(&r->scratch);
    tm_plan_put(r->stream->plan);
    free(r);
}

/* The column of `stream` that a kept one is there, or -1. */
static int same_column(const struct tm_registry *r, size_t kept, const struct tm_stream *stream)
{
    const struct tm_column *old = &r->stream->columns[r->columns[kept]];
    int at = find_column(stream, old->name);
    return at >= 0 && stream->columns[at].type == old->type && stream->columns[at].scale == old->scale ? at : -1;
}

int tm_registry_set_stream(struct tm_registry *r, const struct tm_stream *stream, struct tm_error *err)
{
    uint16_t columns[TM_COLUMNS_MAX];
    if (stream->mode != TM_STREAM_UPSERT || stream->key_count != 1 || same_column(r, 0, stream) != (int)stream->key[0])
        return tm_error_set(err, TM_EINVAL, "registry of %s: its key has changed", stream->name);
    for (size_t i = 0; i < r->column_count; i++) {
        int at = same_column(r, i, stream);
        if (at < 0)
            return tm_error_set(err, TM_EINVAL, "registry of %s: its column %s is not what it was", stream->name,
                                r->stream->columns[r->columns[i]].name);
        columns[i] = (uint16_t)at;
    }
    memcpy(r->columns, columns, r->column_count * sizeof *columns);
    (void)tm_plan_take(stream->plan);
    tm_plan_put(r->stream->plan);
    r->stream = stream;
    return TM_OK;
}

static struct tm_field blob_field(const uint8_t *blob, size_t column)
{
    const uint8_t *at = blob;
    for (;;) {
        int32_t len = (int32_t)tm_get_be32(at);
        if (column-- == 0)
            return (struct tm_field){.bytes = at + 4, .len = len};
        at += 4 + (len > 0 ? len : 0);
    }
}

static uint32_t hash_of(const void *key, size_t len)
{
    return (uint32_t)tm_hash64(key, len, 0);
}

static bool is_key(const struct entry *e, uint32_t hash, const void *key, size_t len)
{
    if (e->hash != hash)
        return false;
    struct tm_field f = blob_field(e->blob, 0);
    return f.len == (int32_t)len && memcmp(f.bytes, key, len) == 0;
}

/* The place of the key in the index, or the free place where it would go. */
static uint32_t probe(const struct tm_registry *r, uint32_t hash, const void *key, size_t len)
{
    uint32_t mask = r->index_size - 1, at = hash & mask;
    while (r->index[at] != NONE && !is_key(&r->entries[r->index[at]], hash, key, len))
        at = (at + 1) & mask;
    return at;
}

static int grow_index(struct tm_registry *r)
{
    uint32_t size = r->index_size * 2, mask = size - 1;
    uint32_t *index = malloc(size * sizeof *index);
    if (!index)
        return TM_ENOMEM;
    memset(index, 0xff, size * sizeof *index);
    for (uint32_t i = 0; i < r->end; i++) {
        if (!r->entries[i].blob)
            continue;
        uint32_t at = r->entries[i].hash & mask;
        while (index[at] != NONE)
            at = (at + 1) & mask;
        index[at] = i;
    }
    free(r->index);
    r->index = index;
    r->index_size = size;
    return TM_OK;
}

static int take_entry(struct tm_registry *r, uint32_t *out)
{
    if (r->free_head != NONE) {
        *out = r->free_head;
        r->free_head = r->entries[*out].len;
        return TM_OK;
    }
    if (r->end == r->cap) {
        uint32_t cap = r->cap ? r->cap + r->cap / 2 : INDEX_MIN;
        struct entry *entries = realloc(r->entries, cap * sizeof *entries);
        if (!entries)
            return TM_ENOMEM;
        r->entries = entries;
        r->cap = cap;
    }
    *out = r->end++;
    r->entries[*out] = (struct entry){0};
    return TM_OK;
}

static int pack(struct tm_registry *r, const uint8_t *tuple, size_t len)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    int rc = tm_tuple_split(tuple, len, fields, r->stream->column_count);
    tm_buf_clear(&r->scratch);
    for (size_t i = 0; !rc && i < r->column_count; i++) {
        const struct tm_field *f = &fields[r->columns[i]];
        rc = tm_buf_append(&r->scratch, f->bytes - 4, 4 + (size_t)(f->len > 0 ? f->len : 0));
    }
    return rc;
}

/* Bytes of the columns whose changes count: quiet ones lie behind them. */
static size_t loud_bytes(const struct tm_registry *r, const uint8_t *blob, size_t len)
{
    if (r->loud_count == r->column_count)
        return len;
    return (size_t)(blob_field(blob, r->loud_count).bytes - 4 - blob);
}

static int replace(struct tm_registry *r, uint32_t number)
{
    struct entry *e = &r->entries[number];
    if (e->len == r->scratch.len && memcmp(e->blob, r->scratch.data, e->len) == 0)
        return TM_REGISTRY_SAME;
    size_t loud = loud_bytes(r, r->scratch.data, r->scratch.len);
    bool same = loud_bytes(r, e->blob, e->len) == loud && memcmp(e->blob, r->scratch.data, loud) == 0;
    uint8_t *blob = realloc(e->blob, r->scratch.len);
    if (!blob)
        return TM_ENOMEM;
    memcpy(blob, r->scratch.data, r->scratch.len);
    r->blob_bytes += r->scratch.len - e->len;
    e->blob = blob;
    e->len = (uint32_t)r->scratch.len;
    return same ? TM_REGISTRY_SAME : TM_REGISTRY_CHANGED;
}

static int insert(struct tm_registry *r, uint32_t hash, uint32_t place, uint32_t *number)
{
    uint8_t *blob = malloc(r->scratch.len);
    if (!blob || take_entry(r, number)) {
        free(blob);
        return TM_ENOMEM;
    }
    memcpy(blob, r->scratch.data, r->scratch.len);
    r->entries[*number] = (struct entry){.blob = blob, .len = (uint32_t)r->scratch.len, .hash = hash};
    r->index[place] = *number;
    r->blob_bytes += r->scratch.len;
    r->count++;
    return TM_REGISTRY_NEW;
}

int tm_registry_put(struct tm_registry *r, const uint8_t *tuple, size_t len, uint32_t *entry)
{
    int rc = pack(r, tuple, len);
    if (!rc && (r->count + 1) * 2 > r->index_size)
        rc = grow_index(r);
    if (rc)
        return rc;
    struct tm_field key = blob_field(r->scratch.data, 0);
    if (key.len < 0)
        return TM_EINVAL;
    uint32_t hash = hash_of(key.bytes, (size_t)key.len);
    uint32_t place = probe(r, hash, key.bytes, (size_t)key.len);
    if (r->index[place] == NONE)
        return insert(r, hash, place, entry);
    *entry = r->index[place];
    return replace(r, *entry);
}

int64_t tm_registry_find(const struct tm_registry *r, const char *key, size_t len)
{
    uint32_t number = r->index[probe(r, hash_of(key, len), key, len)];
    return number == NONE ? -1 : (int64_t)number;
}

/* Close the hole that a removal leaves in a run of the index, so that no probe stops early. */
static void close_hole(struct tm_registry *r, uint32_t hole)
{
    uint32_t mask = r->index_size - 1;
    for (uint32_t at = (hole + 1) & mask; r->index[at] != NONE; at = (at + 1) & mask) {
        uint32_t home = r->entries[r->index[at]].hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            r->index[hole] = r->index[at];
            hole = at;
        }
    }
    r->index[hole] = NONE;
}

void tm_registry_remove(struct tm_registry *r, uint32_t entry)
{
    struct entry *e = &r->entries[entry];
    struct tm_field key = blob_field(e->blob, 0);
    close_hole(r, probe(r, e->hash, key.bytes, (size_t)key.len));
    r->blob_bytes -= e->len;
    r->count--;
    free(e->blob);
    *e = (struct entry){.len = r->free_head};
    r->free_head = entry;
}

size_t tm_registry_column_count(const struct tm_registry *r)
{
    return r->column_count;
}

const struct tm_column *tm_registry_column(const struct tm_registry *r, size_t column)
{
    return &r->stream->columns[r->columns[column]];
}

struct tm_field tm_registry_get(const struct tm_registry *r, uint32_t entry, size_t column)
{
    return blob_field(r->entries[entry].blob, column);
}

bool tm_registry_column_is_quiet(const struct tm_registry *r, size_t column)
{
    return column >= r->loud_count;
}

size_t tm_registry_count(const struct tm_registry *r)
{
    return r->count;
}

uint32_t tm_registry_end(const struct tm_registry *r)
{
    return r->end;
}

bool tm_registry_is_live(const struct tm_registry *r, uint32_t entry)
{
    return entry < r->end && r->entries[entry].blob;
}

size_t tm_registry_memory(const struct tm_registry *r)
{
    return r->blob_bytes + r->count * 16 + r->cap * sizeof *r->entries + r->index_size * sizeof *r->index;
}
