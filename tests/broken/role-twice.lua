local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.gatherer { id = "g2", store = "dbname=x", data = "d" } --> the role is declared already at
