local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=g", archive = { to = "ftp://x/y" } } --> to: expected a target like
