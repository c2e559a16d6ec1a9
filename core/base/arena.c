#include "base/arena.h"
#include "base/error.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK_BYTES 16384

struct block {
    struct block *next;
    size_t used, cap;
    _Alignas(16) unsigned char bytes[];
};

struct tm_arena {
    struct block *head;
};

struct tm_arena *tm_arena_create(void)
{
    struct tm_arena *a = calloc(1, sizeof *a);
    TM_FATAL_UNLESS(a);
    return a;
}

void tm_arena_destroy(struct tm_arena *a)
{
    if (!a)
        return;
    for (struct block *b = a->head, *next; b; b = next) {
        next = b->next;
        free(b);
    }
    free(a);
}

void *tm_arena_alloc(struct tm_arena *a, size_t size)
{
    size = (size + 15) & ~(size_t)15;
    if (!a->head || a->head->cap - a->head->used < size) {
        size_t cap = size > BLOCK_BYTES ? size : BLOCK_BYTES;
        struct block *b = calloc(1, sizeof *b + cap);
        TM_FATAL_UNLESS(b);
        b->cap = cap;
        b->next = a->head;
        a->head = b;
    }
    void *p = a->head->bytes + a->head->used;
    a->head->used += size;
    return p;
}

char *tm_arena_strndup(struct tm_arena *a, const char *s, size_t len)
{
    char *copy = tm_arena_alloc(a, len + 1);
    memcpy(copy, s, len);
    return copy;
}

char *tm_arena_strdup(struct tm_arena *a, const char *s)
{
    return s ? tm_arena_strndup(a, s, strlen(s)) : NULL;
}
