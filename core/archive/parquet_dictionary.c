#include "archive/parquet_dictionary.h"

#include "base/hash.h"

#include <string.h>

#define ENTRIES_MAX 65536 /* indices of at most 16 bits */
#define TRIAL 4096        /* values after which one that does not pay is given up */
#define SLOTS_MIN 4096

/* A slot: the upper half of a value's hash, and its entry's number plus one; 0 is free. */
struct table {
    uint64_t *slots;
    size_t size; /* a power of two, at least twice the entries */
};

struct bytes {
    const uint8_t *at;
    size_t len;
};

static struct bytes value_bytes(const struct tm_parquet_values *v, size_t i)
{
    if (tm_parquet_is_fixed(v->column.type))
        return (struct bytes){v->fixed.data + i * 8, 8};
    struct bytes b;
    b.at = tm_parquet_bytes(v, i, &b.len);
    return b;
}

static uint64_t hash_of(struct bytes b)
{
    return tm_hash64(b.at, b.len, 0);
}

static bool same(struct bytes a, struct bytes b)
{
    return a.len == b.len && memcmp(a.at, b.at, a.len) == 0;
}

static int table_resize(struct tm_parquet_encoder *e, struct table *t, size_t size)
{
    struct tm_buf bigger = {0};
    if (tm_buf_reserve(&bigger, size * sizeof *t->slots))
        return TM_ENOMEM;
    uint64_t *slots = (uint64_t *)(void *)bigger.data;
    memset(slots, 0, size * sizeof *slots);
    for (size_t i = 0; i < t->size; i++) {
        if (!t->slots[i])
            continue;
        size_t at = (t->slots[i] >> 32) & (size - 1);
        while (slots[at])
            at = (at + 1) & (size - 1);
        slots[at] = t->slots[i];
    }
    tm_buf_fini(&e->slots);
    e->slots = bigger;
    *t = (struct table){slots, size};
    return TM_OK;
}

/* The entry of value `i`, which may be a new one. */
static uint32_t find(const struct table *t, const struct tm_parquet_values *v, size_t i, uint32_t *firsts,
                     struct tm_parquet_dictionary *d)
{
    struct bytes value = value_bytes(v, i);
    uint64_t hash = hash_of(value) >> 32;
    size_t at = hash & (t->size - 1);
    for (; t->slots[at]; at = (at + 1) & (t->size - 1)) {
        uint32_t entry = (uint32_t)t->slots[at] - 1;
        if (t->slots[at] >> 32 == hash && same(value, value_bytes(v, firsts[entry])))
            return entry;
    }
    t->slots[at] = hash << 32 | (d->entries + 1);
    firsts[d->entries] = (uint32_t)i;
    d->plain_bytes += v->form.width ? (size_t)v->form.width : value.len + 4;
    return (uint32_t)d->entries++;
}

static bool hopeless(const struct tm_parquet_dictionary *d, size_t seen)
{
    return d->entries == ENTRIES_MAX || d->plain_bytes > TM_PARQUET_PAGE_BYTES ||
           (seen == TRIAL && d->entries > TRIAL / 4 * 3);
}

int tm_parquet_dictionary(struct tm_parquet_encoder *e, const struct tm_parquet_values *v,
                          struct tm_parquet_dictionary *out)
{
    struct table t = {0};
    tm_buf_clear(&e->indices);
    tm_buf_clear(&e->firsts);
    if (table_resize(e, &t, SLOTS_MIN) || tm_buf_reserve(&e->indices, v->count * 4 + 1) ||
        tm_buf_reserve(&e->firsts, ENTRIES_MAX * 4))
        return TM_ENOMEM;
    uint32_t *indices = (uint32_t *)(void *)e->indices.data, *firsts = (uint32_t *)(void *)e->firsts.data;
    *out = (struct tm_parquet_dictionary){.firsts = firsts, .indices = indices};
    for (size_t i = 0; i < v->count; i++) {
        if (out->entries * 2 >= t.size && table_resize(e, &t, t.size * 2))
            return TM_ENOMEM;
        indices[i] = find(&t, v, i, firsts, out);
        if (hopeless(out, i + 1))
            return 0;
    }
    return out->entries > 0;
}
