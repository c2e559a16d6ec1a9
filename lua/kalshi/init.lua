--- Kalshi: require "kalshi". Facts about the exchange's API stand beside what depends on them.
---
---     local exchange = kalshi.exchange { environment = "prod", key_id = "...", key_file = "/etc/tidemill/kalshi.pem" }
---     exchange:subscribe("trade")
---     exchange:subscribe("orderbook_delta", { connections = 144, markets = kalshi.open_markets })

local tm = require "tidemill"
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
  sweep = check.field(check.duration, { default = 300e6 }),
  rest_per_second = check.field(check.number, { default = 10 }),
}

---@class kalshi.Exchange
local Exchange = {}
Exchange.__index = Exchange

-- Headers and signed bytes: kalshi.md 2. The path carries no query; WebSocket handshakes sign GET and their path.
local function make_signer(at, settings)
  if not settings.key_id and not settings.key_file then return nil end
  if not settings.key_id or not settings.key_file then
    tm.problem(at, "kalshi.exchange", "key_id and key_file go together: expected both or neither")
    return nil
  end
  return tm.signer({
    key_id = settings.key_id, key_file = settings.key_file, message = "{timestamp_ms}{method}{path}",
    headers = {
      ["KALSHI-ACCESS-KEY"] = "{key_id}",
      ["KALSHI-ACCESS-TIMESTAMP"] = "{timestamp_ms}",
      ["KALSHI-ACCESS-SIGNATURE"] = "{signature}",
    },
  }, at)
end

local function each_session(self, call)
  for _, s in ipairs(self.sessions) do call(s) end
end

-- Lifecycle frames arrive once for each connection of the channel; handling one twice is harmless.
local function on_frame(self, event)
  local ok, frame = pcall(tm.json.decode, event.text)
  if ok and type(frame.msg) == "table" then self.markets:on_lifecycle(frame.msg) end
end

local function owned(self, event)
  local owner = event.link and event.link.owner
  if owner and owner.session.exchange == self then return owner.session, owner.number end
end

local function listen(self)
  tm.on("subscribed", function(event)
    local s, number = owned(self, event)
    if s then s:on_subscribed(number, event.text, event.sid) end
  end)
  tm.on("link_down", function(event)
    local s, number = owned(self, event)
    if s then s:on_down(number) end
  end)
  tm.on("gap", function(event)
    local s, number = owned(self, event)
    if s then s:on_gap(number, event.sid) end
  end)
  tm.on("frame", function(event) on_frame(self, event) end)
  tm.on("error", function(event)
    tm.log.warn("the exchange reports an error",
      { code = event.number, text = event.text, link = event.link and event.link.name or "?" })
  end)
end

-- Connections first: the registry may take minutes.
local function start(self)
  each_session(self, function(s) s:open(self.feed) end)
  self.markets:run()
end

local function make_markets(self, settings)
  return markets.new(self.rest, {
    sweep = ("%dus"):format(settings.sweep),
    on_market = function(market) each_session(self, function(s) s:consider(market) end) end,
    on_gone = function(ticker)
      each_session(self, function(s) if s:follows_registry() then s:remove(ticker) end end)
    end,
  })
end

--- Declare the exchange. `environment` is "prod" or "demo"; ws_url and rest_url replace its addresses. Without a key
--- requests are not signed, which the exchange itself does not accept.
---@param definition kalshi.ExchangeSettings
---@return kalshi.Exchange
function kalshi.exchange(definition)
  local at = tm.caller()
  local settings = check.closed(at, "kalshi.exchange", definition, exchange_fields)
  local urls = hosts[settings.environment or "prod"]
  local self = setmetatable({ sessions = {}, subscribed = {} }, Exchange)
  local signer = make_signer(at, settings)
  self.feed = tm.feed({ url = settings.ws_url or urls.ws, signer = signer }, at)
  self.rest = tm.rest({ url = settings.rest_url or urls.rest, signer = signer, per_second = settings.rest_per_second }, at)
  self.markets = make_markets(self, settings)
  listen(self)
  tm.on("start", function() start(self) end)
  return self
end

-- ---- subscriptions ----

local function market_rule(value)
  if value == "all" or type(value) == "function" then return value end
  local list = type(value) == "table" and check.list(check.text, "tickers")(value)
  if list then return list end
  return nil, 'expected "all", a list of tickers, or a function(market) like kalshi.open_markets'
end

-- The rule in words, for `tidemill plan`.
local function rule_text(rule)
  if rule == nil then return nil end
  if rule == "all" then return "all markets" end
  if type(rule) == "table" then return ("%d named markets"):format(#rule) end
  for name, value in pairs(kalshi) do
    if value == rule then return "kalshi." .. name end
  end
  return "the function at " .. tm.place(rule)
end

local subscription_fields = {
  connections = check.field(check.integer(1, 1000), { default = 1 }),
  markets = check.field(market_rule),
  chunk = check.field(check.integer(1, 10000), { default = 500 }),
}

--- Subscribe to a channel over so many connections. With `markets` each market is on one of them; without, each
--- connection carries all (ticker and trade may go without, orderbook_delta must not, lifecycle channels always do).
---@param channel string
---@param options? kalshi.Subscription
function Exchange:subscribe(channel, options)
  local at, path = tm.caller(), "subscribe " .. tostring(channel)
  local known, expected = check.one_of(channels)(channel)
  if not known then return tm.problem(at, "subscribe", "channel: " .. expected) end
  local settings, ok = check.closed(at, path, options or {}, subscription_fields)
  if channel == "orderbook_delta" and not settings.markets then
    if ok then tm.problem(at, path, 'missing key "markets": the exchange sends no depth without a choice of markets') end
    return
  end
  if channel:find("lifecycle") and settings.markets then
    return tm.problem(at, path, "markets: this channel always carries all markets")
  end
  if self.subscribed[channel] then return tm.problem(at, path, "is subscribed to already at " .. self.subscribed[channel]) end
  self.subscribed[channel] = at
  if not ok then return end
  self.feed:expect(channel, settings.connections, rule_text(settings.markets))
  settings.channel = channel
  local s = session.new(settings)
  s.exchange = self
  self.sessions[#self.sessions + 1] = s
end

return kalshi
