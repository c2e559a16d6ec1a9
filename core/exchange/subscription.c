#include "exchange/feed.h"

#include <stdio.h>
#include <stdlib.h>

static const char *const channels[TM_CHANNELS_MAX] = {
    [TM_CHANNEL_DEPTH] = "orderbook_delta",
    [TM_CHANNEL_TRADE] = "trade",
    [TM_CHANNEL_TICKER] = "ticker",
    [TM_CHANNEL_LIFECYCLE] = "market_lifecycle_v2",
    [TM_CHANNEL_COMBO_LIFECYCLE] = "multivariate_market_lifecycle",
    [TM_CHANNEL_FILL] = "fill",
    [TM_CHANNEL_POSITIONS] = "market_positions",
    [TM_CHANNEL_COMMUNICATIONS] = "communications",
    [TM_CHANNEL_ORDER_GROUPS] = "order_group_updates",
    [TM_CHANNEL_ORDERS] = "user_orders",
    [TM_CHANNEL_INDEX] = "cfbenchmarks_value",
    [TM_CHANNEL_INDEX_5HZ] = "cfbenchmarks_value_5hz",
    [TM_CHANNEL_UNDERLYING] = "pyth_value",
};

const char *tm_channel_name(uint8_t channel)
{
    return channels[channel];
}

int tm_channel_find(struct tm_slice name)
{
    for (int i = 0; i < TM_CHANNELS_MAX; i++)
        if (tm_json_is(name, channels[i]))
            return i;
    return -1;
}

static void *grow(void *array, uint32_t *capacity, uint32_t count, size_t size)
{
    if (count < *capacity)
        return array;
    *capacity = *capacity ? 2 * *capacity : 8;
    array = realloc(array, *capacity * size);
    TM_FATAL_UNLESS(array);
    return array;
}

static uint32_t take_id(struct tm_feed *f, struct tm_sub *s)
{
    uint32_t id = f->free_count ? f->free_ids[--f->free_count] : f->sub_count++;
    TM_FATAL_UNLESS(id < TM_SUBSCRIPTIONS_MAX);
    f->subs = grow(f->subs, &f->sub_capacity, id, sizeof(struct tm_sub *));
    f->subs[id] = s;
    return id;
}

static void put_id(struct tm_feed *f, uint32_t id)
{
    f->subs[id] = NULL;
    f->free_ids = grow(f->free_ids, &f->free_capacity, f->free_count, sizeof *f->free_ids);
    f->free_ids[f->free_count++] = id;
}

static void write_fact(struct tm_sub *s, const char *what, uint32_t market, const char *detail)
{
    struct tm_fact fact = {.what = what,
                           .stream = channels[s->channel],
                           .market = market,
                           .client = s->client->number,
                           .sid = s->sid,
                           .seq = what[0] == 'c' ? s->seq : 0,
                           .detail = {detail, detail ? strlen(detail) : 0}};
    tm_ledger_fact(s->client->feed->ledger, &fact);
}

void tm_sub_take_all(struct tm_sub *s)
{
    struct tm_sub_list *list = &s->client->feed->all[s->channel];
    if (s->all)
        return;
    s->all = true;
    list->at = grow(list->at, &list->capacity, list->count, sizeof(struct tm_sub *));
    s->all_place = list->count;
    list->at[list->count++] = s;
}

static void leave_all(struct tm_sub *s)
{
    struct tm_sub_list *list = &s->client->feed->all[s->channel];
    list->at[s->all_place] = list->at[--list->count];
    list->at[s->all_place]->all_place = s->all_place;
}

static bool is_sequenced(uint8_t channel, const struct tm_style *style)
{
    if (channel == TM_CHANNEL_TICKER || channel == TM_CHANNEL_FILL || channel == TM_CHANNEL_POSITIONS ||
        channel == TM_CHANNEL_ORDERS)
        return false;
    return channel == TM_CHANNEL_DEPTH || !style->no_seq;
}

struct tm_sub *tm_sub_open(struct tm_client *c, uint8_t channel, bool all)
{
    struct tm_sub *s = calloc(1, sizeof *s);
    TM_FATAL_UNLESS(s);
    s->client = c;
    s->channel = channel;
    s->sid = ++c->next_sid;
    s->id = take_id(c->feed, s);
    s->sequenced = is_sequenced(channel, &c->feed->opt->style);
    s->slow_path = c->dropping;
    c->subs[channel] = s;
    c->feed->subscribed += !c->subscribed;
    c->subscribed = true;
    write_fact(s, "open", TM_MARKET_NONE, all ? "{\"all\":true}" : "{\"all\":false}");
    if (all)
        tm_sub_take_all(s);
    return s;
}

/* The place of a subscription in a market's list, or NULL. */
static uint32_t *find_listener(const struct tm_sub *s, uint32_t market)
{
    struct tm_listeners *list = tm_market_get(s->client->feed->markets, market)->listeners;
    for (uint32_t i = 0; list && i < list->count; i++)
        if ((list->id[i] & ~TM_LISTENER_WAITS) == s->id)
            return &list->id[i];
    return NULL;
}

bool tm_sub_has(const struct tm_sub *s, uint32_t market)
{
    return find_listener(s, market) != NULL;
}

