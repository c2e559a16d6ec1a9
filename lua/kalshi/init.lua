--- Kalshi: require "kalshi". Facts about the exchange's API stand beside what depends on them.
---
---     local exchange = kalshi.exchange { environment = "prod", key_id = "...", key_file = "/etc/tidemill/kalshi.pem" }
---     exchange:subscribe("trade")
---     exchange:subscribe("orderbook_delta", { connections = 144, markets = kalshi.open_markets })
---
--- `markets` may be "all", a list of tickers and patterns ({ "KXBTC*", "KXETH-26NOV05-T1" }), a pattern, or a
--- function(market) that says yes or no. A market's fields: ticker, event_ticker, series_ticker, status, open_time,
--- close_time, updated_time, settlement_ts (microseconds since 1970), result, and, as of the last sweep, volume and
--- open_interest (hundredths of a contract). series_ticker is that of the market's event as REST has told it; until it
--- has, the part of the event's ticker before the first "-".

local tm = require "tidemill"
local rule = require "tidemill.rule"
require "kalshi.streams"
local frames = require "kalshi.frames"
local markets = require "kalshi.markets"
local session = require "kalshi.session"

local kalshi = { get_snapshot = frames.get_snapshot }

local hosts = {
  prod = { ws = "wss://external-api-ws.kalshi.com/trade-api/ws/v2", rest = "https://external-api.kalshi.com/trade-api/v2" },
  demo = { ws = "wss://external-api-ws.demo.kalshi.co/trade-api/ws/v2", rest = "https://external-api.demo.kalshi.co/trade-api/v2" },
}

local channels = { "orderbook_delta", "ticker", "trade", "market_lifecycle_v2", "multivariate_market_lifecycle" }

local EVERY_US_MIN = 1e6 -- between looks at all markets

local can_trade = { initialized = true, active = true, inactive = true }

--- Markets that trade now or may later: a market opens without any message, so it is subscribed to before.
---@param market table
---@return boolean
function kalshi.open_markets(market) return can_trade[market.status] == true end

-- ---- exchange ----

local check = tm.check

local exchange_fields = {
  environment = check.field(check.one_of { "prod", "demo" }),
  ws_url = check.field(check.text),
  rest_url = check.field(check.text),
  key_id = check.field(check.text),
  key_file = check.field(check.text),
  key = check.field(check.secret),
  sweep = check.field(check.duration, { default = 300e6 }),
  rest_per_second = check.field(check.number, { default = 10 }),
}

---@class kalshi.Exchange
local Exchange = {}
Exchange.__index = Exchange

-- Headers and signed bytes: kalshi.md 2. The path carries no query; WebSocket handshakes sign GET and their path.
local function make_signer(at, settings)
  local key = settings.key_file or settings.key
  if not settings.key_id and not key then return nil end
  if not settings.key_id or not key then
    tm.problem(at, "kalshi.exchange", "key_id and key_file go together: expected both or neither (key can stand for key_file)")
    return nil
  end
  return tm.signer({
    key_id = settings.key_id, key_file = settings.key_file, key = settings.key, message = "{timestamp_ms}{method}{path}",
    headers = {
      ["KALSHI-ACCESS-KEY"] = "{key_id}",
      ["KALSHI-ACCESS-TIMESTAMP"] = "{timestamp_ms}",
      ["KALSHI-ACCESS-SIGNATURE"] = "{signature}",
    },
  }, at)
end

-- Neither wrong URLs nor plain ones to elsewhere are looked at: the engine refuses them (core/net/url.h).
local function is_elsewhere(url)
  local scheme, host = url:lower():match "^(%a+)://(%[[^%]]*%])"
  if not scheme then scheme, host = url:lower():match "^(%a+)://([^:/?]*)" end
  if scheme ~= "wss" and scheme ~= "https" then return false end
  return host ~= "localhost" and host ~= "[::1]" and not host:find "^127%.%d+%.%d+%.%d+$"
end

-- Kalshi answers every handshake without a signature with 401 (kalshi.md 2): only a simulator takes unsigned ones.
local function check_unsigned(at, ...)
  for _, url in ipairs { ... } do
    if is_elsewhere(url) then
      return tm.problem(at, "kalshi.exchange", "unsigned is for loopback only: expected key_id and key_file (of the stock"
        .. " script: KALSHI_KEY_ID and KALSHI_KEY_FILE) for " .. url .. ", got neither")
    end
  end
end

local function each_session(self, call)
  for _, s in ipairs(self.sessions) do call(s) end
end

local function each_chooser(self, call)
  each_session(self, function(s) if s.chooser then call(s.chooser) end end)
end

-- Lifecycle frames arrive once for each connection of the channel; handling one twice is harmless.
local function on_frame(self, event)
  local ok, frame = pcall(tm.json.decode, event.text)
  if not ok or type(frame.msg) ~= "table" then return end
  local message = frame.msg
  if message.event_type == "determined" and type(message.market_ticker) == "string" then
    tm.emit("market_closed", { market = message.market_ticker, result = message.result })
  end
  self.markets:on_lifecycle(message)
