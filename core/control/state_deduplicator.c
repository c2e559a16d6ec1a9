/*
 * The fleet as the deduplicator sees it, through its pollers and production:
 *
 *     exchange    light: whether anybody hears it
 *     gatherers   [{id, state, light, why, store_light, age_ms, lag_ms, behind, rows_per_s, first_share, ...}]
 *     lease, catch_up
 *     shards      [{state, holder, behind, lag_ms}], where there are several
 *     merger      light, rows_per_s (polled), latency_ms: from arrival at a gatherer to COMMIT, of the last seconds
 *     production  connected, lag_ms, rows_per_s (written), light, ...
 *     copies      how many gatherers brought each record, of the last seconds; null: none came
 *     streams     [{name, shared, polled, written, duplicate, per_s, copies}]
 *     gaps        [{lane, reason, from_ms, to_ms, gaps, records}], a lane is a gatherer
 */
#include "control/state_private.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define SILENT_US (5 * TM_US_PER_S) /* heartbeats come five a second and are merged with the next transaction */
#define LAG_LATE_US (60 * TM_US_PER_S)
#define FIGURES_MAX 16 /* gatherers with figures of their own in the history */

typedef struct tm_deduplicator_gatherer_stats peer;

static const char *counter_of(const char *what, const char *name, char out[104])
{
    (void)snprintf(out, 104, "%s:%.70s", what, name);
    return out;
}

/* polled / written of what gatherers have in common; 0: nothing came. */
static double copies(const struct tm_state *s, const char *all, const char *first)
{
    double came = tm_history_rate(s->history, all, TM_STATE_COPIES_S);
    double firsts = tm_history_rate(s->history, first, TM_STATE_COPIES_S);
    return firsts > 0 ? came / firsts : 0;
}

/* ---- once a second ---- */

static void sample_peer(struct tm_state *s, const peer *p, bool with_figures, int64_t now_us)
{
    char name[104];
    tm_history_count(s->history, counter_of("rows", p->id, name), (double)p->polled, now_us);
    if (with_figures)
        tm_history_note(s->history, name, tm_history_rate(s->history, name, TM_STATE_RATE_S));
    tm_history_count(s->history, counter_of("shared", p->id, name), (double)p->shared, now_us);
    tm_history_count(s->history, counter_of("first", p->id, name), (double)p->shared_first, now_us);
}

static void sample_streams(struct tm_state *s, int64_t now_us)
{
    struct tm_deduplicator_stream_stats t;
    char name[104];
    for (size_t i = 0; tm_deduplicator_stream_stats(s->d->deduplicator, i, &t) == TM_OK; i++) {
        tm_history_count(s->history, counter_of("polled", t.name, name), (double)t.polled, now_us);
        tm_history_count(s->history, counter_of("written", t.name, name), (double)t.written, now_us);
    }
}

void tm_state_sample_deduplicator(struct tm_state *s, int64_t now_us)
{
    struct tm_deduplicator *d = s->d->deduplicator;
    struct tm_deduplicator_stats stats = tm_deduplicator_stats(d);
    struct tm_history *h = s->history;
    peer p;
    double polled = 0, written = 0, shared = 0, first = 0;
    for (size_t i = 0; tm_deduplicator_gatherer_stats(d, i, &p) == TM_OK; i++) {
        sample_peer(s, &p, i < FIGURES_MAX, now_us);
        polled += (double)p.polled;
        written += (double)p.written;
        shared += (double)p.shared;
        first += (double)p.shared_first;
    }
    sample_streams(s, now_us);
    tm_history_count(h, "polled", polled, now_us);
    tm_history_count(h, "written", written, now_us);
    tm_history_count(h, "shared", shared, now_us);
    tm_history_count(h, "first", first, now_us);
    tm_history_count(h, "latency_sum", tm_state_metric(s, "tidemill_received_to_production_seconds_sum"), now_us);
    tm_history_count(h, "latency_count", tm_state_metric(s, "tidemill_received_to_production_seconds_count"), now_us);
    tm_history_note(h, "polled", tm_history_rate(h, "polled", TM_STATE_RATE_S));
    tm_history_note(h, "written", tm_history_rate(h, "written", TM_STATE_RATE_S));
    tm_history_note(h, "lag_s", (double)stats.lag_us / TM_US_PER_S);
    double of_each = copies(s, "shared", "first");
    if (of_each > 0)
        tm_history_note(h, "copies", of_each);
}

