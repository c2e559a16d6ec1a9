local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.dedup("trade", { window = "1h" }) --> unknown stream, did you mean "trades"?
