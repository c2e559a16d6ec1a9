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

static int copy_lane(struct tm_writer *w, struct tm_lane *lane, struct tm_error *err)
{
    struct passage p = {.w = w, .lane = lane};
    if (!lane->stream)
        return put_aside(&p, tm_lanes_spans(w->lanes, lane), err);
    struct tm_copy_result result;
    struct tm_copy_batch batch = {.stream = lane->stream,
                                  .side = TM_COPY_LOCAL,
                                  .columns = lane->columns,
                                  .tuples = tm_lanes_spans(w->lanes, lane),
                                  .count = lane->count,
                                  .on_reject = quarantine,
                                  .arg = &p};
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

/* Where the streams stand, the mark for cursors, the checkpoint and the notification: one round trip with
 * COMMIT. */
static int build_ending(struct tm_writer *w, struct tm_journal_position at)
{
    const char *comma = "";
    tm_buf_clear(&w->sql);
    int rc = tm_buf_printf(&w->sql, "WITH now_at (stream, seq, hash) AS (VALUES ");
    for (size_t i = 0; !rc && i < tm_lanes_family_count(w->lanes); i++) {
        struct tm_family *f = tm_lanes_family(w->lanes, i);
        if (!f->touched)
            continue;
        rc = tm_buf_printf(&w->sql, "%s('%s', %" PRId64 "::int8, %" PRId64 "::int8)", comma, f->name, f->seq,
                           (int64_t)f->hash);
        comma = ", ";
    }
    rc = rc ? rc
            : tm_buf_printf(&w->sql,
                            "), marked AS (INSERT INTO tidemill.marks (epoch_no, stream, seq, hash) "
                            "SELECT %d, stream, seq, hash FROM now_at) "
                            "INSERT INTO tidemill.streams (epoch_no, stream, seq, hash) SELECT %d, stream, seq, hash "
                            "FROM now_at ON CONFLICT (epoch_no, stream) DO UPDATE SET seq = excluded.seq, "
                            "hash = excluded.hash;"
                            "INSERT INTO tidemill.checkpoint VALUES (%d, %" PRIu64 ", %" PRIu64 ") "
                            "ON CONFLICT (epoch_no) DO UPDATE SET segment = excluded.segment, "
                            "journal_offset = excluded.journal_offset; NOTIFY tidemill; COMMIT",
                            w->epoch_no, w->epoch_no, w->epoch_no, at.segment, at.offset);
    return rc ? rc : tm_buf_cstr(&w->sql) ? TM_OK : TM_ENOMEM;
}

int tm_writer_commit(struct tm_writer *w, struct tm_error *err)
{
    struct tm_journal_position at = tm_journal_reader_position(w->reader);
    int rc = make_partitions(w, err);
    rc = rc ? rc : tm_pg_exec(w->pg, "BEGIN", err);
    for (size_t i = 0; !rc && i < tm_lanes_count(w->lanes); i++)
        if (tm_lanes_get(w->lanes, i)->count)
            rc = copy_lane(w, tm_lanes_get(w->lanes, i), err);
    for (size_t i = 0; !rc && i < tm_lanes_hole_count(w->lanes); i++)
        rc = note_hole(w, tm_lanes_hole(w->lanes, i), err);
    if (!rc && build_ending(w, at))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory for a checkpoint");
    rc = rc ? rc : tm_pg_exec(w->pg, (const char *)w->sql.data, err);
    if (rc)
        return rc;
    note_commit(w);
    w->committed = at;
    tm_lanes_clear(w->lanes);
    return TM_OK;
}
