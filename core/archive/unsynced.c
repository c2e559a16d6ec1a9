#include "archive/unsynced.h"
#include "archive/manifest.h"
#include "archive/object.h"
#include "base/clock.h"

#include <inttypes.h>
#include <stdio.h>

static int64_t first_of(const struct tm_unsynced *u)
{
    return u->part.acknowledged >= u->part.first ? u->part.acknowledged + 1 : u->part.first;
}

static void name_of(const struct tm_unsynced *u, enum tm_archive_kind kind, char out[TM_ARCHIVE_KEY])
{
    (void)snprintf(out, TM_ARCHIVE_KEY, "%sunsynced/gatherer=%.63s/%.63s/%.36s-%015" PRId64 "-%015" PRId64 ".%s",
                   kind == TM_ARCHIVE_MANIFEST ? "manifest/" : "", u->gatherer, u->stream->name, u->part.epoch,
                   first_of(u), u->part.last, kind == TM_ARCHIVE_MANIFEST ? "json" : "parquet");
}

static int copy_rows(struct tm_pg *pg, const struct tm_unsynced *u, struct tm_object_writer *w, struct tm_error *err)
{
    struct tm_buf sql = {0};
    int rc = tm_buf_printf(&sql,
                           "COPY (SELECT %s FROM %s WHERE seq >= %" PRId64 " AND seq <= %" PRId64
                           " ORDER BY seq) TO STDOUT (FORMAT binary)",
                           u->stream->copy_columns, u->part.table, first_of(u), u->part.last);
    const char *text = rc ? NULL : tm_buf_cstr(&sql);
    rc = text ? tm_pg_copy_each(pg, text, tm_object_writer_put, w, err)
              : tm_error_set(err, TM_ENOMEM, "out of memory for an export");
    tm_buf_fini(&sql);
    return rc;
}

static int write_object(struct tm_pg *pg, struct tm_target *target, const struct tm_unsynced *u, const char *key,
                        struct tm_object_written *out, struct tm_error *err)
{
    struct tm_parquet_column columns[TM_COLUMNS_MAX];
    struct tm_object_writer *w = NULL;
    size_t count = tm_parquet_columns(u->stream, TM_COPY_LOCAL, columns);
    int rc = tm_object_writer_create(target, key, columns, count, &w, err);
    rc = rc ? rc : copy_rows(pg, u, w, err);
    if (rc) {
        tm_object_writer_abort(w);
        return rc;
    }
    return tm_object_writer_finish(w, out, err);
}

/* Whole seconds around what is known. */
static int64_t second_after(int64_t us)
{
    return us ? (us / TM_US_PER_S + 1) * TM_US_PER_S : 0;
}

static int write_manifest(struct tm_target *target, const struct tm_unsynced *u, const char *object,
                          const struct tm_object_written *written, const char *key, struct tm_error *err)
{
    struct tm_buf text = {0};
    struct tm_manifest m = {.of_gatherer = true,
                            .from_us = u->part.from_us,
                            .to_us = second_after(u->part.to_us),
                            .rows = written->rows,
                            .what = written->what,
                            .has_seq = true,
                            .first_seq = first_of(u),
                            .last_seq = u->part.last};
    struct tm_manifest_more more = {.columns = u->stream->copy_columns};
    (void)snprintf(m.stream, sizeof m.stream, "%s", u->stream->name);
    (void)snprintf(m.gatherer, sizeof m.gatherer, "%s", u->gatherer);
    (void)snprintf(m.epoch, sizeof m.epoch, "%.36s", u->part.epoch);
    if (written->rows)
        (void)snprintf(m.object, sizeof m.object, "%s", object);
    tm_manifest_schema(u->stream, m.schema);
    int rc = tm_manifest_put(&m, &more, tm_clock_wall_us(), &text)
                 ? tm_error_set(err, TM_ENOMEM, "out of memory for a manifest")
                 : tm_target_put(target, key, text.data, text.len, NULL, err);
    tm_buf_fini(&text);
    return rc == TM_ECONFLICT ? TM_OK : rc; /* ours, from before a crash */
}

int tm_unsynced_archive(struct tm_pg *pg, struct tm_target *target, const struct tm_unsynced *u,
                        struct tm_unsynced_done *out, struct tm_error *err)
{
    char object[TM_ARCHIVE_KEY];
    struct tm_object_written written = {0};
    name_of(u, TM_ARCHIVE_OBJECT, object);
    name_of(u, TM_ARCHIVE_MANIFEST, out->manifest);
    int rc = write_object(pg, target, u, object, &written, err);
    if (rc == TM_ECONFLICT)
        rc = tm_object_look(target, object, &written, err);
    if (!rc && written.rows != u->part.rows)
        return tm_error_set(err, TM_ECORRUPT, "%s: expected %" PRIu64 " rows, it has %" PRIu64, object, u->part.rows,
                            written.rows);
    rc = rc ? rc : write_manifest(target, u, object, &written, out->manifest, err);
    out->rows = written.rows;
    out->bytes = written.what.size;
    return rc;
}
