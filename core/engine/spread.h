/*
 * A spread: which name (a market's ticker) is on which connection, and what the other side was told of it. Knows no
 * sockets: it sends nothing, it says what there is to send.
 *
 *     connection 0: [slot 0: up to `chunk` names] [slot 1: ...] ...        a slot is an opening frame of a link
 *     connection 1: [slot 0: ...] ...
 *
 * A new name goes to the connection with the fewest names, into its first slot with room, and stays there. Two facts are
 * kept for each name: where it is placed, and which connections were told of it. All changes follow from the two:
 *
 *     added   of a connection: placed on it, not told                    told --take(ADDED)--> in; give_back --> out
 *     removed of a connection: told, not placed on it (any more)         told --take(REMOVED)--> out; give_back --> in
 *     dirty   slots: their names changed since take_slot
 *
 * So a name that is removed and comes back before anybody was told is no change at all, and it comes back to where it
 * was told. take() marks at once; give_back() undoes the last take() of that connection, however the names have moved
 * in between. tm_spread_sent() forgets that take; the next take() does so by itself.
 *
 * Memory: names lie in slabs of size classes, with an entry of 32 bytes each, an index of 4 to 8 and a slot place of 4
 * to 8: a million names of 30 bytes take some 80 MB. Slabs are kept for reuse until tm_spread_clear. One thread.
 */
#ifndef TM_ENGINE_SPREAD_H
#define TM_ENGINE_SPREAD_H

#include "base/buf.h"

#define TM_SPREAD_CONNECTIONS_MAX 1000
#define TM_SPREAD_CHUNK_MAX 10000
#define TM_SPREAD_SLOTS_MAX 1000000 /* of a connection: as many as a link keeps opening frames */
#define TM_SPREAD_NAME_MAX 255

struct tm_spread;

/* NULL: out of memory. 1 to TM_SPREAD_CONNECTIONS_MAX connections, chunk 1 to TM_SPREAD_CHUNK_MAX. */
struct tm_spread *tm_spread_create(uint32_t connections, uint32_t chunk);
void tm_spread_destroy(struct tm_spread *s);

/* 1: placed; 0: it was there; TM_EINVAL: not 1 to 255 bytes; TM_EFULL: no slot left; TM_ENOMEM. */
int tm_spread_add(struct tm_spread *s, const char *name, size_t len) TM_MUST_CHECK;

/* 1: taken out; 0: it was not there; TM_ENOMEM: it is still there. */
int tm_spread_remove(struct tm_spread *s, const char *name, size_t len) TM_MUST_CHECK;

struct tm_spread_place {
    uint32_t connection, slot;
};
bool tm_spread_find(const struct tm_spread *s, const char *name, size_t len, struct tm_spread_place *out);

/*
 * Change the number of connections and the chunk of all of them. Names of connections that go are placed anew and what
 * those were told is forgotten (their links close); each connection that comes takes over a fair share, one by one from
 * the fullest; no other name changes its connection. TM_ENOMEM, TM_EFULL: done in part, every name still has a place.
 */
int tm_spread_resize(struct tm_spread *s, uint32_t connections, uint32_t chunk) TM_MUST_CHECK;

/* The chunk of one connection: names beyond it move to other slots of it. Nobody has to be told. */
int tm_spread_set_chunk(struct tm_spread *s, uint32_t connection, uint32_t chunk) TM_MUST_CHECK;

/* The link of a connection is a new one: all its names are to be told, its slots are dirty, nothing is to be removed. */
void tm_spread_restart(struct tm_spread *s, uint32_t connection);

/* What the connection was told of its names is in doubt: they are to be told again. Slots and removed ones stay. */
void tm_spread_retell(struct tm_spread *s, uint32_t connection);

/* Forget all names and give the memory back. */
void tm_spread_clear(struct tm_spread *s);

/* ---- what changed ---- */

enum tm_spread_change { TM_SPREAD_ADDED, TM_SPREAD_REMOVED };

/* Take up to `limit` changes of a connection: how many, or TM_ENOMEM (none). The names are then read with
 * tm_spread_taken or tm_spread_put_taken, until the next take of the same kind. */
int tm_spread_take(struct tm_spread *s, uint32_t connection, enum tm_spread_change what, uint32_t limit) TM_MUST_CHECK;
const char *tm_spread_taken(const struct tm_spread *s, uint32_t connection, enum tm_spread_change what, uint32_t i,
                            size_t *len);

/* They could not be sent: note them again, unless they were overtaken. TM_ENOMEM: done in part; restart it. */
int tm_spread_give_back(struct tm_spread *s, uint32_t connection, enum tm_spread_change what) TM_MUST_CHECK;
void tm_spread_sent(struct tm_spread *s, uint32_t connection, enum tm_spread_change what);

/* The lowest dirty slot, clean from now on; -1: there is none. */
int64_t tm_spread_take_slot(struct tm_spread *s, uint32_t connection);
void tm_spread_touch_slot(struct tm_spread *s, uint32_t connection, uint32_t slot); /* dirty again */

/* ---- reading ---- */

struct tm_spread_stats {
    uint32_t names, slots, dirty, added, removed, chunk;
};
uint32_t tm_spread_connections(const struct tm_spread *s);
uint32_t tm_spread_chunk(const struct tm_spread *s); /* as given to create or resize */
uint32_t tm_spread_count(const struct tm_spread *s);
struct tm_spread_stats tm_spread_stats(const struct tm_spread *s, uint32_t connection);
uint64_t tm_spread_pending(const struct tm_spread *s); /* changes and dirty slots of all connections */
size_t tm_spread_memory(const struct tm_spread *s);    /* bytes taken from the allocator */

uint32_t tm_spread_slot_count(const struct tm_spread *s, uint32_t connection, uint32_t slot);
const char *tm_spread_slot_name(const struct tm_spread *s, uint32_t connection, uint32_t slot, uint32_t i, size_t *len);

/* The next placed name at or after *cursor (start with 0), which is moved past it; NULL: there is none. Names that come
 * and go meanwhile are seen or not, others exactly once. */
const char *tm_spread_next(const struct tm_spread *s, uint32_t *cursor, size_t *len);

/* Append a JSON array of names: ["A","B"]. */
int tm_spread_put_slot(const struct tm_spread *s, uint32_t connection, uint32_t slot, struct tm_buf *out) TM_MUST_CHECK;
int tm_spread_put_taken(const struct tm_spread *s, uint32_t connection, enum tm_spread_change what,
                        struct tm_buf *out) TM_MUST_CHECK;

#endif
