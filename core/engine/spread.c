/* Where names are placed. */
#include "engine/spread_private.h"

#include <stdlib.h>
#include <string.h>

#define SLOT_NAMES_MIN 16u

/* ---- slots ---- */

static bool grow_slot(struct tm_spread *s, struct tm_slot *slot, uint32_t chunk)
{
    uint32_t cap = slot->cap ? slot->cap * 2u : SLOT_NAMES_MIN;
    cap = cap < chunk ? cap : chunk;
    uint32_t *names = tm_spread_grow(s, slot->names, slot->cap * sizeof *names, cap * sizeof *names);
    if (!names)
        return false;
    slot->names = names;
    slot->cap = (uint16_t)cap;
    return true;
}

static int add_slot(struct tm_spread *s, struct tm_connection *c)
{
    if (c->slot_count == TM_SPREAD_SLOTS_MAX)
        return TM_EFULL;
    if (c->slot_count == c->slot_cap) {
        uint32_t cap = c->slot_cap ? c->slot_cap * 2 : 4;
        struct tm_slot *slots = tm_spread_grow(s, c->slots, c->slot_cap * sizeof *slots, cap * sizeof *slots);
        if (!slots)
            return TM_ENOMEM;
        c->slots = slots;
        c->slot_cap = cap;
    }
    c->slots[c->slot_count++] = (struct tm_slot){0};
    return TM_OK;
}

/* Make sure that slot `room_from` has room for one more name. */
static int make_room(struct tm_spread *s, struct tm_connection *c)
{
    while (c->room_from < c->slot_count && c->slots[c->room_from].count >= c->chunk)
        c->room_from++;
    int rc = c->room_from == c->slot_count ? add_slot(s, c) : TM_OK;
    if (rc)
        return rc;
    struct tm_slot *slot = &c->slots[c->room_from];
    return slot->count < slot->cap || grow_slot(s, slot, c->chunk) ? TM_OK : TM_ENOMEM;
}

static void put_in_slot(struct tm_spread *s, struct tm_connection *c, uint32_t name)
{
    struct tm_name *n = tm_name_at(s, name);
    struct tm_slot *slot = &c->slots[c->room_from];
    n->slot = c->room_from;
    n->place = slot->count;
    slot->names[slot->count++] = name;
    tm_slot_touch(c, n->slot);
}

static void take_from_slot(struct tm_spread *s, struct tm_connection *c, uint32_t name)
{
    const struct tm_name *n = tm_name_at(s, name);
    struct tm_slot *slot = &c->slots[n->slot];
    uint32_t last = slot->names[--slot->count];
    slot->names[n->place] = last;
    tm_name_at(s, last)->place = n->place;
    tm_slot_touch(c, n->slot);
    if (n->slot < c->room_from)
        c->room_from = n->slot;
}

/* ---- placing ---- */

static uint32_t least_loaded(const struct tm_spread *s, uint32_t from)
{
    uint32_t best = from;
    for (uint32_t i = from + 1; i < s->connection_count; i++)
        if (s->loads[i] < s->loads[best])
            best = i;
    return best;
}

/* Where it was told, if anywhere: then nobody has to be told anything. */
static uint32_t choose(const struct tm_spread *s, uint32_t name)
{
    uint32_t leaving = tm_name_at(s, name)->leaving;
    return leaving != TM_NONE ? tm_leaving_at(s, leaving)->connection : least_loaded(s, 0);
}

static int place(struct tm_spread *s, uint32_t name, uint32_t connection)
{
    struct tm_name *n = tm_name_at(s, name);
    struct tm_connection *c = &s->connections[connection];
    int rc = make_room(s, c);
    if (rc)
        return rc;
    put_in_slot(s, c, name);
    n->placed = true;
    n->connection = (uint16_t)connection;
    s->loads[connection]++;
    s->count++;
    uint32_t leaving = tm_leaving_find(s, n, connection);
    n->told = leaving != TM_NONE;
    if (n->told)
        tm_leaving_drop(s, leaving);
    else
        tm_added_link(s, name);
    return TM_OK;
}

/* `leaves`: its connection, if told, is to be told that it is gone; the pool of leavings has a spare one. */
static void unplace(struct tm_spread *s, uint32_t name, bool leaves)
{
    struct tm_name *n = tm_name_at(s, name);
    take_from_slot(s, &s->connections[n->connection], name);
    tm_added_unlink(s, name);
    if (n->told && leaves)
        tm_leaving_make(s, name, n->connection);
    n->placed = n->told = false;
    s->loads[n->connection]--;
    s->count--;
}

int tm_spread_add(struct tm_spread *s, const char *name, size_t len)
{
    if (len == 0 || len > TM_SPREAD_NAME_MAX)
        return TM_EINVAL;
    uint32_t number = tm_names_intern(s, name, len);
    if (number == TM_NONE)
        return TM_ENOMEM;
    if (tm_name_at(s, number)->placed)
        return 0;
    int rc = place(s, number, choose(s, number));
    if (rc)
        tm_names_free_unused(s, number);
    return rc ? rc : 1;
}

