-- Which markets a subscription is for: all, a list of tickers and patterns, or whatever a function says yes to.

local tm     = require "tidemill"
local kalshi = require "kalshi"

tm.gatherer {
  id      = tm.env("TIDEMILL_ID", "g1"),
  store   = tm.env("TIDEMILL_STORE", "dbname=kalshi_ts"),
  data    = tm.env("TIDEMILL_DATA", "tidemill-data/choosing-markets"),
  health  = tm.env("TIDEMILL_HEALTH", "127.0.0.1:8080"),
  metrics = tm.env("TIDEMILL_METRICS", "127.0.0.1:9090"),
  socket  = tm.env("TIDEMILL_SOCKET", "tidemill.sock"), -- `tidemill reload` needs it
}

local exchange = kalshi.exchange {
  ws_url   = tm.env "KALSHI_WS_URL",
  rest_url = tm.env "KALSHI_REST_URL",
  key_id   = tm.env "KALSHI_KEY_ID",
  key_file = tm.env "KALSHI_KEY_FILE",
}

local series = tm.env("SERIES", "KXBTC")

-- New and closed markets are told here, so that the rules below follow them at once.
exchange:subscribe "market_lifecycle_v2"

-- Each market by name, spread over two connections. Without `markets` both would carry everything.
exchange:subscribe("ticker", { connections = 2, markets = "all" })

exchange:subscribe("trade", {
  markets = {
    series .. "*",                          -- "*" stands for any text, anywhere in a pattern
    tm.env("TICKER", "KXETH-26NOV05-T1"),   -- a market by name need not exist yet
  },
})

-- Depth of what trades, or may, and closes within 30 days. Time passes without a message: hence `every`.
local MONTH = tm.duration "30d"

local function closes_soon(market)
  if market.series_ticker ~= series or not kalshi.open_markets(market) then return false end
  return market.close_time ~= nil and market.close_time - tm.now() < MONTH
end

exchange:subscribe("orderbook_delta", { connections = 2, every = "1m", markets = closes_soon })
