/*
 * The event generator: a synthetic market, driven by the seed and by nothing else. The order and content of its events
 * are a pure function of the set-up; only the time stamps come from outside, as the caller's `now`.
 *
 * A step is one thing that happens at the matching engine: an order placed or cancelled, a trade with the maker's
 * matching delta, a burst of orders at one price, a ticker, a lifecycle change. Its events share one time stamp, no two
 * steps of one market share one, and time never runs backwards. So equal (ticker, ts, side, price, amount) only ever
 * occur inside a step, which is where they are counted (event.occurrence).
 *
 * Events go to the sink one by one; the book already includes the delta when the sink is called. What is due later
 * (a closed market's last snapshot, its determination, its settlement, the end of a pause) waits in an agenda that is
 * keyed by event number, so that it too depends on the seed alone.
 */
#ifndef TM_EXCHANGE_GENERATOR_H
#define TM_EXCHANGE_GENERATOR_H

#include "exchange/body.h"

enum tm_mix { TM_MIX_DELTAS, TM_MIX_TICKERS, TM_MIX_TRADES, TM_MIX_LIFECYCLE, TM_MIX_COUNT };

struct tm_generator_setup {
    uint64_t seed;
    struct tm_markets *markets;
    const struct tm_style *style;
    struct tm_sink sink;
    double mix[TM_MIX_COUNT]; /* relative weights of the events */
    double repeat;            /* share of deltas that repeat another's (ticker, ts, side, price) */
    double events_per_s;      /* how many events stand for a second in the agenda */
    uint32_t depth;           /* levels per side that the generator makes at most */
};

struct tm_generator;

struct tm_generator *tm_generator_create(const struct tm_generator_setup *setup);
void tm_generator_destroy(struct tm_generator *g);

/* One step. `now_us` is the exchange's time, Unix microseconds. */
void tm_generator_step(struct tm_generator *g, int64_t now_us);

/* Events so far. */
uint64_t tm_generator_count(const struct tm_generator *g);

#endif
