#include "engine/clerk.h"
#include "base/clock.h"
#include "base/log.h"
#include "engine/days.h"
#include "engine/production.h"
#include "store/expiry.h"
#include "store/hypertable.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GAP_ROWS_MAX "1000"
#define GAPS_EVERY_US (4 * TM_US_PER_S)
#define EVERY_US (2 * TM_US_PER_S)
#define EXPIRE_EVERY_US (60 * TM_US_PER_S)
#define DAY_US (INT64_C(86400) * TM_US_PER_S)
#define AFTER_FAILURE_US (30 * TM_US_PER_S)
#define CONNECT_US (5 * TM_US_PER_S)
#define STATEMENT_US (120 * TM_US_PER_S)

struct tm_clerk {
    struct tm_deduplicator *d;
    pthread_t thread;
    struct tm_stop stop;
    struct tm_pg *pg;
    struct tm_metric *pruned;
    int64_t gaps_read_us;
    struct tm_gap_note gaps[TM_GAP_LOG_MAX];
    struct tm_days days;
    int64_t expire_at_us; /* monotonic */
};

static bool is_merging(struct tm_clerk *c)
{
    pthread_mutex_lock(&c->d->lock);
    bool merging = c->d->generation != 0;
    pthread_mutex_unlock(&c->d->lock);
    return merging;
}

static void disconnect(struct tm_clerk *c)
{
    tm_pg_close(c->pg);
    c->pg = NULL;
}

static int connect_to(struct tm_clerk *c, const char *conninfo, struct tm_error *err)
{
    if (tm_pg_is_open_by(c->pg, conninfo))
        return TM_OK;
    disconnect(c);
    struct tm_pg_options options = {.conninfo = conninfo,
                                    .application_name = "tidemill ledger",
                                    .stop = &c->stop,
                                    .connect_us = CONNECT_US,
                                    .statement_us = STATEMENT_US,
                                    .writes = true};
    tm_days_forget(&c->days);
    int rc = tm_pg_connect(&options, &c->pg, err);
    return rc ? rc : tm_pg_exec(c->pg, "SET synchronous_commit = local", err); /* what is lost is done again */
}

static bool is_counted(const struct tm_stream *s)
{
    return s->occurrence_column >= 0 && s->time_column >= 0 && s->ticker_column >= 0;
}

static int find_ambiguities(struct tm_clerk *c, const struct tm_stream *s, struct tm_error *err)
{
    char labels[96];
    int64_t keys = 0;
    const char *values[] = {s->name, s->columns[s->time_column].name, s->columns[s->ticker_column].name,
                            s->columns[s->occurrence_column].name};
    int rc = tm_pg_query_number(c->pg, "SELECT tidemill.find_ambiguities($1, $2, $3, $4)", 4, values, &keys, err);
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", s->name);
    struct tm_metric *found =
        tm_metrics_counter(c->d->metrics, "tidemill_ambiguous_keys_total",
                           "Counted keys of which fewer records may be stored than were sent: two "
                           "gatherers heard part of the time in which they were.",
                           labels);
    tm_metric_add(found, (uint64_t)keys);
    if (keys)
        tm_log(TM_LOG_WARN, "ledger",
               "equal records may be fewer than were sent: no gatherer heard all of the time in which they were; see "
               "tidemill.ambiguities",
               TM_F_STR("stream", s->name), TM_F_I64("keys", keys));
    return rc;
}

/* A gap may be several rows, and one that is filled says so in the last of them. */
static const char newest_gaps[] =
    "SELECT gatherer, min(reason), coalesce(min(connection), ''), "
    "(extract(epoch FROM min(from_ts)) * 1e6)::int8, (extract(epoch FROM max(to_ts)) * 1e6)::int8, "
    "coalesce(max(last_seq) - min(first_seq) + 1, 0), coalesce(bool_or(closed_by = 'late frames'), false) "
    "FROM (SELECT * FROM gaps WHERE reason NOT IN ('whole', 'unsubscribed') AND received_at > now() - interval '1 hour' "
    "ORDER BY received_at DESC LIMIT " GAP_ROWS_MAX ") g GROUP BY gatherer, gap_id ORDER BY max(received_at)";

