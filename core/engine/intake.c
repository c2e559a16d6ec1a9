#include "engine/intake_private.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/planted.h"
#include "record/builtin.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MALFORMED_KEPT_PER_HOUR 10000 /* raw; beyond it they are only counted, so that garbage cannot fill a disk */

/* ---- life ---- */

static void metrics_init(struct tm_intake *in, struct tm_metrics *m)
{
    in->frames = tm_metrics_counter(m, "tidemill_frames_total", "WebSocket messages received.", NULL);
    in->repeated = tm_metrics_counter(m, "tidemill_frames_repeated_total",
                                      "Messages dropped because their sequence number had come before.", NULL);
    in->unknown = tm_metrics_counter(m, "tidemill_frames_unknown_total",
                                     "Messages of unknown type or shape, kept raw in unknown_frames.", NULL);
    in->malformed = tm_metrics_counter(m, "tidemill_frames_malformed_total",
                                       "Messages that are not JSON, kept raw in unknown_frames.", NULL);
    in->gaps = tm_metrics_counter(m, "tidemill_gaps_total", "Gaps opened in the gap ledger.", NULL);
    in->seen_keys = tm_metrics_gauge(m, "tidemill_seen_keys", "Keys in the seen-sets.", NULL);
    in->seen_bytes = tm_metrics_gauge(m, "tidemill_seen_bytes", "Memory of the seen-sets.", NULL);
}

int tm_intake_create(const struct tm_intake_options *options, struct tm_intake **out, struct tm_error *err)
{
    struct tm_intake *in = calloc(1, sizeof *in);
    if (!in)
        return tm_error_set(err, TM_ENOMEM, "intake: out of memory");
    in->journal = options->journal;
    in->take = options->take;
    in->take_arg = options->take_arg;
    in->metrics = options->metrics;
    in->taps = options->taps;
    in->sequence_start = options->sequence_start;
    in->gap_log = options->gap_log;
    tm_hash_key_init(&in->hash_key);
    metrics_init(in, options->metrics);
    struct tm_intake_change *first = NULL;
    int rc = tm_intake_change_create(NULL, options->plan, in->metrics, &first, err);
    rc = rc ? rc : tm_intake_change_declare(first, in->journal, err);
    if (!rc)
        tm_intake_apply(in, first, (struct tm_intake_time){0});
    tm_intake_change_destroy(first);
    if (rc) {
        tm_intake_destroy(in);
        return rc;
    }
    *out = in;
    return TM_OK;
}

void tm_intake_destroy(struct tm_intake *in)
{
    if (!in)
        return;
    tm_intake_setup_fini(&in->setup);
    tm_buf_fini(&in->gap_buf);
    tm_buf_fini(&in->seqs);
    tm_buf_fini(&in->waiting_bytes);
    free(in);
}

/*
 * ---- the gap ledger ----
 *
 * Rows that wait are settled before it changes: what they find open is what was open when they came, and its rows stand
 * behind them.
 */

static int append_own(struct tm_intake *in, const struct tm_row *row)
{
    struct tm_intake_lane *lane = &in->setup.lanes[row->stream->index];
    int64_t seq = tm_intake_append(in, lane, row);
    if (seq < 0)
        return (int)seq;
    tm_metric_add(lane->received, 1);
    tm_metric_add(lane->journaled, 1);
    return TM_OK;
}

/* Returns what the journal said; a ledger row that it refuses is kept open in memory by the caller. */
static int write_scoped(struct tm_intake *in, const struct tm_gap *gap, const struct tm_gap_scope *scope,
                        struct tm_gap_end end, struct tm_intake_time now)
{
    struct tm_row row;
    tm_buf_clear(&in->gap_buf);
    int rc = tm_gap_row(gap, in->setup.plan, scope, end, now.wall_us, &in->gap_buf, &row);
    return rc ? rc : append_own(in, &row);
}

static int write_gap(struct tm_intake *in, const struct tm_gap *gap, int64_t to_us, const char *closed_by,
                     struct tm_intake_time now)
{
    tm_gap_log_gap(in->gap_log, gap, to_us, closed_by);
    return TM_PLANTED(silent_gap) ? TM_OK : write_scoped(in, gap, NULL, (struct tm_gap_end){to_us, closed_by}, now);
}

static void count_gap(struct tm_intake *in, struct tm_feed *feed)
{
    in->stats.gaps++;
    tm_metric_add(in->gaps, 1);
    if (feed)
        feed->gaps++;
}

