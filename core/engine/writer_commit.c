#include "base/clock.h"
#include "base/endian.h"
#include "base/log.h"
#include "engine/writer_private.h"
#include "store/absent.h"
#include "store/copy.h"
#include "store/migrate.h"
#include "store/quarantine.h"

#include <inttypes.h>
#include <stdio.h>

/* Counted only once they are committed: a batch that failed is read again, and is not to count twice. */
static void note_commit(struct tm_writer *w)
{
    int64_t received_us = tm_lanes_newest_us(w->lanes);
    uint64_t refused = 0;
    for (size_t i = 0; i < tm_lanes_count(w->lanes); i++) {
        const struct tm_lane *lane = tm_lanes_get(w->lanes, i);
        refused += lane->refused;
    }
    tm_metric_add(w->quarantined, refused);
    tm_accounts_committed(w->accounts, w->lanes);
    pthread_mutex_lock(&w->lock);
    w->stats.rows += tm_lanes_rows(w->lanes) - refused;
    w->stats.quarantined += refused;
    w->stats.batches++;
    w->stats.last_commit_us = tm_clock_mono_us();
    if (received_us)
        w->stats.last_row_received_us = received_us;
    pthread_mutex_unlock(&w->lock);
    if (received_us)
        tm_metric_observe_us(w->latency, tm_clock_wall_us() - received_us);
}

/* A lane under way, for the rows of it that the store refuses. */
struct passage {
    struct tm_writer *w;
    struct tm_lane *lane;
};

static int quarantine(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple,
                      const char *sqlstate, const char *message)
{
    struct passage *p = arg;
    struct tm_writer *w = p->w;
    struct tm_error err;
    char seq[24], epoch[37];
    (void)stream;
    tm_uuid_format(tm_journal_epoch(w->journal), epoch);
    (void)snprintf(seq, sizeof seq, "%" PRId64, (int64_t)tm_get_be64(tuple->bytes + tuple->len - 8));
    struct tm_quarantine q = {.stream = p->lane->name,
                              .gatherer = w->gatherer,
                              .epoch = epoch,
                              .seq = seq,
                              .sqlstate = sqlstate,
                              .error = message,
                              .columns = p->lane->columns,
                              .tuple = *tuple};
    int rc = tm_quarantine_put(w->pg, &q, &err);
    if (rc)
        return rc;
    p->lane->refused++;
    TM_LOG_LIMITED(TM_LOG_ERROR, "store", "a row can never be stored; it is in tidemill.quarantine",
                   TM_F_STR("stream", p->lane->name), TM_F_STR("seq", seq), TM_F_STR("sqlstate", sqlstate),
                   TM_F_STR("error", message));
    return TM_OK;
}

/* A batch may cross the ends of partitions, small ones many at a time. */
static int make_partition(struct tm_writer *w, const struct tm_lane *lane, struct tm_error *err)
{
    struct tm_family *f = lane->family;
    int64_t seq = f->first > f->partition_end ? f->first : f->partition_end + 1;
    int rc = TM_OK;
    for (; !rc && seq <= f->seq; seq = f->partition_end + 1) {
        rc = tm_migrate_local_partition_of(w->pg, lane->stream, w->epoch_no, seq, w->partition_rows, err);
        f->partition_end = rc ? 0 : tm_migrate_local_partition_end(seq, w->partition_rows);
    }
    return rc;
}

static int make_partitions(struct tm_writer *w, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < tm_lanes_count(w->lanes); i++) {
        const struct tm_lane *lane = tm_lanes_get(w->lanes, i);
        if (lane->count && lane->stream)
            rc = make_partition(w, lane, err);
    }
    return rc;
}

/* What an earlier script declared and this one does not: kept whole, as nobody can tell how to store it. */
static int put_aside(struct passage *p, const struct tm_span_bytes *tuples, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < p->lane->count; i++)
        rc = quarantine(p, NULL, &tuples[i], "", "the script declares no stream of this name any more");
    return rc ? tm_error_set(err, rc, "cannot quarantine rows of %s", p->lane->name) : TM_OK;
}

