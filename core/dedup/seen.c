#include "dedup/seen.h"
#include "dedup/table.h"

#include <stdlib.h>

#define SLOT_WORDS 2

struct tm_seen {
    struct tm_table table;
};

/* The part of the bound that is left for the table. */
static size_t table_bytes(size_t memory_bytes_max)
{
    size_t max = memory_bytes_max ? memory_bytes_max : TM_SEEN_BYTES;
    size_t min = tm_table_bytes_min(SLOT_WORDS) + sizeof(struct tm_seen);
    return (max < min ? min : max) - sizeof(struct tm_seen);
}

int tm_seen_check(const struct tm_seen_options *options, struct tm_error *err)
{
    size_t min = tm_table_bytes_min(SLOT_WORDS) + sizeof(struct tm_seen);
    if (options->window_us <= 0)
        return tm_error_set(err, TM_EINVAL, "seen-set: the window is %lld us, expected more than 0",
                            (long long)options->window_us);
    if (options->memory_bytes_max && options->memory_bytes_max < min)
        return tm_error_set(err, TM_EINVAL, "seen-set: memory is bounded to %zu bytes, expected at least %zu",
                            options->memory_bytes_max, min);
    return TM_OK;
}

int tm_seen_create(const struct tm_seen_options *options, struct tm_seen **out, struct tm_error *err)
{
    int rc = tm_seen_check(options, err);
    if (rc)
        return rc;
    struct tm_seen *s = calloc(1, sizeof *s);
    if (!s || tm_table_init(&s->table, SLOT_WORDS, options->window_us, table_bytes(options->memory_bytes_max))) {
        free(s);
        return tm_error_set(err, TM_ENOMEM, "seen-set: no address space for %zu bytes",
                            table_bytes(options->memory_bytes_max));
    }
    *out = s;
    return TM_OK;
}

void tm_seen_destroy(struct tm_seen *s)
{
    if (!s)
        return;
    tm_table_fini(&s->table);
    free(s);
}

void tm_seen_prefetch(const struct tm_seen *s, struct tm_fp fp)
{
    tm_table_prefetch(&s->table, fp);
}

bool tm_seen_contains(const struct tm_seen *s, struct tm_fp fp)
{
    return tm_table_contains(&s->table, fp);
}

bool tm_seen_add(struct tm_seen *s, struct tm_fp fp, int64_t now_us)
{
    bool is_new;
    (void)tm_table_put(&s->table, fp, now_us, &is_new);
    return is_new;
}

void tm_seen_advance(struct tm_seen *s, int64_t now_us)
{
    tm_table_advance(&s->table, now_us);
}

void tm_seen_configure(struct tm_seen *s, const struct tm_seen_options *options, int64_t now_us)
{
    int64_t window_us = options->window_us > 0 ? options->window_us : s->table.ages.window_us;
    tm_table_configure(&s->table, window_us, table_bytes(options->memory_bytes_max));
    tm_table_advance(&s->table, now_us);
}

void tm_seen_clear(struct tm_seen *s)
{
    tm_table_clear(&s->table);
}

struct tm_seen_stats tm_seen_stats(const struct tm_seen *s)
{
    return (struct tm_seen_stats){
        .keys = s->table.ages.live,
        .memory_bytes = tm_table_memory(&s->table) + sizeof *s,
        .expired = s->table.ages.expired,
        .evicted_early = s->table.ages.evicted,
    };
}
