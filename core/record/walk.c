#include "record/walk.h"

#include <stdlib.h>

/* Members of an object whose place is remembered; those after them are found by hash. */
#define ORDER_MAX 64
#define GUESS_NAME_MAX 30

/* A name that came at this place last time, with its closing quote. An empty guess wants what no mask leaves. */
struct guess {
    _Alignas(16) char name[32];
    uint16_t mask, wanted; /* of the first 16 bytes */
    uint16_t mask_rest;    /* of the others */
    uint16_t node, len;
};

struct order {
    struct guess guesses[ORDER_MAX + 1]; /* the last one stays empty */
};

struct tm_walker {
    struct tm_notes notes;
    const struct tm_tree *tree;
    struct order *orders; /* [hint][object] */
    unsigned hint;
    uint16_t twice, tag;
    tm_walk_hint *on_tag;
    void *arg;
    struct tm_buf name; /* an escaped name, unescaped */
};

int tm_walker_create(const struct tm_tree *tree, unsigned hints, struct tm_walker **out)
{
    struct tm_walker *w = calloc(1, sizeof *w);
    if (!w)
        return TM_ENOMEM;
    w->tree = tree;
    w->tag = w->twice = TM_NODE_NONE;
    w->notes.values = calloc(tree->node_count, sizeof *w->notes.values);
    size_t orders = (size_t)hints * (tree->object_count + 1u);
    w->orders = calloc(orders, sizeof *w->orders);
    if (!w->notes.values || !w->orders) {
        tm_walker_destroy(w);
        return TM_ENOMEM;
    }
    for (size_t i = 0; i < orders; i++)
        for (int k = 0; k <= ORDER_MAX; k++)
            w->orders[i].guesses[k].wanted = 1;
    *out = w;
    return TM_OK;
}

void tm_walker_destroy(struct tm_walker *w)
{
    if (!w)
        return;
    free(w->notes.values);
    free(w->orders);
    tm_buf_fini(&w->name);
    free(w);
}

void tm_walker_set_tag(struct tm_walker *w, uint16_t node, tm_walk_hint *hint, void *arg)
{
    w->tag = node;
    w->on_tag = hint;
    w->arg = arg;
}

const struct tm_notes *tm_walker_notes(const struct tm_walker *w)
{
    return &w->notes;
}

uint16_t tm_walker_twice(const struct tm_walker *w)
{
    return w->twice;
}

/* ---- names ---- */

static inline uint32_t equal_bytes(const char *a, const char *b)
{
#ifdef __SSE2__
    __m128i x = _mm_loadu_si128((const __m128i *)(const void *)a);
    __m128i y = _mm_loadu_si128((const __m128i *)(const void *)b);
    return (uint32_t)_mm_movemask_epi8(_mm_cmpeq_epi8(x, y));
#else
    uint32_t equal = 0;
    for (unsigned i = 0; i < 16; i++)
        equal |= (uint32_t)(a[i] == b[i]) << i;
    return equal;
#endif
}

/* Does the name at p, with its closing quote, equal the guess? 32 bytes at p are readable. */
static inline bool guess_right(const struct guess *g, const char *p)
{
    if ((equal_bytes(p, g->name) & g->mask) != g->wanted)
        return false;
    return !g->mask_rest || (equal_bytes(p + 16, g->name + 16) & g->mask_rest) == g->mask_rest;
}

static void remember(struct guess *g, struct tm_value name, uint16_t node)
{
    if (name.len > GUESS_NAME_MAX)
        return;
    uint32_t mask = (uint32_t)((UINT64_C(1) << (name.len + 1)) - 1);
    memcpy(g->name, name.at, name.len);
    g->name[name.len] = '"';
    g->len = (uint16_t)(name.len + 1);
    g->mask = g->wanted = (uint16_t)mask;
    g->mask_rest = (uint16_t)(mask >> 16);
    g->node = node;
}

static uint16_t find_escaped(struct tm_walker *w, uint16_t parent, struct tm_value name)
{
    tm_buf_clear(&w->name);
    if (tm_value_unescape(name, &w->name))
        return TM_NODE_NONE; /* no name of the tree has a lone surrogate or a NUL */
    return tm_tree_child(w->tree, parent, (const char *)w->name.data, w->name.len);
}

/* The guesses of an object, under the kind that the frame is taken for. */
static inline struct guess *guesses_of(struct tm_walker *w, uint16_t node)
{
    return w->orders[w->hint * w->tree->object_count + w->tree->nodes[node].object].guesses;
}

struct found {
    const char *after; /* the name; NULL: a fault */
    struct guess *next;
    uint16_t node;
};

/* The name whose quote is at p, when it is not the one guessed, or so near the end that it could not be compared. */
static __attribute__((noinline)) struct found find_name(struct tm_walker *w, struct tm_scanner *s, const char *p,
                                                        uint16_t parent, struct guess *g)
{
    struct tm_value name;
    struct found found;
    bool last = g == guesses_of(w, parent) + ORDER_MAX;
    if (!last && p < s->wider_end && guess_right(g + 1, p + 1)) /* one that is often there was left out */
        return (struct found){.after = p + 1 + g[1].len, .next = g + 2, .node = g[1].node};
    found.after = tm_scan_string(s, p, &name);
    found.next = g + !last;
    found.node = TM_NODE_NONE;
    if (!found.after)
        return found;
    found.node = name.escaped ? find_escaped(w, parent, name) : tm_tree_child(w->tree, parent, name.at, name.len);
    if (!last && !name.escaped)
        remember(g, name, found.node);
    return found;
}