static struct tm_copy_batch batch_of(struct tm_writer *w, struct tm_lane *lane, struct passage *p)
{
    return (struct tm_copy_batch){.stream = lane->stream,
                                  .side = TM_COPY_LOCAL,
                                  .columns = lane->columns,
                                  .tuples = tm_lanes_spans(w->lanes, lane),
                                  .count = lane->count,
                                  .on_reject = quarantine,
                                  .arg = p};
}

static int copy_lane(struct tm_writer *w, struct tm_lane *lane, struct tm_error *err)
{
    struct passage p = {.w = w, .lane = lane};
    struct tm_copy_result result;
    struct tm_copy_batch batch = batch_of(w, lane, &p);
    if (!lane->stream)
        return put_aside(&p, batch.tuples, err);
    int rc = tm_copy_rows(w->pg, &batch, &result, err);
    return rc ? tm_error_wrap(err, "%s", lane->name) : TM_OK;
}

/* What the journal has lost, after the rows around it, which tell when that was. */
static int note_hole(struct tm_writer *w, const struct tm_hole *hole, struct tm_error *err)
{
    char epoch[37];
    const struct tm_stream *s = hole->lane->stream;
    tm_uuid_format(tm_journal_epoch(w->journal), epoch);
    struct tm_absent_hole line = {.gatherer = w->gatherer,
                                  .epoch = epoch,
                                  .epoch_no = w->epoch_no,
                                  .stream = hole->lane->name,
                                  .received_column =
                                      s && s->received_column >= 0 ? s->columns[s->received_column].name : NULL,
                                  .first = hole->first,
                                  .last = hole->last};
    return tm_absent_note(w->pg, &line, err);
}

/* Where the streams stand, the mark for cursors and the checkpoint. */
#define ENDING_SQL                                                                                                     \
    "PREPARE tm_ending (int4, text[], int8[], int8[], int8, int8) AS WITH now_at AS (SELECT * FROM "                   \
    "unnest($2, $3, $4) AS v (stream, seq, hash)), marked AS (INSERT INTO tidemill.marks (epoch_no, stream, seq, "     \
    "hash) SELECT $1, stream, seq, hash FROM now_at), standing AS (INSERT INTO tidemill.streams (epoch_no, stream, "   \
    "seq, hash) SELECT $1, stream, seq, hash FROM now_at ON CONFLICT (epoch_no, stream) DO UPDATE SET "                \
    "seq = excluded.seq, hash = excluded.hash) INSERT INTO tidemill.checkpoint VALUES ($1, $5, $6) "                   \
    "ON CONFLICT (epoch_no) DO UPDATE SET segment = excluded.segment, journal_offset = excluded.journal_offset"

int tm_writer_prepare(struct tm_writer *w, struct tm_error *err)
{
    return tm_pg_exec(w->pg, ENDING_SQL, err);
}

enum field { NAME, SEQ, HASH };

/* ", '{...}'": one field of all streams that have new rows. */
static int put_array(struct tm_writer *w, enum field field)
{
    const char *comma = ", '{";
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < tm_lanes_family_count(w->lanes); i++) {
        const struct tm_family *f = tm_lanes_family(w->lanes, i);
        if (!f->touched)
            continue;
        rc = field == NAME ? tm_buf_printf(&w->sql, "%s%s", comma, f->name)
                           : tm_buf_printf(&w->sql, "%s%" PRId64, comma, field == SEQ ? f->seq : (int64_t)f->hash);
        comma = ",";
    }
    return rc ? rc : tm_buf_printf(&w->sql, "}'");
}

