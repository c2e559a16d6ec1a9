#include "dedup/counter.h"
#include "dedup/table.h"

#include <stdlib.h>

#define MEMORY_DEFAULT ((size_t)64 << 20)
#define SLOT_WORDS 4
#define LAST_US 2 /* payload: the last sighting, and its number */
#define NUMBER 3
#define NUMBER_MAX 32767

struct tm_counter {
    struct tm_table table;
};

int tm_counter_create(int64_t window_us, size_t memory_bytes_max, struct tm_counter **out)
{
    size_t max = memory_bytes_max ? memory_bytes_max : MEMORY_DEFAULT;
    if (window_us <= 0 || max < tm_table_bytes_min(SLOT_WORDS) + sizeof(struct tm_counter))
        return TM_EINVAL;
    struct tm_counter *c = calloc(1, sizeof *c);
    if (!c || tm_table_init(&c->table, SLOT_WORDS, window_us, max - sizeof *c)) {
        free(c);
        return TM_ENOMEM;
    }
    *out = c;
    return TM_OK;
}

void tm_counter_destroy(struct tm_counter *c)
{
    if (!c)
        return;
    tm_table_fini(&c->table);
    free(c);
}

void tm_counter_prefetch(const struct tm_counter *c, struct tm_fp fp)
{
    tm_table_prefetch(&c->table, fp);
}

uint32_t tm_counter_next(struct tm_counter *c, struct tm_fp fp, int64_t now_us)
{
    bool is_new;
    uint64_t *slot = tm_table_put(&c->table, fp, now_us, &is_new);
    if (!slot)
        return 0;
    /* the table's clock is held when the caller's steps back, so this never is negative */
    uint64_t age_us = is_new ? 0 : (uint64_t)c->table.ages.now_us - slot[LAST_US];
    if (is_new || age_us >= (uint64_t)c->table.ages.window_us)
        slot[NUMBER] = 0;
    else if (slot[NUMBER] < NUMBER_MAX)
        slot[NUMBER]++;
    slot[LAST_US] = (uint64_t)c->table.ages.now_us;
    return (uint32_t)slot[NUMBER];
}

uint64_t tm_counter_keys(const struct tm_counter *c)
{
    return c->table.ages.live;
}

uint64_t tm_counter_memory(const struct tm_counter *c)
{
    return tm_table_memory(&c->table) + sizeof *c;
}

uint64_t tm_counter_evicted_early(const struct tm_counter *c)
{
    return c->table.ages.evicted;
}
