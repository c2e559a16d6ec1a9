/* The names of a spread: their entries, their bytes and the index by name. */
#include "engine/spread_private.h"

#include "base/hash.h"

#include <stdlib.h>
#include <string.h>

#define INDEX_MIN 64u
#define TEXT_PAGE_UNITS 8192u /* 64 KiB */

void *tm_spread_grow(struct tm_spread *s, void *block, size_t old_bytes, size_t new_bytes)
{
    void *grown = realloc(block, new_bytes);
    if (grown)
        s->bytes += new_bytes - old_bytes;
    return grown;
}

void tm_spread_release(struct tm_spread *s, void *block, size_t bytes)
{
    if (block)
        s->bytes -= bytes;
    free(block);
}

/* ---- pools ---- */

void *tm_pool_at(const struct tm_pool *p, uint32_t number)
{
    return p->pages[number / TM_PAGE_ITEMS] + number % TM_PAGE_ITEMS * p->item;
}

bool tm_pool_has_spare(struct tm_spread *s, struct tm_pool *p)
{
    if (p->free_head != TM_NONE || p->end < p->page_count * TM_PAGE_ITEMS)
        return true;
    size_t before = p->page_count * sizeof *p->pages;
    uint8_t **pages = tm_spread_grow(s, p->pages, before, before + sizeof *pages);
    if (!pages)
        return false;
    p->pages = pages;
    uint8_t *page = tm_spread_grow(s, NULL, 0, TM_PAGE_ITEMS * p->item);
    if (!page) {
        s->bytes -= sizeof *pages; /* the pointer's room is counted with the page that it is for */
        return false;
    }
    p->pages[p->page_count++] = page;
    return true;
}

uint32_t tm_pool_take(struct tm_spread *s, struct tm_pool *p)
{
    if (!tm_pool_has_spare(s, p))
        return TM_NONE;
    uint32_t number = p->free_head;
    if (number == TM_NONE)
        number = p->end++;
    else
        memcpy(&p->free_head, tm_pool_at(p, number), sizeof p->free_head);
    memset(tm_pool_at(p, number), 0, p->item);
    return number;
}

void tm_pool_put(struct tm_pool *p, uint32_t number)
{
    memset(tm_pool_at(p, number), 0, p->item);
    memcpy(tm_pool_at(p, number), &p->free_head, sizeof p->free_head);
    p->free_head = number;
}

static void pool_fini(struct tm_spread *s, struct tm_pool *p)
{
    for (uint32_t i = 0; i < p->page_count; i++)
        tm_spread_release(s, p->pages[i], TM_PAGE_ITEMS * p->item);
    tm_spread_release(s, p->pages, p->page_count * sizeof *p->pages);
}

/* ---- texts ---- */

static uint8_t *text_at(const struct tm_spread *s, uint32_t text)
{
    return s->text_pages[text / TEXT_PAGE_UNITS] + (size_t)(text % TEXT_PAGE_UNITS) * TM_TEXT_UNIT;
}

static uint32_t units_of(size_t len)
{
    return (uint32_t)(len + TM_TEXT_UNIT - 1) / TM_TEXT_UNIT;
}

static bool add_text_page(struct tm_spread *s)
{
    size_t before = s->text_page_count * sizeof *s->text_pages;
    uint8_t **pages = tm_spread_grow(s, s->text_pages, before, before + sizeof *pages);
    if (!pages)
        return false;
    s->text_pages = pages;
    uint8_t *page = tm_spread_grow(s, NULL, 0, (size_t)TEXT_PAGE_UNITS * TM_TEXT_UNIT);
    if (!page) {
        s->bytes -= sizeof *pages;
        return false;
    }
    s->text_pages[s->text_page_count++] = page;
    s->text_used = 0;
    return true;
}

static uint32_t take_text(struct tm_spread *s, const char *text, size_t len)
{
    uint32_t units = units_of(len), *free_head = &s->text_free[units - 1], at = *free_head;
    if (at != TM_NONE) {
        memcpy(free_head, text_at(s, at), sizeof *free_head);
    } else {
        if (s->text_used + units > TEXT_PAGE_UNITS && !add_text_page(s))
            return TM_NONE;
        at = (s->text_page_count - 1) * TEXT_PAGE_UNITS + s->text_used;
        s->text_used += units;
    }
    memcpy(text_at(s, at), text, len);
    return at;
}

static void put_text(struct tm_spread *s, uint32_t text, size_t len)
{
    uint32_t *free_head = &s->text_free[units_of(len) - 1];
    memcpy(text_at(s, text), free_head, sizeof *free_head);
    *free_head = text;
}

const char *tm_name_text(const struct tm_spread *s, const struct tm_name *n)
{
    return (const char *)text_at(s, n->text);
}

/* ---- index ---- */

