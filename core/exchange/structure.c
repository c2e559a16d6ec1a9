#include "exchange/structure.h"

#include <string.h>

static const struct tm_structure structures[] = {
    {"linear_cent", 1, {{0, 1000000, 10000}}},
    {"tapered_deci_cent", 3, {{0, 100000, 1000}, {100000, 900000, 10000}, {900000, 1000000, 1000}}},
    {"deci_cent", 1, {{0, 1000000, 1000}}},
    {"center_whole_edge_half_cent", 3, {{0, 100000, 5000}, {100000, 900000, 10000}, {900000, 1000000, 5000}}},
    {"center_half_edge_quint_cent", 3, {{0, 100000, 2000}, {100000, 900000, 5000}, {900000, 1000000, 2000}}},
    {"center_quint_edge_deci_cent", 3, {{0, 100000, 1000}, {100000, 900000, 2000}, {900000, 1000000, 1000}}},
    {"center_centi_edge_centi_cent", 1, {{0, 1000000, 100}}},
    {"center_deci_edge_centi_cent", 3, {{0, 10000, 100}, {10000, 990000, 1000}, {990000, 1000000, 100}}},
};

const uint8_t tm_structure_count = sizeof structures / sizeof structures[0];

const struct tm_structure *tm_structure_get(uint8_t number)
{
    return &structures[number];
}

int tm_structure_find(const char *name)
{
    for (uint8_t i = 0; i < tm_structure_count; i++)
        if (strcmp(structures[i].name, name) == 0)
            return i;
    return -1;
}

uint8_t tm_structure_draw(uint64_t bits)
{
    uint32_t percent = (uint32_t)((bits >> 32) * 100 >> 32);
    return (uint8_t)(percent < 90 ? 0 : 1 + (uint32_t)bits % (tm_structure_count - 1u));
}

/* The band whose ticks lie below `price`. */
static const struct tm_band *band_at(const struct tm_structure *s, uint32_t price)
{
    const struct tm_band *band = &s->band[0];
    for (uint8_t i = 1; i < s->bands; i++)
        if (price > s->band[i].start)
            band = &s->band[i];
    return band;
}

uint32_t tm_structure_align(const struct tm_structure *s, uint32_t price)
{
    const struct tm_band *band = band_at(s, price);
    return price - (price - band->start) % band->step;
}

uint32_t tm_structure_step(const struct tm_structure *s, uint32_t price)
{
    return band_at(s, price)->step;
}
