#include "engine/deduplicator.h"
#include "base/clock.h"
#include "engine/dedup_settings.h"
#include "engine/clerk.h"
#include "engine/exporter.h"
#include "engine/merge.h"
#include "record/keys.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

const char *tm_peer_state_name(enum tm_peer_state state)
{
    static const char *const names[] = {"connecting", "connected", "disconnected", "stopped"};
    return names[state];
}

const char *tm_lease_state_name(enum tm_lease_state state)
{
    static const char *const names[] = {"none", "standby", "held"};
    return names[state];
}

/* ---- between pollers and merger ---- */

bool tm_dedup_take_orders(struct tm_peer *peer, struct tm_dedup_orders *orders)
{
    struct tm_deduplicator *d = peer->d;
    struct tm_dedup_settings *before = NULL;
    bool changed = false;
    pthread_mutex_lock(&d->lock);
    if (d->generation && d->adopted && d->adopted->number >= peer->since) {
        changed = d->generation != orders->generation && tm_cursors_copy(&orders->cursors, &d->cursors) == TM_OK;
        if (changed)
            orders->generation = d->generation;
        if (orders->generation == d->generation && orders->settings != d->adopted) {
            before = orders->settings;
            orders->settings = tm_dedup_settings_take(d->adopted);
        }
    }
    pthread_mutex_unlock(&d->lock);
    tm_dedup_settings_put(before);
    return changed;
}

void tm_dedup_batch_done(struct tm_deduplicator *d, const struct tm_batch *b)
{
    struct tm_peer *peer = b->peer;
    pthread_mutex_lock(&d->lock);
    peer->outstanding--;
    peer->queued_rows -= b->count;
    /* the rest arrived later than what is done: its end is the oldest that can still be waiting */
    peer->oldest_us = peer->outstanding ? b->received_max_us : 0;
    pthread_mutex_unlock(&d->lock);
}

void tm_dedup_note_newest(struct tm_deduplicator *d, const char *stream, int64_t us)
{
    tm_newest_note(tm_newest_entry(&d->newest, stream), us);
}

int64_t tm_deduplicator_newest_us(const struct tm_deduplicator *d, size_t stream)
{
    return tm_newest_get(&d->newest, tm_plan_stream(d->settings->options.plan, stream)->name);
}

/* ---- statistics ---- */

/* How long ago the oldest row arrived that is not in production yet; while production is away, how long that
 * is at least. */
static int64_t peer_lag_us(const struct tm_deduplicator *d, const struct tm_peer *peer, int64_t now_us)
{
    int64_t since_us = peer->oldest_us;
    if (d->down_since_us && (!since_us || d->down_since_us < since_us))
        since_us = d->down_since_us;
    return since_us && now_us > since_us ? now_us - since_us : 0;
}

static int64_t worst_lag_us(const struct tm_deduplicator *d)
{
    int64_t now_us = tm_clock_wall_us(), worst_us = 0;
    for (size_t i = 0; i < d->settings->options.gatherer_count; i++) {
        int64_t lag_us = peer_lag_us(d, d->settings->peers[i], now_us);
        worst_us = lag_us > worst_us ? lag_us : worst_us;
    }
    return worst_us;
}

uint64_t tm_dedup_rows_behind(struct tm_deduplicator *d)
{
    uint64_t rows = 0;
    pthread_mutex_lock(&d->lock);
    for (size_t i = 0; i < d->settings->options.gatherer_count; i++)
        rows += d->settings->peers[i]->queued_rows + d->settings->peers[i]->unread_rows;
    pthread_mutex_unlock(&d->lock);
    return rows;
}

void tm_dedup_publish_lag(struct tm_deduplicator *d)
{
    pthread_mutex_lock(&d->lock);
    int64_t lag_us = worst_lag_us(d);
    pthread_mutex_unlock(&d->lock);
    tm_metric_set(d->lag, (double)lag_us / 1e6);
}

