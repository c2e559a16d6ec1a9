local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
local t = nil
t.x = 1 --> attempt to index local 't'
