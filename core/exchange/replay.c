#include "exchange/replay.h"
#include "base/hash.h"
#include "base/log.h"
#include "exchange/text.h"

#include <errno.h>
#include <stdlib.h>
#include <zlib.h>

#define LINE_MAX_BYTES (8u << 20)
#define READ_CHUNK (256u << 10)

/* How often each (ticker, ts, side, price, amount) has been seen: hash to count, grown by doubling. */
struct counts {
    struct {
        uint64_t hash;
        uint32_t count;
    } * slots;
    size_t used, capacity;
};

/* What the message says, as far as the ledger and the books need it. */
struct message {
    struct tm_slice ticker, price, amount, side, ts, trade_id, yes, no;
    int64_t ts_ms, ts_s;
};

struct tm_replay {
    gzFile file;
    struct tm_markets *markets;
    struct tm_sink sink;
    struct tm_buf in; /* bytes read, from `at` on not yet used */
    size_t at;
    struct tm_buf body;
    struct tm_event next;
    struct message message; /* of `next`; points into `in` */
    int64_t next_us, last_us;
    bool has_next;
    uint64_t count, skipped;
    struct counts seen;
};

static const struct {
    const char *type;
    enum tm_stream stream;
    enum tm_channel channel;
} types[] = {
    {"orderbook_delta", TM_STREAM_DELTA, TM_CHANNEL_DEPTH},
    {"orderbook_snapshot", TM_STREAM_SNAPSHOT, TM_CHANNEL_DEPTH},
    {"trade", TM_STREAM_TRADE, TM_CHANNEL_TRADE},
    {"ticker", TM_STREAM_TICKER, TM_CHANNEL_TICKER},
    {"market_lifecycle_v2", TM_STREAM_LIFECYCLE, TM_CHANNEL_LIFECYCLE},
    {"event_lifecycle", TM_STREAM_LIFECYCLE, TM_CHANNEL_LIFECYCLE},
    {"event_fee_update", TM_STREAM_LIFECYCLE, TM_CHANNEL_LIFECYCLE},
    {"multivariate_market_lifecycle", TM_STREAM_LIFECYCLE, TM_CHANNEL_COMBO_LIFECYCLE},
};

static bool read_more(struct tm_replay *r)
{
    tm_buf_consume(&r->in, r->at);
    r->at = 0;
    if (r->in.len > LINE_MAX_BYTES || tm_buf_reserve(&r->in, READ_CHUNK))
        return false;
    int n = gzread(r->file, r->in.data + r->in.len, READ_CHUNK);
    r->in.len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

/* The next line without its end; false at the end of the file. */
static bool read_line(struct tm_replay *r, struct tm_slice *line)
{
    for (;;) {
        const char *start = (const char *)r->in.data + r->at;
        const char *end = r->in.len > r->at ? memchr(start, '\n', r->in.len - r->at) : NULL;
        if (!end && read_more(r))
            continue;
        start = (const char *)r->in.data + r->at;
        size_t len = end ? (size_t)(end - start) : r->in.len - r->at;
        *line = (struct tm_slice){start, len};
        r->at += len + (end != NULL);
        return end || len;
    }
}

/* The fields of a frame that matter here. */
struct frame {
    struct tm_slice event, type, msg;
    int64_t recv_ms;
};

static bool read_frame(struct tm_slice text, struct frame *f)
{
    struct tm_json j = tm_json_over(text.at, text.len);
    struct tm_slice key;
    for (bool in = tm_json_enter(&j, '{'); in && tm_json_next_key(&j, &key);) {
        if (tm_json_is(key, "event"))
            tm_json_skip(&j, &f->event);
        else if (tm_json_is(key, "type"))
            tm_json_string(&j, &f->type);
        else if (tm_json_is(key, "msg"))
            tm_json_skip(&j, &f->msg);
        else if (tm_json_is(key, "recv_ms"))
            tm_json_int(&j, &f->recv_ms);
        else
            tm_json_skip(&j, NULL);
    }
    return tm_json_done(&j);
}

static bool set_type(struct tm_replay *r, struct tm_slice type, struct tm_event *e)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (tm_json_is(type, types[i].type)) {
            e->type = types[i].type;
            e->stream = types[i].stream;
            e->channel = types[i].channel;
            return true;
        }
    r->skipped++;
    return false;
}

