/* /events and /series. */
#include "exchange/rest.h"
#include "exchange/text.h"

#include <stdio.h>

#define EVENT_MAX 1024
#define SERIES_MAX 256
#define SERIES_SCAN 65536 /* markets looked through for series; they repeat long before */

static void put_event(struct tm_rest *rest, struct tm_reply *reply, uint32_t leader)
{
    const struct tm_markets *all = rest->feed->markets;
    TM_FATAL_UNLESS(tm_buf_reserve(&reply->body, EVENT_MAX) == TM_OK);
    char *start = (char *)reply->body.data + reply->body.len, *p = tm_put_lit(start, "{\"event_ticker\":\"");
    p = tm_market_put_event(all, p, leader);
    p = tm_put_lit(p, "\",\"series_ticker\":\"");
    p = tm_market_put_series(all, p, leader);
    p = tm_put_lit(p, "\",\"title\":\"Simulated event ");
    p = tm_put_u64(p, leader / TM_MARKETS_PER_EVENT);
    p = tm_put_lit(p,
                   "\",\"sub_title\":\"\",\"collateral_return_type\":\"MECNET\",\"mutually_exclusive\":true,"
                   "\"category\":\"Simulation\",\"available_on_brokers\":true,\"exchange_index\":0,\"strike_date\":\"");
    p = tm_put_rfc3339(p, tm_market_close_us(all, leader));
    *p++ = '"';
    reply->body.len += (size_t)(p - start);
}

static void put_markets(struct tm_rest *rest, struct tm_reply *reply, uint32_t leader)
{
    const char *comma = "";
    tm_rest_append(reply, "\"markets\":[");
    for (uint32_t i = leader; i < tm_event_end(rest->feed->markets, leader); i++) {
        if (!tm_market_in_event(rest->feed->markets, i, leader) || !tm_rest_visible(rest, i, false))
            continue;
        tm_rest_append(reply, comma);
        tm_rest_put_market(rest, reply, i);
        comma = ",";
    }
    tm_rest_append(reply, "]");
}

struct filter {
    char series[TM_TICKER_MAX], status[64];
    int64_t min_close;
};

/* An event passes if one of its markets does. */
static bool passes(struct tm_rest *rest, const struct filter *f, uint32_t leader)
{
    struct tm_markets *all = rest->feed->markets;
    struct tm_slice statuses = {f->status, strlen(f->status)};
    char series[TM_TICKER_MAX];
    struct tm_slice name = {series, (size_t)(tm_market_put_series(all, series, leader) - series)};
    if (tm_market_is_combo(all, leader) || (f->series[0] && !tm_json_is(name, f->series)))
        return false;
    for (uint32_t i = leader; i < tm_event_end(all, leader); i++)
        if (tm_market_in_event(all, i, leader) && tm_rest_visible(rest, i, false) &&
            (!f->status[0] || tm_http_has_word(statuses, tm_rest_status_group(tm_market_get(all, i)))) &&
            (f->min_close == TM_TS_NONE || tm_market_close_us(all, i) >= f->min_close))
            return true;
    return false;
}

/* Cursor: the number of the last event's first market. */
static uint32_t read_start(const struct tm_rest *rest, const struct tm_request *r)
{
    uint8_t bytes[32];
    const uint8_t *p = bytes + 1;
    size_t len;
    uint64_t leader;
    uint32_t count = tm_markets_count(rest->feed->markets);
    if (!tm_rest_cursor_read(r, bytes, &len, sizeof bytes) || bytes[0] != 0x18 ||
        !tm_varint_read(&p, bytes + len, &leader) || leader >= count)
        return count;
    return (uint32_t)leader;
}

static void put_cursor(struct tm_reply *reply, uint32_t leader)
{
    uint8_t bytes[16] = {0x18};
    uint8_t *end = tm_varint_put(bytes + 1, leader);
    tm_rest_cursor_put(reply, bytes, (size_t)(end - bytes));
}

static bool wants_markets(const struct tm_request *r)
{
    char text[8];
    return tm_query_get(r->query, "with_nested_markets", text, sizeof text) && strcmp(text, "true") == 0;
}

