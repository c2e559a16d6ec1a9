#include "engine/intake_private.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- one stream ---- */

static struct tm_metric *stream_counter(struct tm_metrics *m, const char *name, const char *help, const char *stream)
{
    char labels[96];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", stream);
    return tm_metrics_counter(m, name, help, labels);
}

/* Without a seen-set and a place in the journal. */
void tm_intake_lane_init(struct tm_intake_lane *lane, const struct tm_stream *stream, struct tm_metrics *m)
{
    *lane = (struct tm_intake_lane){.stream = stream, .journal_id = -1};
    lane->received = stream_counter(m, "tidemill_rows_received_total", "Records decoded.", stream->name);
    lane->journaled =
        stream_counter(m, "tidemill_rows_journaled_total", "Records appended to the journal.", stream->name);
    lane->duplicate =
        stream_counter(m, "tidemill_rows_duplicate_total", "Records seen before within the window.", stream->name);
    lane->discarded =
        stream_counter(m, "tidemill_rows_discarded_total",
                       "Records given up because the journal was full; see the gap ledger.", stream->name);
    char labels[96];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", stream->name);
    lane->journal_seq = tm_metrics_gauge(m, "tidemill_journal_seq", "The last seq given out in the journal.", labels);
}

struct tm_seen_options tm_stream_seen_options(const struct tm_stream *stream)
{
    return (struct tm_seen_options){.window_us = stream->window_us ? stream->window_us : TM_SEEN_WINDOW_US,
                                    .memory_bytes_max = stream->memory_bytes_max};
}

bool tm_stream_has_seen(const struct tm_stream *stream)
{
    return !stream->observer && stream->mode != TM_STREAM_UPSERT;
}

int tm_stream_seen_create(const struct tm_stream *stream, struct tm_seen **out, struct tm_error *err)
{
    struct tm_seen_options options = tm_stream_seen_options(stream);
    int rc = tm_seen_create(&options, out, err);
    return rc ? tm_error_wrap(err, "stream \"%s\"", stream->name) : TM_OK;
}

/* One of its own, or only the check that it could have one, where it will be given an older stream's. */
static int lane_make_seen(struct tm_intake_lane *lane, bool given, struct tm_error *err)
{
    struct tm_seen_options options = tm_stream_seen_options(lane->stream);
    if (!tm_stream_has_seen(lane->stream))
        return TM_OK;
    if (!given)
        return tm_stream_seen_create(lane->stream, &lane->seen, err);
    int rc = tm_seen_check(&options, err);
    return rc ? tm_error_wrap(err, "stream \"%s\"", lane->stream->name) : TM_OK;
}

int tm_intake_lane_declare(struct tm_intake_lane *lane, struct tm_journal *journal, struct tm_error *err)
{
    lane->journal_id = journal ? tm_journal_stream(journal, lane->stream->name, lane->stream->copy_columns, err) : 0;
    return lane->journal_id < 0 ? lane->journal_id : TM_OK;
}

/* ---- plans ---- */

static int keeps_of(const struct tm_plan *from, const struct tm_stream *to)
{
    const struct tm_stream *old = from ? tm_plan_stream_by_name(from, to->name) : NULL;
    return old && tm_stream_keeps_seen(old, to) ? old->index : -1;
}

int tm_intake_change_create(const struct tm_plan *from, const struct tm_plan *to, struct tm_metrics *metrics,
                            struct tm_intake_change **out, struct tm_error *err)
{
    struct tm_intake_change *c = calloc(1, sizeof *c);
    if (!c)
        return tm_error_set(err, TM_ENOMEM, "intake: out of memory");
    c->from = tm_plan_take(from);
    c->setup.plan = tm_plan_take(to);
    int rc = tm_decoder_create(to, &c->setup.decoder);
    if (rc)
        (void)tm_error_set(err, rc, "intake: out of memory for the decoder");
    for (size_t i = 0; !rc && i < tm_plan_stream_count(to); i++) {
        struct tm_intake_lane *lane = &c->setup.lanes[c->setup.lane_count++];
        tm_intake_lane_init(lane, tm_plan_stream(to, i), metrics);
        c->keeps_of[i] = keeps_of(from, lane->stream);
        rc = lane_make_seen(lane, c->keeps_of[i] >= 0, err);
    }
    if (rc) {
        tm_intake_change_destroy(c);
        return rc;
    }
    *out = c;
    return TM_OK;
}

