#include "engine/lanes.h"
#include "base/clock.h"
#include "base/endian.h"
#include "base/log.h"
#include "base/unset.h"
#include "record/row.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Streams come and go while an epoch lasts, and are declared anew with every change of their columns: as many as a
 * journal's directory can hold. */
#define FAMILIES_MAX 1024
#define NO_LANE UINT16_MAX

struct tm_lanes {
    const struct tm_plan *plan;
    const struct tm_stream *retired[TM_STREAMS_MAX]; /* each holds its plan; the longest retired first */
    size_t retired_count;
    struct tm_lane lanes[TM_LANES_MAX];
    uint16_t by_declaration[TM_LANES_MAX]; /* the number of the lane; NO_LANE: none yet */
    struct tm_family families[FAMILIES_MAX];
    size_t lane_count, family_count, rows;
    int64_t newest_us;
    struct tm_buf bytes, holes; /* `holes` of struct tm_hole */
};

struct tm_lanes *tm_lanes_create(const struct tm_plan *plan)
{
    struct tm_lanes *l = calloc(1, sizeof *l);
    TM_FATAL_UNLESS(l);
    l->plan = tm_plan_take(plan);
    tm_lanes_reset(l);
    return l;
}

void tm_lanes_reset(struct tm_lanes *l)
{
    for (size_t i = 0; i < l->lane_count; i++)
        tm_buf_fini(&l->lanes[i].spans);
    memset(l->by_declaration, 0xff, sizeof l->by_declaration);
    l->lane_count = l->family_count = l->rows = 0;
    l->newest_us = 0;
    tm_buf_clear(&l->bytes);
    tm_buf_clear(&l->holes);
}

void tm_lanes_destroy(struct tm_lanes *l)
{
    if (!l)
        return;
    tm_lanes_reset(l);
    for (size_t i = 0; i < l->retired_count; i++)
        tm_plan_put(l->retired[i]->plan);
    tm_plan_put(l->plan);
    tm_buf_fini(&l->bytes);
    tm_buf_fini(&l->holes);
    free(l);
}

static struct tm_family *family_of(struct tm_lanes *l, const char *name)
{
    for (size_t i = 0; i < l->family_count; i++)
        if (strcmp(l->families[i].name, name) == 0)
            return &l->families[i];
    if (l->family_count == FAMILIES_MAX)
        return NULL;
    struct tm_family *f = &l->families[l->family_count++];
    *f = (struct tm_family){0};
    (void)snprintf(f->name, sizeof f->name, "%s", name);
    return f;
}

void tm_lanes_restore(struct tm_lanes *l, const char *stream, int64_t seq, uint64_t hash)
{
    struct tm_family *f = family_of(l, stream);
    if (!f)
        return;
    f->seq = seq;
    f->hash = hash;
}

/* ---- which stream a name is ---- */

static const struct tm_stream *stream_of(const struct tm_lanes *l, const char *name)
{
    const struct tm_stream *stream = tm_plan_stream_by_name(l->plan, name);
    for (size_t i = 0; !stream && i < l->retired_count; i++)
        if (strcmp(l->retired[i]->name, name) == 0)
            stream = l->retired[i];
    return stream;
}

static void bind(const struct tm_lanes *l, struct tm_lane *lane)
{
    lane->stream = stream_of(l, lane->name);
    lane->as_declared = lane->stream && strcmp(lane->stream->copy_columns, lane->columns) == 0;
}

static void forget_retired(struct tm_lanes *l, size_t index)
{
    tm_plan_put(l->retired[index]->plan);
    l->retired_count--;
    memmove(&l->retired[index], &l->retired[index + 1], (l->retired_count - index) * sizeof *l->retired);
}

static void retire(struct tm_lanes *l, const struct tm_stream *stream)
{
    if (l->retired_count == TM_STREAMS_MAX)
        forget_retired(l, 0);
    (void)tm_plan_take(stream->plan);
    l->retired[l->retired_count++] = stream;
}

void tm_lanes_set_plan(struct tm_lanes *l, const struct tm_plan *plan)
{
    const struct tm_plan *old = l->plan;
    for (size_t i = l->retired_count; i-- > 0;)
        if (tm_plan_stream_by_name(plan, l->retired[i]->name))
            forget_retired(l, i);
    for (size_t i = 0; i < tm_plan_stream_count(old); i++)
        if (!tm_plan_stream_by_name(plan, tm_plan_stream(old, i)->name))
            retire(l, tm_plan_stream(old, i));
    l->plan = tm_plan_take(plan);
    tm_plan_put(old);
    for (size_t i = 0; i < l->lane_count; i++)
        bind(l, &l->lanes[i]);
}

/* ---- rows ---- */

static struct tm_lane *add_lane(struct tm_lanes *l, const struct tm_journal_record *record, struct tm_error *err)
{
    struct tm_family *family = family_of(l, record->stream);
    if (!family || l->lane_count == TM_LANES_MAX || record->stream_id >= TM_LANES_MAX) {
        (void)tm_error_set(err, TM_EFULL,
                           "the journal holds more than %d declarations of streams; start a new directory",
                           TM_LANES_MAX);
        return NULL;
    }
    l->by_declaration[record->stream_id] = (uint16_t)l->lane_count;
    struct tm_lane *lane = &l->lanes[l->lane_count++];
    *lane = (struct tm_lane){
        .declaration = record->stream_id, .name = family->name, .columns = record->columns, .family = family};
    bind(l, lane);
    return lane;
}

