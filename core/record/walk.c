#include "record/shape.h"
#include "record/walk.h"

#include <stdlib.h>

/* Members of an object whose place is remembered; those after them are found by hash. */
#define ORDER_MAX 64

/*
 * A member as it came at this place last time, up to its value: `{"name":` or `,"name":`, and the quote of a string. The
 * first member of an object has '{' before it, all others ','; both are part of what is compared. An empty guess wants
 * what no mask leaves.
 */
struct guess {
    _Alignas(16) char text[32];
    uint32_t mask, wanted; /* of the 32 bytes */
    uint32_t name_mask;    /* the name with its quotes alone: other spacing, another kind of value */
    uint16_t node;         /* tm_walker.nobody: no name of the tree */
    uint8_t len;           /* without the quote of a string */
    bool is_string;
};
#define GUESS_NAME_MAX 27 /* and 5 bytes around it */

struct order {
    struct guess guesses[ORDER_MAX + 1]; /* the last one stays empty */
};

/*
 * The shape that texts of a kind have, and how far it is trusted: texts that have it raise that, others lower it. Without
 * trust it is not tried, and after some `rest` is learned anew from the next text, twice as long after each time: kinds
 * without a shape, and those that change theirs, cost next to nothing.
 */
struct form {
    struct tm_shape *shape;            /* NULL: not needed yet */
    const struct tm_piece_text *start; /* of the shape; NULL: not trusted */
    unsigned trust, rest, rested;
};
#define TRUST_FIRST 4
#define TRUST_LOST 4
#define TRUST_MAX 16
#define REST_MAX 1024

