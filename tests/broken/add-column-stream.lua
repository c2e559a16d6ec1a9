local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.add_column "trade" { "x", "text", from = { trade = "msg.x" } } --> unknown stream, did you mean "trades"?