static int64_t number_at(const PGresult *result, int row, int column)
{
    return strtoll(PQgetvalue(result, row, column), NULL, 10);
}

static struct tm_gap_note gap_at(const PGresult *result, int row)
{
    struct tm_gap_note n = {.from_us = number_at(result, row, 3),
                            .to_us = number_at(result, row, 4),
                            .records = number_at(result, row, 5),
                            .filled = PQgetvalue(result, row, 6)[0] == 't'};
    (void)snprintf(n.lane, sizeof n.lane, "%s", PQgetvalue(result, row, 0));
    (void)snprintf(n.reason, sizeof n.reason, "%s", PQgetvalue(result, row, 1));
    (void)snprintf(n.connection, sizeof n.connection, "%s", PQgetvalue(result, row, 2));
    return n;
}

/* For who looks at this process; nothing follows from it. */
static int read_gaps(struct tm_clerk *c, struct tm_error *err)
{
    PGresult *result;
    int64_t now_us = tm_clock_mono_us();
    if (c->gaps_read_us && now_us - c->gaps_read_us < GAPS_EVERY_US)
        return TM_OK;
    int rc = tm_pg_query(c->pg, newest_gaps, 0, NULL, &result, err);
    if (rc)
        return rc;
    int count = PQntuples(result) < TM_GAP_LOG_MAX ? PQntuples(result) : TM_GAP_LOG_MAX;
    for (int i = 0; i < count; i++)
        c->gaps[i] = gap_at(result, i);
    PQclear(result);
    tm_gap_log_replace(c->d->gap_log, c->gaps, (size_t)count);
    c->gaps_read_us = now_us;
    return TM_OK;
}

/* A day ahead of what the merger asks for, so that it always finds its partitions made. */
static int make_days(struct tm_clerk *c, const struct tm_plan *plan, struct tm_error *err)
{
    return tm_days_ahead(&c->days, c->pg, plan, tm_clock_wall_us() + DAY_US, err);
}

/* Days that the archive does not have yet stay, however old they are. */
static int next_expired(struct tm_clerk *c, const struct tm_stream *s, int64_t keep_us, bool archived,
                        struct tm_expired *e, struct tm_error *err)
{
    int rc = tm_expiry_step(c->pg, s->name, keep_us, archived, e, err);
    if (rc != TM_ESTATE)
        return rc;
    TM_LOG_LIMITED(TM_LOG_WARN, "ledger", "a day that would go is kept until the archive has it",
                   TM_F_STR("partition", e->partition));
    return 0;
}

static int expire_stream(struct tm_clerk *c, const struct tm_stream *s, int64_t keep_us, bool archived,
                         struct tm_error *err)
{
    char labels[96];
    struct tm_expired e;
    int rc = keep_us ? next_expired(c, s, keep_us, archived, &e, err) : 0;
    if (rc <= 0)
        return rc;
    (void)snprintf(labels, sizeof labels, "stream=\"%s\"", s->name);
    tm_metric_add(tm_metrics_counter(c->d->metrics, "tidemill_production_dropped_rows_total",
                                     "Rows of days that production keeps no longer.", labels),
                  (uint64_t)(e.rows > 0 ? e.rows : 0));
    tm_log(TM_LOG_INFO, "ledger", "a day was dropped, as it is kept no longer; tidemill.dropped has it",
           TM_F_STR("partition", e.partition), TM_F_I64("rows", e.rows));
    c->expire_at_us = 0; /* there may be more */
    return TM_OK;
}

static int compress_stream(struct tm_clerk *c, const struct tm_stream *s, int64_t compress_us, struct tm_error *err)
{
    int rc = compress_us ? tm_hypertable_compress(c->pg, s, compress_us, err) : 0;
    if (rc > 0)
        tm_log(TM_LOG_INFO, "ledger", "chunks of a hypertable are compressed from now on", TM_F_STR("stream", s->name),
               TM_F_I64("older_than_s", compress_us / TM_US_PER_S));
    return rc < 0 ? rc : TM_OK;
}

