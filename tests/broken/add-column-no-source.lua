local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.add_column "trades" { "x", "text" } --> missing key "from": expected a table kind = source
