/* Who was told of which name, and what there is to tell. */
#include "engine/spread_private.h"

#include <string.h>

#define BATCH_MIN 64u

/* ---- the added of a connection ---- */

void tm_added_link(struct tm_spread *s, uint32_t name)
{
    struct tm_name *n = tm_name_at(s, name);
    struct tm_list *list = &s->connections[n->connection].added;
    n->next = TM_NONE;
    n->prev = list->tail;
    if (list->tail != TM_NONE)
        tm_name_at(s, list->tail)->next = name;
    else
        list->head = name;
    list->tail = name;
    list->count++;
}

void tm_added_unlink(struct tm_spread *s, uint32_t name)
{
    struct tm_name *n = tm_name_at(s, name);
    struct tm_list *list = &s->connections[n->connection].added;
    if (n->prev == name)
        return;
    if (n->prev != TM_NONE)
        tm_name_at(s, n->prev)->next = n->next;
    else
        list->head = n->next;
    if (n->next != TM_NONE)
        tm_name_at(s, n->next)->prev = n->prev;
    else
        list->tail = n->prev;
    n->prev = name;
    list->count--;
}

/* ---- leavings ---- */

uint32_t tm_leaving_find(const struct tm_spread *s, const struct tm_name *n, uint32_t connection)
{
    uint32_t at = n->leaving;
    while (at != TM_NONE && tm_leaving_at(s, at)->connection != connection)
        at = tm_leaving_at(s, at)->sibling;
    return at;
}

void tm_leaving_make(struct tm_spread *s, uint32_t name, uint32_t connection)
{
    uint32_t number = tm_pool_take(s, &s->leavings);
    TM_FATAL_UNLESS(number != TM_NONE);
    struct tm_leaving *l = tm_leaving_at(s, number);
    struct tm_name *n = tm_name_at(s, name);
    struct tm_list *list = &s->connections[connection].removed;
    *l = (struct tm_leaving){
        .next = TM_NONE, .prev = list->tail, .name = name, .sibling = n->leaving, .connection = connection};
    n->leaving = number;
    if (list->tail != TM_NONE)
        tm_leaving_at(s, list->tail)->next = number;
    else
        list->head = number;
    list->tail = number;
    list->count++;
}

static void leave_siblings(struct tm_spread *s, uint32_t number)
{
    const struct tm_leaving *l = tm_leaving_at(s, number);
    uint32_t *at = &tm_name_at(s, l->name)->leaving;
    while (*at != number)
        at = &tm_leaving_at(s, *at)->sibling;
    *at = l->sibling;
}

void tm_leaving_drop(struct tm_spread *s, uint32_t leaving)
{
    const struct tm_leaving *l = tm_leaving_at(s, leaving);
    struct tm_list *list = &s->connections[l->connection].removed;
    if (l->prev != TM_NONE)
        tm_leaving_at(s, l->prev)->next = l->next;
    else
        list->head = l->next;
    if (l->next != TM_NONE)
        tm_leaving_at(s, l->next)->prev = l->prev;
    else
        list->tail = l->prev;
    list->count--;
    leave_siblings(s, leaving);
    tm_pool_put(&s->leavings, leaving);
}

/* ---- told or not: the lists follow ---- */

static int set_told(struct tm_spread *s, uint32_t name, uint32_t connection)
{
    struct tm_name *n = tm_name_at(s, name);
    if (n->placed && n->connection == connection) {
        tm_added_unlink(s, name);
        n->told = true;
        return TM_OK;
    }
    if (tm_leaving_find(s, n, connection) != TM_NONE)
        return TM_OK;
    if (!tm_pool_has_spare(s, &s->leavings))
        return TM_ENOMEM;
    tm_leaving_make(s, name, connection);
    return TM_OK;
}

static void set_untold(struct tm_spread *s, uint32_t name, uint32_t connection)
{
    struct tm_name *n = tm_name_at(s, name);
    if (n->placed && n->connection == connection) {
        if (n->told)
            tm_added_link(s, name);
        n->told = false;
        return;
    }
    uint32_t leaving = tm_leaving_find(s, n, connection);
    if (leaving != TM_NONE)
        tm_leaving_drop(s, leaving);
}

/* ---- takes ---- */

static void forget_batch(struct tm_spread *s, struct tm_batch *b)
{
    for (uint32_t i = 0; i < b->count; i++) {
        tm_name_at(s, b->names[i])->held--;
        tm_names_free_unused(s, b->names[i]);
    }
    b->count = 0;
}

static bool batch_has_room(struct tm_spread *s, struct tm_batch *b, uint32_t count)
{
    if (count <= b->cap)
        return true;
    uint32_t cap = count > BATCH_MIN ? count : BATCH_MIN;
    uint32_t *names = tm_spread_grow(s, b->names, b->cap * sizeof *names, cap * sizeof *names);
    if (!names)
        return false;
    b->names = names;
    b->cap = cap;
    return true;
}

int tm_spread_take(struct tm_spread *s, uint32_t connection, enum tm_spread_change what, uint32_t limit)
{
    struct tm_connection *c = &s->connections[connection];
    struct tm_batch *b = &c->batches[what];
    const struct tm_list *list = what == TM_SPREAD_ADDED ? &c->added : &c->removed;
    uint32_t count = limit < list->count ? limit : list->count;
    forget_batch(s, b);
    if (!batch_has_room(s, b, count))
        return TM_ENOMEM;
    while (b->count < count) {
        uint32_t name = what == TM_SPREAD_ADDED ? list->head : tm_leaving_at(s, list->head)->name;
        tm_name_at(s, name)->held++;
        b->names[b->count++] = name;
        if (what == TM_SPREAD_REMOVED)
            set_untold(s, name, connection);
        else if (set_told(s, name, connection)) /* placed here: needs no memory */
            return TM_ENOMEM;
    }
    return (int)count;
}

