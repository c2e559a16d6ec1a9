#include "archive/restore_private.h"
#include "base/clock.h"
#include "base/endian.h"
#include "base/unset.h"
#include "record/row.h"
#include "record/schema.h"
#include "store/exports.h"
#include "store/migrate.h"
#include "store/quarantine.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#define NOBODY "00000000-0000-0000-0000-000000000000"

/* ---- the table of a gatherer's store ---- */

/* As lua/recovery/rebuild.lua makes it: what is restored stands beside what was observed and is never polled. */
static int make_restored(struct tm_restoring *r, struct tm_error *err)
{
    const char *name = r->stream->name, *columns = (const char *)r->names.data;
    struct tm_buf sql = {0}, keys = {0};
    int rc = tm_schema_key_columns(r->stream, &keys);
    const char *key = rc ? NULL : tm_buf_cstr(&keys);
    rc = key ? tm_buf_printf(
                   &sql,
                   "CREATE SCHEMA IF NOT EXISTS restored; CREATE TABLE IF NOT EXISTS restored.%s AS SELECT %s, "
                   "'archive'::text AS origin FROM public.%s WHERE false; ",
                   name, columns, name)
             : TM_ENOMEM;
    if (!rc && !r->stream->within_us)
        rc = tm_buf_printf(&sql, "CREATE UNIQUE INDEX IF NOT EXISTS %s_key ON restored.%s (%s) NULLS NOT DISTINCT; ",
                           name, name, key);
    if (!rc && r->stream->within_us)
        rc = tm_buf_printf(&sql, "CREATE INDEX IF NOT EXISTS %s_key ON restored.%s (received_at); ", name, name);
    rc =
        rc ? rc
           : tm_buf_printf(&sql,
                           "CREATE OR REPLACE VIEW restored.all_%s AS SELECT %s, 'feed'::text AS origin FROM public.%s "
                           "UNION ALL SELECT %s, origin FROM restored.%s; CREATE TEMP TABLE IF NOT EXISTS "
                           "stage_restored_%s AS SELECT %s FROM public.%s WHERE false",
                           name, columns, name, columns, name, name, columns, name);
    const char *text = rc ? NULL : tm_buf_cstr(&sql);
    rc = text ? tm_pg_exec(r->o->pg, text, err) : tm_error_set(err, TM_ENOMEM, "out of memory for a table");
    tm_buf_fini(&sql);
    tm_buf_fini(&keys);
    return rc;
}

int tm_restore_prepare(struct tm_restoring *r, struct tm_error *err)
{
    return r->o->side == TM_COPY_LOCAL ? make_restored(r, err) : TM_OK;
}

static int count_stored(struct tm_restoring *r, const char *sql, size_t rows, struct tm_error *err)
{
    int64_t stored = 0;
    int rc = tm_pg_query_number(r->o->pg, sql, 0, NULL, &stored, err);
    r->counts->stored += (uint64_t)stored;
    r->counts->duplicate += rows - (uint64_t)stored;
    return rc;
}

