-- A gatherer for Coinbase Exchange: all of the exchange's ways are in coinbase.lua beside this file.

local tm = require "tidemill"
local coinbase = require "coinbase"

tm.gatherer {
  id      = tm.env("TIDEMILL_ID", "g1"),
  store   = tm.env("TIDEMILL_STORE", "dbname=coinbase_ts"),
  data    = tm.env("TIDEMILL_DATA", "tidemill-data/coinbase"),
  health  = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080"),
  metrics = tm.env("TIDEMILL_METRICS", "127.0.0.1:9090"),
}

coinbase.capture {
  products = { "BTC-USD", "ETH-USD" },
  ws_url   = tm.env "COINBASE_WS_URL",
  rest_url = tm.env "COINBASE_REST_URL",
}
