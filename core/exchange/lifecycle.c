/* The lives of markets: created, paused, closed, determined, settled, and what is announced about them. */
#include "exchange/generator_private.h"
#include "exchange/text.h"

static char *begin(struct tm_generator *g, struct tm_event *e, uint32_t market)
{
    bool combo = tm_market_is_combo(g->set.markets, market);
    *e = (struct tm_event){.stream = TM_STREAM_LIFECYCLE,
                           .channel = combo ? TM_CHANNEL_COMBO_LIFECYCLE : TM_CHANNEL_LIFECYCLE,
                           .type = combo ? "multivariate_market_lifecycle" : "market_lifecycle_v2",
                           .market = market};
    tm_generator_begin(g, market);
    char *p = tm_body_begin(&g->body);
    *p++ = '{';
    return p;
}

static void end(struct tm_generator *g, struct tm_event *e, char *p)
{
    *p++ = '}';
    tm_body_end(&g->body, e, p);
    tm_generator_emit(g, e);
}

static char *put_kind(const struct tm_generator *g, char *p, const char *kind, uint32_t market)
{
    p = tm_put_lit(p, "\"event_type\":\"");
    p = tm_put_str(p, kind);
    p = tm_put_lit(p, "\",");
    return tm_body_put_market(&g->body, p, market);
}

static int64_t seconds(const struct tm_generator *g)
{
    return g->last_us / 1000000;
}

/* Put a task off by between `low` and `high` seconds' worth of events. */
static void later(struct tm_generator *g, enum tm_task task, uint32_t market, double low, double high)
{
    double span = low + (high - low) * (double)tm_rng_below(&g->rng, 1000) / 1000;
    tm_agenda_put(&g->agenda, g->count + 1 + (uint64_t)(span * g->set.events_per_s), task, market);
}

/* A new event is announced when its first market is made; the event's own announcement names no market. */
static void announce_event(struct tm_generator *g, uint32_t market)
{
    struct tm_event e;
    char *p = begin(g, &e, market);
    e.type = "event_lifecycle";
    p = tm_put_lit(p, "\"event_ticker\":\"");
    p = tm_market_put_event(g->set.markets, p, market);
    p = tm_put_lit(p, "\",\"exchange_index\":0,\"title\":\"Simulated event ");
    p = tm_put_u64(p, market / TM_MARKETS_PER_EVENT);
    p = tm_put_lit(p, "\",\"subtitle\":\"\",\"collateral_return_type\":\"MECNET\",\"series_ticker\":\"");
    p = tm_market_put_series(g->set.markets, p, market);
    p = tm_put_lit(p, "\",\"strike_date\":");
    p = tm_put_i64(p, tm_market_close_us(g->set.markets, market) / 1000000);
    e.market = TM_MARKET_NONE;
    end(g, &e, p);
}

static char *put_metadata(struct tm_generator *g, char *p, uint32_t market)
{
    p = tm_put_lit(p, ",\"additional_metadata\":{\"name\":\"Market ");
    p = tm_put_u64(p, market);
    p = tm_put_lit(p, "\",\"title\":\"Above ");
    p = tm_put_u64(p, market);
    p = tm_put_lit(p,
                   "?\",\"yes_sub_title\":\"Above\",\"no_sub_title\":\"Not above\",\"rules_primary\":\"Resolves Yes if "
                   "above.\",\"rules_secondary\":\"\",\"can_close_early\":true,\"event_ticker\":\"");
    p = tm_market_put_event(g->set.markets, p, market);
    p = tm_put_lit(p, "\",\"expected_expiration_ts\":");
    p = tm_put_i64(p, tm_market_close_us(g->set.markets, market) / 1000000 + 3600);
    p = tm_put_lit(p, ",\"strike_type\":\"greater\",\"floor_strike\":");
    p = tm_put_u64(p, market);
    return tm_put_lit(p, ".5}");
}

static void update_fee(struct tm_generator *g, uint32_t market)
{
    struct tm_event e;
    char *p = begin(g, &e, market);
    e.type = "event_fee_update";
    e.channel = TM_CHANNEL_LIFECYCLE;
    e.market = TM_MARKET_NONE;
    p = tm_put_lit(p, "\"event_ticker\":\"");
    p = tm_market_put_event(g->set.markets, p, market);
    if (tm_rng_below(&g->rng, 2))
        p = tm_put_lit(p, "\",\"fee_type_override\":null,\"fee_multiplier_override\":null");
    else
        p = tm_put_lit(p, "\",\"fee_type_override\":\"quadratic\",\"fee_multiplier_override\":0.5");
    end(g, &e, p);
}