/* ---- lights ---- */

struct judged {
    enum tm_state_light gatherer, store;
    char why[300];
};

static bool has_open_gap(const struct tm_state *s, const char *id, const char *reason)
{
    for (size_t i = 0; i < s->episode_count; i++) {
        const struct tm_gap_episode *e = &s->episodes[i];
        if (!e->to_us && strcmp(e->lane, id) == 0 && strcmp(e->reason, reason) == 0)
            return true;
    }
    return false;
}

static int64_t age_us(const peer *p)
{
    return p->last_row_us ? tm_clock_wall_us() - p->last_row_us : -1;
}

/* Whether silence says something: we merge, and nothing of it waits. */
static bool is_silent(const struct tm_deduplicator_stats *d, const peer *p)
{
    bool would_see = d->lease == TM_LEASE_HELD && d->production_connected && !p->behind && p->lag_us < TM_US_PER_S;
    return would_see && p->last_row_us && age_us(p) > SILENT_US;
}

static struct judged judge(const struct tm_state *s, const struct tm_deduplicator_stats *d, const peer *p)
{
    struct judged g = {TM_LIGHT_GREEN, TM_LIGHT_GREEN, ""};
    if (p->state == TM_PEER_CONNECTING) {
        g.gatherer = g.store = TM_LIGHT_GREY;
        (void)snprintf(g.why, sizeof g.why, "connecting to its store");
    } else if (p->state == TM_PEER_DOWN) {
        g.gatherer = g.store = TM_LIGHT_RED;
        (void)snprintf(g.why, sizeof g.why, "its store cannot be read: %s", p->last_error);
    } else if (p->state == TM_PEER_STOPPED) {
        g.store = TM_LIGHT_RED;
        (void)snprintf(g.why, sizeof g.why, "its history has a hole or a fork: %s", p->last_error);
    } else if (is_silent(d, p)) {
        g.gatherer = TM_LIGHT_RED;
        (void)snprintf(g.why, sizeof g.why, "silent: nothing new in its store for %" PRId64 " s",
                       age_us(p) / TM_US_PER_S);
    } else if (has_open_gap(s, p->id, "disconnected")) {
        g.gatherer = TM_LIGHT_AMBER;
        (void)snprintf(g.why, sizeof g.why, "connections to the exchange are down");
    } else if (p->lag_us > LAG_LATE_US) {
        g.gatherer = TM_LIGHT_AMBER;
        (void)snprintf(g.why, sizeof g.why, "production lags behind it");
    } else if (d->lease != TM_LEASE_HELD) {
        g.gatherer = TM_LIGHT_GREY;
        (void)snprintf(g.why, sizeof g.why, "its store is there; who merges knows more");
    }
    return g;
}

static enum tm_state_light judge_exchange(size_t count, const size_t lights[])
{
    size_t unheard = lights[TM_LIGHT_RED] + lights[TM_LIGHT_AMBER];
    return lights[TM_LIGHT_GREEN] ? TM_LIGHT_GREEN : unheard == count && count ? TM_LIGHT_RED : TM_LIGHT_GREY;
}

/* ---- the document ---- */

