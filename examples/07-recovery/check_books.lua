-- After an outage of the depth: store the books that REST shows, a second source beside those of the feed.

local tm     = require "tidemill"
local frames = require "kalshi.frames"
local common = require "recovery.common"

local BATCH = 100 -- tickers in one request

return function(exchange)
  tm.routine "check_books" {
    on = { "outage_over" }, priority = 6, settle = "1s", timeout = "10m", retries = 3,
    when = function(event) return event.text ~= "start" and common.is_of(exchange, event, "orderbook_delta") end,
    subject = function() return "books" end, -- one run at a time, whatever the connection
    run = function(run, event)
      local tickers, last = common.tickers(exchange, "orderbook_delta"), run.saved and run.saved.last or ""
      run:step("reading books", { because = event.text, markets = #tickers })
      for _, chunk in ipairs(frames.chunks(tickers, BATCH)) do -- in the order of their names
        if chunk[#chunk] > last then -- else a try before this one has stored them
          local body = run:get(exchange.rest, "/markets/orderbooks", { tickers = chunk }).body
          local accepted, why = run:submit("rest_orderbook", "orderbooks", body)
          if not accepted then error("the books are not understood: " .. tostring(why), 0) end
          run:save { last = chunk[#chunk] }
        end
      end
      run:step "the books are stored"
    end,
  }
end
