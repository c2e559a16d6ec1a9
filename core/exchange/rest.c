#include "exchange/rest.h"
#include "exchange/text.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

#define REQUEST_COST 10.0

void tm_rest_init(struct tm_rest *rest, const struct tm_auth *auth, struct tm_feed *feed, struct tm_faults *faults)
{
    *rest = (struct tm_rest){.opt = feed->opt, .auth = auth, .feed = feed, .faults = faults};
}

void tm_rest_fini(struct tm_rest *rest)
{
    for (uint32_t i = 0; i < rest->cached; i++)
        tm_buf_fini(&rest->cache[i].body);
}

/* The key's bucket; when all are taken, the one that was used longest ago starts anew. */
static struct tm_bucket *find_bucket(struct tm_rest *rest, struct tm_slice key)
{
    struct tm_bucket *oldest = &rest->buckets[0];
    for (size_t i = 0; i < TM_BUCKETS_MAX; i++) {
        struct tm_bucket *b = &rest->buckets[i];
        if (b->at_us && tm_json_is(key, b->key))
            return b;
        if (b->at_us < oldest->at_us)
            oldest = b;
    }
    *oldest = (struct tm_bucket){.tokens = rest->opt->rest_tokens * rest->opt->rest_burst, .at_us = rest->now_us};
    (void)snprintf(oldest->key, sizeof oldest->key, "%.*s", (int)key.len, key.at);
    return oldest;
}

static bool take_tokens(struct tm_rest *rest, const struct tm_request *r)
{
    if (rest->opt->rest_tokens <= 0)
        return true;
    struct tm_bucket *b = find_bucket(rest, tm_http_header(r, "KALSHI-ACCESS-KEY"));
    double refill = (double)(rest->now_us - b->at_us) * rest->opt->rest_tokens / 1e6;
    b->tokens = fmin(b->tokens + fmax(refill, 0), fmax(rest->opt->rest_tokens * rest->opt->rest_burst, REQUEST_COST));
    b->at_us = rest->now_us;
    if (b->tokens < REQUEST_COST)
        return false;
    b->tokens -= REQUEST_COST;
    return true;
}

static void put_status(struct tm_rest *rest, struct tm_reply *reply)
{
    bool whole;
    int64_t until_us;
    const char *trading = tm_faults_pause(rest->faults, &whole, &until_us) ? "false" : "true";
    const char *exchange = whole ? "false" : "true";
    char resume[TM_NUMBER_MAX] = "null", *p = resume;
    if (until_us) {
        *p++ = '"';
        p = tm_put_rfc3339(p, until_us);
        *p++ = '"';
        *p = '\0';
    }
    reply->extra = "Cache-Control: public, max-age=1\r\n";
    tm_reply_printf(reply, 200,
                    "{\"exchange_active\":%s,\"trading_active\":%s,\"exchange_estimated_resume_time\":%s,"
                    "\"intra_exchange_transfers_active\":true,\"exchange_index_statuses\":[{\"exchange_index\":0,"
                    "\"description\":\"Default\",\"exchange_active\":%s,\"trading_active\":%s,"
                    "\"intra_exchange_transfers_active\":true}]}",
                    exchange, trading, resume, exchange, trading);
}

/* All day, every day, with the gap of Thursday 03:00 to 05:00 Eastern Time. */
static void put_schedule(struct tm_reply *reply)
{
    static const char *const days[] = {"monday", "tuesday", "wednesday", "friday", "saturday", "sunday"};
    tm_rest_append(reply, "{\"schedule\":{\"standard_hours\":[{\"start_time\":\"2025-01-01T00:00:00Z\","
                          "\"end_time\":\"2099-01-01T00:00:00Z\"");
    for (size_t i = 0; i < sizeof days / sizeof days[0]; i++) {
        tm_rest_append(reply, ",\"");
        tm_rest_append(reply, days[i]);
        tm_rest_append(reply, "\":[{\"open_time\":\"00:00\",\"close_time\":\"00:00\"}]");
    }
    tm_rest_append(reply, ",\"thursday\":[{\"open_time\":\"00:00\",\"close_time\":\"03:00\"},{\"open_time\":\"05:00\","
                          "\"close_time\":\"00:00\"}]}],\"maintenance_windows\":[]}}");
    reply->status = 200;
}

