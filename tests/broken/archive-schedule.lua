local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=g", archive = { to = "file:///a", schedule = { trades = "minute" } } } --> trades: expected "hour", "day" or false