void tm_intake_start_discarding(struct tm_intake *in, int64_t from_us)
{
    if (in->discard_gap.open) {
        if (from_us < in->discard_gap.from_us)
            in->discard_gap.from_us = from_us;
        return;
    }
    tm_gap_open(&in->discard_gap, "journal full", NULL, from_us);
    in->stats.discarding = true;
    count_gap(in, NULL);
    TM_LOG_LIMITED(TM_LOG_ERROR, "intake",
                   "the journal takes no more rows; records are discarded until it does: free disk space or raise "
                   "its bound");
}

/* What opened meanwhile was perhaps refused, and until it is closed nobody would know. */
static int say_again(struct tm_intake *in, struct tm_intake_time now)
{
    int rc = TM_OK;
    for (struct tm_feed *feed = in->feeds; !rc && feed; feed = feed->next)
        if (feed->gap.open)
            rc = write_gap(in, &feed->gap, 0, NULL, now);
    return rc;
}

void tm_intake_stop_discarding(struct tm_intake *in, struct tm_intake_time now)
{
    if (in->journal && !tm_journal_has_room(in->journal))
        return;
    if (write_gap(in, &in->discard_gap, now.wall_us, "journal has room", now) || say_again(in, now))
        return;
    in->discard_gap.open = false;
    in->stats.discarding = false;
    TM_LOG_LIMITED(TM_LOG_WARN, "intake", "the journal takes rows again", TM_F_U64("discarded", in->stats.discarded));
}

static void open_sequence_gap(struct tm_intake *in, struct tm_feed *feed, int64_t sid,
                              const struct tm_sequence_result *r, struct tm_intake_time now)
{
    tm_intake_settle(in);
    struct tm_gap_slot *slot = &feed->slots[feed->next_slot++ % TM_FEED_GAP_SLOTS];
    slot->number = r->gap;
    tm_gap_open(&slot->gap, "sequence", feed->name, feed->last_message_us ? feed->last_message_us : now.wall_us);
    slot->gap.sid = sid;
    slot->gap.first = r->first;
    slot->gap.last = r->last;
    count_gap(in, feed);
    if (write_gap(in, &slot->gap, now.wall_us, NULL, now))
        tm_intake_start_discarding(in, slot->gap.from_us);
    TM_LOG_LIMITED(TM_LOG_WARN, "intake", "sequence numbers are missing", TM_F_STR("connection", feed->name),
                   TM_F_I64("sid", sid), TM_F_I64("first", r->first), TM_F_I64("last", r->last));
}

/* Late frames have filled the hole: a second row under the same id says that nothing is missing. */
static void close_sequence_gap(struct tm_intake *in, struct tm_feed *feed, uint64_t number, struct tm_intake_time now)
{
    tm_intake_settle(in);
    for (size_t i = 0; i < TM_FEED_GAP_SLOTS; i++) {
        struct tm_gap_slot *slot = &feed->slots[i];
        if (slot->gap.open && slot->number == number) {
            slot->gap.open = false;
            if (write_gap(in, &slot->gap, now.wall_us, TM_GAP_LATE_FRAMES, now))
                tm_intake_start_discarding(in, now.wall_us);
            return;
        }
    }
}

/* ---- feeds ---- */

struct tm_feed *tm_feed_create(struct tm_intake *in, const char *name, struct tm_intake_time now)
{
    struct tm_feed *feed = calloc(1, sizeof *feed);
    TM_FATAL_UNLESS(feed);
    (void)snprintf(feed->name, sizeof feed->name, "%s", name);
    tm_sequence_init(&feed->sequence, in->sequence_start);
    feed->next = in->feeds;
    in->feeds = feed;
    feed->last_message_us = in->heard_us;
    tm_feed_interrupted(in, feed, in->heard_us ? TM_GAP_STOPPED : "start", NULL, now);
    feed->last_message_us = 0;
    return feed;
}

void tm_feed_destroy(struct tm_intake *in, struct tm_feed *feed)
{
    if (!feed)
        return;
    struct tm_feed **at = &in->feeds;
    while (*at != feed)
        at = &(*at)->next;
    *at = feed->next;
    tm_feed_reset(in, feed);
    free(feed);
}

