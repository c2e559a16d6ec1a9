/*
 * The streams of DESIGN 3 as definitions in C: what the tests, the fuzz targets and the benchmark of the record room
 * compile. Field names and units are those of kalshi.md 5 and 7.
 */
#ifndef TESTS_RECORD_KALSHI_DEFS_H
#define TESTS_RECORD_KALSHI_DEFS_H

#include "record/plan.h"

#define LENGTH(array) (sizeof(array) / sizeof *(array))
#define HOUR_US (INT64_C(3600) * 1000000)

#define PLAIN(p)                                                                                                       \
    {                                                                                                                  \
        .path = (p)                                                                                                    \
    }
#define PRICE(p)                                                                                                       \
    {                                                                                                                  \
        .path = (p), .unit = TM_UNIT_DECIMAL, .scale = 6                                                               \
    }
#define NO_PRICE(p)                                                                                                    \
    {                                                                                                                  \
        .path = (p), .unit = TM_UNIT_DECIMAL, .scale = 6, .one_minus = true                                            \
    }
#define COUNT(p)                                                                                                       \
    {                                                                                                                  \
        .path = (p), .unit = TM_UNIT_DECIMAL, .scale = 2                                                               \
    }
#define RFC3339(p)                                                                                                     \
    {                                                                                                                  \
        .path = (p), .unit = TM_UNIT_RFC3339                                                                           \
    }
#define MILLIS(p)                                                                                                      \
    {                                                                                                                  \
        .path = (p), .unit = TM_UNIT_MILLIS                                                                            \
    }
#define SECONDS(p)                                                                                                     \
    {                                                                                                                  \
        .path = (p), .unit = TM_UNIT_SECONDS                                                                           \
    }

#define FROM(c, ...)                                                                                                   \
    {                                                                                                                  \
        .column = (c), .paths = {__VA_ARGS__}, .path_count = LENGTH(((struct tm_path_def[]){__VA_ARGS__}))             \
    }
#define RECEIVED_AT                                                                                                    \
    {                                                                                                                  \
        .column = "received_at", .from = TM_FROM_RECEIVED_AT                                                           \
    }
#define CONSTANT(c, t)                                                                                                 \
    {                                                                                                                  \
        .column = (c), .from = TM_FROM_CONST, .text = (t)                                                              \
    }

static const char *const yes_no[] = {"yes", "no", NULL};
static const char *const ws_rest[] = {"ws", "rest", NULL};
static const struct tm_range dollar = {0, 1000000};
static const struct tm_range amount = {0, INT64_MAX};

/* ---- trades ---- */

static const struct tm_column_def trade_columns[] = {
    {.name = "trade_id", .type = TM_TYPE_UUID, .not_null = true},
    {.name = "exchange_ts", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "ticker", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "price", .type = TM_TYPE_INT4, .not_null = true, .scale = 6, .range = &dollar},
    {.name = "count", .type = TM_TYPE_INT8, .not_null = true, .scale = 2, .range = &amount},
    {.name = "taker_side", .type = TM_TYPE_TEXT, .one_of = yes_no},
    {.name = "is_block_trade", .type = TM_TYPE_BOOL},
};
static const char *const trade_key[] = {"trade_id", NULL};
static const struct tm_source_def trade_sources[] = {
    FROM("trade_id", PLAIN("msg.trade_id")),
    FROM("exchange_ts", MILLIS("msg.ts_ms"), SECONDS("msg.ts")),
    RECEIVED_AT,
    FROM("ticker", PLAIN("msg.market_ticker")),
    FROM("price", PRICE("msg.yes_price_dollars")),
    FROM("count", COUNT("msg.count_fp")),
    FROM("taker_side", PLAIN("msg.taker_outcome_side"), PLAIN("msg.taker_side")),
    FROM("is_block_trade", PLAIN("msg.is_block_trade")),
};
static const struct tm_source_def rest_trade_sources[] = {
    FROM("trade_id", PLAIN("trade_id")),
    FROM("exchange_ts", RFC3339("created_time")),
    RECEIVED_AT,
    FROM("ticker", PLAIN("ticker")),
    FROM("price", PRICE("yes_price_dollars")),
    FROM("count", COUNT("count_fp")),
    FROM("taker_side", PLAIN("taker_outcome_side"), PLAIN("taker_side")),
    FROM("is_block_trade", PLAIN("is_block_trade")),
};

