/*
 * The bodies of messages: `"msg":{...}}\n`, written once per event and shared by all subscribers (snapshots are written
 * for each). A body belongs to whoever holds it and is overwritten by the next.
 */
#ifndef TM_EXCHANGE_BODY_H
#define TM_EXCHANGE_BODY_H

#include "exchange/event.h"
#include "exchange/market.h"

#define TM_BODY_MAX 2048
#define TM_SNAPSHOT_MAX (256 + 2 * TM_LEVELS_MAX * 48)

/* Which era of the wire format is spoken. All false and 4 decimals: today's. */
struct tm_style {
    uint32_t price_decimals; /* 3: "0.470" where the tick allows it */
    bool no_seq;             /* trades and lifecycle without seq, as before 2026 */
    bool no_block_trade;     /* trades without is_block_trade, as before 2026-08-13 */
    bool no_ts;              /* deltas without the deprecated RFC 3339 ts */
    bool no_ts_ms;           /* deltas without ts_ms */
    bool no_trade_ts_ms;     /* trades without ts_ms */
};

struct tm_body {
    const struct tm_style *style;
    const struct tm_markets *markets;
    size_t len;
    char text[TM_BODY_MAX];
};

/* Write the body of an event and point the event at it. */
void tm_body_delta(struct tm_body *b, struct tm_event *e, bool yes_leg);
void tm_body_trade(struct tm_body *b, struct tm_event *e);
void tm_body_ticker(struct tm_body *b, struct tm_event *e, const struct tm_live *live);

/* Free-form bodies (lifecycle): begin, write at the returned place, end with the place after the msg object. */
char *tm_body_begin(struct tm_body *b);
void tm_body_end(struct tm_body *b, struct tm_event *e, char *end);
char *tm_body_put_market(const struct tm_body *b, char *p, uint32_t market);   /* "market_ticker":"..." */
char *tm_body_put_structure(const struct tm_body *b, char *p, uint8_t number); /* name and price_ranges */

/* The msg object of a snapshot, at most TM_SNAPSHOT_MAX bytes; returns the place after it. */
char *tm_body_put_snapshot(const struct tm_body *b, char *p, uint32_t market, const struct tm_book *book, bool yes_leg);

/* Levels as [["0.4700","31.54"],...]; from the last `depth` ones (0: all). */
char *tm_body_put_levels(const struct tm_body *b, char *p, const struct tm_book *book, enum tm_side side,
                         uint32_t depth, bool mirror);

#endif
