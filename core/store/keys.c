#include "store/keys.h"
#include "base/clock.h"
#include "record/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DAY_US (INT64_C(86400) * TM_US_PER_S)

/* ---- queries ---- */

static int query(struct tm_pg *pg, const char *sql, const char *value, PGresult **out, struct tm_error *err)
{
    return tm_pg_query(pg, sql, value ? 1 : 0, &value, out, err);
}

/* One value; false in *found for no row or NULL. */
static int fetch_int(struct tm_pg *pg, const char *sql, const char *value, int64_t *out, bool *found,
                     struct tm_error *err)
{
    PGresult *r;
    int rc = query(pg, sql, value, &r, err);
    if (rc)
        return rc;
    *found = PQntuples(r) > 0 && !PQgetisnull(r, 0, 0);
    *out = *found ? strtoll(PQgetvalue(r, 0, 0), NULL, 10) : 0;
    PQclear(r);
    return TM_OK;
}

static int fetch_bool(struct tm_pg *pg, const char *sql, const char *value, bool *out, struct tm_error *err)
{
    int64_t number;
    return fetch_int(pg, sql, value, &number, out, err);
}

static int has_table(struct tm_pg *pg, const char *name, bool *there, struct tm_error *err)
{
    return fetch_bool(pg, "SELECT 1 WHERE to_regclass($1) IS NOT NULL", name, there, err);
}

/* ---- the list that the store has ---- */

#define LIST_SQL                                                                                                       \
    "SELECT stream, CASE WHEN isfinite(from_ts) THEN (extract(epoch FROM from_ts) * 1000000)::int8 END, columns, "     \
    "occurrence FROM tidemill.keys k"

static struct tm_key_list list_of(const PGresult *r, struct tm_arena *arena)
{
    struct tm_key_list list = {.count = (size_t)PQntuples(r)};
    list.items = tm_arena_alloc(arena, (list.count + 1) * sizeof *list.items);
    for (int i = 0; i < PQntuples(r); i++)
        list.items[i] =
            (struct tm_key_record){.stream = tm_arena_strdup(arena, PQgetvalue(r, i, 0)),
                                   .from_us = PQgetisnull(r, i, 1) ? INT64_MIN : strtoll(PQgetvalue(r, i, 1), NULL, 10),
                                   .columns = tm_arena_strdup(arena, PQgetvalue(r, i, 2)),
                                   .occurrence = *PQgetvalue(r, i, 3) == 't'};
    return list;
}

static int load(struct tm_pg *pg, struct tm_arena *arena, struct tm_key_list *out, struct tm_error *err)
{
    PGresult *r;
    bool there;
    *out = (struct tm_key_list){0};
    int rc = has_table(pg, "tidemill.keys", &there, err);
    if (rc || !there)
        return rc;
    rc = query(pg, LIST_SQL " ORDER BY k.stream, k.from_ts", NULL, &r, err);
    if (rc)
        return rc;
    *out = list_of(r, arena);
    PQclear(r);
    return TM_OK;
}

/* The same streams with the same keys, as far as the plan knows them. */
static bool is_recorded(const struct tm_plan *plan, const struct tm_key_list *known, const struct tm_key_list *next)
{
    for (size_t i = 0; i < tm_plan_stream_count(plan); i++) {
        const char *name = tm_plan_stream(plan, i)->name;
        struct tm_key_list k = tm_key_list_of(known, name), n = tm_key_list_of(next, name);
        if (n.count && !tm_key_lists_equal(&k, &n))
            return false;
    }
    return true;
}

/* ---- what the store holds ---- */

/* The newest time in one span of keys: asked by span, so that the index of a day in which a key ends can answer. */
static int newest_in(struct tm_pg *pg, const struct tm_stream *s, int64_t from_us, int64_t to_us, int64_t *newest_us,
                     bool *found, struct tm_error *err)
{
    char sql[512], from[TM_MOMENT_TEXT] = "-infinity", to[TM_MOMENT_TEXT] = "infinity";
    const char *column = s->columns[s->time_column].name;
    if (from_us != INT64_MIN)
        (void)tm_moment_text(from_us, from);
    if (to_us != INT64_MAX)
        (void)tm_moment_text(to_us, to);
    (void)snprintf(sql, sizeof sql,
                   "SELECT (extract(epoch FROM max(%s)) * 1000000)::int8 FROM %s WHERE %s >= '%s' AND %s < '%s' AND "
                   "isfinite(%s)",
                   column, s->name, column, from, column, to, column);
    return fetch_int(pg, sql, NULL, newest_us, found, err);
}

