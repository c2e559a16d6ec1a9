#include "engine/deduplicator.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/dedup_settings.h"
#include "engine/clerk.h"
#include "engine/exporter.h"
#include "engine/merge.h"
#include "engine/steward.h"
#include "engine/together.h"
#include "record/keys.h"

#include <inttypes.h>
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
    const char *name = tm_plan_stream(d->settings->options.plan, stream)->name;
    int64_t newest_us = INT64_MIN;
    for (unsigned k = 0; k < d->shard_count; k++) {
        int64_t us = tm_newest_get(&d->shards[k]->newest, name);
        newest_us = us > newest_us ? us : newest_us;
    }
    return newest_us;
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
    if (d->stats.lease == TM_LEASE_STANDBY)
        return 0; /* what was polled and waits here is another one's to merge */
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

struct tm_deduplicator_stats tm_dedup_own_stats(struct tm_deduplicator *d)
{
    pthread_mutex_lock(&d->lock);
    struct tm_deduplicator_stats s = d->stats;
    s.gatherer_count = d->settings->options.gatherer_count;
    s.lag_us = worst_lag_us(d);
    s.stalled_us = d->stalled_since_us ? tm_clock_mono_us() - d->stalled_since_us : 0;
    pthread_mutex_unlock(&d->lock);
    s.unreplicated = atomic_load(&d->unreplicated);
    s.rows_behind = s.lease == TM_LEASE_STANDBY ? 0 : tm_dedup_rows_behind(d);
    s.shards = d->shard_count;
    s.shards_held = s.lease == TM_LEASE_HELD;
    tm_metric_set(d->lag, (double)s.lag_us / 1e6);
    return s;
}

struct tm_deduplicator_stats tm_deduplicator_stats(struct tm_deduplicator *d)
{
    return d->shard_count > 1 ? tm_together_stats(d) : tm_dedup_own_stats(d);
}

int tm_deduplicator_shard_stats(struct tm_deduplicator *d, size_t index, struct tm_deduplicator_shard_stats *out)
{
    if (d->shard_count == 1 || index >= d->shard_count)
        return TM_ENOENT;
    struct tm_deduplicator_stats s = tm_dedup_own_stats(d->shards[index]);
    *out = (struct tm_deduplicator_shard_stats){.lease = s.lease, .rows_behind = s.rows_behind, .lag_us = s.lag_us};
    tm_steward_holder(d->steward, (unsigned)index, out->holder);
    return TM_OK;
}

int tm_deduplicator_gatherer_stats(struct tm_deduplicator *d, size_t index, struct tm_deduplicator_gatherer_stats *out)
{
    return d->shard_count > 1 ? tm_together_gatherer_stats(d, index, out) : tm_dedup_own_gatherer_stats(d, index, out);
}

int tm_dedup_own_gatherer_stats(struct tm_deduplicator *d, size_t index, struct tm_deduplicator_gatherer_stats *out)
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
    for (unsigned k = 0; k < d->shard_count; k++)
        tm_peers_reap(d->shards[k]);
}

/* ---- start and stop ---- */

#define STOP_S 4 /* for the transaction under way; then it is given up, and polled again at the next start */

static void make_member(char out[TM_LEASE_MEMBER])
{
    uint64_t random;
    tm_random_bytes(&random, sizeof random);
    (void)snprintf(out, TM_LEASE_MEMBER, "%016" PRIx64, random);
}

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
}

