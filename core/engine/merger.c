#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/dedup_private.h"
#include "engine/merge.h"
#include "engine/progress.h"
#include "engine/tenure.h"
#include "store/keys.h"
#include "store/migrate.h"

#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#define BACKOFF_BASE_US (1 * TM_US_PER_S)
#define BACKOFF_FIRST_US (200 * TM_US_PER_MS)
#define BACKOFF_MAX_US (30 * TM_US_PER_S)
#define CONNECT_US (5 * TM_US_PER_S)
#define STATEMENT_US (60 * TM_US_PER_S)
#define COMMIT_EVERY_US (15 * TM_US_PER_MS) /* a commit costs the same for one row as for a thousand */
#define IDLE_US (1 * TM_US_PER_S)
#define STANDBY_LOOKS 20 /* within a lease */
#define STOP_S 4         /* for the transaction under way; then it is given up, and polled again at the next start */
#define BATCHES_MAX 512

/*
 * Whoever takes over ends the session of a holder that stopped in mid-transaction (store/lease.h); where it may not, the
 * server drops it for being idle, or for its client having vanished without a word. A role or database that is set to
 * commit asynchronously would lose rows that cursors say are there (FAILURES T21).
 */
#define SESSION_SQL                                                                                                    \
    "SET tcp_keepalives_idle = 5; SET tcp_keepalives_interval = 2; SET tcp_keepalives_count = 3;"                      \
    "SET tcp_user_timeout = 10000; SET idle_in_transaction_session_timeout = 5000; SET lock_timeout = 10000;"          \
    "SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = "              \
    "'off'"

struct tm_merger {
    struct tm_deduplicator *d;
    pthread_t thread;
    struct tm_pg *pg;
    struct tm_dedup_settings *settings; /* adopted; held */
    bool anew; /* the session ends because other settings want another one, not because it failed */
    struct tm_merge *merge;
    struct tm_tenure tenure;
    char begin[256];           /* opens a transaction: while the lease is ours, and the keys are those we began with */
    struct tm_cursors cursors; /* as committed */
    struct tm_batch *batches[BATCHES_MAX];
    size_t batch_count;
    struct tm_cursor_move moves[BATCHES_MAX];
    size_t move_count;
    size_t turn;        /* whose queue is looked into first */
    int64_t started_us; /* monotonic start of the last transaction */
    struct tm_progress progress;
};

/* ---- state that others see ---- */

static void note_disconnected(struct tm_merger *m)
{
    struct tm_deduplicator *d = m->d;
    pthread_mutex_lock(&d->lock);
    if (!d->down_since_us)
        d->down_since_us = tm_clock_wall_us();
    d->stats.production_connected = false;
    d->generation = 0;
    pthread_mutex_unlock(&d->lock);
    tm_metric_set(d->connected, 0);
    tm_tenure_note(&m->tenure, TM_LEASE_NONE, "");
}

/* Production is there, but it is another one's to write: its lag is not ours. */
static void note_standby(struct tm_merger *m)
{
    struct tm_deduplicator *d = m->d;
    pthread_mutex_lock(&d->lock);
    d->down_since_us = 0;
    d->stats.production_connected = true;
    d->generation = 0;
    pthread_mutex_unlock(&d->lock);
    tm_metric_set(d->connected, 1);
    tm_metric_set(d->behind, 0);
}

static void note_down(struct tm_merger *m, const struct tm_error *err)
{
    struct tm_deduplicator *d = m->d;
    note_disconnected(m);
    pthread_mutex_lock(&d->lock);
    d->stats.production_errors++;
    (void)snprintf(d->stats.last_error, sizeof d->stats.last_error, "%.255s", err->message);
    pthread_mutex_unlock(&d->lock);
    tm_metric_add(d->errors, 1);
    if (err->code == TM_ESTATE)
        TM_LOG_LIMITED(TM_LOG_ERROR, "merger", "the script contradicts production: nothing is merged", TM_F_ERR(err));
    else
        TM_LOG_LIMITED(TM_LOG_WARN, "merger", "production is away; the gatherers keep the records", TM_F_ERR(err));
}

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
    size_t rows = 0;
    struct tm_batch *b;
    while (rows < m->settings->options.batch_rows_max && m->batch_count < BATCHES_MAX && (b = next_batch(m))) {
        if (b->generation != current) {
            drop_batch(m, b);
            continue;
        }
        int64_t from = expected_from(m, b);
        m->batches[m->batch_count++] = b;
        rows += b->count;
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
        int rc = tm_tenure_take(&m->tenure, m->pg, &m->settings->options, err);
        if (rc)
            return rc < 0 ? rc : TM_OK;
        note_standby(m);
        rc = tm_stop_wait(&m->d->quit, m->settings->options.lease_us / STANDBY_LOOKS);
        if (rc)
            return tm_error_set(err, rc, "asked to stop");
    }
}

