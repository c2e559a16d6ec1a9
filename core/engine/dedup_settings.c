#include "engine/dedup_settings.h"
#include "base/arena.h"
#include "base/clock.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define POLL_US (250 * TM_US_PER_MS)
#define POLL_ROWS_MAX 20000
#define BATCH_ROWS_MAX 50000
#define LOOK_BYTES_MIN ((size_t)8 << 20) /* half of it is room for as many ordinary rows as poll_rows_max */
#define LOOK_BYTES_MAX ((size_t)16 << 20)
#define LEASE_US (1500 * TM_US_PER_MS)
#define STANDBY_WAIT_US (10 * TM_US_PER_S)
#define QUEUE_ITEMS_MAX 1024 /* of a gatherer */
#define ACCEPT_US (7 * INT64_C(86400) * TM_US_PER_S)

/* ---- options ---- */

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
    if (!rc && o->shards > TM_SHARDS_MAX)
        rc = tm_error_set(err, TM_EINVAL, "shards: expected 1 to %d, got %u", TM_SHARDS_MAX, o->shards);
    for (size_t i = 0; !rc && i < o->gatherer_count; i++) {
        rc = check_id(o->gatherers[i].id, err);
        for (size_t j = 0; !rc && j < i; j++)
            if (strcmp(o->gatherers[i].id, o->gatherers[j].id) == 0)
                rc = tm_error_set(err, TM_EINVAL, "gatherer id \"%s\" is there twice", o->gatherers[i].id);
    }
    return rc;
}

static const struct tm_deduplicator_retain *copy_times(struct tm_arena *arena,
                                                       const struct tm_deduplicator_retain *from, size_t count)
{
    struct tm_deduplicator_retain *to = tm_arena_alloc(arena, (count + 1) * sizeof *to);
    for (size_t i = 0; i < count; i++) {
        to[i] = from[i];
        to[i].stream = tm_arena_strdup(arena, from[i].stream);
    }
    return to;
}

static void copy_options(struct tm_dedup_settings *s, const struct tm_deduplicator_options *from)
{
    struct tm_deduplicator_options *o = &s->options;
    struct tm_deduplicator_gatherer *gatherers = tm_arena_alloc(s->arena, from->gatherer_count * sizeof *gatherers);
    *o = *from;
    for (size_t i = 0; i < from->gatherer_count; i++) {
        gatherers[i].id = tm_arena_strdup(s->arena, from->gatherers[i].id);
        gatherers[i].conninfo = tm_arena_strdup(s->arena, from->gatherers[i].conninfo);
    }
    o->gatherers = gatherers;
    o->id = tm_arena_strdup(s->arena, from->id);
    o->production = tm_arena_strdup(s->arena, from->production);
    o->poll_us = from->poll_us ? from->poll_us : POLL_US;
    o->poll_rows_max = from->poll_rows_max ? from->poll_rows_max : POLL_ROWS_MAX;
    o->batch_rows_max = from->batch_rows_max ? from->batch_rows_max : BATCH_ROWS_MAX;
    o->shards = from->shards ? from->shards : 1;
    o->queue_bytes_max = from->queue_bytes_max ? from->queue_bytes_max : TM_DEDUPLICATOR_QUEUE_BYTES;
    o->accept_past_us = from->accept_past_us ? from->accept_past_us : ACCEPT_US;
    o->retain = copy_times(s->arena, from->retain, from->retain_count);
    o->compress = copy_times(s->arena, from->compress, from->compress_count);
    o->archive = tm_archive_settings_copy(&from->archive, s->arena);
    o->lease_us = from->lease_us ? from->lease_us : LEASE_US;
    o->standby_wait_us = from->standby_wait_us ? from->standby_wait_us : STANDBY_WAIT_US;
    o->accept_future_us = from->accept_future_us ? from->accept_future_us : ACCEPT_US;
}

/* The bound is the process's: of one shard and one gatherer. */
static size_t queue_share(const struct tm_deduplicator_options *o)
{
    return o->queue_bytes_max / o->shards / o->gatherer_count;
}

static size_t at_least(size_t bytes, size_t least)
{
    return bytes > least ? bytes : least;
}

/* What is read at once and what is merged at once goes by what the queue between them may hold. */
static void bound_bytes(struct tm_dedup_settings *s)
{
    const struct tm_deduplicator_options *o = &s->options;
    size_t look = at_least(queue_share(o), LOOK_BYTES_MIN);
    s->poll_bytes_max = look < LOOK_BYTES_MAX ? look : LOOK_BYTES_MAX;
    s->batch_bytes_max = at_least(o->queue_bytes_max / o->shards / 2, LOOK_BYTES_MAX);
}

/* ---- metrics ---- */

static struct tm_metric *labelled(struct tm_metrics *m, const char *name, const char *help, const char *stream)
{
    char labels[96];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", stream);
    return tm_metrics_counter(m, name, help, labels);
}

