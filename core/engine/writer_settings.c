#include "engine/writer_settings.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_ROWS_MAX 20000

static char **copy_names(const char *const *names)
{
    size_t count = 0;
    while (names && names[count])
        count++;
    char **copy = calloc(count + 1, sizeof *copy);
    TM_FATAL_UNLESS(copy);
    for (size_t i = 0; i < count; i++) {
        copy[i] = strdup(names[i]);
        TM_FATAL_UNLESS(copy[i]);
    }
    return copy;
}

struct tm_writer_settings *tm_writer_settings_create(const struct tm_writer_options *options)
{
    struct tm_writer_settings *s = calloc(1, sizeof *s);
    TM_FATAL_UNLESS(s);
    s->conninfo = strdup(options->conninfo);
    TM_FATAL_UNLESS(s->conninfo);
    s->plan = tm_plan_take(options->plan);
    s->batch_rows_max = options->batch_rows_max ? options->batch_rows_max : BATCH_ROWS_MAX;
    s->batch_bytes_max = options->batch_bytes_max ? options->batch_bytes_max : TM_WRITER_BATCH_BYTES;
    s->migrate = options->migrate;
    s->keep_us = options->keep_us ? options->keep_us : TM_RETAIN_KEEP_US;
    s->partition_rows = options->partition_rows;
    s->store_bytes_max = options->store_bytes_max;
    s->expire = copy_names(options->expire);
    s->arena = tm_arena_create();
    s->archive = tm_archive_settings_copy(&options->archive, s->arena);
    s->submit = options->submit;
    s->submit_arg = options->submit_arg;
    return s;
}

void tm_writer_settings_destroy(struct tm_writer_settings *s)
{
    if (!s)
        return;
    tm_plan_put(s->plan);
    for (char **name = s->expire; *name; name++)
        free(*name);
    free(s->expire);
    tm_arena_destroy(s->arena);
    free(s->conninfo);
    free(s);
}
