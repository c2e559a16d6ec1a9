/* A line of a recording to an event. */
#include "exchange/feed.h"
#include "exchange/replay_private.h"
#include "exchange/text.h"

static const struct type {
    const char *name;
    enum tm_stream stream;
    enum tm_channel channel;
    bool elsewhere; /* comes on a second channel too, so that it does not tell what its sid is */
} types[] = {
    {"orderbook_delta", TM_STREAM_DELTA, TM_CHANNEL_DEPTH, false},
    {"orderbook_snapshot", TM_STREAM_SNAPSHOT, TM_CHANNEL_DEPTH, false},
    {"trade", TM_STREAM_TRADE, TM_CHANNEL_TRADE, false},
    {"ticker", TM_STREAM_TICKER, TM_CHANNEL_TICKER, false},
    {"market_lifecycle_v2", TM_STREAM_LIFECYCLE, TM_CHANNEL_LIFECYCLE, false},
    {"event_lifecycle", TM_STREAM_LIFECYCLE, TM_CHANNEL_LIFECYCLE, true},
    {"event_fee_update", TM_STREAM_LIFECYCLE, TM_CHANNEL_LIFECYCLE, true},
    {"multivariate_market_lifecycle", TM_STREAM_LIFECYCLE, TM_CHANNEL_COMBO_LIFECYCLE, false},
};

/* The fields of a frame that matter here. */
struct frame {
    struct tm_slice event, type, msg;
    int64_t recv_ms, sid;
};

/* A number, or nothing where it is something else: what is passed on as it came need not be understood. */
static void read_number(struct tm_json *j, int64_t *out)
{
    struct tm_slice raw;
    if (tm_json_skip(j, &raw))
        (void)tm_decimal_parse(raw.at, raw.len, 0, out);
}

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
            read_number(&j, &f->recv_ms);
        else if (tm_json_is(key, "sid"))
            read_number(&j, &f->sid);
        else
            tm_json_skip(&j, NULL);
    }
    return tm_json_done(&j);
}

static const struct type *find_type(struct tm_slice name)
{
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++)
        if (tm_json_is(name, types[i].name))
            return &types[i];
    return NULL;
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
    else if (tm_json_is(key, "side") || tm_json_is(key, "taker_side") || tm_json_is(key, "taker_outcome_side"))
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

static enum reason set_order(struct tm_event *e, const struct message *m)
{
    int64_t price;
    if (!m->price.at || !tm_decimal_parse(m->price.at, m->price.len, 6, &price) || price < 0 || price > TM_PRICE_ONE)
        return BAD_PRICE;
    if (!m->amount.at || !tm_decimal_parse(m->amount.at, m->amount.len, 2, &e->amount))
        return BAD_AMOUNT;
    if (!tm_json_is(m->side, "yes") && !tm_json_is(m->side, "no"))
        return BAD_SIDE;
    e->price = (uint32_t)price;
    e->side = tm_json_is(m->side, "yes") ? TM_YES : TM_NO;
    if (e->stream == TM_STREAM_TRADE && !tm_uuid_parse(m->trade_id.at, m->trade_id.len, e->trade_id))
        return BAD_TRADE_ID;
    return SENT;
}

static bool read_pair(struct tm_json *j, int64_t *price, int64_t *size)
{
    struct tm_slice a, b;
    bool good = tm_json_enter(j, '[') && tm_json_next_item(j) && tm_json_string(j, &a) && tm_json_next_item(j) &&
                tm_json_string(j, &b) && !tm_json_next_item(j);
    if (!good || !tm_decimal_parse(a.at, a.len, 6, price) || !tm_decimal_parse(b.at, b.len, 2, size))
        return false;
    return *size > 0 && *price > 0 && *price < TM_PRICE_ONE;
}

