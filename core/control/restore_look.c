#include "control/restore_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STATEMENT_US (INT64_C(60) * 1000000)

int tm_holdings_open(struct tm_holdings *h, struct tm_error *err)
{
    int rc = tm_stop_init(&h->stop);
    if (rc)
        return tm_error_set(err, rc, "no descriptor is free");
    struct tm_pg_options options = {.conninfo = h->config->deduplicator.production,
                                    .application_name = h->who,
                                    .stop = &h->stop,
                                    .statement_us = STATEMENT_US,
                                    .writes = h->to != NULL};
    return tm_pg_connect(&options, &h->production, err);
}

void tm_holdings_close(struct tm_holdings *h)
{
    for (size_t i = 0; i < h->count; i++)
        tm_buf_fini(&h->items[i].gaps);
    free(h->items);
    tm_pg_close(h->production);
    tm_stop_fini(&h->stop);
}

int64_t tm_holding_from(const struct tm_holdings *h, const struct tm_holding *one)
{
    return h->to && one->target < one->cursor ? one->target : one->cursor;
}

int64_t tm_holding_rows(const struct tm_holdings *h, const struct tm_holding *one)
{
    return one->there - tm_holding_from(h, one) - one->gone;
}

/* ---- one gatherer ---- */

static struct tm_holding *add(struct tm_holdings *h)
{
    struct tm_holding *grown = realloc(h->items, (h->count + 1) * sizeof *grown);
    TM_FATAL_UNLESS(grown);
    h->items = grown;
    grown[h->count] = (struct tm_holding){0};
    return &grown[h->count++];
}

static int read_streams(struct tm_holdings *h, struct tm_pg *store, const char *gatherer, struct tm_error *err)
{
    PGresult *r;
    const char *values[] = {h->stream};
    int rc = tm_pg_query(store,
                         "SELECT e.epoch, e.epoch_no, s.stream, s.seq FROM tidemill.streams s JOIN tidemill.epochs e "
                         "USING (epoch_no) WHERE $1::text IS NULL OR s.stream = $1 ORDER BY s.stream, e.epoch_no",
                         1, values, &r, err);
    for (int i = 0; !rc && i < PQntuples(r); i++) {
        if (!tm_plan_stream_by_name(h->config->plan, PQgetvalue(r, i, 2)))
            continue;
        struct tm_holding *one = add(h);
        one->gatherer = gatherer;
        (void)snprintf(one->epoch, sizeof one->epoch, "%s", PQgetvalue(r, i, 0));
        (void)snprintf(one->epoch_no, sizeof one->epoch_no, "%s", PQgetvalue(r, i, 1));
        (void)snprintf(one->stream, sizeof one->stream, "%s", PQgetvalue(r, i, 2));
        one->there = strtoll(PQgetvalue(r, i, 3), NULL, 10);
    }
    if (!rc)
        PQclear(r);
    return rc;
}

static int read_cursor(struct tm_holdings *h, struct tm_holding *one, bool *retired, struct tm_error *err)
{
    const char *values[] = {one->gatherer, one->epoch, one->stream};
    PGresult *r;
    int rc = tm_pg_query(
        h->production,
        "SELECT min(seq), min(updated_at), EXISTS (SELECT FROM tidemill.gatherers g WHERE g.gatherer = $1 AND "
        "g.epoch = $2::uuid AND g.state = 'retired'), max(seq) FROM tidemill.cursors "
        "WHERE gatherer = $1 AND epoch = $2::uuid AND stream = $3",
        3, values, &r, err);
    if (rc)
        return rc;
    one->cursor = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
    (void)snprintf(one->since, sizeof one->since, "%s", PQgetvalue(r, 0, 1));
    one->ahead = strtoll(PQgetvalue(r, 0, 3), NULL, 10);
    *retired = PQgetvalue(r, 0, 2)[0] == 't';
    PQclear(r);
    return TM_OK;
}

/* The last commit of the gatherer's before the moment: what it received since then comes after it. */
static int find_target(struct tm_holdings *h, struct tm_pg *store, struct tm_holding *one, struct tm_error *err)
{
    const char *values[] = {one->epoch_no, one->stream, h->to};
    PGresult *r;
    int rc = tm_pg_query(store,
                         "SELECT seq, hash FROM tidemill.marks WHERE epoch_no = $1 AND stream = $2 AND committed_at < "
                         "$3::timestamptz ORDER BY seq DESC LIMIT 1",
                         3, values, &r, err);
    if (rc)
        return rc;
    if (PQntuples(r)) {
        one->target = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
        one->hash = strtoll(PQgetvalue(r, 0, 1), NULL, 10);
    }
    PQclear(r);
    one->target = one->target > one->ahead ? one->ahead : one->target;
    return TM_OK;
}

