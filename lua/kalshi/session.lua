--- One subscription at run time: its connections, and what they subscribe to.

local tm = require "tidemill"
local frames = require "kalshi.frames"
local spread = require "kalshi.spread"

local session = {}

local Session = {}
Session.__index = Session

local FIRST_COMMAND_ID = 2000000 -- opening frames use slot + 1
local FLUSH_AFTER = "100ms"      -- changes are collected for this long

---@param subscription table channel, connections, markets (predicate, list, "all" or nil), chunk
function session.new(subscription)
  return setmetatable({
    subscription = subscription,
    channel = subscription.channel,
    links = {}, sids = {},
    spread = subscription.markets and spread.new(subscription.connections, subscription.chunk),
    next_id = FIRST_COMMAND_ID,
    flushing = false,
  }, Session)
end

function Session:command_id()
  self.next_id = self.next_id + 1
  return self.next_id
end

--- Open the connections. Those without a choice of markets subscribe at once.
function Session:open(feed)
  for i = 1, self.subscription.connections do
    local link = feed:open(("%s/%d"):format(self.channel, i))
    link.owner = { session = self, number = i }
    self.links[i] = link
    if not self.spread then link:opening(0, frames.subscribe(1, self.channel), true) end
  end
  if type(self.subscription.markets) == "table" then
    for _, ticker in ipairs(self.subscription.markets) do self:add(ticker) end
  end
end

-- ---- which markets ----

--- Whether this session wants a market of the registry (or one that was just created).
function Session:wants(market)
  local rule = self.subscription.markets
  if rule == "all" then return true end
  return type(rule) == "function" and rule(market) == true
end

function Session:follows_registry()
  local rule = self.subscription.markets
  return rule == "all" or type(rule) == "function"
end

--- A market is new or has changed: subscribe or take it out as the rule says.
function Session:consider(market)
  if not self:follows_registry() then return end
  if self:wants(market) then
    self:add(market.ticker)
  else
    self:remove(market.ticker)
  end
end

function Session:add(ticker)
  if self.spread and self.spread:add(ticker) then self:flush_soon() end
end

function Session:remove(ticker)
  if self.spread and self.spread:remove(ticker) then self:flush_soon() end
end

-- ---- sending the difference ----

function Session:flush_soon()
  if self.flushing then return end
  self.flushing = true
  tm.after(FLUSH_AFTER, function()
    self.flushing = false
    self:flush()
  end)
end

-- The opening frames are what a reconnect sends; the difference is sent to a connection that is up. Sending the same
-- ticker twice is harmless, so the order of the two does not matter.
local function set_slots(self, link, slots)
  for slot, tickers in pairs(slots) do
    local frame = #tickers > 0 and frames.subscribe(slot + 1, self.channel, tickers) or ""
    if not link:opening(slot, frame, false) then return false end
  end
  return true
end

local function send_chunks(self, link, tickers, make)
  for _, chunk in ipairs(frames.chunks(tickers, self.subscription.chunk)) do
    if not link:send(make(self:command_id(), chunk)) then return false end
  end
  return true
end

local function flush_connection(self, number)
  local link, sid = self.links[number], self.sids[number]
  local changes = self.spread:take(number)
  local sent = set_slots(self, link, changes.slots)
    and send_chunks(self, link, changes.added, function(id, chunk) return frames.subscribe(id, self.channel, chunk) end)
    and (not sid or send_chunks(self, link, changes.removed, function(id, chunk) return frames.delete_markets(id, sid, chunk) end))
  if not sent then self.spread:give_back(number, changes) end
  return sent
end

function Session:flush()
  local all_sent = true
  for number in ipairs(self.links) do
    all_sent = flush_connection(self, number) and all_sent
  end
  if not all_sent then self:flush_soon() end
end

-- ---- events ----

function Session:on_subscribed(number, channel, sid)
  if channel == self.channel then self.sids[number] = sid end
end

function Session:on_down(number)
  self.sids[number] = nil
end

--- The markets of a connection; nil where it carries whatever the exchange sends.
---@param number integer
---@return string[]?
function Session:tickers(number) return self.spread and self.spread:tickers(number) end

return session
