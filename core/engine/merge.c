#include "base/clock.h"
#include "base/planted.h"
#include "engine/intake.h"
#include "engine/merge_private.h"
#include "record/schema.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#define PREFETCH 8
#define SEEN_BYTES_MIN ((size_t)1 << 20) /* of a shard's part */

/* A backlog is as old as the outage that made it. Beyond this a gatherer's clock is the likelier explanation.
 */
#define BACKLOG_US (INT64_C(366) * 86400 * TM_US_PER_S)

/* ---- choosing ---- */

static void work_clear(struct tm_work *w)
{
    tm_buf_clear(&w->choices);
    tm_buf_clear(&w->spans);
    tm_buf_clear(&w->repeats);
    tm_buf_clear(&w->absurd);
    tm_buf_clear(&w->late);
    tm_buf_clear(&w->suspects);
    w->stored = 0;
    w->polled = w->duplicate = w->quarantined = w->written = w->late_rows = w->conflicts_found = 0;
}

/* Times are judged as of the row's arrival: after a long outage a backlog is old, not absurd. */
static bool is_absurd(const struct tm_deduplicator_options *o, const struct tm_batch_row *r, int64_t now_us)
{
    int64_t arrival_us = now_us;
    if (r->time_us == INT64_MIN)
        return false;
    if (r->received_us != INT64_MIN && r->received_us < now_us)
        arrival_us = r->received_us > now_us - BACKLOG_US ? r->received_us : now_us - BACKLOG_US;
    return r->time_us < arrival_us - o->accept_past_us || r->time_us > now_us + o->accept_future_us;
}

static bool is_late(const struct tm_merge *m, const struct tm_work *w, const struct tm_batch_row *r, int64_t now_us)
{
    int64_t seal_us = m->settings->streams[w->stream->index].seal_us;
    return seal_us && r->time_us != INT64_MIN && r->time_us < now_us - seal_us;
}

/* A duplicate by its key may say something else: once a transaction for what was not seen like this before. */
static int suspect(struct tm_merge *m, struct tm_work *w, const struct tm_choice *c)
{
    if (!w->payloads || tm_seen_contains(w->payloads, payload_fp_of(c)) || !tm_fpset_add(&m->pending, payload_fp_of(c)))
        return TM_OK;
    return tm_buf_append(&w->suspects, c, sizeof *c);
}

static int choose_row(struct tm_merge *m, struct tm_work *w, struct tm_batch *b, uint32_t row, int64_t now_us)
{
    const struct tm_batch_row *r = &b->rows[row];
    struct tm_choice choice = {.batch = b, .row = row};
    if (is_absurd(&m->settings->options, r, now_us)) {
        b->quarantined++;
        return tm_buf_append(&w->absurd, &choice, sizeof choice);
    }
    if ((w->seen && tm_seen_contains(w->seen, r->fp)) || (TM_PLANTED(skip_row) && r->fp.lo % 1000 == 1)) {
        b->duplicate++;
        if (tm_contribution_samples(r->fp))
            tm_contribution_copy(m->contribution, r->fp, b->peer->id);
        return suspect(m, w, &choice);
    }
    if (is_late(m, w, r, now_us))
        return tm_buf_append(&w->late, &choice, sizeof choice);
    if (w->seen && !tm_fpset_add(&m->pending, r->fp)) {
        b->duplicate++;
        int rc = suspect(m, w, &choice);
        return rc ? rc : tm_buf_append(&w->repeats, &choice, sizeof choice);
    }
    if (w->payloads)
        (void)tm_fpset_add(&m->pending, payload_fp_of(&choice));
    struct tm_span_bytes span = tm_batch_production_row(b, row);
    b->written++;
    int rc = tm_buf_append(&w->choices, &choice, sizeof choice);
    return rc ? rc : tm_buf_append(&w->spans, &span, sizeof span);
}

static int choose_batch(struct tm_merge *m, struct tm_batch *b, int64_t now_us)
{
    struct tm_work *w = &m->works[b->stream->index];
    int rc = TM_OK;
    TM_FATAL_UNLESS(w->stream == b->stream); /* a batch of another plan is of another generation */
    w->polled += b->count;
    b->written = b->duplicate = b->quarantined = 0; /* it may be another try */
    for (size_t i = 0; !rc && i < b->count; i++) {
        if (w->seen && i + PREFETCH < b->count) {
            tm_seen_prefetch(w->seen, b->rows[i + PREFETCH].fp);
            tm_fpset_prefetch(&m->pending, b->rows[i + PREFETCH].fp);
        }
        rc = choose_row(m, w, b, (uint32_t)i, now_us);
    }
    w->duplicate += b->duplicate;
    return rc;
}

