local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "trades" { columns = { { "a", "text", not_null = true } }, key = { "a" } }
tm.kind "trade" { stream = "trade", from = { a = "msg.a" } } --> stream: unknown stream "trade", did you mean "trades"?