void tm_rest_events(struct tm_rest *rest, const struct tm_request *r, struct tm_reply *reply)
{
    struct filter f = {0};
    int64_t limit = 200, count = 0;
    uint32_t last = 0;
    tm_query_get(r->query, "series_ticker", f.series, sizeof f.series);
    tm_query_get(r->query, "status", f.status, sizeof f.status);
    if (!tm_rest_limit(r, "GetEvents", 1, 200, &limit, reply) ||
        !tm_rest_seconds(r, "min_close_ts", &f.min_close, reply))
        return;
    reply->status = 200;
    tm_rest_append(reply, "{\"milestones\":[],\"events\":[");
    for (uint32_t at = read_start(rest, r); at-- > 0;) {
        if (!tm_market_leads_event(rest->feed->markets, at) || !passes(rest, &f, at))
            continue;
        if (count++ == limit) {
            put_cursor(reply, last);
            return;
        }
        tm_rest_append(reply, count > 1 ? "," : "");
        put_event(rest, reply, at);
        tm_rest_append(reply, wants_markets(r) ? "," : "");
        if (wants_markets(r))
            put_markets(rest, reply, at);
        tm_rest_append(reply, "}");
        last = at;
    }
    tm_rest_cursor_put(reply, NULL, 0);
}

void tm_rest_event(struct tm_rest *rest, const struct tm_request *r, struct tm_slice ticker, struct tm_reply *reply)
{
    bool nested = wants_markets(r);
    uint32_t leader = tm_event_find(rest->feed->markets, ticker);
    if (leader == TM_MARKET_NONE) {
        tm_rest_not_found(reply);
        return;
    }
    reply->status = 200;
    tm_rest_append(reply, "{\"event\":");
    put_event(rest, reply, leader);
    tm_rest_append(reply, nested ? "," : "},");
    put_markets(rest, reply, leader);
    tm_rest_append(reply, nested ? "}}" : "}");
}

static void put_series(struct tm_reply *reply, struct tm_slice ticker)
{
    tm_rest_append(reply, "{\"ticker\":");
    TM_FATAL_UNLESS(tm_json_quote(&reply->body, ticker.at, ticker.len) == TM_OK);
    tm_rest_append(reply, ",\"frequency\":\"custom\",\"title\":");
    TM_FATAL_UNLESS(tm_json_quote(&reply->body, ticker.at, ticker.len) == TM_OK);
    tm_rest_append(reply, ",\"category\":\"Simulation\",\"tags\":[],\"settlement_sources\":[],\"contract_url\":\"\","
                          "\"fee_type\":\"quadratic\",\"fee_multiplier\":1,\"additional_prohibitions\":[]}");
}

/* The distinct series of the first markets, in `names`; how many. */
static uint32_t collect(const struct tm_markets *all, char (*names)[TM_TICKER_MAX])
{
    uint32_t count = 0, markets = tm_markets_count(all);
    for (uint32_t i = 0; i < markets && i < SERIES_SCAN && count < SERIES_MAX; i++) {
        char *name = names[count];
        *tm_market_put_series(all, name, i) = '\0';
        uint32_t known = 0;
        while (known < count && strcmp(names[known], name) != 0)
            known++;
        count += known == count;
    }
    return count;
}

void tm_rest_series_list(struct tm_rest *rest, struct tm_reply *reply)
{
    static char names[SERIES_MAX][TM_TICKER_MAX];
    uint32_t count = collect(rest->feed->markets, names);
    reply->status = 200;
    tm_rest_append(reply, "{\"series\":[");
    for (uint32_t i = 0; i < count; i++) {
        tm_rest_append(reply, i ? "," : "");
        put_series(reply, (struct tm_slice){names[i], strlen(names[i])});
    }
    tm_rest_append(reply, "]}");
}

void tm_rest_series(struct tm_rest *rest, struct tm_slice ticker, struct tm_reply *reply)
{
    static char names[SERIES_MAX][TM_TICKER_MAX];
    uint32_t count = collect(rest->feed->markets, names), i = 0;
    while (i < count && !tm_json_is(ticker, names[i]))
        i++;
    if (i == count) {
        tm_rest_not_found(reply);
        return;
    }
    reply->status = 200;
    tm_rest_append(reply, "{\"series\":");
    put_series(reply, ticker);
    tm_rest_append(reply, "}");
}
