#include "engine/dedup_private.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void tm_cursors_fini(struct tm_cursors *c)
{
    free(c->items);
    *c = (struct tm_cursors){0};
}

static struct tm_cursor *add(struct tm_cursors *c)
{
    if (c->count == c->cap) {
        size_t cap = c->cap ? c->cap * 2 : 32;
        struct tm_cursor *items = realloc(c->items, cap * sizeof *items);
        TM_FATAL_UNLESS(items);
        c->items = items;
        c->cap = cap;
    }
    struct tm_cursor *cursor = &c->items[c->count++];
    *cursor = (struct tm_cursor){0};
    return cursor;
}

struct tm_cursor *tm_cursors_get(struct tm_cursors *c, const char *gatherer, const char *epoch, const char *stream)
{
    for (size_t i = 0; i < c->count; i++) {
        struct tm_cursor *at = &c->items[i];
        if (strcmp(at->gatherer, gatherer) == 0 && strcmp(at->epoch, epoch) == 0 && strcmp(at->stream, stream) == 0)
            return at;
    }
    struct tm_cursor *cursor = add(c);
    (void)snprintf(cursor->gatherer, sizeof cursor->gatherer, "%s", gatherer);
    (void)snprintf(cursor->epoch, sizeof cursor->epoch, "%s", epoch);
    (void)snprintf(cursor->stream, sizeof cursor->stream, "%s", stream);
    return cursor;
}

int tm_cursors_copy(struct tm_cursors *to, const struct tm_cursors *from)
{
    struct tm_cursor *items = malloc(from->count * sizeof *items + 1);
    if (!items)
        return TM_ENOMEM;
    if (from->count)
        memcpy(items, from->items, from->count * sizeof *items);
    free(to->items);
    *to = (struct tm_cursors){.items = items, .count = from->count, .cap = from->count};
    return TM_OK;
}

static bool is_ours(const struct tm_deduplicator_options *options, const char *id)
{
    for (size_t i = 0; i < options->gatherer_count; i++)
        if (strcmp(options->gatherers[i].id, id) == 0)
            return true;
    return false;
}

bool tm_cursors_is_retired(const struct tm_cursors *c, const char *gatherer, const char *epoch)
{
    for (size_t i = 0; i < c->count; i++)
        if (c->items[i].retired && strcmp(c->items[i].gatherer, gatherer) == 0 && strcmp(c->items[i].epoch, epoch) == 0)
            return true;
    return false;
}

/* The script decides who is active: what it names no more is left to drain, and comes back when it is named again. */
static int note_declared(struct tm_pg *pg, const struct tm_deduplicator_options *options, struct tm_error *err)
{
    struct tm_buf list = {0};
    int rc = tm_buf_printf(&list, "{");
    for (size_t i = 0; !rc && i < options->gatherer_count; i++)
        rc = tm_buf_printf(&list, "%s%s", i ? "," : "", options->gatherers[i].id);
    rc = rc ? rc : tm_buf_printf(&list, "}");
    const char *values[] = {rc ? NULL : tm_buf_cstr(&list)};
    rc = values[0] ? tm_pg_run(pg,
                               "UPDATE tidemill.gatherers SET changed_at = now(), state = CASE WHEN gatherer = ANY "
                               "($1::text[]) THEN 'active' ELSE 'draining' END WHERE state <> 'retired' AND "
                               "(state = 'active') <> (gatherer = ANY ($1::text[]))",
                               1, values, NULL, err)
                   : tm_error_set(err, TM_ENOMEM, "out of memory");
    tm_buf_fini(&list);
    return rc;
}

static int read_cursors(struct tm_cursors *c, struct tm_pg *pg, const struct tm_deduplicator_options *options,
                        const char *sql, int count, const char *const *values, struct tm_error *err)
{
    PGresult *result;
    int rc = tm_pg_query(pg, sql, count, values, &result, err);
    if (rc)
        return rc;
    c->count = 0;
    for (int i = 0; i < PQntuples(result); i++) {
        const char *gatherer = PQgetvalue(result, i, 0);
        if (!is_ours(options, gatherer))
            continue; /* not in the script any more, or another deduplicator's */
        struct tm_cursor *cursor = tm_cursors_get(c, gatherer, PQgetvalue(result, i, 1), PQgetvalue(result, i, 2));
        cursor->seq = strtoll(PQgetvalue(result, i, 3), NULL, 10);
        cursor->hash = strtoll(PQgetvalue(result, i, 4), NULL, 10);
        cursor->retired = strcmp(PQgetvalue(result, i, 5), "t") == 0;
    }
    PQclear(result);
    return TM_OK;
}

int tm_cursors_load(struct tm_cursors *c, struct tm_pg *pg, const struct tm_deduplicator_options *options,
                    unsigned shard, struct tm_error *err)
{
    char number[12];
    const char *values[] = {number};
    (void)snprintf(number, sizeof number, "%u", shard);
    int rc = note_declared(pg, options, err);
    return rc ? rc
              : read_cursors(
                    c, pg, options,
                    "SELECT gatherer, epoch, stream, seq, hash, false FROM tidemill.cursors WHERE shard = $1 UNION "
                    "ALL SELECT gatherer, epoch, '', 0, 0, true FROM tidemill.gatherers WHERE state = 'retired'",
                    1, values, err);
}

int tm_cursors_load_least(struct tm_cursors *c, struct tm_pg *pg, const struct tm_deduplicator_options *options,
                          struct tm_error *err)
{
    return read_cursors(c, pg, options,
                        "SELECT gatherer, epoch, stream, min(seq), 0, false FROM tidemill.cursors GROUP BY 1, 2, 3", 0,
                        NULL, err);
}

/* ---- moving ---- */