bool tm_replay_read_levels(struct tm_slice levels, struct tm_book *book, enum tm_side side)
{
    struct tm_json j = tm_json_over(levels.at, levels.len);
    int64_t price, size;
    uint32_t count = 0;
    for (bool in = levels.at && tm_json_enter(&j, '['); in && tm_json_next_item(&j); count++)
        if (!read_pair(&j, &price, &size) || (book && tm_book_fold(book, side, (uint32_t)price, size)))
            return false;
    return !j.bad && count <= TM_LEVELS_MAX;
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

/* Sids */

static int channel_of(const struct tm_replay *r, int64_t sid)
{
    return sid > 0 && sid < SIDS_MAX ? r->channel_of_sid[sid] - 1 : -1;
}

static void learn_sid(struct tm_replay *r, int64_t sid, int channel)
{
    if (sid > 0 && sid < SIDS_MAX && channel >= 0)
        r->channel_of_sid[sid] = (uint8_t)(channel + 1);
}

/* What the recorded connection said about itself: its `subscribed` tell which channel a sid is. */
static bool is_acknowledgement(struct tm_replay *r, const struct frame *f)
{
    struct tm_json j = tm_json_over(f->msg.at, f->msg.len);
    struct tm_slice key, channel = {0};
    int64_t sid = 0;
    if (tm_json_is(f->type, "ok") || tm_json_is(f->type, "unsubscribed") || tm_json_is(f->type, "error"))
        return true;
    if (!tm_json_is(f->type, "subscribed"))
        return false;
    for (bool in = f->msg.at && tm_json_enter(&j, '{'); in && tm_json_next_key(&j, &key);)
        if (tm_json_is(key, "channel"))
            tm_json_string(&j, &channel);
        else if (tm_json_is(key, "sid"))
            read_number(&j, &sid);
        else
            tm_json_skip(&j, NULL);
    learn_sid(r, sid, channel.at ? tm_channel_find(channel) : -1);
    return true;
}

/* Frames of unknown types: all members but those that every client gets anew. */

static bool put_members(struct tm_replay *r, struct tm_slice text)
{
    struct tm_json j = tm_json_over(text.at, text.len);
    struct tm_slice key, value;
    bool any = false, good = true;
    tm_buf_clear(&r->body);
    for (bool in = tm_json_enter(&j, '{'); in && tm_json_next_key(&j, &key) && tm_json_skip(&j, &value);) {
        if (tm_json_is(key, "type") || tm_json_is(key, "sid") || tm_json_is(key, "seq"))
            continue;
        good = good && tm_buf_printf(&r->body, "%s\"", any ? "," : "") == TM_OK &&
               tm_buf_append(&r->body, key.at, key.len) == TM_OK && tm_buf_append(&r->body, "\":", 2) == TM_OK &&
               tm_buf_append(&r->body, value.at, value.len) == TM_OK;
        any = true;
    }
    TM_FATAL_UNLESS(good && tm_buf_append(&r->body, "}\n", 2) == TM_OK);
    return any;
}

static struct tm_slice find_ticker(struct tm_slice msg)
{
    struct tm_json j = tm_json_over(msg.at, msg.len);
    struct tm_slice key, ticker = {0};
    for (bool in = msg.at && tm_json_peek(&j) == '{' && tm_json_enter(&j, '{'); in && tm_json_next_key(&j, &key);)
        if (tm_json_is(key, "market_ticker") && tm_json_peek(&j) == '"')
            tm_json_string(&j, &ticker);
        else
            tm_json_skip(&j, NULL);
    return ticker;
}

static enum reason read_raw(struct tm_replay *r, const struct frame *f, struct tm_slice text)
{
    int channel = channel_of(r, f->sid);
    if (channel < 0 || f->type.len >= sizeof r->type)
        return UNKNOWN_TYPE;
    if (!put_members(r, text))
        return NO_MSG;
    memcpy(r->type, f->type.at, f->type.len);
    r->type[f->type.len] = '\0';
    struct tm_slice ticker = find_ticker(f->msg);
    r->next = (struct tm_event){.stream = TM_STREAM_RAW,
                                .channel = (enum tm_channel)channel,
                                .type = r->type,
                                .market = ticker.len ? tm_markets_intern(r->markets, ticker) : TM_MARKET_NONE,
                                .suffix = {(const char *)r->body.data, r->body.len}};
    r->next_us = f->recv_ms ? f->recv_ms * 1000 : r->last_us;
    return SENT;
}

/* Frames of known types */

static enum reason read_known(struct tm_replay *r, const struct frame *f, const struct type *type)
{
    struct tm_event *e = &r->next;
    struct message *m = &r->message;
    enum reason reason = SENT;
    *m = (struct message){0};
    *e = (struct tm_event){
        .type = type->name, .stream = type->stream, .channel = type->channel, .market = TM_MARKET_NONE};
    if (!f->msg.at)
        return NO_MSG;
    if (!read_message(f->msg, m))
        return BAD_FIELD;
    if (m->ticker.len)
        e->market = tm_markets_intern(r->markets, m->ticker);
    if (e->market == TM_MARKET_NONE && (e->stream != TM_STREAM_LIFECYCLE || m->ticker.at))
        return NO_MARKET;
    e->ts_us = message_us(m);
    if (e->stream == TM_STREAM_DELTA || e->stream == TM_STREAM_TRADE)
        reason = set_order(e, m);
    else if (e->stream == TM_STREAM_SNAPSHOT &&
             !(tm_replay_read_levels(m->yes, NULL, TM_YES) && tm_replay_read_levels(m->no, NULL, TM_NO)))
        reason = BAD_LEVELS;
    r->next_us = f->recv_ms ? f->recv_ms * 1000 : e->ts_us ? e->ts_us : r->last_us;
    if (e->stream == TM_STREAM_LIFECYCLE || e->stream == TM_STREAM_SNAPSHOT)
        e->ts_us = 0;
    TM_FATAL_UNLESS(put_body(r, f->msg, e));
    return reason;
}

enum reason tm_replay_read(struct tm_replay *r, const struct tm_line *line)
{
    struct frame f = {0};
    if (line->too_long)
        return TOO_LONG;
    if (!read_frame(line->text, &f) || (f.event.at && !read_frame(f.event, &f)))
        return NOT_JSON;
    if (!f.type.at)
        return NO_TYPE;
    if (is_acknowledgement(r, &f))
        return ACKNOWLEDGEMENT;
    const struct type *type = find_type(f.type);
    if (!type)
        return read_raw(r, &f, f.event.at ? f.event : line->text);
    if (!type->elsewhere || channel_of(r, f.sid) < 0)
        learn_sid(r, f.sid, (int)type->channel);
    return read_known(r, &f, type);
}