/* ---- a transaction ---- */

static struct tm_cursor_move *move_of(struct tm_merger *m, const struct tm_batch *b)
{
    for (size_t i = 0; i < m->move_count; i++) {
        struct tm_cursor_move *v = &m->moves[i];
        if (v->gatherer == b->peer->id && v->stream == b->stream->name && strcmp(v->epoch, b->epoch) == 0)
            return v;
    }
    m->moves[m->move_count] =
        (struct tm_cursor_move){.gatherer = b->peer->id, .epoch = b->epoch, .stream = b->stream->name, .from = b->from};
    return &m->moves[m->move_count++];
}

/* Consecutive batches of a stream are one move; the cursors themselves change only after COMMIT. */
static void build_moves(struct tm_merger *m)
{
    m->move_count = 0;
    for (size_t i = 0; i < m->batch_count; i++) {
        struct tm_cursor_move *v = move_of(m, m->batches[i]);
        v->to = m->batches[i]->to;
        v->hash = m->batches[i]->hash;
    }
}

static int run_transaction(struct tm_merger *m, struct tm_error *err)
{
    int rc = tm_merge_choose(m->merge, m->batches, m->batch_count, err);
    rc = rc ? rc : tm_merge_make_days(m->merge, m->pg, err);
    rc = rc ? rc : tm_pg_exec(m->pg, m->begin, err);
    rc = rc ? rc : tm_merge_store(m->merge, m->pg, err);
    rc = rc ? rc : tm_cursors_move(m->pg, m->moves, m->move_count, err);
    return rc ? rc : tm_pg_exec(m->pg, "COMMIT", err);
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

static void note_merged(struct tm_merger *m, const struct tm_batch *b, int64_t now_us)
{
    struct tm_peer *peer = b->peer;
    pthread_mutex_lock(&m->d->lock);
    while (peer->heir)
        peer = peer->heir;
    struct tm_deduplicator_gatherer_stats *s = &peer->stats;
    s->polled += b->count;
    s->written += b->written;
    s->duplicate += b->duplicate;
    s->quarantined += b->quarantined;
    if (b->received_max_us > s->last_row_us)
        s->last_row_us = b->received_max_us;
    pthread_mutex_unlock(&m->d->lock);
    if (b->received_max_us)
        tm_metric_observe_us(m->d->latency, now_us - b->received_max_us);
    if (b->committed_us)
        tm_metric_observe_us(m->d->store_latency, now_us - b->committed_us);
}

static void after_commit(struct tm_merger *m)
{
    int64_t now_us = tm_clock_wall_us();
    tm_merge_committed(m->merge);
    publish_moves(m);
    for (size_t i = 0; i < m->batch_count; i++) {
        note_merged(m, m->batches[i], now_us);
        tm_dedup_note_newest(m->d, m->batches[i]->stream->name, m->batches[i]->newest_us);
    }
    tm_metric_observe_us(m->d->commit_seconds, tm_clock_mono_us() - m->started_us);
}

/* With nothing to do, ask whether production is still there: it may have failed over in the meantime. */
static int idle(struct tm_merger *m, struct tm_error *err)
{
    wait_for_batches(m, IDLE_US);
    int rc = collect(m, err);
    return rc || m->batch_count ? rc : tm_pg_exec(m->pg, "SELECT 1", err);
}

static int merge(struct tm_merger *m, struct tm_error *err)
{
    int64_t early_us = m->started_us + COMMIT_EVERY_US - tm_clock_mono_us();
    int rc = early_us > 0 ? tm_stop_wait(&m->d->merger_stop, early_us) : TM_OK;
    rc = rc ? rc : tm_tenure_check(&m->tenure, m->pg, err);
    rc = rc ? rc : collect(m, err);
    if (!rc && !m->batch_count)
        rc = idle(m, err);
    if (rc || !m->batch_count)
        return rc;
    m->started_us = tm_clock_mono_us();
    build_moves(m);
    rc = run_transaction(m, err);
    m->tenure.lost = rc == TM_ERETRY && strcmp(tm_pg_sqlstate(m->pg), TM_LEASE_LOST) == 0;
    if (!rc)
        after_commit(m);
    return rc;
}

/* ---- a session: from connect to the first error ---- */

static int load_cursors(struct tm_merger *m, struct tm_error *err)
{
    int rc = tm_cursors_load(&m->cursors, m->pg, &m->settings->options, err);
    for (size_t i = 0; !rc && i < m->cursors.count; i++)
        tm_dedup_note_newest(m->d, m->cursors.items[i].stream, 0);
    return rc ? rc : publish(m, err);
}

/* Whoever migrates later with other keys waits for the transactions under way, and fails the next one of ours. */
static int expect_keys(struct tm_merger *m, struct tm_error *err)
{
    char digest[TM_KEYS_DIGEST];
    struct tm_buf guard = {0};
    int rc = tm_keys_expect(m->pg, m->settings->options.plan, digest, err);
    if (!rc && (tm_lease_guard(&m->tenure.lease, &guard) || !tm_buf_cstr(&guard)))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory for a transaction");
    if (!rc && *digest)
        (void)snprintf(m->begin, sizeof m->begin, "BEGIN; %s; SELECT tidemill.expect_keys('%s')",
                       (const char *)guard.data, digest);
    else if (!rc)
        (void)snprintf(m->begin, sizeof m->begin, "BEGIN; %s", (const char *)guard.data);
    tm_buf_fini(&guard);
    return rc;
}

/*
 * Who production is. Another system identifier is another database (a restore), another timeline the same one promoted
 * (a failover). The timeline stands in the name of the WAL file; a server that may not be asked for the identifier is
 * known by its timeline alone.
 */
static int read_identity(struct tm_merger *m, struct tm_error *err)
{
    PGresult *result;
    int rc = tm_pg_query(m->pg,
                         "SELECT has_function_privilege('pg_control_system()', 'EXECUTE'), "
                         "left(pg_walfile_name(pg_current_wal_insert_lsn()), 8)",
                         0, NULL, &result, err);
    if (rc)
        return rc;
    char timeline[16], identity[64];
    bool allowed = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    (void)snprintf(timeline, sizeof timeline, "%s", PQgetvalue(result, 0, 1));
    PQclear(result);
    (void)snprintf(identity, sizeof identity, "?/%s", timeline);
    if (allowed) {
        rc = tm_pg_query(m->pg, "SELECT system_identifier FROM pg_control_system()", 0, NULL, &result, err);
        if (rc)
            return rc;
        (void)snprintf(identity, sizeof identity, "%.32s/%s", PQgetvalue(result, 0, 0), timeline);
        PQclear(result);
    }
    pthread_mutex_lock(&m->d->lock);
    (void)snprintf(m->d->stats.identity, sizeof m->d->stats.identity, "%s", identity);
    pthread_mutex_unlock(&m->d->lock);
    return TM_OK;
}

/* From a session to the first poll: wait for the lease, then read everything anew that somebody else may have changed. */
static int begin_work(struct tm_merger *m, struct tm_error *err)
{
    int rc = take_lease(m, err);
    rc = rc ? rc : expect_keys(m, err);
    rc = rc ? rc : read_identity(m, err);
    tm_merge_forget(m->merge);
    rc = rc ? rc : load_cursors(m, err);
    if (!rc)
        tm_tenure_note(&m->tenure, TM_LEASE_HELD, "");
    return rc ? rc : tm_merge_days_ahead(m->merge, m->pg, err); /* the pollers are at work already */
}

static int open_session(struct tm_merger *m, struct tm_error *err)
{
    struct tm_pg_options options = {.conninfo = m->settings->options.production,
                                    .application_name = "tidemill deduplicator",
                                    .stop = &m->d->merger_stop,
                                    .connect_us = CONNECT_US,
                                    .statement_us = STATEMENT_US};
    int rc = tm_pg_connect(&options, &m->pg, err);
    rc = rc ? rc : tm_pg_exec(m->pg, SESSION_SQL, err);
    if (!rc && m->settings->options.migrate)
        rc = tm_migrate_production(m->pg, m->settings->options.plan, err);
    return rc ? rc : begin_work(m, err);
}

/* A zombie: refused by the guard, or told by the keeper. It stands by like any other, and remembers nothing. */
static int stand_down(struct tm_merger *m, struct tm_error *err)
{
    tm_keeper_rest(m->d->keeper);
    int rc = tm_pg_exec(m->pg, "ROLLBACK", err);
    return rc ? rc : begin_work(m, err);
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
    int rc = tm_pg_exec(m->pg, "ROLLBACK", err);
    rc = rc ? rc : tm_stop_wait(&m->d->quit, tm_backoff_us(1, BACKOFF_BASE_US / 20, BACKOFF_BASE_US, tm_random_unit()));
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
    if (now->migrate && !(same_plan && old->migrate))
        rc = tm_migrate_production(m->pg, now->plan, err);
    rc = rc || same_plan ? rc : expect_keys(m, err);
    rc = rc ? rc : tm_merge_days_ahead(m->merge, m->pg, err);
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
    if (m->pg)
        rc = follow_settings(m, before, err);
    tm_dedup_settings_put(before);
    return rc;
}

static int run_session(struct tm_merger *m, struct tm_error *err)
{
    int rc = open_session(m, err);
    if (rc)
        return rc;
    tm_log(TM_LOG_INFO, "merger", "connected to production", TM_F_U64("cursors", m->cursors.count));
    while (!rc && !atomic_load(&m->d->closing)) {
        rc = adopt(m, err);
        if (rc)
            return rc;
        rc = merge(m, err);
        uint64_t merged = rc ? 0 : count_rows(m);
        drop_batches(m);
        if (m->tenure.lost)
            rc = stand_down(m, err);
        else if (rc == TM_ECONFLICT || rc == TM_ESTATE)
            rc = start_over(m, rc, err);
        rc = rc ? rc : tm_merge_days_ahead(m->merge, m->pg, err);
        tm_dedup_publish_lag(m->d);
        tm_progress_follow(&m->progress, m->d, m->started_us, merged);
    }
    return rc ? rc : TM_ESTOPPED;
}

static void close_session(struct tm_merger *m)
{
    drop_batches(m);
    if (m->anew || atomic_load(&m->d->closing))
        tm_tenure_give_back(&m->tenure, m->pg);
    tm_keeper_rest(m->d->keeper);
    tm_progress_reset(&m->progress, m->d);
    tm_pg_close(m->pg);
    m->pg = NULL;
}

/* Other settings may be what it takes to get on, so they end the pause. */
static int pause_before_retry(struct tm_merger *m, int64_t us)
{
    int64_t until_us = tm_clock_mono_us() + us, left_us;
    while ((left_us = until_us - tm_clock_mono_us()) > 0 && !has_news(m)) {
        wait_for_batches(m, left_us);
        if (atomic_load(&m->d->closing))
            return TM_ESTOPPED;
    }
    return TM_OK;
}

static void *merger_main(void *arg)
{
    struct tm_merger *m = arg;
    struct tm_error err;
    uint32_t failures = 0;
    pthread_setname_np(pthread_self(), "merger");
    while (!atomic_load(&m->d->closing)) {
        uint64_t transactions = m->d->stats.transactions; /* only this thread changes it */
        m->anew = false;
        int rc = adopt(m, &err);
        rc = rc ? rc : run_session(m, &err);
        close_session(m);
        if (rc == TM_ESTOPPED)
            break;
        if (m->anew) {
            note_disconnected(m);
            failures = 0;
            continue;
        }
        note_down(m, &err);
        failures = m->d->stats.transactions > transactions ? 0 : failures + 1;
        int64_t base_us = failures ? BACKOFF_BASE_US : BACKOFF_FIRST_US; /* what worked until now may work at once */
        if (pause_before_retry(m, tm_backoff_us(failures, base_us, BACKOFF_MAX_US, tm_random_unit())))
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
    m->tenure.d = d;
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
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += STOP_S;
    if (pthread_timedjoin_np(d->merger->thread, NULL, &until)) {
        tm_stop_request(&d->merger_stop);
        pthread_join(d->merger->thread, NULL);
    }
    merger_free(d->merger);
    d->merger = NULL;
}
