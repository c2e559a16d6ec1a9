--- Lifecycle messages are not repeated: after an outage of theirs, a pause, or the loss of the store, REST is asked
--- what markets there are. A store that was lost gets every row again, changed or not (FAILURES E5).

local tm = require "tidemill"
local common = require "recovery.common"

return function(exchange, given, at)
  common.settings(at, "reconcile", given, {})
  tm.routine "reconcile" {
    on = { "outage_over", "exchange_back", "store_rebuilt" }, priority = 4, timeout = "1h",
    retries = 5, backoff = "10s",
    subject = function() return "markets" end,
    when = function(event)
      if event.type == "outage_over" then
        return event.text ~= "start" and (common.is_of(exchange, event, "market_lifecycle")
          or common.is_of(exchange, event, "multivariate_market_lifecycle"))
      end
      return event.type ~= "store_rebuilt" or event.text == "lost"
    end,
    merge = function(a, b) b.everything = a.everything or a.type == "store_rebuilt" or nil return b end,
    run = function(run, event)
      local everything = event.everything or event.type == "store_rebuilt"
      run:step("reading the registry of markets", { because = event.type, everything = everything or nil })
      if run:dry() then return end
      if not exchange.markets:sweep(everything) then error("the registry could not be read whole", 0) end
      if everything then exchange.markets:sweep_reference(true) end
      run:step("the registry is reconciled", { markets = exchange.markets.registry:count() })
    end,
  }
end