static int newest_of(struct tm_pg *pg, const struct tm_stream *s, const struct tm_key_list *known, int64_t *newest_us,
                     struct tm_error *err)
{
    bool found = false;
    int rc = TM_OK;
    for (size_t i = known->count; !rc && !found && i-- > 0;)
        rc = newest_in(pg, s, known->items[i].from_us, i + 1 < known->count ? known->items[i + 1].from_us : INT64_MAX,
                       newest_us, &found, err);
    *newest_us = found ? *newest_us : 0;
    return rc;
}

/* Every key of the list that the other has not begins after `us`. */
static bool differs_after(const struct tm_key_list *list, const struct tm_key_list *other, int64_t us)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].from_us <= us && !tm_key_list_has(other, &list->items[i]))
            return false;
    return true;
}

/* A gatherer's upsert table has its key in its definition, which nothing here would change, rows or not. */
static bool has_primary_key(const struct tm_stream *s, enum tm_copy_side side)
{
    return side == TM_COPY_LOCAL && s->mode == TM_STREAM_UPSERT;
}

/*
 * What the rule has to know. A gatherer's store has no index on exchange time, and its newest rows may still be in the
 * journal. So what is recorded is judged by the clock, and only for a key that is new and has begun by the clock are the
 * rows searched.
 */
static int moment_of(struct tm_pg *pg, const struct tm_stream *s, enum tm_copy_side side,
                     const struct tm_key_list *known, const struct tm_key_list *next, struct tm_key_moment *m,
                     struct tm_error *err)
{
    char sql[128];
    bool there = false;
    int64_t now_us = tm_clock_wall_us();
    *m = (struct tm_key_moment){.newest_us = INT64_MIN, .now_us = INT64_MIN, .keep_all = side == TM_COPY_PRODUCTION};
    int rc = has_table(pg, s->name, &there, err);
    if (rc || !there)
        return rc;
    (void)snprintf(sql, sizeof sql, "SELECT 1 FROM %s LIMIT 1", s->name);
    rc = fetch_bool(pg, sql, NULL, &there, err);
    if (rc || (!there && !has_primary_key(s, side)))
        return rc;
    m->newest_us = 0;
    if (tm_stream_fixed_key(s) || !tm_key_list_has(next, known->items))
        return TM_OK; /* that there are rows is enough */
    if (side == TM_COPY_LOCAL && (differs_after(next, known, now_us) || !differs_after(known, next, now_us))) {
        m->newest_us = now_us;
        return TM_OK;
    }
    return newest_of(pg, s, known, &m->newest_us, err);
}

/* ---- judging ---- */

/*
 * A table from before keys were recorded: its unique index says what its first key is. Where it has none (a gatherer's
 * store, a table that is not there), what is declared must be believed.
 */
static int first_key(struct tm_pg *pg, enum tm_copy_side side, const struct tm_key_list *next, struct tm_arena *arena,
                     struct tm_key_list *known, struct tm_error *err)
{
    char index[TM_MOMENT_TEXT + 64];
    PGresult *r;
    known->items = tm_arena_alloc(arena, sizeof *known->items);
    known->count = 1;
    known->items[0] = next->items[0];
    if (side == TM_COPY_LOCAL)
        return TM_OK;
    (void)snprintf(index, sizeof index, "%s_key", next->items[0].stream);
    int rc = query(pg,
                   "SELECT string_agg(a.attname, ',' ORDER BY k.n) FROM pg_index i CROSS JOIN LATERAL "
                   "unnest(i.indkey::int2[]) WITH ORDINALITY k (attnum, n) JOIN pg_attribute a ON a.attrelid = "
                   "i.indrelid AND a.attnum = k.attnum WHERE i.indexrelid = to_regclass($1) AND i.indisunique",
                   index, &r, err);
    if (rc)
        return rc;
    if (PQntuples(r) > 0 && !PQgetisnull(r, 0, 0))
        known->items[0].columns = tm_arena_strdup(arena, PQgetvalue(r, 0, 0));
    PQclear(r);
    return TM_OK;
}

