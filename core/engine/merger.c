#include "base/arena.h"
#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/endian.h"
#include "dedup/seen.h"
#include "engine/dedup_private.h"
#include "engine/fpset.h"
#include "record/schema.h"
#include "store/copy.h"
#include "store/migrate.h"
#include "store/quarantine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_BASE_US (1 * TM_US_PER_S)
#define BACKOFF_MAX_US (30 * TM_US_PER_S)
#define CONNECT_US (5 * TM_US_PER_S)
#define STATEMENT_US (60 * TM_US_PER_S)
#define COMMIT_EVERY_US (15 * TM_US_PER_MS) /* a commit costs the same for one row as for a thousand */
#define IDLE_US (1 * TM_US_PER_S)
#define STANDBY_US (1 * TM_US_PER_S)
#define BATCHES_MAX 512
#define DAY_US (INT64_C(86400) * TM_US_PER_S)
#define DAYS_BEHIND 2
#define DAYS_AHEAD 7
#define DAYS_MAX 65536 /* since 1970: beyond the year 2149 no time is accepted */
#define PREFETCH 8

/* Politeness between deduplicators; safety is the compare-and-swap. "millrace" in ASCII. */
#define LOCK_SQL "SELECT pg_try_advisory_lock(7883950569655395173)"

/* What one transaction does with one stream. */
struct work {
    const struct tm_stream *stream;
    struct tm_seen *seen; /* NULL unless fingerprinted */
    struct tm_buf spans;  /* struct tm_span_bytes of the rows to store */
    struct tm_buf fps;    /* struct tm_fp of the same rows: what the seen-set learns after COMMIT */
    uint64_t polled, duplicate, quarantined, written;
    bool conflicts; /* the last COPY of this stream met rows that were there: stage the next one at once */
};

struct tm_merger {
    struct tm_deduplicator *d;
    pthread_t thread;
    struct tm_pg *pg;
    struct tm_cursors cursors; /* as committed */
    struct work *works;        /* one a stream, by its index */
    size_t work_count;
    struct tm_fpset pending;
    struct tm_batch *batches[BATCHES_MAX];
    size_t batch_count;
    struct tm_cursor_move moves[BATCHES_MAX];
    uint8_t days[DAYS_MAX / 8];         /* days whose partitions are known to be there */
    int64_t maintained_day, started_us; /* monotonic start of the last transaction */
};

/* ---- state that others see ---- */

static void note_down(struct tm_merger *m, const struct tm_error *err)
{
    struct tm_deduplicator *d = m->d;
    pthread_mutex_lock(&d->lock);
    if (!d->down_since_us)
        d->down_since_us = tm_clock_wall_us();
    d->stats.production_connected = false;
    d->generation = 0;
    d->stats.production_errors++;
    (void)snprintf(d->stats.last_error, sizeof d->stats.last_error, "%.255s", err->message);
    pthread_mutex_unlock(&d->lock);
    tm_metric_set(d->connected, 0);
    tm_metric_add(d->errors, 1);
    TM_LOG_LIMITED(TM_LOG_WARN, "merger", "production is away; the gatherers keep the records",
                   TM_F_ERR(err));
}

/* From here on the pollers read from these cursors; what they fetched before is stale. */
static int publish(struct tm_merger *m)
{
    static _Atomic uint64_t generations;
    struct tm_deduplicator *d = m->d;
    pthread_mutex_lock(&d->lock);
    int rc = tm_cursors_copy(&d->cursors, &m->cursors);
    if (!rc)
        d->generation = atomic_fetch_add(&generations, 1) + 1;
    d->stats.production_connected = true;
    d->down_since_us = 0;
    pthread_cond_broadcast(&d->published);
    pthread_mutex_unlock(&d->lock);
    tm_metric_set(d->connected, 1);
    return rc;
}

static uint64_t generation(struct tm_merger *m)
{
    pthread_mutex_lock(&m->d->lock);
    uint64_t g = m->d->generation;
    pthread_mutex_unlock(&m->d->lock);
    return g;
}