static int64_t time_of(const struct tm_deduplicator_retain *times, size_t count, const struct tm_stream *stream)
{
    for (size_t i = 0; i < count; i++)
        if (strcmp(times[i].stream, stream->name) == 0 && stream->partition == TM_PARTITION_DAY)
            return times[i].keep_us;
    return 0;
}

static void set_times(struct tm_stream_metrics *m, const struct tm_deduplicator_options *o,
                      const struct tm_stream *stream)
{
    m->keep_us = time_of(o->retain, o->retain_count, stream);
    m->compress_us = time_of(o->compress, o->compress_count, stream);
    m->seal_us = m->compress_us && (!m->keep_us || m->compress_us < m->keep_us) ? m->compress_us : m->keep_us;
}

static void make_stream_metrics(struct tm_dedup_settings *s, struct tm_metrics *m)
{
    size_t count = tm_plan_stream_count(s->options.plan);
    s->streams = tm_arena_alloc(s->arena, count * sizeof *s->streams);
    for (size_t i = 0; i < count; i++) {
        const char *name = tm_plan_stream(s->options.plan, i)->name;
        s->streams[i].polled = labelled(m, "tidemill_polled_rows_total", "Rows read from gatherers and decided.", name);
        s->streams[i].written = labelled(m, "tidemill_written_rows_total", "Rows written to production.", name);
        s->streams[i].duplicate =
            labelled(m, "tidemill_duplicate_rows_total", "Rows that production had already.", name);
        s->streams[i].quarantined =
            labelled(m, "tidemill_quarantined_rows_total", "Rows put into tidemill.quarantine.", name);
        s->streams[i].late = labelled(m, "tidemill_late_rows_total",
                                      "Rows of days that retention has sealed, put into tidemill.late.", name);
        s->streams[i].conflicts = labelled(m, "tidemill_conflicting_records_total",
                                           "Records of one key that do not agree, put into tidemill.conflicts.", name);
        set_times(&s->streams[i], &s->options, tm_plan_stream(s->options.plan, i));
    }
}

/* ---- peers ---- */

static void wake_merger(void *arg)
{
    const struct tm_deduplicator *d = arg;
    (void)eventfd_write(d->ready_fd, 1);
}

static struct tm_peer *peer_take(struct tm_peer *peer)
{
    atomic_fetch_add_explicit(&peer->references, 1, memory_order_relaxed);
    return peer;
}

void tm_peer_put(struct tm_peer *peer)
{
    if (!peer || atomic_fetch_sub_explicit(&peer->references, 1, memory_order_acq_rel) != 1)
        return;
    for (struct tm_batch *b; (b = tm_queue_try_take(peer->queue));)
        tm_batch_destroy(b);
    tm_queue_destroy(peer->queue);
    tm_stop_fini(&peer->stop);
    tm_peer_put(peer->heir);
    free(peer->conninfo);
    free(peer);
}

static struct tm_peer *peer_create(struct tm_deduplicator *d, const struct tm_deduplicator_gatherer *g, uint64_t since,
                                   size_t queue_bytes)
{
    char labels[96];
    struct tm_peer *peer = calloc(1, sizeof *peer);
    TM_FATAL_UNLESS(peer);
    peer->references = 1;
    peer->d = d;
    peer->since = since;
    (void)snprintf(peer->id, sizeof peer->id, "%s", g->id);
    peer->conninfo = strdup(g->conninfo);
    TM_FATAL_UNLESS(peer->conninfo && tm_stop_init(&peer->stop) == TM_OK);
    (void)snprintf(peer->stats.id, sizeof peer->stats.id, "%s", peer->id);
    peer->queue = tm_queue_create(QUEUE_ITEMS_MAX, queue_bytes);
    tm_queue_set_wake(peer->queue, wake_merger, d);
    (void)snprintf(labels, sizeof labels, "gatherer=\"%s\"", peer->id);
    peer->health = tm_metrics_gauge(d->own ? d->own : d->metrics, "dedup_gatherer_health",
                                    "1 while the gatherer's store can be read and its history is whole.", labels);
    return peer;
}

void tm_peer_leave(struct tm_peer *peer, struct tm_peer *heir)
{
    pthread_mutex_lock(&peer->d->lock);
    peer->leaving = true;
    if (heir) {
        peer->heir = peer_take(heir);
        heir->stats.polled += peer->stats.polled;
        heir->stats.written += peer->stats.written;
        heir->stats.duplicate += peer->stats.duplicate;
        heir->stats.quarantined += peer->stats.quarantined;
        heir->stats.shared += peer->stats.shared;
        heir->stats.shared_first += peer->stats.shared_first;
        if (peer->stats.last_row_us > heir->stats.last_row_us)
            heir->stats.last_row_us = peer->stats.last_row_us;
    }
    pthread_mutex_unlock(&peer->d->lock);
    if (!heir)
        tm_metric_hide(peer->health);
}

