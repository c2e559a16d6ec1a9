/*
 * A gatherer's seat, in the order of the data's way:
 *
 *     feed     links, links_up, frames, rows, ..., frames_per_s, rows_per_s, duplicates_per_s, light
 *     links    [{name, state, light, messages_per_s, rows, gaps, age_ms}]
 *     journal  appended, durable, disk_bytes, disk_bytes_max, ..., rows_per_s, light
 *     store    connected, rows, lag_ms, journal_lag_bytes, bytes, ..., rows_per_s, light
 *     streams  [{name, received, duplicate, stored, pending, per_s}]
 *     gaps     [{lane, reason, from_ms, to_ms, gaps, records}]
 */
#include "control/state_private.h"

#include "base/clock.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#define DURABLE_LATE_US (3 * TM_US_PER_S)
#define LAG_LATE_US (60 * TM_US_PER_S)
#define JOURNAL_FULL 0.8

/* ---- streams, from their metrics ---- */

struct row {
    char name[64];
    double received, duplicate, stored, pending;
};

struct rows {
    struct row list[TM_STREAMS_MAX];
    size_t count, field; /* offset in a row */
};

static struct row *row_of(struct rows *rows, const char *labels)
{
    char name[64];
    if (sscanf(labels, "stream=\"%63[^\"]\"", name) != 1)
        return NULL;
    for (size_t i = 0; i < rows->count; i++)
        if (strcmp(rows->list[i].name, name) == 0)
            return &rows->list[i];
    if (rows->count == TM_STREAMS_MAX)
        return NULL;
    struct row *r = &rows->list[rows->count++];
    (void)snprintf(r->name, sizeof r->name, "%s", name);
    return r;
}

static void take_value(void *arg, const struct tm_metric *metric, const char *labels, double value)
{
    struct rows *rows = arg;
    struct row *r = row_of(rows, labels);
    (void)metric;
    if (r)
        *(double *)((char *)r + rows->field) = value;
}

static void take_rows(const struct tm_state *s, struct rows *rows)
{
    static const struct {
        const char *metric;
        size_t field;
    } columns[] = {{"tidemill_rows_received_total", offsetof(struct row, received)},
                   {"tidemill_rows_duplicate_total", offsetof(struct row, duplicate)},
                   {"tidemill_store_rows_total", offsetof(struct row, stored)},
                   {"tidemill_rows_pending", offsetof(struct row, pending)}};
    *rows = (struct rows){0};
    for (size_t i = 0; i < sizeof columns / sizeof *columns; i++) {
        rows->field = columns[i].field;
        tm_metrics_each(s->d->services.metrics, columns[i].metric, take_value, rows);
    }
}

/* ---- once a second ---- */

static int64_t store_lag_us(const struct tm_gatherer_stats *g)
{
    int64_t since_us = g->store.last_row_received_us, now_us = tm_clock_wall_us();
    return g->store.journal_lag_bytes && since_us && now_us > since_us ? now_us - since_us : 0;
}

static void link_counter(const struct tm_gatherer_link_view *l, char out[104])
{
    (void)snprintf(out, 104, "link:%s", l->name);
}

static void sample_links(struct tm_state *s, int64_t now_us)
{
    char name[104];
    size_t count = tm_gatherer_links(s->d->services.gatherer, s->links, sizeof s->links / sizeof *s->links);
    for (size_t i = 0; i < count; i++) {
        link_counter(&s->links[i], name);
        tm_history_count(s->history, name, (double)s->links[i].stats.link.messages, now_us);
    }
}

static void sample_streams(struct tm_state *s, int64_t now_us)
{
    struct rows rows;
    char name[104];
    double received = 0, stored = 0, duplicate = 0;
    take_rows(s, &rows);
    for (size_t i = 0; i < rows.count; i++) {
        const struct row *r = &rows.list[i];
        (void)snprintf(name, sizeof name, "stream:%s", r->name);
        tm_history_count(s->history, name, r->received, now_us);
        received += r->received;
        stored += r->stored;
        duplicate += r->duplicate;
    }
    tm_history_count(s->history, "rows", received, now_us);
    tm_history_count(s->history, "stored", stored, now_us);
    tm_history_count(s->history, "duplicates", duplicate, now_us);
}