struct tm_deduplicator_stats tm_deduplicator_stats(struct tm_deduplicator *d)
{
    pthread_mutex_lock(&d->lock);
    struct tm_deduplicator_stats s = d->stats;
    s.gatherer_count = d->settings->options.gatherer_count;
    s.lag_us = worst_lag_us(d);
    s.stalled_us = d->stalled_since_us ? tm_clock_mono_us() - d->stalled_since_us : 0;
    pthread_mutex_unlock(&d->lock);
    s.unreplicated = atomic_load(&d->unreplicated);
    s.rows_behind = s.lease == TM_LEASE_STANDBY ? 0 : tm_dedup_rows_behind(d);
    tm_metric_set(d->lag, (double)s.lag_us / 1e6);
    return s;
}

int tm_deduplicator_gatherer_stats(struct tm_deduplicator *d, size_t index, struct tm_deduplicator_gatherer_stats *out)
{
    struct tm_dedup_settings *settings = tm_dedup_settings_newest(d);
    bool known = index < settings->options.gatherer_count;
    if (known) {
        const struct tm_peer *peer = settings->peers[index];
        pthread_mutex_lock(&d->lock);
        *out = peer->stats;
        out->behind = peer->queued_rows + peer->unread_rows;
        out->lag_us = peer_lag_us(d, peer, tm_clock_wall_us());
        pthread_mutex_unlock(&d->lock);
    }
    tm_dedup_settings_put(settings);
    return known ? TM_OK : TM_ENOENT;
}

int tm_deduplicator_stream_stats(struct tm_deduplicator *d, size_t index, struct tm_deduplicator_stream_stats *out)
{
    struct tm_dedup_settings *settings = tm_dedup_settings_newest(d);
    bool known = index < tm_plan_stream_count(settings->options.plan);
    if (known) {
        const struct tm_stream *stream = tm_plan_stream(settings->options.plan, index);
        const struct tm_stream_metrics *m = &settings->streams[index];
        *out = (struct tm_deduplicator_stream_stats){.shared = tm_stream_is_fingerprinted(stream),
                                                     .polled = (uint64_t)tm_metric_get(m->polled),
                                                     .written = (uint64_t)tm_metric_get(m->written),
                                                     .duplicate = (uint64_t)tm_metric_get(m->duplicate),
                                                     .quarantined = (uint64_t)tm_metric_get(m->quarantined)};
        (void)snprintf(out->name, sizeof out->name, "%s", stream->name);
    }
    tm_dedup_settings_put(settings);
    return known ? TM_OK : TM_ENOENT;
}

size_t tm_deduplicator_gaps(struct tm_deduplicator *d, struct tm_gap_note *out, size_t max)
{
    return tm_gap_log_read(d->gap_log, out, max);
}

void tm_deduplicator_tidy(struct tm_deduplicator *d)
{
    tm_peers_reap(d);
}

/* ---- start and stop ---- */

static void make_failure_metrics(struct tm_deduplicator *d, struct tm_metrics *m)
{
    static const enum tm_pg_class classes[] = {TM_PG_RECONNECT, TM_PG_RETRY, TM_PG_STOP};
    for (size_t i = 0; i < sizeof classes / sizeof *classes; i++) {
        char labels[32];
        (void)snprintf(labels, sizeof labels, "class=\"%s\"", tm_pg_class_name(classes[i]));
        d->failures[classes[i]] = tm_metrics_counter(m, "dedup_production_failures_total",
                                                     "Attempts to write to production that failed, by what is done "
                                                     "about it: reconnect, retry in the same session, stop.",
                                                     labels);
    }
    d->stopped = tm_metrics_gauge(m, "dedup_production_stopped",
                                  "1 while production refuses what this process does, until a person mends it: schema, "
                                  "rights, corruption.",
                                  NULL);
    d->replicated = tm_metrics_gauge(m, "dedup_production_replicated",
                                     "0 while production's synchronous standby does not answer and commits are on the "
                                     "primary alone.",
                                     NULL);
    tm_metric_set(d->replicated, 1);
}