static int put_restored(struct tm_restoring *r, const struct tm_span_bytes *spans, size_t count, struct tm_error *err)
{
    const char *name = r->stream->name, *columns = (const char *)r->names.data;
    struct tm_buf copy = {0}, merge = {0};
    int rc = tm_buf_printf(&copy,
                           "TRUNCATE pg_temp.stage_restored_%s; COPY pg_temp.stage_restored_%s (%s) FROM STDIN "
                           "(FORMAT binary)",
                           name, name, columns);
    rc = rc ? rc
            : tm_buf_printf(
                  &merge,
                  "WITH put AS (INSERT INTO restored.%s (%s, origin) SELECT %s, 'archive' FROM "
                  "pg_temp.stage_restored_%s s%s%s%s ON CONFLICT DO NOTHING RETURNING 1) SELECT count(*) FROM put",
                  name, columns, columns, name, r->stream->within_us ? " WHERE NOT EXISTS (SELECT FROM restored." : "",
                  r->stream->within_us ? name : "",
                  r->stream->within_us ? " t WHERE t.received_at = s.received_at AND (to_jsonb(t) - 'origin') = "
                                         "to_jsonb(s))"
                                       : "");
    const char *copy_text = rc ? NULL : tm_buf_cstr(&copy), *merge_text = rc ? NULL : tm_buf_cstr(&merge);
    rc = copy_text && merge_text ? tm_pg_exec(r->o->pg, "BEGIN", err) : tm_error_set(err, TM_ENOMEM, "out of memory");
    rc = rc ? rc : tm_pg_copy_in(r->o->pg, copy_text, spans, count, err);
    rc = rc ? rc : count_stored(r, merge_text, count, err);
    rc = rc ? rc : tm_pg_exec(r->o->pg, "COMMIT", err);
    tm_buf_fini(&copy);
    tm_buf_fini(&merge);
    return rc;
}

/* ---- production ---- */

/* The time that decides on its partition and its period; INT64_MIN: none. */
static int64_t time_of(const struct tm_restoring *r, const struct tm_span_bytes *row)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    int column = tm_archive_column(r->stream);
    if (tm_tuple_split(row->bytes, row->len, fields, r->column_count) || fields[column].len != 8)
        return INT64_MIN;
    return tm_unix_time_us((int64_t)tm_get_be64(fields[column].bytes));
}

static bool knows_day(struct tm_restoring *r, int64_t day_us)
{
    for (size_t i = r->day_count; i-- > 0;)
        if (r->days[i] == day_us)
            return true;
    if (r->day_count == sizeof r->days / sizeof *r->days)
        r->day_count = 0;
    r->days[r->day_count++] = day_us;
    return false;
}

static int make_days(struct tm_restoring *r, const struct tm_span_bytes *spans, size_t count, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && r->stream->partition == TM_PARTITION_DAY && i < count; i++) {
        int64_t us = time_of(r, &spans[i]);
        if (us != INT64_MIN && !knows_day(r, tm_period_at(us, TM_PERIOD_DAY_US).from_us))
            rc = tm_migrate_production_days(r->o->pg, r->o->plan, us, us, err);
    }
    return rc;
}

/* They may be of hours that were exported by this very production. */
static int note_hours(struct tm_restoring *r, const struct tm_span_bytes *spans, size_t count, struct tm_error *err)
{
    int64_t hours[TM_EXPORTS_HOURS_MAX], last = INT64_MIN;
    size_t n = 0;
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < count; i++) {
        int64_t us = time_of(r, &spans[i]);
        int64_t hour = us == INT64_MIN ? last : tm_period_at(us, TM_PERIOD_HOUR_US).from_us;
        if (hour == last)
            continue;
        hours[n++] = last = hour;
        if (n == TM_EXPORTS_HOURS_MAX) {
            rc = tm_exports_note_late(r->o->pg, r->stream->name, hours, n, err);
            n = 0;
        }
    }
    return rc || !n ? rc : tm_exports_note_late(r->o->pg, r->stream->name, hours, n, err);
}

static int on_reject(void *arg, const struct tm_stream *stream, const struct tm_span_bytes *tuple, const char *sqlstate,
                     const char *message)
{
    struct tm_restoring *r = arg;
    struct tm_error err;
    struct tm_quarantine q = {.stream = stream->name,
                              .gatherer = "archive",
                              .epoch = NOBODY,
                              .seq = "0",
                              .sqlstate = sqlstate,
                              .error = message,
                              .columns = (const char *)r->names.data,
                              .tuple = *tuple};
    return tm_quarantine_put(r->o->pg, &q, &err);
}

