#include "engine/deduplicator.h"
#include "base/arena.h"
#include "base/clock.h"
#include "engine/dedup_private.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define POLL_US (250 * TM_US_PER_MS)
#define POLL_ROWS_MAX 20000
#define BATCH_ROWS_MAX 50000
#define QUEUE_ITEMS_MAX 1024 /* of a gatherer */
#define ACCEPT_US (7 * INT64_C(86400) * TM_US_PER_S)

const char *tm_peer_state_name(enum tm_peer_state state)
{
    static const char *const names[] = {"connecting", "connected", "disconnected", "stopped"};
    return names[state];
}

/* ---- between pollers and merger ---- */

bool tm_dedup_take_cursors(struct tm_deduplicator *d, uint64_t *generation, struct tm_cursors *out)
{
    pthread_mutex_lock(&d->lock);
    bool changed = d->generation && d->generation != *generation && tm_cursors_copy(out, &d->cursors) == TM_OK;
    if (changed)
        *generation = d->generation;
    pthread_mutex_unlock(&d->lock);
    return changed;
}

void tm_dedup_batch_done(struct tm_deduplicator *d, const struct tm_batch *b)
{
    struct tm_peer *peer = &d->peers[b->gatherer];
    pthread_mutex_lock(&d->lock);
    peer->outstanding--;
    /* the rest arrived later than what is done: its end is the oldest that can still be waiting */
    peer->oldest_us = peer->outstanding ? b->received_max_us : 0;
    pthread_mutex_unlock(&d->lock);
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
    for (size_t i = 0; i < d->options.gatherer_count; i++) {
        int64_t lag_us = peer_lag_us(d, &d->peers[i], now_us);
        worst_us = lag_us > worst_us ? lag_us : worst_us;
    }
    return worst_us;
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
    s.gatherer_count = d->options.gatherer_count;
    s.lag_us = worst_lag_us(d);
    pthread_mutex_unlock(&d->lock);
    tm_metric_set(d->lag, (double)s.lag_us / 1e6);
    return s;
}

int tm_deduplicator_gatherer_stats(struct tm_deduplicator *d, size_t index, struct tm_deduplicator_gatherer_stats *out)
{
    if (index >= d->options.gatherer_count)
        return TM_ENOENT;
    pthread_mutex_lock(&d->lock);
    *out = d->peers[index].stats;
    out->lag_us = peer_lag_us(d, &d->peers[index], tm_clock_wall_us());
    pthread_mutex_unlock(&d->lock);
    return TM_OK;
}

/* ---- start and stop ---- */

/* Ids stand in SQL and in metric labels: plain words need no escaping in either. */
static int check_id(const char *id, struct tm_error *err)
{
    size_t len = strlen(id);
    bool plain = len > 0 && len < TM_NAME_BYTES;
    for (size_t i = 0; plain && i < len; i++)
        plain = isalnum((unsigned char)id[i]) || strchr("_.-", id[i]);
    if (!plain)
        return tm_error_set(err, TM_EINVAL, "gatherer id \"%.80s\": expected 1 to 63 letters, digits, '_', '.' or '-'",
                            id);
    return TM_OK;
}

int tm_deduplicator_check(const struct tm_deduplicator_options *o, struct tm_error *err)
{
    int rc = o->gatherer_count ? TM_OK : tm_error_set(err, TM_EINVAL, "a deduplicator needs at least one gatherer");
    for (size_t i = 0; !rc && i < o->gatherer_count; i++) {
        rc = check_id(o->gatherers[i].id, err);
        for (size_t j = 0; !rc && j < i; j++)
            if (strcmp(o->gatherers[i].id, o->gatherers[j].id) == 0)
                rc = tm_error_set(err, TM_EINVAL, "gatherer id \"%s\" is there twice", o->gatherers[i].id);
    }
    return rc;
}

static void copy_options(struct tm_deduplicator *d, const struct tm_deduplicator_options *from)
{
    struct tm_deduplicator_options *o = &d->options;
    struct tm_deduplicator_gatherer *gatherers = tm_arena_alloc(d->arena, from->gatherer_count * sizeof *gatherers);
    *o = *from;
    for (size_t i = 0; i < from->gatherer_count; i++) {
        gatherers[i].id = tm_arena_strdup(d->arena, from->gatherers[i].id);
        gatherers[i].conninfo = tm_arena_strdup(d->arena, from->gatherers[i].conninfo);
    }
    o->gatherers = gatherers;
    o->id = tm_arena_strdup(d->arena, from->id);
    o->production = tm_arena_strdup(d->arena, from->production);
    o->poll_us = from->poll_us ? from->poll_us : POLL_US;
    o->poll_rows_max = from->poll_rows_max ? from->poll_rows_max : POLL_ROWS_MAX;
    o->batch_rows_max = from->batch_rows_max ? from->batch_rows_max : BATCH_ROWS_MAX;
    o->queue_bytes_max = from->queue_bytes_max ? from->queue_bytes_max : TM_DEDUPLICATOR_QUEUE_BYTES;
    o->accept_past_us = from->accept_past_us ? from->accept_past_us : ACCEPT_US;
    o->accept_future_us = from->accept_future_us ? from->accept_future_us : ACCEPT_US;
}

static struct tm_metric *labelled(struct tm_metrics *m, const char *name, const char *help, const char *stream)
{
    char labels[96];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", stream);
    return tm_metrics_counter(m, name, help, labels);
}