static void publish_sizes(struct tm_merger *m)
{
    uint64_t keys = 0, bytes = 0;
    for (size_t i = 0; i < m->work_count; i++) {
        if (!m->works[i].seen)
            continue;
        struct tm_seen_stats s = tm_seen_stats(m->works[i].seen);
        keys += s.keys;
        bytes += s.memory_bytes;
    }
    tm_metric_set(m->d->seen_keys, (double)keys);
    tm_metric_set(m->d->seen_bytes, (double)bytes);
}

/* ---- partitions ---- */

static bool is_day_known(const struct tm_merger *m, int64_t day)
{
    return day >= 0 && day < DAYS_MAX && (m->days[day / 8] >> (day % 8) & 1);
}

static int make_days(struct tm_merger *m, int64_t first, int64_t last, struct tm_error *err)
{
    for (int64_t day = first; day <= last; day++) {
        if (is_day_known(m, day) || day < 0 || day >= DAYS_MAX)
            continue;
        int rc = tm_migrate_production_days(m->pg, m->d->options.plan, day * DAY_US, day * DAY_US, err);
        if (rc)
            return rc;
        m->days[day / 8] |= (uint8_t)(1u << (day % 8));
    }
    return TM_OK;
}

/* Partitions are made days ahead, so that the transaction never meets a day without one in normal work. */
static int maintain(struct tm_merger *m, struct tm_error *err)
{
    int64_t today = tm_clock_wall_us() / DAY_US;
    if (today == m->maintained_day)
        return TM_OK;
    int rc = make_days(m, today - DAYS_BEHIND, today + DAYS_AHEAD, err);
    if (!rc)
        m->maintained_day = today;
    return rc;
}

/* ---- choosing the rows of a transaction ---- */

static void work_clear(struct work *w)
{
    tm_buf_clear(&w->spans);
    tm_buf_clear(&w->fps);
    w->polled = w->duplicate = w->quarantined = w->written = 0;
}

static bool is_absurd(const struct tm_merger *m, int64_t exchange_us, int64_t now_us)
{
    const struct tm_deduplicator_options *o = &m->d->options;
    return exchange_us != INT64_MIN &&
           (exchange_us < now_us - o->accept_past_us || exchange_us > now_us + o->accept_future_us);
}

/* Only what production is known to hold is left out; and what this transaction holds already. */
static bool is_duplicate(struct tm_merger *m, const struct work *w, struct tm_fp fp)
{
    return tm_seen_contains(w->seen, fp) || !tm_fpset_add(&m->pending, fp);
}

static int put_quarantine(struct tm_merger *m, const struct tm_batch *b, size_t row, const char *why,
                          struct tm_error *err)
{
    char seq[24];
    const struct tm_batch_row *r = &b->rows[row];
    const uint8_t *end = b->bytes.data + r->offset + r->len;
    struct tm_quarantine q = {.stream = b->stream->name,
                              .gatherer = m->d->options.gatherers[b->gatherer].id,
                              .epoch = b->epoch,
                              .seq = seq,
                              .sqlstate = "",
                              .error = why,
                              .columns = b->stream->copy_columns,
                              .tuple = {.bytes = b->bytes.data + r->offset, .len = r->len}};
    (void)snprintf(seq, sizeof seq, "%" PRId64, (int64_t)tm_get_be64(end - 8));
    return tm_quarantine_put(m->pg, &q, err);
}

static int take_row(struct tm_merger *m, struct work *w, struct tm_batch *b, size_t i, int64_t now_us,
                    struct tm_error *err)
{
    const struct tm_batch_row *r = &b->rows[i];
    if (is_absurd(m, r->exchange_us, now_us)) {
        w->quarantined++;
        b->quarantined++;
        return put_quarantine(
            m, b, i, "the exchange's time is outside what is accepted (accept_past, accept_future)", err);
    }
    if (w->seen && is_duplicate(m, w, r->fp)) {
        w->duplicate++;
        b->duplicate++;
        return TM_OK;
    }
    b->written++;
    struct tm_span_bytes span = tm_batch_production_row(b, i);
    int rc = tm_buf_append(&w->spans, &span, sizeof span);
    if (!rc && w->seen)
        rc = tm_buf_append(&w->fps, &r->fp, sizeof r->fp);
    return rc ? tm_error_set(err, rc, "out of memory for a transaction") : TM_OK;
}

