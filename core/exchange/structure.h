/*
 * Price level structures: the bands of ticks in which a market's prices lie. Prices are integers in 1e-6 dollars,
 * as fine as the wire's type has them; the ticks themselves are no finer than TM_PRICE_MIN. Adjacent bands share end points and every whole cent is valid in each structure.
 */
#ifndef TM_EXCHANGE_STRUCTURE_H
#define TM_EXCHANGE_STRUCTURE_H

#include <stdint.h>

#define TM_PRICE_ONE 1000000 /* a dollar */
#define TM_PRICE_MIN 100     /* the finest tick, and the lowest price of an order */

struct tm_band {
    uint32_t start, end, step;
};

struct tm_structure {
    const char *name;
    uint8_t bands;
    struct tm_band band[3];
};

/* By number; the count is tm_structure_count. */
const struct tm_structure *tm_structure_get(uint8_t number);
extern const uint8_t tm_structure_count;

/* The number of a structure by name, or -1. */
int tm_structure_find(const char *name);

/* One in the proportions seen on the exchange, from 64 random bits. */
uint8_t tm_structure_draw(uint64_t bits);

/* The greatest valid price that is not above `price` (0 if there is none above zero). */
uint32_t tm_structure_align(const struct tm_structure *s, uint32_t price);

/* The tick at a price. */
uint32_t tm_structure_step(const struct tm_structure *s, uint32_t price);

#endif