int tm_merge_choose(struct tm_merge *m, struct tm_batch *const *batches, size_t count, struct tm_error *err)
{
    int64_t now_us = tm_clock_wall_us();
    size_t rows = 0;
    for (size_t i = 0; i < count; i++)
        rows += batches[i]->count * (batches[i]->may_disagree ? 2 : 1); /* keys, and keys with all else */
    for (size_t i = 0; i < m->work_count; i++)
        work_clear(&m->works[i]);
    int rc = tm_fpset_clear(&m->pending, rows);
    for (size_t i = 0; !rc && i < count; i++)
        rc = choose_batch(m, batches[i], now_us);
    return rc ? tm_error_set(err, rc, "out of memory for a transaction of %zu rows", rows) : TM_OK;
}

/* ---- partitions ---- */

int tm_merge_days_ahead(struct tm_merge *m, struct tm_pg *pg, struct tm_error *err)
{
    return tm_days_ahead(&m->days, pg, m->settings->options.plan, tm_clock_wall_us(), err);
}

int tm_merge_make_days(struct tm_merge *m, struct tm_pg *pg, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; i < m->work_count; i++) {
        struct tm_work *w = &m->works[i];
        if (w->stream->partition != TM_PARTITION_DAY)
            continue;
        const struct tm_choice *c = choices_of(&w->choices);
        for (size_t r = 0; !rc && r < count_of(&w->choices); r++)
            rc = tm_days_make(&m->days, pg, m->settings->options.plan, c[r].batch->rows[c[r].row].time_us, err);
    }
    return rc;
}

/* ---- storing ---- */

/* The store does not say which rows were there; the latest of them are the likeliest. */
static void share_duplicates(struct tm_work *w, size_t from, uint64_t duplicates)
{
    struct tm_choice *c = choices_of(&w->choices);
    for (size_t i = count_of(&w->choices); duplicates && i-- > from;) {
        if (c[i].refused)
            continue;
        c[i].batch->written--;
        c[i].batch->duplicate++;
        duplicates--;
    }
}

/* The choices from `from` on. */
static struct tm_copy_batch batch_of(struct tm_merge *m, const struct tm_work *w, size_t from)
{
    return (struct tm_copy_batch){.stream = w->stream,
                                  .side = TM_COPY_PRODUCTION,
                                  .columns = (const char *)w->columns.data,
                                  .tuples = (const struct tm_span_bytes *)(const void *)w->spans.data + from,
                                  .count = count_of(&w->choices) - from,
                                  .expect_conflicts = w->conflicts,
                                  .on_reject = tm_merge_reject,
                                  .arg = m};
}

/* COPY the rows from `from` on; *refused: how many production would not have. */
static int copy_rows(struct tm_merge *m, struct tm_work *w, size_t from, uint64_t *refused, struct tm_error *err)
{
    struct tm_copy_result result;
    struct tm_copy_batch batch = batch_of(m, w, from);
    int rc = tm_copy_rows(m->pg, &batch, &result, err);
    if (rc && m->drift.code == rc)
        return tm_error_set(err, rc, "%s", m->drift.message);
    if (rc)
        return tm_error_wrap(err, "%s", w->stream->name);
    if (result.stored + result.duplicate + result.rejected != batch.count)
        return tm_error_set(err, TM_ECORRUPT,
                            "%s: %zu rows were sent, %" PRIu64 " stored, %" PRIu64 " known and %" PRIu64
                            " refused; the transaction is given up",
                            w->stream->name, batch.count, result.stored, result.duplicate, result.rejected);
    share_duplicates(w, from, result.duplicate);
    w->written += result.stored;
    w->duplicate += result.duplicate;
    w->quarantined += result.rejected;
    w->conflicts_found += result.disagreeing;
    if (result.conflicted)
        tm_metric_add(m->d->conflicts, 1);
    /* after a restart every batch meets rows that are there: then staging at once saves the failed COPY */
    w->conflicts = result.duplicate > 0 && w->seen;
    *refused = result.rejected;
    return TM_OK;
}