static struct tm_lane *lane_of(struct tm_lanes *l, const struct tm_journal_record *record, struct tm_error *err)
{
    uint16_t lane = record->stream_id < TM_LANES_MAX ? l->by_declaration[record->stream_id] : NO_LANE;
    return lane != NO_LANE ? &l->lanes[lane] : add_lane(l, record, err);
}

static void note_arrival(struct tm_lanes *l, const struct tm_lane *lane, const struct tm_journal_record *record)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    const struct tm_stream *stream = lane->stream;
    if (!lane->as_declared || stream->received_column < 0 ||
        tm_tuple_split(record->tuple, record->len, fields, stream->column_count))
        return; /* written under another column list: its place is not known */
    const struct tm_field *f = &fields[stream->received_column];
    int64_t us = f->len == 8 ? tm_unix_time_us((int64_t)tm_get_be64(f->bytes)) : 0;
    l->newest_us = us > l->newest_us ? us : l->newest_us;
}

/* A journal that lost rows leaves a hole in seq. */
static int note_hole(struct tm_lanes *l, const struct tm_lane *lane, int64_t seq)
{
    struct tm_hole hole = {.lane = lane, .first = lane->family->seq + 1, .last = seq - 1};
    if (hole.first > hole.last)
        return TM_OK;
    TM_LOG_LIMITED(TM_LOG_ERROR, "store", "rows are missing in the journal; tidemill.absent will say so",
                   TM_F_STR("stream", lane->name), TM_F_I64("first_seq", hole.first), TM_F_I64("last_seq", hole.last));
    return tm_buf_append(&l->holes, &hole, sizeof hole);
}

int tm_lanes_add(struct tm_lanes *l, const struct tm_journal_record *record, struct tm_error *err)
{
    struct tm_lane *lane = lane_of(l, record, err);
    if (!lane)
        return TM_EFULL;
    struct tm_family *f = lane->family;
    if (record->seq <= f->seq)
        return TM_OK; /* replay: the store has it */
    struct tm_span_bytes span = {.bytes = (const uint8_t *)(uintptr_t)l->bytes.len, .len = record->len};
    if (note_hole(l, lane, record->seq) || tm_buf_append(&l->bytes, record->tuple, record->len) ||
        tm_buf_append(&lane->spans, &span, sizeof span))
        return tm_error_set(err, TM_ENOMEM, "out of memory for a batch");
    if (!f->touched)
        f->first = record->seq;
    f->seq = record->seq;
    f->hash = tm_hash64(record->tuple, record->len, f->hash);
    f->touched = true;
    if (lane->count++ % 64 == 0 || record->len > 1024)
        note_arrival(l, lane, record);
    l->rows++;
    return TM_OK;
}

size_t tm_lanes_rows(const struct tm_lanes *l)
{
    return l->rows;
}

size_t tm_lanes_bytes(const struct tm_lanes *l)
{
    return l->bytes.len;
}

int64_t tm_lanes_newest_us(const struct tm_lanes *l)
{
    return l->newest_us;
}

size_t tm_lanes_count(const struct tm_lanes *l)
{
    return l->lane_count;
}

struct tm_lane *tm_lanes_get(struct tm_lanes *l, size_t index)
{
    return &l->lanes[index];
}

const struct tm_span_bytes *tm_lanes_spans(struct tm_lanes *l, struct tm_lane *lane)
{
    struct tm_span_bytes *spans = (struct tm_span_bytes *)(void *)lane->spans.data;
    for (size_t i = 0; !lane->placed && i < lane->count; i++)
        spans[i].bytes = l->bytes.data + (uintptr_t)spans[i].bytes;
    lane->placed = true;
    return spans;
}

size_t tm_lanes_hole_count(const struct tm_lanes *l)
{
    return l->holes.len / sizeof(struct tm_hole);
}

const struct tm_hole *tm_lanes_hole(const struct tm_lanes *l, size_t index)
{
    return (const struct tm_hole *)(const void *)l->holes.data + index;
}

size_t tm_lanes_family_count(const struct tm_lanes *l)
{
    return l->family_count;
}

struct tm_family *tm_lanes_family(struct tm_lanes *l, size_t index)
{
    return &l->families[index];
}

void tm_lanes_clear(struct tm_lanes *l)
{
    for (size_t i = 0; i < l->lane_count; i++) {
        l->lanes[i].count = l->lanes[i].refused = 0;
        l->lanes[i].placed = false;
        tm_buf_clear(&l->lanes[i].spans);
    }
    for (size_t i = 0; i < l->family_count; i++)
        l->families[i].touched = false;
    l->rows = 0;
    l->newest_us = 0;
    tm_buf_clear(&l->bytes);
    tm_buf_clear(&l->holes);
}
