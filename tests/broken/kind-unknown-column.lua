local tm = require "tidemill"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
tm.protocol { tag = "type", sequence = "seq" }
tm.stream "s" { columns = { { "price", "int4", not_null = true } }, key = { "price" } }
tm.kind "k" { stream = "s", from = { price = "msg.p", prise = "msg.q" } } --> from: unknown column "prise" of stream s, did you mean "price"?
