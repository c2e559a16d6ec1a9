#include "engine/writer_settings.h"

#include <stdlib.h>
#include <string.h>

#define BATCH_ROWS_MAX 20000

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
    return s;
}

void tm_writer_settings_destroy(struct tm_writer_settings *s)
{
    if (!s)
        return;
    tm_plan_put(s->plan);
    free(s->conninfo);
    free(s);
}