/* Equal keys within a time of each other are looked for, not enforced: nobody may store such rows beside us. */
static int begin(struct tm_restoring *r, struct tm_error *err)
{
    char sql[256];
    (void)snprintf(sql, sizeof sql, TM_EXPORTS_BEGIN "%s%s%s", r->stream->within_us ? "; LOCK TABLE " : "",
                   r->stream->within_us ? r->stream->name : "",
                   r->stream->within_us ? " IN SHARE ROW EXCLUSIVE MODE" : "");
    return tm_pg_exec(r->o->pg, sql, err);
}

static int put_production(struct tm_restoring *r, const struct tm_span_bytes *spans, size_t count, struct tm_error *err)
{
    struct tm_copy_result result = {0};
    struct tm_copy_batch batch = {.stream = r->stream,
                                  .side = TM_COPY_PRODUCTION,
                                  .columns = (const char *)r->names.data,
                                  .tuples = spans,
                                  .count = count,
                                  .expect_conflicts = r->conflicts,
                                  .on_reject = on_reject,
                                  .arg = r};
    int rc = make_days(r, spans, count, err);
    rc = rc ? rc : begin(r, err);
    rc = rc ? rc : tm_copy_rows(r->o->pg, &batch, &result, err);
    if (!rc && result.stored)
        rc = note_hours(r, spans, count, err);
    rc = rc ? rc : tm_pg_exec(r->o->pg, "COMMIT", err);
    if (rc)
        return rc;
    r->conflicts = result.duplicate > 0;
    r->counts->stored += result.stored;
    r->counts->duplicate += result.duplicate;
    r->counts->refused += result.rejected;
    return TM_OK;
}

/* ---- a batch ---- */

static int find_rows(struct tm_restoring *r, const uint8_t *tuples, size_t len, struct tm_error *err)
{
    tm_buf_clear(&r->spans);
    for (size_t at = 0; at < len;) {
        int64_t n = tm_tuple_length(tuples + at, len - at);
        struct tm_span_bytes span = {.bytes = tuples + at, .len = (size_t)n};
        if (n <= 0)
            return tm_error_set(err, TM_ECORRUPT, "%s: its rows are no tuples", r->object);
        if (tm_buf_append(&r->spans, &span, sizeof span))
            return tm_error_set(err, TM_ENOMEM, "out of memory for a batch of rows");
        at += (size_t)n;
    }
    return TM_OK;
}

int tm_restore_take(void *restoring, const uint8_t *tuples, size_t len, size_t rows, struct tm_error *err)
{
    struct tm_restoring *r = restoring;
    int rc = find_rows(r, tuples, len, err);
    const struct tm_span_bytes *spans = (const struct tm_span_bytes *)(const void *)r->spans.data;
    if (rc)
        return rc;
    rc = r->o->side == TM_COPY_LOCAL ? put_restored(r, spans, rows, err) : put_production(r, spans, rows, err);
    if (rc)
        tm_pg_rollback(r->o->pg);
    /* what the database refuses is no fault of the object's */
    return rc == TM_ECORRUPT || rc == TM_ENOENT ? tm_error_set(err, TM_ESTATE, "%.900s", err->message) : rc;
}

/* ---- how far it came ---- */

static void hex_of(const struct tm_manifest *m, char out[2 * TM_SHA256_BYTES + 1])
{
    for (size_t i = 0; i < TM_SHA256_BYTES; i++)
        (void)snprintf(out + 2 * i, 3, "%02x", m->what.sha256[i]);
}

int tm_restore_is_done(struct tm_restoring *r, const struct tm_manifest *m, bool *done, struct tm_error *err)
{
    char hash[2 * TM_SHA256_BYTES + 1];
    const char *values[] = {tm_target_name(r->o->target), m->object, hash};
    int64_t count = 0;
    hex_of(m, hash);
    int rc = tm_pg_query_number(
        r->o->pg, "SELECT count(*) FROM tidemill.restored WHERE archive = $1 AND object = $2 AND sha256 = $3", 3,
        values, &count, err);
    *done = count > 0;
    return rc;
}

