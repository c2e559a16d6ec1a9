local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=g", archive = { to = "file:///a", schedule = { markets = "day" } } } --> archive: schedule: stream "markets" has no periods
