local tm = require "tidemill"
local control = { read = { "alice", "@ops" }, opreate = "bob", group = "ops" }
tm.deduplicator { id = "d1", production = "dbname=x", gatherers = "g1=dbname=y", control = control } --> did you mean "operate"?