/* $1 epoch_no, $2 epoch, $3 stream, $4 and $5 from (exclusive) to (inclusive), $6 when the row before `from` came; %1: the
 * table, %2: its time of arrival. Lines of tidemill.absent of one stream do not overlap. */
#define GONE_SQL                                                                                                       \
    "WITH absent AS (SELECT greatest(a.first_seq, $4::int8 + 1) AS f, least(a.last_seq, $5::int8) AS l FROM "          \
    "tidemill.absent a WHERE a.epoch = $2::uuid AND a.stream = $3 AND a.last_seq > $4::int8 AND a.first_seq <= "       \
    "$5::int8), timed AS (SELECT f, l, coalesce((SELECT t.%2$s FROM %1$s t WHERE t.epoch_no = $1::int4 AND t.seq < f " \
    "ORDER BY t.seq DESC LIMIT 1), nullif($6, '')::timestamptz, '-infinity') AS since, coalesce((SELECT t.%2$s FROM "  \
    "%1$s t WHERE t.epoch_no = $1::int4 AND t.seq > l ORDER BY t.seq LIMIT 1), now()) AS until FROM absent) "          \
    "SELECT coalesce(sum(l - f + 1), 0)::int8, coalesce(range_agg(tstzrange(since, greatest(since, until))), '{}'), "  \
    "(SELECT to_char(t.%2$s AT TIME ZONE 'UTC', 'YYYY-MM-DD HH24:MI:SS') FROM %1$s t WHERE t.epoch_no = $1::int4 AND " \
    "t.seq > $4::int8 ORDER BY t.seq LIMIT 1) FROM timed"

static int read_gone(struct tm_holdings *h, struct tm_pg *store, struct tm_holding *one, struct tm_error *err)
{
    const struct tm_stream *s = tm_plan_stream_by_name(h->config->plan, one->stream);
    char from[24], to[24], sql[2048];
    const char *values[] = {one->epoch_no, one->epoch, one->stream, from, to, one->since};
    PGresult *r;
    if (s->received_column < 0)
        return TM_OK; /* nothing says when a row of it came */
    (void)snprintf(from, sizeof from, "%" PRId64, tm_holding_from(h, one));
    (void)snprintf(to, sizeof to, "%" PRId64, one->there);
    (void)snprintf(sql, sizeof sql, GONE_SQL, one->stream, s->columns[s->received_column].name);
    int rc = tm_pg_query(store, sql, 6, values, &r, err);
    if (rc)
        return rc;
    one->gone = strtoll(PQgetvalue(r, 0, 0), NULL, 10);
    (void)snprintf(one->first, sizeof one->first, "%s", PQgetvalue(r, 0, 2));
    const char *gaps = PQgetvalue(r, 0, 1);
    if (tm_buf_append(&one->gaps, gaps, strlen(gaps)) || !tm_buf_cstr(&one->gaps))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory");
    PQclear(r);
    return rc;
}

static int look_at(struct tm_holdings *h, struct tm_pg *store, const char *gatherer, struct tm_error *err)
{
    size_t first = h->count;
    int rc = read_streams(h, store, gatherer, err);
    for (size_t i = first; !rc && i < h->count;) {
        bool retired = false;
        rc = read_cursor(h, &h->items[i], &retired, err);
        if (!rc && retired) {
            h->items[i] = h->items[--h->count];
            continue;
        }
        rc = rc || !h->to ? rc : find_target(h, store, &h->items[i], err);
        rc = rc ? rc : read_gone(h, store, &h->items[i], err);
        i++;
    }
    return rc;
}

int tm_holdings_look(struct tm_holdings *h, struct tm_error *err)
{
    const struct tm_deduplicator_options *d = &h->config->deduplicator;
    for (size_t i = 0; i < d->gatherer_count; i++) {
        struct tm_error away;
        struct tm_pg *store = NULL;
        struct tm_pg_options options = {.conninfo = d->gatherers[i].conninfo,
                                        .application_name = h->who,
                                        .stop = &h->stop,
                                        .statement_us = STATEMENT_US};
        int rc = tm_pg_connect(&options, &store, &away);
        if (rc) {
            fprintf(stderr, "%s: what %s holds is not known: %s\n", h->who, d->gatherers[i].id, away.message);
            h->away++;
            continue;
        }
        rc = look_at(h, store, d->gatherers[i].id, err);
        tm_pg_close(store);
        if (rc)
            return tm_error_wrap(err, "%s", d->gatherers[i].id);
    }
    return TM_OK;
}
