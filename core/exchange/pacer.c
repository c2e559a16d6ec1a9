#include "exchange/pacer.h"
#include "base/clock.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define BATCH_MAX 512               /* events, then the sockets get their turn */
#define FLAT_BACKLOG_MAX (1u << 20) /* bytes; a client beyond it is waited for */
#define FLAT_RETRY_US 100
#define FLAT_PATIENCE_US 1000000
#define DEBT_US_MAX 1000000

static int set_replay_pace(struct tm_pacer *p, const char *text, struct tm_error *err)
{
    char *rest;
    if (strcmp(text, "recorded") == 0 || strcmp(text, "flat") == 0) {
        p->pace = text[0] == 'f' ? TM_PACE_FLAT : TM_PACE_RECORDED;
        return TM_OK;
    }
    p->pace = TM_PACE_RATE;
    p->rate = strtod(text, &rest);
    if (rest != text && !*rest && p->rate > 0)
        return TM_OK;
    return tm_error_set(err, TM_EINVAL, "--replay-pace: expected recorded, flat or events a second, got \"%s\"", text);
}

int tm_pacer_init(struct tm_pacer *p, struct tm_feed *feed, struct tm_faults *faults, struct tm_generator *generator,
                  struct tm_replay *replay, struct tm_error *err)
{
    const struct tm_options *o = feed->opt;
    *p = (struct tm_pacer){.opt = o, .feed = feed, .faults = faults, .generator = generator, .replay = replay};
    p->rate = o->rate;
    p->pace = o->rate > 0 ? TM_PACE_RATE : TM_PACE_FLAT;
    p->events_max = o->events;
    p->held = o->hold;
    if (replay)
        return set_replay_pace(p, o->replay_pace, err);
    if (o->run_us && p->pace == TM_PACE_RATE) { /* as a number of events, so that it depends on no clock */
        uint64_t events = (uint64_t)ceil(o->rate * (double)o->run_us / 1e6);
        p->events_max = p->events_max && p->events_max < events ? p->events_max : events;
    }
    return TM_OK;
}

uint64_t tm_pacer_count(const struct tm_pacer *p)
{
    return p->generator ? tm_generator_count(p->generator) : tm_replay_count(p->replay);
}

static void write_fact(struct tm_pacer *p, const char *what)
{
    struct tm_fact fact = {.what = what, .market = TM_MARKET_NONE};
    tm_feed_begin(p->feed);
    tm_ledger_fact(p->feed->ledger, &fact);
}

/* The exchange's clock for the next step: --start-time and the event's number, or the wall. */
static int64_t exchange_us(const struct tm_pacer *p)
{
    double per_event = p->rate > 0 ? 1e6 / p->rate : 1;
    return p->opt->start_us ? p->opt->start_us + (int64_t)((double)tm_pacer_count(p) * per_event) : tm_clock_wall_us();
}

static bool step(struct tm_pacer *p)
{
    int64_t recorded;
    if (p->events_max && tm_pacer_count(p) >= p->events_max)
        return false;
    if (p->generator) {
        int64_t now_us = exchange_us(p);
        if (p->opt->start_us)
            tm_feed_reckon(p->feed, now_us);
        tm_generator_step(p->generator, now_us);
        return true;
    }
    if (!tm_replay_next_us(p->replay, &recorded))
        return false;
    tm_replay_step(p->replay);
    return true;
}

/* At a rate: up to which event number; a debt of more than a second is forgiven. */
static uint64_t due_count(struct tm_pacer *p, int64_t now)
{
    uint64_t due = p->anchor_count + (uint64_t)((double)(now - p->anchor_mono_us) * p->rate / 1e6);
    uint64_t debt_max = (uint64_t)(p->rate * DEBT_US_MAX / 1e6) + BATCH_MAX, count = tm_pacer_count(p);
    if (due > count + debt_max) {
        p->anchor_count = count;
        p->anchor_mono_us = now - DEBT_US_MAX;
        return count + debt_max;
    }
    return due;
}

