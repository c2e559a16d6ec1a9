--- The registry of markets: loaded from REST at start, swept every few minutes, kept by lifecycle events in between.
---
--- Nothing here ever gives up: requests are repeated with backoff for as long as the process lives, and the connections
--- do not wait for it.

local tm = require "tidemill"
local frames = require "kalshi.frames"

local markets = {}

local Markets = {}
Markets.__index = Markets

local PAGE = 1000
local REFRESH_BATCH = 25 -- tickers in one URL, which is limited to some 2,000 characters
local UNSEEN_BATCH = 1000
local REFRESH_AFTER = "2s" -- REST may not know a market at once after its creation
local LISTED = { "open", "unopened", "paused" }
local EXPECTED_TRIES = 30 -- so often a market that was created is asked for before it is none

--- What the registry keeps of a market; a row is stored again only when one of these changes.
local COLUMNS = { "event_ticker", "status", "open_time", "close_time", "updated_time", "result", "settlement_ts" }
--- Kept as of the last sweep; what changes all the time is no reason to store a row again or to judge the market anew.
local QUIET_COLUMNS = { "volume", "open_interest" }
local EVENT_COLUMNS = { "series_ticker", "title", "sub_title", "category", "mutually_exclusive" }

-- ---- what a choice of markets sees ----