void tm_feed_interrupted(struct tm_intake *in, struct tm_feed *feed, const char *reason, const char *detail,
                         struct tm_intake_time now)
{
    tm_intake_settle(in);
    if (feed->gap.open)
        return;
    tm_gap_open(&feed->gap, reason, feed->name, feed->last_message_us ? feed->last_message_us : now.wall_us);
    (void)snprintf(feed->gap.detail, sizeof feed->gap.detail, "%s", detail ? detail : "");
    count_gap(in, feed);
    if (write_gap(in, &feed->gap, 0, NULL, now))
        tm_intake_start_discarding(in, feed->gap.from_us);
}

void tm_feed_reset(struct tm_intake *in, struct tm_feed *feed)
{
    tm_intake_settle(in);
    tm_sequence_reset(&feed->sequence);
    for (size_t i = 0; i < TM_STREAMS_MAX; i++) {
        tm_counter_destroy(feed->counters[i]);
        feed->counters[i] = NULL;
    }
}

static void end_gap(struct tm_intake *in, struct tm_feed *feed, const char *closed_by, struct tm_intake_time now)
{
    tm_intake_settle(in);
    if (write_gap(in, &feed->gap, now.wall_us, closed_by, now) == TM_OK)
        feed->gap.open = false;
}

/*
 * From now on the feed brings all of a stream, or of one market of it. Not before its gap has ended: what interrupts a feed
 * whose gap is open says nothing. A row that is refused leaves the market unclaimed, which is never wrong.
 */
static void claim_whole(struct tm_intake *in, struct tm_feed *feed, const struct tm_gap_scope *scope,
                        const char *closed_by, const char *channel, struct tm_intake_time now)
{
    tm_intake_settle(in);
    struct tm_gap whole = feed->gap; /* under the id of the gap that it ends */
    if (feed->gap.open)
        end_gap(in, feed, closed_by, now);
    if (feed->gap.open)
        return;
    whole.reason = TM_GAP_WHOLE;
    whole.from_us = now.wall_us;
    whole.first = whole.last = 0;
    (void)snprintf(whole.detail, sizeof whole.detail, "%s", channel);
    if (write_scoped(in, &whole, scope, (struct tm_gap_end){now.wall_us, closed_by}, now))
        tm_intake_start_discarding(in, now.wall_us);
}

/* Kinds of data have the names of the channels that bring them; a channel that has another name claims nothing. */
static void claim_channel(struct tm_intake *in, struct tm_feed *feed, const struct tm_decoded *d,
                          struct tm_intake_time now)
{
    char channel[96];
    if (feed->listed || d->channel.len >= sizeof channel || !d->channel.len)
        return;
    (void)snprintf(channel, sizeof channel, "%.*s", (int)d->channel.len, d->channel.at);
    const struct tm_kind *kind = tm_plan_kind_by_tag(in->setup.plan, channel);
    if (!kind || !kind->stream || kind->stream->opened)
        return;
    struct tm_gap_scope scope = {.stream = kind->stream->name};
    claim_whole(in, feed, &scope, "subscribed", channel, now);
}

static void claim_markets(struct tm_intake *in, struct tm_feed *feed, const struct tm_decoded *d,
                          struct tm_intake_time now)
{
    struct tm_gap_scope scope = {.stream = d->kind->opens->name};
    for (size_t i = 0; i < d->row_count; i++) {
        scope.ticker = d->rows[i].ticker;
        scope.ticker_len = d->rows[i].ticker_len;
        if (scope.ticker)
            claim_whole(in, feed, &scope, d->kind->tag, "", now);
    }
}

/* A refusal is remembered as an open gap, which is said again when the journal has room. */
static void disclaim(struct tm_intake *in, struct tm_feed *feed, const struct tm_gap_scope *scope,
                     struct tm_intake_time now)
{
    tm_intake_settle(in);
    struct tm_gap gap;
    tm_gap_open(&gap, TM_GAP_UNSUBSCRIBED, feed->name, now.wall_us);
    if (write_scoped(in, &gap, scope, (struct tm_gap_end){0}, now) == TM_OK)
        return;
    if (!feed->gap.open)
        feed->gap = gap;
    tm_intake_start_discarding(in, now.wall_us);
}

void tm_feed_set_listed(struct tm_intake *in, struct tm_feed *feed, bool listed, struct tm_intake_time now)
{
    if (listed && !feed->listed && !feed->gap.open)
        disclaim(in, feed, NULL, now);
    feed->listed = listed;
}

void tm_feed_drop_market(struct tm_intake *in, struct tm_feed *feed, const char *ticker, size_t len,
                         struct tm_intake_time now)
{
    disclaim(in, feed, &(struct tm_gap_scope){.ticker = ticker, .ticker_len = len}, now);
}

