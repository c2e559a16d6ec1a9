/*
 * From the archive back into a database. (What production can poll again from gatherers is another matter: that is
 * control/restore.h, `tidemill restore-plan`.)
 *
 *     into production, or an empty database that becomes one    through the merge's own store/copy.h: what is there already
 *                                                               is left alone, so it can be done twice, and beside a
 *                                                               deduplicator at work
 *     into a gatherer's store                                   into the schema `restored`, marked origin = 'archive',
 *                                                               which no poller reads (as lua/recovery/rebuild.lua does)
 *
 * Whole objects: hours or days that touch the span. An object's bytes are compared with its manifest before its first row
 * is stored. What the archive should have and has not becomes a named gap: an object that is missing or damaged, a manifest
 * that cannot be read, periods between others without any. Gaps are in the result and, as reason 'archive', in
 * tidemill.absent, from where a later restore that finds the object takes them off again.
 *
 * A restore that was interrupted goes on where it was, object by object (tidemill.restored); one that was finished begins
 * anew. Blocks; one thread.
 */
#ifndef TM_ARCHIVE_RESTORE_H
#define TM_ARCHIVE_RESTORE_H

#include "archive/manifest.h"
#include "store/copy.h"

struct tm_restore_gap {
    char stream[64], object[TM_ARCHIVE_KEY]; /* object: or the manifest; "": a time without any */
    int64_t from_us, to_us;
    uint64_t rows; /* that the manifest promises; 0: not known */
    char why[200];
};

struct tm_restore_counts {
    uint64_t objects, objects_done; /* of the span; looked at so far, or left out as done before */
    uint64_t rows, rows_done;       /* that manifests promise */
    uint64_t bytes;
    uint64_t stored, duplicate, refused; /* refused: they are in tidemill.quarantine now */
    uint64_t sealed;                     /* rows of days that production keeps no longer: left out */
    uint64_t resumed;                    /* rows of objects that an interrupted restore had done */
    unsigned gaps;
};

typedef void tm_restore_tell(void *arg, const struct tm_restore_counts *counts);
typedef void tm_restore_gap_found(void *arg, const struct tm_restore_gap *gap);

struct tm_restore_options {
    struct tm_pg *pg; /* autocommit; its tables are there */
    struct tm_target *target;
    const struct tm_plan *plan;
    enum tm_copy_side side;     /* TM_COPY_LOCAL: a gatherer's store */
    int64_t since_us, until_us; /* Unix; INT64_MIN, INT64_MAX: no bound */
    const char *const *streams; /* NULL-terminated; NULL: all that are archived */
    const char *manifest;       /* only this one, of whatever stream and time; NULL: all */
    bool dry_run;               /* read manifests and look whether objects are there; nothing is written */
    int64_t (*keep_us)(void *arg, const struct tm_stream *stream); /* production's; 0: for ever; NULL: all streams */
    tm_restore_tell *tell;
    tm_restore_gap_found *gap;
    void *arg;
};

int tm_restore(const struct tm_restore_options *options, struct tm_restore_counts *counts,
               struct tm_error *err) TM_MUST_CHECK;

/* The same walk without a database: every object read and compared with its manifest (deep), or only looked for. */
struct tm_verify_options {
    struct tm_target *target;
    const struct tm_plan *plan;
    int64_t since_us, until_us;
    const char *const *streams;
    bool deep;
    tm_restore_tell *tell;
    tm_restore_gap_found *gap;
    void *arg;
};
int tm_archive_verify(const struct tm_verify_options *options, struct tm_restore_counts *counts,
                      struct tm_error *err) TM_MUST_CHECK;

#endif
