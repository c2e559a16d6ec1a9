/*
 * Intake: what the io thread does with a message, without sockets or threads, so that tests and replays run
 * the same code.
 *
 *     bytes -> decode -> sequence check -> occurrence -> seen-set? -> journal append -> seen-set add
 *
 * An intake owns the decoder, the seen-set of each stream and the accounting; a *feed* is what it remembers
 * about one link: sequence counters, occurrence counters, the open gap. Records discarded because the journal
 * is full are counted and bracketed by a gap row, written as soon as the journal takes rows again.
 *
 * A reload swaps the plan between two messages. What that needs is made beforehand, on any thread, as a *change*: the
 * decoder, the new seen-sets. Applying it neither waits nor fails. Streams are matched by name; where a key means what
 * it meant (tm_stream_keeps_seen) the seen-set and the feeds' occurrence counters live on, with the new window and
 * memory bound; else both begin empty. What is not needed any more goes with the change, for the maker to destroy.
 * Changes are applied in the order in which they were made.
 *
 * Identity, per stream: received = journaled + duplicate + discarded (FAILURES I7). One thread; time is a
 * parameter: wall (Unix) for what is stored, mono for windows.
 */
#ifndef TM_ENGINE_INTAKE_H
#define TM_ENGINE_INTAKE_H

#include "engine/gap_log.h"
#include "engine/metrics.h"
#include "engine/newest.h"
#include "engine/sequence.h"
#include "engine/tap.h"
#include "journal/journal.h"
#include "record/decode.h"

struct tm_intake;
struct tm_seen;
struct tm_feed;

struct tm_intake_time {
    int64_t wall_us, mono_us;
};

#define TM_INTAKE_COUNTER_BYTES ((size_t)64 << 20) /* at most, of a feed and a counted stream */

/*
 * Where the rows go that are neither seen nor repeated. With a journal `take` is NULL. Without one (replay, check) each
 * row is shown to `take`, if there is one, and then forgotten; a negative answer is a row that is refused.
 */
struct tm_intake_options {
    const struct tm_plan *plan; /* held */
    struct tm_journal *journal; /* NULL: none */
    int (*take)(void *arg, const struct tm_row *row);
    void *take_arg;
    struct tm_metrics *metrics;
    int64_t sequence_start;     /* engine/sequence.h */
    struct tm_gap_log *gap_log; /* where gaps are noted for who looks; NULL: nowhere */
    struct tm_taps *taps;       /* that see what is journaled; NULL: none */
};

struct tm_intake_stats {
    uint64_t frames, repeated_frames, rows, duplicates, unknown, malformed, discarded, gaps;
    bool discarding; /* the journal is refusing rows now */
};

/* What the caller may want to act on; points into the decoder until the next message. */
struct tm_intake_result {
    struct tm_decoded decoded;
    struct tm_sequence_result sequence;
    bool repeated; /* dropped as a repeat; nothing else was done */
};

/* Whether a stream keeps a seen-set, its bounds, and that set; the error names the stream. */
bool tm_stream_has_seen(const struct tm_stream *stream);
struct tm_seen_options tm_stream_seen_options(const struct tm_stream *stream);
int tm_stream_seen_create(const struct tm_stream *stream, struct tm_seen **out, struct tm_error *err) TM_MUST_CHECK;

int tm_intake_create(const struct tm_intake_options *options, struct tm_intake **out,
                     struct tm_error *err) TM_MUST_CHECK;
void tm_intake_destroy(struct tm_intake *in); /* what is not settled is lost */

/* Its rows are journaled with the next tm_intake_settle. */
int tm_intake_message(struct tm_intake *in, struct tm_feed *feed, const char *bytes, size_t len,
                      struct tm_intake_time now, struct tm_intake_result *result) TM_MUST_CHECK;

/*
 * The rows of the messages so far are looked up and journaled. They wait for that, a few of them, so that
 * memory answers for many at a time (intake_rows.c). Whoever is done with a turn's messages settles; everything that the
 * intake writes of its own or that changes what a row means does so beforehand. In tm_intake_stats a row is from then on.
 */
