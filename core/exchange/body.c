#include "exchange/body.h"
#include "exchange/text.h"

#define BODY_HEAD "\"msg\":"
#define BODY_TAIL "}\n"
#define DOLLAR INT64_C(100000000) /* in hundredths of a contract times 1e-6 dollars */

char *tm_body_begin(struct tm_body *b)
{
    return tm_put_lit(b->text, BODY_HEAD);
}

void tm_body_end(struct tm_body *b, struct tm_event *e, char *end)
{
    const char *msg = b->text + sizeof BODY_HEAD - 1;
    e->msg = (struct tm_slice){msg, (size_t)(end - msg)};
    end = tm_put_lit(end, BODY_TAIL);
    b->len = (size_t)(end - b->text);
    TM_FATAL_UNLESS(b->len <= TM_BODY_MAX);
    e->suffix = (struct tm_slice){b->text, b->len};
}

static char *put_price(const struct tm_body *b, char *p, uint32_t price)
{
    return tm_put_price(p, price, (int)b->style->price_decimals);
}

char *tm_body_put_market(const struct tm_body *b, char *p, uint32_t market)
{
    p = tm_put_lit(p, "\"market_ticker\":\"");
    p = tm_market_put_ticker(b->markets, p, market);
    *p++ = '"';
    return p;
}

static char *put_market_id(const struct tm_body *b, char *p, uint32_t market)
{
    uint8_t id[16];
    tm_market_id(b->markets, market, id);
    p = tm_put_lit(p, "\"market_id\":\"");
    p = tm_put_uuid(p, id);
    *p++ = '"';
    return p;
}

void tm_body_delta(struct tm_body *b, struct tm_event *e, bool yes_leg)
{
    bool mirror = yes_leg && e->side == TM_NO;
    char *p = tm_body_begin(b);
    *p++ = '{';
    p = tm_body_put_market(b, p, e->market);
    *p++ = ',';
    p = put_market_id(b, p, e->market);
    p = tm_put_lit(p, ",\"price_dollars\":\"");
    p = put_price(b, p, mirror ? TM_PRICE_ONE - e->price : e->price);
    p = tm_put_lit(p, "\",\"delta_fp\":\"");
    p = tm_put_hundredths(p, e->amount);
    p = e->side == TM_YES ? tm_put_lit(p, "\",\"side\":\"yes\"") : tm_put_lit(p, "\",\"side\":\"no\"");
    if (!b->style->no_ts) {
        p = tm_put_lit(p, ",\"ts\":\"");
        p = tm_put_rfc3339(p, e->ts_us);
        *p++ = '"';
    }
    if (!b->style->no_ts_ms) {
        p = tm_put_lit(p, ",\"ts_ms\":");
        p = tm_put_i64(p, e->ts_us / 1000);
    }
    *p++ = '}';
    tm_body_end(b, e, p);
}

static char *put_taker(char *p, enum tm_side side)
{
    if (side == TM_YES)
        return tm_put_lit(p, "\"taker_side\":\"yes\",\"taker_outcome_side\":\"yes\",\"taker_book_side\":\"bid\"");
    return tm_put_lit(p, "\"taker_side\":\"no\",\"taker_outcome_side\":\"no\",\"taker_book_side\":\"ask\"");
}

void tm_body_trade(struct tm_body *b, struct tm_event *e)
{
    char *p = tm_body_begin(b);
    p = tm_put_lit(p, "{\"trade_id\":\"");
    p = tm_put_uuid(p, e->trade_id);
    p = tm_put_lit(p, "\",");
    p = tm_body_put_market(b, p, e->market);
    p = tm_put_lit(p, ",\"yes_price_dollars\":\"");
    p = put_price(b, p, e->price);
    p = tm_put_lit(p, "\",\"no_price_dollars\":\"");
    p = put_price(b, p, TM_PRICE_ONE - e->price);
    p = tm_put_lit(p, "\",\"count_fp\":\"");
    p = tm_put_hundredths(p, e->amount);
    p = tm_put_lit(p, "\",");
    p = put_taker(p, e->side);
    if (!b->style->no_block_trade)
        p = tm_put_lit(p, ",\"is_block_trade\":false");
    p = tm_put_lit(p, ",\"ts\":");
    p = tm_put_i64(p, e->ts_us / 1000000);
    if (!b->style->no_trade_ts_ms) {
        p = tm_put_lit(p, ",\"ts_ms\":");
        p = tm_put_i64(p, e->ts_us / 1000);
    }
    *p++ = '}';
    tm_body_end(b, e, p);
}

