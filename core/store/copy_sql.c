#include "store/copy_sql.h"
#include "record/schema.h"

#include <inttypes.h>
#include <string.h>

/* What is common to the statements of a batch. */
struct parts {
    const struct tm_stream *stream;
    const char *table, *columns, *keys;
    bool local;
};

/*
 * The stage is a temporary table per stream and session, emptied before each use. DELETE is what costs least for a few rows
 * (TRUNCATE, and ON COMMIT DELETE ROWS, make three files anew, which is dearer than storing them), but leaves something
 * behind of each, so now and then the stage is truncated. tm_order is the order of arrival: the place of a row in a heap
 * is not.
 */
static int stage(struct tm_copy_sql *sql, const struct parts *p, bool truncate)
{
    int rc = tm_buf_printf(&sql->prepare,
                           "CREATE TEMP TABLE IF NOT EXISTS stage_%s (LIKE %s INCLUDING DEFAULTS, "
                           "tm_order int8 GENERATED ALWAYS AS IDENTITY)",
                           p->table, p->table);
    return rc ? rc
              : tm_buf_printf(&sql->stage, "%s pg_temp.stage_%s; COPY pg_temp.stage_%s (%s) FROM STDIN (FORMAT binary)",
                              truncate ? "TRUNCATE" : "DELETE FROM", p->table, p->table, p->columns);
}

static int straight(struct tm_copy_sql *sql, const struct parts *p)
{
    return tm_buf_printf(&sql->straight, "COPY %s (%s) FROM STDIN (FORMAT binary)", p->table, p->columns);
}

/* ---- unique ---- */

static int merge_unique(struct tm_copy_sql *sql, const struct parts *p)
{
    return tm_buf_printf(&sql->merge,
                         "INSERT INTO %s (%s) SELECT %s FROM pg_temp.stage_%s ORDER BY tm_order ON CONFLICT DO NOTHING",
                         p->table, p->columns, p->columns, p->table);
}

/* ---- disagreement ---- */

/* "t.a = s.a AND t.b = s.b", or "'a', t.a, 'b', t.b" for an object. */
static int put_keys(struct tm_buf *sql, const struct tm_stream *s, bool object)
{
    int rc = TM_OK;
    for (uint16_t i = 0; !rc && i < s->key_count; i++) {
        const char *name = s->columns[s->key[i]].name;
        if (object)
            rc = tm_buf_printf(sql, "%s'%s', t.%s", i ? ", " : "", name, name);
        else
            rc = tm_buf_printf(sql, "%st.%s = s.%s", i ? " AND " : "", name, name);
    }
    return rc;
}

static int compare_unique(struct tm_copy_sql *sql, const struct parts *p, const char *gatherer)
{
    const struct tm_stream *s = p->stream;
    struct tm_buf *out = &sql->compare;
    const char *joint = " WHERE ";
    int rc = tm_buf_printf(out,
                           "INSERT INTO tidemill.conflicts (stream, key, stored, came, gatherer) SELECT '%s', "
                           "jsonb_build_object(",
                           p->table);
    rc = rc ? rc : put_keys(out, s, true);
    rc = rc ? rc
            : tm_buf_printf(out,
                            "), to_jsonb(t), to_jsonb(s) - 'tm_order', nullif('%s', '') FROM pg_temp.stage_%s s "
                            "JOIN %s t ON ",
                            gatherer ? gatherer : "", p->table, p->table);
    rc = rc ? rc : put_keys(out, s, false);
    for (uint16_t i = 0; !rc && i < s->column_count; i++) {
        if (!tm_column_may_disagree(s, i))
            continue;
        rc = tm_buf_printf(out, "%st.%s <> s.%s", joint, s->columns[i].name, s->columns[i].name);
        joint = " OR ";
    }
    return rc ? rc : tm_buf_printf(out, " ON CONFLICT DO NOTHING");
}

/* ---- within ---- */

/* The key's column that leads the table's index (record/schema.c); -1: the index leads with a column of no key. */
static int lead_of(const struct tm_stream *s)
{
    int lead = s->ticker_column >= 0 ? s->ticker_column : s->key[0];
    return s->columns[lead].in_key ? lead : -1;
}

static int same_key(struct tm_buf *out, const struct tm_stream *s, bool lead_is_null)
{
    int rc = TM_OK;
    for (uint16_t i = 0; !rc && i < s->key_count; i++) {
        const struct tm_column *c = &s->columns[s->key[i]];
        bool lead = s->key[i] == lead_of(s);
        if (lead && lead_is_null)
            rc = tm_buf_printf(out, "s.%s IS NULL AND t.%s IS NULL AND ", c->name, c->name);
        else
            rc = tm_buf_printf(out, "t.%s %s s.%s AND ", c->name, lead || c->not_null ? "=" : "IS NOT DISTINCT FROM",
                               c->name);
    }
    return rc;
}

/*
 * True where the table has no row close to s. A subquery with LIMIT stays a look-up in the index for each row;
 * EXISTS may become a hash join that reads the whole table, as nobody knows how many rows the stage has. IS NOT
 * DISTINCT FROM cannot use an index, so a lead that may be NULL is looked up twice.
 */
static int is_new(struct tm_buf *out, const struct tm_stream *s, bool lead_is_null)
{
    int rc = tm_buf_printf(out, "NOT coalesce((SELECT true FROM %s t WHERE ", s->name);
    rc = rc ? rc : same_key(out, s, lead_is_null);
    return rc ? rc
              : tm_buf_printf(out,
                              "t.received_at > s.received_at - interval '%" PRId64 " microseconds' AND "
                              "t.received_at < s.received_at + interval '%" PRId64 " microseconds' LIMIT 1), false)",
                              s->within_us, s->within_us);
}

