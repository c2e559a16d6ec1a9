#include "base/clock.h"
#include "base/endian.h"
#include "record/row.h"
#include "store/exports.h"
#include "store/migrate.h"
#include "store/quarantine.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PAGE_ROWS 500 /* of one transaction */

#define ONE_AT_A_TIME "SELECT pg_try_advisory_lock(hashtext('tidemill quarantine'))"

/* ---- pages of rows ---- */

struct page {
    PGresult *result;
    struct tm_quarantined rows[PAGE_ROWS];
    uint8_t *tuples[PAGE_ROWS]; /* PQfreemem */
    size_t count;
};

static void page_fini(struct page *p)
{
    for (size_t i = 0; i < p->count; i++)
        PQfreemem(p->tuples[i]);
    PQclear(p->result);
    p->result = NULL;
    p->count = 0;
}

static int unpack(struct page *p, int i, struct tm_error *err)
{
    struct tm_quarantined *r = &p->rows[i];
    const PGresult *q = p->result;
    *r = (struct tm_quarantined){.id = strtoll(PQgetvalue(q, i, 0), NULL, 10),
                                 .at = PQgetvalue(q, i, 1),
                                 .stream = PQgetvalue(q, i, 2),
                                 .gatherer = PQgetvalue(q, i, 3),
                                 .epoch = PQgetvalue(q, i, 4),
                                 .seq = strtoll(PQgetvalue(q, i, 5), NULL, 10),
                                 .sqlstate = PQgetvalue(q, i, 6),
                                 .error = PQgetvalue(q, i, 7),
                                 .columns = PQgetvalue(q, i, 8)};
    p->tuples[i] = PQunescapeBytea((const unsigned char *)PQgetvalue(q, i, 9), &r->len);
    if (!p->tuples[i])
        return tm_error_set(err, TM_ENOMEM, "out of memory for a quarantined row");
    r->tuple = p->tuples[i];
    p->count++;
    return TM_OK;
}

/* The next rows above `after`; p->count is 0 when there are no more. */
static int page_load(struct page *p, struct tm_pg *pg, const struct tm_quarantine_pick *pick, int64_t after,
                     struct tm_error *err)
{
    char from[24];
    const char *values[] = {pick->stream, pick->ids, from};
    (void)snprintf(from, sizeof from, "%" PRId64, after);
    p->count = 0;
    int rc = tm_pg_query(pg,
                         "SELECT id, at, stream, gatherer, epoch, seq, sqlstate, error, columns, tuple FROM "
                         "tidemill.quarantine WHERE ($1::text IS NULL OR stream = $1) AND ($2::int8[] IS NULL OR "
                         "id = ANY ($2::int8[])) AND id > $3 ORDER BY id LIMIT 500",
                         3, values, &p->result, err);
    for (int i = 0; !rc && i < PQntuples(p->result); i++)
        rc = unpack(p, i, err);
    return rc;
}

/* Call `each` for every page; it may delete the page's rows. */
static int for_pages(struct tm_pg *pg, const struct tm_quarantine_pick *pick,
                     int (*each)(void *arg, struct page *page, struct tm_error *err), void *arg, struct tm_error *err)
{
    struct page *p = calloc(1, sizeof *p);
    int64_t after = 0;
    int rc = p ? TM_OK : tm_error_set(err, TM_ENOMEM, "out of memory for quarantined rows");
    bool more = p != NULL;
    while (!rc && more) {
        rc = page_load(p, pg, pick, after, err);
        more = p->count > 0;
        after = more ? p->rows[p->count - 1].id : after;
        rc = rc || !more ? rc : each(arg, p, err);
        page_fini(p);
    }
    free(p);
    return rc;
}

/* ---- list ---- */

struct listing {
    tm_quarantine_visit *visit;
    void *arg;
};

static int visit_page(void *arg, struct page *p, struct tm_error *err)
{
    const struct listing *l = arg;
    int rc = TM_OK;
    (void)err;
    for (size_t i = 0; !rc && i < p->count; i++)
        rc = l->visit(l->arg, &p->rows[i]);
    return rc;
}

int tm_quarantine_list(struct tm_pg *pg, const struct tm_quarantine_pick *pick, tm_quarantine_visit *visit, void *arg,
                       struct tm_error *err)
{
    struct listing l = {.visit = visit, .arg = arg};
    return for_pages(pg, pick, visit_page, &l, err);
}

