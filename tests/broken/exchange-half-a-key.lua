local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
kalshi.exchange { key_id = "x" } --> key_id and key_file go together: expected both or neither
