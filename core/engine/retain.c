#include "engine/retain.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/gap.h"
#include "record/builtin.h"
#include "store/migrate.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define LOOK_EVERY_US (5 * TM_US_PER_S)
#define SOON_US (200 * TM_US_PER_MS)
#define LEDGER_WAIT_US (600 * TM_US_PER_S) /* then it was lost on its way, and is written again */
#define JOURNAL_WAIT_US (5 * TM_US_PER_S)  /* a full server cannot take the ledger's row; by then the journal has it */
#define ARCHIVE_AGAIN_US (10 * TM_US_PER_S)
#define WARN_AT 0.8 /* of the bound */

void tm_retain_init(struct tm_retain *r, struct tm_metrics *m)
{
    r->metrics = m;
    r->bytes = tm_metrics_gauge(m, "tidemill_store_bytes", "Size of the local store's database.", NULL);
    r->bytes_max = tm_metrics_gauge(m, "tidemill_store_bytes_max", "The bound of the local store; 0: none.", NULL);
    r->pressure = tm_metrics_gauge(m, "tidemill_store_pressure",
                                   "1 while the local store is at its bound or its disk is full.", NULL);
    r->released = tm_metrics_counter(m, "tidemill_store_released_rows_total",
                                     "Rows that the local store let go after production had acknowledged them.", NULL);
}

/* ---- the ledger ---- */

static int gap_row(const struct tm_retain *r, const struct tm_retain_context *c, uint8_t id[16], struct tm_buf *out)
{
    const struct tm_retention_part *p = &r->part;
    struct tm_gap gap;
    struct tm_row row;
    tm_gap_open(&gap, "expired", NULL, p->from_us);
    gap.first = p->acknowledged >= p->first ? p->acknowledged + 1 : p->first;
    gap.last = p->last;
    (void)snprintf(gap.detail, sizeof gap.detail,
                   "%s: %" PRIu64 " rows, seq %" PRId64 " to %" PRId64 ", left the full store %s", p->stream, p->rows,
                   gap.first, gap.last, *p->archived ? "for the archive" : "before production had them");
    memcpy(id, gap.id, 16);
    struct tm_gap_scope scope = {.stream = p->stream};
    return tm_gap_row(&gap, c->plan, &scope, (struct tm_gap_end){p->to_us, "expired"}, tm_clock_wall_us(), out, &row);
}

/* Ask for the row that explains what is to be deleted. */
static void ask_ledger(struct tm_retain *r, const struct tm_retain_context *c)
{
    struct tm_buf bytes = {0};
    uint8_t id[16];
    const struct tm_stream *gaps = tm_plan_stream_by_name(c->plan, TM_STREAM_GAPS);
    int rc = gaps ? gap_row(r, c, id, &bytes) : TM_ENOENT;
    rc = rc ? rc : c->submit(c->arg, gaps, &bytes);
    tm_buf_fini(&bytes);
    if (rc) {
        TM_LOG_LIMITED(TM_LOG_WARN, "store", "the gap ledger cannot be written now; nothing is expired",
                       TM_F_STR("why", tm_code_name(rc)));
        return;
    }
    tm_uuid_format(id, r->gap_id);
    r->asked = true;
    r->asked_us = tm_clock_mono_us();
}

static int is_in_ledger(const struct tm_retain *r, const struct tm_retain_context *c, bool *there, struct tm_error *err)
{
    const char *values[] = {r->gap_id};
    PGresult *result;
    int rc =
        tm_pg_query(c->pg, "SELECT FROM gaps WHERE gap_id = $1 AND received_at > now() - interval '1 hour' LIMIT 1", 1,
                    values, &result, err);
    if (rc)
        return rc;
    *there = PQntuples(result) > 0;
    PQclear(result);
    return TM_OK;
}

/* ---- dropping ---- */

static void count_expired(const struct tm_retain *r, const struct tm_retention_part *p)
{
    char labels[96];
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", p->stream);
    tm_metric_add(tm_metrics_counter(r->metrics, "tidemill_store_expired_rows_total",
                                     "Rows that left the full store before production had them.", labels),
                  p->rows);
}

static void tell(const struct tm_retain *r, const struct tm_retention_part *p)
{
    if (!p->expires) {
        tm_metric_add(r->released, (uint64_t)(p->last - p->first + 1));
        tm_log(TM_LOG_INFO, "store", "an acknowledged partition was dropped", TM_F_STR("partition", p->table),
               TM_F_I64("first_seq", p->first), TM_F_I64("last_seq", p->last));
        return;
    }
    count_expired(r, p);
    tm_log(TM_LOG_ERROR, "store",
           *p->archived ? "rows were expired that production does not have; they are in the archive"
                        : "rows were expired that production does not have; the gap ledger has the range",
           TM_F_STR("partition", p->table), TM_F_I64("first_seq", p->first), TM_F_I64("last_seq", p->last),
           TM_F_I64("acknowledged", p->acknowledged), TM_F_U64("rows", p->rows));
}

static int drop(struct tm_retain *r, const struct tm_retain_context *c, const struct tm_retention_part *p,
                struct tm_error *err)
{
    int rc = tm_retention_drop(c->pg, p, c->gatherer, err);
    if (rc)
        return rc;
    r->full = false;
    r->next_us = 0; /* there may be more */
    tell(r, p);
    return TM_OK;
}

/* ---- the archive first ---- */

/* Whether the ledger may be asked: the rows are archived, or the archive does not take them. What was given up on one
 * partition is tried once on the next ones. */
