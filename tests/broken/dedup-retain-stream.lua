local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=g", retain = { trades = "90d" } } --> retain: expected streams that are partitioned by day, got "trades"
