#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/planted.h"
#include "engine/poller_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define BACKOFF_BASE_US (100 * TM_US_PER_MS)
#define BACKOFF_MAX_US (5 * TM_US_PER_S)
#define CONNECT_US (3 * TM_US_PER_S)
#define STATEMENT_US (30 * TM_US_PER_S)
#define REST_US (10 * TM_US_PER_S)
#define REST_HOLE_US                                                                                                   \
    (1 * TM_US_PER_S) /* a hole may be filled: look again soon, but not with every commit                    \
                       */
#define WAIT_CURSORS_US (50 * TM_US_PER_MS)
#define WAIT_ROOM_US (20 * TM_US_PER_MS)

/* ---- state that others see ---- */

static void set_state(struct tm_poller *p, enum tm_peer_state state, const struct tm_error *err)
{
    struct tm_deduplicator_gatherer_stats *s = &p->peer->stats;
    pthread_mutex_lock(&p->d->lock);
    s->state = state;
    if (err)
        (void)snprintf(s->last_error, sizeof s->last_error, "%.255s", err->message);
    if (!p->peer->leaving)
        tm_metric_set(p->peer->health, state == TM_PEER_CONNECTED);
    pthread_mutex_unlock(&p->d->lock);
}

static struct tm_complaint *find_complaint(struct tm_poller *p, const char *epoch, const char *stream)
{
    for (size_t i = 0; i < p->complaint_count; i++)
        if (strcmp(p->complaints[i].epoch, epoch) == 0 && strcmp(p->complaints[i].stream, stream) == 0)
            return &p->complaints[i];
    return NULL;
}

/* True the first time that this stream of this epoch is complained about. */
static bool is_new_complaint(struct tm_poller *p, const char *epoch, const char *stream)
{
    if (find_complaint(p, epoch, stream) || p->complaint_count == TM_STREAMS_MAX)
        return false;
    struct tm_complaint *c = &p->complaints[p->complaint_count++];
    *c = (struct tm_complaint){0};
    (void)snprintf(c->epoch, sizeof c->epoch, "%s", epoch);
    (void)snprintf(c->stream, sizeof c->stream, "%s", stream);
    return true;
}

static bool is_resting(struct tm_poller *p, const struct tm_standing *s)
{
    const struct tm_complaint *c = find_complaint(p, s->epoch, s->stream);
    return c && tm_clock_mono_us() < c->rest_until_us;
}

/* Trying again at once would not help, and the other streams must not wait for it. */
static void rest(struct tm_poller *p, const struct tm_standing *s, int64_t us)
{
    struct tm_complaint *c = find_complaint(p, s->epoch, s->stream);
    if (c)
        c->rest_until_us = tm_clock_mono_us() + us;
}

/* The stream goes on: what comes next is news again. */
static void forget_complaint(struct tm_poller *p, const struct tm_standing *s)
{
    struct tm_complaint *c = find_complaint(p, s->epoch, s->stream);
    if (!c)
        return;
    *c = p->complaints[--p->complaint_count];
    tm_log(TM_LOG_INFO, "poller", "a stream that was refused goes on", TM_F_STR("gatherer", p->peer->id),
           TM_F_STR("epoch", s->epoch), TM_F_STR("stream", s->stream));
}

/* Data of this stream cannot be taken as it is: it stays where it is, the others go on. */
static void refuse(struct tm_poller *p, const char *epoch, const char *stream, const struct tm_error *err)
{
    p->refused = true;
    pthread_mutex_lock(&p->d->lock);
    (void)snprintf(p->peer->stats.last_error, sizeof p->peer->stats.last_error, "%.255s", err->message);
    pthread_mutex_unlock(&p->d->lock);
    if (!is_new_complaint(p, epoch, stream))
        return;
    tm_metric_add(p->d->holes, 1);
    tm_log(TM_LOG_ERROR, "poller", "a stream is not taken further", TM_F_STR("gatherer", p->peer->id),
           TM_F_STR("epoch", epoch), TM_F_STR("stream", stream), TM_F_ERR(err));
}

/* ---- one stream ---- */

/* Whose rows they were is not known; over all shards it adds up. */
static uint64_t part_of(const struct tm_batch *b, uint64_t rows)
{
    return rows / b->shards + (b->shard < rows % b->shards);
}