static int forget(struct tm_pg *pg, const struct tm_key_record *k, struct tm_error *err)
{
    char sql[256], from[TM_MOMENT_TEXT] = "-infinity";
    if (k->from_us != INT64_MIN)
        (void)tm_moment_text(k->from_us, from);
    (void)snprintf(sql, sizeof sql, "DELETE FROM tidemill.keys WHERE stream = '%s' AND from_ts = '%s'", k->stream,
                   from);
    return tm_pg_exec(pg, sql, err);
}

/* Only what may go: keys that nothing was taken by. */
static int forget_others(struct tm_pg *pg, const struct tm_key_list *known, const struct tm_key_list *next,
                         struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < known->count; i++) {
        bool stays = tm_key_list_has(next, &known->items[i]);
        rc = stays ? TM_OK : forget(pg, &known->items[i], err);
    }
    return rc;
}

/* The first key of an empty table is another one: the index that the text makes must not find its old self there. */
static int drop_index(struct tm_pg *pg, const struct tm_stream *s, struct tm_error *err)
{
    char sql[128];
    (void)snprintf(sql, sizeof sql, "DROP INDEX IF EXISTS %s_key", s->name);
    return tm_pg_exec(pg, sql, err);
}

static int judge_stream(struct tm_pg *pg, const struct tm_stream *s, enum tm_copy_side side,
                        const struct tm_key_list *all_known, const struct tm_key_list *all_next, struct tm_arena *arena,
                        struct tm_error *err)
{
    struct tm_key_list recorded = tm_key_list_of(all_known, s->name), next = tm_key_list_of(all_next, s->name);
    struct tm_key_list known = recorded;
    struct tm_key_moment moment;
    if (!next.count || tm_key_lists_equal(&known, &next))
        return TM_OK;
    int rc = known.count ? TM_OK : first_key(pg, side, &next, arena, &known, err);
    rc = rc ? rc : moment_of(pg, s, side, &known, &next, &moment, err);
    rc = rc ? rc : tm_key_list_change(s, &known, &next, &moment, err);
    if (!rc && side == TM_COPY_PRODUCTION && !tm_key_list_has(&next, known.items))
        rc = drop_index(pg, s, err);
    return rc ? rc : forget_others(pg, &recorded, &next, err);
}

int tm_keys_judge(struct tm_pg *pg, const struct tm_plan *plan, enum tm_copy_side side, struct tm_error *err)
{
    struct tm_arena *arena = tm_arena_create();
    struct tm_key_list known, next = tm_plan_keys(plan, arena);
    int rc = load(pg, arena, &known, err);
    if (!rc && known.count && !is_recorded(plan, &known, &next)) {
        rc = tm_pg_exec(pg, "LOCK TABLE tidemill.keys IN ACCESS EXCLUSIVE MODE", err);
        rc = rc ? rc : load(pg, arena, &known, err);
    }
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++)
        rc = judge_stream(pg, tm_plan_stream(plan, i), side, &known, &next, arena, err);
    tm_arena_destroy(arena);
    return rc;
}

/* ---- the indexes of days ---- */

int tm_keys_parent_is_unique(struct tm_pg *pg, const struct tm_stream *stream, bool *unique, struct tm_error *err)
{
    char index[TM_MOMENT_TEXT + 64];
    (void)snprintf(index, sizeof index, "%s_key", stream->name);
    return fetch_bool(pg, "SELECT 1 FROM pg_index WHERE indexrelid = to_regclass($1) AND indisunique", index, unique,
                      err);
}

static bool is_wanted(const struct tm_day_index *wanted, int count, const char *name)
{
    for (int i = 0; i < count; i++)
        if (strcmp(wanted[i].name, name) == 0)
            return true;
    return false;
}

static bool is_there(PGresult *r, const char *name)
{
    for (int i = 0; i < PQntuples(r); i++)
        if (strcmp(PQgetvalue(r, i, 0), name) == 0)
            return true;
    return false;
}

