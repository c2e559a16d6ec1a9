/*
 * An event: what the exchange has to say to everybody, before each client's sid and seq are put in front of it. Made by
 * the generator or read from a recording, written to the ledger, sent to the subscribers, and then forgotten.
 */
#ifndef TM_EXCHANGE_EVENT_H
#define TM_EXCHANGE_EVENT_H

#include "exchange/book.h"
#include "exchange/json.h"

/* The first five carry data; the others are accepted, and nothing ever happens on them. */
enum tm_channel {
    TM_CHANNEL_DEPTH,
    TM_CHANNEL_TRADE,
    TM_CHANNEL_TICKER,
    TM_CHANNEL_LIFECYCLE,
    TM_CHANNEL_COMBO_LIFECYCLE,
    TM_CHANNEL_FILL,
    TM_CHANNEL_POSITIONS,
    TM_CHANNEL_COMMUNICATIONS,
    TM_CHANNEL_ORDER_GROUPS,
    TM_CHANNEL_ORDERS,
    TM_CHANNEL_INDEX, /* from here on: chosen by names that are no markets */
    TM_CHANNEL_INDEX_5HZ,
    TM_CHANNEL_UNDERLYING,
    TM_CHANNELS_MAX,
};

enum tm_stream {
    TM_STREAM_DELTA,
    TM_STREAM_TRADE,
    TM_STREAM_TICKER,
    TM_STREAM_LIFECYCLE, /* of a market, and the two of events */
    TM_STREAM_SNAPSHOT,  /* in recordings only: a snapshot that every subscriber of the market gets */
    TM_STREAM_RAW,       /* in recordings only: of an unknown type. No event: it has no number */
    TM_STREAM_COUNT,
};

struct tm_event {
    enum tm_stream stream;
    enum tm_channel channel;
    const char *type;    /* the frame's type */
    uint64_t number;     /* from 1, over all streams */
    int64_t ts_us;       /* of the matching engine; 0: the message has no time */
    uint32_t market;     /* TM_MARKET_NONE: about an event or a series */
    enum tm_side side;   /* delta: of the book; trade: the taker's */
    uint32_t price;      /* 1e-6 dollars; delta: of the side's own leg; trade: yes leg */
    int64_t amount;      /* hundredths */
    uint32_t occurrence; /* deltas: equal (ticker, ts, side, price, amount) so far */
    uint8_t trade_id[16];
    struct tm_slice msg;    /* the msg object */
    struct tm_slice suffix; /* the rest of the frame from "msg" on: `"msg":{...}}` and the newline */
};

/*
 * Where events go. `cleared`: the market closed, its levels are gone without deltas; the book is empty already. `raw`: a
 * recorded frame of an unknown type, for its channel and, if it names one, its market; only replays have it.
 */
struct tm_sink {
    void (*event)(void *arg, const struct tm_event *event);
    void (*cleared)(void *arg, uint32_t market);
    void (*raw)(void *arg, const struct tm_event *event);
    void *arg;
};

#endif