static void put_cutoff(struct tm_rest *rest, struct tm_reply *reply)
{
    char at[TM_NUMBER_MAX];
    *tm_put_rfc3339(at, rest->now_us - rest->opt->historical_us) = '\0';
    reply->extra = "Cache-Control: public, max-age=1\r\n";
    tm_reply_printf(reply, 200,
                    "{\"market_settled_ts\":\"%s\",\"trades_created_ts\":\"%s\",\"orders_updated_ts\":\"%s\","
                    "\"market_positions_last_updated_ts\":\"%s\"}",
                    at, at, at, at);
}

static void put_limits(struct tm_rest *rest, struct tm_reply *reply)
{
    double rate = rest->opt->rest_tokens > 0 ? rest->opt->rest_tokens : 200;
    tm_reply_printf(reply, 200,
                    "{\"usage_tier\":\"basic\",\"read\":{\"refill_rate\":%.0f,\"bucket_capacity\":%.0f},"
                    "\"write\":{\"refill_rate\":100,\"bucket_capacity\":200},\"grants\":[]}",
                    rate, rate * rest->opt->rest_burst);
}

/* The part of `path` after `prefix` (and before `suffix`), if it has these; a name, so without a slash. */
static bool between(struct tm_slice path, const char *prefix, const char *suffix, struct tm_slice *name)
{
    size_t head = strlen(prefix), tail = strlen(suffix);
    if (path.len <= head + tail || memcmp(path.at, prefix, head) != 0 ||
        memcmp(path.at + path.len - tail, suffix, tail) != 0)
        return false;
    *name = (struct tm_slice){path.at + head, path.len - head - tail};
    return !memchr(name->at, '/', name->len);
}

static void route_account(struct tm_rest *rest, const struct tm_request *r, struct tm_slice path,
                          struct tm_reply *reply)
{
    if (!tm_auth_check(rest->auth, r, rest->now_us, reply))
        return;
    if (tm_json_is(path, "/account/limits"))
        put_limits(rest, reply);
    else if (tm_json_is(path, "/account/endpoint_costs"))
        tm_reply_printf(reply, 200, "{\"default_cost\":10,\"endpoint_costs\":[]}");
}

static void route_names(struct tm_rest *rest, const struct tm_request *r, struct tm_slice path, struct tm_reply *reply)
{
    struct tm_slice name;
    if (between(path, "/markets/", "/orderbook", &name))
        tm_rest_orderbook(rest, r, name, reply);
    else if (between(path, "/markets/", "", &name))
        tm_rest_market(rest, name, reply, false);
    else if (between(path, "/historical/markets/", "", &name))
        tm_rest_market(rest, name, reply, true);
    else if (between(path, "/events/", "", &name))
        tm_rest_event(rest, r, name, reply);
    else if (between(path, "/series/", "", &name))
        tm_rest_series(rest, name, reply);
    else if (between(path, "/account/", "", &name))
        route_account(rest, r, path, reply);
}

static void route(struct tm_rest *rest, const struct tm_request *r, struct tm_slice path, struct tm_reply *reply)
{
    if (tm_json_is(path, "/exchange/status"))
        put_status(rest, reply);
    else if (tm_json_is(path, "/exchange/schedule"))
        put_schedule(reply);
    else if (tm_json_is(path, "/markets"))
        tm_rest_markets(rest, r, reply, false);
    else if (tm_json_is(path, "/historical/markets"))
        tm_rest_markets(rest, r, reply, true);
    else if (tm_json_is(path, "/markets/orderbooks"))
        tm_rest_orderbooks(rest, r, reply);
    else if (tm_json_is(path, "/markets/trades"))
        tm_rest_trades(rest, r, reply, false);
    else if (tm_json_is(path, "/historical/trades"))
        tm_rest_trades(rest, r, reply, true);
    else if (tm_json_is(path, "/historical/cutoff"))
        put_cutoff(rest, reply);
    else if (tm_json_is(path, "/events"))
        tm_rest_events(rest, r, reply);
    else if (tm_json_is(path, "/series"))
        tm_rest_series_list(rest, reply);
    else
        route_names(rest, r, path, reply);
}

