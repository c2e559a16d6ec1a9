#include "engine/newest.h"

#include <stdio.h>
#include <string.h>

static _Atomic int64_t *find(const struct tm_newest *n, const char *stream)
{
    size_t count = atomic_load_explicit(&n->count, memory_order_acquire);
    for (size_t i = 0; i < count; i++)
        if (strcmp(n->entries[i].name, stream) == 0)
            return (_Atomic int64_t *)&n->entries[i].us;
    return NULL;
}

_Atomic int64_t *tm_newest_entry(struct tm_newest *n, const char *stream)
{
    _Atomic int64_t *found = find(n, stream);
    size_t count = atomic_load_explicit(&n->count, memory_order_relaxed);
    if (found || count == TM_NEWEST_MAX)
        return found ? found : &n->entries[count - 1].us;
    (void)snprintf(n->entries[count].name, sizeof n->entries[count].name, "%s", stream);
    atomic_store_explicit(&n->entries[count].us, INT64_MIN, memory_order_relaxed);
    atomic_store_explicit(&n->count, count + 1, memory_order_release);
    return &n->entries[count].us;
}

void tm_newest_note(_Atomic int64_t *entry, int64_t us)
{
    us = us > 0 ? us : 0;
    if (us > atomic_load_explicit(entry, memory_order_relaxed))
        atomic_store_explicit(entry, us, memory_order_relaxed);
}

int64_t tm_newest_get(const struct tm_newest *n, const char *stream)
{
    const _Atomic int64_t *found = find(n, stream);
    return found ? atomic_load_explicit(found, memory_order_relaxed) : INT64_MIN;
}

void tm_newest_of_plan(const struct tm_newest *n, const struct tm_plan *plan, int64_t out[TM_STREAMS_MAX])
{
    for (size_t i = 0; i < tm_plan_stream_count(plan); i++)
        out[i] = tm_newest_get(n, tm_plan_stream(plan, i)->name);
}
