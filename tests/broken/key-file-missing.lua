local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
kalshi.exchange { key_id = "x", key_file = "/nonexistent/kalshi.pem" } --> /nonexistent/kalshi.pem