static bool cacheable(struct tm_slice path)
{
    return tm_json_is(path, "/markets") || (path.len >= 7 && memcmp(path.at, "/series", 7) == 0);
}

/* The place of a cached answer, or of the oldest, to be overwritten. */
static struct tm_cached *find_cached(struct tm_rest *rest, struct tm_slice path, struct tm_slice query)
{
    struct tm_cached *oldest = &rest->cache[0];
    for (uint32_t i = 0; i < rest->cached; i++) {
        if (tm_json_is(path, rest->cache[i].path) && tm_json_is(query, rest->cache[i].query))
            return &rest->cache[i];
        if (rest->cache[i].at_us < oldest->at_us)
            oldest = &rest->cache[i];
    }
    struct tm_cached *c = rest->cached < TM_CACHE_MAX ? &rest->cache[rest->cached++] : oldest;
    c->at_us = 0;
    (void)snprintf(c->path, sizeof c->path, "%.*s", (int)path.len, path.at);
    (void)snprintf(c->query, sizeof c->query, "%.*s", (int)query.len, query.at);
    return c;
}

static void route_cached(struct tm_rest *rest, const struct tm_request *r, struct tm_slice path, struct tm_reply *reply)
{
    bool fits = path.len < sizeof rest->cache[0].path && r->query.len < sizeof rest->cache[0].query;
    if (!rest->opt->cache_us || !fits) {
        route(rest, r, path, reply);
        return;
    }
    struct tm_cached *c = find_cached(rest, path, r->query);
    if (c->at_us && rest->now_us - c->at_us < rest->opt->cache_us) {
        reply->status = 200;
        TM_FATAL_UNLESS(tm_buf_append(&reply->body, c->body.data, c->body.len) == TM_OK);
        return;
    }
    route(rest, r, path, reply);
    c->at_us = reply->status == 200 ? rest->now_us : 0;
    tm_buf_clear(&c->body);
    TM_FATAL_UNLESS(tm_buf_append(&c->body, reply->body.data, reply->body.len) == TM_OK);
}

static bool allowed_method(struct tm_slice method)
{
    return tm_json_is(method, "GET") || tm_json_is(method, "HEAD");
}

/* Market data needs no signature, but a wrong one is refused. */
static bool signature_passes(struct tm_rest *rest, const struct tm_request *r, struct tm_reply *reply)
{
    return !tm_http_header(r, "KALSHI-ACCESS-SIGNATURE").len || tm_auth_check(rest->auth, r, rest->now_us, reply);
}

void tm_rest_handle(struct tm_rest *rest, const struct tm_request *r, int64_t now_us, struct tm_reply *reply)
{
    struct tm_slice path = {r->path.at + strlen(TM_REST_BASE), r->path.len - strlen(TM_REST_BASE)};
    const struct tm_fault *fault = tm_faults_meet(rest->faults, TM_FAULT_REST, NULL, r->path);
    rest->now_us = now_us;
    rest->requests++;
    if (fault) {
        rest->refused++;
        tm_fault_reply(fault, reply);
        return;
    }
    if (!take_tokens(rest, r)) {
        rest->refused++;
        tm_reply_too_many(reply, rest->opt->rest_flat_429);
        return;
    }
    if (!allowed_method(r->method)) {
        tm_reply_printf(reply, 405, "{\"error\":{\"code\":\"method_not_allowed\",\"message\":\"method not allowed\"}}");
        return;
    }
    if (!signature_passes(rest, r, reply))
        return;
    if (cacheable(path)) {
        reply->extra = "Cache-Control: public, max-age=15\r\n";
        route_cached(rest, r, path, reply);
    } else {
        route(rest, r, path, reply);
    }
    if (!reply->status) {
        reply->type = "text/plain";
        tm_reply_printf(reply, 404, "404 page not found\n");
    }
}
