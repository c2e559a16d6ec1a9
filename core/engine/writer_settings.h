/*
 * What a reload may change about the store writer, in one piece that is handed from thread to thread: made by the policy
 * thread, owned by whoever has it, never changed.
 */
#ifndef TM_ENGINE_WRITER_SETTINGS_H
#define TM_ENGINE_WRITER_SETTINGS_H

#include "engine/writer.h"

struct tm_writer_settings {
    char *conninfo;
    const struct tm_plan *plan; /* held */
    size_t batch_rows_max, batch_bytes_max;
    bool migrate;
    int64_t keep_us, partition_rows;
    uint64_t store_bytes_max;
    char **expire;          /* NULL-terminated */
    struct tm_arena *arena; /* of what `archive` points to */
    struct tm_archive_settings archive;
    tm_retain_submit *submit;
    void *submit_arg;
};

struct tm_writer_settings *tm_writer_settings_create(const struct tm_writer_options *options);
void tm_writer_settings_destroy(struct tm_writer_settings *s); /* NULL is fine */

#endif
