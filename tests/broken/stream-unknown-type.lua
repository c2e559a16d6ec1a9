local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "s" { columns = { { "a", "txt" } }, key = { "a" } } --> columns[1]: type: unknown value "txt", did you mean "text"?