static void create_market(struct tm_generator *g)
{
    uint32_t market = tm_markets_add(g->set.markets);
    if (market == TM_MARKET_NONE) { /* the table is full: the step still has to be an event */
        update_fee(g, 0);
        return;
    }
    struct tm_market *m = tm_market_get(g->set.markets, market);
    m->created_us = g->now_us > g->last_us ? g->now_us : g->last_us;
    if (market % TM_MARKETS_PER_EVENT == 0)
        announce_event(g, market);
    struct tm_event e;
    char *p = put_kind(g, begin(g, &e, market), "created", market);
    p = tm_put_lit(p, ",\"exchange_index\":0,\"open_ts\":");
    p = tm_put_i64(p, seconds(g));
    p = tm_put_lit(p, ",\"close_ts\":");
    p = tm_put_i64(p, tm_market_close_us(g->set.markets, market) / 1000000);
    p = put_metadata(g, p, market);
    *p++ = ',';
    p = tm_body_put_structure(&g->body, p, m->structure);
    tm_generator_activate(g, market);
    end(g, &e, p);
}

static void announce_close(struct tm_generator *g, uint32_t market)
{
    struct tm_event e;
    char *p = put_kind(g, begin(g, &e, market), "close_date_updated", market);
    int64_t close_s = seconds(g);
    p = tm_put_lit(p, ",\"close_ts\":");
    p = tm_put_i64(p, close_s);
    tm_market_get(g->set.markets, market)->close_us = close_s * 1000000;
    tm_generator_deactivate(g, market);
    later(g, TM_TASK_CLOSE, market, 0, 0.01);
    end(g, &e, p);
}

static void pause_market(struct tm_generator *g, uint32_t market, bool paused)
{
    struct tm_event e;
    char *p = put_kind(g, begin(g, &e, market), paused ? "deactivated" : "activated", market);
    p = paused ? tm_put_lit(p, ",\"is_deactivated\":true") : tm_put_lit(p, ",\"is_deactivated\":false");
    tm_market_get(g->set.markets, market)->status = paused ? TM_INACTIVE : TM_ACTIVE;
    if (paused) {
        tm_generator_deactivate(g, market);
        later(g, TM_TASK_UNPAUSE, market, 0.5, 5);
    } else {
        tm_generator_activate(g, market);
    }
    end(g, &e, p);
}

/* On unpausing, the exchange cancels all resting orders. */
static void cancel_all(struct tm_generator *g, uint32_t market)
{
    tm_generator_begin(g, market);
    struct tm_book *book = &tm_market_live(g->set.markets, market)->book;
    for (enum tm_side side = TM_YES; side <= TM_NO; side++)
        while (book->levels[side]) {
            struct tm_level best = book->side[side][book->levels[side] - 1];
            if (!tm_generator_delta(g, side, best.price, -best.size))
                return;
        }
}

static void update_metadata(struct tm_generator *g, uint32_t market)
{
    struct tm_event e;
    char *p = put_kind(g, begin(g, &e, market), "metadata_updated", market);
    uint32_t strike = 1000 + tm_rng_below(&g->rng, 99000);
    p = tm_put_lit(p, ",\"strike_type\":\"between\",\"floor_strike\":");
    p = tm_put_u64(p, strike);
    p = tm_put_lit(p, ",\"cap_strike\":");
    p = tm_put_u64(p, strike + 250);
    p = tm_put_lit(p, ".25,\"yes_sub_title\":\"");
    p = tm_put_u64(p, strike);
    p = tm_put_lit(p, " or so\"");
    tm_market_get(g->set.markets, market)->updated_us = g->last_us;
    end(g, &e, p);
}

/* A structure may change in mid-life; resting orders keep their prices. */
static void update_structure(struct tm_generator *g, uint32_t market)
{
    struct tm_event e;
    struct tm_market *m = tm_market_get(g->set.markets, market);
    (void)tm_market_live(g->set.markets, market); /* a book that nobody has asked for yet is of the old structure */
    m->structure = (uint8_t)tm_rng_below(&g->rng, tm_structure_count);
    m->updated_us = g->last_us;
    char *p = put_kind(g, begin(g, &e, market), "price_level_structure_updated", market);
    *p++ = ',';
    end(g, &e, tm_body_put_structure(&g->body, p, m->structure));
}

