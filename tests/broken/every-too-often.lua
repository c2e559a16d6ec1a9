local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.every("10us", function() end) --> tm.every: expected at least 1ms
