/*
 * What a gatherer's store may forget: whole partitions of its stream tables (FAILURES T17).
 *
 * A partition is *acknowledged* when every production that ever acknowledged anything here (tidemill.acknowledged) has all
 * of its rows; where none ever did, nothing is. An acknowledged partition may go once its newest row was committed longer
 * ago than `keep`: a production that is restored to an earlier moment (point in time) then finds its rows again. Under
 * pressure it may go at once, the oldest first; and only when there is none left, unacknowledged ones of the streams in
 * `expire`, in that order: what is not listed never goes unacknowledged. The partition that is being filled stays.
 *
 * A production that will not come back is taken off by deleting its rows from tidemill.acknowledged; until then it holds
 * everything, which is the safe side.
 *
 * Dropping is one transaction, which also leaves a line in tidemill.absent: reason 'released' (acknowledged; lines of
 * neighbours are one), or 'expired' with the number of rows that were lost and, as detail, where they are archived. It waits for its locks for a moment only
 * (TM_ERETRY), as whoever reads the table would wait behind it.
 */
#ifndef TM_STORE_RETENTION_H
#define TM_STORE_RETENTION_H

#include "store/pg.h"

#include <stdbool.h>

struct tm_retention_rule {
    int32_t epoch_no; /* the one that is being written */
    int64_t partition_rows;
    int64_t keep_us;
    const char *const *expire; /* NULL-terminated; NULL: none */
    bool pressure;             /* there must be room */
    const char *table;         /* only this partition; NULL: any */
};

struct tm_retention_part {
    char table[128], stream[64], epoch[40];
    int32_t epoch_no;
    int64_t first, last; /* seqs; all that was given out in it */
    int64_t acknowledged;
    bool expires;           /* some of its rows are in no production, or not in all of them */
    uint64_t rows;          /* such rows */
    int64_t from_us, to_us; /* Unix; arrival of the first and last of them; 0: unknown */
    char archived[320];     /* the caller's: the manifest of those rows in the archive; "": they are nowhere */
};

/* The partition to drop next: 1 and *out, or 0: none may go. */
int tm_retention_next(struct tm_pg *pg, const struct tm_retention_rule *rule, struct tm_retention_part *out,
                      struct tm_error *err) TM_MUST_CHECK;
int tm_retention_drop(struct tm_pg *pg, const struct tm_retention_part *part, const char *gatherer,
                      struct tm_error *err) TM_MUST_CHECK;

/* Bytes of the database on disk. */
int tm_retention_size(struct tm_pg *pg, uint64_t *bytes, struct tm_error *err) TM_MUST_CHECK;

/* How long ago a production last acknowledged something, by the clock of the store; -1: none ever did. */
int tm_retention_acknowledged_age(struct tm_pg *pg, int64_t *age_us, struct tm_error *err) TM_MUST_CHECK;

/* ---- acknowledging ---- */

/* How a production names itself in acknowledgements: its system and its database. `identity` is "system/timeline" (a
 * timeline changes with every failover, and is the same production). */
int tm_retention_production(const char *identity, const char *conninfo, char out[128]) TM_MUST_CHECK;

/* `epochs`, `streams`, `seqs`: arrays as PostgreSQL writes them, of the same length. */
int tm_retention_acknowledge(struct tm_pg *pg, const char *production, const char *epochs, const char *streams,
                             const char *seqs, struct tm_error *err) TM_MUST_CHECK;

#endif
