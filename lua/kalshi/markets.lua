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

--- What the registry keeps of a market; a row is stored again only when one of these changes.
local COLUMNS = { "event_ticker", "status", "open_time", "close_time", "updated_time", "result", "settlement_ts" }

---@param rest table from tm.rest
---@param options table on_market(market), on_gone(ticker), sweep (duration)
function markets.new(rest, options)
  return setmetatable({
    rest = rest, options = options,
    registry = tm.registry("markets", COLUMNS),
    round = 0, wanted = {}, refreshing = false,
  }, Markets)
end

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
  local changed, rows = tm.submit(kind, path, body, registry, registry and self.round)
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
    self.options.on_market(self.registry:at(number))
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

--- Read all markets that can trade, now or later. Those missing from two whole sweeps are asked for one by one.
--- `everything`: store them all, not only what has changed.
---@param everything? boolean
---@return boolean whole
function Markets:sweep(everything)
  self.round = self.round + 1
  for _, status in ipairs(LISTED) do
    local whole = read_pages(self, "markets", { limit = PAGE, status = status }, function(body)
      take_markets(self, body, everything)
    end)
    if not whole then return false end
  end
  self.gauge:set(self.registry:count())
  for _, number in ipairs(self.registry:unseen(self.round - 1, UNSEEN_BATCH)) do
    self:refresh(self.registry:at(number).ticker)
  end
  return true
end

--- Events and series: reference data that nothing waits for.
function Markets:sweep_reference()
  read_pages(self, "events", { limit = 200, status = "open" }, function(body) submit(self, "event", "events", body) end)
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

local function forget_if_over(self, ticker)
  local market = self.registry:get(ticker)
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

--- A lifecycle message: a market that is created is offered at once, REST fills in the rest.
---@param message table
function Markets:on_lifecycle(message)
  local ticker = message.market_ticker
  if type(ticker) ~= "string" then return end
  if message.event_type == "created" then
    local metadata = type(message.additional_metadata) == "table" and message.additional_metadata or {}
    self.options.on_market { ticker = ticker, status = "initialized", event_ticker = metadata.event_ticker,
                             open_time = (message.open_ts or 0) * 1e6, close_time = (message.close_ts or 0) * 1e6 }
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
