--- Keeps a spread in step with a rule: markets that appear or change are judged at once, all of them again every so
--- often (a rule may look at the clock) and after a reload, names that the rule does not want any more are taken out.
---
---     changed() --queue--> judge          every so often: the names of the list -> the registry -> the spread's names
---
--- All of it is done in steps of a bounded number, so that a million markets never hold up the policy thread.

local tm = require "tidemill"
local rule = require "tidemill.rule"

local chooser = {}

---@class tidemill.Chooser
local Chooser = {}
Chooser.__index = Chooser

local STEP = 500
local PAUSE = "2ms"
local TICK = "100ms"
local SOON = "20ms" -- a market that appears is missed until it is subscribed; changes that come together are one

--- `markets` is the registry: get(name) -> market or nil; following(number) -> the next number and its market, or nil;
--- is_complete(): whether a market that it does not have is none; is_expected(name): whether it will soon have it.
---@param options table rule (from rule.check), spread, markets, every_us, what (for logs), failed(): called for each
---failure of the rule; done(): when what has changed is judged
---@return tidemill.Chooser
function chooser.new(options)
  local self = { queue = {}, first = 1, last = 0, queued = {}, phase = nil, due_us = 0, passes = 0 }
  for name, value in pairs(options) do self[name] = value end
  return setmetatable(self, Chooser)
end

--- Judge from now on: run time.
function Chooser:start()
  tm.every(TICK, function()
    while self:step() do tm.sleep(PAUSE) end
  end)
end

-- ---- one market ----

-- True, false, or nil: the rule failed, so it stays as it is.
local function wants(self, market)
  local wanted = rule.wants_name(self.rule, market.ticker)
  if wanted ~= nil then return wanted end
  local ok, result = pcall(self.rule.fn, market)
  if ok then return not not result end
  self.failed()
  tm.log.error("the choice of markets failed: this one stays as it is",
    { subscription = self.what, ticker = market.ticker, reason = tostring(result) })
  return nil
end

function Chooser:judge(market)
  local wanted = wants(self, market)
  if wanted then
    self.spread:add(market.ticker)
  elseif wanted == false then
    self.spread:remove(market.ticker)
  end
end

--- A market is over for good. One that the rule names stays: that was asked for.
---@param ticker string
function Chooser:gone(ticker)
  self.queued[ticker] = nil
  if not self.rule.names[ticker] then self.spread:remove(ticker) end
end

--- A person wants a market, or does not, whatever the rule says.
---@param ticker string
---@param wanted boolean
function Chooser:by_hand(ticker, wanted)
  rule.by_hand(self.rule, ticker, wanted)
  if wanted then self.spread:add(ticker) else self.spread:remove(ticker) end
end

-- ---- steps: what is at hand is taken off before it is judged, so that a rule that is stopped does not stop the rest ----

local function judge_queued(self)
  for _ = 1, STEP do
    if self.first > self.last then
      self.first, self.last = 1, 0
      return
    end
    local ticker = self.queue[self.first]
    self.queue[self.first] = nil
    self.first = self.first + 1
    local fresh = self.queued[ticker]
    self.queued[ticker] = nil
    local market = fresh ~= nil and (self.markets:get(ticker) or fresh)
    if market then self:judge(market) end
  end
end

-- Not awake any more before it begins: a rule that is stopped must not leave it so.
local function wake(self)
  if self.awake then return end
  self.awake = true
  tm.after(SOON, function()
    self.awake = false
    while self.first <= self.last do
      judge_queued(self)
      tm.sleep(PAUSE)
    end
    self.done()
  end)
end

--- A market has appeared or changed. With `market` it is not in the registry yet.
---@param ticker string
---@param market? table
function Chooser:changed(ticker, market)
  if not rule.follows_registry(self.rule) then return end
  if self.queued[ticker] == nil then
    self.last = self.last + 1
    self.queue[self.last] = ticker
  end
  self.queued[ticker] = market or self.queued[ticker] or false
  wake(self)
end

local phases = {}

function phases.list(self)
  for _ = 1, STEP do
    local name = self.rule.list[self.at]
    if not name then return rule.follows_registry(self.rule) and "registry" or "spread" end
    self.at = self.at + 1
    if rule.wants_name(self.rule, name) then self.spread:add(name) end
  end
  return "list"
end

function phases.registry(self)
  for _ = 1, STEP do
    local number, market = self.markets:following(self.number)
    self.number = number
    if not number then return "spread" end
    self:judge(market)
  end
  return "registry"
end

-- What the rule is sure not to want; and what is no market any more, once the registry is sure of that.
local function is_left_over(self, name)
  local wanted = rule.wants_name(self.rule, name)
  if wanted == false then return true end
  if self.rule.names[name] or rule.is_by_hand(self.rule, name) then return false end
  return self.markets:is_complete() and not self.markets:is_expected(name) and not self.markets:get(name)
end

function phases.spread(self)
  local names, cursor = self.spread:next(self.cursor, STEP)
  self.cursor = cursor
  for _, name in ipairs(names) do
    if is_left_over(self, name) then self.spread:remove(name) end
  end
  return cursor and "spread" or nil
end

local function begin_pass(self)
  self.at, self.number, self.cursor = 1, nil, 0
  self.phase = "list"
  self.due_us = tm.monotonic() + self.every_us
end

--- Do the next piece of work. Whether there is more.
---@return boolean
function Chooser:step()
  if self.first <= self.last then
    judge_queued(self)
    return true
  end
  if not self.phase and tm.monotonic() >= self.due_us then begin_pass(self) end
  if not self.phase then return false end
  self.phase = phases[self.phase](self)
  if not self.phase then self.passes = self.passes + 1 end
  return true
end

return chooser
