/*
 * Stream plans: what a script declares about an exchange's frames, compiled for the hot path.
 *
 * A *stream* is a table: columns, key, how it is stored. A *kind* is a form of frame or REST object, told by its tag
 * (the text at the protocol's discriminator path, e.g. "orderbook_delta"), and says from where in the JSON each column
 * of its stream comes. Several kinds may feed one stream. A *plan* is all streams and kinds of a process.
 *
 * The definitions (struct tm_*_def) are plain data, filled by the script room or by a test; tm_plan_compile checks them
 * whole, reports the first fault with its place, and copies what it needs. A compiled plan is immutable and may be
 * used by any number of threads; each thread that decodes has its own tm_decoder (record/decode.h).
 *
 * A plan is counted: whoever keeps it, or a stream or kind of it, beyond the call that gave it to him takes a reference
 * (a stream leads to its plan) and puts it back, on any thread. So a reload can bring a new plan while rows of the old
 * one are still under way: the old one goes with its last holder.
 *
 * The tuple. A record is written once, as a PostgreSQL binary COPY tuple:
 *
 *     int16 fields | int32 len, bytes | int32 len, bytes | ...            (len -1: NULL; all big-endian)
 *
 *     columns, in the order declared, then what the compiler adds:
 *       stream.observer: gatherer text, epoch uuid                         (so that each gatherer's row is its own)
 *       always:          sid int8, exchange_seq int8, seq int8             (the gatherer's store only; seq is ours)
 *
 * Columns of a stream that a kind names no source for are NULL. The production store has the columns without sid,
 * exchange_seq and seq, except that observer streams keep seq, which with gatherer and epoch is their key. seq is the
 * last field, so its 8 bytes end the tuple: the journal patches them.
 *
 * Every plan has three streams that no script declares: unknown_frames, gaps and heartbeats (record/builtin.h).
 */
#ifndef TM_RECORD_PLAN_H
#define TM_RECORD_PLAN_H

#include "base/error.h"
#include "base/hash.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TM_COLUMNS_MAX 64            /* per stream, with the added ones */
#define TM_STREAMS_MAX 64            /* per plan */
#define TM_KINDS_MAX 256             /* per plan */
#define TM_PATHS_MAX 4               /* alternatives per source */
#define TM_FIELD_BYTES_MAX (4 << 20) /* of a value, and of a frame */

/* A row of a btree index holds 2704 bytes: so much text may a unique key have, in so many columns. */
#define TM_KEY_TEXT_BYTES_MAX 512
#define TM_KEY_TEXTS_MAX 4
#define TM_KEYS_MAX 4 /* of a stream, one after the other in exchange time */

enum tm_type {
    TM_TYPE_BOOL,
    TM_TYPE_INT2,
    TM_TYPE_INT4,
    TM_TYPE_INT8,
    TM_TYPE_FLOAT8,
    TM_TYPE_TEXT, /* COLLATE "C" */
    TM_TYPE_UUID, /* 8-4-4-4-12 hex digits, version and variant not checked (kalshi.md 6) */
    TM_TYPE_TIMESTAMPTZ,
    TM_TYPE_JSONB,
    TM_TYPE_BYTEA,
};

/* How the text of a value becomes the column's number. */
enum tm_unit {
    TM_UNIT_PLAIN,   /* an integer, boolean, string, uuid or raw JSON, as the column's type says */
    TM_UNIT_DECIMAL, /* "0.4700" or 0.47, exact, times 10^scale; more digits than scale is a fault unless they are 0 */
    TM_UNIT_RFC3339, /* 0 to 9 fraction digits; beyond microseconds only zeros; any offset; years 1 to 9999 */
    TM_UNIT_SECONDS, /* since 1970, for timestamptz; a fraction is taken to the microsecond */
    TM_UNIT_MILLIS,
    TM_UNIT_MICROS,
};

enum tm_from {
    TM_FROM_PATHS,       /* the first of the paths that is present, not null and not "" (unless text) */
    TM_FROM_TAG,         /* the kind's tag, text */
    TM_FROM_CONST,       /* the same text in every row, e.g. 'rest' */
    TM_FROM_RAW,         /* the whole frame or element as sent: jsonb, text or bytea */
    TM_FROM_RECEIVED_AT, /* wall time at arrival, timestamptz */
    TM_FROM_OCCURRENCE,  /* int2, written as 0 and patched after counting (DESIGN 4) */
    TM_FROM_NULL,
};

/*
 * A path: names joined by dots, then indexes in brackets: "msg.ts", "msg.yes_dollars_fp[-1][0]" (-1 is the
 * last), or indexes alone where the frame or element is an array: "[0]". At most 16 names of 127 bytes and 4
 * indexes. In a kind with `each`, paths are relative to the element; a leading "$." means the whole frame (in
 * a kind of documents: the object).
 */