static void read_time(struct tm_json *j, struct message *m)
{
    if (tm_json_peek(j) == '"')
        tm_json_string(j, &m->ts);
    else
        tm_json_int(j, &m->ts_s);
}

static void read_field(struct tm_json *j, struct tm_slice key, struct message *m)
{
    if (tm_json_is(key, "market_ticker"))
        tm_json_string(j, &m->ticker);
    else if (tm_json_is(key, "price_dollars") || tm_json_is(key, "yes_price_dollars"))
        tm_json_string(j, &m->price);
    else if (tm_json_is(key, "delta_fp") || tm_json_is(key, "count_fp"))
        tm_json_string(j, &m->amount);
    else if (tm_json_is(key, "side") || tm_json_is(key, "taker_side"))
        tm_json_string(j, &m->side);
    else if (tm_json_is(key, "ts") || tm_json_is(key, "time"))
        read_time(j, m);
    else if (tm_json_is(key, "ts_ms"))
        tm_json_int(j, &m->ts_ms);
    else if (tm_json_is(key, "trade_id"))
        tm_json_string(j, &m->trade_id);
    else if (tm_json_is(key, "yes_dollars_fp"))
        tm_json_skip(j, &m->yes);
    else if (tm_json_is(key, "no_dollars_fp"))
        tm_json_skip(j, &m->no);
    else
        tm_json_skip(j, NULL);
}

static bool read_message(struct tm_slice text, struct message *m)
{
    struct tm_json j = tm_json_over(text.at, text.len);
    struct tm_slice key;
    for (bool in = tm_json_enter(&j, '{'); in && tm_json_next_key(&j, &key);)
        read_field(&j, key, m);
    return tm_json_done(&j);
}

static int64_t message_us(const struct message *m)
{
    int64_t us;
    if (m->ts.at && tm_rfc3339_parse(m->ts.at, m->ts.len, &us))
        return us;
    return m->ts_ms ? m->ts_ms * 1000 : m->ts_s * 1000000;
}

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

static bool set_order(struct tm_event *e, const struct message *m)
{
    int64_t price, amount;
    if (!m->price.at || !m->amount.at || !tm_decimal_parse(m->price.at, m->price.len, 6, &price) || price < 0 ||
        price > TM_PRICE_ONE || !tm_decimal_parse(m->amount.at, m->amount.len, 2, &amount))
        return false;
    e->price = (uint32_t)price;
    e->amount = amount;
    e->side = tm_json_is(m->side, "yes") ? TM_YES : TM_NO;
    return e->stream != TM_STREAM_TRADE || tm_uuid_parse(m->trade_id.at, m->trade_id.len, e->trade_id);
}

static bool read_pair(struct tm_json *j, int64_t *price, int64_t *size)
{
    struct tm_slice a, b;
    bool good = tm_json_enter(j, '[') && tm_json_next_item(j) && tm_json_string(j, &a) && tm_json_next_item(j) &&
                tm_json_string(j, &b) && !tm_json_next_item(j);
    return good && tm_decimal_parse(a.at, a.len, 6, price) && tm_decimal_parse(b.at, b.len, 2, size) && *price > 0 &&
           *price<TM_PRICE_ONE && * size> 0;
}

static void fold_levels(struct tm_book *book, enum tm_side side, struct tm_slice levels)
{
    struct tm_json j = tm_json_over(levels.at, levels.len);
    int64_t price, size;
    for (bool in = levels.at && tm_json_enter(&j, '['); in && tm_json_next_item(&j);)
        if (!read_pair(&j, &price, &size) || tm_book_fold(book, side, (uint32_t)price, size))
            return;
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
    fold_levels(book, TM_YES, m->yes);
    fold_levels(book, TM_NO, m->no);
}

static bool put_body(struct tm_replay *r, struct tm_slice msg, struct tm_event *e)
{
    tm_buf_clear(&r->body);
    if (tm_buf_append(&r->body, "\"msg\":", 6) || tm_buf_append(&r->body, msg.at, msg.len) ||
        tm_buf_append(&r->body, "}\n", 2))
        return false;
    e->suffix = (struct tm_slice){(const char *)r->body.data, r->body.len};
    e->msg = (struct tm_slice){(const char *)r->body.data + 6, msg.len};
    return true;
}

