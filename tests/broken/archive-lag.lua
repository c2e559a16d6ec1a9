local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=g", archive = { to = "file:///a", lag = "1 hour" } } --> lag: expected a duration
