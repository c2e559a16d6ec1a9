#include "exchange/generator_private.h"
#include "exchange/text.h"

#include <math.h>
#include <stdlib.h>

#define BURST_MIN 2u
#define BURST_MAX 31u
#define BURST_MEAN 4.0
#define SIZE_MAX_HUNDREDTHS INT64_C(100000000)
#define MIDDLE_LOW 20000 /* 2 cents */
#define MIDDLE_HIGH 980000

void tm_generator_activate(struct tm_generator *g, uint32_t market)
{
    tm_market_get(g->set.markets, market)->place = g->active_count;
    g->active[g->active_count++] = market;
}

void tm_generator_deactivate(struct tm_generator *g, uint32_t market)
{
    uint32_t place = tm_market_get(g->set.markets, market)->place;
    g->active[place] = g->active[--g->active_count];
    tm_market_get(g->set.markets, g->active[place])->place = place;
}

/* A trade step brings its own delta, so steps that are deltas alone make up the rest of their share. */
static void set_mix(struct tm_generator *g)
{
    double weight[TM_MIX_COUNT], total = 0;
    for (int i = 0; i < TM_MIX_COUNT; i++)
        weight[i] = g->set.mix[i];
    weight[TM_MIX_DELTAS] = fmax(0, weight[TM_MIX_DELTAS] - weight[TM_MIX_TRADES]);
    for (int i = 0; i < TM_MIX_COUNT; i++) {
        total += weight[i];
        g->mix_below[i] = (uint32_t)(total * 1e6);
    }
    g->mix_total = g->mix_below[TM_MIX_COUNT - 1];
    /* With chance p a step is a burst of mean m instead of one delta: repeats are p(m-1) of 1+p(m-1) deltas. */
    double p = g->set.repeat / ((BURST_MEAN - 1) * (1 - fmin(g->set.repeat, 0.9)));
    g->burst_below = (uint32_t)(fmin(p, 1) * 4294967295.0);
}

struct tm_generator *tm_generator_create(const struct tm_generator_setup *setup)
{
    struct tm_generator *g = calloc(1, sizeof *g);
    TM_FATAL_UNLESS(g);
    g->set = *setup;
    g->body.style = setup->style;
    g->body.markets = setup->markets;
    tm_rng_init(&g->rng, setup->seed);
    set_mix(g);
    g->initial = tm_markets_count(setup->markets);
    g->active = calloc((size_t)2 * g->initial + 65536, sizeof *g->active);
    TM_FATAL_UNLESS(g->active);
    for (uint32_t i = 0; i < g->initial; i++)
        tm_generator_activate(g, i);
    return g;
}

void tm_generator_destroy(struct tm_generator *g)
{
    tm_agenda_fini(&g->agenda);
    free(g->active);
    free(g);
}

uint64_t tm_generator_count(const struct tm_generator *g)
{
    return g->count;
}

void tm_generator_begin(struct tm_generator *g, uint32_t market)
{
    g->market = market;
    g->group_count = 0;
    if (g->now_us > g->last_us)
        g->last_us = g->now_us;
    struct tm_market *m = tm_market_get(g->set.markets, market);
    if (m->last_us == g->last_us)
        g->last_us++;
    m->last_us = g->last_us;
}

void tm_generator_emit(struct tm_generator *g, struct tm_event *e)
{
    e->number = ++g->count;
    g->set.sink.event(g->set.sink.arg, e);
}

/* How many equal deltas this step had before; remembers this one. */
static uint32_t count_equal(struct tm_generator *g, enum tm_side side, uint32_t price, int64_t amount)
{
    uint32_t equal = 0;
    for (uint32_t i = 0; i < g->group_count; i++)
        equal += g->group[i].side == side && g->group[i].price == price && g->group[i].amount == amount;
    g->group[g->group_count++] = (struct tm_group_delta){side, price, amount};
    return equal;
}

static void emit_delta(struct tm_generator *g, enum tm_side side, uint32_t price, int64_t amount)
{
    struct tm_event e = {.stream = TM_STREAM_DELTA,
                         .channel = TM_CHANNEL_DEPTH,
                         .type = "orderbook_delta",
                         .ts_us = g->last_us,
                         .market = g->market,
                         .side = side,
                         .price = price,
                         .amount = amount,
                         .occurrence = count_equal(g, side, price, amount)};
    tm_body_delta(&g->body, &e, false);
    tm_generator_emit(g, &e);
}

