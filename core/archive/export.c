#include "archive/export.h"
#include "archive/index.h"
#include "archive/object.h"
#include "base/clock.h"
#include "base/endian.h"
#include "base/json.h"
#include "base/unset.h"
#include "dedup/fpset.h"
#include "record/row_json.h"
#include "record/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define TRIES 4 /* of a period whose part somebody else wrote meanwhile */
#define GAPS_MAX "200"

enum { HAS_OBJECT = 1, HAS_MANIFEST = 2 };

struct exporting {
    const struct tm_export *e;
    struct tm_period period;
    struct tm_exported *out;
    struct tm_parquet_column columns[TM_COLUMNS_MAX];
    size_t column_count;
    struct tm_buf names;                 /* of the columns, "a,b,c" */
    uint8_t parts[TM_ARCHIVE_PARTS + 1]; /* what there is of each */
    enum tm_archive_kind listing;
    struct tm_hash_key hash_key;
    struct tm_fpset held; /* records that the archive has */
    bool compare;         /* it has some, and production has others or more */
    struct tm_object_writer *writer;
};

/* ---- what the archive has ---- */

static int note_part(void *arg, const char *key, const struct tm_object *object)
{
    struct exporting *x = arg;
    struct tm_period p;
    unsigned part;
    (void)object;
    if (!tm_period_of_key(x->listing, x->e->stream->name, key, &p, &part) || p.from_us != x->period.from_us ||
        p.to_us != x->period.to_us || part > TM_ARCHIVE_PARTS)
        return TM_OK;
    x->parts[part] |= x->listing == TM_ARCHIVE_OBJECT ? HAS_OBJECT : HAS_MANIFEST;
    if (part >= x->out->parts)
        x->out->parts = part + 1;
    return TM_OK;
}

static int list_parts(struct exporting *x, struct tm_error *err)
{
    char folder[TM_ARCHIVE_KEY];
    int rc = TM_OK;
    memset(x->parts, 0, sizeof x->parts);
    for (int kind = TM_ARCHIVE_OBJECT; !rc && kind <= TM_ARCHIVE_MANIFEST; kind++) {
        x->listing = (enum tm_archive_kind)kind;
        tm_period_folder(x->listing, x->e->stream->name, x->period, folder);
        rc = tm_target_list(x->e->target, folder, NULL, note_part, x, err);
        if (rc == TM_ENOENT) /* nothing was ever written there */
            rc = TM_OK;
    }
    return rc;
}

/* ---- manifests ---- */

static struct tm_manifest manifest_of(const struct exporting *x, unsigned part, const struct tm_object_written *written)
{
    struct tm_manifest m = {.from_us = x->period.from_us,
                            .to_us = x->period.to_us,
                            .part = part,
                            .rows = written->rows,
                            .what = written->what};
    (void)snprintf(m.stream, sizeof m.stream, "%s", x->e->stream->name);
    tm_manifest_schema(x->e->stream, m.schema);
    if (written->rows)
        tm_period_key(TM_ARCHIVE_OBJECT, m.stream, x->period, part, m.object);
    return m;
}

