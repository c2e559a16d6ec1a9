/*
 * Rows on their way to the journal. Each looks its key up twice in tables that are larger than the processor's caches, so
 * rows wait until some have come: the first thing done with one is to ask memory for what it will need, and the rest is
 * done in the order in which they came (tm_intake_settle). Nothing else about them waits or changes.
 */
#include "base/clock.h"
#include "base/endian.h"
#include "base/planted.h"
#include "base/unset.h"
#include "engine/intake_private.h"

/* Equal keys of a counted stream share one exchange microsecond and a connection delivers in order, so a
 * repeat that comes later than this is a redelivery, not another event. */
#define REPEAT_WINDOW_US (10 * TM_US_PER_S)
#define WAITING_BYTES ((size_t)32 << 10) /* of long rows, snapshots', fewer wait */

int64_t tm_intake_append(struct tm_intake *in, const struct tm_intake_lane *lane, const struct tm_row *row)
{
    if (in->journal)
        return tm_journal_append(in->journal, lane->journal_id, row->tuple, row->len);
    return in->take ? in->take(in->take_arg, row) : TM_OK;
}

/* ---- as they come ---- */

static void note_time(const struct tm_intake_lane *lane, const struct tm_field *fields, int64_t wall_us)
{
    int column = lane->stream->time_column;
    int64_t us = 0;
    if (fields && column >= 0 && fields[column].len == 8)
        us = tm_unix_time_us((int64_t)tm_get_be64(fields[column].bytes));
    tm_newest_note(lane->newest_us, us < wall_us + TM_INTAKE_FUTURE_US ? us : 0);
}

/* The feed's for a row of a counted stream; NULL: none is needed. */
static int counter_for(struct tm_feed *feed, const struct tm_row *row, const struct tm_field *fields,
                       struct tm_counter **out)
{
    const struct tm_stream *stream = row->stream;
    *out = NULL;
    if (!feed || !row->occurrence_at || !tm_stream_key_of(stream, fields)->counted)
        return TM_OK;
    struct tm_counter **counter = &feed->counters[stream->index];
    int64_t window_us = stream->within_us ? stream->within_us : REPEAT_WINDOW_US;
    int rc = *counter ? TM_OK : tm_counter_create(window_us, TM_INTAKE_COUNTER_BYTES, counter);
    *out = *counter;
    return rc;
}

/* Most keys are counted for the first time, so that is the one whose place is asked for. */
static int look_at_key(const struct tm_intake *in, struct tm_waiting *w)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    int rc = tm_tuple_split(w->row.tuple, w->row.len, fields, w->row.stream->column_count);
    if (rc)
        return rc;
    w->fp = tm_stream_fingerprint(w->row.stream, &in->hash_key, fields);
    note_time(w->lane, fields, w->now.wall_us);
    rc = counter_for(w->feed, &w->row, fields, &w->counter);
    if (w->counter)
        tm_counter_prefetch(w->counter, w->fp);
    tm_seen_prefetch(w->lane->seen, tm_fp_occurrence(w->fp, 0));
    return rc;
}

int tm_intake_put(struct tm_intake *in, struct tm_intake_lane *lane, struct tm_feed *feed, const struct tm_row *row,
                  struct tm_intake_time now)
{
    int rc = TM_OK;
    if (in->waiting_count == TM_INTAKE_WAITING_MAX || in->waiting_bytes.len + row->len > WAITING_BYTES)
        tm_intake_settle(in);
    struct tm_waiting *w = &in->waiting[in->waiting_count];
    *w = (struct tm_waiting){.lane = lane, .feed = feed, .row = *row, .now = now};
    if (lane->seen)
        rc = look_at_key(in, w);
    else
        note_time(lane, NULL, now.wall_us);
    w->ticker_at = row->ticker ? (size_t)(row->ticker - (const char *)row->tuple) : 0;
    rc = rc ? rc : tm_buf_append(&in->waiting_bytes, row->tuple, row->len);
    in->waiting_count += rc == TM_OK;
    return rc;
}

