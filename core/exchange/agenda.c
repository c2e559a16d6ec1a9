#include "exchange/agenda.h"
#include "base/error.h"

#include <stdlib.h>

void tm_agenda_fini(struct tm_agenda *a)
{
    free(a->heap);
    *a = (struct tm_agenda){0};
}

static bool before(const struct tm_agenda_item *x, const struct tm_agenda_item *y)
{
    return x->at != y->at ? x->at < y->at : x->order < y->order;
}

static void swap(struct tm_agenda *a, uint32_t i, uint32_t k)
{
    struct tm_agenda_item kept = a->heap[i];
    a->heap[i] = a->heap[k];
    a->heap[k] = kept;
}

void tm_agenda_put(struct tm_agenda *a, uint64_t at, enum tm_task task, uint32_t market)
{
    if (a->count == a->capacity) {
        a->capacity = a->capacity ? 2 * a->capacity : 64;
        a->heap = realloc(a->heap, a->capacity * sizeof *a->heap);
        TM_FATAL_UNLESS(a->heap);
    }
    uint32_t i = a->count++;
    a->heap[i] = (struct tm_agenda_item){.at = at, .order = a->order++, .market = market, .task = task};
    for (; i && before(&a->heap[i], &a->heap[(i - 1) / 2]); i = (i - 1) / 2)
        swap(a, i, (i - 1) / 2);
}

bool tm_agenda_take(struct tm_agenda *a, uint64_t now, struct tm_agenda_item *out)
{
    if (!a->count || a->heap[0].at > now)
        return false;
    *out = a->heap[0];
    a->heap[0] = a->heap[--a->count];
    for (uint32_t i = 0, child; (child = 2 * i + 1) < a->count; i = child) {
        if (child + 1 < a->count && before(&a->heap[child + 1], &a->heap[child]))
            child++;
        if (!before(&a->heap[child], &a->heap[i]))
            break;
        swap(a, i, child);
    }
    return true;
}
