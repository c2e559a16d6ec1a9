local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.sleep "1s" --> tm.sleep is for run time: call it inside a handler