static bool is_archived(struct tm_retain *r, const struct tm_retain_context *c)
{
    struct tm_unsynced_done done;
    const struct tm_stream *stream = tm_plan_stream_by_name(c->plan, r->part.stream);
    if (!c->overflow || !stream)
        return true;
    switch (tm_overflow_look(c->overflow, &r->part, &done)) {
    case TM_OVERFLOW_BUSY:
        return false;
    case TM_OVERFLOW_DONE:
        r->failures = 0;
        (void)snprintf(r->part.archived, sizeof r->part.archived, "%s", done.manifest);
        return true;
    case TM_OVERFLOW_FAILED:
        if (!r->failed_us) {
            r->failed_us = tm_clock_mono_us();
            r->failures++;
        }
        if (r->failures < TM_RETAIN_TRIES && tm_clock_mono_us() - r->failed_us < ARCHIVE_AGAIN_US)
            return false;
        r->failed_us = 0;
        if (r->failures >= TM_RETAIN_TRIES)
            return true;
        break;
    case TM_OVERFLOW_IDLE:
        break;
    }
    tm_overflow_offer(c->overflow, c->conninfo, c->archive, stream, &r->part);
    return false;
}

/* What was announced goes, also when there is a little room again by now, or the ledger would tell of rows that are there.
 * It goes as it is now: meanwhile production may have taken more of it. */
static int finish_expiry(struct tm_retain *r, const struct tm_retain_context *c, struct tm_retention_rule *rule,
                         struct tm_error *err)
{
    struct tm_retention_part now;
    rule->pressure = true;
    rule->table = r->part.table;
    bool there = false;
    int rc = is_in_ledger(r, c, &there, err);
    int64_t waited_us = tm_clock_mono_us() - r->asked_us;
    there |= !rc && r->full && waited_us > JOURNAL_WAIT_US;
    if (rc || !there) {
        r->asked = rc || waited_us < LEDGER_WAIT_US;
        r->next_us = tm_clock_mono_us() + SOON_US;
        return rc;
    }
    rc = tm_retention_next(c->pg, rule, &now, err);
    if (rc <= 0) {
        r->asked = rc < 0; /* it has gone otherwise */
        return rc;
    }
    (void)snprintf(now.archived, sizeof now.archived, "%s", r->part.archived);
    rc = drop(r, c, &now, err);
    r->asked = rc != 0;
    return rc;
}

/* ---- a step ---- */

static int look_at_size(struct tm_retain *r, const struct tm_retain_context *c, bool *pressure, struct tm_error *err)
{
    uint64_t bytes = 0;
    int rc = tm_retention_size(c->pg, &bytes, err);
    if (rc)
        return rc;
    bool near = c->bytes_max && (double)bytes > WARN_AT * (double)c->bytes_max;
    *pressure = r->full || (c->bytes_max && bytes > c->bytes_max);
    tm_metric_set(r->bytes, (double)bytes);
    tm_metric_set(r->bytes_max, (double)c->bytes_max);
    tm_metric_set(r->pressure, *pressure);
    if (near && !r->warned)
        tm_log(TM_LOG_WARN, "store", "the local store is near its bound", TM_F_U64("bytes", bytes),
               TM_F_U64("bytes_max", c->bytes_max));
    r->warned = near;
    return TM_OK;
}

/* Heartbeats never end, so somebody who fetches acknowledges all the time. Where nobody is meant to, there is no series. */
static int look_at_acknowledged(struct tm_retain *r, const struct tm_retain_context *c, struct tm_error *err)
{
    int64_t age_us = -1;
    int rc = tm_retention_acknowledged_age(c->pg, &age_us, err);
    if (rc || age_us < 0)
        return rc;
    if (!r->acknowledged_age)
        r->acknowledged_age = tm_metrics_gauge(r->metrics, "tidemill_acknowledged_age_seconds",
                                               "Since a deduplicator last said that production has something.", NULL);
    tm_metric_set(r->acknowledged_age, (double)age_us / 1e6);
    return TM_OK;
}

static int step(struct tm_retain *r, const struct tm_retain_context *c, struct tm_error *err)
{
    bool pressure = false;
    int rc = look_at_size(r, c, &pressure, err);
    rc = rc ? rc : look_at_acknowledged(r, c, err);
    struct tm_retention_rule rule = {.epoch_no = c->epoch_no,
                                     .partition_rows = c->partition_rows,
                                     .keep_us = c->keep_us,
                                     .expire = c->submit ? c->expire : NULL,
                                     .pressure = pressure};
    if (!rc && r->asked)
        return finish_expiry(r, c, &rule, err);
    rc = rc ? rc : tm_retention_next(c->pg, &rule, &r->part, err);
    if (rc == 0 && pressure)
        TM_LOG_LIMITED(
            TM_LOG_ERROR, "store",
            "the local store has no room left, and nothing in it may go: production has not acknowledged it");
    if (rc <= 0)
        return rc;
    if (!r->part.expires)
        return drop(r, c, &r->part, err);
    if (is_archived(r, c))
        ask_ledger(r, c);
    r->next_us = tm_clock_mono_us() + SOON_US;
    return TM_OK;
}

int tm_retain_step(struct tm_retain *r, const struct tm_retain_context *c, struct tm_error *err)
{
    int64_t now_us = tm_clock_mono_us();
    if (now_us < r->next_us)
        return TM_OK;
    r->next_us = now_us + LOOK_EVERY_US;
    int rc = step(r, c, err);
    if (!rc || !tm_pg_is_open(c->pg))
        return rc;
    TM_LOG_LIMITED(rc == TM_ERETRY ? TM_LOG_INFO : TM_LOG_WARN, "store", "retention will be tried again",
                   TM_F_ERR(err));
    return TM_OK;
}