/* With the notification and COMMIT. Names of streams are plain words. */
static int put_ending(struct tm_writer *w, struct tm_journal_position at)
{
    int rc = tm_buf_printf(&w->sql, "EXECUTE tm_ending (%d", w->epoch_no);
    rc = rc ? rc : put_array(w, NAME);
    rc = rc ? rc : put_array(w, SEQ);
    rc = rc ? rc : put_array(w, HASH);
    rc =
        rc ? rc : tm_buf_printf(&w->sql, ", %" PRIu64 ", %" PRIu64 "); NOTIFY tidemill; COMMIT", at.segment, at.offset);
    return rc ? rc : tm_buf_cstr(&w->sql) ? TM_OK : TM_ENOMEM;
}

/* ---- a commit: at once, and where that does not do lane by lane ---- */

static bool is_plain(struct tm_writer *w)
{
    bool plain = !tm_lanes_hole_count(w->lanes);
    for (size_t i = 0; plain && i < tm_lanes_count(w->lanes); i++) {
        const struct tm_lane *lane = tm_lanes_get(w->lanes, i);
        plain = lane->stream || !lane->count;
    }
    return plain;
}

/* The whole transaction in one message, as each further one costs both sides a wake-up. */
static int commit_at_once(struct tm_writer *w, struct tm_journal_position at, struct tm_error *err)
{
    struct tm_pg_part parts[TM_LANES_MAX];
    size_t count = 0;
    tm_buf_clear(&w->sql);
    int rc = tm_buf_printf(&w->sql, "BEGIN;");
    for (size_t i = 0; !rc && i < tm_lanes_count(w->lanes); i++) {
        struct tm_lane *lane = tm_lanes_get(w->lanes, i);
        if (!lane->count)
            continue;
        struct tm_copy_batch batch = batch_of(w, lane, NULL);
        rc = tm_copy_statements(w->pg, &batch, &w->sql, err);
        parts[count++] = (struct tm_pg_part){.tuples = batch.tuples, .count = batch.count};
    }
    if (rc || put_ending(w, at))
        return tm_error_set(err, TM_ENOMEM, "out of memory for a commit");
    return tm_pg_copy_in_parts(w->pg, (const char *)w->sql.data, parts, count, err);
}

static int commit_by_lane(struct tm_writer *w, struct tm_journal_position at, struct tm_error *err)
{
    int rc = tm_pg_exec(w->pg, "BEGIN", err);
    for (size_t i = 0; !rc && i < tm_lanes_count(w->lanes); i++)
        if (tm_lanes_get(w->lanes, i)->count)
            rc = copy_lane(w, tm_lanes_get(w->lanes, i), err);
    for (size_t i = 0; !rc && i < tm_lanes_hole_count(w->lanes); i++)
        rc = note_hole(w, tm_lanes_hole(w->lanes, i), err);
    tm_buf_clear(&w->sql);
    if (!rc && put_ending(w, at))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory for a checkpoint");
    return rc ? rc : tm_pg_exec(w->pg, (const char *)w->sql.data, err);
}

/* A refusal of the whole does not say which row it was, or whose. */
static bool is_refusal(const struct tm_writer *w)
{
    enum tm_pg_class class = tm_pg_class_of(w->pg);
    return tm_pg_is_open(w->pg) && (class == TM_PG_DATA || class == TM_PG_UNIQUE || class == TM_PG_STOP);
}

int tm_writer_commit(struct tm_writer *w, struct tm_error *err)
{
    struct tm_journal_position at = tm_journal_reader_position(w->reader);
    int rc = make_partitions(w, err);
    if (rc)
        return rc;
    bool plain = is_plain(w);
    rc = plain ? commit_at_once(w, at, err) : commit_by_lane(w, at, err);
    if (rc && plain && is_refusal(w)) {
        rc = tm_pg_exec(w->pg, "ROLLBACK", err);
        rc = rc ? rc : commit_by_lane(w, at, err);
    }
    if (rc)
        return rc;
    note_commit(w);
    w->committed = at;
    tm_lanes_clear(w->lanes);
    return TM_OK;
}
