local tm = require "tidemill"
local kalshi = require "kalshi"
tm.gatherer { id = "g1", store = "dbname=x", data = "/tmp/tidemill-broken" }
kalshi.exchange { ws_url = "ws://example.com/ws", rest_url = "http://127.0.0.1:1" } --> ws://