static int merge_within(struct tm_copy_sql *sql, const struct parts *p)
{
    const struct tm_stream *s = p->stream;
    int lead = lead_of(s);
    int rc = tm_buf_printf(&sql->pick,
                           "SELECT tm_order, dense_rank() OVER (ORDER BY %s) AS tm_group, "
                           "(extract(epoch FROM received_at) * 1000000)::int8 "
                           "FROM pg_temp.stage_%s s WHERE ",
                           p->keys, p->table);
    rc = rc ? rc : is_new(&sql->pick, s, false);
    if (!rc && lead >= 0 && !s->columns[lead].not_null) {
        rc = tm_buf_printf(&sql->pick, " AND ");
        rc = rc ? rc : is_new(&sql->pick, s, true);
    }
    rc = rc ? rc : tm_buf_printf(&sql->pick, " ORDER BY tm_group, received_at, tm_order");
    return rc ? rc
              : tm_buf_printf(&sql->merge,
                              "INSERT INTO %s (%s) SELECT %s FROM pg_temp.stage_%s "
                              "WHERE tm_order = ANY ($1::int8[]) ORDER BY tm_order",
                              p->table, p->columns, p->columns, p->table);
}

/* ---- upsert ---- */

/* "a = excluded.a, b = excluded.b" for a list "a,b". */
static int set_all(struct tm_buf *out, const char *columns)
{
    int rc = TM_OK;
    for (const char *at = columns; !rc && *at;) {
        int len = (int)strcspn(at, ",");
        rc = tm_buf_printf(out, "%s%.*s = excluded.%.*s", at == columns ? "" : ", ", len, at, len, at);
        at += len + (at[len] == ',');
    }
    return rc;
}

/*
 * One gatherer's rows come in the order of their seq, and the last one counts. In production the rows of several
 * meet: the one received last counts, and what came late does not undo it.
 */
static int merge_upsert(struct tm_copy_sql *sql, const struct parts *p)
{
    const struct tm_stream *s = p->stream;
    bool by_arrival = !p->local && s->received_column >= 0;
    int rc = tm_buf_printf(&sql->merge,
                           "INSERT INTO %s AS t (%s) SELECT %s FROM (SELECT DISTINCT ON (%s) * FROM "
                           "pg_temp.stage_%s ORDER BY %s, %stm_order DESC) s ORDER BY tm_order "
                           "ON CONFLICT (%s) DO UPDATE SET ",
                           p->table, p->columns, p->columns, p->keys, p->table, p->keys,
                           by_arrival ? "received_at DESC NULLS LAST, " : "", p->keys);
    rc = rc ? rc : set_all(&sql->merge, p->columns);
    if (!rc && p->local && !strstr(p->columns, ",epoch_no")) /* a row of an earlier epoch names it itself */
        rc = tm_buf_printf(&sql->merge, ", epoch_no = excluded.epoch_no");
    if (!rc && by_arrival)
        rc = tm_buf_printf(&sql->merge, " WHERE t.received_at IS NULL OR t.received_at < excluded.received_at");
    return rc;
}

/* ---- all ---- */

static enum tm_copy_merge merge_of(const struct tm_copy_batch *batch)
{
    if (batch->stream->mode == TM_STREAM_UPSERT)
        return TM_COPY_MERGE_UPSERT;
    if (batch->stream->within_us && batch->side == TM_COPY_PRODUCTION)
        return TM_COPY_MERGE_WITHIN;
    return TM_COPY_MERGE_UNIQUE;
}

static int merge(struct tm_copy_sql *sql, const struct parts *p)
{
    switch (sql->how) {
    case TM_COPY_MERGE_UNIQUE:
        return merge_unique(sql, p);
    case TM_COPY_MERGE_WITHIN:
        return merge_within(sql, p);
    case TM_COPY_MERGE_UPSERT:
        return merge_upsert(sql, p);
    }
    return TM_EINVAL;
}

static int end_all(struct tm_copy_sql *sql)
{
    struct tm_buf *all[] = {&sql->straight, &sql->prepare, &sql->stage, &sql->pick, &sql->compare, &sql->merge};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!tm_buf_cstr(all[i]))
            return TM_ENOMEM;
    return TM_OK;
}

int tm_copy_sql_init(struct tm_copy_sql *sql, const struct tm_copy_batch *batch, bool truncate)
{
    struct tm_buf keys = {0};
    *sql = (struct tm_copy_sql){.how = merge_of(batch)};
    int rc = tm_schema_key_columns(batch->stream, &keys);
    struct parts p = {.stream = batch->stream,
                      .table = batch->stream->name,
                      .columns = batch->columns,
                      .keys = rc ? NULL : tm_buf_cstr(&keys),
                      .local = batch->side == TM_COPY_LOCAL};
    rc = p.keys ? straight(sql, &p) : TM_ENOMEM;
    rc = rc ? rc : stage(sql, &p, truncate);
    rc = rc ? rc : merge(sql, &p);
    if (!rc && !p.local && tm_stream_may_disagree(batch->stream))
        rc = compare_unique(sql, &p, batch->gatherer);
    rc = rc ? rc : end_all(sql);
    tm_buf_fini(&keys);
    return rc;
}

void tm_copy_sql_fini(struct tm_copy_sql *sql)
{
    tm_buf_fini(&sql->straight);
    tm_buf_fini(&sql->prepare);
    tm_buf_fini(&sql->stage);
    tm_buf_fini(&sql->pick);
    tm_buf_fini(&sql->compare);
    tm_buf_fini(&sql->merge);
}
