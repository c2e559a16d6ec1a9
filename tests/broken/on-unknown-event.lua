local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.on("gapp", function() end) --> tm.on: unknown event "gapp", did you mean "gap"?