/* Only its poller leads to it from here on. */
static void join(struct tm_peer *peer)
{
    pthread_join(peer->thread, NULL);
    tm_peer_put(peer);
}

/* Unlink the peers that `ended` says are at their end, or all, and join them. */
static void join_peers(struct tm_deduplicator *d, bool all)
{
    for (struct tm_peer **at = &d->peers; *at;) {
        struct tm_peer *peer = *at;
        if (!all && !atomic_load(&peer->ended)) {
            at = &peer->next;
            continue;
        }
        *at = peer->next;
        join(peer);
    }
}

void tm_peers_reap(struct tm_deduplicator *d)
{
    join_peers(d, false);
}

void tm_peers_stop(struct tm_deduplicator *d)
{
    for (struct tm_peer *peer = d->peers; peer; peer = peer->next)
        tm_stop_request(&peer->stop);
    join_peers(d, true);
}

static int start_poller(struct tm_deduplicator *d, struct tm_peer *peer, struct tm_error *err)
{
    (void)peer_take(peer);
    if (pthread_create(&peer->thread, NULL, tm_poller_main, peer)) {
        tm_peer_put(peer);
        return tm_error_set(err, TM_ENOMEM, "cannot start a poller thread");
    }
    peer->next = d->peers;
    d->peers = peer;
    return TM_OK;
}

/* Pollers that were started in vain: none of them has orders yet, so they end at once. */
static void stop_new(struct tm_deduplicator *d, const struct tm_dedup_settings *settings)
{
    while (d->peers && d->peers->since == settings->number) {
        struct tm_peer *peer = d->peers;
        d->peers = peer->next;
        tm_stop_request(&peer->stop);
        join(peer);
    }
}

int tm_peers_start(struct tm_deduplicator *d, const struct tm_dedup_settings *settings, struct tm_error *err)
{
    const struct tm_deduplicator_options *o = &settings->options;
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < o->gatherer_count; i++)
        if (settings->peers[i]->since == settings->number)
            rc = start_poller(d, settings->peers[i], err);
    if (rc) {
        stop_new(d, settings);
        return rc;
    }
    for (size_t i = 0; i < o->gatherer_count; i++)
        tm_queue_set_bytes_max(settings->peers[i]->queue, queue_share(o));
    return TM_OK;
}

/* ---- settings ---- */

struct tm_peer *tm_dedup_settings_peer(const struct tm_dedup_settings *s, const char *id)
{
    for (size_t i = 0; s && i < s->options.gatherer_count; i++)
        if (strcmp(s->peers[i]->id, id) == 0)
            return s->peers[i];
    return NULL;
}

static void choose_peers(struct tm_deduplicator *d, struct tm_dedup_settings *s)
{
    const struct tm_deduplicator_options *o = &s->options;
    s->peers = tm_arena_alloc(s->arena, o->gatherer_count * sizeof(struct tm_peer *));
    for (size_t i = 0; i < o->gatherer_count; i++) {
        struct tm_peer *peer = tm_dedup_settings_peer(d->settings, o->gatherers[i].id);
        bool same = peer && strcmp(peer->conninfo, o->gatherers[i].conninfo) == 0;
        s->peers[i] = same ? peer_take(peer) : peer_create(d, &o->gatherers[i], s->number, queue_share(o));
    }
}

struct tm_dedup_settings *tm_dedup_settings_create(struct tm_deduplicator *d,
                                                   const struct tm_deduplicator_options *options)
{
    const struct tm_dedup_settings *before = d->settings;
    struct tm_arena *arena = tm_arena_create();
    struct tm_dedup_settings *s = tm_arena_alloc(arena, sizeof *s);
    s->references = 1;
    s->arena = arena;
    s->number = before ? before->number + 1 : 1;
    copy_options(s, options);
    bound_bytes(s);
    bool same_plan = before && tm_plan_equal(before->options.plan, options->plan);
    s->options.plan = tm_plan_take(same_plan ? before->options.plan : options->plan);
    make_stream_metrics(s, d->metrics);
    choose_peers(d, s);
    return s;
}

struct tm_dedup_settings *tm_dedup_settings_take(struct tm_dedup_settings *s)
{
    atomic_fetch_add_explicit(&s->references, 1, memory_order_relaxed);
    return s;
}

void tm_dedup_settings_put(struct tm_dedup_settings *s)
{
    if (!s || atomic_fetch_sub_explicit(&s->references, 1, memory_order_acq_rel) != 1)
        return;
    for (size_t i = 0; i < s->options.gatherer_count; i++)
        tm_peer_put(s->peers[i]);
    tm_plan_put(s->options.plan);
    tm_arena_destroy(s->arena);
}

struct tm_dedup_settings *tm_dedup_settings_newest(struct tm_deduplicator *d)
{
    pthread_mutex_lock(&d->lock);
    struct tm_dedup_settings *s = tm_dedup_settings_take(d->settings);
    pthread_mutex_unlock(&d->lock);
    return s;
}