/* ---- in their turn ---- */

static bool is_seen(struct tm_waiting *w)
{
    if (w->counter) {
        uint32_t occurrence = tm_counter_next(w->counter, w->fp, w->now.mono_us);
        tm_row_set_occurrence(&w->row, (uint16_t)occurrence);
        w->fp = tm_fp_occurrence(w->fp, occurrence);
    }
    return w->lane->seen && tm_seen_contains(w->lane->seen, w->fp);
}

/* Journaled, duplicate or discarded, each counted. */
static void settle(struct tm_intake *in, struct tm_waiting *w)
{
    struct tm_intake_lane *lane = w->lane;
    in->stats.rows++;
    tm_metric_add(lane->received, 1);
    if (is_seen(w)) {
        in->stats.duplicates++;
        tm_metric_add(lane->duplicate, 1);
        return;
    }
    if (in->discard_gap.open)
        tm_intake_stop_discarding(in, w->now);
    int64_t seq = tm_intake_append(in, lane, &w->row);
    if (TM_PLANTED(double_row) && !lane->seen)
        seq = tm_intake_append(in, lane, &w->row);
    if (seq < 0) {
        in->stats.discarded++;
        tm_metric_add(lane->discarded, 1);
        tm_intake_start_discarding(in, w->now.wall_us);
        return;
    }
    tm_metric_add(lane->journaled, 1);
    if (tm_taps_wanted(in->taps))
        tm_taps_offer(in->taps, w->row.stream, NULL, w->row.tuple, w->row.len);
    if (lane->seen)
        (void)tm_seen_add(lane->seen, w->fp, w->now.mono_us); /* only now: a refused append must not be "seen" (T35) */
    if (w->feed)
        w->feed->rows++;
}

void tm_intake_settle(struct tm_intake *in)
{
    uint8_t *tuple = in->waiting_bytes.data;
    for (size_t i = 0; i < in->waiting_count; i++) {
        struct tm_waiting *w = &in->waiting[i];
        w->row.tuple = tuple;
        if (w->row.ticker)
            w->row.ticker = (const char *)tuple + w->ticker_at;
        settle(in, w);
        tuple += w->row.len;
    }
    in->waiting_count = 0;
    tm_buf_clear(&in->waiting_bytes);
}

/* ---- rows that came by no feed ---- */

/*
 * The lane for rows of a stream: the plan's; for a stream of an earlier plan one in `own`, which writes the rows as they
 * were declared then, and shares the seen-set of the stream that has taken its place if that means the same.
 */
static int lane_for(struct tm_intake *in, const struct tm_stream *stream, struct tm_intake_lane *own,
                    struct tm_intake_lane **out)
{
    struct tm_error err;
    const struct tm_stream *now = tm_plan_stream_by_name(in->setup.plan, stream->name);
    *out = own;
    if (stream->plan == in->setup.plan) {
        *out = &in->setup.lanes[stream->index];
        return TM_OK;
    }
    tm_intake_lane_init(own, stream, in->metrics);
    own->newest_us = tm_newest_entry(&in->newest, stream->name);
    if (now && tm_stream_keeps_seen(stream, now))
        own->seen = in->setup.lanes[now->index].seen;
    return tm_intake_lane_declare(own, in->journal, &err);
}

int tm_intake_rows(struct tm_intake *in, const struct tm_stream *stream, const struct tm_buf *tuples,
                   struct tm_intake_time now)
{
    struct tm_intake_lane own, *lane;
    int rc = lane_for(in, stream, &own, &lane);
    for (size_t at = 0; !rc && at < tuples->len;) {
        int64_t len = tm_tuple_length(tuples->data + at, tuples->len - at);
        if (len <= 0) {
            rc = TM_ECORRUPT;
            break;
        }
        struct tm_row row = {.stream = stream, .tuple = tuples->data + at, .len = (uint32_t)len};
        rc = tm_intake_put(in, lane, NULL, &row, now);
        at += (size_t)len;
    }
    tm_intake_settle(in); /* while there is `own` */
    return rc;
}
