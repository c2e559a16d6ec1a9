--- One subscription at run time: its connections, what they are told, and what is done after a refusal.
---
--- Which market is on which connection stands in a spread of the host, which connection has which subscription in the
--- host's links: both outlive this object, so that a reloaded script goes on where the old one was and sends differences.

local tm = require "tidemill"
local chooser = require "tidemill.chooser"
local remote = require "tidemill.remote"
local frames = require "kalshi.frames"

local session = {}

local Session = {}
Session.__index = Session

local PREFIX = "kalshi/"         -- of the names of spreads
local FIRST_COMMAND_ID = 2000000 -- opening frames use slot + 1
local FLUSH_EVERY = "100ms"      -- changes are collected for this long
local LIMIT_AFTER = "200ms"      -- several refusals of a burst count once
local SLOTS_AT_ONCE = 100
local HALVINGS = 64              -- a chunk is halved down to this part of it
local PAUSE_US, PAUSE_MAX_US = 1e6, 60e6
local MARKET_LIMIT, TOO_MANY_REQUESTS = 26, 27

---@param subscription table channel, connections, rule (nil: all markets of the channel, without a list), chunk, every_us,
---commands_per_second
function session.new(subscription)
  return setmetatable({
    subscription = subscription, channel = subscription.channel, links = {}, connections = {}, next_id = 0,
  }, Session)
end

function Session:command_id()
  self.next_id = self.next_id + 1
  return self.next_id
end

-- ---- open ----

local function name_of(self) return PREFIX .. self.channel end

local function is_open(name)
  for _, open in ipairs(tm.spreads()) do
    if open == name then return true end
  end
  return false
end

local function open_link(self, feed, number)
  local link = feed:open(("%s/%d"):format(self.channel, number), self.subscription.rule ~= nil)
  link.owner = { session = self, number = number }
  self.links[number] = link
  self.connections[number] = { link = link, number = number, tokens = 1, at_us = tm.monotonic(), paused_us = 0, pause_us = 0 }
end

-- What an earlier generation has subscribed in the other way, with or without a list of markets, is ended first.
local function end_subscription(self, link)
  local sid = link:subscriptions()[self.channel]
  if not (sid and link:send(frames.unsubscribe(self:command_id(), sid))) then link:reconnect() end
end

local function listen_to_all(self)
  local old = is_open(name_of(self)) and tm.spread(name_of(self), self.subscription.connections, self.subscription.chunk)
  for number, link in ipairs(self.links) do
    if old and not link.opened then
      for slot = 1, old:stats(number).slots - 1 do link:opening(slot, "", false) end
      end_subscription(self, link)
    end
    if old or link.opened then link:opening(0, frames.subscribe(1, self.channel), true) end
  end
  tm.close_spread(name_of(self))
end

local function make_chooser(self, markets)
  local label = ('channel="%s"'):format(self.channel)
  local failures = tm.counter("subscription_rule_errors_total", "Markets whose choice by a subscription's rule failed", label)
  return chooser.new {
    rule = self.subscription.rule, spread = self.spread, markets = markets, every_us = self.subscription.every_us,
    what = self.channel, failed = function() failures:add(1) end, done = function() self:flush() end,
  }
end

local function listen_to_some(self, markets)
  local made
  self.spread, made = tm.spread(name_of(self), self.subscription.connections, self.subscription.chunk)
  for number, link in ipairs(self.links) do
    if link.opened then
      self.spread:restart(number)
    elseif made then
      link:opening(0, "", false)
      end_subscription(self, link)
    end
  end
  local label = ('channel="%s"'):format(self.channel)
  self.gauge = tm.gauge("market_subscriptions", "Markets that a subscription with a choice of markets is for", label)
  self.refusals = tm.counter("subscription_limits_total", "Connections that the exchange lets have no more markets", label)
  self.chooser = make_chooser(self, markets)
  self.chooser:start()
  tm.every(FLUSH_EVERY, function() self:flush() end)
end

--- Open the connections, or find them: run time. Ids of commands go on from a clock, so that no generation uses those of
--- another.
---@param feed table from tm.feed
---@param markets table the registry
function Session:open(feed, markets)
  self.next_id = FIRST_COMMAND_ID + math.floor(tm.monotonic())
  for number = 1, self.subscription.connections do open_link(self, feed, number) end
  if self.subscription.rule then
    listen_to_some(self, markets)
  else
    listen_to_all(self)
  end
  remote.subscription(self.channel, self)
end

