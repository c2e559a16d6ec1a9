/* /markets/trades and /historical/trades: one tape, cut in two at the historical age. */
#include "exchange/rest.h"
#include "exchange/text.h"

#include <stdio.h>

#define TRADE_MAX 512

struct window {
    size_t low, high; /* indexes in the tape, from high down to low */
    uint32_t market;  /* TM_MARKET_NONE: all */
    bool nothing;     /* a filter that no trade passes */
};

static void put_trade(struct tm_rest *rest, struct tm_reply *reply, const struct tm_trade *t)
{
    bool yes = t->taker == TM_YES;
    TM_FATAL_UNLESS(tm_buf_reserve(&reply->body, TRADE_MAX) == TM_OK);
    char *start = (char *)reply->body.data + reply->body.len, *p = start;
    p = tm_put_lit(p, "{\"trade_id\":\"");
    p = tm_put_uuid(p, t->id);
    p = tm_put_lit(p, "\",\"ticker\":\"");
    p = tm_market_put_ticker(rest->feed->markets, p, t->market);
    p = tm_put_lit(p, "\",\"count_fp\":\"");
    p = tm_put_hundredths(p, t->count);
    p = tm_put_lit(p, "\",\"yes_price_dollars\":\"");
    p = tm_put_price(p, t->yes_price, 4);
    p = tm_put_lit(p, "\",\"no_price_dollars\":\"");
    p = tm_put_price(p, TM_PRICE_ONE - t->yes_price, 4);
    p = yes ? tm_put_lit(p, "\",\"taker_side\":\"yes\",\"taker_outcome_side\":\"yes\",\"taker_book_side\":\"bid\"")
            : tm_put_lit(p, "\",\"taker_side\":\"no\",\"taker_outcome_side\":\"no\",\"taker_book_side\":\"ask\"");
    p = tm_put_lit(p, ",\"is_block_trade\":false,\"created_time\":\"");
    p = tm_put_rfc3339(p, t->created_us);
    p = tm_put_lit(p, "\"}");
    reply->body.len += (size_t)(p - start);
}

/* Cursor: field 1 the last trade's id, field 2 its time. The index above which the next page lies. */
static size_t read_start(const struct tm_rest *rest, const struct tm_request *r)
{
    const struct tm_tape *tape = &rest->feed->tape;
    uint8_t bytes[64];
    size_t len;
    uint64_t created;
    if (!tm_rest_cursor_read(r, bytes, &len, sizeof bytes) || len < 20 || bytes[0] != 0x0a || bytes[1] != 16 ||
        bytes[18] != 0x10)
        return tape->count;
    const uint8_t *p = bytes + 19;
    if (!tm_varint_read(&p, bytes + len, &created) || created > INT64_MAX - 1)
        return tape->count;
    size_t at = tm_tape_lower(tape, (int64_t)created + 1);
    for (size_t i = at; i > 0 && tape->trades[i - 1].created_us == (int64_t)created; i--)
        if (memcmp(tape->trades[i - 1].id, bytes + 2, 16) == 0)
            return i - 1;
    return at;
}

static void put_cursor(struct tm_reply *reply, const struct tm_trade *t)
{
    uint8_t bytes[64] = {0x0a, 16};
    memcpy(bytes + 2, t->id, 16);
    bytes[18] = 0x10;
    uint8_t *end = tm_varint_put(bytes + 19, (uint64_t)t->created_us);
    tm_rest_cursor_put(reply, bytes, (size_t)(end - bytes));
}

static bool read_window(struct tm_rest *rest, const struct tm_request *r, bool historical, struct window *w,
                        struct tm_reply *reply)
{
    const struct tm_tape *tape = &rest->feed->tape;
    char ticker[TM_TICKER_MAX], block[8];
    int64_t low, high;
    if (!tm_rest_seconds(r, "min_ts", &low, reply) || !tm_rest_seconds(r, "max_ts", &high, reply))
        return false;
    size_t cut = tm_tape_lower(tape, rest->now_us - rest->opt->historical_us), start = read_start(rest, r);
    w->low = historical ? 0 : cut;
    w->high = historical && cut < start ? cut : start;
    w->market = TM_MARKET_NONE;
    w->nothing = tm_query_get(r->query, "is_block_trade", block, sizeof block) && strcmp(block, "true") == 0;
    if (low != TM_TS_NONE && tm_tape_lower(tape, low) > w->low)
        w->low = tm_tape_lower(tape, low);
    if (high != TM_TS_NONE && tm_tape_lower(tape, high + 1) < w->high)
        w->high = tm_tape_lower(tape, high + 1);
    if (tm_query_get(r->query, "ticker", ticker, sizeof ticker) && ticker[0]) {
        w->market = tm_markets_find(rest->feed->markets, (struct tm_slice){ticker, strlen(ticker)});
        w->nothing |= w->market == TM_MARKET_NONE;
    }
    return true;
}

void tm_rest_trades(struct tm_rest *rest, const struct tm_request *r, struct tm_reply *reply, bool historical)
{
    int64_t limit = 100, count = 0;
    struct window w;
    const struct tm_trade *last = NULL;
    if (!tm_rest_limit(r, "GetTrades", 0, 1000, &limit, reply) || !read_window(rest, r, historical, &w, reply))
        return;
    reply->status = 200;
    tm_rest_append(reply, "{\"trades\":[");
    for (size_t i = w.high; i > w.low && !w.nothing; i--) {
        const struct tm_trade *t = &rest->feed->tape.trades[i - 1];
        if (w.market != TM_MARKET_NONE && t->market != w.market)
            continue;
        if (count++ == limit) {
            put_cursor(reply, last);
            return;
        }
        tm_rest_append(reply, count > 1 ? "," : "");
        put_trade(rest, reply, t);
        last = t;
    }
    tm_rest_cursor_put(reply, NULL, 0);
}
