/*
 * The ledger: what the exchange emitted, and what it delivered to whom. A text file for PostgreSQL's
 * `COPY ledger FROM ... (FORMAT text)`: one fact a line, 16 columns separated by tabs, \N for NULL.
 *
 *      column      type         meaning
 *   1  what        text         see below
 *   2  number      int8         of the event, from 1 over all streams; on other lines: the last event emitted before
 *   3  wall_us     int8         Unix microseconds: when the batch with the event's bytes was handed to the sockets; with
 *                               --start-time reckoned like the stamps, so that equal runs make equal ledgers
 *   4  stream      text         trades, orderbook_deltas, tickers, lifecycle, orderbook_snapshots; or the channel's name
 *   5  ticker      text
 *   6  ts_us       int8         exchange time as exactly as a receiver can know it: trades are cut to milliseconds; NULL
 *                               for lifecycle, which has none
 *   7  side        text         yes or no; a trade's is the taker's
 *   8  price       int4         micro-dollars; a trade's is the yes price, a delta's that of its own side's leg
 *   9  amount      int8         hundredths of a contract: a trade's count, a delta's signed change
 *  10  occurrence  int4         of a delta: how many with equal (ticker, ts_us, side, price, amount) came before it
 *  11  trade_id    uuid
 *  12  client      int4         number of the connection, from 1 in the order of upgrades
 *  13  label       text         its ?label=, else its access key, else its User-Agent
 *  14  sid         int4
 *  15  seq         int8
 *  16  detail      text         JSON, or \x and hex digits for the bytes of an injected frame
 *
 *  what        columns           a line for
 *  emit        1-11, 16          each event, whether anybody listened or not; 16: the msg object, except for deltas
 *  snapshot    1-5, 12, 14-16    the first snapshot of a market put into a client's stream; 16: its msg object
 *  resnapshot  1-5, 12, 14-16    each one that get_snapshot asked for, which changes no subscription
 *  connect     1-3, 12, 13, 16   each WebSocket connection; 16: {"agent":..,"key":..}
 *  disconnect  1-3, 12, 13, 16   its end; 16: {"reason":..,"unsent":bytes that never left}
 *  open        1-4, 12, 14, 16   each subscription; 16: {"all":bool}, true if it is not limited to listed markets
 *  listen      1-5, 12, 14       each market that a ticker or trade subscription lists (with depth: see snapshot)
 *  unlisten    1-5, 12, 14       each market removed from a subscription
 *  close       1-4, 12, 14-16    its end; 15: the last seq used; 16: {"reason":..}
 *  withheld    2-5, 12, 14-16    each event that a fault kept from a subscription; 15: the seq it consumed; 16:
 *                                {"fault":..}. An event sent late has such a line only if it never left.
 *  late        2-5, 12, 14-16    each event that a fault kept back, as it leaves behind those that followed it
 *  lost        2-5, 12, 14-16    likewise, of a snapshot or a first ticker, which are no events
 *  injected    1-5, 12, 14-16    each frame that no event stands behind, and each one sent twice; 4: the fault, or
 *                                initial_ticker (16: its msg) where a subscriber asked for that, or unknown for a
 *                                recorded frame of an unknown type
 *  fault       1-3, 4, 16        each fault as it begins; 4: its kind; 16: {"text":.., "clients":n}
 *  start, stop 1-3               generation
 *
 * A subscription's stream is: all events of its channel (of its listed markets, from its listen or snapshot
 * line on) between open and close, in the order of their numbers, except those withheld. What was still
 * unsent or on the wire when a connection ended may not have arrived.
 *
 * Lines are buffered and written when a megabyte has gathered, every second, on request and at exit. A disk
 * that fails ends the program: a ledger with holes would prove nothing. Loop's thread.
 */
#ifndef TM_EXCHANGE_LEDGER_H
#define TM_EXCHANGE_LEDGER_H

#include "exchange/event.h"
#include "exchange/market.h"

struct tm_ledger;

/* `path` NULL: a ledger that keeps nothing. */
int tm_ledger_open(const char *path, const struct tm_markets *markets, struct tm_ledger **out,
                   struct tm_error *err) TM_MUST_CHECK;
void tm_ledger_close(struct tm_ledger *l);

/* Write what is buffered; `durable`: and wait until it is on disk. */
void tm_ledger_flush(struct tm_ledger *l, bool durable);

/* The wall time that the next lines carry. */
void tm_ledger_set_time(struct tm_ledger *l, int64_t wall_us);

void tm_ledger_event(struct tm_ledger *l, const struct tm_event *e);

/* All other lines. Zero, NULL and TM_MARKET_NONE mean that the column is NULL. */
struct tm_fact {
    const char *what, *stream;
    uint64_t number; /* 0: the last event's */
    uint32_t market, client, sid;
    const char *label;
    uint64_t seq;
    struct tm_slice detail;
    bool hex; /* detail is bytes */
};
void tm_ledger_fact(struct tm_ledger *l, const struct tm_fact *fact);

#endif
