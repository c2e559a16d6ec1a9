/*
 * One market's order book: bids only, of the yes side and of the no side, each side ascending by price with the best
 * bid last. Prices are in 1e-6 dollars of the side's own leg, sizes in hundredths of a contract. A book never crosses
 * (best yes + best no < 1 dollar), a level is never zero or negative. Owned by its market, used by the loop's thread.
 */
#ifndef TM_EXCHANGE_BOOK_H
#define TM_EXCHANGE_BOOK_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum tm_side { TM_YES, TM_NO };

#define TM_LEVELS_MAX 1024 /* per side; replayed books are as deep as they were, generated ones stay below --depth */

struct tm_level {
    uint32_t price;
    int64_t size;
};

struct tm_book {
    struct tm_level *side[2];
    uint16_t levels[2], capacity[2];
};

void tm_book_clear(struct tm_book *b);
void tm_book_fini(struct tm_book *b);

/* The level at a price, NULL if none. */
struct tm_level *tm_book_at(struct tm_book *b, enum tm_side side, uint32_t price);

/* The best price of a side, 0 if it is empty. */
uint32_t tm_book_best(const struct tm_book *b, enum tm_side side);
int64_t tm_book_best_size(const struct tm_book *b, enum tm_side side);

/*
 * Add a signed change. A level that comes to zero goes away. TM_EINVAL (and no change) if it would become negative or
 * the change is zero, TM_EFULL if the side has TM_LEVELS_MAX levels.
 */
int tm_book_fold(struct tm_book *b, enum tm_side side, uint32_t price, int64_t change) TM_MUST_CHECK;

#endif