int tm_spread_give_back(struct tm_spread *s, uint32_t connection, enum tm_spread_change what)
{
    struct tm_batch *b = &s->connections[connection].batches[what];
    int rc = TM_OK;
    for (uint32_t i = 0; i < b->count; i++) {
        if (what == TM_SPREAD_ADDED)
            set_untold(s, b->names[i], connection);
        else if (set_told(s, b->names[i], connection))
            rc = TM_ENOMEM;
    }
    forget_batch(s, b);
    return rc;
}

void tm_spread_sent(struct tm_spread *s, uint32_t connection, enum tm_spread_change what)
{
    forget_batch(s, &s->connections[connection].batches[what]);
}

const char *tm_spread_taken(const struct tm_spread *s, uint32_t connection, enum tm_spread_change what, uint32_t i,
                            size_t *len)
{
    const struct tm_batch *b = &s->connections[connection].batches[what];
    if (i >= b->count)
        return NULL;
    const struct tm_name *n = tm_name_at(s, b->names[i]);
    *len = n->len;
    return tm_name_text(s, n);
}

/* ---- all of a connection ---- */

void tm_connection_forget(struct tm_spread *s, uint32_t connection)
{
    struct tm_connection *c = &s->connections[connection];
    forget_batch(s, &c->batches[TM_SPREAD_ADDED]);
    forget_batch(s, &c->batches[TM_SPREAD_REMOVED]);
    while (c->removed.head != TM_NONE) {
        uint32_t name = tm_leaving_at(s, c->removed.head)->name;
        tm_leaving_drop(s, c->removed.head);
        tm_names_free_unused(s, name);
    }
}

void tm_spread_retell(struct tm_spread *s, uint32_t connection)
{
    const struct tm_connection *c = &s->connections[connection];
    for (uint32_t slot = 0; slot < c->slot_count; slot++)
        for (uint32_t i = 0; i < c->slots[slot].count; i++)
            set_untold(s, c->slots[slot].names[i], connection);
}

void tm_spread_restart(struct tm_spread *s, uint32_t connection)
{
    struct tm_connection *c = &s->connections[connection];
    tm_connection_forget(s, connection);
    tm_spread_retell(s, connection);
    for (uint32_t slot = 0; slot < c->slot_count; slot++)
        tm_slot_touch(c, slot);
}

/* ---- slots ---- */

void tm_slot_touch(struct tm_connection *c, uint32_t slot)
{
    if (!c->slots[slot].dirty)
        c->dirty_count++;
    c->slots[slot].dirty = true;
    if (slot < c->dirty_from)
        c->dirty_from = slot;
}

int64_t tm_spread_take_slot(struct tm_spread *s, uint32_t connection)
{
    struct tm_connection *c = &s->connections[connection];
    if (!c->dirty_count)
        return -1;
    while (!c->slots[c->dirty_from].dirty)
        c->dirty_from++;
    c->slots[c->dirty_from].dirty = false;
    c->dirty_count--;
    return c->dirty_from++;
}

void tm_spread_touch_slot(struct tm_spread *s, uint32_t connection, uint32_t slot)
{
    struct tm_connection *c = &s->connections[connection];
    if (slot < c->slot_count)
        tm_slot_touch(c, slot);
}

/* ---- JSON ---- */

static int put_text(struct tm_buf *out, const char *text, size_t len)
{
    static const char hex[] = "0123456789abcdef";
    int rc = tm_buf_reserve(out, len * 6 + 3);
    if (rc)
        return rc;
    uint8_t *p = out->data + out->len;
    *p++ = '"';
    for (size_t i = 0; i < len; i++) {
        uint8_t c = (uint8_t)text[i];
        if (c >= 0x20 && c != '"' && c != '\\') {
            *p++ = c;
            continue;
        }
        memcpy(p, "\\u00", 4);
        p[4] = (uint8_t)hex[c >> 4];
        p[5] = (uint8_t)hex[c & 15];
        p += 6;
    }
    *p++ = '"';
    out->len = (size_t)(p - out->data);
    return TM_OK;
}

static int put_names(const struct tm_spread *s, const uint32_t *names, uint32_t count, struct tm_buf *out)
{
    int rc = tm_buf_append(out, "[", 1);
    for (uint32_t i = 0; !rc && i < count; i++) {
        const struct tm_name *n = tm_name_at(s, names[i]);
        rc = i ? tm_buf_append(out, ",", 1) : TM_OK;
        rc = rc ? rc : put_text(out, tm_name_text(s, n), n->len);
    }
    return rc ? rc : tm_buf_append(out, "]", 1);
}

int tm_spread_put_slot(const struct tm_spread *s, uint32_t connection, uint32_t slot, struct tm_buf *out)
{
    const struct tm_connection *c = &s->connections[connection];
    if (slot >= c->slot_count)
        return put_names(s, NULL, 0, out);
    return put_names(s, c->slots[slot].names, c->slots[slot].count, out);
}

int tm_spread_put_taken(const struct tm_spread *s, uint32_t connection, enum tm_spread_change what, struct tm_buf *out)
{
    const struct tm_batch *b = &s->connections[connection].batches[what];
    return put_names(s, b->names, b->count, out);
}
