#include "archive/restore_private.h"
#include "base/clock.h"
#include "record/builtin.h"
#include "record/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static void tell(struct tm_restoring *r)
{
    if (r->o->tell)
        r->o->tell(r->o->arg, r->counts);
}

/* ---- gaps ---- */

static int found_gap(struct tm_restoring *r, const struct tm_restore_gap *gap, struct tm_error *err)
{
    r->counts->gaps++;
    if (r->o->gap)
        r->o->gap(r->o->arg, gap);
    return r->o->pg && !r->o->dry_run ? tm_restore_put_gap(r, gap, err) : TM_OK;
}

static struct tm_restore_gap gap_of(const struct tm_restoring *r, const char *object, int64_t from_us, int64_t to_us,
                                    const char *why)
{
    struct tm_restore_gap gap = {.from_us = from_us, .to_us = to_us};
    (void)snprintf(gap.stream, sizeof gap.stream, "%s", r->stream->name);
    (void)snprintf(gap.object, sizeof gap.object, "%s", object);
    (void)snprintf(gap.why, sizeof gap.why, "%.199s", why);
    return gap;
}

/* Times between two periods without any. Where the archive begins and ends is no gap of it. */
static int look_for_holes(struct tm_restoring *r, const struct tm_archive_index *index, struct tm_error *err)
{
    int rc = TM_OK;
    int64_t to_us = index->count ? index->entries[0].period.to_us : 0;
    for (size_t i = 1; !rc && i < index->count; i++) {
        const struct tm_period *p = &index->entries[i].period;
        if (p->from_us > to_us) {
            struct tm_restore_gap gap = gap_of(r, "", to_us, p->from_us, "the archive has no manifest of this time");
            rc = found_gap(r, &gap, err);
        }
        to_us = p->to_us > to_us ? p->to_us : to_us;
    }
    return rc;
}

/* Is it the archive that is not what it promises, or can it not be reached? */
static bool is_gap(int rc)
{
    return rc == TM_ENOENT || rc == TM_ECORRUPT;
}

/* ---- an object ---- */

static int head(struct tm_restoring *r, const struct tm_manifest *m, struct tm_error *err)
{
    struct tm_object object;
    int rc = tm_target_head(r->o->target, m->object, &object, err);
    if (!rc && object.size != m->what.size)
        rc = tm_error_set(err, TM_ECORRUPT, "%s: expected %" PRIu64 " bytes, it has %" PRIu64, m->object, m->what.size,
                          object.size);
    return rc;
}

static int count_only(void *arg, const uint8_t *tuples, size_t len, size_t rows, struct tm_error *err)
{
    (void)arg, (void)tuples, (void)len, (void)rows, (void)err;
    return TM_OK;
}

static int read_object(struct tm_restoring *r, const struct tm_manifest *m, tm_object_take *take, struct tm_error *err)
{
    struct tm_object_reading reading = {
        .key = m->object, .what = m->what, .rows = m->rows, .columns = r->columns, .column_count = r->column_count};
    return tm_object_read(r->o->target, &reading, take, r, err);
}

static int store_object(struct tm_restoring *r, const struct tm_manifest *m, struct tm_error *err)
{
    bool done = false;
    int rc = tm_restore_is_done(r, m, &done, err);
    if (rc || done) {
        r->counts->resumed += done ? m->rows : 0;
        return rc;
    }
    r->object = m->object;
    r->object_stored = 0;
    rc = read_object(r, m, tm_restore_take, err);
    rc = rc ? rc : tm_restore_end_gap(r, m->object, err);
    if (!rc && m->of_gatherer && r->o->side == TM_COPY_PRODUCTION)
        rc = tm_restore_close(r, m, err);
    return rc ? rc : tm_restore_note_done(r, m, err);
}

/* All of it is of days that are kept no longer: what is put there would be dropped within the hour. */
static bool is_sealed(const struct tm_restoring *r, const struct tm_manifest *m)
{
    int64_t keep_us = r->o->keep_us && !m->of_gatherer ? r->o->keep_us(r->o->arg, r->stream) : 0;
    return keep_us && m->to_us <= tm_clock_wall_us() - keep_us;
}

static int look_at_object(struct tm_restoring *r, const struct tm_manifest *m, struct tm_error *err)
{
    if (!*m->object)
        return TM_OK;
    if (is_sealed(r, m)) {
        r->counts->sealed += m->rows;
        return TM_OK;
    }
    if (!r->o->pg)
        return r->deep ? read_object(r, m, count_only, err) : head(r, m, err);
    return r->o->dry_run ? head(r, m, err) : store_object(r, m, err);
}

static bool touches(const struct tm_restoring *r, const struct tm_manifest *m)
{
    return (!m->to_us || m->to_us > r->o->since_us) && (!m->from_us || m->from_us < r->o->until_us);
}

