/* What replay.c (in which order, to whom) and replay_read.c (a line to an event) share; nobody else includes this. */
#ifndef TM_EXCHANGE_REPLAY_PRIVATE_H
#define TM_EXCHANGE_REPLAY_PRIVATE_H

#include "base/buf.h"
#include "exchange/recording.h"
#include "exchange/replay.h"

#define SIDS_MAX 4096 /* of the recorded connections; a connection counts them from 1 */
#define TYPE_MAX 64   /* of a frame of unknown type */

/* Why a line is not sent. The names are those of the fields in the line of the log that tells them all. */
enum reason {
    SENT,
    ACKNOWLEDGEMENT,
    NOT_JSON,
    NO_TYPE,
    NO_MSG,
    BAD_FIELD,
    BAD_PRICE,
    BAD_AMOUNT,
    BAD_SIDE,
    BAD_TRADE_ID,
    BAD_LEVELS,
    NO_MARKET,
    UNKNOWN_TYPE,
    TOO_LONG,
    REASONS,
};

/* How often each (ticker, ts, side, price, amount) has been seen: hash to count, grown by doubling. */
struct counts {
    struct {
        uint64_t hash;
        uint32_t count;
    } * slots;
    size_t used, capacity;
};

/* What the message says, as far as the ledger and the books need it. */
struct message {
    struct tm_slice ticker, price, amount, side, ts, trade_id, yes, no;
    int64_t ts_ms, ts_s;
};

struct tm_replay {
    struct tm_recording *file;
    struct tm_markets *markets;
    struct tm_sink sink;
    struct tm_buf body;
    struct tm_event next;
    char type[TYPE_MAX];    /* of `next`, where it is unknown */
    struct message message; /* of `next`; points into the line */
    int64_t next_us, last_us;
    bool learning, has_next, failed;
    uint64_t count, raw, skipped[REASONS];
    uint8_t channel_of_sid[SIDS_MAX]; /* plus one; 0: not seen yet */
    struct counts seen;
};

/* A line to r->next, r->message and r->next_us, or why it is none. */
enum reason tm_replay_read(struct tm_replay *r, const struct tm_line *line);

/* Put a side of a snapshot into a book (NULL: only look whether all of it would fit). */
bool tm_replay_read_levels(struct tm_slice levels, struct tm_book *book, enum tm_side side);

#endif
