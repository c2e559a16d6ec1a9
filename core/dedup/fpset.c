#include "dedup/fpset.h"

#include <stdlib.h>
#include <string.h>

#define SIZE_MIN 1024

void tm_fpset_fini(struct tm_fpset *s)
{
    free(s->slots);
    *s = (struct tm_fpset){0};
}

int tm_fpset_clear(struct tm_fpset *s, size_t rows)
{
    size_t size = SIZE_MIN;
    while (size < rows * 2)
        size *= 2;
    /* zeroing costs as much as the size: a set that once was large must not make small transactions slow */
    if (size > s->size || size < s->size / 16) {
        free(s->slots);
        s->size = 0;
        s->slots = malloc(size * sizeof *s->slots);
        if (!s->slots)
            return TM_ENOMEM;
        s->size = size;
    }
    memset(s->slots, 0, s->size * sizeof *s->slots);
    return TM_OK;
}

void tm_fpset_prefetch(const struct tm_fpset *s, struct tm_fp fp)
{
    __builtin_prefetch(&s->slots[fp.lo & (s->size - 1)], 1);
}

bool tm_fpset_add(struct tm_fpset *s, struct tm_fp fp)
{
    size_t mask = s->size - 1;
    for (size_t at = fp.lo & mask;; at = (at + 1) & mask) {
        struct tm_fp *slot = &s->slots[at];
        if (slot->lo == fp.lo && slot->hi == fp.hi && (fp.lo | fp.hi))
            return false;
        if (!(slot->lo | slot->hi)) {
            *slot = fp;
            return true;
        }
    }
}
