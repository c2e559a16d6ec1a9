local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
local exchange = kalshi.exchange { ws_url = "ws://127.0.0.1:1/ws", rest_url = "http://127.0.0.1:1" }
exchange:subscribe("trade", { conections = 2 }) --> unknown key "conections"
tm.on("gapp", function() end) --> did you mean "gap"?
tm.every("5", function() end) --> expected a duration
