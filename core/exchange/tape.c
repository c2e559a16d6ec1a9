#include "exchange/tape.h"

#include <stdlib.h>
#include <string.h>

void tm_tape_fini(struct tm_tape *tape)
{
    free(tape->trades);
    *tape = (struct tm_tape){0};
}

static void make_room(struct tm_tape *tape)
{
    if (tape->count == tape->limit) {
        size_t gone = tape->limit / 2;
        tape->count -= gone;
        memmove(tape->trades, tape->trades + gone, tape->count * sizeof *tape->trades);
    }
    if (tape->count < tape->capacity)
        return;
    tape->capacity = tape->capacity ? 2 * tape->capacity : 1024;
    tape->trades = realloc(tape->trades, tape->capacity * sizeof *tape->trades);
    TM_FATAL_UNLESS(tape->trades);
}

void tm_tape_add(struct tm_tape *tape, const struct tm_event *event)
{
    if (tape->limit < 2)
        return;
    make_room(tape);
    struct tm_trade *t = &tape->trades[tape->count++];
    *t = (struct tm_trade){.created_us = event->ts_us,
                           .count = event->amount,
                           .market = event->market,
                           .yes_price = event->price,
                           .taker = (uint8_t)event->side};
    memcpy(t->id, event->trade_id, sizeof t->id);
}

size_t tm_tape_lower(const struct tm_tape *tape, int64_t us)
{
    size_t low = 0, high = tape->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tape->trades[middle].created_us < us)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}