end

local function owned(self, event)
  local owner = event.link and event.link.owner
  if owner and owner.session.exchange == self then return owner.session, owner.number end
end

local function listen(self)
  tm.on("frame", function(event) on_frame(self, event) end)
  tm.on("error", function(event)
    local s, number = owned(self, event)
    if s then s:on_error(number, event.number) end
  end)
end

-- Connections first: the registry may take minutes.
local function start(self)
  each_session(self, function(s) s:open(self.feed, self.markets) end)
  session.close_others(self.sessions)
  self.markets:run()
end

local function make_markets(self, settings)
  return markets.new(self.rest, {
    sweep = ("%dus"):format(settings.sweep),
    on_market = function(ticker, market) each_chooser(self, function(c) c:changed(ticker, market) end) end,
    on_gone = function(ticker) each_chooser(self, function(c) c:gone(ticker) end) end,
  })
end

--- Declare the exchange. `environment` is "prod" or "demo"; ws_url and rest_url replace its addresses. Without a key
--- requests are not signed: for loopback only, where a simulator may listen.
---@param definition kalshi.ExchangeSettings
---@return kalshi.Exchange
function kalshi.exchange(definition)
  local at = tm.caller()
  local settings, ok = check.closed(at, "kalshi.exchange", definition, exchange_fields)
  local urls = hosts[settings.environment or "prod"]
  local ws_url, rest_url = settings.ws_url or urls.ws, settings.rest_url or urls.rest
  local self = setmetatable({ sessions = {}, subscribed = {}, sweep_us = settings.sweep }, Exchange)
  local signer = make_signer(at, settings)
  if ok and not settings.key_id and not settings.key_file and not settings.key then check_unsigned(at, ws_url, rest_url) end
  self.feed = tm.feed({ url = ws_url, signer = signer }, at)
  self.rest = tm.rest({ url = rest_url, signer = signer, per_second = settings.rest_per_second }, at)
  self.markets = make_markets(self, settings)
  listen(self)
  tm.on("start", function() start(self) end)
  return self
end

-- ---- subscriptions ----

-- The rule in words, for `tidemill plan`.
local function rule_text(choice)
  if not choice then return nil end
  if choice.kind == "all" then return "all markets" end
  if choice.kind == "list" then
    local names, patterns = #choice.list, #choice.patterns
    if patterns == 0 then return ("%d named markets"):format(names) end
    return ("%d named markets and %d patterns"):format(names, patterns)
  end
  for name, value in pairs(kalshi) do
    if value == choice.fn then return "kalshi." .. name end
  end
  return "the function at " .. tm.place(choice.fn)
end

local subscription_fields = {
  connections = check.field(check.integer(1, 1000), { default = 1 }),
  markets = check.field(rule.check, { to = "rule" }),
  chunk = check.field(check.integer(1, 10000), { default = 500 }),
  every = check.field(check.duration, { to = "every_us" }),
  commands_per_second = check.field(check.integer(1, 10000), { default = 100 }),
}

--- Subscribe to a channel over so many connections. With `markets` each market is on one of them; without, each
--- connection carries all (ticker and trade may go without, orderbook_delta must not, lifecycle channels always do).
--- Markets that appear, change or close later are judged by the same rule at once; a function is asked again about all of
--- them `every` so often. One that fails for a market leaves it as it is. After a reload only the difference is sent.
---@param channel string
---@param options? kalshi.Subscription
function Exchange:subscribe(channel, options)
  local at, path = tm.caller(), "subscribe " .. tostring(channel)
  local known, expected = check.one_of(channels)(channel)
  if not known then return tm.problem(at, "subscribe", "channel: " .. expected) end
  local settings, ok = check.closed(at, path, options or {}, subscription_fields)
  if channel == "orderbook_delta" and not settings.rule then
    if ok then tm.problem(at, path, 'missing key "markets": the exchange sends no depth without a choice of markets') end
    return
  end
  if channel:find("lifecycle") and settings.rule then
    return tm.problem(at, path, "markets: this channel always carries all markets")
  end
  if settings.every_us and ok and not settings.rule then
    return tm.problem(at, path, 'every: goes with "markets", which says what is to be chosen again')
  end
  if settings.every_us and settings.every_us < EVERY_US_MIN then
    return tm.problem(at, path, 'every: expected at least 1s')
  end
  if self.subscribed[channel] then return tm.problem(at, path, "is subscribed to already at " .. self.subscribed[channel]) end
  self.subscribed[channel] = at
  if not ok then return end
  self.feed:expect(channel, settings.connections, rule_text(settings.rule))
  settings.channel = channel
  settings.every_us = settings.every_us or self.sweep_us
  local s = session.new(settings)
  s.exchange = self
  self.sessions[#self.sessions + 1] = s
end

return kalshi