/* What may be missing in the period, as JSON; in the snapshot of its rows. */
static int read_coverage(const struct exporting *x, struct tm_buf *out, struct tm_error *err)
{
    static const char sql[] =
        "WITH g AS (SELECT gap_id, min(gatherer) AS gatherer, min(reason) AS reason, min(ticker) AS ticker, min(from_ts) AS "
        "\"from\", max(to_ts) AS \"to\" FROM gaps WHERE (stream IS NULL OR stream = $1) AND reason NOT IN ('whole', "
        "'unsubscribed') AND received_at >= $2::timestamptz - interval '30 days' AND from_ts < $3::timestamptz GROUP BY 1 "
        "HAVING coalesce(max(to_ts), 'infinity') >= $2::timestamptz), "
        "few AS (SELECT gatherer, reason, ticker, \"from\", \"to\" FROM g ORDER BY \"from\", gatherer LIMIT " GAPS_MAX
        ") "
        "SELECT json_build_object('cursors', (SELECT coalesce(json_agg(c), '[]') FROM (SELECT gatherer, epoch, seq FROM "
        "tidemill.cursors WHERE stream = $1 ORDER BY 1, 2) c), 'gaps', (SELECT coalesce(json_agg(few), '[]') FROM few), "
        "'gaps_left_out', (SELECT count(*) FROM g) - (SELECT count(*) FROM few), 'absent', (SELECT coalesce(json_agg(a), "
        "'[]') FROM (SELECT gatherer, epoch, first_seq, last_seq, rows, reason, detail, from_ts AS \"from\", to_ts AS \"to\" "
        "FROM tidemill.absent WHERE stream = $1 AND coalesce(from_ts, '-infinity') < $3::timestamptz AND coalesce(to_ts, "
        "'infinity') >= $2::timestamptz ORDER BY id LIMIT " GAPS_MAX ") a))::text";
    char from[TM_PERIOD_TEXT], to[TM_PERIOD_TEXT];
    const char *values[] = {x->e->stream->name, tm_period_text(x->period.from_us, from),
                            tm_period_text(x->period.to_us, to)};
    PGresult *r;
    int rc = tm_pg_query(x->e->pg, sql, 3, values, &r, err);
    if (rc)
        return rc;
    rc = tm_buf_printf(out, "%s", PQgetvalue(r, 0, 0)) ? tm_error_set(err, TM_ENOMEM, "out of memory") : TM_OK;
    PQclear(r);
    return rc;
}

static size_t production_index(const struct tm_stream *s, uint16_t column)
{
    return column < s->production_count ? column : s->production_count; /* an observer's seq */
}

/* The row's column of time and its key, as a JSON object. */
static int put_key(const struct exporting *x, struct tm_span_bytes tuple, struct tm_buf *out)
{
    const struct tm_stream *s = x->e->stream;
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    if (!tuple.len || tm_tuple_split(tuple.bytes, tuple.len, fields, x->column_count))
        return TM_OK;
    int column = tm_archive_column(s);
    const char *comma = "{";
    int rc = TM_OK;
    for (uint16_t i = 0; !rc && i <= s->key_count; i++) {
        uint16_t c = i ? s->key[i - 1] : (uint16_t)column;
        const struct tm_field *f = &fields[production_index(s, c)];
        if ((i && c == column) || f->len < 0)
            continue;
        rc = tm_buf_printf(out, "%s\"%s\":", comma, s->columns[c].name);
        rc = rc ? rc : tm_json_put_field(out, &s->columns[c], f);
        comma = ",";
    }
    rc = rc ? rc : tm_buf_append(out, *comma == '{' ? "{}" : "}", *comma == '{' ? 2 : 1);
    return rc ? rc : tm_buf_cstr(out) ? TM_OK : TM_ENOMEM;
}

static int put_manifest(struct exporting *x, const struct tm_manifest *m, const struct tm_buf *first,
                        const struct tm_buf *last, struct tm_error *err)
{
    struct tm_buf text = {0}, coverage = {0};
    char key[TM_ARCHIVE_KEY];
    int rc = read_coverage(x, &coverage, err);
    if (rc) {
        tm_buf_fini(&coverage);
        return rc;
    }
    struct tm_manifest_more more = {.columns = (const char *)x->names.data,
                                    .first = (const char *)first->data,
                                    .last = (const char *)last->data,
                                    .coverage = tm_buf_cstr(&coverage),
                                    .production = x->e->production};
    rc = tm_manifest_put(m, &more, tm_clock_wall_us(), &text) ? tm_error_set(err, TM_ENOMEM, "out of memory") : TM_OK;
    tm_period_key(TM_ARCHIVE_MANIFEST, m->stream, x->period, m->part, key);
    if (!rc) {
        x->out->at_target = true;
        rc = tm_target_put(x->e->target, key, text.data, text.len, NULL, err);
        x->out->at_target = rc != 0;
    }
    tm_buf_fini(&text);
    tm_buf_fini(&coverage);
    return rc;
}