int tm_spread_remove(struct tm_spread *s, const char *name, size_t len)
{
    uint32_t number = tm_names_find(s, name, len);
    if (number == TM_NONE || !tm_name_at(s, number)->placed)
        return 0;
    if (!tm_pool_has_spare(s, &s->leavings))
        return TM_ENOMEM;
    unplace(s, number, true);
    tm_names_free_unused(s, number);
    return 1;
}

bool tm_spread_find(const struct tm_spread *s, const char *name, size_t len, struct tm_spread_place *out)
{
    uint32_t number = tm_names_find(s, name, len);
    if (number == TM_NONE || !tm_name_at(s, number)->placed)
        return false;
    const struct tm_name *n = tm_name_at(s, number);
    *out = (struct tm_spread_place){.connection = n->connection, .slot = n->slot};
    return true;
}

/* ---- connections ---- */

static int add_connections(struct tm_spread *s, uint32_t count)
{
    size_t before = s->connection_count, grown = before + count;
    struct tm_connection *connections =
        tm_spread_grow(s, s->connections, before * sizeof *connections, grown * sizeof *connections);
    if (!connections)
        return TM_ENOMEM;
    s->connections = connections;
    uint32_t *loads = tm_spread_grow(s, s->loads, before * sizeof *loads, grown * sizeof *loads);
    if (!loads) {
        s->bytes -= count * sizeof *connections; /* counted when it is used */
        return TM_ENOMEM;
    }
    s->loads = loads;
    for (size_t i = before; i < grown; i++) {
        s->connections[i] =
            (struct tm_connection){.chunk = s->chunk, .added = {TM_NONE, TM_NONE, 0}, .removed = {TM_NONE, TM_NONE, 0}};
        s->loads[i] = 0;
    }
    s->connection_count = (uint32_t)grown;
    return TM_OK;
}

static void free_connection(struct tm_spread *s, struct tm_connection *c)
{
    for (uint32_t i = 0; i < c->slot_count; i++)
        tm_spread_release(s, c->slots[i].names, c->slots[i].cap * sizeof *c->slots[i].names);
    tm_spread_release(s, c->slots, c->slot_cap * sizeof *c->slots);
    for (int i = 0; i < 2; i++)
        tm_spread_release(s, c->batches[i].names, c->batches[i].cap * sizeof *c->batches[i].names);
}

/* The last name of the last slot that has any: what is taken from there leaves the other opening frames as they are. */
static uint32_t last_name(const struct tm_connection *c)
{
    uint32_t slot = c->slot_count;
    while (slot > 0 && !c->slots[slot - 1].count)
        slot--;
    return slot ? c->slots[slot - 1].names[c->slots[slot - 1].count - 1] : TM_NONE;
}

/* Room at the destination is made first, so that a name is never without a place. */
static int move(struct tm_spread *s, uint32_t name, uint32_t to, bool leaves)
{
    int rc = make_room(s, &s->connections[to]);
    if (rc)
        return rc;
    if (!tm_pool_has_spare(s, &s->leavings))
        return TM_ENOMEM;
    unplace(s, name, leaves);
    return place(s, name, to);
}

/* What the connections that go were told is forgotten before the moves: nothing goes back to one of them. */
static int drop_connections(struct tm_spread *s, uint32_t keep)
{
    uint32_t had = s->connection_count;
    for (uint32_t i = keep; i < had; i++)
        tm_connection_forget(s, i);
    s->connection_count = keep; /* the least loaded is one of those */
    for (uint32_t i = keep; i < had; i++) {
        for (uint32_t name; (name = last_name(&s->connections[i])) != TM_NONE;) {
            uint32_t leaving = tm_name_at(s, name)->leaving; /* it may come back to where it was told */
            uint32_t to = leaving != TM_NONE ? tm_leaving_at(s, leaving)->connection : least_loaded(s, 0);
            int rc = move(s, name, to, false);
            if (rc) {
                s->connection_count = had;
                return rc;
            }
        }
    }
    for (uint32_t i = keep; i < had; i++)
        free_connection(s, &s->connections[i]);
    s->bytes -= (had - keep) * (sizeof *s->connections + sizeof *s->loads); /* the room stays, for the next growth */
    return TM_OK;
}

static uint32_t most_loaded(const struct tm_spread *s, uint32_t count)
{
    uint32_t best = 0;
    for (uint32_t i = 1; i < count; i++)
        if (s->loads[i] > s->loads[best])
            best = i;
    return best;
}