static char *put_quotes(const struct tm_body *b, char *p, const struct tm_live *live)
{
    uint32_t yes = tm_book_best(&live->book, TM_YES), no = tm_book_best(&live->book, TM_NO);
    p = tm_put_lit(p, ",\"price_dollars\":\"");
    p = put_price(b, p, live->last_price);
    p = tm_put_lit(p, "\",\"yes_bid_dollars\":\"");
    p = put_price(b, p, yes);
    p = tm_put_lit(p, "\",\"yes_ask_dollars\":\"");
    p = put_price(b, p, TM_PRICE_ONE - no);
    p = tm_put_lit(p, "\",\"volume_fp\":\"");
    p = tm_put_hundredths(p, live->volume);
    p = tm_put_lit(p, "\",\"open_interest_fp\":\"");
    p = tm_put_hundredths(p, live->open_interest);
    p = tm_put_lit(p, "\",\"dollar_volume\":");
    p = tm_put_i64(p, live->dollar_volume / DOLLAR);
    p = tm_put_lit(p, ",\"dollar_open_interest\":");
    p = tm_put_i64(p, live->open_interest * live->last_price / DOLLAR);
    p = tm_put_lit(p, ",\"yes_bid_size_fp\":\"");
    p = tm_put_hundredths(p, tm_book_best_size(&live->book, TM_YES));
    p = tm_put_lit(p, "\",\"yes_ask_size_fp\":\"");
    p = tm_put_hundredths(p, tm_book_best_size(&live->book, TM_NO));
    p = tm_put_lit(p, "\",\"last_trade_size_fp\":\"");
    p = tm_put_hundredths(p, live->last_size);
    *p++ = '"';
    return p;
}

void tm_body_ticker(struct tm_body *b, struct tm_event *e, const struct tm_live *live)
{
    char *p = tm_body_begin(b);
    *p++ = '{';
    p = put_market_id(b, p, e->market);
    *p++ = ',';
    p = tm_body_put_market(b, p, e->market);
    p = put_quotes(b, p, live);
    p = tm_put_lit(p, ",\"ts\":");
    p = tm_put_i64(p, e->ts_us / 1000000);
    p = tm_put_lit(p, ",\"ts_ms\":");
    p = tm_put_i64(p, e->ts_us / 1000);
    p = tm_put_lit(p, ",\"time\":\"");
    p = tm_put_rfc3339(p, e->ts_us);
    p = tm_put_lit(p, "\"}");
    tm_body_end(b, e, p);
}

char *tm_body_put_structure(const struct tm_body *b, char *p, uint8_t number)
{
    const struct tm_structure *s = tm_structure_get(number);
    p = tm_put_lit(p, "\"price_level_structure\":\"");
    p = tm_put_str(p, s->name);
    p = tm_put_lit(p, "\",\"price_ranges\":[");
    for (uint8_t i = 0; i < s->bands; i++) {
        p = i ? tm_put_lit(p, ",{\"start\":\"") : tm_put_lit(p, "{\"start\":\"");
        p = put_price(b, p, s->band[i].start);
        p = tm_put_lit(p, "\",\"end\":\"");
        p = put_price(b, p, s->band[i].end);
        p = tm_put_lit(p, "\",\"step\":\"");
        p = put_price(b, p, s->band[i].step);
        p = tm_put_lit(p, "\"}");
    }
    *p++ = ']';
    return p;
}

char *tm_body_put_levels(const struct tm_body *b, char *p, const struct tm_book *book, enum tm_side side,
                         uint32_t depth, bool mirror)
{
    uint32_t count = book->levels[side], first = depth && depth < count ? count - depth : 0;
    *p++ = '[';
    for (uint32_t i = first; i < count; i++) {
        const struct tm_level *level = &book->side[side][mirror ? count - 1 - (i - first) : i];
        p = i > first ? tm_put_lit(p, ",[\"") : tm_put_lit(p, "[\"");
        p = put_price(b, p, mirror ? TM_PRICE_ONE - level->price : level->price);
        p = tm_put_lit(p, "\",\"");
        p = tm_put_hundredths(p, level->size);
        p = tm_put_lit(p, "\"]");
    }
    *p++ = ']';
    return p;
}

char *tm_body_put_snapshot(const struct tm_body *b, char *p, uint32_t market, const struct tm_book *book, bool yes_leg)
{
    *p++ = '{';
    p = tm_body_put_market(b, p, market);
    *p++ = ',';
    p = put_market_id(b, p, market);
    if (book->levels[TM_YES]) {
        p = tm_put_lit(p, ",\"yes_dollars_fp\":");
        p = tm_body_put_levels(b, p, book, TM_YES, 0, false);
    }
    if (book->levels[TM_NO]) {
        p = tm_put_lit(p, ",\"no_dollars_fp\":");
        p = tm_body_put_levels(b, p, book, TM_NO, 0, yes_leg);
    }
    *p++ = '}';
    return p;
}
