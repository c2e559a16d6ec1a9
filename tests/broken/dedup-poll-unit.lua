local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=a", poll = "250" } --> poll: expected a duration like "250ms"
