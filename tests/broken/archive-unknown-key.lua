local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=g", archive = { to = "file:///a", lagg = "1h" } } --> unknown key "lagg", did you mean "lag"?