/* A hole is stepped over only where the gatherer says why, and never in silence. */
static void tell_absent(struct tm_poller *p, const struct tm_batch *b)
{
    struct tm_absent_count stepped = tm_absent_stepped(&b->absent);
    tm_metric_add(p->d->absent_lost, part_of(b, stepped.lost));
    tm_metric_add(p->d->absent_released, part_of(b, stepped.released));
    if (stepped.lost || stepped.released)
        tm_log(stepped.lost ? TM_LOG_ERROR : TM_LOG_WARN, "poller",
               "rows that the gatherer has no more are stepped over; its tidemill.absent says why",
               TM_F_STR("gatherer", p->peer->id), TM_F_STR("epoch", b->epoch), TM_F_STR("stream", b->stream->name),
               TM_F_I64("after_seq", b->from), TM_F_I64("to_seq", b->to), TM_F_U64("lost", stepped.lost),
               TM_F_U64("released", stepped.released));
}

/* What is not spread over the shards is shard 0's. */
static bool is_anothers(const struct tm_poller *p, const struct tm_stream *stream)
{
    return stream && p->d->shard && !tm_share_is_spread(stream);
}

/* TM_OK where only this stream is refused: a lost connection ends the look. */
static int give_up(struct tm_poller *p, const struct tm_standing *s, struct tm_batch *b, int rc, struct tm_error *err)
{
    tm_batch_destroy(b);
    if (!tm_pg_is_open(p->pg) || rc == TM_ERETRY)
        return rc;
    refuse(p, s->epoch, s->stream, err);
    bool session_is_good = rc == TM_ESTATE || rc == TM_ECORRUPT;
    rest(p, s, session_is_good ? REST_HOLE_US : REST_US);
    return session_is_good ? TM_OK : rc;
}

/* Whether there is something to read, and from where to where. TM_OK also when the stream is refused. `place`: of the stream
 * in the answer. */
static int look_at_stream(struct tm_poller *p, struct tm_standing s, int place, struct tm_error *err)
{
    const struct tm_stream *stream = tm_plan_stream_by_name(p->orders.settings->options.plan, s.stream);
    struct tm_cursor *at = tm_cursors_get(&p->orders.cursors, p->peer->id, s.epoch, s.stream);
    if (s.seq <= at->seq || is_anothers(p, stream))
        return TM_OK;
    if (p->reading_count == TM_POLLER_READY_MAX) {
        p->more = true;
        return TM_OK;
    }
    if (is_resting(p, &s)) {
        p->refused = true;
        return TM_OK;
    }
    if (!stream) {
        if (is_new_complaint(p, s.epoch, s.stream))
            tm_log(TM_LOG_WARN, "poller",
                   "the gatherer has a stream that this script does not declare; it is not merged",
                   TM_F_STR("gatherer", p->peer->id), TM_F_STR("stream", s.stream));
        return TM_OK;
    }
    if (tm_cursors_is_retired(&p->orders.cursors, p->peer->id, s.epoch)) {
        (void)tm_error_set(err, TM_ESTATE,
                           "%s: this epoch of the gatherer was retired, and it has rows beyond seq %" PRId64
                           ": give it a new journal directory and a new store",
                           s.stream, at->seq);
        refuse(p, s.epoch, s.stream, err);
        return TM_OK;
    }
    struct tm_batch *b = tm_batch_create(stream);
    int rc = tm_poller_begin(p, &s, at, b, err);
    if (rc)
        return give_up(p, &s, b, rc, err);
    struct tm_reading r = {.s = s, .b = b, .place = place};
    if (tm_poller_plan(p, &r)) {
        p->readings[p->reading_count++] = r;
        return TM_OK;
    }
    tm_batch_destroy(b);
    p->more = true;
    if (p->waiting < 0)
        p->waiting = place;
    return TM_OK;
}

/* Its batch is ready, given up, or the look ends. */
static int take(struct tm_poller *p, struct tm_reading *r, bool copied, struct tm_error *err)
{
    const struct tm_standing *s = &r->s;
    struct tm_batch *b = r->b;
    r->b = NULL;
    int rc = copied ? TM_OK : tm_poller_copy(p, &(struct tm_reading){.s = *s, .b = b, .alone = r->alone}, 1, err);
    rc = rc ? rc : tm_poller_finish(p, s, b, err);
    if (rc)
        return give_up(p, s, b, rc, err);
    forget_complaint(p, s);
    if (TM_PLANTED(early_cursor))
        b->to++;
    tell_absent(p, b);
    struct tm_cursor *at = tm_cursors_get(&p->orders.cursors, p->peer->id, s->epoch, s->stream);
    at->seq = b->to;
    at->hash = b->hash;
    p->more |= b->to < s->seq;
    p->ready[p->ready_count++] = b;
    return TM_OK;
}

/* All at once; where that fails, one by one, so that only what cannot be read is refused. */
static int read_all(struct tm_poller *p, struct tm_error *err)
{
    int rc = p->reading_count ? tm_poller_copy(p, p->readings, p->reading_count, err) : TM_OK;
    bool copied = !rc;
    if (rc && tm_pg_is_open(p->pg) && rc != TM_ERETRY)
        rc = TM_OK;
    for (size_t i = 0; !rc && i < p->reading_count; i++)
        rc = take(p, &p->readings[i], copied, err);
    return rc;
}

