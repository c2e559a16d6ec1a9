/* /markets and the order books. */
#include "exchange/rest.h"
#include "exchange/text.h"

#include <stdio.h>

#define MARKET_MAX 4096 /* bytes of one Market object */
#define LIST_TICKERS_MAX 1000

static int64_t cutoff(const struct tm_rest *rest)
{
    return rest->now_us - rest->opt->historical_us;
}

bool tm_rest_visible(struct tm_rest *rest, uint32_t market, bool historical)
{
    const struct tm_market *m = tm_market_get(rest->feed->markets, market);
    bool archived = m->settled_us && m->settled_us < cutoff(rest);
    return archived == historical && (!m->created_us || (m->visible_us && rest->now_us >= m->visible_us));
}

static const char *status_name(const struct tm_market *m)
{
    static const char *const names[] = {"active", "inactive", "closed", "determined", "finalized"};
    return names[m->status];
}

const char *tm_rest_status_group(const struct tm_market *m)
{
    static const char *const groups[] = {"open", "paused", "closed", "closed", "settled"};
    return groups[m->status];
}

static char *put_key(char *p, const char *key)
{
    *p++ = ',';
    *p++ = '"';
    p = tm_put_str(p, key);
    return tm_put_lit(p, "\":\"");
}

static char *put_text(char *p, const char *key, const char *text)
{
    p = tm_put_str(put_key(p, key), text);
    *p++ = '"';
    return p;
}

static char *put_price(char *p, const char *key, uint32_t price)
{
    p = tm_put_price(put_key(p, key), price, 4);
    *p++ = '"';
    return p;
}

static char *put_count(char *p, const char *key, int64_t hundredths)
{
    p = tm_put_hundredths(put_key(p, key), hundredths);
    *p++ = '"';
    return p;
}

static char *put_time(char *p, const char *key, int64_t us)
{
    p = tm_put_rfc3339(put_key(p, key), us);
    *p++ = '"';
    return p;
}

static char *put_times(struct tm_rest *rest, char *p, uint32_t number)
{
    const struct tm_market *m = tm_market_get(rest->feed->markets, number);
    int64_t created = tm_market_created_us(rest->feed->markets, number);
    int64_t closes = tm_market_close_us(rest->feed->markets, number);
    p = put_time(p, "created_time", created);
    p = put_time(p, "updated_time", m->updated_us ? m->updated_us : created);
    p = put_time(p, "open_time", created);
    p = put_time(p, "close_time", closes);
    p = put_time(p, "expected_expiration_time", closes + INT64_C(3600000000));
    p = put_time(p, "expiration_time", closes + INT64_C(86400000000));
    p = put_time(p, "latest_expiration_time", closes + INT64_C(86400000000));
    return m->settled_us ? put_time(p, "settlement_ts", m->settled_us) : p;
}

static char *put_quotes(char *p, const struct tm_book *book, const struct tm_live *live)
{
    uint32_t yes = tm_book_best(book, TM_YES), no = tm_book_best(book, TM_NO);
    p = put_price(p, "yes_bid_dollars", yes);
    p = put_count(p, "yes_bid_size_fp", tm_book_best_size(book, TM_YES));
    p = put_price(p, "yes_ask_dollars", TM_PRICE_ONE - no);
    p = put_count(p, "yes_ask_size_fp", tm_book_best_size(book, TM_NO));
    p = put_price(p, "no_bid_dollars", no);
    p = put_price(p, "no_ask_dollars", TM_PRICE_ONE - yes);
    p = put_price(p, "last_price_dollars", live ? live->last_price : 0);
    p = put_price(p, "previous_yes_bid_dollars", yes);
    p = put_price(p, "previous_yes_ask_dollars", TM_PRICE_ONE - no);
    p = put_price(p, "previous_price_dollars", live ? live->previous_price : 0);
    p = put_count(p, "volume_fp", live ? live->volume : 0);
    p = put_count(p, "volume_24h_fp", live ? live->volume : 0);
    p = put_count(p, "open_interest_fp", live ? live->open_interest : 0);
    return p;
}

static char *put_result(char *p, const struct tm_market *m)
{
    bool known = m->status >= TM_DETERMINED;
    p = put_text(p, "result", known ? (m->yes_won ? "yes" : "no") : "");
    return known ? put_price(p, "settlement_value_dollars", m->yes_won ? TM_PRICE_ONE : 0) : p;
}