/* ---- values ---- */

static const char *walk_object(struct tm_walker *w, struct tm_scanner *s, const char *p, uint16_t node, unsigned depth);

/* Neither string nor number: look into an object of the tree, else check the value. */
static __attribute__((noinline)) const char *walk_other(struct tm_walker *w, struct tm_scanner *s, const char *p,
                                                        uint16_t node, unsigned depth)
{
    struct tm_value *v = node != TM_NODE_NONE ? &w->notes.values[node] : &s->ignored;
    if (*p != '{' || node == TM_NODE_NONE || w->tree->nodes[node].object == TM_NODE_NONE)
        return tm_scan_value(s, p, depth, v);
    const char *after = walk_object(w, s, p, node, depth);
    if (after)
        tm_value_set(v, p, after, TM_VALUE_OBJECT);
    return after;
}

/* Any value, noted where it stays. Inlined by force: two callers, and one of them is the hottest loop of all.
 */
static inline __attribute__((always_inline)) const char *walk_value(struct tm_walker *w, struct tm_scanner *s,
                                                                    const char *p, uint16_t node, unsigned depth)
{
    struct tm_value *v = node != TM_NODE_NONE ? &w->notes.values[node] : &s->ignored;
    if (*p == '"')
        p = tm_scan_string(s, p, v);
    else if (*p == '-' || (unsigned)(*p - '0') < 10)
        p = tm_scan_number(s, p, v);
    else
        p = walk_other(w, s, p, node, depth);
    if (node == TM_NODE_NONE || __builtin_expect(!p, 0))
        return p;
    if (__builtin_expect(v->walk == w->notes.walk, 0))
        w->twice = node;
    v->walk = w->notes.walk;
    return p;
}

/* From after a name to its value. */
static inline const char *walk_colon(struct tm_scanner *s, const char *p)
{
    if (__builtin_expect(s->end - p > 1 && p[0] == ':' && (unsigned char)p[1] > ' ', 1))
        return p + 1;
    p = tm_scan_space(s, p);
    if (p >= s->end || *p != ':')
        return tm_scan_fault(s, p, "':' after a name");
    p = tm_scan_space(s, p + 1);
    return p < s->end ? p : tm_scan_fault(s, p, "a value");
}

/* From after a member to the name of the next, or to the end of the object. */
static inline const char *walk_comma(struct tm_scanner *s, const char *p)
{
    if (__builtin_expect(s->end - p > 1 && p[0] == ',' && p[1] == '"', 1))
        return p + 1;
    p = tm_scan_space(s, p);
    if (p < s->end && *p == '}')
        return p;
    if (p >= s->end || *p != ',')
        return tm_scan_fault(s, p, "',' or '}'");
    p = tm_scan_space(s, p + 1);
    return p < s->end && *p == '"' ? p : tm_scan_fault(s, p, "a name in quotes");
}

/* The tag was walked over: from now on guess as for its kind. Returns how far its guesses for the object are away. */
static ptrdiff_t take_hint(struct tm_walker *w, uint16_t object)
{
    const struct guess *before = guesses_of(w, object);
    w->hint = w->on_tag(w->arg, &w->notes.values[w->tag]);
    return guesses_of(w, object) - before;
}

/* The object at p. Recursion is as deep as the plan's paths, which plan.c bounds. */
static const char *walk_object(struct tm_walker *w, struct tm_scanner *s, const char *p, uint16_t node, unsigned depth)
{
    struct guess *g = guesses_of(w, node);
    if (depth >= TM_JSON_DEPTH_MAX)
        return tm_scan_fault(s, p, "at most 64 levels of nesting");
    p = tm_scan_space(s, p + 1);
    if (p >= s->end || (*p != '"' && *p != '}'))
        return tm_scan_fault(s, p, "a name in quotes or '}'");
    while (p && *p != '}') {
        uint16_t child;
        if (__builtin_expect(p < s->wider_end && guess_right(g, p + 1), 1)) {
            child = g->node;
            p += g->len + 1;
            g++;
        } else {
            struct found found = find_name(w, s, p, node, g);
            child = found.node;
            g = found.next;
            p = found.after;
        }
        p = p ? walk_colon(s, p) : NULL;
        p = p ? walk_value(w, s, p, child, depth + 1) : NULL;
        if (__builtin_expect(p && child == w->tag && w->on_tag, 0)) /* a name that nobody reads is no tag */
            g += take_hint(w, node);
        p = p ? walk_comma(s, p) : NULL;
    }
    return p ? p + 1 : NULL;
}

static void start_numbers_again(struct tm_walker *w)
{
    for (uint16_t i = 0; i < w->tree->node_count; i++)
        w->notes.values[i].walk = 0;
    w->notes.walk = 1;
}

int tm_walk(struct tm_walker *w, struct tm_scanner *s, const char **p, unsigned depth)
{
    if (!++w->notes.walk)
        start_numbers_again(w);
    w->twice = TM_NODE_NONE;
    w->hint = 0;
    if (*p >= s->end) {
        (void)tm_scan_fault(s, *p, "a value");
        return TM_EPARSE;
    }
    *p = walk_value(w, s, *p, 0, depth);
    return *p ? TM_OK : TM_EPARSE;
}
