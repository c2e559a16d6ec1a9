/*
 * The walk: one strict pass over a JSON value that notes where the values of a tree (record/compiled.h) are.
 *
 * Exchanges send the keys of an object in the same order every time, so the walk remembers, per object of the tree and
 * kind of frame, the members that came last time: one is then recognised up to its value, comma, name, colon and quote, and
 * known to be right, by comparing 32 bytes. A name that is not where it was, or has white space around it, is looked for
 * at the same place and the next without what surrounds it, then by hash, and remembered in its place. Order is only ever
 * a guess: any order gives the same result. Whole texts of a kind are compared with the last one's shape first
 * (record/shape.h), and walked if they have another.
 *
 * A name of the tree that comes twice in one object is reported (`twice`), because which of the two to believe is
 * anybody's guess; names that nobody reads may come as often as they like.
 *
 * A walker belongs to a decoder, hence to one thread.
 */
#ifndef TM_RECORD_WALK_H
#define TM_RECORD_WALK_H

#include "record/compiled.h"
#include "record/scanner.h"

struct tm_walker;

/* `hints`: how many kinds of frames have an order of their own. */
int tm_walker_create(const struct tm_tree *tree, unsigned hints, struct tm_walker **out) TM_MUST_CHECK;
void tm_walker_destroy(struct tm_walker *w);

/*
 * Told the value of node `tag` as soon as it is found, returns the hint to go on with: the kind, if it is known. Only a
 * guess for speed; may be NULL.
 */
typedef unsigned tm_walk_hint(void *arg, const struct tm_value *tag);
void tm_walker_set_tag(struct tm_walker *w, uint16_t node, tm_walk_hint *hint, void *arg);

/* Walk the value at *p; `depth` containers are open around it. *p moves behind it. TM_EPARSE: s says why. */
int tm_walk(struct tm_walker *w, struct tm_scanner *s, const char **p, unsigned depth) TM_MUST_CHECK;

/* The same for a whole text, with white space around it and TM_SCAN_PADDING readable bytes behind it. */
int tm_walk_text(struct tm_walker *w, struct tm_scanner *s) TM_MUST_CHECK;

/* What was noted, by node; the array is the walker's and lives as long. */
struct tm_notes {
    struct tm_value *values;
    uint16_t walk;  /* the number of the last walk: values with another one are of earlier walks */
    uint16_t twice; /* a node whose name came twice in an object; TM_NODE_NONE if none did */
    unsigned hint;  /* that the last walk ended with; 0: it met no tag */
};
const struct tm_notes *tm_walker_notes(const struct tm_walker *w);

/* The value of a node; NULL if it was not there. */
static inline const struct tm_value *tm_notes_get(const struct tm_notes *notes, uint16_t node)
{
    const struct tm_value *v = &notes->values[node];
    return v->walk == notes->walk ? v : NULL;
}

/* The whole value that was walked. */
static inline struct tm_value tm_notes_root(const struct tm_notes *notes)
{
    return notes->values[0];
}

#endif
