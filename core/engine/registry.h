/*
 * A registry: the newest row of every key of an upsert stream (markets, events, series), in memory. Knows no
 * exchange: rows are tuples, of which chosen columns are kept packed. One million markets of ten columns take
 * about 150 MB.
 *
 * One thread (policy). Entries keep their number for as long as they live; numbers of removed ones are used
 * again.
 */
#ifndef TM_ENGINE_REGISTRY_H
#define TM_ENGINE_REGISTRY_H

#include "record/row.h"

struct tm_registry;

/* Holds the stream's plan. `columns`: NULL-terminated names to keep (besides the key's column, which is the first of stream->key). */
int tm_registry_create(const struct tm_stream *stream, const char *const *columns, struct tm_registry **out,
                       struct tm_error *err) TM_MUST_CHECK;
void tm_registry_destroy(struct tm_registry *r);

/* The stream as another plan has it (reload); rows are put as this one writes them. The entries stay. TM_EINVAL when it is
 * not the same key or lacks a kept column: then nothing has changed, and a new registry is needed. */
int tm_registry_set_stream(struct tm_registry *r, const struct tm_stream *stream, struct tm_error *err) TM_MUST_CHECK;

/* Keep one more column whose changes are of no interest by themselves: a put that changes only such columns answers
 * TM_REGISTRY_SAME, but is kept. Before the first put, after all other columns. */
int tm_registry_keep_quietly(struct tm_registry *r, const char *column, struct tm_error *err) TM_MUST_CHECK;

enum tm_registry_change { TM_REGISTRY_SAME, TM_REGISTRY_CHANGED, TM_REGISTRY_NEW };

/* Put a row of the stream; returns what changed, or an error (< 0). *entry is its number. */
int tm_registry_put(struct tm_registry *r, const uint8_t *tuple, size_t len, uint32_t *entry) TM_MUST_CHECK;

/* -1: not there. */
int64_t tm_registry_find(const struct tm_registry *r, const char *key, size_t len);
void tm_registry_remove(struct tm_registry *r, uint32_t entry);

/* Kept columns: 0 is the key. bytes in COPY binary form, valid until the next put or remove. */
size_t tm_registry_column_count(const struct tm_registry *r);
const struct tm_column *tm_registry_column(const struct tm_registry *r, size_t column);
struct tm_field tm_registry_get(const struct tm_registry *r, uint32_t entry, size_t column);
bool tm_registry_column_is_quiet(const struct tm_registry *r, size_t column);

size_t tm_registry_count(const struct tm_registry *r);
uint32_t tm_registry_end(const struct tm_registry *r); /* numbers are below this */
bool tm_registry_is_live(const struct tm_registry *r, uint32_t entry);
size_t tm_registry_memory(const struct tm_registry *r);

#endif