static void make_stream_metrics(struct tm_deduplicator *d, struct tm_metrics *m)
{
    size_t count = tm_plan_stream_count(d->options.plan);
    d->streams = tm_arena_alloc(d->arena, count * sizeof *d->streams);
    for (size_t i = 0; i < count; i++) {
        const char *name = tm_plan_stream(d->options.plan, i)->name;
        d->streams[i].polled = labelled(m, "tidemill_polled_rows_total", "Rows read from gatherers and decided.", name);
        d->streams[i].written = labelled(m, "tidemill_written_rows_total", "Rows written to production.", name);
        d->streams[i].duplicate =
            labelled(m, "tidemill_duplicate_rows_total", "Rows that production had already.", name);
        d->streams[i].quarantined =
            labelled(m, "tidemill_quarantined_rows_total", "Rows put into tidemill.quarantine.", name);
    }
}

static void make_metrics(struct tm_deduplicator *d, struct tm_metrics *m)
{
    make_stream_metrics(d, m);
    d->lag = tm_metrics_gauge(m, "dedup_sync_lag_seconds",
                              "Age of the oldest record that a gatherer has and production has not.", NULL);
    d->connected = tm_metrics_gauge(m, "dedup_rds_connected", "1 while production is connected.", NULL);
    d->errors = tm_metrics_counter(m, "rds_connection_errors_total", "Sessions with production that failed.", NULL);
    d->holes = tm_metrics_counter(m, "tidemill_poll_holes_total",
                                  "Streams of gatherers that were refused: holes, forks, other columns.", NULL);
    d->conflicts = tm_metrics_counter(m, "tidemill_copy_conflicts_total",
                                      "COPYs that met rows already there and were staged.", NULL);
    d->commit_seconds =
        tm_metrics_histogram(m, "tidemill_production_commit_seconds", "Duration of transactions in production.", NULL);
    d->latency = tm_metrics_histogram(m, "tidemill_received_to_production_seconds",
                                      "From arrival at a gatherer to COMMIT in production.", NULL);
    d->seen_keys = tm_metrics_gauge(m, "tidemill_seen_keys", "Keys in the seen-sets.", NULL);
    d->seen_bytes = tm_metrics_gauge(m, "tidemill_seen_bytes", "Memory of the seen-sets.", NULL);
}

static void wake_merger(void *arg)
{
    const struct tm_deduplicator *d = arg;
    (void)eventfd_write(d->ready_fd, 1);
}

static void make_peers(struct tm_deduplicator *d, struct tm_metrics *m)
{
    size_t bytes = d->options.queue_bytes_max / d->options.gatherer_count;
    d->peers = tm_arena_alloc(d->arena, d->options.gatherer_count * sizeof *d->peers);
    for (size_t i = 0; i < d->options.gatherer_count; i++) {
        char labels[96];
        struct tm_peer *peer = &d->peers[i];
        peer->d = d;
        peer->index = i;
        peer->stats.id = d->options.gatherers[i].id;
        peer->queue = tm_queue_create(QUEUE_ITEMS_MAX, bytes);
        tm_queue_set_wake(peer->queue, wake_merger, d);
        (void)snprintf(labels, sizeof labels, "gatherer=\"%s\"", peer->stats.id);
        peer->health = tm_metrics_gauge(m, "dedup_gatherer_health",
                                        "1 while the gatherer's store can be read and its history is whole.", labels);
    }
}

static int start_threads(struct tm_deduplicator *d, struct tm_error *err)
{
    int rc = tm_merger_start(d, err);
    for (size_t i = 0; !rc && i < d->options.gatherer_count; i++) {
        if (pthread_create(&d->peers[i].thread, NULL, tm_poller_main, &d->peers[i]))
            return tm_error_set(err, TM_ENOMEM, "cannot start a poller thread");
        d->peers[i].started = true;
    }
    return rc;
}

int tm_deduplicator_start(const struct tm_deduplicator_options *options, struct tm_deduplicator **out,
                          struct tm_error *err)
{
    int rc = tm_deduplicator_check(options, err);
    if (rc)
        return rc;
    struct tm_deduplicator *d = calloc(1, sizeof *d);
    TM_FATAL_UNLESS(d);
    d->arena = tm_arena_create();
    copy_options(d, options);
    tm_hash_key_init(&d->hash_key);
    TM_FATAL_UNLESS(tm_stop_init(&d->pollers_stop) == TM_OK && tm_stop_init(&d->merger_stop) == TM_OK);
    d->ready_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    TM_FATAL_UNLESS(d->ready_fd >= 0);
    pthread_mutex_init(&d->lock, NULL);
    d->down_since_us = tm_clock_wall_us();
    make_metrics(d, options->metrics);
    make_peers(d, options->metrics);
    rc = start_threads(d, err);
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
    tm_stop_request(&d->pollers_stop);
    for (size_t i = 0; i < d->options.gatherer_count; i++)
        if (d->peers[i].started)
            pthread_join(d->peers[i].thread, NULL);
    tm_merger_join(d);
    for (size_t i = 0; i < d->options.gatherer_count; i++) {
        for (struct tm_batch *b; (b = tm_queue_try_take(d->peers[i].queue));)
            tm_batch_destroy(b);
        tm_queue_destroy(d->peers[i].queue);
    }
    close(d->ready_fd);
    tm_cursors_fini(&d->cursors);
    tm_stop_fini(&d->pollers_stop);
    tm_stop_fini(&d->merger_stop);
    pthread_mutex_destroy(&d->lock);
    tm_arena_destroy(d->arena);
    free(d);
}