void tm_state_sample_gatherer(struct tm_state *s, int64_t now_us)
{
    struct tm_gatherer_stats g = tm_gatherer_stats(s->d->services.gatherer);
    sample_links(s, now_us);
    sample_streams(s, now_us);
    tm_history_count(s->history, "frames", (double)g.frames, now_us);
    tm_history_count(s->history, "durable", (double)g.journal.durable, now_us);
    tm_history_note(s->history, "rows", tm_history_rate(s->history, "rows", TM_STATE_RATE_S));
    tm_history_note(s->history, "stored", tm_history_rate(s->history, "stored", TM_STATE_RATE_S));
    tm_history_note(s->history, "lag_s", (double)store_lag_us(&g) / TM_US_PER_S);
}

/* ---- the document ---- */

static void put_feed(struct tm_json *j, const struct tm_state *s, const struct tm_gatherer_stats *g)
{
    char why[80] = "";
    enum tm_state_light light = !g->links                ? TM_LIGHT_GREY
                                : !g->links_up           ? TM_LIGHT_RED
                                : g->links_up < g->links ? TM_LIGHT_AMBER
                                                         : TM_LIGHT_GREEN;
    if (light == TM_LIGHT_GREY)
        (void)snprintf(why, sizeof why, "no connection was asked for");
    else if (light != TM_LIGHT_GREEN)
        (void)snprintf(why, sizeof why, "%zu of %zu connections are down", g->links - g->links_up, g->links);
    tm_json_add(j,
                ",\"feed\":{\"links\":%zu,\"links_up\":%zu,\"frames\":%" PRIu64 ",\"rows\":%" PRIu64
                ",\"duplicates\":%" PRIu64 ",\"unknown\":%" PRIu64 ",\"malformed\":%" PRIu64 ",\"discarded\":%" PRIu64
                ",\"gaps\":%" PRIu64 ",\"last_message_age_ms\":%" PRId64,
                g->links, g->links_up, g->frames, g->rows, g->duplicates, g->unknown, g->malformed, g->discarded,
                g->gaps, g->last_message_age_us / TM_US_PER_MS);
    tm_state_add_rate(j, s, "frames_per_s", "frames");
    tm_state_add_rate(j, s, "rows_per_s", "rows");
    tm_state_add_rate(j, s, "duplicates_per_s", "duplicates");
    tm_state_add_light(j, light, why);
    tm_json_add(j, "}");
}

static void put_link(struct tm_json *j, const struct tm_state *s, const struct tm_gatherer_link_view *l, bool first)
{
    char counter[104];
    const struct tm_link_stats *k = &l->stats.link;
    link_counter(l, counter);
    tm_json_add(j, "%s{", first ? "" : ",");
    tm_json_add_string(j, "name", l->name);
    tm_json_add(j, ",\"state\":\"%s\",\"light\":\"%s\",\"rows\":%" PRIu64 ",\"gaps\":%" PRIu64 ",\"age_ms\":%" PRId64,
                tm_link_state_name(k->state), k->state == TM_LINK_UP ? "green" : "red", l->stats.rows, l->stats.gaps,
                k->last_message_us ? (tm_clock_mono_us() - k->last_message_us) / TM_US_PER_MS : -1);
    tm_state_add_rate(j, s, "messages_per_s", counter);
    tm_json_add(j, "}");
}

static void put_links(struct tm_json *j, struct tm_state *s)
{
    size_t count = tm_gatherer_links(s->d->services.gatherer, s->links, sizeof s->links / sizeof *s->links);
    size_t told = 0;
    tm_json_add(j, ",\"links\":[");
    for (int up = 0; up < 2; up++)
        for (size_t i = 0; i < count && told < TM_STATE_LINKS_MAX; i++)
            if ((s->links[i].stats.link.state == TM_LINK_UP) == (up == 1))
                put_link(j, s, &s->links[i], told++ == 0);
    tm_json_add(j, "]");
}

