-- Recovery: the stock routines with settings of one's own, and one routine more.

local tm     = require "tidemill"
local kalshi = require "kalshi"

tm.gatherer {
  id      = tm.env("TIDEMILL_ID", "g1"),
  store   = tm.env("TIDEMILL_STORE", "dbname=kalshi_ts"),
  data    = tm.env("TIDEMILL_DATA", "tidemill-data/recovery"),
  health  = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080"),
  metrics = tm.env("TIDEMILL_METRICS", "127.0.0.1:9090"),
  socket  = tm.env("TIDEMILL_SOCKET", "tidemill.sock"),
}

local exchange = kalshi.exchange {
  ws_url   = tm.env "KALSHI_WS_URL",
  rest_url = tm.env "KALSHI_REST_URL",
  key_id   = tm.env "KALSHI_KEY_ID",
  key_file = tm.env "KALSHI_KEY_FILE",
}

exchange:subscribe "trade"
exchange:subscribe "market_lifecycle_v2"
exchange:subscribe("orderbook_delta", { markets = kalshi.open_markets })

require "recovery" (exchange, {
  resync    = { settle = "500ms" }, -- more holes of a burst in one go
  snapshots = false,                -- no books every 15 minutes: check_books reads them when there is a reason
})

require "check_books" (exchange)