/* Markets are created as fast as they close, so about as many as at the start are active at any time. */
void tm_lifecycle_step(struct tm_generator *g)
{
    uint32_t kind = tm_rng_below(&g->rng, 100);
    if (!g->active_count || g->active_count < g->initial * 9 / 10) {
        create_market(g);
        return;
    }
    uint32_t market = g->active[tm_rng_below(&g->rng, g->active_count)];
    if (kind < 20)
        create_market(g);
    else if (kind < 40)
        announce_close(g, market);
    else if (kind < 60)
        pause_market(g, market, true);
    else if (kind < 75)
        update_metadata(g, market);
    else if (kind < 85)
        update_structure(g, market);
    else if (kind < 93)
        announce_event(g, market);
    else
        update_fee(g, market);
}

/* One to nine deltas that share one time stamp, some hundred microseconds after the close; the levels stay. */
static void close_market(struct tm_generator *g, uint32_t market)
{
    tm_generator_begin(g, market);
    struct tm_market *m = tm_market_get(g->set.markets, market);
    m->close_us = g->last_us - 1 - tm_rng_below(&g->rng, 400);
    m->status = TM_CLOSED;
    for (uint32_t n = 1 + tm_rng_below(&g->rng, 9); n; n--)
        tm_generator_order(g);
    later(g, TM_TASK_CLEAR, market, 0.16, 5.3);
}

static void clear_market(struct tm_generator *g, uint32_t market, bool again)
{
    tm_book_clear(&tm_market_live(g->set.markets, market)->book);
    g->set.sink.cleared(g->set.sink.arg, market);
    if (!again && tm_rng_below(&g->rng, 2))
        later(g, TM_TASK_CLEAR_AGAIN, market, 0.3, 1.5);
    else
        later(g, TM_TASK_DETERMINE, market, 1, 10);
}

static void determine(struct tm_generator *g, uint32_t market)
{
    struct tm_event e;
    struct tm_market *m = tm_market_get(g->set.markets, market);
    char *p = begin(g, &e, market);
    m->yes_won = tm_rng_below(&g->rng, 2);
    m->status = TM_DETERMINED;
    p = tm_body_put_market(&g->body, p, market);
    p = tm_put_lit(p, ",\"determination_ts\":");
    p = tm_put_i64(p, seconds(g));
    p = m->yes_won ? tm_put_lit(p, ",\"result\":\"yes\",\"settlement_value\":\"1.0000\"")
                   : tm_put_lit(p, ",\"result\":\"no\",\"settlement_value\":\"0.0000\"");
    p = tm_put_lit(p, ",\"event_type\":\"determined\"");
    later(g, TM_TASK_SETTLE, market, 1, 10);
    end(g, &e, p);
}

static void settle(struct tm_generator *g, uint32_t market)
{
    struct tm_event e;
    char *p = begin(g, &e, market);
    p = tm_body_put_market(&g->body, p, market);
    p = tm_put_lit(p, ",\"settled_ts\":");
    p = tm_put_i64(p, seconds(g));
    p = tm_put_lit(p, ",\"event_type\":\"settled\"");
    tm_market_get(g->set.markets, market)->status = TM_FINALIZED;
    tm_market_get(g->set.markets, market)->settled_us = g->last_us;
    end(g, &e, p);
}

void tm_lifecycle_task(struct tm_generator *g, const struct tm_agenda_item *item)
{
    switch (item->task) {
    case TM_TASK_CLOSE:
        close_market(g, item->market);
        break;
    case TM_TASK_CLEAR:
    case TM_TASK_CLEAR_AGAIN:
        clear_market(g, item->market, item->task == TM_TASK_CLEAR_AGAIN);
        break;
    case TM_TASK_DETERMINE:
        determine(g, item->market);
        break;
    case TM_TASK_SETTLE:
        settle(g, item->market);
        break;
    case TM_TASK_UNPAUSE:
        cancel_all(g, item->market);
        pause_market(g, item->market, false);
        break;
    }
}