static void put_journal(struct tm_json *j, const struct tm_state *s, const struct tm_gatherer_stats *g)
{
    bool late = g->journal.appended > g->journal.durable && g->last_durable_age_us > DURABLE_LATE_US;
    bool fills = (double)g->journal.disk_bytes > JOURNAL_FULL * (double)g->journal.disk_bytes_max;
    const char *why = g->discarding                ? "it takes no rows: records are discarded"
                      : g->journal.stalled || late ? "records do not become durable: look at its disk"
                      : fills                      ? "it fills up: look at the store"
                                                   : "";
    tm_json_add(j,
                ",\"journal\":{\"appended\":%" PRIu64 ",\"durable\":%" PRIu64 ",\"disk_bytes\":%" PRIu64
                ",\"disk_bytes_max\":%" PRIu64 ",\"last_durable_age_ms\":%" PRId64 ",\"stalled\":%s",
                g->journal.appended, g->journal.durable, g->journal.disk_bytes, g->journal.disk_bytes_max,
                g->last_durable_age_us / TM_US_PER_MS, g->journal.stalled ? "true" : "false");
    tm_state_add_rate(j, s, "rows_per_s", "durable");
    tm_state_add_light(j,
                       g->discarding || g->journal.stalled || late ? TM_LIGHT_RED
                       : fills                                     ? TM_LIGHT_AMBER
                                                                   : TM_LIGHT_GREEN,
                       why);
    tm_json_add(j, "}");
}

static void put_store(struct tm_json *j, const struct tm_state *s, const struct tm_gatherer_stats *g)
{
    int64_t lag_us = store_lag_us(g);
    const char *why = !g->store.connected    ? "it is away; the journal keeps the records"
                      : lag_us > LAG_LATE_US ? "it lags; the journal keeps the records"
                                             : "";
    tm_json_add(j,
                ",\"store\":{\"connected\":%s,\"rows\":%" PRIu64 ",\"batches\":%" PRIu64 ",\"errors\":%" PRIu64
                ",\"quarantined\":%" PRIu64 ",\"journal_lag_bytes\":%" PRIu64 ",\"lag_ms\":%" PRId64 ",\"bytes\":%.0f,",
                g->store.connected ? "true" : "false", g->store.rows, g->store.batches, g->store.errors,
                g->store.quarantined, g->store.journal_lag_bytes, lag_us / TM_US_PER_MS,
                tm_state_metric(s, "tidemill_store_bytes"));
    tm_json_add_string(j, "last_error", g->store.last_error);
    tm_state_add_rate(j, s, "rows_per_s", "stored");
    tm_state_add_light(j, !g->store.connected ? TM_LIGHT_RED : *why ? TM_LIGHT_AMBER : TM_LIGHT_GREEN, why);
    tm_json_add(j, "}");
}

static void put_streams(struct tm_json *j, const struct tm_state *s)
{
    struct rows rows;
    char counter[104];
    take_rows(s, &rows);
    tm_json_add(j, ",\"streams\":[");
    for (size_t i = 0; i < rows.count; i++) {
        const struct row *r = &rows.list[i];
        (void)snprintf(counter, sizeof counter, "stream:%s", r->name);
        tm_json_add(j, "%s{", i ? "," : "");
        tm_json_add_string(j, "name", r->name);
        tm_json_add(j, ",\"received\":%.0f,\"duplicate\":%.0f,\"stored\":%.0f,\"pending\":%.0f", r->received,
                    r->duplicate, r->stored, r->pending);
        tm_state_add_rate(j, s, "per_s", counter);
        tm_json_add(j, "}");
    }
    tm_json_add(j, "]");
}

void tm_state_put_gatherer(struct tm_state *s, struct tm_json *j)
{
    struct tm_gatherer_stats g = tm_gatherer_stats(s->d->services.gatherer);
    put_feed(j, s, &g);
    put_links(j, s);
    put_journal(j, s, &g);
    put_store(j, s, &g);
    put_streams(j, s);
    tm_state_take_episodes(s, tm_gatherer_gaps(s->d->services.gatherer, s->gaps, TM_GAP_LOG_MAX));
    tm_state_add_gaps(j, s);
}