local fields, field_names = {}, {}
for _, list in ipairs { { "ticker", "series_ticker" }, COLUMNS, QUIET_COLUMNS } do
  for _, name in ipairs(list) do
    fields[name] = true
    field_names[#field_names + 1] = name
  end
end

-- The exchange's documents give no series to a market: its event's has it, and is known a while after the market is.
-- Until then it is what stands before the first "-" of the event's ticker, which has been the same so far.
local function series_of(self, market)
  local event_ticker = rawget(market, "event_ticker")
  local event = event_ticker and self.events:get(event_ticker)
  return event and event.series_ticker or event_ticker and event_ticker:match "^[^-]+"
end

local function make_view(self)
  self.view = { __index = function(market, name)
    if name == "series_ticker" then return series_of(self, market) end
    if fields[name] then return nil end
    error(('a market has no field "%s"'):format(tostring(name)) .. tm.hint(tostring(name), field_names), 2)
  end }
end

---@param rest table from tm.rest
---@param options table on_market(ticker, market?), on_gone(ticker), sweep (duration)
function markets.new(rest, options)
  local self = setmetatable({
    rest = rest, options = options,
    registry = tm.registry("markets", COLUMNS, QUIET_COLUMNS),
    events = tm.registry("events", EVENT_COLUMNS),
    round = 0, previous_round = 0, whole = false, wanted = {}, refreshing = false, expected = {},
  }, Markets)
  make_view(self)
  return self
end

--- The market of that ticker as a choice of markets sees it, or nil.
---@param ticker string
---@return kalshi.Market?
function Markets:get(ticker)
  local market = self.registry:get(ticker)
  return market and setmetatable(market, self.view)
end

--- The number of the next market after that one (nil: the first), and the market; or nil.
---@param number? integer
---@return integer?, kalshi.Market?
function Markets:following(number)
  local found, market = self.registry:following(number)
  return found, found and setmetatable(market, self.view)
end

--- Whether a market that the registry does not have is none: a whole sweep was read.
---@return boolean
function Markets:is_complete() return self.whole end

--- Whether a market that was announced is not known to REST yet.
---@param ticker string
---@return boolean
function Markets:is_expected(ticker) return self.expected[ticker] ~= nil end

-- Run time: metrics exist from the first moment, at 0.
local function make_metrics(self)
  self.errors = {}
  for _, endpoint in ipairs { "markets", "events", "series" } do
    self.errors[endpoint] = tm.counter("market_registry_rest_errors_total",
      "REST requests of the market registry that failed", ('endpoint="%s"'):format(endpoint))
  end
  self.gauge = tm.gauge("market_registry_markets", "Markets in the registry")
end

-- An answer of 200, or nil when the exchange refuses the request for good.
local function fetch(self, endpoint, query)
  local function failed(response)
    self.errors[endpoint]:add(1)
    tm.log.warn("REST request failed",
      { endpoint = endpoint, status = response.status, reason = response.error or response.body:sub(1, 200) })
  end
  local response = self.rest:get_patiently("/" .. endpoint, query, failed)
  if response.status == 200 then return response end
  failed(response)
  return nil
end

local function submit(self, kind, path, body, registry)
  local changed, rows = tm.submit(kind, path, body, registry, registry == self.registry and self.round or nil)
  if not changed then
    tm.log.warn("REST document is not understood", { kind = kind, reason = rows })
    return {}
  end
  return changed
end

-- `everything`: what the registry knows already is stored again too.
local function take_markets(self, body, everything)
  if everything then submit(self, "market", "markets", body) end
  for _, number in ipairs(submit(self, "market", "markets", body, self.registry)) do
    self.options.on_market(self.registry:at(number).ticker)
  end
end

-- Pages of a list until the cursor is empty. True when all were read.
local function read_pages(self, endpoint, query, take)
  local cursor
  repeat
    query.cursor = cursor
    local response = fetch(self, endpoint, query)
    if not response then return false end
    take(response.body)
    cursor = tm.json.get(response.body, "cursor")
    local last = cursor == nil or cursor == tm.null or cursor == ""
  until last
  return true
end

--- Read all markets that can trade, now or later. Those missing from two whole sweeps are asked for one by one. Rounds
--- are seconds, so that they go on where an earlier generation of the script was. `everything`: store them all, not only
--- what has changed.
---@param everything? boolean
---@return boolean whole
function Markets:sweep(everything)
  self.previous_round = self.round
  self.round = math.max(self.round + 1, math.floor(tm.monotonic() / 1e6))
  for _, status in ipairs(LISTED) do
    local whole = read_pages(self, "markets", { limit = PAGE, status = status }, function(body)
      take_markets(self, body, everything)
    end)
    if not whole then return false end
  end
  self.gauge:set(self.registry:count())
  self.whole = true
  for _, number in ipairs(self.registry:unseen(self.previous_round, UNSEEN_BATCH)) do
    self:refresh(self.registry:at(number).ticker)
  end
  return true
end

--- Events and series: reference data that nothing waits for. `everything`: as in sweep.
---@param everything? boolean
function Markets:sweep_reference(everything)
  read_pages(self, "events", { limit = 200, status = "open" }, function(body)
    if everything then submit(self, "event", "events", body) end
    submit(self, "event", "events", body, self.events)
  end)
  local response = fetch(self, "series", {})
  if response then submit(self, "series", "series", response.body) end
end

--- Ask for a market soon, together with others.
---@param ticker string
function Markets:refresh(ticker)
  self.wanted[ticker] = true
  if self.refreshing then return end
  self.refreshing = true
  tm.after(REFRESH_AFTER, function()
    local wanted = self.wanted
    self.wanted, self.refreshing = {}, false
    self:refresh_all(wanted)
  end)
end

-- REST may not know a market for a while after its creation.
local function is_to_come(self, ticker)
  local tries = self.expected[ticker]
  self.expected[ticker] = tries and tries > 1 and tries - 1 or nil
  return self.expected[ticker] ~= nil
end

local function forget_if_over(self, ticker)
  local market = self.registry:get(ticker)
  if market then
    self.expected[ticker] = nil
  elseif is_to_come(self, ticker) then
    return self:refresh(ticker)
  end
  local over = not market or market.status == "finalized" or market.status == "settled"
  if over then
    self.options.on_gone(ticker)
    self.registry:remove(ticker)
  end
end

function Markets:refresh_all(wanted)
  local tickers = {}
  for ticker in pairs(wanted) do tickers[#tickers + 1] = ticker end
  table.sort(tickers)
  for _, chunk in ipairs(frames.chunks(tickers, REFRESH_BATCH)) do
    local response = fetch(self, "markets", { limit = PAGE, tickers = table.concat(chunk, ",") })
    if response then
      take_markets(self, response.body)
      for _, ticker in ipairs(chunk) do forget_if_over(self, ticker) end
    end
  end
end

local function on_created(self, ticker, message)
  local metadata = type(message.additional_metadata) == "table" and message.additional_metadata or {}
  local function micros(seconds) return type(seconds) == "number" and seconds * 1e6 or nil end
  self.expected[ticker] = EXPECTED_TRIES
  self.options.on_market(ticker, setmetatable({
    ticker = ticker, status = "initialized", result = "", volume = 0, open_interest = 0,
    event_ticker = type(metadata.event_ticker) == "string" and metadata.event_ticker or nil,
    open_time = micros(message.open_ts), close_time = micros(message.close_ts),
  }, self.view))
end

--- A lifecycle message: a market that is created is offered at once, REST fills in the rest.
---@param message table
function Markets:on_lifecycle(message)
  local ticker = message.market_ticker
  if type(ticker) ~= "string" then return end
  if message.event_type == "created" then
    if not self.registry:get(ticker) then on_created(self, ticker, message) end
  elseif message.event_type == "settled" then
    self.options.on_gone(ticker)
  end
  self:refresh(ticker)
end

--- Keep the registry for ever: run time, in a task of its own.
function Markets:run()
  make_metrics(self)
  while true do
    local started = tm.monotonic()
    if self:sweep() then
      tm.log.info("market registry reconciled",
        { markets = self.registry:count(), seconds = math.floor((tm.monotonic() - started) / 1e6) })
    end
    self:sweep_reference()
    tm.sleep(self.options.sweep)
  end
end

return markets