static struct tm_cursor_move *move_of(struct tm_cursor_move *moves, size_t *count, const struct tm_batch *b)
{
    for (size_t i = 0; i < *count; i++) {
        struct tm_cursor_move *v = &moves[i];
        if (v->gatherer == b->peer->id && v->stream == b->stream->name && strcmp(v->epoch, b->epoch) == 0)
            return v;
    }
    moves[*count] = (struct tm_cursor_move){
        .gatherer = b->peer->id, .epoch = b->epoch, .stream = b->stream->name, .from = b->from, .shards = b->shards};
    return &moves[(*count)++];
}

size_t tm_cursors_plan(struct tm_cursor_move *moves, struct tm_batch *const *batches, size_t count)
{
    size_t moved = 0;
    for (size_t i = 0; i < count; i++) {
        struct tm_cursor_move *v = move_of(moves, &moved, batches[i]);
        v->to = batches[i]->to;
        v->hash = batches[i]->hash;
    }
    return moved;
}

/*
 * Rows that are there are not inserted once more: that would wait for whoever moves them, and two shards for each other.
 * Those that several shards make at once are made in one order.
 */
#define MOVE_SQL                                                                                                       \
    "WITH v AS (SELECT * FROM unnest($2::text[], $3::uuid[], $4::text[], $5::int8[], $6::int8[], $7::int8[], "         \
    "$8::int8[]) AS v (g, e, s, was, seq, hash, shards)), moved AS (UPDATE tidemill.cursors c SET seq = v.seq, "       \
    "hash = v.hash, updated_at = now() FROM v WHERE c.gatherer = v.g AND c.epoch = v.e AND c.stream = v.s AND "        \
    "c.shard = $1 AND c.seq = v.was AND NOT EXISTS (SELECT FROM tidemill.gatherers r WHERE r.gatherer = v.g AND "      \
    "r.epoch = v.e AND r.state = 'retired') RETURNING 1), known AS (INSERT INTO tidemill.gatherers (gatherer, "        \
    "epoch) SELECT DISTINCT g, e FROM v WHERE was = 0 ORDER BY 1, 2 ON CONFLICT DO NOTHING), made AS (INSERT INTO "    \
    "tidemill.cursors (gatherer, epoch, stream, shard, seq, hash) SELECT g, e, s, k, CASE WHEN k = $1 THEN seq ELSE "  \
    "0 END, CASE WHEN k = $1 THEN hash ELSE 0 END FROM v, generate_series(0, shards - 1) k WHERE was = 0 AND NOT "     \
    "EXISTS (SELECT FROM tidemill.gatherers r WHERE r.gatherer = g AND r.epoch = e AND r.state = 'retired') AND NOT "  \
    "EXISTS (SELECT FROM tidemill.cursors o WHERE o.gatherer = g AND o.epoch = e AND o.stream = s AND o.shard = k) "   \
    "ORDER BY 1, 2, 3, 4 ON CONFLICT DO NOTHING RETURNING shard) SELECT (SELECT count(*) FROM moved) + (SELECT "       \
    "count(*) FROM made WHERE shard = $1)"

enum { GATHERERS, EPOCHS, STREAMS, FROM, TO, HASHES, SHARDS, ARRAYS };

/* The moves' values as arrays. Ids and stream names were checked to be plain words: nothing here needs escaping. */
static int build(struct tm_buf arrays[ARRAYS], const struct tm_cursor_move *moves, size_t count)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < count; i++) {
        const struct tm_cursor_move *v = &moves[i];
        const char comma = i ? ',' : '{';
        rc = tm_buf_printf(&arrays[GATHERERS], "%c%s", comma, v->gatherer);
        rc = rc ? rc : tm_buf_printf(&arrays[EPOCHS], "%c%s", comma, v->epoch);
        rc = rc ? rc : tm_buf_printf(&arrays[STREAMS], "%c%s", comma, v->stream);
        rc = rc ? rc : tm_buf_printf(&arrays[FROM], "%c%" PRId64, comma, v->from);
        rc = rc ? rc : tm_buf_printf(&arrays[TO], "%c%" PRId64, comma, v->to);
        rc = rc ? rc : tm_buf_printf(&arrays[HASHES], "%c%" PRId64, comma, v->hash);
        rc = rc ? rc : tm_buf_printf(&arrays[SHARDS], "%c%u", comma, v->shards);
    }
    for (int i = 0; !rc && i < ARRAYS; i++)
        rc = tm_buf_printf(&arrays[i], "}");
    return rc;
}

int tm_cursors_move(struct tm_pg *pg, unsigned shard, const struct tm_cursor_move *moves, size_t count,
                    struct tm_error *err)
{
    struct tm_buf arrays[ARRAYS] = {{0}};
    struct tm_pg_number number;
    const char *values[1 + ARRAYS] = {tm_pg_number(&number, shard)};
    PGresult *result;
    int rc = build(arrays, moves, count);
    for (int i = 0; !rc && i < ARRAYS; i++)
        rc = (values[1 + i] = tm_buf_cstr(&arrays[i])) ? TM_OK : TM_ENOMEM;
    rc = rc ? tm_error_set(err, rc, "out of memory for %zu cursors", count)
            : tm_pg_query_prepared(pg, MOVE_SQL, 1 + ARRAYS, values, &result, err);
    for (int i = 0; i < ARRAYS; i++)
        tm_buf_fini(&arrays[i]);
    if (rc)
        return rc;
    size_t moved = strtoull(PQgetvalue(result, 0, 0), NULL, 10);
    PQclear(result);
    if (moved != count)
        return tm_error_set(
            err, TM_ECONFLICT,
            "cursors: expected to move %zu, moved %zu: another deduplicator has written, or a gatherer was retired; reading "
            "them again",
            count, moved);
    return TM_OK;
}
