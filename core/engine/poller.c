#include "base/backoff.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/planted.h"
#include "engine/acknowledge.h"
#include "record/schema.h"
#include "store/keys.h"

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
#define READY_MAX (TM_STREAMS_MAX * 4) /* batches of one look: streams of a few epochs */

/* A stream that was refused is not said again with every look, and one that breaks the session rests for a
 * while. */
struct complaint {
    char epoch[TM_EPOCH_TEXT];
    char stream[TM_NAME_BYTES];
    int64_t rest_until_us; /* monotonic */
};

struct stream_of_epoch {
    char epoch[TM_EPOCH_TEXT];
    char stream[TM_NAME_BYTES];
};

/* What the gatherer says about a stream: a row of tidemill.streams joined with its epoch. */
struct standing {
    const char *epoch, *epoch_no, *stream;
    int64_t seq, hash, committed_us; /* the last: by the clock of the gatherer's database; 0: not known */
};

/* What a look reads of a stream. */
struct reading {
    struct standing s;
    struct tm_batch *b; /* NULL: taken */
};

struct poller {
    struct tm_peer *peer;
    struct tm_deduplicator *d;
    struct tm_pg *pg;
    struct tm_dedup_orders orders; /* its cursors move on with what was handed over */
    struct reading readings[READY_MAX];
    size_t reading_count;
    struct tm_batch *ready[READY_MAX];
    size_t ready_count;
    bool refused; /* a stream was refused in this look */
    bool more;    /* a stream has more than was taken in this look */
    struct complaint complaints[TM_STREAMS_MAX];
    size_t complaint_count;
    struct stream_of_epoch verified[READY_MAX]; /* in this session */
    size_t verified_count;
    struct tm_acknowledging acknowledging;
};

#define COMMITTED_US "(extract(epoch FROM committed_at) * 1000000)::int8"

/* ---- state that others see ---- */

static void set_state(struct poller *p, enum tm_peer_state state, const struct tm_error *err)
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

static struct complaint *find_complaint(struct poller *p, const char *epoch, const char *stream)
{
    for (size_t i = 0; i < p->complaint_count; i++)
        if (strcmp(p->complaints[i].epoch, epoch) == 0 && strcmp(p->complaints[i].stream, stream) == 0)
            return &p->complaints[i];
    return NULL;
}

/* True the first time that this stream of this epoch is complained about. */
static bool is_new_complaint(struct poller *p, const char *epoch, const char *stream)
{
    if (find_complaint(p, epoch, stream) || p->complaint_count == TM_STREAMS_MAX)
        return false;
    struct complaint *c = &p->complaints[p->complaint_count++];
    *c = (struct complaint){0};
    (void)snprintf(c->epoch, sizeof c->epoch, "%s", epoch);
    (void)snprintf(c->stream, sizeof c->stream, "%s", stream);
    return true;
}

static bool is_resting(struct poller *p, const struct standing *s)
{
    const struct complaint *c = find_complaint(p, s->epoch, s->stream);
    return c && tm_clock_mono_us() < c->rest_until_us;
}

/* Trying again at once would not help, and the other streams must not wait for it. */
static void rest(struct poller *p, const struct standing *s, int64_t us)
{
    struct complaint *c = find_complaint(p, s->epoch, s->stream);
    if (c)
        c->rest_until_us = tm_clock_mono_us() + us;
}

/* The stream goes on: what comes next is news again. */
static void forget_complaint(struct poller *p, const struct standing *s)
{
    struct complaint *c = find_complaint(p, s->epoch, s->stream);
    if (!c)
        return;
    *c = p->complaints[--p->complaint_count];
    tm_log(TM_LOG_INFO, "poller", "a stream that was refused goes on", TM_F_STR("gatherer", p->peer->id),
           TM_F_STR("epoch", s->epoch), TM_F_STR("stream", s->stream));
}

/* Data of this stream cannot be taken as it is: it stays where it is, the others go on. */
static void refuse(struct poller *p, const char *epoch, const char *stream, const struct tm_error *err)
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

/* The highest mark that is not beyond `reach`; with `or_next`, the one after it if there is none. 1: found,
 * 0: none. */
