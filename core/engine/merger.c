#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/acknowledge.h"
#include "engine/bulletin.h"
#include "engine/merge.h"
#include "engine/patience.h"
#include "engine/production.h"
#include "engine/progress.h"
#include "engine/tenure.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define START_OVER_BASE_US (50 * TM_US_PER_MS)
#define START_OVER_MAX_US (1 * TM_US_PER_S)
#define COMMIT_EVERY_US (15 * TM_US_PER_MS) /* a commit costs the same for one row as for a thousand */
#define IDLE_US (1 * TM_US_PER_S)
#define STANDBY_LOOKS 20 /* within a lease */
#define BATCHES_MAX 512

struct tm_merger {
    struct tm_deduplicator *d;
    pthread_t thread;
    struct tm_production production;
    struct tm_patience patience;
    struct tm_dedup_settings *settings; /* adopted; held */
    bool anew; /* the session ends because other settings want another one, not because it failed */
    struct tm_merge *merge;
    struct tm_tenure tenure;
    struct tm_cursors cursors; /* as committed */
    struct tm_batch *batches[BATCHES_MAX];
    size_t batch_count;
    struct tm_cursor_move moves[BATCHES_MAX];
    size_t move_count;
    size_t turn;        /* whose queue is looked into first */
    int64_t started_us; /* monotonic start of the last transaction */
    int64_t stored_us;  /* when its rows were all sent */
    struct tm_progress progress;
};

/* ---- state that others see ---- */

/* The pollers may work by our settings; with d->lock held. What was there before is the caller's to put. */
static struct tm_dedup_settings *set_adopted(struct tm_merger *m)
{
    struct tm_dedup_settings *before = m->d->adopted;
    m->d->adopted = tm_dedup_settings_take(m->settings);
    return before;
}

/* From here on the pollers read from these cursors, by our settings; what they fetched before is stale. */
static int publish(struct tm_merger *m, struct tm_error *err)
{
    static _Atomic uint64_t generations;
    struct tm_deduplicator *d = m->d;
    struct tm_dedup_settings *before = NULL;
    pthread_mutex_lock(&d->lock);
    int rc = tm_cursors_copy(&d->cursors, &m->cursors);
    if (!rc) {
        d->generation = atomic_fetch_add(&generations, 1) + 1;
        before = set_adopted(m);
    }
    d->stats.production_connected = !rc;
    d->down_since_us = 0;
    pthread_mutex_unlock(&d->lock);
    tm_dedup_settings_put(before);
    tm_metric_set(d->connected, !rc);
    return rc ? tm_error_set(err, rc, "out of memory for %zu cursors", m->cursors.count) : TM_OK;
}

static uint64_t generation(struct tm_merger *m)
{
    pthread_mutex_lock(&m->d->lock);
    uint64_t g = m->d->generation;
    pthread_mutex_unlock(&m->d->lock);
    return g;
}

/* ---- batches ---- */

static void drop_batch(struct tm_merger *m, struct tm_batch *b)
{
    tm_dedup_batch_done(m->d, b);
    tm_batch_destroy(b);
}

static uint64_t count_rows(const struct tm_merger *m)
{
    uint64_t rows = 0;
    for (size_t i = 0; i < m->batch_count; i++)
        rows += m->batches[i]->count;
    return rows;
}

static size_t count_bytes(const struct tm_merger *m)
{
    size_t bytes = 0;
    for (size_t i = 0; i < m->batch_count; i++)
        bytes += tm_batch_weight(m->batches[i]);
    return bytes;
}

static void drop_batches(struct tm_merger *m)
{
    for (size_t i = 0; i < m->batch_count; i++)
        drop_batch(m, m->batches[i]);
    m->batch_count = 0;
}

/* Where the batch must begin to follow what is committed or taken into this transaction already. */
static int64_t expected_from(struct tm_merger *m, const struct tm_batch *b)
{
    for (size_t i = m->batch_count; i-- > 0;) {
        const struct tm_batch *before = m->batches[i];
        if (before->peer == b->peer && before->stream == b->stream && strcmp(before->epoch, b->epoch) == 0)
            return before->to;
    }
    return tm_cursors_get(&m->cursors, b->peer->id, b->epoch, b->stream->name)->seq;
}

/* One batch of each gatherer in turn, so that a backlog does not keep the others waiting. */
static struct tm_batch *next_batch(struct tm_merger *m)
{
    size_t count = m->settings->options.gatherer_count;
    for (size_t i = 0; i < count; i++) {
        struct tm_batch *b = tm_queue_try_take(m->settings->peers[m->turn++ % count]->queue);
        if (b)
            return b;
    }
    return NULL;
}

