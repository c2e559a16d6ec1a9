-- A gatherer with the stock alerts and somebody who is told of them.
local tm = require "tidemill"

tm.gatherer { id = "g1", store = "dbname=kalshi_ts", data = "data" }
require "alerts" ()
tm.notify "all" { url = "http://127.0.0.1:1/", alerts = "info", min_interval = "1ms" }
