#include "engine/watch.h"
#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define START_US (60 * TM_US_PER_S) /* links made later than this have no earlier life */
#define WINDOW_US (10 * TM_US_PER_S)
#define WINDOWS_PER_MINUTE 6

/* Bad or good, and since when. */
struct edge {
    bool told;     /* bad, as far as others know */
    bool was_good; /* ever */
    bool turning;  /* the state differs from what was told, since: */
    int64_t since_us, since_wall_us;
    int64_t from_us, to_us; /* Unix, of the last bad time */
};

enum turn { NO_TURN, TURNED_BAD, TURNED_GOOD };

struct link_state {
    bool known;
    char name[96];
    uint64_t ups, messages, gaps;
    int64_t last_message_us; /* Unix, as of the last snapshot */
    struct edge edge;
    const char *outage; /* its reason; NULL: none */
    int64_t from_us;
    uint64_t mark;   /* messages from which on data flows again */
    int64_t data_us; /* monotonic: it does since then; 0: not yet */
    int64_t to_us;
};

struct tm_watch {
    struct tm_watch_limits limits; /* of this step, without zeros */
    int64_t started_us, born_us;
    struct link_state *links;
    struct edge all, store, production, disk, journal;
    struct edge peers[TM_WATCH_GATHERERS_MAX];
    uint64_t store_rebuilds;
    char identity[128];
    int lag_level;
    int64_t lag_from_us, lag_worst_us;
    uint64_t unknown_at;
    int64_t window_us;
    bool many_unknown, unknown_known;
    /* of this step */
    const struct tm_watch_snapshot *s;
    void (*emit)(void *arg, const struct tm_watch_event *event);
    void *arg;
};

const char *tm_watch_type_name(enum tm_watch_type type)
{
    static const char *const names[TM_WATCH_TYPES] = {
        "connection_down",  "connection_up", "all_connections_down",
        "connections_back", "outage_over",   "store_down",
        "store_back",       "store_rebuilt", "production_down",
        "production_back",  "failover",      "gatherer_down",
        "gatherer_back",    "lag",           "lag_over",
        "disk_low",         "disk_fine",     "unknown_frames",
    };
    return names[type];
}

struct tm_watch *tm_watch_create(int64_t now_us, int64_t born_us)
{
    struct tm_watch *w = calloc(1, sizeof *w);
    TM_FATAL_UNLESS(w);
    w->links = calloc(TM_WATCH_LINKS_MAX, sizeof *w->links);
    TM_FATAL_UNLESS(w->links);
    w->started_us = now_us;
    w->born_us = born_us;
    return w;
}

void tm_watch_destroy(struct tm_watch *w)
{
    if (!w)
        return;
    free(w->links);
    free(w);
}

static int64_t or_us(int64_t us, int64_t fallback)
{
    return us > 0 ? us : fallback;
}

static struct tm_watch_limits whole(const struct tm_watch_limits *l)
{
    return (struct tm_watch_limits){
        .down_us = or_us(l->down_us, TM_US_PER_S),
        .up_us = or_us(l->up_us, TM_US_PER_S),
        .settle_us = or_us(l->settle_us, TM_US_PER_S),
        .grace_us = or_us(l->grace_us, 15 * TM_US_PER_S),
        .lag_us = {or_us(l->lag_us[0], 30 * TM_US_PER_S), or_us(l->lag_us[1], 300 * TM_US_PER_S)},
        .disk_bytes = l->disk_bytes ? l->disk_bytes : UINT64_C(2) << 30,
        .journal_fill = l->journal_fill > 0 ? l->journal_fill : 0.8,
        .unknown_per_minute = l->unknown_per_minute > 0 ? l->unknown_per_minute : 60,
    };
}

static void tell(struct tm_watch *w, struct tm_watch_event event)
{
    w->emit(w->arg, &event);
}

/* ---- edges ---- */

/* `good_us`: when it was last known to be good, Unix; 0: now. */
static enum turn turn(struct tm_watch *w, struct edge *e, bool bad, int64_t good_us)
{
    if (bad == e->told) {
        e->turning = false;
        e->was_good |= !bad;
        return NO_TURN;
    }
    if (!e->turning) {
        e->turning = true;
        e->since_us = w->s->now_us;
        e->since_wall_us = bad && good_us ? good_us : w->s->wall_us;
    }
    int64_t hold_us = bad ? w->limits.down_us : w->limits.up_us;
    if (bad && !e->was_good && w->limits.grace_us > hold_us)
        hold_us = w->limits.grace_us;
    if (w->s->now_us - e->since_us < hold_us)
        return NO_TURN;
    e->told = bad;
    e->turning = false;
    e->was_good |= !bad;
    *(bad ? &e->from_us : &e->to_us) = e->since_wall_us;
    return bad ? TURNED_BAD : TURNED_GOOD;
}

/* The pair of events of an edge. */
static void tell_edge(struct tm_watch *w, struct edge *e, bool bad, enum tm_watch_type down, enum tm_watch_type up,
                      struct tm_watch_event event)
{
    enum turn t = turn(w, e, bad, 0);
    if (t == NO_TURN)
        return;
    event.type = t == TURNED_BAD ? down : up;
    event.from_us = e->from_us;
    event.to_us = t == TURNED_GOOD ? e->to_us : 0;
    tell(w, event);
}

