local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.add_column "trades" { "x", "text", from = { trades = "msg.x" } } --> from: "trades" is no kind of this stream, did you mean "trade"?