/* ---- proofs of life ---- */

static int put_seqs(struct tm_intake *in, struct tm_buf *out)
{
    const char *comma = "";
    int rc = tm_buf_printf(out, "{");
    for (size_t i = 0; !rc && i < in->setup.lane_count; i++) {
        const char *name = in->setup.lanes[i].stream->name;
        bool counts = in->journal && strcmp(name, TM_STREAM_HEARTBEATS) != 0;
        int64_t seq = counts ? tm_journal_last_seq(in->journal, name) : 0;
        if (!seq)
            continue;
        rc = tm_buf_printf(out, "%s\"%s\":%" PRId64, comma, name, seq);
        comma = ",";
    }
    return rc ? rc : tm_buf_printf(out, "}");
}

/* A refusal is no harm: what is not said is not believed. */
static void write_heartbeat(struct tm_intake *in, int64_t heard_us, struct tm_intake_time now)
{
    struct tm_row_writer w;
    struct tm_row row;
    tm_buf_clear(&in->gap_buf);
    tm_buf_clear(&in->seqs);
    int rc = put_seqs(in, &in->seqs);
    rc = rc ? rc : tm_row_begin(&w, tm_plan_stream_by_name(in->setup.plan, TM_STREAM_HEARTBEATS), &in->gap_buf);
    rc = rc ? rc : tm_row_put_time(&w, heard_us);
    rc = rc ? rc : tm_row_put_text(&w, (const char *)in->seqs.data, in->seqs.len);
    rc = rc ? rc : tm_row_put_time(&w, now.wall_us);
    rc = rc ? rc : tm_row_end(&w, in->setup.plan, &row);
    rc = rc ? rc : append_own(in, &row);
    if (rc)
        TM_LOG_LIMITED(TM_LOG_DEBUG, "intake", "a heartbeat is left out", TM_F_STR("why", tm_code_name(rc)));
}

void tm_intake_heartbeat(struct tm_intake *in, struct tm_intake_time now)
{
    tm_intake_settle(in);
    if (in->discard_gap.open)
        tm_intake_stop_discarding(in, now);
    if (in->looked_us && !in->discard_gap.open)
        write_heartbeat(in, in->looked_us, now);
    in->looked_us = now.wall_us;
}

void tm_intake_resume(struct tm_intake *in, int64_t heard_us, struct tm_intake_time now)
{
    struct tm_gap away;
    in->heard_us = heard_us;
    tm_gap_open(&away, TM_GAP_STOPPED, NULL, heard_us);
    if (write_gap(in, &away, now.wall_us, "start", now) == TM_OK)
        write_heartbeat(in, heard_us, now);
}

uint64_t tm_feed_rows(const struct tm_feed *feed)
{
    return feed->rows;
}

uint64_t tm_feed_gaps(const struct tm_feed *feed)
{
    return feed->gaps;
}

/* ---- messages ---- */

static void count_bad_frame(struct tm_intake *in, const struct tm_feed *feed, const struct tm_decoded *d,
                            const char *bytes, size_t len)
{
    bool malformed = d->verdict == TM_VERDICT_MALFORMED;
    malformed ? in->stats.malformed++ : in->stats.unknown++;
    tm_metric_add(malformed ? in->malformed : in->unknown, 1);
    TM_LOG_LIMITED(TM_LOG_WARN, "intake", malformed ? "malformed frame" : "unknown frame",
                   TM_F_STR("connection", feed->name), TM_F_STR("reason", d->reason), TM_F_BYTES("frame", bytes, len));
}

static bool keep_malformed(struct tm_intake *in, struct tm_intake_time now)
{
    int64_t hour = now.mono_us / (3600 * TM_US_PER_S);
    if (hour != in->malformed_hour) {
        in->malformed_hour = hour;
        in->malformed_kept = 0;
    }
    return in->malformed_kept++ < MALFORMED_KEPT_PER_HOUR;
}

/* A counter that begins again: how much came between, and of which markets, nobody knows, so nothing is whole. */
static void note_back(struct tm_intake *in, struct tm_feed *feed, int64_t sid, const struct tm_sequence_result *r,
                      struct tm_intake_time now)
{
    char detail[120];
    (void)snprintf(detail, sizeof detail, "of sid %lld: expected %lld, got %lld", (long long)sid, (long long)r->first,
                   (long long)r->last);
    tm_feed_interrupted(in, feed, TM_GAP_WENT_BACK, detail, now);
    TM_LOG_LIMITED(TM_LOG_WARN, "intake", "sequence numbers went back", TM_F_STR("connection", feed->name),
                   TM_F_I64("sid", sid), TM_F_I64("expected", r->first), TM_F_I64("got", r->last));
}