static int find_mark(struct poller *p, const struct standing *s, struct tm_batch *b, int64_t reach, bool or_next,
                     struct tm_error *err)
{
    char from[24], to[24];
    const char *values[] = {s->epoch_no, s->stream, from, to, or_next ? "t" : "f"};
    PGresult *result;
    (void)snprintf(from, sizeof from, "%" PRId64, b->from);
    (void)snprintf(to, sizeof to, "%" PRId64, reach);
    int rc = tm_pg_query_prepared(
        p->pg,
        "(SELECT seq, hash, " COMMITTED_US " FROM tidemill.marks WHERE epoch_no = $1 AND stream = $2 AND seq > $3 AND "
        "seq <= $4 ORDER BY seq DESC LIMIT 1) UNION ALL (SELECT seq, hash, " COMMITTED_US " FROM tidemill.marks WHERE "
        "epoch_no = $1 AND stream = $2 AND seq > $3 AND $5::bool ORDER BY seq LIMIT 1) "
        "ORDER BY seq DESC LIMIT 1",
        5, values, &result, err);
    if (rc)
        return rc;
    int found = PQntuples(result);
    if (found) {
        b->to = strtoll(PQgetvalue(result, 0, 0), NULL, 10);
        b->hash = strtoll(PQgetvalue(result, 0, 1), NULL, 10);
        b->committed_us = strtoll(PQgetvalue(result, 0, 2), NULL, 10);
    }
    PQclear(result);
    return found;
}

/* The mark to read up to: the highest within reach, or the next one if a commit was larger than that. */
static int choose_mark(struct poller *p, const struct standing *s, struct tm_batch *b, struct tm_error *err)
{
    int64_t reach = b->from + (int64_t)tm_pace_rows(&p->d->pace, p->orders.settings->options.poll_rows_max);
    b->to = s->seq;
    b->hash = s->hash;
    b->committed_us = s->committed_us;
    int rc = s->seq > reach ? find_mark(p, s, b, reach, true, err) : TM_OK;
    return rc < 0 ? rc : TM_OK;
}

/* In a session the history is read by ourselves, so it has to be checked only where a session or generation
 * begins. */
static bool is_verified(const struct poller *p, const struct standing *s)
{
    for (size_t i = 0; i < p->verified_count; i++)
        if (strcmp(p->verified[i].epoch, s->epoch) == 0 && strcmp(p->verified[i].stream, s->stream) == 0)
            return true;
    return false;
}

static void note_verified(struct poller *p, const struct standing *s)
{
    if (p->verified_count == READY_MAX || is_verified(p, s))
        return;
    struct stream_of_epoch *v = &p->verified[p->verified_count++];
    (void)snprintf(v->epoch, sizeof v->epoch, "%s", s->epoch);
    (void)snprintf(v->stream, sizeof v->stream, "%s", s->stream);
}

/* The same epoch with another history is a fork (FAILURES T4b): a backup that was restored and went on. A
 * mark that is not there proves nothing: a replay after a crash of the store commits in other groups. */
static int check_history(struct poller *p, const struct standing *s, const struct tm_cursor *at, struct tm_error *err)
{
    char seq[24];
    const char *values[] = {s->epoch_no, s->stream, seq};
    PGresult *result;
    (void)snprintf(seq, sizeof seq, "%" PRId64, at->seq);
    int rc = tm_pg_query(p->pg, "SELECT hash FROM tidemill.marks WHERE epoch_no = $1 AND stream = $2 AND seq = $3", 3,
                         values, &result, err);
    if (rc)
        return rc;
    bool same = PQntuples(result) == 0 || strtoll(PQgetvalue(result, 0, 0), NULL, 10) == at->hash;
    PQclear(result);
    if (!same)
        return tm_error_set(err, TM_ESTATE,
                            "%s: the gatherer's history differs from what was taken from it up to seq %" PRId64
                            ": its store or journal was restored from a backup; give it a new journal directory",
                            s->stream, at->seq);
    return TM_OK;
}

