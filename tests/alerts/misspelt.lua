local tm = require "tidemill"

tm.deduplicator { id = "dedup", production = "dbname=kalshi", gatherers = "g1=dbname=a" }
require "alerts" { SyncLagHihg = false }
