#include "exchange/replay_private.h"
#include "base/hash.h"
#include "base/log.h"

#include <stdlib.h>
#include <string.h>

static const struct {
    const char *name, *cause; /* no cause: that is as it should be, and no warning */
} reasons[REASONS] = {
    [ACKNOWLEDGEMENT] = {"acknowledgement", NULL},
    [NOT_JSON] = {"not_json", "expected one JSON object a line"},
    [NO_TYPE] = {"no_type", "expected a frame with a \"type\""},
    [NO_MSG] = {"no_msg", "expected a frame with a \"msg\""},
    [BAD_FIELD] = {"bad_field", "a field of \"msg\" is of another JSON type than on the exchange"},
    [BAD_PRICE] = {"bad_price", "expected a price from 0 to 1 with at most 6 decimals"},
    [BAD_AMOUNT] = {"bad_amount", "expected a count with at most 2 decimals"},
    [BAD_SIDE] = {"bad_side", "expected side yes or no"},
    [BAD_TRADE_ID] = {"bad_trade_id", "expected a trade_id of 8-4-4-4-12 hex digits"},
    [BAD_LEVELS] = {"bad_levels", "expected levels of [price, count], both above zero, 1024 of a side at most"},
    [NO_MARKET] = {"no_market", "expected a market_ticker of 1 to 63 characters"},
    [UNKNOWN_TYPE] = {"unknown_type", "of an unknown type, and no frame of a known one has its sid"},
    [TOO_LONG] = {"too_long", "longer than 8 MiB"},
};

static void grow_counts(struct counts *c)
{
    struct counts old = *c;
    c->capacity = old.capacity ? 2 * old.capacity : 4096;
    c->slots = calloc(c->capacity, sizeof *c->slots);
    TM_FATAL_UNLESS(c->slots);
    for (size_t i = 0; i < old.capacity; i++) {
        size_t at = old.slots[i].hash & (c->capacity - 1);
        while (old.slots[i].hash && c->slots[at].hash)
            at = (at + 1) & (c->capacity - 1);
        if (old.slots[i].hash)
            c->slots[at] = old.slots[i];
    }
    free(old.slots);
}

static uint32_t count_equal(struct counts *c, const struct tm_event *e)
{
    int64_t key[] = {e->market, e->ts_us, e->side, e->price, e->amount};
    uint64_t hash = tm_hash64(key, sizeof key, 0) | 1;
    if (c->used * 2 >= c->capacity)
        grow_counts(c);
    size_t at = hash & (c->capacity - 1);
    while (c->slots[at].hash && c->slots[at].hash != hash)
        at = (at + 1) & (c->capacity - 1);
    c->used += !c->slots[at].hash;
    c->slots[at].hash = hash;
    return c->slots[at].count++;
}

/* Keep the book along. A recording may start without snapshots, so what does not fold is let go. */
static void fold(struct tm_replay *r, const struct tm_event *e, const struct message *m)
{
    struct tm_book *book = &tm_market_live(r->markets, e->market)->book;
    if (e->stream == TM_STREAM_DELTA)
        (void)!tm_book_fold(book, e->side, e->price, e->amount);
    if (e->stream != TM_STREAM_SNAPSHOT)
        return;
    tm_book_clear(book);
    (void)tm_replay_read_levels(m->yes, book, TM_YES);
    (void)tm_replay_read_levels(m->no, book, TM_NO);
}

static bool is_blank(const struct tm_line *line)
{
    struct tm_json j = tm_json_over(line->text.at, line->text.len);
    return !line->too_long && tm_json_peek(&j) == '\0' && j.at == j.end;
}

static void pass_over(struct tm_replay *r, const struct tm_line *line, enum reason reason)
{
    r->skipped[reason]++;
    if (!r->learning && reasons[reason].cause)
        TM_LOG_LIMITED(TM_LOG_WARN, "exchange", "a recorded line is not sent", TM_F_U64("line", line->number),
                       TM_F_STR("reason", reasons[reason].name), TM_F_STR("cause", reasons[reason].cause),
                       TM_F_BYTES("text", line->text.at, line->text.len));
}