/* Take the first repeat of a refused row into the choices; it is no repeat any more. */
static int revive(struct tm_work *w, const struct tm_choice *refused)
{
    struct tm_choice *c = choices_of(&w->repeats);
    struct tm_fp wanted = fp_of(refused);
    for (size_t i = 0; i < count_of(&w->repeats); i++) {
        struct tm_fp fp = fp_of(&c[i]);
        if (c[i].refused || fp.lo != wanted.lo || fp.hi != wanted.hi)
            continue;
        struct tm_choice again = c[i];
        struct tm_span_bytes span = tm_batch_production_row(again.batch, again.row);
        c[i].refused = true;
        again.batch->duplicate--;
        again.batch->written++;
        w->duplicate--;
        int rc = tm_buf_append(&w->choices, &again, sizeof again);
        return rc ? rc : tm_buf_append(&w->spans, &span, sizeof span);
    }
    return TM_OK;
}

static int store_stream(struct tm_merge *m, struct tm_work *w, struct tm_error *err)
{
    size_t from = w->stored, end = count_of(&w->choices);
    int rc = TM_OK;
    m->storing = w;
    while (!rc && from < end) {
        uint64_t refused = 0;
        rc = copy_rows(m, w, from, &refused, err);
        for (size_t i = from; !rc && refused && i < end; i++)
            if (choices_of(&w->choices)[i].refused && revive(w, &choices_of(&w->choices)[i]))
                rc = tm_error_set(err, TM_ENOMEM, "out of memory for a transaction");
        from = end;
        end = count_of(&w->choices);
    }
    return rc;
}

/* What goes by the stage says only there how much of it was new. */
static bool is_plain(const struct tm_work *w)
{
    return count_of(&w->choices) && !w->conflicts && w->stream->mode != TM_STREAM_UPSERT && !w->stream->within_us;
}

int tm_merge_store_at_once(struct tm_merge *m, struct tm_pg *pg, const char *opening, struct tm_error *err)
{
    struct tm_pg_part parts[TM_STREAMS_MAX];
    struct tm_buf sql = {0};
    size_t count = 0;
    int rc = tm_buf_printf(&sql, "%s;", opening);
    for (size_t i = 0; !rc && i < m->work_count; i++) {
        if (!is_plain(&m->works[i]))
            continue;
        struct tm_copy_batch batch = batch_of(m, &m->works[i], 0);
        rc = tm_copy_statements(pg, &batch, &sql, err);
        parts[count++] = (struct tm_pg_part){.tuples = batch.tuples, .count = batch.count};
    }
    const char *text = rc ? NULL : tm_buf_cstr(&sql);
    rc = text ? tm_pg_copy_in_parts(pg, text, parts, count, err)
              : tm_error_set(err, TM_ENOMEM, "out of memory for a transaction");
    tm_buf_fini(&sql);
    for (size_t i = 0; !rc && i < m->work_count; i++)
        if (is_plain(&m->works[i]))
            m->works[i].written = m->works[i].stored = count_of(&m->works[i].choices);
    return rc;
}

int tm_merge_store(struct tm_merge *m, struct tm_pg *pg, struct tm_error *err)
{
    int rc = TM_OK;
    m->pg = pg;
    m->looked = false;
    m->drift.code = TM_OK;
    for (size_t i = 0; !rc && i < m->work_count; i++) {
        rc = tm_merge_put_aside(m, &m->works[i], err);
        rc = rc ? rc : store_stream(m, &m->works[i], err);
        rc = rc ? rc : tm_merge_note_late(m, &m->works[i], err);
        rc = rc ? rc : tm_merge_compare(m, &m->works[i], err);
    }
    return rc;
}

/* ---- after COMMIT ---- */

static void show(struct tm_taps *taps, struct tm_work *w)
{
    const struct tm_choice *c = choices_of(&w->choices);
    const struct tm_span_bytes *span = (const struct tm_span_bytes *)(const void *)w->spans.data;
    for (size_t i = 0; i < count_of(&w->choices); i++)
        if (!c[i].refused)
            tm_taps_offer(taps, w->stream, (const char *)w->columns.data, span[i].bytes, span[i].len);
}

static void learn(struct tm_work *w, int64_t now_us)
{
    const struct tm_choice *c = choices_of(&w->choices);
    for (size_t i = 0; i < count_of(&w->choices); i++) {
        if (i + PREFETCH < count_of(&w->choices))
            tm_seen_prefetch(w->seen, fp_of(&c[i + PREFETCH]));
        if (!c[i].refused) {
            (void)tm_seen_add(w->seen, fp_of(&c[i]), now_us);
            if (w->payloads)
                (void)tm_seen_add(w->payloads, payload_fp_of(&c[i]), now_us);
        }
    }
    c = choices_of(&w->suspects);
    for (size_t i = 0; i < count_of(&w->suspects); i++)
        (void)tm_seen_add(w->payloads, payload_fp_of(&c[i]), now_us);
}