static int take_batch(struct tm_merger *m, struct tm_batch *b, int64_t now_us, struct tm_error *err)
{
    struct work *w = &m->works[b->stream->index];
    int rc = TM_OK;
    w->polled += b->count;
    for (size_t i = 0; !rc && i < b->count; i++) {
        if (w->seen && i + PREFETCH < b->count)
            tm_seen_prefetch(w->seen, b->rows[i + PREFETCH].fp);
        rc = take_row(m, w, b, i, now_us, err);
    }
    return rc;
}

/* ---- the transaction ---- */

/* COPY gives back only the tuple; which gatherer's it was is found by where its bytes lie. */
static const struct tm_batch *owner_of(const struct tm_merger *m, const uint8_t *bytes)
{
    for (size_t i = 0; i < m->batch_count; i++) {
        const struct tm_buf *held = &m->batches[i]->bytes;
        if (bytes >= held->data && bytes < held->data + held->len)
            return m->batches[i];
    }
    return NULL;
}

static int on_reject(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple,
                     const char *sqlstate, const char *message)
{
    struct tm_merger *m = arg;
    struct tm_error err;
    const struct tm_batch *b = owner_of(m, tuple->bytes);
    size_t tail =
        stream->observer ? 0 : 12; /* what tm_batch_production_row cut off is still behind the tuple */
    char seq[24];
    (void)snprintf(seq, sizeof seq, "%" PRId64, (int64_t)tm_get_be64(tuple->bytes + tuple->len + tail - 8));
    struct tm_quarantine q = {.stream = stream->name,
                              .gatherer = b ? m->d->options.gatherers[b->gatherer].id : "",
                              .epoch = b ? b->epoch : "00000000-0000-0000-0000-000000000000",
                              .seq = seq,
                              .sqlstate = sqlstate,
                              .error = message,
                              .columns = stream->copy_columns,
                              .tuple = *tuple};
    TM_LOG_LIMITED(TM_LOG_ERROR, "merger", "production can never take a row; it is in tidemill.quarantine",
                   TM_F_STR("stream", stream->name), TM_F_STR("gatherer", q.gatherer), TM_F_STR("seq", seq),
                   TM_F_STR("sqlstate", sqlstate), TM_F_STR("error", message));
    return tm_quarantine_put(m->pg, &q, &err);
}

static int store_stream(struct tm_merger *m, struct work *w, struct tm_error *err)
{
    struct tm_copy_result result;
    struct tm_buf columns = {0};
    int rc = tm_schema_production_columns(w->stream, &columns);
    struct tm_copy_batch batch = {.stream = w->stream,
                                  .side = TM_COPY_PRODUCTION,
                                  .columns = rc ? NULL : tm_buf_cstr(&columns),
                                  .tuples = (const struct tm_span_bytes *)(const void *)w->spans.data,
                                  .count = w->spans.len / sizeof(struct tm_span_bytes),
                                  .expect_conflicts = w->conflicts,
                                  .on_reject = on_reject,
                                  .arg = m};
    rc = batch.columns ? tm_copy_rows(m->pg, &batch, &result, err)
                       : tm_error_set(err, TM_ENOMEM, "out of memory");
    tm_buf_fini(&columns);
    if (rc)
        return tm_error_wrap(err, "%s", w->stream->name);
    w->written += result.stored;
    w->duplicate += result.duplicate;
    w->quarantined += result.rejected;
    if (result.conflicted)
        tm_metric_add(m->d->conflicts, 1);
    /* catching up after a restart, duplicates come in every batch: then staging at once saves the failed COPY
     */
    w->conflicts = result.duplicate > 0 && w->seen;
    return TM_OK;
}

static int store_all(struct tm_merger *m, struct tm_error *err)
{
    size_t rows = 0;
    int64_t now_us = tm_clock_wall_us();
    for (size_t i = 0; i < m->batch_count; i++)
        rows += m->batches[i]->count;
    if (tm_fpset_clear(&m->pending, rows))
        return tm_error_set(err, TM_ENOMEM, "out of memory for a transaction of %zu rows", rows);
    for (size_t i = 0; i < m->work_count; i++)
        work_clear(&m->works[i]);
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < m->batch_count; i++)
        rc = take_batch(m, m->batches[i], now_us, err);
    for (size_t i = 0; !rc && i < m->work_count; i++)
        if (m->works[i].spans.len)
            rc = store_stream(m, &m->works[i], err);
    return rc;
}

