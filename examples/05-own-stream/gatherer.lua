-- A stream of one's own, and a column more for a stock one: both are tables as soon as the process starts.

local tm     = require "tidemill"
local kalshi = require "kalshi"
require "own_streams"

tm.gatherer {
  id      = tm.env("TIDEMILL_ID", "g1"),
  store   = tm.env("TIDEMILL_STORE", "dbname=kalshi_ts"),
  data    = tm.env("TIDEMILL_DATA", "tidemill-data/own-stream"),
  health  = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080"),
  metrics = tm.env("TIDEMILL_METRICS", "127.0.0.1:9090"),
}

local exchange = kalshi.exchange {
  ws_url   = tm.env "KALSHI_WS_URL",
  rest_url = tm.env "KALSHI_REST_URL",
  key_id   = tm.env "KALSHI_KEY_ID",
  key_file = tm.env "KALSHI_KEY_FILE",
}

exchange:subscribe "trade"
exchange:subscribe "ticker"

tm.every(tm.env("STATUS_EVERY", "10s"), function()
  local response = exchange.rest:get "/exchange/status"
  if response.status == 0 then return tm.log.warn("no answer", { reason = response.error }) end
  local changed, why = tm.submit("exchange_status", "", response.body)
  if not changed then tm.log.warn("the status is not understood", { reason = why }) end
end)