/* Not being able to forget costs room, and nothing else has to wait for it. */
static int expire(struct tm_clerk *c, const struct tm_dedup_settings *settings)
{
    const struct tm_plan *plan = settings->options.plan;
    struct tm_error err;
    int rc = TM_OK;
    if (tm_clock_mono_us() < c->expire_at_us)
        return TM_OK;
    c->expire_at_us = tm_clock_mono_us() + EXPIRE_EVERY_US;
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++)
        rc = expire_stream(c, tm_plan_stream(plan, i), settings->streams[i].keep_us,
                           tm_archive_length_us(&settings->options.archive, tm_plan_stream(plan, i)) > 0, &err);
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++)
        rc = compress_stream(c, tm_plan_stream(plan, i), settings->streams[i].compress_us, &err);
    if (rc && rc != TM_ESTOPPED)
        TM_LOG_LIMITED(TM_LOG_WARN, "ledger", "days could not be dropped or compressed now", TM_F_ERR(&err));
    return rc == TM_ESTOPPED ? rc : TM_OK;
}

static int keep(struct tm_clerk *c, const struct tm_dedup_settings *settings, struct tm_error *err)
{
    const struct tm_plan *plan = settings->options.plan;
    int64_t pruned = 0;
    if (c->d->shard && !atomic_load(&c->d->unreplicated))
        return TM_OK; /* the ledger is shard 0's to keep */
    int rc = connect_to(c, settings->options.production, err);
    rc = rc ? rc : tm_replication_probe(c->d, c->pg, err);
    if (rc || c->d->shard)
        return rc;
    rc = read_gaps(c, err);
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++)
        if (is_counted(tm_plan_stream(plan, i)))
            rc = find_ambiguities(c, tm_plan_stream(plan, i), err);
    rc = rc ? rc : tm_pg_query_number(c->pg, "SELECT tidemill.prune_heartbeats()", 0, NULL, &pruned, err);
    tm_metric_add(c->pruned, (uint64_t)pruned);
    rc = rc ? rc : make_days(c, plan, err);
    return rc ? rc : expire(c, settings);
}

static void *clerk_main(void *arg)
{
    struct tm_clerk *c = arg;
    struct tm_error err;
    int64_t pause_us = EVERY_US;
    pthread_setname_np(pthread_self(), "ledger");
    while (tm_stop_wait(&c->stop, pause_us) == TM_OK) {
        pause_us = EVERY_US;
        if (!is_merging(c)) {
            disconnect(c);
            continue;
        }
        struct tm_dedup_settings *settings = tm_dedup_settings_newest(c->d);
        int rc = keep(c, settings, &err);
        tm_dedup_settings_put(settings);
        if (!rc || rc == TM_ESTOPPED)
            continue;
        TM_LOG_LIMITED(TM_LOG_WARN, "ledger", "the ledger in production is not looked after for now", TM_F_ERR(&err));
        disconnect(c);
        pause_us = AFTER_FAILURE_US;
    }
    disconnect(c);
    return NULL;
}

int tm_clerk_start(struct tm_deduplicator *d, struct tm_clerk **out, struct tm_error *err)
{
    struct tm_clerk *c = calloc(1, sizeof *c);
    TM_FATAL_UNLESS(c);
    c->d = d;
    TM_FATAL_UNLESS(tm_stop_init(&c->stop) == TM_OK);
    c->pruned = tm_metrics_counter(d->metrics, "tidemill_heartbeats_pruned_total",
                                   "Heartbeats of gatherers deleted from production, as later ones say more.", NULL);
    if (pthread_create(&c->thread, NULL, clerk_main, c)) {
        tm_stop_fini(&c->stop);
        free(c);
        return tm_error_set(err, TM_ENOMEM, "cannot start the ledger thread");
    }
    *out = c;
    return TM_OK;
}

void tm_clerk_stop(struct tm_clerk *c)
{
    if (!c)
        return;
    tm_stop_request(&c->stop);
    pthread_join(c->thread, NULL);
    tm_stop_fini(&c->stop);
    free(c);
}