static void put_peer(struct tm_json *j, const struct tm_state *s, const peer *p, const struct judged *g, bool first)
{
    static const char *const lights[] = {"green", "amber", "red", "grey"};
    char name[104], other[104];
    double shared = tm_history_rate(s->history, counter_of("shared", p->id, name), TM_STATE_COPIES_S);
    double came_first = tm_history_rate(s->history, counter_of("first", p->id, other), TM_STATE_COPIES_S);
    int64_t age = age_us(p);
    tm_json_add(j, "%s{", first ? "" : ",");
    tm_json_add_string(j, "id", p->id);
    tm_json_add(j,
                ",\"state\":\"%s\",\"store_light\":\"%s\",\"polled\":%" PRIu64 ",\"written\":%" PRIu64
                ",\"duplicate\":%" PRIu64 ",\"quarantined\":%" PRIu64 ",\"behind\":%" PRIu64 ",\"lag_ms\":%" PRId64
                ",\"age_ms\":%" PRId64 ",\"first_share\":%.3f,",
                tm_peer_state_name(p->state), lights[g->store], p->polled, p->written, p->duplicate, p->quarantined,
                p->behind, p->lag_us / TM_US_PER_MS, age < 0 ? -1 : age / TM_US_PER_MS,
                shared > 0 ? came_first / shared : 0);
    tm_json_add_string(j, "last_error", p->last_error);
    tm_state_add_rate(j, s, "rows_per_s", counter_of("rows", p->id, name));
    tm_state_add_light(j, g->gatherer, g->why);
    tm_json_add(j, "}");
}

/* Counts the lights of the gatherers. */
static size_t put_peers(struct tm_json *j, const struct tm_state *s, const struct tm_deduplicator_stats *d,
                        size_t lights[])
{
    peer p;
    size_t count = 0;
    tm_json_add(j, ",\"gatherers\":[");
    for (; tm_deduplicator_gatherer_stats(s->d->deduplicator, count, &p) == TM_OK; count++) {
        struct judged g = judge(s, d, &p);
        put_peer(j, s, &p, &g, count == 0);
        lights[g.gatherer]++;
    }
    tm_json_add(j, "]");
    return count;
}

static void put_exchange(struct tm_json *j, size_t count, const size_t lights[])
{
    enum tm_state_light light = judge_exchange(count, lights);
    tm_json_add(j, ",\"exchange\":{\"heard_by\":%zu", lights[TM_LIGHT_GREEN]);
    tm_state_add_light(j, light,
                       light == TM_LIGHT_RED    ? "no gatherer hears all of it"
                       : light == TM_LIGHT_GREY ? "not known from here"
                                                : "");
    tm_json_add(j, "}");
}

static void put_merger(struct tm_json *j, const struct tm_state *s, const struct tm_deduplicator_stats *d)
{
    double count = tm_history_rate(s->history, "latency_count", TM_STATE_COPIES_S);
    double sum = tm_history_rate(s->history, "latency_sum", TM_STATE_COPIES_S);
    const char *why = d->lease == TM_LEASE_NONE      ? "it has no lease: production is away"
                      : d->lease == TM_LEASE_STANDBY ? "it stands by: another one writes"
                      : d->lag_us > LAG_LATE_US      ? "production lags behind the gatherers"
                                                     : "";
    tm_json_add(j, ",\"merger\":{\"latency_ms\":%.0f", count > 0 ? sum / count * 1000 : 0.0);
    tm_state_add_rate(j, s, "rows_per_s", "polled");
    tm_state_add_light(j,
                       d->lease == TM_LEASE_NONE      ? TM_LIGHT_RED
                       : d->lease == TM_LEASE_STANDBY ? TM_LIGHT_GREY
                       : *why                         ? TM_LIGHT_AMBER
                                                      : TM_LIGHT_GREEN,
                       why);
    tm_json_add(j, "},\"lease\":{\"state\":\"%s\",\"takeovers\":%" PRIu64 ",", tm_lease_state_name(d->lease),
                d->takeovers);
    tm_json_add_string(j, "holder", d->lease_holder);
    tm_json_add(j, ",\"shards\":%u,\"shards_held\":%u", d->shards, d->shards_held);
    tm_json_add(j, "},\"catch_up\":{\"rows_behind\":%" PRIu64 ",\"rows_per_s\":%" PRIu64 ",\"left_s\":%" PRId64 "}",
                d->rows_behind, d->rows_per_s, d->left_us / TM_US_PER_S);
}

