#include "store/copy_sql.h"
#include "store/pg_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRUNCATE_AFTER 4000 /* rows that went through a stage */

/* What one call works with; the statements are built once and serve all parts of a halved batch. */
struct job {
    struct tm_pg *pg;
    const struct tm_copy_batch *batch;
    struct tm_copy_result *result;
    struct tm_copy_sql sql;
    bool staged, prepared;
};

static const char *text_of(const struct tm_buf *sql)
{
    return (const char *)sql->data;
}

/* ---- within: which rows of the stage are records of their own ---- */

/*
 * The rows that are not close to one in the table come grouped by key, oldest first. In each group the first is a
 * record, and then each that is `within` or more behind the record before it; a repeat never makes the next one a
 * repeat, as it is not stored.
 */
static int pick_orders(const PGresult *rows, int64_t within_us, struct tm_buf *orders)
{
    int64_t record_us = 0;
    int rc = tm_buf_append(orders, "{", 1);
    for (int i = 0; !rc && i < PQntuples(rows); i++) {
        bool first = i == 0 || strcmp(PQgetvalue(rows, i, 1), PQgetvalue(rows, i - 1, 1)) != 0;
        bool timeless = PQgetisnull(rows, i, 2);
        int64_t us = strtoll(PQgetvalue(rows, i, 2), NULL, 10);
        if (!first && !timeless && us - record_us < within_us)
            continue;
        record_us = us;
        rc = tm_buf_printf(orders, "%s%s", orders->len > 1 ? "," : "", PQgetvalue(rows, i, 0));
    }
    return rc ? rc : tm_buf_append(orders, "}", 1);
}

static int pick(struct job *j, struct tm_buf *orders, struct tm_error *err)
{
    PGresult *rows;
    int rc = tm_pg_query_prepared(j->pg, text_of(&j->sql.pick), 0, NULL, &rows, err);
    if (rc)
        return rc;
    rc = pick_orders(rows, j->batch->stream->within_us, orders);
    PQclear(rows);
    return rc || !tm_buf_cstr(orders) ? tm_error_set(err, TM_ENOMEM, "out of memory for a merge") : TM_OK;
}

/* ---- attempts, each under a savepoint ---- */

/* A savepoint, what COPY brings, and `then`: one message. */
static int copy_in(struct job *j, const struct tm_buf *sql, const char *then, size_t from, size_t count,
                   struct tm_error *err)
{
    struct tm_buf message = {0};
    int rc = tm_buf_printf(&message, "SAVEPOINT tm_copy; %s%s", text_of(sql), then);
    const char *text = rc ? NULL : tm_buf_cstr(&message);
    rc = text ? tm_pg_copy_in(j->pg, text, j->batch->tuples + from, count, err)
              : tm_error_set(err, TM_ENOMEM, "out of memory for COPY");
    tm_buf_fini(&message);
    return rc;
}

static int copy_straight(struct job *j, size_t from, size_t count, struct tm_error *err)
{
    int rc = copy_in(j, &j->sql.straight, "; RELEASE SAVEPOINT tm_copy", from, count, err);
    if (!rc)
        j->result->stored += count;
    return rc;
}

