local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=a;g1=dbname=b" } --> gatherer "g1" is named twice
require "alerts" ()