/* ---- what both have in common ---- */

static int lock(struct tm_pg *pg, struct tm_error *err)
{
    PGresult *result;
    int rc = tm_pg_query(pg, ONE_AT_A_TIME, 0, NULL, &result, err);
    if (rc)
        return rc;
    bool got = strcmp(PQgetvalue(result, 0, 0), "t") == 0;
    PQclear(result);
    return got ? TM_OK : tm_error_set(err, TM_ERETRY, "another process works on this store's quarantine");
}

static int roll_back(struct tm_pg *pg, int rc)
{
    tm_pg_rollback(pg);
    return rc;
}

/* Delete the rows in `ids`, an array; TM_ECONFLICT unless all of them are there. */
static int delete_rows(struct tm_pg *pg, struct tm_buf *ids, size_t count, struct tm_error *err)
{
    PGresult *result;
    const char *values[] = {tm_buf_cstr(ids)};
    int rc = values[0] ? tm_pg_query(pg, "DELETE FROM tidemill.quarantine WHERE id = ANY ($1::int8[])", 1, values,
                                     &result, err)
                       : tm_error_set(err, TM_ENOMEM, "out of memory for quarantined rows");
    if (rc)
        return rc;
    bool all = strtoull(PQcmdTuples(result), NULL, 10) == count;
    PQclear(result);
    return all ? TM_OK : tm_error_set(err, TM_ECONFLICT, "somebody else has changed the quarantine meanwhile");
}

/* ---- retry ---- */

struct retry {
    struct tm_pg *pg;
    const struct tm_quarantine_retry *how;
    struct tm_quarantine_counts *counts, page_counts;
    struct page *page;
    size_t first;            /* of the rows under way */
    bool refused[PAGE_ROWS]; /* of the page */
    struct tm_span_bytes spans[PAGE_ROWS];
    struct tm_buf own; /* tuples that name their epoch */
    struct tm_buf columns;
};

/* The row stays, with the reason of today. */
static int refuse(struct retry *r, size_t row, const char *sqlstate, const char *why, struct tm_error *err)
{
    char id[24];
    const char *values[] = {id, sqlstate, why};
    (void)snprintf(id, sizeof id, "%" PRId64, r->page->rows[row].id);
    int rc = tm_pg_run(r->pg, "UPDATE tidemill.quarantine SET sqlstate = $2, error = $3 WHERE id = $1", 3, values, NULL,
                       err);
    r->refused[row] = true;
    r->page_counts.refused++;
    return rc;
}

static int on_reject(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple, const char *sqlstate,
                     const char *message)
{
    struct retry *r = arg;
    struct tm_error ignored;
    (void)stream;
    for (size_t i = r->first; i < r->page->count; i++)
        if (&r->spans[i] == tuple)
            return refuse(r, i, sqlstate, message, &ignored);
    return TM_ESTATE;
}

/* Rows of one stream, epoch and column list, which go into one COPY. */
struct group {
    const struct tm_stream *stream;
    const struct tm_quarantined *like;
    size_t first, end;
    char epoch_no[16]; /* local: of the rows; "" : this store does not know the epoch */
    bool other_epoch;  /* local: it is not the tables' default */
    int64_t gone_past; /* local: production has gone past this seq */
};

static bool alike(const struct tm_quarantined *a, const struct tm_quarantined *b)
{
    return strcmp(a->stream, b->stream) == 0 && strcmp(a->epoch, b->epoch) == 0 && strcmp(a->columns, b->columns) == 0;
}

static struct group group_at(const struct retry *r, size_t first)
{
    struct group g = {.like = &r->page->rows[first], .first = first, .end = first + 1};
    g.stream = tm_plan_stream_by_name(r->how->plan, g.like->stream);
    while (g.end < r->page->count && alike(g.like, &r->page->rows[g.end]))
        g.end++;
    return g;
}