static void drop_readings(struct tm_poller *p)
{
    while (p->reading_count)
        tm_batch_destroy(p->readings[--p->reading_count].b); /* NULL: taken */
}

/* ---- one look at everything ---- */

/* Rows of a stream that is merged and that were not fetched yet. */
static uint64_t unread_of(struct tm_poller *p, struct tm_standing s)
{
    const struct tm_stream *stream = tm_plan_stream_by_name(p->orders.settings->options.plan, s.stream);
    if (!stream || is_anothers(p, stream))
        return 0;
    int64_t at = tm_cursors_get(&p->orders.cursors, p->peer->id, s.epoch, s.stream)->seq;
    uint64_t rows = s.seq > at ? (uint64_t)(s.seq - at) : 0;
    return tm_share_is_spread(stream) ? rows / p->d->shard_count : rows; /* about so many are of our shard */
}

static void note_unread(struct tm_poller *p, uint64_t rows)
{
    pthread_mutex_lock(&p->d->lock);
    p->peer->unread_rows = rows;
    pthread_mutex_unlock(&p->d->lock);
}

static struct tm_standing standing_of(const PGresult *r, int i)
{
    return (struct tm_standing){.epoch = PQgetvalue(r, i, 0),
                                .epoch_no = PQgetvalue(r, i, 1),
                                .stream = PQgetvalue(r, i, 2),
                                .seq = strtoll(PQgetvalue(r, i, 3), NULL, 10),
                                .hash = strtoll(PQgetvalue(r, i, 4), NULL, 10),
                                .committed_us = strtoll(PQgetvalue(r, i, 5), NULL, 10)};
}

/*
 * First where the streams stand, then their rows up to there. That order makes a snapshot unnecessary
 * (FAILURES T25): a mark is committed with the rows before it, so whoever has seen the mark can read the
 * rows.
 */
static int look(struct tm_poller *p, struct tm_error *err)
{
    PGresult *result;
    uint64_t unread = 0;
    p->refused = p->more = false;
    p->planned = 0;
    p->waiting = -1;
    int rc = tm_pg_query_prepared(
        p->pg,
        "SELECT e.epoch, e.epoch_no, s.stream, s.seq, s.hash, (SELECT " TM_COMMITTED_US
        " FROM tidemill.marks m WHERE m.epoch_no = s.epoch_no AND m.stream = s.stream AND m.seq = s.seq) "
        "FROM tidemill.streams s JOIN tidemill.epochs e USING (epoch_no) ORDER BY e.epoch_no, s.stream",
        0, NULL, &result, err);
    int count = rc ? 0 : PQntuples(result);
    for (int i = 0; !rc && i < count; i++) {
        int place = (p->first + i) % count;
        rc = look_at_stream(p, standing_of(result, place), place, err);
    }
    rc = rc ? rc : read_all(p, err);
    drop_readings(p);
    if (!rc)
        p->first = p->waiting < 0 ? 0 : p->waiting;
    for (int i = 0; !rc && i < PQntuples(result); i++)
        unread += unread_of(p, standing_of(result, i));
    if (!rc)
        note_unread(p, unread);
    PQclear(result);
    return rc;
}

/* What was fetched and not handed over will be fetched again. */
static void drop_ready(struct tm_poller *p)
{
    while (p->ready_count) {
        struct tm_batch *b = p->ready[--p->ready_count];
        struct tm_cursor *at = tm_cursors_get(&p->orders.cursors, p->peer->id, b->epoch, b->stream->name);
        at->seq = b->from;
        at->hash = b->from_hash;
        tm_batch_destroy(b);
    }
}

static void note_handed_over(struct tm_poller *p, const struct tm_batch *b)
{
    struct tm_peer *peer = p->peer;
    pthread_mutex_lock(&p->d->lock);
    peer->queued_rows += b->count;
    if (!peer->outstanding++)
        peer->oldest_us = b->received_min_us;
    pthread_mutex_unlock(&p->d->lock);
}

/* The queue may be full for hours while production is away: the session is kept alive and heard meanwhile. */
static int put_batch(struct tm_poller *p, struct tm_batch *b, struct tm_error *err)
{
    for (;;) {
        int rc = tm_queue_try_put(p->peer->queue, b, tm_batch_weight(b));
        if (rc != TM_EFULL)
            return rc;
        rc = tm_pg_wait_notify(p->pg, WAIT_ROOM_US, err);
        if (rc < 0)
            return rc;
        tm_dedup_publish_lag(p->d);
    }
}

