#include "record/compiled.h"

#include <string.h>

/* A path being added: what is left of it, and where it leads so far. */
struct adding {
    struct tm_tree *tree;
    struct tm_arena *arena;
    const char *at;
    struct tm_place *out;
    struct tm_error *err;
};

void tm_tree_init(struct tm_tree *tree, struct tm_arena *arena)
{
    *tree = (struct tm_tree){.node_count = 1, .node_cap = 32};
    tree->nodes = tm_arena_alloc(arena, tree->node_cap * sizeof *tree->nodes);
    tree->nodes[0] = (struct tm_node){.name = "", .parent = TM_NODE_NONE, .object = TM_NODE_NONE};
}

static uint16_t find_linear(const struct tm_tree *tree, uint16_t parent, const char *name, size_t len)
{
    for (uint16_t i = 1; i < tree->node_count; i++) {
        const struct tm_node *n = &tree->nodes[i];
        if (n->parent == parent && n->len == len && memcmp(n->name, name, len) == 0)
            return i;
    }
    return TM_NODE_NONE;
}

static uint16_t new_node(struct tm_tree *tree, struct tm_arena *arena)
{
    if (tree->node_count == tree->node_cap) {
        const struct tm_node *old = tree->nodes;
        tree->node_cap = (uint16_t)(tree->node_cap * 2);
        tree->nodes = tm_arena_alloc(arena, tree->node_cap * sizeof *tree->nodes);
        memcpy(tree->nodes, old, tree->node_count * sizeof *old);
    }
    return tree->node_count++;
}

static int add_name(struct adding *a, const char *name, size_t len)
{
    uint16_t *node = &a->out->node;
    uint16_t child = find_linear(a->tree, *node, name, len);
    if (child == TM_NODE_NONE) {
        if (a->tree->node_count == TM_NODES_MAX)
            return tm_error_set(a->err, TM_EINVAL, "the plan reads more than %d different values", TM_NODES_MAX - 1);
        child = new_node(a->tree, a->arena);
        a->tree->nodes[child] =
            (struct tm_node){.name = name, .len = (uint8_t)len, .parent = *node, .object = TM_NODE_NONE};
        a->tree->nodes[*node].object = 0; /* numbered when the tree is finished */
    }
    *node = child;
    return TM_OK;
}

/* "[3]" or "[-1]" */
static int take_index(struct adding *a)
{
    const char *p = a->at + 1;
    bool negative = *p == '-';
    int32_t v = 0;
    p += negative;
    const char *digits = p;
    for (; *p >= '0' && *p <= '9' && p - digits < 6; p++)
        v = v * 10 + (*p - '0');
    if (p == digits || *p != ']' || (negative && v == 0))
        return tm_error_set(a->err, TM_EINVAL,
                            "path \"%s\": expected an index of at most 6 digits such as [0] or [-1], at byte %td",
                            a->out->text, a->at - a->out->text);
    if (a->out->index_count == TM_PATH_INDEXES_MAX)
        return tm_error_set(a->err, TM_EINVAL, "path \"%s\": at most %d indexes", a->out->text, TM_PATH_INDEXES_MAX);
    a->out->index[a->out->index_count++] = negative ? -v : v;
    a->at = p + 1;
    return TM_OK;
}

static int take_names(struct adding *a)
{
    for (int names = 0;; names++) {
        size_t len = strcspn(a->at, ".[");
        if (!len || len > TM_PATH_NAME_BYTES_MAX || names == TM_PATH_NAMES_MAX)
            return tm_error_set(a->err, TM_EINVAL,
                                "path \"%s\": expected at most %d names of 1 to %d bytes joined by dots, at byte %td",
                                a->out->text, TM_PATH_NAMES_MAX, TM_PATH_NAME_BYTES_MAX, a->at - a->out->text);
        int rc = add_name(a, a->at, len);
        if (rc)
            return rc;
        a->at += len;
        if (*a->at != '.')
            return TM_OK;
        a->at++;
    }
}

int tm_tree_add(struct tm_tree *tree, struct tm_arena *arena, const char *path, struct tm_place *out,
                struct tm_error *err)
{
    *out = (struct tm_place){.text = tm_arena_strdup(arena, path)};
    struct adding a = {.tree = tree, .arena = arena, .at = out->text, .out = out, .err = err};
    if (!*a.at)
        return tm_error_set(err, TM_EINVAL, "a path is empty: expected names joined by dots, such as \"msg.ts\"");
    int rc = *a.at == '[' ? TM_OK : take_names(&a);
    while (!rc && *a.at == '[')
        rc = take_index(&a);
    if (rc || !*a.at)
        return rc;
    return tm_error_set(err, TM_EINVAL, "path \"%s\": nothing may follow the indexes, but \"%s\" does", path, a.at);
}

static uint32_t slot_of(const struct tm_tree *tree, uint16_t parent, const char *name, size_t len)
{
    return (uint32_t)tm_hash64(name, len, parent) & tree->table_mask;
}

void tm_tree_finish(struct tm_tree *tree, struct tm_arena *arena)
{
    uint32_t size = 4;
    while (size < 2u * tree->node_count)
        size *= 2;
    tree->table_mask = size - 1;
    tree->table = tm_arena_alloc(arena, size * sizeof *tree->table);
    memset(tree->table, 0xff, size * sizeof *tree->table);
    for (uint16_t i = 0; i < tree->node_count; i++) {
        struct tm_node *n = &tree->nodes[i];
        if (n->object != TM_NODE_NONE)
            n->object = tree->object_count++;
        if (i == 0)
            continue;
        uint32_t slot = slot_of(tree, n->parent, n->name, n->len);
        while (tree->table[slot] != TM_NODE_NONE)
            slot = (slot + 1) & tree->table_mask;
        tree->table[slot] = i;
    }
}

uint16_t tm_tree_child(const struct tm_tree *tree, uint16_t parent, const char *name, size_t len)
{
    for (uint32_t slot = slot_of(tree, parent, name, len);; slot = (slot + 1) & tree->table_mask) {
        uint16_t i = tree->table[slot];
        if (i == TM_NODE_NONE)
            return i;
        const struct tm_node *n = &tree->nodes[i];
        if (n->parent == parent && n->len == len && memcmp(n->name, name, len) == 0)
            return i;
    }
}