bool tm_generator_delta(struct tm_generator *g, enum tm_side side, uint32_t price, int64_t amount)
{
    struct tm_live *live = tm_market_live(g->set.markets, g->market);
    if (g->group_count == TM_GROUP_MAX || tm_book_fold(&live->book, side, price, amount))
        return false;
    emit_delta(g, side, price, amount);
    return true;
}

static int64_t draw_size(struct tm_generator *g, double fractional)
{
    int64_t contracts = 1 + tm_rng_below(&g->rng, 1u << tm_rng_below(&g->rng, 11));
    return 100 * contracts + (tm_rng_chance(&g->rng, fractional) ? (int64_t)tm_rng_below(&g->rng, 100) : 0);
}

/* A price for a new order: below the middle and below what would cross, a few ticks off more rarely than one. */
static uint32_t draw_price(struct tm_generator *g, struct tm_live *live, enum tm_side side)
{
    const struct tm_structure *s = tm_structure_get(tm_market_get(g->set.markets, g->market)->structure);
    uint32_t middle = side == TM_YES ? live->middle : TM_PRICE_ONE - live->middle;
    uint32_t other = TM_PRICE_ONE - tm_book_best(&live->book, side == TM_YES ? TM_NO : TM_YES);
    uint32_t price = middle < other ? middle : other;
    uint32_t ticks = 1 + (uint32_t)__builtin_ctz((uint32_t)tm_rng_next(&g->rng) | 256) + tm_rng_below(&g->rng, 3);
    for (; ticks && price > TM_PRICE_MIN; ticks--)
        price = tm_structure_align(s, price - 1);
    return price;
}

static void drift(struct tm_generator *g, struct tm_live *live)
{
    int32_t middle = (int32_t)live->middle + ((int32_t)tm_rng_below(&g->rng, 201) - 100) * TM_PRICE_MIN;
    live->middle = (uint32_t)(middle < MIDDLE_LOW ? MIDDLE_LOW : middle > MIDDLE_HIGH ? MIDDLE_HIGH : middle);
}

static bool place_order(struct tm_generator *g, struct tm_live *live, enum tm_side side)
{
    uint32_t price = draw_price(g, live, side);
    const struct tm_level *level = price ? tm_book_at(&live->book, side, price) : NULL;
    if (!price || (!level && live->book.levels[side] >= g->set.depth) || (level && level->size > SIZE_MAX_HUNDREDTHS))
        return false;
    return tm_generator_delta(g, side, price, draw_size(g, 0.16));
}

static bool cancel_order(struct tm_generator *g, struct tm_live *live, enum tm_side side)
{
    if (!live->book.levels[side])
        return false;
    uint32_t back = (uint32_t)__builtin_ctz((uint32_t)tm_rng_next(&g->rng) | 1u << 12) % live->book.levels[side];
    struct tm_level level = live->book.side[side][live->book.levels[side] - 1u - back];
    int64_t size = level.size <= 200 || tm_rng_chance(&g->rng, 0.4) ? level.size : draw_size(g, 0.16);
    return tm_generator_delta(g, side, level.price, size < level.size ? -size : -level.size);
}

void tm_generator_order(struct tm_generator *g)
{
    struct tm_live *live = tm_market_live(g->set.markets, g->market);
    enum tm_side side = tm_rng_below(&g->rng, 2) ? TM_YES : TM_NO;
    if (tm_rng_below(&g->rng, 16) == 0)
        drift(g, live);
    bool place = tm_rng_below(&g->rng, 100) < 60; /* more come than go; trades and --depth take the rest */
    if (place ? place_order(g, live, side) : cancel_order(g, live, side))
        return;
    (void)(place_order(g, live, side) || cancel_order(g, live, side) || cancel_order(g, live, !side));
}

static uint32_t draw_burst(struct tm_generator *g)
{
    uint32_t n = BURST_MIN;
    while (n < BURST_MAX && tm_rng_below(&g->rng, 3) != 0) /* geometric: 2 and on average 2 more */
        n++;
    return n;
}

/* Many orders of one microsecond at one price; half of the bursts are all of the same size. */
static void burst(struct tm_generator *g)
{
    struct tm_live *live = tm_market_live(g->set.markets, g->market);
    enum tm_side side = tm_rng_below(&g->rng, 2) ? TM_YES : TM_NO;
    bool same = tm_rng_below(&g->rng, 2);
    uint32_t n = draw_burst(g);
    uint32_t price = tm_book_best(&live->book, side);
    int64_t there = tm_book_best_size(&live->book, side);
    bool cancel = there >= 2 * (int64_t)n && tm_rng_below(&g->rng, 2);
    if (!price || there > SIZE_MAX_HUNDREDTHS)
        price = draw_price(g, live, side);
    int64_t size = cancel ? there / n : draw_size(g, 0.16);
    for (uint32_t i = 0; price && i < n; i++) {
        int64_t one = cancel || same ? size : size + 100 * (int64_t)i;
        tm_generator_delta(g, side, price, cancel ? -one : one);
    }
}

