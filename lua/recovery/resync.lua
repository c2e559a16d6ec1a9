--- A hole in the sequence numbers of a connection makes every book on it suspect (kalshi.md 5.0). Ask for fresh ones in
--- the stream; where they do not come, subscribe anew; where that does not help, connect anew.

local tm = require "tidemill"
local frames = require "kalshi.frames"
local common = require "recovery.common"

local KIND = "orderbook_snapshot"
local SUBSCRIBED = "10s" -- for the answer to a subscription

-- Ten seconds, and one for each thousand books.
local function patience(books) return ("%dms"):format(10000 + books) end

local function sorted(set)
  local list = {}
  for ticker in pairs(set) do list[#list + 1] = ticker end
  table.sort(list)
  return list
end

-- Wait until each market has shown its book. True when all have.
local function await(run, box, missing, limit)
  local left, expires = 0, tm.monotonic() + tm.duration(limit)
  for _ in pairs(missing) do left = left + 1 end
  while left > 0 do
    local wait = expires - tm.monotonic()
    if wait <= 0 then return false end
    local row = box:take(("%dus"):format(math.max(1, math.min(wait, 1e6))))
    if row and missing[row.text] then
      missing[row.text] = nil
      left = left - 1
    end
    run:check()
  end
  return true
end

local function send_all(run, link, session, tickers, make)
  for _, chunk in ipairs(frames.chunks(tickers, session.subscription.chunk)) do
    while not run:send(link, make(session:command_id(), chunk)) do run:sleep "100ms" end -- its queue is full
  end
end

local function ask(run, session, link, sid, missing)
  local tickers = sorted(missing)
  run:step("asking for fresh books", { books = #tickers, sid = sid })
  send_all(run, link, session, tickers, function(id, chunk) return frames.get_snapshot(id, sid, chunk) end)
  return #tickers
end

-- The subscription ends and begins again with all its markets, which brings a book of each.
local function subscribe_anew(run, session, number, link, sid)
  local tickers = session:tickers(number)
  run:step("the books did not come: subscribing anew", { books = #tickers })
  local acks = tm.listen("subscribed", { link = link })
  run:send(link, frames.unsubscribe(session:command_id(), sid))
  send_all(run, link, session, tickers, function(id, chunk) return frames.subscribe(id, session.channel, chunk) end)
  local ack = acks:take(SUBSCRIBED)
  acks:close()
  return ack ~= nil
end

local function wanted(session, number)
  local missing = {}
  for _, ticker in ipairs(session:tickers(number) or {}) do missing[ticker] = true end
  return missing
end

local function recover(run, session, number, link, sid, box)
  local missing = wanted(session, number)
  local books = ask(run, session, link, sid, missing)
  if run:dry() then return end
  if await(run, box, missing, patience(books)) then return run:step("all books are fresh", { books = books }) end
  if session:sid(number) ~= sid then return run:step "it reconnected meanwhile, which brings fresh books" end
  run:step("books are missing", { books = #sorted(missing) })
  if subscribe_anew(run, session, number, link, sid) and await(run, box, missing, patience(books)) then
    return run:step "all books are fresh after subscribing anew"
  end
  run:reconnect(link)
end

return function(exchange, given, at)
  local settings = common.settings(at, "resync", given, {
    settle = tm.check.field(tm.check.duration, { default = 200e3 }), -- several holes of a burst are one resync
  })
  tm.routine "resync" {
    on = { "gap" }, priority = 3, timeout = "5m",
    settle = ("%dus"):format(settings.settle or 0),
    when = function(event) return common.is_of(exchange, event, "orderbook_delta") end,
    run = function(run, event)
      local session, number = common.session_of(exchange, event)
      if not session then return run:step "the connection is not there any more" end
      local link = session.links[number]
      local sid = session:sid(number)
      if not sid or (event.sid and event.sid ~= sid) then
        return run:step "it reconnected meanwhile, which brings fresh books"
      end
      if not next(wanted(session, number)) then return run:step "it carries no books" end
      local box = tm.listen("row", { link = link, kind = KIND })
      if not run:dry() then link:tell(KIND) end
      local ok, why = pcall(recover, run, session, number, link, sid, box)
      if not run:dry() then link:tell(nil) end
      box:close()
      if not ok then error(why, 0) end
    end,
  }
end
