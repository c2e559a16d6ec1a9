/*
 * A period of a stream of production into the archive, exactly once per row.
 *
 *     look what the archive has of the period -> rows of production, in the order of time and key, that it has not
 *     -> Parquet -> object, verified -> manifest -> (caller) tidemill.exports and the cursor, in one transaction
 *
 * Names are given by the period and the number of the part, and are written once. So a period that is begun again, after a
 * kill or with a production that was restored from a backup, meets what is there: an object whose manifest was not written
 * any more gets it; rows that the archive holds are not written again; what is left, rows that came late, becomes the next
 * part. What the archive holds is known by its content (the records' keys), not by anybody's memory. An object that is
 * missing or damaged counts for nothing: its rows are written again, and `damaged` says so.
 *
 * Memory: 32 bytes for each row of a period that is looked at again, and what Parquet takes; nothing for the first look.
 * All of one period is read in one snapshot of production. Blocks; one thread.
 */
#ifndef TM_ARCHIVE_EXPORT_H
#define TM_ARCHIVE_EXPORT_H

#include "archive/period.h"
#include "archive/target.h"
#include "store/pg.h"

struct tm_export {
    struct tm_pg *pg; /* of production, autocommit; with a deadline for a whole period */
    struct tm_target *target;
    const struct tm_stream *stream; /* tm_archive_column() gives a column */
    const char *production;         /* who it is, for manifests; NULL: unknown */
};

struct tm_exported {
    unsigned parts;         /* the archive has now; 0: never, as a period without rows has a part too */
    uint64_t rows;          /* production has */
    uint64_t archived_rows; /* all parts together */
    uint64_t bytes;         /* likewise */
    uint64_t new_rows, new_bytes;
    unsigned adopted, damaged; /* objects that got their manifest; that are not what their manifest promises */
    bool at_target;            /* where it failed: there, or else in production */
};

/* TM_ECONFLICT: somebody else wrote the same part, several times in a row; begin again. */
int tm_export_period(const struct tm_export *e, struct tm_period period, struct tm_exported *out,
                     struct tm_error *err) TM_MUST_CHECK;

#endif