/* ---- links ---- */

static void meet_link(struct tm_watch *w, struct link_state *k, const struct tm_watch_link *l)
{
    *k = (struct link_state){.known = true, .ups = l->ups, .messages = l->messages, .gaps = l->gaps};
    (void)snprintf(k->name, sizeof k->name, "%s", l->name);
    if (!w->born_us || w->s->now_us - w->started_us > START_US)
        return;
    k->outage = "start";
    k->from_us = w->born_us;
    k->mark = l->messages;
}

/* From now back to when it was last whole, nothing is sure; later trouble makes one outage longer. */
static void note_trouble(struct tm_watch *w, struct link_state *k, const struct tm_watch_link *l)
{
    bool cut = l->ups > k->ups && k->ups > 0;
    bool away = !l->up && k->ups > 0;
    bool gap = l->gaps > k->gaps && !away && !cut;
    if (!cut && !away && !gap)
        return;
    if (!k->outage) {
        k->outage = gap ? "gap" : "disconnected";
        k->from_us = k->last_message_us ? k->last_message_us : w->s->wall_us;
    }
    k->data_us = 0;
    k->mark = gap ? l->messages - 1 : l->messages; /* a hole is seen by the frame behind it: data flows already */
}

static void end_outage(struct tm_watch *w, struct link_state *k, const struct tm_watch_link *l)
{
    if (!k->outage || !l->up)
        return;
    if (!k->data_us && l->messages > k->mark) {
        k->data_us = w->s->now_us;
        k->to_us = w->s->wall_us;
    }
    if (!k->data_us || w->s->now_us - k->data_us < w->limits.settle_us)
        return;
    tell(w, (struct tm_watch_event){.type = TM_WATCH_OUTAGE_OVER,
                                    .link = l->number,
                                    .name = k->name,
                                    .text = k->outage,
                                    .from_us = k->from_us,
                                    .to_us = k->to_us});
    k->outage = NULL;
    k->data_us = 0;
}

static void tell_link(struct tm_watch *w, struct link_state *k, const struct tm_watch_link *l)
{
    enum turn t = turn(w, &k->edge, !l->up, k->last_message_us);
    if (t == NO_TURN)
        return;
    tell(w, (struct tm_watch_event){.type = t == TURNED_BAD ? TM_WATCH_CONNECTION_DOWN : TM_WATCH_CONNECTION_UP,
                                    .link = l->number,
                                    .name = k->name,
                                    .from_us = k->edge.from_us,
                                    .to_us = t == TURNED_GOOD ? k->edge.to_us : 0});
}

static void step_link(struct tm_watch *w, const struct tm_watch_link *l)
{
    if (l->number < 0 || l->number >= TM_WATCH_LINKS_MAX)
        return;
    struct link_state *k = &w->links[l->number];
    if (!k->known || strncmp(k->name, l->name, sizeof k->name - 1) != 0)
        meet_link(w, k, l);
    note_trouble(w, k, l);
    tell_link(w, k, l);
    end_outage(w, k, l);
    k->ups = l->ups;
    k->messages = l->messages;
    k->gaps = l->gaps;
    k->last_message_us = l->last_message_us;
}

static void step_links(struct tm_watch *w)
{
    size_t up = 0;
    int64_t last_us = 0;
    for (size_t i = 0; i < w->s->link_count; i++) {
        const struct tm_watch_link *l = &w->s->links[i];
        up += l->up;
        last_us = l->last_message_us > last_us ? l->last_message_us : last_us;
    }
    /* the whole before its parts: who answers it can tell the others that they need not */
    enum turn t = turn(w, &w->all, w->s->link_count && !up, last_us);
    if (t != NO_TURN)
        tell(w, (struct tm_watch_event){.type =
                                            t == TURNED_BAD ? TM_WATCH_ALL_CONNECTIONS_DOWN : TM_WATCH_CONNECTIONS_BACK,
                                        .link = -1,
                                        .from_us = w->all.from_us,
                                        .to_us = t == TURNED_GOOD ? w->all.to_us : 0});
    for (size_t i = 0; i < w->s->link_count; i++)
        step_link(w, &w->s->links[i]);
}

/* ---- the gatherer's store and disk ---- */

static void step_store(struct tm_watch *w)
{
    tell_edge(w, &w->store, !w->s->store_connected, TM_WATCH_STORE_DOWN, TM_WATCH_STORE_BACK,
              (struct tm_watch_event){.link = -1, .text = w->s->store_connected ? NULL : w->s->store_error});
    if (w->s->store_rebuilds == w->store_rebuilds)
        return;
    w->store_rebuilds = w->s->store_rebuilds;
    tell(w, (struct tm_watch_event){
                .type = TM_WATCH_STORE_REBUILT, .link = -1, .text = w->s->store_is_new ? "new" : "lost"});
}

