-- A deduplicator of three gatherers with the stock alerts and somebody who is told of them.
local tm = require "tidemill"

tm.deduplicator { id = "dedup", production = "dbname=kalshi", gatherers = "g1=dbname=a;g2=dbname=b;g3=dbname=c" }
require "alerts" ()
tm.notify "all" { url = "http://127.0.0.1:1/", alerts = "info", min_interval = "1ms" }