/* A line to the next event; false if it is not one. */
static bool read_event(struct tm_replay *r, struct tm_slice line)
{
    struct frame f = {0};
    struct tm_event *e = &r->next;
    struct message *m = &r->message;
    *m = (struct message){0};
    *e = (struct tm_event){.market = TM_MARKET_NONE};
    if (!line.len || !read_frame(line, &f) || (f.event.at && !read_frame(f.event, &f)) || !f.type.at || !f.msg.at ||
        !set_type(r, f.type, e) || !read_message(f.msg, m))
        return false;
    if (m->ticker.at)
        e->market = tm_markets_intern(r->markets, m->ticker);
    if (e->market == TM_MARKET_NONE && e->stream != TM_STREAM_LIFECYCLE)
        return false;
    e->ts_us = message_us(m);
    if ((e->stream == TM_STREAM_DELTA || e->stream == TM_STREAM_TRADE) && !set_order(e, m))
        return false;
    r->next_us = f.recv_ms ? f.recv_ms * 1000 : e->ts_us ? e->ts_us : r->last_us;
    if (e->stream == TM_STREAM_LIFECYCLE || e->stream == TM_STREAM_SNAPSHOT)
        e->ts_us = 0;
    return put_body(r, f.msg, e);
}

bool tm_replay_next_us(struct tm_replay *r, int64_t *us)
{
    struct tm_slice line;
    while (!r->has_next && read_line(r, &line)) {
        if (!read_event(r, line))
            continue;
        r->has_next = true;
        if (r->next_us < r->last_us)
            r->next_us = r->last_us;
        r->last_us = r->next_us;
    }
    *us = r->next_us;
    return r->has_next;
}

void tm_replay_step(struct tm_replay *r)
{
    r->has_next = false;
    r->next.number = ++r->count;
    if (r->next.market != TM_MARKET_NONE)
        fold(r, &r->next, &r->message);
    if (r->next.stream == TM_STREAM_DELTA)
        r->next.occurrence = count_equal(&r->seen, &r->next);
    r->sink.event(r->sink.arg, &r->next);
}

uint64_t tm_replay_count(const struct tm_replay *r)
{
    return r->count;
}

/* First reading: every market gets its name, so that REST and subscriptions know them all from the start. */
static void learn_markets(struct tm_replay *r)
{
    struct tm_slice line;
    while (read_line(r, &line))
        (void)read_event(r, line);
    tm_buf_clear(&r->in);
    r->at = 0;
    r->last_us = r->next_us = 0;
    r->skipped = 0;
}

static int open_file(const char *path, gzFile *file, struct tm_error *err)
{
    *file = gzopen(path, "rbe");
    if (*file)
        return TM_OK;
    return tm_error_errno(err, TM_EIO, errno, "replay %s: cannot be opened", path);
}

int tm_replay_count_lines(const char *path, uint32_t *lines, struct tm_error *err)
{
    static char chunk[READ_CHUNK];
    gzFile file;
    int n, rc = open_file(path, &file, err);
    if (rc)
        return rc;
    for (*lines = 1; (n = gzread(file, chunk, sizeof chunk)) > 0;)
        for (int i = 0; i < n; i++)
            *lines += chunk[i] == '\n';
    gzclose(file);
    return n < 0 ? tm_error_set(err, TM_EIO, "replay %s: cannot be read; is the gzip file whole?", path) : TM_OK;
}

int tm_replay_open(const char *path, struct tm_markets *markets, struct tm_sink sink, struct tm_replay **out,
                   struct tm_error *err)
{
    struct tm_replay *r = calloc(1, sizeof *r);
    TM_FATAL_UNLESS(r);
    r->markets = markets;
    r->sink = sink;
    int rc = open_file(path, &r->file, err);
    if (rc) {
        free(r);
        return rc;
    }
    learn_markets(r);
    if (!tm_markets_count(markets) || gzrewind(r->file)) {
        tm_replay_close(r);
        return tm_error_set(err, TM_EPARSE, "replay %s: no frame of a known type in it; expected one JSON frame a line",
                            path);
    }
    *out = r;
    return TM_OK;
}

void tm_replay_close(struct tm_replay *r)
{
    tm_log(TM_LOG_INFO, "exchange", "replay closed", TM_F_U64("frames", r->count), TM_F_U64("skipped", r->skipped));
    (void)gzclose(r->file);
    tm_buf_fini(&r->in);
    tm_buf_fini(&r->body);
    free(r->seen.slots);
    free(r);
}