int tm_intake_change_declare(struct tm_intake_change *c, struct tm_journal *journal, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < c->setup.lane_count; i++)
        rc = tm_intake_lane_declare(&c->setup.lanes[i], journal, err);
    return rc;
}

void tm_intake_bind_newest(struct tm_intake *in, struct tm_intake_setup *s)
{
    for (size_t i = 0; i < s->lane_count; i++) {
        const char *name = s->lanes[i].stream->name;
        s->lanes[i].newest_us = tm_newest_entry(&in->newest, name);
        if (in->journal && tm_journal_last_seq(in->journal, name) > 0)
            tm_newest_note(s->lanes[i].newest_us, 0);
    }
}

void tm_intake_setup_fini(struct tm_intake_setup *s)
{
    for (size_t i = 0; i < s->lane_count; i++)
        tm_seen_destroy(s->lanes[i].seen);
    tm_decoder_destroy(s->decoder);
    tm_plan_put(s->plan);
}

void tm_intake_change_destroy(struct tm_intake_change *c)
{
    if (!c)
        return;
    struct tm_counter **spent = (struct tm_counter **)(void *)c->spent.data;
    for (size_t i = 0; i < c->spent.len / sizeof *spent; i++)
        tm_counter_destroy(spent[i]);
    tm_buf_fini(&c->spent);
    tm_intake_setup_fini(&c->setup);
    tm_plan_put(c->from);
    free(c);
}

/* Freeing a large table takes milliseconds, which this thread has not. */
static void spend(struct tm_intake_change *c, struct tm_counter *counter)
{
    if (counter && tm_buf_append(&c->spent, &counter, sizeof counter))
        tm_counter_destroy(counter);
}

/* The counters of a feed stand by the index of their stream, which may be another now. */
static void move_counters(struct tm_intake_change *c, struct tm_feed *feed)
{
    struct tm_counter *old[TM_STREAMS_MAX];
    memcpy(old, feed->counters, sizeof old);
    memset(feed->counters, 0, sizeof feed->counters);
    for (size_t i = 0; i < c->setup.lane_count; i++) {
        if (c->keeps_of[i] < 0)
            continue;
        feed->counters[i] = old[c->keeps_of[i]];
        old[c->keeps_of[i]] = NULL;
    }
    for (size_t i = 0; i < TM_STREAMS_MAX; i++)
        spend(c, old[i]);
}

static void move_seen(struct tm_intake_lane *from, struct tm_intake_lane *to, struct tm_intake_time now)
{
    struct tm_seen_options options = tm_stream_seen_options(to->stream);
    to->seen = from->seen;
    from->seen = NULL;
    if (to->seen)
        tm_seen_configure(to->seen, &options, now.mono_us);
}

void tm_intake_apply(struct tm_intake *in, struct tm_intake_change *c, struct tm_intake_time now)
{
    TM_FATAL_UNLESS(c->from == in->setup.plan);
    tm_intake_settle(in);
    for (size_t i = 0; i < c->setup.lane_count; i++)
        if (c->keeps_of[i] >= 0)
            move_seen(&in->setup.lanes[c->keeps_of[i]], &c->setup.lanes[i], now);
    for (struct tm_feed *feed = in->feeds; feed; feed = feed->next)
        move_counters(c, feed);
    tm_intake_bind_newest(in, &c->setup);
    struct tm_intake_setup old = in->setup;
    in->setup = c->setup;
    c->setup = old;
}

void tm_intake_set_sequence_start(struct tm_intake *in, int64_t sequence_start)
{
    in->sequence_start = sequence_start;
    for (struct tm_feed *feed = in->feeds; feed; feed = feed->next)
        feed->sequence.start = sequence_start;
}
