local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "s" { columns = { { "a", "int8", min = 5, max = 4, not_null = true } }, key = { "a" } } --> min: expected at most max (4), got 5
