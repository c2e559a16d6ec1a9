local tm = require "tidemill"
require "kalshi.streams"
tm.deduplicator { id = "d", production = "dbname=p", gatherers = "g1=dbname=g" }
require "recovery.archive" { production = tm.sql { conninfo = "dbname=p" } } --> expected tm.deduplicator { archive = ... } before it