static int hand_over(struct tm_poller *p, struct tm_error *err)
{
    size_t done = 0;
    int rc = TM_OK;
    for (; !rc && done < p->ready_count; done += !rc) {
        note_handed_over(p, p->ready[done]);
        rc = put_batch(p, p->ready[done], err);
        if (rc)
            tm_dedup_batch_done(p->d, p->ready[done]);
    }
    p->ready_count -= done;
    memmove(p->ready, p->ready + done, p->ready_count * sizeof *p->ready);
    return rc;
}

/* ---- a session: from connect to the first error ---- */

static int open_session(struct tm_poller *p, struct tm_error *err)
{
    struct tm_pg_options options = {.conninfo = p->peer->conninfo,
                                    .application_name = "tidemill poller",
                                    .stop = &p->peer->stop,
                                    .connect_us = CONNECT_US,
                                    .statement_us = STATEMENT_US};
    int rc = tm_pg_connect(&options, &p->pg, err);
    return rc ? rc : tm_pg_exec(p->pg, "LISTEN tidemill", err);
}

static int turn(struct tm_poller *p, struct tm_error *err)
{
    tm_dedup_publish_lag(p->d);
    if (tm_dedup_take_orders(p->peer, &p->orders))
        p->verified_count = 0;
    int64_t wait_us = WAIT_CURSORS_US;
    if (p->orders.generation && atomic_load(&p->d->wanted)) {
        int rc = look(p, err);
        if (rc)
            return rc;
        set_state(p, p->refused ? TM_PEER_STOPPED : TM_PEER_CONNECTED, NULL);
        rc = tm_acknowledge(&p->acknowledging, p->peer, &p->orders, p->pg, err);
        if (rc)
            return rc;
        wait_us = p->more ? 0 : p->orders.settings->options.poll_us; /* a commit since then has notified us */
        rc = hand_over(p, err);
        if (rc)
            return rc;
    }
    int rc = wait_us ? tm_pg_wait_notify(p->pg, wait_us, err) : TM_OK;
    return rc < 0 ? rc : TM_OK;
}

/* Shards that others merge ask the gatherers for nothing; but shard 0's are always there, to know how those are. */
static bool is_idle(const struct tm_poller *p)
{
    return p->d->shard && !atomic_load(&p->d->wanted);
}

static int run_session(struct tm_poller *p, struct tm_error *err)
{
    int rc = open_session(p, err);
    if (rc)
        return rc;
    tm_log(TM_LOG_INFO, "poller", "connected to a gatherer's store", TM_F_STR("gatherer", p->peer->id));
    set_state(p, TM_PEER_CONNECTED, NULL);
    while (!rc && !atomic_load(&p->peer->stop.stopped) && !is_idle(p))
        rc = turn(p, err);
    return rc || is_idle(p) ? rc : TM_ESTOPPED;
}

static void close_session(struct tm_poller *p)
{
    drop_ready(p);
    p->verified_count = 0;
    tm_acknowledge_session(&p->acknowledging);
    tm_pg_close(p->pg);
    p->pg = NULL;
}

void *tm_poller_main(void *arg)
{
    struct tm_peer *peer = arg;
    struct tm_poller p = {.peer = peer, .d = peer->d};
    struct tm_error err;
    uint32_t failures = 0;
    pthread_setname_np(pthread_self(), "poller");
    while (!atomic_load(&peer->stop.stopped)) {
        if (is_idle(&p) && tm_stop_wait(&peer->stop, WAIT_CURSORS_US) == TM_OK)
            continue;
        int64_t started_us = tm_clock_mono_us();
        int rc = run_session(&p, &err);
        close_session(&p);
        if (rc == TM_ESTOPPED)
            break;
        if (rc == TM_EFULL)
            tm_log(TM_LOG_INFO, "poller", "rows are larger than expected; fewer are read at once",
                   TM_F_STR("gatherer", peer->id), TM_F_ERR(&err));
        if (!rc || rc == TM_EFULL)
            continue;
        set_state(&p, TM_PEER_DOWN, &err);
        TM_LOG_LIMITED(TM_LOG_WARN, "poller", "a gatherer's store is away", TM_F_STR("gatherer", peer->id),
                       TM_F_ERR(&err));
        failures = tm_clock_mono_us() - started_us > BACKOFF_MAX_US ? 0 : failures + 1;
        if (tm_stop_wait(&peer->stop, tm_backoff_us(failures, BACKOFF_BASE_US, BACKOFF_MAX_US, tm_random_unit())))
            break;
    }
    tm_cursors_fini(&p.orders.cursors);
    tm_dedup_settings_put(p.orders.settings);
    atomic_store(&peer->ended, true);
    return NULL;
}