static int put_copy(struct tm_buf *sql, const struct standing *s, const struct tm_batch *b)
{
    struct tm_buf columns = {0};
    int rc = tm_schema_poll_columns(b->stream, &columns);
    const char *list = rc ? NULL : tm_buf_cstr(&columns);
    rc = list ? tm_buf_printf(sql,
                              "COPY (SELECT %s FROM %s WHERE epoch_no = %s AND seq > %" PRId64 " AND seq <= %" PRId64
                              " ORDER BY seq) TO STDOUT (FORMAT binary);",
                              list, s->stream, s->epoch_no, b->from, b->to)
              : TM_ENOMEM;
    tm_buf_fini(&columns);
    return rc;
}

/* One message for all, as each further one costs both sides a wake-up. */
static int copy_rows(struct poller *p, const struct reading *readings, size_t count, struct tm_error *err)
{
    struct tm_buf sql = {0}, *outs[READY_MAX];
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < count; i++) {
        outs[i] = &readings[i].b->bytes;
        tm_buf_clear(outs[i]);
        rc = put_copy(&sql, &readings[i].s, readings[i].b);
    }
    const char *text = rc ? NULL : tm_buf_cstr(&sql);
    rc = text ? tm_pg_copy_out_parts(p->pg, text, outs, count, err) : tm_error_set(err, TM_ENOMEM, "out of memory");
    tm_buf_fini(&sql);
    return rc;
}

/* A question about the seqs of a batch: $1 epoch, $2 stream, $3 and $4 from (exclusive) and to (inclusive). */
static int query_range(struct poller *p, const struct standing *s, const struct tm_batch *b, const char *sql,
                       PGresult **result, struct tm_error *err)
{
    char from[24], to[24];
    const char *values[] = {s->epoch, s->stream, from, to};
    (void)snprintf(from, sizeof from, "%" PRId64, b->from);
    (void)snprintf(to, sizeof to, "%" PRId64, b->to);
    return tm_pg_query(p->pg, sql, 4, values, result, err);
}

/* Rows that the gatherer's store could not take are in its quarantine: that explains their absence. */
static int load_explained(struct poller *p, const struct standing *s, struct tm_batch *b, struct tm_error *err)
{
    PGresult *result;
    int rc =
        query_range(p, s, b,
                    "SELECT DISTINCT seq FROM tidemill.quarantine WHERE epoch = $1 AND stream = $2 AND seq > $3 AND "
                    "seq <= $4 ORDER BY seq",
                    &result, err);
    if (rc)
        return rc;
    b->explained_count = (size_t)PQntuples(result);
    free(b->explained);
    b->explained = calloc(b->explained_count + 1, sizeof *b->explained);
    TM_FATAL_UNLESS(b->explained);
    for (size_t i = 0; i < b->explained_count; i++)
        b->explained[i] = strtoll(PQgetvalue(result, (int)i, 0), NULL, 10);
    PQclear(result);
    return TM_OK;
}

/* Find the rows in what was copied. */
static int index_rows(struct poller *p, const struct standing *s, struct tm_batch *b, struct tm_error *err)
{
    struct tm_error ignored;
    int rc = tm_batch_index(b, &p->d->hash_key, err);
    if (rc != TM_ESTATE || load_explained(p, s, b, &ignored))
        return rc;
    /* an older gatherer has no such table, and this role may not be allowed to read it: then nothing explains the hole */
    int told = tm_absent_load(&b->absent, p->pg, s->epoch, s->stream, b->from, b->to, &ignored);
    return b->explained_count || told > 0 ? tm_batch_index(b, &p->d->hash_key, err) : rc;
}

/* Whose rows they were is not known; over all shards it adds up. */
static uint64_t part_of(const struct tm_batch *b, uint64_t rows)
{
    return rows / b->shards + (b->shard < rows % b->shards);
}

/* A hole is stepped over only where the gatherer says why, and never in silence. */
static void tell_absent(struct poller *p, const struct tm_batch *b)
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

