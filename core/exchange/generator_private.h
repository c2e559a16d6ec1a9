/* What generator.c (trading) and lifecycle.c share; nobody else includes this. */
#ifndef TM_EXCHANGE_GENERATOR_PRIVATE_H
#define TM_EXCHANGE_GENERATOR_PRIVATE_H

#include "exchange/agenda.h"
#include "exchange/generator.h"
#include "exchange/rng.h"

#define TM_GROUP_MAX 128 /* deltas in one step */

struct tm_group_delta {
    enum tm_side side;
    uint32_t price;
    int64_t amount;
};

struct tm_generator {
    struct tm_generator_setup set;
    struct tm_rng rng;
    struct tm_agenda agenda;
    struct tm_body body;
    uint64_t count, trades;
    uint32_t *active, active_count; /* market numbers, any order */
    uint32_t initial;               /* markets at the start: the generator keeps about so many active */
    uint32_t touched;               /* the market that traded last */
    uint32_t mix_total, mix_below[TM_MIX_COUNT];
    uint32_t burst_below;    /* of 2^32: the chance that a delta step is a burst */
    int64_t now_us, last_us; /* now: of this step */
    uint32_t market;         /* of this step */
    struct tm_group_delta group[TM_GROUP_MAX];
    uint32_t group_count;
};

/* Start a step of a market: fixes its time stamp. */
void tm_generator_begin(struct tm_generator *g, uint32_t market);

/* Fold a change into the step's market and emit it; changes that the book refuses are left out. */
bool tm_generator_delta(struct tm_generator *g, enum tm_side side, uint32_t price, int64_t amount);
void tm_generator_emit(struct tm_generator *g, struct tm_event *e);

/* Place or cancel one order in the step's market. */
void tm_generator_order(struct tm_generator *g);

void tm_generator_activate(struct tm_generator *g, uint32_t market);
void tm_generator_deactivate(struct tm_generator *g, uint32_t market);

void tm_lifecycle_step(struct tm_generator *g);
void tm_lifecycle_task(struct tm_generator *g, const struct tm_agenda_item *item);

#endif
