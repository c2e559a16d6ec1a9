local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1,g2" } --> gatherers: expected gatherers like "g1=host=a dbname=kalshi_ts;g2=..." or { g1 = "host=a dbname=kalshi_ts" }: part 1 has no "="
require "alerts" ()