--- Forget the spreads of subscriptions that are no more: run time, when all sessions are open.
---@param sessions table[]
function session.close_others(sessions)
  local used = {}
  for _, s in ipairs(sessions) do used[name_of(s)] = true end
  for _, name in ipairs(tm.spreads()) do
    if name:sub(1, #PREFIX) == PREFIX and not used[name] then tm.close_spread(name) end
  end
end

-- ---- sending the difference ----

-- Whether a command may be sent now: a bucket that fills at the rate allowed and holds a fifth of a second of it.
local function may_send(self, connection)
  local now, rate = tm.monotonic(), self.subscription.commands_per_second
  local filled = connection.tokens + (now - connection.at_us) * rate / 1e6
  connection.tokens, connection.at_us = math.min(filled, math.max(1, rate / 5)), now
  if connection.tokens < 1 or now < connection.paused_us then return false end
  connection.tokens = connection.tokens - 1
  return true
end

-- The opening frames are what a reconnect sends; the difference is sent to a connection that is up. Sending the same
-- ticker twice is harmless, so the order of the two does not matter.
local function set_slots(self, connection)
  local number = connection.number
  for _ = 1, SLOTS_AT_ONCE do
    local tickers, count, slot = self.spread:take_slot(number)
    if not tickers then return true end
    local frame = count > 0 and frames.subscribe(slot + 1, self.channel, tickers) or ""
    if not connection.link:opening(slot, frame, false) then
      self.spread:touch_slot(number, slot)
      return false
    end
  end
  return true
end

local function tell(self, connection, what, make)
  local number = connection.number
  while true do
    local stats = self.spread:stats(number)
    if stats[what] == 0 or not may_send(self, connection) then return end
    local tickers = self.spread:take(number, what, stats.chunk)
    local frame = make(self:command_id(), tickers)
    if not frame or not connection.link:send(frame) then return self.spread:give_back(number, what) end
    self.spread:sent(number, what)
  end
end

local function tell_added(self, connection)
  tell(self, connection, "added", function(id, tickers) return frames.subscribe(id, self.channel, tickers) end)
end

-- Needs the sid, so it waits for it.
local function tell_removed(self, connection)
  local sid = connection.link:subscriptions()[self.channel]
  if not sid then return end
  tell(self, connection, "removed", function(id, tickers)
    return connection.link:drop(tm.json.decode(tickers)) and frames.delete_markets(id, sid, tickers)
  end)
end

local function all_added(self)
  for number in ipairs(self.links) do
    if self.spread:stats(number).added > 0 then return false end
  end
  return true
end

--- Send what has changed, as much as the rate allows. A market that moves is subscribed on its new connection before it
--- is taken off the old one.
function Session:flush()
  self.gauge:set(self.spread:stats().names)
  if self.spread:pending() == 0 then return end
  for _, connection in ipairs(self.connections) do
    if set_slots(self, connection) then tell_added(self, connection) end
    tm.sleep "1ms" -- frames of many connections are made in many steps
  end
  if not all_added(self) then return end
  for _, connection in ipairs(self.connections) do tell_removed(self, connection) end
end

-- ---- events ----

-- The limit of markets in a subscription is not published (kalshi.md 4.6). A frame that goes beyond it is refused as a
-- whole, so smaller ones come closer to it. Which frame it was the exchange does not say to us: all are told again.
local function on_market_limit(self, connection)
  if connection.limiting then return end
  connection.limiting = true
  tm.sleep(LIMIT_AFTER)
  connection.limiting = nil
  local stats = self.spread:stats(connection.number)
  local chunk = math.floor(stats.chunk / 2)
  if chunk < math.max(1, math.floor(self.subscription.chunk / HALVINGS)) then
    self.refusals:add(1)
    return tm.log.error("the exchange takes no more markets on this connection: use more connections",
      { link = connection.link.name, markets = stats.names })
  end
  tm.log.warn("the exchange refuses a list of markets for its size: sending smaller ones",
    { link = connection.link.name, chunk = chunk })
  self.spread:set_chunk(connection.number, chunk)
  self.spread:retell(connection.number)
end

-- Wait, twice as long each time, then say again what may have been refused.
local function on_too_many_requests(self, connection)
  local now = tm.monotonic()
  if now < connection.paused_us then return end
  local again = now - connection.paused_us < PAUSE_MAX_US
  connection.pause_us = again and math.min(math.max(2 * connection.pause_us, PAUSE_US), PAUSE_MAX_US) or PAUSE_US
  connection.paused_us = now + connection.pause_us
  tm.log.warn("the exchange takes no more commands on this connection for now",
    { link = connection.link.name, seconds = connection.pause_us / 1e6 })
  self.spread:retell(connection.number)
end

--- The exchange has refused something.
---@param number integer
---@param code integer
function Session:on_error(number, code)
  if not self.spread then return end
  if code == MARKET_LIMIT then
    on_market_limit(self, self.connections[number])
  elseif code == TOO_MANY_REQUESTS then
    on_too_many_requests(self, self.connections[number])
  end
end

--- The markets of a connection; nil where it carries whatever the exchange sends.
---@param number integer
---@return string[]?
function Session:tickers(number)
  if not self.spread then return nil end
  local list = {}
  for slot = 0, self.spread:stats(number).slots - 1 do
    for _, ticker in ipairs(tm.json.decode((self.spread:slot(number, slot)))) do list[#list + 1] = ticker end
  end
  return list
end

-- ---- by a person's hand (tidemill/remote.lua) ----

--- What it is, in plain facts.
---@return table
function Session:describe()
  return {
    connections = #self.links, markets = self.spread and self.spread:stats().names or "all",
    to_be_told = self.spread and self.spread:pending() or 0, chunk = self.subscription.chunk,
    confirmed = self:confirmed(),
  }
end

--- On how many connections the exchange has confirmed it.
---@return integer
function Session:confirmed()
  local count = 0
  for number in ipairs(self.links) do count = count + (self:sid(number) and 1 or 0) end
  return count
end

--- The name of the connection that carries a market; nil: none does.
---@param ticker string
---@return string?
function Session:find(ticker)
  if not self.spread then return self.links[1] and self.links[1].name end
  local number = self.spread:find(ticker)
  return number and self.links[number] and self.links[number].name
end

--- Listen to a market, or not, whatever the rule says.
---@param ticker string
---@param wanted boolean
---@return boolean? ok
---@return string? why
function Session:by_hand(ticker, wanted)
  if not self.chooser then return nil, ("%s has no choice of markets: it carries all"):format(self.channel) end
  self.chooser:by_hand(ticker, wanted)
  return true
end

--- The exchange's id of the subscription on a connection; nil until it is confirmed.
---@param number integer
---@return integer?
function Session:sid(number)
  local link = self.links[number]
  return link and link:subscriptions()[self.channel]
end

return session