static char *put_names(const struct tm_markets *all, char *p, uint32_t number)
{
    p = tm_put_lit(p, "{\"ticker\":\"");
    p = tm_market_put_ticker(all, p, number);
    p = tm_put_lit(p, "\",\"event_ticker\":\"");
    p = tm_market_put_event(all, p, number);
    p = tm_put_lit(p, "\",\"market_type\":\"binary\",\"title\":\"Above ");
    p = tm_put_u64(p, number);
    return tm_put_lit(p, "?\",\"subtitle\":\"\",\"yes_sub_title\":\"Above\",\"no_sub_title\":\"Not above\"");
}

static char *put_constants(const struct tm_rest *rest, char *p, const struct tm_market *m, uint32_t number)
{
    p = tm_put_lit(p,
                   ",\"settlement_timer_seconds\":60,\"can_close_early\":true,\"liquidity_dollars\":\"0.0000\","
                   "\"notional_value_dollars\":\"1.0000\",\"expiration_value\":\"\",\"rules_primary\":\"Resolves Yes "
                   "if above.\",\"rules_secondary\":\"\",\"strike_type\":\"greater\",\"floor_strike\":");
    p = tm_put_u64(p, number);
    p = tm_put_lit(p, ".5,\"is_provisional\":false,\"exchange_index\":0,");
    p = tm_body_put_structure(&rest->feed->body, p, m->structure);
    *p++ = '}';
    return p;
}

void tm_rest_put_market(struct tm_rest *rest, struct tm_reply *reply, uint32_t number)
{
    static struct tm_book untouched;
    struct tm_markets *all = rest->feed->markets;
    const struct tm_market *m = tm_market_get(all, number);
    TM_FATAL_UNLESS(tm_buf_reserve(&reply->body, MARKET_MAX) == TM_OK);
    char *start = (char *)reply->body.data + reply->body.len, *p = put_names(all, start, number);
    p = put_times(rest, p, number);
    p = put_text(p, "status", status_name(m));
    p = put_result(p, m);
    p = put_quotes(p, tm_market_book(all, number, &untouched), m->live);
    p = put_constants(rest, p, m, number);
    reply->body.len += (size_t)(p - start);
}

/* The list's filters */
struct filter {
    char event[TM_TICKER_MAX], series[TM_TICKER_MAX], status[64], mve[16];
    int64_t created[2], close[2], settled[2], updated[2]; /* min, max */
};

static bool read_range(const struct tm_request *r, const char *what, int64_t range[2], struct tm_reply *reply)
{
    char name[32];
    (void)snprintf(name, sizeof name, "min_%s_ts", what);
    if (!tm_rest_seconds(r, name, &range[0], reply))
        return false;
    (void)snprintf(name, sizeof name, "max_%s_ts", what);
    return tm_rest_seconds(r, name, &range[1], reply);
}

static bool given(const int64_t range[2])
{
    return range[0] != TM_TS_NONE || range[1] != TM_TS_NONE;
}

static bool read_filter(const struct tm_request *r, struct filter *f, struct tm_reply *reply)
{
    *f = (struct filter){0};
    tm_query_get(r->query, "event_ticker", f->event, sizeof f->event);
    tm_query_get(r->query, "series_ticker", f->series, sizeof f->series);
    tm_query_get(r->query, "status", f->status, sizeof f->status);
    tm_query_get(r->query, "mve_filter", f->mve, sizeof f->mve);
    if (!read_range(r, "created", f->created, reply) || !read_range(r, "close", f->close, reply) ||
        !read_range(r, "settled", f->settled, reply) || !read_range(r, "updated", f->updated, reply))
        return false;
    if (given(f->created) + given(f->close) + given(f->settled) + given(f->updated) <= 1)
        return true;
    tm_reply_printf(reply, 400,
                    "{\"error\":{\"code\":\"bad_request\",\"message\":\"timestamp filters are mutually "
                    "exclusive\"}}");
    return false;
}

static bool in_range(const int64_t range[2], int64_t us)
{
    return (range[0] == TM_TS_NONE || us >= range[0]) && (range[1] == TM_TS_NONE || (us && us <= range[1]));
}

