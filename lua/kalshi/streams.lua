--- Kalshi's frames and documents as streams: what is stored, and what makes two records the same.
---
--- Prices are micro-dollars (scale 6), counts hundredths of a contract (scale 2), times microseconds. Gatherers and the
--- deduplicator require this same file, so both agree on every column.

local tm = require "tidemill"

-- A number outside of these makes a frame unknown: it is kept whole, and no book or trade is made of it. What is kept whole
-- anyway, as lifecycle and markets, is taken as it comes: a market is not to be missed for an odd figure beside it.
local DOLLAR = 1000000 -- what a contract pays; prices reach from nothing to it

tm.protocol { tag = "type", subscription = "sid", sequence = "seq", reconnect_codes = { 25, 10, 17 } }

-- ---- trades ----

tm.stream "trades" {
  columns = {
    { "trade_id", "uuid", not_null = true },
    { "exchange_ts", "timestamptz", not_null = true },
    { "received_at", "timestamptz", not_null = true },
    { "ticker", "text", not_null = true },
    { "price", "int4", not_null = true, scale = 6, min = 0, max = DOLLAR }, -- of yes
    { "count", "int8", not_null = true, scale = 2, min = 0 },
    { "taker_side", "text", one_of = { "yes", "no" } },
    { "is_block_trade", "bool" },
  },
  -- WebSocket times are milliseconds, REST times microseconds: the id alone decides.
  key = { "trade_id" }, partition = "hash", ticker = "ticker", time = "exchange_ts", window = "48h",
}

tm.kind "trade" {
  stream = "trades",
  from = {
    trade_id = "msg.trade_id",
    exchange_ts = { tm.millis "msg.ts_ms", tm.seconds "msg.ts" },
    received_at = tm.received_at,
    ticker = "msg.market_ticker",
    price = tm.decimal "msg.yes_price_dollars",
    count = tm.decimal "msg.count_fp",
    taker_side = { "msg.taker_outcome_side", "msg.taker_side" },
    is_block_trade = "msg.is_block_trade", -- absent before 2026-08-13
  },
}

tm.kind "rest_trade" {
  document = true, stream = "trades",
  from = {
    trade_id = "trade_id",
    exchange_ts = tm.rfc3339 "created_time",
    received_at = tm.received_at,
    ticker = "ticker",
    price = tm.decimal "yes_price_dollars",
    count = tm.decimal "count_fp",
    taker_side = { "taker_outcome_side", "taker_side" },
    is_block_trade = "is_block_trade",
  },
}

-- ---- order books ----

tm.stream "orderbook_deltas" {
  columns = {
    { "ticker", "text", not_null = true },
    { "exchange_ts", "timestamptz", not_null = true },
    { "side", "text", not_null = true, one_of = { "yes", "no" } },
    { "price", "int4", not_null = true, scale = 6, min = 0, max = DOLLAR }, -- of that side
    { "delta", "int8", not_null = true, scale = 2 }, -- signed change
    { "occurrence", "int2", not_null = true },
    { "received_at", "timestamptz", not_null = true },
  },
  -- One delta per order event, so that equal ones are common: they are counted.
  key = { "ticker", "exchange_ts", "side", "price", "delta" }, occurrence = true,
  partition = "day", partition_column = "exchange_ts", ticker = "ticker", time = "exchange_ts", window = "24h",
}

tm.kind "orderbook_delta" {
  stream = "orderbook_deltas",
  from = {
    ticker = "msg.market_ticker",
    exchange_ts = { tm.rfc3339 "msg.ts", tm.millis "msg.ts_ms" },
    side = "msg.side",
    price = tm.decimal "msg.price_dollars",
    delta = tm.decimal "msg.delta_fp",
    occurrence = tm.occurrence,
    received_at = tm.received_at,
  },
}

-- A snapshot carries no time and is each gatherer's own observation. A side that is absent is empty. Levels ascend, so
-- the best bid is the last; the best ask of yes is what the best bid of no leaves of a dollar.
tm.stream "orderbook_snapshots" {
  columns = {
    { "ticker", "text", not_null = true },
    { "snapshot_ts", "timestamptz", not_null = true },
    { "source", "text", not_null = true, one_of = { "ws", "rest" } },
    { "yes_levels", "jsonb" },
    { "no_levels", "jsonb" },
    { "best_bid", "int4", scale = 6, min = 0, max = DOLLAR },
    { "best_ask", "int4", scale = 6, min = 0, max = DOLLAR },
    { "received_at", "timestamptz", not_null = true },
  },
  observer = true, partition = "day", partition_column = "snapshot_ts", ticker = "ticker",
}