/* Each shard sets its own (engine/together.h). */
static void make_gauges(struct tm_deduplicator *d, struct tm_metrics *m)
{
    d->stopped = tm_metrics_gauge(m, "dedup_production_stopped",
                                  "1 while production refuses what this process does, until a person mends it: schema, "
                                  "rights, corruption.",
                                  NULL);
    d->replicated = tm_metrics_gauge(m, "dedup_production_replicated",
                                     "0 while production's synchronous standby does not answer and commits are on the "
                                     "primary alone.",
                                     NULL);
    tm_metric_set(d->replicated, 1);
    d->lag = tm_metrics_gauge(m, "dedup_sync_lag_seconds",
                              "Age of the oldest record that a gatherer has and production has not.", NULL);
    d->behind =
        tm_metrics_gauge(m, "dedup_rows_behind", "Rows that gatherers have stored and production has not.", NULL);
    d->connected = tm_metrics_gauge(m, "dedup_rds_connected", "1 while production is connected.", NULL);
    d->lease_held = tm_metrics_gauge(m, "dedup_lease_held", "1 while this process is the one that writes.", NULL);
    d->standby = tm_metrics_gauge(m, "dedup_standby", "1 while another process writes and this one waits.", NULL);
    d->lease_since = tm_metrics_gauge(m, "dedup_lease_changed_timestamp_seconds",
                                      "When dedup_lease_held or dedup_standby last changed, Unix time.", NULL);
    d->seen_keys = tm_metrics_gauge(m, "tidemill_seen_keys", "Keys in the seen-sets.", NULL);
    d->seen_bytes = tm_metrics_gauge(m, "tidemill_seen_bytes", "Memory of the seen-sets.", NULL);
}

static void make_metrics(struct tm_deduplicator *d, struct tm_metrics *m)
{
    make_failure_metrics(d, m);
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
    d->takeovers = tm_metrics_counter(m, "dedup_lease_takeovers_total",
                                      "Leases taken from a holder that had not given it back.", NULL);
    d->leases_lost = tm_metrics_counter(m, "dedup_lease_lost_total", "Leases that another process took.", NULL);
    d->takeover_seconds = tm_metrics_histogram(m, "dedup_lease_takeover_seconds",
                                               "From the end of a lease to the moment it was taken over.", NULL);
}

/* Series that others read are made once; where there are several shards each has gauges of its own besides. */
static void make_series(struct tm_deduplicator *d)
{
    make_metrics(d, d->metrics);
    if (d == d->head)
        make_gauges(d, d->metrics);
    if (d->shard_count == 1)
        return;
    if (d == d->head)
        tm_together_begin(d);
    d->own = tm_metrics_create();
    make_gauges(d, d->own);
}

/* Nothing runs yet. `head`: NULL: it is that. */
static struct tm_deduplicator *create(const struct tm_deduplicator_options *options, struct tm_deduplicator *head,
                                      unsigned shard)
{
    struct tm_deduplicator *d = calloc(1, sizeof *d);
    TM_FATAL_UNLESS(d);
    d->head = head ? head : d;
    d->shard = shard;
    d->shard_count = options->shards ? options->shards : 1;
    atomic_store(&d->wanted, d->shard_count == 1);
    if (head)
        (void)snprintf(d->member, sizeof d->member, "%s", head->member);
    else if (d->shard_count > 1)
        make_member(d->member);
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
    make_series(d);
    d->gap_log = tm_gap_log_create();
    d->settings = tm_dedup_settings_create(d, options);
    return d;
}

static int run(struct tm_deduplicator *d, struct tm_error *err)
{
    int rc = tm_keeper_start(&d->quit, &d->keeper, err);
    rc = rc ? rc : tm_merger_start(d, err);
    rc = rc ? rc : tm_peers_start(d, d->settings, err);
    return rc ? rc : tm_clerk_start(d, &d->clerk, err);
}

static void ask_to_stop(struct tm_deduplicator *d)
{
    clock_gettime(CLOCK_REALTIME, &d->stop_by);
    d->stop_by.tv_sec += STOP_S;
    atomic_store(&d->closing, true);
    tm_stop_request(&d->quit);
}

static void destroy(struct tm_deduplicator *d)
{
    tm_clerk_stop(d->clerk);
    tm_peers_stop(d);
    tm_merger_join(d);
    tm_keeper_join(d->keeper);
    tm_dedup_settings_put(d->adopted);
    tm_dedup_settings_put(d->settings);
    close(d->ready_fd);
    tm_cursors_fini(&d->cursors);
    tm_cursors_fini(&d->least);
    tm_gap_log_destroy(d->gap_log);
    tm_stop_fini(&d->quit);
    tm_stop_fini(&d->merger_stop);
    pthread_mutex_destroy(&d->lock);
    if (d == d->head)
        tm_together_end(d);
    if (d->own)
        tm_metrics_destroy(d->own);
    free(d->shards);
    free(d->id);
    free(d);
}