static void wait_for_batches(struct tm_merger *m, int64_t us)
{
    struct pollfd fds[2] = {{.fd = m->d->ready_fd, .events = POLLIN}, {.fd = m->d->quit.fd, .events = POLLIN}};
    struct timespec ts = {.tv_sec = us / TM_US_PER_S, .tv_nsec = us % TM_US_PER_S * 1000};
    eventfd_t ignored;
    if (ppoll(fds, 2, &ts, NULL) > 0 && fds[0].revents)
        (void)eventfd_read(m->d->ready_fd, &ignored);
}

/* Stale batches (from before the cursors were read again) are dropped: their rows are polled again.
 * TM_ESTATE: a batch of this generation does not follow, so the pollers have to start over. */
static int collect(struct tm_merger *m, struct tm_error *err)
{
    uint64_t current = generation(m);
    size_t rows = count_rows(m), rows_max = tm_pace_rows(&m->d->pace, m->settings->options.batch_rows_max);
    size_t bytes = count_bytes(m), bytes_max = m->settings->batch_bytes_max;
    struct tm_batch *b;
    while (rows < rows_max && bytes < bytes_max && m->batch_count < BATCHES_MAX && (b = next_batch(m))) {
        if (b->generation != current) {
            drop_batch(m, b);
            continue;
        }
        int64_t from = expected_from(m, b);
        m->batches[m->batch_count++] = b;
        rows += b->count;
        bytes += tm_batch_weight(b);
        if (b->from != from)
            return tm_error_set(err, TM_ESTATE,
                                "%s of %s: a batch begins at seq %" PRId64 ", expected %" PRId64
                                "; polling starts over",
                                b->stream->name, b->peer->id, b->from, from);
    }
    return TM_OK;
}

/* ---- the lease ---- */

static bool has_news(struct tm_merger *m)
{
    pthread_mutex_lock(&m->d->lock);
    bool news = m->d->settings != m->settings;
    pthread_mutex_unlock(&m->d->lock);
    return news;
}

/* Wait until the lease is ours. */
static int take_lease(struct tm_merger *m, struct tm_error *err)
{
    for (;;) {
        if (has_news(m)) {
            m->anew = true;
            return tm_error_set(err, TM_ERETRY, "other settings while standing by");
        }
        int rc = tm_tenure_take(&m->tenure, m->production.pg, &m->settings->options, err);
        if (rc)
            return rc < 0 ? rc : TM_OK;
        tm_bulletin_standby(m->d);
        rc = tm_stop_wait(&m->d->quit, m->settings->options.lease_us / STANDBY_LOOKS);
        if (rc)
            return tm_error_set(err, rc, "asked to stop");
    }
}

/* ---- a transaction ---- */

/* Production is told of every row that it will never be given, with the cursor that passes it by. */
static int note_absent(struct tm_merger *m, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < m->batch_count; i++) {
        const struct tm_batch *b = m->batches[i];
        rc = tm_absent_copy(&b->absent, m->production.pg, b->peer->id, b->epoch, b->stream->name, err);
    }
    return rc;
}

static int begin(struct tm_merger *m, struct tm_error *err)
{
    struct tm_production_opening opening = tm_production_opening(&m->production);
    int rc = tm_merge_store_at_once(m->merge, m->production.pg, opening.sql, err);
    if (rc != TM_EPOISON)
        return rc;
    rc = tm_pg_exec(m->production.pg, "ROLLBACK", err);
    return rc ? rc : tm_production_begin(&m->production, err);
}

static int run_transaction(struct tm_merger *m, struct tm_error *err)
{
    int rc = tm_merge_choose(m->merge, m->batches, m->batch_count, err);
    rc = rc ? rc : tm_merge_make_days(m->merge, m->production.pg, err);
    rc = rc ? rc : begin(m, err);
    rc = rc ? rc : tm_merge_store(m->merge, m->production.pg, err);
    rc = rc ? rc : note_absent(m, err);
    rc = rc ? rc : tm_cursors_move(m->production.pg, m->d->shard, m->moves, m->move_count, err);
    m->stored_us = tm_clock_mono_us();
    rc = rc ? rc : tm_production_commit(&m->production, m->settings->options.standby_wait_us, err);
    if (rc && !tm_pg_is_open(m->production.pg))
        tm_pace_failed(&m->d->pace, count_rows(m));
    return rc;
}

