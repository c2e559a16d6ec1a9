local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.dedup("trades", { key = { "trade_idd" } }) --> key: unknown column "trade_idd", did you mean "trade_id"?