/* ---- orderbook_deltas ---- */

static const struct tm_column_def delta_columns[] = {
    {.name = "ticker", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "exchange_ts", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "side", .type = TM_TYPE_TEXT, .not_null = true, .one_of = yes_no},
    {.name = "price", .type = TM_TYPE_INT4, .not_null = true, .scale = 6, .range = &dollar},
    {.name = "delta", .type = TM_TYPE_INT8, .not_null = true, .scale = 2},
    {.name = "occurrence", .type = TM_TYPE_INT2, .not_null = true},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};
static const char *const delta_key[] = {"ticker", "exchange_ts", "side", "price", "delta", NULL};
static const struct tm_source_def delta_sources[] = {
    FROM("ticker", PLAIN("msg.market_ticker")),
    FROM("exchange_ts", RFC3339("msg.ts"), MILLIS("msg.ts_ms")),
    FROM("side", PLAIN("msg.side")),
    FROM("price", PRICE("msg.price_dollars")),
    FROM("delta", COUNT("msg.delta_fp")),
    {.column = "occurrence", .from = TM_FROM_OCCURRENCE},
    RECEIVED_AT,
};

/* ---- orderbook_snapshots ---- */

static const struct tm_column_def snapshot_columns[] = {
    {.name = "ticker", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "snapshot_ts", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "source", .type = TM_TYPE_TEXT, .not_null = true, .one_of = ws_rest},
    {.name = "yes_levels", .type = TM_TYPE_JSONB},
    {.name = "no_levels", .type = TM_TYPE_JSONB},
    {.name = "best_bid", .type = TM_TYPE_INT4, .scale = 6, .range = &dollar},
    {.name = "best_ask", .type = TM_TYPE_INT4, .scale = 6, .range = &dollar},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};
static const struct tm_source_def snapshot_sources[] = {
    FROM("ticker", PLAIN("msg.market_ticker")),
    {.column = "snapshot_ts", .from = TM_FROM_RECEIVED_AT},
    CONSTANT("source", "ws"),
    FROM("yes_levels", PLAIN("msg.yes_dollars_fp")),
    FROM("no_levels", PLAIN("msg.no_dollars_fp")),
    FROM("best_bid", PRICE("msg.yes_dollars_fp[-1][0]")),
    FROM("best_ask", NO_PRICE("msg.no_dollars_fp[-1][0]")),
    RECEIVED_AT,
};
static const struct tm_source_def rest_snapshot_sources[] = {
    FROM("ticker", PLAIN("ticker")),
    {.column = "snapshot_ts", .from = TM_FROM_RECEIVED_AT},
    CONSTANT("source", "rest"),
    FROM("yes_levels", PLAIN("orderbook_fp.yes_dollars")),
    FROM("no_levels", PLAIN("orderbook_fp.no_dollars")),
    FROM("best_bid", PRICE("orderbook_fp.yes_dollars[-1][0]")),
    FROM("best_ask", NO_PRICE("orderbook_fp.no_dollars[-1][0]")),
    RECEIVED_AT,
};

/* ---- tickers ---- */

static const struct tm_column_def ticker_columns[] = {
    {.name = "ticker", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "exchange_ts", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "price", .type = TM_TYPE_INT4, .scale = 6, .range = &dollar},
    {.name = "yes_bid", .type = TM_TYPE_INT4, .scale = 6, .range = &dollar},
    {.name = "yes_ask", .type = TM_TYPE_INT4, .scale = 6, .range = &dollar},
    {.name = "volume", .type = TM_TYPE_INT8, .scale = 2, .range = &amount},
    {.name = "open_interest", .type = TM_TYPE_INT8, .scale = 2, .range = &amount},
    {.name = "dollar_volume", .type = TM_TYPE_INT8},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};
static const char *const ticker_key[] = {"ticker",  "exchange_ts", "price",         "yes_bid",
                                         "yes_ask", "volume",      "open_interest", NULL};