static void make_metrics(struct tm_deduplicator *d, struct tm_metrics *m)
{
    make_failure_metrics(d, m);
    d->lag = tm_metrics_gauge(m, "dedup_sync_lag_seconds",
                              "Age of the oldest record that a gatherer has and production has not.", NULL);
    d->behind =
        tm_metrics_gauge(m, "dedup_rows_behind", "Rows that gatherers have stored and production has not.", NULL);
    d->connected = tm_metrics_gauge(m, "dedup_rds_connected", "1 while production is connected.", NULL);
    d->errors = tm_metrics_counter(m, "rds_connection_errors_total", "Sessions with production that failed.", NULL);
    d->absent_lost = tm_metrics_counter(m, "dedup_absent_rows_total", "Rows stepped over that gatherers have no more.",
                                        "reason=\"lost\"");
    d->absent_released = tm_metrics_counter(m, "dedup_absent_rows_total",
                                            "Rows stepped over that gatherers have no more.", "reason=\"released\"");
    d->holes = tm_metrics_counter(m, "tidemill_poll_holes_total",
                                  "Streams of gatherers that were refused: holes, forks, other columns.", NULL);
    d->conflicts = tm_metrics_counter(m, "tidemill_copy_conflicts_total",
                                      "COPYs that met rows already there and were staged.", NULL);
    d->commit_seconds =
        tm_metrics_histogram(m, "tidemill_production_commit_seconds", "Duration of transactions in production.", NULL);
    d->store_latency =
        tm_metrics_histogram(m, "tidemill_store_to_production_seconds",
                             "From COMMIT in a gatherer's store to COMMIT in production, by the clocks of "
                             "both; newest row of each batch.",
                             NULL);
    d->latency = tm_metrics_histogram(m, "tidemill_received_to_production_seconds",
                                      "From arrival at a gatherer to COMMIT in production.", NULL);
    d->lease_held = tm_metrics_gauge(m, "dedup_lease_held", "1 while this process is the one that writes.", NULL);
    d->standby = tm_metrics_gauge(m, "dedup_standby", "1 while another process writes and this one waits.", NULL);
    d->takeovers = tm_metrics_counter(m, "dedup_lease_takeovers_total",
                                      "Leases taken from a holder that had not given it back.", NULL);
    d->leases_lost = tm_metrics_counter(m, "dedup_lease_lost_total", "Leases that another process took.", NULL);
    d->takeover_seconds = tm_metrics_histogram(m, "dedup_lease_takeover_seconds",
                                               "From the end of a lease to the moment it was taken over.", NULL);
    d->lease_since = tm_metrics_gauge(m, "dedup_lease_changed_timestamp_seconds",
                                      "When dedup_lease_held or dedup_standby last changed, Unix time.", NULL);
    d->seen_keys = tm_metrics_gauge(m, "tidemill_seen_keys", "Keys in the seen-sets.", NULL);
    d->seen_bytes = tm_metrics_gauge(m, "tidemill_seen_bytes", "Memory of the seen-sets.", NULL);
}

int tm_deduplicator_start(const struct tm_deduplicator_options *options, struct tm_deduplicator **out,
                          struct tm_error *err)
{
    int rc = tm_deduplicator_check(options, err);
    if (rc)
        return rc;
    struct tm_deduplicator *d = calloc(1, sizeof *d);
    TM_FATAL_UNLESS(d);
    d->id = strdup(options->id);
    TM_FATAL_UNLESS(d->id);
    d->metrics = options->metrics;
    d->taps = options->taps;
    tm_hash_key_init(&d->hash_key);
    TM_FATAL_UNLESS(tm_stop_init(&d->quit) == TM_OK && tm_stop_init(&d->merger_stop) == TM_OK);
    d->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    TM_FATAL_UNLESS(d->ready_fd >= 0);
    pthread_mutex_init(&d->lock, NULL);
    d->down_since_us = tm_clock_wall_us();
    d->stats.started_us = tm_clock_mono_us();
    make_metrics(d, options->metrics);
    d->gap_log = tm_gap_log_create();
    d->settings = tm_dedup_settings_create(d, options);
    rc = tm_keeper_start(&d->quit, &d->keeper, err);
    rc = rc ? rc : tm_merger_start(d, err);
    rc = rc ? rc : tm_peers_start(d, d->settings, err);
    rc = rc ? rc : tm_clerk_start(d, &d->clerk, err);
    rc = rc ? rc : tm_exporter_start(d, &d->exporter, err);
    if (rc) {
        tm_deduplicator_stop(d);
        return rc;
    }
    *out = d;
    return TM_OK;
}

