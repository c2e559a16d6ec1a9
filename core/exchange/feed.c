#include "exchange/feed.h"
#include "base/clock.h"

#include <stdlib.h>

void tm_feed_init(struct tm_feed *f, const struct tm_options *o, struct tm_loop *loop, struct tm_markets *markets,
                  struct tm_ledger *ledger)
{
    *f = (struct tm_feed){.opt = o, .loop = loop, .markets = markets, .ledger = ledger};
    f->tape.limit = o->tape_limit;
    f->body.style = f->mirrored.style = &o->style;
    f->body.markets = f->mirrored.markets = markets;
    if (o->start_us)
        tm_feed_reckon(f, o->start_us);
}

void tm_feed_fini(struct tm_feed *f)
{
    for (int i = 0; i < TM_CHANNELS_MAX; i++)
        free(f->all[i].at);
    tm_tape_fini(&f->tape);
    tm_buf_fini(&f->scratch);
    tm_buf_fini(&f->frame);
    free(f->clients);
    free(f->dirty);
    free(f->subs);
    free(f->free_ids);
}

void tm_feed_begin(struct tm_feed *f)
{
    if (f->opt->start_us)
        return;
    f->wall_us = tm_clock_wall_us();
    tm_ledger_set_time(f->ledger, f->wall_us);
}

void tm_feed_reckon(struct tm_feed *f, int64_t us)
{
    f->wall_us = us;
    tm_ledger_set_time(f->ledger, us);
}

void tm_client_mark(struct tm_client *c)
{
    struct tm_feed *f = c->feed;
    if (c->dirty)
        return;
    c->dirty = true;
    if (f->dirty_count == f->dirty_capacity) {
        f->dirty_capacity = f->dirty_capacity ? 2 * f->dirty_capacity : 64;
        f->dirty = realloc(f->dirty, f->dirty_capacity * sizeof *f->dirty);
        TM_FATAL_UNLESS(f->dirty);
    }
    f->dirty[f->dirty_count++] = c;
}

void tm_feed_flush(struct tm_feed *f)
{
    while (f->dirty_count) { /* a flush may close its client, and a close may mark others */
        struct tm_client *c = f->dirty[--f->dirty_count];
        c->dirty = false;
        tm_conn_flush(c->conn);
    }
}

size_t tm_feed_backlog(const struct tm_feed *f)
{
    size_t most = 0;
    for (uint32_t i = 0; i < f->client_count; i++) {
        const struct tm_client *c = f->clients[i];
        size_t backlog = c->data == &c->held || c->conn->frozen || c->conn->delay_us ? 0 : tm_conn_backlog(c->conn);
        if (backlog > most)
            most = backlog;
    }
    return most;
}

/* The body as a subscriber with use_yes_price wants it; written when the first such subscriber is met. */
static struct tm_slice mirrored(struct tm_feed *f, const struct tm_event *e)
{
    struct tm_event copy = *e;
    if (f->mirrored.len)
        return (struct tm_slice){f->mirrored.text, f->mirrored.len};
    tm_body_delta(&f->mirrored, &copy, true);
    return copy.suffix;
}

static void deliver_one(struct tm_feed *f, struct tm_sub *s, const struct tm_event *e)
{
    bool mirror = s->use_yes && e->stream == TM_STREAM_DELTA && e->side == TM_NO;
    tm_deliver(s, e, mirror ? mirrored(f, e) : e->suffix);
}

/* The i-th listener if it has had its snapshot. Callers count down, because a delivery may end its subscription, which
 * moves the list's last entry into its place or frees the list. */
static struct tm_sub *listener(const struct tm_feed *f, const struct tm_market *m, uint32_t i)
{
    if (!m->listeners || i >= m->listeners->count || (m->listeners->id[i] & TM_LISTENER_WAITS))
        return NULL;
    return f->subs[m->listeners->id[i]];
}

static void deliver_to_listeners(struct tm_feed *f, const struct tm_event *e)
{
    const struct tm_market *m = tm_market_get(f->markets, e->market);
    for (uint32_t i = m->listeners ? m->listeners->count : 0; i-- > 0;) {
        struct tm_sub *s = listener(f, m, i);
        if (!s || s->channel != e->channel)
            continue;
        if (e->stream == TM_STREAM_SNAPSHOT)
            tm_deliver_snapshot(s, e->market, 0);
        else
            deliver_one(f, s, e);
    }
}

static void note(struct tm_feed *f, const struct tm_event *e)
{
    f->emitted[e->stream]++;
    f->emitted_total++;
    tm_ledger_event(f->ledger, e);
    if (e->stream == TM_STREAM_TRADE)
        tm_tape_add(&f->tape, e);
    if (e->market == TM_MARKET_NONE)
        return;
    struct tm_market *m = tm_market_get(f->markets, e->market);
    if (m->created_us && !m->visible_us)
        m->visible_us = tm_clock_wall_us() + f->opt->created_404_us;
}

void tm_feed_publish(struct tm_feed *f, const struct tm_event *e)
{
    note(f, e);
    f->mirrored.len = 0;
    if (e->market != TM_MARKET_NONE)
        deliver_to_listeners(f, e);
    const struct tm_sub_list *all = &f->all[e->channel];
    for (uint32_t i = all->count; i-- > 0;)
        if (i < all->count)
            deliver_one(f, all->at[i], e);
}

void tm_feed_pass_on(struct tm_feed *f, const struct tm_event *e)
{
    for (uint32_t id = 0; id < f->sub_count; id++) {
        struct tm_sub *s = f->subs[id];
        if (s && s->channel == e->channel && (s->all || e->market == TM_MARKET_NONE || tm_sub_has(s, e->market)))
            tm_deliver_raw(s, e);
    }
}

void tm_feed_cleared(struct tm_feed *f, uint32_t market)
{
    const struct tm_market *m = tm_market_get(f->markets, market);
    for (uint32_t i = m->listeners ? m->listeners->count : 0; i-- > 0;) {
        struct tm_sub *s = listener(f, m, i);
        if (s && s->channel == TM_CHANNEL_DEPTH)
            tm_deliver_snapshot(s, market, 0);
    }
}