static bool is_name(const struct tm_spread *s, uint32_t number, uint32_t hash, const char *text, size_t len)
{
    const struct tm_name *n = tm_name_at(s, number);
    return n->hash == hash && n->len == len && memcmp(text_at(s, n->text), text, len) == 0;
}

/* The place of the name in the index, or the free place where it would go. */
static uint32_t probe(const struct tm_spread *s, uint32_t hash, const char *text, size_t len)
{
    uint32_t mask = s->index_size - 1, at = hash & mask;
    while (s->index[at] != TM_NONE && !is_name(s, s->index[at], hash, text, len))
        at = (at + 1) & mask;
    return at;
}

static bool grow_index(struct tm_spread *s)
{
    uint32_t size = s->index_size ? s->index_size * 2 : INDEX_MIN, mask = size - 1;
    uint32_t *index = tm_spread_grow(s, NULL, 0, size * sizeof *index);
    if (!index)
        return false;
    memset(index, 0xff, size * sizeof *index);
    for (uint32_t i = 0; i < s->index_size; i++) {
        if (s->index[i] == TM_NONE)
            continue;
        uint32_t at = tm_name_at(s, s->index[i])->hash & mask;
        while (index[at] != TM_NONE)
            at = (at + 1) & mask;
        index[at] = s->index[i];
    }
    tm_spread_release(s, s->index, s->index_size * sizeof *index);
    s->index = index;
    s->index_size = size;
    return true;
}

/* Close the hole that a removal leaves in a run of the index, so that no probe stops early. */
static void close_hole(struct tm_spread *s, uint32_t hole)
{
    uint32_t mask = s->index_size - 1;
    for (uint32_t at = (hole + 1) & mask; s->index[at] != TM_NONE; at = (at + 1) & mask) {
        uint32_t home = tm_name_at(s, s->index[at])->hash & mask;
        if (((at - home) & mask) >= ((at - hole) & mask)) {
            s->index[hole] = s->index[at];
            hole = at;
        }
    }
    s->index[hole] = TM_NONE;
}

/* ---- names ---- */

uint32_t tm_names_find(const struct tm_spread *s, const char *text, size_t len)
{
    if (!s->index_size || len == 0 || len > TM_SPREAD_NAME_MAX)
        return TM_NONE;
    return s->index[probe(s, (uint32_t)tm_hash64(text, len, 0), text, len)];
}

static uint32_t make_name(struct tm_spread *s, uint32_t hash, const char *text, size_t len)
{
    uint32_t at = take_text(s, text, len);
    uint32_t number = at == TM_NONE ? TM_NONE : tm_pool_take(s, &s->names);
    if (number == TM_NONE) {
        if (at != TM_NONE)
            put_text(s, at, len);
        return TM_NONE;
    }
    struct tm_name *n = tm_name_at(s, number);
    n->text = at;
    n->hash = hash;
    n->len = (uint8_t)len;
    n->leaving = TM_NONE;
    n->prev = number;
    s->entries++;
    return number;
}

uint32_t tm_names_intern(struct tm_spread *s, const char *text, size_t len)
{
    if ((uint64_t)(s->entries + 1) * 4 > (uint64_t)s->index_size * 3 && !grow_index(s))
        return TM_NONE;
    uint32_t hash = (uint32_t)tm_hash64(text, len, 0), place = probe(s, hash, text, len);
    if (s->index[place] == TM_NONE)
        s->index[place] = make_name(s, hash, text, len);
    return s->index[place];
}

void tm_names_free_unused(struct tm_spread *s, uint32_t number)
{
    struct tm_name *n = tm_name_at(s, number);
    if (n->placed || n->held || n->leaving != TM_NONE)
        return;
    close_hole(s, probe(s, n->hash, tm_name_text(s, n), n->len));
    put_text(s, n->text, n->len);
    tm_pool_put(&s->names, number);
    s->entries--;
}

void tm_names_init(struct tm_spread *s)
{
    s->names = (struct tm_pool){.item = sizeof(struct tm_name), .free_head = TM_NONE};
    s->leavings = (struct tm_pool){.item = sizeof(struct tm_leaving), .free_head = TM_NONE};
    s->text_used = TEXT_PAGE_UNITS; /* of no page: the first name makes one */
    memset(s->text_free, 0xff, sizeof s->text_free);
}

void tm_names_fini(struct tm_spread *s)
{
    pool_fini(s, &s->names);
    pool_fini(s, &s->leavings);
    for (uint32_t i = 0; i < s->text_page_count; i++)
        tm_spread_release(s, s->text_pages[i], (size_t)TEXT_PAGE_UNITS * TM_TEXT_UNIT);
    tm_spread_release(s, s->text_pages, s->text_page_count * sizeof *s->text_pages);
    tm_spread_release(s, s->index, s->index_size * sizeof *s->index);
    s->text_pages = NULL;
    s->index = NULL;
    s->text_page_count = s->index_size = s->entries = 0;
}