static int fill_connections(struct tm_spread *s, uint32_t first)
{
    uint32_t share = s->count / s->connection_count;
    for (;;) {
        uint32_t from = most_loaded(s, first), to = least_loaded(s, first);
        if (s->loads[to] >= share || s->loads[from] <= s->loads[to] + 1)
            return TM_OK;
        int rc = move(s, last_name(&s->connections[from]), to, true);
        if (rc)
            return rc;
    }
}

int tm_spread_set_chunk(struct tm_spread *s, uint32_t connection, uint32_t chunk)
{
    struct tm_connection *c = &s->connections[connection];
    uint32_t slots = c->slot_count;
    c->chunk = chunk;
    c->room_from = 0;
    for (uint32_t i = 0; i < slots; i++) {
        while (c->slots[i].count > chunk) {
            uint32_t name = c->slots[i].names[c->slots[i].count - 1];
            int rc = make_room(s, c);
            if (rc)
                return rc;
            uint32_t room = c->room_from; /* never slot i, which is over-full */
            take_from_slot(s, c, name);
            c->room_from = room;
            put_in_slot(s, c, name);
        }
    }
    return TM_OK;
}

int tm_spread_resize(struct tm_spread *s, uint32_t connections, uint32_t chunk)
{
    uint32_t had = s->connection_count;
    int rc = TM_OK;
    bool other_chunk = chunk != s->chunk;
    s->chunk = chunk;
    if (connections < had)
        rc = drop_connections(s, connections);
    for (uint32_t i = 0; other_chunk && !rc && i < s->connection_count; i++)
        rc = tm_spread_set_chunk(s, i, chunk);
    if (!rc && connections > had)
        rc = add_connections(s, connections - had);
    if (!rc && connections > had)
        rc = fill_connections(s, had);
    return rc;
}

/* ---- the whole ---- */

struct tm_spread *tm_spread_create(uint32_t connections, uint32_t chunk)
{
    struct tm_spread *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->chunk = chunk;
    tm_names_init(s);
    if (add_connections(s, connections) == TM_OK)
        return s;
    tm_spread_destroy(s);
    return NULL;
}

static void fini(struct tm_spread *s)
{
    for (uint32_t i = 0; i < s->connection_count; i++)
        free_connection(s, &s->connections[i]);
    tm_names_fini(s);
}

void tm_spread_destroy(struct tm_spread *s)
{
    if (!s)
        return;
    fini(s);
    free(s->connections);
    free(s->loads);
    free(s);
}

void tm_spread_clear(struct tm_spread *s)
{
    fini(s);
    for (uint32_t i = 0; i < s->connection_count; i++) {
        s->connections[i] = (struct tm_connection){
            .chunk = s->connections[i].chunk, .added = {TM_NONE, TM_NONE, 0}, .removed = {TM_NONE, TM_NONE, 0}};
        s->loads[i] = 0;
    }
    s->count = 0;
    tm_names_init(s);
}

/* ---- reading ---- */

uint32_t tm_spread_connections(const struct tm_spread *s)
{
    return s->connection_count;
}

uint32_t tm_spread_chunk(const struct tm_spread *s)
{
    return s->chunk;
}

uint32_t tm_spread_count(const struct tm_spread *s)
{
    return s->count;
}

struct tm_spread_stats tm_spread_stats(const struct tm_spread *s, uint32_t connection)
{
    const struct tm_connection *c = &s->connections[connection];
    return (struct tm_spread_stats){.names = s->loads[connection],
                                    .slots = c->slot_count,
                                    .dirty = c->dirty_count,
                                    .added = c->added.count,
                                    .removed = c->removed.count,
                                    .chunk = c->chunk};
}

uint64_t tm_spread_pending(const struct tm_spread *s)
{
    uint64_t pending = 0;
    for (uint32_t i = 0; i < s->connection_count; i++) {
        const struct tm_connection *c = &s->connections[i];
        pending += (uint64_t)c->dirty_count + c->added.count + c->removed.count;
    }
    return pending;
}

size_t tm_spread_memory(const struct tm_spread *s)
{
    return s->bytes + sizeof *s;
}

uint32_t tm_spread_slot_count(const struct tm_spread *s, uint32_t connection, uint32_t slot)
{
    const struct tm_connection *c = &s->connections[connection];
    return slot < c->slot_count ? c->slots[slot].count : 0;
}

const char *tm_spread_slot_name(const struct tm_spread *s, uint32_t connection, uint32_t slot, uint32_t i, size_t *len)
{
    if (i >= tm_spread_slot_count(s, connection, slot))
        return NULL;
    const struct tm_name *n = tm_name_at(s, s->connections[connection].slots[slot].names[i]);
    *len = n->len;
    return tm_name_text(s, n);
}

const char *tm_spread_next(const struct tm_spread *s, uint32_t *cursor, size_t *len)
{
    while (*cursor < s->names.end) {
        const struct tm_name *n = tm_name_at(s, (*cursor)++);
        if (n->placed) {
            *len = n->len;
            return tm_name_text(s, n);
        }
    }
    return NULL;
}
