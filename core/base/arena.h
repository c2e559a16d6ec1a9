/*
 * An arena: many small allocations with one lifetime (a plan, a configuration, a batch). Memory is zeroed, aligned
 * to 16 bytes and freed all at once. Running out of memory aborts: arenas hold small, bounded things made at load
 * time; anything sized by the feed uses struct tm_buf and its error code. One thread at a time.
 */
#ifndef TM_BASE_ARENA_H
#define TM_BASE_ARENA_H

#include <stddef.h>

struct tm_arena;

struct tm_arena *tm_arena_create(void);
void tm_arena_destroy(struct tm_arena *a);

void *tm_arena_alloc(struct tm_arena *a, size_t size);
char *tm_arena_strndup(struct tm_arena *a, const char *s, size_t len);
char *tm_arena_strdup(struct tm_arena *a, const char *s); /* NULL for NULL */

#endif