local function snapshot_sources(ticker, yes, no, source)
  return {
    ticker = ticker,
    snapshot_ts = tm.received_at,
    source = tm.const(source),
    yes_levels = yes,
    no_levels = no,
    best_bid = tm.decimal(yes .. "[-1][0]"),
    best_ask = tm.decimal(no .. "[-1][0]", { one_minus = true }),
    received_at = tm.received_at,
  }
end

tm.kind "orderbook_snapshot" {
  stream = "orderbook_snapshots", opens = "orderbook_deltas",
  from = snapshot_sources("msg.market_ticker", "msg.yes_dollars_fp", "msg.no_dollars_fp", "ws"),
}

tm.kind "rest_orderbook" {
  document = true, stream = "orderbook_snapshots",
  from = snapshot_sources("ticker", "orderbook_fp.yes_dollars", "orderbook_fp.no_dollars", "rest"),
}

-- ---- tickers ----

-- An identical state at an identical time is the same record.
tm.stream "tickers" {
  columns = {
    { "ticker", "text", not_null = true },
    { "exchange_ts", "timestamptz", not_null = true },
    { "price", "int4", scale = 6, min = 0, max = DOLLAR }, -- empty before the first trade
    { "yes_bid", "int4", scale = 6, min = 0, max = DOLLAR },
    { "yes_ask", "int4", scale = 6, min = 0, max = DOLLAR },
    { "yes_bid_size", "int8", scale = 2, min = 0 },
    { "yes_ask_size", "int8", scale = 2, min = 0 },
    { "last_trade_size", "int8", scale = 2, min = 0 },
    { "volume", "int8", scale = 2, min = 0 },
    { "open_interest", "int8", scale = 2, min = 0 },
    { "dollar_volume", "int8" },
    { "dollar_open_interest", "int8" },
    { "received_at", "timestamptz", not_null = true },
  },
  key = { "ticker", "exchange_ts", "price", "yes_bid", "yes_ask", "yes_bid_size", "yes_ask_size", "last_trade_size",
          "volume", "open_interest", "dollar_volume", "dollar_open_interest" },
  partition = "day", partition_column = "exchange_ts", ticker = "ticker", time = "exchange_ts", window = "6h",
}

tm.kind "ticker" {
  stream = "tickers",
  from = {
    ticker = "msg.market_ticker",
    exchange_ts = { tm.rfc3339 "msg.time", tm.millis "msg.ts_ms", tm.seconds "msg.ts" },
    price = tm.decimal "msg.price_dollars",
    yes_bid = tm.decimal "msg.yes_bid_dollars",
    yes_ask = tm.decimal "msg.yes_ask_dollars",
    yes_bid_size = tm.decimal "msg.yes_bid_size_fp",
    yes_ask_size = tm.decimal "msg.yes_ask_size_fp",
    last_trade_size = tm.decimal "msg.last_trade_size_fp",
    volume = tm.decimal "msg.volume_fp",
    open_interest = tm.decimal "msg.open_interest_fp",
    dollar_volume = "msg.dollar_volume",
    dollar_open_interest = "msg.dollar_open_interest",
    received_at = tm.received_at,
  },
}

-- ---- lifecycle ----

-- The exchange gives these frames no time: the same message within five minutes is the same record.
tm.stream "lifecycle" {
  columns = {
    { "kind", "text", not_null = true },
    { "event_type", "text" },
    { "ticker", "text" },
    { "event_ticker", "text" },
    { "open_ts", "timestamptz" },
    { "close_ts", "timestamptz" },
    { "determination_ts", "timestamptz" },
    { "settled_ts", "timestamptz" },
    { "is_deactivated", "bool" },
    { "result", "text" },
    { "settlement_value", "int4", scale = 6 },
    { "exchange_index", "int4" },
    { "message", "jsonb", not_null = true },
    { "received_at", "timestamptz", not_null = true },
  },
  key = { "kind", "ticker", "event_ticker", "message" }, within = "5m",
  partition = "day", partition_column = "received_at", ticker = "ticker", window = "6h",
}

