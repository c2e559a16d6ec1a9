local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.on("gap", "resync") --> tm.on gap: expected a function, got "resync"
