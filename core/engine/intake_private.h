/*
 * Inside of the intake: what intake.c (messages, feeds, gaps), intake_rows.c (rows) and intake_change.c (plans) share. One
 * thread, but for a change that is not applied yet.
 */
#ifndef TM_ENGINE_INTAKE_PRIVATE_H
#define TM_ENGINE_INTAKE_PRIVATE_H

#include "dedup/counter.h"
#include "dedup/seen.h"
#include "engine/gap.h"
#include "engine/intake.h"
#include "engine/newest.h"

#define TM_FEED_GAP_SLOTS 16 /* sequence gaps of a feed that late frames may still close */

struct tm_intake_lane { /* per stream */
    const struct tm_stream *stream;
    int journal_id;
    struct tm_seen *seen;       /* NULL: observer and upsert streams, whose every row counts */
    _Atomic int64_t *newest_us; /* in the intake's `newest` */
    struct tm_metric *received, *journaled, *duplicate, *discarded, *journal_seq;
};

#define TM_INTAKE_WAITING_MAX 8

/* A row that was taken and is not settled. */
struct tm_waiting {
    struct tm_intake_lane *lane;
    struct tm_feed *feed; /* NULL: it came by none */
    struct tm_row row;
    size_t ticker_at;           /* in the tuple, if it has one */
    struct tm_fp fp;            /* of its key, where the lane has a seen-set */
    struct tm_counter *counter; /* the feed's; NULL: it is not counted */
    struct tm_intake_time now;  /* when it came */
};

/* All that follows from a plan. */
struct tm_intake_setup {
    const struct tm_plan *plan; /* held */
    struct tm_decoder *decoder;
    struct tm_intake_lane lanes[TM_STREAMS_MAX]; /* by index of the stream */
    size_t lane_count;
};

struct tm_intake_change {
    const struct tm_plan *from;   /* held */
    struct tm_intake_setup setup; /* the new one; once applied, the old one */
    int keeps_of[TM_STREAMS_MAX]; /* by index of a new stream: the old one whose memory it keeps, or -1 */
    struct tm_buf spent;          /* struct tm_counter *: of feeds */
};

struct tm_intake {
    struct tm_intake_setup setup;
    struct tm_journal *journal; /* NULL: rows go to `take` */
    int (*take)(void *arg, const struct tm_row *row);
    void *take_arg;
    struct tm_metrics *metrics;
    struct tm_taps *taps;
    struct tm_hash_key hash_key;
    struct tm_feed *feeds;
    int64_t sequence_start;
    struct tm_gap_log *gap_log;
    struct tm_newest newest;
    struct tm_intake_stats stats;
    int64_t malformed_hour;
    uint32_t malformed_kept;
    struct tm_gap discard_gap;
    struct tm_waiting waiting[TM_INTAKE_WAITING_MAX];
    size_t waiting_count;
    struct tm_buf waiting_bytes; /* their tuples, end to end */
    struct tm_buf gap_buf, seqs; /* rows of the ledger under way */
    int64_t heard_us;            /* up to when the process before this one heard all; Unix; 0: not known */
    int64_t looked_us;           /* the heartbeat before; Unix; 0: none yet */
    struct tm_metric *frames, *repeated, *unknown, *malformed, *gaps, *seen_keys, *seen_bytes;
};

struct tm_gap_slot {
    uint64_t number;
    struct tm_gap gap;
};

struct tm_feed {
    struct tm_feed *next;
    char name[96];
    struct tm_sequence sequence;
    struct tm_counter *counters[TM_STREAMS_MAX]; /* by index; made when a counted stream first comes by */
    struct tm_gap gap;                           /* open while the feed is not whole */
    struct tm_gap_slot slots[TM_FEED_GAP_SLOTS];
    size_t next_slot;
    int64_t last_message_us; /* Unix; 0: none yet */
    bool listed;             /* it carries chosen markets only: a confirmed subscription says nothing about a market */
    uint64_t rows, gaps;
};

/* intake_rows.c: take a row, which waits to be settled; its bytes are copied. TM_ECORRUPT, TM_ENOMEM: it is not taken. */
int tm_intake_put(struct tm_intake *in, struct tm_intake_lane *lane, struct tm_feed *feed, const struct tm_row *row,
                  struct tm_intake_time now) TM_MUST_CHECK;
/* The row's seq, or why it is refused; without a journal there is no seq to speak of. */
int64_t tm_intake_append(struct tm_intake *in, const struct tm_intake_lane *lane, const struct tm_row *row);

/* intake.c: the journal has refused a row: from `from_us` on, until it takes one, everything is missing. */
void tm_intake_start_discarding(struct tm_intake *in, int64_t from_us);
void tm_intake_stop_discarding(struct tm_intake *in, struct tm_intake_time now);

/* intake_change.c: a lane without a seen-set and a place in the journal, and its declaration there. */
void tm_intake_lane_init(struct tm_intake_lane *lane, const struct tm_stream *stream, struct tm_metrics *m);
int tm_intake_lane_declare(struct tm_intake_lane *lane, struct tm_journal *journal, struct tm_error *err) TM_MUST_CHECK;

/* Where the newest times of the lanes are noted: when the setup becomes the intake's. */
void tm_intake_bind_newest(struct tm_intake *in, struct tm_intake_setup *s);

void tm_intake_setup_fini(struct tm_intake_setup *s);

#endif
