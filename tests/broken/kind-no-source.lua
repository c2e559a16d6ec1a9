local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "s" { columns = { { "a", "text", not_null = true }, { "b", "text", not_null = true } }, key = { "a" } }
tm.kind "k" { stream = "s", from = { a = "msg.a" } } --> column "b" of stream s must have a source, it is not_null
