local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "d" }
local n = #tm.env("PATH", "x") + tm.env("PATH", 16) --> tm.env PATH: expected a number, got
kalshi.open_markets { status = n }