static void add_listener(struct tm_market *m, uint32_t id)
{
    struct tm_listeners *list = m->listeners;
    uint32_t count = list ? list->count : 0;
    if (!list || count == list->capacity) {
        uint32_t capacity = count ? 2 * count : 2;
        list = realloc(list, sizeof *list + capacity * sizeof list->id[0]);
        TM_FATAL_UNLESS(list);
        list->count = count;
        list->capacity = capacity;
        m->listeners = list;
    }
    list->id[list->count++] = id;
}

static void remove_listener(const struct tm_sub *s, uint32_t market)
{
    struct tm_market *m = tm_market_get(s->client->feed->markets, market);
    uint32_t *at = find_listener(s, market);
    if (!at)
        return;
    *at = m->listeners->id[--m->listeners->count];
    if (m->listeners->count)
        return;
    free(m->listeners);
    m->listeners = NULL;
}

void tm_sub_add(struct tm_sub *s, uint32_t market)
{
    bool depth = s->channel == TM_CHANNEL_DEPTH;
    s->markets = grow(s->markets, &s->market_capacity, s->market_count, sizeof *s->markets);
    s->markets[s->market_count++] = market;
    add_listener(tm_market_get(s->client->feed->markets, market), s->id | (depth ? TM_LISTENER_WAITS : 0));
    if (!depth)
        write_fact(s, "listen", market, NULL);
}

/* Keep the markets that still list this subscription; `announced` counts those kept among the announced ones. */
static void compact(struct tm_sub *s)
{
    uint32_t kept = 0, announced = 0;
    for (uint32_t i = 0; i < s->market_count; i++)
        if (tm_sub_has(s, s->markets[i])) {
            announced += i < s->announced;
            s->markets[kept++] = s->markets[i];
        }
    s->market_count = kept;
    s->announced = announced;
}

void tm_sub_remove(struct tm_sub *s, const uint32_t *markets, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (tm_sub_has(s, markets[i])) {
            remove_listener(s, markets[i]);
            write_fact(s, "unlisten", markets[i], NULL);
        }
    compact(s);
}

void tm_sub_wish(struct tm_sub *s, uint32_t market, int64_t id)
{
    if (s->wish_next == s->wish_count)
        s->wish_next = s->wish_count = 0;
    s->wishes = grow(s->wishes, &s->wish_capacity, s->wish_count, sizeof *s->wishes);
    s->wishes[s->wish_count++] = (struct tm_wish){market, id};
}

void tm_sub_close(struct tm_sub *s, const char *reason)
{
    struct tm_client *c = s->client;
    char detail[96];
    (void)snprintf(detail, sizeof detail, "{\"reason\":\"%s\"}", reason);
    tm_sub_drop_kept(s);
    write_fact(s, "close", TM_MARKET_NONE, detail);
    for (uint32_t i = 0; i < s->market_count; i++)
        remove_listener(s, s->markets[i]);
    if (s->all)
        leave_all(s);
    put_id(c->feed, s->id);
    c->subs[s->channel] = NULL;
    if (s->trouble)
        tm_buf_fini(&s->trouble->kept);
    tm_buf_fini(&s->names);
    free(s->trouble);
    free(s->markets);
    free(s->wishes);
    free(s);
}

/* A first ticker is a ticker event that only this client sees. */
static void send_ticker(struct tm_sub *s, uint32_t market)
{
    struct tm_feed *f = s->client->feed;
    int64_t last_us = tm_market_get(f->markets, market)->last_us;
    struct tm_event e = {.stream = TM_STREAM_TICKER,
                         .channel = TM_CHANNEL_TICKER,
                         .type = "ticker",
                         .market = market,
                         .ts_us = last_us ? last_us : tm_market_created_us(f->markets, market)};
    tm_body_ticker(&f->body, &e, tm_market_live(f->markets, market));
    struct tm_fact fact = {.what = "injected",
                           .stream = "initial_ticker",
                           .market = market,
                           .client = s->client->number,
                           .sid = s->sid,
                           .detail = e.msg};
    tm_ledger_fact(f->ledger, &fact);
    tm_deliver(s, &e, e.suffix);
}

static void grant_wish(struct tm_sub *s)
{
    struct tm_wish wish = s->wishes[s->wish_next++];
    if (s->channel == TM_CHANNEL_TICKER)
        send_ticker(s, wish.market);
    else
        tm_deliver_snapshot(s, wish.market, wish.id);
}

static void announce_next(struct tm_sub *s)
{
    uint32_t market = s->markets[s->announced++], *at = find_listener(s, market);
    *at &= ~TM_LISTENER_WAITS;
    tm_deliver_snapshot(s, market, 0);
}

void tm_client_pump(struct tm_client *c)
{
    for (int channel = TM_CHANNEL_DEPTH; channel <= TM_CHANNEL_TICKER; channel++)
        for (struct tm_sub *s; (s = c->subs[channel]) && tm_conn_backlog(c->conn) + c->held.len < TM_CONN_LOW;) {
            if (channel == TM_CHANNEL_DEPTH && s->announced < s->market_count)
                announce_next(s);
            else if (s->wish_next < s->wish_count)
                grant_wish(s);
            else
                break;
        }
    tm_client_mark(c);
}
