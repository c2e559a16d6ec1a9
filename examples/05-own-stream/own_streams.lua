-- What gatherers and deduplicator both have to know: require "own_streams" finds this file beside the script.

local tm = require "tidemill"
require "kalshi.streams"

-- The price of no beside that of yes, for trades from the feed and from REST.
tm.add_column "trades" {
  "no_price", "int4", scale = 6,
  from = { trade = tm.decimal "msg.no_price_dollars", rest_trade = tm.decimal "no_price_dollars" },
}

-- Is the exchange open? Asked for every few seconds; each gatherer's answer is a record of its own.
tm.stream "exchange_status" {
  columns = {
    { "exchange_active", "bool", not_null = true },
    { "trading_active", "bool", not_null = true },
    { "document", "jsonb", not_null = true },
    { "received_at", "timestamptz", not_null = true },
  },
  observer = true, partition = "day", partition_column = "received_at",
}

tm.kind "exchange_status" {
  document = true, stream = "exchange_status",
  from = {
    exchange_active = "exchange_active", trading_active = "trading_active", document = tm.raw,
    received_at = tm.received_at,
  },
}