void tm_intake_settle(struct tm_intake *in);

/* Rows that did not come by a feed (REST): whole tuples of one stream end to end. The stream may be of an earlier plan: its
 * rows are taken as that plan meant them. They are settled. */
int tm_intake_rows(struct tm_intake *in, const struct tm_stream *stream, const struct tm_buf *tuples,
                   struct tm_intake_time now) TM_MUST_CHECK;

/* ---- reload ---- */

struct tm_intake_change;

/* From one plan to another; `from` is that of the change before, or the intake's. Both are held. */
int tm_intake_change_create(const struct tm_plan *from, const struct tm_plan *to, struct tm_metrics *metrics,
                            struct tm_intake_change **out, struct tm_error *err) TM_MUST_CHECK;
/* Declare its streams in the journal; before it is applied. */
int tm_intake_change_declare(struct tm_intake_change *change, struct tm_journal *journal,
                             struct tm_error *err) TM_MUST_CHECK;
void tm_intake_change_destroy(struct tm_intake_change *change);

/* On the intake's thread. The change then holds what was replaced. */
void tm_intake_apply(struct tm_intake *in, struct tm_intake_change *change, struct tm_intake_time now);
void tm_intake_set_sequence_start(struct tm_intake *in, int64_t sequence_start);

struct tm_intake_stats tm_intake_stats(const struct tm_intake *in);

/* The newest exchange times taken, for the rule of record/keys.h. Times beyond TM_INTAKE_FUTURE_US from now are nobody's
 * future and count as unknown. Any thread. */
#define TM_INTAKE_FUTURE_US (7 * INT64_C(86400) * 1000000)
const struct tm_newest *tm_intake_newest(const struct tm_intake *in);

/* Publish gauges (seen-set sizes); counters are live. */
void tm_intake_publish(struct tm_intake *in);

/* ---- proofs of life ---- */

/*
 * Journal a heartbeat: all that was heard up to the call before this one is journaled, for since then every socket had its
 * turn. Five times a second; with a journal only.
 */
void tm_intake_heartbeat(struct tm_intake *in, struct tm_intake_time now);

/* Before the first feed: the process before this one heard all up to `heard_us` (Unix), by the journal. What was not heard
 * since is a gap called "stopped", of all feeds and of each one until it is whole again. */
void tm_intake_resume(struct tm_intake *in, int64_t heard_us, struct tm_intake_time now);

/* ---- feeds ---- */

/* A new feed is in a gap called "start", or "stopped" after tm_intake_resume, until its first data arrives or its
 * subscription is confirmed. `name` is copied. */
struct tm_feed *tm_feed_create(struct tm_intake *in, const char *name, struct tm_intake_time now);
void tm_feed_destroy(struct tm_intake *in, struct tm_feed *feed);

/* The connection is gone, or what it carries can no longer be trusted to be whole (`reason` static, `detail`
 * copied): opens a gap from the last message on, unless one is open already. Data closes it. */
void tm_feed_interrupted(struct tm_intake *in, struct tm_feed *feed, const char *reason, const char *detail,
                         struct tm_intake_time now);

/* Whether the feed's subscriptions are for chosen markets: then a confirmed one makes nothing whole, only the rows of kinds
 * that open a stream do. A new feed's are not. */
void tm_feed_set_listed(struct tm_intake *in, struct tm_feed *feed, bool listed, struct tm_intake_time now);
/* A market is about to be taken out of what the feed carries; before the other side is told. */
void tm_feed_drop_market(struct tm_intake *in, struct tm_feed *feed, const char *ticker, size_t len,
                         struct tm_intake_time now);

/* The connection begins anew: sequence and occurrence counts start over. */
void tm_feed_reset(struct tm_intake *in, struct tm_feed *feed);

uint64_t tm_feed_rows(const struct tm_feed *feed);
uint64_t tm_feed_gaps(const struct tm_feed *feed);

#endif
