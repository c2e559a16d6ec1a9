/*
 * What spread.c, spread_names.c and spread_changes.c share.
 *
 * A name's entry lives while the name is placed, while a connection that was told of it has not been told of its end
 * (a struct tm_leaving each), or while the last take of a connection holds it. Entries and leavings are found by
 * number: they lie in pages that never move.
 */
#ifndef TM_ENGINE_SPREAD_PRIVATE_H
#define TM_ENGINE_SPREAD_PRIVATE_H

#include "engine/spread.h"

#define TM_NONE UINT32_MAX
#define TM_PAGE_ITEMS 4096u /* of a pool */

/* Fixed-size items by number; freed ones are chained through their first four bytes. */
struct tm_pool {
    uint8_t **pages;
    size_t item;
    uint32_t page_count, end, free_head;
};

struct tm_name {
    uint32_t next;       /* first: the pool's chain; while added: the next added of its connection */
    uint32_t prev;       /* while added; itself when it is not in that list */
    uint32_t text, hash; /* text: place in the text slabs */
    uint32_t slot;
    uint32_t leaving; /* the first of its leavings */
    uint16_t connection, place;
    uint16_t held; /* by takes */
    uint8_t len;
    bool placed : 1, told : 1; /* told: the connection it is placed on */
};

/* A connection that was told of a name that is not on it (any more). */
struct tm_leaving {
    uint32_t next, prev; /* in the connection's list of removed */
    uint32_t name, sibling;
    uint32_t connection;
};

struct tm_slot {
    uint32_t *names;
    uint16_t count, cap;
    bool dirty;
};

struct tm_list {
    uint32_t head, tail, count;
};

struct tm_batch {
    uint32_t *names;
    uint32_t count, cap;
};

struct tm_connection {
    struct tm_slot *slots;
    uint32_t slot_count, slot_cap;
    uint32_t chunk;
    uint32_t room_from;  /* no slot before it has room */
    uint32_t dirty_from; /* no slot before it is dirty */
    uint32_t dirty_count;
    struct tm_list added, removed;
    struct tm_batch batches[2]; /* by enum tm_spread_change */
};

#define TM_TEXT_UNIT 8u
#define TM_TEXT_CLASSES (256 / TM_TEXT_UNIT)

struct tm_spread {
    struct tm_pool names, leavings;
    uint8_t **text_pages;
    uint32_t text_page_count, text_used; /* units used of the last page */
    uint32_t text_free[TM_TEXT_CLASSES]; /* by units - 1; chained through their first four bytes */
    uint32_t *index;                     /* entry number or TM_NONE; open addressing with linear probing */
    uint32_t index_size, entries;
    struct tm_connection *connections;
    uint32_t *loads; /* names of each connection, beside each other: the choice of one looks at them all */
    uint32_t connection_count, chunk, count;
    size_t bytes; /* allocated, besides struct tm_spread */
};

/* ---- spread_names.c: entries, texts, index ---- */

void *tm_pool_at(const struct tm_pool *p, uint32_t number);
uint32_t tm_pool_take(struct tm_spread *s, struct tm_pool *p); /* zeroed; TM_NONE: no memory */
bool tm_pool_has_spare(struct tm_spread *s, struct tm_pool *p);
void tm_pool_put(struct tm_pool *p, uint32_t number);

/* realloc that counts. */
void *tm_spread_grow(struct tm_spread *s, void *block, size_t old_bytes, size_t new_bytes);
void tm_spread_release(struct tm_spread *s, void *block, size_t bytes);

static inline struct tm_name *tm_name_at(const struct tm_spread *s, uint32_t number)
{
    return tm_pool_at(&s->names, number);
}

static inline struct tm_leaving *tm_leaving_at(const struct tm_spread *s, uint32_t number)
{
    return tm_pool_at(&s->leavings, number);
}

const char *tm_name_text(const struct tm_spread *s, const struct tm_name *n);
uint32_t tm_names_find(const struct tm_spread *s, const char *text, size_t len); /* TM_NONE: not there */
uint32_t tm_names_intern(struct tm_spread *s, const char *text, size_t len);     /* found or made; TM_NONE: no memory */
void tm_names_free_unused(struct tm_spread *s, uint32_t number);                 /* when nothing needs the entry */
void tm_names_init(struct tm_spread *s);
void tm_names_fini(struct tm_spread *s);

/* ---- spread_changes.c: who was told ---- */

void tm_added_link(struct tm_spread *s, uint32_t name);
void tm_added_unlink(struct tm_spread *s, uint32_t name);

/* The leaving of a name on a connection, or TM_NONE. */
uint32_t tm_leaving_find(const struct tm_spread *s, const struct tm_name *n, uint32_t connection);
void tm_leaving_make(struct tm_spread *s, uint32_t name, uint32_t connection); /* the pool has a spare one */
void tm_leaving_drop(struct tm_spread *s, uint32_t leaving);

/* Forget all that a connection was told or has taken. */
void tm_connection_forget(struct tm_spread *s, uint32_t connection);

void tm_slot_touch(struct tm_connection *c, uint32_t slot);

#endif