static const struct tm_source_def ticker_sources[] = {
    FROM("ticker", PLAIN("msg.market_ticker")),
    FROM("exchange_ts", RFC3339("msg.time"), MILLIS("msg.ts_ms"), SECONDS("msg.ts")),
    FROM("price", PRICE("msg.price_dollars")),
    FROM("yes_bid", PRICE("msg.yes_bid_dollars")),
    FROM("yes_ask", PRICE("msg.yes_ask_dollars")),
    FROM("volume", COUNT("msg.volume_fp")),
    FROM("open_interest", COUNT("msg.open_interest_fp")),
    FROM("dollar_volume", PLAIN("msg.dollar_volume")),
    RECEIVED_AT,
};

/* ---- lifecycle: the exchange gives no time, so equal content within a minute is one record ---- */

static const struct tm_column_def lifecycle_columns[] = {
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
    {.name = "kind", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "event_type", .type = TM_TYPE_TEXT},
    {.name = "ticker", .type = TM_TYPE_TEXT},
    {.name = "event_ticker", .type = TM_TYPE_TEXT},
    {.name = "open_ts", .type = TM_TYPE_TIMESTAMPTZ},
    {.name = "close_ts", .type = TM_TYPE_TIMESTAMPTZ},
    {.name = "determination_ts", .type = TM_TYPE_TIMESTAMPTZ},
    {.name = "settled_ts", .type = TM_TYPE_TIMESTAMPTZ},
    {.name = "result", .type = TM_TYPE_TEXT},
    {.name = "settlement_value", .type = TM_TYPE_INT4, .scale = 6},
    {.name = "floor_strike", .type = TM_TYPE_FLOAT8},
    {.name = "content", .type = TM_TYPE_JSONB, .not_null = true},
};
static const char *const lifecycle_key[] = {"kind", "ticker", "content", NULL};
#define LIFECYCLE_SOURCES(...)                                                                                         \
    {                                                                                                                  \
        RECEIVED_AT, {.column = "kind", .from = TM_FROM_TAG}, FROM("content", PLAIN("msg")), __VA_ARGS__               \
    }
static const struct tm_source_def lifecycle_sources[] = LIFECYCLE_SOURCES(
    FROM("event_type", PLAIN("msg.event_type")), FROM("ticker", PLAIN("msg.market_ticker")),
    FROM("event_ticker", PLAIN("msg.additional_metadata.event_ticker")), FROM("open_ts", SECONDS("msg.open_ts")),
    FROM("close_ts", SECONDS("msg.close_ts")), FROM("determination_ts", SECONDS("msg.determination_ts")),
    FROM("settled_ts", SECONDS("msg.settled_ts")), FROM("result", PLAIN("msg.result")),
    FROM("settlement_value", PRICE("msg.settlement_value")),
    FROM("floor_strike", PLAIN("msg.floor_strike"), PLAIN("msg.additional_metadata.floor_strike")));
static const struct tm_source_def event_sources[] = LIFECYCLE_SOURCES(FROM("event_ticker", PLAIN("msg.event_ticker")));

/* ---- markets, a reference table ---- */

static const struct tm_column_def market_columns[] = {
    {.name = "ticker", .type = TM_TYPE_TEXT, .not_null = true},
    {.name = "event_ticker", .type = TM_TYPE_TEXT},
    {.name = "status", .type = TM_TYPE_TEXT},
    {.name = "close_time", .type = TM_TYPE_TIMESTAMPTZ},
    {.name = "content", .type = TM_TYPE_JSONB},
    {.name = "received_at", .type = TM_TYPE_TIMESTAMPTZ, .not_null = true},
};
static const char *const market_key[] = {"ticker", NULL};
static const struct tm_source_def market_sources[] = {
    FROM("ticker", PLAIN("ticker")),
    FROM("event_ticker", PLAIN("event_ticker")),
    FROM("status", PLAIN("status")),
    FROM("close_time", RFC3339("close_time")),
    {.column = "content", .from = TM_FROM_RAW},
    RECEIVED_AT,
};

/* ---- the plan ---- */

#define COLUMNS(c) .columns = (c), .column_count = LENGTH(c)
#define SOURCES(s) .sources = (s), .source_count = LENGTH(s)