int tm_restore_note_done(struct tm_restoring *r, const struct tm_manifest *m, struct tm_error *err)
{
    char hash[2 * TM_SHA256_BYTES + 1], rows[24];
    const char *values[] = {tm_target_name(r->o->target), m->object, hash, rows};
    hex_of(m, hash);
    (void)snprintf(rows, sizeof rows, "%" PRIu64, m->rows);
    return tm_pg_run(
        r->o->pg,
        "INSERT INTO tidemill.restored (archive, object, sha256, rows) VALUES ($1, $2, $3, $4) ON CONFLICT "
        "(archive, object) DO UPDATE SET sha256 = excluded.sha256, rows = excluded.rows, at = now()",
        4, values, NULL, err);
}

int tm_restore_forget_done(struct tm_restoring *r, struct tm_error *err)
{
    const char *values[] = {tm_target_name(r->o->target)};
    return tm_pg_run(r->o->pg, "DELETE FROM tidemill.restored WHERE archive = $1", 1, values, NULL, err);
}

int tm_restore_close(struct tm_restoring *r, const struct tm_manifest *m, struct tm_error *err)
{
    char first[24], last[24];
    const char *values[] = {m->gatherer, m->epoch, m->stream, first, last};
    (void)snprintf(first, sizeof first, "%" PRId64, m->first_seq);
    (void)snprintf(last, sizeof last, "%" PRId64, m->last_seq);
    int rc = tm_pg_run(
        r->o->pg,
        "UPDATE tidemill.absent SET reason = 'restored' WHERE gatherer = $1 AND epoch = $2::uuid AND stream = $3 "
        "AND reason = 'expired' AND first_seq >= $4::int8 AND last_seq <= $5::int8",
        5, values, NULL, err);
    return rc ? rc
              : tm_pg_run(
                    r->o->pg,
                    "UPDATE gaps SET closed_by = 'archive' WHERE gatherer = $1 AND epoch = $2::uuid AND stream = $3 AND "
                    "reason = 'expired' AND first_seq >= $4::int8 AND last_seq <= $5::int8",
                    5, values, NULL, err);
}

/* ---- named gaps ---- */

int tm_restore_put_gap(struct tm_restoring *r, const struct tm_restore_gap *gap, struct tm_error *err)
{
    char detail[TM_ARCHIVE_KEY + 260], from[TM_PERIOD_TEXT], to[TM_PERIOD_TEXT], rows[24];
    const char *values[] = {gap->stream, rows, detail, gap->from_us ? tm_period_text(gap->from_us, from) : NULL,
                            gap->to_us ? tm_period_text(gap->to_us, to) : NULL};
    (void)snprintf(detail, sizeof detail, "%s: %s", *gap->object ? gap->object : "-", gap->why);
    (void)snprintf(rows, sizeof rows, "%" PRIu64, gap->rows);
    return tm_pg_run(
        r->o->pg,
        "INSERT INTO tidemill.absent (gatherer, epoch, stream, first_seq, last_seq, rows, reason, detail, from_ts, "
        "to_ts) SELECT 'archive', '" NOBODY "', $1, 0, 0, $2::int8, 'archive', $3, $4::timestamptz, "
        "$5::timestamptz WHERE NOT EXISTS (SELECT FROM tidemill.absent WHERE reason = 'archive' AND stream = $1 AND "
        "detail = $3 AND from_ts IS NOT DISTINCT FROM $4::timestamptz)",
        5, values, NULL, err);
}

int tm_restore_end_gap(struct tm_restoring *r, const char *object, struct tm_error *err)
{
    const char *values[] = {r->stream->name, object};
    return tm_pg_run(r->o->pg,
                     "DELETE FROM tidemill.absent WHERE epoch = '" NOBODY
                     "' AND stream = $1 AND reason = 'archive' AND "
                     "starts_with(detail, $2 || ': ')",
                     2, values, NULL, err);
}
