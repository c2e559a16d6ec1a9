/*
 * What an archive says that it has: the names of its manifests, in the order of time, and what they say. Blocks.
 */
#ifndef TM_ARCHIVE_INDEX_H
#define TM_ARCHIVE_INDEX_H

#include "archive/manifest.h"

struct tm_archive_entry {
    char key[TM_ARCHIVE_KEY];
    struct tm_period period; /* of rows that a gatherer had to let go: all zero, their manifest has times */
    unsigned part;
};

/* All zero: empty. */
struct tm_archive_index {
    struct tm_archive_entry *entries;
    size_t count, cap;
};
void tm_archive_index_fini(struct tm_archive_index *index);

/* Append the stream's manifests whose periods touch since_us <= t < until_us, sorted by time and part. */
int tm_archive_index_stream(struct tm_archive_index *index, struct tm_target *target, const char *stream,
                            int64_t since_us, int64_t until_us, struct tm_error *err) TM_MUST_CHECK;

/* Append manifests of rows that gatherers had to let go, of a stream. */
int tm_archive_index_unsynced(struct tm_archive_index *index, struct tm_target *target, const char *stream,
                              struct tm_error *err) TM_MUST_CHECK;

/* Read one. TM_ENOENT, TM_ECORRUPT: it is of no use. */
int tm_archive_manifest(struct tm_target *target, const char *key, struct tm_manifest *out,
                        struct tm_error *err) TM_MUST_CHECK;

#endif
