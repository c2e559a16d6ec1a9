/*
 * Rows that have to leave a gatherer's store before production has them, into the archive first: the part of a partition
 * that no production, or not every one, has acknowledged. All columns of the store, so nothing of a row is lost.
 *
 * The name says gatherer, stream, epoch and seqs, so that the same rows are the same object: one that a killed process left
 * is adopted. Blocks; one thread.
 */
#ifndef TM_ARCHIVE_UNSYNCED_H
#define TM_ARCHIVE_UNSYNCED_H

#include "archive/period.h"
#include "archive/target.h"
#include "store/retention.h"

struct tm_unsynced {
    const struct tm_stream *stream;
    const char *gatherer;
    struct tm_retention_part part; /* seqs after part.acknowledged go */
};

struct tm_unsynced_done {
    char manifest[TM_ARCHIVE_KEY];
    uint64_t rows, bytes;
};

int tm_unsynced_archive(struct tm_pg *pg, struct tm_target *target, const struct tm_unsynced *u,
                        struct tm_unsynced_done *out, struct tm_error *err) TM_MUST_CHECK;

/* The folder of all such manifests, or of one gatherer's. */
#define TM_UNSYNCED_MANIFESTS "manifest/unsynced/"

#endif