static int find_epoch(struct retry *r, struct group *g, struct tm_error *err)
{
    const char *values[] = {g->like->epoch, g->like->stream};
    char text[24];
    if (r->how->side != TM_COPY_LOCAL)
        return TM_OK;
    int rc = tm_pg_query_text(r->pg, "SELECT epoch_no FROM tidemill.epochs WHERE epoch = $1", 1, values, g->epoch_no,
                              sizeof g->epoch_no, err);
    rc = rc ? rc
            : tm_pg_query_text(
                  r->pg,
                  "SELECT split_part(value, ' ', 1) = (SELECT epoch_no::text FROM tidemill.epochs WHERE epoch = $1) "
                  "FROM tidemill.meta WHERE key = 'epoch_no'",
                  1, values, text, sizeof text, err);
    g->other_epoch = strcmp(text, "t") != 0;
    rc = rc ? rc
            : tm_pg_query_text(r->pg, "SELECT max(seq) FROM tidemill.acknowledged WHERE epoch = $1 AND stream = $2", 2,
                               values, text, sizeof text, err);
    g->gone_past = rc ? 0 : strtoll(text, NULL, 10);
    return rc;
}

static int64_t time_of(const struct tm_stream *s, const struct tm_quarantined *q)
{
    struct tm_field fields[TM_COLUMNS_MAX];
    size_t count = q->len >= 2 ? tm_get_be16(q->tuple) : 0;
    int at = s->partition_column;
    if (at < 0 || count > TM_COLUMNS_MAX || (size_t)at >= count || tm_tuple_split(q->tuple, q->len, fields, count) ||
        fields[at].len != 8)
        return INT64_MIN;
    int64_t us = (int64_t)tm_get_be64(fields[at].bytes);
    return us > INT64_MAX - TM_PG_EPOCH_S * TM_US_PER_S ? INT64_MAX : tm_unix_time_us(us);
}

/* The hour by which the archive keeps the row (archive/period.h says which column); INT64_MIN: none. */
static int64_t hour_of(const struct tm_stream *s, const struct tm_quarantined *q)
{
    struct tm_stream by = *s;
    if (by.partition_column < 0)
        by.partition_column = !s->observer && s->time_column >= 0 ? s->time_column : s->received_column;
    int64_t us = s->mode == TM_STREAM_APPEND ? time_of(&by, q) : INT64_MIN, hour_us = INT64_C(3600) * TM_US_PER_S;
    return us <= 0 || us == INT64_MAX ? INT64_MIN : us / hour_us * hour_us;
}

static bool is_absurd(const struct tm_quarantine_retry *how, int64_t us)
{
    int64_t now_us = tm_clock_wall_us();
    return us != INT64_MIN && (us < now_us - how->accept_past_us || us > now_us + how->accept_future_us);
}

/* Where the row goes, made outside of the transaction that stores it. */
static int make_place(struct retry *r, const struct group *g, const struct tm_quarantined *q, struct tm_error *err)
{
    if (r->how->side == TM_COPY_LOCAL)
        return *g->epoch_no
                   ? tm_migrate_local_partition(r->pg, g->stream, (int32_t)strtol(g->epoch_no, NULL, 10), q->seq, err)
                   : TM_OK;
    int64_t us = time_of(g->stream, q);
    if (g->stream->partition != TM_PARTITION_DAY || us == INT64_MIN || is_absurd(r->how, us))
        return TM_OK;
    return tm_migrate_production_days(r->pg, r->how->plan, us, us, err);
}

static int make_places(struct retry *r, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t at = 0; !rc && at < r->page->count;) {
        struct group g = group_at(r, at);
        rc = g.stream ? find_epoch(r, &g, err) : TM_OK;
        for (; !rc && at < g.end; at++)
            rc = g.stream ? make_place(r, &g, &r->page->rows[at], err) : TM_OK;
    }
    return rc;
}

/* Why a row is not even tried; NULL: it is. */
static const char *objection(const struct retry *r, const struct group *g, const struct tm_quarantined *q)
{
    if (!g->stream)
        return "the script declares no stream of this name";
    if (r->how->side == TM_COPY_PRODUCTION)
        return is_absurd(r->how, time_of(g->stream, q))
                   ? "the exchange's time is outside what is accepted (accept_past, accept_future)"
                   : NULL;
    if (!*g->epoch_no)
        return "this store does not know the row's epoch: it was made anew";
    if (q->seq <= g->gone_past)
        return "production has gone past this row and would not fetch it any more";
    return NULL;
}

/* A row of an earlier journal names its epoch, as the table's default is another. */
static int name_epoch(struct retry *r, const struct group *g, const struct tm_quarantined *q, size_t *at)
{
    uint8_t field[8];
    *at = r->own.len;
    tm_put_be32(field, 4);
    tm_put_be32(field + 4, (uint32_t)strtol(g->epoch_no, NULL, 10));
    int rc = tm_buf_append(&r->own, q->tuple, q->len);
    if (!rc && q->len >= 2)
        tm_put_be16(r->own.data + *at, (uint16_t)(tm_get_be16(q->tuple) + 1));
    return rc ? rc : tm_buf_append(&r->own, field, sizeof field);
}