static bool recorded_due(struct tm_pacer *p, int64_t now)
{
    int64_t us;
    if (!tm_replay_next_us(p->replay, &us))
        return true; /* the step will find the end */
    if (!p->anchor_recorded_us)
        p->anchor_recorded_us = us;
    return us - p->anchor_recorded_us <= now - p->anchor_mono_us;
}

/* True when the clients are too far behind for another batch. */
static bool blocked(struct tm_pacer *p, int64_t now)
{
    if (tm_feed_backlog(p->feed) < FLAT_BACKLOG_MAX) {
        p->blocked_mono_us = 0;
        return false;
    }
    if (!p->blocked_mono_us)
        p->blocked_mono_us = now;
    return now - p->blocked_mono_us < FLAT_PATIENCE_US;
}

/* Make what is due, a batch at most: true if more is due already, with *ended set when there will be no more. */
static bool make_batch(struct tm_pacer *p, int64_t now, bool *ended)
{
    uint64_t first = tm_pacer_count(p);
    uint64_t due = p->pace == TM_PACE_RATE ? due_count(p, now) : UINT64_MAX;
    while (tm_pacer_count(p) - first < BATCH_MAX) {
        if (tm_pacer_count(p) >= due || (p->pace == TM_PACE_RECORDED && !recorded_due(p, now)))
            return false;
        if (!step(p)) {
            *ended = true;
            return false;
        }
    }
    return true;
}

static void end(struct tm_pacer *p)
{
    p->ended = true;
    write_fact(p, "stop");
    tm_ledger_flush(p->feed->ledger, false);
}

static bool time_is_up(const struct tm_pacer *p, int64_t now)
{
    bool by_clock = p->opt->run_us && (p->pace != TM_PACE_RATE || p->replay);
    return by_clock && now - p->begun_mono_us >= p->opt->run_us;
}

/* One batch; after how many microseconds to come back. */
static int64_t work(struct tm_pacer *p)
{
    int64_t now = tm_clock_mono_us();
    bool flat = p->pace == TM_PACE_FLAT, ended = time_is_up(p, now);
    if (flat && blocked(p, now))
        return FLAT_RETRY_US;
    tm_feed_begin(p->feed);
    bool more = !ended && make_batch(p, now, &ended);
    tm_feed_flush(p->feed);
    if (ended)
        end(p);
    return more ? 0 : p->opt->tick_us;
}

static void begin(struct tm_pacer *p)
{
    p->begun = true;
    p->begun_mono_us = tm_clock_mono_us();
    write_fact(p, "start");
    tm_faults_on_start(p->faults);
}

static bool may_run(struct tm_pacer *p)
{
    if (p->held || p->ended || tm_faults_last(p->faults, TM_FAULT_MAINTENANCE) ||
        (!p->begun && p->feed->subscribed < p->opt->wait_clients)) {
        p->anchor_mono_us = 0;
        return false;
    }
    if (!p->begun)
        begin(p);
    if (!p->anchor_mono_us) {
        p->anchor_mono_us = tm_clock_mono_us();
        p->anchor_count = tm_pacer_count(p);
        p->anchor_recorded_us = 0;
    }
    return true;
}

static void on_tick(void *arg)
{
    struct tm_pacer *p = arg;
    int64_t again_us = may_run(p) ? work(p) : 10 * p->opt->tick_us;
    if (!p->ended)
        tm_timer_start(&p->timer, again_us, 0);
}

void tm_pacer_run(struct tm_pacer *p, struct tm_loop *loop)
{
    tm_timer_init(&p->timer, loop, on_tick, p);
    tm_timer_start(&p->timer, 0, 0);
}

void tm_pacer_fini(struct tm_pacer *p)
{
    tm_timer_stop(&p->timer);
}

void tm_pacer_start(struct tm_pacer *p)
{
    p->held = false;
    if (!p->begun)
        begin(p);
}

void tm_pacer_stop(struct tm_pacer *p)
{
    p->held = true;
}

const char *tm_pacer_state(const struct tm_pacer *p)
{
    if (p->ended)
        return "ended";
    if (p->held)
        return "held";
    if (tm_faults_last(p->faults, TM_FAULT_MAINTENANCE))
        return "maintenance";
    return p->begun ? "running" : "waiting";
}
