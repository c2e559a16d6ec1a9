--- The books that REST shows, now and then, beside those of the feed: a second source to check a rebuilt book against.
--- They carry no sequence number, so they never replace a book of the feed (kalshi.md 5.0).

local tm = require "tidemill"
local frames = require "kalshi.frames"
local common = require "recovery.common"

local BATCH = 100 -- tickers in one request, its limit

local function sweep(run, exchange, pause)
  local tickers = common.tickers(exchange, "orderbook_delta") or {}
  local done = run.saved and run.saved.done or 0
  local books = 0
  for _, chunk in ipairs(frames.chunks(tickers, BATCH)) do
    if chunk[#chunk] > (run.saved and run.saved.last or "") then
      local body = run:get(exchange.rest, "/markets/orderbooks", { tickers = chunk }).body
      local accepted, rows = run:submit("rest_orderbook", "orderbooks", body)
      if not accepted then error("the answer of /markets/orderbooks is not understood: " .. tostring(rows), 0) end
      books = books + rows
      run:save { last = chunk[#chunk], done = done + books }
      run:sleep(pause)
    end
  end
  run:step("books stored", { books = done + books, markets = #tickers })
end

return function(exchange, given, at)
  local settings = common.settings(at, "snapshots", given, {
    every = tm.check.field(tm.check.duration, { default = 900e6 }),
    per_second = tm.check.field(tm.check.between(0.001, 1000), { default = 2 }), -- requests; others need some too
  })
  tm.routine "snapshots" {
    every = ("%dus"):format(settings.every or 900e6), priority = 8, timeout = "6h", retries = 3,
    subject = function() return "books" end,
    run = function(run) sweep(run, exchange, ("%dus"):format(1e6 / (settings.per_second or 2))) end,
  }
end