static void publish_moves(struct tm_merger *m)
{
    pthread_mutex_lock(&m->d->lock);
    for (size_t i = 0; i < m->move_count; i++) {
        const struct tm_cursor_move *v = &m->moves[i];
        struct tm_cursor *own = tm_cursors_get(&m->cursors, v->gatherer, v->epoch, v->stream);
        own->seq = v->to;
        own->hash = v->hash;
        *tm_cursors_get(&m->d->cursors, v->gatherer, v->epoch, v->stream) = *own;
    }
    m->d->stats.transactions++;
    m->d->stats.last_commit_us = tm_clock_mono_us();
    pthread_mutex_unlock(&m->d->lock);
}

static void after_commit(struct tm_merger *m)
{
    int64_t now_us = tm_clock_wall_us();
    tm_merge_committed(m->merge);
    publish_moves(m);
    for (size_t i = 0; i < m->batch_count; i++) {
        tm_bulletin_merged(m->d, m->batches[i], now_us);
        tm_dedup_note_newest(m->d, m->batches[i]->stream->name, m->batches[i]->newest_us);
    }
    tm_patience_reset(&m->patience);
    tm_bulletin_working(m->d);
    tm_pace_took(&m->d->pace, count_rows(m), m->stored_us - m->started_us);
    tm_metric_observe_us(m->d->commit_seconds, tm_clock_mono_us() - m->started_us);
}

/* With nothing to do, ask whether production is still there: it may have failed over in the meantime. */
static int idle(struct tm_merger *m, struct tm_error *err)
{
    wait_for_batches(m, IDLE_US);
    int rc = collect(m, err);
    if (rc || m->batch_count)
        return rc;
    rc = tm_pg_exec(m->production.pg, "SELECT 1", err);
    if (!rc)
        tm_bulletin_working(m->d);
    return rc;
}

static int merge(struct tm_merger *m, struct tm_error *err)
{
    int64_t early_us = m->started_us + COMMIT_EVERY_US - tm_clock_mono_us();
    int rc = early_us > 0 ? tm_stop_wait(&m->d->merger_stop, early_us) : TM_OK;
    rc = rc ? rc : tm_tenure_check(&m->tenure, m->production.pg, err);
    rc = rc ? rc : collect(m, err);
    if (!rc && !m->batch_count)
        rc = idle(m, err);
    if (rc || !m->batch_count)
        return rc;
    m->started_us = tm_clock_mono_us();
    m->move_count = tm_cursors_plan(m->moves, m->batches, m->batch_count);
    rc = run_transaction(m, err);
    m->tenure.lost = rc == TM_ERETRY && strcmp(tm_pg_sqlstate(m->production.pg), TM_LEASE_LOST) == 0;
    if (!rc)
        after_commit(m);
    return rc;
}

/* ---- a session: from connect to the first error ---- */

static int load_cursors(struct tm_merger *m, struct tm_error *err)
{
    int rc = tm_cursors_load(&m->cursors, m->production.pg, &m->settings->options, m->d->shard, err);
    for (size_t i = 0; !rc && i < m->cursors.count; i++)
        tm_dedup_note_newest(m->d, m->cursors.items[i].stream, 0);
    return rc ? rc : publish(m, err);
}

/* From a session to the first poll: wait for the lease, then read everything anew that somebody else may have changed. */
static int begin_work(struct tm_merger *m, struct tm_error *err)
{
    int rc = take_lease(m, err);
    rc = rc ? rc : tm_tenure_expect_shards(&m->tenure, m->production.pg, err);
    rc = rc ? rc : tm_production_expect(&m->production, &m->tenure.lease, m->settings->options.plan, err);
    tm_merge_forget(m->merge);
    rc = rc ? rc : load_cursors(m, err);
    if (!rc)
        tm_tenure_note(&m->tenure, TM_LEASE_HELD, "");
    return rc ? rc : tm_merge_days_ahead(m->merge, m->production.pg, err); /* the pollers are at work already */
}

static int open_session(struct tm_merger *m, struct tm_error *err)
{
    const struct tm_deduplicator_options *options = &m->settings->options;
    int rc = tm_production_open(&m->production, m->settings, err);
    rc = rc ? rc : tm_production_prepare(&m->production, options->plan, options->migrate, err);
    rc = rc ? rc : tm_tenure_expect_shards(&m->tenure, m->production.pg, err);
    return rc ? rc : begin_work(m, err);
}

/* A zombie: refused by the guard, or told by the keeper. It stands by like any other, and remembers nothing. */
static int stand_down(struct tm_merger *m, struct tm_error *err)
{
    tm_keeper_rest(m->d->keeper);
    int rc = tm_pg_exec(m->production.pg, "ROLLBACK", err);
    return rc ? rc : begin_work(m, err);
}

