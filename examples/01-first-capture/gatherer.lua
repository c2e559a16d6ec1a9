-- The smallest capture: every trade that Kalshi publishes, into one PostgreSQL.

local tm     = require "tidemill"
local kalshi = require "kalshi"

tm.gatherer {
  id    = "first",
  store = tm.env("TIDEMILL_STORE", "dbname=kalshi_ts"), -- createdb kalshi_ts
  data  = tm.env("TIDEMILL_DATA", "tidemill-data/first"),
  health  = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080"),
  metrics = tm.env("TIDEMILL_METRICS", "127.0.0.1:9090"),
}

local exchange = kalshi.exchange {
  environment = "demo",                -- the exchange's sandbox; its keys are not those of "prod"
  ws_url   = tm.env "KALSHI_WS_URL",   -- only set to point it at a simulator
  rest_url = tm.env "KALSHI_REST_URL",
  key_id   = tm.env "KALSHI_KEY_ID",
  key_file = tm.env "KALSHI_KEY_FILE",
}

exchange:subscribe "trade"