/* An object whose writer ended before it wrote the manifest: objects are never half, so it is good, or it is not ours. */
static int adopt(struct exporting *x, unsigned part, struct tm_error *err)
{
    char key[TM_ARCHIVE_KEY];
    struct tm_object_written there;
    struct tm_buf none = {0};
    tm_period_key(TM_ARCHIVE_OBJECT, x->e->stream->name, x->period, part, key);
    int rc = tm_object_look(x->e->target, key, &there, err);
    if (rc == TM_ECORRUPT || rc == TM_ENOMEM) {
        x->out->damaged++;
        return TM_OK;
    }
    if (rc) {
        x->out->at_target = true;
        return rc;
    }
    struct tm_manifest m = manifest_of(x, part, &there);
    rc = put_manifest(x, &m, &none, &none, err);
    if (!rc) {
        x->out->adopted++;
        x->parts[part] |= HAS_MANIFEST;
    }
    return rc;
}

/* ---- what is in them ---- */

/*
 * What makes two rows the same record here: the key; where keys are not unique (`within`), with the time; an observation is
 * known by who made it. Not all of the row: after production was restored it may have another gatherer's copy.
 */
static struct tm_fp identity(struct exporting *x, const uint8_t *tuple, size_t len)
{
    const struct tm_stream *s = x->e->stream;
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    uint8_t bytes[8192];
    size_t n = 0;
    TM_FATAL_UNLESS(tm_tuple_split(tuple, len, fields, x->column_count) == TM_OK);
    const struct tm_key *key = tm_stream_key_of(s, fields);
    for (uint16_t i = 0; i <= key->column_count; i++) {
        if (i == key->column_count && !s->within_us)
            break;
        uint16_t c = i < key->column_count ? key->columns[i] : (uint16_t)tm_archive_column(s);
        const struct tm_field *f = &fields[production_index(s, c)];
        size_t size = f->len > 0 ? (size_t)f->len : 0;
        if (size + 4 > sizeof bytes - n) /* content as a key may be long */
            return tm_hash_fp(&x->hash_key, tuple, len);
        tm_put_be32(bytes + n, (uint32_t)f->len);
        memcpy(bytes + n + 4, f->bytes, size);
        n += size + 4;
    }
    return tm_hash_fp(&x->hash_key, bytes, n);
}

static int hold_rows(void *arg, const uint8_t *tuples, size_t len, size_t rows, struct tm_error *err)
{
    struct exporting *x = arg;
    (void)rows;
    for (size_t at = 0; at < len;) {
        int64_t n = tm_tuple_length(tuples + at, len - at);
        if (n <= 0)
            return tm_error_set(err, TM_ECORRUPT, "an object's rows are no tuples");
        (void)tm_fpset_add(&x->held, identity(x, tuples + at, (size_t)n));
        at += (size_t)n;
    }
    return TM_OK;
}

static int read_manifest(struct exporting *x, unsigned part, struct tm_manifest *m, struct tm_error *err)
{
    char key[TM_ARCHIVE_KEY];
    tm_period_key(TM_ARCHIVE_MANIFEST, x->e->stream->name, x->period, part, key);
    return tm_archive_manifest(x->e->target, key, m, err);
}

static int hold_part(struct exporting *x, const struct tm_manifest *m, struct tm_error *err)
{
    struct tm_object_reading reading = {
        .key = m->object, .what = m->what, .rows = m->rows, .columns = x->columns, .column_count = x->column_count};
    int rc = m->rows ? tm_object_read(x->e->target, &reading, hold_rows, x, err) : TM_OK;
    if (rc == TM_ENOENT || rc == TM_ECORRUPT) {
        x->out->damaged++;
        return TM_OK;
    }
    x->out->at_target = rc != 0;
    x->out->archived_rows += rc ? 0 : m->rows;
    x->out->bytes += rc ? 0 : m->what.size;
    return rc;
}