/* Low below the limit, fine a tenth above it: a disk at the limit is told once. */
static void step_room(struct tm_watch *w, struct edge *e, const char *name, double free_bytes, double limit)
{
    bool low = e->told ? free_bytes < limit * 1.1 : free_bytes < limit;
    tell_edge(w, e, low, TM_WATCH_DISK_LOW, TM_WATCH_DISK_FINE,
              (struct tm_watch_event){.link = -1, .name = name, .value = free_bytes, .limit = limit});
}

static void step_disk(struct tm_watch *w)
{
    const struct tm_watch_snapshot *s = w->s;
    if (s->disk_known)
        step_room(w, &w->disk, "disk", (double)s->disk_free_bytes, (double)w->limits.disk_bytes);
    if (s->journal_bytes_max)
        step_room(w, &w->journal, "journal", (double)s->journal_bytes_max - (double)s->journal_bytes,
                  (double)s->journal_bytes_max * (1 - w->limits.journal_fill));
}

/* At once when a window has too many; quiet again after a window with less than half of that. */
static void step_unknown(struct tm_watch *w)
{
    const struct tm_watch_snapshot *s = w->s;
    if (!w->unknown_known) {
        w->unknown_known = true;
        w->window_us = s->now_us;
    }
    double rate = (double)(s->unknown - w->unknown_at) * WINDOWS_PER_MINUTE;
    if (rate >= w->limits.unknown_per_minute && !w->many_unknown) {
        w->many_unknown = true;
        tell(w, (struct tm_watch_event){
                    .type = TM_WATCH_UNKNOWN_FRAMES, .link = -1, .value = rate, .limit = w->limits.unknown_per_minute});
    }
    if (s->now_us - w->window_us < WINDOW_US)
        return;
    w->many_unknown &= rate >= w->limits.unknown_per_minute / 2;
    w->window_us = s->now_us;
    w->unknown_at = s->unknown;
}

/* ---- the deduplicator's production and gatherers ---- */

static void step_production(struct tm_watch *w)
{
    const struct tm_watch_snapshot *s = w->s;
    tell_edge(w, &w->production, !s->production_connected, TM_WATCH_PRODUCTION_DOWN, TM_WATCH_PRODUCTION_BACK,
              (struct tm_watch_event){.link = -1, .text = s->production_connected ? NULL : s->production_error});
    if (!s->production_identity || !*s->production_identity || strcmp(s->production_identity, w->identity) == 0)
        return;
    if (*w->identity)
        tell(w, (struct tm_watch_event){
                    .type = TM_WATCH_FAILOVER, .link = -1, .name = s->production_identity, .text = w->identity});
    (void)snprintf(w->identity, sizeof w->identity, "%s", s->production_identity);
}

static void step_peers(struct tm_watch *w)
{
    for (size_t i = 0; i < w->s->peer_count && i < TM_WATCH_GATHERERS_MAX; i++) {
        const struct tm_watch_peer *p = &w->s->peers[i];
        tell_edge(w, &w->peers[i], !p->connected, TM_WATCH_GATHERER_DOWN, TM_WATCH_GATHERER_BACK,
                  (struct tm_watch_event){.link = -1, .name = p->id, .text = p->connected ? NULL : p->why});
    }
}

/* ---- lag ---- */

static int level_of(const struct tm_watch_limits *limits, int64_t lag_us)
{
    return (lag_us > limits->lag_us[0]) + (lag_us > limits->lag_us[1]);
}

static void step_lag(struct tm_watch *w)
{
    int64_t lag_us = w->s->lag_us;
    int level = level_of(&w->limits, lag_us);
    w->lag_worst_us = lag_us > w->lag_worst_us ? lag_us : w->lag_worst_us;
    if (level > w->lag_level) {
        if (!w->lag_level)
            w->lag_from_us = w->s->wall_us;
        w->lag_level = level;
        tell(w, (struct tm_watch_event){.type = TM_WATCH_LAG,
                                        .link = -1,
                                        .from_us = w->lag_from_us,
                                        .value = (double)lag_us / 1e6,
                                        .limit = (double)w->limits.lag_us[level - 1] / 1e6,
                                        .level = level});
    } else if (w->lag_level && lag_us < w->limits.lag_us[0] / 2) {
        tell(w, (struct tm_watch_event){.type = TM_WATCH_LAG_OVER,
                                        .link = -1,
                                        .from_us = w->lag_from_us,
                                        .to_us = w->s->wall_us,
                                        .value = (double)w->lag_worst_us / 1e6,
                                        .limit = (double)w->limits.lag_us[0] / 1e6});
        w->lag_level = 0;
    }
    if (!w->lag_level)
        w->lag_worst_us = 0;
}

void tm_watch_step(struct tm_watch *w, const struct tm_watch_snapshot *s, const struct tm_watch_limits *limits,
                   void (*emit)(void *arg, const struct tm_watch_event *event), void *arg)
{
    w->limits = whole(limits);
    w->s = s;
    w->emit = emit;
    w->arg = arg;
    if (s->is_gatherer) {
        step_links(w);
        step_store(w);
        step_disk(w);
        step_unknown(w);
    } else {
        step_production(w);
        step_peers(w);
    }
    step_lag(w);
}
