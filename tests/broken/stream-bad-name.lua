local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "Trades" { columns = { { "a", "text", not_null = true } }, key = { "a" } } --> expected a name of lower-case letters, digits and '_', got "Trades"
