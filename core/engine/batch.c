#include "base/clock.h"
#include "base/endian.h"
#include "base/planted.h"
#include "base/unset.h"
#include "engine/dedup_private.h"
#include "record/row.h"

#include <inttypes.h>
#include <stdlib.h>

#define SEQ_FIELD_BYTES 12            /* int32 length and int8 */
#define SLACK_BYTES ((size_t)1 << 20) /* a batch counts with all its room, and growth doubles */

struct tm_batch *tm_batch_create(const struct tm_stream *stream)
{
    struct tm_batch *b = calloc(1, sizeof *b);
    TM_FATAL_UNLESS(b);
    b->stream = stream;
    b->may_disagree = tm_stream_may_disagree(stream);
    (void)tm_plan_take(stream->plan);
    return b;
}

void tm_batch_destroy(struct tm_batch *b)
{
    if (!b)
        return;
    tm_buf_fini(&b->bytes);
    tm_plan_put(b->stream->plan);
    free(b->rows);
    free(b->explained);
    tm_absent_fini(&b->absent);
    free(b);
}

size_t tm_batch_weight(const struct tm_batch *b)
{
    return sizeof *b + b->bytes.cap + b->cap * sizeof *b->rows;
}

bool tm_stream_is_fingerprinted(const struct tm_stream *stream)
{
    return stream->mode == TM_STREAM_APPEND && !stream->observer && !stream->within_us;
}

static int reserve_row(struct tm_batch *b)
{
    if (b->count < b->cap)
        return TM_OK;
    size_t cap = b->cap ? b->cap * 2 : 1024;
    struct tm_batch_row *rows = realloc(b->rows, cap * sizeof *rows);
    if (!rows)
        return TM_ENOMEM;
    b->rows = rows;
    b->cap = cap;
    return TM_OK;
}

static int64_t time_of(const struct tm_field *fields, int column)
{
    if (column < 0 || fields[column].len != 8)
        return INT64_MIN;
    int64_t us = (int64_t)tm_get_be64(fields[column].bytes);
    return us > INT64_MAX - TM_PG_EPOCH_S * TM_US_PER_S ? INT64_MAX : tm_unix_time_us(us); /* infinity */
}

/* The time that decides where production keeps the row; an observer's other times are its own and not judged.
 */
static int place_column(const struct tm_stream *s)
{
    return s->partition_column >= 0 ? s->partition_column : s->observer ? -1 : s->time_column;
}

static void note_arrival(struct tm_batch *b, int64_t us)
{
    if (us == INT64_MIN)
        return;
    if (!b->received_min_us || us < b->received_min_us)
        b->received_min_us = us;
    if (us > b->received_max_us)
        b->received_max_us = us;
}

static struct tm_fp fingerprint(const struct tm_stream *stream, const struct tm_hash_key *key,
                                const struct tm_field *fields)
{
    struct tm_fp fp = tm_stream_fingerprint(stream, key, fields);
    int at = stream->occurrence_column;
    bool counted = at >= 0 && tm_stream_key_of(stream, fields)->counted;
    return counted && fields[at].len == 2 ? tm_fp_occurrence(fp, tm_get_be16(fields[at].bytes)) : fp;
}

static uint64_t payload_of(const struct tm_stream *s, const struct tm_field *fields)
{
    uint64_t hash = 0;
    for (uint16_t i = 0; i < s->production_count; i++)
        if (tm_column_may_disagree(s, i))
            hash = fields[i].len < 0 ? hash * 31 + 1 : tm_hash64(fields[i].bytes, (size_t)fields[i].len, hash + 2);
    return hash;
}

static int64_t skip_quarantined(struct tm_batch *b, int64_t expected)
{
    for (; b->explained_at < b->explained_count && b->explained[b->explained_at] <= expected; b->explained_at++)
        expected += b->explained[b->explained_at] == expected;
    return expected;
}

/* The next seq that must come after those that are known to be missing. */
static int64_t skip_explained(struct tm_batch *b, int64_t expected)
{
    for (int64_t before = expected - 1; before != expected;) {
        before = expected;
        expected = tm_absent_skip(&b->absent, skip_quarantined(b, expected), b->to);
    }
    return expected;
}

/* Replacements leave holes behind them by nature: an older version of the row is gone. */
static int check_seq(struct tm_batch *b, int64_t expected, int64_t seq, struct tm_error *err)
{
    if (seq == expected || (b->stream->mode == TM_STREAM_UPSERT && seq > expected && seq <= b->to))
        return TM_OK;
    b->missing = expected;
    return tm_error_set(err, TM_ESTATE,
                        "%s: expected seq %" PRId64 ", got %" PRId64 ": rows are missing in the gatherer's store; the "
                        "stream waits until they are back or explained",
                        b->stream->name, expected, seq);
}

void tm_batch_of_shard(struct tm_batch *b, unsigned shard, unsigned shards)
{
    b->shard = shard;
    b->shards = tm_share_is_spread(b->stream) ? shards : 1;
}

static void keep_own_rows(struct tm_batch *b)
{
    struct tm_buf kept = {0};
    for (size_t i = 0; i < b->count; i++) {
        struct tm_batch_row *r = &b->rows[i];
        size_t at = kept.len;
        TM_FATAL_UNLESS(tm_buf_append(&kept, b->bytes.data + r->offset, r->len) == TM_OK);
        r->offset = at;
    }
    tm_buf_fini(&b->bytes);
    b->bytes = kept;
}

