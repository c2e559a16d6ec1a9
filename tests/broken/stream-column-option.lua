local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "s" { columns = { { "a", "text", notnull = true } }, key = { "a" } } --> columns[1]: unknown key "notnull", did you mean "not_null"?
