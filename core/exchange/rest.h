/*
 * The REST side, base path /trade-api/v2: markets, events, series, order books, trades, exchange status. Lists go from
 * the newest to the oldest and are paged by key, so inserts at the head move nothing. Garbage cursors mean page 1.
 * Loop's thread.
 */
#ifndef TM_EXCHANGE_REST_H
#define TM_EXCHANGE_REST_H

#include "exchange/auth.h"
#include "exchange/faults.h"

#define TM_BUCKETS_MAX 64
#define TM_CACHE_MAX 256
#define TM_REST_BASE "/trade-api/v2"

/* A token bucket, one for each access key (and one for all without). */
struct tm_bucket {
    char key[80];
    double tokens;
    int64_t at_us;
};

struct tm_cached {
    char path[64], query[256];
    int64_t at_us;
    struct tm_buf body;
};

struct tm_rest {
    const struct tm_options *opt;
    const struct tm_auth *auth;
    struct tm_feed *feed;
    struct tm_faults *faults;
    struct tm_bucket buckets[TM_BUCKETS_MAX];
    struct tm_cached cache[TM_CACHE_MAX];
    uint32_t cached;
    uint64_t requests, refused;
    int64_t now_us; /* wall time of the request at hand */
};

void tm_rest_init(struct tm_rest *rest, const struct tm_auth *auth, struct tm_feed *feed, struct tm_faults *faults);
void tm_rest_fini(struct tm_rest *rest);
void tm_rest_handle(struct tm_rest *rest, const struct tm_request *r, int64_t now_us, struct tm_reply *reply);

/* The rest of the room's REST files; each answers one family of paths, `tail` being what follows in the path. */
void tm_rest_markets(struct tm_rest *rest, const struct tm_request *r, struct tm_reply *reply, bool historical);
void tm_rest_market(struct tm_rest *rest, struct tm_slice ticker, struct tm_reply *reply, bool historical);
void tm_rest_orderbook(struct tm_rest *rest, const struct tm_request *r, struct tm_slice ticker,
                       struct tm_reply *reply);
void tm_rest_orderbooks(struct tm_rest *rest, const struct tm_request *r, struct tm_reply *reply);
void tm_rest_trades(struct tm_rest *rest, const struct tm_request *r, struct tm_reply *reply, bool historical);
void tm_rest_events(struct tm_rest *rest, const struct tm_request *r, struct tm_reply *reply);
void tm_rest_event(struct tm_rest *rest, const struct tm_request *r, struct tm_slice ticker, struct tm_reply *reply);
void tm_rest_series_list(struct tm_rest *rest, struct tm_reply *reply);
void tm_rest_series(struct tm_rest *rest, struct tm_slice ticker, struct tm_reply *reply);

/* Shared by them (rest_param.c) */
#define TM_TS_NONE INT64_MIN
bool tm_rest_limit(const struct tm_request *r, const char *what, int64_t low, int64_t high, int64_t *limit,
                   struct tm_reply *reply);
bool tm_rest_seconds(const struct tm_request *r, const char *name, int64_t *us, struct tm_reply *reply);
bool tm_rest_cursor_read(const struct tm_request *r, uint8_t *bytes, size_t *len, size_t size);
void tm_rest_cursor_put(struct tm_reply *reply, const uint8_t *bytes, size_t len);
uint8_t *tm_varint_put(uint8_t *p, uint64_t v);
bool tm_varint_read(const uint8_t **p, const uint8_t *end, uint64_t *v);
void tm_rest_not_found(struct tm_reply *reply);
void tm_rest_append(struct tm_reply *reply, const char *text);

/* Markets (rest_market.c) */
bool tm_rest_visible(struct tm_rest *rest, uint32_t market, bool historical);
const char *tm_rest_status_group(const struct tm_market *m); /* unopened, open, paused, closed, settled */
void tm_rest_put_market(struct tm_rest *rest, struct tm_reply *reply, uint32_t market);

#endif
