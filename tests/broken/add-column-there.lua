local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.add_column "trades" { "price", "int4", from = { trade = "msg.x" } } --> column "price" is there already
