/* What restore.c (the walk) and restore_store.c (rows into a database) share. */
#ifndef TM_ARCHIVE_RESTORE_PRIVATE_H
#define TM_ARCHIVE_RESTORE_PRIVATE_H

#include "archive/index.h"
#include "archive/object.h"
#include "archive/restore.h"

struct tm_restoring {
    const struct tm_restore_options *o; /* a verification has no `pg` */
    bool deep;                          /* verification: read the objects */
    struct tm_restore_counts *counts;
    const struct tm_stream *stream;
    struct tm_parquet_column columns[TM_COLUMNS_MAX];
    size_t column_count;
    struct tm_buf names; /* of the columns, "a,b,c" */
    const char *object;  /* that rows come from, for messages */
    uint64_t object_stored;
    bool conflicts; /* the last batch met rows that were there */
    struct tm_buf spans;
    int64_t days[64]; /* whose partitions are known to be there */
    size_t day_count;
};

/* The table for the rows of r->stream. */
int tm_restore_prepare(struct tm_restoring *r, struct tm_error *err) TM_MUST_CHECK;
/* In the form of tm_object_take: a batch of rows, in transactions of its own. */
int tm_restore_take(void *restoring, const uint8_t *tuples, size_t len, size_t rows, struct tm_error *err);

/* Was this object done by the restore that was interrupted? Note that it is. Forget all that, at the end. */
int tm_restore_is_done(struct tm_restoring *r, const struct tm_manifest *m, bool *done,
                       struct tm_error *err) TM_MUST_CHECK;
int tm_restore_note_done(struct tm_restoring *r, const struct tm_manifest *m, struct tm_error *err) TM_MUST_CHECK;
int tm_restore_forget_done(struct tm_restoring *r, struct tm_error *err) TM_MUST_CHECK;

/* All rows of a gatherer's manifest are there: they are not absent any more, and the ledger's gap is closed. */
int tm_restore_close(struct tm_restoring *r, const struct tm_manifest *m, struct tm_error *err) TM_MUST_CHECK;

/* A named gap into tidemill.absent, once; and off again. */
int tm_restore_put_gap(struct tm_restoring *r, const struct tm_restore_gap *gap, struct tm_error *err) TM_MUST_CHECK;
int tm_restore_end_gap(struct tm_restoring *r, const char *object, struct tm_error *err) TM_MUST_CHECK;

#endif
