local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "s" { columns = { { "a", "int4", not_null = true } }, key = { "a" } }
tm.kind "k" { stream = "s", from = { a = 5 } } --> a: expected a path like "msg.price"