/* Each manifest twice: once for the room, once for the rows. Both are short beside the objects. */
static int hold_parts(struct exporting *x, struct tm_error *err)
{
    struct tm_manifest m;
    uint64_t rows = x->out->rows;
    int rc = TM_OK;
    for (int pass = 0; !rc && pass < 2; pass++) {
        for (unsigned i = 0; !rc && i < x->out->parts; i++) {
            if (!(x->parts[i] & HAS_MANIFEST))
                continue;
            rc = read_manifest(x, i, &m, err);
            x->out->at_target = rc != 0;
            if (rc == TM_ECORRUPT) { /* then nobody knows what the part is */
                x->out->damaged += pass == 0;
                rc = TM_OK;
                continue;
            }
            if (!rc && pass == 0)
                rows += m.rows;
            else if (!rc)
                rc = hold_part(x, &m, err);
        }
        if (!rc && pass == 0 && tm_fpset_clear(&x->held, rows))
            rc = tm_error_set(err, TM_ENOMEM, "%s: out of memory for the records of %" PRIu64 " rows",
                              x->e->stream->name, rows);
    }
    return rc;
}

/* ---- rows of production ---- */

static int take_row(void *arg, const uint8_t *tuple, size_t len, struct tm_error *err)
{
    struct exporting *x = arg;
    if (x->compare && !tm_fpset_add(&x->held, identity(x, tuple, len)))
        return TM_OK;
    int rc = tm_object_writer_put(x->writer, tuple, len, err);
    x->out->at_target = rc != 0;
    return rc;
}

static int copy_sql(const struct exporting *x, struct tm_buf *sql)
{
    const struct tm_stream *s = x->e->stream;
    const char *column = s->columns[tm_archive_column(s)].name;
    char from[TM_PERIOD_TEXT], to[TM_PERIOD_TEXT];
    struct tm_buf keys = {0};
    int rc = tm_schema_key_columns(s, &keys);
    const char *order = rc ? NULL : tm_buf_cstr(&keys);
    rc = order ? tm_buf_printf(sql,
                               "COPY (SELECT %s FROM %s WHERE %s >= '%s' AND %s < '%s' ORDER BY %s, %s) TO STDOUT "
                               "(FORMAT binary)",
                               (const char *)x->names.data, s->name, column, tm_period_text(x->period.from_us, from),
                               column, tm_period_text(x->period.to_us, to), column, order)
               : TM_ENOMEM;
    tm_buf_fini(&keys);
    return rc ? rc : tm_buf_cstr(sql) ? TM_OK : TM_ENOMEM;
}

static int count_rows(struct exporting *x, struct tm_error *err)
{
    const struct tm_stream *s = x->e->stream;
    const char *column = s->columns[tm_archive_column(s)].name;
    char sql[320], from[TM_PERIOD_TEXT], to[TM_PERIOD_TEXT];
    int64_t rows = 0;
    (void)snprintf(sql, sizeof sql, "SELECT count(*) FROM %s WHERE %s >= '%s' AND %s < '%s'", s->name, column,
                   tm_period_text(x->period.from_us, from), column, tm_period_text(x->period.to_us, to));
    int rc = tm_pg_query_number(x->e->pg, sql, 0, NULL, &rows, err);
    x->out->rows = (uint64_t)rows;
    return rc;
}

