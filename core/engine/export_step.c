#include "archive/export.h"
#include "base/clock.h"
#include "engine/exporter.h"
#include "store/exports.h"

#include <string.h>

/* A period is looked at again when nothing more has come for it for so long: as long as the lag, within these. */
#define SETTLE_MIN_US (2 * TM_US_PER_S)
#define SETTLE_MAX_US (60 * TM_US_PER_S)

static int64_t settle_us_of(const struct tm_archive_settings *s)
{
    return s->lag_us < SETTLE_MIN_US ? SETTLE_MIN_US : s->lag_us > SETTLE_MAX_US ? SETTLE_MAX_US : s->lag_us;
}

static int run_period(const struct tm_export_sink *sink, const struct tm_stream *stream, struct tm_export_done *done,
                      struct tm_export_step *out, struct tm_error *err)
{
    struct tm_exported exported;
    struct tm_export export = {
        .pg = sink->pg, .target = sink->target, .stream = stream, .production = sink->production};
    int64_t started_us = tm_clock_mono_us();
    out->period = (struct tm_period){.from_us = done->from_us, .to_us = done->to_us};
    int rc = tm_exports_close(sink->pg, stream->name, done->to_us, err);
    if (rc) /* long transactions, as in a catch-up: there is time */
        return rc == TM_ERETRY && tm_pg_is_open(sink->pg) ? 0 : rc;
    rc = tm_export_period(&export, out->period, &exported, err);
    if (rc) {
        out->fault = exported.at_target ? TM_EXPORT_ARCHIVE : TM_EXPORT_PRODUCTION;
        return rc;
    }
    done->stream = stream->name;
    done->archive = tm_target_name(sink->target);
    done->parts = exported.parts;
    done->rows = exported.rows;
    done->archived_rows = exported.archived_rows;
    done->bytes = exported.bytes;
    rc = tm_exports_commit(sink->pg, done, err);
    out->rows = exported.new_rows;
    out->bytes = exported.new_bytes;
    out->objects = exported.new_rows > 0;
    out->damaged = exported.damaged;
    out->took_us = tm_clock_mono_us() - started_us;
    return rc ? rc : 1;
}

/* A period whose rows came late; what was never exported as a period is one of its own. */
static int late_period(const struct tm_export_sink *sink, const struct tm_stream *stream, int64_t length_us,
                       struct tm_export_step *out, struct tm_error *err)
{
    struct tm_export_late late;
    int rc = tm_exports_late(sink->pg, stream->name, settle_us_of(sink->settings), &late, err);
    if (rc <= 0)
        return rc;
    struct tm_period p = late.from_us == INT64_MIN ? tm_period_at(late.hour_us, length_us)
                                                   : (struct tm_period){.from_us = late.from_us, .to_us = late.to_us};
    struct tm_export_done done = {.from_us = p.from_us, .to_us = p.to_us, .next_us = INT64_MIN, .late_until = late.at};
    out->late = true;
    return run_period(sink, stream, &done, out, err);
}

int tm_export_step(const struct tm_export_sink *sink, const struct tm_stream *stream, struct tm_export_step *out,
                   struct tm_error *err)
{
    const struct tm_archive_settings *s = sink->settings;
    int64_t length_us = tm_archive_length_us(s, stream), next_us, now_us, heard_us;
    *out = (struct tm_export_step){.fault = TM_EXPORT_PRODUCTION};
    if (!length_us)
        return 0;
    const char *column = stream->columns[tm_archive_column(stream)].name;
    int rc = tm_exports_cursor(sink->pg, stream->name, column, length_us, &next_us, err);
    if (rc || next_us == INT64_MIN)
        return rc;
    rc = tm_exports_heard(sink->pg, stream->name, &now_us, &heard_us, err);
    if (rc)
        return rc;
    /* after a change of the schedule a period begins where the one before it ended */
    struct tm_export_done done = {
        .from_us = next_us, .to_us = tm_period_at(next_us, length_us).to_us, .next_us = next_us};
    if (tm_period_at(next_us, length_us).from_us != next_us)
        done.to_us = next_us + TM_PERIOD_HOUR_US;
    int64_t due_us = done.to_us + s->lag_us;
    out->lag_us = now_us > due_us ? now_us - due_us : 0;
    if (now_us >= due_us && (heard_us >= done.to_us || now_us >= due_us + s->wait_us))
        return run_period(sink, stream, &done, out, err);
    return late_period(sink, stream, length_us, out, err);
}