for _, kind in ipairs { "market_lifecycle_v2", "multivariate_market_lifecycle", "event_lifecycle", "event_fee_update" } do
  tm.kind(kind) {
    stream = "lifecycle", forward = true,
    from = {
      kind = tm.tag,
      event_type = "msg.event_type",
      ticker = "msg.market_ticker",
      event_ticker = { "msg.event_ticker", "msg.additional_metadata.event_ticker" },
      open_ts = tm.seconds "msg.open_ts",
      close_ts = tm.seconds "msg.close_ts",
      determination_ts = tm.seconds "msg.determination_ts",
      settled_ts = tm.seconds "msg.settled_ts",
      is_deactivated = "msg.is_deactivated",
      result = "msg.result",
      settlement_value = tm.decimal "msg.settlement_value",
      exchange_index = "msg.exchange_index",
      message = "msg",
      received_at = tm.received_at,
    },
  }
end

-- ---- acknowledgements ----

tm.kind "subscribed" { role = "subscribed", channel = "msg.channel", subscription = "msg.sid" }
tm.kind "unsubscribed" { role = "unsubscribed" }
tm.kind "ok" { role = "ack" }
tm.kind "error" { role = "error", code = "msg.code", text = "msg.msg" }

-- ---- reference data ----

tm.stream "markets" {
  columns = {
    { "ticker", "text", not_null = true },
    { "event_ticker", "text" },
    { "market_type", "text" },
    { "status", "text" },
    { "result", "text" },
    { "yes_sub_title", "text" },
    { "no_sub_title", "text" },
    { "created_time", "timestamptz" },
    { "updated_time", "timestamptz" },
    { "open_time", "timestamptz" },
    { "close_time", "timestamptz" },
    { "latest_expiration_time", "timestamptz" },
    { "settlement_ts", "timestamptz" },
    { "settlement_value", "int4", scale = 6 },
    { "volume", "int8", scale = 2 },
    { "open_interest", "int8", scale = 2 },
    { "price_level_structure", "text" },
    { "exchange_index", "int4" },
    { "document", "jsonb" },
    { "received_at", "timestamptz", not_null = true },
  },
  mode = "upsert", key = { "ticker" }, ticker = "ticker",
}

tm.kind "market" {
  document = true, stream = "markets",
  from = {
    ticker = "ticker",
    event_ticker = "event_ticker",
    market_type = "market_type",
    status = "status",
    result = "result",
    yes_sub_title = "yes_sub_title",
    no_sub_title = "no_sub_title",
    created_time = tm.rfc3339 "created_time",
    updated_time = tm.rfc3339 "updated_time",
    open_time = tm.rfc3339 "open_time",
    close_time = tm.rfc3339 "close_time",
    latest_expiration_time = tm.rfc3339 "latest_expiration_time",
    settlement_ts = tm.rfc3339 "settlement_ts",
    settlement_value = tm.decimal "settlement_value_dollars",
    volume = tm.decimal "volume_fp",
    open_interest = tm.decimal "open_interest_fp",
    price_level_structure = "price_level_structure",
    exchange_index = "exchange_index",
    document = tm.raw,
    received_at = tm.received_at,
  },
}

tm.stream "events" {
  columns = {
    { "event_ticker", "text", not_null = true },
    { "series_ticker", "text" },
    { "title", "text" },
    { "sub_title", "text" },
    { "category", "text" },
    { "mutually_exclusive", "bool" },
    { "document", "jsonb" },
    { "received_at", "timestamptz", not_null = true },
  },
  mode = "upsert", key = { "event_ticker" },
}

tm.kind "event" {
  document = true, stream = "events",
  from = {
    event_ticker = "event_ticker",
    series_ticker = "series_ticker",
    title = "title",
    sub_title = "sub_title",
    category = "category",
    mutually_exclusive = "mutually_exclusive",
    document = tm.raw,
    received_at = tm.received_at,
  },
}

tm.stream "series" {
  columns = {
    { "ticker", "text", not_null = true },
    { "title", "text" },
    { "category", "text" },
    { "frequency", "text" },
    { "fee_type", "text" },
    { "document", "jsonb" },
    { "received_at", "timestamptz", not_null = true },
  },
  mode = "upsert", key = { "ticker" },
}

tm.kind "series" {
  document = true, stream = "series",
  from = {
    ticker = "ticker",
    title = "title",
    category = "category",
    frequency = "frequency",
    fee_type = "fee_type",
    document = tm.raw,
    received_at = tm.received_at,
  },
}