/* The rows of a group that are tried, as spans; how many. */
static int gather(struct retry *r, const struct group *g, size_t *count, struct tm_error *err)
{
    size_t at[PAGE_ROWS], lens[PAGE_ROWS];
    int rc = TM_OK;
    tm_buf_clear(&r->own);
    *count = 0;
    for (size_t i = g->first; !rc && i < g->end; i++) {
        const struct tm_quarantined *q = &r->page->rows[i];
        const char *why = objection(r, g, q);
        r->refused[i] = false;
        if (why) {
            rc = refuse(r, i, "", why, err);
            continue;
        }
        r->spans[i] = (struct tm_span_bytes){.bytes = q->tuple, .len = q->len};
        ++*count;
        if (!g->other_epoch || r->how->side != TM_COPY_LOCAL)
            continue;
        rc = name_epoch(r, g, q, &at[i]) ? tm_error_set(err, TM_ENOMEM, "out of memory for a row") : TM_OK;
        lens[i] = r->own.len - at[i];
    }
    for (size_t i = g->first; !rc && r->own.len && i < g->end; i++)
        if (!r->refused[i])
            r->spans[i] = (struct tm_span_bytes){.bytes = r->own.data + at[i], .len = lens[i]};
    return rc;
}

/* Rows that are tried stand together in runs between those that are not. */
static int copy_run(struct retry *r, const struct group *g, size_t first, size_t end, struct tm_error *err)
{
    struct tm_copy_result result;
    struct tm_copy_batch batch = {.stream = g->stream,
                                  .side = r->how->side,
                                  .columns = (const char *)r->columns.data,
                                  .tuples = r->spans + first,
                                  .count = end - first,
                                  .on_reject = on_reject,
                                  .arg = r};
    r->first = first;
    int rc = tm_copy_rows(r->pg, &batch, &result, err);
    if (rc)
        return tm_error_wrap(err, "%s", g->stream->name);
    r->page_counts.stored += result.stored;
    r->page_counts.duplicate += result.duplicate;
    return TM_OK;
}

static int store_group(struct retry *r, struct group *g, struct tm_error *err)
{
    size_t count = 0;
    int rc = g->stream ? find_epoch(r, g, err) : TM_OK;
    rc = rc ? rc : gather(r, g, &count, err);
    tm_buf_clear(&r->columns);
    if (!rc && (tm_buf_printf(&r->columns, "%s%s", g->like->columns, r->own.len ? ",epoch_no" : "") ||
                !tm_buf_cstr(&r->columns)))
        return tm_error_set(err, TM_ENOMEM, "out of memory for a row");
    for (size_t at = g->first; !rc && at < g->end;) {
        size_t end = at;
        while (end < g->end && !r->refused[end])
            end++;
        rc = end > at ? copy_run(r, g, at, end, err) : TM_OK;
        at = end > at ? end : at + 1;
    }
    return rc;
}

/* What was stored may be of hours that are in the archive already. */
static int note_late(struct retry *r, const struct group *g, struct tm_error *err)
{
    int64_t last = INT64_MIN;
    int rc = TM_OK;
    for (size_t i = g->first; !rc && g->stream && r->how->side == TM_COPY_PRODUCTION && i < g->end; i++) {
        int64_t hour = r->refused[i] ? last : hour_of(g->stream, &r->page->rows[i]);
        if (hour != last && hour != INT64_MIN)
            rc = tm_exports_note_late(r->pg, g->stream->name, &hour, 1, err);
        last = hour;
    }
    return rc;
}

static int delete_stored(struct retry *r, struct tm_error *err)
{
    struct tm_buf ids = {0};
    size_t count = 0;
    int rc = tm_buf_append(&ids, "{", 1);
    for (size_t i = 0; !rc && i < r->page->count; i++)
        if (!r->refused[i])
            rc = tm_buf_printf(&ids, "%s%" PRId64, count++ ? "," : "", r->page->rows[i].id);
    rc = rc ? tm_error_set(err, rc, "out of memory for quarantined rows") : tm_buf_append(&ids, "}", 1);
    rc = rc || !count ? rc : delete_rows(r->pg, &ids, count, err);
    tm_buf_fini(&ids);
    return rc;
}