/* The rows that the archive has not, into the next part. Without any there is a part only if there was none before. */
static int write_part(struct exporting *x, struct tm_error *err)
{
    struct tm_object_written written;
    struct tm_buf sql = {0}, first = {0}, last = {0};
    char key[TM_ARCHIVE_KEY];
    unsigned part = x->out->parts;
    if (part > TM_ARCHIVE_PARTS)
        return tm_error_set(err, TM_EFULL, "%s: a period has %u parts already", x->e->stream->name, part);
    tm_period_key(TM_ARCHIVE_OBJECT, x->e->stream->name, x->period, part, key);
    int rc = copy_sql(x, &sql) ? tm_error_set(err, TM_ENOMEM, "out of memory for an export") : TM_OK;
    rc = rc ? rc : tm_object_writer_create(x->e->target, key, x->columns, x->column_count, &x->writer, err);
    rc = rc ? rc : tm_pg_copy_each(x->e->pg, (const char *)sql.data, take_row, x, err);
    if (!rc &&
        (put_key(x, tm_object_writer_first(x->writer), &first) || put_key(x, tm_object_writer_last(x->writer), &last)))
        rc = tm_error_set(err, TM_ENOMEM, "out of memory for an export");
    struct tm_parquet_span seqs = {0};
    if (!rc && x->e->stream->observer)
        seqs = tm_object_writer_span(x->writer, x->e->stream->production_count);
    if (rc) {
        tm_object_writer_abort(x->writer);
    } else {
        rc = tm_object_writer_finish(x->writer, &written, err);
        x->out->at_target = rc != 0;
    }
    x->writer = NULL;
    if (!rc && (written.rows || !part)) {
        struct tm_manifest m = manifest_of(x, part, &written);
        m.has_seq = seqs.any;
        m.first_seq = seqs.min;
        m.last_seq = seqs.max;
        rc = put_manifest(x, &m, &first, &last, err);
        x->out->parts += !rc;
        x->out->new_rows = written.rows;
        x->out->new_bytes = written.what.size;
        x->out->archived_rows += written.rows;
        x->out->bytes += written.what.size;
    }
    tm_buf_fini(&sql);
    tm_buf_fini(&first);
    tm_buf_fini(&last);
    return rc;
}

/* ---- a period ---- */

static int in_snapshot(struct exporting *x, struct tm_error *err)
{
    x->out->at_target = true;
    int rc = list_parts(x, err);
    x->out->at_target = rc != 0;
    rc = rc ? rc : tm_pg_exec(x->e->pg, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", err);
    rc = rc ? rc : count_rows(x, err);
    for (unsigned i = 0; !rc && i < x->out->parts; i++)
        if (x->parts[i] == HAS_OBJECT)
            rc = adopt(x, i, err);
    x->compare = x->out->parts > 0;
    if (!rc && x->compare)
        rc = hold_parts(x, err);
    rc = rc ? rc : write_part(x, err);
    return rc ? rc : tm_pg_exec(x->e->pg, "COMMIT", err);
}

int tm_export_period(const struct tm_export *e, struct tm_period period, struct tm_exported *out, struct tm_error *err)
{
    struct exporting *x = calloc(1, sizeof *x);
    if (!x)
        return tm_error_set(err, TM_ENOMEM, "out of memory for an export");
    x->e = e;
    x->period = period;
    x->out = out;
    tm_hash_key_init(&x->hash_key);
    x->column_count = tm_parquet_columns(e->stream, TM_COPY_PRODUCTION, x->columns);
    int rc = tm_schema_production_columns(e->stream, &x->names) || !tm_buf_cstr(&x->names)
                 ? tm_error_set(err, TM_ENOMEM, "out of memory for an export")
                 : TM_ECONFLICT;
    for (int i = 0; rc == TM_ECONFLICT && i < TRIES; i++) {
        *out = (struct tm_exported){0};
        rc = in_snapshot(x, err);
        if (rc)
            tm_pg_rollback(x->e->pg);
    }
    tm_fpset_fini(&x->held);
    tm_buf_fini(&x->names);
    free(x);
    return rc;
}