/* Only indexes that this function made, by their names, are ever dropped. */
static int set_indexes(struct tm_pg *pg, const char *partition, const struct tm_day_index *wanted, int count,
                       PGresult *r, struct tm_error *err)
{
    char sql[128], prefix[96];
    int rc = TM_OK;
    (void)snprintf(prefix, sizeof prefix, "%s" TM_DAY_INDEX_MARK, partition);
    for (int i = 0; !rc && i < count; i++)
        if (!is_there(r, wanted[i].name))
            rc = tm_pg_exec(pg, wanted[i].sql, err);
    for (int i = 0; !rc && i < PQntuples(r); i++) {
        const char *name = PQgetvalue(r, i, 0);
        if (strncmp(name, prefix, strlen(prefix)) != 0 || is_wanted(wanted, count, name))
            continue;
        (void)snprintf(sql, sizeof sql, "DROP INDEX %s", name);
        rc = tm_pg_exec(pg, sql, err);
    }
    return rc;
}

int tm_keys_index_day(struct tm_pg *pg, const struct tm_stream *stream, const char *partition, int64_t day_us,
                      struct tm_error *err)
{
    struct tm_day_index wanted[TM_KEYS_MAX];
    struct tm_arena *arena = tm_arena_create();
    PGresult *r = NULL;
    int count = tm_schema_day_indexes(stream, partition, day_us, day_us + DAY_US, arena, wanted);
    int rc = count < 0 ? tm_error_set(err, count, "out of memory for the indexes of %s", partition) : TM_OK;
    rc = rc ? rc
            : query(pg,
                    "SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = "
                    "to_regclass($1) AND i.indisunique",
                    partition, &r, err);
    rc = rc ? rc : set_indexes(pg, partition, wanted, count, r, err);
    PQclear(r);
    tm_arena_destroy(arena);
    return rc;
}

/* "<stream>_p20261126" */
static int index_partitions(struct tm_pg *pg, const struct tm_stream *s, struct tm_error *err)
{
    PGresult *r;
    int rc = query(pg,
                   "SELECT c.relname, (extract(epoch FROM to_date(right(c.relname, 8), 'YYYYMMDD')) * 1000000)::int8 "
                   "FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_class p ON p.oid = i.inhparent "
                   "WHERE p.oid = to_regclass($1) AND p.relkind = 'p' AND c.relname ~ ('^' || p.relname || "
                   "'_p[0-9]{8}$') ORDER BY 1",
                   s->name, &r, err);
    if (rc)
        return rc;
    for (int i = 0; !rc && i < PQntuples(r); i++)
        rc = tm_keys_index_day(pg, s, PQgetvalue(r, i, 0), strtoll(PQgetvalue(r, i, 1), NULL, 10), err);
    PQclear(r);
    return rc;
}

/* ---- from one index for all days to one a day ---- */

/* The index that a day had from its parent, by the name that it would have been given as its own. */
static int rename_index(struct tm_pg *pg, const struct tm_stream *s, const char *partition, const char *index,
                        struct tm_error *err)
{
    struct tm_day_index own[TM_KEYS_MAX];
    struct tm_stream first = *s;
    struct tm_arena *arena = tm_arena_create();
    char sql[256];
    first.keys_count = 1;
    int count = tm_schema_day_indexes(&first, partition, 0, DAY_US, arena, own);
    int rc = count == 1 ? TM_OK : tm_error_set(err, TM_ENOMEM, "out of memory for the indexes of %s", partition);
    if (!rc && *index) {
        (void)snprintf(sql, sizeof sql, "ALTER INDEX %s RENAME TO %s", index, own[0].name);
        rc = tm_pg_exec(pg, sql, err);
    }
    tm_arena_destroy(arena);
    return rc;
}