struct tm_path_def {
    const char *path;
    enum tm_unit unit;
    int scale;      /* for TM_UNIT_DECIMAL: 0..9 */
    bool one_minus; /* 10^scale - value: a no-bid of 0.49 is a yes-ask of 0.51 */
};

/* Of the stored integers, both ends allowed. */
struct tm_range {
    int64_t min, max;
};

struct tm_column_def {
    const char *name; /* [a-z_][a-z0-9_]{0,62}, not reserved by SQL, not one that the compiler adds */
    enum tm_type type;
    bool not_null;
    int scale;                    /* of the stored integer, for the readable views; 0: none */
    const char *const *one_of;    /* NULL-terminated list of the texts allowed; NULL: any */
    const struct tm_range *range; /* of an integer; another value is as wrong as one of another form; NULL: any */
};

enum tm_stream_mode {
    TM_STREAM_APPEND, /* a record is a fact; stored once */
    TM_STREAM_UPSERT, /* a record replaces the row with its key (markets, events, series) */
};

enum tm_partition {
    TM_PARTITION_NONE, /* one table */
    TM_PARTITION_DAY,  /* production: range by partition_column, which must be in the key */
    TM_PARTITION_HASH, /* production: by hash of the first key column, where the key has no time (trades) */
};

/*
 * A key belongs to a span of exchange time. Equal records have equal times on all gatherers, so a key that changes at a
 * moment of exchange time changes for all copies of a record alike, whenever each process learns of it, as long as that
 * is before it meets records from that moment on (record/keys.h says when it may). The moment is a whole second, so that
 * the millisecond and microsecond forms of a time, cut and not rounded, stand on the same side of it.
 */
struct tm_key_def {
    int64_t from_us;        /* Unix; the first exchange time it holds for; a whole second, rising */
    const char *const *key; /* NULL-terminated column names */
    bool occurrence;
};

struct tm_stream_def {
    const char *name; /* of the stream and its table; like a column's, at most 36 bytes */
    enum tm_stream_mode mode;
    const struct tm_column_def *columns;
    size_t column_count;
    const char *const *key; /* NULL-terminated column names; NULL for an observer stream */
    bool occurrence;        /* counted key: one int2 column must be fed by TM_FROM_OCCURRENCE in every kind (in a
                          plan   without kinds of the stream: the column "occurrence"); it joins the key */
    const struct tm_key_def *later_keys; /* `key` and `occurrence` hold until the first of these begins; only for append
                                            streams that are partitioned by the day of their time_column */
    size_t later_key_count;
    bool observer;     /* each gatherer's observation is a record of its own */
    int64_t within_us; /* > 0: equal keys received within this time of each other are one record (for frames to
                               which the exchange gives no time); needs a received_at column */
    enum tm_partition partition;
    const char *partition_column; /* timestamptz */
    const char *ticker_column;    /* NULL, or the text column that names the market: shards, gaps, samples */
    const char *time_column;      /* NULL, or the exchange's own time: lag, absurd-time check */
    int64_t window_us;            /* seen-set */
    size_t memory_bytes_max;      /* seen-set; 0: default */
};

struct tm_source_def {
    const char *column;
    enum tm_from from;
    struct tm_path_def paths[TM_PATHS_MAX];
    size_t path_count;
    const char *text; /* TM_FROM_CONST */
};

enum tm_role {
    TM_ROLE_DATA,         /* rows of a stream */
    TM_ROLE_ACK,          /* consumes a sequence number, nothing more */
    TM_ROLE_SUBSCRIBED,   /* names the subscription id of a channel */
    TM_ROLE_UNSUBSCRIBED, /* ends a subscription id */
    TM_ROLE_ERROR,        /* carries a code */
};

struct tm_kind_def {
    const char *tag; /* unique among frames and documents */
    enum tm_role role;
    bool document;      /* a REST object, decoded by tag on request; never matched in frames */
    const char *stream; /* TM_ROLE_DATA */
    const char *each;   /* path of an array whose elements are the records; NULL: the frame is the record */
    const struct tm_source_def *sources;
    size_t source_count;
    const char *opens;             /* NULL, or a stream: from a row of this kind on, its connection brings all of that
                                      stream's records of the row's market (engine/gap.h) */
    bool forward;                  /* hand a copy of the frame to the policy thread as an event */
    const char *channel_path;      /* SUBSCRIBED */
    const char *subscription_path; /* overrides the protocol's: SUBSCRIBED frames carry it elsewhere */
    const char *code_path;         /* ERROR, an integer */
    const char *text_path;         /* ERROR, for people */
};

struct tm_protocol_def {
    const char *tag_path;          /* "type" */
    const char *subscription_path; /* "sid", integer; NULL: none, the sequence is the connection's */
    const char *sequence_path;     /* "seq", integer; NULL: none */
};