void tm_batch_trim(struct tm_batch *b)
{
    if (b->shards > 1)
        keep_own_rows(b);
    if (b->bytes.cap - b->bytes.len > SLACK_BYTES)
        tm_buf_fit(&b->bytes);
}

static int index_row(struct tm_batch *b, size_t at, size_t len, const struct tm_hash_key *key, int64_t *expected,
                     struct tm_error *err)
{
    struct tm_field fields[TM_COLUMNS_MAX] TM_UNSET;
    const struct tm_stream *s = b->stream;
    uint16_t count = (uint16_t)(s->production_count + 1);
    if (tm_tuple_split(b->bytes.data + at, len, fields, count) || fields[count - 1].len != 8)
        return tm_error_set(err, TM_ECORRUPT, "%s: expected tuples of %u columns ending in seq", s->name, count);
    int64_t seq = (int64_t)tm_get_be64(fields[count - 1].bytes);
    int rc = check_seq(b, skip_explained(b, *expected), seq, err);
    if (rc)
        return rc;
    *expected = seq + 1;
    if (b->shards > 1 && (tm_share_of(s, fields, b->shards) != b->shard ||
                          (TM_PLANTED(lose_market) && tm_share_of(s, fields, 100) == 1)))
        return TM_OK;
    if (reserve_row(b))
        return tm_error_set(err, TM_ENOMEM, "out of memory for a batch");
    struct tm_batch_row *row = &b->rows[b->count++];
    *row = (struct tm_batch_row){
        .offset = at,
        .len = len,
        .time_us = time_of(fields, place_column(s)),
        .received_us = time_of(fields, s->received_column),
    };
    if (row->time_us > b->newest_us)
        b->newest_us = row->time_us;
    if (tm_stream_is_fingerprinted(s))
        row->fp = fingerprint(s, key, fields);
    if (b->may_disagree)
        row->payload = payload_of(s, fields);
    note_arrival(b, row->received_us);
    return TM_OK;
}

/* ---- order ---- */

struct place {
    int64_t seq;
    size_t at, len;
};

static int by_seq(const void *a, const void *b)
{
    const struct place *x = a, *y = b;
    return (x->seq > y->seq) - (x->seq < y->seq);
}

static int find_places(const struct tm_batch *b, struct tm_buf *places)
{
    int rc = TM_OK;
    for (size_t at = 0; !rc && at < b->bytes.len;) {
        int64_t len = tm_tuple_length(b->bytes.data + at, b->bytes.len - at);
        if (len < SEQ_FIELD_BYTES)
            return TM_ECORRUPT;
        struct place p = {.at = at, .len = (size_t)len};
        p.seq = (int64_t)tm_get_be64(b->bytes.data + at + p.len - 8);
        rc = tm_buf_append(places, &p, sizeof p);
        at += p.len;
    }
    return rc;
}

/* Bring the tuples into the order of their seq. False: they had it, or cannot be sorted. */
static bool sort(struct tm_batch *b)
{
    struct tm_buf places = {0}, sorted = {0};
    int rc = find_places(b, &places);
    struct place *p = (struct place *)(void *)places.data;
    size_t count = places.len / sizeof *p, last = 0;
    while (!rc && last + 1 < count && p[last].seq < p[last + 1].seq)
        last++;
    bool wanted = !rc && last + 1 < count;
    if (wanted)
        qsort(p, count, sizeof *p, by_seq);
    for (size_t i = 0; wanted && i < count; i++)
        wanted = tm_buf_append(&sorted, b->bytes.data + p[i].at, p[i].len) == TM_OK;
    if (wanted) {
        struct tm_buf old = b->bytes;
        b->bytes = sorted;
        sorted = old;
    }
    tm_buf_fini(&places);
    tm_buf_fini(&sorted);
    return wanted;
}

static int index_all(struct tm_batch *b, const struct tm_hash_key *key, struct tm_error *err)
{
    int64_t expected = b->from + 1;
    int rc = TM_OK;
    b->count = b->explained_at = 0;
    tm_absent_rewind(&b->absent);
    b->missing = b->received_min_us = b->received_max_us = 0;
    b->newest_us = INT64_MIN;
    for (size_t at = 0; !rc && at < b->bytes.len;) {
        int64_t len = tm_tuple_length(b->bytes.data + at, b->bytes.len - at);
        if (len <= 0)
            return tm_error_set(err, TM_ECORRUPT, "%s: a tuple is cut off or malformed", b->stream->name);
        rc = index_row(b, at, (size_t)len, key, &expected, err);
        at += (size_t)len;
    }
    if (!rc && b->stream->mode == TM_STREAM_APPEND)
        rc = check_seq(b, skip_explained(b, expected), b->to + 1, err);
    return rc;
}

int tm_batch_index(struct tm_batch *b, const struct tm_hash_key *key, struct tm_error *err)
{
    int rc = index_all(b, key, err);
    return rc == TM_ESTATE && sort(b) ? index_all(b, key, err) : rc;
}

struct tm_span_bytes tm_batch_production_row(struct tm_batch *b, size_t row)
{
    const struct tm_batch_row *r = &b->rows[row];
    uint8_t *tuple = b->bytes.data + r->offset;
    if (b->stream->observer)
        return (struct tm_span_bytes){.bytes = tuple, .len = r->len};
    tm_put_be16(tuple, b->stream->production_count);
    return (struct tm_span_bytes){.bytes = tuple, .len = r->len - SEQ_FIELD_BYTES};
}
