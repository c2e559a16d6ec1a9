/*
 * Looking at a journal's files without owning it: what `tidemill journal check` and `dump` read, and what repair goes by.
 *
 * Nothing is written, created or locked, so a gatherer may be running on the directory. Segments that it deletes
 * meanwhile are left out and counted in `released`; the newest segment is read up to the size it had when it was opened,
 * and what fails its check behind all marks of durability there is a torn tail (journal.h), not damage. Damage in the
 * newest segment is looked at twice, since its bytes may have been on their way.
 *
 * A *hole* is a seq that no record has, between the first and the last of its stream. Holes alone are no damage: whoever
 * lost a frame once goes on with a hole (journal.h). One thread; the file system may be another (tests).
 */
#ifndef TM_JOURNAL_INSPECT_H
#define TM_JOURNAL_INSPECT_H

#include "journal/journal.h"

enum tm_inspect_kind {
    TM_DAMAGE_FRAMES,  /* bytes that were durable once and are no frames now */
    TM_DAMAGE_HEADER,  /* one of the two copies of a segment's header */
    TM_DAMAGE_SEGMENT, /* no header can be read: nothing of the segment can */
    TM_DAMAGE_EPOCH,   /* a segment of another journal */
    TM_DAMAGE_ITEMS,   /* a good frame with content that this version does not write */
    TM_DAMAGE_ORDER,   /* a record whose seq is not above the one before it: two histories in one directory */
};
const char *tm_inspect_kind_name(enum tm_inspect_kind kind);

struct tm_inspect_damage {
    enum tm_inspect_kind kind;
    uint64_t segment, offset, bytes;
};

/* All declarations of one name; they share one counter. */
struct tm_inspect_stream {
    char *name;
    int declarations;
    uint64_t records, bytes;
    int64_t first, last; /* seqs of its records; 0, 0: it has none here */
    int64_t next;        /* the highest next seq that a header promises */
    uint64_t missing;    /* seqs in holes */
    int64_t hole_first;  /* where the first hole begins; 0: there is none */
};

struct tm_inspect {
    bool empty;        /* no segment could be read: there is no epoch */
    uint8_t epoch[16]; /* of the newest segment that can be read */
    bool epoch_file;   /* DIR/epoch says the same; open writes it anew where it does not */
    uint64_t segments, bytes, frames, records;
    uint64_t first_segment, last_segment;
    uint64_t released;                  /* segments that were deleted while we read */
    uint64_t torn_segment, torn_offset; /* the torn tail, which the next open cuts */
    uint64_t torn_bytes;                /* 0: none */
    struct tm_inspect_stream *streams;  /* in the order of their declaration */
    size_t stream_count;
    struct tm_inspect_damage *damage; /* by segment and offset */
    size_t damage_count;
};

/* A record, with the place of its frame. Valid during the call. */
struct tm_inspect_record {
    const char *stream, *columns;
    int64_t seq;
    const uint8_t *tuple;
    uint32_t len;
    uint64_t segment, offset;
};

/* Anything but TM_OK ends the walk and is returned. */
typedef int tm_inspect_visit(void *arg, const struct tm_inspect_record *record);

/* Walk over all records, oldest first; `visit` may be NULL. `fs` NULL: the real one. TM_ENOENT: there is no such
 * directory; TM_EIO, TM_ENOMEM. Damage is no error. Call fini in any case. */
int tm_journal_inspect(const char *dir, const struct tm_fs *fs, tm_inspect_visit *visit, void *arg,
                       struct tm_inspect *out, struct tm_error *err) TM_MUST_CHECK;
void tm_inspect_fini(struct tm_inspect *in);

#endif
