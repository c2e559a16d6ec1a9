local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.every("5 minutes", function() end) --> tm.every: expected a duration like "250ms"
