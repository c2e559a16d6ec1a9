/*
 * The tape: the last trades, for GET /markets/trades and /historical/trades. Bounded; when it is full the oldest half
 * goes. Trades are in the order of their time. Loop's thread.
 */
#ifndef TM_EXCHANGE_TAPE_H
#define TM_EXCHANGE_TAPE_H

#include "exchange/event.h"

struct tm_trade {
    int64_t created_us;
    int64_t count;
    uint32_t market;
    uint32_t yes_price;
    uint8_t taker;
    uint8_t id[16];
};

struct tm_tape {
    struct tm_trade *trades;
    size_t count, capacity, limit;
};

void tm_tape_fini(struct tm_tape *tape);
void tm_tape_add(struct tm_tape *tape, const struct tm_event *event);

/* The index of the first trade that is not older than `us`; count if there is none. */
size_t tm_tape_lower(const struct tm_tape *tape, int64_t us);

#endif