/* False: the frame is a repeat and must not be looked at further. */
static bool check_sequence(struct tm_intake *in, struct tm_feed *feed, const struct tm_decoded *d, uint64_t digest,
                           struct tm_sequence_result *r, struct tm_intake_time now)
{
    int64_t sid = d->has_sid ? d->sid : 0;
    *r = tm_sequence_check(&feed->sequence, sid, d->sequence, digest);
    switch (r->verdict) {
    case TM_SEQUENCE_REPEATED:
        in->stats.repeated_frames++;
        tm_metric_add(in->repeated, 1);
        return false;
    case TM_SEQUENCE_GAP:
        open_sequence_gap(in, feed, sid, r, now);
        break;
    case TM_SEQUENCE_LATE:
        if (r->filled)
            close_sequence_gap(in, feed, r->gap, now);
        break;
    case TM_SEQUENCE_BACK:
        note_back(in, feed, sid, r, now);
        break;
    case TM_SEQUENCE_NEXT:
        break;
    }
    return true;
}

static void note_subscription(struct tm_intake *in, struct tm_feed *feed, const struct tm_decoded *d,
                              struct tm_intake_time now)
{
    if (d->kind->role == TM_ROLE_SUBSCRIBED)
        claim_channel(in, feed, d, now);
    if (d->kind->role != TM_ROLE_UNSUBSCRIBED)
        return;
    if (d->has_sid)
        tm_sequence_forget(&feed->sequence, d->sid);
    if (!feed->gap.open)
        disclaim(in, feed, NULL, now);
}

int tm_intake_message(struct tm_intake *in, struct tm_feed *feed, const char *bytes, size_t len,
                      struct tm_intake_time now, struct tm_intake_result *result)
{
    struct tm_decoded *d = &result->decoded;
    result->repeated = false;
    result->sequence = (struct tm_sequence_result){.verdict = TM_SEQUENCE_NEXT};
    in->stats.frames++;
    tm_metric_add(in->frames, 1);
    int rc = tm_decode_frame(in->setup.decoder, bytes, len, now.wall_us, d);
    if (rc)
        return rc;
    if (d->has_sequence && !check_sequence(in, feed, d, tm_hash64(bytes, len, 0), &result->sequence, now)) {
        result->repeated = true;
        return TM_OK;
    }
    if (d->verdict == TM_VERDICT_UNKNOWN || d->verdict == TM_VERDICT_MALFORMED)
        count_bad_frame(in, feed, d, bytes, len);
    else
        note_subscription(in, feed, d, now);
    if (feed->gap.open && d->verdict == TM_VERDICT_ROWS)
        end_gap(in, feed, "data", now);
    if (d->verdict == TM_VERDICT_MALFORMED && !keep_malformed(in, now))
        d->row_count = 0;
    for (size_t i = 0; !rc && i < d->row_count; i++)
        rc = tm_intake_put(in, &in->setup.lanes[d->rows[i].stream->index], feed, &d->rows[i], now);
    if (!rc && d->verdict == TM_VERDICT_ROWS && d->kind->opens)
        claim_markets(in, feed, d, now);
    feed->last_message_us = now.wall_us;
    return rc;
}

const struct tm_newest *tm_intake_newest(const struct tm_intake *in)
{
    return &in->newest;
}

struct tm_intake_stats tm_intake_stats(const struct tm_intake *in)
{
    return in->stats;
}

void tm_intake_publish(struct tm_intake *in)
{
    uint64_t keys = 0, bytes = 0;
    for (size_t i = 0; i < in->setup.lane_count; i++) {
        const struct tm_intake_lane *lane = &in->setup.lanes[i];
        if (in->journal)
            tm_metric_set(lane->journal_seq, (double)tm_journal_last_seq(in->journal, lane->stream->name));
        if (!in->setup.lanes[i].seen)
            continue;
        struct tm_seen_stats s = tm_seen_stats(in->setup.lanes[i].seen);
        keys += s.keys;
        bytes += s.memory_bytes;
    }
    tm_metric_set(in->seen_keys, (double)keys);
    tm_metric_set(in->seen_bytes, (double)bytes);
}