/* The shard is for another process: the transaction is done, it may take the lease at once. */
static int hand_over(struct tm_merger *m, struct tm_error *err)
{
    tm_log(TM_LOG_INFO, "merger", "the shard goes to another process", TM_F_U64("shard", m->d->shard));
    tm_tenure_give_back(&m->tenure, m->production.pg);
    for (struct tm_batch *b; (b = next_batch(m));)
        drop_batch(m, b);
    return begin_work(m, err);
}

/* Nothing is wrong with production, but what was polled does not follow on what it has. */
static int start_over(struct tm_merger *m, int why, struct tm_error *err)
{
    tm_log(TM_LOG_WARN, "merger", "the cursors are read again from production", TM_F_ERR(err));
    if (why == TM_ECONFLICT) {
        pthread_mutex_lock(&m->d->lock);
        m->d->stats.conflicts++;
        pthread_mutex_unlock(&m->d->lock);
    }
    tm_merge_forget(m->merge); /* whoever moved a cursor may have moved it back, and taken rows away */
    int rc = tm_pg_exec(m->production.pg, "ROLLBACK", err);
    rc = rc ? rc : tm_stop_wait(&m->d->quit, tm_backoff_us(1, START_OVER_BASE_US, START_OVER_MAX_US, tm_random_unit()));
    return rc ? rc : load_cursors(m, err);
}

/* ---- other settings ---- */

static bool has_same_gatherers(const struct tm_deduplicator_options *a, const struct tm_deduplicator_options *b)
{
    size_t found = 0;
    for (size_t i = 0; i < a->gatherer_count; i++)
        for (size_t j = 0; j < b->gatherer_count; j++)
            found += strcmp(a->gatherers[i].id, b->gatherers[j].id) == 0;
    return found == a->gatherer_count && found == b->gatherer_count;
}

static void adopt_quietly(struct tm_merger *m)
{
    pthread_mutex_lock(&m->d->lock);
    struct tm_dedup_settings *before = set_adopted(m);
    pthread_mutex_unlock(&m->d->lock);
    tm_dedup_settings_put(before);
}

/* In an open session: what the new settings ask of it. */
static int follow_settings(struct tm_merger *m, const struct tm_dedup_settings *before, struct tm_error *err)
{
    const struct tm_deduplicator_options *old = &before->options, *now = &m->settings->options;
    bool same_plan = old->plan == now->plan;
    m->anew = strcmp(old->production, now->production) != 0;
    if (m->anew)
        return tm_error_set(err, TM_ERETRY, "production has another address now");
    int rc = tm_tenure_keep(&m->tenure, now, err);
    if (rc)
        return rc;
    if (!same_plan || (now->migrate && !old->migrate))
        rc = tm_production_prepare(&m->production, now->plan, now->migrate, err);
    rc = rc || same_plan ? rc : tm_production_expect(&m->production, &m->tenure.lease, now->plan, err);
    rc = rc ? rc : tm_merge_days_ahead(m->merge, m->production.pg, err);
    if (rc)
        return rc;
    if (!same_plan || !has_same_gatherers(old, now))
        return load_cursors(m, err);
    adopt_quietly(m);
    return TM_OK;
}

/* The newest settings, between two transactions or two sessions. */
static int adopt(struct tm_merger *m, struct tm_error *err)
{
    struct tm_dedup_settings *next = tm_dedup_settings_newest(m->d), *before = m->settings;
    int rc = next == before ? TM_OK : tm_merge_set_settings(m->merge, next, err);
    if (rc || next == before) {
        tm_dedup_settings_put(next);
        return rc;
    }
    m->settings = next;
    if (m->production.pg)
        rc = follow_settings(m, before, err);
    tm_dedup_settings_put(before);
    return rc;
}

/* ---- when it fails ---- */

/* Other settings may be what it takes to get on, so they end the pause. */
static int pause_after(struct tm_merger *m, enum tm_pg_class class, bool connected)
{
    int64_t now_us = tm_clock_mono_us(), left_us;
    int64_t until_us = now_us + tm_patience_pause_us(&m->patience, class, connected, now_us, tm_random_unit());
    while ((left_us = until_us - tm_clock_mono_us()) > 0 && !has_news(m)) {
        wait_for_batches(m, left_us);
        if (atomic_load(&m->d->closing))
            return TM_ESTOPPED;
    }
    return TM_OK;
}

/* The server said "not now", and the session and what it was told are good: the same batches again. */
static bool may_retry(const struct tm_merger *m, int rc)
{
    return rc == TM_ERETRY && !m->tenure.lost && m->production.pg && tm_pg_is_open(m->production.pg) &&
           tm_production_class(&m->production) == TM_PG_RETRY;
}

