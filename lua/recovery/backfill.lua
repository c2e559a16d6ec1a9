--- Trades of an outage, from REST: the feed does not repeat them, the tape does. They pass the seen-set and the merge
--- like any others, so what was heard after all costs nothing.

local tm = require "tidemill"
local common = require "recovery.common"

local PAGE = 1000
local OVERLAP_S = 1        -- whether min_ts and max_ts belong to the answer is not documented
local SHOWN_AFTER_US = 2e6 -- by when REST shows a trade
local TELL_PAGES = 25

-- Days from 1970 to a date of the Gregorian calendar.
local function days(y, m, d)
  y = m <= 2 and y - 1 or y
  local era = math.floor(y / 400)
  local of_era = y - era * 400
  local of_year = math.floor((153 * (m + (m > 2 and -3 or 9)) + 2) / 5) + d - 1
  return era * 146097 + of_era * 365 + math.floor(of_era / 4) - math.floor(of_era / 100) + of_year - 719468
end

-- Whole seconds since 1970 of "2026-11-05T14:00:00.640173Z"; nil when it is none.
local function seconds(text)
  if type(text) ~= "string" then return nil end
  local y, mo, d, h, mi, s = text:match("^(%d%d%d%d)-(%d%d)-(%d%d)T(%d%d):(%d%d):(%d%d)[%d.]*Z$")
  if not y then return nil end
  return days(tonumber(y), tonumber(mo), tonumber(d)) * 86400 + tonumber(h) * 3600 + tonumber(mi) * 60 + tonumber(s)
end

-- The live tape reaches back to the cutoff, the historical one up to it.
local function sources(run, exchange, low, high)
  local body = run:get(exchange.rest, "/historical/cutoff").body
  local cutoff = seconds(tm.json.get(body, "trades_created_ts"))
  if not cutoff then error("the answer of /historical/cutoff is not understood: " .. body:sub(1, 200), 0) end
  local list = {}
  if high >= cutoff - OVERLAP_S then list[1] = { path = "/markets/trades", low = low, high = high } end
  if low <= cutoff + OVERLAP_S then
    list[#list + 1] = { path = "/historical/trades", low = low, high = math.min(high, cutoff + OVERLAP_S) }
  end
  return list
end

local function cursor_of(body)
  local cursor = tm.json.get(body, "cursor")
  if type(cursor) == "string" and cursor ~= "" then return cursor end
end

-- A cursor that the exchange does not understand gets the first page again, without a word (kalshi.md 7): the tape goes
-- from new to old, so a page may not begin later than the one before it ended.
local function check_order(body, oldest)
  local first = seconds(tm.json.get(body, "trades[0].created_time"))
  local last = seconds(tm.json.get(body, "trades[-1].created_time"))
  if oldest and first and first > oldest then
    error("the pages of the tape are not in order: its cursor was not understood", 0)
  end
  return last or oldest
end

local function read_tape(run, exchange, source, ticker, progress)
  local cursor, oldest = progress.cursor, nil
  repeat
    local body = run:get(exchange.rest, source.path,
      { limit = PAGE, min_ts = source.low, max_ts = source.high, ticker = ticker, cursor = cursor }).body
    oldest = check_order(body, oldest)
    local accepted, rows = run:submit("rest_trade", "trades", body)
    if not accepted then error("the answer of " .. source.path .. " is not understood: " .. tostring(rows), 0) end
    progress.rows, progress.pages = progress.rows + rows, progress.pages + 1
    cursor = cursor_of(body)
    progress.cursor = cursor
    run:save(progress)
    if progress.pages % TELL_PAGES == 0 then run:step("reading", { pages = progress.pages, trades = progress.rows }) end
  until not cursor
end

-- Where an earlier try of the same outage stopped; else the beginning.
local function resume(run, low, high)
  local saved = run.saved
  if saved and saved.low == low and saved.high == high then
    run:step("going on where it was interrupted", { pages = saved.pages, trades = saved.rows })
    return saved
  end
  return { low = low, high = high, part = 1, rows = 0, pages = 0 }
end

-- The whole tape where the subscription has no choice of markets, else that of each market.
local function parts(run, exchange, low, high)
  local list, tickers = {}, common.tickers(exchange, "trade")
  for _, source in ipairs(sources(run, exchange, low, high)) do
    for _, ticker in ipairs(tickers or { false }) do list[#list + 1] = { source = source, ticker = ticker or nil } end
  end
  return list
end

local function backfill(run, exchange, event)
  if not event.from then error("expected an event with from and to, in microseconds since 1970", 0) end
  local to = event.to or tm.now()
  local ahead = to + SHOWN_AFTER_US - tm.now()
  if ahead > 0 then run:sleep(("%dus"):format(ahead)) end
  local low, high = math.floor(event.from / 1e6) - OVERLAP_S, math.ceil(to / 1e6) + OVERLAP_S
  local progress = resume(run, low, high)
  run:step("reading the trades of an outage", { from = low, to = high, reason = event.text })
  local list = parts(run, exchange, low, high)
  for i = progress.part, #list do
    read_tape(run, exchange, list[i].source, list[i].ticker, progress)
    progress.part, progress.cursor = i + 1, nil
    run:save(progress)
  end
  run:step("the trades are here", { pages = progress.pages, trades = progress.rows })
end

return function(exchange, given, at)
  common.settings(at, "backfill", given, {})
  tm.routine "backfill" {
    on = { "outage_over" }, priority = 1, settle = "1s", timeout = "1h", retries = 50, backoff = "5s",
    when = function(event) return common.is_of(exchange, event, "trade") end,
    subject = function() return "trades" end,
    merge = common.widest,
    run = function(run, event) backfill(run, exchange, event) end,
  }
end