/* Where production had some of the rows already it does not say which, so none of them is in the sample. */
static void sample(struct tm_merge *m, struct tm_work *w, int64_t now_us)
{
    const struct tm_choice *c = choices_of(&w->choices);
    for (size_t i = 0; !w->conflicts && i < count_of(&w->choices); i++)
        if (!c[i].refused && tm_contribution_samples(fp_of(&c[i])))
            tm_contribution_first(m->contribution, fp_of(&c[i]), c[i].batch->peer->id, now_us);
    c = choices_of(&w->repeats);
    for (size_t i = 0; i < count_of(&w->repeats); i++)
        if (!c[i].refused && tm_contribution_samples(fp_of(&c[i])))
            tm_contribution_copy(m->contribution, fp_of(&c[i]), c[i].batch->peer->id);
}

static void note_contributions(struct tm_merge *m, int64_t now_us)
{
    tm_contribution_settle(m->contribution, now_us);
    pthread_mutex_lock(&m->d->lock);
    for (size_t i = 0; i < m->settings->options.gatherer_count; i++) {
        struct tm_peer *peer = m->settings->peers[i];
        struct tm_contribution_counts counts = tm_contribution_of(m->contribution, peer->id);
        peer->stats.sampled = counts.brought;
        peer->stats.sampled_alone = counts.alone;
    }
    pthread_mutex_unlock(&m->d->lock);
}

static void count_work(const struct tm_stream_metrics *s, const struct tm_work *w)
{
    tm_metric_add(s->polled, w->polled);
    tm_metric_add(s->written, w->written);
    tm_metric_add(s->duplicate, w->duplicate);
    tm_metric_add(s->quarantined, w->quarantined);
    tm_metric_add(s->late, w->late_rows);
    tm_metric_add(s->conflicts, w->conflicts_found);
}

void tm_merge_committed(struct tm_merge *m)
{
    uint64_t keys = 0, bytes = 0;
    int64_t now_us = tm_clock_mono_us();
    for (size_t i = 0; i < m->work_count; i++) {
        struct tm_work *w = &m->works[i];
        count_work(&m->settings->streams[w->stream->index], w);
        if (tm_taps_wanted(m->d->taps))
            show(m->d->taps, w);
        if (!w->seen)
            continue;
        learn(w, now_us);
        sample(m, w, now_us);
        struct tm_seen_stats s = tm_seen_stats(w->seen);
        keys += s.keys;
        bytes += s.memory_bytes + (w->payloads ? tm_seen_stats(w->payloads).memory_bytes : 0);
    }
    note_contributions(m, now_us);
    tm_metric_set(m->d->seen_keys, (double)keys);
    tm_metric_set(m->d->seen_bytes, (double)bytes);
}

void tm_merge_forget(struct tm_merge *m)
{
    if (TM_PLANTED(keep_memory))
        return;
    for (size_t i = 0; i < m->work_count; i++) {
        if (m->works[i].seen)
            tm_seen_clear(m->works[i].seen);
        if (m->works[i].payloads)
            tm_seen_clear(m->works[i].payloads);
        m->works[i].conflicts = false;
    }
    tm_days_forget(&m->days);
}

/* ---- making and freeing ---- */

int tm_merge_check(const struct tm_plan *plan, struct tm_error *err)
{
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < tm_plan_stream_count(plan); i++) {
        const struct tm_stream *stream = tm_plan_stream(plan, i);
        struct tm_seen_options options = tm_stream_seen_options(stream);
        rc = tm_stream_is_fingerprinted(stream) ? tm_seen_check(&options, err) : TM_OK;
        if (rc)
            (void)tm_error_wrap(err, "%s", stream->name);
    }
    return rc;
}

/* The work of the same name whose seen-set tells something about this stream, or NULL. */
static struct tm_work *find_kin(struct tm_merge *m, const struct tm_stream *stream)
{
    for (size_t i = 0; i < m->work_count; i++)
        if (m->works[i].seen && tm_stream_is_fingerprinted(stream) && tm_stream_keeps_seen(m->works[i].stream, stream))
            return &m->works[i];
    return NULL;
}