static int retry(struct tm_merger *m, struct tm_error *err)
{
    tm_bulletin_failure(m->d, TM_PG_RETRY, err);
    int rc = tm_pg_exec(m->production.pg, "ROLLBACK", err);
    if (rc)
        return rc;
    rc = pause_after(m, TM_PG_RETRY, true);
    return rc ? tm_error_set(err, rc, "asked to stop") : TM_OK;
}

/* Batches that wait for another try are of the settings under which they were polled. */
static int let_go(struct tm_merger *m, struct tm_error *err)
{
    if (!m->batch_count || !has_news(m))
        return TM_OK;
    drop_batches(m);
    return load_cursors(m, err);
}

static int run_session(struct tm_merger *m, struct tm_error *err)
{
    int rc = open_session(m, err);
    if (rc)
        return rc;
    tm_log(TM_LOG_INFO, "merger", "connected to production", TM_F_U64("cursors", m->cursors.count));
    while (!rc && !atomic_load(&m->d->closing)) {
        rc = let_go(m, err);
        rc = rc ? rc : adopt(m, err);
        if (rc)
            return rc;
        rc = merge(m, err);
        if (may_retry(m, rc)) {
            rc = retry(m, err);
            continue;
        }
        uint64_t merged = rc ? 0 : count_rows(m);
        drop_batches(m);
        if (m->tenure.lost)
            rc = stand_down(m, err);
        else if (rc == TM_ECONFLICT || rc == TM_ESTATE)
            rc = start_over(m, rc, err);
        else if (!rc && !atomic_load(&m->d->wanted))
            rc = hand_over(m, err);
        rc = rc ? rc : tm_acknowledge_least(m->d, m->production.pg, &m->settings->options, err);
        rc = rc ? rc : tm_merge_days_ahead(m->merge, m->production.pg, err);
        tm_dedup_publish_lag(m->d);
        tm_progress_follow(&m->progress, m->d, m->started_us, merged);
    }
    return rc ? rc : TM_ESTOPPED;
}

static void close_session(struct tm_merger *m)
{
    drop_batches(m);
    if (m->anew || atomic_load(&m->d->closing))
        tm_tenure_give_back(&m->tenure, m->production.pg);
    tm_keeper_rest(m->d->keeper);
    tm_progress_reset(&m->progress, m->d);
    tm_production_close(&m->production);
}

static void *merger_main(void *arg)
{
    struct tm_merger *m = arg;
    struct tm_error err;
    pthread_setname_np(pthread_self(), "merger");
    while (!atomic_load(&m->d->closing)) {
        m->anew = false;
        int rc = adopt(m, &err);
        rc = rc ? rc : run_session(m, &err);
        enum tm_pg_class class = tm_production_class(&m->production);
        close_session(m);
        if (rc == TM_ESTOPPED)
            break;
        tm_bulletin_disconnected(m->d);
        tm_tenure_note(&m->tenure, TM_LEASE_NONE, "");
        if (m->anew) {
            tm_patience_reset(&m->patience);
            continue;
        }
        tm_metric_add(m->d->errors, 1);
        tm_bulletin_failure(m->d, class, &err);
        if (pause_after(m, class, false))
            break;
    }
    return NULL;
}

/* ---- start and stop ---- */

static void merger_free(struct tm_merger *m)
{
    tm_merge_destroy(m->merge);
    tm_dedup_settings_put(m->settings);
    tm_cursors_fini(&m->cursors);
    free(m);
}

int tm_merger_start(struct tm_deduplicator *d, struct tm_error *err)
{
    struct tm_merger *m = calloc(1, sizeof *m);
    TM_FATAL_UNLESS(m);
    m->d = d;
    m->tenure.d = m->production.d = d;
    m->production.refusal = TM_PG_RECONNECT;
    m->settings = tm_dedup_settings_take(d->settings);
    int rc = tm_merge_create(d, m->settings, &m->merge, err);
    if (!rc && pthread_create(&m->thread, NULL, merger_main, m))
        rc = tm_error_set(err, TM_ENOMEM, "cannot start the merger thread");
    if (rc) {
        merger_free(m);
        return rc;
    }
    d->merger = m;
    return TM_OK;
}

void tm_merger_join(struct tm_deduplicator *d)
{
    if (!d->merger)
        return;
    if (pthread_timedjoin_np(d->merger->thread, NULL, &d->stop_by)) {
        tm_stop_request(&d->merger_stop);
        pthread_join(d->merger->thread, NULL);
    }
    merger_free(d->merger);
    d->merger = NULL;
}