/* Consecutive batches of a stream are one move; the cursors themselves change only after COMMIT. */
static size_t build_moves(struct tm_merger *m)
{
    size_t count = 0;
    for (size_t i = 0; i < m->batch_count; i++) {
        const struct tm_batch *b = m->batches[i];
        size_t at = 0;
        while (at < count &&
               !(m->moves[at].gatherer == b->gatherer && m->moves[at].stream == b->stream->name &&
                 strcmp(m->moves[at].epoch, b->epoch) == 0))
            at++;
        if (at == count)
            m->moves[count++] = (struct tm_cursor_move){
                .gatherer = b->gatherer, .epoch = b->epoch, .stream = b->stream->name, .from = b->from};
        m->moves[at].to = b->to;
        m->moves[at].hash = b->hash;
    }
    return count;
}

static int run_transaction(struct tm_merger *m, size_t move_count, struct tm_error *err)
{
    int rc = tm_pg_exec(m->pg, "BEGIN", err);
    rc = rc ? rc : store_all(m, err);
    rc = rc ? rc : tm_cursors_move(m->pg, &m->d->options, m->moves, move_count, err);
    return rc ? rc : tm_pg_exec(m->pg, "COMMIT", err);
}

/* ---- after COMMIT ---- */

static void learn(struct work *w)
{
    const struct tm_fp *fps = (const struct tm_fp *)(const void *)w->fps.data;
    int64_t now_us = tm_clock_mono_us();
    for (size_t i = 0; i < w->fps.len / sizeof *fps; i++)
        (void)tm_seen_add(w->seen, fps[i], now_us);
}

static void count_work(struct tm_merger *m, const struct work *w)
{
    const struct tm_stream_metrics *s = &m->d->streams[w->stream->index];
    tm_metric_add(s->polled, w->polled);
    tm_metric_add(s->written, w->written);
    tm_metric_add(s->duplicate, w->duplicate);
    tm_metric_add(s->quarantined, w->quarantined);
}