/* The next line that is an event into r->next: TM_ENOENT behind the last one. */
static int read_next(struct tm_replay *r, struct tm_error *err)
{
    struct tm_line line;
    int rc;
    while ((rc = tm_recording_next(r->file, &line, err)) == TM_OK) {
        if (is_blank(&line))
            continue;
        enum reason reason = tm_replay_read(r, &line);
        if (reason == SENT)
            return TM_OK;
        pass_over(r, &line, reason);
    }
    return rc;
}

bool tm_replay_next_us(struct tm_replay *r, int64_t *us)
{
    struct tm_error err;
    if (!r->has_next && !r->failed) {
        int rc = read_next(r, &err);
        r->has_next = rc == TM_OK;
        r->failed = rc && rc != TM_ENOENT;
        if (r->failed)
            tm_log(TM_LOG_ERROR, "exchange", "the replay ends before its recording does", TM_F_ERR(&err));
        if (r->next_us < r->last_us)
            r->next_us = r->last_us;
        r->last_us = r->next_us;
    }
    *us = r->next_us;
    return r->has_next;
}

bool tm_replay_failed(const struct tm_replay *r)
{
    return r->failed;
}

void tm_replay_step(struct tm_replay *r)
{
    r->has_next = false;
    if (r->next.stream == TM_STREAM_RAW) {
        r->raw++;
        r->sink.raw(r->sink.arg, &r->next);
        return;
    }
    r->next.number = ++r->count;
    if (r->next.market != TM_MARKET_NONE)
        fold(r, &r->next, &r->message);
    if (r->next.stream == TM_STREAM_DELTA)
        r->next.occurrence = count_equal(&r->seen, &r->next);
    r->sink.event(r->sink.arg, &r->next);
}

uint64_t tm_replay_count(const struct tm_replay *r)
{
    return r->count + r->raw;
}

/* First reading: every market gets its name, so that REST and subscriptions know them all from the start. */
static int learn(struct tm_replay *r, uint64_t *frames, struct tm_error *err)
{
    int rc;
    r->learning = true;
    while ((rc = read_next(r, err)) == TM_OK)
        ++*frames;
    r->learning = false;
    r->last_us = r->next_us = 0;
    memset(r->skipped, 0, sizeof r->skipped);
    return rc == TM_ENOENT ? tm_recording_rewind(r->file, err) : rc;
}

int tm_replay_count_lines(const char *path, uint32_t *lines, struct tm_error *err)
{
    struct tm_recording *file;
    struct tm_line line;
    int rc = tm_recording_open(path, &file, err);
    if (rc)
        return rc;
    for (*lines = 1; (rc = tm_recording_next(file, &line, err)) == TM_OK;)
        ++*lines;
    tm_recording_close(file);
    return rc == TM_ENOENT ? TM_OK : rc;
}

static void release(struct tm_replay *r)
{
    if (r->file)
        tm_recording_close(r->file);
    tm_buf_fini(&r->body);
    free(r->seen.slots);
    free(r);
}

int tm_replay_open(const char *path, struct tm_markets *markets, struct tm_sink sink, struct tm_replay **out,
                   struct tm_error *err)
{
    struct tm_replay *r = calloc(1, sizeof *r);
    uint64_t frames = 0;
    TM_FATAL_UNLESS(r);
    r->markets = markets;
    r->sink = sink;
    int rc = tm_recording_open(path, &r->file, err);
    if (!rc)
        rc = learn(r, &frames, err);
    if (!rc && !frames)
        rc = tm_error_set(err, TM_EPARSE, "replay %s: no frame of a known type in it; expected one JSON frame a line",
                          path);
    if (rc)
        release(r);
    else
        *out = r;
    return rc;
}

static void log_counts(const struct tm_replay *r)
{
    struct tm_log_field fields[3 + REASONS];
    size_t count = 0;
    uint64_t skipped = 0;
    for (int i = SENT + 1; i < REASONS; i++)
        skipped += r->skipped[i];
    fields[count++] = TM_F_U64("frames", r->count + r->raw);
    fields[count++] = TM_F_U64("of_unknown_types", r->raw);
    fields[count++] = TM_F_U64("skipped", skipped);
    for (int i = SENT + 1; i < REASONS; i++)
        if (r->skipped[i])
            fields[count++] = TM_F_U64(reasons[i].name, r->skipped[i]);
    tm_log_fields(TM_LOG_INFO, "exchange", "replay closed", fields, count);
}

void tm_replay_close(struct tm_replay *r)
{
    log_counts(r);
    release(r);
}