static int release_partitions(struct tm_pg *pg, const struct tm_stream *s, const PGresult *parts, struct tm_error *err)
{
    char sql[512];
    int rc = TM_OK;
    for (int i = 0; !rc && i < PQntuples(parts); i++) {
        (void)snprintf(sql, sizeof sql, "ALTER TABLE %s DETACH PARTITION %s", s->name, PQgetvalue(parts, i, 0));
        rc = tm_pg_exec(pg, sql, err);
    }
    rc = rc ? rc : drop_index(pg, s, err);
    for (int i = 0; !rc && i < PQntuples(parts); i++) {
        rc = rename_index(pg, s, PQgetvalue(parts, i, 0), PQgetvalue(parts, i, 2), err);
        (void)snprintf(sql, sizeof sql, "ALTER TABLE %s ATTACH PARTITION %s %s", s->name, PQgetvalue(parts, i, 0),
                       PQgetvalue(parts, i, 1));
        rc = rc ? rc : tm_pg_exec(pg, sql, err);
    }
    return rc;
}

static int leave_parent(struct tm_pg *pg, const struct tm_stream *s, struct tm_error *err)
{
    PGresult *parts;
    int rc =
        query(pg,
              "SELECT c.relname, pg_get_expr(c.relpartbound, c.oid), coalesce((SELECT x.relname FROM pg_index k "
              "JOIN pg_class x ON x.oid = k.indexrelid JOIN pg_inherits ki ON ki.inhrelid = x.oid WHERE k.indrelid "
              "= c.oid AND ki.inhparent = to_regclass($1 || '_key')), '') FROM pg_inherits i JOIN pg_class c ON "
              "c.oid = i.inhrelid WHERE i.inhparent = to_regclass($1) ORDER BY 1",
              s->name, &parts, err);
    if (rc)
        return rc;
    rc = release_partitions(pg, s, parts, err);
    PQclear(parts);
    return rc;
}

/* A key was taken back before it began: the parent has its index again, and what days had beside it is left over. */
static int drop_leftovers(struct tm_pg *pg, const struct tm_stream *s, struct tm_error *err)
{
    PGresult *r;
    char sql[128];
    int rc = query(pg,
                   "SELECT x.relname FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_index k ON "
                   "k.indrelid = c.oid AND k.indisunique JOIN pg_class x ON x.oid = k.indexrelid WHERE i.inhparent = "
                   "to_regclass($1) AND x.relname LIKE replace(c.relname, '_', '\\_') || '\\_key\\_%' AND NOT EXISTS "
                   "(SELECT FROM pg_inherits ki WHERE ki.inhrelid = x.oid)",
                   s->name, &r, err);
    if (rc)
        return rc;
    for (int i = 0; !rc && i < PQntuples(r); i++) {
        (void)snprintf(sql, sizeof sql, "DROP INDEX %s", PQgetvalue(r, i, 0));
        rc = tm_pg_exec(pg, sql, err);
    }
    PQclear(r);
    return rc;
}

int tm_keys_index_days(struct tm_pg *pg, const struct tm_plan *plan, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++) {
        const struct tm_stream *s = tm_plan_stream(plan, i);
        bool unique = false;
        if (tm_stream_fixed_key(s))
            continue;
        rc = tm_keys_parent_is_unique(pg, s, &unique, err);
        if (!rc && unique && s->keys_count > 1)
            rc = leave_parent(pg, s, err);
        if (!rc && s->keys_count > 1)
            rc = index_partitions(pg, s, err);
        else if (!rc)
            rc = drop_leftovers(pg, s, err);
    }
    return rc;
}

/* ---- sessions ---- */

static int no_list(const struct tm_plan *plan, struct tm_error *err)
{
    for (size_t i = 0; i < tm_plan_stream_count(plan); i++)
        if (tm_plan_stream(plan, i)->keys_count > 1)
            return tm_error_set(err, TM_ESTATE,
                                "stream %s has keys that production has not recorded: run tidemill migrate",
                                tm_plan_stream(plan, i)->name);
    return TM_OK;
}

/* What production has and the script has not, in the words of the rule; else that it is not migrated. */
static int explain(const struct tm_plan *plan, const struct tm_key_list *known, const struct tm_key_list *next,
                   struct tm_error *err)
{
    const struct tm_key_moment moment = {.now_us = INT64_MIN, .newest_us = 0, .keep_all = true};
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++) {
        const struct tm_stream *s = tm_plan_stream(plan, i);
        struct tm_key_list k = tm_key_list_of(known, s->name), n = tm_key_list_of(next, s->name);
        if (n.count && !tm_key_lists_equal(&k, &n))
            rc = tm_key_list_change(s, &k, &n, &moment, err);
        if (!rc && n.count && !tm_key_lists_equal(&k, &n))
            rc = tm_error_set(err, TM_ESTATE,
                              "stream %s has keys that production has not recorded: run tidemill migrate", s->name);
    }
    return rc;
}