static void publish_moves(struct tm_merger *m, size_t move_count)
{
    pthread_mutex_lock(&m->d->lock);
    for (size_t i = 0; i < move_count; i++) {
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
    struct tm_deduplicator_gatherer_stats *s = &m->d->peers[b->gatherer].stats;
    pthread_mutex_lock(&m->d->lock);
    s->polled += b->count;
    s->written += b->written;
    s->duplicate += b->duplicate;
    s->quarantined += b->quarantined;
    if (b->received_max_us > s->last_row_us)
        s->last_row_us = b->received_max_us;
    pthread_mutex_unlock(&m->d->lock);
    if (b->received_max_us)
        tm_metric_observe_us(m->d->latency, now_us - b->received_max_us);
}

static void after_commit(struct tm_merger *m, size_t move_count, int64_t started_us)
{
    int64_t now_us = tm_clock_wall_us();
    for (size_t i = 0; i < m->work_count; i++) {
        if (m->works[i].seen)
            learn(&m->works[i]);
        count_work(m, &m->works[i]);
    }
    publish_moves(m, move_count);
    for (size_t i = 0; i < m->batch_count; i++)
        note_merged(m, m->batches[i], now_us);
    tm_metric_observe_us(m->d->commit_seconds, tm_clock_mono_us() - started_us);
    publish_sizes(m);
}

/* ---- batches ---- */

static void drop_batches(struct tm_merger *m)
{
    while (m->batch_count) {
        struct tm_batch *b = m->batches[--m->batch_count];
        tm_dedup_batch_done(m->d, b);
        tm_batch_destroy(b);
    }
}

/* Where the batch must begin to follow what is committed or taken into this transaction already. */
static int64_t expected_from(struct tm_merger *m, const struct tm_batch *b)
{
    for (size_t i = m->batch_count; i-- > 0;) {
        const struct tm_batch *before = m->batches[i];
        if (before->gatherer == b->gatherer && before->stream == b->stream &&
            strcmp(before->epoch, b->epoch) == 0)
            return before->to;
    }
    return tm_cursors_get(&m->cursors, b->gatherer, b->epoch, b->stream->name)->seq;
}

/* Stale batches (from before the cursors were read again) are dropped: their rows are polled again.
 * TM_ESTATE: a batch of this generation does not follow, so the pollers have to start over. */
static int collect(struct tm_merger *m, struct tm_error *err)
{
    uint64_t current = generation(m);
    size_t rows = 0;
    struct tm_batch *b = tm_queue_take(m->d->queue, IDLE_US);
    for (; b; b = tm_queue_try_take(m->d->queue)) {
        bool follows = b->generation == current && b->from == expected_from(m, b);
        bool stale = b->generation != current;
        if (!follows) {
            tm_dedup_batch_done(m->d, b);
            tm_batch_destroy(b);
            if (!stale)
                return tm_error_set(err, TM_ESTATE,
                                    "a batch does not follow its cursor; polling starts over");
            continue;
        }
        m->batches[m->batch_count++] = b;
        rows += b->count;
        if (rows >= m->d->options.batch_rows_max || m->batch_count == BATCHES_MAX)
            break;
    }
    return TM_OK;
}

/* Days without a partition that the rows need. Absurd times were not accepted, so these are few. */
static int make_needed_days(struct tm_merger *m, struct tm_error *err)
{
    int64_t now_us = tm_clock_wall_us();
    int rc = TM_OK;
    for (size_t i = 0; i < m->batch_count; i++) {
        const struct tm_batch *b = m->batches[i];
        if (b->stream->partition != TM_PARTITION_DAY)
            continue;
        for (size_t r = 0; !rc && r < b->count; r++) {
            int64_t us = b->rows[r].exchange_us;
            if (us != INT64_MIN && us >= 0 && !is_day_known(m, us / DAY_US) && !is_absurd(m, us, now_us))
                rc = make_days(m, us / DAY_US, us / DAY_US, err);
        }
    }
    return rc;
}

static int merge(struct tm_merger *m, struct tm_error *err)
{
    int64_t early_us = m->started_us + COMMIT_EVERY_US - tm_clock_mono_us();
    int rc = early_us > 0 ? tm_stop_wait(&m->d->merger_stop, early_us) : TM_OK;
    rc = rc ? rc : collect(m, err);
    if (rc || !m->batch_count)
        return rc;
    int64_t started_us = m->started_us = tm_clock_mono_us();
    rc = make_needed_days(m, err);
    size_t move_count = build_moves(m);
    rc = rc ? rc : run_transaction(m, move_count, err);
    if (!rc)
        after_commit(m, move_count, started_us);
    drop_batches(m);
    return rc;
}

/* ---- a session: from connect to the first error ---- */

static int take_lock(struct tm_merger *m, struct tm_error *err)
{
    bool told = false;
    for (;;) {
        PGresult *result;
        int rc = tm_pg_query(m->pg, LOCK_SQL, 0, NULL, &result, err);
        if (rc)
            return rc;
        bool taken = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
        PQclear(result);
        if (taken)
            return TM_OK;
        if (!told)
            tm_log(TM_LOG_INFO, "merger", "another deduplicator is at work; standing by");
        told = true;
        rc = tm_stop_wait(&m->d->pollers_stop, STANDBY_US);
        if (rc)
            return tm_error_set(err, rc, "asked to stop");
    }
}

static int open_session(struct tm_merger *m, struct tm_error *err)
{
    struct tm_pg_options options = {.conninfo = m->d->options.production,
                                    .application_name = "tidemill deduplicator",
                                    .stop = &m->d->merger_stop,
                                    .connect_us = CONNECT_US,
                                    .statement_us = STATEMENT_US};
    int rc = tm_pg_connect(&options, &m->pg, err);
    if (!rc && m->d->options.migrate)
        rc = tm_migrate_production(m->pg, m->d->options.plan, err);
    /* the seen-set may only hold what this production holds: a restored or failed-over one may have lost some
     * (T5) */
    for (size_t i = 0; i < m->work_count; i++) {
        if (m->works[i].seen)
            tm_seen_clear(m->works[i].seen);
        m->works[i].conflicts = false;
    }
    memset(m->days, 0, sizeof m->days);
    m->maintained_day = 0;
    rc = rc ? rc : take_lock(m, err);
    rc = rc ? rc : maintain(m, err);
    rc = rc ? rc : tm_cursors_load(&m->cursors, m->pg, &m->d->options, err);
    return rc ? rc : publish(m);
}

static int run_session(struct tm_merger *m, struct tm_error *err)
{
    int rc = open_session(m, err);
    if (rc)
        return rc;
    tm_log(TM_LOG_INFO, "merger", "connected to production", TM_F_U64("cursors", m->cursors.count));
    while (!atomic_load(&m->d->closing)) {
        rc = merge(m, err);
        rc = rc ? rc : maintain(m, err);
        if (rc)
            return rc;
    }
    return TM_ESTOPPED;
}

static void close_session(struct tm_merger *m)
{
    drop_batches(m);
    tm_pg_close(m->pg);
    m->pg = NULL;
}

/* After a conflict or a batch out of order nothing is wrong with production: come back at once. */
static int64_t pause_us(int rc, uint32_t failures)
{
    if (rc == TM_ECONFLICT || rc == TM_ESTATE)
        return tm_backoff_us(failures, BACKOFF_BASE_US / 10, BACKOFF_BASE_US, tm_random_unit());
    return tm_backoff_us(failures, BACKOFF_BASE_US, BACKOFF_MAX_US, tm_random_unit());
}

static void *merger_main(void *arg)
{
    struct tm_merger *m = arg;
    struct tm_error err;
    uint32_t failures = 0;
    pthread_setname_np(pthread_self(), "merger");
    while (!atomic_load(&m->d->closing)) {
        uint64_t transactions = m->d->stats.transactions; /* only this thread changes it */
        int rc = run_session(m, &err);
        close_session(m);
        if (rc == TM_ESTOPPED)
            break;
        note_down(m, &err);
        failures = m->d->stats.transactions > transactions ? 0 : failures + 1;
        if (tm_stop_wait(&m->d->pollers_stop, pause_us(rc, failures)))
            break;
    }
    return NULL;
}

/* ---- start and stop ---- */

static void merger_free(struct tm_merger *m)
{
    for (size_t i = 0; i < m->work_count; i++) {
        tm_seen_destroy(m->works[i].seen);
        tm_buf_fini(&m->works[i].spans);
        tm_buf_fini(&m->works[i].fps);
    }
    free(m->works);
    tm_fpset_fini(&m->pending);
    tm_cursors_fini(&m->cursors);
    free(m);
}

static int make_works(struct tm_merger *m, struct tm_error *err)
{
    const struct tm_plan *plan = m->d->options.plan;
    m->work_count = tm_plan_stream_count(plan);
    m->works = calloc(m->work_count, sizeof *m->works);
    TM_FATAL_UNLESS(m->works);
    for (size_t i = 0; i < m->work_count; i++) {
        struct work *w = &m->works[i];
        w->stream = tm_plan_stream(plan, i);
        if (!tm_stream_is_fingerprinted(w->stream))
            continue;
        struct tm_seen_options options = {.window_us = w->stream->window_us,
                                          .memory_bytes_max = w->stream->memory_bytes_max};
        int rc = tm_seen_create(&options, &w->seen, err);
        if (rc)
            return rc;
    }
    return TM_OK;
}

int tm_merger_start(struct tm_deduplicator *d, struct tm_error *err)
{
    struct tm_merger *m = calloc(1, sizeof *m);
    TM_FATAL_UNLESS(m);
    m->d = d;
    int rc = make_works(m, err);
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
    until.tv_sec +=
        4; /* for the transaction under way; then it is given up, and polled again at the next start */
    if (pthread_timedjoin_np(d->merger->thread, NULL, &until)) {
        tm_stop_request(&d->merger_stop);
        pthread_join(d->merger->thread, NULL);
    }
    merger_free(d->merger);
    d->merger = NULL;
}
