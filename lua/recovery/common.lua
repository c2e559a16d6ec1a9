--- What the stock routines share.

local tm = require "tidemill"

local common = {}

--- The session of the exchange that an event's link belongs to, and the link's number in it; nil when it is another's.
---@return table? session, integer? number
function common.session_of(exchange, event)
  local owner = type(event.link) == "table" and event.link.owner
  if owner and owner.session.exchange == exchange then return owner.session, owner.number end
end

--- Whether an event is about a link of a channel whose name begins so.
---@return boolean
function common.is_of(exchange, event, channel)
  local session = common.session_of(exchange, event)
  return session ~= nil and session.channel:sub(1, #channel) == channel
end

--- Call fn(session, number, link) for each link of a channel.
function common.each_link(exchange, channel, fn)
  for _, session in ipairs(exchange.sessions) do
    if session.channel == channel then
      for number, link in ipairs(session.links) do fn(session, number, link) end
    end
  end
end

--- The tickers of a channel, each once and in order; nil when one of its subscriptions has no choice of markets.
---@return string[]?
function common.tickers(exchange, channel)
  local seen, list, all = {}, {}, false
  common.each_link(exchange, channel, function(session, number)
    local tickers = session:tickers(number)
    all = all or tickers == nil
    for _, ticker in ipairs(tickers or {}) do
      if not seen[ticker] then
        seen[ticker] = true
        list[#list + 1] = ticker
      end
    end
  end)
  if all then return nil end
  table.sort(list)
  return list
end

--- Two outages as one: from the earlier start to the later end.
---@param a tidemill.Event
---@param b tidemill.Event
---@return tidemill.Event
function common.widest(a, b)
  local both = {}
  for key, value in pairs(b) do both[key] = value end
  both.from = math.min(a.from or math.huge, b.from or math.huge)
  both.to = math.max(a.to or 0, b.to or 0)
  if both.from == math.huge then both.from = nil end
  if both.to == 0 then both.to = nil end
  return both
end

--- A setting that is a database; nil and what was expected when it is none.
function common.database(value)
  if type(value) == "table" and value.query then return value end
  return nil, "expected a database with :query, as tm.sql returns"
end

--- Settings of a part, checked; faults are noted.
function common.settings(at, name, given, fields)
  return tm.check.closed(at, "recovery " .. name, given, fields)
end

return common
