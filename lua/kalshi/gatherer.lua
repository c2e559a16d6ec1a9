-- The stock gatherer: everything Kalshi publishes, settings from the environment. Copy it and change what you like.

local tm     = require "tidemill"
local kalshi = require "kalshi"

local id = tm.env("TIDEMILL_ID", "g1")
local archive = tm.env "TIDEMILL_ARCHIVE"

tm.gatherer {
  id         = id,
  store      = tm.env("TIDEMILL_STORE", "dbname=kalshi_ts"),
  data       = tm.env("TIDEMILL_DATA", "tidemill-data/" .. id),
  health     = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080"),
  metrics    = tm.env("TIDEMILL_METRICS", "127.0.0.1:9090"),
  socket     = tm.env "TIDEMILL_SOCKET",
  log_level  = tm.env("TIDEMILL_LOG_LEVEL", "info"),
  log_format = tm.env("TIDEMILL_LOG_FORMAT", "logfmt"),

  -- what production has acknowledged leaves the local store after this time; at the limit, where one is set, at once
  keep           = tm.env("TIDEMILL_KEEP", "7d"),
  store_limit    = tm.env "TIDEMILL_STORE_LIMIT",
  partition_rows = tm.env("TIDEMILL_PARTITION_ROWS", 4000000),
  -- and when that does not help, rows that production does not have, the loudest first and trades last
  archive        = archive and { to = archive, credentials = tm.env "TIDEMILL_ARCHIVE_CREDENTIALS" } or nil,
  expire         = { "tickers", "orderbook_snapshots", "orderbook_deltas", "trades" },
}

local exchange = kalshi.exchange {
  environment = "prod",
  ws_url      = tm.env "KALSHI_WS_URL",
  rest_url    = tm.env "KALSHI_REST_URL",
  key_id      = tm.env "KALSHI_KEY_ID",
  key_file    = tm.env "KALSHI_KEY_FILE",
  -- of the account's allowance, which all gatherers with its key share (20 a second in the Basic tier)
  rest_per_second = tm.env("KALSHI_REST_PER_SECOND", 10),
}

exchange:subscribe("ticker")
exchange:subscribe("trade")
exchange:subscribe("market_lifecycle_v2")
exchange:subscribe("multivariate_market_lifecycle")
exchange:subscribe("orderbook_delta", { connections = tm.env("KALSHI_CONNECTIONS", 16), markets = kalshi.open_markets })

require "recovery" (exchange)

require "alerts" ()

-- who is told of them, beside the log
local alertmanager, webhook = tm.env "TIDEMILL_ALERTMANAGER", tm.env "TIDEMILL_ALERT_WEBHOOK"
if alertmanager then tm.notify "alertmanager" { format = "alertmanager", url = alertmanager } end
if webhook then tm.notify "webhook" { url = webhook, alerts = "warning" } end