static int look_at_entry(struct tm_restoring *r, const struct tm_archive_entry *e, struct tm_error *err)
{
    struct tm_manifest m = {0};
    struct tm_error why;
    int rc = tm_archive_manifest(r->o->target, e->key, &m, &why);
    if (!rc && strcmp(m.stream, r->stream->name) != 0)
        rc = tm_error_set(&why, TM_ECORRUPT, "%s: it is about another stream", e->key);
    if (!rc && m.of_gatherer && !r->o->manifest && !touches(r, &m))
        return TM_OK;
    r->counts->objects_done++;
    r->counts->rows += m.rows;
    r->counts->bytes += m.what.size;
    rc = rc ? rc : look_at_object(r, &m, &why);
    r->counts->rows_done += m.rows;
    tell(r);
    if (!is_gap(rc)) {
        if (rc)
            *err = why;
        return rc;
    }
    struct tm_restore_gap gap = gap_of(r, *m.object ? m.object : e->key, m.to_us ? m.from_us : e->period.from_us,
                                       m.to_us ? m.to_us : e->period.to_us, why.message);
    gap.rows = m.rows;
    return found_gap(r, &gap, err);
}

/* ---- a stream, and all ---- */

static bool is_wanted(const struct tm_restoring *r, const struct tm_stream *s)
{
    if (tm_archive_column(s) < 0 || strcmp(s->name, TM_STREAM_HEARTBEATS) == 0)
        return false;
    for (const char *const *name = r->o->streams; name && *name; name++)
        if (strcmp(*name, s->name) == 0)
            return true;
    return !r->o->streams;
}

static int list_stream(struct tm_restoring *r, struct tm_archive_index *index, struct tm_error *err)
{
    int rc = tm_archive_index_stream(index, r->o->target, r->stream->name, r->o->since_us, r->o->until_us, err);
    rc = rc ? rc : look_for_holes(r, index, err);
    return rc ? rc : tm_archive_index_unsynced(index, r->o->target, r->stream->name, err);
}

static int begin_stream(struct tm_restoring *r, const struct tm_stream *s, struct tm_error *err)
{
    r->stream = s;
    r->conflicts = false;
    r->day_count = 0;
    r->column_count = tm_parquet_columns(s, TM_COPY_PRODUCTION, r->columns);
    tm_buf_clear(&r->names);
    if (tm_schema_production_columns(s, &r->names) || !tm_buf_cstr(&r->names))
        return tm_error_set(err, TM_ENOMEM, "out of memory for stream %s", s->name);
    return r->o->pg && !r->o->dry_run ? tm_restore_prepare(r, err) : TM_OK;
}

static int do_stream(struct tm_restoring *r, const struct tm_stream *s, const struct tm_archive_index *index,
                     struct tm_error *err)
{
    int rc = index->count ? begin_stream(r, s, err) : TM_OK;
    for (size_t i = 0; !rc && i < index->count; i++)
        rc = look_at_entry(r, &index->entries[i], err);
    return rc;
}

static int do_all(struct tm_restoring *r, struct tm_error *err)
{
    struct tm_archive_index index[TM_STREAMS_MAX] = {0};
    size_t count = tm_plan_stream_count(r->o->plan);
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < count; i++) {
        r->stream = tm_plan_stream(r->o->plan, i);
        if (is_wanted(r, r->stream))
            rc = list_stream(r, &index[i], err);
        r->counts->objects += index[i].count;
    }
    for (size_t i = 0; i < count; i++) {
        rc = rc ? rc : do_stream(r, tm_plan_stream(r->o->plan, i), &index[i], err);
        tm_archive_index_fini(&index[i]);
    }
    return rc;
}

/* A single one: its own text says of what stream it is. */
static int do_one(struct tm_restoring *r, struct tm_error *err)
{
    struct tm_archive_entry e = {0};
    struct tm_manifest m;
    int rc = tm_target_check_key(r->o->manifest, err);
    rc = rc ? rc : tm_archive_manifest(r->o->target, r->o->manifest, &m, err);
    if (rc)
        return rc;
    const struct tm_stream *s = tm_plan_stream_by_name(r->o->plan, m.stream);
    if (!s || tm_archive_column(s) < 0)
        return tm_error_set(err, TM_EINVAL, "%s: the script declares no stream \"%s\"", r->o->manifest, m.stream);
    (void)snprintf(e.key, sizeof e.key, "%s", r->o->manifest);
    r->counts->objects = 1;
    rc = begin_stream(r, s, err);
    return rc ? rc : look_at_entry(r, &e, err);
}

static int run(struct tm_restoring *r, struct tm_error *err)
{
    for (const char *const *name = r->o->streams; name && *name; name++)
        if (!tm_plan_stream_by_name(r->o->plan, *name))
            return tm_error_set(err, TM_EINVAL, "the script declares no stream \"%.63s\"", *name);
    int rc = r->o->manifest ? do_one(r, err) : do_all(r, err);
    tm_buf_fini(&r->names);
    tm_buf_fini(&r->spans);
    return rc;
}

int tm_restore(const struct tm_restore_options *options, struct tm_restore_counts *counts, struct tm_error *err)
{
    struct tm_restoring r = {.o = options, .counts = counts};
    *counts = (struct tm_restore_counts){0};
    int rc = run(&r, err);
    return rc || options->dry_run ? rc : tm_restore_forget_done(&r, err);
}

int tm_archive_verify(const struct tm_verify_options *v, struct tm_restore_counts *counts, struct tm_error *err)
{
    struct tm_restore_options options = {.target = v->target,
                                         .plan = v->plan,
                                         .since_us = v->since_us,
                                         .until_us = v->until_us,
                                         .streams = v->streams,
                                         .tell = v->tell,
                                         .gap = v->gap,
                                         .arg = v->arg};
    struct tm_restoring r = {.o = &options, .deep = v->deep, .counts = counts};
    *counts = (struct tm_restore_counts){0};
    return run(&r, err);
}