void tm_deduplicator_stop(struct tm_deduplicator *d)
{
    atomic_store(&d->closing, true);
    tm_stop_request(&d->quit);
    tm_exporter_stop(d->exporter);
    tm_clerk_stop(d->clerk);
    tm_peers_stop(d);
    tm_merger_join(d);
    tm_keeper_join(d->keeper);
    tm_dedup_settings_put(d->adopted);
    tm_dedup_settings_put(d->settings);
    close(d->ready_fd);
    tm_cursors_fini(&d->cursors);
    tm_gap_log_destroy(d->gap_log);
    tm_stop_fini(&d->quit);
    tm_stop_fini(&d->merger_stop);
    pthread_mutex_destroy(&d->lock);
    free(d->id);
    free(d);
}

/* ---- reload ---- */

const struct tm_plan *tm_deduplicator_plan(const struct tm_deduplicator *d)
{
    return d->settings->options.plan;
}

static int check_keys(const struct tm_deduplicator *d, const struct tm_deduplicator_options *options,
                      struct tm_error *err)
{
    int64_t newest_us[TM_STREAMS_MAX], margin_us = options->key_margin_us ? options->key_margin_us : TM_KEY_MARGIN_US;
    tm_newest_of_plan(&d->newest, d->settings->options.plan, newest_us);
    return tm_plan_key_change(d->settings->options.plan, options->plan, newest_us, tm_clock_wall_us(), margin_us, err);
}

int tm_deduplicator_check_reload(struct tm_deduplicator *d, const struct tm_deduplicator_options *options,
                                 struct tm_error *err)
{
    if (strcmp(d->id, options->id) != 0)
        return tm_error_set(err, TM_EINVAL,
                            "id cannot change while the process runs (it is \"%s\", wanted is \"%s\"): restart", d->id,
                            options->id);
    int rc = tm_deduplicator_check(options, err);
    rc = rc ? rc : tm_plan_check_reload(d->settings->options.plan, options->plan, err);
    rc = rc ? rc : check_keys(d, options, err);
    return rc ? rc : tm_merge_check(options->plan, err);
}

/* Those whose place another peer has taken, and those whose gatherer is not among the new ones. */
static void retire(const struct tm_dedup_settings *old, const struct tm_dedup_settings *settings)
{
    for (size_t i = 0; i < old->options.gatherer_count; i++) {
        struct tm_peer *peer = old->peers[i], *heir = tm_dedup_settings_peer(settings, peer->id);
        if (peer == heir)
            continue;
        tm_peer_leave(peer, heir);
        tm_stop_request(&peer->stop);
    }
}

int tm_deduplicator_reload(struct tm_deduplicator *d, const struct tm_deduplicator_options *options,
                           struct tm_error *err)
{
    int rc = tm_deduplicator_check_reload(d, options, err);
    if (rc)
        return rc;
    tm_peers_reap(d);
    struct tm_dedup_settings *settings = tm_dedup_settings_create(d, options), *old = d->settings;
    rc = tm_peers_start(d, settings, err);
    if (rc) {
        retire(settings, old);
        tm_dedup_settings_put(settings);
        return rc;
    }
    pthread_mutex_lock(&d->lock);
    d->settings = settings;
    pthread_mutex_unlock(&d->lock);
    retire(old, settings);
    tm_dedup_settings_put(old);
    (void)eventfd_write(d->ready_fd, 1);
    return TM_OK;
}
