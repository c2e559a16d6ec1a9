-- A gatherer with keys of its own: see keys.lua.

local tm     = require "tidemill"
local kalshi = require "kalshi"
require "keys"

tm.gatherer {
  id      = tm.env("TIDEMILL_ID", "g1"),
  store   = tm.env("TIDEMILL_STORE", "dbname=kalshi_ts"),
  data    = tm.env("TIDEMILL_DATA", "tidemill-data/dedup-keys"),
  health  = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080"),
  metrics = tm.env("TIDEMILL_METRICS", "127.0.0.1:9090"),
  socket  = tm.env("TIDEMILL_SOCKET", "gatherer.sock"),
}

local exchange = kalshi.exchange {
  ws_url   = tm.env "KALSHI_WS_URL",
  rest_url = tm.env "KALSHI_REST_URL",
  key_id   = tm.env "KALSHI_KEY_ID",
  key_file = tm.env "KALSHI_KEY_FILE",
}

exchange:subscribe("trade", { connections = 2 }) -- the same trades twice: the second of each is dropped
exchange:subscribe "market_lifecycle_v2"
exchange:subscribe("orderbook_delta", { markets = kalshi.open_markets })
