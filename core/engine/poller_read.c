#include "engine/poller_private.h"
#include "record/row.h"
#include "record/schema.h"
#include "store/keys.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The highest mark that is not beyond `reach`; with `or_next`, the one after it if there is none. 1: found,
 * 0: none. */
static int find_mark(struct tm_poller *p, const struct tm_standing *s, struct tm_batch *b, int64_t reach, bool or_next,
                     struct tm_error *err)
{
    char from[24], to[24];
    const char *values[] = {s->epoch_no, s->stream, from, to, or_next ? "t" : "f"};
    PGresult *result;
    (void)snprintf(from, sizeof from, "%" PRId64, b->from);
    (void)snprintf(to, sizeof to, "%" PRId64, reach);
    int rc = tm_pg_query_prepared(p->pg,
                                  "(SELECT seq, hash, " TM_COMMITTED_US
                                  " FROM tidemill.marks WHERE epoch_no = $1 AND stream = $2 AND seq > $3 AND "
                                  "seq <= $4 ORDER BY seq DESC LIMIT 1) UNION ALL (SELECT seq, hash, " TM_COMMITTED_US
                                  " FROM tidemill.marks WHERE "
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

/* ---- how much ---- */

static size_t planned_max(const struct tm_poller *p)
{
    return p->orders.settings->poll_bytes_max / 2;
}

static bool is_fit(const struct tm_poller *p, const struct tm_batch *b)
{
    return !p->reading_count && p->fit.stream == b->stream && p->fit.from == b->from;
}

/* How many rows of a stream to read. Who is not the first in a look waits where that is too much. */
static size_t rows_max(const struct tm_poller *p, const struct tm_batch *b)
{
    size_t rows = tm_pace_rows(&p->d->pace, p->orders.settings->options.poll_rows_max);
    size_t bytes = p->row_bytes[b->stream->index], most = bytes ? planned_max(p) / bytes : rows;
    if (is_fit(p, b))
        most = p->fit.rows;
    if (p->reading_count || most >= rows)
        return rows;
    return most ? most : 1;
}

bool tm_poller_plan(struct tm_poller *p, struct tm_reading *r)
{
    const struct tm_batch *b = r->b;
    size_t max = planned_max(p), rows = (size_t)(b->to - b->from), bytes = p->row_bytes[b->stream->index];
    bool fit = is_fit(p, b) && rows <= p->fit.rows, has_room = !bytes || rows <= (max - p->planned) / bytes;
    if (!has_room && p->reading_count)
        return false;
    r->alone = !has_room && !fit;
    p->planned = has_room && !fit ? p->planned + rows * bytes : max;
    return true;
}

/* What a look has read that met too many. */
static void learn_cut(struct tm_poller *p, const struct tm_reading *r, bool again)
{
    const struct tm_buf *bytes = &r->b->bytes;
    size_t max = planned_max(p), rows = 0, within = 0, fit = 0, *known = &p->row_bytes[r->b->stream->index];
    for (size_t at = 0; at < bytes->len; rows++) {
        int64_t len = tm_tuple_length(bytes->data + at, bytes->len - at);
        if (len <= 0)
            break; /* it will be refused for that */
        at += (size_t)len;
        within = at <= max ? at : within;
        fit += at <= max;
    }
    size_t each = rows > fit ? (bytes->len - within) / (rows - fit) : rows ? bytes->len / rows : 0;
    *known = again ? *known * 2 : *known;
    *known = each > *known ? each : *known;
    if (rows == fit)
        return;
    p->first = r->place;
    p->fit = (struct tm_fit){.stream = again ? NULL : r->b->stream, .from = r->b->from, .rows = fit};
}

/* Whoever has met large rows expects them for a while, as a look that meets too many is for nothing. */
static void learn_size(struct tm_poller *p, const struct tm_batch *b)
{
    size_t *known = &p->row_bytes[b->stream->index], rows = (size_t)(b->to - b->from);
    size_t each = (b->bytes.len + rows - 1) / rows;
    size_t least = p->fit.stream == b->stream ? *known : *known / 2; /* the large ones come behind them */
    *known = each > least ? each : least;
}

static void learn(struct tm_poller *p, const struct tm_reading *readings, size_t count, bool cut)
{
    for (size_t i = 0; i < count; i++)
        if (cut)
            learn_cut(p, &readings[i], p->cut);
        else
            learn_size(p, readings[i].b);
    if (!cut)
        p->fit.stream = NULL;
    p->cut = cut;
}

/* The mark to read up to: the highest within reach, or the next one if a commit was larger than that. */
static int choose_mark(struct tm_poller *p, const struct tm_standing *s, struct tm_batch *b, struct tm_error *err)
{
    int64_t reach = b->from + (int64_t)rows_max(p, b);
    b->to = s->seq;
    b->hash = s->hash;
    b->committed_us = s->committed_us;
    int rc = s->seq > reach ? find_mark(p, s, b, reach, true, err) : TM_OK;
    return rc < 0 ? rc : TM_OK;
}

/* In a session the history is read by ourselves, so it has to be checked only where a session or generation
 * begins. */
static bool is_verified(const struct tm_poller *p, const struct tm_standing *s)
{
    for (size_t i = 0; i < p->verified_count; i++)
        if (strcmp(p->verified[i].epoch, s->epoch) == 0 && strcmp(p->verified[i].stream, s->stream) == 0)
            return true;
    return false;
}

static void note_verified(struct tm_poller *p, const struct tm_standing *s)
{
    if (p->verified_count == TM_POLLER_READY_MAX || is_verified(p, s))
        return;
    struct tm_stream_of_epoch *v = &p->verified[p->verified_count++];
    (void)snprintf(v->epoch, sizeof v->epoch, "%s", s->epoch);
    (void)snprintf(v->stream, sizeof v->stream, "%s", s->stream);
}

/* The same epoch with another history is a fork (FAILURES T4b): a backup that was restored and went on. A
 * mark that is not there proves nothing: a replay after a crash of the store commits in other groups. */
static int check_history(struct tm_poller *p, const struct tm_standing *s, const struct tm_cursor *at,
                         struct tm_error *err)
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

static int put_copy(struct tm_buf *sql, const struct tm_standing *s, const struct tm_batch *b)
{
    struct tm_buf columns = {0};
    int rc = tm_schema_poll_columns(b->stream, &columns);
    const char *list = rc ? NULL : tm_buf_cstr(&columns);
    rc = list ? tm_buf_printf(sql,
                              "COPY (SELECT %s FROM %s WHERE epoch_no = %s AND seq > %" PRId64 " AND seq <= %" PRId64
                              ") TO STDOUT (FORMAT binary);",
                              list, s->stream, s->epoch_no, b->from, b->to)
              : TM_ENOMEM;
    tm_buf_fini(&columns);
    return rc;
}

/* In whatever order the rows lie, which is that of their seq as a rule: for the server to sort them cost more than to read
 * them (tm_batch_index sorts where it has to). One message for all, as each further one costs both sides a wake-up. */
int tm_poller_copy(struct tm_poller *p, const struct tm_reading *readings, size_t count, struct tm_error *err)
{
    struct tm_buf sql = {0}, *outs[TM_POLLER_READY_MAX];
    size_t bytes_max = count == 1 && readings->alone ? SIZE_MAX : p->orders.settings->poll_bytes_max;
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < count; i++) {
        outs[i] = &readings[i].b->bytes;
        tm_buf_clear(outs[i]);
        rc = put_copy(&sql, &readings[i].s, readings[i].b);
    }
    const char *text = rc ? NULL : tm_buf_cstr(&sql);
    rc = text ? tm_pg_copy_out_parts(p->pg, text, outs, count, bytes_max, err)
              : tm_error_set(err, TM_ENOMEM, "out of memory");
    tm_buf_fini(&sql);
    if (!rc || rc == TM_EFULL)
        learn(p, readings, count, rc == TM_EFULL);
    return rc;
}

/* A question about the seqs of a batch: $1 epoch, $2 stream, $3 and $4 from (exclusive) and to (inclusive). */
static int query_range(struct tm_poller *p, const struct tm_standing *s, const struct tm_batch *b, const char *sql,
                       PGresult **result, struct tm_error *err)
{
    char from[24], to[24];
    const char *values[] = {s->epoch, s->stream, from, to};
    (void)snprintf(from, sizeof from, "%" PRId64, b->from);
    (void)snprintf(to, sizeof to, "%" PRId64, b->to);
    return tm_pg_query(p->pg, sql, 4, values, result, err);
}

/* Rows that the gatherer's store could not take are in its quarantine: that explains their absence. */
static int load_explained(struct tm_poller *p, const struct tm_standing *s, struct tm_batch *b, struct tm_error *err)
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
static int index_rows(struct tm_poller *p, const struct tm_standing *s, struct tm_batch *b, struct tm_error *err)
{
    struct tm_error ignored;
    int rc = tm_batch_index(b, &p->d->hash_key, err);
    if (rc != TM_ESTATE || load_explained(p, s, b, &ignored))
        return rc;
    /* an older gatherer has no such table, and this role may not be allowed to read it: then nothing explains the hole */
    int told = tm_absent_load(&b->absent, p->pg, s->epoch, s->stream, b->from, b->to, &ignored);
    return b->explained_count || told > 0 ? tm_batch_index(b, &p->d->hash_key, err) : rc;
}

/* What lies before a hole up to a mark is whole, and is taken. */
static int fetch_before_hole(struct tm_poller *p, const struct tm_standing *s, struct tm_batch *b, struct tm_error *err)
{
    struct tm_error hole = *err;
    int rc = find_mark(p, s, b, b->missing - 1, false, err);
    if (rc > 0) {
        struct tm_reading again = {.s = *s, .b = b, .alone = true}; /* less than was read */
        rc = tm_poller_copy(p, &again, 1, err);
        return rc ? rc : index_rows(p, s, b, err);
    }
    *err = rc ? *err : hole;
    return rc ? rc : TM_ESTATE;
}

/* From where to where. */
int tm_poller_begin(struct tm_poller *p, const struct tm_standing *s, const struct tm_cursor *at, struct tm_batch *b,
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

int tm_poller_finish(struct tm_poller *p, const struct tm_standing *s, struct tm_batch *b, struct tm_error *err)
{
    int rc = index_rows(p, s, b, err);
    if (rc == TM_ESTATE && b->missing)
        rc = fetch_before_hole(p, s, b, err);
    if (!rc)
        tm_batch_trim(b);
    rc = rc ? rc : tm_keys_are_known(p->pg, b->stream, b->newest_us, err);
    if (!rc)
        note_verified(p, s);
    return rc;
}