/* What lies before a hole up to a mark is whole, and is taken. */
static int fetch_before_hole(struct poller *p, const struct standing *s, struct tm_batch *b, struct tm_error *err)
{
    struct tm_error hole = *err;
    int rc = find_mark(p, s, b, b->missing - 1, false, err);
    if (rc > 0) {
        struct reading again = {.s = *s, .b = b};
        rc = copy_rows(p, &again, 1, err);
        return rc ? rc : index_rows(p, s, b, err);
    }
    *err = rc ? *err : hole;
    return rc ? rc : TM_ESTATE;
}

/* From where to where. */
static int begin_batch(struct poller *p, const struct standing *s, const struct tm_cursor *at, struct tm_batch *b,
                       struct tm_error *err)
{
    b->peer = p->peer;
    tm_batch_of_shard(b, p->d->shard, p->d->shard_count);
    b->generation = p->orders.generation;
    b->from = at->seq;
    b->from_hash = at->hash;
    (void)snprintf(b->epoch, sizeof b->epoch, "%s", s->epoch);
    int rc = at->seq && !is_verified(p, s) ? check_history(p, s, at, err) : TM_OK;
    return rc ? rc : choose_mark(p, s, b, err);
}

static int finish_batch(struct poller *p, const struct standing *s, struct tm_batch *b, struct tm_error *err)
{
    int rc = index_rows(p, s, b, err);
    if (rc == TM_ESTATE && b->missing)
        rc = fetch_before_hole(p, s, b, err);
    if (!rc)
        tm_batch_trim(b);
    return rc ? rc : tm_keys_are_known(p->pg, b->stream, b->newest_us, err);
}

/* What is not spread over the shards is shard 0's. */
static bool is_anothers(const struct poller *p, const struct tm_stream *stream)
{
    return stream && p->d->shard && !tm_share_is_spread(stream);
}

/* TM_OK where only this stream is refused: a lost connection ends the look. */
static int give_up(struct poller *p, const struct standing *s, struct tm_batch *b, int rc, struct tm_error *err)
{
    tm_batch_destroy(b);
    if (!tm_pg_is_open(p->pg) || rc == TM_ERETRY)
        return rc;
    refuse(p, s->epoch, s->stream, err);
    bool session_is_good = rc == TM_ESTATE || rc == TM_ECORRUPT;
    rest(p, s, session_is_good ? REST_HOLE_US : REST_US);
    return session_is_good ? TM_OK : rc;
}