static bool has_name(const struct tm_markets *all, uint32_t number, const char *name,
                     char *(*put)(const struct tm_markets *, char *, uint32_t))
{
    char text[TM_TICKER_MAX];
    if (!name[0])
        return true;
    struct tm_slice s = {text, (size_t)(put(all, text, number) - text)};
    return tm_json_is(s, name);
}

static bool passes(struct tm_rest *rest, const struct filter *f, uint32_t number, bool historical)
{
    const struct tm_markets *all = rest->feed->markets;
    const struct tm_market *m = tm_market_get(rest->feed->markets, number);
    struct tm_slice statuses = {f->status, strlen(f->status)};
    bool combo = tm_market_is_combo(all, number);
    if (!tm_rest_visible(rest, number, historical) ||
        (f->status[0] && !tm_http_has_word(statuses, tm_rest_status_group(m))) ||
        (strcmp(f->mve, "only") == 0 && !combo) || (strcmp(f->mve, "exclude") == 0 && combo))
        return false;
    int64_t created = tm_market_created_us(all, number);
    return in_range(f->created, created) && in_range(f->close, tm_market_close_us(all, number)) &&
           in_range(f->settled, m->settled_us) && in_range(f->updated, m->updated_us ? m->updated_us : created) &&
           has_name(all, number, f->event, tm_market_put_event) &&
           has_name(all, number, f->series, tm_market_put_series);
}

/* Cursor: field 1 created_time, field 2 ticker, of the last market on the page. */
static uint32_t read_start(struct tm_rest *rest, const struct tm_request *r)
{
    uint8_t bytes[128];
    const uint8_t *p = bytes;
    size_t len;
    uint64_t created;
    uint32_t count = tm_markets_count(rest->feed->markets);
    if (!tm_rest_cursor_read(r, bytes, &len, sizeof bytes) || *p++ != 0x08 ||
        !tm_varint_read(&p, bytes + len, &created))
        return count;
    if (bytes + len - p < 2 || p[0] != 0x12 || p[1] != bytes + len - p - 2)
        return count;
    uint32_t market = tm_markets_find(rest->feed->markets, (struct tm_slice){(const char *)p + 2, p[1]});
    return market == TM_MARKET_NONE ? count : market;
}

static void put_cursor(struct tm_rest *rest, struct tm_reply *reply, uint32_t last)
{
    uint8_t bytes[128], *p = bytes;
    *p++ = 0x08;
    p = tm_varint_put(p, (uint64_t)tm_market_created_us(rest->feed->markets, last));
    *p++ = 0x12;
    uint8_t *end = (uint8_t *)tm_market_put_ticker(rest->feed->markets, (char *)p + 1, last);
    *p = (uint8_t)(end - p - 1);
    tm_rest_cursor_put(reply, bytes, (size_t)(end - bytes));
}

/* ?tickers=A,B: these and no others, in their order, on one page. */
static void list_named(struct tm_rest *rest, const char *tickers, const struct filter *f, bool historical,
                       struct tm_reply *reply)
{
    const char *comma = "";
    for (const char *at = tickers, *end; *at; at = *end ? end + 1 : end) {
        end = strchrnul(at, ',');
        uint32_t market = tm_markets_find(rest->feed->markets, (struct tm_slice){at, (size_t)(end - at)});
        if (market == TM_MARKET_NONE || !passes(rest, f, market, historical))
            continue;
        tm_rest_append(reply, comma);
        tm_rest_put_market(rest, reply, market);
        comma = ",";
    }
    tm_rest_cursor_put(reply, NULL, 0);
}

void tm_rest_markets(struct tm_rest *rest, const struct tm_request *r, struct tm_reply *reply, bool historical)
{
    struct filter f;
    static char tickers[LIST_TICKERS_MAX * TM_TICKER_MAX];
    int64_t limit = 100, count = 0;
    uint32_t at = read_start(rest, r), last = 0;
    if (!tm_rest_limit(r, "GetMarkets", 0, 1000, &limit, reply) || !read_filter(r, &f, reply))
        return;
    reply->status = 200;
    tm_rest_append(reply, "{\"markets\":[");
    if (tm_query_get(r->query, "tickers", tickers, sizeof tickers) && tickers[0]) {
        list_named(rest, tickers, &f, historical, reply);
        return;
    }
    while (at > 0) {
        if (!passes(rest, &f, --at, historical))
            continue;
        if (count++ == limit) { /* one more than the page holds: there is a next one */
            put_cursor(rest, reply, last);
            return;
        }
        tm_rest_append(reply, count > 1 ? "," : "");
        tm_rest_put_market(rest, reply, at);
        last = at;
    }
    tm_rest_cursor_put(reply, NULL, 0);
}

