local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "s" { columns = { { "a", "text" }, { "a", "int4" } }, key = { "a" } } --> column "a" is declared twice