/* Whether there is something to read, and from where to where. TM_OK also when the stream is refused. */
static int look_at_stream(struct poller *p, struct standing s, struct tm_error *err)
{
    const struct tm_stream *stream = tm_plan_stream_by_name(p->orders.settings->options.plan, s.stream);
    struct tm_cursor *at = tm_cursors_get(&p->orders.cursors, p->peer->id, s.epoch, s.stream);
    if (s.seq <= at->seq || is_anothers(p, stream))
        return TM_OK;
    if (p->reading_count == READY_MAX) {
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
    int rc = begin_batch(p, &s, at, b, err);
    if (rc)
        return give_up(p, &s, b, rc, err);
    p->readings[p->reading_count++] = (struct reading){.s = s, .b = b};
    return TM_OK;
}

/* Its batch is ready, given up, or the look ends. */
static int take(struct poller *p, struct reading *r, bool copied, struct tm_error *err)
{
    const struct standing *s = &r->s;
    struct tm_batch *b = r->b;
    r->b = NULL;
    int rc = copied ? TM_OK : copy_rows(p, &(struct reading){.s = *s, .b = b}, 1, err);
    rc = rc ? rc : finish_batch(p, s, b, err);
    if (rc)
        return give_up(p, s, b, rc, err);
    note_verified(p, s);
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
static int read_all(struct poller *p, struct tm_error *err)
{
    int rc = p->reading_count ? copy_rows(p, p->readings, p->reading_count, err) : TM_OK;
    bool copied = !rc;
    if (rc && tm_pg_is_open(p->pg) && rc != TM_ERETRY)
        rc = TM_OK;
    for (size_t i = 0; !rc && i < p->reading_count; i++)
        rc = take(p, &p->readings[i], copied, err);
    return rc;
}

static void drop_readings(struct poller *p)
{
    while (p->reading_count)
        tm_batch_destroy(p->readings[--p->reading_count].b); /* NULL: taken */
}

/* ---- one look at everything ---- */

/* Rows of a stream that is merged and that were not fetched yet. */
static uint64_t unread_of(struct poller *p, struct standing s)
{
    const struct tm_stream *stream = tm_plan_stream_by_name(p->orders.settings->options.plan, s.stream);
    if (!stream || is_anothers(p, stream))
        return 0;
    int64_t at = tm_cursors_get(&p->orders.cursors, p->peer->id, s.epoch, s.stream)->seq;
    uint64_t rows = s.seq > at ? (uint64_t)(s.seq - at) : 0;
    return tm_share_is_spread(stream) ? rows / p->d->shard_count : rows; /* about so many are of our shard */
}

static void note_unread(struct poller *p, uint64_t rows)
{
    pthread_mutex_lock(&p->d->lock);
    p->peer->unread_rows = rows;
    pthread_mutex_unlock(&p->d->lock);
}

static struct standing standing_of(const PGresult *r, int i)
{
    return (struct standing){.epoch = PQgetvalue(r, i, 0),
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
static int look(struct poller *p, struct tm_error *err)
{
    PGresult *result;
    uint64_t unread = 0;
    p->refused = p->more = false;
    int rc = tm_pg_query_prepared(
        p->pg,
        "SELECT e.epoch, e.epoch_no, s.stream, s.seq, s.hash, (SELECT " COMMITTED_US
        " FROM tidemill.marks m WHERE m.epoch_no = s.epoch_no AND m.stream = s.stream AND m.seq = s.seq) "
        "FROM tidemill.streams s JOIN tidemill.epochs e USING (epoch_no) ORDER BY e.epoch_no, s.stream",
        0, NULL, &result, err);
    for (int i = 0; !rc && i < PQntuples(result); i++)
        rc = look_at_stream(p, standing_of(result, i), err);
    rc = rc ? rc : read_all(p, err);
    drop_readings(p);
    for (int i = 0; !rc && i < PQntuples(result); i++)
        unread += unread_of(p, standing_of(result, i));
    if (!rc)
        note_unread(p, unread);
    PQclear(result);
    return rc;
}

/* What was fetched and not handed over will be fetched again. */
static void drop_ready(struct poller *p)
{
    while (p->ready_count) {
        struct tm_batch *b = p->ready[--p->ready_count];
        struct tm_cursor *at = tm_cursors_get(&p->orders.cursors, p->peer->id, b->epoch, b->stream->name);
        at->seq = b->from;
        at->hash = b->from_hash;
        tm_batch_destroy(b);
    }
}

static void note_handed_over(struct poller *p, const struct tm_batch *b)
{
    struct tm_peer *peer = p->peer;
    pthread_mutex_lock(&p->d->lock);
    peer->queued_rows += b->count;
    if (!peer->outstanding++)
        peer->oldest_us = b->received_min_us;
    pthread_mutex_unlock(&p->d->lock);
}

/* The queue may be full for hours while production is away: the session is kept alive and heard meanwhile. */
static int put_batch(struct poller *p, struct tm_batch *b, struct tm_error *err)
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

static int hand_over(struct poller *p, struct tm_error *err)
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

static int open_session(struct poller *p, struct tm_error *err)
{
    struct tm_pg_options options = {.conninfo = p->peer->conninfo,
                                    .application_name = "tidemill poller",
                                    .stop = &p->peer->stop,
                                    .connect_us = CONNECT_US,
                                    .statement_us = STATEMENT_US};
    int rc = tm_pg_connect(&options, &p->pg, err);
    return rc ? rc : tm_pg_exec(p->pg, "LISTEN tidemill", err);
}

static int turn(struct poller *p, struct tm_error *err)
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
static bool is_idle(const struct poller *p)
{
    return p->d->shard && !atomic_load(&p->d->wanted);
}

static int run_session(struct poller *p, struct tm_error *err)
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

static void close_session(struct poller *p)
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
    struct poller p = {.peer = peer, .d = peer->d};
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
        if (!rc)
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