enum { STREAM_TRADES, STREAM_DELTAS, STREAM_SNAPSHOTS, STREAM_TICKERS, STREAM_LIFECYCLE, STREAM_MARKETS };

static const struct tm_stream_def kalshi_streams[] = {
    [STREAM_TRADES] = {.name = "trades",
                       COLUMNS(trade_columns),
                       .key = trade_key,
                       .partition = TM_PARTITION_HASH,
                       .ticker_column = "ticker",
                       .time_column = "exchange_ts",
                       .window_us = 48 * HOUR_US},
    [STREAM_DELTAS] = {.name = "orderbook_deltas",
                       COLUMNS(delta_columns),
                       .key = delta_key,
                       .occurrence = true,
                       .partition = TM_PARTITION_DAY,
                       .partition_column = "exchange_ts",
                       .ticker_column = "ticker",
                       .time_column = "exchange_ts",
                       .window_us = 24 * HOUR_US},
    [STREAM_SNAPSHOTS] = {.name = "orderbook_snapshots",
                          COLUMNS(snapshot_columns),
                          .observer = true,
                          .partition = TM_PARTITION_DAY,
                          .partition_column = "snapshot_ts",
                          .ticker_column = "ticker"},
    [STREAM_TICKERS] = {.name = "tickers",
                        COLUMNS(ticker_columns),
                        .key = ticker_key,
                        .partition = TM_PARTITION_DAY,
                        .partition_column = "exchange_ts",
                        .ticker_column = "ticker",
                        .time_column = "exchange_ts",
                        .window_us = 24 * HOUR_US},
    [STREAM_LIFECYCLE] = {.name = "lifecycle",
                          COLUMNS(lifecycle_columns),
                          .key = lifecycle_key,
                          .within_us = 60 * INT64_C(1000000),
                          .ticker_column = "ticker",
                          .window_us = HOUR_US},
    [STREAM_MARKETS] = {.name = "markets",
                        .mode = TM_STREAM_UPSERT,
                        COLUMNS(market_columns),
                        .key = market_key,
                        .ticker_column = "ticker"},
};

static const struct tm_kind_def kalshi_kinds[] = {
    {.tag = "orderbook_delta", .stream = "orderbook_deltas", SOURCES(delta_sources)},
    {.tag = "orderbook_snapshot", .stream = "orderbook_snapshots", SOURCES(snapshot_sources)},
    {.tag = "trade", .stream = "trades", SOURCES(trade_sources)},
    {.tag = "ticker", .stream = "tickers", SOURCES(ticker_sources)},
    {.tag = "market_lifecycle_v2", .stream = "lifecycle", SOURCES(lifecycle_sources), .forward = true},
    {.tag = "event_lifecycle", .stream = "lifecycle", SOURCES(event_sources), .forward = true},
    {.tag = "event_fee_update", .stream = "lifecycle", SOURCES(event_sources)},
    {.tag = "subscribed", .role = TM_ROLE_SUBSCRIBED, .channel_path = "msg.channel", .subscription_path = "msg.sid"},
    {.tag = "unsubscribed", .role = TM_ROLE_UNSUBSCRIBED},
    {.tag = "ok", .role = TM_ROLE_ACK},
    {.tag = "error", .role = TM_ROLE_ERROR, .code_path = "msg.code", .text_path = "msg.msg"},
    {.tag = "rest_trade", .document = true, .stream = "trades", SOURCES(rest_trade_sources)},
    {.tag = "rest_orderbook", .document = true, .stream = "orderbook_snapshots", SOURCES(rest_snapshot_sources)},
    {.tag = "rest_market", .document = true, .stream = "markets", SOURCES(market_sources)},
};

static const struct tm_plan_def kalshi_plan_def = {
    .gatherer = "g1",
    .epoch = {0xe0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15},
    .protocol = {.tag_path = "type", .subscription_path = "sid", .sequence_path = "seq"},
    .streams = kalshi_streams,
    .stream_count = LENGTH(kalshi_streams),
    .kinds = kalshi_kinds,
    .kind_count = LENGTH(kalshi_kinds),
};

#endif