struct tm_walker {
    struct tm_notes notes;
    const struct tm_tree *tree;
    struct order *orders; /* [hint][object] */
    struct form *forms;   /* [hint]; 0, of texts of no kind, has none */
    struct form *form;    /* the one that was right last time */
    unsigned hints;
    bool learns;     /* shapes: where they pay */
    uint16_t nobody; /* the node, behind those of the tree, of what is only checked */
    uint16_t tag;    /* TM_NODE_NONE: none */
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
    w->tag = w->notes.twice = TM_NODE_NONE;
    w->nobody = tree->node_count;
    w->notes.values = calloc(tree->node_count + 1u, sizeof *w->notes.values);
    size_t orders = (size_t)hints * (tree->object_count + 1u);
    w->orders = calloc(orders, sizeof *w->orders);
    w->forms = calloc(hints, sizeof *w->forms);
    w->form = w->forms;
    w->hints = hints;
    w->learns = tm_shape_pays();
    if (!w->notes.values || !w->orders || !w->forms) {
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
    for (unsigned i = 0; w->forms && i < w->hints; i++)
        tm_shape_destroy(w->forms[i].shape);
    free(w->forms);
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

/* ---- names ---- */

/* Is the member at p, from what stands before its name, the one that was guessed? All of it inside the text, and a byte
 * of its value too. */
static inline bool guess_right(const struct tm_scanner *s, const struct guess *g, const char *p)
{
    return p <= s->wider_end && (tm_scan_equal(p, g->text) & g->mask) == g->wanted && s->end - p > g->len;
}

/* Is the name whose quote is at p the one that was guessed, whatever is around it? */
static inline bool name_right(const struct tm_scanner *s, const struct guess *g, const char *p)
{
    const char *before = p - 1; /* a name is never first in a text */
    return g->name_mask && before <= s->wider_end && !(~tm_scan_equal(before, g->text) & g->name_mask) &&
           s->end - before > g->len;
}

static void remember(struct guess *g, struct tm_value name, bool first, bool is_string, uint16_t node)
{
    if (name.len > GUESS_NAME_MAX)
        return;
    uint32_t len = name.len + 4;
    g->text[0] = first ? '{' : ',';
    g->text[1] = '"';
    memcpy(g->text + 2, name.at, name.len);
    memcpy(g->text + 2 + name.len, "\":\"", 3);
    g->mask = g->wanted = (uint32_t)((UINT64_C(1) << (len + is_string)) - 1);
    g->name_mask = (uint32_t)((UINT64_C(1) << (len - 1)) - 1) & ~1u;
    g->len = (uint8_t)len;
    g->is_string = is_string;
    g->node = node;
}

static uint16_t find_child(const struct tm_walker *w, uint16_t parent, const char *name, size_t len)
{
    uint16_t node = tm_tree_child(w->tree, parent, name, len);
    return node == TM_NODE_NONE ? w->nobody : node;
}

static uint16_t find_escaped(struct tm_walker *w, uint16_t parent, struct tm_value name)
{
    tm_buf_clear(&w->name);
    if (tm_value_unescape(name, &w->name))
        return w->nobody; /* no name of the tree has a lone surrogate or a NUL */
    return find_child(w, parent, (const char *)w->name.data, w->name.len);
}

/* The guesses of an object, under the kind that the frame is taken for. */
static inline struct guess *guesses_of(struct tm_walker *w, uint16_t node)
{
    return w->orders[w->notes.hint * w->tree->object_count + w->tree->nodes[node].object].guesses;
}

/* From after a name to its value. */
static const char *walk_colon(struct tm_scanner *s, const char *p)
{
    p = tm_scan_space(s, p);
    if (p >= s->end || *p != ':')
        return tm_scan_fault(s, p, "':' after a name");
    p = tm_scan_space(s, p + 1);
    return p < s->end ? p : tm_scan_fault(s, p, "a value");
}

/* From the '{' or from after a member to the name of the next, or to the end of the object. */
static const char *walk_comma(struct tm_scanner *s, const char *p, bool first)
{
    const char *expected = first ? "a name in quotes or '}'" : "a name in quotes";
    p = tm_scan_space(s, p + first);
    if (p < s->end && *p == '}')
        return p;
    if (!first && (p >= s->end || *p != ','))
        return tm_scan_fault(s, p, "',' or '}'");
    p = first ? p : tm_scan_space(s, p + 1);
    return p < s->end && *p == '"' ? p : tm_scan_fault(s, p, expected);
}

/* A member up to its value. */
struct member {
    const char *value; /* NULL: a fault; the '}' if there is no member */
    struct guess *next;
    uint16_t node;
    bool end;
};

/* The name whose quote is at p, by hash; it is what is guessed from now on. */
static struct member find_name(struct tm_walker *w, struct tm_scanner *s, const char *p, uint16_t parent,
                               struct guess *g)
{
    struct tm_value name;
    struct guess *first = guesses_of(w, parent);
    bool last = g == first + ORDER_MAX;
    struct member m = {.next = g + !last};
    p = tm_scan_string(s, p, &name);
    m.value = p ? walk_colon(s, p) : NULL;
    if (!m.value)
        return m;
    m.node = name.escaped ? find_escaped(w, parent, name) : find_child(w, parent, name.at, name.len);
    if (!last && !name.escaped)
        remember(g, name, g == first, *m.value == '"', m.node);
    return m;
}

/* The member behind p that is not the one guessed, or not as it was, or so near the end that it could not be compared;
 * or the end of the object. */
static __attribute__((noinline)) struct member find_member(struct tm_walker *w, struct tm_scanner *s, const char *p,
                                                           uint16_t parent, struct guess *g, bool first)
{
    p = walk_comma(s, p, first);
    if (!p || *p == '}')
        return (struct member){.value = p, .end = true};
    bool last = g == guesses_of(w, parent) + ORDER_MAX;
    for (int skip = 0; skip < 2 && !last; skip++, g++) /* one that is often there may have been left out */
        if (name_right(s, g, p))
            return (struct member){.value = walk_colon(s, p + g->len - 2), .next = g + 1, .node = g->node};
    return find_name(w, s, p, parent, last ? g : g - 2);
}

/* ---- values ---- */

static const char *walk_object(struct tm_walker *w, struct tm_scanner *s, const char *p, uint16_t node, unsigned depth);

/* Neither string nor number, or white space before it: look into an object of the tree, else check the value. */
static __attribute__((noinline)) const char *walk_other(struct tm_walker *w, struct tm_scanner *s, const char *p,
                                                        uint16_t node, unsigned depth)
{
    struct tm_value *v = &w->notes.values[node];
    p = tm_scan_space(s, p);
    if (p >= s->end || *p != '{' || node == w->nobody || w->tree->nodes[node].object == TM_NODE_NONE)
        return tm_scan_value(s, p, depth, v);
    const char *after = walk_object(w, s, p, node, depth);
    if (after)
        tm_value_set(v, p, after, TM_VALUE_OBJECT);
    return after;
}

/* Any value, noted where it stays. Inlined by force: two callers, and one of them is the hottest loop of all.
 */
static inline __attribute__((always_inline)) const char *
walk_value(struct tm_walker *w, struct tm_scanner *s, const char *p, uint16_t node, unsigned depth, bool is_string)
{
    struct tm_value *v = &w->notes.values[node];
    if (is_string)
        p = tm_scan_string(s, p, v);
    else if (*p == '-' || (unsigned)(*p - '0') < 10)
        p = tm_scan_number(s, p, v);
    else
        p = walk_other(w, s, p, node, depth);
    if (__builtin_expect(!p, 0)) /* not noted: the numbers of a malformed frame are asked for too */
        return NULL;
    if (v->walk == w->notes.walk && node != w->nobody)
        w->notes.twice = node;
    v->walk = w->notes.walk;
    return p;
}

/* The tag was walked over: from now on guess as for its kind. Returns how far its guesses for the object are away. */
static ptrdiff_t take_hint(struct tm_walker *w, uint16_t object)
{
    const struct guess *before = guesses_of(w, object);
    w->notes.hint = w->on_tag(w->arg, &w->notes.values[w->tag]);
    return guesses_of(w, object) - before;
}

/* The object at p. Recursion is as deep as the plan's paths, which plan.c bounds. */
static const char *walk_object(struct tm_walker *w, struct tm_scanner *s, const char *p, uint16_t node, unsigned depth)
{
    struct guess *g = guesses_of(w, node);
    if (depth >= TM_JSON_DEPTH_MAX)
        return tm_scan_fault(s, p, "at most 64 levels of nesting");
    for (bool first = true; p; first = false) {
        uint16_t child;
        bool is_string;
        if (__builtin_expect(guess_right(s, g, p), 1)) {
            child = g->node;
            is_string = g->is_string;
            p += g->len;
            g++;
        } else {
            if (!first && p < s->end && *p == '}')
                return p + 1;
            struct member m = find_member(w, s, p, node, g, first);
            if (!m.value || m.end)
                return m.value ? m.value + 1 : NULL;
            child = m.node;
            g = m.next;
            p = m.value;
            is_string = *p == '"';
        }
        p = walk_value(w, s, p, child, depth + 1, is_string);
        if (__builtin_expect(child == w->tag, 0) && p)
            g += take_hint(w, node);
    }
    return NULL;
}

static void start_numbers_again(struct tm_walker *w)
{
    for (uint16_t i = 0; i < w->tree->node_count; i++)
        w->notes.values[i].walk = 0;
    w->notes.walk = 1;
}

static void begin(struct tm_walker *w)
{
    if (!++w->notes.walk)
        start_numbers_again(w);
    w->notes.twice = TM_NODE_NONE;
    w->notes.hint = 0;
}

int tm_walk(struct tm_walker *w, struct tm_scanner *s, const char **p, unsigned depth)
{
    begin(w);
    if (*p >= s->end) {
        (void)tm_scan_fault(s, *p, "a value");
        return TM_EPARSE;
    }
    *p = walk_value(w, s, *p, 0, depth, **p == '"');
    return *p ? TM_OK : TM_EPARSE;
}

/* ---- whole texts ---- */

static inline bool may_fit(const struct form *f, const struct tm_scanner *s)
{
    return f->start && tm_piece_matches(f->start, s->begin);
}

/* The form of this text's kind, by how it begins; NULL if none is known. */
static inline struct form *find_form(struct tm_walker *w, const struct tm_scanner *s)
{
    if (s->begin > s->wider_end)
        return NULL;
    if (__builtin_expect(may_fit(w->form, s), 1))
        return w->form;
    for (unsigned i = 1; i < w->hints; i++)
        if (may_fit(&w->forms[i], s))
            return &w->forms[i];
    return NULL;
}

static bool has_form(struct tm_walker *w, struct tm_scanner *s, struct form *f)
{
    begin(w);
    if (!tm_shape_fits(f->shape, s, w->notes.values, w->notes.walk)) {
        f->trust = f->trust > TRUST_LOST ? f->trust - TRUST_LOST : 0;
        if (!f->trust)
            f->start = NULL;
        return false;
    }
    f->trust += f->trust < TRUST_MAX;
    w->form = f;
    w->notes.hint = (unsigned)(f - w->forms);
    return true;
}

/* The text was walked: the next of its kind may be like it. */
static void learn_form(struct tm_walker *w, const struct tm_scanner *s)
{
    struct form *f = &w->forms[w->notes.hint];
    if (!w->learns || f->start || ++f->rested < f->rest)
        return;
    f->rested = 0;
    f->rest = f->rest ? 2 * f->rest : 1;
    f->rest = f->rest > REST_MAX ? REST_MAX : f->rest;
    if (!f->shape && tm_shape_create(&f->shape))
        return; /* without memory for it, texts are walked */
    if (tm_shape_learn(f->shape, w->tree, w->tag, s))
        f->start = tm_shape_start(f->shape);
    f->trust = TRUST_FIRST;
}

int tm_walk_text(struct tm_walker *w, struct tm_scanner *s)
{
    struct form *f = find_form(w, s);
    if (f && __builtin_expect(has_form(w, s, f), 1))
        return TM_OK;
    const char *p = tm_scan_space(s, s->begin);
    int rc = tm_walk(w, s, &p, 0);
    if (rc)
        return rc;
    p = tm_scan_space(s, p);
    if (p != s->end) {
        (void)tm_scan_fault(s, p, "nothing after the value");
        return TM_EPARSE;
    }
    if (w->notes.hint && w->notes.twice == TM_NODE_NONE)
        learn_form(w, s);
    return TM_OK;
}