/* The bound is the process's: of several shards each has its part of it. */
static struct tm_seen_options seen_options(const struct tm_merge *m, const struct tm_stream *stream)
{
    struct tm_seen_options o = tm_stream_seen_options(stream);
    size_t bytes = (o.memory_bytes_max ? o.memory_bytes_max : TM_SEEN_BYTES) / m->d->shard_count;
    if (m->d->shard_count > 1)
        o.memory_bytes_max = bytes > SEEN_BYTES_MIN ? bytes : SEEN_BYTES_MIN;
    return o;
}

static int make_seen(const struct tm_merge *m, const struct tm_stream *stream, struct tm_seen **out,
                     struct tm_error *err)
{
    struct tm_seen_options options = seen_options(m, stream);
    int rc = tm_seen_create(&options, out, err);
    return rc ? tm_error_wrap(err, "stream \"%s\"", stream->name) : TM_OK;
}

static int work_init(const struct tm_merge *m, struct tm_work *w, const struct tm_stream *stream,
                     const struct tm_work *kin, struct tm_error *err)
{
    w->stream = stream;
    if (tm_schema_production_columns(stream, &w->columns) || !tm_buf_cstr(&w->columns))
        return tm_error_set(err, TM_ENOMEM, "out of memory for stream %s", stream->name);
    int rc = kin || !tm_stream_is_fingerprinted(stream) ? TM_OK : make_seen(m, stream, &w->seen, err);
    if (!rc && tm_stream_is_fingerprinted(stream) && tm_stream_may_disagree(stream))
        rc = make_seen(m, stream, &w->payloads, err);
    return rc;
}

static void inherit(const struct tm_merge *m, struct tm_work *w, struct tm_work *kin, int64_t now_us)
{
    struct tm_seen_options options = seen_options(m, w->stream);
    w->seen = kin->seen;
    w->conflicts = kin->conflicts;
    kin->seen = NULL;
    tm_seen_configure(w->seen, &options, now_us);
}

static void free_works(struct tm_work *works, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct tm_work *w = &works[i];
        tm_seen_destroy(w->seen);
        tm_seen_destroy(w->payloads);
        tm_buf_fini(&w->columns);
        tm_buf_fini(&w->choices);
        tm_buf_fini(&w->spans);
        tm_buf_fini(&w->repeats);
        tm_buf_fini(&w->absurd);
        tm_buf_fini(&w->late);
        tm_buf_fini(&w->suspects);
    }
    free(works);
}

/* First all that can fail, then what cannot. */
static int set_plan(struct tm_merge *m, const struct tm_plan *plan, struct tm_error *err)
{
    size_t count = tm_plan_stream_count(plan);
    struct tm_work *works = calloc(count, sizeof *works);
    TM_FATAL_UNLESS(works);
    int rc = TM_OK;
    for (size_t i = 0; !rc && i < count; i++)
        rc = work_init(m, &works[i], tm_plan_stream(plan, i), find_kin(m, tm_plan_stream(plan, i)), err);
    if (rc) {
        free_works(works, count);
        return rc;
    }
    for (size_t i = 0; i < count; i++) {
        struct tm_work *kin = find_kin(m, works[i].stream);
        if (kin)
            inherit(m, &works[i], kin, tm_clock_mono_us());
    }
    free_works(m->works, m->work_count);
    m->works = works;
    m->work_count = count;
    return TM_OK;
}

int tm_merge_set_settings(struct tm_merge *m, const struct tm_dedup_settings *settings, struct tm_error *err)
{
    bool same = m->settings && m->settings->options.plan == settings->options.plan;
    int rc = same ? TM_OK : set_plan(m, settings->options.plan, err);
    if (rc)
        return rc;
    m->settings = settings;
    tm_days_forget(
        &m->days); /* a day is known for the streams there were, and one that was dropped may be wanted again */
    return TM_OK;
}

int tm_merge_create(struct tm_deduplicator *d, const struct tm_dedup_settings *settings, struct tm_merge **out,
                    struct tm_error *err)
{
    struct tm_merge *m = calloc(1, sizeof *m);
    TM_FATAL_UNLESS(m);
    m->d = d;
    m->contribution = tm_contribution_create();
    int rc = tm_merge_set_settings(m, settings, err);
    if (rc) {
        tm_merge_destroy(m);
        return rc;
    }
    *out = m;
    return TM_OK;
}

void tm_merge_destroy(struct tm_merge *m)
{
    if (!m)
        return;
    free_works(m->works, m->work_count);
    tm_contribution_destroy(m->contribution);
    tm_fpset_fini(&m->pending);
    free(m);
}
