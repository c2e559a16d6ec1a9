/*
 * What the store writer collects for a commit: the rows of each stream, in seq order, with the running hash.
 *
 * A *lane* is a declaration in the journal (a stream's name with the column list its rows were written with);
 * a *family* is all declarations of a name: they share one seq and one running hash. Rows that the store has
 * already (replay after a crash) are skipped by their seq. One thread.
 *
 * The plan says how the rows of a name are stored; it may be changed at any moment (reload). A stream that the new plan
 * has no more is kept as its last plan had it, for the rows of it that the journal still holds: at most TM_STREAMS_MAX
 * of them, the latest; what came before these is a name that nobody knows.
 */
#ifndef TM_ENGINE_LANES_H
#define TM_ENGINE_LANES_H

#include "journal/journal.h"
#include "record/plan.h"
#include "store/pg.h"

#define TM_LANES_MAX 1024

struct tm_lanes;

struct tm_family {
    char name[64];
    int64_t first;         /* seq of the first row since the last clear, where touched */
    int64_t seq;           /* of the last row taken; restored from the store */
    uint64_t hash;         /* running hash of all rows up to it */
    int64_t partition_end; /* the last seq for which a partition is known to be there */
    bool touched;          /* rows were added since the last clear */
};

struct tm_lane {
    int declaration; /* the journal's stream id */
    const char *name;
    const struct tm_stream *stream; /* NULL: no plan of this process had a stream of this name */
    const char *columns;            /* the journal reader's */
    bool as_declared;               /* `columns` are the stream's own, so a tuple's places are known */
    struct tm_family *family;
    size_t count, refused; /* rows taken; those of them that went to quarantine */
    struct tm_buf spans;   /* of struct tm_span_bytes; `bytes` is an offset until they are placed */
    bool placed;           /* by tm_lanes_spans */
};

/* Rows that the journal does not have any more: it jumped from `first` - 1 to `last` + 1. */
struct tm_hole {
    const struct tm_lane *lane; /* of the row behind it */
    int64_t first, last;
};

/* They hold the plan. */
struct tm_lanes *tm_lanes_create(const struct tm_plan *plan);
void tm_lanes_destroy(struct tm_lanes *lanes);

/* From now on rows, also those taken already, belong to the streams of this plan. */
void tm_lanes_set_plan(struct tm_lanes *lanes, const struct tm_plan *plan);

/* Forget everything, before what the store says is restored. */
void tm_lanes_reset(struct tm_lanes *lanes);
void tm_lanes_restore(struct tm_lanes *lanes, const char *stream, int64_t seq, uint64_t hash);

/* Take a copy of a record. TM_EFULL: more streams than there can be. */
int tm_lanes_add(struct tm_lanes *lanes, const struct tm_journal_record *record, struct tm_error *err) TM_MUST_CHECK;

size_t tm_lanes_rows(const struct tm_lanes *lanes);
size_t tm_lanes_bytes(const struct tm_lanes *lanes);
int64_t tm_lanes_newest_us(const struct tm_lanes *lanes); /* Unix arrival time of the newest row taken; 0: unknown */

size_t tm_lanes_count(const struct tm_lanes *lanes);
struct tm_lane *tm_lanes_get(struct tm_lanes *lanes, size_t index);
/* The rows of a lane, valid until the next add, which is after a clear. */
const struct tm_span_bytes *tm_lanes_spans(struct tm_lanes *lanes, struct tm_lane *lane);

/* The holes before rows taken since the last clear, valid until the next add. */
size_t tm_lanes_hole_count(const struct tm_lanes *lanes);
const struct tm_hole *tm_lanes_hole(const struct tm_lanes *lanes, size_t index);

size_t tm_lanes_family_count(const struct tm_lanes *lanes);
struct tm_family *tm_lanes_family(struct tm_lanes *lanes, size_t index);

/* The rows are stored, or will be read again: drop them, keep where the families stand. */
void tm_lanes_clear(struct tm_lanes *lanes);

#endif