static void put_shards(struct tm_json *j, const struct tm_state *s)
{
    struct tm_deduplicator_shard_stats t;
    tm_json_add(j, ",\"shards\":[");
    for (size_t i = 0; tm_deduplicator_shard_stats(s->d->deduplicator, i, &t) == TM_OK; i++) {
        tm_json_add(j, "%s{\"state\":\"%s\",\"behind\":%" PRIu64 ",\"lag_ms\":%" PRId64 ",", i ? "," : "",
                    tm_lease_state_name(t.lease), t.rows_behind, t.lag_us / TM_US_PER_MS);
        tm_json_add_string(j, "holder", t.holder);
        tm_json_add(j, "}");
    }
    tm_json_add(j, "]");
}

static void put_production(struct tm_json *j, const struct tm_state *s, const struct tm_deduplicator_stats *d)
{
    tm_json_add(j,
                ",\"production\":{\"connected\":%s,\"transactions\":%" PRIu64 ",\"conflicts\":%" PRIu64
                ",\"errors\":%" PRIu64 ",\"lag_ms\":%" PRId64 ",",
                d->production_connected ? "true" : "false", d->transactions, d->conflicts, d->production_errors,
                d->lag_us / TM_US_PER_MS);
    tm_json_add_string(j, "last_error", d->last_error);
    tm_json_add(j, ",\"trouble\":\"%s\",\"stalled_ms\":%" PRId64 ",\"replicated\":%s", tm_pg_class_name(d->trouble),
                d->stalled_us / TM_US_PER_MS, d->unreplicated ? "false" : "true");
    tm_state_add_rate(j, s, "rows_per_s", "written");
    tm_state_add_light(j, d->production_connected ? TM_LIGHT_GREEN : TM_LIGHT_RED,
                       d->production_connected ? "" : "it is away; the gatherers keep the records");
    tm_json_add(j, "}");
}

static void put_copies(struct tm_json *j, const char *name, double value)
{
    if (value > 0)
        tm_json_add(j, ",\"%s\":%.2f", name, value);
    else
        tm_json_add(j, ",\"%s\":null", name);
}

static void put_streams(struct tm_json *j, const struct tm_state *s)
{
    struct tm_deduplicator_stream_stats t;
    char polled[104], written[104];
    tm_json_add(j, ",\"streams\":[");
    for (size_t i = 0; tm_deduplicator_stream_stats(s->d->deduplicator, i, &t) == TM_OK; i++) {
        tm_json_add(j, "%s{", i ? "," : "");
        tm_json_add_string(j, "name", t.name);
        tm_json_add(j,
                    ",\"shared\":%s,\"polled\":%" PRIu64 ",\"written\":%" PRIu64 ",\"duplicate\":%" PRIu64
                    ",\"quarantined\":%" PRIu64,
                    t.shared ? "true" : "false", t.polled, t.written, t.duplicate, t.quarantined);
        tm_state_add_rate(j, s, "per_s", counter_of("written", t.name, written));
        put_copies(j, "copies", t.shared ? copies(s, counter_of("polled", t.name, polled), written) : 0);
        tm_json_add(j, "}");
    }
    tm_json_add(j, "]");
}

void tm_state_put_deduplicator(struct tm_state *s, struct tm_json *j)
{
    struct tm_deduplicator_stats d = tm_deduplicator_stats(s->d->deduplicator);
    size_t lights[4] = {0};
    tm_state_take_episodes(s, tm_deduplicator_gaps(s->d->deduplicator, s->gaps, TM_GAP_LOG_MAX));
    size_t count = put_peers(j, s, &d, lights);
    put_exchange(j, count, lights);
    put_merger(j, s, &d);
    put_shards(j, s);
    put_production(j, s, &d);
    put_copies(j, "copies", copies(s, "shared", "first"));
    put_streams(j, s);
    tm_state_add_gaps(j, s);
}