static int compare(struct job *j, struct tm_error *err)
{
    PGresult *result;
    int rc = tm_pg_query(j->pg, text_of(&j->sql.compare), 0, NULL, &result, err);
    if (rc)
        return rc;
    j->result->disagreeing += strtoull(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    return TM_OK;
}

static int merge(struct job *j, size_t count, struct tm_error *err)
{
    struct tm_buf orders = {0};
    PGresult *result;
    bool within = j->sql.how == TM_COPY_MERGE_WITHIN;
    int rc = within ? pick(j, &orders, err) : TM_OK;
    const char *values[] = {(const char *)orders.data};
    rc = rc ? rc : tm_pg_query_prepared(j->pg, text_of(&j->sql.merge), within ? 1 : 0, values, &result, err);
    tm_buf_fini(&orders);
    if (rc)
        return rc;
    uint64_t stored = strtoull(PQcmdTuples(result), NULL, 10);
    PQclear(result);
    j->result->stored += stored;
    j->result->duplicate += count - stored;
    return stored < count && j->sql.compare.len ? compare(j, err) : TM_OK;
}

/* The stage is made before the first savepoint, so that giving up an attempt does not give up the stage. */
static int prepare(struct job *j, struct tm_error *err)
{
    int rc = j->prepared ? TM_OK : tm_pg_exec(j->pg, text_of(&j->sql.prepare), err);
    j->prepared = !rc;
    return rc;
}

static int copy_staged(struct job *j, size_t from, size_t count, struct tm_error *err)
{
    struct tm_copy_result before = *j->result;
    int rc = prepare(j, err);
    rc = rc ? rc : copy_in(j, &j->sql.stage, "", from, count, err);
    rc = rc ? rc : merge(j, count, err);
    rc = rc ? rc : tm_pg_exec(j->pg, "RELEASE SAVEPOINT tm_copy", err);
    if (rc)
        *j->result = before;
    return rc;
}

/* ---- what to do with a refusal ---- */

/* What the failed attempt said: the connection forgets it with the next statement. */
struct refusal {
    int code;
    enum tm_pg_class class;
    char sqlstate[6];
};

/* A row's own fault leaves the transaction usable; after any other the caller rolls back all of it. */
static int roll_back(struct job *j, struct refusal *r, int code, struct tm_error *err)
{
    struct tm_error undo;
    *r = (struct refusal){.code = code, .class = tm_pg_class_of(j->pg)};
    if (r->class != TM_PG_DATA && r->class != TM_PG_UNIQUE)
        return code;
    (void)snprintf(r->sqlstate, sizeof r->sqlstate, "%s", tm_pg_sqlstate(j->pg));
    int rc = tm_pg_exec(j->pg, "ROLLBACK TO SAVEPOINT tm_copy; RELEASE SAVEPOINT tm_copy", &undo);
    return rc ? tm_error_set(err, rc, "%s", undo.message) : TM_OK;
}

static int reject(struct job *j, size_t at, const struct refusal *r, struct tm_error *err)
{
    char message[sizeof err->message];
    (void)snprintf(message, sizeof message, "%s", err->message);
    int rc = j->batch->on_reject(j->batch->arg, j->batch->stream, &j->batch->tuples[at], r->sqlstate, message);
    if (rc)
        return tm_error_set(err, rc, "a refused row could not be put aside; it was refused because: %.700s", message);
    j->result->rejected++;
    return TM_OK;
}

/*
 * One gatherer's rows are keyed by our own seq, each given out once: where one is there already, two histories were
 * written under one epoch. Leaving the row out would hide that (FAILURES T4b).
 */
static bool is_fork(const struct job *j)
{
    return j->batch->side == TM_COPY_LOCAL && j->sql.how == TM_COPY_MERGE_UNIQUE;
}

static int copy_range(struct job *j, size_t from, size_t count, struct tm_error *err)
{
    struct refusal r;
    int rc = j->staged ? copy_staged(j, from, count, err) : copy_straight(j, from, count, err);
    if (!rc)
        return TM_OK;
    rc = roll_back(j, &r, rc, err);
    if (rc)
        return rc;
    if (r.class == TM_PG_UNIQUE && is_fork(j)) {
        err->code = TM_ECORRUPT;
        return tm_error_wrap(err, "%s: the store has other rows under these numbers", j->batch->stream->name);
    }
    if (r.class == TM_PG_UNIQUE && !j->staged) {
        j->result->conflicted = j->staged = true;
        return copy_range(j, from, count, err);
    }
    if (count == 1)
        return reject(j, from, &r, err);
    rc = copy_range(j, from, count / 2, err);
    return rc ? rc : copy_range(j, from + count / 2, count - count / 2, err);
}

/* A plan may have other streams than the one before it; what has no place in the list is truncated each time. */
static size_t *staged_rows(struct tm_pg *pg, const char *stream)
{
    size_t i = 0;
    while (i < pg->stage_count && strcmp(pg->stages[i].stream, stream) != 0)
        i++;
    if (i == TM_STREAMS_MAX)
        return NULL;
    if (i == pg->stage_count) {
        (void)snprintf(pg->stages[i].stream, sizeof pg->stages[i].stream, "%s", stream);
        pg->stages[pg->stage_count++].rows = 0;
    }
    return &pg->stages[i].rows;
}

static int init_sql(struct tm_pg *pg, const struct tm_copy_batch *batch, struct tm_copy_sql *sql)
{
    size_t *rows = staged_rows(pg, batch->stream->name);
    bool truncate = !rows || *rows >= TRUNCATE_AFTER;
    int rc = tm_copy_sql_init(sql, batch, truncate);
    if (rows && (sql->how != TM_COPY_MERGE_UNIQUE || batch->expect_conflicts))
        *rows = truncate ? batch->count : *rows + batch->count;
    return rc;
}

int tm_copy_rows(struct tm_pg *pg, const struct tm_copy_batch *batch, struct tm_copy_result *result,
                 struct tm_error *err)
{
    struct tm_error own;
    struct job j = {.pg = pg, .batch = batch, .result = result};
    *result = (struct tm_copy_result){0};
    err = err ? err : &own;
    if (!batch->count)
        return TM_OK;
    int rc = init_sql(pg, batch, &j.sql);
    j.staged = j.sql.how != TM_COPY_MERGE_UNIQUE || (batch->expect_conflicts && !is_fork(&j));
    if (rc)
        (void)tm_error_set(err, rc, "out of memory for the statements of %s", batch->stream->name);
    else
        rc = copy_range(&j, 0, batch->count, err);
    tm_copy_sql_fini(&j.sql);
    return rc;
}

int tm_copy_statements(struct tm_pg *pg, const struct tm_copy_batch *batch, struct tm_buf *sql, struct tm_error *err)
{
    struct tm_copy_sql s;
    int rc = init_sql(pg, batch, &s);
    if (!rc && s.how == TM_COPY_MERGE_UNIQUE)
        rc = tm_buf_printf(sql, "%s;", text_of(&s.straight));
    else if (!rc)
        rc = tm_buf_printf(sql, "%s; %s; %s;", text_of(&s.prepare), text_of(&s.stage), text_of(&s.merge));
    tm_copy_sql_fini(&s);
    return rc ? tm_error_set(err, rc, "out of memory for the statements of %s", batch->stream->name) : TM_OK;
}
