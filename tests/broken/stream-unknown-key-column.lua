local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "s" { columns = { { "trade_id", "uuid", not_null = true } }, key = { "tradeid" } } --> key: unknown column "tradeid", did you mean "trade_id"?