int tm_deduplicator_start(const struct tm_deduplicator_options *options, struct tm_deduplicator **out,
                          struct tm_error *err)
{
    int rc = tm_deduplicator_check(options, err);
    if (rc)
        return rc;
    struct tm_deduplicator *d = create(options, NULL, 0);
    d->shards = calloc(d->shard_count, sizeof(struct tm_deduplicator *));
    TM_FATAL_UNLESS(d->shards);
    d->shards[0] = d;
    for (unsigned k = 1; k < d->shard_count; k++)
        d->shards[k] = create(options, d, k);
    for (unsigned k = 0; !rc && k < d->shard_count; k++)
        rc = run(d->shards[k], err);
    if (!rc && d->shard_count > 1)
        rc = tm_steward_start(d, err);
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
    tm_steward_stop(d->steward);
    for (unsigned k = 0; k < d->shard_count; k++)
        ask_to_stop(d->shards[k]);
    tm_exporter_stop(d->exporter);
    for (unsigned k = d->shard_count; k-- > 0;)
        destroy(d->shards[k]);
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
    for (size_t i = 0; i < tm_plan_stream_count(d->settings->options.plan); i++)
        newest_us[i] = tm_deduplicator_newest_us(d, i);
    return tm_plan_key_change(d->settings->options.plan, options->plan, newest_us, tm_clock_wall_us(), margin_us, err);
}

int tm_deduplicator_check_reload(struct tm_deduplicator *d, const struct tm_deduplicator_options *options,
                                 struct tm_error *err)
{
    if (strcmp(d->id, options->id) != 0)
        return tm_error_set(err, TM_EINVAL,
                            "id cannot change while the process runs (it is \"%s\", wanted is \"%s\"): restart", d->id,
                            options->id);
    unsigned shards = options->shards ? options->shards : 1;
    if (shards != d->shard_count)
        return tm_error_set(err, TM_EINVAL,
                            "shards cannot change while the process runs (they are %u, wanted are %u): stop all "
                            "deduplicators of this production and run `tidemill reshard SCRIPT`",
                            d->shard_count, shards);
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

/* Of one shard, and what the options say was checked. */
static int reload(struct tm_deduplicator *d, const struct tm_deduplicator_options *options, struct tm_error *err)
{
    tm_peers_reap(d);
    struct tm_dedup_settings *settings = tm_dedup_settings_create(d, options), *old = d->settings;
    int rc = tm_peers_start(d, settings, err);
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

static void hide_removed(struct tm_deduplicator *d, const struct tm_dedup_settings *before)
{
    for (size_t i = 0; d->shard_count > 1 && i < before->options.gatherer_count; i++)
        if (!tm_dedup_settings_peer(d->settings, before->peers[i]->id))
            tm_together_hide(d, before->peers[i]->id);
}

int tm_deduplicator_reload(struct tm_deduplicator *d, const struct tm_deduplicator_options *options,
                           struct tm_error *err)
{
    int rc = tm_deduplicator_check_reload(d, options, err);
    if (rc)
        return rc;
    struct tm_dedup_settings *before = tm_dedup_settings_newest(d);
    unsigned done = 0;
    for (; !rc && done < d->shard_count; done += !rc)
        rc = reload(d->shards[done], options, err);
    struct tm_error undo;
    while (rc && done-- > 0)
        if (reload(d->shards[done], &before->options, &undo))
            tm_log(TM_LOG_ERROR, "merger", "a shard works by settings that the others do not have; restart",
                   TM_F_ERR(&undo));
    if (!rc)
        hide_removed(d, before);
    tm_dedup_settings_put(before);
    return rc;
}