static int retry_page(void *arg, struct page *page, struct tm_error *err)
{
    struct retry *r = arg;
    r->page = page;
    r->page_counts = (struct tm_quarantine_counts){0};
    int rc = make_places(r, err);
    rc = rc ? rc : tm_pg_exec(r->pg, r->how->side == TM_COPY_PRODUCTION ? TM_EXPORTS_BEGIN : "BEGIN", err);
    for (size_t at = 0; !rc && at < page->count;) {
        struct group g = group_at(r, at);
        rc = store_group(r, &g, err);
        rc = rc ? rc : note_late(r, &g, err);
        at = g.end;
    }
    rc = rc ? rc : delete_stored(r, err);
    rc = rc ? rc : tm_pg_exec(r->pg, "COMMIT", err);
    if (rc)
        return roll_back(r->pg, rc);
    r->counts->stored += r->page_counts.stored;
    r->counts->duplicate += r->page_counts.duplicate;
    r->counts->refused += r->page_counts.refused;
    return TM_OK;
}

int tm_quarantine_retry(struct tm_pg *pg, const struct tm_quarantine_retry *how, const struct tm_quarantine_pick *pick,
                        struct tm_quarantine_counts *counts, struct tm_error *err)
{
    struct retry *r = calloc(1, sizeof *r);
    *counts = (struct tm_quarantine_counts){0};
    if (!r)
        return tm_error_set(err, TM_ENOMEM, "out of memory for quarantined rows");
    r->pg = pg;
    r->how = how;
    r->counts = counts;
    int rc = lock(pg, err);
    rc = rc ? rc : for_pages(pg, pick, retry_page, r, err);
    tm_buf_fini(&r->own);
    tm_buf_fini(&r->columns);
    free(r);
    return rc;
}

/* ---- drop ---- */

struct drop {
    struct tm_pg *pg;
    struct listing listing;
    struct tm_quarantine_counts *counts;
};

static int note_absent(struct drop *d, struct tm_buf *ids, struct tm_error *err)
{
    const char *values[] = {tm_buf_cstr(ids)};
    int rc = values[0] ? tm_pg_run(d->pg,
                                   "INSERT INTO tidemill.absent (gatherer, epoch, stream, first_seq, last_seq, rows, "
                                   "reason, detail) SELECT gatherer, epoch, stream, seq, seq, 1, 'dropped', "
                                   "concat_ws(' ', 'from quarantine:', nullif(sqlstate, ''), error) FROM "
                                   "tidemill.quarantine WHERE id = ANY ($1::int8[]) ORDER BY id",
                                   1, values, NULL, err)
                       : tm_error_set(err, TM_ENOMEM, "out of memory for quarantined rows");
    return rc;
}

static int drop_page(void *arg, struct page *page, struct tm_error *err)
{
    struct drop *d = arg;
    struct tm_buf ids = {0};
    int rc = d->listing.visit ? visit_page(&d->listing, page, err) : TM_OK;
    for (size_t i = 0; !rc && i < page->count; i++)
        rc = tm_buf_printf(&ids, "%s%" PRId64, i ? "," : "{", page->rows[i].id);
    rc = rc ? rc : tm_buf_append(&ids, "}", 1);
    rc = rc ? rc : tm_pg_exec(d->pg, "BEGIN", err);
    rc = rc ? rc : note_absent(d, &ids, err);
    rc = rc ? rc : delete_rows(d->pg, &ids, page->count, err);
    rc = rc ? rc : tm_pg_exec(d->pg, "COMMIT", err);
    tm_buf_fini(&ids);
    if (rc)
        return roll_back(d->pg, rc);
    d->counts->dropped += page->count;
    return TM_OK;
}

int tm_quarantine_drop(struct tm_pg *pg, const struct tm_quarantine_pick *pick, tm_quarantine_visit *visit, void *arg,
                       struct tm_quarantine_counts *counts, struct tm_error *err)
{
    struct drop d = {.pg = pg, .listing = {.visit = visit, .arg = arg}, .counts = counts};
    *counts = (struct tm_quarantine_counts){0};
    int rc = lock(pg, err);
    return rc ? rc : for_pages(pg, pick, drop_page, &d, err);
}
