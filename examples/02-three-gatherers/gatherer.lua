-- One of three gatherers: the same script on each machine, told apart by TIDEMILL_ID alone.

local tm     = require "tidemill"
local kalshi = require "kalshi"

local id = tm.env("TIDEMILL_ID", "g1")

tm.gatherer {
  id      = id,
  store   = tm.env("TIDEMILL_STORE", "dbname=kalshi_ts"),
  data    = tm.env("TIDEMILL_DATA", "tidemill-data/" .. id),
  journal = "16GiB", -- bridges a local PostgreSQL that is away: at 20,000 messages a second some three hours
  health  = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080"),
  metrics = tm.env("TIDEMILL_METRICS", "127.0.0.1:9090"),
}

local exchange = kalshi.exchange {
  ws_url   = tm.env "KALSHI_WS_URL",
  rest_url = tm.env "KALSHI_REST_URL",
  key_id   = tm.env "KALSHI_KEY_ID",
  key_file = tm.env "KALSHI_KEY_FILE",
}

exchange:subscribe("trade", { connections = 2 })  -- both carry all trades; each is stored once
exchange:subscribe("ticker", { connections = 2 })
exchange:subscribe "market_lifecycle_v2"
exchange:subscribe("orderbook_delta", { connections = 8, markets = kalshi.open_markets })
