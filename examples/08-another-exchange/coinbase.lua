--- Coinbase Exchange: require "coinbase". An adapter for another exchange, in Lua alone.
---
---     local coinbase = require "coinbase"
---     coinbase.capture { products = { "BTC-USD", "ETH-USD" } }
---
--- Source of facts: the exchange's public documentation of its WebSocket feed (channels heartbeat, matches,
--- level2_batch, ticker) and of GET /products/{id}/trades. All of these need no key. What differs from Kalshi, and what
--- follows from it:
---
---   - Sequence numbers count all messages of a product, those of channels that we do not ask for too, so a jump is no
---     gap. But trade ids of a product have no holes, and a heartbeat names the last one each second: after a lost
---     connection the trades between the last heartbeat before it and the first one after it are fetched by REST.
---   - A book change says what a level holds now, not by how much it changed: the same change twice is one fact.
---   - Prices and sizes have up to eight decimals: they are kept in units of 1e-8.

local tm = require "tidemill"

local coinbase = {}

tm.protocol { tag = "type" }

-- ---- trades ----

tm.stream "matches" {
  columns = {
    { "product_id", "text", not_null = true },
    { "trade_id", "int8", not_null = true },
    { "exchange_ts", "timestamptz", not_null = true },
    { "price", "int8", not_null = true, scale = 8 },
    { "size", "int8", not_null = true, scale = 8 },
    { "maker_side", "text", not_null = true, one_of = { "buy", "sell" } },
    { "received_at", "timestamptz", not_null = true },
  },
  key = { "trade_id", "product_id" }, partition = "hash", ticker = "product_id", time = "exchange_ts", window = "24h",
}

local function match_sources(product)
  return {
    product_id = product,
    trade_id = "trade_id",
    exchange_ts = tm.rfc3339 "time",
    price = tm.decimal "price",
    size = tm.decimal "size",
    maker_side = "side",
    received_at = tm.received_at,
  }
end

-- last_match is the newest trade at the time of subscribing: it may be one that was heard before.
for _, tag in ipairs { "match", "last_match" } do
  tm.kind(tag) { stream = "matches", from = match_sources "product_id" }
end

-- ---- books ----

tm.stream "book_changes" {
  columns = {
    { "product_id", "text", not_null = true },
    { "exchange_ts", "timestamptz", not_null = true },
    { "side", "text", not_null = true, one_of = { "buy", "sell" } },
    { "price", "int8", not_null = true, scale = 8 },
    { "size", "int8", not_null = true, scale = 8 }, -- what the level holds now; 0: it is gone
    { "received_at", "timestamptz", not_null = true },
  },
  key = { "product_id", "exchange_ts", "side", "price", "size" },
  partition = "day", partition_column = "exchange_ts", ticker = "product_id", time = "exchange_ts", window = "1h",
}

tm.kind "l2update" {
  stream = "book_changes", each = "changes",
  from = {
    product_id = "$.product_id",
    exchange_ts = tm.rfc3339 "$.time",
    side = "[0]",
    price = tm.decimal "[1]",
    size = tm.decimal "[2]",
    received_at = tm.received_at,
  },
}

-- A snapshot carries no time that all gatherers share, so each one's is a record of its own.
tm.stream "book_snapshots" {
  columns = {
    { "product_id", "text", not_null = true },
    { "bids", "jsonb", not_null = true },
    { "asks", "jsonb", not_null = true },
    { "received_at", "timestamptz", not_null = true },
  },
  observer = true, partition = "day", partition_column = "received_at", ticker = "product_id",
}

tm.kind "snapshot" {
  stream = "book_snapshots",
  from = { product_id = "product_id", bids = "bids", asks = "asks", received_at = tm.received_at },
}

-- ---- quotes ----

tm.stream "quotes" {
  columns = {
    { "product_id", "text", not_null = true },
    { "exchange_ts", "timestamptz", not_null = true },
    { "trade_id", "int8" },
    { "price", "int8", scale = 8 },
    { "best_bid", "int8", scale = 8 },
    { "best_bid_size", "int8", scale = 8 },
    { "best_ask", "int8", scale = 8 },
    { "best_ask_size", "int8", scale = 8 },
    { "volume_24h", "text" }, -- of two days and more digits than 64 bits may hold: kept as sent
    { "received_at", "timestamptz", not_null = true },
  },
  key = { "product_id", "exchange_ts", "trade_id", "price", "best_bid", "best_ask", "best_bid_size", "best_ask_size" },
  partition = "day", partition_column = "exchange_ts", ticker = "product_id", time = "exchange_ts", window = "1h",
}