static void put_trade(struct tm_generator *g, enum tm_side maker, struct tm_level level)
{
    struct tm_live *live = tm_market_live(g->set.markets, g->market);
    struct tm_event e = {.stream = TM_STREAM_TRADE,
                         .channel = TM_CHANNEL_TRADE,
                         .type = "trade",
                         .ts_us = g->last_us,
                         .market = g->market,
                         .side = maker == TM_YES ? TM_NO : TM_YES,
                         .price = maker == TM_YES ? level.price : TM_PRICE_ONE - level.price,
                         .amount = level.size};
    uint64_t id[2] = {tm_mix(g->set.seed, ++g->trades, 10), tm_mix(g->set.seed, g->trades, 11)};
    memcpy(e.trade_id, id, 16);
    e.trade_id[6] = (uint8_t)(0x40 | (e.trade_id[6] & 0x3f)); /* real ids have 4 to 7 there, and any variant */
    live->previous_price = live->last_price;
    live->last_price = e.price;
    live->last_size = e.amount;
    live->volume += e.amount;
    live->open_interest += e.amount / 2;
    live->dollar_volume += e.amount * e.price;
    tm_body_trade(&g->body, &e);
    tm_generator_emit(g, &e);
}

/* A taker meets the best bid of a side: a trade and the maker's delta, one in twenty in that order. */
static void trade(struct tm_generator *g)
{
    struct tm_live *live = tm_market_live(g->set.markets, g->market);
    enum tm_side maker = tm_rng_below(&g->rng, 2) ? TM_YES : TM_NO;
    if (!live->book.levels[maker])
        maker = !maker;
    if (!live->book.levels[maker]) {
        tm_generator_order(g);
        return;
    }
    struct tm_level best = live->book.side[maker][live->book.levels[maker] - 1];
    int64_t size = draw_size(g, 0.615);
    if (size < best.size)
        best.size = size;
    bool overtakes = tm_rng_below(&g->rng, 20) == 0;
    if (overtakes)
        put_trade(g, maker, best);
    tm_generator_delta(g, maker, best.price, -best.size);
    if (!overtakes)
        put_trade(g, maker, best);
}

static void ticker(struct tm_generator *g)
{
    struct tm_event e = {.stream = TM_STREAM_TICKER,
                         .channel = TM_CHANNEL_TICKER,
                         .type = "ticker",
                         .ts_us = g->last_us,
                         .market = g->market};
    tm_body_ticker(&g->body, &e, tm_market_live(g->set.markets, g->market));
    tm_generator_emit(g, &e);
}

/* Six in ten steps fall on the busiest few per cent of the markets. */
static uint32_t pick_market(struct tm_generator *g)
{
    uint32_t hot = 32 + g->active_count / 64, n = g->active_count;
    if (hot < n && tm_rng_below(&g->rng, 10) < 6)
        n = hot;
    return g->active[tm_rng_below(&g->rng, n)];
}

static void trading_step(struct tm_generator *g, enum tm_mix what)
{
    bool again = what == TM_MIX_TICKERS && tm_market_get(g->set.markets, g->touched)->status == TM_ACTIVE;
    tm_generator_begin(g, again ? g->touched : pick_market(g));
    g->touched = g->market;
    if (what == TM_MIX_TICKERS)
        ticker(g);
    else if (what == TM_MIX_TRADES)
        trade(g);
    else if ((uint32_t)(tm_rng_next(&g->rng) >> 32) < g->burst_below)
        burst(g);
    else
        tm_generator_order(g);
}

void tm_generator_step(struct tm_generator *g, int64_t now_us)
{
    struct tm_agenda_item item;
    g->now_us = now_us;
    if (tm_agenda_take(&g->agenda, g->count, &item)) {
        tm_lifecycle_task(g, &item);
        return;
    }
    uint32_t at = tm_rng_below(&g->rng, g->mix_total);
    int what = 0;
    while (at >= g->mix_below[what])
        what++;
    if (what == TM_MIX_LIFECYCLE || !g->active_count)
        tm_lifecycle_step(g);
    else
        trading_step(g, (enum tm_mix)what);
}
