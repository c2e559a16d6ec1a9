/*
 * Inside of a compiled plan: what plan.c makes and decode.c runs. Nobody outside core/record includes this.
 *
 * A *tree* holds the names on the way to every value that some kind reads. One tree serves all kinds of frames, so a
 * frame is walked once, whatever the order of its keys and wherever its tag stands: the walk notes where each value of
 * the tree is (struct tm_value, numbered like the nodes), and when the tag is known the kind's *emits* turn the noted
 * values into columns. Elements of a kind with `each`, and objects of REST documents, have a small tree of their own.
 */
#ifndef TM_RECORD_COMPILED_H
#define TM_RECORD_COMPILED_H

#include "base/arena.h"
#include "record/plan.h"

#define TM_NODE_NONE UINT16_MAX
#define TM_NODES_MAX 4096
#define TM_PATH_INDEXES_MAX 4
#define TM_PATH_NAMES_MAX 16
#define TM_PATH_NAME_BYTES_MAX 127

struct tm_tree {
    struct tm_node {
        const char *name;
        uint8_t len;
        uint16_t parent;
        uint16_t object; /* number among the nodes that have children; TM_NODE_NONE: a leaf */
    } * nodes;           /* 0 is the root */
    uint16_t node_count, node_cap, object_count;
    uint16_t *table; /* open addressing by (parent, name); TM_NODE_NONE: free */
    uint32_t table_mask;
};

/* Where a path ends: a node, then indexes into arrays. */
struct tm_place {
    const char *text; /* as declared, for people; NULL: no path */
    uint16_t node;
    bool whole_frame; /* of the frame's tree, not the element's */
    uint8_t index_count;
    int32_t index[TM_PATH_INDEXES_MAX];
};

struct tm_reading {
    struct tm_place place;
    enum tm_unit unit;
    uint8_t scale;
    bool one_minus;
};

enum tm_emit_op {
    TM_EMIT_NULL,
    TM_EMIT_BYTES, /* the same field in every row */
    TM_EMIT_RECEIVED,
    TM_EMIT_OCCURRENCE,
    TM_EMIT_SID,
    TM_EMIT_SEQUENCE,
    TM_EMIT_RAW,
    TM_EMIT_BOOL, /* from here on: a value of the frame */
    TM_EMIT_INT,
    TM_EMIT_FLOAT,
    TM_EMIT_TEXT,
    TM_EMIT_UUID,
    TM_EMIT_TIME,
    TM_EMIT_JSONB,
};

/* Short fields are copied by this many bytes, whatever their length: a row's buffer has that much more room. */
#define TM_EMIT_SLACK 32

/* Conversions that have a short way for values as they usually come. */
enum tm_quick { TM_QUICK_NONE, TM_QUICK_INT8, TM_QUICK_INT4, TM_QUICK_TEXT, TM_QUICK_RFC3339 };

/* How one column of a kind's rows comes about. */
struct tm_emit {
    const struct tm_column *column;
    uint8_t op;                          /* enum tm_emit_op */
    uint8_t quick, scale;                /* of the first reading; NONE if it leads into an array */
    uint8_t reading_count;               /* of readings */
    uint16_t node;                       /* as quick */
    bool whole_frame;                    /* likewise */
    bool is_time, is_ticker, is_indexed; /* indexed: its text is bounded by TM_KEY_TEXT_BYTES_MAX */
    uint8_t allowed_count;
    uint32_t len;            /* TM_EMIT_BYTES: with its length word */
    const uint8_t *bytes;    /* TM_EMIT_SLACK can be read */
    const uint64_t *allowed; /* the column's allowed values as words, filled with zeros; NULL: any, or longer ones */
    const struct tm_reading *readings;
    int64_t min;   /* TM_EMIT_INT: the least that the column's type and range allow */
    uint64_t span; /* and how much more the largest is */
};

struct tm_program {
    struct tm_kind kind;
    size_t tag_len;
    struct tm_emit *emits; /* one per column of the stream */
    uint16_t emit_count;
    uint32_t fixed_bytes;                        /* of a row without its texts; TM_EMIT_SLACK more */
    struct tm_place each;                        /* text NULL: the frame is the record */
    struct tm_tree *tree;                        /* of a document, else NULL: the plan's tree */
    struct tm_tree *element_tree;                /* with `each` */
    struct tm_place sid, channel, code, message; /* text NULL: none */
};

struct tm_plan {
    _Atomic uint32_t references;
    struct tm_arena *arena;
    const char *gatherer;
    uint8_t epoch[16];
    struct tm_stream *streams;
    uint16_t stream_count;
    struct tm_program *programs;
    uint16_t program_count;
    uint16_t *tag_table; /* open addressing by tag; TM_NODE_NONE: free */
    uint32_t tag_mask;
    struct tm_tree tree;
    struct tm_place tag, sid, sequence; /* text NULL: none */
};

/* ---- tree.c ---- */

void tm_tree_init(struct tm_tree *tree, struct tm_arena *arena);
/* Add the names of a path and note where it ends. */
int tm_tree_add(struct tm_tree *tree, struct tm_arena *arena, const char *path, struct tm_place *out,
                struct tm_error *err) TM_MUST_CHECK;
/* When all paths are in: number the objects, build the table. */
void tm_tree_finish(struct tm_tree *tree, struct tm_arena *arena);
/* The child of `parent` with this name, or TM_NODE_NONE. */
uint16_t tm_tree_child(const struct tm_tree *tree, uint16_t parent, const char *name, size_t len);

/* ---- plan_stream.c ---- */

/* Check a stream's definition and fill *out. `position` is its place in the definition, for messages. */
int tm_stream_compile(const struct tm_stream_def *def, size_t position, struct tm_arena *arena, struct tm_stream *out,
                      struct tm_error *err) TM_MUST_CHECK;
int tm_stream_column(const struct tm_stream *stream, const char *name); /* -1: none */
/* The column that leads the index of a `within` stream: the market's, or the first of the key. */
int tm_stream_within_lead(const struct tm_stream *stream);

/* ---- plan_kind.c ---- */

int tm_kind_compile(struct tm_plan *plan, const struct tm_kind_def *def, size_t position, struct tm_program *out,
                    struct tm_error *err) TM_MUST_CHECK;
const struct tm_program *tm_plan_program(const struct tm_plan *plan, const char *tag, size_t len);

#endif