/* The digest first: if the list changes in between, it is the digest that is out of date, and transactions fail. */
static int read_digest(struct tm_pg *pg, char digest[TM_KEYS_DIGEST], struct tm_error *err)
{
    PGresult *r;
    bool there;
    *digest = '\0';
    int rc = has_table(pg, "tidemill.keys", &there, err);
    if (rc || !there)
        return rc;
    rc = query(pg,
               "SELECT md5(string_agg(concat_ws(' ', stream, from_ts, columns, occurrence), ';' ORDER BY stream, "
               "from_ts)) FROM tidemill.keys",
               NULL, &r, err);
    if (rc)
        return rc;
    (void)snprintf(digest, TM_KEYS_DIGEST, "%s", PQgetvalue(r, 0, 0));
    PQclear(r);
    return TM_OK;
}

int tm_keys_expect(struct tm_pg *pg, const struct tm_plan *plan, char digest[TM_KEYS_DIGEST], struct tm_error *err)
{
    struct tm_arena *arena = tm_arena_create();
    struct tm_key_list known, next = tm_plan_keys(plan, arena);
    int rc = read_digest(pg, digest, err);
    rc = rc ? rc : load(pg, arena, &known, err);
    if (!rc)
        rc = *digest ? explain(plan, &known, &next, err) : no_list(plan, err);
    tm_arena_destroy(arena);
    return rc;
}

/* What a gatherer has recorded for a stream; nothing where its store is older than tidemill.keys. */
static int load_stream(struct tm_pg *pg, const char *stream, struct tm_arena *arena, struct tm_key_list *out,
                       struct tm_error *err)
{
    PGresult *r;
    *out = (struct tm_key_list){0};
    int rc = tm_pg_query_prepared(pg, LIST_SQL " WHERE stream = $1 ORDER BY k.from_ts", 1, &stream, &r, err);
    if (rc)
        return strcmp(tm_pg_sqlstate(pg), "42P01") == 0 ? TM_OK : rc;
    *out = list_of(r, arena);
    PQclear(r);
    return TM_OK;
}

/* The first key of `list` that has begun by newest_us and that `other` has not. */
static const struct tm_key_record *first_unknown(const struct tm_key_list *list, const struct tm_key_list *other,
                                                 int64_t newest_us)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->items[i].from_us != INT64_MIN && list->items[i].from_us <= newest_us &&
            !tm_key_list_has(other, &list->items[i]))
            return &list->items[i];
    return NULL;
}

int tm_keys_are_known(struct tm_pg *pg, const struct tm_stream *stream, int64_t newest_us, struct tm_error *err)
{
    char from[TM_MOMENT_TEXT];
    if (tm_stream_fixed_key(stream))
        return TM_OK;
    struct tm_arena *arena = tm_arena_create();
    struct tm_key_list known, keys = tm_stream_keys(stream, arena);
    int rc = load_stream(pg, stream->name, arena, &known, err);
    const struct tm_key_record *theirs = rc ? NULL : first_unknown(&keys, &known, newest_us);
    const struct tm_key_record *ours = rc ? NULL : first_unknown(&known, &keys, newest_us);
    if (ours)
        rc = tm_error_set(
            err, TM_ESTATE,
            "%s: the gatherer has records from %s on, by a key (%s) that this script does not declare: they "
            "wait until it does",
            stream->name, tm_moment_text(ours->from_us, from), ours->columns);
    else if (theirs)
        rc =
            tm_error_set(err, TM_ESTATE,
                         "%s: the gatherer took records from %s on without knowing the key that holds from then; if it "
                         "cannot learn it any more, give it a new journal directory and a new store",
                         stream->name, tm_moment_text(theirs->from_us, from));
    tm_arena_destroy(arena);
    return rc;
}
