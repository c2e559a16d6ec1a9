#include "base/clock.h"
#include "base/endian.h"
#include "base/log.h"
#include "engine/merge_private.h"
#include "store/drift.h"
#include "store/exports.h"
#include "store/late.h"
#include "store/quarantine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

/* The last field of what was polled. */
static int64_t seq_of(const struct tm_choice *c)
{
    const struct tm_batch_row *r = &c->batch->rows[c->row];
    return (int64_t)tm_get_be64(c->batch->bytes.data + r->offset + r->len - 8);
}

/* ---- quarantine ---- */

static int put_quarantine(struct tm_merge *m, const struct tm_work *w, const struct tm_choice *c, const char *sqlstate,
                          const char *why)
{
    char seq[24];
    struct tm_error err;
    (void)snprintf(seq, sizeof seq, "%" PRId64, seq_of(c));
    struct tm_quarantine q = {.stream = w->stream->name,
                              .gatherer = c->batch->peer->id,
                              .epoch = c->batch->epoch,
                              .seq = seq,
                              .sqlstate = sqlstate,
                              .error = why,
                              .columns = (const char *)w->columns.data,
                              .tuple = tm_batch_production_row(c->batch, c->row)};
    TM_LOG_LIMITED(TM_LOG_ERROR, "merger", "a row goes to tidemill.quarantine", TM_F_STR("stream", q.stream),
                   TM_F_STR("gatherer", q.gatherer), TM_F_STR("seq", seq), TM_F_STR("sqlstate", sqlstate),
                   TM_F_STR("error", why));
    return tm_quarantine_put(m->pg, &q, &err);
}

static int quarantine_absurd(struct tm_merge *m, struct tm_work *w, struct tm_error *err)
{
    const struct tm_choice *c = choices_of(&w->absurd);
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < count_of(&w->absurd); i++)
        rc = put_quarantine(m, w, &c[i], "",
                            "the exchange's time is outside what is accepted (accept_past, accept_future)");
    w->quarantined += count_of(&w->absurd);
    return rc ? tm_error_set(err, rc, "%s: a row with an absurd time could not be put aside", w->stream->name) : TM_OK;
}

int tm_merge_reject(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple, const char *sqlstate,
                    const char *message)
{
    struct tm_merge *m = arg;
    (void)stream;
    int rc = m->looked ? TM_OK : tm_drift_check(m->pg, m->settings->options.plan, &m->drift);
    m->looked = true;
    if (rc)
        return rc;
    size_t at = (size_t)(tuple - (const struct tm_span_bytes *)(const void *)m->storing->spans.data);
    struct tm_choice *c = &choices_of(&m->storing->choices)[at];
    c->refused = true;
    c->batch->written--;
    c->batch->quarantined++;
    return put_quarantine(m, m->storing, c, sqlstate, message);
}

/* ---- late ---- */

static int store_late(struct tm_merge *m, struct tm_work *w, struct tm_error *err)
{
    struct tm_late_row rows[TM_LATE_ROWS];
    const struct tm_choice *c = choices_of(&w->late);
    size_t count = count_of(&w->late);
    int rc = TM_OK;
    for (size_t done = 0; !rc && done < count;) {
        size_t n = 0;
        for (; n < TM_LATE_ROWS && done + n < count; n++)
            rows[n] = (struct tm_late_row){.gatherer = c[done + n].batch->peer->id,
                                           .epoch = c[done + n].batch->epoch,
                                           .seq = seq_of(&c[done + n]),
                                           .tuple = tm_batch_production_row(c[done + n].batch, c[done + n].row)};
        rc = tm_late_put(m->pg, w->stream->name, (const char *)w->columns.data, rows, n, err);
        done += n;
    }
    w->late_rows += count;
    if (!rc && count)
        TM_LOG_LIMITED(TM_LOG_WARN, "merger", "rows came for days that retention has sealed; they are in tidemill.late",
                       TM_F_STR("stream", w->stream->name), TM_F_U64("rows", count));
    return rc;
}

int tm_merge_put_aside(struct tm_merge *m, struct tm_work *w, struct tm_error *err)
{
    int rc = quarantine_absurd(m, w, err);
    return rc ? rc : store_late(m, w, err);
}

/* ---- gatherers that disagree ---- */

