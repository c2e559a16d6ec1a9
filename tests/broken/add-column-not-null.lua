local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.add_column "trades" { "x", "text", not_null = true, from = { trade = "msg.x" } } --> unknown key "not_null"
