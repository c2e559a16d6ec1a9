local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=a;g2=" } --> part 2 "g2" has no conninfo behind "="
require "alerts" ()