struct tm_plan_def {
    const char *gatherer; /* the id, for observer streams; "" in a deduplicator */
    uint8_t epoch[16];    /* the journal's; zero in a deduplicator */
    struct tm_protocol_def protocol;
    const struct tm_stream_def *streams;
    size_t stream_count;
    const struct tm_kind_def *kinds;
    size_t kind_count;
};

/* ---- compiled ---- */

struct tm_plan;

struct tm_column {
    const char *name;
    enum tm_type type;
    bool not_null, in_key, local_only; /* in_key: of any of the stream's keys */
    int scale;
    const char *const *one_of;
    const struct tm_range *range;
};

/* What makes two records the same, over a span of exchange time. */
struct tm_key {
    int64_t from_us;                  /* Unix, inclusive; it ends where the next one begins; INT64_MIN: the first one */
    uint16_t columns[TM_COLUMNS_MAX]; /* in the order of the unique key: time first, the occurrence last */
    uint16_t column_count;
    bool counted;       /* the occurrence is part of it */
    struct tm_key_run { /* the key without its occurrence as runs of neighbouring columns: what is hashed */
        uint16_t first, last;
    } runs[TM_COLUMNS_MAX];
    uint16_t run_count;
    uint64_t version; /* hash of the key's recipe; part of every fingerprint (FAILURES T32) */
};

struct tm_stream {
    const struct tm_plan *plan; /* that it is part of: who keeps the stream takes it */
    const char *name;
    uint16_t index; /* in plan->streams */
    enum tm_stream_mode mode;
    struct tm_column columns[TM_COLUMNS_MAX];
    uint16_t column_count;     /* all, as in the gatherer's store */
    uint16_t production_count; /* how many of them, from the first, production keeps; observer streams: and seq */
    struct tm_key *keys;       /* rising in from_us; most streams have one, for ever */
    uint16_t keys_count;
    const uint16_t *key; /* columns of the first of `keys`: time first (MEASURED.md) */
    uint16_t key_count;
    int occurrence_column, ticker_column, time_column, partition_column, received_column; /* -1: none */
    bool observer;
    bool opened; /* a kind opens it market by market; else it begins whole with its channel's subscription */
    enum tm_partition partition;
    int64_t within_us, window_us;
    size_t memory_bytes_max;
    const char *copy_columns; /* "a,b,c": the column list of COPY into the gatherer's store */
};

struct tm_kind {
    const char *tag;
    uint16_t index;
    enum tm_role role;
    const struct tm_stream *stream; /* NULL unless TM_ROLE_DATA */
    const struct tm_stream *opens;  /* NULL: none */
    bool forward, document;
};

/* The caller's is the first reference. */
int tm_plan_compile(const struct tm_plan_def *def, struct tm_plan **out, struct tm_error *err) TM_MUST_CHECK;
struct tm_plan *tm_plan_take(const struct tm_plan *plan); /* another reference; NULL gives NULL */
void tm_plan_put(const struct tm_plan *plan);             /* give one back; NULL is fine */

size_t tm_plan_stream_count(const struct tm_plan *plan);
const struct tm_stream *tm_plan_stream(const struct tm_plan *plan, size_t index);
const struct tm_stream *tm_plan_stream_by_name(const struct tm_plan *plan, const char *name); /* NULL: none */
const struct tm_kind *tm_plan_kind_by_tag(const struct tm_plan *plan, const char *tag);       /* NULL: none */

/* Why the stream's key cannot change at a moment of exchange time; NULL: it can. */
const char *tm_stream_fixed_key(const struct tm_stream *stream);

/* ---- comparing, at a reload (plan_compare.c) ---- */

/* Compiled from definitions that say the same, in the same order. */
bool tm_plan_equal(const struct tm_plan *a, const struct tm_plan *b);

/* A row of one is a row of the other: same name, same columns in the same order, the added ones too. */
bool tm_stream_same_rows(const struct tm_stream *a, const struct tm_stream *b);

/* A fingerprint made under one tells something under the other: what was seen of `from` is seen of `to`, so a seen-set
 * and occurrence counters may live on. Nothing else decides that. */
bool tm_stream_keeps_seen(const struct tm_stream *from, const struct tm_stream *to);

/* Whether tables made for `from` can be migrated to `to` while rows flow: columns may come and go, but what stays keeps
 * its type, and a stream its mode. TM_EINVAL says which does not. */
int tm_plan_check_reload(const struct tm_plan *from, const struct tm_plan *to, struct tm_error *err) TM_MUST_CHECK;

/* Whether records of one key may differ between gatherers in this column: it is not of the key, no time, and no gatherer's
 * own. And whether the stream has such a column, and one key for all times. */
bool tm_column_may_disagree(const struct tm_stream *s, uint16_t column);
bool tm_stream_may_disagree(const struct tm_stream *s);

#endif