tm.kind "ticker" {
  stream = "quotes",
  from = {
    product_id = "product_id",
    exchange_ts = tm.rfc3339 "time",
    trade_id = "trade_id",
    price = tm.decimal "price",
    best_bid = tm.decimal "best_bid",
    best_bid_size = tm.decimal "best_bid_size",
    best_ask = tm.decimal "best_ask",
    best_ask_size = tm.decimal "best_ask_size",
    volume_24h = "volume_24h",
    received_at = tm.received_at,
  },
}

-- ---- what carries no data ----

tm.kind "heartbeat" { role = "ack", forward = true } -- policy learns the last trade id from it
tm.kind "subscriptions" { role = "ack" }
tm.kind "error" { role = "ack", forward = true } -- it has no code, so policy looks at its text

-- ---- capture ----

local PAGE = 100

local Capture = {}
Capture.__index = Capture

--- Fetch the trades with low < trade_id <= high, newest first, page by page. They pass the same seen-set as those of
--- the feed, so nothing is stored twice.
local function backfill(self, product, low, high)
  local count, after = 0, high + 1 -- "after" pages towards older trades and is exclusive
  while after > low + 1 do
    local response = self.rest:get_patiently("/products/" .. product .. "/trades", { limit = PAGE, after = after })
    if response.status ~= 200 then
      tm.log.warn("missed trades cannot be fetched", { product = product, status = response.status })
      return
    end
    local trades = tm.json.decode(response.body)
    if #trades == 0 then break end
    local changed, rows = tm.submit("rest_match " .. product, "", response.body)
    if not changed then return tm.log.warn("trades are not understood", { product = product, reason = rows }) end
    count, after = count + rows, trades[#trades].trade_id
  end
  tm.log.info("missed trades were fetched", { product = product, from = low, to = high, rows = count })
end

local function on_heartbeat(self, text)
  local beat = tm.json.decode(text)
  local known = self.last_trade[beat.product_id]
  self.last_trade[beat.product_id] = beat.last_trade_id
  if known and self.suspect[beat.product_id] and beat.last_trade_id > known then
    tm.spawn(backfill, self, beat.product_id, known, beat.last_trade_id)
  end
  self.suspect[beat.product_id] = nil
end

local function listen(self, products)
  tm.on("frame", function(event)
    if event.kind == "heartbeat" then on_heartbeat(self, event.text) end
    if event.kind == "error" then tm.log.error("the exchange reports an error", { frame = event.text }) end
  end)
  tm.on("link_down", function()
    for _, product in ipairs(products) do self.suspect[product] = true end
  end)
  tm.on("start", function()
    local link = self.feed:open "coinbase"
    local subscription = {
      type = "subscribe", product_ids = products, channels = { "heartbeat", "matches", "level2_batch", "ticker" },
    }
    link:opening(0, tm.json.encode(subscription), true)
  end)
end

local capture_fields = {
  products = tm.check.field(tm.check.list(tm.check.text, "product ids"), { required = true }),
  ws_url = tm.check.field(tm.check.text, { default = "wss://ws-feed.exchange.coinbase.com" }),
  rest_url = tm.check.field(tm.check.text, { default = "https://api.exchange.coinbase.com" }),
}

--- Capture trades, book changes, snapshots and quotes of these products over one connection. Declare time.
---@param definition { products: string[], ws_url?: string, rest_url?: string }
function coinbase.capture(definition)
  local at = tm.caller()
  local settings, ok = tm.check.closed(at, "coinbase.capture", definition, capture_fields)
  if not ok then return end
  local self = setmetatable({ last_trade = {}, suspect = {} }, Capture)
  self.feed = tm.feed({ url = settings.ws_url, quiet = "15s" }, at) -- a heartbeat comes each second
  self.rest = tm.rest({ url = settings.rest_url, per_second = 5 }, at)
  for _, product in ipairs(settings.products) do
    tm.kind("rest_match " .. product) { -- REST leaves the product out of its answer
      document = true, stream = "matches", from = match_sources(tm.const(product)),
    }
  end
  listen(self, settings.products)
end

return coinbase
