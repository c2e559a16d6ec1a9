local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "s" { columns = { { "a", "int8", scale = 40, not_null = true } }, key = { "a" } } --> scale: expected an integer from 0 to 18, got 40