static uint32_t find_visible(struct tm_rest *rest, struct tm_slice ticker, bool historical)
{
    uint32_t market = tm_markets_find(rest->feed->markets, ticker);
    return market != TM_MARKET_NONE && tm_rest_visible(rest, market, historical) ? market : TM_MARKET_NONE;
}

void tm_rest_market(struct tm_rest *rest, struct tm_slice ticker, struct tm_reply *reply, bool historical)
{
    uint32_t market = find_visible(rest, ticker, historical);
    if (market == TM_MARKET_NONE) {
        tm_rest_not_found(reply);
        return;
    }
    reply->status = 200;
    tm_rest_append(reply, "{\"market\":");
    tm_rest_put_market(rest, reply, market);
    tm_rest_append(reply, "}");
}

static void put_book(struct tm_rest *rest, struct tm_reply *reply, uint32_t market, uint32_t depth)
{
    static struct tm_book untouched;
    const struct tm_book *book = tm_market_book(rest->feed->markets, market, &untouched);
    TM_FATAL_UNLESS(tm_buf_reserve(&reply->body, TM_SNAPSHOT_MAX) == TM_OK);
    char *start = (char *)reply->body.data + reply->body.len;
    char *p = tm_put_lit(start, "\"orderbook_fp\":{\"yes_dollars\":");
    p = tm_body_put_levels(&rest->feed->body, p, book, TM_YES, depth, false);
    p = tm_put_lit(p, ",\"no_dollars\":");
    p = tm_body_put_levels(&rest->feed->body, p, book, TM_NO, depth, false);
    p = tm_put_lit(p, "}}");
    reply->body.len += (size_t)(p - start);
}

void tm_rest_orderbook(struct tm_rest *rest, const struct tm_request *r, struct tm_slice ticker, struct tm_reply *reply)
{
    char text[16] = "0";
    uint32_t market = find_visible(rest, ticker, false);
    tm_query_get(r->query, "depth", text, sizeof text);
    int64_t depth;
    if (!tm_decimal_parse(text, strlen(text), 0, &depth) || depth < 0 || depth > 100) {
        tm_reply_printf(reply, 400, "{\"msg\":\"Invalid format for parameter depth: error binding string parameter\"}");
        return;
    }
    if (market == TM_MARKET_NONE) {
        tm_rest_not_found(reply);
        return;
    }
    reply->status = 200;
    tm_rest_append(reply, "{");
    put_book(rest, reply, market, (uint32_t)depth);
}

/* Repeated parameters; of a comma list only the first is looked at, as on the real exchange. */
void tm_rest_orderbooks(struct tm_rest *rest, const struct tm_request *r, struct tm_reply *reply)
{
    char ticker[TM_TICKER_MAX];
    int count = 0;
    const char *comma = "";
    tm_rest_append(reply, "{\"orderbooks\":[");
    for (size_t at = 0; tm_query_next(r->query, &at, "tickers", ticker, sizeof ticker); count++) {
        uint32_t market = find_visible(rest, (struct tm_slice){ticker, strcspn(ticker, ",")}, false);
        if (market == TM_MARKET_NONE)
            continue;
        tm_rest_append(reply, comma);
        tm_rest_append(reply, "{\"ticker\":");
        TM_FATAL_UNLESS(tm_json_quote(&reply->body, ticker, strcspn(ticker, ",")) == TM_OK);
        tm_rest_append(reply, ",");
        put_book(rest, reply, market, 0);
        comma = ",";
    }
    if (count < 1 || count > 100) {
        tm_reply_printf(reply, 400,
                        "{\"msg\":\"Parameter validation failed for GetMarketOrderbooks: tickers: 1 to 100\"}");
        return;
    }
    reply->status = 200;
    tm_rest_append(reply, "]}");
}
