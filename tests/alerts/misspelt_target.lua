local tm = require "tidemill"

tm.deduplicator { id = "dedup", production = "dbname=kalshi", gatherers = "g1=dbname=a" }
require "alerts" ()
tm.notify "ops" { url = "http://127.0.0.1:1/", alerts = { "RdsDwon" } }