/* It is a duplicate by its key, whatever else is wrong with it. */
static int ignore_suspect(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple,
                          const char *sqlstate, const char *message)
{
    (void)arg, (void)stream, (void)tuple, (void)sqlstate, (void)message;
    return TM_OK;
}

/* Their keys are all there: so they go to the stage, where SQL compares. One gatherer's at a time, to name it. */
static int compare_run(struct tm_merge *m, struct tm_work *w, size_t from, size_t count, struct tm_error *err)
{
    struct tm_copy_result result;
    const struct tm_choice *c = choices_of(&w->suspects) + from;
    struct tm_span_bytes *spans = malloc(count * sizeof *spans);
    TM_FATAL_UNLESS(spans);
    for (size_t i = 0; i < count; i++)
        spans[i] = tm_batch_production_row(c[i].batch, c[i].row);
    struct tm_copy_batch batch = {.stream = w->stream,
                                  .side = TM_COPY_PRODUCTION,
                                  .columns = (const char *)w->columns.data,
                                  .tuples = spans,
                                  .count = count,
                                  .expect_conflicts = true,
                                  .gatherer = c->batch->peer->id,
                                  .on_reject = ignore_suspect,
                                  .arg = m};
    int rc = tm_copy_rows(m->pg, &batch, &result, err);
    free(spans);
    w->conflicts_found += rc ? 0 : result.disagreeing;
    return rc ? tm_error_wrap(err, "%s", w->stream->name) : TM_OK;
}

int tm_merge_compare(struct tm_merge *m, struct tm_work *w, struct tm_error *err)
{
    const struct tm_choice *c = choices_of(&w->suspects);
    size_t count = count_of(&w->suspects);
    int rc = TM_OK;
    for (size_t from = 0, end; !rc && from < count; from = end) {
        for (end = from + 1; end < count && c[end].batch->peer == c[from].batch->peer;)
            end++;
        rc = compare_run(m, w, from, end - from, err);
    }
    if (!rc && w->conflicts_found)
        TM_LOG_LIMITED(TM_LOG_ERROR, "merger", "gatherers disagree about records of one key; see tidemill.conflicts",
                       TM_F_STR("stream", w->stream->name), TM_F_U64("records", w->conflicts_found));
    return rc;
}

/* ---- what comes after its hour may be in the archive already ---- */

#define EXPORTABLE_US (300 * TM_US_PER_S) /* nobody exports what is newer, unless our own lag says so */

static int64_t hour_of(const struct tm_choice *c)
{
    const struct tm_batch_row *r = &c->batch->rows[c->row];
    int64_t us = r->time_us != INT64_MIN ? r->time_us : r->received_us;
    return us == INT64_MIN ? INT64_MAX - TM_PERIOD_HOUR_US : tm_period_at(us, TM_PERIOD_HOUR_US).from_us;
}

static bool add_hour(int64_t *hours, size_t *count, int64_t hour)
{
    for (size_t i = *count; i-- > 0;)
        if (hours[i] == hour)
            return true;
    if (*count == TM_EXPORTS_HOURS_MAX)
        return false;
    hours[(*count)++] = hour;
    return true;
}

int tm_merge_note_late(struct tm_merge *m, struct tm_work *w, struct tm_error *err)
{
    const struct tm_archive_settings *archive = &m->settings->options.archive;
    int64_t age_us = archive->to && archive->lag_us / 2 < EXPORTABLE_US ? archive->lag_us / 2 : EXPORTABLE_US;
    int64_t newest_us = tm_clock_wall_us() - age_us, hours[TM_EXPORTS_HOURS_MAX];
    const struct tm_choice *c = choices_of(&w->choices);
    size_t count = 0;
    int rc = TM_OK;
    if (!w->written || tm_archive_column(w->stream) < 0)
        return TM_OK;
    for (size_t i = 0; !rc && i < count_of(&w->choices); i++) {
        int64_t hour = hour_of(&c[i]);
        if (hour + TM_PERIOD_HOUR_US > newest_us || (count && hours[count - 1] == hour) ||
            add_hour(hours, &count, hour))
            continue;
        rc = tm_exports_note_late(m->pg, w->stream->name, hours, count, err);
        count = 0;
        (void)add_hour(hours, &count, hour);
    }
    return rc || !count ? rc : tm_exports_note_late(m->pg, w->stream->name, hours, count, err);
}
