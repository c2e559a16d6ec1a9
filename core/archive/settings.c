#include "archive/settings.h"
#include "archive/target.h"
#include "record/builtin.h"

#include <string.h>

static const struct tm_archive_schedule *scheduled(const struct tm_archive_settings *s, const char *stream)
{
    for (size_t i = 0; i < s->schedule_count; i++)
        if (strcmp(s->schedule[i].stream, stream) == 0)
            return &s->schedule[i];
    return NULL;
}

int64_t tm_archive_length_us(const struct tm_archive_settings *s, const struct tm_stream *stream)
{
    if (!s->to || tm_archive_column(stream) < 0)
        return 0;
    const struct tm_archive_schedule *own = scheduled(s, stream->name);
    if (own)
        return own->length_us;
    if (strcmp(stream->name, TM_STREAM_HEARTBEATS) == 0)
        return 0;
    return stream->observer ? TM_PERIOD_DAY_US : TM_PERIOD_HOUR_US;
}

struct tm_archive_settings tm_archive_settings_copy(const struct tm_archive_settings *from, struct tm_arena *arena)
{
    struct tm_archive_settings s = *from;
    struct tm_archive_schedule *schedule = tm_arena_alloc(arena, (from->schedule_count + 1) * sizeof *schedule);
    for (size_t i = 0; i < from->schedule_count; i++) {
        schedule[i] = from->schedule[i];
        schedule[i].stream = tm_arena_strdup(arena, from->schedule[i].stream);
    }
    s.schedule = schedule;
    s.to = from->to ? tm_arena_strdup(arena, from->to) : NULL;
    s.credentials = from->credentials ? tm_arena_strdup(arena, from->credentials) : NULL;
    s.lag_us = from->lag_us < 0 ? TM_ARCHIVE_LAG_US : from->lag_us;
    s.wait_us = from->wait_us < 0 ? TM_ARCHIVE_WAIT_US : from->wait_us;
    return s;
}

int tm_archive_settings_check(const struct tm_archive_settings *s, const struct tm_plan *plan, struct tm_error *err)
{
    if (!s->to)
        return TM_OK;
    struct tm_target_options target = {.url = s->to, .credentials = s->credentials};
    int rc = tm_target_check(&target, err);
    for (size_t i = 0; !rc && i < s->schedule_count; i++) {
        const char *name = s->schedule[i].stream;
        const struct tm_stream *stream = tm_plan_stream_by_name(plan, name);
        if (!stream)
            return tm_error_set(err, TM_EINVAL, "schedule: there is no stream \"%.63s\"", name);
        if (s->schedule[i].length_us && tm_archive_column(stream) < 0)
            return tm_error_set(err, TM_EINVAL,
                                "schedule: stream \"%s\" has no periods: expected records that are appended and have a "
                                "time",
                                name);
    }
    return rc;
}
